//! Reading the store in key order, a page at a time.
//!
//! Keys are spread over the shards by hash, so a page is a merge of all of them. Each shard gives
//! a few records at a time under its own shared lock: no lock is held across shards, nothing is
//! copied but handles, and no writer waits longer than [`LIST_SCAN_MAX`] steps.
//!
//! A page is no snapshot. A key that is there all the while is on it once; one that comes or goes
//! meanwhile may be or not.

use super::record::Record;
use super::seen::{Coverage, Seen};
use super::store::{Slot, Store};
use crate::limits::{LIST_SCAN_MAX, STORE_SHARDS};
use crate::time::Now;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::mem;
use std::ops::Bound;
use std::vec;

/// What a reader has seen, and what the node holds of which it asks for the rest.
pub(super) type Lacking<'a> = (&'a Seen, &'a Coverage);

/// A page of records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// In key order.
    pub items: Vec<Record>,
    /// The last key of the page, when more follow it.
    pub next: Option<Vec<u8>>,
}

impl Store {
    /// Up to `limit` live records whose keys begin with `prefix`, in key order, those up to and
    /// including `after` left out.
    #[must_use]
    pub fn list(&self, now: Now, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Listing {
        self.page(now, prefix, after, limit, None)
    }

    /// The same of the records, tombstones too, that a reader lacks.
    #[must_use]
    pub(super) fn list_unseen(
        &self,
        now: Now,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        lacking: Lacking<'_>,
    ) -> Listing {
        self.page(now, prefix, after, limit, Some(lacking))
    }

    /// Live keys that begin with `prefix`. What comes or goes meanwhile is counted or not.
    #[must_use]
    pub fn count(&self, now: Now, prefix: &[u8]) -> u64 {
        let moment = self.moment(now.wall);
        self.slots().iter().map(|slot| count_in(slot, prefix, moment)).sum()
    }

    fn page(
        &self,
        now: Now,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        lacking: Option<Lacking<'_>>,
    ) -> Listing {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.page_from(now, prefix, from, limit, lacking)
    }

    /// A page of the keys from a bound on, which is not before the prefix.
    pub(super) fn page_from(
        &self,
        now: Now,
        prefix: &[u8],
        from: Bound<&[u8]>,
        limit: usize,
        lacking: Option<Lacking<'_>>,
    ) -> Listing {
        // A shard's fair share of the page, and some more so that few are asked twice.
        let batch_len = 1 + limit.saturating_add(limit / 2) / STORE_SHARDS;
        let page = Page { prefix, from, batch_len, lacking, moment: self.moment(now.wall) };
        let mut cursors: Vec<_> = self.slots().iter().map(|slot| Cursor::new(slot, page)).collect();
        let first =
            |(of, cursor): (usize, &mut Cursor<'_>)| Some(Head { record: cursor.next()?, of });
        let mut heads: BinaryHeap<Head> =
            cursors.iter_mut().enumerate().filter_map(first).collect();
        let mut items = Vec::new();
        while items.len() < limit {
            let Some(mut head) = heads.peek_mut() else { break };
            items.push(match cursors[head.of].next() {
                Some(record) => mem::replace(&mut head.record, record),
                None => PeekMut::pop(head).record,
            });
        }
        let last = items.last().filter(|_| !heads.is_empty());
        let next = last.map(|last| last.key().to_vec());
        Listing { items, next }
    }
}

/// Live keys of one shard, its lock given back after each [`LIST_SCAN_MAX`] steps.
fn count_in(slot: &Slot, prefix: &[u8], moment: u64) -> u64 {
    let (mut n, mut last) = (0, None::<Record>);
    loop {
        let from =
            last.as_ref().map_or(Bound::Included(prefix), |last| Bound::Excluded(last.key()));
        let passed = slot.read(|shard| {
            let (mut n_seen, mut at) = (0, None);
            let in_prefix =
                shard.iter_from(from).take_while(|record| record.key().starts_with(prefix));
            for record in in_prefix.take(LIST_SCAN_MAX) {
                n += u64::from(!record.is_tombstone() && !record.is_due(moment));
                n_seen += 1;
                at = Some(record);
            }
            at.filter(|_| n_seen == LIST_SCAN_MAX).cloned()
        });
        match passed {
            Some(record) => last = Some(record),
            None => return n,
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Page<'a> {
    prefix: &'a [u8],
    from: Bound<&'a [u8]>,
    batch_len: usize,
    /// If the reader wants to know what it lacks.
    lacking: Option<Lacking<'a>>,
    /// By which expiries go.
    moment: u64,
}

impl Page<'_> {
    /// The record as it is at the moment, if it belongs on the page.
    fn shown(&self, record: &Record) -> Option<Record> {
        let is_due = record.is_due(self.moment);
        match self.lacking {
            None => (!record.is_tombstone() && !is_due).then(|| record.clone()),
            Some((seen, coverage)) => {
                let shown = if is_due { record.expired() } else { record.clone() };
                (!coverage.is_seen(seen, &shown)).then_some(shown)
            }
        }
    }
}

/// How far one shard has been read.
struct Cursor<'a> {
    slot: &'a Slot,
    page: Page<'a>,
    /// Read and not yet given.
    batch: vec::IntoIter<Record>,
    /// The last record looked at.
    last: Option<Record>,
    done: bool,
}

impl<'a> Cursor<'a> {
    fn new(slot: &'a Slot, page: Page<'a>) -> Cursor<'a> {
        Cursor { slot, page, batch: Vec::new().into_iter(), last: None, done: false }
    }

    /// Reads the next few, or finds that there are none.
    fn refill(&mut self) {
        let from = self.last.as_ref().map_or(self.page.from, |last| Bound::Excluded(last.key()));
        let (batch, last, done) = self.slot.read(|shard| {
            let (mut batch, mut last) = (Vec::new(), None::<&Record>);
            for (n_seen, record) in shard.iter_from(from).enumerate() {
                if !record.key().starts_with(self.page.prefix) {
                    break;
                }
                if batch.len() == self.page.batch_len || n_seen == LIST_SCAN_MAX {
                    return (batch, last.cloned(), false);
                }
                last = Some(record);
                batch.extend(self.page.shown(record));
            }
            (batch, None, true)
        });
        (self.batch, self.last, self.done) = (batch.into_iter(), last, done);
    }
}

impl Iterator for Cursor<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            match self.batch.next() {
                None if !self.done => self.refill(),
                record => return record,
            }
        }
    }
}

