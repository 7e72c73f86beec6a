//! Messages of an earlier life of the cluster, sent again.

use super::cluster::{Cluster, Event};
use super::*;
use crate::node::replication::message::{Digest, Folded, Push, Supply};

const GRACE: Duration = Duration::from_secs(3600);

/// What every member of a cluster got by datagram while keys were written and deleted in it.
fn recorded() -> Vec<(usize, Bytes)> {
    let mut cluster = Cluster::new(0, 0.0);
    (0..3).for_each(|_| cluster.add(GRACE));
    cluster.meet();
    // Each datagram is under way for longer than two looks are apart.
    cluster.delay = MILLIS * 5;
    let mut seen = Vec::new();
    for round in 0..200 {
        if round == 50 {
            cluster.put(0, "deleted", b"old");
            cluster.put(1, "kept", b"old");
        }
        if round == 100 {
            cluster.delete(2, "deleted");
        }
        cluster.run(MILLIS * 3);
        for event in cluster.events.values() {
            if let Event::Datagram { to, payload, .. } = event
                && !seen.contains(&(*to, payload.clone()))
            {
                seen.push((*to, payload.clone()));
            }
        }
    }
    assert!(cluster.value(2, "kept").is_some());
    seen
}

/// A cluster of three other runs, who take the runs of the earlier life for members: their joins
/// have been sent again, too.
fn reborn() -> Cluster {
    let mut cluster = Cluster::new(0, 0.0);
    // The first runs are the earlier life, and gone.
    (0..6).for_each(|_| cluster.add(GRACE));
    (0..3).for_each(|at| cluster.members[at].up = false);
    cluster.tell(3, &[4, 5]);
    cluster.members[3].replication.found(cluster.now);
    cluster.tell(4, &[3, 5]);
    cluster.tell(5, &[3, 4]);
    (3..6).for_each(|at| cluster.drain(at));
    cluster.run(Duration::from_secs(2));
    for (at, others) in [(3, [4, 5]), (4, [3, 5]), (5, [3, 4])] {
        cluster.tell(at, &[0, 1, 2, others[0], others[1]]);
        cluster.drain(at);
    }
    cluster
}

#[test]
fn what_was_sealed_before_all_were_restarted_brings_nothing_back() {
    let seen = recorded();
    let pushes = |payload: &Bytes| {
        let read = KvMessage::read(payload, Formats::SPOKEN).expect("our own");
        matches!(read.message, KvMessage::Push(..))
    };
    let n_pushes = seen.iter().filter(|(_, payload)| pushes(payload)).count();
    assert!(n_pushes >= 4, "{n_pushes} pushes of {} messages", seen.len());
    let mut cluster = reborn();
    cluster.put(3, "new", b"v");
    cluster.run(Duration::from_secs(1));
    let before: Vec<u64> = (3..6).map(|at| cluster.members[at].store.root()).collect();
    for (to, payload) in &seen {
        for at in 3..6 {
            let now = cluster.now;
            cluster.members[at].replication.datagram(now, addr(*to), payload);
            cluster.drain(at);
        }
        cluster.run(MILLIS * 10);
    }
    cluster.run(Duration::from_secs(5));
    for at in 3..6 {
        assert_eq!(cluster.value(at, "deleted"), None);
        assert_eq!(cluster.value(at, "kept"), None);
        assert_eq!(cluster.value(at, "new").as_deref(), Some(&b"v"[..]));
        let known = &cluster.members[at].replication.shared.known;
        assert!(known.heads(0).iter().all(|(origin, _)| *origin >= 1003), "{:?}", known.heads(0));
    }
    let after: Vec<u64> = (3..6).map(|at| cluster.members[at].store.root()).collect();
    assert_eq!(before, after);
    assert!(cluster.sum(|r| r.shared.counters.unmet_total) >= 4);
    // What is written now goes its way.
    cluster.put(5, "later", b"v");
    cluster.run(MILLIS * 20);
    assert!((3..6).all(|at| cluster.value(at, "later").is_some()));
}

