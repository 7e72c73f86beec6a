//! Whether the cluster has shut this node out: its members answer, and refuse it.
//!
//! A node that was cut off while the others changed their gossip key, or went on to another label,
//! is alone when the network is back. It would serve what it held then for ever, and look healthy.
//! Silence is no sign of it: it may be the only one left. What counts:
//!
//! ```text
//! alone     it had peers, lost them by their silence, and has none now
//! refused   two of those whom it lost then refuse it for key or label; or those that do, whom it
//!           lost and whom it dials besides, are at least half; a refusal counts for two minutes
//! not its   it did not itself begin to encrypt with another key shortly before it lost them, or
//!   doing   since: then it is they who have missed that
//! ```
//!
//! One that refuses is as likely to be the one that is wrong, as when it came back with another
//! key: that is written to the log and no more. Two outnumber this node: it is not ready.
//!
//! It is over when a member is alive again, or nobody has refused for two minutes.

use super::Node;
use super::io::{Note, Output};
use super::meta;
use crate::limits::JOINS_WAITING_MAX;
use crate::swim::io::Refusal;
use crate::swim::{Member, MemberState};
use crate::time::{Instant, Now};
use crate::wire::stream::Mismatch;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a refusal counts.
const REFUSAL_MEMORY: Duration = Duration::from_secs(120);
/// Members that died within this time before the last of them were lost together with it.
const LOST_TOGETHER: Duration = Duration::from_secs(120);
/// A change of the key in use counts as ours when it came no earlier than this before the first
/// peer was lost: whoever missed it was cut off then, and found dead somewhat later.
const KEY_CHANGE_SLACK: Duration = Duration::from_secs(60);
/// Time between two notes.
const NOTE_AGAIN: Duration = Duration::from_secs(60);
/// Fewest that refuse a node for it to be the one that is wrong.
const OUTNUMBERED: usize = 2;

/// Who has refused this node, and what came of it.
#[derive(Debug, Default)]
pub(super) struct ShutOut {
    refusals: BTreeMap<SocketAddr, (Instant, Mismatch)>,
    /// Since when no other member is alive, though one was.
    alone_since: Option<Instant>,
    had_peers: bool,
    /// When this node last began to encrypt with another key.
    rekeyed: Option<Instant>,
    /// The sentence, while it is shut out.
    why: Option<String>,
    next_note: Instant,
}

impl ShutOut {
    /// Why this node is shut out; `None` when it is not.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Whoever is at `peer` wants nothing to do with us. That it closes without a word says
    /// nothing: anything in between does that.
    pub(super) fn refused(&mut self, now: Instant, peer: SocketAddr, mismatch: Mismatch) {
        if mismatch == Mismatch::Silence {
            return;
        }
        if self.refusals.len() < JOINS_WAITING_MAX || self.refusals.contains_key(&peer) {
            self.refusals.insert(peer, (now, mismatch));
        }
    }

    /// Whether whoever is at `peer` has said of late that it cannot read us.
    pub(super) fn refuses_key(&self, peer: SocketAddr) -> bool {
        self.refusals.get(&peer).is_some_and(|(_, mismatch)| *mismatch == Mismatch::Key)
    }

    /// Whoever is at `peer` talks to us.
    pub(super) fn answered(&mut self, peer: SocketAddr) {
        self.refusals.remove(&peer);
    }

    /// This node encrypts with another key from now on.
    pub(super) fn rekeyed(&mut self, now: Instant) {
        self.rekeyed = Some(now);
    }

    /// Follows whether another member is alive.
    fn follow(&mut self, now: Instant, alone: bool) {
        self.refusals.retain(|_, (at, _)| now.since(*at) < REFUSAL_MEMORY);
        if alone {
            let since = self.had_peers.then_some(now);
            self.alone_since = self.alone_since.or(since);
        } else {
            (self.had_peers, self.alone_since, self.why) = (true, None, None);
        }
    }

    /// The refusals that count: of two that were members, or of half of those lost and refusing.
    /// Silent ones may have been stopped since.
    fn judge(&self, lost: &[(SocketAddr, Instant)]) -> Option<String> {
        let first = lost.iter().map(|(_, at)| *at).min()?;
        if self.rekeyed.is_some_and(|at| at + KEY_CHANGE_SLACK >= first) {
            return None;
        }
        let silent = lost.iter().filter(|(addr, _)| !self.refusals.contains_key(addr)).count();
        let enough = lost.len() - silent >= OUTNUMBERED || self.refusals.len() >= silent;
        if self.refusals.is_empty() || !enough {
            return None;
        }
        Some(self.sentence())
    }

    fn sentence(&self) -> String {
        let Some((addr, (_, mismatch))) = self.refusals.first_key_value() else {
            return String::new();
        };
        let (refusal, remedy) = match mismatch {
            Mismatch::Label => (Refusal::Label, "restart this node with the cluster's label"),
            _ => (Refusal::Key, "install and use the cluster's key here, or restart it with that"),
        };
        let more = match self.refusals.len() - 1 {
            0 => String::new(),
            more => format!(", and so do {more} more"),
        };
        format!("shut out: {addr} refuses this node{more}: {refusal}; {remedy}")
    }
}

