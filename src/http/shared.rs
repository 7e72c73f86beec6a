//! What the gate, the lanes and the routes share, behind one `Arc`.
//!
//! ```text
//!   gate    counts; takes memory from the budget; refuses what the shutdown no longer permits
//!   lanes   take memory from the budget, and take pending answers out
//!   routes  count; park pending answers; ask the node; show everything in /metrics
//!   start   makes it, and takes the steps of the shutdown
//! ```

use super::config::Config;
use super::counters::Counters;
use super::manner::Lines;
use super::memory::Budget;
use super::pending::PendingAnswers;
use super::shutdown::Shutdown;
use super::token::Token;
use super::watch::hub::Hub;
use super::watch::roster::Rosters;
use crate::limits::HTTP_HELD_LEN_MAX;
use crate::node::command::Bridge;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Everything that more than one part of HTTP uses. What one part alone uses lives in that part.
pub(super) struct Shared {
    pub(super) config: Config,
    /// The node: its clocks, its store, and the commands it takes.
    pub(super) bridge: Arc<dyn Bridge>,
    pub(super) shutdown: Shutdown,
    pub(super) pending: PendingAnswers,
    pub(super) counters: Counters,
    /// Header lines that are the gate's.
    pub(super) lines: Lines,
    /// Behind an `Arc` of its own, because every share that is held gives back to it.
    pub(super) budget: Arc<Budget>,
    /// What commands on this host show, where they can be told.
    pub(super) local: Option<Token>,
    /// How often they have shown it.
    pub(super) n_local: AtomicU64,
    /// All that is watched.
    pub(super) hub: Arc<Hub>,
    /// The members, as the node has told them last.
    pub(super) rosters: Arc<Rosters>,
}

impl Shared {
    pub(super) fn new(
        config: Config,
        bridge: Arc<dyn Bridge>,
        local: Option<Token>,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            lines: Lines::new(config.timing.idle, &config.cors_origins),
            hub: Hub::new(Arc::clone(&bridge)),
            rosters: Rosters::new(Arc::clone(&bridge)),
            config,
            bridge,
            shutdown: Shutdown::default(),
            pending: PendingAnswers::default(),
            counters: Counters::default(),
            budget: Budget::new(HTTP_HELD_LEN_MAX),
            local,
            n_local: AtomicU64::new(0),
        })
    }
}
