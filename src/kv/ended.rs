//! Runs that are over and held whole by all members: what a reader has seen of them is one number.
//!
//! Every restart is a new run, so a cluster that is deployed each day has thousands behind it after
//! some years. A resume token that named each would grow with them. So it names the set by its sum,
//! and a node knows which sets it has had lately:
//!
//! ```text
//! sets:   {a, b}  --c ends-->  {a, b, c}  --b writes again-->  {a, c}
//! sums:     17                    23                             9
//! token "runs of sum 17, and c up to 40"  -->  17 is two changes ago: {a, b}
//! ```
//!
//! Two different sets have the same sum by chance once in 2^64.

use super::version::OriginId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Changes of the set that a node remembers: those of some weeks of daily deployments.
const CHANGES_MAX: usize = 1_024;

/// A run that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedRun {
    /// Whose writes.
    pub origin: OriginId,
    /// The last of them; 0 where the first one was lost.
    pub last: u64,
    /// The highest number of a delete of it that has been forgotten; 0 for none.
    pub forgotten: u64,
}

/// What a run adds to the sum of a set: xxh3 over its origin and its last number, big-endian.
#[must_use]
pub fn run_hash(origin: OriginId, last: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&origin.0.to_be_bytes());
    bytes[8..].copy_from_slice(&last.to_be_bytes());
    xxh3_64(&bytes)
}

/// A set of runs that are over.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// By origin, each once.
    runs: Vec<EndedRun>,
    sum: u64,
}

/// Sets are equal when they cover the same; what has been forgotten of it does not matter.
impl PartialEq for Ended {
    fn eq(&self, other: &Ended) -> bool {
        self.sum == other.sum && self.runs.len() == other.runs.len()
    }
}

impl Eq for Ended {}

impl FromIterator<EndedRun> for Ended {
    /// Takes runs in any order, each once.
    fn from_iter<I: IntoIterator<Item = EndedRun>>(runs: I) -> Ended {
        let mut runs: Vec<EndedRun> = runs.into_iter().collect();
        runs.sort_unstable_by_key(|run| run.origin);
        let hashes = runs.iter().map(|run| run_hash(run.origin, run.last));
        let sum = hashes.fold(0, u64::wrapping_add);
        Ended { runs, sum }
    }
}

impl Ended {
    /// The sum over all of it, modulo 2^64, of [`run_hash`].
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The last number of a run, 0 where it is none of these.
    #[must_use]
    pub fn last(&self, origin: OriginId) -> u64 {
        self.get(origin).map_or(0, |run| run.last)
    }

    /// What is known of a run.
    #[must_use]
    pub fn get(&self, origin: OriginId) -> Option<&EndedRun> {
        let at = self.runs.binary_search_by_key(&origin, |run| run.origin).ok()?;
        self.runs.get(at)
    }

    /// All of them, by origin.
    pub fn iter(&self) -> impl Iterator<Item = &EndedRun> + Clone {
        self.runs.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

/// How the set of a node became what it is: its last changes, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndedChanges {
    changes: VecDeque<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    /// The sum before it.
    sum: u64,
    origin: OriginId,
    last: u64,
    /// It came in, as opposed to went out.
    is_in: bool,
}

impl EndedChanges {
    /// A run came into a set of this sum.
    pub fn came(&mut self, sum: u64, origin: OriginId, last: u64) {
        self.note(Change { sum, origin, last, is_in: true });
    }

    /// A run went out of a set of this sum: it writes again.
    pub fn went(&mut self, sum: u64, origin: OriginId, last: u64) {
        self.note(Change { sum, origin, last, is_in: false });
    }

    fn note(&mut self, change: Change) {
        if self.changes.len() >= CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    /// The set of this sum, where `now` is what these changes led to; `None` when it is none that
    /// is remembered. Costs as much as there are runs.
    #[must_use]
    pub(super) fn set_of(&self, now: &Arc<Ended>, sum: u64) -> Option<Arc<Ended>> {
        if now.sum() == sum {
            return Some(Arc::clone(now));
        }
        if !self.changes.iter().any(|change| change.sum == sum) {
            return None;
        }
        let mut before: BTreeMap<OriginId, Option<u64>> = BTreeMap::new();
        for change in self.changes.iter().rev() {
            before.insert(change.origin, (!change.is_in).then_some(change.last));
            if change.sum == sum {
                return Some(Arc::new(undo(now, &before)));
            }
        }
        None
    }
}

/// The set that differs from `now` in these runs.
fn undo(now: &Ended, before: &BTreeMap<OriginId, Option<u64>>) -> Ended {
    let kept = now.iter().filter(|run| !before.contains_key(&run.origin)).copied();
    let other = before.iter().filter_map(|(origin, last)| {
        last.map(|last| EndedRun { origin: *origin, last, forgotten: 0 })
    });
    kept.chain(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(runs: &BTreeMap<OriginId, u64>) -> Ended {
        let run = |(origin, last): (&OriginId, &u64)| EndedRun {
            origin: *origin,
            last: *last,
            forgotten: 0,
        };
        runs.iter().map(run).collect()
    }

    #[test]
    fn a_set_is_found_by_its_sum_for_as_long_as_changes_are_remembered() {
        let (mut runs, mut changes) = (BTreeMap::new(), EndedChanges::default());
        let mut sums = vec![0];
        for origin in 1..=CHANGES_MAX as u64 + 2 {
            let sum = set(&runs).sum();
            runs.insert(OriginId(origin), origin);
            changes.came(sum, OriginId(origin), origin);
            sums.push(set(&runs).sum());
        }
        let now = Arc::new(set(&runs));
        assert!(changes.set_of(&now, 77).is_none(), "it never was");
        assert!(changes.set_of(&now, sums[1]).is_none(), "it is too long ago");
        let found = changes.set_of(&now, sums[3]).expect("remembered");
        assert_eq!((found.len(), found.last(OriginId(3)), found.last(OriginId(4))), (3, 3, 0));
        assert_eq!(found.sum(), sums[3]);
    }

    proptest! {
        #[test]
        fn every_set_that_there_was_is_found_as_it_was(
            steps in prop::collection::vec((1..9u64, 1..4u64), 0..40),
        ) {
            let (mut runs, mut changes) = (BTreeMap::new(), EndedChanges::default());
            let mut sets = vec![set(&runs)];
            for (origin, last) in steps {
                let (origin, sum) = (OriginId(origin), set(&runs).sum());
                match runs.remove(&origin) {
                    Some(last) => changes.went(sum, origin, last),
                    None => {
                        runs.insert(origin, last);
                        changes.came(sum, origin, last);
                    }
                }
                sets.push(set(&runs));
            }
            let now = Arc::new(set(&runs));
            for then in sets {
                let found = changes.set_of(&now, then.sum()).expect("remembered");
                prop_assert_eq!(found.sum(), then.sum());
                let runs = |set: &Ended| set.iter().copied().collect::<Vec<_>>();
                prop_assert_eq!(runs(&found), runs(&then));
            }
        }
    }
}
