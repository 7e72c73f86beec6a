//! How many bytes clients can make the gate hold.
//!
//! The gate reads a body whole before it passes it on, and takes a short answer whole before it
//! sends it: so no slow client holds up a lane. Each client may make the gate hold a small
//! allowance. What a client makes it hold beyond that is counted here before it is there, and
//! refused when all clients together, or those of one source, make it hold too much.
//!
//! A long value is not copied for its readers: they hold the version that the store has. It is
//! counted all the same, once, however many read it: the store may let go of it meanwhile.

use super::sources::Taken;
use crate::kv::Record;
use crate::limits::{HTTP_HELD_SHARE, HTTP_UNCOUNTED_LEN_MAX};
use crate::source::Source;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// How many bytes may be held for all clients together, and how many are.
#[derive(Debug)]
pub(super) struct Budget {
    len_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: Taken,
    /// Readers of each version.
    pinned: HashMap<Version, usize>,
    /// The same of each source.
    pinned_by: HashMap<(Source, Version), usize>,
}

/// What tells a version of a key from every other.
type Version = (u64, u64);

impl Budget {
    pub(super) fn new(len_max: usize) -> Arc<Budget> {
        Arc::new(Budget { len_max, state: Mutex::default() })
    }

    /// Bytes held for all clients now.
    pub(super) fn taken(&self) -> usize {
        self.state.lock().taken.all()
    }

    /// Whether a source has as much as it may, so that it is refused what is counted late.
    pub(super) fn is_spent(&self, source: Source) -> bool {
        self.permits(&self.state.lock(), Some(source), 1).is_err()
    }

    /// Whether `more` fit, for all and for a source.
    fn permits(&self, state: &State, source: Option<Source>, more: usize) -> Result<(), Spent> {
        let fits = state.taken.all().saturating_add(more) <= self.len_max;
        let is_fair = |source| state.taken.permits(source, more, self.len_max, HTTP_HELD_SHARE);
        if fits && source.is_none_or(is_fair) { Ok(()) } else { Err(Spent) }
    }
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    source: Option<Source>,
    len: usize,
}

/// The budget does not have so many bytes left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent;

impl Held {
    /// A share for a client of this source.
    pub(super) fn of(budget: &Arc<Budget>, source: Source) -> Held {
        Held { budget: Arc::clone(budget), source: Some(source), len: 0 }
    }

    /// A share for a client that is not known yet.
    pub(super) fn new(budget: &Arc<Budget>) -> Held {
        Held { budget: Arc::clone(budget), source: None, len: 0 }
    }

    /// Makes it the share of a client of this source.
    ///
    /// # Errors
    /// [`Spent`], when the source may not have so much; then it stays as it is.
    pub(super) fn belong_to(&mut self, source: Source) -> Result<(), Spent> {
        if self.source.is_none() && self.len > 0 {
            let mut state = self.budget.state.lock();
            // What it is itself is not what others have.
            state.taken.give_back_unowned(self.len);
            if !state.taken.permits(source, self.len, self.budget.len_max, HTTP_HELD_SHARE) {
                state.taken.add_unowned(self.len);
                return Err(Spent);
            }
            state.taken.add(source, self.len);
        }
        self.source = Some(source);
        Ok(())
    }

    /// The same, whatever the source has already: what it is for cannot be refused any more.
    pub(super) fn charge(&mut self, source: Source) {
        if self.source.is_none() && self.len > 0 {
            let mut state = self.budget.state.lock();
            state.taken.give_back_unowned(self.len);
            state.taken.add(source, self.len);
        }
        self.source = Some(source);
    }

    /// Makes it a share of `len` bytes; the first [`HTTP_UNCOUNTED_LEN_MAX`] are free.
    ///
    /// # Errors
    /// [`Spent`]; then as much is held as before.
    pub(super) fn grow_to(&mut self, len: usize) -> Result<(), Spent> {
        if len <= HTTP_UNCOUNTED_LEN_MAX { Ok(()) } else { self.count_to(len) }
    }

    /// The same, none of it free: for what comes on top of what each client may hold.
    ///
    /// # Errors
    /// [`Spent`]; then as much is held as before.
    pub(super) fn count_to(&mut self, len: usize) -> Result<(), Spent> {
        if len <= self.len {
            return Ok(());
        }
        let more = len - self.len;
        let mut state = self.budget.state.lock();
        self.budget.permits(&state, self.source, more)?;
        match self.source {
            Some(source) => state.taken.add(source, more),
            None => state.taken.add_unowned(more),
        }
        self.len = len;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        let taken = &mut self.budget.state.lock().taken;
        match self.source {
            Some(source) => taken.give_back(source, self.len),
            None => taken.give_back_unowned(self.len),
        }
    }
}

/// A version of a key that a client reads, counted while it does.
#[derive(Debug)]
pub(super) struct Pin {
    budget: Arc<Budget>,
    source: Source,
    version: Version,
    len: usize,
}

