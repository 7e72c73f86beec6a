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

#[test]
fn a_clock_that_was_ahead_and_is_right_again_is_told_of_each_minute() {
    let at = |seconds: u64, wall: u64| Now {
        instant: Instant::from_millis(seconds * 1_000),
        wall: WallMillis(wall + seconds * 1_000),
    };
    let (right, ahead) = (1_000_000, 1_000_000 + AGE.as_millis() as u64);
    let (mut node, store) = with_peer(OriginId(2), Duration::from_secs(3600), at(0, ahead));
    let told = |node: &mut Lent, seconds, wall| {
        node.timeout(at(seconds, wall));
        let is_it =
            |out: &Out| matches!(out, Out::Output(Output::Note(Note::OwnClockAhead { .. })));
        std::iter::from_fn(|| node.poll()).filter(is_it).count()
    };
    store.put(at(1, ahead), b"k", b"v", None).expect("room");
    let before: usize = (1..60).map(|seconds| told(&mut node, seconds, ahead)).sum();
    assert_eq!(before, 0, "it agrees with its clock");
    let after: usize = (60..180).map(|seconds| told(&mut node, seconds, right)).sum();
    assert_eq!(after, 2);
    let lead =
        node.view().samples(&node.links).into_iter().find(|s| s.name == "clock_lead_seconds");
    let lead = lead.expect("a metric").value;
    assert!((lead - AGE.as_secs() as f64).abs() < 300.0, "{lead}");
}
