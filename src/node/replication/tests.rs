//! What replication promises, shown by many of them on a network of our own: who the peers are is
//! given.

mod age;
mod aged;
mod below;
mod capacity;
mod cluster;
mod compared;
mod damage;
mod far;
mod floor;
mod folded;
mod formats;
mod half_broken;
mod handover;
mod lent;
mod meet;
mod over;
mod pressure;
mod ready;
mod returned;
mod set_back;
mod stranded;

use self::cluster::{Cluster, MILLIS, addr};
pub(super) use self::lent::Lent;
use super::context::{Config, Out};
use super::facts::known::Known;
use super::facts::paths::Via;
use super::facts::peers::{DIRECT_PEERS_MAX, PeerInfo};
use super::facts::stage::Stage;
use super::machine::Replication;
use super::message::{self, KvMessage, fit};
use super::next::Next;
use super::repair::absence::Absence;
use super::spread::holders::Waiting;
use super::{receive, spread::resend};
use crate::kv::{Dot, OriginId, Record, Store, StoreConfig};
use crate::limits::{COMPARED_RECORDS_LEN_MAX, GAPS_MAX, KV_HEAD_LEN_MAX, ORIGINS_MAX};
use crate::node::command::{Concern, Health, Reply};
use crate::node::config::FoldedBound;
use crate::node::formats::Formats;
use crate::node::io::{ConnId, Note, Output, Ticket};
use crate::rng::Rng;
use crate::time::{Instant, Now};
use crate::wire::message::NodeName;
use crate::wire::stream::Payload;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A node that has met one peer, and its store.
/// A member says that it lives while `node` does.
pub(super) fn introduce(node: &mut Lent, peer: OriginId, now: Now) {
    let digest = message::Digest::of_heads(peer, Vec::new()).for_run(node.shared.me);
    node.digested(now, &digest, Via::Datagram, 30);
}

pub(super) fn with_peer(peer: OriginId, grace: Duration, now: Now) -> (Lent, Arc<Store>) {
    let store = Arc::new(Store::new(StoreConfig { origin: OriginId(1), store_len_max: 0 }));
    let config = Config {
        tombstone_grace: grace,
        expired_grace: grace,
        folded: FoldedBound::default(),
        expects_peers: false,
        formats: Formats::SPOKEN,
        rng_seed: 1,
    };
    let mut node = Lent::new(config, Arc::clone(&store), now);
    let name = NodeName::from("peer");
    let formats = Formats::SPOKEN;
    node.found(now);
    let (origin, addr) = (peer, addr(2));
    let (reachable, ttl, names, udp_blocked) = (true, true, true, false);
    let info = PeerInfo { origin, name, addr, reachable, formats, ttl, names, udp_blocked };
    node.members(now, vec![info]);
    introduce(&mut node, peer, now);
    (node, store)
}

#[test]
fn a_write_reaches_all_in_one_hop() {
    let mut cluster = Cluster::new(5, 0.0);
    cluster.put(0, "k", b"v");
    cluster.must_agree_within(MILLIS * 3);
    assert_eq!(cluster.value(4, "k").as_deref(), Some(&b"v"[..]));
    assert!(cluster.members.iter().all(|m| m.replication.view().health() == Health::Ok));
}

#[test]
fn loss_is_repaired_in_milliseconds() {
    for (loss, limit) in [(0.1, 100), (0.3, 300)] {
        let mut cluster = Cluster::new(3, loss);
        let mut took = Vec::new();
        for index in 0..400 {
            cluster.put(index % 3, &format!("k{index}"), b"value");
            let start = cluster.now.instant;
            assert!(cluster.run_until(Duration::from_secs(5), Cluster::equal));
            took.push(cluster.now.instant.since(start));
            cluster.run(MILLIS * 3);
        }
        took.sort();
        assert!(took[395] <= MILLIS * limit, "p99 {:?} at loss {loss}", took[395]);
    }
}

#[test]
fn a_burst_is_coalesced_and_complete() {
    let mut cluster = Cluster::new(3, 0.05);
    cluster.datagrams = 0;
    for index in 0..20_000 {
        cluster.put(index % 2, &format!("k{}", index % 7000), &[b'x'; 32]);
        if index % 40 == 0 {
            cluster.run(MILLIS);
        }
    }
    cluster.must_agree_within(Duration::from_millis(500));
    assert!(cluster.datagrams < 20_000, "{} datagrams for 40,000 deliveries", cluster.datagrams);
}

