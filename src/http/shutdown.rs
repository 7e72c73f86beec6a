//! The steps in which HTTP shuts down.
//!
//! ```text
//!   open -- set_not_ready --> not ready -- refuse_writes --> reading only -- drain --> shut
//!           /health: 503                   PUT, DELETE: 503                  no new connection
//! ```
//!
//! A write that was answered must reach the other members before this node leaves them. So writes
//! must stop first: [`Shutdown::refuse_writes`] stops them and waits for those under way.

use super::failure::Failure;
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How far the shutdown has come. Each step is taken once and never back.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    is_not_ready: AtomicBool,
    refuses_writes: RwLock<bool>,
    is_draining: AtomicBool,
    drain: Notify,
}

/// Permits one write, for as long as it is held.
#[derive(Debug)]
pub(super) struct WritePermit<'a> {
    _guard: RwLockReadGuard<'a, bool>,
}

impl Shutdown {
    /// From now on the node counts as leaving, and `/health` says so.
    pub(super) fn set_not_ready(&self) {
        self.is_not_ready.store(true, Ordering::Release);
    }

    /// Whether [`Shutdown::set_not_ready`] has been called.
    pub(super) fn is_not_ready(&self) -> bool {
        self.is_not_ready.load(Ordering::Acquire)
    }

    /// Refuses writes from now on; returns when those under way are in the store.
    pub(super) fn refuse_writes(&self) {
        *self.refuses_writes.write() = true;
    }

    /// Permits one write.
    ///
    /// # Errors
    /// 503 once writes are refused; nothing has changed.
    pub(super) fn begin_write(&self) -> Result<WritePermit<'_>, Failure> {
        let guard = self.refuses_writes.read();
        if *guard {
            return Err(Failure::busy("this node is leaving the cluster; write to another one"));
        }
        Ok(WritePermit { _guard: guard })
    }

    /// From now on no connection takes a further request. Wakes those that are idle.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        self.drain.notify_waiters();
    }

    /// Whether [`Shutdown::drain`] has been called.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Ends when draining begins, for whoever began to wait before.
    pub(super) fn draining(&self) -> Notified<'_> {
        self.drain.notified()
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
        assert!(!shutdown.is_draining());
        shutdown.drain();
        assert!(shutdown.is_draining());
    }

    #[test]
    fn a_write_under_way_is_waited_for() {
        let shutdown = Shutdown::default();
        let is_in_store = AtomicBool::new(false);
        let writing = shutdown.begin_write().expect("writes are permitted");
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
