//! Comparing a store with another's: sums over everything live, then only what differs.
//!
//! Tombstones take no part in the sums. Nodes forget them at different moments, and two that
//! differ only in a tombstone show the same data; that a delete is known is what vectors tell. Nor
//! does what expires: of two nodes one would always be somewhat earlier.

use super::hash;
use super::record::Record;
use super::store::Store;
use crate::limits::STORE_LEAVES_PER_SHARD;
use std::ops::Bound;

impl Store {
    /// The hash of everything live.
    #[must_use]
    pub fn root(&self) -> u64 {
        hash::root(self.slots().iter().map(|slot| slot.root()))
    }

    /// The sums of all shards.
    #[must_use]
    pub fn shard_roots(&self) -> Vec<u64> {
        self.slots().iter().map(|slot| slot.root()).collect()
    }

    /// The sums of a shard's leaves; none when there is no such shard.
    #[must_use]
    pub fn leaves(&self, shard: usize) -> Vec<u64> {
        let Some(slot) = self.slots().get(shard) else { return Vec::new() };
        slot.read(|shard| (0..STORE_LEAVES_PER_SHARD).map(|leaf| shard.leaf(leaf)).collect())
    }

    /// The shard of a key, and its leaf there.
    #[must_use]
    pub fn bucket(key: &[u8]) -> (usize, usize) {
        hash::bucket(key)
    }

    /// Shows every record of a shard in key order, tombstones too, under its shared lock: `look`
    /// must be short and must not touch the store.
    pub fn scan_shard(&self, shard: usize, look: impl FnMut(&Record)) {
        if let Some(slot) = self.slots().get(shard) {
            slot.read(|shard| shard.iter().for_each(look));
        }
    }

    /// Shows up to `n_max` records of a shard, those up to and including the key of `after` left
    /// out, as [`scan_shard`](Store::scan_shard) shows all. Returns how many, and the last of them
    /// when more may follow.
    pub fn scan_some(
        &self,
        shard: usize,
        after: Option<&Record>,
        n_max: usize,
        mut look: impl FnMut(&Record),
    ) -> (usize, Option<Record>) {
        let Some(slot) = self.slots().get(shard) else { return (0, None) };
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.key()));
        slot.read(|shard| {
            let (mut n, mut last) = (0, None);
            for record in shard.iter_from(from) {
                if n == n_max {
                    return (n, last.or(after).cloned());
                }
                look(record);
                (n, last) = (n + 1, Some(record));
            }
            (n, None)
        })
    }

    /// As [`scan_shard`](Store::scan_shard), with the leaf of each record.
    pub fn scan_leaves(&self, shard: usize, mut look: impl FnMut(usize, &Record)) {
        self.scan_shard(shard, |record| look(hash::bucket(record.key()).1, record));
    }

    /// Records in a shard, tombstones too, and how many of them the sums leave out: tombstones, and
    /// what expires.
    #[must_use]
    pub fn shard_len(&self, shard: usize) -> (usize, usize) {
        let slot = self.slots().get(shard);
        slot.map_or((0, 0), |slot| slot.read(|shard| (shard.len(), shard.n_unsummed())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;
    use crate::limits::STORE_SHARDS;

    #[test]
    fn sums_follow_what_is_live_and_come_back_when_it_goes() {
        let store = store();
        let empty = store.root();
        store.put(now(1), b"k", b"v", None).expect("room");
        let (shard, leaf) = Store::bucket(b"k");
        let sum = hash::of_record(&store.get(now(1), b"k").expect("put"));
        assert_eq!(store.shard_roots()[shard], sum);
        assert_eq!(store.leaves(shard)[leaf], sum);
        assert_eq!(store.leaves(shard).len(), STORE_LEAVES_PER_SHARD);
        let first = store.root();
        assert_ne!(first, empty);
        store.put(now(1), b"k", b"v", None).expect("room");
        assert_ne!(store.root(), first, "the same value under another stamp is another version");
        store.delete(now(1), b"k").expect("room");
        assert_eq!(store.root(), empty);
        assert!(store.leaves(shard).iter().all(|sum| *sum == 0));
    }

    #[test]
    fn scans_show_each_record_once_in_its_place() {
        let store = store();
        for i in 0..2_000 {
            let key = format!("key/{i}");
            store.put(now(1), key.as_bytes(), b"", None).expect("room");
            if i % 3 == 0 {
                store.delete(now(1), key.as_bytes()).expect("room");
            }
        }
        let (mut in_shards, mut in_leaves) = (Vec::new(), Vec::new());
        for shard in 0..STORE_SHARDS {
            let mut keys = Vec::new();
            store.scan_shard(shard, |record| keys.push(record.key().to_vec()));
            assert!(keys.is_sorted());
            in_shards.extend(keys);
            let before = in_leaves.len();
            let mut n_tombstones = 0;
            store.scan_leaves(shard, |leaf, record| {
                assert_eq!(Store::bucket(record.key()), (shard, leaf));
                n_tombstones += usize::from(record.is_tombstone());
                in_leaves.push(record.key().to_vec());
            });
            assert_eq!(store.shard_len(shard), (in_leaves.len() - before, n_tombstones));
        }
        in_shards.sort();
        in_leaves.sort();
        assert_eq!(in_shards.len(), 2_000);
        assert_eq!(in_shards, in_leaves);
    }

    #[test]
    fn a_shard_is_scanned_in_pieces() {
        let store = store();
        for i in 0..2_000 {
            store.put(now(1), format!("key/{i}").as_bytes(), b"", None).expect("room");
        }
        for n_max in [1, 3, 1_000] {
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            store.scan_shard(7, |record| whole.push(record.clone()));
            let mut after = None;
            loop {
                let before = pieces.len();
                let look = |record: &Record| pieces.push(record.clone());
                let (n, last) = store.scan_some(7, after.as_ref(), n_max, look);
                assert_eq!(n, pieces.len() - before);
                assert!(n <= n_max && last.as_ref() == pieces.last().filter(|_| last.is_some()));
                after = last;
                if after.is_none() {
                    break;
                }
                // Somebody takes it out meanwhile: the place is still a place.
                let last = after.as_ref().expect("more follow");
                assert!(store.remove_exact(last.key(), last.stamp()));
                store.merge(last, now(1));
            }
            assert_eq!(pieces, whole, "{n_max}");
        }
        assert_eq!(store.scan_some(7, None, 0, |record| panic!("{record:?}")), (0, None));
    }

    #[test]
    fn there_is_nothing_in_a_shard_that_is_not_there() {
        let store = store();
        assert!(store.leaves(STORE_SHARDS).is_empty());
        store.scan_shard(STORE_SHARDS, |record| panic!("{record:?}"));
        assert_eq!(store.shard_len(STORE_SHARDS), (0, 0));
    }
}
