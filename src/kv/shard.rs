//! One of the store's parts: records in key order, and the sums that summarise them.

use super::hash;
use super::record::Record;
use super::version::Stamp;
use crate::limits::STORE_LEAVES_PER_SHARD;
use crate::mutation::mutated;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

/// A part of the map.
#[derive(Debug, Default)]
pub(super) struct Shard {
    records: BTreeSet<ByKey>,
    /// A sum per leaf; none at all until the shard has held something.
    leaves: Vec<u64>,
    /// Wrapping sum of `leaves`.
    root: u64,
    /// The tombstones again, oldest first: to find those whose time is over must not visit all.
    tombstones: BTreeSet<ByTime>,
    /// The live records that expire again, those that do so first before the others.
    lasting: BTreeSet<ByExpiry>,
    /// Those that have expired, in the same order; they are not among `tombstones`.
    expired: BTreeSet<ByExpiry>,
}

impl Shard {
    /// The record of a key, tombstones too.
    pub(super) fn entry(&self, key: &[u8]) -> Option<&Record> {
        self.records.get(key).map(|ByKey(record)| record)
    }

    /// Puts a record in, whatever was there; returns that.
    pub(super) fn insert(&mut self, record: Record) -> Option<Record> {
        let old = self.records.replace(ByKey(record.clone())).map(|ByKey(old)| old);
        // First the old one: both may have the same place, as of one key that was written twice in
        // a millisecond.
        if let Some(old) = &old {
            self.take_from_sums(old);
        }
        self.add_to_sums(&record);
        old
    }

    /// Takes the record of `key` out if it is this version.
    pub(super) fn remove(&mut self, key: &[u8], stamp: Stamp) -> Option<Record> {
        if self.entry(key)?.stamp() != stamp {
            return None;
        }
        let ByKey(old) = self.records.take(key)?;
        self.take_from_sums(&old);
        Some(old)
    }

    /// Takes out every record that is damaged, wherever in it, and sums what is left anew; returns
    /// the bytes taken out.
    pub(super) fn retain_sound(&mut self) -> usize {
        let mut dropped_len = 0;
        let mut records = std::mem::take(self).records;
        records.retain(|ByKey(record)| {
            let is_sound = record.is_sound();
            dropped_len += if is_sound { 0 } else { record.as_bytes().len() };
            is_sound
        });
        records.iter().for_each(|ByKey(record)| self.add_to_sums(record));
        self.records = records;
        dropped_len
    }

    /// Records held, tombstones too.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// All records in key order, tombstones too.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().map(|ByKey(record)| record)
    }

    /// Records from a bound on in key order, tombstones too.
    pub(super) fn iter_from(&self, from: Bound<&[u8]>) -> impl Iterator<Item = &Record> {
        self.records.range::<[u8], _>((from, Bound::Unbounded)).map(|ByKey(record)| record)
    }

    /// Bytes of the tombstones held.
    pub(super) fn tombstones_len(&self) -> usize {
        let deleted = self.tombstones.iter().map(|ByTime(tombstone)| tombstone);
        let expired = self.expired.iter().map(|ByExpiry(tombstone)| tombstone);
        deleted.chain(expired).map(|tombstone| tombstone.as_bytes().len()).sum()
    }

    /// Tombstones held.
    pub(super) fn n_tombstones(&self) -> usize {
        self.tombstones.len() + self.expired.len()
    }

    /// Records that the sums leave out.
    pub(super) fn n_unsummed(&self) -> usize {
        self.n_tombstones() + self.n_lasting()
    }

    /// Live records held that expire.
    pub(super) fn n_lasting(&self) -> usize {
        self.lasting.len()
    }

    /// Tombstones held of what has expired.
    pub(super) fn n_expired(&self) -> usize {
        self.expired.len()
    }

    /// When the first of those that expire does, in milliseconds since 1970; never is the last
    /// there is.
    pub(super) fn next_expiry(&self) -> u64 {
        self.lasting.first().map_or(u64::MAX, ByExpiry::millis)
    }

    /// Turns the first of those that expire by `moment` into what is left of it. Returns it as it
    /// was, `None` when there is none; one that is not, or no more, among the records is damaged,
    /// and only let go of.
    pub(super) fn expire_first(&mut self, moment: u64) -> Option<(Record, Option<Record>)> {
        self.lasting.first().filter(|first| first.millis() <= moment)?;
        let ByExpiry(record) = self.lasting.pop_first()?;
        let is_it = |held: &&Record| {
            let is_renewed = || held.ttl().is_some() && mutated!(SweepRenewed);
            !held.is_tombstone() && (held.stamp() == record.stamp() || is_renewed())
        };
        let Some(held) = self.entry(record.key()).filter(is_it).cloned() else {
            return Some((record, None));
        };
        let expired = held.expired();
        self.insert(expired.clone());
        Some((held, Some(expired)))
    }

    /// Those that have expired after `moment`, in milliseconds since 1970, first ones first.
    pub(super) fn expired_after(&self, moment: u64) -> impl Iterator<Item = &Record> {
        // The latest ones are few where somebody reads on.
        let later = self.expired.iter().rev().take_while(move |expired| expired.millis() > moment);
        later.map(|ByExpiry(record)| record)
    }

    /// The deletes after this one, or all, oldest first.
    pub(super) fn tombstones_after(&self, after: Option<&Record>) -> impl Iterator<Item = &Record> {
        let after = after.map_or(Bound::Unbounded, |after| Bound::Excluded(ByTime(after.clone())));
        self.tombstones.range((after, Bound::Unbounded)).map(|ByTime(record)| record)
    }

    /// What has expired after this one, or all, first ones first.
    pub(super) fn expired_behind(&self, after: Option<&Record>) -> impl Iterator<Item = &Record> {
        let after =
            after.map_or(Bound::Unbounded, |after| Bound::Excluded(ByExpiry(after.clone())));
        self.expired.range((after, Bound::Unbounded)).map(|ByExpiry(record)| record)
    }

    /// Lets go of a tombstone that is in the order of time and not, or no more, among the records:
    /// one of the two was damaged.
    pub(super) fn forget_stray(&mut self, tombstone: &Record) {
        self.tombstones.remove(&ByTime(tombstone.clone()));
        self.expired.remove(&ByExpiry(tombstone.clone()));
    }

    /// The sum of one leaf's live records.
    pub(super) fn leaf(&self, leaf: usize) -> u64 {
        self.leaves.get(leaf).copied().unwrap_or(0)
    }

    /// The sum of all live records.
    pub(super) fn root(&self) -> u64 {
        self.root
    }

    fn add_to_sums(&mut self, record: &Record) {
        match Kind::of(record) {
            Kind::Stays => {}
            Kind::Lasts => {
                self.lasting.insert(ByExpiry(record.clone()));
                return;
            }
            Kind::Deleted => {
                self.tombstones.insert(ByTime(record.clone()));
                return;
            }
            Kind::Expired => {
                self.expired.insert(ByExpiry(record.clone()));
                return;
            }
        }
        if self.leaves.is_empty() {
            self.leaves = vec![0; STORE_LEAVES_PER_SHARD];
        }
        let (sum, (_, leaf)) = (hash::of_record(record), hash::bucket(record.key()));
        self.leaves[leaf] = self.leaves[leaf].wrapping_add(sum);
        self.root = self.root.wrapping_add(sum);
    }

    fn take_from_sums(&mut self, record: &Record) {
        match Kind::of(record) {
            Kind::Stays => {}
            Kind::Lasts => {
                if !mutated!(SweepRenewed) {
                    self.lasting.remove(&ByExpiry(record.clone()));
                }
                return;
            }
            Kind::Deleted => {
                self.tombstones.remove(&ByTime(record.clone()));
                return;
            }
            Kind::Expired => {
                self.expired.remove(&ByExpiry(record.clone()));
                return;
            }
        }
        let (sum, (_, leaf)) = (hash::of_record(record), hash::bucket(record.key()));
        self.leaves[leaf] = self.leaves[leaf].wrapping_sub(sum);
        self.root = self.root.wrapping_sub(sum);
    }
}

