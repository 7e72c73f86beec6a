//! A member whose origin others have folded while it was cut off, and that is back.

use super::cluster::Cluster;
use super::*;

const GRACE: Duration = Duration::from_secs(30);
const BACK: usize = 2;

/// Three members, of which the third deletes ten keys and is then cut off, until the others do not
/// remember it and have folded its origin; a fourth has joined meanwhile.
fn folded() -> Cluster {
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..3 {
        cluster.add(GRACE);
    }
    cluster.meet();
    cluster.put(0, "live", b"v");
    for index in 0..10 {
        cluster.delete(BACK, &format!("k{index}"));
    }
    cluster.must_agree_within(Duration::from_secs(10));
    cluster.run(Duration::from_secs(3));
    cluster.cut = vec![(0, BACK), (1, BACK)];
    cluster.meet();
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    let origin = cluster.members[BACK].store.origin();
    let is_folded = |c: &Cluster| c.members[1].replication.shared.known.is_folded(origin);
    assert!(cluster.run_until(Duration::from_secs(10), is_folded));
    cluster.add(GRACE);
    cluster.cut.push((3, BACK));
    for (at, peers) in [(0, [1, 3]), (1, [0, 3]), (3, [0, 1])] {
        cluster.tell(at, &peers);
        cluster.drain(at);
    }
    cluster.must_agree_within(Duration::from_secs(2));
    cluster
}

#[test]
fn a_member_that_is_back_is_told_of_in_digests_again() {
    let mut cluster = folded();
    let origin = cluster.members[BACK].store.origin();
    assert!(cluster.members[3].replication.shared.known.is_folded(origin));
    cluster.cut.clear();
    cluster.meet();
    let last = cluster.members[BACK].store.last_seq();
    let acked = |c: &Cluster| {
        c.members[BACK].replication.shared.peers.iter().all(|peer| peer.acked == last)
            && c.members.iter().all(|m| !m.replication.shared.known.is_folded(origin))
    };
    assert!(cluster.run_until(Duration::from_secs(10), acked), "it never wrote again");
    // So its deletes are forgotten everywhere.
    let none = |c: &Cluster| c.members.iter().all(|m| m.store.stats().n_tombstones == 0);
    assert!(cluster.run_until(Duration::from_secs(90), none));
}

#[test]
fn a_list_that_names_a_member_acknowledges_its_writes() {
    let mut cluster = folded();
    let last = cluster.members[BACK].store.last_seq();
    let (me, joiner) = (cluster.members[BACK].store.origin(), cluster.members[3].store.origin());
    cluster.cut.clear();
    cluster.tell(BACK, &[0, 1, 3]);
    let list = message::Folded { from: joiner.0, list: vec![(me.0, last, 0)] };
    let payload = KvMessage::Folded(list).encode();
    let now = cluster.now;
    introduce(&mut cluster.members[BACK].replication, joiner, now);
    cluster.members[BACK].replication.datagram(now, addr(3), &payload);
    let peer = cluster.members[BACK].replication.shared.peers.get(joiner).expect("met");
    assert_eq!(peer.acked, last);
}

#[test]
fn a_fold_that_covers_nothing_is_as_none() {
    let mut known = [1, 2].map(|me| Known::new(OriginId(me)));
    for known in &mut known {
        known.observe(OriginId(7), 5, 5);
        known.observe(OriginId(8), 1, 3);
        known.fold(OriginId(8));
    }
    let covered = |known: &Known| known.covered_hash(&known.heads(0));
    known[0].fold(OriginId(7));
    assert!(known[0].is_folded(OriginId(7)) && !known[1].is_folded(OriginId(7)));
    assert_ne!(known[0].folded_hash(), known[1].folded_hash(), "one tells the other of it");
    assert_eq!(covered(&known[0]), covered(&known[1]), "and their stores can be compared");
    known[0].observe(OriginId(7), 6, 6);
    assert_eq!(known[0].folded_hash(), known[1].folded_hash());
}

