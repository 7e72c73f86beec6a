//! Long works that a signal ends in good order: with what is done told, and how to go on.
//!
//! ```text
//!   signal --> no further step begins --> those begun end, for a moment --> last words --> death
//! ```
//!
//! The work runs on a thread of its own, which may stand where nothing wakes it: at a pipe, at a
//! server. So it is not waited for but for its steps, and what it would say is said for it. The
//! process dies of the signal in the end: a shell whose loop runs it ends the loop only then.

use super::failure::Failure;
use super::serving;
use crate::runtime::clock::Clock;
use crate::runtime::signal::{self, Signals};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::{JoinError, spawn_blocking};

/// How long steps that have begun may go on.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says what is done, and how to go on; it gets the name of the signal.
type Words = Box<dyn FnOnce(&'static str) + Send>;

/// What a work and whoever ends it tell each other.
#[derive(Default)]
pub(super) struct Halt {
    state: Mutex<State>,
    /// Told when a step ends.
    calmed: Notify,
}

#[derive(Default)]
struct State {
    /// The one that ends the work.
    signal: Option<&'static str>,
    /// Steps at work.
    n_steps: usize,
    /// Whether the work tells of itself.
    is_over: bool,
    words: Option<Words>,
}

/// A part of a work that is not cut off without need; it ends when this is dropped.
pub(super) struct Step<'h>(&'h Halt);

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.0.state.lock().n_steps -= 1;
        self.0.calmed.notify_waiters();
    }
}

impl Halt {
    /// What to say in the place of the work when a signal ends it.
    pub(super) fn last_words(&self, words: impl FnOnce(&'static str) + Send + 'static) {
        self.state.lock().words = Some(Box::new(words));
    }

    /// From now on the work has something to clear away when a signal ends it: it is waited for, is
    /// to [`Halt::check`], and speaks for itself. So it is before there are last words.
    ///
    /// # Errors
    /// As [`Halt::check`]; then the last words are said.
    pub(super) fn no_last_words(&self) -> Result<(), Failure> {
        let mut state = self.state.lock();
        state.check()?;
        state.words = None;
        Ok(())
    }

    /// Whether the work may go on.
    ///
    /// # Errors
    /// A signal wants its end.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.state.lock().check()
    }

    /// Begins a step.
    ///
    /// # Errors
    /// As [`Halt::check`].
    pub(super) fn step(&self) -> Result<Step<'_>, Failure> {
        let mut state = self.state.lock();
        state.check()?;
        state.n_steps += 1;
        Ok(Step(self))
    }

    /// The work tells of itself from now on: a signal comes too late for the last words.
    ///
    /// # Errors
    /// As [`Halt::check`].
    pub(super) fn over(&self) -> Result<(), Failure> {
        let mut state = self.state.lock();
        state.check()?;
        state.is_over = true;
        Ok(())
    }

    /// Lets nothing more begin; returns what is to be said, unless the work does that.
    fn stop(&self, name: &'static str) -> Option<Words> {
        let mut state = self.state.lock();
        if state.is_over {
            return None;
        }
        state.signal = Some(name);
        state.words.take()
    }

    /// Waits until no step is at work, or for a moment.
    async fn calm(&self) {
        let calm = async {
            loop {
                let calmed = self.calmed.notified();
                if self.state.lock().n_steps == 0 {
                    return;
                }
                calmed.await;
            }
        };
        // Whether or not it is in time, the work is over.
        let _ = tokio::time::timeout(PATIENCE, calm).await;
    }
}

impl State {
    fn check(&self) -> Result<(), Failure> {
        self.signal.map_or(Ok(()), |name| Err(Failure::Interrupted(name)))
    }
}

/// Runs a work that SIGINT and SIGTERM end in good order; a second of them at once.
///
/// # Errors
/// What the work fails with; the signal; the system gives no thread.
pub(super) fn guarded(
    work: impl FnOnce(&Arc<Halt>) -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let system = |error: io::Error| Failure::failed(format!("signals: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(system)?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen_unless_ignored().map_err(system)?;
        let halt = Arc::new(Halt::default());
        let its = Arc::clone(&halt);
        let mut work = spawn_blocking(move || work(&its));
        let name = tokio::select! {
            ended = &mut work => return flat(ended),
            name = signals.next() => name,
        };
        let since_first = Clock::start();
        let end = async {
            let Some(words) = halt.stop(name) else { return flat(work.await) };
            halt.calm().await;
            flat(spawn_blocking(move || words(name)).await.map(Ok))?;
            Err(Failure::Interrupted(name))
        };
        tokio::select! {
            ended = end => ended,
            name = serving::second(&mut signals, since_first) => Err(Failure::Signal(name)),
        }
    });
    // The work may stand where nothing wakes it.
    runtime.shutdown_background();
    ended
}

fn flat(ended: Result<Result<(), Failure>, JoinError>) -> Result<(), Failure> {
    ended.unwrap_or_else(|error| Err(Failure::failed(error.to_string())))
}

/// Has the process die of a signal, as it would have without us; returns if that cannot be. The
/// first process of a container cannot: no signal of its own kills it.
pub(super) fn die_of(name: &'static str) {
    if rustix::process::getpid().is_init() {
        return;
    }
    let number = signal::number(name).as_raw();
    // There is nobody to tell when that fails; the exit code will have to do.
    let _ = signal_hook::low_level::emulate_default_handler(number);
}
