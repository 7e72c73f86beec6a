//! Question: what does each layer and each message on the wire cost?
//!
//! It decides what is worth compressing, whether sealing once for several receivers pays, and how
//! many datagrams a second a core can take. Everything that is encoded or decoded anywhere, one by
//! one: memberlist's messages, the layers of a datagram and of a stream, our replication messages.
//! Bytes a second are bytes of the message, or of what the layers hold; time is the processor's.
//!
//! ```text
//! cargo bench --bench wire                     all of it, some minutes
//! cargo bench --bench wire -- 'message/'       one group
//! cargo bench --bench wire -- --test           once each, as the gate does
//! ```

mod processor;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use gossipykv::kv::{HlcTime, OriginId, Record, Stamp};
use gossipykv::node::replication::message::{
    Ack as KvAck, Digest, Item, Items, KvMessage, Leaves, Name, Push, Roots, Supply, Verdicts, Want,
};
use gossipykv::wire::keyring::{Key, Keyring};
use gossipykv::wire::message::{
    Ack, AddrBytes, Alive, Dead, IndirectPing, Message, Nack, NodeName, Ping, PushNodeState,
    PushPull, Suspect,
};
use gossipykv::wire::packet::{self, Security};
use gossipykv::wire::stream::{self, Frame, FrameReader, Role};
use gossipykv::wire::{inspect, label, lzw};
use processor::{ProcessorTime, criterion};
use std::hint::black_box;

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NONCE: [u8; 12] = [9; 12];
const META: Bytes = Bytes::from_static(b"gossipykv/1 00112233445566ff");
const VSN: Bytes = Bytes::from_static(&[1, 5, 2, 0, 5, 0]);

fn main() {
    let mut criterion = criterion(20, 100, 400);
    messages(&mut criterion);
    parts(&mut criterion);
    datagrams(&mut criterion);
    streams(&mut criterion);
    replication(&mut criterion);
    criterion.final_summary();
}

/// Times `run`, which handles `len` bytes.
fn measure<T>(
    criterion: &mut Criterion<ProcessorTime>,
    group: &str,
    name: &str,
    len: usize,
    mut run: impl FnMut() -> T,
) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function(name, |bencher| bencher.iter(|| black_box(run())));
    group.finish();
}

/// memberlist's messages, bare.
fn messages(criterion: &mut Criterion<ProcessorTime>) {
    for (name, message) in every_message() {
        let bytes = message.encode();
        let len = bytes.len();
        measure(criterion, "message", &format!("{name}, encode"), len, || message.encode());
        measure(criterion, "message", &format!("{name}, decode"), len, || {
            Message::decode(&bytes).expect("our own")
        });
    }
}

fn every_message() -> Vec<(&'static str, Message)> {
    let (node, from) = (NodeName::from("node-0123456789ab"), NodeName::from("node-ba9876543210"));
    let addr = || AddrBytes::from_ip([10, 0, 0, 7].into());
    vec![
        (
            "ping",
            Message::Ping(Ping {
                seq_no: 70_000,
                node: node.clone(),
                source_addr: addr(),
                source_port: 7946,
                source_node: from.clone(),
            }),
        ),
        (
            "indirect ping",
            Message::IndirectPing(IndirectPing {
                seq_no: 70_000,
                target: Some(addr().0),
                port: 7946,
                node: node.clone(),
                nack: true,
                source_addr: addr(),
                source_port: 7946,
                source_node: from.clone(),
            }),
        ),
        ("ack", Message::Ack(Ack { seq_no: 70_000, payload: None })),
        ("nack", Message::Nack(Nack { seq_no: 70_000 })),
        (
            "suspect",
            Message::Suspect(Suspect { incarnation: 9, node: node.clone(), from: from.clone() }),
        ),
        ("alive", Message::Alive(alive("node-0123456789ab"))),
        ("dead", Message::Dead(Dead { incarnation: 9, node, from })),
        ("user, 1 KiB", Message::User(text(1 << 10))),
    ]
}

