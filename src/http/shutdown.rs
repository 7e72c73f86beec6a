//! The shutdown of HTTP on its way to being shut.
//!
//! ```text
//!   open -- set_not_ready --> not ready -- refuse_writes --> reading only -- drain --> shut
//!           /health: 503               PUT, DELETE: 503                no connection
//! ```
//!
//! A write that is answered must reach the others before this node leaves them. So from some
//! moment on there must be none: that is what `refuse_writes` makes sure of.

use super::response::Failure;
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::atomic::{AtomicBool, Ordering};

/// Open at first; each step is taken once and never back.
#[derive(Debug, Default)]
pub struct Shutdown {
    is_not_ready: AtomicBool,
    refuses_writes: RwLock<bool>,
}

/// Leave to write, for as long as it is held.
#[derive(Debug)]
pub struct WritePermit<'a> {
    _guard: RwLockReadGuard<'a, bool>,
}

impl Shutdown {
    /// Readiness says from now on that the end is near.
    pub fn set_not_ready(&self) {
        self.is_not_ready.store(true, Ordering::Release);
    }

    /// Whether [`Shutdown::set_not_ready`] has been called.
    #[must_use]
    pub fn is_not_ready(&self) -> bool {
        self.is_not_ready.load(Ordering::Acquire)
    }

    /// Refuses writes from now on; returns when those under way are in the store.
    pub fn refuse_writes(&self) {
        *self.refuses_writes.write() = true;
    }

    /// Lets one write through.
    ///
    /// # Errors
    /// 503 once writes are refused; nothing has changed.
    pub fn begin_write(&self) -> Result<WritePermit<'_>, Failure> {
        let guard = self.refuses_writes.read();
        if *guard {
            return Err(Failure::busy("this node is leaving the cluster; write to another one"));
        }
        Ok(WritePermit { _guard: guard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shut_step_by_step() {
        let shutdown = Shutdown::default();
        assert!(!shutdown.is_not_ready() && shutdown.begin_write().is_ok());
        shutdown.set_not_ready();
        assert!(shutdown.is_not_ready() && shutdown.begin_write().is_ok());
        shutdown.refuse_writes();
        let refused = shutdown.begin_write().expect_err("a refusal");
        assert_eq!((refused.status, refused.header), (503, Some(("Retry-After", "1"))));
    }

    #[test]
    fn a_write_under_way_is_waited_for() {
        let shutdown = Shutdown::default();
        let is_in_store = AtomicBool::new(false);
        let writing = shutdown.begin_write().expect("an open shutdown");
        std::thread::scope(|threads| {
            let refusing = threads.spawn(|| {
                shutdown.refuse_writes();
                assert!(is_in_store.load(Ordering::Acquire), "a write was overtaken");
            });
            is_in_store.store(true, Ordering::Release);
            drop(writing);
            refusing.join().expect("no panic");
        });
    }
}
