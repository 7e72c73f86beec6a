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
//! Runs that are over are [counted as one](super::Ended). A [`Token`] names their set by its sum,
//! and the node at which a reader goes on finds that set among those that it has had.
//!
//! A node behind its reader may tell a value that the reader has seen deleted, in a snapshot that
//! did not say so. So what was seen goes back to what that node holds, and is told again. That more
//! was seen before is kept beside it: by that a reader learns that a write was lost.

use super::ended::{Ended, EndedChanges, EndedRun};
use super::record::Record;
use super::version::{Dot, HlcTime, OriginId};
use crate::mutation::mutated;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was seen of each origin, and of what expires.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The numbers up to which all writes were seen, where that is more than `ended` says.
    through: BTreeMap<OriginId, u64>,
    /// Runs that are over, of which all was seen.
    ended: Arc<Ended>,
    /// The moment up to which of these was seen whatever has expired, in milliseconds since 1970, 0
    /// for none.
    expired_through: u64,
    /// Higher numbers that were seen before at nodes that were further on.
    ahead: BTreeMap<OriginId, u64>,
}

impl Seen {
    /// All writes of these runs were seen, and nothing else.
    #[must_use]
    pub fn of_ended(ended: Arc<Ended>) -> Seen {
        Seen { ended, ..Seen::default() }
    }

    /// Whether this write, for which `dot` stands, was seen, and where it has expired, that as
    /// well.
    fn covers(&self, record: &Record, dot: Dot) -> bool {
        let Dot { origin, seq } = dot;
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
        let named = self.through.get(&origin).copied();
        named.unwrap_or_else(|| self.ended.last(origin))
    }

    /// The highest number of `origin` that was ever seen: not less than [`through`](Seen::through).
    #[must_use]
    pub fn highest(&self, origin: OriginId) -> u64 {
        self.ahead.get(&origin).copied().unwrap_or_else(|| self.through(origin))
    }

    /// Writes of `origin` up to `through` were seen as well.
    pub fn add(&mut self, origin: OriginId, through: u64) {
        if through > self.through(origin) {
            self.through.insert(origin, through);
        }
        if through > 0 {
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
        let ended_before = std::mem::replace(&mut self.ended, Arc::clone(&held.ended));
        let ended_before = Seen::of_ended(ended_before);
        let named_before = std::mem::take(&mut self.through);
        let beyond = ended_before.beyond(held).map(|(origin, _, last)| (origin, last));
        for (origin, seen) in named_before.into_iter().chain(beyond) {
            self.add(origin, seen.min(held.through(origin)));
            self.add_ahead(origin, seen);
        }
        held.through.iter().for_each(|(origin, through)| self.add(*origin, *through));
        let ahead = std::mem::take(&mut self.ahead);
        ahead.into_iter().for_each(|(origin, highest)| self.add_ahead(origin, highest));
        if held.expired_through > 0 {
            self.expired_through = held.expired_through;
        }
        // 0 says that nothing there ever expires.
        if swept > 0 {
            self.expired_through = self.expired_through.min(swept);
        }
    }

    /// A node that holds `held` is about to tell a reader that has seen more: what it tells may be
    /// older than what the reader knows. So this goes back to what the node holds, as far as it is
    /// beyond that, and keeps [how much was seen](Seen::highest). Whether it was beyond.
    pub(super) fn fall_back(&mut self, held: &Seen) -> bool {
        let beyond: Vec<_> = self.beyond(held).collect();
        for (origin, theirs, highest) in &beyond {
            self.through.insert(*origin, *theirs);
            self.add_ahead(*origin, *highest);
        }
        self.through.retain(|_, through| *through > 0);
        let is_earlier = held.expired_through > 0 && held.expired_through < self.expired_through;
        if is_earlier {
            self.expired_through = held.expired_through;
        }
        is_earlier || !beyond.is_empty()
    }

    /// Whether everything that `other` has seen is among this.
    #[must_use]
    pub fn contains(&self, other: &Seen) -> bool {
        other.beyond(self).next().is_none()
            && other.ahead.iter().all(|(origin, highest)| *highest <= self.through(*origin))
    }

    /// Origins of which more was seen than `other` has, with how far that has and this: no number
    /// [from before](Seen::highest) counts. Each once, in no order.
    pub fn beyond<'a>(
        &'a self,
        other: &'a Seen,
    ) -> impl Iterator<Item = (OriginId, u64, u64)> + Clone {
        let is_same = self.ended == other.ended;
        let named = self.through.iter().map(|(origin, through)| (*origin, *through));
        let ended = self.ended.iter().take(if is_same { 0 } else { usize::MAX });
        let ended = ended.filter(|run| !self.through.contains_key(&run.origin));
        let all = named.chain(ended.map(|run| (run.origin, run.last)));
        all.filter_map(|(origin, through)| {
            let theirs = other.through(origin);
            (theirs < through).then_some((origin, theirs, through))
        })
    }