#[test]
fn values_of_any_size_arrive() {
    let mut cluster = Cluster::new(3, 0.1);
    for (index, len) in [0, 1, 1200, 1300, 1400, 4096, 65_536, 1 << 20].into_iter().enumerate() {
        cluster.put(index % 3, &format!("k{index}"), &vec![index as u8; len]);
        cluster.must_agree_within(Duration::from_millis(200));
    }
}

#[test]
fn halves_merge_after_a_partition() {
    let mut cluster = Cluster::new(4, 0.0);
    cluster.cut = vec![(0, 2), (0, 3), (1, 2), (1, 3)];
    cluster.meet();
    for index in 0..5000 {
        cluster.put(0, &format!("a{index}"), b"left");
        cluster.put(3, &format!("b{index}"), b"right");
        cluster.put(1, "both", format!("left {index}").as_bytes());
        cluster.put(2, "both", format!("right {index}").as_bytes());
        if index % 100 == 0 {
            cluster.run(MILLIS);
        }
    }
    cluster.run(Duration::from_secs(60));
    assert!(!cluster.equal());
    cluster.cut.clear();
    cluster.meet();
    cluster.must_agree_within(Duration::from_secs(3));
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.sum(|r| r.compare.leaves_repaired_total), 0);
}

#[test]
fn a_joiner_copies_everything_and_is_ready_only_then() {
    let mut cluster = Cluster::new(2, 0.0);
    for index in 0..30_000 {
        cluster.put(0, &format!("k{index}"), b"value");
    }
    cluster.delete(0, "k7");
    cluster.must_agree_within(Duration::from_secs(2));
    cluster.add(Duration::from_secs(3600));
    cluster.meet();
    assert_eq!(cluster.members[2].replication.view().health(), Health::Starting);
    let ready = |c: &Cluster| c.members[2].replication.view().health() == Health::Ok;
    assert!(cluster.run_until(Duration::from_secs(3), ready));
    assert!(cluster.equal());
    assert_eq!(cluster.value(2, "k7"), None);
    assert!(cluster.members[2].store.entry(b"k7").is_some_and(|record| record.is_tombstone()));
}

#[test]
fn tombstones_are_forgotten_when_all_hold_them_and_copies_do_not_return() {
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..3 {
        cluster.add(Duration::from_secs(30));
    }
    cluster.meet();
    for index in 0..100 {
        cluster.put(0, &format!("k{index}"), b"v");
    }
    cluster.must_agree_within(Duration::from_secs(10));
    // The third sleeps while everything is deleted, and is forgotten by the others.
    cluster.cut = vec![(0, 2), (1, 2)];
    cluster.meet();
    for index in 0..100 {
        cluster.delete(1, &format!("k{index}"));
    }
    cluster.run(Duration::from_secs(90));
    let tombstones = |c: &Cluster, at: usize| c.members[at].store.stats().n_tombstones;
    assert_eq!(tombstones(&cluster, 0), 100, "a known member has not acknowledged");
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    assert!(
        cluster.run_until(Duration::from_secs(60), |c| tombstones(c, 0) + tombstones(c, 1) == 0)
    );
    // It wakes with all its copies.
    cluster.put(2, "own", b"written in the dark");
    cluster.cut.clear();
    cluster.meet();
    let done = |c: &Cluster| c.equal() && c.members[2].replication.view().health() == Health::Ok;
    assert!(cluster.run_until(Duration::from_secs(10), done));
    for at in 0..3 {
        assert_eq!(cluster.value(at, "k5"), None, "node {at}");
        assert!(cluster.value(at, "own").is_some(), "node {at}");
    }
    assert_eq!(cluster.sum(|r| r.shared.counters.resets_total), 1);
}

#[test]
fn a_delete_of_a_run_that_is_over_waits_for_a_joiner_to_hold_it() {
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..3 {
        cluster.add(Duration::from_secs(30));
    }
    cluster.meet();
    cluster.delete(2, "k");
    cluster.run(Duration::from_secs(3));
    // The writer goes for good, and its origin is folded.
    cluster.members[2].up = false;
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    cluster.run(Duration::from_secs(5));
    assert!(cluster.members[..2].iter().all(|m| m.replication.shared.known.n_folded() == 1));
    // Another has come, answers pings, and has said nothing of what it holds.
    cluster.add(Duration::from_secs(30));
    cluster.cut = vec![(0, 3), (1, 3)];
    cluster.tell(0, &[1, 3]);
    cluster.tell(1, &[0, 3]);
    cluster.run(Duration::from_secs(90));
    let tombstones = |c: &Cluster, at: usize| c.members[at].store.stats().n_tombstones;
    assert_eq!((tombstones(&cluster, 0), tombstones(&cluster, 1)), (1, 1));
    cluster.cut.clear();
    cluster.tell(3, &[0, 1]);
    let none = |c: &Cluster| tombstones(c, 0) + tombstones(c, 1) + tombstones(c, 3) == 0;
    assert!(cluster.run_until(Duration::from_secs(60), none));
}