/// A cursor's next record; the heap's greatest is the one with the least key.
struct Head {
    record: Record,
    /// Which cursor's.
    of: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.record.key().cmp(self.record.key())
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;

    fn keys(listing: &Listing) -> Vec<&str> {
        listing.items.iter().map(|item| std::str::from_utf8(item.key()).expect("UTF-8")).collect()
    }

    #[test]
    fn pages_follow_one_another_in_key_order() {
        let store = store();
        for i in 0..1_000 {
            store.put(now(1), format!("k{i:03}").as_bytes(), b"", None).expect("room");
        }
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(now(1), b"k", after.as_deref(), 333);
            all.extend(keys(&page).into_iter().map(str::to_owned));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(all, (0..1_000).map(|i| format!("k{i:03}")).collect::<Vec<_>>());
    }

    #[test]
    fn next_is_told_only_when_something_live_follows() {
        let store = store();
        for key in ["a/1", "a/2", "a/3", "b"] {
            store.put(now(1), key.as_bytes(), b"", None).expect("room");
        }
        assert_eq!(store.list(now(1), b"a/", None, 2).next.as_deref(), Some(&b"a/2"[..]));
        store.delete(now(1), b"a/3").expect("room");
        assert_eq!(store.list(now(1), b"a/", None, 2).next, None);
        assert_eq!(keys(&store.list(now(1), b"", Some(b"a/2"), 9)), ["b"]);
        assert_eq!(keys(&store.list(now(1), b"b", Some(b"a"), 9)), ["b"]);
        assert_eq!(store.list(now(1), b"a", Some(b"b"), 9), Listing::default());
        assert_eq!(store.list(now(1), b"", None, 0), Listing::default());
    }

    #[test]
    fn live_keys_of_a_prefix_are_counted() {
        let store = store();
        for i in 0..STORE_SHARDS * LIST_SCAN_MAX + 999 {
            store.put(now(1), format!("a/{i}").as_bytes(), b"", None).expect("room");
        }
        for key in ["a", "b/1"] {
            store.put(now(1), key.as_bytes(), b"", None).expect("room");
        }
        store.delete(now(1), b"a/7").expect("room");
        let n = (STORE_SHARDS * LIST_SCAN_MAX + 999) as u64;
        let counted =
            [&b""[..], b"a", b"a/", b"b/", b"c"].map(|prefix| store.count(now(1), prefix));
        assert_eq!(counted, [n + 1, n, n - 1, 1, 0]);
    }

    #[test]
    fn a_shard_of_many_tombstones_is_crossed_in_steps() {
        let store = store();
        let in_first =
            (0..).map(|i| format!("{i:08}")).filter(|k| Store::bucket(k.as_bytes()).0 == 0);
        let in_first: Vec<String> = in_first.take(2 * LIST_SCAN_MAX + 9).collect();
        for key in &in_first {
            store.delete(now(1), key.as_bytes()).expect("room");
        }
        let last = in_first.last().expect("some");
        store.put(now(1), last.as_bytes(), b"", None).expect("room");
        assert_eq!(keys(&store.list(now(1), b"", None, 1)), [last]);
    }
}
