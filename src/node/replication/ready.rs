//! Readiness: whether this node's answers are worth a load balancer's trust.
//!
//! ```text
//! Alone --a peer--> Copying --copy complete--> Ready <--compared-- Resetting
//!   `---- long enough alone, or nobody to look for ----^  `-- slept past forgotten deletes --^
//! ```

use super::Replication;
use crate::mutation::mutated;
use crate::node::command::Health;
use crate::node::io::Note;
use crate::time::{Instant, Now};
use std::time::Duration;

/// A node that finds nobody for this long is the first of its cluster.
const FIRST_AFTER: Duration = Duration::from_secs(8);
/// Least time between two tries for a first copy.
const RETRY: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Alone { until: Instant },
    Copying { retry_at: Instant },
    Resetting { retry_at: Instant },
    Ready,
}

/// Where this node stands.
#[derive(Debug)]
pub(super) struct Readiness(State);

impl Readiness {
    pub(super) fn new(expects_peers: bool, now: Instant) -> Readiness {
        Readiness(if expects_peers {
            State::Alone { until: now + FIRST_AFTER }
        } else {
            State::Ready
        })
    }

    pub(super) fn health(&self) -> Health {
        if self.0 == State::Ready { Health::Ok } else { Health::Starting }
    }

    pub(super) fn deadline(&self) -> Instant {
        match self.0 {
            State::Alone { until } => until,
            State::Copying { retry_at } | State::Resetting { retry_at } => retry_at,
            State::Ready => Instant::NEVER,
        }
    }
}

impl Replication {
    /// Begins the first copy when there is a peer and none is under way.
    pub(super) fn first_copy(&mut self, now: Now) {
        match self.ready.0 {
            State::Alone { .. } | State::Copying { .. } if self.peers.n_reachable() > 0 => {
                self.ready.0 = State::Copying { retry_at: now.instant + RETRY };
                if !self.pulls.is_active()
                    && let Some(peer) = self.peers.draw(1, &mut self.rng).pop()
                {
                    self.start_pull(now, peer);
                }
            }
            State::Copying { .. } => {
                self.ready.0 = State::Alone { until: now.instant + FIRST_AFTER };
            }
            _ => {}
        }
    }

    /// A pull from a peer is complete.
    pub(super) fn copied(&mut self, records: u64) {
        if matches!(self.ready.0, State::Alone { .. } | State::Copying { .. })
            && !mutated!(NeverReady)
        {
            self.ready.0 = State::Ready;
            self.note(Note::CopyDone { records });
        }
    }

    /// A peer says that we lack deletes that are forgotten: hide until all is compared.
    pub(super) fn hide(&mut self, now: Now) {
        if !matches!(self.ready.0, State::Resetting { .. }) {
            self.counters.resets_total += 1;
            self.note(Note::Reset);
        }
        self.ready.0 = State::Resetting { retry_at: now.instant + RETRY };
    }

    /// Everything has been compared with a peer.
    pub(super) fn compared(&mut self) {
        if matches!(self.ready.0, State::Resetting { .. }) {
            self.ready.0 = State::Ready;
        }
    }

    pub(super) fn ready_due(&mut self, now: Now) {
        match self.ready.0 {
            State::Alone { until } if until <= now.instant => {
                // Who has met only those that speak other formats is no first of a cluster.
                let met_others = self.peers.incompatible().next().is_some();
                self.ready.0 = if met_others {
                    State::Alone { until: now.instant + RETRY }
                } else {
                    State::Ready
                };
            }
            State::Copying { retry_at } if retry_at <= now.instant => self.first_copy(now),
            State::Resetting { retry_at } if retry_at <= now.instant => {
                self.ready.0 = State::Resetting { retry_at: now.instant + RETRY };
                match self.peers.draw(1, &mut self.rng).pop() {
                    Some(peer) => self.start_buckets(now, peer, None),
                    None => self.ready.0 = State::Ready,
                }
            }
            _ => {}
        }
    }
}
