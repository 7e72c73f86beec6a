//! Comparisons between nodes of which one has forgotten a delete sooner.

use super::cluster::Cluster;
use super::*;
use crate::kv::{HlcTime, Record, Stamp};
use crate::limits::{JUDGED_MAX, TURN_RECORDS_MAX};
use crate::node::replication::message::{Items, Push, Verdicts};
use crate::time::WallMillis;
use crate::wire::stream::Frame;

/// Runs that are over.
const WRITER: OriginId = OriginId(5);
const LOST: OriginId = OriginId(6);

fn push(cluster: &mut Cluster, at: usize, record: &Record) {
    let (of, seq) = (record.dot().origin.0, record.dot().seq);
    let from = cluster.members[usize::from(at == 0)].store.origin().0;
    let push = Push { of, settles: vec![(seq, seq)], from, urgent: false };
    let now = cluster.now;
    let records = std::slice::from_ref(record);
    cluster.members[at].replication.pushed(
        now,
        &Bytes::new(),
        &push,
        records,
        Via::Link(ConnId(1)),
    );
    cluster.drain(at);
}

fn live(origin: OriginId, seq: u64, key: &str) -> Record {
    let stamp = Stamp { time: HlcTime::from_millis(999_000 + seq), origin };
    Record::new(stamp, seq, key.as_bytes(), Some((b"v", None)))
}

#[test]
fn a_delete_stays_with_whom_remembers_it_for_longer() {
    for (hasty, patient) in [(0, 1), (1, 0)] {
        let mut cluster = Cluster::new(0, 0.0);
        for at in 0..2 {
            cluster.add(Duration::from_secs(if at == hasty { 1 } else { 3600 }));
        }
        cluster.meet();
        cluster.run(Duration::from_secs(1));
        let old = live(WRITER, 1, "k");
        push(&mut cluster, 0, &old);
        push(&mut cluster, 1, &old);
        cluster.run(Duration::from_secs(2));
        cluster.delete(0, "k");
        let is_forgotten = |c: &Cluster| c.members[hasty].store.entry(b"k").is_none();
        assert!(cluster.run_until(Duration::from_secs(60), is_forgotten));
        // A write past a lost one is in the same leaf, on one side: heads do not tell of it.
        let is_beside = |key: &String| Store::bucket(key.as_bytes()) == Store::bucket(b"k");
        let beside = (0..).map(|n| format!("q{n}")).find(is_beside).expect("there are many keys");
        push(&mut cluster, hasty, &live(LOST, 2, &beside));
        let arrived = |c: &Cluster| c.value(patient, &beside).is_some();
        assert!(cluster.run_until(Duration::from_secs(60), arrived));
        cluster.run(Duration::from_secs(3));
        assert!(cluster.sum(|r| r.compare.comparisons_total) >= 1);
        let held = cluster.members[patient].store.entry(b"k");
        assert!(held.is_some_and(|held| held.is_tombstone()), "{hasty} is hasty");
        let counted = cluster.sum(|r| r.compare.leaves_repaired_total);
        assert_eq!(
            (cluster.divergences, counted),
            (0, 0),
            "heads had told of nothing that differed"
        );
        push(&mut cluster, patient, &old);
        push(&mut cluster, hasty, &old);
        assert_eq!((cluster.value(0, "k"), cluster.value(1, "k")), (None, None));
    }
}

const SHARDS: usize = 16;
const ASKER: ConnId = ConnId(9);

/// A node whose first shards hold so many records together, and a message that names half of the
/// leaves of each of them, and nothing in them.
fn full_shards(n: usize) -> (Lent, Arc<Store>, Items, Now) {
    let now = Now { instant: Instant::from_millis(1), wall: WallMillis(1_000_000) };
    let (node, store) = with_peer(WRITER, Duration::from_secs(3600), now);
    let keys = (0..).map(|at| format!("key-{at}"));
    let in_first = keys.filter(|key| Store::bucket(key.as_bytes()).0 < SHARDS);
    for key in in_first.take(n) {
        store.put(now, key.as_bytes(), b"v", None).expect("room");
    }
    let of = |shard: usize| (0..32).map(move |leaf| (shard as u16, leaf * 8, Vec::new()));
    let leaves = (0..SHARDS).flat_map(of).collect();
    (node, store, Items { leaves, more: false }, now)
}

