//! What this node knows to hold: its vector, what of it has been folded, and what has been
//! forgotten.
//!
//! The law: **a covered write is held, or something later for the same key is, or its key was
//! deleted and the tombstone forgotten.** So a record whose write is covered, whose key is absent
//! and which is older than the latest forgotten tombstone is a copy from before a delete: refused.
//! (Almeida et al., "Scalable and Accurate Causality Tracking for Eventually Consistent Stores",
//! 2014, use the same rule for exact dots; the time bound lets a record lost by a fault heal.)

use crate::kv::{Coverage, Dot, HlcTime, LetGo, OriginId, Record, Store, VersionVector};
use crate::limits::ORIGINS_MAX;
use crate::mutation::mutated;
use crate::node::config::FoldedBound;
use crate::node::replication::facts::floor::{self, Agreed, FLOOR, Moment};
use crate::node::replication::facts::folds::{FoldedHash, FoldedOrigin, Folds, covered_hash};
use crate::node::replication::facts::over::Over;
use crate::node::replication::message::{FoldedList, Heads};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The vector and what became of its older parts.
#[derive(Debug)]
pub(in crate::node) struct Known {
    me: OriginId,
    vector: VersionVector,
    folded: Folds,
    /// Before a first copy, of each run of which writes have come the latest stamp of them.
    came: BTreeMap<OriginId, HlcTime>,
    /// Per origin the highest number of a tombstone forgotten.
    forgotten: BTreeMap<OriginId, u64>,
    /// The latest time of a tombstone forgotten.
    forgotten_time: HlcTime,
    /// The latest expiry of one, in milliseconds since 1970.
    expiry_forgotten: u64,
    /// Origins folded before the last write that is held of them.
    tails_total: u64,
    /// Writes of origins beyond the bound; held, but not covered.
    refused_total: u64,
    /// Since when the law does not hold: something covered was dropped because it was damaged.
    doubts: Option<Instant>,
    /// Runs of which writes may be stamped before the floor and are not below it: what was known
    /// when it was cut, members of then, and those that came new since.
    above: BTreeSet<OriginId>,
    /// What was let go of lately.
    over: Over,
    /// Of each origin the highest number that was taken while nothing said that it is held.
    beyond: BTreeMap<OriginId, u64>,
}

impl Known {
    pub(in crate::node) fn new(me: OriginId) -> Known {
        Known {
            me,
            vector: VersionVector::default(),
            folded: Folds::default(),
            came: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            forgotten_time: HlcTime::default(),
            expiry_forgotten: 0,
            tails_total: 0,
            refused_total: 0,
            doubts: None,
            above: BTreeSet::new(),
            over: Over::default(),
            beyond: BTreeMap::new(),
        }
    }

    /// The same for another run of this node: `before` is a run like any other then, of which
    /// everything to `last` is covered.
    pub(in crate::node) fn renewed(self, me: OriginId, before: OriginId, last: u64) -> Known {
        let mut known = Known { me, ..self };
        known.put_above_floor(before);
        known.claim(before, last);
        known
    }

    /// Whether this is our own run.
    pub(in crate::node) fn is_me(&self, origin: OriginId) -> bool {
        origin == self.me
    }

    /// Whether `dot` is held, replaced or forgotten.
    pub(in crate::node) fn covers(&self, dot: Dot) -> bool {
        dot.origin == self.me
            || self.vector.covers(dot)
            || self.folded.get(dot.origin).is_some_and(|f| dot.seq <= f.last)
    }

    /// Whether everything of `origin` up to `through` is covered.
    pub(in crate::node) fn covers_through(&self, origin: OriginId, through: u64) -> bool {
        self.contiguous(origin) >= through
    }

    /// The number up to which every write of `origin` is covered.
    pub(in crate::node) fn contiguous(&self, origin: OriginId) -> u64 {
        let folded = self.folded.get(origin).map_or(0, |folded| folded.last);
        self.vector.contiguous(origin).max(folded)
    }