impl Node {
    /// Judges whether this node is shut out. At every turn: it costs nothing while a peer is alive
    /// or nobody has refused.
    pub(super) fn shut_out_due(&mut self, now: Now) {
        let alone = self.alone() && self.leaving.is_none();
        self.shut_out.follow(now.instant, alone);
        if self.shut_out.refusals.is_empty() {
            self.shut_out.why = None;
        }
        let Some(since) = self.shut_out.alone_since else { return };
        if self.shut_out.refusals.is_empty() || self.replication().is_new() {
            return;
        }
        // Once shut out, a key that is changed here does not end it: a member does.
        let found = self.shut_out.judge(&self.lost(since));
        let stays = || self.shut_out.why.is_some().then(|| self.shut_out.sentence());
        let Some(why) = found.or_else(stays) else { return };
        let outnumbered = self.shut_out.refusals.len() >= OUTNUMBERED;
        if outnumbered || self.shut_out.why.is_some() {
            self.shut_out.why = Some(why.clone());
        }
        if self.shut_out.next_note <= now.instant {
            self.shut_out.next_note = now.instant + NOTE_AGAIN;
            self.out.push_back(Output::Note(Note::ShutOut { why }));
        }
    }

    /// The members of our kind that fell silent shortly before this node was alone, or since.
    fn lost(&self, alone_since: Instant) -> Vec<(SocketAddr, Instant)> {
        let fell_silent = |member: &&Member| {
            !matches!(member.state, MemberState::Alive | MemberState::Left)
                && member.state_change + LOST_TOGETHER >= alone_since
                && meta::origin(&member.meta).is_some()
        };
        let lost = self.swim.members().filter(fell_silent);
        lost.map(|member| (member.socket_addr, member.state_change)).collect()
    }

    /// Members of our kind that are remembered and not to be reached, and for how long. Those whose
    /// address is another's now, or our own, are gone for good.
    pub(super) fn unreached(&self, now: Instant) -> Vec<(String, Duration)> {
        let is_lost = |member: &&Member| {
            member.state == MemberState::Dead
                && meta::origin(&member.meta).is_some()
                && !self.swim.is_alive_at(member.socket_addr)
        };
        let lost = self.swim.members().filter(is_lost);
        lost.map(|member| (member.name.to_string(), now.since(member.state_change))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 7947))
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// A node that lost some peers at 1000 s and is refused by some at 1010 s.
    fn judged(rekeyed: Option<u64>, lost: &[u8], refusing: &[(u8, Mismatch)]) -> bool {
        let mut shut_out = ShutOut::default();
        rekeyed.into_iter().for_each(|seconds| shut_out.rekeyed(at(seconds)));
        shut_out.follow(at(1), false);
        shut_out.follow(at(1000), true);
        for (n, mismatch) in refusing {
            shut_out.refused(at(1010), addr(*n), *mismatch);
        }
        let lost: Vec<_> = lost.iter().map(|n| (addr(*n), at(1000))).collect();
        shut_out.judge(&lost).is_some()
    }

    #[test]
    fn refusals_count_and_silence_does_not() {
        let key = |n| (n, Mismatch::Key);
        for (lost, refusing, expected) in [
            (&[1, 2][..], &[][..], false),
            (&[1, 2], &[key(1), key(2)], true),
            (&[1, 2], &[key(1)], true),
            (&[1, 2, 3], &[key(1)], false),
            // Three of five have been stopped since.
            (&[1, 2, 3, 4, 5], &[key(1), key(2)], true),
            (&[1, 2, 3, 4, 5], &[key(1), key(8)], false),
            // Those whom discovery names count too, when there is somebody to have lost.
            (&[1, 2], &[key(8), key(9)], true),
            (&[], &[key(8), key(9)], false),
            (&[1], &[(1, Mismatch::Silence)], false),
            (&[1], &[(1, Mismatch::Label)], true),
        ] {
            assert_eq!(judged(None, lost, refusing), expected, "{lost:?} {refusing:?}");
        }
    }

    #[test]
    fn whoever_has_changed_the_key_is_not_shut_out_by_those_who_missed_it() {
        for (rekeyed, expected) in [(100, true), (939, true), (960, false), (1005, false)] {
            assert_eq!(judged(Some(rekeyed), &[1], &[(1, Mismatch::Key)]), expected, "{rekeyed}");
        }
    }

    #[test]
    fn refusals_are_forgotten_and_bounded() {
        let mut shut_out = ShutOut::default();
        for n in 0..2 * JOINS_WAITING_MAX {
            let addr = SocketAddr::from(([10, 0, 0, 1], 1 + n as u16));
            shut_out.refused(at(10), addr, Mismatch::Key);
        }
        assert_eq!(shut_out.refusals.len(), JOINS_WAITING_MAX);
        shut_out.answered(SocketAddr::from(([10, 0, 0, 1], 1)));
        assert_eq!(shut_out.refusals.len(), JOINS_WAITING_MAX - 1);
        shut_out.follow(at(129), true);
        assert_eq!(shut_out.refusals.len(), JOINS_WAITING_MAX - 1);
        shut_out.follow(at(130), true);
        assert!(shut_out.refusals.is_empty());
    }
}
