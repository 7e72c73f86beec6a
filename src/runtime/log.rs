//! What the node noticed, as log lines.
//!
//! Names come from the network. They are given as strings, which a line for people has quoted and
//! escaped, and JSON as any string: never as they are, and never both.

use super::throttle::Throttle;
use crate::kv::StoreStats;
use crate::node::command::Health;
use crate::node::io::Note;
use crate::swim::io::{Event, JoinError};
use crate::time::Instant;
use crate::wire::keyring::Key;
use crate::wire::message::NodeName;
use crate::wire::packet::Security;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Addresses whose last join is remembered; past it all are forgotten, and told anew.
const JOINS_KEPT_MAX: usize = 512;
/// How long the same failure to join through an address is not told again.
const JOIN_PAUSE: Duration = Duration::from_secs(60);
/// How long no write was refused for want of room before the store is said to have some: a value
/// that is too large for what is left finds a store full that a small one does not.
const ROOM_PAUSE: Duration = Duration::from_secs(10);

/// Writes the lines; what joins come to, which is known anew at every look of discovery, when it is
/// another than before, and failures now and then.
#[derive(Debug, Default)]
pub(super) struct Log {
    joins: BTreeMap<SocketAddr, (Result<(), JoinError>, Instant)>,
    /// Readiness as it was written last, and why.
    state: Option<(Health, Option<Arc<str>>)>,
    reasons: Throttle,
    /// Writes refused so far for want of room, and when that was last seen to rise.
    refused: u64,
    refused_at: Instant,
    /// Whether the last that was told of the store is that it is full.
    is_full: bool,
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

    /// Which gossip keys are used from now on, when that is a change.
    pub fn security(&self, before: &Security, security: &Security) {
        let used = |security: &Security| {
            (security.keyring.clone(), security.verify_incoming, security.verify_outgoing)
        };
        if used(before) == used(security) {
            return;
        }
        let keys: Vec<&str> = security.keyring.keys().iter().map(Key::fingerprint).collect();
        tracing::info!(
            keys = keys.join(" "),
            verify_incoming = security.verify_incoming,
            verify_outgoing = security.verify_outgoing,
            "gossip keys have changed: the first encrypts, all decrypt"
        );
    }

    /// Whether the store takes writes, to be told at every turn: `refused` counts those that it did
    /// not take for want of room below `limit`, in bytes, be it that of another member.
    pub fn store(&mut self, refused: u64, stats: &StoreStats, limit: u64, now: Instant) {
        let StoreStats { bytes, tombstone_bytes: deletes, .. } = *stats;
        match self.room(refused, bytes, limit, now) {
            Some(true) => tracing::info!(bytes, deletes, limit, "the store has room again"),
            Some(false) => tracing::warn!(
                bytes,
                deletes,
                limit,
                "the store is full: PUTs that would grow it are refused"
            ),
            None => {}
        }
    }

    /// Whether there is room, when that is to be written; it counts as written then.
    fn room(&mut self, refused: u64, bytes: u64, limit: u64, now: Instant) -> Option<bool> {
        if refused > self.refused {
            (self.refused, self.refused_at) = (refused, now);
            let was_full = std::mem::replace(&mut self.is_full, true);
            return (!was_full).then_some(false);
        }
        let has_room = bytes <= limit / 10 * 9 && now >= self.refused_at + ROOM_PAUSE;
        let is_news = self.is_full && has_room;
        self.is_full &= !has_room;
        is_news.then_some(true)
    }

    /// A change of membership.
    pub fn event(&mut self, event: &Event, now: Instant) {
        match event {
            Event::ProbeFailed { name, helpers, nacks } => tracing::debug!(
                member = &*text(name),
                helpers = *helpers,
                nacks = *nacks,
                "probe failed: no answer by UDP, by way of helpers, or over TCP"
            ),
            Event::Joined(name) => tracing::info!(member = &*text(name), "member joined"),
            Event::Updated(name) => tracing::debug!(member = &*text(name), "member changed"),
            Event::Suspected(name, accuser) => {
                tracing::info!(
                    member = &*text(name),
                    accuser = &*text(accuser),
                    "member suspected"
                );
            }
            Event::Recovered(name) => {
                tracing::info!(member = &*text(name), "member is alive after all")
            }
            Event::Failed(name) => tracing::warn!(member = &*text(name), "member failed"),
            Event::Left(name) => tracing::info!(member = &*text(name), "member left"),
            Event::Reaped(name) => tracing::debug!(member = &*text(name), "member forgotten"),
            Event::Refuted(incarnation) => {
                tracing::warn!(incarnation, "somebody took this node for dead; told them better");
            }
            Event::Conflict { name, known, claimed } => {
                let member = &*text(name);
                tracing::error!(member, %known, %claimed, "two nodes claim one name");
            }
            Event::JoinDone { peer, result } => self.join_done(*peer, result, now),
            Event::UdpBlocked(name) => tracing::warn!(
                member = &*text(name),
                "member answers over TCP only: UDP to its port or back seems to be blocked"
            ),
            Event::UdpOpen(name) => {
                tracing::info!(member = &*text(name), "member answers over UDP again");
            }
            Event::MergeRefused { peer, why } => {
                let why = why.as_str();
                tracing::warn!(%peer, why, "a peer speaks other protocol versions; not merged");
            }
            Event::LeaveDone => {
                tracing::info!("has told every member that answers that this node leaves");
            }
        }
    }