    /// Notes that writes `start..=end` of `origin` are held. True when any was news.
    pub(in crate::node) fn observe(&mut self, origin: OriginId, start: u64, end: u64) -> bool {
        let is_folded = self.folded.get(origin).is_some_and(|folded| end <= folded.last);
        if !is_run(origin) || is_folded {
            return false;
        }
        if !self.room_for(origin) {
            return false;
        }
        self.unfold(origin);
        if start <= self.vector.contiguous(origin).saturating_add(1) {
            let news = end > self.vector.contiguous(origin);
            self.vector.claim(origin, end);
            return news;
        }
        self.vector.observe_range(origin, start, end)
    }

    /// Takes over that everything of `origin` up to `through` is held.
    pub(in crate::node) fn claim(&mut self, origin: OriginId, through: u64) {
        if !is_run(origin) || self.contiguous(origin) >= through || !self.room_for(origin) {
            return;
        }
        self.unfold(origin);
        self.vector.claim(origin, through);
    }

    fn room_for(&mut self, origin: OriginId) -> bool {
        let known = self.vector.highest(origin) > 0 || self.folded.contains(origin);
        if known || self.vector.len() + self.folded.len() < ORIGINS_MAX {
            return true;
        }
        self.refused_total += 1;
        false
    }

    /// A folded origin that writes again (it was cut off, not gone) is kept like any other.
    fn unfold(&mut self, origin: OriginId) {
        if !is_run(origin) {
            return;
        }
        if let Some(folded) = self.folded.remove(origin) {
            self.vector.claim(origin, folded.last);
            if folded.forgotten > 0 {
                self.forgotten.insert(origin, folded.forgotten);
            }
        }
    }

    /// Takes back into the vector whoever of `members` is folded: a member that was cut off while
    /// others folded its origin is not gone.
    pub(in crate::node) fn unfold_members(&mut self, members: impl Iterator<Item = OriginId>) {
        if self.folded.len() == 0 || mutated!(StayFolded) {
            return;
        }
        members.for_each(|origin| self.unfold(origin));
    }

    /// Takes an origin out of digests. What is held of it past a gap stays known here, be it all
    /// that is held: then its last number is 0.
    pub(in crate::node) fn fold(&mut self, origin: OriginId) {
        let last = self.vector.contiguous(origin);
        let may_fold = is_run(origin) && origin != self.me && !self.is_folded(origin);
        if !may_fold || !self.room_for(origin) {
            return;
        }
        if self.vector.highest(origin) == last {
            self.vector.remove(origin);
        } else {
            self.tails_total += 1;
        }
        let forgotten = self.forgotten.remove(&origin).unwrap_or(0);
        self.folded.insert(origin, last, forgotten);
    }

    /// The number of the floor, where the list of folded origins has been cut; 0 for none.
    pub(in crate::node) fn floor(&self) -> u64 {
        self.folded.floor()
    }

    /// Whether all members held this write when the floor was cut: it is of no run that was known
    /// then. One that was let go of and is back as a member counts with numbers again, so its old
    /// writes are below the floor all the same.
    pub(in crate::node) fn is_below_floor(&self, origin: OriginId, time: HlcTime) -> bool {
        let floor = self.floor();
        floor > 0
            && time <= floor::time(floor)
            && origin != self.me
            && !self.above.contains(&origin)
            && !self.folded.contains(origin)
    }

    /// Whether nothing is known of a run: it was let go of, or has not been heard of.
    pub(in crate::node) fn is_unknown(&self, origin: OriginId) -> bool {
        self.vector.highest(origin) == 0 && !self.folded.contains(origin) && origin != self.me
    }

    /// A run begins, or has been a member since before: whatever its clock shows, it is not below
    /// the floor.
    pub(in crate::node) fn put_above_floor(&mut self, origin: OriginId) {
        if self.floor() > 0 && self.above.len() < ORIGINS_MAX {
            self.above.insert(origin);
        }
    }

