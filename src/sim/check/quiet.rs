//! When nothing happens, little is sent: a bound on what an idle cluster costs.

use super::Violation;
use crate::sim::cluster::Counts;
use std::time::Duration;

/// Datagrams of one idle node in a second: a probe, an ack for somebody's, a digest, the answer
/// to somebody's, each twice over because the picks are random.
const DATAGRAMS_MAX: f64 = 8.0;
/// Inputs and deadlines of one idle node in a second.
const EVENTS_MAX: f64 = 60.0;

pub(super) fn check(
    before: &Counts,
    after: &Counts,
    n_nodes: usize,
    time: Duration,
) -> Result<(), Violation> {
    let per_node = |n: u64| n as f64 / time.as_secs_f64() / n_nodes.max(1) as f64;
    let datagrams = per_node(after.datagrams - before.datagrams);
    let events = per_node(after.events - before.events);
    if datagrams > DATAGRAMS_MAX || events > EVENTS_MAX {
        let what = format!(
            "idle, a node sends {datagrams:.1} datagrams and wakes {events:.1} times a second"
        );
        return Err(Violation::new("idle-traffic", what));
    }
    Ok(())
}
