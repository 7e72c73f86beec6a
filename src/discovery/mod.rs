//! Discovery: a loop that only ever says "try these addresses", and what it knows them from.
//!
//! ```text
//!   --join names ----+    addresses, own one left out --> Early, of each but the last to answer
//!                    +-->
//!   --discover-srv --+    all of them, who failed ------> Look, then wait, then again, for ever
//! ```
//!
//! A look ends when every source has answered or has had its time. Its end is told even when it
//! found nobody: that DNS says "nobody", that it fails, and that it has not answered yet are three
//! different things to a node that wonders whether it is the first.
//!
//! Names are resolved afresh at every look, `/etc/hosts` and `/etc/resolv.conf` are read afresh
//! too, and nothing is cached here: what a look finds is what DNS says now. The loop never gives
//! up and never takes a success for the end, because a join can succeed on one of two islands.
//! Everything goes through hickory; nothing calls the C library's resolver, which a static binary
//! lacks.

pub mod backoff;
pub mod dns;
pub mod ecs;
pub mod fetch;
pub mod seeds;
pub mod srv;
mod standing;

pub use seeds::Seed;
pub use srv::SrvName;
pub use standing::{Found, Look, look_once, run};

use std::net::SocketAddr;

/// The port of gossip where none is given.
pub const GOSSIP_PORT: u16 = 7947;

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Names and addresses given by hand.
    pub seeds: Vec<Seed>,
    /// A DNS record that lists the peers.
    pub srv: Option<SrvName>,
    /// The DNS server to ask; the system's when none.
    pub dns: Option<SocketAddr>,
    /// What this node advertises; never offered.
    pub own: Option<SocketAddr>,
}

impl Config {
    /// True when there is nowhere to look.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seeds.is_empty() && self.srv.is_none()
    }
}
