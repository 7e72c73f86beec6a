//! Keeps what strangers can cause from filling the log.

use crate::time::Instant;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// Allows one line of a kind every ten seconds.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Nanoseconds; before it nothing is allowed.
    next: AtomicU64,
}

impl Throttle {
    /// Whether a line may be written now; the answer counts as written.
    pub fn allows(&self, now: Instant) -> bool {
        let next = self.next.load(Relaxed);
        let later = (now + PAUSE).0;
        now.0 >= next && self.next.compare_exchange(next, later, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_pause() {
        let throttle = Throttle::default();
        let start = Instant::from_millis(5);
        let allowed = [start, start, start + PAUSE / 2, start + PAUSE, start + PAUSE]
            .map(|now| throttle.allows(now));
        assert_eq!(allowed, [true, false, false, true, false]);
    }
}