    /// A copy is complete: what was taken of runs below the floor is as good as held.
    pub(in crate::node) fn settle_copy(&mut self) {
        if self.floor() > 0 {
            let (vector, folded) = (&self.vector, &self.folded);
            self.beyond.retain(|of, _| vector.highest(*of) > 0 || folded.contains(*of));
        }
    }

    /// The dot that stands for a write: that of the floor for what is below it and of a run that is
    /// unknown.
    pub(in crate::node) fn known_as(&self, record: &Record) -> Dot {
        let (dot, time) = (record.dot(), record.stamp().time);
        if self.is_unknown(dot.origin) && self.is_below_floor(dot.origin, time) {
            return Dot { origin: FLOOR, seq: self.floor() };
        }
        dot
    }

    /// At which list a floor is to be cut, see [`Folds::to_be_cut`].
    pub(in crate::node) fn to_be_cut(&self, now: Moment, bound: FoldedBound) -> Option<Agreed> {
        self.folded.to_be_cut(now, bound)
    }

    /// Those that go below this floor, if this node has ever had the list that it stands for.
    pub(in crate::node) fn below(&self, floor: u64) -> Option<Vec<OriginId>> {
        self.folded.below(floor)
    }

    /// Lets these go, and puts the floor in their place; with their last numbers.
    pub(in crate::node) fn rise(&mut self, floor: u64, below: &[OriginId]) -> Vec<(OriginId, u64)> {
        below.iter().for_each(|origin| self.let_go(*origin));
        self.above = self.vector.heads().map(|(origin, _)| origin).collect();
        let gone = self.folded.rise(floor, below);
        gone.iter().for_each(|(origin, last)| self.over.add(*origin, *last));
        gone
    }

    /// Somebody names a run: if it is one of which everything up to there was held here when it was
    /// let go of, this node counts with it again.
    pub(in crate::node) fn recall(&mut self, origin: OriginId, through: u64) {
        if self.is_unknown(origin)
            && let Some(last) = self.over.held(Dot { origin, seq: through })
        {
            self.claim(origin, last);
        }
    }

    /// Whether a write is covered, or was when its run was let go of.
    pub(in crate::node) fn has_held(&self, dot: Dot) -> bool {
        self.covers(dot) || self.over.held(dot).is_some()
    }

    /// Counts with no numbers of a run any more, nor with what was forgotten of it.
    pub(in crate::node) fn let_go(&mut self, origin: OriginId) {
        self.vector.remove(origin);
        self.beyond.remove(&origin);
        self.forgotten.remove(&origin);
    }

    /// Notes, before a first copy, that a write has come whose number counts.
    pub(in crate::node) fn came(&mut self, of: OriginId, time: HlcTime) {
        if self.vector.highest(of) > 0 {
            let latest = self.came.entry(of).or_default();
            *latest = time.max(*latest);
        }
    }

    /// The first copy has come: what the stamps of the runs were whose writes came before, at most.
    pub(in crate::node) fn take_came(&mut self) -> BTreeMap<OriginId, HlcTime> {
        std::mem::take(&mut self.came)
    }

    /// Takes over a floor at which this node never was: whatever it has folded counts by name
    /// again, until all members have said to hold it.
    pub(in crate::node) fn take_floor(&mut self, floor: u64) {
        self.above.clear();
        let folded: Vec<OriginId> = self.folded.iter().map(|(origin, _)| origin).collect();
        folded.into_iter().for_each(|origin| self.unfold(origin));
        self.folded.rise(floor, &[]);
    }

    /// Notes that a record was taken, if nothing says that it is held: it came with a copy that has
    /// not ended, or lies past a lost write.
    pub(in crate::node) fn took(&mut self, record: &Record) {
        let Dot { origin, seq } = self.known_as(record);
        if self.covers(Dot { origin, seq }) {
            return;
        }
        if self.beyond.len() >= ORIGINS_MAX && !self.beyond.contains_key(&origin) {
            // That all are held again is not known any more.
            self.beyond.values_mut().for_each(|last| *last = u64::MAX);
            return;
        }
        let last = self.beyond.entry(origin).or_default();
        *last = seq.max(*last);
    }