/// Turns of the node until the verdicts are there, the first included, and those.
fn judged(node: &mut Lent, items: Items, mut now: Now) -> (usize, Verdicts, Vec<Record>) {
    node.link_message(now, ASKER, KvMessage::Items(items));
    for turn in 1.. {
        while let Some(out) = node.poll() {
            let Out::Output(Output::Send { frame: Frame::Kv(payload), conn: ASKER }) = out else {
                continue;
            };
            let read = KvMessage::read(&payload.join(), Formats::SPOKEN).expect("a message");
            if let KvMessage::Verdicts(verdicts, newer) = read.message {
                return (turn, verdicts, newer);
            }
        }
        assert!(turn < 1_000, "no answer");
        now = now.after(Duration::from_millis(1));
        node.timeout(now);
    }
    unreachable!("the loop has an end")
}

#[test]
fn what_is_named_is_judged_in_many_turns() {
    let n = 2 * TURN_RECORDS_MAX + 1;
    let (mut node, store, items, now) = full_shards(n);
    node.links.seen(ASKER, None);
    let named: Vec<(usize, usize)> = items
        .leaves
        .iter()
        .map(|(shard, leaf, _)| (usize::from(*shard), usize::from(*leaf)))
        .collect();
    let (turns, verdicts, newer) = judged(&mut node, items, now);
    assert!(turns >= 3, "{n} records were passed in {turns} turns");
    let mut expected = 0;
    for shard in 0..SHARDS {
        store.scan_leaves(shard, |leaf, _| expected += usize::from(named.contains(&(shard, leaf))));
    }
    assert_eq!(newer.len(), expected);
    assert!(verdicts.need.is_empty() && verdicts.drop.is_empty() && !verdicts.more);
}

#[test]
fn what_comes_while_it_is_judged_is_not_taken_for_absent() {
    let (mut node, store, mut items, now) = full_shards(2 * TURN_RECORDS_MAX + 1);
    node.links.seen(ASKER, None);
    // In each shard a key that is first in its order: it comes when the first turn is over.
    let key_in = |shard| {
        let is_there = |key: &String| Store::bucket(key.as_bytes()) == (shard, 0);
        (0..).map(|n| format!("a{n}")).find(is_there).expect("there are many keys")
    };
    let records: Vec<Record> =
        (0..SHARDS).map(|shard| live(WRITER, 1 + shard as u64, &key_in(shard))).collect();
    for (shard, leaf, named) in &mut items.leaves {
        if *leaf == 0 {
            named.push(message::Item::of(&records[usize::from(*shard)]));
        }
    }
    node.with(now, |cx| {
        cx.known.claim(WRITER, SHARDS as u64);
        cx.known.forget_through(HlcTime(u64::MAX));
    });
    let mut left = TURN_RECORDS_MAX;
    let mut is_in_first_turn = |shard: &usize| {
        let len = store.shard_len(*shard).0;
        left = left.saturating_sub(len);
        left > 0
    };
    let n_in_first_turn = (0..SHARDS).take_while(|shard| is_in_first_turn(shard)).count();
    assert!((1..SHARDS - 1).contains(&n_in_first_turn));
    node.link_message(now, ASKER, KvMessage::Items(items));
    for record in &records {
        assert!(matches!(store.merge(record, now), crate::kv::Merge::Newer { .. }));
    }
    let empty = Items { leaves: Vec::new(), more: false };
    let (_, verdicts, _) = judged(&mut node, empty, now);
    // What was absent until its shard had been passed is deleted, and nothing else.
    assert_eq!(verdicts.drop.len(), n_in_first_turn);
    assert!(verdicts.need.is_empty());
}

#[test]
fn more_than_can_be_judged_is_put_off() {
    let (mut node, _, items, now) = full_shards(TURN_RECORDS_MAX + 1);
    for at in 0..=JUDGED_MAX {
        let conn = ConnId(101 + 2 * at as u64);
        node.links.seen(conn, None);
        node.link_message(now, conn, KvMessage::Items(items.clone()));
    }
    let mut busy = 0;
    while let Some(out) = node.poll() {
        if let Out::Output(Output::Send { frame: Frame::Kv(payload), .. }) = out {
            let read = KvMessage::read(&payload.join(), Formats::SPOKEN).expect("a message");
            busy += usize::from(matches!(read.message, KvMessage::Busy(_)));
        }
    }
    assert_eq!(busy, 1);
}
