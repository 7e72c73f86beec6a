//! Absence: who may have slept past forgotten deletes compares its store before it serves again.
//!
//! The marks of forgotten deletes tell a server that an asker lacks some of them. This is the rule
//! beside that, which needs nobody's marks: a node that no peer has told anything for half of its
//! grace, or whose store was not empty when it started, is reset by the first ready peer it meets.
//! And a node that, before its first copy was complete, was pushed a record so old that deletes of
//! its time have been forgotten, may have taken what was deleted: it compares, too.

use crate::kv::{HlcTime, OriginId, Record};
use crate::node::command::Health;
use crate::node::replication::context::Context;
use crate::node::replication::facts::peers::{Peer, Peers};
use crate::time::Instant;
use std::time::Duration;

/// Absences are longer than this, however short the grace is: digests come once a second.
const ABSENCE_MIN: Duration = Duration::from_secs(10);

/// How long this node has heard nothing.
#[derive(Debug)]
pub(in crate::node) struct Absence {
    /// When a peer last told what it holds.
    last_heard: Instant,
    /// Whether the store has to be compared with a ready peer.
    owes: bool,
    /// The earliest time of a record that was pushed before the first copy was complete.
    pushed: Option<HlcTime>,
}

impl Absence {
    /// From the start on; `owes` when there was something in the store.
    pub(in crate::node) fn new(now: Instant, owes: bool) -> Absence {
        Absence { last_heard: now, owes, pushed: None }
    }

    /// The store has to be compared.
    pub(in crate::node) fn owe(&mut self) {
        self.owes = true;
    }
}

/// Who came with nothing knows of no delete that this node lacks.
fn knows_deletes(peer: &Peer) -> bool {
    peer.is_ready() && !peer.came_new
}

impl Absence {
    /// A peer has told all that it holds. Whether the store is to be compared now.
    pub(in crate::node) fn ends(&mut self, cx: &Context<'_>, from: OriginId) -> bool {
        let limit = ABSENCE_MIN.max(cx.config.tombstone_grace / 2);
        self.owes |= cx.now.instant.since(self.last_heard) > limit;
        self.last_heard = cx.now.instant;
        let knows = cx.peers.get(from).is_some_and(knows_deletes);
        // A reset under way begins anew: what it has compared before the absence is as old.
        let compares = cx.ready.health() == Health::Ok || cx.ready.is_resetting();
        self.owes && knows && compares && self.settle_debt(cx)
    }

    /// Whether the store may be compared as soon as one of the peers tells what it holds.
    pub(in crate::node) fn is_to_compare(&self, peers: &Peers) -> bool {
        let may = |peer: &Peer| knows_deletes(peer) || peer.told_at.is_none();
        self.owes && peers.reachable().any(may)
    }

    /// Whether the store has to be compared now. With nothing in it there is nothing to compare.
    fn settle_debt(&mut self, cx: &Context<'_>) -> bool {
        let stats = cx.store.stats();
        std::mem::take(&mut self.owes) && stats.n_live + stats.n_tombstones > 0
    }

    /// Records that were pushed to this node.
    pub(in crate::node) fn note_pushed(&mut self, cx: &Context<'_>, records: &[Record]) {
        if !cx.ready.wants_copy() {
            return;
        }
        let others = records.iter().filter(|record| record.dot().origin != cx.me);
        let earliest = others.map(|record| record.stamp().time).min();
        self.pushed = self.pushed.into_iter().chain(earliest).min();
    }

    /// Whether a pull that is complete has to be followed by a comparison although the server has
    /// not seen that this node lacks deletes. `first` is that it was the first copy, and
    /// `forgotten` up to when the server has forgotten deletes.
    pub(in crate::node) fn has_to_compare(
        &mut self,
        cx: &Context<'_>,
        first: bool,
        forgotten: HlcTime,
    ) -> bool {
        let pushed = self.pushed.take_if(|_| first);
        let is_old = pushed.is_some_and(|pushed| pushed <= forgotten);
        let owes = first && self.settle_debt(cx);
        is_old || owes
    }
}
