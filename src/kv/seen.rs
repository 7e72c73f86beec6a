//! What a reader has seen of the store, by which it goes on reading anywhere.
//!
//! A [`Seen`] is a version vector without gaps: of each origin, the number up to which every write
//! was seen. Where somebody reads on from one, on whichever node, only records of later numbers are
//! of interest. That holds as long as no delete that the reader lacks has been forgotten: the
//! [`Coverage`] of a node knows that.

use super::version::{Dot, OriginId};
use std::collections::BTreeMap;

/// Of each origin, the number up to which all its writes were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<OriginId, u64>);

impl Seen {
    /// Whether this write was seen, or one that it depends on nothing of.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        dot.seq <= self.through(dot.origin)
    }

    /// The number up to which the writes of `origin` were seen; 0 for none.
    #[must_use]
    pub fn through(&self, origin: OriginId) -> u64 {
        self.0.get(&origin).copied().unwrap_or(0)
    }

    /// Writes of `origin` up to `through` were seen as well.
    pub fn add(&mut self, origin: OriginId, through: u64) {
        if through > 0 {
            let known = self.0.entry(origin).or_default();
            *known = (*known).max(through);
        }
    }

    /// All that `other` has seen was seen as well.
    pub fn merge(&mut self, other: &Seen) {
        other.iter().for_each(|(origin, through)| self.add(origin, through));
    }

    /// Whether everything that `other` has seen is among this.
    #[must_use]
    pub fn contains(&self, other: &Seen) -> bool {
        other.iter().all(|(origin, through)| through <= self.through(origin))
    }

    /// Origins and their numbers, none of them 0, by origin.
    pub fn iter(&self) -> impl Iterator<Item = (OriginId, u64)> {
        self.0.iter().map(|(origin, through)| (*origin, *through))
    }

    /// Origins of which anything was seen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a node holds, and which deletes it has forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// What it holds without gaps.
    pub seen: Seen,
    /// Of each origin, the highest number of a delete that the node has forgotten.
    pub forgotten: Seen,
    /// Of each origin that writes no more and of which all members held the same, its last number.
    pub ended: Seen,
    /// [`Store::removed_total`](super::Store::removed_total) at that time.
    pub removed_total: u64,
    /// Whether it holds nothing beyond `seen`: no write past a gap, no part of a copy.
    pub is_exact: bool,
}

impl Coverage {
    /// Whether a reader that has seen so much can be told all that it lacks. Else it must begin
    /// anew: a delete that it lacks has been forgotten, or a write that it has seen is lost.
    #[must_use]
    pub fn reaches(&self, seen: &Seen) -> bool {
        let lost = |(origin, last)| seen.through(origin) > last;
        seen.contains(&self.forgotten) && !self.ended.iter().any(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_goes_on_unless_a_delete_that_it_lacks_is_forgotten() {
        let (a, b) = (OriginId(1), OriginId(2));
        let mut seen = Seen::default();
        seen.add(a, 0);
        assert!(seen.is_empty());
        seen.add(a, 7);
        seen.add(a, 5);
        assert!(seen.covers(Dot { origin: a, seq: 7 }) && !seen.covers(Dot { origin: a, seq: 8 }));
        assert!(!seen.covers(Dot { origin: b, seq: 1 }));
        let mut coverage = Coverage::default();
        assert!(coverage.reaches(&seen) && coverage.reaches(&Seen::default()));
        coverage.forgotten.add(a, 7);
        assert!(coverage.reaches(&seen) && !coverage.reaches(&Seen::default()));
        coverage.forgotten.add(b, 1);
        assert!(!coverage.reaches(&seen));
        let mut of_others = Coverage::default();
        of_others.ended.add(a, 7);
        assert!(of_others.reaches(&seen));
        of_others.ended = Seen::default();
        of_others.ended.add(a, 6);
        assert!(!of_others.reaches(&seen), "the reader has seen a write that is lost");
        let mut more = Seen::default();
        more.add(b, 3);
        seen.merge(&more);
        assert_eq!((seen.len(), seen.through(a), seen.through(b)), (2, 7, 3));
        assert!(coverage.reaches(&seen) && seen.contains(&more) && !more.contains(&seen));
    }
}