    /// Each origin of which anything was seen and the number up to which all was, by origin.
    #[must_use]
    pub fn all(&self) -> BTreeMap<OriginId, u64> {
        let ended = self.ended.iter().map(|run| (run.origin, run.last));
        let mut all: BTreeMap<OriginId, u64> = ended.filter(|(_, last)| *last > 0).collect();
        all.extend(&self.through);
        all
    }

    /// Origins that are not all over and the numbers up to which all was seen, none of them 0, by
    /// origin.
    pub fn named(&self) -> impl Iterator<Item = (OriginId, u64)> + Clone {
        self.through.iter().map(|(origin, through)| (*origin, *through))
    }

    /// Origins of which more was seen before, and the highest number seen, by origin.
    pub fn iter_ahead(&self) -> impl Iterator<Item = (OriginId, u64)> + Clone {
        self.ahead.iter().map(|(origin, highest)| (*origin, *highest))
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.through.is_empty() && self.ahead.is_empty() && self.ended.is_empty()
    }

    /// This as it goes to a reader, in at most `n_max` numbers: if they are too many, the runs that
    /// are over become one. `None` when there are too many still.
    #[must_use]
    pub fn token(&self, n_max: usize) -> Option<Token> {
        let n_named = self.through.len() + self.ahead.len();
        let is_short = n_named + self.ended.len() <= n_max;
        let through = if is_short { self.all() } else { self.through.clone() };
        let ended = (!is_short).then(|| self.ended.sum());
        let (expired_through, ahead) = (self.expired_through, self.ahead.clone());
        let seen = Seen { through, ended: Arc::default(), expired_through, ahead };
        (is_short || n_named <= n_max).then_some(Token { seen, ended })
    }
}

/// What a reader brings to the node at which it goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Token {
    /// What was seen beside `ended`.
    pub seen: Seen,
    /// The [sum](Ended::sum) of the runs that are over, of which all was seen.
    pub ended: Option<u64>,
}

/// Runs that are over and were let go of: one number stands for all that they wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetGo {
    /// What stands for their writes: an origin of nobody, and its number.
    pub as_dot: Dot,
    /// No write of theirs is stamped later.
    pub until: HlcTime,
    /// Runs of which writes may be stamped so early and that were not let go of, beside those that
    /// are over.
    pub others: BTreeSet<OriginId>,
}

/// What a node holds, and which deletes it has forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// What it holds without gaps, and up to which moment it has let expire what does.
    pub seen: Seen,
    /// The latest expiry that it has forgotten, in milliseconds since 1970; 0 for none.
    pub expiry_forgotten: u64,
    /// Of each origin that is not over, the highest number of a delete that it has forgotten.
    pub forgotten: BTreeMap<OriginId, u64>,
    /// Runs that are over and of which all members held the same.
    pub ended: Arc<Ended>,
    /// How these became what they are.
    pub ended_changes: Arc<EndedChanges>,
    /// Those of them that are known by name no more; `None` where no run ever was let go of.
    pub let_go: Option<LetGo>,
    /// [`Store::removed_total`](super::Store::removed_total) at that time.
    pub removed_total: u64,
    /// Whether it holds nothing beyond `seen`: no write past a gap, no part of a copy.
    pub is_exact: bool,
}

impl Coverage {
    /// Whether a reader that has `seen` so much has seen this write, and where it has expired, that
    /// as well.
    #[must_use]
    pub(super) fn is_seen(&self, seen: &Seen, record: &Record) -> bool {
        let (dot, time) = (record.dot(), record.stamp().time);
        let is_by_name = |let_go: &&LetGo| {
            let_go.others.contains(&dot.origin) || self.ended.get(dot.origin).is_some()
        };
        let let_go = self.let_go.as_ref().filter(|let_go| time <= let_go.until);
        let let_go = let_go.filter(|let_go| !is_by_name(let_go));
        seen.covers(record, let_go.map_or(dot, |let_go| let_go.as_dot))
    }

    /// What a token says to have been seen; `None` when it names runs that are over, and never
    /// were these here, or too long ago, and when it says two things of one run.
    #[must_use]
    pub fn read(&self, token: &Token) -> Option<Seen> {
        let ended = match token.ended {
            None => Arc::default(),
            Some(sum) if sum == self.seen.ended.sum() => Arc::clone(&self.seen.ended),
            Some(sum) => self.ended_changes.set_of(&self.ended, sum)?,
        };
        let is_one = token.seen.named().all(|(origin, through)| through > ended.last(origin));
        is_one.then(|| Seen { ended, ..token.seen.clone() })
    }

