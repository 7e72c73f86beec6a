//! The floor: where the list of folded origins has been cut.
//!
//! Each restart is another run, and a list of all that ever were would grow for ever. When it has
//! become long, and all members have told the same one, what they have told goes out of it. One
//! entry takes its place, the floor:
//!
//! ```text
//! {a, b, c}      all members tell this list: its sum is 17
//! {a, b, c, d}   too long --> cut at 17, in second 1000 --> {floor 1000|17, d}
//! ```
//!
//! The floor is an entry like any other, of an origin that no process draws, and with a number that
//! says when and at which sum. So lists, sums, copies, marks of forgotten deletes and the tokens of
//! readers need to know nothing of it. A node that is told of a higher floor finds that list by its
//! sum among those that it has had, and cuts its own. One that never had it was away, and compares
//! its store.

use crate::kv::{HlcTime, OriginId};
use crate::time::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The origin under which the floor stands in the list; no process draws it.
pub(in crate::node) const FLOOR: OriginId = OriginId(u64::MAX);
/// Changes of the list that are remembered, by which a node finds what it has had.
const CHANGES_MAX: usize = 65_536;
/// Lists on which all members agreed that are remembered.
const AGREED_MAX: usize = 16;

/// The number of a floor that is cut at the list of this `sum`: seconds since 1970 in its upper
/// half, the lower half of the sum in its lower. It is above `before`, and no write of a run in
/// that list is stamped later than `at`.
pub(in crate::node) fn number(at: HlcTime, before: u64, sum: u64) -> u64 {
    let seconds = (at.millis() / 1000 + 1).max((before >> 32) + 1);
    (seconds << 32) | (sum & u64::from(u32::MAX))
}

/// The time up to which the writes of runs below that floor are stamped.
pub(in crate::node) fn time(number: u64) -> HlcTime {
    HlcTime::from_millis((number >> 32) * 1000)
}

/// What became of the floors that peers have told.
#[derive(Debug, Default)]
pub(in crate::node) struct Floors {
    /// When the next one at which this node never was counts.
    pub(in crate::node) again: Instant,
    /// When a peer is next asked whether its list is cut as it says.
    pub(in crate::node) ask_again: Instant,
    /// Runs that were let go of.
    pub(in crate::node) let_go_total: u64,
    /// Floors that counted for nothing.
    pub(in crate::node) ignored_total: u64,
}

/// A change of the list.
#[derive(Debug, Clone, Copy)]
struct Change {
    /// The sum before it.
    sum: u64,
    origin: OriginId,
    last: u64,
    /// It came in, as opposed to went out.
    is_in: bool,
}

/// A moment at which all members have agreed on a list.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::node) struct Moment {
    pub(in crate::node) at: Instant,
    /// By the hybrid clock: no write of a run in that list is stamped later.
    pub(in crate::node) time: HlcTime,
    /// How often a peer had become reachable: who came later was no part of it.
    pub(in crate::node) arrivals: u64,
}

/// A list on which all members have agreed.
#[derive(Debug, Clone, Copy)]
pub(in crate::node) struct Agreed {
    pub(in crate::node) when: Moment,
    pub(in crate::node) sum: u64,
    /// Its length.
    n: usize,
}

impl Agreed {
    /// Whether whoever is reachable `now` was part of it: nobody has come since.
    fn by_all_of(&self, now: Moment) -> bool {
        self.when.arrivals == now.arrivals
    }
}

/// How the list became what it is.
#[derive(Debug, Default)]
pub(in crate::node) struct History {
    /// The last changes, oldest first.
    changes: VecDeque<Change>,
    /// The last agreements since it was cut, oldest first.
    agreed: VecDeque<Agreed>,
    /// The one on which all have agreed last, since it was cut.
    last_agreed: Option<Agreed>,
}

impl History {
    /// A run came into a list of this sum, or went out of it.
    pub(in crate::node) fn changed(&mut self, sum: u64, origin: OriginId, last: u64, is_in: bool) {
        if self.changes.len() >= CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(Change { sum, origin, last, is_in });
    }

    /// All members have told the list of this sum and length; one is remembered in each `pause`.
    pub(in crate::node) fn agreed(&mut self, when: Moment, sum: u64, n: usize, pause: Duration) {
        let agreed = Agreed { when, sum, n };
        self.last_agreed = Some(agreed);
        // Of those before, whoever has come since was no part.
        self.agreed.retain(|before| before.by_all_of(when));
        let is_soon = |last: &Agreed| when.at.since(last.when.at) < pause || last.sum == sum;
        if self.agreed.back().is_some_and(is_soon) {
            return;
        }
        if self.agreed.len() >= AGREED_MAX {
            self.agreed.pop_front();
        }
        self.agreed.push_back(agreed);
    }

    /// The latest list of at least so many runs on which all that are reachable `now` agreed so
    /// long ago.
    pub(in crate::node) fn agreed_before(
        &self,
        now: Moment,
        age: Duration,
        least: usize,
    ) -> Option<Agreed> {
        let is_old = |agreed: &Agreed| now.at.since(agreed.when.at) >= age;
        let agreed = self.agreed.iter().rev().filter(|agreed| agreed.by_all_of(now));
        agreed.filter(|agreed| agreed.n >= least).find(|agreed| is_old(agreed)).copied()
    }

