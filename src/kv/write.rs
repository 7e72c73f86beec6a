//! Local writes: checked, stamped later than anything the node has seen, numbered without gaps.

use super::hlc;
use super::record::{self, Content, Draft, Record, RecordError};
use super::shard::Shard;
use super::store::Store;
use super::version::{Dot, HlcTime, Stamp};
use crate::limits::{CONTENT_TYPE_LEN_MAX, KEY_LEN_MAX, TTL_SECONDS_MAX, VALUE_LEN_HARD_MAX};
use crate::mutation::mutated;
use crate::time::Now;

/// What a write was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its place in the order of versions.
    pub stamp: Stamp,
    /// Its number among our writes.
    pub dot: Dot,
}

/// Why a write was refused. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The key is empty or too long.
    #[error("the key has {0} bytes; 1 to {KEY_LEN_MAX} are allowed")]
    KeyLen(usize),
    /// The key is not UTF-8.
    #[error("the key is not UTF-8")]
    KeyNotUtf8,
    /// The content type is too long.
    #[error("the content type has {0} bytes; at most {CONTENT_TYPE_LEN_MAX} are allowed")]
    ContentTypeLen(usize),
    /// The content type could not stand in an HTTP header.
    #[error("the content type is not printable ASCII")]
    ContentTypeText,
    /// The value is too long for any node.
    #[error("the value has {0} bytes; at most {VALUE_LEN_HARD_MAX} are allowed")]
    ValueLen(usize),
    /// The write would grow the store past its limit.
    #[error("the store is full; at most {len_max} bytes are allowed")]
    StoreFull {
        /// The limit, in bytes of records.
        len_max: u64,
    },
    /// The key carries the last stamp there is, made by no honest clock: no write can beat it.
    #[error("the key's version is the largest there is; it cannot be replaced")]
    StampExhausted,
    /// It would last for no time, or for too long.
    #[error("it expires after {0} s; 1 to {TTL_SECONDS_MAX} are allowed")]
    Ttl(u32),
    /// The condition of [`Store::put_if`] or [`Store::delete_if`] does not hold.
    #[error("the key is not in the state the write was made for")]
    Unmet,
}

impl Store {
    /// Writes `value` under `key`. An empty content type is none.
    ///
    /// # Errors
    /// A [`WriteError`]; nothing has changed then.
    pub fn put(
        &self,
        now: Now,
        key: &[u8],
        value: &[u8],
        content_type: Option<&str>,
    ) -> Result<Written, WriteError> {
        self.put_if(now, key, value, content_type, |_| true)
    }

    /// The same of a value that expires so many seconds after it was written, if it does not stay.
    ///
    /// # Errors
    /// A [`WriteError`]; nothing has changed then.
    pub fn put_lasting_if(
        &self,
        now: Now,
        key: &[u8],
        (value, content_type): Content<'_>,
        ttl: Option<u32>,
        condition: impl FnOnce(Option<&Record>) -> bool,
    ) -> Result<Written, WriteError> {
        check_content(value, content_type.unwrap_or_default())?;
        check_ttl(ttl)?;
        self.write(now, key, (Some((value, content_type)), ttl), condition)
    }

    /// The same if `condition` holds for what this node has under `key`, tombstones included.
    /// Nothing changes between the check and the write here; what other nodes write meanwhile is
    /// not seen.
    ///
    /// # Errors
    /// A [`WriteError`]; nothing has changed then.
    pub fn put_if(
        &self,
        now: Now,
        key: &[u8],
        value: &[u8],
        content_type: Option<&str>,
        condition: impl FnOnce(Option<&Record>) -> bool,
    ) -> Result<Written, WriteError> {
        self.put_lasting_if(now, key, (value, content_type), None, condition)
    }

    /// Writes a tombstone over `key`, whether or not there is anything: a delete here must beat
    /// what has not arrived yet.
    ///
    /// # Errors
    /// A [`WriteError`], never [`WriteError::StoreFull`]; nothing has changed then.
    pub fn delete(&self, now: Now, key: &[u8]) -> Result<Written, WriteError> {
        self.delete_if(now, key, |_| true)
    }

    /// The same if `condition` holds, as [`put_if`](Store::put_if).
    ///
    /// # Errors
    /// A [`WriteError`]; nothing has changed then.
    pub fn delete_if(
        &self,
        now: Now,
        key: &[u8],
        condition: impl FnOnce(Option<&Record>) -> bool,
    ) -> Result<Written, WriteError> {
        self.write(now, key, (None, None), condition)
    }

