//! Leaving: what this node holds goes to those who stay.
//!
//! ```text
//! drain --> our own writes: flushed, sent again, followed over links, as at any time
//!       `-> writes of runs that are over: told in digests, so that whoever lacks them pulls
//! is drained: somebody who stays holds each of them, and of our own everybody who answers does
//! ```
//!
//! Heirs are the ready peers; where none is ready, those that do not leave, too; where all leave,
//! all. One that has stopped answering keeps nobody waiting as long as another holds everything.
//! Where all heirs are new, one of them has to copy the store first: what was written long ago is
//! in no push. What an heir holds of others counts once it has told so since the handing over
//! began, its own writes too: it may have crashed a moment ago, and nobody may have noticed yet.

use crate::kv::OriginId;
use crate::limits::STORE_SHARDS;
use crate::node::replication::context::Context;
use crate::node::replication::facts::peers::{DIRECT_PEERS_MAX, Peer};
use crate::node::replication::facts::stage::Stage;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// First time between two rounds of asking heirs what they hold; it doubles.
const ASK_AGAIN: Duration = Duration::from_millis(50);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(400);
/// Heirs told in one round what we hold of runs that are over.
const TOLD_AT_ONCE: usize = 4;

/// A handing over under way.
#[derive(Debug, Default)]
pub(in crate::node) struct Handover {
    /// When it began.
    began: Instant,
    /// When heirs are asked next, and how long the round after that waits.
    ask: Option<(Instant, Duration)>,
    /// What we hold of origins other than ours, as of when each was first told of in digests since
    /// it began; `None` once an heir has said to hold that.
    others: BTreeMap<OriginId, Option<u64>>,
}

impl Handover {
    pub(in crate::node) fn deadline(&self) -> Instant {
        self.ask.map_or(Instant::NEVER, |(at, _)| at)
    }
}

impl Handover {
    /// Begins to hand over. Our own writes have been flushed without waiting.
    pub(in crate::node) fn begin(&mut self, cx: &Context<'_>) {
        self.began = cx.now.instant;
        self.others.clear();
        self.note_others(cx);
        self.ask = Some((cx.now.instant, ASK_AGAIN));
    }

    /// Notes origins that are told of and were not before: one may have been folded, with more here
    /// than where it was folded, too.
    fn note_others(&mut self, cx: &Context<'_>) {
        let heads = cx.known.heads(cx.store.last_seq());
        let others = heads.into_iter().map(|(of, through)| (OriginId(of), through));
        for (of, through) in others.filter(|(of, _)| *of != cx.me) {
            self.others.entry(of).or_insert(Some(through));
        }
    }

