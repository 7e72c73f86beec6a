//! Absence: who may have slept past forgotten deletes compares its store before it serves again.
//!
//! The marks of forgotten deletes tell a server that an asker lacks some of them. This is the rule
//! beside that, which needs nobody's marks: a node that no peer has told anything for half of its
//! grace, or whose store was not empty when it started, is reset by the first ready peer it meets.
//! And a node that, before its first copy was complete, was pushed a record so old that deletes of
//! its time have been forgotten, may have taken what was deleted: it compares, too.

use super::Replication;
use super::peers::Peer;
use crate::kv::{HlcTime, OriginId, Record};
use crate::node::command::Health;
use crate::time::{Instant, Now};
use std::time::Duration;

/// Absences are longer than this, however short the grace is: digests come once a second.
const ABSENCE_MIN: Duration = Duration::from_secs(10);

/// How long this node has heard nothing.
#[derive(Debug)]
pub(super) struct Absence {
    /// When a peer last told what it holds.
    last_heard: Instant,
    /// Whether the store has to be compared with a ready peer.
    owes: bool,
    /// The earliest time of a record that was pushed before the first copy was complete.
    pushed: Option<HlcTime>,
}

impl Absence {
    /// From the start on; `owes` when there was something in the store.
    pub(super) fn new(now: Instant, owes: bool) -> Absence {
        Absence { last_heard: now, owes, pushed: None }
    }

    /// The store has to be compared.
    pub(super) fn owe(&mut self) {
        self.owes = true;
    }
}

/// Who came with nothing knows of no delete that this node lacks.
fn knows_deletes(peer: &Peer) -> bool {
    peer.is_ready() && !peer.came_new
}

impl Replication {
    /// A peer has told all that it holds.
    pub(super) fn absence_ends(&mut self, now: Now, from: OriginId) {
        let limit = ABSENCE_MIN.max(self.shared.config.tombstone_grace / 2);
        self.absence.owes |= now.instant.since(self.absence.last_heard) > limit;
        self.absence.last_heard = now.instant;
        let knows = self.shared.peers.get(from).is_some_and(knows_deletes);
        // A reset under way begins anew: what it has compared before the absence is as old.
        let compares = self.health() == Health::Ok || self.is_resetting();
        if self.absence.owes && knows && compares && self.settle_debt() {
            self.hide(now);
            self.walk.reset_again(now.instant, self.compare.is_active());
        }
    }

    /// Whether the store may be compared as soon as one of the peers tells what it holds.
    #[must_use]
    pub fn is_to_compare(&self) -> bool {
        let may = |peer: &Peer| knows_deletes(peer) || peer.told_at.is_none();
        self.absence.owes && self.shared.peers.reachable().any(may)
    }

    /// Whether the store has to be compared now. With nothing in it there is nothing to compare.
    fn settle_debt(&mut self) -> bool {
        let stats = self.shared.store.stats();
        std::mem::take(&mut self.absence.owes) && stats.n_live + stats.n_tombstones > 0
    }

    /// Records that were pushed to this node.
    pub(super) fn note_pushed(&mut self, records: &[Record]) {
        if !self.shared.ready.wants_copy() {
            return;
        }
        let others = records.iter().filter(|record| record.dot().origin != self.shared.me);
        let earliest = others.map(|record| record.stamp().time).min();
        self.absence.pushed = self.absence.pushed.into_iter().chain(earliest).min();
    }

    /// Whether a pull that is complete has to be followed by a comparison although the server has
    /// not seen that this node lacks deletes. `first` is that it was the first copy, and
    /// `forgotten` up to when the server has forgotten deletes.
    pub(super) fn has_to_compare(&mut self, first: bool, forgotten: HlcTime) -> bool {
        let pushed = self.absence.pushed.take_if(|_| first);
        let is_old = pushed.is_some_and(|pushed| pushed <= forgotten);
        let owes = first && self.settle_debt();
        is_old || owes
    }
}
