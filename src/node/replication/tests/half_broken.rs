//! Networks on which one of UDP and TCP gets through, everywhere or one way.

use super::cluster::{Cluster, MILLIS, Member};
use super::*;
use crate::limits::{LINK_CHUNK_LEN, LINK_WINDOW};
use crate::node::replication::message::Want;
use crate::wire::stream::Frame;

/// How long each of so many writes by `writer` takes to be on all, the slowest last.
fn visible(cluster: &mut Cluster, writer: usize, n: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for index in 0..n {
        cluster.put(writer, &format!("{writer}-{index}"), format!("{:?}", cluster.now).as_bytes());
        let start = cluster.now.instant;
        assert!(cluster.run_until(Duration::from_secs(5), Cluster::equal), "write {index}");
        took.push(cluster.now.instant.since(start));
        cluster.run(MILLIS * 10);
    }
    took.sort();
    took
}

/// Senders and receivers.
type Pairs = Vec<(usize, usize)>;

/// The first of `n` with each other one: from it, to it.
fn with_first(n: usize) -> (Pairs, Pairs) {
    ((1..n).map(|other| (0, other)).collect(), (1..n).map(|other| (other, 0)).collect())
}

#[test]
fn with_udp_blocked_at_one_node_writes_go_over_links() {
    for n in [3, 12] {
        let (from, to) = with_first(n);
        for udp_cut in [from.clone(), to.clone(), [from, to].concat()] {
            let mut cluster = Cluster::new(n, 0.0);
            cluster.udp_cut = udp_cut;
            cluster.run(Duration::from_secs(8));
            for writer in [0, 1] {
                // It is found out by the first writes, and by digests.
                visible(&mut cluster, writer, 12);
                cluster.run(Duration::from_secs(6));
                let took = visible(&mut cluster, writer, 100);
                let limit = if n > DIRECT_PEERS_MAX { 150 } else { 20 };
                let slowest = &took[95..];
                assert!(took[98] < MILLIS * limit, "{n} members, by {writer}: {slowest:?}");
            }
        }
    }
}

#[test]
fn what_is_found_blocked_is_found_open_again() {
    let mut cluster = Cluster::new(3, 0.0);
    let (from, to) = with_first(3);
    cluster.udp_cut = [from, to].concat();
    visible(&mut cluster, 0, 20);
    visible(&mut cluster, 1, 20);
    let blocked = |c: &Cluster| {
        let all = c.members.iter().flat_map(|member| member.replication.shared.peers.iter());
        all.filter(|peer| peer.paths.udp_blocked).count()
    };
    assert!(blocked(&cluster) >= 2, "{}", blocked(&cluster));
    cluster.udp_cut.clear();
    assert!(cluster.run_until(Duration::from_secs(3), |c| blocked(c) == 0));
    // Those that were asked for links stop using them after a while.
    cluster.run(Duration::from_secs(11));
    let before = cluster.link_len;
    visible(&mut cluster, 0, 20);
    visible(&mut cluster, 1, 20);
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.link_len, before);
}

#[test]
fn loss_alone_is_not_taken_for_a_block() {
    let mut cluster = Cluster::new(3, 0.2);
    visible(&mut cluster, 0, 300);
    let blocked =
        |member: &Member| member.replication.shared.peers.iter().any(|peer| peer.paths.udp_blocked);
    assert!(!cluster.members.iter().any(blocked));
}

#[test]
fn with_tcp_blocked_between_two_the_third_serves_large_values() {
    let mut cluster = Cluster::new(3, 0.0);
    cluster.tcp_cut = vec![(0, 1)];
    let value = vec![b'v'; 64 << 10];
    for index in 0..6 {
        cluster.put(0, &format!("large {index}"), &value);
        let start = cluster.now.instant;
        assert!(cluster.run_until(Duration::from_secs(5), Cluster::equal), "value {index}");
        let took = cluster.now.instant.since(start);
        assert!(took < Duration::from_millis(if index < 3 { 2500 } else { 500 }), "{took:?}");
        cluster.run(Duration::from_secs(1));
    }
    let (replication, peer) = (&cluster.members[0].replication, cluster.members[1].store.origin());
    assert_eq!(replication.view().blocked(peer), (false, true));
    // The other way, too: what came by way of others has not taught anybody to wait for them.
    for index in 0..6 {
        cluster.put(1, &format!("back {index}"), &value);
        let start = cluster.now.instant;
        assert!(cluster.run_until(Duration::from_secs(5), Cluster::equal), "value {index}");
        let took = cluster.now.instant.since(start);
        assert!(took < Duration::from_millis(if index < 3 { 2500 } else { 200 }), "{took:?}");
        cluster.run(Duration::from_secs(1));
    }
    // Small values never needed it.
    cluster.put(0, "small", b"v");
    cluster.must_agree_within(MILLIS * 4);
    // Open again, it is used again.
    cluster.tcp_cut.clear();
    cluster.run(Duration::from_secs(7));
    assert_eq!(cluster.members[0].replication.view().blocked(peer), (false, false));
    cluster.put(0, "large", &value);
    cluster.must_agree_within(MILLIS * 10);
}

