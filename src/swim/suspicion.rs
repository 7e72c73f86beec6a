//! A suspicion: a timer towards dead that independent accusers shorten.
//!
//! ```text
//! timeout(c) = max(min, floor_ms(max - ln(c + 1) / ln(k + 1) * (max - min)))
//!
//! k = 3, min 2 s, max 30 s:   c = 0: 30 s   1: 16 s   2: 7.81 s   3: 2 s
//! ```
//!
//! The first accuser never counts as a confirmation of itself (Lifeguard, section IV-B).

use crate::time::Instant;
use crate::wire::message::NodeName;
use std::time::Duration;

/// A running suspicion of one member.
#[derive(Debug, Clone)]
pub struct Suspicion {
    start: Instant,
    min: Duration,
    max: Duration,
    confirmations_wanted: u32,
    /// The first accuser, then those who confirmed: at most `confirmations_wanted + 1`.
    accusers: Vec<NodeName>,
}

impl Suspicion {
    /// Starts a suspicion raised by `accuser`: it lasts `max` unless confirmed, or `min` when no
    /// confirmation can come.
    #[must_use]
    pub fn new(
        start: Instant,
        accuser: NodeName,
        confirmations_wanted: u32,
        min: Duration,
        max: Duration,
    ) -> Suspicion {
        Suspicion { start, min, max, confirmations_wanted, accusers: vec![accuser] }
    }

    /// Notes one more accuser. True when it is new and wanted, so that its accusation is worth
    /// spreading.
    pub fn confirm(&mut self, accuser: &NodeName) -> bool {
        if self.confirmations() >= self.confirmations_wanted || self.accusers.contains(accuser) {
            return false;
        }
        self.accusers.push(accuser.clone());
        true
    }

    /// How many accusers besides the first.
    #[must_use]
    pub fn confirmations(&self) -> u32 {
        self.accusers.len() as u32 - 1
    }

    /// When the member is to be declared dead.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.start + self.timeout()
    }

    /// Time in which we did not run, and could not hear a refutation, does not count.
    pub fn extend(&mut self, pause: Duration) {
        self.start = self.start + pause;
    }

    fn timeout(&self) -> Duration {
        let wanted = f64::from(self.confirmations_wanted);
        if self.confirmations_wanted == 0 {
            return self.min;
        }
        let share = (f64::from(self.confirmations()) + 1.0).ln() / (wanted + 1.0).ln();
        let (min, max) = (self.min.as_secs_f64(), self.max.as_secs_f64());
        let millis = (1000.0 * (max - share * (max - min))).floor();
        self.min.max(Duration::from_millis(millis as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspicion(confirmations_wanted: u32) -> Suspicion {
        Suspicion::new(
            Instant::from_millis(500),
            "first".into(),
            confirmations_wanted,
            Duration::from_secs(2),
            Duration::from_secs(30),
        )
    }

    #[test]
    fn confirmations_shorten_it() {
        let mut suspicion = suspicion(3);
        let mut timeouts = vec![suspicion.timeout().as_millis()];
        for accuser in ["a", "b", "c"] {
            assert!(suspicion.confirm(&accuser.into()));
            timeouts.push(suspicion.timeout().as_millis());
        }
        assert_eq!(timeouts, [30_000, 16_000, 7_810, 2_000]);
        assert_eq!(suspicion.deadline(), Instant::from_millis(2_500));
        assert!(!suspicion.confirm(&"d".into()), "three are enough");
    }

    #[test]
    fn nobody_counts_twice() {
        let mut suspicion = suspicion(3);
        assert!(!suspicion.confirm(&"first".into()));
        assert!(suspicion.confirm(&"a".into()));
        assert!(!suspicion.confirm(&"a".into()));
        assert_eq!(suspicion.confirmations(), 1);
    }

    #[test]
    fn without_wanted_confirmations_it_is_short_from_the_start() {
        let mut suspicion = suspicion(0);
        assert_eq!(suspicion.deadline(), Instant::from_millis(2_500));
        assert!(!suspicion.confirm(&"a".into()));
        suspicion.extend(Duration::from_secs(7));
        assert_eq!(suspicion.deadline(), Instant::from_millis(9_500));
    }
}
