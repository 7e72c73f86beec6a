//! What members of our kind say about data.

use super::{FIXED, Heap, choice, within};
use bytes::Bytes;
use gossipykv::kv::record::check_of;
use gossipykv::kv::{HlcTime, OriginId, Record, Stamp};
use gossipykv::node::formats::Formats;
use gossipykv::node::replication::message::{
    Ack, Busy, Digest, Folded, Item, Items, KeyReply, KeyRequest, KvMessage, Leaves, Name, Pull,
    PullEnd, Push, Roots, Supply, Verdicts, Want, fit, is_ours,
};
use gossipykv::wire::stream::Payload;

/// Memory for a byte of a head: a key of one byte, two on the wire, is 17 in a list that doubles.
/// Records, 33 bytes at least, need less.
const HEAD_RATIO: usize = 26;
/// Bytes that a repeated piece makes at most: enough for more elements than most lists may have.
const REPEATED_LEN_MAX: usize = 32 << 10;

/// A replication message: after an even byte any bytes; after an odd one, as the next two say, the
/// last few of them many times, since long lists are what takes memory.
pub fn replication(data: &[u8], heap: &dyn Heap) {
    let (choice, data) = choice(data);
    match data {
        [len, n, data @ ..] if choice % 2 == 1 => {
            let (before, piece) = data.split_at(data.len() - usize::from(len % 64).min(data.len()));
            let n = (1 + usize::from(*n) * 64).min(REPEATED_LEN_MAX / piece.len().max(1));
            decoded(&[before, &piece.repeat(n)].concat(), heap);
        }
        _ => decoded(data, heap),
    }
}

