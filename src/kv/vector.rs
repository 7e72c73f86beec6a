//! Which writes are held: for each origin, exactly which numbers.
//!
//! ```text
//! origin A:   1 2 3 4 5 6 . . 9 10 . 12      contiguous = 6, above = {9..=10, 12..=12}
//! ```
//!
//! A covered dot means "this write, or something later for the same key, has been held here". The
//! heads, one `contiguous` per origin, are the digest peers compare; the gaps are what to ask for.
//!
//! Bounds: [`ORIGINS_MAX`] origins, [`SEEN_RANGES_MAX`] ranges above one's first gap,
//! [`SEEN_RANGES_TOTAL_MAX`] of all together. What has no room is counted and not noted: it stays
//! uncovered and is asked for again.

use super::version::{Dot, OriginId};
use crate::limits::{ORIGINS_MAX, SEEN_RANGES_MAX, SEEN_RANGES_TOTAL_MAX};
use std::collections::BTreeMap;

/// Writes held, by origin.
#[derive(Debug, Clone, Default)]
pub struct VersionVector {
    origins: BTreeMap<OriginId, Seen>,
    /// Ranges in all `above`s.
    n_ranges: usize,
    overflow_total: u64,
}

impl VersionVector {
    /// A vector that covers nothing.
    #[must_use]
    pub fn new() -> VersionVector {
        VersionVector::default()
    }

    /// Whether this write is held. Number 0 names no write and is always covered.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        dot.seq == 0
            || self.origins.get(&dot.origin).is_some_and(|seen| seen.covers(dot.seq, dot.seq))
    }

    /// Notes a write as held. True when that is news; false when it was covered, or when there is
    /// no room to note it, which is counted.
    pub fn observe(&mut self, dot: Dot) -> bool {
        self.observe_range(dot.origin, dot.seq, dot.seq)
    }

    /// Notes writes `first..=last` of `origin` as held, at the price of one. True when any of them
    /// is news; false when all were covered, or when there is no room, which is counted.
    pub fn observe_range(&mut self, origin: OriginId, first: u64, last: u64) -> bool {
        let first = first.max(1);
        let covered = |seen: &Seen| seen.covers(first, last);
        if first > last || self.origins.get(&origin).is_some_and(covered) {
            return false;
        }
        let may_split = self.n_ranges < SEEN_RANGES_TOTAL_MAX;
        let observed = match self.seen_mut(origin) {
            Some(seen) => {
                let before = seen.above.len();
                let observed = seen.observe(first, last, may_split);
                let after = seen.above.len();
                self.n_ranges = self.n_ranges + after - before;
                observed
            }
            None => false,
        };
        self.overflow_total += u64::from(!observed);
        observed
    }

    /// Notes every write of `origin` up to and including `through` as held.
    pub fn claim(&mut self, origin: OriginId, through: u64) {
        if through <= self.contiguous(origin) {
            return;
        }
        match self.seen_mut(origin) {
            Some(seen) => {
                let before = seen.above.len();
                seen.claim(through);
                let after = seen.above.len();
                self.n_ranges -= before - after;
            }
            None => self.overflow_total += 1,
        }
    }

    /// Forgets an origin.
    pub fn remove(&mut self, origin: OriginId) {
        if let Some(seen) = self.origins.remove(&origin) {
            self.n_ranges -= seen.above.len();
        }
    }

    /// The number up to which every write of `origin` is held; 0 for none.
    #[must_use]
    pub fn contiguous(&self, origin: OriginId) -> u64 {
        self.origins.get(&origin).map_or(0, |seen| seen.contiguous)
    }

    /// The highest number of `origin` that is held; 0 for none.
    #[must_use]
    pub fn highest(&self, origin: OriginId) -> u64 {
        self.origins.get(&origin).map_or(0, Seen::highest)
    }

    /// Each origin with the number up to which every write of it is held, by origin.
    pub fn heads(&self) -> impl Iterator<Item = (OriginId, u64)> {
        self.origins.iter().map(|(origin, seen)| (*origin, seen.contiguous))
    }

    /// The first `limit` ranges of `origin` that are missing, both ends included, none of it past
    /// `through`.
    #[must_use]
    pub fn gaps(&self, origin: OriginId, through: u64, limit: usize) -> Vec<(u64, u64)> {
        let nothing = Seen::default();
        self.origins.get(&origin).unwrap_or(&nothing).gaps(through).take(limit).collect()
    }

    /// Origins known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Whether no origin is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// Ranges held above gaps, all origins together: how far from contiguous things are.
    #[must_use]
    pub fn n_ranges(&self) -> usize {
        self.n_ranges
    }

    /// Notes refused for want of room, ever.
    #[must_use]
    pub fn overflow_total(&self) -> u64 {
        self.overflow_total
    }

    /// What is seen of an origin, made when new; `None` when there is no room for it.
    fn seen_mut(&mut self, origin: OriginId) -> Option<&mut Seen> {
        if self.origins.len() >= ORIGINS_MAX && !self.origins.contains_key(&origin) {
            return None;
        }
        Some(self.origins.entry(origin).or_default())
    }
}

