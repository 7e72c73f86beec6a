//! How many bytes clients can make the gate hold.
//!
//! The gate reads a body whole before it passes it on, and takes an answer whole before it sends
//! it: so no slow client holds up a lane. Each client may make the gate hold a small allowance.
//! What a client makes it hold beyond that is counted here, and refused when all clients together
//! make it hold too much.

use crate::limits::HTTP_UNCOUNTED_LEN_MAX;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes may be held for all clients together, and how many are.
#[derive(Debug)]
pub(super) struct Budget {
    len_max: usize,
    taken: AtomicUsize,
}

impl Budget {
    pub(super) fn new(len_max: usize) -> Arc<Budget> {
        Arc::new(Budget { len_max, taken: AtomicUsize::new(0) })
    }

    /// Bytes held for all clients now.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    len: usize,
}

/// The budget does not have so many bytes left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent;

impl Held {
    pub(super) fn new(budget: &Arc<Budget>) -> Held {
        Held { budget: Arc::clone(budget), len: 0 }
    }

    /// Makes it a share of `len` bytes; the first [`HTTP_UNCOUNTED_LEN_MAX`] are free.
    ///
    /// # Errors
    /// [`Spent`]; then as much is held as before.
    pub(super) fn grow_to(&mut self, len: usize) -> Result<(), Spent> {
        if len <= HTTP_UNCOUNTED_LEN_MAX || len <= self.len {
            return Ok(());
        }
        let more = len - self.len;
        let taken = self.budget.taken.fetch_add(more, Ordering::Relaxed) + more;
        if taken > self.budget.len_max {
            self.budget.taken.fetch_sub(more, Ordering::Relaxed);
            return Err(Spent);
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
        assert_eq!(b.grow_to(60_000), Err(Spent));
        assert_eq!(b.grow_to(40_000), Ok(()));
        assert_eq!(a.grow_to(60_001), Err(Spent));
        assert_eq!(budget.taken(), 100_000);
        drop(a);
        assert_eq!(b.grow_to(100_000), Ok(()));
        drop(b);
        assert_eq!(budget.taken(), 0);
    }
}