fn decoded(data: &[u8], heap: &dyn Heap) {
    let budget = HEAD_RATIO * data.len() + FIXED;
    match within(heap, budget, || KvMessage::decode(data)) {
        Ok(message) => {
            assert!(is_ours(data));
            let encoded = message.encode();
            assert_eq!(KvMessage::decode(&encoded).as_ref(), Ok(&message));
            for formats in [Formats::UNTOLD, Formats::SPOKEN, Formats::only(Formats::SPOKEN.last)] {
                fitted(data, formats);
            }
            // No message ends before its last byte: a record is longer than one.
            let cut = KvMessage::decode(&encoded[..encoded.len() - 1]);
            assert!(cut.is_err(), "{cut:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What goes to a reader of these formats is read by it, and never longer.
fn fitted(data: &[u8], formats: Formats) {
    let payload = Payload::from(Bytes::copy_from_slice(data));
    let Some(fitted) = fit(&payload, formats) else { return };
    assert!(fitted.len() <= data.len());
    let read = KvMessage::read(&fitted.join(), formats).expect("it is fitted");
    assert!(read.message.needs() <= formats.last);
}

/// One message of each kind, and long lists of small elements.
pub fn replication_seeds() -> Vec<Vec<u8>> {
    let item = Item { key: Name::new(b"k"), time: 300, origin: 7, seq: 70_000, check: 1 << 20 };
    let (heads, folded) = (vec![(7, 300), (1 << 40, 2)], vec![(9, 8, 7)]);
    let marks = Some(vec![70_000, 0]);
    let digest = Digest {
        from: 7,
        heads: heads.clone(),
        root: 1,
        folded: 0,
        reply: true,
        whole: true,
        stage: Some(1),
        limit: Some(1 << 30),
        to: Some(1 << 40),
        at: Some(300),
        covered: Some(1 << 50),
        floor: Some(1 << 40),
    };
    let push = Push { of: 7, settles: vec![(6, 7)], from: 7, urgent: true };
    let verdicts = Verdicts { need: vec![Name::new(b"foo")], drop: vec![item.clone()], more: true };
    let pull_end =
        PullEnd { heads: heads.clone(), folded: folded.clone(), forgotten: 5, reset: false, marks };
    let reply = KeyReply {
        id: 1,
        from: 7,
        fingerprints: vec!["0011aabb".to_owned()],
        error: String::new(),
    };
    let messages = [
        KvMessage::Push(push, records()),
        KvMessage::Ack(Ack { from: 7, of: 9, through: 1 << 33 }),
        KvMessage::Digest(digest),
        KvMessage::Want(Want { from: 7, of: 9, ranges: vec![(1, 5), (9, 9)] }),
        KvMessage::Folded(Folded { from: 7, list: folded.clone() }),
        KvMessage::Pull(Pull {
            from: 7,
            heads,
            folded,
            fresh: true,
            to: Some(9),
            first: Some(true),
        }),
        KvMessage::PullEnd(pull_end),
        KvMessage::Busy(Busy { retry_ms: 1500 }),
        KvMessage::Roots(Roots { from: 7, roots: vec![3; 64].into(), first: Some(16) }),
        KvMessage::Leaves(Leaves { shards: vec![(3, vec![1; 16].into())], more: false }),
        KvMessage::Items(Items { leaves: vec![(3, 4, vec![item.clone(), item])], more: false }),
        KvMessage::Verdicts(verdicts, records()),
        KvMessage::Supply(Supply { from: 7, observe: true }, records()),
        KvMessage::KeyRequest(KeyRequest { id: 1, action: 2, key: vec![5; 16].into() }),
        KvMessage::KeyReply(reply),
    ];
    let whole = messages.iter().map(|message| [&[0], &message.encode()[..]].concat());
    whole.chain(long_lists()).chain(from_later_versions()).collect()
}

/// A kind that is not known, and heads with fields that are not, plain and nested.
fn from_later_versions() -> impl Iterator<Item = Vec<u8>> {
    let bodies: [&[u8]; 4] = [
        b"\x63\x92\x07\x08",
        b"\x02\x95\x07\x09\x01\xa3new\x82\x01\xc4\x02ab\x02\xc7\x01\x05x",
        b"\x08\x93\x07\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc0\xcb\0\0\0\0\0\0\0\0",
        b"\x02\xdd\0\0\x01\0\x07\x09\x01",
    ];
    bodies.into_iter().map(|body| [&[0, 200, 3], body].concat())
}

/// A message for each list, up to its end; elements as small as they can be.
fn long_lists() -> impl Iterator<Item = Vec<u8>> {
    let lists: [(u8, &[u8], &[u8]); 10] = [
        (4, b"\x93\x07\x07", b"\x92\x01\x01"),
        (3, b"\x96\x07", b"\x92\x01\x01"),
        (5, b"\x92\x07", b"\x93\x01\x01\x01"),
        (7, b"\x95\x90\x90\x07\xc2", b"\x01"),
        (10, b"\x92", b"\x92\x03\xc4\x00"),
        (11, b"\x92", b"\x93\x01\x01\x90"),
        (11, b"\x92\x91\x93\x01\x01", b"\x95\xc4\x01k\x01\x01\x01\x01"),
        (12, b"\x93", b"\xc4\x01k"),
        (12, b"\x93\x90", b"\x95\xc4\x01k\x01\x01\x01\x01"),
        (15, b"\x94\x01\x01", b"\xa0"),
    ];
    lists.into_iter().map(|(kind, before, element)| {
        let repeats = 16;
        let n = 1 + 64 * u16::from(repeats);
        let prefix = [1, element.len() as u8, repeats, 200, 3, kind];
        [&prefix, before, &[0xdc], &n.to_be_bytes()[..], element].concat()
    })
}

fn records() -> Vec<Record> {
    let stamp = Stamp { time: HlcTime::from_millis(1_760_000_000_000), origin: OriginId(7) };
    vec![
        Record::new(stamp, 7, b"foo", Some((b"bar", Some("text/plain")))),
        Record::new(stamp, 8, "\u{e9}".as_bytes(), Some((b"", None))),
        Record::new(stamp, 9, b"gone", None),
    ]
}

/// A record at the front of any bytes, and of the same with the check they ought to have.
pub fn record(data: &[u8], heap: &dyn Heap) {
    read_record(data, heap);
    if let Some(check) = check_of(data) {
        let mut mended = data.to_vec();
        mended[22..25].copy_from_slice(&check.to_be_bytes()[1..]);
        read_record(&mended, heap);
    }
}

fn read_record(data: &[u8], heap: &dyn Heap) {
    let (record, len) = match within(heap, data.len() + FIXED, || Record::read(data)) {
        Ok(read) => read,
        Err(error) => {
            let again = within(heap, 0, || Record::read(data));
            assert_eq!(again, Err(error), "and nothing is allocated");
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(record.as_bytes(), &data[..len]);
    assert_eq!(Record::read(record.as_bytes()), Ok((record.clone(), len)));
    assert!(Record::read(&data[..len - 1]).is_err());
    let content = record.value().map(|value| (value, record.content_type()));
    assert_eq!(content.is_none(), record.is_tombstone());
    assert_eq!(record.value_bytes().as_deref(), record.value());
    let dot = record.dot();
    assert_eq!(dot.origin, record.stamp().origin);
    assert_eq!(Record::new(record.stamp(), dot.seq, record.key(), content), record);
    assert!(std::str::from_utf8(record.key()).is_ok() && !format!("{record:?}").is_empty());
}

/// Records by themselves, and one after the other.
pub fn record_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        records().iter().map(|record| record.as_bytes().to_vec()).collect();
    seeds.push(seeds.concat());
    let stamp = Stamp { time: HlcTime::from_millis(1), origin: OriginId(7) };
    let long = Record::new(stamp, 1, &[b'k'; 512], Some((&[0; 30_000], Some("text/plain"))));
    seeds.push(long.as_bytes().to_vec());
    seeds
}
