//! What the node noticed, as log lines.
//!
//! Names come from the network: they are written quoted and escaped, never as they are.

use super::throttle::Throttle;
use crate::node::io::Note;
use crate::swim::io::Event;
use crate::time::Instant;

/// Writes the lines; failures to join, which come at every look of discovery, only now and then.
#[derive(Debug, Default)]
pub(super) struct Log {
    join_failures: Throttle,
}

impl Log {
    /// A change of membership.
    pub fn event(&self, event: &Event, now: Instant) {
        match event {
            Event::Joined(name) => tracing::info!(member = ?name, "member joined"),
            Event::Updated(name) => tracing::debug!(member = ?name, "member changed"),
            Event::Suspected(name, accuser) => {
                tracing::info!(member = ?name, ?accuser, "member suspected");
            }
            Event::Recovered(name) => tracing::info!(member = ?name, "member is alive after all"),
            Event::Failed(name) => tracing::warn!(member = ?name, "member failed"),
            Event::Left(name) => tracing::info!(member = ?name, "member left"),
            Event::Reaped(name) => tracing::debug!(member = ?name, "member forgotten"),
            Event::Refuted(incarnation) => {
                tracing::warn!(incarnation, "somebody took this node for dead; told them better");
            }
            Event::Conflict { name, known, claimed } => {
                tracing::error!(member = ?name, %known, %claimed, "two nodes claim one name");
            }
            Event::JoinDone { peer, result: Ok(()) } => tracing::info!(%peer, "joined through"),
            Event::JoinDone { peer, result: Err(why) } => {
                if self.join_failures.allows(now) {
                    tracing::warn!(%peer, ?why, "could not join through; goes on trying");
                } else {
                    tracing::debug!(%peer, ?why, "could not join through");
                }
            }
            Event::UdpBlocked(name) => tracing::warn!(
                member = ?name,
                "member answers over TCP only: UDP to its port or back seems to be blocked"
            ),
            Event::MergeRefused { peer, why } => {
                tracing::warn!(%peer, ?why, "a peer speaks other protocol versions; not merged");
            }
            Event::LeaveDone => tracing::info!("the others know that this node leaves"),
        }
    }

    /// Something about replication.
    pub fn note(&self, note: &Note) {
        match note {
            Note::ClockAhead { origin, ahead_ms } => tracing::warn!(
                %origin,
                ahead_ms,
                "a write is stamped far ahead of this clock; kept, but check the clocks"
            ),
            Note::CopyDone { records } => tracing::info!(records, "copied the store of a peer"),
            Note::Divergence { buckets } => {
                tracing::warn!(buckets, "stores had diverged unnoticed; repaired");
            }
            Note::Damage { records } => tracing::error!(
                records,
                "records were damaged in memory; dropped, and fetched from peers: check the machine"
            ),
            Note::Reset => tracing::warn!(
                "this node has been away for longer than deletes are remembered; copying afresh"
            ),
            Note::Unreadable { why, from } => {
                tracing::warn!(%from, ?why, "a gossip datagram could not be read");
            }
        }
    }
}
