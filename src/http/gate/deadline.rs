//! One timer per connection, cheap to move.
//!
//! Most requests arrive whole and are answered at once. To set a timer for each would cost more
//! than to read the request. So a deadline is a number. The timer behind the deadline is set anew
//! only when it would ring too late. A timer that rings too early is harmless: it is set again.

use crate::node::command::Bridge;
use crate::time::Instant;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// How long a client may still take that has to move on: as long as what has moved earns at the
/// lowest rate, and never longer than its allowance from now on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    until: Instant,
    allowance: Duration,
    rate_min: u64,
}

impl Pace {
    /// A client that begins now, with nothing but its allowance; `rate_min` is in bytes a second.
    pub(super) fn new(now: Instant, allowance: Duration, rate_min: u64) -> Pace {
        Pace { until: now + allowance, allowance, rate_min: rate_min.max(1) }
    }

    /// So many bytes have moved.
    pub(super) fn moved(&mut self, now: Instant, n: usize) {
        let earned = Duration::from_secs_f64(n as f64 / self.rate_min as f64);
        self.until = (self.until + earned).min(now + self.allowance);
    }

    /// When its time is up.
    pub(super) fn until(&self) -> Instant {
        self.until
    }
}

/// A deadline that can be awaited.
pub(super) struct Deadline {
    clock: Arc<dyn Bridge>,
    deadline: Instant,
    rings: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Deadline {
    /// A deadline `delay` from now.
    pub(super) fn new(clock: Arc<dyn Bridge>, delay: Duration) -> Deadline {
        let deadline = clock.now().instant + delay;
        Deadline { clock, deadline, rings: deadline, sleep: Box::pin(sleep(delay)) }
    }

    /// Moves the deadline to `delay` after `now`.
    pub(super) fn set(&mut self, now: Instant, delay: Duration) {
        self.deadline = now + delay;
        if self.deadline < self.rings {
            self.rings = self.deadline;
            self.sleep.set(sleep(delay));
        }
    }

    /// Returns when the deadline has passed. Can be dropped and called again.
    pub(super) async fn expired(&mut self) {
        loop {
            self.sleep.as_mut().await;
            let now = self.clock.now().instant;
            if now >= self.deadline {
                return;
            }
            self.rings = self.deadline;
            self.sleep.set(sleep(self.deadline.since(now)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_moves_on_has_time_and_who_stops_has_none() {
        let at = |seconds: u64| Instant::ZERO + Duration::from_secs(seconds);
        let mut pace = Pace::new(at(0), Duration::from_secs(30), 1000);
        // However much has gone, its allowance is all that it has from then on.
        pace.moved(at(1), 10_000_000);
        assert_eq!(pace.until(), at(31));
        // Too slow by half: it uses its allowance up.
        for second in 2..=40 {
            pace.moved(at(second), 500);
        }
        assert_eq!(pace.until(), at(31) + Duration::from_millis(19_500));
        // At the rate it is asked for it goes on for ever.
        for second in 41..=1000 {
            pace.moved(at(second), 1000);
        }
        assert_eq!(pace.until(), at(1010) + Duration::from_millis(500));
    }
}
