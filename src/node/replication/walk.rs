//! Walks: every shard compared once with a peer, whatever is written meanwhile.
//!
//! ```text
//! walk at (shard, leaf)
//!   --Roots{first: shard}-->   peer
//!   <--Leaves{16 shards}--                 the leaves that differ, and those with deletes of ours
//!   --Items{names}-->
//!   <--Verdicts{need, drop} + newer--      applied; on from the next leaf, or the next shard
//!   ...                                    after the last shard: done
//! ```
//!
//! A comparison of hashes ends when they agree, which under a steady stream of writes they never
//! do, and it never gets past the first shards. A walk has a place instead, which only moves on.
//! When a link is lost, or a peer is busy, it goes on from there with another peer.
//!
//! A **reset** is a walk by a node that lacks deletes which are forgotten: it hides, pulls all it
//! lacks from a ready peer, walks with that one, and only then is ready again. By the end of the
//! pull it knows whether the peer holds those deletes: another sleeper is of no use. A walk that
//! **mends** looks for what was dropped as damaged; any ready peer will do, the node stays ready,
//! and takes itself for whole at its end.

use super::Replication;
use super::known::Claims;
use super::leaves::Picked;
use super::message::{Busy, PullEnd};
use super::peers::Peer;
use crate::kv::{Dot, OriginId};
use crate::limits::{STORE_LEAVES_PER_SHARD, STORE_SHARDS};
use crate::mutation::mutated;
use crate::node::io::ConnId;
use crate::time::{Instant, Now};
use std::collections::BTreeMap;
use std::time::Duration;

/// Least time between two tries to go on.
const RETRY: Duration = Duration::from_millis(200);
/// Records looked through in one turn, and the last shard.
const VISITED_MAX: usize = 65_536;
/// Times that the same leaves are compared because the peer holds more in them than goes into one
/// message. What is newer there and has still not come, comes as any write does.
const AGAIN_MAX: u32 = 64;
/// How long a reset waits for a peer that holds the deletes while others are there, and while
/// nobody is.
const NOBODY_KNOWS: Duration = Duration::from_secs(2);
const NOBODY_THERE: Duration = Duration::from_secs(8);

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// To fetch what was dropped as damaged.
    Mend,
    /// To drop what was deleted.
    Reset,
}

/// The walk under way, if any.
#[derive(Debug)]
pub(super) struct Walk {
    why: Option<Why>,
    /// The forgotten deletes that a reset has been told it lacked.
    lacked: Vec<Dot>,
    /// Of whom a reset has pulled all, and who holds those deletes.
    with: Option<OriginId>,
    /// Everything before this shard and leaf has been compared.
    at: (usize, usize),
    /// Where it goes on when the names under way have been judged.
    next: (usize, usize),
    /// The peer's leaves, of the shards it has told.
    told: BTreeMap<usize, Vec<u64>>,
    again: u32,
    /// A peer has said that we lack still more: the answer under way is the last of this walk, and
    /// another one begins.
    is_outdated: bool,
    /// When to go on.
    retry_at: Instant,
    /// Since when no peer has been there that a reset may walk with.
    unserved: Option<Instant>,
}

impl Default for Walk {
    fn default() -> Walk {
        Walk {
            why: None,
            lacked: Vec::new(),
            with: None,
            at: (0, 0),
            next: (0, 0),
            told: BTreeMap::new(),
            again: 0,
            is_outdated: false,
            retry_at: Instant::NEVER,
            unserved: None,
        }
    }
}

impl Walk {
    /// Whether there is something to walk for.
    pub(super) fn is_wanted(&self) -> bool {
        self.why.is_some()
    }

    pub(super) fn deadline(&self) -> Instant {
        if self.is_wanted() { self.retry_at } else { Instant::NEVER }
    }

    fn begin(&mut self, why: Why, now: Instant, is_asking: bool) {
        let is_outdated = self.why.is_some() && is_asking;
        *self = Walk { why: Some(why), is_outdated, retry_at: now, ..Walk::default() };
    }
}