    fn write(
        &self,
        now: Now,
        key: &[u8],
        (content, ttl): (Option<Content<'_>>, Option<u32>),
        condition: impl FnOnce(Option<&Record>) -> bool,
    ) -> Result<Written, WriteError> {
        check_key(key)?;
        // Copying a large value is not for a lock.
        let draft = Draft::new(key, content, ttl);
        let (written, _old) = self.slot_of(key).write(|shard| {
            let old = shard.entry(key);
            if !condition(self.seen_as_of(now, old).as_deref()) {
                return Err(WriteError::Unmet);
            }
            let floor = floor(old)?;
            let old_len = old.map_or(0, |old| old.as_bytes().len());
            // A delete is taken whatever the store holds: it is what makes room, and forgotten in
            // its time, which is soon where deletes take too much.
            let len_max = if content.is_some() { self.len_max() } else { u64::MAX };
            if !self.counters().reserve(old_len as u64, draft.len() as u64, len_max) {
                return Err(WriteError::StoreFull { len_max: self.len_max() });
            }
            Ok(self.write_in(shard, now, key, draft, floor))
        })?;
        Ok(written)
    }

    /// Writes into the locked shard of `key`, for which room is reserved; returns what was there,
    /// too, so that it is not let go of under the lock.
    pub(super) fn write_in(
        &self,
        shard: &mut Shard,
        now: Now,
        key: &[u8],
        draft: Draft,
        floor: HlcTime,
    ) -> (Written, Option<Record>) {
        // Before the write has a number that anybody may be told, and after it.
        self.feed().note(key);
        let (stamp, seq) = self.head().lock().stamp(key, floor, now.wall, self.counters());
        let record = draft.stamped(stamp, seq);
        self.note_lasting(now, &record);
        let old = shard.insert(record.clone());
        self.counters().replaced(&record, old.as_ref());
        self.feed().note(key);
        (Written { stamp, dot: record.dot() }, old)
    }
}

/// The earliest time of a write that beats what is there.
pub(super) fn floor(old: Option<&Record>) -> Result<HlcTime, WriteError> {
    match old {
        Some(old) if !mutated!(WriteFloor) => {
            hlc::after(old.stamp().time).ok_or(WriteError::StampExhausted)
        }
        _ => Ok(HlcTime::default()),
    }
}

pub(super) fn check_key(key: &[u8]) -> Result<(), WriteError> {
    record::check_key(key).map_err(|error| match error {
        RecordError::KeyNotUtf8 => WriteError::KeyNotUtf8,
        _ => WriteError::KeyLen(key.len()),
    })
}

pub(super) fn check_ttl(ttl: Option<u32>) -> Result<(), WriteError> {
    match ttl {
        Some(ttl) if !(1..=TTL_SECONDS_MAX).contains(&ttl) => Err(WriteError::Ttl(ttl)),
        _ => Ok(()),
    }
}

pub(super) fn check_content(value: &[u8], content_type: &str) -> Result<(), WriteError> {
    if value.len() > VALUE_LEN_HARD_MAX {
        return Err(WriteError::ValueLen(value.len()));
    }
    if content_type.len() > CONTENT_TYPE_LEN_MAX {
        return Err(WriteError::ContentTypeLen(content_type.len()));
    }
    if !record::is_printable(content_type.as_bytes()) {
        return Err(WriteError::ContentTypeText);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;
    use crate::kv::{Merge, OriginId, StoreConfig};
    use crate::limits::CLOCK_AHEAD_MAX;

    fn merge_stamped(store: &Store, time: HlcTime) {
        let stamp = Stamp { time, origin: OriginId(u64::MAX) };
        let theirs = Record::new(stamp, 1, b"k", Some((b"theirs", None)));
        assert!(matches!(store.merge(&theirs, now(1_000)), Merge::Newer { .. }));
    }

    #[test]
    fn what_may_not_be_written_is_refused_and_changes_nothing() {
        let store = store();
        let long = vec![b'k'; VALUE_LEN_HARD_MAX + 1];
        let long_text = "t".repeat(CONTENT_TYPE_LEN_MAX + 1);
        let put = |key, value, content_type| store.put(now(1), key, value, content_type);
        let n = KEY_LEN_MAX + 1;
        assert_eq!(put(b"", b"", None), Err(WriteError::KeyLen(0)));
        assert_eq!(put(&long[..n], b"", None), Err(WriteError::KeyLen(n)));
        assert_eq!(put(&[0xff], b"", None), Err(WriteError::KeyNotUtf8));
        assert_eq!(put(b"k", &long, None), Err(WriteError::ValueLen(long.len())));
        assert_eq!(put(b"k", b"", Some(&long_text)), Err(WriteError::ContentTypeLen(256)));
        assert_eq!(put(b"k", b"", Some("a\r\nb")), Err(WriteError::ContentTypeText));
        assert_eq!(store.delete(now(1), b""), Err(WriteError::KeyLen(0)));
        assert_eq!(store.stats(), crate::kv::StoreStats::default());
        assert!(put(&long[..KEY_LEN_MAX], &long[1..], Some(&long_text[1..])).is_ok());
    }

    #[test]
    fn a_write_beats_what_the_node_had_seen() {
        let store = store();
        let near = HlcTime::from_millis(50_000);
        merge_stamped(&store, near);
        let ours = store.put(now(1_000), b"k", b"ours", None).expect("room");
        assert!(ours.stamp.time > near);
        assert_eq!(store.get(now(1), b"k").expect("put").value(), Some(&b"ours"[..]));
    }

    #[test]
    fn a_stamp_far_ahead_is_beaten_but_does_not_become_our_time() {
        let store = store();
        let far = HlcTime::from_millis(1_000 + CLOCK_AHEAD_MAX.as_millis() as u64 + 1);
        merge_stamped(&store, far);
        let ours = store.delete(now(1_000), b"k").expect("room");
        assert_eq!(ours.stamp.time, HlcTime(far.0 + 16));
        let other = store.put(now(1_000), b"other", b"", None).expect("room");
        assert!(other.stamp.time < HlcTime::from_millis(1_001));
        assert_eq!(other.dot.seq, 2);
    }

    #[test]
    fn a_write_made_for_another_state_changes_nothing() {
        let store = store();
        let first = store.put_if(now(1), b"k", b"1", None, |old| old.is_none()).expect("absent");
        let before = store.stats();
        let absent = store.put_if(now(1), b"k", b"2", None, |old| old.is_none());
        assert_eq!(absent, Err(WriteError::Unmet));
        assert_eq!(store.delete_if(now(1), b"k", |_| false), Err(WriteError::Unmet));
        assert_eq!(store.stats(), before);
        let is_first = |old: Option<&Record>| old.is_some_and(|old| old.stamp() == first.stamp);
        assert!(store.delete_if(now(1), b"k", is_first).is_ok());
        assert_eq!(store.delete_if(now(1), b"k", is_first), Err(WriteError::Unmet));
    }

    #[test]
    fn the_last_stamp_cannot_be_beaten_and_says_so() {
        let store = store();
        merge_stamped(&store, HlcTime(u64::MAX));
        let before = store.stats();
        assert_eq!(store.delete(now(1_000), b"k"), Err(WriteError::StampExhausted));
        assert_eq!(store.stats(), before);
    }

    #[test]
    fn a_full_store_refuses_growth_and_nothing_else() {
        let len_max = 3 * 34;
        let store = Store::new(StoreConfig { origin: OriginId(1), store_len_max: len_max });
        let full = Err(WriteError::StoreFull { len_max });
        for key in [b"a", b"b", b"c"] {
            store.put(now(1), key, b"1", None).expect("room");
        }
        let before = store.stats();
        assert_eq!(before.bytes, len_max);
        assert_eq!(store.put(now(1), b"a", b"12", None), full);
        assert_eq!(store.put(now(1), b"d", b"", None), full);
        assert_eq!(store.stats(), before);
        store.put(now(1), b"a", b"2", None).expect("no growth");
        store.delete(now(1), b"a").expect("a delete shrinks");
        store.put(now(1), b"b", b"12", None).expect("into what the delete left");
        let len = store.stats().bytes;
        store.delete(now(1), b"d").expect("a delete is always taken");
        assert!(store.stats().bytes > len_max && store.stats().bytes > len);
        assert_eq!(store.put(now(1), b"b", b"123", None), full);
    }
}
