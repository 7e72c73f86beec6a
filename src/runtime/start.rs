//! From a configuration to a running node.

use super::agent::Agent;
use super::clock::Clock;
use super::engine::Machine;
use super::sockets::{self, BindError};
use super::tcp::Limits;
use super::{entropy, sockets::Pair, watchdog};
use crate::discovery;
use crate::kv::{OriginId, Store, StoreConfig};
use crate::limits::{NODE_NAME_LEN_MAX, STREAM_UNFINISHED_LEN_MAX};
use crate::node::command::{Health, NotReady};
use crate::node::config::FoldedBound;
use crate::node::formats::Formats;
use crate::node::io::{Input, Output};
use crate::node::{self, Node};
use crate::swim;
use crate::time::{Now, WallMillis};
use crate::wire::message::NodeName;
use crate::wire::packet::Security;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may be open before its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(2);
/// How long a replication link may carry nothing.
const LINK_IDLE: Duration = Duration::from_secs(90);
/// How long a replication link may be stuck inside a frame.
const LINK_STALL: Duration = Duration::from_secs(30);
/// How long nothing may get through on a connection before it is given up. While nothing does, the
/// system waits twice as long before every new try, up to minutes, so that a connection from before
/// a partition stays deaf long after it; a new one is through at once.
const UNACKED: Duration = Duration::from_secs(3);
/// How long the other end of a connection may take to close after us.
const LINGER: Duration = Duration::from_secs(2);
/// 2026-01-01 in milliseconds since the Unix epoch.
const INCARNATION_EPOCH: u64 = 1_767_225_600_000;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to gossip, UDP and TCP; port 0 stands for any that is free for both.
    pub bind: SocketAddr,
    /// What kind of member it is.
    pub node: NodeSettings,
    /// Where to look for others. Its own addresses are filled in here.
    pub discovery: discovery::Config,
}

/// What kind of member a node is.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Unique in the cluster.
    pub name: NodeName,
    /// What others dial; port 0 stands for the one that is bound.
    pub advertise: SocketAddr,
    /// Timing of membership.
    pub swim: swim::Config,
    /// Label, keys and switches of gossip.
    pub security: Security,
    /// How long a delete is remembered at least.
    pub tombstone_grace: Duration,
    /// How long what has expired is, unless deletes are forgotten sooner.
    pub expired_grace: Duration,
    /// Whether it is to found a new cluster whatever discovery says.
    pub bootstrap: bool,
    /// The replication formats it speaks.
    pub formats: Formats,
    /// Bytes of records past which a local write is refused; 0 for no limit.
    pub store_len_max: u64,
}

/// Why a node could not be started. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody could call it by its name.
    #[error("a member's name has 1 to {NODE_NAME_LEN_MAX} bytes")]
    Name,
    /// Nobody could dial it.
    #[error("{0} is no address that others can dial")]
    Advertise(IpAddr),
    /// Its port is not to be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system has no more threads, memory or descriptors.
    #[error("cannot start the gossip threads: {0}")]
    System(#[from] io::Error),
}

impl Machine for Node {
    fn handle(&mut self, now: Now, input: Input) {
        Node::handle(self, now, input);
    }

    fn poll(&mut self, now: Now) -> Output {
        Node::poll(self, now)
    }

    fn security(&self) -> Arc<Security> {
        Node::security(self).clone()
    }

    fn health(&self) -> Health {
        Node::health(self)
    }

    fn is_complete(&self) -> bool {
        Node::is_complete(self)
    }

    fn not_ready(&self) -> Option<NotReady> {
        Node::not_ready(self)
    }

    fn why(&self) -> Option<String> {
        Node::why(self)
    }

    fn lacks_ttl(&self) -> Option<String> {
        Node::lacks_ttl(self).map(|name| super::log::text(name).into_owned())
    }

    fn alone(&self) -> bool {
        Node::alone(self)
    }
}