/// Writes held of one origin: all of `1..=contiguous`, and those in `above`.
#[derive(Debug, Clone, Default)]
struct Seen {
    contiguous: u64,
    /// First to last of each range: disjoint, never adjacent, all past `contiguous + 1`.
    above: BTreeMap<u64, u64>,
}

impl Seen {
    fn covers(&self, first: u64, last: u64) -> bool {
        last <= self.contiguous || self.range_before(first).is_some_and(|(_, end)| last <= end)
    }

    fn highest(&self) -> u64 {
        self.above.last_key_value().map_or(self.contiguous, |(_, last)| *last)
    }

    /// Adds numbers that are not all covered. False when they would need one range too many.
    fn observe(&mut self, first: u64, mut last: u64, may_split: bool) -> bool {
        if first <= self.contiguous.saturating_add(1) {
            self.claim(last);
            return true;
        }
        let before = self.range_before(first).filter(|(_, end)| first <= end.saturating_add(1));
        let first = before.map_or(first, |(start, _)| start);
        let joined = |above: &BTreeMap<u64, u64>, last: u64| {
            above.range(first..=last.saturating_add(1)).next().map(|(start, end)| (*start, *end))
        };
        let splits = joined(&self.above, last).is_none();
        if splits && (!may_split || self.above.len() >= SEEN_RANGES_MAX) {
            return false;
        }
        while let Some((start, end)) = joined(&self.above, last) {
            self.above.remove(&start);
            last = last.max(end);
        }
        self.above.insert(first, last);
        true
    }

    /// Raises `contiguous` to `through`, which is higher.
    fn claim(&mut self, through: u64) {
        self.contiguous = through;
        self.absorb();
    }

    /// Takes ranges that `contiguous` has reached into it.
    fn absorb(&mut self) {
        while let Some(range) = self.above.first_entry() {
            if *range.key() > self.contiguous.saturating_add(1) {
                break;
            }
            self.contiguous = self.contiguous.max(range.remove());
        }
    }

    fn gaps(&self, through: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut last_held = self.contiguous;
        let ends = self.above.iter().map(|(first, last)| (*first, *last));
        // A range of nothing past the end closes the last gap.
        let closed = ends.take_while(move |(first, _)| *first <= through).map(Some);
        closed.chain([None]).filter_map(move |held| {
            // No gap begins past the largest number.
            let first_missing = last_held.checked_add(1)?;
            let last_missing = held.map_or(through, |(first, _)| first - 1);
            last_held = held.map_or(u64::MAX, |(_, last)| last);
            (first_missing <= last_missing).then_some((first_missing, last_missing))
        })
    }