/// Two members, of which the first holds the second write of somebody whose first is lost, and has
/// folded its origin.
fn past_a_loss(lost: OriginId) -> Cluster {
    let mut cluster = Cluster::new(2, 0.0);
    cluster.meet();
    cluster.put(0, "k", b"v");
    cluster.must_agree_within(Duration::from_secs(5));
    let time = cluster.members[0].store.stats().hlc;
    let stamp = crate::kv::Stamp { time, origin: lost };
    let record = Record::new(stamp, 2, b"past", Some((b"v", None)));
    let now = cluster.now;
    cluster.members[0].replication.with(now, |cx| receive::apply(cx, &[record], true));
    cluster.members[0].replication.shared.known.fold(lost);
    cluster
}

fn must_spread(mut cluster: Cluster) {
    let spread = |c: &Cluster| c.value(1, "past").is_some();
    assert!(cluster.run_until(Duration::from_secs(20), spread));
}

#[test]
fn what_is_held_past_a_lost_first_write_spreads_to_who_counts_with_its_writer() {
    let lost = OriginId(0x77);
    let mut cluster = past_a_loss(lost);
    let dead = PeerInfo { origin: lost, addr: addr(9), ..cluster.info(0, false) };
    let (infos, now) = (vec![cluster.info(0, true), dead], cluster.now);
    cluster.members[1].replication.members(now, infos);
    must_spread(cluster);
}

#[test]
fn what_is_held_past_a_lost_first_write_spreads_to_who_has_folded_it_too() {
    let lost = OriginId(0x77);
    let mut cluster = past_a_loss(lost);
    cluster.members[1].replication.shared.known.fold(lost);
    must_spread(cluster);
}

/// Four members, of which the second deletes ten keys; the fourth is dead then, having been told of
/// all that `reaches_dead` says, and the second one leaves.
fn left_beside_a_dead_one(reaches_dead: bool) -> Cluster {
    const LEFT: usize = 1;
    const DEAD: usize = 3;
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..4 {
        cluster.add(GRACE);
    }
    cluster.meet();
    cluster.run(Duration::from_secs(3));
    cluster.members[DEAD].up = reaches_dead;
    cluster.meet();
    for index in 0..10 {
        cluster.delete(LEFT, &format!("k{index}"));
    }
    cluster.run(Duration::from_secs(15));
    cluster.members[DEAD].up = false;
    cluster.meet();
    cluster.run(Duration::from_secs(1));
    cluster.members[LEFT].up = false;
    for (at, other) in [(0, 2), (2, 0)] {
        let infos = vec![cluster.info(other, true), cluster.info(DEAD, false)];
        let now = cluster.now;
        cluster.members[at].replication.members(now, infos);
        cluster.drain(at);
    }
    let origin = cluster.members[LEFT].store.origin();
    let folded = |c: &Cluster| {
        [0, 2].iter().all(|at| c.members[*at].replication.shared.known.is_folded(origin))
    };
    assert!(cluster.run_until(Duration::from_secs(30), folded));
    cluster
}

fn tombstones(cluster: &Cluster) -> u64 {
    [0, 2].iter().map(|at| cluster.members[*at].store.stats().n_tombstones).sum()
}

#[test]
fn a_dead_member_that_held_a_folded_origin_whole_holds_no_delete_back() {
    let mut cluster = left_beside_a_dead_one(true);
    assert_eq!(tombstones(&cluster), 20);
    assert!(cluster.run_until(GRACE + Duration::from_secs(20), |c| tombstones(c) == 0));
    // Nothing is kept of what the dead one has said that is no use any more.
    let later = cluster.members[0].replication.shared.peers.iter().map(|peer| peer.n_heads()).max();
    assert!(later <= Some(2), "{later:?}");
}

#[test]
fn a_dead_member_that_lacked_writes_of_a_folded_origin_holds_its_deletes_back() {
    let mut cluster = left_beside_a_dead_one(false);
    cluster.run(GRACE * 3);
    assert_eq!(tombstones(&cluster), 20);
}
