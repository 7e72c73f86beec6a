//! SIGTERM and SIGINT as futures: the first asks for a graceful end, the second for one at once.
//!
//! What to do with them is the command's business; here they are only awaited.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals that ask the process to end. From [`Signals::listen`] on, neither kills it.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over. Must be called within a tokio runtime whose I/O is enabled.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next signal. Call it again while ending gracefully: a second signal means
    /// at once. Cancelling the wait loses no signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Number, getpid, kill_process};

    #[test]
    fn each_signal_is_told_once_and_in_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        runtime.expect("a runtime").block_on(async {
            let mut signals = Signals::listen().expect("signals");
            for (number, name) in
                [(Number::TERM, "SIGTERM"), (Number::INT, "SIGINT"), (Number::TERM, "SIGTERM")]
            {
                kill_process(getpid(), number).expect("a signal to ourselves");
                assert_eq!(signals.next().await, name);
            }
        });
    }
}
