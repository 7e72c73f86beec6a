//! What a reader has seen of the store, by which it goes on reading anywhere.
//!
//! A [`Seen`] is a version vector without gaps: of each origin, the number up to which every write
//! was seen. Where somebody reads on from one, on whichever node, only records of later numbers are
//! of interest. That holds as long as no delete that the reader lacks has been forgotten: the
//! [`Coverage`] of a node knows that.
//!
//! ```text
//! at A:   snapshot {o: 50}      the delete o:50 of key k is among it, and no part of a snapshot
//! at B:   holds {o: 40, p: 7}   tells p:7, an older value of k     --> {o: 40 to 50, p: 7}
//! at A:   tells o:41 to o:50 again, the delete of k too            --> {o: 50, p: 7}
//! ```
//!
//! A node behind its reader may tell a value that the reader has seen deleted, in a snapshot that
//! did not say so. So what was seen goes back to what that node holds, and is told again. That more
//! was seen before is kept beside it: by that a reader learns that a write was lost.

use super::record::Record;
use super::version::{Dot, OriginId};
use crate::mutation::mutated;
use std::collections::BTreeMap;

/// What was seen of each origin, and of what expires.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The numbers up to which all writes were seen; none of them is 0.
    through: BTreeMap<OriginId, u64>,
    /// The moment up to which of these was seen whatever has expired, in milliseconds since 1970, 0
    /// for none.
    expired_through: u64,
    /// Higher numbers that were seen before at nodes that were further on.
    ahead: BTreeMap<OriginId, u64>,
}

impl Seen {
    /// Whether this write was seen, and where it has expired, that as well.
    #[must_use]
    pub fn covers(&self, record: &Record) -> bool {
        let Dot { origin, seq } = record.dot();
        let has_expired_since = record.has_expired()
            && record.expiry().is_some_and(|expiry| expiry > self.expired_through)
            && !mutated!(WatchNoExpiry);
        seq <= self.through(origin) && !has_expired_since
    }

    /// The moment up to which was seen whatever has expired, in milliseconds since 1970; 0 where
    /// nothing that was seen ever expires.
    #[must_use]
    pub fn expired_through(&self) -> u64 {
        self.expired_through
    }

    /// What expired up to this moment was seen, and nothing is known of what expired later.
    pub fn set_expired_through(&mut self, moment: u64) {
        self.expired_through = moment;
    }

    /// The number up to which the writes of `origin` were seen; 0 for none.
    #[must_use]
    pub fn through(&self, origin: OriginId) -> u64 {
        self.through.get(&origin).copied().unwrap_or(0)
    }

    /// The highest number of `origin` that was ever seen: not less than [`through`](Seen::through).
    #[must_use]
    pub fn highest(&self, origin: OriginId) -> u64 {
        self.ahead.get(&origin).copied().unwrap_or_else(|| self.through(origin))
    }

    /// Writes of `origin` up to `through` were seen as well.
    pub fn add(&mut self, origin: OriginId, through: u64) {
        if through > 0 {
            let known = self.through.entry(origin).or_default();
            *known = (*known).max(through);
            self.add_ahead(origin, 0);
        }
    }

    /// Writes of `origin` up to `highest` were seen before, at a node that was further on.
    pub fn add_ahead(&mut self, origin: OriginId, highest: u64) {
        let highest = self.highest(origin).max(highest);
        if highest > self.through(origin) {
            self.ahead.insert(origin, highest);
        } else {
            self.ahead.remove(&origin);
        }
    }

    /// A node that holds `held` has told all of it that was not among this. Where the node is
    /// behind, this goes back to what it holds, and keeps [how much was seen](Seen::highest). Where
    /// nothing has ever expired in what it holds, the moment of this stays. `swept` is
    /// [`Store::swept`](super::Store::swept) after the last was told: where the clock was set back
    /// meanwhile, what expires later had not expired for the reader.
    pub fn told(&mut self, held: &Seen, swept: u64) {
        let Seen { through, ahead, .. } = self;
        through.retain(|origin, seen| {
            let told = held.through(*origin);
            if told < *seen {
                let highest = ahead.entry(*origin).or_default();
                *highest = (*highest).max(*seen);
                *seen = told;
            }
            *seen > 0
        });
        held.iter().for_each(|(origin, through)| self.add(origin, through));
        if held.expired_through > 0 {
            self.expired_through = held.expired_through;
        }
        // 0 says that nothing there ever expires.
        if swept > 0 {
            self.expired_through = self.expired_through.min(swept);
        }
    }

    /// Whether everything that `other` has seen is among this.
    #[must_use]
    pub fn contains(&self, other: &Seen) -> bool {
        other.origins().all(|origin| other.highest(origin) <= self.through(origin))
    }

    /// Origins and the numbers up to which all was seen, none of them 0, by origin.
    pub fn iter(&self) -> impl Iterator<Item = (OriginId, u64)> + Clone {
        self.through.iter().map(|(origin, through)| (*origin, *through))
    }

    /// Origins of which more was seen before, and the highest number seen, by origin.
    pub fn iter_ahead(&self) -> impl Iterator<Item = (OriginId, u64)> + Clone {
        self.ahead.iter().map(|(origin, highest)| (*origin, *highest))
    }

    /// Origins of which anything was seen; those of which more was seen before may come twice.
    pub fn origins(&self) -> impl Iterator<Item = OriginId> {
        self.through.keys().chain(self.ahead.keys()).copied()
    }

