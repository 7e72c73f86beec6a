//! Lifeguard's local health: how much we distrust ourselves.
//!
//! The score rises when our own probes fail without the nacks that would show the network at
//! fault, and when others accuse us; it falls with every probe that succeeds. A node that is slow
//! itself thus waits longer before it accuses others.

use std::time::Duration;

/// The health score: 0 is healthy.
#[derive(Debug, Clone)]
pub struct Awareness {
    score: u8,
    score_max: u8,
}

impl Awareness {
    /// Healthy; the score stays below `max` (memberlist's `AwarenessMaxMultiplier`).
    #[must_use]
    pub fn new(max: u8) -> Awareness {
        Awareness { score: 0, score_max: max.saturating_sub(1) }
    }

    /// Moves the score by `delta` within its bounds.
    pub fn adjust(&mut self, delta: i32) {
        let score = i32::from(self.score).saturating_add(delta).clamp(0, self.score_max.into());
        self.score = score as u8;
    }

    /// The score, 0 when healthy.
    #[must_use]
    pub fn score(&self) -> u8 {
        self.score
    }

    /// `interval * (score + 1)`.
    #[must_use]
    pub fn stretch(&self, interval: Duration) -> Duration {
        interval.saturating_mul(u32::from(self.score) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_stays_between_zero_and_seven() {
        let mut awareness = Awareness::new(8);
        let mut scores = Vec::new();
        for delta in [-1, 1, 3, 10, -1, 0, i32::MAX, i32::MIN] {
            awareness.adjust(delta);
            scores.push(awareness.score());
        }
        assert_eq!(scores, [0, 1, 4, 7, 6, 6, 7, 0]);
    }

    #[test]
    fn the_score_stretches_the_interval() {
        let mut awareness = Awareness::new(8);
        assert_eq!(awareness.stretch(Duration::from_secs(1)), Duration::from_secs(1));
        awareness.adjust(7);
        assert_eq!(awareness.stretch(Duration::from_secs(1)), Duration::from_secs(8));
    }
}