    /// Whether any write may be held past one that is missing, or lost.
    pub(in crate::node) fn holds_past_gaps(&self) -> bool {
        let is_past = |(origin, last): (&OriginId, &u64)| self.contiguous(*origin) < *last;
        self.vector.n_ranges() > 0 || self.beyond.iter().any(is_past)
    }

    /// Writes of `origin` up to `through` that are not covered, at most `limit` ranges.
    pub(in crate::node) fn gaps(
        &self,
        origin: OriginId,
        through: u64,
        limit: usize,
    ) -> Vec<(u64, u64)> {
        if self.covers_through(origin, through) {
            return Vec::new();
        }
        self.vector.gaps(origin, through, limit)
    }

    /// The highest number of `origin` seen, gaps or not.
    pub(in crate::node) fn highest(&self, origin: OriginId) -> u64 {
        self.vector.highest(origin)
    }

    /// The digest's heads: every origin not folded. `own` is the last of our own writes.
    pub(in crate::node) fn heads(&self, own: u64) -> Heads {
        let others =
            self.vector.heads().filter(|(origin, through)| *through > 0 && self.is_told(*origin));
        let mut heads: Heads = others.map(|(origin, through)| (origin.0, through)).collect();
        if own > 0 {
            heads.push((self.me.0, own));
        }
        heads
    }

    fn is_told(&self, origin: OriginId) -> bool {
        origin != self.me && !self.folded.contains(origin)
    }

    /// What is known of a folded origin.
    pub(in crate::node) fn folded(&self, origin: OriginId) -> Option<&FoldedOrigin> {
        self.folded.get(origin)
    }

    /// The folded origins as they travel.
    pub(in crate::node) fn folded_list(&self) -> FoldedList {
        self.folded.iter().map(|(origin, f)| (origin.0, f.last, f.forgotten)).collect()
    }

    /// What is folded now and was not yet when `n` folds had been made here.
    pub(in crate::node) fn folded_since(
        &self,
        n: u64,
    ) -> impl Iterator<Item = (OriginId, &FoldedOrigin)> {
        self.folded.since(n)
    }

    /// What is held without gaps, and which deletes were forgotten. `own` is the last of our own
    /// writes; `by_sum` is that readers may be told of what is folded by its sum.
    pub(in crate::node) fn coverage(&self, own: u64, by_sum: bool) -> Coverage {
        let mut seen = self.folded.seen(by_sum);
        for (origin, through) in self.heads(own) {
            let origin = OriginId(origin);
            let through = if mutated!(WatchClaimMore) {
                through.max(self.vector.highest(origin))
            } else {
                through
            };
            seen.add(origin, through);
        }
        Coverage {
            seen,
            expiry_forgotten: self.expiry_forgotten,
            forgotten: self.forgotten.clone(),
            ended: Arc::clone(self.folded.told()),
            ended_changes: Arc::clone(self.folded.changes()),
            let_go: self.let_go_for_readers(),
            ..Coverage::default()
        }
    }

    /// [What is below the floor](Known::known_as), as readers are told.
    fn let_go_for_readers(&self) -> Option<LetGo> {
        let as_dot = Dot { origin: FLOOR, seq: self.floor() };
        let others = || {
            let named = self.vector.heads().map(|(origin, _)| origin);
            named.chain(self.above.iter().copied()).chain([self.me]).collect()
        };
        let until = floor::time(as_dot.seq);
        (as_dot.seq > 0).then(|| LetGo { as_dot, until, others: others() })
    }

    /// Every reachable peer has told the same hash of its folded origins as this node.
    pub(in crate::node) fn agree_on_folds(&mut self, when: Moment, bound: FoldedBound) {
        self.folded.agree(when, bound);
    }

