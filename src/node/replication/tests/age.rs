//! A cluster that is ten years old, and has taken a million millions of writes.

use super::cluster::{Cluster, MILLIS};
use super::*;
use crate::kv::Dot;
use crate::time::WallMillis;

const AGE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const WRITES: u64 = 1_000_000_000_000;

#[test]
fn an_old_cluster_with_large_numbers_works_as_a_new_one() {
    let mut cluster = Cluster::aged(3, 0.1, AGE, WRITES);
    assert!(cluster.run_until(Duration::from_secs(5), Cluster::equal), "all hold all");
    for index in 0..300 {
        cluster.put(index % 3, &format!("k{index}"), b"value");
        cluster.run(MILLIS);
    }
    cluster.put(1, "large", &[b'v'; 64 << 10]);
    cluster.must_agree_within(Duration::from_millis(500));
    assert_eq!(cluster.members[0].store.last_seq(), WRITES + 100);
    for (index, member) in cluster.members.iter().enumerate() {
        assert_eq!(member.replication.view().health(), Health::Ok, "{index}");
        let heads =
            (0..3).map(|origin| member.replication.view().contiguous(OriginId(1000 + origin)));
        assert_eq!(heads.collect::<Vec<_>>(), [WRITES + 100, WRITES + 101, WRITES + 100]);
    }
    // A lost write is asked for by its number.
    let dot = Dot { origin: OriginId(1000), seq: WRITES + 100 };
    assert_eq!(cluster.members[2].store.log_key(dot).as_deref(), Some(&b"k297"[..]));
    // One that comes late copies what there is, not what there was.
    cluster.add(Duration::from_secs(3600));
    cluster.meet();
    let is_ready =
        |c: &Cluster| c.members[3].replication.view().health() == Health::Ok && c.equal();
    assert!(cluster.run_until(Duration::from_secs(10), is_ready), "the joiner is ready");
    assert_eq!(cluster.value(3, "k299").as_deref(), Some(&b"value"[..]));
}

#[test]
fn numbers_at_their_end_are_no_overflow() {
    let peer = OriginId(7);
    let now = Now { instant: Instant::ZERO + AGE, wall: WallMillis(1_000_000) };
    let (mut node, _) = with_peer(peer, AGE, now);
    for (start, end) in [(1, u64::MAX), (u64::MAX, u64::MAX), (2, u64::MAX)] {
        node.shared.known.observe(peer, start, end);
        assert_eq!(node.shared.known.contiguous(peer), u64::MAX, "{start} to {end}");
    }
}
