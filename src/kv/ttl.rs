//! Keys that expire: when, by which clock, and what is left of them.
//!
//! ```text
//! expiry = the milliseconds of the stamp + the seconds that it lasts      the same on every node
//!
//! put ----------------- expiry --- up to a tenth of a second --- swept
//! shown: the value      |  shown: deleted                       held: a tombstone of the
//!                       |  held: the value                      same stamp and number
//! ```
//!
//! Merging asks no clock: what has expired still beats all that is older, and loses to all that is
//! later. So it makes no difference which of two nodes has swept it, nor when. The tombstone keeps
//! the seconds, so that it tells of itself that it has expired, and when. An expiry gets no stamp
//! of its own: that would beat a renewal made elsewhere before it.
//!
//! The clock is the wall's or the hybrid one, whichever is later, and goes back by no small step:
//! what has expired for one reader is not there again for the next.

use super::record::{Content, Draft, Record};
use super::shard::Shard;
use super::store::Store;
use super::version::Stamp;
use crate::limits::{
    CLOCK_AHEAD_MAX, EXPIRED_GRACE_FLOOR, EXPIRED_REMEMBERED, FEED_LOGGED_MAX, STORE_SHARDS,
};
use crate::mutation::mutated;
use crate::time::{Now, WallMillis};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How long what has expired is remembered after that, in milliseconds, where `asked` was asked for
/// and `n` are remembered.
pub(super) fn remembered_ms(asked: u64, n: u64) -> u64 {
    let floor = asked.min(EXPIRED_GRACE_FLOOR.as_millis() as u64);
    let left = (2 * EXPIRED_REMEMBERED).saturating_sub(n).min(EXPIRED_REMEMBERED);
    let shrunk = u128::from(asked - floor) * u128::from(left) / u128::from(EXPIRED_REMEMBERED);
    floor + u64::try_from(shrunk).unwrap_or(u64::MAX)
}

/// Records that expire under one hold of a shard's lock.
const HOLD_MAX: usize = 64;

impl Stamp {
    /// When a version of this stamp expires that lasts so many seconds, in milliseconds since 1970.
    #[must_use]
    pub fn expiry(self, ttl: u32) -> u64 {
        self.time.millis() + 1_000 * u64::from(ttl)
    }
}

impl Record {
    /// A version that expires so many seconds after its time; else as [`new`](Record::new).
    ///
    /// # Panics
    /// As that, and for no seconds, or too many.
    #[must_use]
    pub fn lasting(
        stamp: Stamp,
        seq: u64,
        key: &[u8],
        content: Option<Content<'_>>,
        ttl: u32,
    ) -> Record {
        Draft::new(key, content, Some(ttl)).stamped(stamp, seq)
    }

    /// When it expires, or has expired, in milliseconds since 1970; `None` for what stays.
    #[must_use]
    pub fn expiry(&self) -> Option<u64> {
        self.ttl().map(|ttl| self.stamp().expiry(ttl))
    }

    /// Whether it is what is left of a record that has expired.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        self.is_tombstone() && self.ttl().is_some()
    }

    /// What is left of it when it has expired: equal bytes on every node.
    #[must_use]
    pub fn expired(&self) -> Record {
        let mut stamp = self.stamp();
        if mutated!(ExpiryStamp) {
            let expiry = self.expiry().unwrap_or_default();
            stamp.time = stamp.time.max(super::version::HlcTime::from_millis(expiry));
        }
        Draft::new(self.key(), None, self.ttl()).stamped(stamp, self.dot().seq)
    }

    /// The order of versions: by stamp, then by number. Of one write in two forms the one that has
    /// expired is the later. Should a broken peer give one stamp to two contents, the greater bytes
    /// are.
    pub(super) fn cmp_version(&self, other: &Record) -> Ordering {
        let version = |record: &Record| {
            let has_form = record.is_tombstone() && !mutated!(ExpiryForm);
            (record.stamp(), record.dot().seq, has_form)
        };
        let by_version = version(self).cmp(&version(other));
        by_version.then_with(|| self.as_bytes().cmp(other.as_bytes()))
    }

    /// Whether it is live and `moment` is past its time.
    pub(super) fn is_due(&self, moment: u64) -> bool {
        !self.is_tombstone() && self.expiry().is_some_and(|expiry| expiry <= moment)
    }
}

/// The latest moments that the store was told.
#[derive(Debug, Default)]
pub(super) struct Moments {
    latest: AtomicU64,
    /// Up to which all that expires has been swept.
    swept: AtomicU64,
    /// Whether there has ever been anything that expires.
    has_any: AtomicU64,
}

