//! Looking for damage: records whose bytes are no longer those that were written.
//!
//! Memory errs now and then, and a value may lie in it for months. What is damaged is dropped, not
//! deleted: others still have it, and the sums, which no longer count it, show that it is missing.

use super::record::Record;
use super::store::Store;

impl Store {
    /// Drops every damaged record of a shard; returns how many. All its bytes are looked at, under
    /// its shared lock.
    pub fn drop_damaged(&self, shard: usize) -> usize {
        let Some(slot) = self.slots().get(shard) else { return 0 };
        if slot.read(|shard| shard.iter().all(Record::is_sound)) {
            return 0;
        }
        slot.write(|shard| {
            let (n_before, n_tombstones) = (shard.len(), shard.n_tombstones());
            let tombstones_len = shard.tombstones_len();
            let (n_lasting, n_expired) = (shard.n_lasting(), shard.n_expired());
            let dropped_len = shard.retain_sound();
            let n_tombstones = n_tombstones - shard.n_tombstones();
            let tombstones_len = tombstones_len - shard.tombstones_len();
            let n_dropped = n_before - shard.len();
            self.counters().dropped(
                (n_dropped - n_tombstones, dropped_len - tombstones_len),
                (n_lasting - shard.n_lasting(), n_expired - shard.n_expired()),
                (n_tombstones, tombstones_len),
            );
            n_dropped
        })
    }
}

#[cfg(test)]
impl Store {
    /// Flips a bit of what is held under `key`: of the byte `from_end` bytes before its end.
    pub(crate) fn damage(&self, key: &[u8], from_end: usize) {
        let mut bytes = self.entry(key).expect("something to damage").as_bytes().to_vec();
        let at = bytes.len() - 1 - from_end;
        bytes[at] ^= 4;
        self.slot_of(key).write(|shard| shard.damage(key, Record::damaged(&bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;
    use crate::limits::STORE_SHARDS;

    fn drop_all(store: &Store) -> usize {
        (0..STORE_SHARDS).map(|shard| store.drop_damaged(shard)).sum()
    }

    #[test]
    fn damage_anywhere_in_a_record_is_dropped_and_no_longer_counted() {
        let (kept, other) = (store(), store());
        for i in 0..200 {
            let key = format!("key-{i}");
            for store in [&kept, &other] {
                store.put(now(1), key.as_bytes(), b"value", None).expect("room");
            }
        }
        kept.delete(now(2), b"key-7").expect("room");
        let (root, stats) = (kept.root(), kept.stats());
        assert_eq!(drop_all(&kept), 0);
        kept.put(now(3), b"live", b"value", None).expect("room");
        kept.delete(now(3), b"gone").expect("room");
        let len = kept.entry(b"gone").expect("a tombstone").as_bytes().len();
        // The last byte of a value; the first of a tombstone's stamp; the last of a key.
        kept.damage(b"live", 0);
        kept.damage(b"gone", len - 1);
        assert_eq!(drop_all(&kept), 2);
        assert_eq!((kept.entry(b"live"), kept.entry(b"gone")), (None, None));
        let now_held = kept.stats();
        assert_eq!(kept.root(), root);
        assert_eq!(
            (now_held.n_live, now_held.n_tombstones, now_held.bytes),
            (stats.n_live, stats.n_tombstones, stats.bytes)
        );
        kept.damage(b"key-9", b"value".len());
        assert_eq!(drop_all(&kept), 1);
        assert_eq!(kept.entry(b"key-9"), None);
        assert_eq!(kept.stats().n_live, stats.n_live - 1);
        assert_eq!(drop_all(&other), 0);
    }
}
