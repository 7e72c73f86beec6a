//! Writes whose client waits until enough members hold them.
//!
//! A member holds a write of ours when it has acknowledged it; what it holds stays held however
//! the wait ends. One that counts as dead counts no more: what it held went with it.

use super::Replication;
use crate::limits::WAITERS_MAX;
use crate::node::command::{Concern, Reply};
use crate::node::io::Ticket;
use crate::time::{Instant, Now};

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
}

impl Holders {
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.waiting.iter().map(|(wait, _)| wait.deadline).min().unwrap_or(Instant::NEVER)
    }
}

impl Replication {
    /// Begins a wait; the members counted are those alive now.
    pub fn await_holders(&mut self, now: Now, wait: Waiting) {
        if self.holders.waiting.len() >= WAITERS_MAX {
            self.reply(wait.ticket, Reply::Refused("too many writes wait for holders".into()));
            return;
        }
        let n_members = u32::try_from(self.peers.n_reachable() + 1).unwrap_or(u32::MAX);
        let wanted = match wait.concern {
            Concern::All => n_members,
            Concern::Majority => n_members / 2 + 1,
            Concern::Count(n) => n,
        };
        self.holders.waiting.push((wait, wanted));
        self.flush(now, true);
        let behind: Vec<_> = self
            .peers
            .reachable()
            .filter(|peer| peer.acked < wait.seq)
            .map(|peer| peer.info.origin)
            .collect();
        // What went out before the wait began asks for no prompt answer; this does.
        for origin in behind {
            self.beacon(origin);
        }
        self.holders_changed(now);
    }

    fn held(&self, seq: u64) -> u32 {
        let peers = self.peers.reachable().filter(|peer| peer.acked >= seq).count();
        u32::try_from(peers + 1).unwrap_or(u32::MAX)
    }

    /// Answers the waits that are over.
    pub(super) fn holders_changed(&mut self, now: Now) {
        let waiting = std::mem::take(&mut self.holders.waiting);
        for (wait, wanted) in waiting {
            let held = self.held(wait.seq);
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
        }
    }
}
