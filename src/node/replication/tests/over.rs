//! Runs that were let go of, and members that still count with them by name.

use super::cluster::Cluster;
use super::floor::{BOUND, FIRST, GRACE, cluster, end, have_cut, known, push, records, write};
use super::*;
use crate::node::replication::facts::floor::FLOOR;
use crate::node::replication::message::Digest;

/// Resets of one member.
fn resets_of(cluster: &Cluster, member: usize) -> u64 {
    cluster.members[member].replication.shared.counters.resets_total
}

/// The third of three members is cut off from the others, who know it no more.
fn cut_off(cluster: &mut Cluster) {
    cluster.cut = vec![(0, 2), (1, 2)];
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    cluster.members[2].up = false;
}

/// A run deletes a key that it has written, and all forget the delete.
fn forget_a_delete_of(cluster: &mut Cluster, run: u64) {
    let mut writes = records(cluster, run, 1, Some(b"v"));
    let millis = cluster.now.wall.0;
    writes.push(write(run, millis, 2, &format!("k{run}-1"), None));
    push(cluster, &[0, 1, 2], run, &writes);
    let gone = |c: &Cluster| c.members.iter().all(|m| m.store.stats().n_tombstones == 0);
    assert!(cluster.run_until(Duration::from_secs(60), gone));
    assert!((0..3).all(|at| known(cluster, at).forgotten_of(OriginId(run)) == 2));
}

#[test]
fn one_that_was_away_makes_nobody_hide_when_it_is_back() {
    let mut cluster = cluster(3);
    forget_a_delete_of(&mut cluster, 77);
    cut_off(&mut cluster);
    end(&mut cluster, FIRST..FIRST + 80);
    assert!(have_cut(&cluster) && known(&cluster, 0).is_unknown(OriginId(77)));
    cluster.members[2].up = true;
    cluster.cut.clear();
    cluster.meet();
    let is_back = |c: &Cluster| c.equal() && have_cut(c);
    assert!(cluster.run_until(Duration::from_secs(20), is_back));
    assert_eq!(resets_of(&cluster, 2), 1);
    // It counts with that run by name. The others held it, and lack nothing.
    for member in [0, 1] {
        let (now, peer) = (cluster.now, cluster.members[2].store.origin());
        cluster.members[member].replication.pull_from(now, peer);
        cluster.drain(member);
    }
    cluster.run(Duration::from_secs(10));
    cluster.must_agree_within(Duration::from_secs(5));
    assert_eq!((resets_of(&cluster, 0), resets_of(&cluster, 1)), (0, 0));
    assert_eq!(cluster.divergences, 0);
}

#[test]
fn nobody_asks_for_what_it_held_when_it_let_go_of_a_run() {
    let mut cluster = cluster(2);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster) && known(&cluster, 0).is_unknown(OriginId(FIRST)));
    let (me, from) = (cluster.members[0].store.origin(), cluster.members[1].store.origin());
    let floor = Some(known(&cluster, 0).floor());
    let at = Some(cluster.now.instant.as_millis());
    let of_heads = Digest::of_heads(from, vec![(FIRST, 1)]);
    let digest = Digest { whole: true, stage: Some(2), floor, at, ..of_heads };
    let now = cluster.now;
    cluster.members[0].replication.digested(now, &digest.for_run(me), Via::Datagram, 100);
    assert_eq!(known(&cluster, 0).contiguous(OriginId(FIRST)), 1, "it held that");
    cluster.run(Duration::from_secs(10));
    assert_eq!(cluster.sum(|r| r.gaps.wants_total), 0);
    cluster.must_agree_within(Duration::from_secs(5));
}

#[test]
fn the_floor_of_another_cluster_is_none_that_a_joiner_missed() {
    let mut cluster = cluster(4);
    cluster.cut = vec![(0, 2), (0, 3), (1, 2), (1, 3)];
    for (at, other) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        cluster.tell(at, &[other]);
        cluster.drain(at);
    }
    let written = records(&cluster, 77, 3, Some(b"v"));
    push(&mut cluster, &[2, 3], 77, &written);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(known(&cluster, 0).floor() > 0 && known(&cluster, 2).is_folded(OriginId(77)));
    // It copies in one cluster after the other one has cut its list.
    cluster.add(GRACE);
    cluster.cut.extend([(0, 4), (1, 4)]);
    cluster.tell(4, &[2]);
    cluster.tell(2, &[3, 4]);
    let is_ready = |c: &Cluster| c.members[4].replication.view().health() == Health::Ok;
    assert!(cluster.run_until(Duration::from_secs(5), is_ready));
    cluster.cut.clear();
    cluster.meet();
    assert!(cluster.run_until(Duration::from_secs(60), |c| known(c, 4).floor() > 0));
    assert_eq!(resets_of(&cluster, 4), 1, "it lets go of nothing that the others never knew");
    assert!(cluster.run_until(Duration::from_secs(60), |c| c.equal() && have_cut(c)));
    (0..5).for_each(|at| assert_eq!(cluster.value(at, "k77-3").as_deref(), Some(&b"v"[..])));
}

#[test]
fn deletes_below_the_floor_are_told_to_nobody_after_a_copy() {
    let mut cluster = Cluster::new(0, 0.0);
    cluster.folded = BOUND;
    (0..2).for_each(|_| cluster.add(Duration::from_secs(10_000)));
    cluster.meet();
    cluster.run(Duration::from_secs(2));
    let delete = write(77, cluster.now.wall.0, 1, "nowhere", None);
    push(&mut cluster, &[0, 1], 77, &[delete]);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster) && known(&cluster, 0).is_unknown(OriginId(77)));
    assert_eq!(cluster.members[0].store.stats().n_tombstones, 1);
    let told = |c: &Cluster| c.sum(|r| r.tails.told_total);
    let before = told(&cluster);
    cluster.members[0].replication.tails.unclaimed_came();
    cluster.run(Duration::from_secs(60));
    assert_eq!(told(&cluster) - before, 0);
    let as_dot = known(&cluster, 0).known_as(&write(77, 1, 1, "nowhere", None));
    assert_eq!(as_dot.origin, FLOOR);
}
