//! What HTTP counts, for `/metrics`.
//!
//! Every bound of HTTP has a number here that says how often it was reached. The gate counts
//! connections, refusals and latencies; the routes count answers.

use super::route::N_ROUTES;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Why a request or a connection was refused; the label of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not HTTP/1.x as written in RFC 9112, or framed in a way another reader may read otherwise.
    Malformed,
    /// The head, the body or the reading of an answer took too long.
    Slow,
    /// A head, target or body over its limit.
    Large,
    /// No or a wrong token.
    Token,
    /// No client's certificate where one is asked for.
    Certificate,
    /// A name that this server does not go by.
    Host,
    /// A version, method, transfer coding or expectation we do not have.
    Unsupported,
    /// Too many connections were open.
    Connections,
    /// Too many requests waited that take their time.
    Busy,
    /// Too many bytes held for slow clients.
    Memory,
    /// The workers are gone; the process is about to end.
    Broken,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Reason; 11] = [
        Reason::Malformed,
        Reason::Slow,
        Reason::Large,
        Reason::Token,
        Reason::Certificate,
        Reason::Host,
        Reason::Unsupported,
        Reason::Connections,
        Reason::Busy,
        Reason::Memory,
        Reason::Broken,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Slow => "slow",
            Reason::Large => "large",
            Reason::Token => "token",
            Reason::Certificate => "certificate",
            Reason::Host => "host",
            Reason::Unsupported => "unsupported",
            Reason::Connections => "connections",
            Reason::Busy => "busy",
            Reason::Memory => "memory",
            Reason::Broken => "broken",
        }
    }
}

/// The classes of status there are.
pub(super) const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Upper bounds of the latency histogram, in microseconds; a last bucket takes the rest.
pub(super) const LATENCY_BOUNDS_MICROS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 10_000_000,
];

/// Any task and thread adds, `/metrics` reads.
#[derive(Debug, Default)]
pub(super) struct Counters {
    n_open: AtomicUsize,
    accepted: AtomicU64,
    accept_failures: AtomicU64,
    refusals: [AtomicU64; Reason::ALL.len()],
    latency: [AtomicU64; LATENCY_BOUNDS_MICROS.len() + 1],
    latency_micros: AtomicU64,
    answers: [[AtomicU64; CLASSES.len()]; N_ROUTES],
}

impl Counters {
    /// A connection has been accepted.
    pub(super) fn opened(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.n_open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has ended; returns how many are left.
    pub(super) fn closed(&self) -> usize {
        self.n_open.fetch_sub(1, Ordering::AcqRel) - 1
    }

    /// Connections that are open now.
    pub(super) fn n_open(&self) -> usize {
        self.n_open.load(Ordering::Acquire)
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn accept_failures(&self) -> u64 {
        self.accept_failures.load(Ordering::Relaxed)
    }

    pub(super) fn accept_failed(&self) {
        self.accept_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A request or a connection was refused.
    pub(super) fn refused(&self, reason: Reason) {
        self.refusals[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refusals(&self, reason: Reason) -> u64 {
        self.refusals[reason as usize].load(Ordering::Relaxed)
    }

    /// An answer has been sent, this long after its request was complete.
    pub(super) fn sent(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_MICROS.iter().position(|&bound| micros <= bound);
        let bucket = bucket.unwrap_or(LATENCY_BOUNDS_MICROS.len());
        self.latency[bucket].fetch_add(1, Ordering::Relaxed);
        self.latency_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Answers so far in each bucket of the histogram.
    pub(super) fn latency(&self) -> [u64; LATENCY_BOUNDS_MICROS.len() + 1] {
        std::array::from_fn(|bucket| self.latency[bucket].load(Ordering::Relaxed))
    }

    /// The sum of all latencies, in microseconds.
    pub(super) fn latency_micros(&self) -> u64 {
        self.latency_micros.load(Ordering::Relaxed)
    }

    /// The route of this number has answered with this status.
    pub(super) fn answered(&self, route: usize, status: u16) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.answers[route][class].fetch_add(1, Ordering::Relaxed);
    }

    /// Answers so far: for each route, in each class of status.
    pub(super) fn answers(&self) -> [[u64; CLASSES.len()]; N_ROUTES] {
        std::array::from_fn(|route| {
            std::array::from_fn(|class| self.answers[route][class].load(Ordering::Relaxed))
        })
    }
}