#[test]
fn whatever_is_lost_by_a_fault_is_found_and_mended() {
    let mut cluster = Cluster::new(3, 0.0);
    for index in 0..2000 {
        cluster.put(0, &format!("k{index}"), b"v");
    }
    cluster.must_agree_within(Duration::from_secs(1));
    cluster.run(Duration::from_secs(3));
    let record = cluster.members[1].store.entry(b"k77").expect("held");
    assert!(cluster.members[1].store.remove_exact(b"k77", record.stamp()));
    assert!(!cluster.equal());
    let before = cluster.link_len + cluster.datagram_len;
    cluster.must_agree_within(Duration::from_secs(15));
    assert!(cluster.value(1, "k77").is_some());
    assert!(cluster.sum(|r| r.compare.leaves_repaired_total) >= 1);
    assert!(cluster.link_len + cluster.datagram_len - before < 16 << 10);
    // Though both sides see it, one of them asks.
    assert_eq!(cluster.sum(|r| r.compare.comparisons_total), 1);
}

#[test]
fn a_comparison_takes_as_many_rounds_as_its_frames_are_short() {
    let mut cluster = Cluster::new(2, 0.0);
    let value = vec![7; 1 << 20];
    for index in 0..12 {
        cluster.put(0, &format!("k{index}"), &value);
        cluster.must_agree_within(Duration::from_secs(1));
    }
    cluster.run(Duration::from_secs(3));
    for index in 0..12 {
        let key = format!("k{index}");
        let store = &cluster.members[1].store;
        let record = store.entry(key.as_bytes()).expect("held");
        assert!(store.remove_exact(key.as_bytes(), record.stamp()));
    }
    cluster.frame_len = 0;
    cluster.must_agree_within(Duration::from_secs(15));
    assert!(cluster.frame_len < COMPARED_RECORDS_LEN_MAX + value.len() + KV_HEAD_LEN_MAX);
    assert!(cluster.sum(|r| r.compare.leaves_repaired_total) >= 12);
}

#[test]
fn claims_of_a_stranger_fill_no_memory() {
    let mut cluster = Cluster::new(2, 0.0);
    let from = cluster.members[1].store.origin().0;
    for round in 0..3 {
        let heads = (0..60_000).map(|n| ((round + 1) << 32 | n, 7)).collect();
        let digest = message::Digest::of_heads(OriginId(from), heads);
        let payload = KvMessage::Digest(digest).encode();
        cluster.members[0].replication.datagram(cluster.now, addr(1), &payload);
    }
    let replication = &cluster.members[0].replication;
    assert_eq!(replication.gaps.len(), GAPS_MAX);
    assert_eq!(replication.gaps.refused_total, 3 * 60_000 - GAPS_MAX as u64);
    let peer = replication.shared.peers.get(OriginId(from)).expect("met");
    assert_eq!(peer.n_heads(), ORIGINS_MAX + 1);
}

#[test]
fn a_thousand_restarts_leave_digests_flat() {
    let mut cluster = Cluster::new(2, 0.0);
    for restart in 0..40 {
        cluster.add(Duration::from_secs(3600));
        cluster.meet();
        let index = cluster.members.len() - 1;
        cluster.put(index, &format!("k{restart}"), b"v");
        cluster.run(Duration::from_secs(1));
        cluster.members[index].up = false;
        cluster.tell(0, &[1]);
        cluster.tell(1, &[0]);
    }
    cluster.run(Duration::from_secs(10));
    assert!(cluster.equal());
    let now = cluster.now;
    for member in &mut cluster.members[..2] {
        assert!(member.replication.shared.known.n_origins() <= 2);
        assert_eq!(member.replication.shared.known.n_folded(), 40);
        assert!(member.replication.user_state(now, Formats::SPOKEN).len() < 100);
    }
    // A joiner of today gets all of it, and writes of the folded stay covered.
    cluster.add(Duration::from_secs(3600));
    cluster.meet();
    cluster.must_agree_within(Duration::from_secs(2));
}

#[test]
fn many_members_are_all_reached() {
    for (n, loss) in [(30, 0.0), (30, 0.25), (100, 0.05)] {
        let mut cluster = Cluster::new(n, loss);
        for index in 0..20 {
            cluster.put(index % n, &format!("k{index}"), b"value");
            cluster.must_agree_within(Duration::from_secs(4));
        }
    }
}

