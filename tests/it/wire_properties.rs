//! Properties of the wire formats: what is encoded is decoded, however it is cut.

use bytes::{BufMut as _, Bytes};
use gossipykv::limits::{META_LEN_MAX, NODE_NAME_LEN_MAX};
use gossipykv::wire::keyring::{Key, Keyring};
use gossipykv::wire::message::{
    Ack, AddrBytes, Alive, Dead, IndirectPing, Message, Nack, NodeName, Ping, PushNodeState,
    PushPull, Suspect,
};
use gossipykv::wire::packet::{PART_OVERHEAD, Security, open, overhead, seal};
use gossipykv::wire::stream::{
    Frame, FrameReader, Payload, Role, encode_reply, encode_reply_pieces, encode_request,
};
use gossipykv::wire::{inspect, lzw};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = NodeName> {
    vec(any::<u8>(), 0..=NODE_NAME_LEN_MAX).prop_map(|name| NodeName::from(&name[..]))
}

fn bytes(len_max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=len_max).prop_map(Bytes::from)
}

fn addr() -> impl Strategy<Value = AddrBytes> {
    bytes(16).prop_map(AddrBytes)
}

fn ping() -> impl Strategy<Value = Ping> {
    (any::<u32>(), name(), addr(), any::<u16>(), name()).prop_map(
        |(seq_no, node, source_addr, source_port, source_node)| Ping {
            seq_no,
            node,
            source_addr,
            source_port,
            source_node,
        },
    )
}

fn ack() -> impl Strategy<Value = Ack> {
    (any::<u32>(), option::of(bytes(300))).prop_map(|(seq_no, payload)| Ack { seq_no, payload })
}

fn alive() -> impl Strategy<Value = Alive> {
    let meta = option::of(bytes(META_LEN_MAX));
    (any::<u32>(), name(), option::of(addr()), any::<u16>(), meta, option::of(bytes(8))).prop_map(
        |(incarnation, node, addr, port, meta, vsn)| Alive {
            incarnation,
            node,
            addr,
            port,
            meta,
            vsn,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let indirect = (ping(), option::of(bytes(16)), any::<u16>(), any::<bool>());
    prop_oneof![
        ping().prop_map(Message::Ping),
        indirect.prop_map(|(ping, target, port, nack)| Message::IndirectPing(IndirectPing {
            seq_no: ping.seq_no,
            target,
            port,
            node: ping.node,
            nack,
            source_addr: ping.source_addr,
            source_port: ping.source_port,
            source_node: ping.source_node,
        })),
        ack().prop_map(Message::Ack),
        any::<u32>().prop_map(|seq_no| Message::Nack(Nack { seq_no })),
        (any::<u32>(), name(), name()).prop_map(|(incarnation, node, from)| Message::Suspect(
            Suspect { incarnation, node, from }
        )),
        (any::<u32>(), name(), name()).prop_map(|(incarnation, node, from)| Message::Dead(Dead {
            incarnation,
            node,
            from
        })),
        alive().prop_map(Message::Alive),
        bytes(1000).prop_map(Message::User),
    ]
}

fn push_pull() -> impl Strategy<Value = PushPull> {
    let state = (alive(), any::<i64>()).prop_map(|(alive, state)| PushNodeState {
        name: alive.node,
        addr: alive.addr,
        port: alive.port,
        meta: alive.meta,
        incarnation: alive.incarnation,
        state,
        vsn: alive.vsn,
    });
    (any::<bool>(), vec(state, 0..20), bytes(3000)).prop_map(|(join, nodes, user_state)| PushPull {
        join,
        nodes,
        user_state,
    })
}

/// Frames an acceptor takes.
fn request() -> impl Strategy<Value = Frame> {
    prop_oneof![
        push_pull().prop_map(Frame::PushPull),
        bytes(3000).prop_map(Frame::User),
        ping().prop_map(Frame::Ping),
        bytes(3000).prop_map(|payload| Frame::Kv(payload.into())),
    ]
}

/// Frames a dialler takes.
fn reply() -> impl Strategy<Value = Frame> {
    prop_oneof![
        push_pull().prop_map(Frame::PushPull),
        ack().prop_map(Frame::Ack),
        any::<String>().prop_map(Frame::Error),
        bytes(3000).prop_map(|payload| Frame::Kv(payload.into())),
    ]
}

fn security() -> impl Strategy<Value = Security> {
    let key_len = prop_oneof![Just(16), Just(24), Just(32)];
    let key = option::of(key_len.prop_flat_map(|len| vec(any::<u8>(), len)));
    (bytes(255), key, any::<bool>()).prop_map(|(label, key, compress)| Security {
        label,
        keyring: Keyring::new(key.and_then(|key| Key::from_bytes(&key))).expect("one key"),
        compress,
        ..Security::default()
    })
}

/// Feeds `bytes` cut after each of `cuts` bytes in turn; the frames that come out.
/// Where the reader makes room, bytes go there.
fn take(reader: &mut FrameReader, mut bytes: &[u8]) {
    if let Some(mut room) = reader.room() {
        let (here, rest) = bytes.split_at(bytes.len().min(room.remaining_mut()));
        room.put_slice(here);
        bytes = rest;
    }
    reader.extend(bytes);
}

fn read_in_pieces(role: Role, security: &Security, bytes: &[u8], cuts: &[usize]) -> Vec<Frame> {
    let mut reader = FrameReader::new(role);
    let (mut frames, mut rest) = (Vec::new(), bytes);
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*cuts.next().expect("cuts")).min(rest.len()));
        take(&mut reader, piece);
        rest = after;
        while let Some(frame) = reader.next(security).expect("our own frames") {
            frames.push(frame);
        }
    }
    assert!(reader.is_between_frames());
    frames
}