/// How far a sweep of what has expired has come; the store's shards are swept one after the other.
#[derive(Debug, Default, Clone, Copy)]
pub struct Expiring {
    /// Which moment it sweeps up to; `None` between two sweeps.
    until: Option<u64>,
    shard: usize,
}

impl Expiring {
    /// Whether a sweep is under way.
    #[must_use]
    pub fn is_within(self) -> bool {
        self.until.is_some()
    }
}

impl Store {
    /// The moment by which expiries go, in milliseconds since 1970: the wall clock's or the hybrid
    /// one's, whichever is later. Where the wall clock has been set back by up to a minute it
    /// stands still until it is reached again.
    #[must_use]
    pub fn moment(&self, wall: WallMillis) -> u64 {
        let told = wall.0.max(self.counters().hlc_last().millis());
        let latest = self.moments().latest.fetch_max(told, Relaxed).max(told);
        if u128::from(latest - told) <= CLOCK_AHEAD_MAX.as_millis() {
            return latest;
        }
        self.moments().latest.store(told, Relaxed);
        // What comes from now on and expires after this moment has not been told.
        self.moments().swept.fetch_min(told, Relaxed);
        told
    }

    /// When the first of what is held expires, in milliseconds since 1970; never is the last there
    /// is.
    #[must_use]
    pub fn next_expiry(&self) -> u64 {
        self.slots().iter().map(|slot| slot.next_expiry()).min().unwrap_or(u64::MAX)
    }

    /// A record as it is at this moment: what has expired in the form that it has then.
    #[must_use]
    pub(super) fn as_of(&self, now: Now, record: Record) -> Record {
        let is_due = record.ttl().is_some() && record.is_due(self.moment(now.wall));
        if is_due { record.expired() } else { record }
    }

