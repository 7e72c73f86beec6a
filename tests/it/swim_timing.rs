//! How long things take, over many seeds: the promises made to an operator.

use crate::swim_cluster::{Cluster, Trace};
use bytes::Bytes;
use gossipykv::swim::{Config, Identity, MemberState, VSN};
use gossipykv::wire::message::AddrBytes;
use std::net::SocketAddr;
use std::time::Duration;

const SEEDS: u64 = 50;

fn identity(name: &str, host: u8) -> Identity {
    Identity {
        name: name.into(),
        addr: AddrBytes::from_ip([10, 0, 0, host].into()),
        port: 7946,
        meta: Bytes::new(),
        vsn: VSN,
    }
}

fn addr(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 7946))
}

/// Nodes a, b, c .. of one cluster, some seconds after they joined.
fn cluster(n: u8, rng_seed: u64) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.trace = Trace::Events;
    for host in 1..=n {
        let name = char::from(b'a' + host - 1).to_string();
        cluster.add(Config::lan(), identity(&name, host), 100, rng_seed * 100 + u64::from(host));
    }
    for host in 2..=n {
        let now = cluster.now;
        cluster.tell(addr(host), |swim| swim.join(now, &[addr(1)]));
    }
    run(&mut cluster, Duration::from_millis(5_000 + rng_seed * 37 % 1000));
    for host in 1..=n {
        assert_eq!(cluster.node(addr(host)).n_alive(), usize::from(n), "seed {rng_seed}");
    }
    cluster
}

fn run(cluster: &mut Cluster, time: Duration) {
    let until = cluster.now + time;
    cluster.run(until, |_| false);
}

/// Time until all of these events have happened.
fn time_to(cluster: &mut Cluster, events: &[&str], at_most: Duration) -> Duration {
    let start = cluster.now;
    cluster.events.clear();
    let came = cluster
        .run(start + at_most, |cluster| events.iter().all(|event| cluster.events.contains(*event)));
    assert!(came, "{events:?} within {at_most:?}, but:\n{}", cluster.lines.join("\n"));
    cluster.now.since(start)
}

/// The longest of the times that `measure` takes over all seeds.
fn longest(mut measure: impl FnMut(u64) -> Duration) -> Duration {
    (0..SEEDS).map(&mut measure).max().expect("some seeds")
}

#[test]
fn a_killed_node_is_dead_to_all_within_eight_seconds() {
    let longest = longest(|rng_seed| {
        let mut cluster = cluster(3, rng_seed);
        cluster.kill(addr(3));
        time_to(&mut cluster, &["a failed c", "b failed c"], Duration::from_secs(8))
    });
    assert!(longest > Duration::from_secs(4), "a suspicion lasts four seconds, not {longest:?}");
}

#[test]
fn a_restarted_node_is_back_within_three_seconds_of_its_join() {
    for down in [Duration::ZERO, Duration::from_secs(3), Duration::from_secs(60)] {
        longest(|rng_seed| {
            let mut cluster = cluster(3, rng_seed);
            cluster.kill(addr(3));
            run(&mut cluster, down);
            cluster.add(Config::lan(), identity("c", 3), 101, rng_seed);
            let now = cluster.now;
            cluster.tell(addr(3), |swim| swim.join(now, &[addr(1)]));
            let is_back = |cluster: &Cluster, host| {
                let member = cluster.node(addr(host)).member(&"c".into());
                member.is_some_and(|c| c.state == MemberState::Alive && c.incarnation == 101)
            };
            let until = now + Duration::from_secs(3);
            let back = cluster.run(until, |cluster| is_back(cluster, 1) && is_back(cluster, 2));
            assert!(back, "seed {rng_seed}, down for {down:?}");
            cluster.now.since(now)
        });
    }
}

#[test]
fn a_leave_is_known_to_all_within_a_second() {
    longest(|rng_seed| {
        let mut cluster = cluster(3, rng_seed);
        let now = cluster.now;
        cluster.tell(addr(3), |swim| swim.leave(now));
        let events = ["a left c", "b left c", "c leave done"];
        time_to(&mut cluster, &events, Duration::from_secs(1))
    });
}

#[test]
fn a_partition_heals_within_twenty_seconds() {
    for apart in [Duration::from_secs(10), Duration::from_secs(40), Duration::from_secs(200)] {
        longest(|rng_seed| {
            let mut cluster = cluster(4, rng_seed);
            let links = [(1, 3), (1, 4), (2, 3), (2, 4)];
            for (a, b) in links {
                cluster.connect(addr(a), addr(b), false);
            }
            run(&mut cluster, apart);
            for (a, b) in links {
                cluster.connect(addr(a), addr(b), true);
            }
            let start = cluster.now;
            let healed = cluster.run(start + Duration::from_secs(20), |cluster| {
                (1..=4).all(|host| cluster.node(addr(host)).n_alive() == 4)
            });
            assert!(healed, "seed {rng_seed}, apart for {apart:?}");
            cluster.now.since(start)
        });
    }
}

#[test]
fn sixty_nodes_find_each_other_and_suspect_nobody() {
    let mut cluster = Cluster::new();
    cluster.trace = Trace::Events;
    let n: u8 = 60;
    for host in 1..=n {
        let name = format!("node-{host:02}");
        cluster.add(Config::lan(), identity(&name, host), 100, u64::from(host));
        let now = cluster.now;
        cluster.tell(addr(host), |swim| swim.join(now, &[addr(1), addr(host / 2 + 1)]));
        run(&mut cluster, Duration::from_millis(20));
    }
    let start = cluster.now;
    let complete = cluster.run(start + Duration::from_secs(10), |cluster| {
        (1..=n).all(|host| cluster.node(addr(host)).n_alive() == usize::from(n))
    });
    assert!(complete, "everyone knows everyone");
    run(&mut cluster, Duration::from_secs(20));
    for host in 1..=n {
        let stats = cluster.node(addr(host)).stats();
        assert_eq!((stats.suspicions, stats.probe_failures, stats.conflicts), (0, 0, 0));
        assert_eq!(cluster.node(addr(host)).n_broadcasts(), 0, "rumors end");
    }
}