/// What datagrams and streams are made of.
fn parts(criterion: &mut Criterion<ProcessorTime>) {
    let text = text(1300);
    let packed = lzw::compress(&text);
    measure(criterion, "part", "LZW, compress", text.len(), || lzw::compress(&text));
    measure(criterion, "part", "LZW, expand", text.len(), || {
        lzw::decompress(&packed[1..], text.len()).expect("our own")
    });
    measure(criterion, "part", "CRC", text.len(), || crc32fast::hash(&text));
    let mut labelled = Vec::new();
    label::write(LABEL, &mut labelled);
    measure(criterion, "part", "label, write", LABEL.len(), || {
        let mut out = Vec::new();
        label::write(LABEL, &mut out);
        out
    });
    measure(criterion, "part", "label, read", LABEL.len(), || {
        matches!(label::read(black_box(&labelled)), label::Header::Label { .. })
    });
    for (name, key_len) in KEY_LENS {
        let keyring = keyring(key_len);
        let mut sealed = Vec::new();
        keyring.seal(NONCE, LABEL, &text, &mut sealed);
        measure(criterion, "part", &format!("{name}, seal"), text.len(), || {
            let mut out = Vec::new();
            keyring.seal(NONCE, LABEL, &text, &mut out);
            out
        });
        measure(criterion, "part", &format!("{name}, open"), text.len(), || {
            keyring.open(LABEL, &sealed).expect("our own").0
        });
    }
}

/// Whole datagrams: one ping, gossip about many members, and a push of data, in all their layers.
fn datagrams(criterion: &mut Criterion<ProcessorTime>) {
    let ping = every_message().remove(0).1.encode();
    let gossip: Vec<Bytes> =
        (0..12).map(|i| Message::Alive(alive(&format!("node-{i:012x}"))).encode()).collect();
    let push = Message::User(push(11).encode()).encode();
    let contents = [("ping", vec![ping]), ("12 alives", gossip), ("11 writes", vec![push])];
    for (layers, security, crc) in securities() {
        for (name, parts) in &contents {
            let len = parts.iter().map(Bytes::len).sum();
            let sealed = packet::seal(&security, parts, crc, NONCE);
            let name = format!("{name}, {layers}");
            measure(criterion, "datagram", &format!("{name}, seal"), len, || {
                packet::seal(&security, parts, crc, NONCE)
            });
            measure(criterion, "datagram", &format!("{name}, open"), len, || {
                packet::open(&security, sealed.clone()).expect("our own")
            });
        }
    }
    let security = Security::default();
    let sealed = packet::seal(&security, &contents[1].1, true, NONCE);
    measure(criterion, "datagram", "12 alives, inspect", sealed.len(), || {
        inspect::packet(&sealed, &Keyring::default(), b"")
    });
}

/// Each layer alone, then all of them.
fn securities() -> Vec<(&'static str, Security, bool)> {
    let plain = || Security { compress: false, ..Security::default() };
    let label = Bytes::from_static(LABEL);
    let mut securities = vec![
        ("plain", plain(), false),
        ("CRC", plain(), true),
        ("label", Security { label: label.clone(), ..plain() }, false),
        ("compressed", Security::default(), false),
    ];
    for (name, key_len) in KEY_LENS {
        securities.push((name, Security { keyring: keyring(key_len), ..plain() }, false));
    }
    securities.push((
        "all layers",
        Security { label, keyring: keyring(32), ..Security::default() },
        true,
    ));
    securities
}

/// One frame to the other end of a connection.
fn streams(criterion: &mut Criterion<ProcessorTime>) {
    let frames = [
        ("ping", Frame::Ping(Ping { seq_no: 1, ..Ping::default() })),
        ("push-pull of 3", push_pull(3)),
        ("push-pull of 100", push_pull(100)),
        ("128 KiB of data", Frame::Kv(text(128 << 10).into())),
    ];
    let layers = [
        ("plain", Security { compress: false, ..Security::default() }),
        ("compressed", Security::default()),
        ("AES-256", Security { compress: false, keyring: keyring(32), ..Security::default() }),
    ];
    for (layer, security) in &layers {
        for (name, frame) in &frames {
            let bare = Security { compress: false, ..Security::default() };
            let len = stream::encode_reply(&bare, frame, NONCE).len();
            let sent = stream::encode_request(security, frame, NONCE);
            let name = format!("{name}, {layer}");
            measure(criterion, "stream", &format!("{name}, encode"), len, || {
                stream::encode_request(security, frame, NONCE)
            });
            measure(criterion, "stream", &format!("{name}, decode"), len, || {
                let mut reader = FrameReader::new(Role::Acceptor);
                reader.extend(&sent);
                reader.next(security).expect("our own").expect("whole")
            });
        }
    }
}

