//! Ends a process whose gossip loop stands still.
//!
//! The others take such a node for dead, while its HTTP goes on and takes writes that nobody gets.
//! A new process is better: the fault is told, which ends this one with a message.
//!
//! It counts its own looks, not time: after a stop of the whole process (`SIGSTOP`, a machine that
//! slept or was moved) it has looked as seldom as the loop has turned.

use super::mailbox::Shared;
use super::threads::{self, Fault};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

/// How it looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Time between two looks.
    pub look: Duration,
    /// After so many in a row that find no turn taken the loop is given up.
    pub looks_max: u32,
}

/// An idle loop turns once a second, a long turn takes a fraction of one.
pub(super) const PACE: Pace = Pace { look: Duration::from_secs(1), looks_max: 30 };

/// What has been seen.
#[derive(Debug, Default)]
struct Silence {
    /// Turns of the loop at the last look.
    turns: u64,
    /// Looks since that found no more.
    looks: u32,
}

impl Silence {
    /// How many looks in a row found the loop at this number of turns.
    fn look(&mut self, turns: u64) -> u32 {
        self.looks = if turns == self.turns { self.looks.saturating_add(1) } else { 0 };
        self.turns = turns;
        self.looks
    }
}

/// The thread that looks. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Watchdog {
    thread: Option<JoinHandle<()>>,
    stop: Arc<Stop>,
}

#[derive(Debug, Default)]
struct Stop {
    is_asked: Mutex<bool>,
    asked: Condvar,
}

impl Stop {
    /// Waits that long; whether it was asked meanwhile.
    fn within(&self, wait: Duration) -> bool {
        let mut is_asked = self.is_asked.lock();
        self.asked.wait_while_for(&mut is_asked, |is_asked| !*is_asked, wait);
        *is_asked
    }
}

impl Watchdog {
    /// Begins to look at the engine that has the other end of `shared`.
    pub fn start(shared: Arc<Shared>, pace: Pace, fault: &Fault) -> io::Result<Watchdog> {
        let stop = Arc::new(Stop::default());
        let (stopped, mut silence) = (Arc::clone(&stop), Silence::default());
        let body = move || {
            while !stopped.within(pace.look) {
                let looks = silence.look(shared.counters.engine_turns.load(Relaxed));
                if looks >= pace.looks_max && !shared.is_stopping() {
                    let silent = pace.look * looks;
                    return Err(format!("the gossip loop has not taken a turn for {silent:?}"));
                }
            }
            Ok(())
        };
        Ok(Watchdog { thread: Some(threads::spawn("watchdog", fault, body)?), stop })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.stop.is_asked.lock() = true;
        self.stop.asked.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic has been told to the fault.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_looks_count() {
        let mut silence = Silence::default();
        assert_eq!([5, 5, 5, 6, 6].map(|turns| silence.look(turns)), [0, 1, 2, 0, 1]);
        // A stop of a day is one look; the loop turns before or after it.
        assert_eq!([6, 7].map(|turns| silence.look(turns)), [2, 0]);
    }
}
