//! A smaller run that breaks the same promise: fewer faults, fewer nodes, less time.
//!
//! Each step tries one smaller run and keeps it when it breaks the same promise. The runs have
//! little to do with each other (every draw moves), so this is a search among neighbours, not a
//! proof that nothing smaller exists.

use super::options::{Fault, Options, Request};
use super::run::{self, Outcome};
use std::time::Duration;

/// The least members and the shortest chaos tried.
const NODES_MIN: usize = 2;
const CHAOS_MIN: Duration = Duration::from_secs(5);
/// Seeds tried in place of the original for each step.
const SEEDS_TRIED: u64 = 4;

/// Searches for the smallest run that breaks `invariant`, beginning with `request`, which does.
#[must_use]
pub fn minimize(request: &Request, invariant: &str) -> Request {
    let drawn = Options::draw(request);
    let mut best = Request {
        n_nodes: Some(drawn.n_nodes),
        faults: Some(drawn.faults.clone()),
        ..request.clone()
    };
    if !breaks(&best, invariant) {
        return request.clone();
    }
    let mut shrunk = true;
    while shrunk {
        shrunk = false;
        for smaller in neighbours(&best) {
            if let Some(found) = first_broken(&smaller, invariant) {
                best = found;
                shrunk = true;
                break;
            }
        }
    }
    best
}

/// Runs one step smaller than `request`: without one fault, with fewer nodes, shorter.
fn neighbours(request: &Request) -> Vec<Request> {
    let mut found = Vec::new();
    let faults: &[Fault] = request.faults.as_deref().unwrap_or_default();
    for index in 0..faults.len() {
        let mut fewer = faults.to_vec();
        fewer.remove(index);
        found.push(Request { faults: Some(fewer), ..request.clone() });
    }
    if let Some(n_nodes) = request.n_nodes.filter(|n| *n > NODES_MIN) {
        found.push(Request { n_nodes: Some(NODES_MIN.max(n_nodes / 2)), ..request.clone() });
        found.push(Request { n_nodes: Some(n_nodes - 1), ..request.clone() });
    }
    if request.chaos > CHAOS_MIN {
        found.push(Request { chaos: CHAOS_MIN.max(request.chaos / 2), ..request.clone() });
    }
    found
}

fn first_broken(request: &Request, invariant: &str) -> Option<Request> {
    let seeds = request.rng_seed..=request.rng_seed.saturating_add(SEEDS_TRIED);
    seeds
        .map(|rng_seed| Request { rng_seed, ..request.clone() })
        .find(|request| breaks(request, invariant))
}

fn breaks(request: &Request, invariant: &str) -> bool {
    let Outcome { violation, .. } = run::run(request, false);
    violation.is_some_and(|violation| violation.invariant == invariant)
}
