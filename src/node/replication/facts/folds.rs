//! The origins that this node has folded: their runs are over, and every member holds all of them.
//!
//! Members fold the same ones, each when it finds out, so two of them differ for some seconds. The
//! sum of a hash of each tells whether they do. What readers are told of them is a set on which all
//! members agreed: whichever node a reader goes on at knows that one, too.

use super::floor::{Agreed, FLOOR, History, Moment};
use crate::kv::{Ended, EndedChanges, EndedRun, OriginId, Seen, run_hash};
use crate::node::config::FoldedBound;
use crate::node::replication::message::{FoldedList, Heads};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most origins folded since all members agreed of which readers are told one by one; with more
/// they are told of this node's own set.
const UNAGREED_MAX: usize = 128;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) struct FoldedOrigin {
    /// Its last number.
    pub(in crate::node) last: u64,
    /// The highest number of a tombstone of it that has been forgotten.
    pub(in crate::node) forgotten: u64,
    /// The how manieth fold here it was.
    pub(in crate::node) number: u64,
}

/// The hash of all that is covered: of the folded origins as told, and of the heads. Equal whoever
/// has folded what, as long as `folded` leaves out those of whom nothing is covered.
pub(in crate::node) fn covered_hash(folded: u64, heads: &Heads) -> u64 {
    let hashes = heads.iter().map(|(origin, through)| run_hash(OriginId(*origin), *through));
    hashes.fold(folded, u64::wrapping_add)
}

/// What a list of folded origins adds up to, and those in it of whom nothing is covered: who has
/// folded such a one covers as much as who counts with it still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::node) struct FoldedHash {
    /// Of all.
    pub(in crate::node) all: u64,
    /// Of those whose first write was lost.
    empty: u64,
}

impl FoldedHash {
    /// The sums of a list.
    pub(in crate::node) fn of(list: &FoldedList) -> FoldedHash {
        let mut sums = FoldedHash::default();
        list.iter().for_each(|(origin, last, _)| sums.add(OriginId(*origin), *last));
        sums
    }

    fn add(&mut self, origin: OriginId, last: u64) {
        self.all = self.all.wrapping_add(run_hash(origin, last));
        if last == 0 {
            self.empty = self.empty.wrapping_add(run_hash(origin, last));
        }
    }

    fn remove(&mut self, origin: OriginId, last: u64) {
        self.all = self.all.wrapping_sub(run_hash(origin, last));
        if last == 0 {
            self.empty = self.empty.wrapping_sub(run_hash(origin, last));
        }
    }

