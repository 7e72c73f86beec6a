//! Standard output that may end before we do: `gossipykv kv list | head -1` is no failure.

use super::failure::Failure;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write as _};

/// What `write` writes to.
pub(super) type Out<'a> = BufWriter<StdoutLock<'a>>;

/// Runs `write` over standard output and flushes it. A reader that is gone ends it quietly.
///
/// # Errors
/// That the output could not be written, or what `write` fails with.
pub(super) fn print(write: impl FnOnce(&mut Out<'_>) -> Result<(), Stop>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = write(&mut out);
    let flushed = out.flush();
    match written.and(flushed.map_err(Stop::from)) {
        Ok(()) | Err(Stop::ReaderGone) => Ok(()),
        Err(Stop::Failure(failure)) => Err(failure),
    }
}

/// Why the output ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nobody reads any more.
    ReaderGone,
    /// The command fails.
    Failure(Failure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        if error.kind() == ErrorKind::BrokenPipe {
            return Stop::ReaderGone;
        }
        Stop::Failure(Failure::failed(format!("standard output: {error}")))
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}
