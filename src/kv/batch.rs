//! Several writes and looks in one step: all of it happens, or nothing.
//!
//! The shards of all keys are locked together, in their order, so that two batches cannot wait for
//! each other. What other nodes write meanwhile is not seen: the step is one on this node, and its
//! writes travel to the others one by one.

use super::hash;
use super::record::{Draft, Record};
use super::store::{Locked, Store};
use super::version::HlcTime;
use super::write::{WriteError, Written, check_content, check_key, check_ttl, floor};
use crate::time::Now;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// What is done about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act<'a> {
    /// This is written, with this content type.
    Put(&'a [u8], Option<&'a str>),
    /// The same for so many seconds.
    PutLasting(&'a [u8], Option<&'a str>, u32),
    /// A tombstone is written.
    Delete,
    /// What the key has before the batch is looked at.
    Look,
}

impl Act<'_> {
    /// Whether what it writes is allowed, whatever the store holds.
    ///
    /// # Errors
    /// A [`WriteError`] that says what is wrong.
    pub fn check(&self) -> Result<(), WriteError> {
        let (value, content_type, ttl) = match *self {
            Act::Put(value, content_type) => (value, content_type, None),
            Act::PutLasting(value, content_type, ttl) => (value, content_type, Some(ttl)),
            Act::Delete | Act::Look => return Ok(()),
        };
        check_content(value, content_type.unwrap_or_default())?;
        check_ttl(ttl)
    }
}

/// A part of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Op<'a, C> {
    /// The key that it is about.
    pub key: &'a [u8],
    /// What is done.
    pub act: Act<'a>,
    /// Whether the batch may go on with this under the key, tombstones included.
    pub condition: C,
}

/// What became of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It was written.
    Written(Written),
    /// The key had this live record, or none.
    Found(Option<Record>),
}

/// Why a batch was refused. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A part cannot be done.
    #[error("{1}")]
    Op(usize, WriteError),
    /// A key is written twice.
    #[error("the key is written by another part of the batch, too")]
    Twice(usize),
}

/// A write that has been checked.
struct Checked {
    index: usize,
    draft: Draft,
    floor: HlcTime,
    old_len: u64,
    is_delete: bool,
}

type Shards<'s> = BTreeMap<usize, Locked<'s>>;

fn shard_of(key: &[u8]) -> usize {
    hash::bucket(key).0
}

