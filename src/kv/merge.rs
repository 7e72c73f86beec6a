//! Taking in what peers wrote: the later version wins, in whatever order they arrive.

use super::record::Record;
use super::store::Store;
use super::version::HlcTime;
use crate::mutation::mutated;
use crate::time::Now;
use std::cmp::Ordering;

/// What became of a peer's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// It is later than what was here, and is here now.
    Newer {
        /// Its stamp was too far ahead of our clock to follow. It is kept and counted.
        clock_ahead: bool,
    },
    /// Something later was here.
    Stale,
    /// This very version was here.
    Equal,
}

impl Store {
    /// Takes in a record of a peer if it is later than what is here. The store's limit does not
    /// hold here, or copies would differ for ever.
    ///
    /// Commutative, associative, idempotent: the same records leave the same store in any order
    /// and any number.
    pub fn merge(&self, record: &Record, now: Now) -> Merge {
        let ahead = self.observe(record, now);
        let (merge, _old) = self.slot_of(record.key()).write(|shard| {
            let current = shard.entry(record.key());
            match current.map(|current| record.cmp_version(current)) {
                Some(Ordering::Less)
                    if mutated!(TombstoneCompare)
                        && current.is_some_and(Record::is_tombstone)
                        && !record.is_tombstone() => {}
                Some(_)
                    if mutated!(TieBreak)
                        && current.is_some_and(|c| c.stamp().time == record.stamp().time) =>
                {
                    return (Merge::Stale, None);
                }
                Some(Ordering::Less) => return (Merge::Stale, None),
                Some(Ordering::Equal) => return (Merge::Equal, None),
                Some(Ordering::Greater) | None => {}
            }
            let old_len = current.map_or(0, |current| current.as_bytes().len());
            self.counters().reserve(old_len as u64, record.as_bytes().len() as u64, u64::MAX);
            self.feed().note(record.key());
            self.note_lasting(now, record);
            let old = shard.insert(record.clone());
            self.counters().replaced(record, old.as_ref());
            (Merge::Newer { clock_ahead: ahead }, old)
        });
        if merge == (Merge::Newer { clock_ahead: true }) {
            self.counters().clock_ahead();
        }
        merge
    }

    /// Lets the clock follow a record's stamp; true when it is too far ahead for that.
    fn observe(&self, record: &Record, now: Now) -> bool {
        self.follow(record.stamp().time, now)
    }

    /// Lets the clock follow a time, so that later stamps are later than it; true when it is too
    /// far ahead of the wall's for that.
    pub fn follow(&self, time: HlcTime, now: Now) -> bool {
        // The clock only rises: what is not past its published time needs no lock.
        time > self.counters().hlc_last()
            && self.head().lock().observe(time, now.wall, self.counters())
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;
    use crate::kv::{HlcTime, OriginId, Stamp};
    use crate::limits::CLOCK_AHEAD_MAX;

    fn record(time: u64, origin: u64, seq: u64, value: &[u8]) -> Record {
        let stamp = Stamp { time: HlcTime(time), origin: OriginId(origin) };
        Record::new(stamp, seq, b"k", Some((value, None)))
    }

    const NEWER: Merge = Merge::Newer { clock_ahead: false };

    #[test]
    fn the_later_time_wins_then_the_higher_origin() {
        let store = store();
        assert_eq!(store.merge(&record(5, 3, 1, b"a"), now(1)), NEWER);
        assert_eq!(store.merge(&record(5, 3, 1, b"a"), now(1)), Merge::Equal);
        assert_eq!(store.merge(&record(4, 9, 1, b"b"), now(1)), Merge::Stale);
        assert_eq!(store.merge(&record(5, 2, 1, b"c"), now(1)), Merge::Stale);
        assert_eq!(store.merge(&record(5, 4, 1, b"d"), now(1)), NEWER);
        assert_eq!(store.merge(&record(6, 1, 1, b"e"), now(1)), NEWER);
        assert_eq!(store.get(now(1), b"k").expect("merged").value(), Some(&b"e"[..]));
    }

    #[test]
    fn one_stamp_on_two_contents_ends_the_same_on_all() {
        let (left, right) = (store(), store());
        let (a, b) = (record(5, 3, 1, b"a"), record(5, 3, 1, b"b"));
        left.merge(&a, now(1));
        left.merge(&b, now(1));
        right.merge(&b, now(1));
        right.merge(&a, now(1));
        assert_eq!(left.get(now(1), b"k"), right.get(now(1), b"k"));
    }

    #[test]
    fn the_clock_follows_and_a_stamp_far_ahead_is_kept_and_counted() {
        let store = store();
        let near = HlcTime::from_millis(1_000);
        store.merge(&record(near.0, 3, 1, b"a"), now(1));
        assert_eq!(store.stats().hlc, near);
        let far = HlcTime::from_millis(2 + CLOCK_AHEAD_MAX.as_millis() as u64);
        let ahead = record(far.0, 3, 2, b"b");
        assert_eq!(store.merge(&ahead, now(1)), Merge::Newer { clock_ahead: true });
        assert_eq!(store.merge(&ahead, now(1)), Merge::Equal);
        let stats = store.stats();
        assert_eq!((stats.hlc, stats.clock_ahead_total), (near, 1));
        assert_eq!(store.get(now(1), b"k"), Some(ahead));
    }
}
