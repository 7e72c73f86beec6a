//! The replication formats, byte by byte, as `docs/replication.md` shows them.

use gossipykv::kv::{HlcTime, OriginId, Record, Stamp};
use gossipykv::node::formats::Formats;
use gossipykv::node::replication::message::{
    Ack, Digest, Item, KvMessage, MessageError, Name, Push, Read, Verdicts, Want,
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

fn stage(stage: Option<u8>) -> KvMessage {
    let heads = vec![(0xff, 7)];
    let (from, root, folded) = (0xee, 0, 0);
    KvMessage::Digest(Digest {
        from,
        heads,
        root,
        folded,
        reply: false,
        whole: true,
        stage,
        limit: None,
        to: None,
        at: None,
        covered: None,
        floor: None,
    })
}

#[test]
fn a_message_is_written_in_the_lowest_format_that_can_say_it() {
    check(&stage(Some(2)));
    assert_eq!([stage(Some(2)), stage(None)].map(|message| message.encode()[1]), [3, 2]);
}

#[test]
fn who_reads_a_format_gets_nothing_of_later_ones() {
    let written = |message: KvMessage, formats| message.payload_for(formats).map(|p| p.join());
    let (two, three) = (Formats::only(2), Formats::only(3));
    assert_eq!(written(stage(Some(2)), two), Some(stage(None).encode()));
    assert_eq!(
        written(stage(Some(2)), Formats { first: 2, last: 3 }),
        Some(stage(Some(2)).encode())
    );
    // Whoever does not read format 2 any more gets the same fields under another number.
    let raised = written(stage(None), three).expect("a digest");
    assert_eq!((raised[1], &raised[2..]), (3, &stage(None).encode()[2..]));
    assert_eq!(KvMessage::decode(&raised), Ok(stage(None)));
    assert_eq!(KvMessage::read(&raised, two), Err(MessageError::Format(3, two)));
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let acked = KvMessage::Ack(Ack { from: 7, of: 9, through: 1 });
    let read = KvMessage::read(b"\xc8\x03\x02\x95\x07\x09\x01\xa3new\x91\x80", Formats::KNOWN);
    assert_eq!(read, Ok(Read { message: acked, format: 3, n_passed_over: 2 }));
    let kind = KvMessage::decode(b"\xc8\x03\x63 whatever it is");
    assert_eq!(kind, Err(MessageError::Kind(0x63)));
    // Format 2 has no room, and who wrote it knew.
    let old = KvMessage::decode(b"\xc8\x02\x02\x94\x07\x09\x01\xc0");
    assert_eq!(old, Err(MessageError::Head(2)));
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
        limit: None,
        to: None,
        at: None,
        covered: None,
        floor: None,
    }));
    check(&KvMessage::Want(Want { from: 0xee, of: 0xff, ranges: vec![(6, 6), (9, 12)] }));
    let bar =
        Item { key: Name::new(b"bar"), time: TIME.0, origin: 0xff, seq: 3, check: 0x0012_3456 };
    let need = vec![Name::new(b"foo")];
    check(&KvMessage::Verdicts(Verdicts { need, drop: vec![bar], more: false }, Vec::new()));
}

/// The kinds of message that are read.
#[cfg(not(feature = "next-format"))]
fn kinds() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|kind| {
        let read = KvMessage::decode(&[200, Formats::SPOKEN.last, *kind]);
        read != Err(MessageError::Kind(*kind))
    })
}

#[test]
#[cfg(not(feature = "next-format"))]
fn every_kind_has_a_row_on_the_page_and_a_seed_for_the_fuzzers() {
    let page = include_str!("../../docs/replication.md");
    let (_, page) = page.split_once("\n## 4. Messages\n").expect("a section on messages");
    // A seed has a byte for the target in front of the message.
    let seeds = (crate::fuzz::target("replication").seeds)();
    let seeds: Vec<&[u8]> = seeds.iter().map(|seed| &seed[1..]).collect();
    assert!(kinds().count() >= 15, "all of them are read");
    for kind in kinds() {
        assert!(page.contains(&format!("\n| {kind} | ")), "section 4 has no row for kind {kind}");
        let is_one = |seed: &&&[u8]| seed.get(2) == Some(&kind) && KvMessage::decode(seed).is_ok();
        assert!(seeds.iter().any(|seed| is_one(&seed)), "no seed is of kind {kind}");
    }
}
