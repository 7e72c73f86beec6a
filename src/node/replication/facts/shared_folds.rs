//! What of the folded origins a peer has folded as well: of the others it is told.
//!
//! Two nodes may differ for long, by one that is dead: one of them remembers it as a member for a
//! day. The whole list is tens of kilobytes after a year, so it is told to a peer of which nothing
//! is known yet, and seldom again while the two differ: it also proves that its sender holds what
//! the other has folded, and a message may be lost.

use super::known::{Claims, Known};
use crate::kv::{Dot, OriginId};
use crate::node::replication::message::{FoldedList, Heads};
use crate::time::Instant;
use std::collections::BTreeSet;
use std::time::Duration;

/// Most origins folded here and not there of which it is remembered that they are not.
const MISSING_MAX: usize = 256;

/// What of the origins folded here a peer is known to have folded as well.
#[derive(Debug, Default)]
pub(in crate::node) struct FoldedThere {
    /// The first so many folds here,
    n: u64,
    /// but not these.
    missing: BTreeSet<OriginId>,
}

impl FoldedThere {
    /// All that is folded here now is folded there.
    pub(in crate::node) fn all(known: &Known) -> FoldedThere {
        FoldedThere { n: known.n_folds(), missing: BTreeSet::new() }
    }

    /// It has told a list of its own: what is not in it, or with a lower number, counts as not
    /// folded there. `None` when that is too much to remember.
    pub(in crate::node) fn told(self, known: &Known, theirs: &Claims) -> Option<FoldedThere> {
        let of = |run: OriginId| Some(Dot { origin: run, seq: known.folded(run)?.last });
        let before = self.missing.iter().filter_map(|run| of(*run));
        let new = known.folded_since(self.n).filter_map(|(run, _)| of(run));
        let missing = before.chain(new).filter(|last| !theirs.covers(*last));
        FoldedThere { n: known.n_folds(), missing: missing.map(|dot| dot.origin).collect() }
            .bounded()
    }

    /// It has told what it counts with in a digest: none of that is folded there, or is any more.
    /// `None` when that is too much to remember.
    pub(in crate::node) fn counts_with(
        mut self,
        known: &Known,
        heads: &Heads,
    ) -> Option<FoldedThere> {
        let runs = heads.iter().map(|(run, _)| OriginId(*run));
        self.missing.extend(runs.filter(|run| known.is_folded(*run)));
        self.bounded()
    }

    fn bounded(self) -> Option<FoldedThere> {
        (self.missing.len() <= MISSING_MAX).then_some(self)
    }

    /// What is folded here and not known to be there.
    pub(in crate::node) fn rest(&self, known: &Known) -> FoldedList {
        let missing = self.missing.iter().filter_map(|run| Some((*run, known.folded(*run)?)));
        let rest = known.folded_since(self.n).chain(missing);
        rest.map(|(run, folded)| (run.0, folded.last, folded.forgotten)).collect()
    }
}

/// A telling of the folded origins to one peer.
#[derive(Debug, Clone, Copy)]
pub(in crate::node) struct FoldedTold {
    pub(in crate::node) at: Instant,
    /// How long to wait before it is told the same again.
    pub(in crate::node) wait: Duration,
    /// When it was last told all of them.
    pub(in crate::node) whole_at: Instant,
    /// What was folded here and there, as hashes.
    pub(in crate::node) hashes: (u64, u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folding(runs: std::ops::RangeInclusive<u64>) -> Known {
        let mut known = Known::new(OriginId(1_000));
        for run in runs.map(OriginId) {
            known.observe(run, 1, 1);
            known.fold(run);
        }
        known
    }

    fn list(runs: impl Iterator<Item = u64>) -> Claims {
        Claims::new(&Vec::new(), &runs.map(|run| (run, 1, 0)).collect())
    }

    fn rest(there: &FoldedThere, known: &Known) -> Vec<u64> {
        there.rest(known).iter().map(|(run, ..)| *run).collect()
    }

    #[test]
    fn what_a_peer_has_not_listed_is_the_rest() {
        let mut known = folding(1..=9);
        let there = FoldedThere::default().told(&known, &list(2..=8)).expect("few are missing");
        assert_eq!(rest(&there, &known), [1, 9]);
        known.observe(OriginId(10), 1, 1);
        known.fold(OriginId(10));
        assert_eq!(rest(&there, &known), [10, 1, 9]);
        let there = there.told(&known, &list([9, 10].into_iter())).expect("few are missing");
        assert_eq!(rest(&there, &known), [1]);
        known.observe(OriginId(1), 2, 2);
        assert!(known.covers(Dot { origin: OriginId(1), seq: 2 }));
        assert_eq!(rest(&there, &known), Vec::<u64>::new(), "it writes again");
        let there = FoldedThere::all(&known);
        assert_eq!(rest(&there, &known), Vec::<u64>::new());
        let there = there.counts_with(&known, &vec![(5, 1), (77, 1)]).expect("few are missing");
        assert_eq!(rest(&there, &known), [5]);
    }

    #[test]
    fn a_run_that_a_peer_has_folded_at_a_lower_number_is_told() {
        let mut known = folding(1..=3);
        let there = FoldedThere::default().told(&known, &list(1..=3)).expect("none is missing");
        known.observe(OriginId(2), 2, 2);
        known.fold(OriginId(2));
        let there = there.told(&known, &list(2..=2)).expect("few are missing");
        assert_eq!(rest(&there, &known), [2]);
        let theirs = Claims::new(&Vec::new(), &vec![(2, 2, 0)]);
        let there = there.told(&known, &theirs).expect("none is missing");
        assert_eq!(rest(&there, &known), Vec::<u64>::new());
    }

    #[test]
    fn of_a_peer_that_lacks_too_many_nothing_is_remembered() {
        let known = folding(1..=MISSING_MAX as u64 + 1);
        assert!(FoldedThere::default().told(&known, &list(5..=5)).is_some());
        assert!(FoldedThere::default().told(&known, &list(std::iter::empty())).is_none());
        let heads = (1..=MISSING_MAX as u64 + 1).map(|run| (run, 1)).collect();
        assert!(FoldedThere::all(&known).counts_with(&known, &heads).is_none());
    }
}
