//! A delete never comes back: not by push-pulls, not by a member that slept through it.

use crate::harness::{Node, State, Trio, await_all, hold, long};
use rustix::process::Signal;
use std::time::Duration;

const SPREAD_MAX: Duration = Duration::from_secs(1);
const BACK_MAX: Duration = Duration::from_secs(5);

/// The issue asks for 60 s, four push-pulls of the local profile; in short, less than one timed
/// push-pull, but the one of a returning member is met.
fn watch() -> Duration {
    Duration::from_secs(if long() { 60 } else { 5 })
}

/// Asleep for the 60 s; in short, until the others have given it up.
fn sleep(trio: &Trio) {
    let dead = || trio.agents[0].holds("r3", State::Dead).map(|_| ());
    crate::harness::eventually("r3 is given up", Duration::from_secs(30), dead);
    if long() {
        hold("r3 stays dead", Duration::from_secs(60), dead);
    }
}

#[track_caller]
fn stays_deleted(trio: &Trio, key: &str) {
    hold("the key stays away", watch(), || {
        trio.agents.iter().try_for_each(|agent| agent.has(key, None))
    });
}

#[test]
fn a_delete_outlives_push_pulls() {
    let trio = Trio::start(&["--profile", "local"]);
    trio.agents[0].put("gone", "soon");
    Trio::await_value(&trio.agents, "gone", Some("soon"), SPREAD_MAX);
    trio.agents[1].delete("gone");
    Trio::await_value(&trio.agents, "gone", None, SPREAD_MAX);
    stays_deleted(&trio, "gone");
}

#[test]
fn a_delete_outlives_a_member_that_slept_through_it() {
    let trio = Trio::start(&["--profile", "local"]);
    trio.agents[0].put("gone", "soon");
    trio.agents[0].put("kept", "on");
    Trio::await_value(&trio.agents, "gone", Some("soon"), SPREAD_MAX);
    trio.agents[2].process().signal(Signal::STOP);
    trio.agents[0].delete("gone");
    trio.agents[1].put("meanwhile", "more");
    Trio::await_value(&trio.agents[..2], "gone", None, SPREAD_MAX);
    sleep(&trio);
    trio.agents[2].process().signal(Signal::CONT);
    await_all(&trio.nodes(), BACK_MAX);
    Trio::await_value(&trio.agents, "gone", None, BACK_MAX);
    Trio::await_value(&trio.agents, "meanwhile", Some("more"), BACK_MAX);
    stays_deleted(&trio, "gone");
    Trio::await_value(&trio.agents, "kept", Some("on"), SPREAD_MAX);
}

#[test]
fn a_write_after_the_delete_is_no_resurrection() {
    let trio = Trio::start(&[]);
    for round in 0..20 {
        let value = format!("round-{round}");
        trio.agents[round % 3].put("flips", &value);
        Trio::await_value(&trio.agents, "flips", Some(&value), SPREAD_MAX);
        trio.agents[(round + 1) % 3].delete("flips");
        Trio::await_value(&trio.agents, "flips", None, SPREAD_MAX);
    }
}
