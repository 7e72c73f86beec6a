//! Records damaged in memory, and one version with two contents.

use super::cluster::Cluster;
use super::*;
use crate::kv::{HlcTime, Merge, Record, Stamp};
use crate::limits::STORE_SHARDS;
use crate::node::replication::repair::scrub::Scrub;

/// Every shard is looked through in a second each.
const PASS: Duration = Duration::from_secs(STORE_SHARDS as u64 + 1);

fn filled(n: usize) -> Cluster {
    let mut cluster = Cluster::new(n, 0.0);
    for index in 0..300 {
        cluster.put(index % n, &format!("k{index}"), b"value");
    }
    cluster.delete(0, "k7");
    cluster.must_agree_within(Duration::from_secs(2));
    cluster
}

fn damaged(cluster: &Cluster) -> u64 {
    cluster.sum(|replication| replication.shared.counters.damaged_total)
}

fn doubts(cluster: &Cluster) -> bool {
    cluster.members.iter().any(|member| member.replication.shared.known.doubts().is_some())
}

#[test]
fn what_is_damaged_is_dropped_and_fetched() {
    let mut cluster = filled(3);
    cluster.members[1].store.damage(b"k20", 2);
    cluster.members[2].store.damage(b"k7", 0);
    assert!(cluster.run_until(PASS, |cluster| damaged(cluster) == 2));
    cluster.run(Duration::from_secs(10));
    for at in 0..3 {
        assert_eq!(cluster.value(at, "k20").as_deref(), Some(&b"value"[..]), "member {at}");
        assert_eq!(cluster.value(at, "k7"), None, "member {at}");
    }
    assert!(cluster.equal() && !doubts(&cluster));
    assert_eq!(damaged(&cluster), 2);
}

#[test]
fn what_is_damaged_does_not_count_as_deleted() {
    let mut cluster = filled(3);
    for member in &mut cluster.members {
        // As if a later delete had been forgotten by all.
        member.replication.shared.known.forget_through(HlcTime(u64::MAX));
    }
    cluster.members[0].store.damage(b"k30", 0);
    cluster.members[2].store.damage(b"k31", 0);
    assert!(cluster.run_until(PASS, |cluster| damaged(cluster) == 2));
    cluster.run(Duration::from_secs(20));
    for (at, key) in [0, 1, 2].into_iter().flat_map(|at| [(at, "k30"), (at, "k31")]) {
        assert_eq!(cluster.value(at, key).as_deref(), Some(&b"value"[..]), "{key} at {at}");
    }
    assert!(cluster.equal() && !doubts(&cluster));
}

#[test]
fn nobody_copies_what_is_damaged() {
    let mut cluster = filled(2);
    cluster.members[0].store.damage(b"k40", 1);
    cluster.add(Duration::from_secs(3600));
    cluster.meet();
    let is_ready = |c: &Cluster| c.members[2].replication.view().health() == Health::Ok;
    assert!(cluster.run_until(Duration::from_secs(30), is_ready));
    assert!(cluster.run_until(PASS, Cluster::equal));
    assert_eq!(cluster.value(2, "k40").as_deref(), Some(&b"value"[..]));
    assert_eq!(damaged(&cluster), 1);
}

#[test]
fn two_contents_of_one_version_end_as_one() {
    let mut cluster = filled(3);
    let stamp = Stamp { time: HlcTime::from_millis(1_000_000), origin: OriginId(1000) };
    let record = |value: &[u8]| Record::new(stamp, 1, b"twice", Some((value, None)));
    for (at, value) in [(0, &b"a"[..]), (1, b"b"), (2, b"a")] {
        let merged = cluster.members[at].store.merge(&record(value), cluster.now);
        assert!(matches!(merged, Merge::Newer { .. }));
    }
    assert!(cluster.run_until(Duration::from_secs(20), Cluster::equal));
    let values = (0..3).map(|at| cluster.value(at, "twice")).collect::<Vec<_>>();
    assert!(values[0].is_some() && values.iter().all(|value| *value == values[0]), "{values:?}");
}

#[test]
fn the_last_node_of_all_loses_what_was_damaged_and_is_copied_all_the_same() {
    let mut cluster = filled(1);
    cluster.members[0].store.damage(b"k50", 1);
    assert!(cluster.run_until(PASS, |cluster| damaged(cluster) == 1));
    cluster.add(Duration::from_secs(3600));
    cluster.add(Duration::from_secs(3600));
    cluster.meet();
    let is_ready =
        |c: &Cluster| c.members.iter().all(|m| m.replication.view().health() == Health::Ok);
    assert!(cluster.run_until(Duration::from_secs(30), is_ready));
    // Whoever copies is equal to nobody, and copies wait for 10 s.
    assert!(cluster.run_until(Duration::from_secs(15), |c| c.equal() && !doubts(c)));
    assert_eq!((cluster.value(1, "k50"), cluster.value(2, "k51").is_some()), (None, true));
}

#[test]
fn who_doubts_leaves_copies_to_others() {
    let mut cluster = filled(2);
    cluster.members[0].store.damage(b"k40", 1);
    // What they say to each other is lost, and neither notices.
    cluster.cut = vec![(0, 1)];
    assert!(cluster.run_until(PASS, |cluster| damaged(cluster) == 1));
    cluster.run(Duration::from_secs(12));
    assert!(doubts(&cluster));
    cluster.add(Duration::from_secs(3600));
    cluster.tell(0, &[1, 2]);
    cluster.tell(2, &[0]);
    cluster.drain(2);
    let is_ready = |c: &Cluster| c.members[2].replication.view().health() == Health::Ok;
    assert!(!cluster.run_until(Duration::from_secs(15), is_ready));
    cluster.tell(1, &[0, 2]);
    cluster.tell(2, &[0, 1]);
    assert!(cluster.run_until(Duration::from_secs(10), is_ready));
    assert_eq!(cluster.value(2, "k40").as_deref(), Some(&b"value"[..]));
    // With it the first one mends itself.
    assert!(cluster.run_until(Duration::from_secs(10), |c| c.equal() && !doubts(c)));
}

#[test]
fn a_shard_of_long_values_is_looked_through_in_many_turns() {
    const N: usize = 20;
    let mut cluster = Cluster::new(1, 0.0);
    let in_first = |key: &String| Store::bucket(key.as_bytes()).0 == 0;
    let keys: Vec<String> = (0..).map(|n| format!("k{n}")).filter(in_first).take(N).collect();
    for key in &keys {
        cluster.put(0, key, &[b'v'; 1 << 20]);
    }
    let now = cluster.now;
    let node = &mut cluster.members[0];
    let turns_of = |node: &mut cluster::Member| {
        let mut scrub = Scrub::default();
        node.replication.with(now, |cx| {
            let mut turns = 1;
            loop {
                match scrub.next(cx) {
                    (true, None) => turns += 1,
                    (_, damage) => return (turns, damage.is_some()),
                }
                assert!(scrub.is_within() && turns < N);
            }
        })
    };
    let (turns, is_damaged) = turns_of(node);
    assert!(turns > 1 && !is_damaged, "{turns}");
    node.store.damage(keys.iter().max().expect("some").as_bytes(), 0);
    assert_eq!(turns_of(node), (turns, true));
    assert_eq!(node.store.stats().n_live, N as u64 - 1);
}
