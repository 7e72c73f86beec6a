//! Letting go of values whose time is over: a tenth of a second after it at the latest, where there
//! are not too many at once.
//!
//! Nothing is said of it to anybody: every node holds the same expiry and comes to the same
//! tombstone. Whoever reads sees a value as gone from its expiry on, swept or not; the sweep frees
//! its bytes and wakes those who watch.

use crate::kv::Expiring;
use crate::limits::TURN_EXPIRIES_MAX;
use crate::node::replication::context::Context;
use crate::time::Instant;
use std::time::Duration;

/// Time between two sweeps, at least, and at most: what is written meanwhile lasts a second.
const STEP: Duration = Duration::from_millis(100);
const STEP_MAX: Duration = Duration::from_secs(1);
/// Time between two turns of one that has much to do.
const TURN: Duration = Duration::from_millis(1);

/// Where the sweep is.
#[derive(Debug, Default)]
pub(in crate::node) struct Expiry {
    at: Expiring,
    next: Instant,
}

impl Expiry {
    /// When it goes on, where there is anything that expires.
    pub(in crate::node) fn deadline(&self, has_any: bool) -> Instant {
        if has_any { self.next } else { Instant::NEVER }
    }

    /// Sweeps, or goes on with it, if it is time.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) {
        if cx.now.instant < self.next || cx.store.stats().n_lasting == 0 {
            return;
        }
        cx.store.expire(cx.now, &mut self.at, TURN_EXPIRIES_MAX);
        let wait = match self.at.is_within() {
            true => TURN,
            false => {
                let left = cx.store.next_expiry().saturating_sub(cx.store.moment(cx.now.wall));
                Duration::from_millis(left).clamp(STEP, STEP_MAX)
            }
        };
        self.next = cx.now.instant + wait;
    }
}
