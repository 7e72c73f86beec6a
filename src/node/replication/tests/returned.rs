//! A member that returns with all its old records, after deletes of them have been forgotten.

use super::cluster::{Cluster, MILLIS};
use super::*;

const GRACE: Duration = Duration::from_secs(30);
const SLEEPER: usize = 2;
const N_DELETED: usize = 100;

/// Three members hold a hundred keys. The third goes away, and the other two, who soon do not
/// remember it either, delete all of them and forget the deletes.
fn slept() -> Cluster {
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..3 {
        cluster.add(GRACE);
    }
    cluster.meet();
    for index in 0..N_DELETED {
        cluster.put(0, &format!("k{index}"), b"v");
    }
    cluster.must_agree_within(Duration::from_secs(10));
    cluster.cut = vec![(0, SLEEPER), (1, SLEEPER)];
    cluster.meet();
    for index in 0..N_DELETED {
        cluster.delete(1, &format!("k{index}"));
    }
    cluster.run(Duration::from_secs(5));
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    let tombstones = |c: &Cluster, at: usize| c.members[at].store.stats().n_tombstones;
    let forgotten = |c: &Cluster| tombstones(c, 0) + tombstones(c, 1) == 0;
    assert!(cluster.run_until(Duration::from_secs(120), forgotten));
    cluster
}

/// Another one joins, and the two that swept leave: its number.
fn replace_those_who_swept(cluster: &mut Cluster) -> usize {
    cluster.add(GRACE);
    cluster.cut = vec![(0, SLEEPER), (1, SLEEPER), (3, SLEEPER)];
    cluster.put(0, "alive", b"v");
    for (at, peers) in [(0, [1, 3]), (1, [0, 3]), (3, [0, 1])] {
        cluster.tell(at, &peers);
        cluster.drain(at);
    }
    let ready = |c: &Cluster| c.members[3].replication.health() == Health::Ok;
    assert!(cluster.run_until(Duration::from_secs(20), ready));
    cluster.members[0].up = false;
    cluster.members[1].up = false;
    3
}

/// The sleeper meets one other member, and nobody else is left.
fn wake(cluster: &mut Cluster, other: usize) {
    let n = cluster.members.len();
    cluster.cut =
        (0..n).filter(|at| ![SLEEPER, other].contains(at)).map(|at| (at, SLEEPER)).collect();
    cluster.tell(SLEEPER, &[other]);
    cluster.tell(other, &[SLEEPER]);
    cluster.drain(SLEEPER);
    cluster.drain(other);
}

fn is_ready(cluster: &Cluster, at: usize) -> bool {
    cluster.members[at].replication.health() == Health::Ok
}

/// Deleted keys that a member serves.
fn n_served(cluster: &Cluster, at: usize) -> usize {
    (0..N_DELETED).filter(|index| cluster.value(at, &format!("k{index}")).is_some()).count()
}

/// Whether the sleeper holds, by its own account, the deletes it slept through.
fn claims_deletes(cluster: &Cluster) -> bool {
    let last = Dot { origin: OriginId(1001), seq: N_DELETED as u64 };
    cluster.members[SLEEPER].replication.covers(last)
}

/// Runs until the sleeper serves none of the deleted keys. The milliseconds in which it claimed
/// the deletes, said that it was ready, and served a deleted key.
fn heal(cluster: &mut Cluster, span: Duration, mut each: impl FnMut(&mut Cluster, u64)) -> u64 {
    let mut wrong = 0;
    for ms in 0..span.as_millis() as u64 {
        each(cluster, ms);
        cluster.run(MILLIS);
        let n_served = n_served(cluster, SLEEPER);
        if n_served > 0 && is_ready(cluster, SLEEPER) && claims_deletes(cluster) {
            wrong += 1;
        }
        if n_served == 0 && claims_deletes(cluster) && is_ready(cluster, SLEEPER) {
            return wrong;
        }
    }
    panic!("still {} deleted keys after {span:?}", n_served(cluster, SLEEPER));
}

#[test]
fn it_is_reset_by_one_that_forgot_the_deletes_itself() {
    let mut cluster = slept();
    wake(&mut cluster, 0);
    assert_eq!(heal(&mut cluster, Duration::from_secs(10), |_, _| {}), 0);
    assert_eq!(cluster.sum(|r| r.counters.resets_total), 1);
}

#[test]
fn it_is_reset_by_one_that_joined_after_they_were_forgotten() {
    let mut cluster = slept();
    let server = replace_those_who_swept(&mut cluster);
    wake(&mut cluster, server);
    assert_eq!(heal(&mut cluster, Duration::from_secs(10), |_, _| {}), 0);
    assert_eq!(cluster.sum(|r| r.counters.resets_total), 1);
    assert_eq!(cluster.value(SLEEPER, "alive").as_deref(), Some(&b"v"[..]));
}
