//! Many seeds: what they came to together.

use super::check::Violation;
use super::options::{Fault, Request};
use super::run::Outcome;
use std::collections::BTreeMap;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One seed whose run broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What was asked for.
    pub request: Request,
    /// Which promise, and how.
    pub violation: Violation,
}

/// The sum of some runs.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Runs.
    pub n_runs: u64,
    /// Hash of all runs' traces in the order of their seeds: equal on every machine.
    pub trace_hash: u64,
    /// The runs that broke a promise, in the order of their seeds.
    pub broken: Vec<Broken>,
    /// Simulated time of all clusters.
    pub simulated: Duration,
    /// The longest calm until everything had settled.
    pub calm_max: Duration,
    /// Events handled.
    pub events: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Writes acknowledged.
    pub writes: u64,
    /// Reads made.
    pub reads: u64,
    /// Writes whose every holder ended before another had them.
    pub lost_with_holders: u64,
    /// Waits for holders that ended with enough of them, and with fewer.
    pub waits: (u64, u64),
    /// How often each fault happened and was felt.
    pub felt: BTreeMap<Fault, u64>,
    /// Suspicions, deaths, refutations, divergences mended, resets, runs let go, copies refused.
    pub reactions: [(&'static str, u64); 7],
}

impl Summary {
    /// Adds the next run.
    pub fn add(&mut self, request: &Request, outcome: &Outcome) {
        self.n_runs += 1;
        self.trace_hash = xxh3_64_with_seed(&outcome.trace_hash.to_be_bytes(), self.trace_hash);
        if let Some(violation) = &outcome.violation {
            let (request, violation) = (request.clone(), violation.clone());
            self.broken.push(Broken { request, violation });
        }
        self.simulated += outcome.simulated;
        self.calm_max = self.calm_max.max(outcome.calm);
        self.events += outcome.counts.events;
        self.datagrams += outcome.counts.datagrams;
        self.writes += outcome.clients.0;
        self.reads += outcome.clients.1;
        self.lost_with_holders += outcome.clients.2;
        self.feel(outcome);
        let counts = &outcome.counts;
        let reactions = [
            ("suspicions", counts.suspicions),
            ("deaths", counts.deaths),
            ("refutations", counts.refutes),
            ("divergences", counts.divergences),
            ("resets", counts.resets),
            ("runs let go", counts.let_go),
            ("copies refused", counts.refused),
        ];
        for (sum, (name, n)) in self.reactions.iter_mut().zip(reactions) {
            *sum = (name, sum.1 + n);
        }
    }

    fn feel(&mut self, outcome: &Outcome) {
        for (fault, n) in &outcome.felt {
            *self.felt.entry(*fault).or_default() += n;
        }
        self.waits.0 += outcome.waits.0;
        self.waits.1 += outcome.waits.1;
    }
}
