//! Question: what does a user of a real cluster see, in time, bytes and memory?
//!
//! Processes of the release program on loopback, with the load generator on the same cores: every
//! row of `docs/benchmarks.md`. All of it runs in a network namespace of its own, so that ports are
//! free and packets can be counted, lost and cut; that takes root, `unshare` and `nft`.
//!
//! ```text
//! cargo bench --bench cluster                    every row, each several times, medians
//! cargo bench --bench cluster -- visible join    these rows
//! cargo bench --bench cluster -- --runs 1        each once
//! cargo bench --bench cluster -- --test          each once and small, to see that it runs
//! ```

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod agent;
mod client;
mod difference;
mod fast;
mod faults;
mod figures;
mod load;
mod network;
mod repair;
mod size;

use figures::{Figures, Scale};
use std::process::ExitCode;

/// A row of the table: its name, what it takes, and how many runs make a median of it.
struct Row {
    name: &'static str,
    about: &'static str,
    runs: usize,
    measure: fn(&Scale, &mut Figures),
}

const ROWS: &[Row] = &[
    Row {
        name: "visible",
        about: "a PUT until all three show it",
        runs: 5,
        measure: fast::visible,
    },
    Row {
        name: "rate",
        about: "PUTs a second, alone and with replicas",
        runs: 5,
        measure: fast::rate,
    },
    Row { name: "large", about: "one value of 1 MiB on all", runs: 5, measure: size::large },
    Row { name: "bulk", about: "values of 64 KiB, beside plain TCP", runs: 5, measure: size::bulk },
    Row { name: "memory", about: "bytes a key", runs: 5, measure: size::memory },
    Row { name: "join", about: "a fresh node and a full map", runs: 5, measure: repair::join },
    Row {
        name: "difference",
        about: "ten keys of a million",
        runs: 5,
        measure: difference::measure,
    },
    Row { name: "idle", about: "traffic when nothing differs", runs: 5, measure: repair::idle },
    Row { name: "loss", about: "visible with packets lost", runs: 5, measure: faults::loss },
    Row {
        name: "partition",
        about: "both sides written, then healed",
        runs: 5,
        measure: faults::partition,
    },
    Row {
        name: "stopped",
        about: "one member stopped under load",
        runs: 5,
        measure: faults::stopped,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if size::is_sink(&arguments) {
        return size::sink();
    }
    let is_smoke = arguments.iter().any(|argument| argument == "--test");
    if let Some(outcome) = network::enter(&arguments, is_smoke) {
        return outcome;
    }
    let scale = if is_smoke { Scale::smoke() } else { Scale::full() };
    let runs = value_of(&arguments, "--runs");
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let is_wanted = |row: &Row| {
        let named = |name: &&String| name.as_str() == row.name;
        !wanted.iter().any(|name| ROWS.iter().any(|row| named_row(name, row)))
            || wanted.iter().any(named)
    };
    for row in ROWS.iter().filter(|row| is_wanted(row)) {
        let runs = if is_smoke { 1 } else { runs.unwrap_or(row.runs) };
        println!("\n## {}: {} ({runs} runs)", row.name, row.about);
        let mut figures = Figures::new();
        for _ in 0..runs {
            (row.measure)(&scale, &mut figures);
            figures.end_run();
        }
        figures.print();
    }
    ExitCode::SUCCESS
}

fn named_row(name: &str, row: &Row) -> bool {
    name == row.name
}

/// The number behind a flag.
fn value_of(arguments: &[String], flag: &str) -> Option<usize> {
    let at = arguments.iter().position(|argument| argument == flag)?;
    Some(arguments.get(at + 1)?.parse().expect("a number of runs"))
}
