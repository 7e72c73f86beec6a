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

use crate::kv::{Dot, OriginId};
use crate::limits::{STORE_LEAVES_PER_SHARD, STORE_SHARDS, TURN_RECORDS_MAX};
use crate::mutation::mutated;
use crate::node::io::ConnId;
use crate::node::replication::context::Context;
use crate::node::replication::facts::known::Claims;
use crate::node::replication::facts::peers::Peer;
use crate::node::replication::message::{Busy, PullEnd};
use crate::node::replication::next::Next;
use crate::node::replication::repair::leaves::{Picked, send_items};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Least time between two tries to go on.
const RETRY: Duration = Duration::from_millis(200);
/// Times that the same leaves are compared because the peer holds more in them than goes into one
/// message. What is newer there and has still not come, comes as any write does.
const AGAIN_MAX: u32 = 64;
/// How long a reset waits for a peer that holds the deletes while others are there, and while
/// nobody is.
const NOBODY_KNOWS: Duration = Duration::from_secs(2);
const NOBODY_THERE: Duration = Duration::from_secs(8);
/// After so many pulls in vain a reset takes it that nobody holds them.
const VAIN_MAX: usize = 8;

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
pub(in crate::node) struct Walk {
    why: Option<Why>,
    /// The forgotten deletes that a reset has been told it lacked, and for each the floor that its
    /// run was above.
    lacked: BTreeMap<Dot, u64>,
    /// Of whom a reset has pulled all, and who holds those deletes.
    with: Option<OriginId>,
    /// Of whom it has pulled all in vain: they do not hold them.
    in_vain: BTreeSet<OriginId>,
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
            lacked: BTreeMap::new(),
            with: None,
            in_vain: BTreeSet::new(),
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
    pub(in crate::node) fn is_wanted(&self) -> bool {
        self.why.is_some()
    }

    pub(in crate::node) fn deadline(&self) -> Instant {
        if self.is_wanted() { self.retry_at } else { Instant::NEVER }
    }

    fn begin(&mut self, why: Why, now: Instant, is_asking: bool) {
        let is_outdated = self.why.is_some() && is_asking;
        *self = Walk { why: Some(why), is_outdated, retry_at: now, ..Walk::default() };
    }
}

impl Walk {
    /// Begins the walk of a reset, from the first shard on: this node hides. `lacked` are the
    /// deletes of which it was told, beside those of a reset under way, and the floor that their
    /// runs were above. `is_comparing` is that an answer to a comparison is still under way.
    pub(in crate::node) fn reset(
        &mut self,
        now: Instant,
        lacked: (Vec<Dot>, u64),
        is_comparing: bool,
    ) {
        let (lacked, floor) = lacked;
        let is_reset = self.why == Some(Why::Reset);
        let mut before = if is_reset { std::mem::take(&mut self.lacked) } else { BTreeMap::new() };
        lacked.into_iter().for_each(|dot| _ = before.entry(dot).or_insert(floor));
        self.begin(Why::Reset, now, is_comparing);
        self.lacked = before;
    }

    /// Begins the walk of a reset, or the one under way anew.
    pub(in crate::node) fn reset_again(&mut self, now: Instant, is_comparing: bool) {
        self.reset(now, (Vec::new(), 0), is_comparing);
    }

    /// Begins a walk for what was dropped as damaged; a reset finds that, too.
    pub(in crate::node) fn mend(&mut self, now: Instant, is_comparing: bool) {
        if self.why != Some(Why::Reset) {
            self.begin(Why::Mend, now, is_comparing);
        }
    }

    /// A pull from `peer` is complete: a reset walks with it, if it is not another sleeper.
    pub(in crate::node) fn pulled(
        &mut self,
        cx: &mut Context<'_>,
        peer: OriginId,
        end: &PullEnd,
    ) -> Option<Next> {
        if self.why != Some(Why::Reset) || self.with.is_some() || !serves(cx, peer) {
            return None;
        }
        let claims = Claims::new(&end.heads, &end.folded);
        // Who has cut its list since names what was in it no more.
        let is_below = |dot: Dot, floor| claims.floor() > floor && !claims.names(dot.origin);
        let mut lacked = self.lacked.iter().map(|(dot, floor)| (*dot, *floor));
        let knows = lacked.all(|(dot, floor)| claims.covers(dot) || is_below(dot, floor));
        if !knows && !mutated!(WalkWithAnybody) {
            if self.in_vain.len() < VAIN_MAX {
                self.in_vain.insert(peer);
            }
            return None;
        }
        self.with = Some(peer);
        self.unserved = None;
        Some(self.walk_on(peer))
    }

    /// The peer does not compare now.
    pub(in crate::node) fn refused(&mut self, now: Instant, busy: &Busy) {
        let wait = Duration::from_millis(u64::from(busy.retry_ms)).min(RETRY);
        self.retry_at = now + wait;
    }

