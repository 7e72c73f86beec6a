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

use super::message::KvMessage;
use super::peers::Peer;
use super::{DIRECT_PEERS_MAX, Replication, Stage};
use crate::kv::OriginId;
use crate::limits::STORE_SHARDS;
use crate::time::{Instant, Now};
use std::time::Duration;

/// First time between two rounds of asking heirs what they hold; it doubles.
const ASK_AGAIN: Duration = Duration::from_millis(50);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(400);
/// Heirs told in one round what we hold of runs that are over.
const TOLD_AT_ONCE: usize = 4;

/// A handing over under way.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// When it began.
    began: Instant,
    /// When heirs are asked next, and how long the round after that waits.
    ask: Option<(Instant, Duration)>,
    /// What we held, when it began, of origins other than ours and no heir has said to hold.
    others: Vec<(OriginId, u64)>,
}

impl Handover {
    pub(super) fn deadline(&self) -> Instant {
        self.ask.map_or(Instant::NEVER, |(at, _)| at)
    }
}

impl Replication {
    /// Begins to hand over: flushes without waiting and asks for prompt acknowledgements.
    pub fn drain(&mut self, now: Now) {
        self.tell_leaving(now);
        self.flush(now, true);
        self.handover.began = now.instant;
        let heads = self.shared.known.heads(self.shared.store.last_seq());
        let others = heads.into_iter().map(|(of, through)| (OriginId(of), through));
        self.handover.others = others.filter(|(of, _)| *of != self.shared.me).collect();
        self.handover.ask = Some((now.instant, ASK_AGAIN));
        self.drain_due(now);
    }

    pub(super) fn drain_due(&mut self, now: Now) {
        let Some((_, wait)) = self.handover.ask.filter(|(at, _)| *at <= now.instant) else {
            return;
        };
        self.handover.ask = Some((now.instant + wait, (wait * 2).min(ASK_AGAIN_MAX)));
        let last = self.shared.store.last_seq();
        // Whom a link feeds says by itself how far it is.
        let is_fed = |peer: &Peer| {
            peer.backlog.is_some() || peer.link.is_some_and(|c| self.links.in_flight_len(c) > 0)
        };
        let behind = self.heirs().filter(|peer| peer.acked < last && !is_fed(peer));
        let behind: Vec<OriginId> = behind.map(|peer| peer.info.origin).collect();
        for origin in behind {
            self.cx(now).beacon(origin);
        }
        if !self.others_are_held() {
            let heirs: Vec<OriginId> = self.heirs().map(|peer| peer.info.origin).collect();
            let drawn = self.shared.peers.draw(heirs.len(), &mut self.shared.rng);
            let told = drawn.into_iter().filter(|origin| heirs.contains(origin));
            for origin in told.take(TOLD_AT_ONCE).collect::<Vec<_>>() {
                let digest = self.digest(true);
                self.cx(now).send(origin, &KvMessage::Digest(digest));
            }
        }
    }

    /// Those who count as holders.
    fn heirs(&self) -> impl Iterator<Item = &Peer> {
        let any_ready = self.shared.peers.reachable().any(Peer::is_ready);
        let any_stays = self.shared.peers.reachable().any(|peer| !peer.is_leaving());
        let has_been_ready = self.shared.ready.has_been_ready();
        self.shared.peers.reachable().filter(move |peer| {
            if any_ready {
                return peer.is_ready();
            }
            // A cluster that is stopped ends with all its nodes; one that was never ready belongs
            // to others.
            !peer.is_leaving() || (!any_stays && has_been_ready)
        })
    }

    /// Whether this node has a store that no heir can have: all of them are new, or have not told.
    fn is_to_be_copied(&self) -> bool {
        let is_new = |peer: &Peer| peer.stage().is_none_or(|stage| stage == Stage::New);
        self.shared.ready.has_been_ready()
            && self.shared.store.stats().n_live > 0
            && self.heirs().all(is_new)
    }

