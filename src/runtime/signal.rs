//! SIGTERM and SIGINT as futures: the first asks for a graceful end, the second for one at once.
//!
//! What to do with them is the command's business; here they are only awaited.

use rustix::process::Signal as Number;
use std::{fs, io};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals that ask the process to end. From [`Signals::listen`] on, neither kills it.
#[derive(Debug)]
pub struct Signals {
    /// `None`: whoever has started the process wants it to be ignored.
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

/// The number of a signal that [`Signals::next`] names.
#[must_use]
pub fn number(name: &str) -> Number {
    if name == "SIGINT" { Number::INT } else { Number::TERM }
}

impl Signals {
    /// Takes the signals over. Must be called within a tokio runtime whose I/O is enabled.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> io::Result<Signals> {
        Signals::but(0)
    }

    /// The same but for those that the process was started to ignore, as a shell wants of what runs
    /// in a script's background. Call it before anything else takes a signal over.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen_unless_ignored() -> io::Result<Signals> {
        Signals::but(fs::read_to_string("/proc/self/status").map_or(0, |text| ignored(&text)))
    }

    /// Those whose bits are not among these.
    fn but(ignored: u64) -> io::Result<Signals> {
        let listen = |kind: SignalKind| {
            let is_ignored = ignored >> (kind.as_raw_value() - 1) & 1 == 1;
            (!is_ignored).then(|| signal(kind)).transpose()
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// The name of the next signal. Call it again while ending gracefully: a second signal means
    /// at once. Cancelling the wait loses no signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            () = received(&mut self.terminate) => "SIGTERM",
            () = received(&mut self.interrupt) => "SIGINT",
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

/// The bits of the signals that a process ignores, by what Linux tells of it.
fn ignored(status: &str) -> u64 {
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{getpid, kill_process};

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

    #[test]
    fn what_is_ignored_stands_in_the_status_of_the_process() {
        let bits = ignored("Name:\tx\nSigIgn:\t0000000000001002\nSigCgt:\t0000000000004000\n");
        assert_eq!((bits >> (Number::INT.as_raw() - 1) & 1, bits >> 14 & 1), (1, 0));
        assert_eq!((ignored(""), ignored("SigIgn:\tx\n")), (0, 0));
    }
}