/// What members of our kind say to each other about data.
fn replication(criterion: &mut Criterion<ProcessorTime>) {
    let heads = |n: u64| (1..=n).map(|i| (i << 40, i * 1000)).collect();
    let digest = |n| Digest {
        from: 1 << 60,
        heads: heads(n),
        root: u64::MAX,
        folded: u64::MAX,
        reply: true,
        whole: true,
        stage: Some(2),
        limit: Some(192 << 20),
        to: Some(1 << 60),
        at: Some(1 << 36),
        covered: Some(u64::MAX),
        floor: Some(u64::MAX),
    };
    let hashes = Bytes::from(vec![7; 2048]);
    let items: Vec<Item> = records(15).iter().map(Item::of).collect();
    let leaves = (0..10).map(|leaf| (1, leaf, items.clone())).collect();
    let supply = Supply { from: 1 << 60, observe: true };
    let verdicts = Verdicts { need: vec![Name::new(&META); 5], drop: Vec::new(), more: false };
    let messages = [
        ("push of 1 write", push(1)),
        ("push of 11 writes", push(11)),
        ("push of 64 KiB", push_of(vec![record(1, &vec![b'v'; 64 << 10])])),
        ("ack", KvMessage::Ack(KvAck { from: 1 << 60, of: 2 << 60, through: 70_000 })),
        ("digest of 3", KvMessage::Digest(digest(3))),
        ("digest of 100", KvMessage::Digest(digest(100))),
        (
            "want of 5 ranges",
            KvMessage::Want(Want { from: 1 << 60, of: 2 << 60, ranges: vec![(70_000, 70_009); 5] }),
        ),
        ("roots", KvMessage::Roots(Roots { from: 1 << 60, roots: hashes.clone(), first: None })),
        (
            "leaves of 10 shards",
            KvMessage::Leaves(Leaves { shards: vec![(1, hashes); 10], more: false }),
        ),
        ("items of 10 leaves", KvMessage::Items(Items { leaves, more: false })),
        ("verdicts on 10", KvMessage::Verdicts(verdicts, records(5))),
        ("supply of 1000", KvMessage::Supply(supply, records(1000))),
    ];
    for (name, message) in messages {
        let bytes = message.encode();
        let len = bytes.len();
        measure(criterion, "replication", &format!("{name}, encode"), len, || message.encode());
        measure(criterion, "replication", &format!("{name}, decode"), len, || {
            KvMessage::decode(&bytes).expect("our own")
        });
    }
}

const LABEL: &[u8] = b"production.example";
const KEY_LENS: [(&str, usize); 3] = [("AES-128", 16), ("AES-192", 24), ("AES-256", 32)];

fn keyring(key_len: usize) -> Keyring {
    let key = Key::from_bytes(&[7; 32][..key_len]).expect("a length that AES has");
    Keyring::new([key]).expect("one key")
}

/// As compressible as names and JSON are.
fn text(len: usize) -> Bytes {
    let line = |i: usize| format!("\"user-{:04}\": {{\"region\": \"eu\", \"n\": {i}}}, ", i * 7919);
    let mut text: String = (0..).map(line).take(len / 20).collect();
    text.truncate(len);
    text.into()
}

fn alive(name: &str) -> Alive {
    Alive {
        incarnation: 28_000_000,
        node: NodeName::from(name),
        addr: Some(AddrBytes::from_ip([10, 0, 0, 7].into())),
        port: 7946,
        meta: Some(META),
        vsn: Some(VSN),
    }
}

fn push_pull(n_members: usize) -> Frame {
    let state = |i| PushNodeState {
        name: NodeName::from(format!("node-{i:012x}").as_str()),
        addr: Some(AddrBytes::from_ip([10, 0, 0, 7].into())),
        port: 7946,
        meta: Some(META),
        incarnation: 28_000_000,
        state: 0,
        vsn: Some(VSN),
    };
    let nodes = (0..n_members).map(state).collect();
    Frame::PushPull(PushPull { join: false, nodes, user_state: text(100) })
}

fn push(n_writes: u64) -> KvMessage {
    push_of(records(n_writes))
}

fn push_of(records: Vec<Record>) -> KvMessage {
    let settles = vec![(1, records.len() as u64)];
    KvMessage::Push(Push { of: 1 << 60, settles, from: 1 << 60, urgent: false }, records)
}

/// Keys of 16 B with values of 32 B.
fn records(n: u64) -> Vec<Record> {
    (1..=n).map(|seq| record(seq, &[b'v'; 32])).collect()
}

fn record(seq: u64, value: &[u8]) -> Record {
    let time = HlcTime::from_millis(1_760_000_000_000);
    let key = format!("{seq:016}");
    Record::new(Stamp { time, origin: OriginId(1 << 60) }, seq, key.as_bytes(), Some((value, None)))
}
