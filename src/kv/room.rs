//! How far local writes may grow the store: to this node's own limit, or to a smaller one of
//! somebody who has to hold the same.

use super::store::Store;
use crate::limits::TOMBSTONES_SHARE;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// By what part of its limit a store may be past it and still be taken for one that fits: as much
/// as deletes may take.
const OVERFULL_SHARE: u64 = TOMBSTONES_SHARE;

/// A limit that somebody else has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Bytes of records.
    pub len_max: u64,
    /// Whose limit it is.
    pub by: Arc<str>,
}

/// The limit that counts.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes; the most there can be for none.
    len_max: AtomicU64,
    bound: Mutex<Option<Bound>>,
}

impl Room {
    pub(super) fn new(own: u64) -> Room {
        Room { len_max: AtomicU64::new(unlimited_if_0(own)), bound: Mutex::new(None) }
    }
}

fn unlimited_if_0(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}

impl Store {
    /// The most bytes that writes made here may grow the store to; the most there can be for no
    /// limit.
    #[must_use]
    pub fn len_max(&self) -> u64 {
        self.room().len_max.load(Relaxed)
    }

    /// From now on local writes may not grow the store past this, either.
    pub fn set_bound(&self, bound: Option<Bound>) {
        let own = unlimited_if_0(self.limit());
        let bound = bound.filter(|bound| bound.len_max < own);
        let mut known = self.room().bound.lock();
        if *known != bound {
            let len_max = bound.as_ref().map_or(own, |bound| bound.len_max);
            self.room().len_max.store(len_max, Relaxed);
            *known = bound;
        }
    }

    /// The limit of somebody else that is smaller than this node's own.
    #[must_use]
    pub fn bound(&self) -> Option<Bound> {
        self.room().bound.lock().clone()
    }

    /// Whether values take far more than this node's own limit allows. What others wrote is always
    /// taken: where all have one limit, each may be past it by a little. Deletes go by themselves,
    /// and count for nothing here.
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        let (limit, stats) = (self.limit(), self.stats());
        let live_len = stats.bytes.saturating_sub(stats.tombstone_bytes);
        limit > 0 && live_len > limit.saturating_add(limit / OVERFULL_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::now;
    use super::*;
    use crate::kv::{HlcTime, OriginId, Record, Stamp, StoreConfig, WriteError};

    #[test]
    fn the_smallest_limit_counts_as_long_as_it_is_there() {
        let store = Store::new(StoreConfig { origin: OriginId(1), store_len_max: 200 });
        let bound = |len_max| Some(Bound { len_max, by: "small".into() });
        let put = |key: &[u8], len| store.put(now(1), key, &vec![0; len], None).map(|_| ());
        store.set_bound(bound(100));
        assert_eq!(put(b"a", 80), Err(WriteError::StoreFull { len_max: 100 }));
        assert_eq!((put(b"a", 20), store.bound()), (Ok(()), bound(100)));
        // A larger one than our own does not count.
        store.set_bound(bound(300));
        assert_eq!((put(b"a", 80), store.bound()), (Ok(()), None));
        assert_eq!(put(b"b", 200), Err(WriteError::StoreFull { len_max: 200 }));
        assert!(!store.is_overfull());
        let merged = |seq, len| {
            let stamp = Stamp { time: HlcTime::from_millis(1), origin: OriginId(2) };
            let key = format!("merged-{seq}");
            store.merge(
                &Record::new(stamp, seq, key.as_bytes(), Some((&vec![0; len], None))),
                now(1),
            );
        };
        merged(1, 60);
        assert!(store.stats().bytes > 200 && !store.is_overfull(), "{:?}", store.stats());
        merged(2, 60);
        assert!(store.is_overfull());
        let unlimited = Store::new(StoreConfig { origin: OriginId(1), store_len_max: 0 });
        unlimited.set_bound(bound(100));
        let full = unlimited.put(now(1), b"a", &[0; 99], None);
        assert_eq!(full, Err(WriteError::StoreFull { len_max: 100 }));
        unlimited.set_bound(None);
        assert!(unlimited.put(now(1), b"a", &[0; 99], None).is_ok());
    }
}