/// What a record is, as far as its place in a shard goes.
enum Kind {
    /// Live, for good: it takes part in the sums.
    Stays,
    /// Live, until it expires.
    Lasts,
    Deleted,
    Expired,
}

impl Kind {
    fn of(record: &Record) -> Kind {
        match (record.is_tombstone(), record.ttl()) {
            (false, None) => Kind::Stays,
            (false, Some(_)) => Kind::Lasts,
            (true, None) => Kind::Deleted,
            (true, Some(_)) => Kind::Expired,
        }
    }
}

/// A record ordered by its key alone.
#[derive(Debug)]
struct ByKey(Record);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &ByKey) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &ByKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &ByKey) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

/// A tombstone ordered by its stamp; stamps made by clocks far ahead may repeat over keys.
#[derive(Debug)]
struct ByTime(Record);

impl PartialEq for ByTime {
    fn eq(&self, other: &ByTime) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByTime {}

impl PartialOrd for ByTime {
    fn partial_cmp(&self, other: &ByTime) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByTime {
    fn cmp(&self, other: &ByTime) -> Ordering {
        let (ours, theirs) = (&self.0, &other.0);
        ours.stamp().cmp(&theirs.stamp()).then_with(|| ours.key().cmp(theirs.key()))
    }
}

/// A record that expires, ordered by when.
#[derive(Debug)]
struct ByExpiry(Record);

impl ByExpiry {
    fn millis(&self) -> u64 {
        self.0.expiry().unwrap_or(u64::MAX)
    }
}

impl PartialEq for ByExpiry {
    fn eq(&self, other: &ByExpiry) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByExpiry {}

impl PartialOrd for ByExpiry {
    fn partial_cmp(&self, other: &ByExpiry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByExpiry {
    fn cmp(&self, other: &ByExpiry) -> Ordering {
        self.millis().cmp(&other.millis()).then_with(|| self.0.key().cmp(other.0.key()))
    }
}

#[cfg(test)]
impl Shard {
    /// Puts a damaged record where the sound one of `key` is; nobody is told.
    pub(super) fn damage(&mut self, key: &[u8], record: Record) {
        assert!(self.records.remove(key));
        self.records.insert(ByKey(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{HlcTime, OriginId};

    #[test]
    fn tombstones_are_counted_whatever_replaces_what() {
        let mut shard = Shard::default();
        let record = |time, content| {
            let stamp = Stamp { time: HlcTime(time), origin: OriginId(1) };
            Record::new(stamp, time, b"k", content)
        };
        let steps = [(None, 1), (None, 1), (Some((&b""[..], None)), 0), (None, 1)];
        for (time, (content, n)) in (1..).zip(steps) {
            shard.insert(record(time, content));
            assert_eq!(shard.n_tombstones(), n);
        }
        let last = shard.entry(b"k").expect("inserted").stamp();
        assert!(shard.remove(b"k", last).is_some());
        assert_eq!((shard.n_tombstones(), shard.root()), (0, 0));
    }
}
