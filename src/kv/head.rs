//! The one thing all writers share: the clock and the log of our own writes.
//!
//! A write's number is its place in the log, so the two are handed out together under one short
//! lock: no gap and no repetition, whatever the threads. A reader who finds a number in the log
//! may look its key up: the writer holds the key's shard until the record is in.

use super::hlc::Hlc;
use super::log::KeyRing;
use super::stats::Counters;
use super::store::Store;
use super::version::{Dot, HlcTime, OriginId, Stamp};
use crate::limits::LOG_OWN_MAX;
use crate::time::WallMillis;

/// Clock and own log, behind one lock.
#[derive(Debug)]
pub(super) struct Head {
    /// Whose writes they are.
    origin: OriginId,
    hlc: Hlc,
    log: KeyRing,
}

/// What is remembered of our own writes after some number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnLog {
    /// Number and key of each, without gaps. Empty when there are none yet.
    Keys(Vec<(u64, Box<[u8]>)>),
    /// The log no longer reaches back that far.
    Forgotten {
        /// Number of the oldest write it still has.
        first: u64,
    },
}

impl Head {
    pub(super) fn new(origin: OriginId) -> Head {
        Head::after(origin, 0)
    }

    /// As after that many writes, none of which is in the log any more.
    pub(super) fn after(origin: OriginId, n_writes: u64) -> Head {
        Head { origin, hlc: Hlc::new(origin), log: KeyRing::new(LOG_OWN_MAX, n_writes + 1) }
    }

    /// Numbers a write of `key` and stamps it no earlier than `floor`.
    pub(super) fn stamp(
        &mut self,
        key: &[u8],
        floor: HlcTime,
        wall: WallMillis,
        counters: &Counters,
    ) -> (Stamp, u64) {
        // One stamp far ahead is beaten for its own key's sake; it does not become our time.
        self.hlc.observe(floor, wall);
        let time = self.hlc.tick(wall).max(floor);
        let seq = self.log.next();
        self.log.push(key);
        counters.head(self.hlc.last(), seq, self.log.len());
        (Stamp { time, origin: self.origin }, seq)
    }

    /// Goes on as another run: its numbers begin anew, its clock goes on. The number of the last
    /// write of the run before.
    pub(super) fn renew(&mut self, origin: OriginId, counters: &Counters) -> u64 {
        let last = self.log.next() - 1;
        let hlc = self.hlc.renewed(origin);
        *self = Head { hlc, ..Head::new(origin) };
        counters.head(self.hlc.last(), 0, 0);
        last
    }

    /// Follows a peer's stamp; true when it is too far ahead for that.
    pub(super) fn observe(&mut self, time: HlcTime, wall: WallMillis, counters: &Counters) -> bool {
        let ahead = self.hlc.observe(time, wall);
        counters.hlc(self.hlc.last());
        ahead
    }
}

impl Store {
    /// Number of our latest write; 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.counters().last_seq()
    }

    /// Keys of up to `limit` of our own writes after number `after`.
    #[must_use]
    pub fn own_log(&self, after: u64, limit: usize) -> OwnLog {
        let from = after.saturating_add(1);
        let copy = {
            let head = self.head().lock();
            let first = head.log.first();
            if from < first {
                return OwnLog::Forgotten { first };
            }
            head.log.copy(from, limit)
        };
        OwnLog::Keys(copy.keys().zip(from..).map(|(key, seq)| (seq, key)).collect())
    }

    /// The key a recent write was about, ours or a merged one, while a log remembers it.
    #[must_use]
    pub fn log_key(&self, dot: Dot) -> Option<Box<[u8]>> {
        if dot.origin == self.origin() {
            self.head().lock().log.key(dot.seq)
        } else {
            self.remote_log().lock().key(dot)
        }
    }

    /// Remembers which key a merged write was about, so that [`log_key`](Store::log_key) can tell
    /// other peers. Forgets the oldest such note when full.
    pub fn note_dot(&self, dot: Dot, key: &[u8]) {
        let mut log = self.remote_log().lock();
        log.push(dot, key);
        self.counters().remote_log(log.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;

    fn keys(log: OwnLog) -> Vec<(u64, Box<[u8]>)> {
        match log {
            OwnLog::Keys(keys) => keys,
            OwnLog::Forgotten { first } => panic!("forgotten before {first}"),
        }
    }

    #[test]
    fn the_own_log_tells_every_write_in_order() {
        let store = store();
        assert_eq!(keys(store.own_log(0, 9)), []);
        for key in [&b"a"[..], b"b", b"a"] {
            store.put(now(1), key, b"", None).expect("room");
        }
        store.delete(now(1), b"b").expect("room");
        let log = keys(store.own_log(1, 2));
        assert_eq!(log, [(2, b"b"[..].into()), (3, b"a"[..].into())]);
        assert_eq!(keys(store.own_log(4, 9)), []);
        assert_eq!(keys(store.own_log(u64::MAX, 9)), []);
        assert_eq!(store.last_seq(), 4);
    }

    #[test]
    fn a_full_own_log_says_where_it_begins() {
        let store = store();
        for _ in 0..LOG_OWN_MAX + 3 {
            store.put(now(1), b"k", b"", None).expect("room");
        }
        assert_eq!(store.own_log(2, 9), OwnLog::Forgotten { first: 4 });
        assert_eq!(keys(store.own_log(3, 1)), [(4, b"k"[..].into())]);
    }

    #[test]
    fn dots_of_both_kinds_are_found() {
        let store = store();
        let ours = store.put(now(1), b"ours", b"", None).expect("room").dot;
        let theirs = Dot { origin: OriginId(99), seq: 1 };
        store.note_dot(theirs, b"theirs");
        assert_eq!(store.log_key(ours).as_deref(), Some(&b"ours"[..]));
        assert_eq!(store.log_key(theirs).as_deref(), Some(&b"theirs"[..]));
        assert_eq!(store.log_key(Dot { seq: 2, ..theirs }), None);
        assert_eq!(store.log_key(Dot { seq: 2, ..ours }), None);
    }
}
