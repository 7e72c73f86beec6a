//! Nodes for the tests of a node's parts, at addresses of 10.0.0.0/24.

use super::config::FoldedBound;
use super::formats::Formats;
use super::{Config, Node, meta};
use crate::kv::{OriginId, Store, StoreConfig};
use crate::swim;
use crate::time::{Instant, Now, WallMillis};
use crate::wire::message::{AddrBytes, NodeName, PushNodeState};
use crate::wire::packet::Security;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn at(millis: u64) -> Now {
    Now { instant: Instant::from_millis(millis), wall: WallMillis(1_800_000_000_000 + millis) }
}

pub(super) fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 7947))
}

/// That of the node a at 10.0.0.1, which looks for others.
pub(super) fn config() -> Config {
    Config {
        name: NodeName::from("a"),
        advertise: addr(1),
        incarnation: 1,
        swim: swim::Config::lan(),
        security: Security::default(),
        tombstone_grace: Duration::from_secs(3600),
        expired_grace: Duration::from_secs(600),
        folded: FoldedBound::default(),
        expects_peers: true,
        bootstrap: false,
        formats: Formats::SPOKEN,
        rng_seed: 1,
    }
}

/// It begins with nothing, as origin 1.
pub(super) fn node(config: Config) -> Node {
    let store = Arc::new(Store::new(StoreConfig { origin: OriginId(1), store_len_max: 0 }));
    Node::new(config, store, at(1))
}

/// What is told of a member at 10.0.0.`last`, whose origin is that number.
pub(super) fn member(name: &str, last: u8) -> PushNodeState {
    PushNodeState {
        name: name.into(),
        addr: Some(AddrBytes::from_ip(addr(last).ip())),
        port: addr(last).port(),
        incarnation: 1,
        state: 0,
        meta: Some(meta::encode(OriginId(u64::from(last)), Formats::SPOKEN)),
        vsn: Some(Bytes::from_static(&[1, 5, 2, 0, 0, 0])),
    }
}