/// What a dialler sends on a link.
fn link(security: &Security, frames: &[Frame], nonce: [u8; 12]) -> Vec<u8> {
    let mut sent = encode_request(security, &frames[0], nonce).to_vec();
    for frame in &frames[1..] {
        sent.extend_from_slice(&encode_reply(security, frame, nonce));
    }
    sent
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_comes_back(message in message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn a_message_cut_short_is_refused(message in message(), cut in any::<prop::sample::Index>()) {
        let encoded = message.encode();
        let cut = cut.index(encoded.len());
        if !matches!(message, Message::User(_)) {
            prop_assert!(Message::decode(&encoded.slice(..cut)).is_err());
        }
    }

    #[test]
    fn a_datagram_comes_back(
        security in security(),
        messages in vec(message(), 1..100),
        crc in any::<bool>(),
        nonce in any::<[u8; 12]>(),
    ) {
        let parts: Vec<Bytes> = messages.iter().map(Message::encode).collect();
        let parts_len: usize = parts.iter().map(|part| PART_OVERHEAD + part.len()).sum();
        // Groups of a compound of compounds have 16-bit lengths too.
        prop_assume!(parts.len() <= 255 || parts_len < 65_000);
        let datagram = seal(&security, &parts, crc, nonce);
        if parts.len() <= 255 {
            prop_assert!(datagram.len() <= overhead(&security, crc) + parts_len);
        }
        let opened = open(&security, datagram).expect("our own datagram");
        prop_assert_eq!(opened.dropped, []);
        prop_assert_eq!(opened.messages, messages);
    }

    #[test]
    fn a_request_comes_back_in_any_pieces(
        security in security(),
        request in request(),
        cuts in vec(1_usize..2000, 1..20),
        nonce in any::<[u8; 12]>(),
    ) {
        let bytes = encode_request(&security, &request, nonce);
        let frames = read_in_pieces(Role::Acceptor, &security, &bytes, &cuts);
        prop_assert_eq!(frames, [request]);
    }

    #[test]
    fn a_reply_comes_back_in_any_pieces(
        security in security(),
        reply in reply(),
        cuts in vec(1_usize..2000, 1..20),
        nonce in any::<[u8; 12]>(),
    ) {
        let bytes = encode_reply(&security, &reply, nonce);
        let frames = read_in_pieces(Role::Dialer, &security, &bytes, &cuts);
        prop_assert_eq!(frames, [reply]);
    }

    #[test]
    fn replication_frames_follow_each_other(
        security in security(),
        payloads in vec(bytes(500), 1..20),
        cuts in vec(1_usize..300, 1..20),
        nonce in any::<[u8; 12]>(),
    ) {
        let frames: Vec<Frame> = payloads.into_iter().map(|it| Frame::Kv(it.into())).collect();
        let sent = link(&security, &frames, nonce);
        prop_assert_eq!(read_in_pieces(Role::Acceptor, &security, &sent, &cuts), frames);
    }

    #[test]
    fn long_replication_frames_follow_each_other(
        security in security(),
        payloads in vec(bytes(70_000), 2..5),
        cuts in vec(1_usize..60_000, 1..20),
        nonce in any::<[u8; 12]>(),
    ) {
        let frames: Vec<Frame> = payloads.into_iter().map(|it| Frame::Kv(it.into())).collect();
        let sent = link(&security, &frames, nonce);
        prop_assert_eq!(read_in_pieces(Role::Acceptor, &security, &sent, &cuts), frames);
    }

    #[test]
    fn a_frame_in_pieces_is_the_same_frame(
        security in security(),
        payload in bytes(40_000),
        cut in 1_usize..40_000,
        nonce in any::<[u8; 12]>(),
    ) {
        let payload: Payload = payload.chunks(cut).map(Bytes::copy_from_slice).collect();
        let frame = Frame::Kv(payload);
        let mut pieces = Vec::new();
        encode_reply_pieces(&security, &frame, nonce, &mut pieces);
        prop_assert_eq!(pieces.concat(), encode_reply(&security, &frame, nonce));
    }

    #[test]
    fn compression_comes_back(plain in bytes(10_000)) {
        let message = lzw::compress(&plain);
        let inflated = lzw::decompress(&message[1..], plain.len());
        prop_assert_eq!(inflated, Ok(plain.to_vec()));
    }

    #[test]
    fn inspection_shows_every_message(security in security(), messages in vec(message(), 2..20)) {
        let parts: Vec<Bytes> = messages.iter().map(Message::encode).collect();
        let datagram = seal(&security, &parts, true, [0; 12]);
        let lines = inspect::packet(&datagram, &security.keyring, b"");
        let shown: Vec<_> = messages.iter().map(inspect::message).collect();
        prop_assert_eq!(&lines[lines.len() - shown.len()..], &shown[..]);
        prop_assert!(lines.iter().all(|line| line.get("error").is_none()));
    }
}