#[test]
fn a_node_that_is_gone_is_not_taken_for_one_with_tcp_blocked() {
    let mut cluster = Cluster::new(2, 0.0);
    cluster.cut = vec![(0, 1)];
    for index in 0..20 {
        cluster.put(0, &format!("k{index}"), &[b'v'; 64 << 10]);
        cluster.run(Duration::from_millis(200));
    }
    let peer = cluster.members[1].store.origin();
    assert_eq!(cluster.members[0].replication.view().blocked(peer), (false, false));
    cluster.cut.clear();
    cluster.meet();
    cluster.must_agree_within(Duration::from_secs(3));
}

#[test]
fn what_is_asked_for_over_a_link_comes_in_frames_that_are_read() {
    let mut cluster = Cluster::new(3, 0.0);
    cluster.cut = vec![(0, 1), (1, 0), (1, 2), (2, 1)];
    let value = vec![b'v'; 1 << 20];
    for index in 0..40 {
        cluster.put(2, &format!("k{index}"), &value);
    }
    let has_all = |c: &Cluster| c.members[0].store.entry(b"k39").is_some();
    assert!(cluster.run_until(Duration::from_secs(5), has_all));
    let (of, asker) = (cluster.members[2].store.origin(), cluster.members[1].store.origin());
    let replication = &mut cluster.members[0].replication;
    // Connections that the other has dialled, and asks on.
    let mut frames = |conn: ConnId, last: u64| -> Vec<usize> {
        replication.links.seen(conn, Some(asker));
        replication.links.out.clear();
        let want = Want { from: asker.0, of: of.0, ranges: vec![(1, last)] };
        replication.with(cluster.now, |cx| resend::wanted(cx, &want, Via::Link(conn), false));
        let sent = replication.links.out.drain(..).filter_map(|out| match out {
            Output::Send { conn: to, frame: Frame::Kv(payload) } if to == conn => {
                Some(payload.len())
            }
            _ => None,
        });
        sent.collect()
    };
    let all = frames(ConnId(1), 40);
    // As many as the window takes, each with one record as long as it is.
    assert_eq!(all.len(), LINK_WINDOW / value.len(), "{all:?}");
    assert!(all.iter().all(|len| *len < LINK_CHUNK_LEN + value.len()), "{all:?}");
    // While an answer is under way, it is not sent again.
    assert_eq!(frames(ConnId(3), 2).len(), 2);
    assert_eq!(frames(ConnId(3), 2).len(), 0);
}

#[test]
fn after_a_cut_the_first_packet_starts_the_repair() {
    for step in 0..20 {
        let mut cluster = Cluster::new(2, 0.0);
        cluster.run(Duration::from_secs(5));
        cluster.cut = vec![(0, 1), (1, 0)];
        for i in 0..5 {
            cluster.put(0, &format!("left-{i}"), b"left");
            cluster.put(1, &format!("right-{i}"), b"right");
        }
        cluster.run(Duration::from_secs(2) + MILLIS * 50 * step);
        cluster.cut.clear();
        let before = cluster.datagrams;
        let is_first = |cluster: &Cluster| cluster.datagrams > before;
        assert!(cluster.run_until(Duration::from_secs(2), is_first), "nobody tries");
        let first = cluster.now.instant;
        assert!(cluster.run_until(Duration::from_secs(2), Cluster::equal), "no repair");
        let took = cluster.now.instant.since(first);
        assert!(took < MILLIS * 10, "step {step}: {took:?}");
    }
}
