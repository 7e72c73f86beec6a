//! Deletes that only some hold, past a write that was lost with its writer.

use super::cluster::Cluster;
use super::*;
use crate::kv::{Asked, HlcTime, Record, Seen, Stamp, Token};
use crate::node::replication::message::Push;

/// A run that is over.
const GONE: OriginId = OriginId(5);
/// Every shard is told of within 16 s of the folding.
const TOLD: Duration = Duration::from_secs(40);

/// Delete `seq` of `key` by the run that is over reaches one member by way of another that has it
/// no more, and no further.
fn hold(cluster: &mut Cluster, at: usize, seq: u64, key: &str) {
    let from = cluster.members[usize::from(at == 0)].store.origin();
    hold_of(cluster, at, (GONE, seq), key, from);
}

/// Delete `seq` of `key` by `of` reaches one member by way of `from`, and no further.
fn hold_of(
    cluster: &mut Cluster,
    at: usize,
    (of, seq): (OriginId, u64),
    key: &str,
    from: OriginId,
) {
    let stamp = Stamp { time: HlcTime::from_millis(999_000 + seq), origin: of };
    let delete = Record::new(stamp, seq, key.as_bytes(), None);
    let push = Push { of: of.0, settles: vec![(seq, seq)], from: from.0, urgent: false };
    let now = cluster.now;
    cluster.members[at].replication.pushed(
        now,
        &Bytes::new(),
        &push,
        &[delete],
        Via::Link(ConnId(1)),
    );
    cluster.drain(at);
}

/// The number of the delete of `key` that each member holds, 0 for none.
fn held(cluster: &Cluster, key: &str) -> Vec<u64> {
    let seq = |member: &cluster::Member| member.store.entry(key.as_bytes()).map(|r| r.dot().seq);
    cluster.members.iter().map(|member| seq(member).unwrap_or(0)).collect()
}

/// All hold write 1; write 2 is lost with everybody who held it.
fn losing_one(n: usize) -> Cluster {
    let mut cluster = Cluster::new(n, 0.0);
    for at in 0..n {
        hold(&mut cluster, at, 1, "first");
    }
    cluster
}

fn is_folded(cluster: &Cluster) -> bool {
    cluster.members.iter().all(|member| member.replication.shared.known.is_folded(GONE))
}

fn told(cluster: &Cluster) -> u64 {
    cluster.sum(|replication| replication.tails.told_total)
}

#[test]
fn all_hold_the_latest_delete_once_its_origin_is_folded() {
    let mut cluster = losing_one(4);
    hold(&mut cluster, 0, 3, "k");
    hold(&mut cluster, 2, 4, "k");
    hold(&mut cluster, 3, 5, "other");
    cluster.run(TOLD);
    assert!(is_folded(&cluster));
    assert_eq!((held(&cluster, "k"), held(&cluster, "other")), (vec![4; 4], vec![5; 4]));
    // A second pass has nobody to go to, and what everybody can ask for is not told.
    let before = told(&cluster);
    cluster.run(TOLD);
    assert_eq!(told(&cluster), before);
    assert!(before > 0 && before <= 4 * 3 * 2, "{before} messages");
}

#[test]
fn who_watches_is_told_of_what_is_past_a_lost_write() {
    let mut cluster = losing_one(2);
    hold(&mut cluster, 0, 3, "k");
    cluster.run(TOLD);
    assert!(is_folded(&cluster));
    let mut seen = Seen::default();
    seen.add(GONE, 1);
    for member in &cluster.members {
        let coverage = member.replication.view().coverage();
        assert!(coverage.reaches(&seen) && coverage.seen.through(GONE) == 1);
        let asked = Asked { prefix: b"", after: None, limit: 9 };
        let token = Token { seen: seen.clone(), ended: None };
        let told = member.store.tell(cluster.now, asked, Some(&token), &coverage);
        let keys: Vec<&[u8]> = told.page.items.iter().map(Record::key).collect();
        assert_eq!((keys, told.is_reset), (vec![&b"k"[..]], false));
    }
}

#[test]
fn a_run_whose_first_write_was_lost_is_folded_too() {
    let mut cluster = Cluster::new(3, 0.0);
    hold(&mut cluster, 0, 2, "k");
    hold(&mut cluster, 1, 3, "k");
    cluster.run(TOLD);
    assert!(is_folded(&cluster));
    assert_eq!(held(&cluster, "k"), [3; 3]);
    assert!(cluster.members.iter().all(|m| m.replication.view().unfolded().is_none()));
    let folded = cluster.sum(|r| r.sweep.folded_total);
    assert!((1..=3).contains(&folded), "once each at most: {folded}");
}

/// Four members, of which the last has died, and is remembered.
fn without_the_last() -> (Cluster, OriginId) {
    let mut cluster = Cluster::new(4, 0.0);
    let dead = cluster.members[3].store.origin();
    cluster.members[3].up = false;
    cluster.meet();
    (cluster, dead)
}

