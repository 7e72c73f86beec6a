//! Deletes held past a lost write: told to every peer, as nothing else would.
//!
//! A run ends, and a write of it is lost with all who held it. Heads end before that write, so no
//! head tells of the later ones that somebody holds. The live ones among them the safety net finds
//! by its hashes; deletes have no part in those. So those who hold its later deletes send them, a
//! few shards at each step of the sweep: when the lost write has been asked for in vain, when the
//! origin folds, and when a peer arrives. Then every node holds the latest delete of each key, and
//! the end of one holder loses nothing.
//!
//! A copy whose server ended has left records here that no head claims. Among them the deletes are
//! told in the same way, once.

use crate::kv::{Dot, OriginId, Record};
use crate::limits::{STORE_SHARDS, TURN_RECORDS_MAX};
use crate::mutation::mutated;
use crate::node::replication::context::{Context, FANOUT};
use crate::node::replication::message::supplies;
use crate::time::Instant;
use std::time::Duration;

/// Shards looked through in one step.
const STEP_SHARDS: usize = 16;
/// Time after which all is told again, for what was on a link that broke.
const AGAIN: Duration = Duration::from_secs(300);
/// The same when a link took nothing.
const AGAIN_SOON: Duration = Duration::from_secs(20);

/// How far the telling is.
#[derive(Debug, Default)]
pub(in crate::node) struct Tails {
    /// When the last pass began: origins folded before their last write, gaps given up, and peers
    /// arrived.
    seen: (u64, u64, u64),
    /// Shards left of the pass, and of them those of the step under way.
    shards_left: usize,
    step_left: usize,
    /// The shard whose turn it is, and up to which record it has been looked through.
    shard: usize,
    after: Option<Record>,
    /// When all is told again.
    again: Option<Instant>,
    /// Somebody has told us what we did not hold, and may not reach everybody.
    is_news: bool,
    unclaimed: Unclaimed,
    /// Messages sent, one for each peer and some records.
    pub(in crate::node) told_total: u64,
}

/// Whether a write past a lost one is held of any origin.
fn has_tails(cx: &Context<'_>) -> bool {
    let has_hole = |origin: &OriginId| cx.known.contiguous(*origin) < cx.known.highest(*origin);
    let is_gone = |origin: &OriginId| !cx.peers.is_reachable(*origin);
    cx.known.has_tails() || cx.known.origins().iter().any(|of| has_hole(of) && is_gone(of))
}

/// Whether a write comes after one that is missing here and that its origin, which answers no more,
/// cannot give.
fn is_cut_off(cx: &Context<'_>, dot: Dot) -> bool {
    let (contiguous, highest) = (cx.known.contiguous(dot.origin), cx.known.highest(dot.origin));
    contiguous < dot.seq && dot.seq <= highest && !cx.peers.is_reachable(dot.origin)
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

impl Tails {
    /// Begins a pass through all shards when there is something new, or somebody. What a copy has
    /// left waits until none is under way. `given_up_total` gaps have been given up so far.
    pub(in crate::node) fn due(
        &mut self,
        cx: &mut Context<'_>,
        is_copying: bool,
        given_up_total: u64,
    ) {
        let is_news = std::mem::take(&mut self.is_news);
        let unclaimed = self.unclaimed != Unclaimed::None && !is_copying;
        if !is_news && !unclaimed && !has_tails(cx) {
            return;
        }
        let is_news = is_news || (unclaimed && self.unclaimed == Unclaimed::Perhaps);
        let seen = (cx.known.tails_total(), given_up_total, cx.peers.arrivals_total());
        let again = self.again.is_some_and(|again| again <= cx.now.instant);
        if is_news || again || seen != self.seen {
            self.seen = seen;
            (self.shards_left, self.after) = (STORE_SHARDS, None);
            if unclaimed {
                self.unclaimed = Unclaimed::Told(0);
            }
            self.again = Some(cx.now.instant + AGAIN);
        }
    }

    /// The next step of a pass is due.
    pub(in crate::node) fn step(&mut self) {
        self.step_left = STEP_SHARDS;
    }

    /// Tells what is stranded in the shards of a step, during a pass, or a part of it. Whether some
    /// of the step is left.
    pub(in crate::node) fn tell(&mut self, cx: &mut Context<'_>) -> bool {
        if self.shards_left == 0 || mutated!(LeaveStranded) {
            return false;
        }
        let (mut records, mut n_seen) = (Vec::new(), 0);
        while self.step_left > 0 && self.shards_left > 0 && n_seen < TURN_RECORDS_MAX {
            let n_max = TURN_RECORDS_MAX - n_seen;
            let after = self.after.take();
            let look = |record: &Record| {
                let dot = record.dot();
                let is_tail = || cx.known.is_past_fold(dot) || is_cut_off(cx, dot);
                let is_unsummed = record.is_tombstone() || record.ttl().is_some();
                if is_unsummed && (is_tail() || self.is_unclaimed(cx, cx.known.known_as(record))) {
                    records.push(record.clone());
                }
            };
            let (n, after) = cx.store.scan_some(self.shard, after.as_ref(), n_max, look);
            n_seen += n;
            if after.is_none() {
                self.shard = (self.shard + 1) % STORE_SHARDS;
                self.shards_left -= 1;
                self.step_left -= 1;
            }
            self.after = after;
        }
        self.send(cx, records);
        self.step_left > 0 && self.shards_left > 0
    }

    fn send(&mut self, cx: &mut Context<'_>, records: Vec<Record>) {
        if let Unclaimed::Told(n) = &mut self.unclaimed {
            *n += records.len();
            if *n == 0 && self.shards_left == 0 {
                self.unclaimed = Unclaimed::None;
            }
        }
        // Whom it is news to tells others.
        let peers: Vec<OriginId> = if cx.is_direct() {
            cx.peers.reachable().map(|peer| peer.info.origin).collect()
        } else {
            cx.peers.draw(FANOUT, cx.rng)
        };
        let payloads = supplies(cx.me, records, false);
        if !payloads.is_empty() {
            peers.iter().for_each(|peer| cx.name_run(*peer));
        }
        for payload in payloads {
            for peer in &peers {
                if cx.link_send(*peer, payload.clone()) {
                    self.told_total += 1;
                } else {
                    self.again = Some(cx.now.instant + AGAIN_SOON);
                }
            }
        }
    }

    /// Whether a delete is here that came with a copy that broke off: no head claims it, and its
    /// origin is no member that could.
    fn is_unclaimed(&self, cx: &Context<'_>, dot: Dot) -> bool {
        matches!(self.unclaimed, Unclaimed::Told(_))
            && !cx.known.covers(dot)
            && !cx.peers.is_member(dot.origin)
    }

    /// Records of a copy have come, or some that another copy has left.
    pub(in crate::node) fn unclaimed_came(&mut self) {
        self.unclaimed = Unclaimed::Perhaps;
    }

    /// Something that nobody was asked for was news. With few members all have been told.
    pub(in crate::node) fn heard(&mut self, cx: &Context<'_>) {
        if !cx.is_direct() {
            self.is_news = true;
            self.unclaimed_came();
        }
    }
}
