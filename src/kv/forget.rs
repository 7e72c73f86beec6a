//! Letting go of records: tombstones whose time is over, and copies that should not be here.
//!
//! Forgetting is no write: it has no stamp and no number, and peers are not told. When it is safe
//! is the caller's to know.

use super::record::Record;
use super::store::Store;
use super::version::Stamp;

impl Store {
    /// Forgets this very version of `key`. False when something else, or nothing, is here.
    pub fn remove_exact(&self, key: &[u8], stamp: Stamp) -> bool {
        let removed = self.slot_of(key).write(|shard| {
            let removed = shard.remove(key, stamp)?;
            self.counters().removed(&removed);
            if !removed.is_tombstone() {
                self.feed().note(key);
            }
            Some(removed)
        });
        removed.is_some()
    }

    /// Forgets the tombstones of a shard that `may_forget` lets go; returns how many. The question
    /// is asked under the shard's shared lock: it must be short and must not touch the store.
    ///
    /// A tombstone stamped ahead of our own clock is never offered: without it the next write of
    /// its key would be stamped earlier, and lose against a copy of the tombstone elsewhere.
    pub fn forget_tombstones(
        &self,
        shard: usize,
        mut may_forget: impl FnMut(&Record) -> bool,
    ) -> usize {
        let Some(slot) = self.slots().get(shard) else { return 0 };
        let hlc = self.counters().hlc_last();
        let forgotten: Vec<Record> = slot.read(|shard| {
            if shard.n_tombstones() == 0 {
                return Vec::new();
            }
            let tombstones = shard.iter().filter(|record| record.is_tombstone());
            let passed = tombstones.filter(|record| record.stamp().time <= hlc);
            passed.filter(|record| may_forget(record)).cloned().collect()
        });
        forgotten.iter().filter(|record| self.remove_exact(record.key(), record.stamp())).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;
    use crate::kv::{HlcTime, OriginId};

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
        assert_eq!(store.forget_tombstones(shard_of(b"a"), |record| record.key() == b"a"), 1);
        assert_eq!(store.forget_tombstones(shard_of(b"b"), |record| record.key() == b"a"), 0);
        assert_eq!(store.forget_tombstones(shard_of(b"c"), |_| true), 0);
        assert_eq!(store.forget_tombstones(usize::MAX, |_| true), 0);
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
        assert_eq!(store.forget_tombstones(shard, |_| true), 0);
        store.put(now(1_000_001), b"other", b"", None).expect("room");
        assert_eq!(store.forget_tombstones(shard, |_| true), 1);
    }
}
