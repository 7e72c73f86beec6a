//! What members of our kind say about data.

use super::{FIXED, Heap, within};
use bytes::Bytes;
use gossipykv::kv::{HlcTime, OriginId, Record, Stamp};
use gossipykv::node::replication::message::{
    Ack, Busy, Digest, Folded, Item, Items, KeyReply, KeyRequest, KvMessage, Leaves, Pull, PullEnd,
    Push, Roots, Supply, Verdicts, Want, is_ours,
};

/// Memory for a byte of a head: an empty text of one byte is 32 bytes in a list that doubles.
/// Records, 33 bytes at least, need less.
const HEAD_RATIO: usize = 128;
/// What serde asks for ahead of the elements of one list; lists nest two deep.
const HEAD_AHEAD: usize = 3 << 20;

/// A replication message of any bytes.
pub fn replication(data: &[u8], heap: &dyn Heap) {
    let budget = HEAD_RATIO * data.len() + HEAD_AHEAD;
    match within(heap, budget, || KvMessage::decode(data)) {
        Ok(message) => {
            assert!(is_ours(data));
            let encoded = message.encode();
            assert_eq!(KvMessage::decode(&encoded).as_ref(), Ok(&message));
            // No message ends before its last byte: a record is longer than one.
            let cut = KvMessage::decode(&encoded[..encoded.len() - 1]);
            assert!(cut.is_err(), "{cut:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// One message of each kind.
pub fn replication_seeds() -> Vec<Vec<u8>> {
    let item = Item { key: Bytes::from_static(b"k"), time: 300, origin: 7, seq: 70_000 };
    let (heads, folded) = (vec![(7, 300), (1 << 40, 2)], vec![(9, 8, 7)]);
    let digest =
        Digest { from: 7, heads: heads.clone(), root: 1, folded: 0, reply: true, whole: true };
    let push = Push { of: 7, settles: vec![(6, 7)], from: 7, urgent: true };
    let verdicts =
        Verdicts { need: vec![Bytes::from_static(b"foo")], drop: vec![item.clone()], more: true };
    let pull_end =
        PullEnd { heads: heads.clone(), folded: folded.clone(), forgotten: 5, reset: false };
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
        KvMessage::Pull(Pull { from: 7, heads, folded, fresh: true }),
        KvMessage::PullEnd(pull_end),
        KvMessage::Busy(Busy { retry_ms: 1500 }),
        KvMessage::Roots(Roots { from: 7, roots: vec![3; 64].into() }),
        KvMessage::Leaves(Leaves { shards: vec![(3, vec![1; 16].into())], more: false }),
        KvMessage::Items(Items { leaves: vec![(3, 4, vec![item.clone(), item])], more: false }),
        KvMessage::Verdicts(verdicts, records()),
        KvMessage::Supply(Supply { from: 7, observe: true }, records()),
        KvMessage::KeyRequest(KeyRequest { id: 1, action: 2, key: vec![5; 16].into() }),
        KvMessage::KeyReply(reply),
    ];
    messages.iter().map(|message| message.encode().to_vec()).collect()
}

fn records() -> Vec<Record> {
    let stamp = Stamp { time: HlcTime::from_millis(1_760_000_000_000), origin: OriginId(7) };
    vec![
        Record::new(stamp, 7, b"foo", Some((b"bar", Some("text/plain")))),
        Record::new(stamp, 8, "\u{e9}".as_bytes(), Some((b"", None))),
        Record::new(stamp, 9, b"gone", None),
    ]
}

/// A record at the front of any bytes.
pub fn record(data: &[u8], heap: &dyn Heap) {
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
    seeds
}