    /// Of what is covered.
    pub(in crate::node) fn covered(self) -> u64 {
        self.all.wrapping_sub(self.empty)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(in crate::node) struct Folds {
    by_origin: BTreeMap<OriginId, FoldedOrigin>,
    /// Folds so far.
    n: u64,
    sums: FoldedHash,
    changes: Arc<EndedChanges>,
    /// The same for the [floor](super::floor).
    history: History,
    /// All of them as readers are told, made when it is asked for.
    told: OnceCell<Arc<Ended>>,
    /// The same when all members agreed last.
    agreed: Arc<Ended>,
    /// Folded since then, with their last numbers.
    since_agreed: BTreeMap<OriginId, u64>,
}

impl Folds {
    pub(in crate::node) fn get(&self, origin: OriginId) -> Option<&FoldedOrigin> {
        self.by_origin.get(&origin)
    }

    pub(in crate::node) fn contains(&self, origin: OriginId) -> bool {
        self.by_origin.contains_key(&origin)
    }

    pub(in crate::node) fn iter(&self) -> impl Iterator<Item = (OriginId, &FoldedOrigin)> {
        self.by_origin.iter().map(|(origin, folded)| (*origin, folded))
    }

    /// Those that were not there yet when `n` folds had been made.
    pub(in crate::node) fn since(&self, n: u64) -> impl Iterator<Item = (OriginId, &FoldedOrigin)> {
        let rest = if n >= self.n { 0 } else { usize::MAX };
        self.iter().take(rest).filter(move |(_, folded)| folded.number > n)
    }

    pub(in crate::node) fn len(&self) -> usize {
        self.by_origin.len()
    }

    /// Folds so far.
    pub(in crate::node) fn n(&self) -> u64 {
        self.n
    }

    pub(in crate::node) fn sums(&self) -> FoldedHash {
        self.sums
    }

    /// Folds one that is not among them.
    pub(in crate::node) fn insert(&mut self, origin: OriginId, last: u64, forgotten: u64) {
        self.n += 1;
        self.insert_as(self.n, origin, last, forgotten);
    }

    fn insert_as(&mut self, number: u64, origin: OriginId, last: u64, forgotten: u64) {
        Arc::make_mut(&mut self.changes).came(self.sums.all, origin, last);
        self.history.changed(self.sums.all, origin, last, true);
        self.by_origin.insert(origin, FoldedOrigin { last, forgotten, number });
        self.sums.add(origin, last);
        self.since_agreed.insert(origin, last);
        self.told.take();
    }

    /// Takes one out, which writes again or is a member again.
    pub(in crate::node) fn remove(&mut self, origin: OriginId) -> Option<FoldedOrigin> {
        let folded = self.by_origin.remove(&origin)?;
        Arc::make_mut(&mut self.changes).went(self.sums.all, origin, folded.last);
        self.history.changed(self.sums.all, origin, folded.last, false);
        self.sums.remove(origin, folded.last);
        self.since_agreed.remove(&origin);
        self.told.take();
        Some(folded)
    }

    /// Notes that the delete `seq` of a folded origin has been forgotten; false when it is none.
    pub(in crate::node) fn mark(&mut self, origin: OriginId, seq: u64) -> bool {
        let Some(folded) = self.by_origin.get_mut(&origin) else { return false };
        if seq > folded.forgotten {
            folded.forgotten = seq;
            self.told.take();
        }
        true
    }

    /// Every reachable member has told the same sum as this node.
    pub(in crate::node) fn agree(&mut self, when: Moment, bound: FoldedBound) {
        if self.agreed.sum() != self.sums.all {
            self.tell_all();
        }
        self.history.agreed(when, self.sums.all, self.len(), bound.age / 8);
    }

    /// Readers are told of all there are now by their sum.
    fn tell_all(&mut self) {
        self.agreed = Arc::clone(self.told());
        self.since_agreed.clear();
    }

    /// The number of the floor; 0 where there is none.
    pub(in crate::node) fn floor(&self) -> u64 {
        self.get(FLOOR).map_or(0, |floor| floor.last)
    }

    /// The list at which a floor is to be cut, if they are more than there may be. All members have
    /// agreed on that one, for a while unless there are far too many.
    pub(in crate::node) fn to_be_cut(&self, now: Moment, bound: FoldedBound) -> Option<Agreed> {
        if self.len() <= bound.most {
            return None;
        }
        // Of an empty one nothing could be let go of.
        let least = (bound.most / 2).max(1);
        let before = self.history.agreed_before(now, bound.age, least);
        let are_too_many = self.len() > 2 * bound.most;
        before.or_else(|| self.history.agreed_on(now, self.sums.all).filter(|_| are_too_many))
    }

    /// Those that have been among them since the list had the sum of this floor, if it ever had.
    pub(in crate::node) fn below(&self, floor: u64) -> Option<Vec<OriginId>> {
        let is_it = |sum: u64| sum as u32 == floor as u32;
        let now = self.by_origin.iter().map(|(origin, folded)| (*origin, folded.last));
        self.history.same_since(now, self.sums.all, is_it)
    }

    /// Puts the floor where these were; with their last numbers.
    pub(in crate::node) fn rise(&mut self, floor: u64, below: &[OriginId]) -> Vec<(OriginId, u64)> {
        let (mut gone, mut has_forgotten) = (Vec::with_capacity(below.len()), false);
        let before = self.remove(FLOOR);
        // Who is known to hold every fold up to the last of them holds the floor, be it dead.
        let mut number = before.map_or(0, |before| before.number);
        for &origin in below {
            let Some(folded) = self.remove(origin) else { continue };
            has_forgotten |= folded.forgotten > 0;
            number = number.max(folded.number);
            gone.push((origin, folded.last));
        }
        let forgotten = if has_forgotten { floor } else { before.map_or(0, |b| b.forgotten) };
        let number = if gone.is_empty() { self.n + 1 } else { number };
        self.n = self.n.max(number);
        self.insert_as(number, FLOOR, floor, forgotten);
        self.history.was_cut();
        // What led here is more than readers' tokens are looked up in: they begin anew.
        self.changes = Arc::default();
        self.tell_all();
        gone
    }

    /// All of them, as readers are told.
    pub(in crate::node) fn told(&self) -> &Arc<Ended> {
        let run = |(origin, folded): (OriginId, &FoldedOrigin)| EndedRun {
            origin,
            last: folded.last,
            forgotten: folded.forgotten,
        };
        self.told.get_or_init(|| Arc::new(self.iter().map(run).collect()))
    }

    /// How they became what they are.
    pub(in crate::node) fn changes(&self) -> &Arc<EndedChanges> {
        &self.changes
    }

    /// What a reader has seen that has seen all of them; each by itself unless `by_sum`.
    pub(in crate::node) fn seen(&self, by_sum: bool) -> Seen {
        if !by_sum {
            let mut seen = Seen::default();
            self.iter().for_each(|(origin, folded)| seen.add(origin, folded.last));
            return seen;
        }
        if self.since_agreed.len() > UNAGREED_MAX {
            return Seen::of_ended(Arc::clone(self.told()));
        }
        let mut seen = Seen::of_ended(Arc::clone(&self.agreed));
        self.since_agreed.iter().for_each(|(origin, last)| seen.add(*origin, *last));
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Coverage;

    const A: OriginId = OriginId(1);
    const B: OriginId = OriginId(2);

    #[test]
    fn readers_are_told_of_what_all_agreed_on_and_of_the_others_one_by_one() {
        let mut folds = Folds::default();
        folds.insert(A, 5, 0);
        folds.agree(Moment::default(), FoldedBound::default());
        folds.insert(B, 7, 0);
        let seen = folds.seen(true);
        assert_eq!(seen.named().collect::<Vec<_>>(), [(B, 7)]);
        assert_eq!((seen.through(A), seen.through(B)), (5, 7));
        assert_eq!(folds.seen(false).named().collect::<Vec<_>>(), [(A, 5), (B, 7)]);
        let token = seen.token(1).expect("one number");
        assert_eq!(token.ended, Some(run_hash(A, 5)));
        folds.remove(A);
        assert_eq!(folds.seen(true).through(A), 5, "it is held as it was when all agreed");
        folds.agree(Moment::default(), FoldedBound::default());
        assert_eq!(folds.seen(true).all(), BTreeMap::from([(B, 7)]));
        assert_eq!(folds.sums().all, run_hash(B, 7));
        let (ended, ended_changes) = (Arc::clone(folds.told()), Arc::clone(folds.changes()));
        let coverage = Coverage { ended, ended_changes, ..Coverage::default() };
        assert_eq!(coverage.read(&token).map(|seen| seen.through(A)), Some(5));
    }

    #[test]
    fn readers_are_told_of_all_where_members_never_agree() {
        let mut folds = Folds::default();
        for origin in 1..=UNAGREED_MAX as u64 + 1 {
            folds.insert(OriginId(origin), 3, 0);
        }
        let seen = folds.seen(true);
        assert_eq!((seen.named().count(), seen.all().len()), (0, UNAGREED_MAX + 1));
    }

    #[test]
    fn a_delete_forgotten_is_told_with_its_run() {
        let mut folds = Folds::default();
        folds.insert(A, 5, 0);
        assert_eq!(folds.told().get(A).map(|run| run.forgotten), Some(0));
        assert!(folds.mark(A, 4) && folds.mark(A, 2) && !folds.mark(B, 1));
        assert_eq!(folds.told().get(A).map(|run| run.forgotten), Some(4));
    }
}
