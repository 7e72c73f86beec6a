//! The feed: which keys have changed lately, for whoever waits for changes.
//!
//! ```text
//! a write, a merge --key--> ring (bounded) --bell--> reader: takes all keys at once
//!                            `-- full: the keys are dropped, and the reader is told to look
//!                                at everything that it is interested in
//! ```
//!
//! Off, which is when nobody waits, it costs a change one load. A key is in the ring before its
//! write has a number. So whoever learns of a number, and takes the ring then, has the key. And it
//! is in the ring once more after that: whoever took it too early to learn of the number is rung
//! again.

use super::record::Record;
use super::seen::{Coverage, Seen};
use super::store::Store;
use super::version::Dot;
use crate::limits::{FEED_KEYS_MAX, FEED_LEN_MAX, FEED_LOGGED_MAX};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Rung when the ring is no longer empty. It is called under a lock of the store: it must not
/// block, nor touch the store.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// Keys that changed since the feed was last taken.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The keys; one may have changed more than once.
    pub keys: BTreeSet<Box<[u8]>>,
    /// Whether there were more than are remembered: any key may have changed.
    pub is_overrun: bool,
}

/// Which keys changed lately.
#[derive(Default)]
pub(super) struct Feed {
    is_on: AtomicBool,
    ring: Mutex<Ring>,
    bell: OnceLock<Bell>,
    overruns_total: AtomicU64,
    removed_total: AtomicU64,
}

#[derive(Default)]
struct Ring {
    keys: Vec<Box<[u8]>>,
    len: usize,
    is_overrun: bool,
}

impl Feed {
    /// A key is about to change, or has just changed, under the lock of its shard.
    pub(super) fn note(&self, key: &[u8]) {
        if self.is_on.load(Ordering::Acquire) {
            self.push(key);
        }
    }

    /// A record has been taken out without a write that says so.
    pub(super) fn removed(&self) {
        self.removed_total.fetch_add(1, Ordering::Release);
    }

    fn push(&self, key: &[u8]) {
        let mut ring = self.ring.lock();
        let was_quiet = ring.keys.is_empty() && !ring.is_overrun;
        if ring.is_overrun {
            return;
        }
        if ring.keys.len() == FEED_KEYS_MAX || ring.len + key.len() > FEED_LEN_MAX {
            *ring = Ring { is_overrun: true, ..Ring::default() };
            self.overruns_total.fetch_add(1, Ordering::Relaxed);
        } else {
            ring.len += key.len();
            ring.keys.push(key.into());
        }
        drop(ring);
        if was_quiet && let Some(bell) = self.bell.get() {
            bell();
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("is_on", &self.is_on).finish_non_exhaustive()
    }
}

impl Store {
    /// Has `bell` rung when keys have changed and the feed is on. The first bell stays.
    pub fn set_bell(&self, bell: Bell) {
        // A second one would take the changes away from the first.
        let _ = self.feed().bell.set(bell);
    }

    /// Switches the feed on or off. What changes from now on is told; what has changed before is
    /// in the store.
    pub fn switch_feed(&self, is_on: bool) {
        self.feed().is_on.store(is_on, Ordering::Release);
        if !is_on {
            *self.feed().ring.lock() = Ring::default();
        }
    }

    /// Takes what has changed since the last call.
    #[must_use]
    pub fn take_changes(&self) -> Changes {
        let Ring { keys, is_overrun, .. } = std::mem::take(&mut *self.feed().ring.lock());
        Changes { keys: keys.into_iter().collect(), is_overrun }
    }

    /// Records taken out so far without a write that says so: forgotten deletes, for the most part.
    /// A reader that has looked through the store, and finds this grown, may have missed some.
    #[must_use]
    pub fn removed_total(&self) -> u64 {
        self.feed().removed_total.load(Ordering::Acquire)
    }

    /// How often more keys had changed than are remembered.
    #[must_use]
    pub fn feed_overruns_total(&self) -> u64 {
        self.feed().overruns_total.load(Ordering::Relaxed)
    }

    /// The keys of what a reader lacks that has seen so much; `None` when only a look through
    /// everything can tell: it lacks more than the logs know, or more is held than `coverage` says.
    #[must_use]
    pub(super) fn keys_unseen(
        &self,
        seen: &Seen,
        coverage: &Coverage,
    ) -> Option<BTreeSet<Box<[u8]>>> {
        let mut keys = self.keys_between(seen, &coverage.seen, FEED_LOGGED_MAX)?;
        // What has expired since was no write.
        keys.append(&mut self.keys_expired(seen.expired_through())?);
        coverage.is_exact.then_some(keys)
    }

    /// The keys of the writes that `to` has seen and `from` has not, if there are at most `max` and
    /// the logs still know them all.
    fn keys_between(&self, from: &Seen, to: &Seen, max: u64) -> Option<BTreeSet<Box<[u8]>>> {
        let spans = to.beyond(from);
        let n = spans.clone().map(|(_, first, last)| last - first);
        if n.fold(0, u64::saturating_add) > max {
            return None;
        }
        let dots = spans.flat_map(|(origin, first, last)| {
            (first.saturating_add(1)..=last).map(move |seq| Dot { origin, seq })
        });
        dots.map(|dot| self.log_key(dot)).collect()
    }