impl Store {
    /// Does all parts in one step, or none of them. The answers are in the order of the parts.
    ///
    /// # Errors
    /// A [`BatchError`] with the first part that is in the way; nothing has changed then.
    pub fn batch<C>(&self, now: Now, ops: &[Op<'_, C>]) -> Result<Vec<Done>, BatchError>
    where
        C: Fn(Option<&Record>) -> bool,
    {
        let mut drafts = drafts(ops)?;
        let places: BTreeSet<usize> = ops.iter().map(|op| shard_of(op.key)).collect();
        let slots = self.slots();
        let mut shards: Shards<'_> =
            places.into_iter().map(|place| (place, slots[place].lock())).collect();
        let mut done = Vec::with_capacity(ops.len());
        let mut writes = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let old = shards.get(&shard_of(op.key)).and_then(|shard| shard.entry(op.key));
            let shown = self.seen_as_of(now, old);
            if !(op.condition)(shown.as_deref()) {
                return Err(BatchError::Op(index, WriteError::Unmet));
            }
            let found = shown.filter(|record| !record.is_tombstone());
            done.push(Done::Found(found.map(Cow::into_owned)));
            if let Some(draft) = drafts[index].take() {
                let floor = floor(old).map_err(|error| BatchError::Op(index, error))?;
                let old_len = old.map_or(0, |old| old.as_bytes().len() as u64);
                let is_delete = op.act == Act::Delete;
                writes.push(Checked { index, draft, floor, old_len, is_delete });
            }
        }
        self.make_room(&writes)?;
        let mut replaced = Vec::with_capacity(writes.len());
        for Checked { index, draft, floor, .. } in writes {
            let key = ops[index].key;
            let Some(shard) = shards.get_mut(&shard_of(key)) else { continue };
            let (written, old) = self.write_in(shard, now, key, draft, floor);
            done[index] = Done::Written(written);
            replaced.extend(old);
        }
        drop(shards);
        Ok(done)
    }

    /// Deletes are always taken; what the puts need more than there was has to fit.
    fn make_room(&self, writes: &[Checked]) -> Result<(), BatchError> {
        let lens = |writes: &mut dyn Iterator<Item = &Checked>| {
            writes.fold((0, 0), |(old_len, new_len), write| {
                (old_len + write.old_len, new_len + write.draft.len() as u64)
            })
        };
        let puts = || writes.iter().filter(|write| !write.is_delete);
        let (old_len, new_len) = lens(&mut writes.iter());
        let (old_put_len, new_put_len) = lens(&mut puts());
        let grows = new_put_len > old_put_len;
        let len_max = if grows { self.len_max() } else { u64::MAX };
        if writes.is_empty() || self.counters().reserve(old_len, new_len, len_max) {
            return Ok(());
        }
        let last = puts().next_back().map_or(0, |write| write.index);
        Err(BatchError::Op(last, WriteError::StoreFull { len_max: self.len_max() }))
    }
}

/// The records to be of the parts that write, checked for what needs no look at the store.
fn drafts<C>(ops: &[Op<'_, C>]) -> Result<Vec<Option<Draft>>, BatchError> {
    let (mut drafts, mut written) = (Vec::with_capacity(ops.len()), BTreeSet::new());
    for (index, op) in ops.iter().enumerate() {
        let at = |error| BatchError::Op(index, error);
        check_key(op.key).map_err(at)?;
        if op.act != Act::Look && !written.insert(op.key) {
            return Err(BatchError::Twice(index));
        }
        op.act.check().map_err(at)?;
        drafts.push(match op.act {
            Act::Look => None,
            Act::Put(value, content_type) => {
                Some(Draft::new(op.key, Some((value, content_type)), None))
            }
            Act::PutLasting(value, content_type, ttl) => {
                Some(Draft::new(op.key, Some((value, content_type)), Some(ttl)))
            }
            Act::Delete => Some(Draft::new(op.key, None, None)),
        });
    }
    Ok(drafts)
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;
    use crate::kv::{OriginId, StoreConfig};

    type Condition = fn(Option<&Record>) -> bool;

    fn op<'a>(key: &'a [u8], act: Act<'a>) -> Op<'a, Condition> {
        Op { key, act, condition: |_| true }
    }

    #[test]
    fn all_parts_are_done_in_their_order_with_numbers_that_follow() {
        let store = store();
        store.put(now(1), b"a", b"old", None).expect("room");
        let ops = [
            op(b"a", Act::Put(b"new", Some("text/plain"))),
            op(b"b", Act::Delete),
            op(b"a", Act::Look),
            op(b"c", Act::Look),
        ];
        let done = store.batch(now(1), &ops).expect("done");
        let [Done::Written(a), Done::Written(b), Done::Found(old), Done::Found(None)] = &done[..]
        else {
            panic!("{done:?}")
        };
        assert_eq!((a.dot.seq, b.dot.seq), (2, 3));
        assert_eq!(old.as_ref().and_then(Record::value), Some(&b"old"[..]), "as it was before");
        assert_eq!(store.get(now(1), b"a").expect("put").value(), Some(&b"new"[..]));
        assert!(store.entry(b"b").expect("a tombstone").is_tombstone());
        assert_eq!(store.root(), {
            let other = self::store();
            other.merge(&store.get(now(1), b"a").expect("put"), now(1));
            other.root()
        });
    }

    #[test]
    fn one_part_in_the_way_and_nothing_has_changed() {
        let limited = StoreConfig { origin: OriginId(1), store_len_max: 200 };
        let store = Store::new(limited);
        store.put(now(1), b"a", b"1", None).expect("room");
        let (before, root) = (store.stats(), store.root());
        let check = |ops: &[Op<'_, Condition>], expected| {
            assert_eq!(store.batch(now(2), ops), Err(expected));
            assert_eq!((store.stats(), store.root(), store.last_seq()), (before, root, 1));
        };
        let put = op(b"a", Act::Put(b"2", None));
        let mut unmet = op(b"a", Act::Look);
        unmet.condition = |old| old.is_none();
        check(&[put, unmet], BatchError::Op(1, WriteError::Unmet));
        check(&[put, op(b"b", Act::Delete), put], BatchError::Twice(2));
        check(&[put, op(b"", Act::Look)], BatchError::Op(1, WriteError::KeyLen(0)));
        let long = [0; 150];
        let full = WriteError::StoreFull { len_max: 200 };
        check(&[put, op(b"b", Act::Put(&long, None))], BatchError::Op(1, full));
        assert_eq!(store.batch(now(2), &[] as &[Op<'_, Condition>]), Ok(vec![]));
        // A delete is always taken, of what is not there, too.
        store.put(now(2), b"a", &[0; 167], None).expect("up to the last byte");
        assert_eq!(store.stats().bytes, 200);
        check_full(&store, &[op(b"b", Act::Delete), op(b"c", Act::Put(b"", None))], 1);
        let done = store.batch(now(2), &[op(b"b", Act::Delete), op(b"a", Act::Put(b"3", None))]);
        assert!(done.is_ok() && store.batch(now(2), &[op(b"d", Act::Delete)]).is_ok());
    }

    fn check_full(store: &Store, ops: &[Op<'_, Condition>], index: usize) {
        let full = WriteError::StoreFull { len_max: 200 };
        let before = store.stats();
        assert_eq!(store.batch(now(2), ops), Err(BatchError::Op(index, full)));
        assert_eq!(store.stats(), before);
    }

    #[test]
    fn batches_over_the_same_keys_wait_for_each_other_and_end() {
        let store = store();
        let keys: Vec<Vec<u8>> = (0..40).map(|i| format!("key-{i}").into_bytes()).collect();
        std::thread::scope(|threads| {
            for thread in 0..4 {
                let (store, keys) = (&store, &keys);
                threads.spawn(move || {
                    for round in 0..200 {
                        let value = format!("{thread}-{round}").into_bytes();
                        let mut keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                        keys.rotate_left((thread * 7 + round) % 40);
                        let put = |key| op(key, Act::Put(&value, None));
                        let ops: Vec<_> = keys.into_iter().map(put).collect();
                        store.batch(now(1), &ops).expect("done");
                    }
                });
            }
        });
        let values: BTreeSet<Vec<u8>> = keys
            .iter()
            .map(|key| store.get(now(1), key).expect("put").value().unwrap_or_default().to_vec())
            .collect();
        assert_eq!(values.len(), 1, "the last batch has written all: {values:?}");
        assert_eq!(store.last_seq(), 4 * 200 * 40);
    }
}
