//! The store under several threads at once.

use gossipykv::kv::{
    Dot, HlcTime, Merge, OriginId, OwnLog, Record, Stamp, Store, StoreConfig, Written,
};
use gossipykv::time::{Now, WallMillis};
use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

const WRITES_PER_THREAD: u64 = 20_000;
const N_KEYS: u64 = 64;

fn now(wall_ms: u64) -> Now {
    Now { wall: WallMillis(wall_ms), ..Now::default() }
}

fn store(store_len_max: u64) -> Store {
    Store::new(StoreConfig { origin: OriginId(1), store_len_max })
}

fn key(i: u64) -> Vec<u8> {
    format!("key/{:02}", i % N_KEYS).into_bytes()
}

/// Puts and deletes over keys that the other threads write too.
fn write(store: &Store, thread: u64) -> Vec<(Vec<u8>, Written)> {
    let one = |i: u64| {
        let key = key(i * (2 * thread + 1));
        let written = if i.is_multiple_of(5) {
            store.delete(now(i / 7), &key)
        } else {
            store.put(now(i / 7), &key, &i.to_be_bytes(), None)
        };
        (key, written.expect("room"))
    };
    (0..WRITES_PER_THREAD).map(one).collect()
}

/// Follows the own log as replication does, until all is read once the writers are finished: every
/// number once, in order, and found in the store under the key the log told.
fn follow(store: &Store, finished: impl Fn() -> bool) -> BTreeMap<u64, (Vec<u8>, Stamp)> {
    let mut seen = BTreeMap::new();
    loop {
        let last_round = finished();
        let after = seen.len() as u64;
        let OwnLog::Keys(keys) = store.own_log(after, 500) else { panic!("{after} forgotten") };
        assert!(keys.len() <= 500);
        if last_round && keys.is_empty() {
            return seen;
        }
        for (i, (seq, key)) in (1..).zip(keys) {
            assert_eq!(seq, after + i);
            let entry = store.entry(&key).expect("in the log, so in the store");
            assert!(entry.dot().seq >= seq);
            seen.insert(seq, (key.into(), entry.stamp()));
        }
    }
}

#[test]
fn numbers_have_no_gaps_and_the_log_never_runs_ahead_of_the_store() {
    let store = store(0);
    let start = Barrier::new(3);
    let (written, followed) = thread::scope(|scope| {
        let writer = |thread| {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                write(store, thread)
            })
        };
        let writers = [writer(0), writer(1)];
        start.wait();
        let followed = follow(&store, || writers.iter().all(|writer| writer.is_finished()));
        (writers.map(|writer| writer.join().expect("a writer")), followed)
    });
    assert_eq!(store.last_seq(), 2 * WRITES_PER_THREAD);
    let mut stamps = BTreeMap::new();
    for thread in &written {
        assert!(thread.is_sorted_by(|(_, a), (_, b)| a.stamp < b.stamp && a.dot < b.dot));
        for (key, Written { stamp, dot: Dot { seq, .. } }) in thread {
            let (logged, entry) = &followed[seq];
            assert_eq!(logged, key);
            assert!(entry >= stamp, "{seq}: {entry} before {stamp}");
            assert_eq!(stamps.insert(*seq, *stamp), None, "{seq} twice");
        }
    }
    assert_eq!(stamps.len() as u64, 2 * WRITES_PER_THREAD);
    assert!(stamps.values().is_sorted_by(|a, b| a < b), "numbers and stamps rise together");
}

#[test]
fn readers_see_whole_records_and_pages_in_order_while_others_write() {
    let store = store(0);
    let (start, n_keys) = (Barrier::new(2), 500);
    let put = |i: u64, round: u64| {
        let value = [round.to_be_bytes(), round.to_be_bytes()].concat();
        store.put(now(round), format!("{i:03}").as_bytes(), &value, None).expect("room");
    };
    (0..n_keys).for_each(|i| put(i, 0));
    let mut rounds = vec![0; n_keys as usize];
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            start.wait();
            (1..40).for_each(|round| (0..n_keys).for_each(|i| put(i, round)));
        });
        start.wait();
        let mut last_round = false;
        while !last_round {
            last_round = writer.is_finished();
            let page = store.list(now(1), b"", None, 1_000);
            assert_eq!((page.items.len() as u64, page.next), (n_keys, None));
            assert!(page.items.is_sorted_by(|a, b| a.key() < b.key()));
            for (last, item) in rounds.iter_mut().zip(&page.items) {
                let (left, right) = item.value().expect("live").split_at(8);
                assert_eq!(left, right, "a torn value");
                let round = u64::from_be_bytes(left.try_into().expect("8 bytes"));
                assert!(round >= *last, "a version went back");
                *last = round;
            }
        }
    });
    assert!(rounds.iter().all(|round| *round == 39));
}

#[test]
fn counts_are_exact_and_the_limit_holds_when_writers_and_merges_meet() {
    let len_max = N_KEYS * 70;
    let store = store(len_max);
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for thread in 0..2u64 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                for i in 0..WRITES_PER_THREAD {
                    let (key, value) = (key(i * (2 * thread + 1)), vec![0; i as usize % 64]);
                    let stamp = Stamp { time: HlcTime(i << 16), origin: OriginId(2 + thread) };
                    // A full store refuses some of the puts; that is the point.
                    let _ = match i % 4 {
                        0 | 1 => store.put(now(i), &key, &value, None).is_ok(),
                        2 => store.delete(now(i), &key).is_ok(),
                        _ => {
                            store.merge(&Record::new(stamp, i, &key, None), now(i)) != Merge::Stale
                        }
                    };
                    assert!(store.stats().bytes <= len_max + 2 * N_KEYS * 38);
                }
            });
        }
    });
    let (mut n_live, mut n_tombstones, mut bytes) = (0, 0, 0);
    for i in 0..N_KEYS {
        let Some(entry) = store.entry(&key(i)) else { continue };
        bytes += entry.as_bytes().len() as u64;
        if entry.is_tombstone() { n_tombstones += 1 } else { n_live += 1 }
    }
    let stats = store.stats();
    assert_eq!((stats.n_live, stats.n_tombstones, stats.bytes), (n_live, n_tombstones, bytes));
    let again = self::store(0);
    for i in 0..N_KEYS {
        if let Some(entry) = store.entry(&key(i)) {
            again.merge(&entry, now(0));
        }
    }
    assert_eq!(again.shard_roots(), store.shard_roots());
}
