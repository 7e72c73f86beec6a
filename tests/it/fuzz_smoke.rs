//! The bodies of the fuzz targets on their seeds and on random changes of them: what every run of
//! the tests affords. `fuzz/run` gives the same bodies to libFuzzer, with their heap counted.

use crate::fuzz::{Heap, target};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Changed inputs for each target.
const RUNS: usize = 5_000;
/// Longest seed that is changed, in bytes.
const SHORT_LEN_MAX: usize = 5_000;
/// Values that decoders stumble over.
const EDGES: [u8; 12] = [0, 1, 6, 7, 9, 0x7f, 0x80, 0xc1, 0xdc, 0xdf, 0xf4, 0xff];

/// Other tests run beside these in one process, so that nothing can be said of the heap.
struct Uncounted;

impl Heap for Uncounted {
    fn within(&self, _: usize, work: &mut dyn FnMut()) {
        work();
    }
}

/// Shows the input when the body panics.
struct Shown<'a>(&'a str, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.1.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("target {}, input {hex}", self.0);
        }
    }
}

fn smoke(name: &str) {
    let target = target(name);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    let run = |input: &[u8]| {
        let _shown = Shown(name, input);
        (target.run)(input, &Uncounted);
    };
    run(&[]);
    seeds.iter().for_each(|seed| run(seed));
    // Long ones take most of the time and are left to libFuzzer.
    let short: Vec<Vec<u8>> =
        seeds.into_iter().filter(|seed| seed.len() <= SHORT_LEN_MAX).collect();
    let mut rng = StdRng::seed_from_u64(0x0060_551b);
    for _ in 0..RUNS {
        run(&changed(&mut rng, &short));
    }
}

/// A seed with a few changes; now and then with the end of another.
fn changed(rng: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[rng.random_range(0..seeds.len())].clone();
    if rng.random_ratio(1, 4) {
        let other = &seeds[rng.random_range(0..seeds.len())];
        input.truncate(rng.random_range(0..=input.len()));
        input.extend_from_slice(&other[rng.random_range(0..=other.len())..]);
    }
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=input.len());
        let value = if rng.random() { rng.random() } else { EDGES[rng.random_range(0..12)] };
        match rng.random_range(0..5) {
            0 => input.insert(at, value),
            1 => input.truncate(at),
            2 if at < input.len() => drop(input.remove(at)),
            3 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            _ if at < input.len() => input[at] = value,
            _ => input.push(value),
        }
    }
    input
}

#[test]
fn packet() {
    smoke("packet");
}

#[test]
fn message() {
    smoke("message");
}

#[test]
fn lzw() {
    smoke("lzw");
}

#[test]
fn stream() {
    smoke("stream");
}

#[test]
fn push_pull() {
    smoke("push_pull");
}

#[test]
fn keyring() {
    smoke("keyring");
}

#[test]
fn replication() {
    smoke("replication");
}

#[test]
fn record() {
    smoke("record");
}

#[test]
fn head() {
    smoke("head");
}

#[test]
fn chunked() {
    smoke("chunked");
}