impl Replication {
    /// Begins the walk of a reset, from the first shard on: this node hides.
    pub(super) fn walk_for_reset(&mut self, now: Now, lacked: Vec<Dot>) {
        self.walk.begin(Why::Reset, now.instant, self.buckets.is_active());
        self.walk.lacked = lacked;
    }

    /// Begins the walk of a reset, or the one under way anew.
    pub(super) fn walk_again(&mut self, now: Now) {
        let lacked = std::mem::take(&mut self.walk.lacked);
        self.walk_for_reset(now, lacked);
    }

    /// Begins a walk for what was dropped as damaged; a reset finds that, too.
    pub(super) fn walk_to_mend(&mut self, now: Now) {
        if self.walk.why != Some(Why::Reset) {
            self.walk.begin(Why::Mend, now.instant, self.buckets.is_active());
        }
    }

    /// A pull from `peer` is complete: a reset walks with it, if it is not another sleeper.
    pub(super) fn walk_pulled(&mut self, now: Now, peer: OriginId, end: &PullEnd) {
        if self.walk.why != Some(Why::Reset) || self.walk.with.is_some() || !self.serves(peer) {
            return;
        }
        let claims = Claims::new(&end.heads, &end.folded);
        let knows = self.walk.lacked.iter().all(|dot| claims.covers(*dot));
        if knows || mutated!(WalkWithAnybody) {
            self.walk.with = Some(peer);
            self.walk.unserved = None;
            self.walk_on(now, peer);
        }
    }

    fn serves(&self, peer: OriginId) -> bool {
        self.shared.peers.get(peer).is_some_and(|peer| peer.info.reachable && peer.is_ready())
    }

    /// The peer does not compare now.
    pub(super) fn comparison_refused(&mut self, now: Now, conn: ConnId, busy: &Busy) {
        if self.buckets.is_asked(conn) {
            self.buckets.end();
            let wait = Duration::from_millis(u64::from(busy.retry_ms)).min(RETRY);
            self.walk.retry_at = now.instant + wait;
        }
    }

    pub(super) fn walk_due(&mut self, now: Now) {
        if self.walk.deadline() > now.instant {
            return;
        }
        self.walk.retry_at = now.instant + RETRY;
        if self.buckets.is_active() {
            return;
        }
        let ready = self.shared.peers.reachable().filter(|peer| peer.is_ready());
        let ready: Vec<OriginId> = ready.map(|peer| peer.info.origin).collect();
        // A pull for what else is missing, from peers that are not ready, is none to wait for.
        if self.pulls.is_active() && !ready.is_empty() {
            self.walk.unserved = None;
            return;
        }
        self.walk.is_outdated = false;
        self.walk.with = self.walk.with.filter(|peer| self.serves(*peer));
        if let Some(peer) = self.walk.with {
            self.walk_on(now, peer);
            return;
        }
        let drawn = (!ready.is_empty()).then(|| ready[self.shared.rng.below(ready.len())]);
        match (self.walk.why, drawn) {
            (Some(Why::Mend), Some(peer)) => self.walk_on(now, peer),
            (Some(Why::Reset), drawn) => {
                let is_trusted = self.nobody_to_walk_with(now);
                if let Some(peer) = drawn.filter(|_| !is_trusted) {
                    self.start_pull(now, peer);
                }
            }
            _ => {}
        }
    }

    /// Somebody has to be ready. A node that nobody answers trusts its own store again after a
    /// while, and compares it with whoever comes. Where nobody holds the deletes that this node was
    /// told of, or all hide, the one with the lowest origin of those who hide does, and the others
    /// compare with it. True when this node is ready again for want of a peer.
    fn nobody_to_walk_with(&mut self, now: Now) -> bool {
        let waited = now.instant.since(*self.walk.unserved.get_or_insert(now.instant));
        let is_alone = self.shared.peers.n_reachable() == 0;
        let hides_before = |peer: &Peer| peer.is_hidden() && peer.info.origin < self.shared.me;
        let is_first = !self.shared.peers.reachable().any(hides_before);
        let patience = if is_alone { NOBODY_THERE } else { NOBODY_KNOWS };
        if waited < patience || !is_first {
            return false;
        }
        self.walk = Walk::default();
        if is_alone {
            self.absence.owe();
        }
        self.compared(now);
        true
    }

