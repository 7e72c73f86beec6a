//! Letting go of records: tombstones whose time is over, and copies that should not be here.
//!
//! Forgetting is no write: it has no stamp and no number, and peers are not told. When it is safe
//! is the caller's to know.

use super::record::Record;
use super::shard::Shard;
use super::store::Store;
use super::ttl;
use super::version::{HlcTime, Stamp};
use crate::time::Now;

impl Store {
    /// Forgets this very version of `key`. False when something else, or nothing, is here.
    pub fn remove_exact(&self, key: &[u8], stamp: Stamp) -> bool {
        let removed = self.slot_of(key).write(|shard| {
            let removed = shard.remove(key, stamp)?;
            self.counters().removed(&removed);
            self.feed().removed();
            if !removed.is_tombstone() {
                self.feed().note(key);
            }
            Some(removed)
        });
        removed.is_some()
    }

    /// Looks at tombstones of a shard, oldest first and those up to `after` left out, and forgets
    /// those that `may_forget` lets go: of deletes, or of what has expired, whose time is that of
    /// its expiry. The question is asked under the shard's shared lock: it must be short and must
    /// not touch the store.
    ///
    /// One of a time after `until`, or stamped ahead of our clocks, is never offered: without the
    /// latter the next write of its key would be stamped earlier, and lose against a copy
    /// elsewhere. For the same reason the hybrid clock follows what is forgotten. Where much has
    /// expired, `until` is later for that than was asked for.
    pub fn forget_tombstones(
        &self,
        now: Now,
        (shard, kind): (usize, Gone),
        after: Option<&Record>,
        until: HlcTime,
        most: Most,
        mut may_forget: impl FnMut(&Record) -> bool,
    ) -> Forgotten {
        let Some(slot) = self.slots().get(shard) else { return Forgotten::default() };
        let clock = self.counters().hlc_last().max(HlcTime::from_millis(now.wall.0));
        let until = match kind {
            Gone::Deleted => until,
            Gone::Expired => self.until_for_many(now, until),
        };
        let mut found = Forgotten::default();
        let going: Vec<Record> = slot.read(|shard| {
            let mut going = Vec::new();
            for tombstone in passed(shard, kind, after) {
                if !is_over(tombstone, kind, until.min(clock), until) {
                    break;
                }
                if found.n_seen == most.seen || found.n_kept == most.kept {
                    return going;
                }
                found.n_seen += 1;
                found.last = Some(tombstone.clone());
                if tombstone.stamp().time <= clock && may_forget(tombstone) {
                    going.push(tombstone.clone());
                } else {
                    found.n_kept += 1;
                }
            }
            found.last = None;
            going
        });
        for tombstone in going {
            self.follow(tombstone.stamp().time, now);
            if self.remove_exact(tombstone.key(), tombstone.stamp()) {
                found.n += 1;
            } else {
                slot.write(|shard| shard.forget_stray(&tombstone));
            }
        }
        found
    }

    /// Up to when what has expired may be forgotten, as much as there is of it.
    fn until_for_many(&self, now: Now, until: HlcTime) -> HlcTime {
        let asked = now.wall.0.saturating_sub(until.millis());
        let remembered = ttl::remembered_ms(asked, self.counters().n_expired());
        until.max(HlcTime::from_millis(now.wall.0.saturating_sub(remembered)))
    }
}

/// Those of a kind after this one, in the order of their times.
fn passed<'s>(
    shard: &'s Shard,
    kind: Gone,
    after: Option<&'s Record>,
) -> Box<dyn Iterator<Item = &'s Record> + 's> {
    match kind {
        Gone::Deleted => Box::new(shard.tombstones_after(after)),
        Gone::Expired => Box::new(shard.expired_behind(after)),
    }
}

/// Whether the time of a tombstone is one of those asked for: up to `stamped` for a delete, up to
/// `expired` for what has expired.
fn is_over(tombstone: &Record, kind: Gone, stamped: HlcTime, expired: HlcTime) -> bool {
    match kind {
        Gone::Deleted => tombstone.stamp().time <= stamped,
        Gone::Expired => tombstone.expiry().is_some_and(|expiry| expiry <= expired.millis()),
    }
}

/// What a tombstone is left of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// A delete.
    Deleted,
    /// A record that has expired.
    Expired,
}

/// How much of a shard is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Tombstones looked at.
    pub seen: usize,
    /// Of these, tombstones that have to stay.
    pub kept: usize,
}

impl Most {
    /// All there is.
    pub const ALL: Most = Most { seen: usize::MAX, kept: usize::MAX };
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// Tombstones forgotten.
    pub n: usize,
    /// Tombstones looked at.
    pub n_seen: usize,
    /// Of these, tombstones that had to stay.
    pub n_kept: usize,
    /// The last one looked at, when its time is over for more of them.
    pub last: Option<Record>,
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;
    use crate::kv::OriginId;
    use crate::limits::STORE_SHARDS;