    /// Whether a reader that has seen so much can be told all that it lacks. Else it must begin
    /// anew: a delete that it lacks has been forgotten, or a write that it has seen is lost, or
    /// comes from a run that this node has not heard of.
    #[must_use]
    pub fn reaches(&self, seen: &Seen) -> bool {
        if mutated!(WatchNeverReset) {
            return true;
        }
        // What nobody has heard of was lost with all who had, or has yet to come here.
        let mut named = seen.through.keys().chain(seen.ahead.keys());
        named.all(|origin| self.knows(*origin) && !self.has_lost(seen, *origin))
            && self.forgotten.iter().all(|(origin, last)| *last <= seen.through(*origin))
            && self.has_seen_forgotten_of_ended(seen)
            && (seen.expired_through() == 0 || seen.expired_through() >= self.expiry_forgotten)
    }

    /// Whether more of `origin` was seen than there is now that it is over.
    fn has_lost(&self, seen: &Seen, origin: OriginId) -> bool {
        let last = self.ended.last(origin);
        last > 0 && seen.highest(origin) > last
    }

    fn has_seen_forgotten_of_ended(&self, seen: &Seen) -> bool {
        let is_same = seen.ended == self.ended;
        let has_seen = |run: &EndedRun| {
            (is_same && run.forgotten <= run.last) || run.forgotten <= seen.through(run.origin)
        };
        self.ended.iter().all(has_seen)
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
        self.seen.through(origin) > 0
            || self.ended.get(origin).is_some_and(|run| run.last.max(run.forgotten) > 0)
            || self.forgotten.contains_key(&origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{HlcTime, Stamp};

    fn ended(origin: OriginId, last: u64) -> Arc<Ended> {
        Arc::new([EndedRun { origin, last, forgotten: 0 }].into_iter().collect())
    }

    #[test]
    fn an_expiry_is_seen_up_to_a_moment_and_not_with_the_write() {
        let stamp = Stamp { time: HlcTime::from_millis(5_000), origin: OriginId(1) };
        let put = Record::lasting(stamp, 1, b"k", Some((b"v", None)), 3);
        let mut seen = Seen::default();
        seen.add(OriginId(1), 1);
        let has_seen = |seen: &Seen, record: &Record| Coverage::default().is_seen(seen, record);
        assert!(has_seen(&seen, &put) && !has_seen(&seen, &put.expired()));
        seen.set_expired_through(7_999);
        assert!(!has_seen(&seen, &put.expired()));
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
        assert!(has_seen(&seen, &put.expired()));
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
        coverage.ended = ended(a, 49);
        assert!(!coverage.reaches(&seen), "a write that was seen is lost");
        coverage.ended = ended(a, 50);
        assert!(coverage.reaches(&seen));
        coverage.forgotten.insert(a, 41);
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
    fn what_ended_is_among_what_was_seen() {
        let (a, b) = (OriginId(1), OriginId(2));
        let mut held = Seen::of_ended(ended(a, 5));
        held.add(b, 2);
        held.add(a, 4);
        assert_eq!(held.all(), BTreeMap::from([(a, 5), (b, 2)]));
        let mut seen = Seen::default();
        seen.add(a, 3);
        assert_eq!(held.beyond(&seen).collect::<Vec<_>>(), [(b, 0, 2), (a, 3, 5)]);
        assert!(held.contains(&seen) && !seen.contains(&held));
        seen.told(&held, 0);
        assert_eq!(seen, held);
        assert_eq!(seen.named().collect::<Vec<_>>(), [(b, 2)], "the other one is over");
        // Of a node to which that run has come only in part.
        let mut behind = Seen::default();
        behind.add(a, 4);
        seen.told(&behind, 0);
        assert_eq!((seen.through(a), seen.highest(a)), (4, 5));
        assert_eq!((seen.through(b), seen.highest(b)), (0, 2));
        seen.told(&held, 0);
        assert_eq!(seen, held);
    }

    #[test]
    fn a_reader_ahead_of_a_node_falls_back_before_it_is_told_the_past() {
        let (a, b) = (OriginId(1), OriginId(2));
        let (mut seen, mut held) = (Seen::default(), Seen::default());
        seen.add(a, 5);
        seen.set_expired_through(9);
        held.add(a, 3);
        held.add(b, 4);
        held.set_expired_through(8);
        assert!(seen.fall_back(&held));
        assert_eq!((seen.through(a), seen.highest(a), seen.through(b)), (3, 5, 0));
        assert_eq!(seen.expired_through(), 8);
        assert!(!seen.fall_back(&held));
        assert!(seen.fall_back(&Seen::default()));
        assert_eq!((seen.through(a), seen.highest(a), seen.named().count()), (0, 5, 0));
    }

    #[test]
    fn a_token_names_runs_that_are_over_only_while_there_is_room() {
        let (a, b) = (OriginId(1), OriginId(2));
        let mut seen = Seen::of_ended(ended(a, 5));
        seen.add(b, 2);
        let mut both = Seen::default();
        both.add(a, 5);
        both.add(b, 2);
        assert_eq!(seen.token(2), Some(Token { seen: both, ended: None }));
        let short = seen.token(1).expect("one number");
        assert_eq!((short.seen.named().count(), short.ended), (1, Some(ended(a, 5).sum())));
        assert_eq!(seen.token(0), None);
        let mut coverage = Coverage { ended: ended(a, 5), ..Coverage::default() };
        assert_eq!(coverage.read(&short), Some(seen.clone()));
        coverage.ended = Arc::default();
        assert_eq!(coverage.read(&short), None, "no such runs have ended here");
        coverage.seen = seen.clone();
        assert_eq!(coverage.read(&short), Some(seen));
    }

    #[test]
    fn who_lacks_a_forgotten_delete_of_a_run_that_is_over_begins_anew() {
        let a = OriginId(1);
        let run = EndedRun { origin: a, last: 5, forgotten: 4 };
        let ended = Arc::new([run].into_iter().collect::<Ended>());
        let coverage = Coverage { ended: Arc::clone(&ended), ..Coverage::default() };
        let mut seen = Seen::default();
        seen.add(a, 3);
        assert!(!coverage.reaches(&seen) && !coverage.reaches(&Seen::default()));
        seen.add(a, 4);
        assert!(coverage.reaches(&seen) && coverage.reaches(&Seen::of_ended(ended)));
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
        let mut coverage = Coverage::default();
        let has_seen = |origin, seq| coverage.is_seen(&seen, &write(origin, seq));
        assert!(has_seen(a, 7) && !has_seen(a, 8) && !has_seen(b, 1));
        assert!(!coverage.reaches(&seen), "nobody here has heard of that run");
        coverage.seen.add(a, 3);
        assert!(coverage.reaches(&seen) && coverage.reaches(&Seen::default()));
        coverage.forgotten.insert(a, 7);
        assert!(coverage.reaches(&seen) && !coverage.reaches(&Seen::default()));
        coverage.forgotten.insert(b, 1);
        assert!(!coverage.reaches(&seen));
        let mut of_others = Coverage { ended: ended(a, 7), ..Coverage::default() };
        assert!(of_others.reaches(&seen));
        of_others.ended = ended(a, 6);
        assert!(!of_others.reaches(&seen), "the reader has seen a write that is lost");
        let mut more = Seen::default();
        more.add(b, 3);
        seen.add(b, 3);
        assert!(coverage.knows(b) && !of_others.knows(b));
        assert!(!coverage.covers(&seen) && coverage.covers(&Seen::default()));
        assert_eq!((seen.named().count(), seen.through(a), seen.through(b)), (2, 7, 3));
        assert!(coverage.reaches(&seen) && seen.contains(&more) && !more.contains(&seen));
    }

    #[test]
    fn a_write_of_a_run_that_was_let_go_of_is_seen_with_all_such() {
        let (a, b, c, floor) = (OriginId(1), OriginId(2), OriginId(3), OriginId(u64::MAX));
        let write = |origin, millis| {
            let stamp = Stamp { time: HlcTime::from_millis(millis), origin };
            Record::new(stamp, 1, b"k", Some((b"v", None)))
        };
        let let_go = LetGo {
            as_dot: Dot { origin: floor, seq: 9 },
            until: HlcTime::from_millis(9_000),
            others: BTreeSet::from([b]),
        };
        let coverage = Coverage { let_go: Some(let_go), ended: ended(c, 0), ..Coverage::default() };
        let mut seen = Seen::default();
        seen.add(floor, 8);
        assert!(!coverage.is_seen(&seen, &write(a, 9_000)), "more has been let go of since");
        seen.add(floor, 9);
        assert!(coverage.is_seen(&seen, &write(a, 9_000)));
        assert!(!coverage.is_seen(&seen, &write(a, 9_001)), "it is written since");
        assert!(!coverage.is_seen(&seen, &write(b, 9_000)), "that run is known by name");
        assert!(!coverage.is_seen(&seen, &write(c, 9_000)), "that one, too");
    }
}
