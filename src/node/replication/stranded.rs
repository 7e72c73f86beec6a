//! Deletes held past a lost write: told to every peer, as nothing else would.
//!
//! A run ends, and a write of it is lost with all who held it. Heads end before that write, so no
//! head tells of the later ones that somebody holds. The live ones among them the safety net finds
//! by its hashes; deletes have no part in those. So when such an origin folds, and when a peer
//! arrives, those who hold its later deletes send them, a few shards at each step of the sweep.
//! Then every node holds the latest delete of each key, and the end of one holder loses nothing.
//!
//! A copy whose server ended has left records here that no head claims. Among them the deletes are
//! told in the same way, once.

use super::Replication;
use super::codec::supplies;
use super::context::FANOUT;
use crate::kv::{Dot, OriginId};
use crate::limits::STORE_SHARDS;
use crate::mutation::mutated;
use crate::time::{Instant, Now};
use std::time::Duration;

/// Time after which all is told again, for what was on a link that broke.
const AGAIN: Duration = Duration::from_secs(300);
/// The same when a link took nothing.
const AGAIN_SOON: Duration = Duration::from_secs(20);

/// How far the telling is.
#[derive(Debug, Default)]
pub(super) struct Stranded {
    /// When the last pass began: origins folded before their last write, and peers arrived.
    seen: (u64, u64),
    /// Shards left of the pass.
    shards_left: usize,
    /// When all is told again.
    again: Option<Instant>,
    /// Somebody has told us what we did not hold, and may not reach everybody.
    is_news: bool,
    unclaimed: Unclaimed,
    /// Messages sent, one for each peer and some records.
    pub(super) told_total: u64,
}

/// Whether a copy has left deletes here that no head claims.
#[derive(Debug, Default, PartialEq, Eq)]
enum Unclaimed {
    #[default]
    None,
    /// Perhaps: records of a copy have come, and no pass has begun since.
    Perhaps,
    /// A pass tells them, and has told so many deletes so far.
    Told(usize),
}

impl Replication {
    /// Begins a pass through all shards when there is something new, or somebody.
    pub(super) fn stranded_due(&mut self, now: Now) {
        let is_news = std::mem::take(&mut self.stranded.is_news);
        let unclaimed = self.stranded.unclaimed != Unclaimed::None && !self.pulls.is_active();
        if !is_news && !unclaimed && !self.shared.known.has_tails() {
            return;
        }
        let is_news = is_news || (unclaimed && self.stranded.unclaimed == Unclaimed::Perhaps);
        let seen = (self.shared.known.tails_total(), self.shared.peers.arrivals_total());
        let again = self.stranded.again.is_some_and(|again| again <= now.instant);
        if is_news || again || seen != self.stranded.seen {
            self.stranded.seen = seen;
            self.stranded.shards_left = STORE_SHARDS;
            if unclaimed {
                self.stranded.unclaimed = Unclaimed::Told(0);
            }
            self.stranded.again = Some(now.instant + AGAIN);
        }
    }

    /// Tells what is stranded in the `n` shards from `first` on, during a pass.
    pub(super) fn tell_stranded(&mut self, now: Now, first: usize, n: usize) {
        if self.stranded.shards_left == 0 || mutated!(LeaveStranded) {
            return;
        }
        self.stranded.shards_left = self.stranded.shards_left.saturating_sub(n);
        let mut records = Vec::new();
        for shard in (first..first + n).map(|shard| shard % STORE_SHARDS) {
            self.shared.store.scan_shard(shard, |record| {
                let is_told = record.is_tombstone()
                    && (self.shared.known.is_past_fold(record.dot())
                        || self.is_unclaimed(record.dot()));
                if is_told {
                    records.push(record.clone());
                }
            });
        }
        if let Unclaimed::Told(n) = &mut self.stranded.unclaimed {
            *n += records.len();
            if *n == 0 && self.stranded.shards_left == 0 {
                self.stranded.unclaimed = Unclaimed::None;
            }
        }
        // Whom it is news to tells others.
        let peers: Vec<OriginId> = if self.is_direct() {
            self.shared.peers.reachable().map(|peer| peer.info.origin).collect()
        } else {
            self.shared.peers.draw(FANOUT, &mut self.shared.rng)
        };
        for payload in supplies(self.shared.me, records, false) {
            for peer in &peers {
                if self.cx(now).link_send(*peer, payload.clone()) {
                    self.stranded.told_total += 1;
                } else {
                    self.stranded.again = Some(now.instant + AGAIN_SOON);
                }
            }
        }
    }

    /// Whether a delete is here that came with a copy that broke off: no head claims it, and its
    /// origin is no member that could.
    fn is_unclaimed(&self, dot: Dot) -> bool {
        matches!(self.stranded.unclaimed, Unclaimed::Told(_))
            && !self.shared.known.covers(dot)
            && !self.shared.peers.is_member(dot.origin)
    }

    /// Records of a copy have come, or some that another copy has left.
    pub(super) fn unclaimed_came(&mut self) {
        self.stranded.unclaimed = Unclaimed::Perhaps;
    }

    /// Something that nobody was asked for was news. With few members all have been told.
    pub(super) fn stranded_heard(&mut self) {
        if !self.is_direct() {
            self.stranded.is_news = true;
            self.unclaimed_came();
        }
    }
}