    fn join_done(&mut self, peer: SocketAddr, result: &Result<(), JoinError>, now: Instant) {
        let is_news = self.is_join_news(peer, result, now);
        match result {
            Ok(()) if is_news => tracing::info!(%peer, "joined through"),
            Ok(()) => tracing::debug!(%peer, "joined through again"),
            Err(JoinError::Ourselves) if is_news => {
                tracing::info!(%peer, "an address to join leads to this node itself");
            }
            Err(why) if is_news => {
                tracing::warn!(%peer, %why, "could not join through; goes on trying");
            }
            Err(why) => tracing::debug!(%peer, %why, "could not join through"),
        }
    }

    /// Whether to write what a join came to; a yes counts as written.
    fn is_join_news(
        &mut self,
        peer: SocketAddr,
        result: &Result<(), JoinError>,
        now: Instant,
    ) -> bool {
        if let Some((told, at)) = self.joins.get(&peer)
            && told == result
            && (result.is_ok() || now.since(*at) < JOIN_PAUSE)
        {
            return false;
        }
        if self.joins.len() >= JOINS_KEPT_MAX {
            self.joins.clear();
        }
        self.joins.insert(peer, (result.clone(), now));
        true
    }

    /// Something about replication.
    pub fn note(&self, note: &Note) {
        match note {
            Note::ClockAhead { origin, ahead_ms } => tracing::warn!(
                %origin,
                ahead_ms,
                "a write is stamped far ahead of this clock; kept, but check the clocks"
            ),
            Note::OwnClockAhead { ahead_ms } => tracing::error!(
                ahead_ms,
                "this node stamps its writes far ahead of its clock, which was ahead and has been \
                 set back: they win over those of others; restart this node"
            ),
            Note::CopyDone { records } => tracing::info!(records, "copied the store of a peer"),
            Note::Founded { why } => tracing::info!(%why, "founds a cluster"),
            Note::Merging { with } => tracing::warn!(
                member = with.as_str(),
                "two clusters were founded apart: joins the one of this member, not ready meanwhile"
            ),
            Note::Divergence { buckets } => {
                tracing::warn!(buckets, "stores had diverged unnoticed; repaired");
            }
            Note::Damage { records } => tracing::error!(
                records,
                "records were damaged in memory; dropped, and fetched from peers: check the machine"
            ),
            Note::TcpBlocked { name, addr } => tracing::warn!(
                member = &*text(name),
                %addr,
                "member answers over UDP only: TCP to its port seems to be blocked, so it gets \
                 large values by way of others, if at all"
            ),
            Note::TcpOpen { name } => {
                tracing::info!(member = &*text(name), "member can be dialled again")
            }
            Note::NoHeir { keys } => tracing::info!(
                keys,
                "no other member is there to hand the store over to; it ends with this node"
            ),
            Note::Bounded { bound, own } => bounded(bound.as_ref(), *own),
            Note::Reset => tracing::warn!(
                "this node may lack deletes that the others have forgotten; it is not ready until \
                 its whole store has been compared with a ready member's"
            ),
            Note::LetGo { runs, .. } => tracing::info!(
                runs = runs.len(),
                "processes that have ended, and whose writes all members hold, are not known by \
                 name any more"
            ),
            Note::SetBack { by, through, last } => set_back(by, *through, *last),
            Note::Incompatible { members, name, theirs, ours }
                if theirs.common(*ours).is_some() =>
            {
                tracing::warn!(
                    members,
                    name = name.as_str(),
                    "members do not know keys that expire, and some are held: nothing is \
                     replicated with them"
                );
            }
            Note::Incompatible { members, name, theirs, ours } => tracing::warn!(
                members,
                name = name.as_str(),
                %theirs,
                %ours,
                "members speak other replication formats: nothing is replicated with them"
            ),
            Note::ShutOut { why } => tracing::warn!(%why, "the cluster has shut this node out"),
            Note::Unreadable { why, from } => {
                tracing::warn!(%from, why = why.as_str(), "a gossip datagram could not be read");
            }
        }
    }
}

/// A name as a string.
pub(super) fn text(name: &NodeName) -> Cow<'_, str> {
    String::from_utf8_lossy(name.as_bytes())
}

/// This node goes on as another run.
fn set_back(member: &str, held_there: u64, made_here: u64) {
    tracing::error!(
        member,
        held_there,
        made_here,
        "this node was set back to an earlier state, as by a restored snapshot: a member holds \
         more of its writes than it has made; it goes on under a new origin, and is not ready \
         until its whole store has been compared with a ready member's"
    );
}

/// The smallest limit of a member has changed.
fn bounded(bound: Option<&(String, u64)>, own_limit_bytes: u64) {
    match bound {
        Some((member, limit_bytes)) => tracing::warn!(
            member = member.as_str(),
            limit_bytes,
            own_limit_bytes,
            "a member may hold less than this node: writes here keep to its limit"
        ),
        None => tracing::info!(own_limit_bytes, "no member may hold less than this node any more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_full_store_is_news_once_and_room_when_nobody_was_refused_for_a_while() {
        let mut log = Log::default();
        let mut room = |refused, bytes, at_s| {
            log.room(refused, bytes, 1_000, Instant::ZERO + Duration::from_secs(at_s))
        };
        assert_eq!(room(0, 2_000, 1), None, "nobody has found it full");
        assert_eq!(room(1, 1_000, 20), Some(false));
        // Each finds no room for something large, in a store with room for what is small.
        assert_eq!((room(1, 100, 21), room(5, 100, 29), room(5, 100, 38)), (None, None, None));
        assert_eq!((room(5, 901, 39), room(5, 900, 39)), (None, Some(true)));
        assert_eq!((room(5, 2_000, 99), room(6, 2_000, 99)), (None, Some(false)));
    }

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