    /// The hash of the folded origins as digests tell it.
    pub(in crate::node) fn folded_hash(&self) -> u64 {
        self.folded.sums().all
    }

    /// The same beside what of it is of nothing.
    pub(in crate::node) fn folded_sums(&self) -> FoldedHash {
        self.folded.sums()
    }

    /// The hash of all that is covered.
    pub(in crate::node) fn covered_hash(&self, heads: &Heads) -> u64 {
        covered_hash(self.folded.sums().covered(), heads)
    }

    /// Folds so far: who holds all that is folded now holds every fold up to this number.
    pub(in crate::node) fn n_folds(&self) -> u64 {
        self.folded.n()
    }

    /// The number up to which the writes of `origin` are held by who holds every fold up to
    /// `through`: 0 when it is not folded, or was so later. What is past a lost write is not among
    /// them.
    pub(in crate::node) fn held_by_folds(&self, origin: OriginId, through: u64) -> u64 {
        let folded = self.folded.get(origin).filter(|folded| folded.number <= through);
        folded.map_or(0, |folded| folded.last)
    }

    /// Whether this write comes after one that was lost, of an origin that is folded.
    pub(in crate::node) fn is_past_fold(&self, dot: Dot) -> bool {
        self.folded.get(dot.origin).is_some_and(|folded| dot.seq > folded.last)
    }

    /// Whether a write past a lost one is known of any folded origin.
    pub(in crate::node) fn has_tails(&self) -> bool {
        self.vector.heads().any(|(origin, _)| self.folded.contains(origin))
    }

    /// How often an origin was folded before the last write that is held of it.
    pub(in crate::node) fn tails_total(&self) -> u64 {
        self.tails_total
    }

    /// How many are folded and known by name.
    pub(in crate::node) fn n_folded(&self) -> usize {
        self.folded.len() - usize::from(self.floor() > 0)
    }

    pub(in crate::node) fn is_folded(&self, origin: OriginId) -> bool {
        self.folded.contains(origin)
    }

    /// Origins of others in the vector and in digests.
    pub(in crate::node) fn origins(&self) -> Vec<OriginId> {
        let told = self.vector.heads().filter(|(origin, _)| self.is_told(*origin));
        told.map(|(origin, _)| origin).collect()
    }

    pub(in crate::node) fn n_origins(&self) -> usize {
        self.vector.len()
    }

    /// How many entries of any kind are kept of runs.
    #[cfg(test)]
    pub(in crate::node) fn n_kept(&self) -> usize {
        let marks = self.forgotten.len() + self.beyond.len() + self.above.len() + self.came.len();
        self.vector.len() + self.folded.len() + self.over.len() + marks
    }

    pub(in crate::node) fn refused_total(&self) -> u64 {
        self.refused_total + self.vector.overflow_total()
    }

    /// Whether `record` is a copy from before a delete that has been forgotten since. Its key is
    /// absent, or an earlier delete is still remembered there, as on a member that was reset.
    pub(in crate::node) fn is_resurrected(&self, record: &Record, store: &Store) -> bool {
        let is_earlier = |held: &Record| {
            held.is_tombstone() && !record.is_tombstone() && held.stamp() < record.stamp()
        };
        !mutated!(Resurrect)
            && self.is_deleted(record.dot(), record.stamp().time)
            && store.entry(record.key()).as_ref().is_none_or(is_earlier)
    }

    /// Whether a covered record that is absent here, of this write and time, was deleted.
    pub(in crate::node) fn is_deleted(&self, dot: Dot, time: HlcTime) -> bool {
        let covers = self.covers(dot) || self.is_below_floor(dot.origin, time);
        self.doubts.is_none() && covers && time <= self.forgotten_time
    }

    /// Something covered is held no more. Until a peer turns out to hold the same as this node,
    /// nothing is refused or dropped because it is absent here.
    pub(in crate::node) fn doubt(&mut self, now: Instant) {
        self.doubts = Some(now);
    }

    /// A peer holds the very same.
    pub(in crate::node) fn trust(&mut self) {
        self.doubts = None;
    }

