//! Comparisons between nodes of which one has forgotten a delete sooner.

use super::cluster::Cluster;
use super::*;
use crate::kv::{HlcTime, Record, Stamp};
use crate::node::replication::message::Push;

/// Runs that are over.
const WRITER: OriginId = OriginId(5);
const LOST: OriginId = OriginId(6);

fn push(cluster: &mut Cluster, at: usize, record: &Record) {
    let (of, seq) = (record.dot().origin.0, record.dot().seq);
    let push = Push { of, settles: vec![(seq, seq)], from: of, urgent: false };
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