    /// Numbers that it takes to say it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.through.len() + self.ahead.len()
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a node holds, and which deletes it has forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// What it holds without gaps, and up to which moment it has let expire what does.
    pub seen: Seen,
    /// The latest expiry that it has forgotten, in milliseconds since 1970; 0 for none.
    pub expiry_forgotten: u64,
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
    /// anew: a delete that it lacks has been forgotten, or a write that it has seen is lost, or
    /// comes from a run that this node has not heard of.
    #[must_use]
    pub fn reaches(&self, seen: &Seen) -> bool {
        if mutated!(WatchNeverReset) {
            return true;
        }
        let lost = |(origin, last)| seen.highest(origin) > last;
        // What nobody has heard of was lost with all who had, or has yet to come here.
        seen.origins().all(|origin| self.knows(origin))
            && seen.contains(&self.forgotten)
            && (seen.expired_through() == 0 || seen.expired_through() >= self.expiry_forgotten)
            && !self.ended.iter().any(lost)
    }

    /// Whether it holds all that `seen` says, and has let expire what has expired by its moment. A
    /// node that never held anything that expires need not.
    #[must_use]
    pub fn covers(&self, seen: &Seen) -> bool {
        let moment = self.seen.expired_through();
        self.seen.contains(seen) && (moment == 0 || moment >= seen.expired_through())
    }

    /// Whether any write of `origin` is known here, be it gone by now.
    #[must_use]
    pub fn knows(&self, origin: OriginId) -> bool {
        [&self.seen, &self.ended, &self.forgotten].iter().any(|part| part.through(origin) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{HlcTime, Stamp};

    #[test]
    fn an_expiry_is_seen_up_to_a_moment_and_not_with_the_write() {
        let stamp = Stamp { time: HlcTime::from_millis(5_000), origin: OriginId(1) };
        let put = Record::lasting(stamp, 1, b"k", Some((b"v", None)), 3);
        let mut seen = Seen::default();
        seen.add(OriginId(1), 1);
        assert!(seen.covers(&put) && !seen.covers(&put.expired()));
        seen.set_expired_through(7_999);
        assert!(!seen.covers(&put.expired()));
        let mut coverage = Coverage { expiry_forgotten: 8_000, ..Coverage::default() };
        coverage.seen.add(OriginId(1), 1);
        assert!(!coverage.reaches(&seen), "it may have been this one");
        coverage.expiry_forgotten = 7_999;
        assert!(coverage.reaches(&seen));
        assert!(coverage.covers(&seen), "here nothing has ever expired");
        coverage.seen.set_expired_through(7_998);
        assert!(!coverage.covers(&seen));
        coverage.seen.set_expired_through(7_999);
        assert!(coverage.covers(&seen));
        let mut later = Seen::default();
        later.add(OriginId(1), 1);
        later.set_expired_through(8_000);
        seen.told(&later, 0);
        assert!(seen.covers(&put.expired()));
    }

    #[test]
    fn what_was_told_by_a_node_that_is_behind_counts_as_far_as_that_node_holds() {
        let (a, b) = (OriginId(1), OriginId(2));
        let (mut seen, mut behind) = (Seen::default(), Seen::default());
        seen.add(a, 50);
        seen.set_expired_through(7);
        behind.add(a, 40);
        behind.add(b, 7);
        seen.told(&behind, 0);
        assert_eq!((seen.through(a), seen.highest(a), seen.through(b)), (40, 50, 7));
        assert_eq!(seen.expired_through(), 7, "there nothing ever expires");
        let mut coverage = Coverage { seen: behind.clone(), ..Coverage::default() };
        assert!(!coverage.covers(&seen), "it has yet to catch up with that reader");
        coverage.ended.add(a, 49);
        assert!(!coverage.reaches(&seen), "a write that was seen is lost");
        coverage.ended.add(a, 50);
        assert!(coverage.reaches(&seen));
        coverage.forgotten.add(a, 41);
        assert!(!coverage.reaches(&seen), "that delete may have been undone by what was told");
        behind.add(a, 50);
        behind.set_expired_through(9);
        seen.told(&behind, 0);
        assert_eq!(seen, behind);
        seen.told(&behind, 10);
        assert_eq!(seen, behind);
        seen.told(&behind, 8);
        assert_eq!(seen.expired_through(), 8);
    }

    #[test]
    fn a_reader_goes_on_unless_a_delete_that_it_lacks_is_forgotten() {
        let (a, b) = (OriginId(1), OriginId(2));
        let mut seen = Seen::default();
        seen.add(a, 0);
        assert!(seen.is_empty());
        seen.add(a, 7);
        seen.add(a, 5);
        let write = |origin, seq| {
            Record::new(Stamp { time: HlcTime::from_millis(5_000), origin }, seq, b"k", None)
        };
        assert!(seen.covers(&write(a, 7)) && !seen.covers(&write(a, 8)));
        assert!(!seen.covers(&write(b, 1)));
        let mut coverage = Coverage::default();
        assert!(!coverage.reaches(&seen), "nobody here has heard of that run");
        coverage.seen.add(a, 3);
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
        seen.add(b, 3);
        assert!(coverage.knows(b) && !of_others.knows(b));
        assert!(!coverage.covers(&seen) && coverage.covers(&Seen::default()));
        assert_eq!((seen.len(), seen.through(a), seen.through(b)), (2, 7, 3));
        assert!(coverage.reaches(&seen) && seen.contains(&more) && !more.contains(&seen));
    }
}
