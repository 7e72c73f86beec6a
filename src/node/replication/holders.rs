//! Writes whose client waits until enough members hold them.
//!
//! A member holds a write of ours when it has acknowledged it; what it holds stays held however
//! the wait ends. One that counts as dead counts no more: what it held went with it.
//!
//! With few members a write is sent again until it is acknowledged. With many it comes as a rumor,
//! or from whoever offers it, and then nobody owes its writer an answer: those still silent are
//! asked, again and again, as long as somebody waits.

use super::Replication;
use crate::limits::WAITERS_MAX;
use crate::node::command::{Concern, Reply};
use crate::node::io::Ticket;
use crate::time::{Instant, Now};
use std::time::Duration;

/// First time between two rounds of asking those that have not acknowledged; it doubles.
const ASK_AGAIN: Duration = Duration::from_millis(25);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(400);

/// One client's wait.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// Whom to answer.
    pub ticket: Ticket,
    /// Our write.
    pub seq: u64,
    /// How many must hold it.
    pub concern: Concern,
    /// When to answer with what there is.
    pub deadline: Instant,
}

/// All waits.
#[derive(Debug, Default)]
pub(super) struct Holders {
    waiting: Vec<(Waiting, u32)>,
    /// When the silent are asked again, with many members, and how long the next round waits.
    ask: Option<(Instant, Duration)>,
}

impl Holders {
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn deadline(&self) -> Instant {
        let ask = self.ask.map(|(at, _)| at);
        let deadlines = self.waiting.iter().map(|(wait, _)| wait.deadline);
        deadlines.chain(ask).min().unwrap_or(Instant::NEVER)
    }
}

impl Replication {
    /// Begins a wait; the members counted are those alive now. A node that has never been ready
    /// belongs to others, be they known yet or not.
    pub fn await_holders(&mut self, now: Now, wait: Waiting) {
        if self.holders.waiting.len() >= WAITERS_MAX {
            self.reply(wait.ticket, Reply::Refused("too many writes wait for holders".into()));
            return;
        }
        let n_least = if self.shared.ready.has_been_ready() { 1 } else { 2 };
        let n_members = (self.shared.peers.n_reachable() + 1).max(n_least);
        let n_members = u32::try_from(n_members).unwrap_or(u32::MAX);
        let wanted = match wait.concern {
            Concern::All => n_members,
            Concern::Majority => n_members / 2 + 1,
            Concern::Count(n) => n,
        };
        self.holders.waiting.push((wait, wanted));
        self.flush(now, true);
        // What went out before the wait began asks for no prompt answer; this does.
        self.ask_holders(now, wait.seq);
        if !self.is_direct() {
            self.holders.ask = Some((now.instant + ASK_AGAIN, ASK_AGAIN * 2));
        }
        self.holders_changed(now);
    }

    /// Asks whoever has not acknowledged `seq` how far it is.
    fn ask_holders(&mut self, now: Now, seq: u64) {
        let behind: Vec<_> = self
            .shared
            .peers
            .reachable()
            .filter(|peer| peer.acked < seq)
            .map(|peer| peer.info.origin)
            .collect();
        for origin in behind {
            self.cx(now).beacon(origin);
        }
    }

    fn ask_again_due(&mut self, now: Now) {
        let Some((_, wait)) = self.holders.ask.filter(|(at, _)| *at <= now.instant) else { return };
        let last = self.holders.waiting.iter().map(|(wait, _)| wait.seq).max();
        self.holders.ask = last.map(|_| (now.instant + wait, (wait * 2).min(ASK_AGAIN_MAX)));
        if let Some(last) = last {
            self.ask_holders(now, last);
        }
    }

    /// Answers the waits that are over.
    pub(super) fn holders_changed(&mut self, now: Now) {
        if self.holders.waiting.is_empty() {
            return;
        }
        // In order, so that many waits and many peers do not multiply.
        let mut acked: Vec<u64> = self.shared.peers.reachable().map(|peer| peer.acked).collect();
        acked.sort_unstable();
        let waiting = std::mem::take(&mut self.holders.waiting);
        for (wait, wanted) in waiting {
            let behind = acked.partition_point(|through| *through < wait.seq);
            let held = u32::try_from(acked.len() - behind + 1).unwrap_or(u32::MAX);
            if held >= wanted || wait.deadline <= now.instant {
                self.reply(wait.ticket, Reply::Holders { held, wanted });
            } else {
                self.holders.waiting.push((wait, wanted));
            }
        }
    }

    pub(super) fn holders_due(&mut self, now: Now) {
        if self.holders.deadline() <= now.instant {
            self.holders_changed(now);
            self.ask_again_due(now);
        }
    }
}