    /// Asks for the peer's leaves from where the walk is.
    fn walk_on(&mut self, now: Now, peer: OriginId) {
        self.walk.told.clear();
        self.start_comparison(now, peer, None, Some(self.walk.at.0 as u16));
    }

    /// The peer has told leaves.
    pub(super) fn walk_told(&mut self, now: Now, conn: ConnId, told: BTreeMap<usize, Vec<u64>>) {
        if std::mem::take(&mut self.walk.is_outdated) {
            self.walk_ask(now);
            return;
        }
        self.walk.told = told;
        self.walk_names(now, conn);
    }

    /// Asks the same peer for the leaves from where the walk is.
    fn walk_ask(&mut self, now: Now) {
        self.walk.told.clear();
        let first = Some(self.walk.at.0 as u16);
        let Some(peer) = self.buckets.peer() else { return };
        match self.ask_roots(now, peer, first) {
            Some(conn) => self.buckets.goes_on(now.instant, conn),
            None => self.buckets.end(),
        }
    }

    /// Sends the names of the next leaves that have to be compared. From a peer that tells the
    /// leaves of other shards than it was asked for, all of a shard's are.
    fn walk_names(&mut self, now: Now, conn: ConnId) {
        let (mut picked, mut visited) = (Picked::default(), 0);
        let (mut shard, mut leaf) = self.walk.at;
        loop {
            let (n, n_tombstones) = self.shared.store.shard_len(shard);
            let (ours, theirs) = (self.shared.store.leaves(shard), self.walk.told.get(&shard));
            leaf = if theirs.is_some_and(|theirs| *theirs == ours) && n_tombstones == 0 {
                STORE_LEAVES_PER_SHARD
            } else {
                visited += n;
                picked.add(&self.shared.store, shard, leaf, |leaf, size| match theirs {
                    // Deletes are not in the hashes.
                    Some(theirs) => theirs[leaf] != ours[leaf] || size.n_tombstones > 0,
                    None => size.n > 0,
                })
            };
            if leaf < STORE_LEAVES_PER_SHARD {
                break;
            }
            (shard, leaf) = (shard + 1, 0);
            if visited >= VISITED_MAX || !self.walk.told.contains_key(&shard) {
                break;
            }
        }
        self.walk.next = (shard, leaf);
        if picked.leaves.is_empty() {
            self.walk_step(now, conn);
        } else {
            self.send_items(conn, picked, false);
        }
    }

    /// The names sent have been judged, and what there was of it is applied. `more` is that the
    /// peer holds newer records than went into the message.
    pub(super) fn walk_judged(&mut self, now: Now, conn: ConnId, more: bool) {
        if more && self.walk.again < AGAIN_MAX {
            self.walk.again += 1;
            self.walk.next = self.walk.at;
        }
        self.walk_step(now, conn);
    }

    fn walk_step(&mut self, now: Now, conn: ConnId) {
        if std::mem::take(&mut self.walk.is_outdated) {
            // What has been judged belongs to the walk before this one.
            self.walk_ask(now);
            return;
        }
        if self.walk.next > self.walk.at {
            self.walk.again = 0;
        }
        self.walk.at = self.walk.next;
        let shard = self.walk.at.0;
        if shard >= STORE_SHARDS || (mutated!(ResetEarly) && shard >= STORE_SHARDS / 2) {
            self.buckets.end();
            self.walked(now);
        } else if self.walk.again == 0 && self.walk.told.contains_key(&shard) {
            self.walk_names(now, conn);
        } else {
            self.walk_ask(now);
        }
    }

    fn walked(&mut self, now: Now) {
        let why = std::mem::take(&mut self.walk).why;
        self.shared.known.trust();
        if why == Some(Why::Reset) {
            self.compared(now);
        }
    }
}
