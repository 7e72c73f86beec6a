//! Writes whose client waits until enough members hold them.
//!
//! A member holds a write of ours when it has acknowledged it; what it holds stays held however
//! the wait ends. One that counts as dead counts no more: what it held went with it.
//!
//! With few members a write is sent again until it is acknowledged. With many it comes as a rumor,
//! or from whoever offers it, and then nobody owes its writer an answer: those still silent are
//! asked, again and again, as long as somebody waits.

use crate::limits::WAITERS_MAX;
use crate::node::command::{Concern, Reply};
use crate::node::io::Ticket;
use crate::node::replication::context::Context;
use crate::time::Instant;
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
pub(in crate::node) struct Holders {
    waiting: Vec<(Waiting, u32)>,
    /// When the silent are asked again, with many members, and how long the next round waits.
    ask: Option<(Instant, Duration)>,
}

impl Holders {
    pub(in crate::node) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(in crate::node) fn deadline(&self) -> Instant {
        let ask = self.ask.map(|(at, _)| at);
        let deadlines = self.waiting.iter().map(|(wait, _)| wait.deadline);
        deadlines.chain(ask).min().unwrap_or(Instant::NEVER)
    }
}

impl Holders {
    /// Begins a wait. False when there are too many.
    pub(in crate::node) fn begin(&mut self, cx: &mut Context<'_>, wait: Waiting) -> bool {
        if self.waiting.len() >= WAITERS_MAX {
            cx.reply(wait.ticket, Reply::Refused("too many writes wait for holders".into()));
            return false;
        }
        self.waiting.push((wait, wanted(cx, wait.concern)));
        true
    }

    /// Answers a wait for a write of another run than this one, which nobody is known to hold.
    pub(in crate::node) fn in_vain(&self, cx: &mut Context<'_>, wait: Waiting) {
        let wanted = wanted(cx, wait.concern);
        cx.reply(wait.ticket, Reply::Holders { held: 1, wanted });
    }

    /// Answers all waits as they are: the run whose writes they are about is over.
    pub(in crate::node) fn end_all(&mut self, cx: &mut Context<'_>) {
        for (wait, wanted) in std::mem::take(&mut self.waiting) {
            cx.reply(wait.ticket, Reply::Holders { held: 1, wanted });
        }
    }

    /// The write of a wait that began just now has gone out.
    pub(in crate::node) fn flushed(&mut self, cx: &mut Context<'_>, seq: u64) {
        // What went out before the wait began asks for no prompt answer; this does.
        ask(cx, seq);
        if !cx.is_direct() {
            self.ask = Some((cx.now.instant + ASK_AGAIN, ASK_AGAIN * 2));
        }
        self.changed(cx);
    }

    /// Answers the waits for this write: nobody is there any more to hear how they end.
    pub(in crate::node) fn end(&mut self, cx: &mut Context<'_>, seq: u64) {
        self.waiting.retain(|(wait, _)| {
            if wait.seq == seq {
                cx.reply(wait.ticket, Reply::Refused("nobody waits for it any more".into()));
            }
            wait.seq != seq
        });
    }

    fn ask_again_due(&mut self, cx: &mut Context<'_>) {
        let Some((_, wait)) = self.ask.filter(|(at, _)| *at <= cx.now.instant) else { return };
        let last = self.waiting.iter().map(|(wait, _)| wait.seq).max();
        self.ask = last.map(|_| (cx.now.instant + wait, (wait * 2).min(ASK_AGAIN_MAX)));
        if let Some(last) = last {
            ask(cx, last);
        }
    }

    /// Answers the waits that are over.
    pub(in crate::node) fn changed(&mut self, cx: &mut Context<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        // In order, so that many waits and many peers do not multiply.
        let mut acked: Vec<u64> = cx.peers.reachable().map(|peer| peer.acked).collect();
        acked.sort_unstable();
        let waiting = std::mem::take(&mut self.waiting);
        for (wait, wanted) in waiting {
            let behind = acked.partition_point(|through| *through < wait.seq);
            let held = u32::try_from(acked.len() - behind + 1).unwrap_or(u32::MAX);
            if held >= wanted || wait.deadline <= cx.now.instant {
                cx.reply(wait.ticket, Reply::Holders { held, wanted });
            } else {
                self.waiting.push((wait, wanted));
            }
        }
    }

    /// Answers and asks again what is due.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) {
        if self.deadline() <= cx.now.instant {
            self.changed(cx);
            self.ask_again_due(cx);
        }
    }
}

/// How many members have to hold a write. The members counted are those alive now; a node that has
/// never been ready belongs to others, be they known yet or not.
fn wanted(cx: &Context<'_>, concern: Concern) -> u32 {
    let n_least = if cx.ready.has_been_ready() { 1 } else { 2 };
    let n_members = (cx.peers.n_reachable() + 1).max(n_least);
    let n_members = u32::try_from(n_members).unwrap_or(u32::MAX);
    match concern {
        Concern::All => n_members,
        Concern::Majority => n_members / 2 + 1,
        Concern::Count(n) => n,
    }
}

/// Asks whoever has not acknowledged `seq` how far it is.
fn ask(cx: &mut Context<'_>, seq: u64) {
    let behind: Vec<_> =
        cx.peers.reachable().filter(|peer| peer.acked < seq).map(|peer| peer.info.origin).collect();
    for origin in behind {
        cx.beacon(origin);
    }
}
