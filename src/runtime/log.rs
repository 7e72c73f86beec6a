//! What the node noticed, as log lines.
//!
//! Names come from the network: they are written quoted and escaped, never as they are.

use super::throttle::Throttle;
use crate::node::command::Health;
use crate::node::io::Note;
use crate::swim::io::Event;
use crate::time::Instant;
use std::sync::Arc;

/// Writes the lines; failures to join, which come at every look of discovery, only now and then.
#[derive(Debug, Default)]
pub(super) struct Log {
    join_failures: Throttle,
    /// Readiness as it was written last, and why.
    state: Option<(Health, Option<Arc<str>>)>,
    reasons: Throttle,
}

impl Log {
    /// Readiness, to be told at every turn: a change is written at once, another reason for it
    /// only now and then.
    pub fn state(&mut self, health: Health, why: Option<&Arc<str>>, now: Instant) {
        if !self.is_news(health, why, now) {
            return;
        }
        let status = health.as_str();
        match why {
            None => tracing::info!(status, "this node is ready"),
            Some(why) => tracing::info!(status, %why, "this node is not ready"),
        }
    }

    /// Whether to write that; a yes counts as written.
    fn is_news(&mut self, health: Health, why: Option<&Arc<str>>, now: Instant) -> bool {
        let is_change = self.state.as_ref().is_none_or(|(was, _)| *was != health);
        let is_told = self.state.as_ref().is_some_and(|(_, told)| told.as_ref() == why);
        if !is_change && (is_told || !self.reasons.allows(now)) {
            return false;
        }
        self.state = Some((health, why.cloned()));
        true
    }

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
            Note::Founded { why } => tracing::info!(%why, "founds a cluster"),
            Note::Merging { with } => tracing::warn!(
                member = ?with,
                "two clusters were founded apart: joins the one of this member, not ready meanwhile"
            ),
            Note::Divergence { buckets } => {
                tracing::warn!(buckets, "stores had diverged unnoticed; repaired");
            }
            Note::Damage { records } => tracing::error!(
                records,
                "records were damaged in memory; dropped, and fetched from peers: check the machine"
            ),
            Note::NoHeir { keys } => tracing::info!(
                keys,
                "no other member is there to hand the store over to; it ends with this node"
            ),
            Note::Reset => tracing::warn!(
                "this node has been away for longer than deletes are remembered; copying afresh"
            ),
            Note::Incompatible { members, name, theirs, ours } => tracing::warn!(
                members,
                %name,
                %theirs,
                %ours,
                "members speak other replication formats: nothing is replicated with them"
            ),
            Note::Unreadable { why, from } => {
                tracing::warn!(%from, ?why, "a gossip datagram could not be read");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_change_is_news_at_once_and_another_reason_now_and_then() {
        let mut log = Log::default();
        let why = |text: &str| Some(Arc::from(text));
        let mut news = |health, why: Option<Arc<str>>, seconds| {
            let now = Instant::ZERO + Duration::from_secs(seconds);
            log.is_news(health, why.as_ref(), now)
        };
        assert!(news(Health::Starting, why("nobody"), 0), "the first is a change");
        assert!(news(Health::Starting, why("1 %"), 1), "nor is the first other reason held up");
        assert!(!news(Health::Starting, why("2 %"), 2));
        assert!(!news(Health::Starting, why("1 %"), 11), "that is what was written last");
        assert!(news(Health::Starting, why("3 %"), 11));
        assert!(!news(Health::Starting, why("4 %"), 12));
        assert!(news(Health::Ok, None, 12));
        assert!(!news(Health::Ok, None, 100));
        assert!(news(Health::Starting, why("4 %"), 100));
        assert!(news(Health::Ok, None, 100), "however often");
    }
}