    /// The range that begins at `seq` or closest before it.
    fn range_before(&self, seq: u64) -> Option<(u64, u64)> {
        self.above.range(..=seq).next_back().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const A: OriginId = OriginId(7);

    fn dot(seq: u64) -> Dot {
        Dot { origin: A, seq }
    }

    #[test]
    fn numbers_arriving_out_of_order_close_up() {
        let mut vector = VersionVector::new();
        for seq in [1, 2, 5, 4, 9, 3] {
            assert!(vector.observe(dot(seq)), "{seq}");
            assert!(!vector.observe(dot(seq)), "{seq}");
        }
        assert_eq!((vector.contiguous(A), vector.highest(A), vector.n_ranges()), (5, 9, 1));
        assert_eq!(vector.gaps(A, 12, 9), [(6, 8), (10, 12)]);
        assert_eq!(vector.gaps(A, 12, 1), [(6, 8)]);
        assert_eq!(vector.gaps(A, 5, 9), []);
        assert_eq!(vector.gaps(OriginId(8), 3, 9), [(1, 3)]);
    }

    #[test]
    fn the_largest_numbers_are_survived() {
        let mut vector = VersionVector::new();
        assert!(vector.observe(dot(u64::MAX)));
        assert!(vector.observe(dot(u64::MAX - 1)));
        assert_eq!(vector.gaps(A, u64::MAX, 9), [(1, u64::MAX - 2)]);
        vector.claim(A, u64::MAX - 2);
        assert_eq!((vector.contiguous(A), vector.n_ranges()), (u64::MAX, 0));
        assert_eq!(vector.gaps(A, u64::MAX, 9), []);
        assert!(!vector.observe(dot(u64::MAX)));
    }

    #[test]
    fn ranges_past_the_bound_are_refused_counted_and_stay_uncovered() {
        let mut vector = VersionVector::new();
        for i in 0..SEEN_RANGES_MAX as u64 {
            assert!(vector.observe(dot(3 + 2 * i)));
        }
        let refused = dot(5 + 2 * SEEN_RANGES_MAX as u64);
        assert!(!vector.observe(refused));
        assert!(!vector.covers(refused));
        assert_eq!(vector.overflow_total(), 1);
        assert!(vector.observe(dot(4)), "joining two ranges needs no room");
        assert!(vector.observe(refused), "and has made some");
    }

    #[test]
    fn origins_past_the_bound_are_refused_and_counted() {
        let mut vector = VersionVector::new();
        for origin in 1..=ORIGINS_MAX as u64 {
            vector.claim(OriginId(origin), 1);
        }
        let late = OriginId(ORIGINS_MAX as u64 + 1);
        vector.claim(late, 1);
        assert!(!vector.observe(Dot { origin: late, seq: 1 }));
        assert_eq!((vector.len(), vector.overflow_total()), (ORIGINS_MAX, 2));
        vector.remove(OriginId(1));
        assert!(vector.observe(Dot { origin: late, seq: 1 }));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Observe(u64),
        Range(u64, u64),
        Claim(u64),
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(
            steps in prop::collection::vec(
                prop_oneof![
                    8 => (0..60u64).prop_map(Step::Observe),
                    2 => (0..60u64, 0..9u64).prop_map(|(first, n)| Step::Range(first, first + n)),
                    1 => (0..60u64).prop_map(Step::Claim),
                ],
                0..80,
            ),
            through in 0..70u64,
        ) {
            let (mut vector, mut set) = (VersionVector::new(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Observe(seq) => {
                        let news = seq > 0 && set.insert(seq);
                        prop_assert_eq!(vector.observe(dot(seq)), news);
                    }
                    Step::Range(first, last) => {
                        let added = (first.max(1)..=last).filter(|seq| set.insert(*seq)).count();
                        prop_assert_eq!(vector.observe_range(A, first, last), added > 0);
                    }
                    Step::Claim(up_to) => {
                        vector.claim(A, up_to);
                        set.extend(1..=up_to);
                    }
                }
            }
            let contiguous = (1..).take_while(|seq| set.contains(seq)).count() as u64;
            prop_assert_eq!(vector.contiguous(A), contiguous);
            prop_assert_eq!(vector.highest(A), set.last().copied().unwrap_or(0));
            for seq in 1..70 {
                prop_assert_eq!(vector.covers(dot(seq)), set.contains(&seq));
            }
            let missing = vector.gaps(A, through, usize::MAX);
            let missing = missing.into_iter().flat_map(|(first, last)| first..=last);
            let expected = (1..=through).filter(|seq| !set.contains(seq));
            prop_assert_eq!(missing.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            let ranges = (1..70).filter(|s| {
                *s > contiguous && set.contains(s) && !set.contains(&(s - 1))
            });
            prop_assert_eq!(vector.n_ranges(), ranges.count());
        }
    }
}
