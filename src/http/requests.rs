//! Answers given, by route and class of status.

use super::route::{N_ROUTES, Route};
use std::sync::atomic::{AtomicU64, Ordering};

/// The classes of status there are.
pub const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Counters; workers and the gate add, `/metrics` reads.
#[derive(Debug, Default)]
pub struct Requests([[AtomicU64; CLASSES.len()]; N_ROUTES]);

impl Requests {
    /// One more answer of this status.
    pub fn count(&self, route: Route<'_>, status: u16) {
        self.count_number(route.number(), status);
    }

    /// The same by the route's number.
    pub fn count_number(&self, number: usize, status: u16) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.0[number][class].fetch_add(1, Ordering::Relaxed);
    }

    /// Answers so far: per route, per class.
    #[must_use]
    pub fn all(&self) -> [[u64; CLASSES.len()]; N_ROUTES] {
        std::array::from_fn(|route| {
            std::array::from_fn(|class| self.0[route][class].load(Ordering::Relaxed))
        })
    }
}