/// A node that has been told of a member, and a write by a run that nobody has told it of.
fn strange() -> (Lent, Arc<Store>, Now, Record) {
    let now = Now { instant: Instant::from_millis(1), wall: crate::time::WallMillis(1_000_000) };
    let (node, store) = with_peer(OriginId(2), GRACE, now);
    let stamp =
        crate::kv::Stamp { time: crate::kv::HlcTime::from_millis(1_000_000), origin: OriginId(9) };
    (node, store, now, Record::new(stamp, 1, b"k", Some((b"v", None))))
}

#[test]
fn records_and_folds_of_a_run_that_is_not_met_do_not_count() {
    let (mut node, store, now, record) = strange();
    let records = || vec![record.clone()];
    let push = Push { of: 9, settles: vec![(1, 1)], from: 9, urgent: true };
    node.pushed(now, &Bytes::new(), &push, &records(), Via::Datagram);
    // Nor does it help to call them another's.
    let push = Push { of: 2, settles: vec![(1, 1)], from: 9, urgent: true };
    node.pushed(now, &Bytes::new(), &push, &records(), Via::Datagram);
    let supply = KvMessage::Supply(Supply { from: 9, observe: true }, records());
    node.link_message(now, ConnId(4), supply);
    node.folded(now, &Folded { from: 9, list: vec![(9, 0, 0), (8, 0, 0)] });
    assert_eq!(store.stats().n_live, 0);
    let known = &node.shared.known;
    assert!(known.contiguous(OriginId(2)) == 0 && known.n_folded() == 0 && known.n_origins() == 0);
    assert_eq!(node.shared.counters.unmet_total, 4);
}

#[test]
fn what_one_that_is_met_passes_on_counts_and_makes_its_writer_known() {
    let (mut node, store, now, record) = strange();
    let push = Push { of: 9, settles: vec![(1, 1)], from: 2, urgent: true };
    node.pushed(now, &Bytes::new(), &push, &[record], Via::Datagram);
    assert_eq!(store.stats().n_live, 1);
    // Its next write may come by way of anybody.
    let stamp =
        crate::kv::Stamp { time: crate::kv::HlcTime::from_millis(1_000_001), origin: OriginId(9) };
    let next = Record::new(stamp, 2, b"l", Some((b"v", None)));
    let push = Push { of: 9, settles: vec![(2, 2)], from: 7, urgent: true };
    node.pushed(now, &Bytes::new(), &push, &[next], Via::Datagram);
    assert_eq!(store.stats().n_live, 2);
    assert_eq!(node.shared.counters.unmet_total, 0);
}

#[test]
fn the_first_write_after_a_meeting_is_with_all_in_one_hop() {
    let mut cluster = Cluster::new(0, 0.0);
    (0..5).for_each(|_| cluster.add(GRACE));
    cluster.meet();
    cluster.put(0, "k", b"v");
    let all = |c: &Cluster| (0..5).all(|at| c.value(at, "k").is_some());
    assert!(cluster.run_until(MILLIS * 40, all));
    assert_eq!(cluster.sum(|r| r.shared.counters.resends_total), 0);
}

#[test]
fn a_digest_from_the_far_future_makes_a_member_deaf_for_a_minute_at_most() {
    let mut cluster = Cluster::new(2, 0.0);
    cluster.run(Duration::from_secs(2));
    let (me, from) = (cluster.members[0].store.origin(), cluster.members[1].store.origin());
    let heads = Digest::of_heads(from, Vec::new());
    let forged = Digest { whole: true, stage: Some(3), at: Some(u64::MAX), ..heads }.for_run(me);
    let stage = |c: &Cluster| c.members[0].replication.shared.peers.get(from).unwrap().stage();
    let now = cluster.now;
    for _ in 0..3 {
        cluster.members[0].replication.digested(now, &forged, Via::Datagram, 100);
    }
    assert_eq!(stage(&cluster), Some(Stage::Hidden));
    cluster.run(Duration::from_secs(70));
    assert_ne!(stage(&cluster), Some(Stage::Hidden));
}
