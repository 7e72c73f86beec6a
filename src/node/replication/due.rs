//! What is due, and when: the other half of the machine.

use super::capacity;
use super::machine::{Replication, is_exact};
use super::receive;
use super::repair::ready;
use super::spread::{backlog, resend};
use crate::node::links::{Lent, Links};
use crate::time::Instant;

impl Replication {
    /// Does whatever is due.
    pub fn timeout(&mut self, lent: &mut Lent<'_>) {
        let urgent = self.holders.is_waiting();
        if self.push.is_due(lent.now.instant) {
            self.flush(lent, urgent);
        }
        let cx = &mut self.shared.lend(lent);
        self.acks.due(cx);
        backlog::due(cx, self.push.pushed);
        resend::due(cx, urgent);
        self.repair_due(lent);
        self.rumors.due(&mut self.shared.lend(lent));
        self.copies_due(lent);
        self.expiry.due(&mut self.shared.lend(lent));
        self.without_ttl_due(lent);
        self.sweep_due(lent);
        self.holders.due(&mut self.shared.lend(lent));
        self.drain_due(lent);
        let next = ready::due(&mut self.shared.lend(lent));
        self.follow(lent, next);
    }

    /// Gaps and digests.
    fn repair_due(&mut self, lent: &mut Lent<'_>) {
        for of in self.gaps.due(lent.now.instant) {
            let next = self.gaps.ask(&mut self.shared.lend(lent), of);
            self.follow(lent, next);
        }
        if self.digests.due(&mut self.shared.lend(lent)) {
            self.greet(lent);
            let cx = &mut self.shared.lend(lent);
            self.digests.tell(cx, is_exact(&self.gaps, &self.pulls));
            cx.try_blocked();
        }
    }

    /// Pulls, served and asked for, and comparisons.
    fn copies_due(&mut self, lent: &mut Lent<'_>) {
        let cx = &mut self.shared.lend(lent);
        let next = self.pulls.serve(cx);
        self.pulls.due(cx);
        self.follow(lent, next);
        let cx = &mut self.shared.lend(lent);
        self.compare.due(cx);
        self.judge.due(cx);
        let next = self.walk.due(cx, self.compare.is_active(), self.pulls.is_active());
        self.follow(lent, next);
    }

    /// Who does not know keys that expire is no peer as long as there are any.
    fn without_ttl_due(&mut self, lent: &mut Lent<'_>) {
        let holds_lasting = self.shared.store.holds_lasting();
        if self.shared.peers.is_changed_by_ttl(holds_lasting) {
            let infos = self.shared.peers.infos();
            self.members(lent, infos);
        }
    }

    fn sweep_due(&mut self, lent: &mut Lent<'_>) {
        let cx = &mut self.shared.lend(lent);
        let Some(begins) = self.sweep.due(cx) else { return };
        if begins {
            receive::own_clock(cx);
            capacity::look(cx);
            self.tails.due(cx, self.pulls.is_active(), self.gaps.given_up_total);
            self.tails.step();
        }
        let (mut is_busy, mut next) = (self.tails.tell(cx), None);
        if begins || self.scrub.is_within() {
            let (is_within, damage) = self.scrub.next(cx);
            (is_busy, next) = (is_busy || is_within, damage);
        }
        self.sweep.forget(cx, is_busy);
        if begins {
            self.sweep.fold(cx, |of| self.gaps.is_asking(of));
        }
        self.follow(lent, next);
    }

    /// When something is due next.
    #[must_use]
    pub fn deadline(&self, links: &Links) -> Instant {
        let peers = &self.shared.peers;
        [
            self.push.deadline(peers, links),
            self.acks.deadline(),
            self.gaps.deadline(),
            self.digests.deadline(peers.n_reachable() > 0),
            self.rumors.deadline(),
            self.pulls.deadline(links),
            self.compare.deadline(),
            self.judge.deadline(),
            self.walk.deadline(),
            self.expiry.deadline(self.shared.store.stats().n_lasting > 0),
            self.sweep.deadline(),
            self.holders.deadline(),
            self.handover.deadline(),
            self.shared.ready.deadline(),
        ]
        .iter()
        .fold(Instant::NEVER, |first, at| first.min(*at))
    }
}
