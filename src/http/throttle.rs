//! Keeps what strangers can cause from filling the log.

use crate::time::Instant;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(60);

/// Allows one line of a kind every minute, and counts those that it does not allow.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Nanoseconds; before it nothing is allowed.
    next: AtomicU64,
    n_untold: AtomicU64,
}

impl Throttle {
    /// When a line may be written now, how many were not since the one before; the answer counts as
    /// written.
    pub(super) fn ask(&self, now: Instant) -> Option<u64> {
        let next = self.next.load(Relaxed);
        let later = (now + PAUSE).0;
        if now.0 >= next && self.next.compare_exchange(next, later, Relaxed, Relaxed).is_ok() {
            return Some(self.n_untold.swap(0, Relaxed));
        }
        self.n_untold.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_pause_tells_of_the_others() {
        let throttle = Throttle::default();
        let start = Instant::from_millis(5);
        let asked = [start, start, start + PAUSE / 2, start + PAUSE, start + PAUSE];
        let asked = asked.map(|now| throttle.ask(now));
        assert_eq!(asked, [Some(0), None, None, Some(2), None]);
    }
}
