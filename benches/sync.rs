//! Question: does making two stores equal cost what differs, or what they hold?
//!
//! It decides the size of the buckets and what a digest says. Two whole nodes, in virtual time, on
//! a network in memory: each hop takes 0.5 ms, so a round trip is 1 ms; connections have no bound
//! on bandwidth. Keys of 16 B, values of 32 B. Three ways to differ:
//!
//! - by missed writes: the network is cut, one node writes, some seconds pass, and the network
//!   is whole again. The version vectors show what is missing;
//! - by a fault: records vanish from the stores, half of them from each, that both vectors cover.
//!   The safety net finds them, by the bucket hashes;
//! - one node is empty: it joins, and copies all.
//!
//! `noticed` is the time from the heal, or the fault, to the first packet (missed writes) or the
//! first frame of the comparison (fault); `equal` the time from then. `bytes` is all that was sent
//! by both, until 20 ms after.
//!
//! What the table of costs in the literature and on paper promises for a million keys of which 100
//! differ, their names found: 0.5 KB by vectors, 170 KB of leaf hashes and 36 KB of names by a
//! two-level bucket hash, 150 MB by exchanging everything. The bar here: 10 of a million differ,
//! and are equal with at most 64 KiB in 300 ms.
//!
//! ```text
//! cargo bench --bench sync                     the tables, then processor times; some minutes
//! cargo bench --bench sync -- --test           small and once each, as the gate does
//! ```

mod processor;

use criterion::measurement::Measurement as _;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use gossipykv::kv::Store;
use gossipykv::node::command::Health;
use gossipykv::node::io::Input;
use gossipykv::rng::Rng;
use gossipykv::sim::cluster::{Cluster, Counts};
use gossipykv::sim::settled::{Seat, Setting, is_equal, settled};
use gossipykv::time::{Instant, Now, WallMillis};
use processor::{ProcessorTime, criterion};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const SMOKE_SIZES: [u64; 1] = [1_000];
const DIFFERING: [u64; 4] = [1, 10, 100, 1_000];
const VALUE: [u8; 32] = [b'v'; 32];
const HOP: Duration = Duration::from_micros(500);
/// Runs of which the table shows the median.
const RUNS: usize = 9;
const LIMIT: Duration = Duration::from_secs(60);
const CUT: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_millis(20);
/// When the stores are filled, on both clocks: before any simulation begins.
const FILLED: Now = Now { instant: Instant(0), wall: WallMillis(1_700_000_000_000) };

fn main() {
    let is_smoke = std::env::args().any(|arg| arg == "--test");
    let (sizes, runs) = if is_smoke { (&SMOKE_SIZES[..], 1) } else { (&SIZES[..], RUNS) };
    let mut criterion = criterion(10, 300, 1_000);
    let mut pairs: Vec<Pair> = sizes.iter().map(|n_keys| Pair::joined(*n_keys)).collect();
    println!("| keys | way | differing | noticed ms | equal ms | round trips | bytes |");
    println!("|---|---|---|---|---|---|---|");
    for pair in &mut pairs {
        pair.rows(runs);
    }
    for pair in &mut pairs {
        pair.idle();
        processor_time(&mut criterion, pair);
    }
    criterion.final_summary();
}

