//! The replication formats, byte by byte, as `docs/replication.md` shows them.

use gossipykv::kv::{HlcTime, OriginId, Record, Stamp};
use gossipykv::node::replication::message::{
    Ack, Digest, Item, KvMessage, Name, Push, Verdicts, Want,
};

const TIME: HlcTime = HlcTime::from_millis(1_760_000_000_000);
const STAMP: Stamp = Stamp { time: TIME, origin: OriginId(0xff) };

/// The page shows these bytes, whatever the spaces between them.
#[track_caller]
fn check_shown(bytes: &[u8]) {
    let page = include_str!("../../docs/replication.md");
    let page: String = page.chars().filter(|c| !c.is_whitespace()).collect();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(page.contains(&hex), "docs/replication.md does not show {hex}");
}

#[track_caller]
fn check(message: &KvMessage) {
    let bytes = message.encode();
    assert_eq!(KvMessage::decode(&bytes).as_ref(), Ok(message));
    check_shown(&bytes);
}

#[test]
fn the_page_shows_a_record() {
    let record = Record::new(STAMP, 7, b"foo", Some((b"bar", Some("text/plain"))));
    check_shown(record.as_bytes());
}

#[test]
fn the_page_shows_messages() {
    let delete = Record::new(STAMP, 7, b"foo", None);
    let push = Push { of: 0xff, settles: vec![(6, 7)], from: 0xff, urgent: false };
    check(&KvMessage::Push(push, vec![delete]));
    check(&KvMessage::Ack(Ack { from: 0xee, of: 0xff, through: 7 }));
    check(&KvMessage::Digest(Digest {
        from: 0xee,
        heads: vec![(0xee, 300), (0xff, 7)],
        root: 0x0102_0304_0506_0708,
        folded: 0,
        reply: true,
        whole: true,
        stage: None,
    }));
    check(&KvMessage::Want(Want { from: 0xee, of: 0xff, ranges: vec![(6, 6), (9, 12)] }));
    let bar =
        Item { key: Name::new(b"bar"), time: TIME.0, origin: 0xff, seq: 3, check: 0x0012_3456 };
    let need = vec![Name::new(b"foo")];
    check(&KvMessage::Verdicts(Verdicts { need, drop: vec![bar], more: false }, Vec::new()));
}