    /// Goes on when it is time, unless a comparison or a copy is under way.
    pub(in crate::node) fn due(
        &mut self,
        cx: &mut Context<'_>,
        is_comparing: bool,
        is_copying: bool,
    ) -> Option<Next> {
        if self.deadline() > cx.now.instant {
            return None;
        }
        self.retry_at = cx.now.instant + RETRY;
        if is_comparing {
            return None;
        }
        let ready = cx.peers.reachable().filter(|peer| peer.is_ready());
        let ready: Vec<OriginId> = ready.map(|peer| peer.info.origin).collect();
        let untried = ready.iter().filter(|peer| !self.in_vain.contains(peer));
        let untried: Vec<OriginId> = untried.copied().collect();
        // A pull for what else is missing, from peers that are not ready, is none to wait for. Nor
        // is one from a peer that is known not to hold the deletes: with a large store one such
        // after the other is under way at any moment.
        if is_copying && !untried.is_empty() && self.in_vain.len() < VAIN_MAX {
            self.unserved = None;
            return None;
        }
        if is_copying && !ready.is_empty() {
            return None;
        }
        let ready = if untried.is_empty() { ready } else { untried };
        self.is_outdated = false;
        self.with = self.with.filter(|peer| serves(cx, *peer));
        if let Some(peer) = self.with {
            return Some(self.walk_on(peer));
        }
        let drawn = (!ready.is_empty()).then(|| ready[cx.rng.below(ready.len())]);
        match (self.why, drawn) {
            (Some(Why::Mend), Some(peer)) => Some(self.walk_on(peer)),
            (Some(Why::Reset), drawn) => {
                let trusted = self.nobody_to_walk_with(cx);
                trusted.or_else(|| drawn.map(Next::Pull))
            }
            _ => None,
        }
    }

    /// Somebody has to be ready. A node that nobody answers trusts its own store again after a
    /// while, and compares it with whoever comes. Where nobody holds the deletes that this node was
    /// told of, or all hide, the one with the lowest origin of those who hide does, and the others
    /// compare with it. Something when this node is ready again for want of a
    /// peer.
    fn nobody_to_walk_with(&mut self, cx: &Context<'_>) -> Option<Next> {
        let waited = cx.now.instant.since(*self.unserved.get_or_insert(cx.now.instant));
        let is_alone = cx.peers.n_reachable() == 0;
        let hides_before = |peer: &Peer| peer.is_hidden() && peer.info.origin < cx.me;
        let is_first = !cx.peers.reachable().any(hides_before);
        let patience = if is_alone { NOBODY_THERE } else { NOBODY_KNOWS };
        if waited < patience || !is_first {
            return None;
        }
        *self = Walk::default();
        Some(Next::Trusted { is_alone })
    }

    /// Asks for the peer's leaves from where the walk is.
    fn walk_on(&mut self, peer: OriginId) -> Next {
        self.told.clear();
        Next::Compare { peer, agreed: None, first: Some(self.at.0 as u16) }
    }

    /// The peer has told leaves.
    pub(in crate::node) fn told(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        leaves: BTreeMap<usize, Vec<u64>>,
    ) -> Option<Next> {
        if std::mem::take(&mut self.is_outdated) {
            return Some(self.ask());
        }
        self.told = leaves;
        self.send_names(cx, conn)
    }

    /// Asks the same peer for the leaves from where the walk is.
    fn ask(&mut self) -> Next {
        self.told.clear();
        Next::CompareOn { first: self.at.0 as u16 }
    }

    /// Sends the names of the next leaves that have to be compared. From a peer that tells the
    /// leaves of other shards than it was asked for, all of a shard's are.
    fn send_names(&mut self, cx: &mut Context<'_>, conn: ConnId) -> Option<Next> {
        let (mut picked, mut visited) = (Picked::default(), 0);
        let (mut shard, mut leaf) = self.at;
        loop {
            let (n, n_unsummed) = cx.store.shard_len(shard);
            let (ours, theirs) = (cx.store.leaves(shard), self.told.get(&shard));
            leaf = if theirs.is_some_and(|theirs| *theirs == ours) && n_unsummed == 0 {
                STORE_LEAVES_PER_SHARD
            } else {
                visited += n;
                picked.add(cx.store, shard, leaf, |leaf, size| match theirs {
                    // Deletes are not in the hashes, nor is what expires.
                    Some(theirs) => theirs[leaf] != ours[leaf] || size.n_unsummed > 0,
                    None => size.n > 0,
                })
            };
            if leaf < STORE_LEAVES_PER_SHARD {
                break;
            }
            (shard, leaf) = (shard + 1, 0);
            if visited >= TURN_RECORDS_MAX || !self.told.contains_key(&shard) {
                break;
            }
        }
        self.next = (shard, leaf);
        if picked.leaves.is_empty() {
            return self.step(cx, conn);
        }
        send_items(cx, conn, picked, false);
        None
    }

    /// The names sent have been judged, and what there was of it is applied. `more` is that the
    /// peer holds newer records than went into the message.
    pub(in crate::node) fn judged(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        more: bool,
    ) -> Option<Next> {
        if more && self.again < AGAIN_MAX {
            self.again += 1;
            self.next = self.at;
        }
        self.step(cx, conn)
    }

    fn step(&mut self, cx: &mut Context<'_>, conn: ConnId) -> Option<Next> {
        if std::mem::take(&mut self.is_outdated) {
            // What has been judged belongs to the walk before this one.
            return Some(self.ask());
        }
        if self.next > self.at {
            self.again = 0;
        }
        self.at = self.next;
        let shard = self.at.0;
        if shard >= STORE_SHARDS || (mutated!(ResetEarly) && shard >= STORE_SHARDS / 2) {
            let is_reset = std::mem::take(self).why == Some(Why::Reset);
            Some(Next::Walked { is_reset })
        } else if self.again == 0 && self.told.contains_key(&shard) {
            self.send_names(cx, conn)
        } else {
            Some(self.ask())
        }
    }
}

/// Whether a reset may walk with this peer.
fn serves(cx: &Context<'_>, peer: OriginId) -> bool {
    cx.peers.get(peer).is_some_and(|peer| peer.info.reachable && peer.is_ready())
}
