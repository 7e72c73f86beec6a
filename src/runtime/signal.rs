//! SIGTERM and SIGINT as futures: the first asks for a graceful end, the second for one at once.
//! And SIGHUP, which asks a program in a terminal for its end, and a service to read files again.
//!
//! What to do with them is the command's business; here they are only awaited.

use rustix::process::{Signal as Number, getpid};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::{fs, io};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask the process to end. From [`Signals::listen`] on, none of them kills it.
#[derive(Debug)]
pub struct Signals {
    /// `None`: whoever has started the process wants it to be ignored.
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    /// `None` but after [`Signals::and_hangup`].
    hangup: Option<Signal>,
}

/// Whether [`end_as_first`] still holds.
static ENDS_AT_ONCE: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Has SIGTERM and SIGINT end the first process of a container, for which the system has no default
/// action: without this it would miss them. From [`Signals::listen`] on they are told as usual.
///
/// # Errors
/// When the system refuses.
pub fn end_as_first() -> io::Result<()> {
    if !getpid().is_init() {
        return Ok(());
    }
    ENDS_AT_ONCE.store(true, Ordering::Relaxed);
    for number in [Number::TERM, Number::INT].map(Number::as_raw) {
        let ends = Arc::clone(&ENDS_AT_ONCE);
        // As a shell tells it of a process that died of the signal.
        signal_hook::flag::register_conditional_shutdown(number, 128 + number, ends)?;
    }
    Ok(())
}

/// Takes SIGHUP over for whoever reads files again. Must be called within a tokio runtime whose I/O
/// is enabled.
///
/// # Errors
/// When the system refuses.
pub fn hangup() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// The number of a signal that [`Signals::next`] names.
#[must_use]
pub fn number(name: &str) -> Number {
    match name {
        "SIGINT" => Number::INT,
        "SIGHUP" => Number::HUP,
        _ => Number::TERM,
    }
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
        Signals::but(ignored())
    }

    /// With SIGHUP, which a terminal that closes sends; but for a process that was started to
    /// outlive its terminal, as `nohup` does.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn and_hangup(self) -> io::Result<Signals> {
        Ok(Signals { hangup: listen(SignalKind::hangup(), ignored())?, ..self })
    }

    /// Those whose bits are not among these.
    fn but(ignored: u64) -> io::Result<Signals> {
        let signals = Signals {
            terminate: listen(SignalKind::terminate(), ignored)?,
            interrupt: listen(SignalKind::interrupt(), ignored)?,
            hangup: None,
        };
        ENDS_AT_ONCE.store(false, Ordering::Relaxed);
        Ok(signals)
    }

    /// The name of the next signal. Call it again while ending gracefully: a second signal means
    /// at once. Cancelling the wait loses no signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            () = received(&mut self.terminate) => "SIGTERM",
            () = received(&mut self.interrupt) => "SIGINT",
            () = received(&mut self.hangup) => "SIGHUP",
        }
    }
}

/// Takes a signal over unless its bit is among these.
fn listen(kind: SignalKind, ignored: u64) -> io::Result<Option<Signal>> {
    let is_ignored = ignored >> (kind.as_raw_value() - 1) & 1 == 1;
    (!is_ignored).then(|| signal(kind)).transpose()
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

/// The bits of the signals that this process ignores.
fn ignored() -> u64 {
    fs::read_to_string("/proc/self/status").map_or(0, |text| ignored_by(&text))
}

/// The same of a process, by what Linux tells of it.
fn ignored_by(status: &str) -> u64 {
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
            let signals = Signals::listen().expect("signals");
            let mut signals = signals.and_hangup().expect("signals");
            for name in ["SIGTERM", "SIGINT", "SIGHUP", "SIGTERM"] {
                let number = number(name);
                kill_process(getpid(), number).expect("a signal to ourselves");
                assert_eq!(signals.next().await, name);
            }
        });
    }

    #[test]
    fn what_is_ignored_stands_in_the_status_of_the_process() {
        let bits = ignored_by("Name:\tx\nSigIgn:\t0000000000001002\nSigCgt:\t0000000000004000\n");
        assert_eq!((bits >> (Number::INT.as_raw() - 1) & 1, bits >> 14 & 1), (1, 0));
        assert_eq!((ignored_by(""), ignored_by("SigIgn:\tx\n")), (0, 0));
    }
}
