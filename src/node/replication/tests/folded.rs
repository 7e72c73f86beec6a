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
    let is_folded = |c: &Cluster| c.members[1].replication.known.is_folded(origin);
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
    assert!(cluster.members[3].replication.known.is_folded(origin));
    cluster.cut.clear();
    cluster.meet();
    let last = cluster.members[BACK].store.last_seq();
    let acked = |c: &Cluster| {
        c.members[BACK].replication.peers.iter().all(|peer| peer.acked == last)
            && c.members.iter().all(|m| !m.replication.known.is_folded(origin))
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
    cluster.members[BACK].replication.datagram(now, addr(3), &payload);
    let peer = cluster.members[BACK].replication.peers.get(joiner).expect("met");
    assert_eq!(peer.acked, last);
}
