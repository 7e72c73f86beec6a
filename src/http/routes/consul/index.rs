//! The numbers that Consul's clients take for versions, made of nothing but what replicates.
//!
//! ```text
//! of a key    (time - 2020) >> 4                  41 bits of milliseconds, 12 of the counter
//! of a list   ((newest ms - 2020) >> 4) << 16 | h        the same scale; h: 16 bits of all of it
//! ```
//!
//! The same content has the same number on every node: a client may ask one node and wait at
//! another. The numbers have 53 bits until 2089, because JavaScript, Lua and jq read numbers as
//! doubles. They are no counters: a number may fall, and clients go on from there.

use crate::kv::{HlcTime, Record, Stamp};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// 2020-01-01, in milliseconds since 1970.
const BEGIN_MILLIS: u64 = 1_577_836_800_000;
/// The index of what has never been: clients take a 0 for an answer without an index.
pub(super) const NOTHING: u64 = 1;
/// The least of something.
const LEAST: u64 = 2;

/// The index of a version.
pub(super) fn of_time(time: HlcTime) -> u64 {
    (time.0.saturating_sub(BEGIN_MILLIS << 16) >> 4).max(LEAST)
}

/// What a key or a list is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// What clients compare.
    pub(super) index: u64,
    /// Tells states apart that have one index: of two versions of a key once in 1,024 times that
    /// two nodes write it in one millisecond, of two lists once in 65,536.
    pub(super) sum: u64,
}

impl State {
    /// That of one key, of which the store shows this. An expiry is a state of its own.
    pub(super) fn of_entry(entry: Option<&Record>) -> State {
        match entry {
            Some(record) => {
                let mut stamp = record.stamp();
                // Later than the write, so that who waits for another index hears of it.
                if let (Some(expiry), true) = (record.expiry(), record.has_expired()) {
                    stamp.time = stamp.time.max(HlcTime::from_millis(expiry));
                }
                State { index: of_time(stamp.time), sum: of_version(stamp, record.key()) }
            }
            None => State { index: NOTHING, sum: 0 },
        }
    }
}

/// That of a list, as its records come in any order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OfList {
    newest: HlcTime,
    sum: u64,
    is_some: bool,
}

impl OfList {
    /// A live record is on it. Deletes are not: nodes forget them at different moments.
    pub(super) fn add(&mut self, record: &Record) {
        let stamp = record.stamp();
        self.is_some = true;
        self.newest = self.newest.max(stamp.time);
        self.sum = self.sum.wrapping_add(of_version(stamp, record.key()));
    }

    pub(super) fn state(self) -> State {
        if !self.is_some {
            return State { index: NOTHING, sum: 0 };
        }
        let scaled = self.newest.millis().saturating_sub(BEGIN_MILLIS) >> 4;
        let index = ((scaled << 16) | (self.sum & 0xffff)).max(LEAST);
        State { index, sum: self.sum }
    }
}

fn of_version(stamp: Stamp, key: &[u8]) -> u64 {
    let mut version = [0; 16];
    version[..8].copy_from_slice(&stamp.time.0.to_be_bytes());
    version[8..].copy_from_slice(&stamp.origin.0.to_be_bytes());
    xxh3_64_with_seed(key, xxh3_64(&version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::OriginId;

    fn record(millis: u64, count: u64, origin: u64, key: &str) -> Record {
        let time = HlcTime((millis << 16) + count);
        let stamp = Stamp { time, origin: OriginId(origin) };
        Record::new(stamp, 1, key.as_bytes(), Some((b"v", None)))
    }

    fn list(records: &[&Record]) -> State {
        let mut list = OfList::default();
        records.iter().for_each(|record| list.add(record));
        list.state()
    }

    #[test]
    fn a_key_has_the_time_of_its_version_in_53_bits() {
        let index = |millis, count| State::of_entry(Some(&record(millis, count, 7, "k"))).index;
        assert_eq!(index(BEGIN_MILLIS + 1, 0), 1 << 12);
        assert_eq!(index(BEGIN_MILLIS + 1, 0xfff0), (1 << 12) + 0xfff);
        assert_eq!(index(BEGIN_MILLIS + 1, 16), (1 << 12) + 1);
        assert_eq!(index(1, 0), LEAST, "before its time");
        let new_year_2089 = 3_755_289_600_000;
        assert!(index(new_year_2089, 0xffff) < 1 << 53);
        assert_eq!(of_time(HlcTime(u64::MAX)) >> 60, 0);
        let stamp = Stamp { time: HlcTime::from_millis(BEGIN_MILLIS), origin: OriginId(1) };
        let lasting = Record::lasting(stamp, 1, b"k", Some((b"v", None)), 5);
        let (before, after) =
            (State::of_entry(Some(&lasting)), State::of_entry(Some(&lasting.expired())));
        assert_eq!((before.index, after.index), (LEAST, 5_000 << 12));
        assert_ne!(before.sum, after.sum);
        assert_eq!(State::of_entry(None), State { index: 1, sum: 0 });
    }

    #[test]
    fn a_list_has_the_same_index_in_any_order_and_another_when_anything_is_another() {
        let now = BEGIN_MILLIS + 160;
        let [a, b, c] =
            [record(now, 0, 7, "a"), record(now - 99, 0, 8, "b"), record(now - 9, 0, 7, "c")];
        assert_eq!(list(&[]).index, NOTHING);
        assert_eq!(list(&[&a, &b, &c]), list(&[&c, &a, &b]));
        let all = list(&[&a, &b, &c]);
        assert_eq!(all.index >> 16, 10);
        assert_ne!(list(&[&a, &b]), all, "one less, and not the newest");
        assert_ne!(list(&[&a, &record(now - 99, 0, 9, "b"), &c]), all, "of another origin");
        assert_ne!(list(&[&a, &record(now - 98, 0, 8, "b"), &c]).index, all.index);
        // Lists and keys are of one scale: a client may come from one to the other.
        assert_eq!(State::of_entry(Some(&a)).index >> 16, all.index >> 16);
    }
}
