//! Chaos on real processes: five agents in network namespaces of their own, clients that write,
//! read and delete, and faults drawn from a seed.
//!
//! ```text
//! plan     draws rounds: what the network does, what happens to processes
//! cluster  five seats on six hosts; starts, kills, pauses, replaces, asks for whole stores
//! clients  one a host: keeps asking the process there, and notes each answer
//! watchers hop from host to host, or stay at one as `gossipykv watch`, and miss nothing
//! judge    the simulator's reference and checks (`sim::history`, `sim::check`), fed with that
//! rounds   fault, heal, and then: all stores equal within 5 s, nothing lost, nothing back
//! ```
//!
//! The short form plays every kind of fault once. With `GOSSIPYKV_LONG=1` rounds are drawn for an
//! hour, or as `GOSSIPYKV_CHAOS_SECONDS` says. Each run prints its seed; `GOSSIPYKV_CHAOS_SEED`
//! asks for one. The same seed plays the same faults, but what they meet differs: a real network
//! and real processes do not repeat themselves.

mod clients;
mod cluster;
#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the interop tests use all of it, this one what it needs"
)]
#[path = "../interop/harness/mod.rs"]
mod harness;
mod judge;
mod plan;
mod rounds;
mod watchers;

use harness::{Need, available, long, seconds};
use std::time::Duration;

#[test]
fn five_processes_keep_their_promises_through_faults() {
    if !available(&[Need::Namespaces]) {
        return;
    }
    let seed = seconds("GOSSIPYKV_CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let during = Duration::from_secs(seconds("GOSSIPYKV_CHAOS_SECONDS").unwrap_or(3_600));
    println!("again with: GOSSIPYKV_CHAOS_SEED={seed} (a number of its own for every run)");
    rounds::play(seed, long().then_some(during));
}