    /// Asks heirs how much of our writes they hold. Returns those that are to be told now what is
    /// held here of others.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) -> Vec<OriginId> {
        let Some((_, wait)) = self.ask.filter(|(at, _)| *at <= cx.now.instant) else {
            return Vec::new();
        };
        self.ask = Some((cx.now.instant + wait, (wait * 2).min(ASK_AGAIN_MAX)));
        let last = cx.store.last_seq();
        // Whom a link feeds says by itself how far it is.
        let is_fed = |peer: &Peer| {
            peer.backlog.is_some() || peer.link.is_some_and(|c| cx.links.in_flight_len(c) > 0)
        };
        let behind = heirs(cx).filter(|peer| peer.acked < last && !is_fed(peer));
        let behind: Vec<OriginId> = behind.map(|peer| peer.info.origin).collect();
        for origin in behind {
            cx.beacon(origin);
        }
        if self.others_are_held(cx) {
            return Vec::new();
        }
        let heirs: Vec<OriginId> = heirs(cx).map(|peer| peer.info.origin).collect();
        let drawn = cx.peers.draw(heirs.len(), cx.rng);
        let told = drawn.into_iter().filter(|origin| heirs.contains(origin));
        told.take(TOLD_AT_ONCE).collect()
    }

    /// Whether those who stay hold all that is held here; with nobody to look for, at once.
    pub(in crate::node) fn is_drained(&mut self, cx: &Context<'_>) -> bool {
        if is_store_of_one(cx) {
            return true;
        }
        // What it wrote under numbers of others is held by nobody, whatever they say of these.
        if cx.ready.was_set_back {
            return false;
        }
        if cx.peers.n_reachable() == 0 {
            return own_unheld(cx) == 0 && self.others_are_held(cx);
        }
        let last = cx.store.last_seq();
        let n_holding = heirs(cx).filter(|peer| peer.acked >= last).count();
        let is_held = if cx.is_direct() {
            let mut answering = heirs(cx).filter(|peer| !peer.is_stalled());
            n_holding > 0 && answering.all(|peer| peer.acked >= last)
        } else {
            n_holding >= heirs(cx).count().min(DIRECT_PEERS_MAX)
        };
        is_held && !is_to_be_copied(cx) && self.others_are_held(cx)
    }

    /// Whether what others wrote is held, too. What an heir has said to hold is settled; the word
    /// of the dead counts only as long as nobody answers.
    fn others_are_held(&mut self, cx: &Context<'_>) -> bool {
        self.note_others(cx);
        let mut others = std::mem::take(&mut self.others);
        let (is_settled, mut are_held) = (cx.peers.n_reachable() > 0, true);
        for (of, through) in &mut others {
            let is_held = through.is_none_or(|through| self.n_unheld(cx, *of, through) == 0);
            are_held &= is_held;
            if is_held && is_settled {
                *through = None;
            }
        }
        self.others = others;
        are_held && self.is_folded_held(cx)
    }

    /// The holders that have told what they hold since the handing over began, or are dead.
    fn told<'c>(&self, cx: &'c Context<'_>) -> impl Iterator<Item = &'c Peer> {
        let began = self.began;
        holders(cx).filter(move |holder| {
            !holder.info.reachable || holder.told_at.is_some_and(|at| at >= began)
        })
    }

    /// How many of `of`'s writes up to `through` no heir has said to hold.
    fn n_unheld(&self, cx: &Context<'_>, of: OriginId, through: u64) -> u64 {
        // Let go of since it was noted, or folded: all held it.
        let is_over = cx.known.is_folded(of) || cx.known.floor() > 0 && cx.known.is_unknown(of);
        if is_over || self.told(cx).any(|heir| heir.info.origin == of) {
            return 0;
        }
        through.saturating_sub(self.told(cx).map(|heir| heir.head(of)).max().unwrap_or(0))
    }

    /// Whether some heir has said to hold all of the folded origins. The members that held it when
    /// they were folded may have gone, and those who stay may have founded apart.
    fn is_folded_held(&self, cx: &Context<'_>) -> bool {
        let hash = cx.known.folded_hash();
        hash == 0 || self.told(cx).any(|heir| heir.folded_held == Some(hash))
    }

    /// Writes held here that, as far as this node knows, no member holds that stays: its own, and
    /// those of runs that are over.
    pub(in crate::node) fn unsent(&self, cx: &Context<'_>) -> u64 {
        if is_store_of_one(cx) {
            return 0;
        }
        let own = own_unheld(cx);
        if cx.ready.was_set_back {
            return own.max(cx.store.stats().n_live);
        }
        if cx.peers.n_reachable() > 0 && is_to_be_copied(cx) {
            return own.max(cx.store.stats().n_live);
        }
        let folded = if self.is_folded_held(cx) { 0 } else { n_folded_values(cx) };
        let others = self.others.iter().filter_map(|(of, through)| Some((*of, (*through)?)));
        others.fold(own.saturating_add(folded), |sum, (of, through)| {
            sum.saturating_add(self.n_unheld(cx, of, through))
        })
    }
}

/// Those who count as holders.
fn heirs<'c>(cx: &'c Context<'_>) -> impl Iterator<Item = &'c Peer> {
    let any_ready = cx.peers.reachable().any(Peer::is_ready);
    let any_stays = cx.peers.reachable().any(|peer| !peer.is_leaving());
    let has_been_ready = cx.ready.has_been_ready();
    cx.peers.reachable().filter(move |peer| {
        if any_ready {
            return peer.is_ready();
        }
        // A cluster that is stopped ends with all its nodes; one that was never ready belongs
        // to others.
        !peer.is_leaving() || (!any_stays && has_been_ready)
    })
}

/// Whether this node has a store that no heir can have: all of them are new, or have not told.
fn is_to_be_copied(cx: &Context<'_>) -> bool {
    let is_new = |peer: &Peer| peer.stage().is_none_or(|stage| stage == Stage::New);
    cx.ready.has_been_ready() && cx.store.stats().n_live > 0 && heirs(cx).all(is_new)
}

/// Those whose word for what they hold counts: the heirs. Where nobody answers, the dead: they
/// may be cut off only, and keep what they held.
fn holders<'c>(cx: &'c Context<'_>) -> impl Iterator<Item = &'c Peer> {
    let any = cx.peers.n_reachable() > 0;
    heirs(cx).chain(cx.peers.iter().filter(move |_| !any))
}

/// Whether nobody is known, dead or alive, to one that has been ready: a store of one node
/// ends with it. One that never was knows that it belongs to others.
fn is_store_of_one(cx: &Context<'_>) -> bool {
    cx.ready.has_been_ready() && cx.peers.iter().next().is_none()
}

/// Values of folded origins. It looks at all there are: for a leave that has failed.
fn n_folded_values(cx: &Context<'_>) -> u64 {
    let mut n = 0;
    (0..STORE_SHARDS).for_each(|shard| {
        cx.store.scan_shard(shard, |record| {
            let is_folded = cx.known.is_folded(cx.known.known_as(record).origin);
            n += u64::from(is_folded && !record.is_tombstone());
        });
    });
    n
}

/// How many of our own writes nobody who counts has acknowledged.
fn own_unheld(cx: &Context<'_>) -> u64 {
    let acked = holders(cx).map(|holder| holder.acked).max();
    cx.store.last_seq().saturating_sub(acked.unwrap_or(0))
}
