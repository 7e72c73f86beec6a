//! Members that have left or are forgotten: at which incarnation, for a day.
//!
//! Their old `alive` may come again: late, from a member that slept, or replayed by somebody. To
//! the rules of the protocol the name is unknown then, and it would be a member for as long as it
//! takes to find that nobody is there, and a dead one for a day. So it is passed over, and the one
//! who is said to be alive is told at its address that it counts as dead: if it is there, it
//! refutes, and by that has a higher incarnation than it ever had. memberlist's own nodes, which
//! count from 1 at each start, come back in the same way.

use crate::limits::DEPARTED_MAX;
use crate::time::Instant;
use crate::wire::message::NodeName;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Least time between two words to the address of one of them.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// All that are remembered; of too many the first are forgotten.
#[derive(Debug, Default)]
pub(super) struct Departed {
    by_name: BTreeMap<NodeName, Last>,
    by_time: BTreeSet<(Instant, NodeName)>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    incarnation: u32,
    since: Instant,
    told: Option<Instant>,
}

/// What becomes of an `alive` of such a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nothing is known against it.
    News,
    /// It is no later than what it is remembered by.
    Old {
        /// That incarnation.
        incarnation: u32,
        /// Whether to tell whoever is at its address.
        tell: bool,
    },
}

impl Departed {
    /// A member is forgotten.
    pub(super) fn remember(&mut self, now: Instant, name: NodeName, incarnation: u32) {
        self.remove(&name);
        while self.by_name.len() >= DEPARTED_MAX
            && let Some((_, longest)) = self.by_time.pop_first()
        {
            self.by_name.remove(&longest);
        }
        self.by_time.insert((now, name.clone()));
        self.by_name.insert(name, Last { incarnation, since: now, told: None });
    }

    /// Judges an `alive` of a name that is no member's.
    pub(super) fn judge(&mut self, now: Instant, name: &NodeName, incarnation: u32) -> Claim {
        let Some(last) = self.by_name.get_mut(name) else { return Claim::News };
        if incarnation > last.incarnation {
            return Claim::News;
        }
        let tell = last.told.is_none_or(|told| now.since(told) >= TELL_AGAIN);
        if tell {
            last.told = Some(now);
        }
        Claim::Old { incarnation: last.incarnation, tell }
    }

    /// The name is a member's again.
    pub(super) fn remove(&mut self, name: &NodeName) {
        if let Some(last) = self.by_name.remove(name) {
            self.by_time.remove(&(last.since, name.clone()));
        }
    }

    /// Forgets those that departed longer than `keep` ago.
    pub(super) fn expire(&mut self, now: Instant, keep: Duration) {
        while let Some((since, name)) = self.by_time.first()
            && now.since(*since) > keep
        {
            let name = name.clone();
            self.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> NodeName {
        NodeName::from(format!("n{n}").as_str())
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn what_is_no_later_is_old_for_as_long_as_it_is_remembered() {
        let mut departed = Departed::default();
        departed.remember(at(0), name(1), 7);
        assert_eq!(departed.judge(at(1), &name(2), 1), Claim::News);
        assert_eq!(departed.judge(at(1), &name(1), 8), Claim::News);
        let old = |tell| Claim::Old { incarnation: 7, tell };
        assert_eq!(departed.judge(at(1), &name(1), 7), old(true));
        assert_eq!(departed.judge(at(2), &name(1), 1), old(false), "told a moment ago");
        assert_eq!(departed.judge(at(1_001), &name(1), 1), old(true));
        departed.expire(at(5_000), Duration::from_secs(5));
        assert_eq!(departed.judge(at(5_000), &name(1), 7), old(true));
        departed.expire(at(5_001), Duration::from_secs(5));
        assert_eq!(departed.judge(at(5_001), &name(1), 7), Claim::News);
        assert!(departed.by_time.is_empty());
    }

    #[test]
    fn the_first_are_forgotten_when_there_are_too_many() {
        let mut departed = Departed::default();
        for n in 0..=DEPARTED_MAX {
            departed.remember(at(n as u64), name(n), 1);
        }
        departed.remember(at(1 << 40), name(DEPARTED_MAX), 2);
        assert_eq!((departed.by_name.len(), departed.by_time.len()), (DEPARTED_MAX, DEPARTED_MAX));
        assert_eq!(departed.judge(at(1 << 41), &name(0), 1), Claim::News);
        assert_ne!(departed.judge(at(1 << 41), &name(1), 1), Claim::News);
    }
}
