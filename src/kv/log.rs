//! The keys that recent writes were about: what a peer that names a write's number is served by.
//!
//! Both logs are bounded twice, in entries and in bytes of keys; the oldest are forgotten first. A
//! forgotten write is no loss: its key is in the store and found by comparing hashes.

use super::version::Dot;
use crate::limits::{LOG_KEY_BYTES_MAX, LOG_REMOTE_MAX};
use std::collections::{BTreeMap, VecDeque};

/// Keys numbered without gaps, the oldest forgotten first.
///
/// ```text
/// bytes:  | key first | key first+1 | ...        ends: running byte counts, one a key
/// ```
///
/// Adding one costs no allocation but the rings' own growth, so it is short enough for a lock that
/// every writer passes.
#[derive(Debug)]
pub(super) struct KeyRing {
    n_max: usize,
    bytes: VecDeque<u8>,
    /// Where each key ends, counting from the first byte ever added.
    ends: VecDeque<u64>,
    /// Where the oldest key remembered begins, on the same count.
    start: u64,
    /// Number of the oldest key remembered, or of the next one when there is none.
    first: u64,
}

impl KeyRing {
    /// A ring for `n_max` keys and [`LOG_KEY_BYTES_MAX`] bytes of them, numbered from `first`.
    pub(super) fn new(n_max: usize, first: u64) -> KeyRing {
        KeyRing { n_max, bytes: VecDeque::new(), ends: VecDeque::new(), start: 0, first }
    }

    /// Adds a key under the next number, forgetting old ones for room.
    pub(super) fn push(&mut self, key: &[u8]) {
        while self.ends.len() >= self.n_max || self.bytes.len() + key.len() > LOG_KEY_BYTES_MAX {
            if !self.forget_first() {
                break;
            }
        }
        self.bytes.extend(key);
        self.ends.push_back(self.start + self.bytes.len() as u64);
    }

    /// Number of the oldest key remembered.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Number the next key will have.
    pub(super) fn next(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// Keys remembered.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The key with this number, while it is remembered.
    pub(super) fn key(&self, number: u64) -> Option<Box<[u8]>> {
        let found = self.copy(number, 1);
        found.ends.first().map(|_| found.bytes.into())
    }

    /// Copies up to `limit` keys from number `from` on in one piece, to be taken apart without a
    /// lock. Empty when `from` is not remembered.
    pub(super) fn copy(&self, from: u64, limit: usize) -> KeyCopy {
        let skip = from.checked_sub(self.first).map_or(usize::MAX, |skip| skip as usize);
        let n = self.ends.len().saturating_sub(skip).min(limit);
        if n == 0 {
            return KeyCopy::default();
        }
        let begin = skip.checked_sub(1).map_or(self.start, |before| self.ends[before]);
        let offset = |end: u64| (end - self.start) as usize;
        let range = offset(begin)..offset(self.ends[skip + n - 1]);
        let ends = self.ends.range(skip..skip + n).map(|end| (end - begin) as usize).collect();
        KeyCopy { bytes: self.copy_bytes(range), ends }
    }

    fn copy_bytes(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        let (front, back) = self.bytes.as_slices();
        let cut = |at: usize| at.min(front.len());
        let mut bytes = Vec::with_capacity(range.len());
        bytes.extend_from_slice(&front[cut(range.start)..cut(range.end)]);
        let past = |at: usize| at.saturating_sub(front.len());
        bytes.extend_from_slice(&back[past(range.start)..past(range.end)]);
        bytes
    }

    /// False when there was nothing to forget.
    fn forget_first(&mut self) -> bool {
        let Some(end) = self.ends.pop_front() else { return false };
        self.bytes.drain(..(end - self.start) as usize);
        self.start = end;
        self.first += 1;
        true
    }
}

/// Keys copied out of a ring.
#[derive(Debug, Default)]
pub(super) struct KeyCopy {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyCopy {
    /// The keys one by one.
    pub(super) fn keys(&self) -> impl Iterator<Item = Box<[u8]>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes[start..*end].into())
    }
}

