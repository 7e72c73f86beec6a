//! What a node is told at the start.

use super::formats::Formats;
use crate::limits::{FOLDED_AGE, FOLDED_MAX};
use crate::swim::config::Config as SwimConfig;
use crate::wire::message::NodeName;
use crate::wire::packet::Security;
use std::net::SocketAddr;
use std::time::Duration;

/// Everything the node needs to know; all of it is decided before the node is made.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// What others dial.
    pub advertise: SocketAddr,
    /// Its first incarnation, at least 1; later starts of the same name need a higher one.
    pub incarnation: u32,
    /// Membership's timing.
    pub swim: SwimConfig,
    /// Label, keys and switches.
    pub security: Security,
    /// How long a delete is remembered at least.
    pub tombstone_grace: Duration,
    /// How long what has expired is, unless deletes are forgotten sooner.
    pub expired_grace: Duration,
    /// How many runs that are over are known by name.
    pub folded: FoldedBound,
    /// Whether there is anywhere to look for peers: without, the node is ready at once.
    pub expects_peers: bool,
    /// Whether it is to found a new cluster whatever discovery says.
    pub bootstrap: bool,
    /// The replication formats it speaks: [`Formats::SPOKEN`], unless another version of the
    /// program is to be played. One with `2-2` is to the others what the version before the first
    /// range was: it tells none, drops what is newer, and never gets it.
    pub formats: Formats,
    /// Seed of all randomness of membership and replication; nothing secret follows from it.
    pub rng_seed: u64,
}

/// How many runs that are over are known by name: past that those that all members have known for
/// long are let go of together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldedBound {
    /// So many may be known. With twice as many, age does not matter.
    pub most: usize,
    /// How long all members have had to know the same ones of those that are let go of. Who is away
    /// for less finds itself among the others as before.
    pub age: Duration,
}

impl Default for FoldedBound {
    /// Of the program: [`FOLDED_MAX`] and [`FOLDED_AGE`].
    fn default() -> FoldedBound {
        FoldedBound { most: FOLDED_MAX, age: FOLDED_AGE }
    }
}