fn processor_time(criterion: &mut Criterion<ProcessorTime>, pair: &mut Pair) {
    for way in [Way::Missed, Way::Fault] {
        let mut group = criterion.benchmark_group(format!("{way:?}, {} keys", pair.n_keys));
        for n_differing in DIFFERING {
            group.throughput(Throughput::Elements(n_differing));
            group.bench_function(BenchmarkId::from_parameter(n_differing), |bencher| {
                bencher.iter_custom(|n_repairs| {
                    (0..n_repairs).map(|_| pair.repair(way, n_differing).busy).sum()
                });
            });
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("join");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(pair.n_keys));
    group.bench_function(BenchmarkId::from_parameter(pair.n_keys), |bencher| {
        bencher.iter_custom(|n_joins| (0..n_joins).map(|_| pair.join_again().1).sum());
    });
    group.finish();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Missed,
    Fault,
}

/// What a repair took.
struct Repair {
    noticed: Duration,
    equal: Duration,
    bytes: u64,
    /// Processor time of both.
    busy: Duration,
}

/// Two members that hold the same.
struct Pair {
    cluster: Cluster,
    stores: [Arc<Store>; 2],
    n_keys: u64,
    rng: Rng,
}

impl Pair {
    /// One member with that many keys, and one that has joined it.
    fn joined(n_keys: u64) -> Pair {
        let full = Seat::empty(0);
        for i in 0..n_keys {
            full.store.put(FILLED, &key(i), &VALUE, None).expect("no limit");
        }
        let (cluster, _) = join(&full);
        let stores = [0, 1].map(|at| cluster.hosts[at].store.clone().expect("both are up"));
        println!("{n_keys} keys copied by a member that joins: {} bytes", sent(&cluster.counts));
        Pair { cluster, stores, n_keys, rng: Rng::from_seed(3) }
    }

    fn join_again(&self) -> (Cluster, Duration) {
        join(&Seat { store: Arc::clone(&self.stores[0]), joins: false })
    }

    fn rows(&mut self, runs: usize) {
        for way in [Way::Missed, Way::Fault] {
            for n_differing in DIFFERING {
                let mut repairs: Vec<Repair> =
                    (0..runs).map(|_| self.repair(way, n_differing)).collect();
                let bytes = median(&mut repairs, |repair| repair.bytes);
                let noticed = median(&mut repairs, |repair| repair.noticed).as_secs_f64() * 1e3;
                let equal = median(&mut repairs, |repair| repair.equal);
                let round_trips = equal.as_secs_f64() / (2 * HOP).as_secs_f64();
                println!(
                    "| {} | {way:?} | {n_differing} | {noticed:.1} | {:.1} | {round_trips:.1} | \
                     {bytes} |",
                    self.n_keys,
                    equal.as_secs_f64() * 1e3,
                );
            }
        }
    }

    /// Prints what two nodes say to each other when there is nothing to say.
    fn idle(&mut self) {
        let (before, seconds) = (sent(&self.cluster.counts), 60);
        self.cluster.run_until(self.cluster.now + Duration::from_secs(seconds));
        let bytes = sent(&self.cluster.counts) - before;
        println!("{} keys, nothing differs: {} B/s a node", self.n_keys, bytes / seconds / 2);
    }

    /// Makes the two differ and waits until they are equal again.
    fn repair(&mut self, way: Way, n_differing: u64) -> Repair {
        // Wherever the digests are.
        let pause = self.rng.duration_below(Duration::from_secs(1));
        self.cluster.run_until(self.cluster.now + pause);
        match way {
            Way::Missed => self.miss_writes(n_differing),
            Way::Fault => self.lose_records(n_differing),
        }
        assert!(!is_equal(&self.cluster), "there is something to repair");
        let (before, began) = (self.cluster.counts.clone(), self.cluster.now);
        let mut noticed = None;
        let start = ProcessorTime.start();
        while self.cluster.step(began + LIMIT).is_some() {
            let counts = &self.cluster.counts;
            let is_news = match way {
                Way::Missed => sent(counts) > sent(&before),
                Way::Fault => counts.stream_len > before.stream_len,
            };
            if is_news && noticed.is_none() {
                noticed = Some(self.cluster.now);
            }
            if is_equal(&self.cluster) {
                break;
            }
        }
        let busy = ProcessorTime.end(start);
        assert!(is_equal(&self.cluster), "nothing was repaired");
        let (noticed, equal) = (noticed.unwrap_or(began), self.cluster.now);
        self.cluster.run_until(equal + AFTER);
        Repair {
            noticed: noticed.since(began),
            equal: equal.since(noticed),
            bytes: sent(&self.cluster.counts) - sent(&before),
            busy,
        }
    }

    /// The first writes while it cannot reach the other.
    fn miss_writes(&mut self, n_writes: u64) {
        let [a, b] = [0, 1].map(|at: usize| self.cluster.hosts[at].addr.ip());
        self.cluster.network.block(self.cluster.now, a, b);
        self.cluster.network.block(self.cluster.now, b, a);
        for key in self.keys(n_writes) {
            self.stores[0].put(self.cluster.now_at(0), &key, &VALUE, None).expect("no limit");
            self.cluster.input(0, Input::Written);
            // Few enough in a flush to leave as datagrams, which the cut loses; a connection would
            // hold them until the heal.
            self.cluster.run_until(self.cluster.now + Duration::from_micros(20));
        }
        let rest = self.rng.duration_below(Duration::from_secs(1));
        self.cluster.run_until(self.cluster.now + CUT + rest);
        self.cluster.network.heal(self.cluster.now);
    }

    /// Records that both cover vanish, from one or the other.
    fn lose_records(&mut self, n_records: u64) {
        for (at, key) in self.keys(n_records).iter().enumerate() {
            let store = &self.stores[at % 2];
            let record = store.entry(key).expect("all are here");
            assert!(store.remove_exact(key, record.stamp()));
        }
    }

    /// So many different keys that are there.
    fn keys(&mut self, n: u64) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        while (keys.len() as u64) < n.min(self.n_keys) {
            keys.insert(key(self.rng.next_u64() % self.n_keys));
        }
        keys
    }
}

/// An empty member joins a full one; the processor time of both.
fn join(full: &Seat) -> (Cluster, Duration) {
    let seats = [full.clone(), Seat { joins: true, ..Seat::empty(1) }];
    let start = ProcessorTime.start();
    let mut cluster = settled(&seats, Setting { latency: (HOP, HOP), loss: 0.0, rng_seed: 1 });
    let is_ready =
        |cluster: &Cluster| cluster.hosts[1].node().is_some_and(|node| node.health() == Health::Ok);
    let give_up = cluster.now + LIMIT;
    while !is_ready(&cluster) && cluster.now < give_up {
        cluster.run_until(cluster.now + AFTER);
    }
    let busy = ProcessorTime.end(start);
    assert!(is_ready(&cluster));
    assert!(is_equal(&cluster));
    (cluster, busy)
}

fn sent(counts: &Counts) -> u64 {
    counts.datagram_len + counts.stream_len
}

fn median<T: Ord + Copy>(repairs: &mut [Repair], figure: impl Fn(&Repair) -> T) -> T {
    repairs.sort_by_key(&figure);
    figure(&repairs[repairs.len() / 2])
}

type Key = [u8; 16];

/// The i-th key, in no order: 16 hex digits.
fn key(i: u64) -> Key {
    // The finaliser of SplitMix64.
    let mut bits = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    std::array::from_fn(|at| b"0123456789abcdef"[(bits >> (4 * at)) as usize & 15])
}