#[test]
fn a_delete_past_a_lost_write_is_told_while_its_writer_is_remembered() {
    let (mut cluster, dead) = without_the_last();
    (0..3).for_each(|at| hold_of(&mut cluster, at, (dead, 1), "first", dead));
    hold_of(&mut cluster, 0, (dead, 3), "k", dead);
    cluster.run(TOLD);
    assert!(!cluster.members[0].replication.shared.known.is_folded(dead));
    assert_eq!(held(&cluster, "k")[..3], [3; 3]);
}

#[test]
fn where_nobody_holds_all_whoever_holds_most_is_asked() {
    let (mut cluster, dead) = without_the_last();
    (0..3).for_each(|at| hold_of(&mut cluster, at, (dead, 1), "first", dead));
    // Two hear that the third has another write, and cannot ask for it.
    cluster.udp_cut = vec![(0, 2), (1, 2)];
    cluster.tcp_cut = vec![(0, 2), (1, 2)];
    hold_of(&mut cluster, 2, (dead, 2), "second", dead);
    cluster.run(Duration::from_secs(8));
    // Each hears of a later one from the other, which has nothing of what is in between.
    let origins = [0, 1].map(|at| cluster.members[at].store.origin());
    hold_of(&mut cluster, 0, (dead, 4), "later", origins[1]);
    hold_of(&mut cluster, 1, (dead, 4), "later", origins[0]);
    let held = |cluster: &Cluster| {
        let through = |m: &cluster::Member| m.replication.view().contiguous(dead);
        cluster.members.iter().take(3).map(through).collect::<Vec<u64>>()
    };
    cluster.run(Duration::from_secs(2));
    assert_eq!(held(&cluster), [1, 1, 2]);
    cluster.udp_cut.clear();
    cluster.tcp_cut.clear();
    cluster.run(Duration::from_secs(20));
    assert_eq!(held(&cluster), [2; 3]);
}

#[test]
fn who_was_cut_off_is_told_when_it_is_back() {
    let mut cluster = losing_one(4);
    cluster.cut = (1..4).map(|other| (0, other)).collect();
    cluster.meet();
    hold(&mut cluster, 1, 3, "k");
    cluster.run(TOLD);
    assert_eq!(held(&cluster, "k"), [0, 3, 3, 3]);
    cluster.cut.clear();
    cluster.meet();
    cluster.run(TOLD);
    assert_eq!(held(&cluster, "k"), [3; 4]);
}

#[test]
fn among_many_whoever_learns_of_a_delete_tells_on() {
    let mut cluster = losing_one(40);
    hold(&mut cluster, 7, 3, "k");
    cluster.run(Duration::from_secs(120));
    // The holder tells four; that nearly all of forty know is the work of those who tell on.
    let n_held = held(&cluster, "k").into_iter().filter(|seq| *seq == 3).count();
    assert!(n_held >= 36, "{n_held} of 40");
    let before = told(&cluster);
    cluster.run(Duration::from_secs(120));
    // Only who saw the gap itself tells again, for those who came later.
    assert!(told(&cluster) - before <= 4 * 40, "{} messages", told(&cluster) - before);
}

#[test]
fn a_delete_that_heads_tell_of_is_not_told() {
    let mut cluster = losing_one(3);
    cluster.run(TOLD);
    assert!(is_folded(&cluster));
    assert_eq!(told(&cluster), 0);
}

#[test]
fn deletes_that_a_broken_copy_has_left_are_told_to_those_who_founded_since() {
    let mut cluster = Cluster::new(1, 0.0);
    for index in 0..5000 {
        cluster.put(0, &format!("k{index}"), b"v");
        cluster.delete(0, &format!("k{index}"));
    }
    (0..2).for_each(|_| cluster.add(Duration::from_secs(3600)));
    cluster.cut = vec![(0, 2), (1, 2)];
    cluster.meet();
    let n_deletes = |c: &Cluster, at: usize| c.members[at].store.stats().n_tombstones;
    assert!(cluster.run_until(Duration::from_secs(5), |c| n_deletes(c, 1) > 100));
    cluster.members[0].up = false;
    let now = cluster.now;
    cluster.members[2].replication.found(now);
    cluster.cut.clear();
    cluster.tell(1, &[2]);
    cluster.tell(2, &[1]);
    let is_ready = |c: &Cluster| c.members[1].replication.view().health() == Health::Ok;
    assert!(cluster.run_until(Duration::from_secs(5), is_ready));
    assert!(n_deletes(&cluster, 1) < 5000 && n_deletes(&cluster, 2) == 0);
    cluster.run(TOLD);
    assert_eq!(n_deletes(&cluster, 1), n_deletes(&cluster, 2));
    assert!(n_deletes(&cluster, 1) > 100);
    // Each has told once.
    let before = told(&cluster);
    cluster.run(TOLD);
    assert_eq!(told(&cluster), before);
}