#[test]
fn a_large_value_goes_from_member_to_member() {
    for loss in [0.0, 0.25] {
        let mut cluster = Cluster::new(30, loss);
        for index in 0..5 {
            let before = cluster.link_len;
            let sent_before = cluster.members[index].replication.links.sent_len_total;
            cluster.put(index, "k", &[index as u8; 64 << 10]);
            cluster.must_agree_within(Duration::from_secs(2));
            let (all, once) = (cluster.link_len - before, 29 * (64 << 10));
            assert!((once..once * 11 / 10).contains(&all), "{all} bytes on links");
            // Its writer serves few of them.
            let sent = cluster.members[index].replication.links.sent_len_total - sent_before;
            assert!(sent < once / 2, "{sent} bytes by the writer");
            cluster.run(Duration::from_secs(1));
        }
    }
}

#[test]
fn all_of_many_members_answer_for_a_write() {
    let mut cluster = Cluster::new(30, 0.25);
    for len in [1, 64 << 10] {
        cluster.put_and_wait(&vec![7; len], Concern::All, Duration::from_secs(2));
        let done = |c: &Cluster| !c.members[0].replication.holders.is_waiting();
        assert!(cluster.run_until(Duration::from_secs(1), done), "{len} bytes");
        assert!(cluster.equal());
        // Nobody is asked any more.
        cluster.run(Duration::from_secs(1));
        assert!(cluster.members[0].replication.holders.deadline() == Instant::NEVER);
    }
}

#[test]
fn write_concern_answers_when_they_hold_it() {
    let mut cluster = Cluster::new(3, 0.0);
    cluster.put_and_wait(b"v", Concern::All, Duration::from_secs(2));
    assert!(cluster.run_until(MILLIS * 10, |c| !c.members[0].replication.holders.is_waiting()));
    // With nobody to hold it, the wait ends at its deadline and the write stands.
    cluster.cut = vec![(0, 1), (0, 2)];
    cluster.put_and_wait(b"w", Concern::Majority, MILLIS * 50);
    assert!(!cluster.run_until(MILLIS * 40, |c| !c.members[0].replication.holders.is_waiting()));
    assert!(cluster.run_until(MILLIS * 11, |c| !c.members[0].replication.holders.is_waiting()));
    // So it does, and takes no place any more, when its client has gone; another's goes on.
    cluster.put_and_wait(b"x", Concern::All, Duration::from_secs(60));
    let gone = cluster.members[0].store.entry(b"k").expect("it is written").dot().seq;
    cluster.put_and_wait(b"y", Concern::All, MILLIS * 50);
    let now = cluster.now;
    cluster.members[0].replication.end_wait(now, gone);
    assert!(cluster.members[0].replication.holders.is_waiting());
    assert!(cluster.run_until(MILLIS * 51, |c| !c.members[0].replication.holders.is_waiting()));
}

#[test]
fn one_that_was_never_ready_does_not_take_itself_for_all_members() {
    let mut cluster = Cluster::new(0, 0.0);
    cluster.add(Duration::from_secs(3600));
    for concern in [Concern::All, Concern::Majority] {
        cluster.put_and_wait(b"v", concern, MILLIS * 50);
        assert!(cluster.members[0].replication.holders.is_waiting(), "{concern:?}");
        assert!(cluster.run_until(MILLIS * 51, |c| !c.members[0].replication.holders.is_waiting()));
    }
    let now = cluster.now;
    cluster.members[0].replication.found(now);
    cluster.put_and_wait(b"v", Concern::All, MILLIS * 50);
    assert!(!cluster.members[0].replication.holders.is_waiting());
}

#[test]
fn what_finds_the_window_full_follows_from_the_log() {
    let mut cluster = Cluster::new(3, 0.0);
    cluster.link_len = 0;
    let asked = cluster.sum(|r| r.gaps.wants_total + r.pulls.started_total);
    let value = vec![b'v'; 64 << 10];
    for index in 0..400 {
        cluster.put(0, &format!("k{index}"), &value);
    }
    cluster.put(0, "small", b"v");
    cluster.must_agree_within(MILLIS * 40);
    assert!(cluster.sum(|r| r.shared.counters.window_full_total) > 0, "25 MiB at once");
    assert_eq!(cluster.sum(|r| r.gaps.wants_total + r.pulls.started_total), asked);
    // Each of two peers got each value once.
    let once = 2 * 400 * (64 << 10);
    assert!(cluster.link_len < once + once / 100, "{} bytes", cluster.link_len);
    assert!(cluster.members[0].replication.shared.peers.iter().all(|peer| peer.backlog.is_none()));
}