    /// The same, lent where nothing has expired.
    pub(super) fn seen_as_of<'r>(
        &self,
        now: Now,
        record: Option<&'r Record>,
    ) -> Option<Cow<'r, Record>> {
        record.map(|record| match record.ttl() {
            Some(_) if record.is_due(self.moment(now.wall)) => Cow::Owned(record.expired()),
            _ => Cow::Borrowed(record),
        })
    }

    /// Turns up to `n_max` records whose time is over into tombstones, and says how many: begins
    /// such a sweep, or goes on with it.
    pub fn expire(&self, now: Now, at: &mut Expiring, n_max: usize) -> usize {
        let until = *at.until.get_or_insert_with(|| self.moment(now.wall));
        let mut n = 0;
        while let Some(slot) = self.slots().get(at.shard) {
            while slot.next_expiry() <= until {
                if n >= n_max {
                    return n;
                }
                // What they were is let go of outside the lock.
                let part_max = HOLD_MAX.min(n_max - n);
                let gone: Vec<Record> = slot.write(|shard| {
                    let mut gone = Vec::with_capacity(part_max);
                    while gone.len() < part_max
                        && let Some(pair) = shard.expire_first(until)
                    {
                        gone.push(self.note_expired(shard, pair));
                    }
                    gone
                });
                n += gone.len();
            }
            at.shard += 1;
        }
        *at = Expiring::default();
        // What came meanwhile to a shard that had been swept has yet to be told.
        let first_left = self.next_expiry().saturating_sub(1);
        let told = until.min(self.moments().latest.load(Relaxed)).min(first_left);
        self.moments().swept.fetch_max(told, Relaxed);
        n
    }

    fn note_expired(&self, shard: &mut Shard, (old, new): (Record, Option<Record>)) -> Record {
        if let Some(new) = new {
            self.counters().expired(&old, &new);
            self.feed().note(new.key());
            if mutated!(ExpiryDrops)
                && let Some(dropped) = shard.remove(new.key(), new.stamp())
            {
                self.counters().removed(&dropped);
            }
        }
        old
    }

    /// Notes that a record comes in.
    pub(super) fn note_lasting(&self, now: Now, record: &Record) {
        let Some(expiry) = record.expiry() else { return };
        // What comes when it has expired already is told by the next sweep, not by the last one.
        self.moments().swept.fetch_min(expiry.saturating_sub(1), Relaxed);
        // Where the clock was set back, what has been swept is less from here on.
        let _ = self.moment(now.wall);
        if self.moments().has_any.load(Relaxed) == 0 {
            self.moments().has_any.store(1, Relaxed);
        }
    }

    /// Whether a record that expires, or has expired, has ever come here.
    #[must_use]
    pub(super) fn has_lasting(&self) -> bool {
        self.moments().has_any.load(Relaxed) > 0
    }

    /// Whether one is held now.
    #[must_use]
    pub fn holds_lasting(&self) -> bool {
        let stats = self.stats();
        stats.n_lasting > 0 || self.counters().n_expired() > 0
    }

    /// The moment up to which whatever expired has been told to the feed, in milliseconds since
    /// 1970; 0 where nothing ever expires, and 1 where something will and nothing has been told.
    #[must_use]
    pub fn swept(&self) -> u64 {
        if self.has_lasting() { self.moments().swept.load(Relaxed).max(1) } else { 0 }
    }

    /// The keys of what has expired after `moment`, if they are not too many.
    pub(super) fn keys_expired(&self, moment: u64) -> Option<BTreeSet<Box<[u8]>>> {
        let mut keys = BTreeSet::new();
        if !self.has_lasting() {
            return Some(keys);
        }
        let max = usize::try_from(FEED_LOGGED_MAX).unwrap_or(usize::MAX);
        for shard in 0..STORE_SHARDS {
            self.slots()[shard].read(|shard| {
                let later = shard.expired_after(moment).take(max + 1);
                keys.extend(later.map(|record| Box::from(record.key())));
            });
            if keys.len() > max {
                return None;
            }
        }
        Some(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;
    use crate::kv::{Act, Done, Gone, HlcTime, Merge, Most, Op, OriginId, StoreConfig, WriteError};
    use crate::limits::TTL_SECONDS_MAX;

    const VALUE: &[u8] = b"a value of some bytes";

    fn put(store: &Store, at: u64, key: &[u8], ttl: u32) -> Stamp {
        let content = (VALUE, Some("text/plain"));
        store.put_lasting_if(now(at), key, content, Some(ttl), |_| true).expect("room").stamp
    }

    fn sweep(store: &Store, at: u64) -> usize {
        store.expire(now(at), &mut Expiring::default(), usize::MAX)
    }

    #[test]
    fn it_is_gone_for_all_from_its_expiry_on_though_nothing_was_swept() {
        let store = store();
        let stamp = put(&store, 1_000_000, b"k", 100);
        let is_there = |at| {
            let look = Op { key: b"k", act: Act::Look, condition: |_: Option<&Record>| true };
            let done = store.batch(now(at), &[look]).expect("done");
            let found = [
                store.get(now(at), b"k").is_some(),
                !store.list(now(at), b"", None, 9).items.is_empty(),
                matches!(&done[..], [Done::Found(Some(_))]),
            ];
            assert!(found == [true; 3] || found == [false; 3], "{found:?}");
            found[0]
        };
        assert!(is_there(1_099_999));
        assert!(!is_there(1_100_000));
        assert!(!is_there(1_050_000), "the clock was set back, and it stays away");
        assert!(is_there(1_039_999), "by more than a minute");
        assert!(!is_there(1_100_000));
        let shown = store.shown(now(1_100_000), b"k").expect("what is left of it");
        assert!(shown.has_expired() && shown.stamp() == stamp && shown.value().is_none());
        assert!(!store.entry(b"k").expect("held").is_tombstone(), "nothing was swept");
        let unmet = Err(WriteError::Unmet);
        let is_live = |old: Option<&Record>| old.is_some_and(|old| !old.is_tombstone());
        assert_eq!(store.put_if(now(1_100_000), b"k", b"", None, is_live), unmet);
        assert_eq!(store.delete_if(now(1_100_000), b"k", is_live), unmet);
        let over =
            store.put_if(now(1_100_000), b"k", b"", None, |old| !is_live(old)).expect("absent");
        assert!(over.stamp > stamp);
        assert_eq!(sweep(&store, 9_000_000), 0, "a put without a ttl clears it");
        assert!(store.get(now(9_000_000), b"k").is_some());
    }

    #[test]
    fn what_is_left_is_small_and_the_same_everywhere_and_counted() {
        let (ours, theirs) = (store(), store());
        put(&ours, 1_000, b"k", 1);
        ours.put(now(1_000), b"stays", b"", None).expect("room");
        let held = ours.entry(b"k").expect("held");
        assert_eq!((ours.stats().n_live, ours.stats().n_lasting), (2, 1));
        assert_eq!(theirs.merge(&held, now(1)), Merge::Newer { clock_ahead: false });
        let root = ours.root();
        assert_eq!(sweep(&ours, 1_999), 0);
        assert_eq!((sweep(&ours, 2_000), sweep(&ours, 9_999)), (1, 0));
        let left = ours.entry(b"k").expect("a tombstone");
        assert_eq!(left, held.expired());
        assert_eq!(Record::read(left.as_bytes()), Ok((left.clone(), left.as_bytes().len())));
        let stats = ours.stats();
        assert_eq!((stats.n_live, stats.n_lasting, stats.n_tombstones), (1, 0, 1));
        assert_eq!(stats.tombstone_bytes, 32 + 4 + 1);
        assert_eq!(stats.bytes, (32 + 4 + 1) + (32 + 5));
        assert_eq!((ours.expired_total(), ours.root()), (1, root));
        // The other one has not swept it: its form loses there, and ours wins here.
        assert_eq!(ours.merge(&held, now(1)), Merge::Stale);
        assert_eq!(theirs.merge(&left, now(1)), Merge::Newer { clock_ahead: false });
        assert_eq!(theirs.entry(b"k"), Some(left));
    }

    #[test]
    fn what_has_expired_beats_all_that_is_older_and_loses_to_all_that_is_later() {
        let store = store();
        let stamp = put(&store, 10_000, b"k", 1);
        assert_eq!(sweep(&store, 11_000), 1);
        let record = |millis, seq| {
            let stamp = Stamp { time: HlcTime::from_millis(millis), origin: OriginId(9) };
            Record::new(stamp, seq, b"k", Some((b"v", None)))
        };
        assert_eq!(store.merge(&record(9_999, 1), now(1)), Merge::Stale);
        // Written before the expiry by somebody who knew of nothing.
        let renewed = record(stamp.time.millis() + 500, 2);
        assert_eq!(store.merge(&renewed, now(1)), Merge::Newer { clock_ahead: false });
        assert_eq!(store.get(now(20_000), b"k"), Some(renewed));
    }

    #[test]
    fn what_has_expired_when_it_comes_is_not_claimed_before_it_is_swept() {
        let store = store();
        put(&store, 1_000, b"k", 1);
        assert_eq!((sweep(&store, 50_000), store.swept()), (1, 50_000));
        // The clock is set back by less than a minute: the moment stands still.
        put(&store, 30_000, b"k", 1);
        assert!(store.get(now(30_000), b"k").is_none());
        assert_eq!(store.swept(), 30_999);
        assert_eq!((sweep(&store, 30_000), store.swept()), (1, 50_000));
    }

    #[test]
    fn a_key_written_twice_in_a_millisecond_expires() {
        let store = store();
        store.switch_feed(true);
        put(&store, 10_000, b"k", 1);
        put(&store, 10_000, b"k", 1);
        let _ = store.take_changes();
        assert_eq!(store.stats().n_lasting, 1);
        assert_eq!(sweep(&store, 12_000), 1);
        assert_eq!(store.take_changes().keys.len(), 1, "who watches is told");
        assert_eq!(store.counters().n_expired(), 1);
        // Of one stamp with two contents as well, as a broken peer gives.
        let stamp = Stamp { time: HlcTime::from_millis(20_000), origin: OriginId(9) };
        for value in [&b"v"[..], b"w"] {
            store.merge(&Record::lasting(stamp, 1, b"k", Some((value, None)), 1), now(20_000));
        }
        assert_eq!((store.stats().n_lasting, sweep(&store, 22_000)), (1, 1));
    }

    #[test]
    fn a_turn_is_bounded_and_the_next_goes_on() {
        let store = store();
        store.switch_feed(true);
        for i in 0..1_000 {
            put(&store, 1_000, format!("k{i}").as_bytes(), 1);
        }
        let _ = store.take_changes();
        let (mut at, mut turns) = (Expiring::default(), 0);
        loop {
            let n = store.expire(now(5_000), &mut at, 300);
            assert!(n <= 300);
            turns += 1;
            if !at.is_within() {
                break;
            }
            assert_eq!(store.swept(), 1, "not before all of it is told");
        }
        assert_eq!((turns, store.expired_total(), store.swept()), (4, 1_000, 5_000));
        assert_eq!(store.take_changes().keys.len(), 1_000, "who watches is told");
        assert_eq!(store.keys_expired(0).map(|keys| keys.len()), Some(1_000));
        assert_eq!(store.keys_expired(5_000), Some(BTreeSet::new()));
        assert_eq!(store.stats().tombstone_bytes, store.stats().bytes);
    }

    #[test]
    fn a_clock_set_back_leaves_less_that_has_been_swept() {
        let store = store();
        put(&store, 1_000, b"k", 1);
        assert_eq!(sweep(&store, 10_000_000), 1);
        assert_eq!(store.swept(), 10_000_000);
        let stamp = Stamp { time: HlcTime::from_millis(4_999_000), origin: OriginId(9) };
        let theirs = Record::lasting(stamp, 1, b"theirs", Some((b"v", None)), 6);
        store.merge(&theirs, now(5_000_000));
        assert!(store.get(now(5_000_000), b"theirs").is_some());
        assert!(store.swept() <= 5_000_000, "that one's end has yet to be told");
        assert_eq!(sweep(&store, 5_005_000), 1);
        assert_eq!(store.swept(), 5_005_000);
    }

    #[test]
    fn how_long_it_lasts_is_bounded_and_a_full_store_counts_all_of_it() {
        let store = Store::new(StoreConfig { origin: OriginId(1), store_len_max: 100 });
        let put = |ttl| store.put_lasting_if(now(1), b"k", (&[0; 63], None), Some(ttl), |_| true);
        for ttl in [0, TTL_SECONDS_MAX + 1, u32::MAX] {
            assert_eq!(put(ttl), Err(WriteError::Ttl(ttl)));
        }
        assert!(put(TTL_SECONDS_MAX).is_ok(), "32 + 4 + 1 + 63");
        assert_eq!(sweep(&store, 1 << 46), 1);
        let content = (&[0; 64][..], None);
        let full = Err(WriteError::StoreFull { len_max: 100 });
        assert_eq!(store.put_lasting_if(now(1), b"k", content, Some(1), |_| true), full);
        store.put(now(1), b"k", &[0; 67], None).expect("32 + 1 + 67, in place of what expired");
    }

    #[test]
    fn an_expiry_that_was_damaged_ends_no_sweep() {
        let store = store();
        put(&store, 1_000, b"k", 1);
        put(&store, 1_000, b"l", 1);
        // A bit of the seconds.
        store.damage(b"k", VALUE.len() + "text/plain".len() + 1);
        assert_eq!(sweep(&store, 9_000), 2);
        let dropped: usize = (0..STORE_SHARDS).map(|shard| store.drop_damaged(shard)).sum();
        assert!(dropped <= 1);
        assert!(store.get(now(9_000), b"k").is_none() && store.get(now(9_000), b"l").is_none());
    }

    #[test]
    fn the_more_has_expired_the_sooner_it_is_forgotten() {
        let (asked, floor) = (600_000, EXPIRED_GRACE_FLOOR.as_millis() as u64);
        assert_eq!(remembered_ms(asked, 0), asked);
        assert_eq!(remembered_ms(asked, EXPIRED_REMEMBERED), asked);
        let middle = EXPIRED_REMEMBERED + EXPIRED_REMEMBERED / 2;
        assert_eq!(remembered_ms(asked, middle), (asked + floor) / 2);
        for n in [2 * EXPIRED_REMEMBERED, u64::MAX] {
            assert_eq!(remembered_ms(asked, n), floor);
            assert_eq!(remembered_ms(floor / 2, n), floor / 2, "no longer than was asked for");
        }
        assert_eq!(remembered_ms(u64::MAX, 0), u64::MAX);
    }

    #[test]
    fn a_burst_of_expiries_is_forgotten_within_the_minute_and_deletes_are_not() {
        let store = store();
        let n = 2 * EXPIRED_REMEMBERED;
        for at in 0..n {
            let key = format!("{at:06}");
            store
                .put_lasting_if(now(1_000), key.as_bytes(), (b"", None), Some(9), |_| true)
                .unwrap();
        }
        store.delete(now(1_000), b"deleted").expect("room");
        // So many in a millisecond take the clock some of them further.
        assert_eq!(sweep(&store, 11_000) as u64, n);
        let forget = |at: u64, kind| {
            // As long as is asked for: ten minutes.
            let until = HlcTime::from_millis(at.saturating_sub(600_000));
            let forget = |shard| {
                let place = (shard, kind);
                store.forget_tombstones(now(at), place, None, until, Most::ALL, |_| true).n
            };
            (0..STORE_SHARDS).map(forget).sum::<usize>() as u64
        };
        let floor = EXPIRED_GRACE_FLOOR.as_millis() as u64;
        assert_eq!(forget(9_999 + floor, Gone::Expired), 0);
        let forgotten = forget(11_000 + floor, Gone::Expired);
        // Those that are left are not too many, and have their time.
        assert!(forgotten > 0 && forgotten < n, "{forgotten}");
        assert_eq!(forget(11_000 + floor, Gone::Deleted), 0);
    }
}
