//! The replicated map, shared by every thread of the process.
//!
//! ```text
//!  HTTP threads --put/delete-->  +-- shard 0: lock | records by key | leaf sums
//!  HTTP threads --get/list---->  |   ...
//!  engine ------merge/scan---->  +-- shard 255
//!                                +-- head: lock | clock | own log     (every local write)
//!                                +-- remote log: lock                 (engine only)
//! ```
//!
//! A key's hash names its shard. Reading one key is a shared lock on one shard and the clone of a
//! handle; values are never copied under a lock.

use super::feed::Feed;
use super::hash;
use super::head::Head;
use super::log::RemoteLog;
use super::record::Record;
use super::room::Room;
use super::shard::Shard;
use super::stats::Counters;
use super::ttl::Moments;
use super::version::OriginId;
use crate::limits::STORE_SHARDS;
use crate::time::Now;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a store is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// This run of this process; not 0.
    pub origin: OriginId,
    /// Bytes of records past which a local write that would grow the store is refused; 0 for no
    /// limit. What peers wrote is always taken, or copies would differ for ever.
    pub store_len_max: u64,
}

/// The replicated map.
#[derive(Debug)]
pub struct Store {
    store_len_max: u64,
    /// Changes under the lock of the head only.
    origin: AtomicU64,
    slots: Box<[Slot]>,
    head: Mutex<Head>,
    remote_log: Mutex<RemoteLog>,
    counters: Counters,
    feed: Feed,
    moments: Moments,
    room: Room,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(config: StoreConfig) -> Store {
        Store {
            store_len_max: config.store_len_max,
            origin: AtomicU64::new(config.origin.0),
            slots: (0..STORE_SHARDS).map(|_| Slot::default()).collect(),
            head: Mutex::new(Head::new(config.origin)),
            remote_log: Mutex::new(RemoteLog::new()),
            counters: Counters::default(),
            feed: Feed::default(),
            moments: Moments::default(),
            room: Room::new(config.store_len_max),
        }
    }

    /// A store that has taken that many writes, each of which others have written over since.
    #[cfg(test)]
    pub(crate) fn after(config: StoreConfig, n_writes: u64) -> Store {
        let store =
            Store { head: Mutex::new(Head::after(config.origin, n_writes)), ..Store::new(config) };
        store.counters.head(crate::kv::HlcTime(0), n_writes, 0);
        store
    }

    /// Whose writes the local ones are: those from now on, where the node is set back.
    #[must_use]
    pub fn origin(&self) -> OriginId {
        OriginId(self.origin.load(Relaxed))
    }

    /// Has local writes be another run's from now on, numbered from 1. The number of the last write
    /// of the run before.
    pub fn renew(&self, origin: OriginId) -> u64 {
        let mut head = self.head.lock();
        self.origin.store(origin.0, Relaxed);
        head.renew(origin, &self.counters)
    }

    /// The live record of `key`, unless it has expired by now.
    #[must_use]
    pub fn get(&self, now: Now, key: &[u8]) -> Option<Record> {
        self.shown(now, key).filter(|record| !record.is_tombstone())
    }

    /// What there is under `key` now, a tombstone too: of what has expired the form that it has
    /// then, whether or not it has it already.
    #[must_use]
    pub fn shown(&self, now: Now, key: &[u8]) -> Option<Record> {
        self.entry(key).map(|record| self.as_of(now, record))
    }

    /// The record that is held under `key`, a tombstone too.
    #[must_use]
    pub fn entry(&self, key: &[u8]) -> Option<Record> {
        self.slot_of(key).read(|shard| shard.entry(key).cloned())
    }

    /// This node's own limit, in bytes; 0 for none.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.store_len_max
    }

    pub(super) fn slot_of(&self, key: &[u8]) -> &Slot {
        &self.slots[hash::bucket(key).0]
    }

    /// All shards in their order.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn head(&self) -> &Mutex<Head> {
        &self.head
    }

    pub(super) fn remote_log(&self) -> &Mutex<RemoteLog> {
        &self.remote_log
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }

    pub(super) fn moments(&self) -> &Moments {
        &self.moments
    }
}

/// A shard, its lock, and its sum for those who do not want to wait. Aligned so that two busy
/// shards share no cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Slot {
    root: AtomicU64,
    /// When the first of its records expires, in milliseconds since 1970, for the same.
    next_expiry: AtomicU64,
    shard: RwLock<Shard>,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot {
            root: AtomicU64::new(0),
            next_expiry: AtomicU64::new(u64::MAX),
            shard: RwLock::default(),
        }
    }
}

impl Slot {
    /// Looks at the shard under its shared lock.
    pub(super) fn read<R>(&self, look: impl FnOnce(&Shard) -> R) -> R {
        look(&self.shard.read())
    }

    /// Changes the shard under its lock.
    pub(super) fn write<R>(&self, change: impl FnOnce(&mut Shard) -> R) -> R {
        change(&mut self.lock())
    }

    /// The shard, locked for as long as the answer lives.
    pub(super) fn lock(&self) -> Locked<'_> {
        Locked { slot: self, shard: self.shard.write() }
    }

    /// When the first of the shard's records expires, in milliseconds since 1970.
    pub(super) fn next_expiry(&self) -> u64 {
        self.next_expiry.load(Relaxed)
    }

    /// The sum over the shard's live records.
    pub(super) fn root(&self) -> u64 {
        self.root.load(Relaxed)
    }
}

/// A shard that nobody else can look at.
#[derive(Debug)]
pub(super) struct Locked<'s> {
    slot: &'s Slot,
    shard: RwLockWriteGuard<'s, Shard>,
}

impl Deref for Locked<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.slot.root.store(self.shard.root(), Relaxed);
        self.slot.next_expiry.store(self.shard.next_expiry(), Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::time::{Now, WallMillis};

    /// An unlimited store of origin 1.
    pub(in super::super) fn store() -> Store {
        Store::new(StoreConfig { origin: OriginId(1), store_len_max: 0 })
    }

    /// A moment by the wall clock.
    pub(in super::super) fn now(wall_ms: u64) -> Now {
        Now { wall: WallMillis(wall_ms), ..Now::default() }
    }

    #[test]
    fn get_hides_tombstones_and_entry_shows_them() {
        let store = store();
        assert_eq!(store.entry(b"k"), None);
        store.put(now(1), b"k", b"v", Some("text/plain")).expect("room");
        let live = store.get(now(1), b"k").expect("just put");
        assert_eq!((live.value(), live.content_type()), (Some(&b"v"[..]), Some("text/plain")));
        store.delete(now(1), b"k").expect("room");
        assert_eq!(store.get(now(1), b"k"), None);
        assert!(store.entry(b"k").expect("a tombstone").is_tombstone());
    }
}
