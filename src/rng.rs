//! Seeded randomness for the core: the same seed gives the same run.
//!
//! Nothing here is secret. Encryption nonces come from the operating system (`runtime::entropy`).

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use std::time::Duration;

/// A deterministic generator, made from a 64-bit seed.
#[derive(Debug)]
pub struct Rng(StdRng);

impl Rng {
    /// A generator whose whole sequence follows from `rng_seed`.
    #[must_use]
    pub fn from_seed(rng_seed: u64) -> Rng {
        Rng(StdRng::seed_from_u64(rng_seed))
    }

    /// Sixty-four uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniform index below `len`, or 0 when `len` is 0.
    pub fn below(&mut self, len: usize) -> usize {
        if len == 0 { 0 } else { self.0.random_range(0..len) }
    }

    /// True with probability `p`, clamped to 0..=1.
    pub fn chance(&mut self, p: f64) -> bool {
        self.0.random_bool(p.clamp(0.0, 1.0))
    }

    /// A uniform duration in `[0, max)`, or zero when `max` is zero.
    pub fn duration_below(&mut self, max: Duration) -> Duration {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            Duration::ZERO
        } else {
            Duration::from_nanos(self.0.random_range(0..nanos))
        }
    }

    /// Fisher-Yates shuffle in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
