//! What the store counts: exact, and readable without any lock.

use super::record::Record;
use super::store::Store;
use super::version::HlcTime;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The store in numbers. Each is exact; together they may straddle a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Live keys.
    pub n_live: u64,
    /// Those of them that expire.
    pub n_lasting: u64,
    /// Deletes remembered, what has expired among them.
    pub n_tombstones: u64,
    /// Bytes of all records, heads and tombstones included; what the store's limit is about.
    pub bytes: u64,
    /// Bytes of the tombstones among them.
    pub tombstone_bytes: u64,
    /// Own writes whose keys are remembered.
    pub own_log_len: u64,
    /// Merged writes whose keys are remembered.
    pub remote_log_len: u64,
    /// Number of our latest write.
    pub last_seq: u64,
    /// Records kept whose stamp was too far ahead to follow, ever.
    pub clock_ahead_total: u64,
    /// The hybrid clock's latest time.
    pub hlc: HlcTime,
}

impl Store {
    /// Writes that were refused because the store was full, ever.
    #[must_use]
    pub fn refused_full(&self) -> u64 {
        self.counters().refused_full.load(Relaxed)
    }

    /// Records that have expired here, ever.
    #[must_use]
    pub fn expired_total(&self) -> u64 {
        self.counters().expired_total.load(Relaxed)
    }

    /// The store in numbers, without taking a lock.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let counters = self.counters();
        StoreStats {
            n_live: counters.n_live.load(Relaxed),
            n_lasting: counters.n_lasting.load(Relaxed),
            n_tombstones: counters.n_tombstones.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            tombstone_bytes: counters.tombstone_bytes.load(Relaxed),
            own_log_len: counters.own_log_len.load(Relaxed),
            remote_log_len: counters.remote_log_len.load(Relaxed),
            last_seq: counters.last_seq(),
            clock_ahead_total: counters.clock_ahead_total.load(Relaxed),
            hlc: counters.hlc_last(),
        }
    }
}

/// The counters behind [`StoreStats`]. Written under the lock that guards what they count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    n_live: AtomicU64,
    n_lasting: AtomicU64,
    n_tombstones: AtomicU64,
    n_expired: AtomicU64,
    expired_total: AtomicU64,
    bytes: AtomicU64,
    tombstone_bytes: AtomicU64,
    own_log_len: AtomicU64,
    remote_log_len: AtomicU64,
    last_seq: AtomicU64,
    clock_ahead_total: AtomicU64,
    refused_full: AtomicU64,
    hlc: AtomicU64,
}

impl Counters {
    /// Makes room for `new_len` bytes in place of `old_len`. False, and nothing is counted, when
    /// that would grow the store past `len_max`.
    pub(super) fn reserve(&self, old_len: u64, new_len: u64, len_max: u64) -> bool {
        let replaced = |bytes: u64| {
            let replaced = bytes - old_len + new_len;
            (new_len <= old_len || replaced <= len_max).then_some(replaced)
        };
        let has_room = self.bytes.fetch_update(Relaxed, Relaxed, replaced).is_ok();
        if !has_room {
            self.refused_full.fetch_add(1, Relaxed);
        }
        has_room
    }

    /// Counts a record put in, whose bytes are reserved, in place of another.
    pub(super) fn replaced(&self, new: &Record, old: Option<&Record>) {
        self.kind(new).fetch_add(1, Relaxed);
        self.n_lasting.fetch_add(lasting(new), Relaxed);
        self.n_expired.fetch_add(u64::from(new.has_expired()), Relaxed);
        self.tombstone_bytes.fetch_add(tombstone_len(new), Relaxed);
        if let Some(old) = old {
            self.kind(old).fetch_sub(1, Relaxed);
            self.n_lasting.fetch_sub(lasting(old), Relaxed);
            self.n_expired.fetch_sub(u64::from(old.has_expired()), Relaxed);
            self.tombstone_bytes.fetch_sub(tombstone_len(old), Relaxed);
        }
    }

    /// Counts a record taken out.
    pub(super) fn removed(&self, old: &Record) {
        self.kind(old).fetch_sub(1, Relaxed);
        self.n_lasting.fetch_sub(lasting(old), Relaxed);
        self.n_expired.fetch_sub(u64::from(old.has_expired()), Relaxed);
        self.tombstone_bytes.fetch_sub(tombstone_len(old), Relaxed);
        self.bytes.fetch_sub(old.as_bytes().len() as u64, Relaxed);
    }

    /// Counts that a record has become what is left of it when it has expired.
    pub(super) fn expired(&self, old: &Record, new: &Record) {
        self.reserve(old.as_bytes().len() as u64, new.as_bytes().len() as u64, u64::MAX);
        self.replaced(new, Some(old));
        self.expired_total.fetch_add(1, Relaxed);
    }

    /// Counts live records and tombstones dropped: how many, and their bytes; and how many of the
    /// former expire, and of the latter have expired.
    pub(super) fn dropped(
        &self,
        live: (usize, usize),
        (n_lasting, n_expired): (usize, usize),
        tombstones: (usize, usize),
    ) {
        self.n_lasting.fetch_sub(n_lasting as u64, Relaxed);
        self.n_expired.fetch_sub(n_expired as u64, Relaxed);
        self.n_live.fetch_sub(live.0 as u64, Relaxed);
        self.n_tombstones.fetch_sub(tombstones.0 as u64, Relaxed);
        self.tombstone_bytes.fetch_sub(tombstones.1 as u64, Relaxed);
        self.bytes.fetch_sub((live.1 + tombstones.1) as u64, Relaxed);
    }

    /// Counts a record kept whose stamp is too far ahead.
    pub(super) fn clock_ahead(&self) {
        self.clock_ahead_total.fetch_add(1, Relaxed);
    }

    /// Publishes the head after a write.
    pub(super) fn head(&self, hlc: HlcTime, last_seq: u64, own_log_len: usize) {
        self.hlc(hlc);
        self.last_seq.store(last_seq, Relaxed);
        self.own_log_len.store(own_log_len as u64, Relaxed);
    }

    /// Publishes the clock.
    pub(super) fn hlc(&self, hlc: HlcTime) {
        self.hlc.store(hlc.0, Relaxed);
    }

    /// Publishes the remote log's length.
    pub(super) fn remote_log(&self, len: usize) {
        self.remote_log_len.store(len as u64, Relaxed);
    }

    /// The clock as last published; the clock itself is never behind it.
    pub(super) fn hlc_last(&self) -> HlcTime {
        HlcTime(self.hlc.load(Relaxed))
    }

    /// Tombstones of what has expired.
    pub(super) fn n_expired(&self) -> u64 {
        self.n_expired.load(Relaxed)
    }

    /// Number of our latest write.
    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq.load(Relaxed)
    }

    fn kind(&self, record: &Record) -> &AtomicU64 {
        if record.is_tombstone() { &self.n_tombstones } else { &self.n_live }
    }
}

/// 1 for a live record that expires.
fn lasting(record: &Record) -> u64 {
    u64::from(record.ttl().is_some() && !record.is_tombstone())
}

fn tombstone_len(record: &Record) -> u64 {
    if record.is_tombstone() { record.as_bytes().len() as u64 } else { 0 }
}