impl Pin {
    /// Counts a version for a client of this source.
    ///
    /// # Errors
    /// [`Spent`], when it is not counted yet and is too long.
    pub(super) fn new(budget: &Arc<Budget>, source: Source, record: &Record) -> Result<Pin, Spent> {
        let stamp = record.stamp();
        let (version, len) = ((stamp.time.0, stamp.origin.0), record.as_bytes().len());
        let mut state = budget.state.lock();
        let (is_new, is_new_here) = (
            !state.pinned.contains_key(&version),
            !state.pinned_by.contains_key(&(source, version)),
        );
        if is_new_here {
            budget.permits(&state, Some(source), if is_new { len } else { 0 })?;
            state.taken.add_own(source, len);
        }
        if is_new {
            state.taken.add_unowned(len);
        }
        *state.pinned.entry(version).or_default() += 1;
        *state.pinned_by.entry((source, version)).or_default() += 1;
        drop(state);
        Ok(Pin { budget: Arc::clone(budget), source, version, len })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let state = &mut *self.budget.state.lock();
        if leave(&mut state.pinned_by, (self.source, self.version)) {
            state.taken.give_back_own(self.source, self.len);
        }
        if leave(&mut state.pinned, self.version) {
            state.taken.give_back_unowned(self.len);
        }
    }
}

/// Counts one less; true when it was the last.
fn leave<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) -> bool {
    match counts.get_mut(&key) {
        Some(n) if *n > 1 => {
            *n -= 1;
            false
        }
        _ => counts.remove(&key).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{HlcTime, OriginId, Stamp};

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn what_is_held_is_bounded_and_comes_back() {
        let budget = Budget::new(100_000);
        let (mut a, mut b) = (Held::new(&budget), Held::new(&budget));
        assert_eq!(a.grow_to(HTTP_UNCOUNTED_LEN_MAX), Ok(()));
        assert_eq!(budget.taken(), 0);
        assert_eq!(a.grow_to(60_000), Ok(()));
        assert_eq!(b.grow_to(60_000), Err(Spent));
        assert_eq!(b.grow_to(40_000), Ok(()));
        assert_eq!(a.grow_to(60_001), Err(Spent));
        assert_eq!(budget.taken(), 100_000);
        drop(a);
        assert_eq!(b.grow_to(100_000), Ok(()));
        drop(b);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn one_source_leaves_something_for_others() {
        let budget = Budget::new(400_000);
        let of = |text| Held::of(&budget, source(text));
        let (mut a, mut b) = (of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(a.grow_to(300_001), Err(Spent));
        assert_eq!(a.grow_to(300_000), Ok(()));
        assert_eq!(of("10.0.0.1").grow_to(40_000), Err(Spent));
        assert_eq!(b.grow_to(75_000), Ok(()));
        // What a worker has made belongs to its client in the end.
        let mut made = Held::new(&budget);
        assert_eq!(made.grow_to(25_000).and_then(|()| made.grow_to(40_000)), Err(Spent));
        drop(b);
        assert_eq!(made.grow_to(40_000), Ok(()));
        assert_eq!(made.belong_to(source("10.0.0.1")), Err(Spent));
        assert_eq!(made.belong_to(source("10.0.0.2")), Ok(()));
        assert_eq!(budget.taken(), 340_000);
        drop((a, made));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn what_a_worker_has_made_is_not_counted_against_itself() {
        let budget = Budget::new(400_000);
        let mut made = Held::new(&budget);
        assert_eq!(made.grow_to(300_000).and_then(|()| made.belong_to(source("10.0.0.1"))), Ok(()));
        assert_eq!(budget.taken(), 300_000);
        drop(made);
        let mut made = Held::new(&budget);
        assert_eq!(made.grow_to(300_001), Ok(()));
        assert_eq!(made.belong_to(source("10.0.0.1")), Err(Spent));
        drop(made);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_version_counts_once_however_many_read_it() {
        let record = |n| {
            let stamp = Stamp { time: HlcTime(n), origin: OriginId(1) };
            Record::new(stamp, n, b"k", Some((&[0; 60_000], None)))
        };
        let (one, two) = (record(1), record(2));
        let len = one.as_bytes().len();
        let budget = Budget::new(100_000);
        let (a, b) = (source("10.0.0.1"), source("10.0.0.2"));
        let pins: Vec<Pin> =
            [a, a, b].map(|source| Pin::new(&budget, source, &one).unwrap()).into();
        assert_eq!(budget.taken(), len);
        assert_eq!(Pin::new(&budget, b, &two).err(), Some(Spent));
        drop(pins);
        assert_eq!(budget.taken(), 0);
        drop(Pin::new(&budget, b, &two).unwrap());
        assert!(budget.state.lock().pinned_by.is_empty() && budget.state.lock().pinned.is_empty());
    }
}
