//! Question: does every write reach every member, how soon, and what does it cost?
//!
//! It decides where direct sending ends and rumors begin, how many members a rumor is told to and
//! how often. Whole nodes, in virtual time, on a network in memory: datagrams are sealed, lost by
//! chance, and opened; connections lose nothing and have no bound on bandwidth. Each hop takes 0.1
//! to 0.5 ms, drawn evenly. (The table of memberlist's rules that ours is held against was made
//! with no latency at all.) Membership is silent, so what is counted is replication alone:
//!
//! - `sends`: datagrams and frames that carry the write, to whomever;
//! - `datagrams`, `KiB`: all that is sent from the write until all have it and 300 ms after,
//!   acknowledgements and each member's digest a second with its answer included.
//!
//! Then, by criterion, the processor time of all members together for a write and the 400 ms after
//! it, beside 400 ms without a write.
//!
//! ```text
//! cargo bench --bench fanout                   the table, then the times; some minutes
//! cargo bench --bench fanout -- --test         small and once each, as the gate does
//! ```

mod processor;

use criterion::measurement::Measurement as _;
use criterion::{BenchmarkId, Criterion, SamplingMode};
use gossipykv::kv::Stamp;
use gossipykv::node::io::Input;
use gossipykv::rng::Rng;
use gossipykv::sim::cluster::Cluster;
use gossipykv::sim::settled::{Seat, Setting, settled};
use processor::{ProcessorTime, criterion};
use std::time::Duration;

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Members, and writes measured among them.
const SIZES: [(usize, usize); 5] = [(3, 2_000), (9, 1_000), (30, 500), (100, 200), (1_000, 20)];
const SMOKE_SIZES: [(usize, usize); 2] = [(3, 20), (30, 5)];
const VALUES: [(&str, usize); 3] = [("32 B", 32), ("1 KiB", 1 << 10), ("64 KiB", 64 << 10)];
const LOSSES: [f64; 3] = [0.0, 0.05, 0.25];
const LATENCY: (Duration, Duration) = (Duration::from_micros(100), Duration::from_micros(500));
/// A write that has not reached everybody by then is taken not to have.
const LIMIT: Duration = Duration::from_secs(30);
/// Until a rumor is told no more.
const DYING_DOWN: Duration = Duration::from_millis(300);
const WINDOW: Duration = Duration::from_millis(400);

fn main() {
    let is_smoke = std::env::args().any(|arg| arg == "--test");
    let sizes = if is_smoke { &SMOKE_SIZES[..] } else { &SIZES };
    table(sizes);
    let mut criterion = criterion(10, 300, 2_000);
    for (n_members, _) in sizes {
        processor_time(&mut criterion, *n_members);
    }
    criterion.final_summary();
}

fn table(sizes: &[(usize, usize)]) {
    println!(
        "| members | value | loss | writes | reached all | p50 / p99 ms to the last | sends | \
         datagrams | KiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for &(n_members, n_writes) in sizes {
        for (name, value_len) in VALUES {
            for loss in LOSSES {
                let mut bench = Bench::new(n_members, value_len, loss);
                let row = bench.row(n_writes);
                println!("| {n_members} | {name} | {:.0} % | {row}", 100.0 * loss);
            }
        }
    }
}

fn processor_time(criterion: &mut Criterion<ProcessorTime>, n_members: usize) {
    let mut group = criterion.benchmark_group(format!("{n_members} members"));
    group.sampling_mode(SamplingMode::Flat);
    for (name, value_len) in VALUES {
        let mut bench = Bench::new(n_members, value_len, 0.0);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|n_writes| bench.timed(n_writes, true));
        });
    }
    let mut bench = Bench::new(n_members, 0, 0.0);
    group.bench_function("no write", |bencher| {
        bencher.iter_custom(|n_windows| bench.timed(n_windows, false));
    });
    group.finish();
}

struct Bench {
    cluster: Cluster,
    seats: Vec<Seat>,
    value: Vec<u8>,
    rng: Rng,
}

impl Bench {
    fn new(n_members: usize, value_len: usize, loss: f64) -> Bench {
        let seats: Vec<Seat> = (0..n_members).map(Seat::empty).collect();
        let setting = Setting { latency: LATENCY, loss, rng_seed: 1 };
        let cluster = settled(&seats, setting);
        Bench { cluster, seats, value: vec![b'v'; value_len], rng: Rng::from_seed(2) }
    }

    /// The last cells of one row of the table.
    fn row(&mut self, n_writes: usize) -> String {
        let mut times = Vec::new();
        let (mut sends, mut datagrams, mut bytes) = (0, 0, 0);
        for _ in 0..n_writes {
            let before = self.cluster.counts.clone();
            times.extend(self.write_to_all());
            self.cluster.run_until(self.cluster.now + DYING_DOWN);
            let after = &self.cluster.counts;
            sends += after.pushes - before.pushes;
            datagrams += after.datagrams - before.datagrams;
            bytes += after.datagram_len + after.stream_len - before.datagram_len;
            bytes -= before.stream_len;
            // Wherever the digests are.
            let pause = self.rng.duration_below(Duration::from_secs(1));
            self.cluster.run_until(self.cluster.now + pause);
        }
        times.sort_unstable();
        let a_write = |total: u64| total as f64 / n_writes as f64;
        format!(
            "{n_writes} | {:.1} % | {:.1} / {:.1} | {:.1} | {:.1} | {:.1} |",
            100.0 * a_write(times.len() as u64),
            percentile(&times, 50),
            percentile(&times, 99),
            a_write(sends),
            a_write(datagrams),
            a_write(bytes) / 1024.0,
        )
    }

    /// Writes on some member; how long until all have it.
    fn write_to_all(&mut self) -> Option<Duration> {
        let (began, (writer, stamp)) = (self.cluster.now, self.write());
        let mut waiting = vec![true; self.seats.len()];
        waiting[writer] = false;
        let mut n_waiting = self.seats.len() - 1;
        while let Some(host) = self.cluster.step(began + LIMIT) {
            if waiting[host] && has(&self.seats[host], stamp) {
                waiting[host] = false;
                n_waiting -= 1;
            }
            if n_waiting == 0 {
                return Some(self.cluster.now.since(began));
            }
        }
        None
    }

    fn write(&mut self) -> (usize, Stamp) {
        let writer = self.rng.below(self.seats.len());
        let now = self.cluster.now_at(writer);
        let written = self.seats[writer].store.put(now, KEY, &self.value, None).expect("no limit");
        self.cluster.input(writer, Input::Written);
        (writer, written.stamp)
    }

    /// Processor time of so many windows, each begun with a write or none.
    fn timed(&mut self, n_windows: u64, with_write: bool) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..n_windows {
            let start = ProcessorTime.start();
            let stamp = with_write.then(|| self.write().1);
            self.cluster.run_until(self.cluster.now + WINDOW);
            total += ProcessorTime.end(start);
            let reached = |stamp| self.seats.iter().filter(|seat| has(seat, stamp)).count();
            // What a rumor has missed waits for the next digest.
            assert!(stamp.is_none_or(|stamp| reached(stamp) * 10 > self.seats.len() * 9));
        }
        total
    }
}

const KEY: &[u8] = b"key";

fn has(seat: &Seat, stamp: Stamp) -> bool {
    seat.store.entry(KEY).is_some_and(|record| record.stamp() >= stamp)
}

/// In milliseconds; 0 of none.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}
