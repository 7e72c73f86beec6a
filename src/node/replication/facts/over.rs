//! Runs that were let go of, with their last numbers: the latest of them.
//!
//! When the list of folded origins is cut, what was in it goes, and a node that was away then still
//! counts with those runs by name. What it tells of one sounds like news of a run that nobody here
//! has heard of: to be asked for, and where deletes of it were forgotten, to hide for. But whoever
//! has cut its list held all of those runs to the last write. So it remembers for a while which
//! they were, and when one is named again it just counts with it again.

use crate::kv::{Dot, OriginId};
use std::collections::{BTreeMap, VecDeque};

/// How many are remembered: more than go when the longest list that all have agreed on is cut.
pub(in crate::node) const REMEMBERED_MAX: usize = 32_768;

/// The latest of them.
#[derive(Debug, Default)]
pub(in crate::node) struct Over {
    last: BTreeMap<OriginId, u64>,
    /// The same, in the order in which they went.
    order: VecDeque<OriginId>,
}

impl Over {
    /// This run is let go of; everything up to `last` was held.
    pub(in crate::node) fn add(&mut self, origin: OriginId, last: u64) {
        if self.last.insert(origin, last).is_none() {
            self.order.push_back(origin);
        }
        while self.order.len() > REMEMBERED_MAX {
            self.order.pop_front().map(|oldest| self.last.remove(&oldest));
        }
    }

    /// The last number of a run, if this write of it was held when it was let go of.
    pub(in crate::node) fn held(&self, dot: Dot) -> Option<u64> {
        self.last.get(&dot.origin).copied().filter(|last| dot.seq <= *last)
    }

    #[cfg(test)]
    pub(in crate::node) fn len(&self) -> usize {
        self.last.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_no_more_than_there_may_be() {
        let mut over = Over::default();
        for origin in 0..REMEMBERED_MAX as u64 + 10 {
            over.add(OriginId(origin), 5);
        }
        over.add(OriginId(20), 7);
        let held = |origin, seq| over.held(Dot { origin: OriginId(origin), seq }).is_some();
        assert_eq!((over.len(), over.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert!(!held(9, 5), "too long ago");
        assert!(held(10, 5) && held(20, 7));
        assert!(!held(10, 6), "past its last");
    }
}
