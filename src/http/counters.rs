//! What the gate counts.

use super::gate::refusal::Reason;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Upper bounds of the latency histogram, in microseconds; a last bucket takes the rest.
pub const LATENCY_BOUNDS_MICROS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 10_000_000,
];

/// Counters of one gate; any task adds, `/metrics` reads.
#[derive(Debug, Default)]
pub struct Counters {
    n_open: AtomicUsize,
    accepted: AtomicU64,
    accept_failures: AtomicU64,
    refusals: [AtomicU64; Reason::ALL.len()],
    latency: [AtomicU64; LATENCY_BOUNDS_MICROS.len() + 1],
    latency_micros: AtomicU64,
}

impl Counters {
    /// A connection has been accepted; returns how many there are now.
    pub fn opened(&self) -> usize {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.n_open.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A connection has ended; returns how many are left.
    pub fn closed(&self) -> usize {
        self.n_open.fetch_sub(1, Ordering::AcqRel) - 1
    }

    /// Connections at present.
    #[must_use]
    pub fn n_open(&self) -> usize {
        self.n_open.load(Ordering::Acquire)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Accepts that failed so far.
    #[must_use]
    pub fn accept_failures(&self) -> u64 {
        self.accept_failures.load(Ordering::Relaxed)
    }

    /// An accept has failed.
    pub fn accept_failed(&self) {
        self.accept_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Something has been refused.
    pub fn refused(&self, reason: Reason) {
        self.refusals[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Refusals so far.
    #[must_use]
    pub fn refusals(&self, reason: Reason) -> u64 {
        self.refusals[reason as usize].load(Ordering::Relaxed)
    }

    /// A request was answered, this long after it was complete.
    pub fn answered(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_MICROS.iter().position(|&bound| micros <= bound);
        let bucket = bucket.unwrap_or(LATENCY_BOUNDS_MICROS.len());
        self.latency[bucket].fetch_add(1, Ordering::Relaxed);
        self.latency_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Answers so far in each bucket of the histogram.
    #[must_use]
    pub fn latency(&self) -> [u64; LATENCY_BOUNDS_MICROS.len() + 1] {
        std::array::from_fn(|bucket| self.latency[bucket].load(Ordering::Relaxed))
    }

    /// The sum of all latencies, in microseconds.
    #[must_use]
    pub fn latency_micros(&self) -> u64 {
        self.latency_micros.load(Ordering::Relaxed)
    }
}
