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
