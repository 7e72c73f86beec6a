//! Members with different limits: the smallest bounds all.

use super::cluster::Cluster;
use super::*;
use crate::kv::WriteError;
use crate::limits::LINK_WINDOW;

const GRACE: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

/// A cluster of members with these limits; 0 for none.
fn limited(limits: &[u64]) -> Cluster {
    let mut cluster = Cluster::new(0, 0.0);
    for limit in limits {
        cluster.limit = *limit;
        cluster.add(GRACE);
    }
    cluster.meet();
    cluster.run(SECOND * 3);
    cluster
}

fn put(cluster: &Cluster, index: usize, key: &str, len: usize) -> Result<(), WriteError> {
    let store = &cluster.members[index].store;
    store.put(cluster.now, key.as_bytes(), &vec![7; len], None).map(|_| ())
}

fn bytes(cluster: &Cluster, index: usize) -> u64 {
    cluster.members[index].store.stats().bytes
}

#[test]
fn a_write_that_would_overfill_any_member_is_refused_everywhere() {
    let mut cluster = limited(&[0, 8_000, 100_000]);
    let full = Err(WriteError::StoreFull { len_max: 8_000 });
    for index in 0..3 {
        assert_eq!(put(&cluster, index, "large", 9_000), full, "member {index}");
    }
    let bound = cluster.members[2].store.bound().expect("a smaller one");
    assert_eq!((bound.len_max, &*bound.by), (8_000, "n1"));
    assert_eq!(cluster.members[1].store.bound(), None, "its own limit is the smallest");
    cluster.put(0, "small", &[7; 7_000]);
    // When that member has gone, its limit counts no more.
    cluster.members[1].up = false;
    cluster.meet();
    cluster.run(SECOND * 3);
    cluster.put(0, "large", &[7; 9_000]);
    assert_eq!(put(&cluster, 0, "larger", 99_000), Err(WriteError::StoreFull { len_max: 100_000 }));
    // What somebody has taken is taken by all.
    cluster.members[1].up = true;
    cluster.meet();
    cluster.run(SECOND * 5);
    assert!(bytes(&cluster, 1) > 8_000 && bytes(&cluster, 0) == bytes(&cluster, 1));
    assert_eq!(put(&cluster, 0, "more", 10), full);
}

#[test]
fn a_joiner_with_too_small_a_limit_is_not_ready_and_bounds_nobody() {
    let mut cluster = limited(&[0]);
    for i in 0..1_000 {
        cluster.put(0, &format!("key-{i}"), &[7; 20_000]);
    }
    cluster.limit = 40_000;
    cluster.add(GRACE);
    cluster.meet();
    cluster.run(SECOND * 10);
    let view = cluster.members[1].replication.view();
    assert!(view.is_short_of_room() && view.health() == Health::Starting);
    let why = view.not_ready_why().expect("a reason");
    assert!(why.contains("--max-store-bytes 40000"), "{why}");
    // What was under way has come, and no more.
    let held = bytes(&cluster, 1);
    assert!(held < 2 * LINK_WINDOW as u64, "{held}");
    assert_eq!(cluster.members[0].store.bound(), None);
    // What is written meanwhile brings nothing of the rest with it.
    for i in 0..5 {
        cluster.put(0, "more", &[7; 2_000]);
        cluster.delete(0, &format!("none-{i}"));
        cluster.run(SECOND * 2);
    }
    assert!(bytes(&cluster, 1) < held + 1_000, "{} of {held}", bytes(&cluster, 1));
    // It goes on by itself when there is room.
    for i in 0..999 {
        cluster.delete(0, &format!("key-{i}"));
    }
    let is_ready = |cluster: &Cluster| {
        cluster.members[1].replication.view().health() == Health::Ok
            && cluster.members[1].store.root() == cluster.members[0].store.root()
    };
    assert!(cluster.run_until(SECOND * 60, is_ready), "{} bytes", bytes(&cluster, 1));
    cluster.run(SECOND * 3);
    assert_eq!(put(&cluster, 0, "large", 50_000), Err(WriteError::StoreFull { len_max: 40_000 }));
}

#[test]
fn who_becomes_ready_knows_the_limits_and_is_known_by_its_own() {
    let mut cluster = limited(&[100_000, 90_000]);
    for (limit, others) in [(0, 90_000), (50_000, 50_000), (60_000, 50_000)] {
        cluster.limit = limit;
        cluster.add(GRACE);
        let joiner = cluster.members.len() - 1;
        cluster.meet();
        let is_ready =
            |cluster: &Cluster| cluster.members[joiner].replication.view().health() == Health::Ok;
        assert!(cluster.run_until(SECOND * 5, is_ready));
        cluster.run(Duration::from_millis(20));
        for index in 0..=joiner {
            let store = &cluster.members[index].store;
            let bound = store.bound().map_or(store.limit(), |bound| bound.len_max);
            assert_eq!(bound, others, "member {index} beside the joiner of {limit}");
        }
    }
}