    /// The list has been cut.
    pub(in crate::node) fn was_cut(&mut self) {
        self.agreed.clear();
        self.last_agreed = None;
    }

    /// The agreement of all that are reachable `now` on the list of this sum, if it is the last one
    /// since the list was cut.
    pub(in crate::node) fn agreed_on(&self, now: Moment, sum: u64) -> Option<Agreed> {
        self.last_agreed.filter(|agreed| agreed.by_all_of(now) && agreed.sum == sum)
    }

    /// What of the list `now`, of runs with their last numbers and of that sum, was the same in the
    /// latest one whose sum is `is_it`; `None` when there was none such as far as is remembered.
    /// The floor itself is left out.
    pub(in crate::node) fn same_since(
        &self,
        now: impl Iterator<Item = (OriginId, u64)>,
        sum: u64,
        is_it: impl Fn(u64) -> bool,
    ) -> Option<Vec<OriginId>> {
        // By the sums first: a floor that somebody has made up costs little.
        let since = if is_it(sum) { 0 } else { self.n_changes_since(is_it)? };
        let before = |change: &Change| (!change.is_in).then_some(change.last);
        let changes = self.changes.iter().rev().take(since);
        let then: BTreeMap<OriginId, Option<u64>> =
            changes.map(|change| (change.origin, before(change))).collect();
        let is_same = |(origin, last): &(OriginId, u64)| {
            let same = then.get(origin).is_none_or(|then| *then == Some(*last));
            *origin != FLOOR && same
        };
        Some(now.filter(is_same).map(|(origin, _)| origin).collect())
    }

    /// How many changes there have been since the latest list before one whose sum is `is_it`.
    fn n_changes_since(&self, is_it: impl Fn(u64) -> bool) -> Option<usize> {
        self.changes.iter().rev().position(|change| is_it(change.sum)).map(|at| at + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_above_the_one_before_and_says_when() {
        let at = HlcTime::from_millis(1_800_000_000_123);
        let first = number(at, 0, 0xabcd_ef01_2345_6789);
        assert_eq!((first >> 32, first as u32), (1_800_000_001, 0x2345_6789));
        assert!(number(at, first, 7) > first && time(first) > at);
        assert!(number(HlcTime::from_millis(5), first, 0) > first, "the clock is back");
    }

    #[test]
    fn what_is_the_same_since_is_found_by_the_sum() {
        let (a, b, c, d) = (OriginId(1), OriginId(2), OriginId(3), OriginId(4));
        let mut history = History::default();
        history.changed(0, a, 5, true);
        history.changed(10, b, 6, true);
        history.changed(20, c, 7, true);
        // The list of sum 30 is {a, b, c}. Then d comes, b goes, c goes and comes with more.
        history.changed(30, d, 1, true);
        history.changed(40, b, 6, false);
        history.changed(50, c, 7, false);
        history.changed(60, c, 9, true);
        let now = [(a, 5), (c, 9), (d, 1)];
        let same = |history: &History, sum: u64| {
            history.same_since(now.into_iter(), 70, |told| told == sum)
        };
        assert_eq!(same(&history, 70), Some(vec![a, c, d]));
        assert_eq!(same(&history, 30), Some(vec![a]), "of c more is held since, d came later");
        assert_eq!(same(&history, 0), Some(vec![]));
        assert_eq!(same(&history, 99), None, "there was none such");
        (0..CHANGES_MAX as u64).for_each(|n| history.changed(100 + n, d, n, true));
        assert_eq!(same(&history, 30), None, "too long ago");
    }

    #[test]
    fn an_agreement_is_found_by_its_age_and_length() {
        let at = |seconds: u64| Instant::from_millis(seconds * 1000);
        let (minute, mut history) = (Duration::from_secs(60), History::default());
        let when = |seconds, arrivals| Moment { at: at(seconds), arrivals, ..Moment::default() };
        history.agreed(when(0, 5), 1, 10, minute);
        history.agreed(when(30, 5), 2, 20, minute);
        history.agreed(when(60, 5), 1, 10, minute);
        history.agreed(when(90, 5), 3, 30, minute);
        let found = |history: &History, now, age, least| {
            let agreed = history.agreed_before(now, Duration::from_secs(age), least);
            agreed.map(|agreed| agreed.sum)
        };
        assert_eq!(found(&history, when(100, 5), 60, 5), Some(1));
        assert_eq!(found(&history, when(150, 5), 60, 5), Some(3));
        assert_eq!(found(&history, when(100, 5), 60, 11), None);
        assert_eq!(found(&history, when(100, 5), 0, 11), Some(3));
        assert_eq!(found(&history, when(200, 6), 60, 5), None, "somebody has come since");
        history.agreed(when(200, 6), 3, 30, minute);
        assert_eq!(
            found(&history, when(260, 6), 60, 5),
            Some(3),
            "the same list, by all that are there"
        );
        assert_eq!(
            found(&history, when(260, 5), 0, 5),
            None,
            "nothing is left of what others agreed on"
        );
        assert!(history.agreed_on(when(260, 6), 3).is_some());
        assert!(history.agreed_on(when(260, 7), 3).is_none());
    }
}