    /// Whether those who stay hold all that is held here; with nobody to look for, at once.
    pub fn is_drained(&mut self) -> bool {
        if self.is_store_of_one() {
            return true;
        }
        if self.shared.peers.n_reachable() == 0 {
            return self.own_unheld() == 0 && self.others_are_held();
        }
        let last = self.shared.store.last_seq();
        let n_holding = self.heirs().filter(|peer| peer.acked >= last).count();
        let is_held = if self.is_direct() {
            let mut answering = self.heirs().filter(|peer| !peer.is_stalled());
            n_holding > 0 && answering.all(|peer| peer.acked >= last)
        } else {
            n_holding >= self.heirs().count().min(DIRECT_PEERS_MAX)
        };
        is_held && !self.is_to_be_copied() && self.others_are_held()
    }

    /// Whether what others wrote is held, too. What an heir has said to hold is settled; the word
    /// of the dead counts only as long as nobody answers.
    fn others_are_held(&mut self) -> bool {
        let mut others = std::mem::take(&mut self.handover.others);
        let is_unheld = |(of, through): &(OriginId, u64)| self.n_unheld(*of, *through) > 0;
        let are_held = if self.shared.peers.n_reachable() == 0 {
            !others.iter().any(is_unheld)
        } else {
            others.retain(is_unheld);
            others.is_empty()
        };
        self.handover.others = others;
        are_held && self.is_folded_held()
    }

    /// Those whose word for what they hold counts: the heirs. Where nobody answers, the dead: they
    /// may be cut off only, and keep what they held.
    fn holders(&self) -> impl Iterator<Item = &Peer> {
        let any = self.shared.peers.n_reachable() > 0;
        self.heirs().chain(self.shared.peers.iter().filter(move |_| !any))
    }

    /// The holders that have told what they hold since the handing over began, or are dead.
    fn told(&self) -> impl Iterator<Item = &Peer> {
        let began = self.handover.began;
        self.holders().filter(move |holder| {
            !holder.info.reachable || holder.told_at.is_some_and(|at| at >= began)
        })
    }

    /// Whether nobody is known, dead or alive, to one that has been ready: a store of one node
    /// ends with it. One that never was knows that it belongs to others.
    fn is_store_of_one(&self) -> bool {
        self.shared.ready.has_been_ready() && self.shared.peers.iter().next().is_none()
    }

    /// How many of `of`'s writes up to `through` no heir has said to hold.
    fn n_unheld(&self, of: OriginId, through: u64) -> u64 {
        if self.shared.known.is_folded(of) || self.told().any(|heir| heir.info.origin == of) {
            return 0;
        }
        through.saturating_sub(self.told().map(|heir| heir.head(of)).max().unwrap_or(0))
    }

    /// Whether some heir has said to hold all of the folded origins. The members that held it when
    /// they were folded may have gone, and those who stay may have founded apart.
    fn is_folded_held(&self) -> bool {
        let hash = self.shared.known.folded_hash();
        self.shared.known.n_folded() == 0 || self.told().any(|heir| heir.folded_held == Some(hash))
    }

    /// Values of folded origins. It looks at all there are: for a leave that has failed.
    fn n_folded_values(&self) -> u64 {
        let mut n = 0;
        (0..STORE_SHARDS).for_each(|shard| {
            self.shared.store.scan_shard(shard, |record| {
                let is_folded = self.shared.known.is_folded(record.dot().origin);
                n += u64::from(is_folded && !record.is_tombstone());
            });
        });
        n
    }

    /// How many of our own writes nobody who counts has acknowledged.
    fn own_unheld(&self) -> u64 {
        let acked = self.holders().map(|holder| holder.acked).max();
        self.shared.store.last_seq().saturating_sub(acked.unwrap_or(0))
    }

    /// Writes held here that, as far as this node knows, no member holds that stays: its own, and
    /// those of runs that are over.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        if self.is_store_of_one() {
            return 0;
        }
        let own = self.own_unheld();
        if self.shared.peers.n_reachable() > 0 && self.is_to_be_copied() {
            return own.max(self.shared.store.stats().n_live);
        }
        let folded = if self.is_folded_held() { 0 } else { self.n_folded_values() };
        let others = self.handover.others.iter();
        others.fold(own.saturating_add(folded), |sum, (of, through)| {
            sum.saturating_add(self.n_unheld(*of, *through))
        })
    }
}
