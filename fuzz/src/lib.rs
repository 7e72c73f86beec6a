//! What every target shares: the bodies, which the smoke test of `tests/it` runs too, the heap that
//! holds them to their budgets, and the seeds.

use cap::Cap;
use std::alloc::System;
use std::path::{Path, PathBuf};

#[path = "../../tests/it/fuzz/mod.rs"]
pub mod fuzz;
#[path = "../../tests/it/vectors.rs"]
pub mod vectors;

/// Refuses what goes over the limit, which ends the process: a finding like a panic.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

struct Counted;

impl fuzz::Heap for Counted {
    fn within(&self, len_max: usize, work: &mut dyn FnMut()) {
        HEAP.set_limit(HEAP.allocated() + len_max).expect("above what is allocated");
        work();
        HEAP.set_limit(usize::MAX).expect("no limit");
    }
}

/// One execution of a target.
pub fn run(target: &str, data: &[u8]) {
    (fuzz::target(target).run)(data, &Counted);
}

/// Writes the seeds of a target into its corpus, the first folder among the arguments. libFuzzer
/// calls this before it reads the corpus.
pub fn plant(target: &str) {
    let Some(corpus) = std::env::args_os().skip(1).map(PathBuf::from).find(|path| path.is_dir())
    else {
        return;
    };
    for (n, seed) in (fuzz::target(target).seeds)().iter().enumerate() {
        write(&corpus.join(format!("seed-{n:03}")), seed);
    }
}

fn write(path: &Path, seed: &[u8]) {
    if let Err(error) = std::fs::write(path, seed) {
        panic!("cannot write {}: {error}", path.display());
    }
}
