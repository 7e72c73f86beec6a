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
//!
//! `GOSSIPYKV_PROGRAM` names another version of the program, to compare with.

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

/// How many runs make a median.
const RUNS: usize = 5;

/// A row of the table: its name, what it takes, and how.
type Row = (&'static str, &'static str, fn(&Scale, &mut Figures));

const ROWS: &[Row] = &[
    ("visible", "a PUT until all three show it", fast::visible),
    ("rate", "PUTs a second, alone and with replicas", fast::rate),
    ("large", "one value of 1 MiB on all", size::large),
    ("bulk", "values of 64 KiB, beside plain TCP", size::bulk),
    ("memory", "bytes a key", size::memory),
    ("join", "a fresh node and a full map", repair::join),
    ("difference", "ten keys of a million", difference::measure),
    ("idle", "traffic when nothing differs", repair::idle),
    ("loss", "visible with packets lost", faults::loss),
    ("partition", "both sides written, then healed", faults::partition),
    ("stopped", "one member stopped under load", faults::stopped),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if size::is_sink(&arguments) {
        return size::sink(&arguments);
    }
    let is_smoke = arguments.iter().any(|argument| argument == "--test");
    if let Some(outcome) = network::enter(&arguments, is_smoke) {
        return outcome;
    }
    let scale = if is_smoke { Scale::smoke() } else { Scale::full() };
    let runs = if is_smoke { 1 } else { value_of(&arguments, "--runs").unwrap_or(RUNS) };
    let is_named = |row: &&Row| arguments.iter().any(|argument| argument == row.0);
    let is_any_named = ROWS.iter().any(|row| is_named(&row));
    for (name, about, measure) in ROWS.iter().filter(|row| !is_any_named || is_named(row)) {
        println!("\n## {name}: {about} ({runs} runs)");
        let mut figures = Figures::new();
        for _ in 0..runs {
            network::count_only();
            measure(&scale, &mut figures);
            figures.end_run();
        }
        figures.print();
    }
    ExitCode::SUCCESS
}

/// The number behind a flag.
fn value_of(arguments: &[String], flag: &str) -> Option<usize> {
    let at = arguments.iter().position(|argument| argument == flag)?;
    Some(arguments.get(at + 1)?.parse().expect("a number of runs"))
}
