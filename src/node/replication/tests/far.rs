//! Peers far away: once it is known how far, nothing is sent twice without need.

use super::cluster::{Cluster, MILLIS};
use super::*;

/// Whatever makes a record go out once more, and records that came once more.
fn again(cluster: &Cluster) -> u64 {
    cluster.sum(|r| {
        let asked = r.gaps.wants_total + r.pulls.started_total;
        r.shared.counters.resends_total + r.shared.counters.duplicate_total + asked
    })
}

fn all_acknowledged(cluster: &Cluster) -> bool {
    cluster.members.iter().all(|member| {
        let last = member.store.last_seq();
        member.replication.shared.peers.reachable().all(|peer| peer.acked == last)
    })
}

#[test]
fn no_write_goes_out_twice_once_the_first_is_acknowledged() {
    for round_trip in [1, 20, 80, 250].map(|ms| MILLIS * ms) {
        let mut cluster = Cluster::new(3, 0.0);
        cluster.delay = round_trip / 2;
        cluster.run(Duration::from_secs(2));
        for at in 0..3 {
            cluster.put(at, &format!("first {at}"), b"v");
        }
        assert!(cluster.run_until(Duration::from_secs(3), all_acknowledged), "{round_trip:?}");
        cluster.run(round_trip * 2);
        let before = again(&cluster);
        for index in 0..40 {
            // Alone, in a row, and too large for a datagram.
            let len = if index % 8 == 7 { 64 << 10 } else { 32 };
            cluster.put(index % 3, &format!("k{index}"), &vec![b'v'; len]);
            let pause = if index % 5 == 0 { round_trip * 2 + MILLIS * 20 } else { MILLIS };
            cluster.run(pause);
        }
        assert!(cluster.run_until(Duration::from_secs(3), all_acknowledged), "{round_trip:?}");
        cluster.run(Duration::from_secs(1));
        assert_eq!(again(&cluster), before, "at {round_trip:?}");
        assert!(cluster.equal());
    }
}

#[test]
fn a_peer_that_moves_away_is_measured_anew() {
    let mut cluster = Cluster::new(2, 0.0);
    for (round_trip, limit) in [(2, 0), (120, 60), (2, 0)] {
        cluster.delay = MILLIS * round_trip / 2;
        let before = cluster.sum(|r| r.shared.counters.resends_total);
        for index in 0..20 {
            cluster.put(0, &format!("k{round_trip}-{index}"), b"v");
            cluster.run(Duration::from_millis(300));
        }
        let resends = cluster.sum(|r| r.shared.counters.resends_total) - before;
        assert!(resends <= limit, "{resends} resends at {round_trip} ms");
        let before = cluster.sum(|r| r.shared.counters.resends_total);
        cluster.put(0, &format!("k{round_trip}"), b"v");
        cluster.run(Duration::from_millis(300));
        assert_eq!(cluster.sum(|r| r.shared.counters.resends_total), before);
    }
}