/// Keys of recent writes of other origins, found by dot.
#[derive(Debug)]
pub(super) struct RemoteLog {
    keys: KeyRing,
    /// The dots of `keys`, in their order.
    dots: VecDeque<Dot>,
    numbers: BTreeMap<Dot, u64>,
}

impl RemoteLog {
    /// A log of nothing, for [`LOG_REMOTE_MAX`] writes.
    pub(super) fn new() -> RemoteLog {
        let (dots, numbers) = (VecDeque::new(), BTreeMap::new());
        RemoteLog { keys: KeyRing::new(LOG_REMOTE_MAX, 0), dots, numbers }
    }

    /// Remembers which key a write was about.
    pub(super) fn push(&mut self, dot: Dot, key: &[u8]) {
        if self.numbers.contains_key(&dot) {
            return;
        }
        self.numbers.insert(dot, self.keys.next());
        self.dots.push_back(dot);
        self.keys.push(key);
        while self.dots.len() > self.keys.len() {
            if let Some(forgotten) = self.dots.pop_front() {
                self.numbers.remove(&forgotten);
            }
        }
    }

    /// The key of a write, while it is remembered.
    pub(super) fn key(&self, dot: Dot) -> Option<Box<[u8]>> {
        self.keys.key(*self.numbers.get(&dot)?)
    }

    /// Writes remembered.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::version::OriginId;
    use crate::limits::KEY_LEN_MAX;

    fn copied(ring: &KeyRing, from: u64, limit: usize) -> Vec<String> {
        let copy = ring.copy(from, limit);
        copy.keys().map(|key| String::from_utf8_lossy(&key).into_owned()).collect()
    }

    #[test]
    fn a_full_ring_forgets_the_oldest_and_keeps_the_numbers() {
        let mut ring = KeyRing::new(3, 1);
        for key in ["a", "bb", "ccc", "dddd", "eeeee"] {
            ring.push(key.as_bytes());
        }
        assert_eq!((ring.first(), ring.next(), ring.len()), (3, 6, 3));
        assert_eq!(copied(&ring, 3, 9), ["ccc", "dddd", "eeeee"]);
        assert_eq!(copied(&ring, 4, 1), ["dddd"]);
        assert_eq!(ring.key(5).as_deref(), Some(&b"eeeee"[..]));
        for number in [0, 2, 6, u64::MAX] {
            assert_eq!(ring.key(number), None, "{number}");
        }
    }

    #[test]
    fn copies_are_right_wherever_the_ring_wraps() {
        let mut ring = KeyRing::new(7, 1);
        let key = |number: u64| format!("{number:0width$}", width = 1 + number as usize % 5);
        for number in 1..500 {
            ring.push(key(number).as_bytes());
            let expected: Vec<String> = (ring.first()..=number).map(key).collect();
            assert_eq!(copied(&ring, ring.first(), 9), expected);
        }
    }

    #[test]
    fn bytes_of_keys_are_bounded_too() {
        let mut ring = KeyRing::new(usize::MAX, 1);
        for _ in 0..LOG_KEY_BYTES_MAX / KEY_LEN_MAX + 10 {
            ring.push(&[b'k'; KEY_LEN_MAX]);
        }
        assert_eq!(ring.len(), LOG_KEY_BYTES_MAX / KEY_LEN_MAX);
        assert_eq!(ring.first(), 11);
    }

    #[test]
    fn the_remote_log_forgets_dots_with_their_keys() {
        let mut log = RemoteLog::new();
        let dot = |seq| Dot { origin: OriginId(9), seq };
        for seq in 1..=LOG_REMOTE_MAX as u64 + 2 {
            log.push(dot(seq), &seq.to_be_bytes());
            log.push(dot(seq), b"known already");
        }
        assert_eq!((log.len(), log.numbers.len()), (LOG_REMOTE_MAX, LOG_REMOTE_MAX));
        assert_eq!(log.key(dot(2)), None);
        assert_eq!(log.key(dot(3)).as_deref(), Some(&3u64.to_be_bytes()[..]));
    }
}
