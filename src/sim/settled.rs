//! Clusters that begin settled, for measuring replication alone.
//!
//! Everybody has known everybody for long, and membership says nothing: no probe, no gossip, no
//! push-pull. So all that is sent, and all the time that passes, is replication's.

use super::cluster::Cluster;
use super::host::{Host, Process};
use super::options::{Load, Options};
use crate::kv::{OriginId, Store, StoreConfig};
use crate::limits::EXPIRED_GRACE;
use crate::node::config::FoldedBound;
use crate::node::formats::Formats;
use crate::node::io::Input;
use crate::node::{self, Node};
use crate::rng::Rng;
use crate::swim;
use crate::time::Instant;
use crate::wire::message::NodeName;
use crate::wire::packet::Security;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Time over which the members start, so that their timers do not all fire at once.
const START_SPREAD: Duration = Duration::from_secs(1);

/// What lies between the members.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Least and greatest time that a datagram or a frame takes, drawn evenly.
    pub latency: (Duration, Duration),
    /// Chance of a datagram to get lost; connections lose nothing.
    pub loss: f64,
    /// Seed of the run.
    pub rng_seed: u64,
}

/// One member.
#[derive(Debug, Clone)]
pub struct Seat {
    /// What it holds; all of it its own writes.
    pub store: Arc<Store>,
    /// Whether it begins by copying from another; else it is ready.
    pub joins: bool,
}

impl Seat {
    /// The `index`-th member, ready, with nothing in its store.
    #[must_use]
    pub fn empty(index: usize) -> Seat {
        // Spread as random origins are, and never 0.
        let origin = OriginId((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let store = Arc::new(Store::new(StoreConfig { origin, store_len_max: 0 }));
        Seat { store, joins: false }
    }
}

/// Starts a cluster of these members, at most 65,000, one after the other over a second.
#[must_use]
pub fn settled(seats: &[Seat], setting: Setting) -> Cluster {
    let mut rng = Rng::from_seed(setting.rng_seed);
    let mut cluster = Cluster::new(&options(setting, seats.len()));
    for index in 0..seats.len() {
        let high = u8::try_from(index >> 8).expect("at most 65,000 members");
        let addr = SocketAddr::from(([10, 2, high, index as u8], 7947));
        cluster.add_host(Host::empty(format!("n{index}"), addr));
    }
    let nodes: Vec<Node> = seats
        .iter()
        .enumerate()
        .map(|(index, seat)| node(&cluster, index, seat, rng.next_u64()))
        .collect();
    let states: Vec<_> = nodes.iter().map(|node| node.swim().me().to_push_state()).collect();
    let n = seats.len() as u32;
    for (index, (mut node, seat)) in nodes.into_iter().zip(seats).enumerate() {
        node.acquaint(cluster.now_at(index), states.clone());
        cluster.hosts[index].store = Some(Arc::clone(&seat.store));
        cluster.start(index, Process::Ours(Box::new(node)), Arc::new(Security::default()));
        cluster.run_until(cluster.now + START_SPREAD / n);
    }
    cluster
}

fn node(cluster: &Cluster, index: usize, seat: &Seat, rng_seed: u64) -> Node {
    let host = &cluster.hosts[index];
    let config = node::Config {
        name: NodeName::from(host.name.as_str()),
        advertise: host.addr,
        incarnation: 1,
        swim: swim::Config {
            probe_interval: Duration::ZERO,
            gossip_interval: Duration::ZERO,
            push_pull_interval: Duration::ZERO,
            redial_interval: Duration::ZERO,
            ..swim::Config::lan()
        },
        security: Security::default(),
        tombstone_grace: Duration::from_secs(24 * 60 * 60),
        expired_grace: EXPIRED_GRACE,
        folded: FoldedBound::default(),
        expects_peers: seat.joins,
        bootstrap: !seat.joins,
        formats: Formats::SPOKEN,
        rng_seed,
    };
    let now = cluster.now_at(index);
    let mut node = Node::new(config, Arc::clone(&seat.store), now);
    // With nobody to send them to, what the store holds counts as sent.
    node.handle(now, Input::Written);
    node
}

fn options(setting: Setting, n_nodes: usize) -> Options {
    Options {
        rng_seed: setting.rng_seed,
        n_nodes,
        chaos: Duration::ZERO,
        faults: Vec::new(),
        latency: setting.latency,
        loss: setting.loss,
        op_interval: Duration::ZERO,
        n_keys: 0,
        fault_interval: Duration::ZERO,
        tombstone_grace: Duration::ZERO,
        dead_memory: Duration::ZERO,
        outlasting: true,
        folded: FoldedBound::default(),
        load: Load::NONE,
    }
}

/// Whether all stores of `cluster` show the same data.
#[must_use]
pub fn is_equal(cluster: &Cluster) -> bool {
    let mut roots = cluster.hosts.iter().filter_map(|host| host.store.as_ref()).map(|s| s.root());
    let first = roots.next();
    roots.all(|root| Some(root) == first)
}

/// The next moment at which something happens to `cluster`, up to `until`, that makes `done` true;
/// `None` when nothing does.
pub fn run_until_done(
    cluster: &mut Cluster,
    until: Instant,
    mut done: impl FnMut(&Cluster, usize) -> bool,
) -> Option<Instant> {
    while let Some(host) = cluster.step(until) {
        if done(cluster, host) {
            return Some(cluster.now);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::command::Health;

    const SETTING: Setting = Setting {
        latency: (Duration::from_millis(1), Duration::from_millis(1)),
        loss: 0.0,
        rng_seed: 7,
    };

    #[test]
    fn nothing_but_digests_is_sent_until_somebody_writes() {
        let seats: Vec<Seat> = (0..12).map(Seat::empty).collect();
        let mut cluster = settled(&seats, SETTING);
        cluster.run_until(cluster.now + Duration::from_secs(3));
        let counts = cluster.counts.clone();
        // A digest and its answer a second each.
        assert!((70..120).contains(&counts.datagrams), "{counts:?}");
        assert_eq!((counts.pushes, counts.dials, counts.stream_len), (0, 0, 0));

        let now = cluster.now_at(5);
        seats[5].store.put(now, b"key", b"value", None).expect("room");
        cluster.input(5, Input::Written);
        let until = cluster.now + Duration::from_secs(5);
        let done = run_until_done(&mut cluster, until, |cluster, _| is_equal(cluster));
        assert!(done.is_some_and(|at| at < now.instant + Duration::from_millis(500)));
        assert!(cluster.counts.pushes >= 11);
    }

    #[test]
    fn a_member_that_joins_copies_what_is_there() {
        let mut seats = vec![Seat::empty(0), Seat { joins: true, ..Seat::empty(1) }];
        let mut cluster = settled(&seats, SETTING);
        seats.pop();
        let now = cluster.now_at(0);
        assert_eq!(cluster.hosts[1].node().map(Node::health), Some(Health::Ok));
        assert_eq!(cluster.counts.dials, 1);

        seats[0].store.put(now, b"key", b"value", None).expect("room");
        seats.push(Seat { joins: true, ..Seat::empty(2) });
        cluster = settled(&seats, SETTING);
        assert_eq!(cluster.hosts[1].node().map(Node::health), Some(Health::Ok));
        assert!(is_equal(&cluster));
        // Nothing was pushed: what was there before counts as sent.
        assert_eq!(cluster.counts.pushes, 0);
    }
}