    const EVER: HlcTime = HlcTime(u64::MAX);
    const FIRST: (usize, Gone) = (0, Gone::Deleted);

    fn forget(store: &Store, shard: usize, may_forget: impl FnMut(&Record) -> bool) -> usize {
        store.forget_tombstones(now(1), (shard, Gone::Deleted), None, EVER, Most::ALL, may_forget).n
    }

    #[test]
    fn only_the_very_version_is_removed() {
        let store = store();
        let first = store.put(now(1), b"k", b"1", None).expect("room").stamp;
        let second = store.put(now(1), b"k", b"2", None).expect("room").stamp;
        assert!(!store.remove_exact(b"k", first));
        assert!(!store.remove_exact(b"other", second));
        assert!(store.remove_exact(b"k", second));
        assert!(!store.remove_exact(b"k", second));
        assert_eq!((store.entry(b"k"), store.stats().bytes, store.stats().n_live), (None, 0, 0));
    }

    #[test]
    fn tombstones_go_when_they_may_and_live_records_stay() {
        let store = store();
        for key in [b"a", b"b", b"c"] {
            store.put(now(1), key, b"", None).expect("room");
        }
        store.delete(now(1), b"a").expect("room");
        store.delete(now(1), b"b").expect("room");
        let shard_of = |key: &[u8]| Store::bucket(key).0;
        assert_eq!(forget(&store, shard_of(b"a"), |record| record.key() == b"a"), 1);
        assert_eq!(forget(&store, shard_of(b"b"), |record| record.key() == b"a"), 0);
        assert_eq!(forget(&store, shard_of(b"c"), |_| true), 0);
        assert_eq!(forget(&store, usize::MAX, |_| true), 0);
        assert_eq!((store.stats().n_live, store.stats().n_tombstones), (1, 1));
        assert_eq!(store.stats().bytes, 33 + 33);
    }

    #[test]
    fn a_tombstone_ahead_of_our_clock_is_kept_until_the_clock_has_passed_it() {
        let store = store();
        let (shard, _) = Store::bucket(b"k");
        let far = HlcTime::from_millis(1_000_000);
        let stamp = Stamp { time: far, origin: OriginId(2) };
        store.merge(&Record::new(stamp, 1, b"k", None), now(1));
        assert_eq!(forget(&store, shard, |_| true), 0);
        store.put(now(1_000_001), b"other", b"", None).expect("room");
        assert_eq!(forget(&store, shard, |_| true), 1);
    }

    #[test]
    fn a_tombstone_that_was_ahead_goes_though_nothing_is_written_and_later_writes_beat_it() {
        let store = store();
        let far = Stamp { time: HlcTime::from_millis(1_000_000), origin: OriginId(2) };
        store.merge(&Record::new(far, 1, b"k", None), now(1));
        let place = (Store::bucket(b"k").0, Gone::Deleted);
        let forget =
            |at| store.forget_tombstones(now(at), place, None, EVER, Most::ALL, |_| true).n;
        assert_eq!((forget(999_999), forget(1_000_001)), (0, 1));
        // The wall clock was set back since.
        assert!(store.put(now(5), b"k", b"", None).expect("room").stamp > far);
    }

    #[test]
    fn the_oldest_are_looked_at_first_and_no_more_than_asked_for() {
        let store = store();
        let in_first = |key: &String| Store::bucket(key.as_bytes()).0 == 0;
        let keys: Vec<String> = (0..).map(|i| format!("k{i}")).filter(in_first).take(9).collect();
        for (at, key) in keys.iter().enumerate().rev() {
            store.put(now(1), key.as_bytes(), b"", None).expect("room");
            store.delete(now(1_000 - at as u64), key.as_bytes()).expect("room");
        }
        let until = HlcTime(HlcTime::from_millis(998).0 - 1);
        let (mut after, mut seen) = (None, Vec::new());
        for is_last in [false, false, true] {
            let most = Most { seen: 2, ..Most::ALL };
            let found =
                store.forget_tombstones(now(1), FIRST, after.as_ref(), until, most, |tombstone| {
                    seen.push(tombstone.key().to_vec());
                    seen.len() % 2 == 0
                });
            assert_eq!((found.n_seen, found.n, found.n_kept), (2, 1, 1));
            after = found.last;
            assert_eq!(after.is_none(), is_last);
        }
        let oldest: Vec<Vec<u8>> =
            keys.iter().rev().take(6).map(|key| key.clone().into()).collect();
        assert_eq!(seen, oldest);
        assert_eq!(store.stats().n_tombstones, 6);
        // Those that stay cost a bound of their own.
        let most = Most { kept: 1, ..Most::ALL };
        let found = store.forget_tombstones(now(1), FIRST, None, EVER, most, |_| false);
        assert_eq!((found.n_seen, found.n_kept, found.last.is_some()), (1, 1, true));
        assert_eq!(forget(&store, 0, |_| true), 6);
        assert!((0..STORE_SHARDS).all(|shard| store.shard_len(shard).1 == 0));
    }
}