    /// A part of the records whose keys begin with `prefix`, tombstones too, in no order: those of
    /// one shard that are `wanted`, from after `after` on. At most `steps_max` records are looked
    /// at, under the shard's shared lock; then the second part of the answer is where to go on.
    pub(super) fn scan_part(
        &self,
        shard: usize,
        (prefix, after): (&[u8], Option<&[u8]>),
        steps_max: usize,
        wanted: impl Fn(&Record) -> bool,
    ) -> (Vec<Record>, Option<Box<[u8]>>) {
        use std::ops::Bound::{Excluded, Included};
        let Some(slot) = self.slots().get(shard) else { return (Vec::new(), None) };
        slot.read(|shard| {
            let mut found = Vec::new();
            let from = after.map_or(Included(prefix), Excluded);
            let mut last: Option<&Record> = None;
            let under = shard.iter_from(from).take_while(|record| record.key().starts_with(prefix));
            for (n_seen, record) in under.enumerate() {
                if n_seen == steps_max {
                    return (found, last.map(|last| last.key().into()));
                }
                last = Some(record);
                if wanted(record) {
                    found.push(record.clone());
                }
            }
            (found, None)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;
    use crate::kv::{HlcTime, OriginId, Stamp};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    fn keys(changes: &Changes) -> Vec<&[u8]> {
        changes.keys.iter().map(|key| &key[..]).collect()
    }

    #[test]
    fn what_changes_while_the_feed_is_on_is_told_once_and_rings_once() {
        let store = store();
        let n_rung = Arc::new(AtomicUsize::new(0));
        let rung = Arc::clone(&n_rung);
        store.set_bell(Box::new(move || {
            rung.fetch_add(1, Ordering::Relaxed);
        }));
        store.put(now(1), b"before", b"", None).expect("room");
        store.switch_feed(true);
        assert_eq!(store.take_changes(), Changes::default());
        store.put(now(1), b"a", b"", None).expect("room");
        store.delete(now(1), b"a").expect("room");
        let stamp = Stamp { time: HlcTime::from_millis(5), origin: OriginId(9) };
        store.merge(&Record::new(stamp, 1, b"theirs", Some((b"v", None))), now(1));
        assert_eq!(n_rung.load(Ordering::Relaxed), 1);
        let changes = store.take_changes();
        assert_eq!((keys(&changes), changes.is_overrun), (vec![&b"a"[..], b"theirs"], false));
        store.merge(&Record::new(stamp, 1, b"theirs", Some((b"v", None))), now(1));
        assert_eq!(store.take_changes(), Changes::default(), "nothing new");
        assert!(store.remove_exact(b"theirs", stamp));
        assert_eq!(keys(&store.take_changes()), [b"theirs"], "gone without a delete");
        store.switch_feed(false);
        store.put(now(1), b"after", b"", None).expect("room");
        assert_eq!(store.take_changes(), Changes::default());
    }

    #[test]
    fn a_full_ring_says_that_anything_may_have_changed() {
        let store = store();
        store.switch_feed(true);
        for i in 0..=FEED_KEYS_MAX {
            store.put(now(1), format!("{i}").as_bytes(), b"", None).expect("room");
        }
        assert_eq!(store.feed_overruns_total(), 1);
        assert_eq!(store.take_changes(), Changes { is_overrun: true, ..Changes::default() });
        store.put(now(1), b"k", b"", None).expect("room");
        assert_eq!(keys(&store.take_changes()), [b"k"]);
    }

    #[test]
    fn the_logs_know_what_changed_between_two_readings() {
        let store = store();
        let (mut from, mut to) = (Seen::default(), Seen::default());
        for key in [&b"a"[..], b"b", b"a", b"c"] {
            store.put(now(1), key, b"", None).expect("room");
        }
        from.add(OriginId(1), 1);
        to.add(OriginId(1), 3);
        let between = |from: &Seen, to: &Seen, max| {
            let keys = store.keys_between(from, to, max)?;
            Some(keys.into_iter().map(|key| key.to_vec()).collect::<Vec<_>>())
        };
        assert_eq!(between(&from, &to, 2), Some(vec![b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(between(&from, &to, 1), None, "too many");
        assert_eq!(between(&to, &from, 9), Some(vec![]));
        to.add(OriginId(5), 1);
        assert_eq!(between(&from, &to, 9), None, "a write that no log knows");
    }

    #[test]
    fn parts_together_are_all_there_is_under_a_prefix() {
        let store = store();
        for i in 0..2_000 {
            store.put(now(1), format!("a/{i}").as_bytes(), b"", None).expect("room");
            store.put(now(1), format!("b/{i}").as_bytes(), b"", None).expect("room");
        }
        store.delete(now(1), b"a/7").expect("room");
        let mut found = BTreeSet::new();
        for shard in 0..crate::limits::STORE_SHARDS {
            let mut after: Option<Box<[u8]>> = None;
            loop {
                let (part, next) = store.scan_part(shard, (b"a/", after.as_deref()), 3, |_| true);
                found.extend(part.into_iter().map(|record| record.key().to_vec()));
                let Some(next) = next else { break };
                after = Some(next);
            }
        }
        assert_eq!(found.len(), 2_000);
        assert!(found.contains(&b"a/7"[..]), "a delete is told, too");
    }
}