    /// Since when it doubts.
    pub(in crate::node) fn doubts(&self) -> Option<Instant> {
        self.doubts
    }

    /// Notes that `tombstone` is about to be forgotten.
    pub(in crate::node) fn forget(&mut self, tombstone: &Record) {
        self.forgotten_time = self.forgotten_time.max(tombstone.stamp().time);
        self.forget_expiries(tombstone.expiry().unwrap_or(0));
        self.mark(self.known_as(tombstone));
    }

    fn mark(&mut self, Dot { origin, seq }: Dot) {
        if !self.folded.mark(origin, seq) {
            let highest = self.forgotten.entry(origin).or_default();
            *highest = seq.max(*highest);
        }
    }

    /// Takes over that a peer has forgotten the delete `forgotten` of `origin`, 0 for none. Of one
    /// that is not covered here, only that it is past all that is: who lacks that delete has yet to
    /// learn so itself.
    pub(in crate::node) fn take_mark(&mut self, origin: OriginId, forgotten: u64) {
        let seq = forgotten.min(self.contiguous(origin));
        if seq > 0 && origin != self.me && !mutated!(LoseMarks) {
            self.mark(Dot { origin, seq });
        }
    }

    /// The highest number of `origin` of which a tombstone has been forgotten, 0 for none.
    pub(in crate::node) fn forgotten_of(&self, origin: OriginId) -> u64 {
        let folded = self.folded.get(origin).map(|folded| folded.forgotten);
        folded.or_else(|| self.forgotten.get(&origin).copied()).unwrap_or(0)
    }

    pub(in crate::node) fn forgotten_time(&self) -> HlcTime {
        self.forgotten_time
    }

    /// Takes over a peer's forgetting along with its copy.
    pub(in crate::node) fn forget_through(&mut self, time: HlcTime) {
        self.forgotten_time = self.forgotten_time.max(time);
    }

    /// What has expired up to this moment may be forgotten, here or by those who were copied.
    pub(in crate::node) fn forget_expiries(&mut self, moment: u64) {
        self.expiry_forgotten = self.expiry_forgotten.max(moment);
    }

    /// Whether a peer that holds `theirs` lacks a delete that we have forgotten.
    pub(in crate::node) fn is_behind(&self, theirs: &Claims) -> bool {
        let folded = self.folded.iter().map(|(origin, folded)| (origin, folded.forgotten));
        let forgotten = self.forgotten.iter().map(|(origin, seq)| (*origin, *seq));
        folded.chain(forgotten).any(|(origin, seq)| seq > 0 && !theirs.covers(Dot { origin, seq }))
    }
}

/// Whether a process may have drawn it.
pub(in crate::node) fn is_run(origin: OriginId) -> bool {
    origin.0 != 0 && origin != FLOOR
}

/// What somebody says to hold: heads and folded origins together.
#[derive(Debug, Default)]
pub(in crate::node) struct Claims {
    through: BTreeMap<OriginId, u64>,
}

impl Claims {
    pub(in crate::node) fn new(heads: &Heads, folded: &FoldedList) -> Claims {
        let mut through = BTreeMap::new();
        let folded = folded.iter().map(|(origin, last, _)| (*origin, *last));
        for (origin, last) in heads.iter().copied().chain(folded) {
            let known: &mut u64 = through.entry(OriginId(origin)).or_default();
            *known = last.max(*known);
        }
        Claims { through }
    }

    pub(in crate::node) fn covers(&self, dot: Dot) -> bool {
        self.through.get(&dot.origin).is_some_and(|through| dot.seq <= *through)
    }

    /// Whether it says anything of this run.
    pub(in crate::node) fn names(&self, origin: OriginId) -> bool {
        self.through.contains_key(&origin)
    }

    /// The number of its floor; 0 for none.
    pub(in crate::node) fn floor(&self) -> u64 {
        self.through.get(&FLOOR).copied().unwrap_or(0)
    }
}
