//! How many bytes clients can make the gate hold.
//!
//! A body is read whole before it goes on, and an answer is taken whole before it is sent, so that
//! no slow client holds up an upstream connection. What a client makes us hold beyond a small
//! allowance is counted here, and refused when all of them together hold too much.

use crate::limits::HTTP_UNCOUNTED_LEN_MAX;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What there is, and how much of it is taken.
#[derive(Debug)]
pub struct Budget {
    len_max: usize,
    taken: AtomicUsize,
}

impl Budget {
    /// Room for `len_max` bytes.
    #[must_use]
    pub fn new(len_max: usize) -> Arc<Budget> {
        Arc::new(Budget { len_max, taken: AtomicUsize::new(0) })
    }

    /// Bytes taken at present.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    len: usize,
}

/// The budget is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Held {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(budget: &Arc<Budget>) -> Held {
        Held { budget: Arc::clone(budget), len: 0 }
    }

    /// Holds `len` bytes all in all; the first [`HTTP_UNCOUNTED_LEN_MAX`] are free.
    ///
    /// # Errors
    /// [`Full`]; then as much is held as before.
    pub fn grow_to(&mut self, len: usize) -> Result<(), Full> {
        if len <= HTTP_UNCOUNTED_LEN_MAX || len <= self.len {
            return Ok(());
        }
        let more = len - self.len;
        let taken = self.budget.taken.fetch_add(more, Ordering::Relaxed) + more;
        if taken > self.budget.len_max {
            self.budget.taken.fetch_sub(more, Ordering::Relaxed);
            return Err(Full);
        }
        self.len = len;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.len, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_comes_back() {
        let budget = Budget::new(100_000);
        let (mut a, mut b) = (Held::new(&budget), Held::new(&budget));
        assert_eq!(a.grow_to(HTTP_UNCOUNTED_LEN_MAX), Ok(()));
        assert_eq!(budget.taken(), 0);
        assert_eq!(a.grow_to(60_000), Ok(()));
        assert_eq!(b.grow_to(60_000), Err(Full));
        assert_eq!(b.grow_to(40_000), Ok(()));
        assert_eq!(a.grow_to(60_001), Err(Full));
        assert_eq!(budget.taken(), 100_000);
        drop(a);
        assert_eq!(b.grow_to(100_000), Ok(()));
        drop(b);
        assert_eq!(budget.taken(), 0);
    }
}
