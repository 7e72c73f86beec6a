//! Deletes without pause in a store with a limit.

use super::cluster::Cluster;
use super::*;
use crate::limits::{TOMBSTONE_GRACE_FLOOR, TOMBSTONES_SHARE};

const LIMIT: u64 = 256 << 10;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn deletes_without_pause_take_their_part_of_the_store_and_no_more() {
    let mut cluster = Cluster::new(0, 0.0);
    cluster.limit = LIMIT;
    for _ in 0..2 {
        cluster.add(Duration::from_secs(24 * 60 * 60));
    }
    cluster.meet();
    cluster.run(SECOND * 3);
    let mut least_grace = Duration::MAX;
    for at in 0..600 {
        for index in 0..10 {
            cluster.delete(at % 2, &format!("key-{at}-{index}"));
        }
        cluster.run(SECOND);
        for member in &cluster.members {
            let stats = member.store.stats();
            assert!(stats.tombstone_bytes <= LIMIT / TOMBSTONES_SHARE, "{stats:?} after {at} s");
            let grace = Duration::from_millis(member.replication.view().grace_ms());
            least_grace = least_grace.min(grace);
        }
    }
    assert!(cluster.sum(|r| r.view().forgotten_total()) > 2 * 3_000);
    assert!((TOMBSTONE_GRACE_FLOOR..SECOND * 600).contains(&least_grace), "{least_grace:?}");
    // With nothing more to forget they are remembered for as long as was asked for, again.
    cluster.run(SECOND * 300);
    let stats = cluster.members[0].store.stats();
    assert!(stats.tombstone_bytes > LIMIT / TOMBSTONES_SHARE / 4, "{stats:?}");
}
