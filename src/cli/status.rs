//! One line a minute in the log that says how the node stands, for whoever has its log and nothing
//! else: on ECS nobody reaches the `/metrics` of each task, and alarms are made of these lines.
//!
//! The fields are a format that others read (docs/runbook.md lists them, and the filters of
//! `cloudformation/service.yaml` name them): one may be added, none renamed. What is counted or
//! judged is a number, since that is what such a filter can take out of a line.

use crate::node::command::{Bridge, Command, Health, Reply, Sample};
use crate::runtime::process;
use crate::runtime::threads::{self, Fault};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What the lines are logged as.
pub(super) const TARGET: &str = module_path!();
/// How long the node may take to tell its numbers; without them the line says what it can.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes a line each `interval`, from one interval on until the process ends.
///
/// # Errors
/// That the system gives no thread.
pub(super) fn start(
    node: String,
    bridge: Arc<dyn Bridge>,
    interval: Duration,
    fault: &Fault,
) -> io::Result<()> {
    let body = move || {
        let mut told = Totals::default();
        loop {
            std::thread::sleep(interval);
            told = write(&node, &*bridge, told);
        }
    };
    threads::spawn("status", fault, body).map(drop)
}

/// What only counts up; a line tells how much has come since the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Totals {
    clock_ahead: u64,
    damaged: u64,
}

/// What the node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Numbers {
    alive: u64,
    suspect: u64,
    dead: u64,
    lag: u64,
    gaps: u64,
    totals: Totals,
}

impl Numbers {
    fn of(samples: &[Sample]) -> Numbers {
        let values = |name: &'static str| samples.iter().filter(move |sample| sample.name == name);
        let one = |name| values(name).map(|sample| sample.value as u64).next().unwrap_or(0);
        let members = |state: &str| {
            let is_of = |sample: &&Sample| sample.labels.iter().any(|(_, value)| value == state);
            values("members").find(is_of).map_or(0, |sample| sample.value as u64)
        };
        Numbers {
            alive: members("alive"),
            suspect: members("suspect"),
            dead: members("dead"),
            lag: values("peer_lag_writes").map(|sample| sample.value as u64).max().unwrap_or(0),
            gaps: one("gaps_open"),
            totals: Totals {
                clock_ahead: one("clock_ahead_total"),
                damaged: one("records_damaged_total"),
            },
        }
    }
}

/// Writes one line; `told` are the totals as of the one before.
fn write(node: &str, bridge: &dyn Bridge, told: Totals) -> Totals {
    let numbers = match super::serving::ask(bridge, Command::Stats, ANSWER_TIMEOUT) {
        super::serving::Asked::Answered(Reply::Stats(samples)) => Some(Numbers::of(&samples)),
        _ => None,
    };
    let store = bridge.store().stats();
    let clock_ahead_ms = store.hlc.millis().saturating_sub(bridge.now().wall.0);
    let not_ready = bridge.not_ready();
    // Absent are those that nobody has told, rather than 0.
    tracing::info!(
        target: TARGET,
        node,
        ready = u64::from(bridge.health() == Health::Ok),
        not_ready = not_ready.map(|kind| kind.as_str()),
        members_alive = numbers.map(|n| n.alive),
        members_suspect = numbers.map(|n| n.suspect),
        members_dead = numbers.map(|n| n.dead),
        keys = store.n_live,
        tombstones = store.n_tombstones,
        store_bytes = store.bytes,
        store_limit_bytes = bridge.store().limit(),
        lag_writes = numbers.map(|n| n.lag),
        gaps = numbers.map(|n| n.gaps),
        clock_ahead_ms,
        clock_ahead = numbers.map(|n| n.totals.clock_ahead.saturating_sub(told.clock_ahead)),
        damaged = numbers.map(|n| n.totals.damaged.saturating_sub(told.damaged)),
        resident_bytes = process::resident_bytes(),
        "status"
    );
    numbers.map_or(told, |numbers| numbers.totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &'static str, label: &str, value: f64) -> Sample {
        let labels = if label.is_empty() { vec![] } else { vec![("label", label.to_owned())] };
        Sample { name, help: "", labels, value }
    }

    #[test]
    fn the_numbers_of_a_node_are_found_by_name_and_label() {
        let samples = [
            sample("members", "alive", 3.0),
            sample("members", "suspect", 1.0),
            sample("members", "dead", 2.0),
            sample("members", "left", 9.0),
            sample("peer_lag_writes", "a", 5.0),
            sample("peer_lag_writes", "b", 7.0),
            sample("peer_lag_writes", "c", 6.0),
            sample("gaps_open", "", 4.0),
            sample("clock_ahead_total", "", 8.0),
            sample("records_damaged_total", "", 10.0),
        ];
        let expected = Numbers {
            alive: 3,
            suspect: 1,
            dead: 2,
            lag: 7,
            gaps: 4,
            totals: Totals { clock_ahead: 8, damaged: 10 },
        };
        assert_eq!(Numbers::of(&samples), expected);
        assert_eq!(Numbers::of(&[]), Numbers::default());
    }
}
