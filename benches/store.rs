//! Question: can the store take all that HTTP and the gossip can bring, at any size?
//!
//! It decides the number of shards, the map inside one, and whether reading, writing and
//! comparing may share locks at all. Two threads beside one show what the locks cost. The memory
//! line decides the layout of a record: 1M keys of 16 B with values of 32 B in at most 130 B each.
//!
//! ```text
//! cargo bench --bench store                    all of it, some minutes
//! cargo bench --bench store -- 'get/'          one group
//! cargo bench --bench store -- --test          once each, as the gate does
//! ```

use criterion::measurement::{Measurement as _, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput};
use gossipykv::kv::{HlcTime, OriginId, Record, Stamp, Store, StoreConfig};
use gossipykv::limits::STORE_SHARDS;
use gossipykv::time::{Now, WallMillis};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

/// As in the program itself, or the memory line would tell nothing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const VALUE: [u8; 32] = [b'v'; 32];
const NOW: Now = Now { instant: gossipykv::time::Instant(0), wall: WallMillis(1_700_000_000_000) };

fn main() {
    {
        // Both are kept until both are measured: memory given back would be taken again unseen.
        let _random = measure_memory("random", random_key);
        let _rising = measure_memory("rising", rising_key);
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for n_keys in SIZES {
        let store = filled(n_keys, random_key);
        points(&mut criterion, &store, n_keys);
        merges(&mut criterion, &store, n_keys);
        lists(&mut criterion, &store, n_keys);
        digests(&mut criterion, &store, n_keys);
    }
    criterion.final_summary();
}

/// One key at a time, as HTTP asks.
fn points(criterion: &mut Criterion, store: &Store, n_keys: u64) {
    measure(criterion, "get", n_keys, |i| {
        black_box(store.get(NOW, &random_key(scattered(i) % n_keys)));
    });
    measure(criterion, "put", n_keys, |i| {
        let key = random_key(scattered(i) % n_keys);
        store.put(NOW, &key, &VALUE, None).expect("no limit");
    });
}

/// One record at a time, read from bytes, as gossip brings them.
fn merges(criterion: &mut Criterion, store: &Store, n_keys: u64) {
    measure(criterion, "merge newer", n_keys, |i| {
        let time = HlcTime(store.stats().hlc.0 + 1);
        let stamp = Stamp { time, origin: OriginId(9) };
        let sent =
            Record::new(stamp, i + 1, &random_key(scattered(i) % n_keys), Some((&VALUE, None)));
        let (record, _) = Record::read(sent.as_bytes()).expect("well formed");
        black_box(store.merge(&record, NOW));
    });
    measure(criterion, "merge equal", n_keys, |i| {
        let here = store.entry(&random_key(scattered(i) % n_keys)).expect("all are here");
        let (record, _) = Record::read(here.as_bytes()).expect("well formed");
        black_box(store.merge(&record, NOW));
    });
}

/// Pages from anywhere in the store.
fn lists(criterion: &mut Criterion, store: &Store, n_keys: u64) {
    for limit in [10, 1_000] {
        measure(criterion, &format!("list {limit}"), n_keys, |i| {
            black_box(store.list(NOW, b"", Some(&random_key(i)), limit));
        });
    }
}

/// What anti-entropy reads each second, and what it reads of a bucket that differs.
fn digests(criterion: &mut Criterion, store: &Store, n_keys: u64) {
    measure(criterion, "digest root", n_keys, |_| {
        black_box(store.root());
    });
    measure(criterion, "digest leaves", n_keys, |i| {
        black_box(store.leaves(i as usize % STORE_SHARDS));
    });
    measure(criterion, "scan leaf", n_keys, |i| {
        let (shard, wanted) = Store::bucket(&random_key(i));
        store.scan_leaves(shard, |leaf, record| {
            if leaf == wanted {
                black_box(record);
            }
        });
    });
}

/// Measures `run`, given a number that differs from call to call, on one thread and on two.
fn measure(criterion: &mut Criterion, name: &str, n_keys: u64, run: impl Fn(u64) + Sync) {
    let mut group = criterion.benchmark_group(name);
    for n_threads in [1, 2] {
        group.throughput(Throughput::Elements(n_threads));
        let id = BenchmarkId::new(format!("{n_threads} threads"), n_keys);
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|n_calls| on_threads(n_threads, n_calls, &run));
        });
    }
    group.finish();
}

/// The time until each of the threads has called `run` that often.
fn on_threads(n_threads: u64, n_calls: u64, run: &(impl Fn(u64) + Sync)) -> Duration {
    let barrier = Barrier::new(n_threads as usize + 1);
    let start = thread::scope(|scope| {
        for thread in 0..n_threads {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                (0..n_calls).for_each(|i| run(i + thread * n_calls));
            });
        }
        // Read first: on few cores this thread may be the last to run again.
        let start = WallTime.start();
        barrier.wait();
        start
    });
    WallTime.end(start)
}

/// Prints what a store of 1M keys adds to the process, all of it, logs included.
fn measure_memory(order: &str, key: fn(u64) -> Key) -> Store {
    let n_keys = 1_000_000;
    let before = resident_bytes();
    let store = filled(n_keys, key);
    let grown = resident_bytes().saturating_sub(before);
    println!(
        "memory: {n_keys} keys of 16 B + 32 B, put in {order} order: {:.1} B each",
        grown as f64 / n_keys as f64
    );
    store
}

/// Resident memory of this process; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

type Key = [u8; 16];

fn filled(n_keys: u64, key: fn(u64) -> Key) -> Store {
    let store = Store::new(StoreConfig { origin: OriginId(1), store_len_max: 0 });
    for i in 0..n_keys {
        store.put(NOW, &key(i), &VALUE, None).expect("no limit");
    }
    store
}

/// The i-th key in order: 16 digits.
fn rising_key(i: u64) -> Key {
    std::array::from_fn(|at| b'0' + (i / 10u64.pow(15 - at as u32) % 10) as u8)
}

/// The i-th key in no order: 16 hex digits.
fn random_key(i: u64) -> Key {
    let bits = scattered(i);
    std::array::from_fn(|at| b"0123456789abcdef"[(bits >> (4 * at)) as usize & 15])
}

/// A number that looks random (the finaliser of SplitMix64).
fn scattered(i: u64) -> u64 {
    let mut bits = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