/// Starts a node. Returns when it listens.
///
/// # Errors
/// See [`StartError`].
pub fn start(mut config: Config) -> Result<Agent, StartError> {
    check(&config.node)?;
    let pair = sockets::bind(config.bind)?;
    if config.node.advertise.port() == 0 {
        config.node.advertise.set_port(pair.addr.port());
    }
    config.discovery.own = Some(config.node.advertise);
    config.discovery.bound = Some(pair.addr);
    warn_of_plaintext(&config.node.security, &pair);

    let clock = Clock::start();
    let now = clock.now();
    let origin = OriginId(entropy::nonzero_u64());
    let store_len_max = config.node.store_len_max;
    let store = Arc::new(Store::new(StoreConfig { origin, store_len_max }));
    let limits = Limits {
        first_byte: FIRST_BYTE,
        exchange: config.node.swim.stream_timeout,
        idle: LINK_IDLE,
        stall: LINK_STALL,
        unacked: UNACKED,
        linger: LINGER,
        unfinished_len: STREAM_UNFINISHED_LEN_MAX,
    };
    tracing::info!(
        name = &*super::log::text(&config.node.name),
        bind = %pair.addr,
        advertise = %config.node.advertise,
        origin = format_args!("{:016x}", origin.0),
        encrypted = config.node.security.encrypts(),
        "gossip begins"
    );
    let expects_peers = !config.discovery.is_empty();
    let node = Node::new(of_node(config.node, now, expects_peers), store.clone(), now);
    Ok(Agent::assemble(node, clock, store, pair, limits, watchdog::PACE, config.discovery)?)
}

/// What peers would refuse is refused here.
fn check(settings: &NodeSettings) -> Result<(), StartError> {
    let ip = settings.advertise.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        return Err(StartError::Advertise(ip));
    }
    if !(1..=NODE_NAME_LEN_MAX).contains(&settings.name.as_bytes().len()) {
        return Err(StartError::Name);
    }
    Ok(())
}

fn of_node(settings: NodeSettings, now: Now, expects_peers: bool) -> node::Config {
    node::Config {
        name: settings.name,
        advertise: settings.advertise,
        incarnation: incarnation(now.wall),
        swim: settings.swim,
        security: settings.security,
        tombstone_grace: settings.tombstone_grace,
        expired_grace: settings.expired_grace,
        folded: FoldedBound::default(),
        bootstrap: settings.bootstrap,
        expects_peers,
        formats: settings.formats,
        rng_seed: entropy::nonzero_u64(),
    }
}

/// Seconds since 2026, so that a restarted node overtakes what is remembered of its past. At
/// least 1, and far enough from the end that refutations never reach it.
fn incarnation(wall: WallMillis) -> u32 {
    let seconds = wall.0.saturating_sub(INCARNATION_EPOCH) / 1000;
    u32::try_from(seconds).unwrap_or(u32::MAX).clamp(1, u32::MAX / 2)
}

fn warn_of_plaintext(security: &Security, pair: &Pair) {
    if !security.encrypts() && !pair.addr.ip().to_canonical().is_loopback() {
        tracing::warn!(
            bind = %pair.addr,
            "gossip is not encrypted: whoever reaches this port can read and change everything; \
             `gossipykv keygen` makes a key"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, advertise: &str) -> NodeSettings {
        NodeSettings {
            name: NodeName::from(name),
            advertise: SocketAddr::new(advertise.parse().expect("an address"), 0),
            swim: swim::Config::local(),
            security: Security::default(),
            tombstone_grace: Duration::from_secs(1),
            expired_grace: Duration::from_secs(1),
            bootstrap: false,
            formats: Formats::SPOKEN,
            store_len_max: 0,
        }
    }

    #[test]
    fn what_peers_would_refuse_is_refused() {
        for advertise in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "255.255.255.255"] {
            let refused = check(&settings("name", advertise));
            assert!(matches!(refused, Err(StartError::Advertise(_))), "{advertise}");
        }
        for name in ["", &"n".repeat(NODE_NAME_LEN_MAX + 1)] {
            assert!(matches!(check(&settings(name, "127.0.0.1")), Err(StartError::Name)));
        }
        assert!(check(&settings("name", "127.0.0.1")).is_ok());
    }

    #[test]
    fn incarnations_grow_with_the_clock_and_never_are_zero() {
        assert_eq!(incarnation(WallMillis(0)), 1);
        assert_eq!(incarnation(WallMillis(INCARNATION_EPOCH + 90_500)), 90);
        assert_eq!(incarnation(WallMillis(u64::MAX)), u32::MAX / 2);
    }
}
