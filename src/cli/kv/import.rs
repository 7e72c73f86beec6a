//! `import`: writes what an export holds.
//!
//! Nothing is overwritten unless that is said: each entry is written on the condition that the node
//! holds no such key, so an import may be repeated, and one that stopped goes on when it is run
//! again.

use super::line::{self, LINE_LEN_MAX};
use super::pipeline::{self, Order, Reply};
use super::target;
use crate::cli::client::{Client, ServerFlags, Wire};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Halt;
use crate::cli::progress::{Progress, rate};
use crate::cli::{input, logging, output};
use crate::runtime::clock::Clock;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use ureq::http::StatusCode;

const EXAMPLES: &str = "\
Examples:
  gossipykv kv import copy.ndjson                what is there already stays as it is
  gossipykv kv import --overwrite copy.ndjson    the copy wins over what was written since
  gossipykv kv export --server 10.0.0.1 | gossipykv kv import

Lines are JSON objects as kv export and kv list --json write them; versions are not taken over.
Blank lines are passed over, and a byte order mark before the first one; --skip counts them.
Without --overwrite a key that the node holds is left as it is, and counted as kept. A key that was
deleted since the export is written again. What expires does so at its time, whenever it is
imported; a line whose time is over is passed over. Of several lines of one key the first one
counts, with --overwrite the last one. An import that stopped, by Ctrl-C, too, tells
where, and goes on with --skip, or from the start: with --overwrite that wins over what was
written meanwhile, too.";

/// What some editors begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Most lines that are told one by one.
const TOLD_MAX: u64 = 20;

/// Writes the entries of an export, and leaves what is there already.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ImportArgs {
    /// The export; "-" or nothing: standard input
    file: Option<OsString>,
    /// Leave a key that the node asked holds already, whatever its value: what is done unless
    /// --overwrite says otherwise
    #[arg(long, conflicts_with = "overwrite")]
    if_absent: bool,
    /// Write every entry, over what was written since the export
    #[arg(long)]
    overwrite: bool,
    /// Leave out so many lines at the beginning
    #[arg(long, value_name = "LINES", default_value_t = 0)]
    skip: u64,
}

/// What has come of the lines so far.
#[derive(Debug, Default)]
struct Tally {
    written: u64,
    kept: u64,
    refused: u64,
    /// Lines whose time was over.
    expired: u64,
    /// Numbers of lines that are settled: from the first to the one behind the last. They come in
    /// batches, so that these ranges are few, and never more than lines are under way.
    settled: BTreeMap<u64, u64>,
}

impl Tally {
    fn settle(&mut self, number: u64) {
        let before = self.settled.range(..number).next_back();
        let from = match before {
            Some((from, to)) if *to == number => *from,
            _ => number,
        };
        let to = self.settled.remove(&(number + 1)).unwrap_or(number + 1);
        self.settled.insert(from, to);
    }

    /// The line behind those that are settled from `first` on without a gap.
    fn end(&self, first: u64) -> u64 {
        self.settled.get(&first).copied().unwrap_or(first)
    }
}

impl ImportArgs {
    pub(super) fn run(self, server: &ServerFlags, halt: &Halt) -> Result<(), Failure> {
        let go_on = |done| format!("go on with --skip {done}");
        let (overwrite, skip) = (self.overwrite, self.skip);
        let how = Loading { done: "imported", go_on, overwrite, skip, as_json: server.json };
        let work = how.begin(halt);
        let client = server.client()?;
        let mut source = open(self.file.as_ref())?;
        work.run(&client, halt, &mut |text, number| {
            Ok(if next_line(&mut *source, text, number)? { Next::Line } else { Next::End })
        })
    }
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Next {
    /// A line, which is in the buffer.
    Line,
    /// There is no more.
    End,
}

/// Reads the line of this number into a buffer, without its end.
pub(in crate::cli) type Source<'s> = dyn FnMut(&mut Vec<u8>, u64) -> Result<Next, Failure> + 's;

/// How entries are written to a node.
#[derive(Debug)]
pub(in crate::cli) struct Loading {
    /// What to call it once it is done.
    pub(in crate::cli) done: &'static str,
    /// What to do about it when it stopped after so many lines, which need not be written: some may
    /// be kept, refused or expired, and of those behind them some are written.
    pub(in crate::cli) go_on: fn(u64) -> String,
    /// Whether an entry wins over what is there.
    pub(in crate::cli) overwrite: bool,
    /// Lines at the beginning that are left out.
    pub(in crate::cli) skip: u64,
    /// Whether a program is told.
    pub(in crate::cli) as_json: bool,
}

/// Entries on their way to a node.
pub(in crate::cli) struct Work {
    how: Loading,
    tally: Mutex<Tally>,
    progress: Progress,
}

impl Loading {
    /// Begins. From now on a signal ends it with what has come of it.
    pub(in crate::cli) fn begin(self, halt: &Halt) -> Arc<Work> {
        let progress = Progress::new(None, "keys", false);
        let work = Arc::new(Work { how: self, tally: Mutex::default(), progress });
        let this = Arc::clone(&work);
        halt.last_words(move |name| {
            // Whoever reads what is told may be gone.
            let _ = this.tell();
            logging::say(&format!("stopped by {name}; {}", this.go_on()));
        });
        work
    }
}

impl Work {
    /// Writes every entry, and tells what came of them.
    ///
    /// # Errors
    /// The source, a line that is no entry, what the node says, that it refused some, or a signal.
    pub(in crate::cli) fn run(
        &self,
        client: &Client,
        halt: &Halt,
        source: &mut Source<'_>,
    ) -> Result<(), Failure> {
        let clock = Clock::start();
        let settle = |number: u64, reply: Reply| self.count(client, number, reply);
        let mut number = 0;
        let ended = pipeline::run(client, halt, &settle, |sender| {
            let (wire, mut text) = (client.wire(), Vec::new());
            while source(&mut text, number + 1)? == Next::Line {
                number += 1;
                if number <= self.how.skip {
                    continue;
                }
                let mark = if number == 1 { BYTE_ORDER_MARK } else { b"" };
                let text = text.strip_prefix(mark).unwrap_or(&text);
                if text.trim_ascii().is_empty() {
                    self.tally().settle(number);
                    continue;
                }
                let entry = line::read(text)
                    .map_err(|why| Failure::failed(format!("line {number}: {why}")))?;
                let Ok(ttl) = entry.ttl(clock.now().wall) else {
                    let mut tally = self.tally();
                    tally.expired += 1;
                    tally.settle(number);
                    continue;
                };
                let bytes = request(&wire, &entry, ttl, self.how.overwrite);
                if !sender.push(&entry.key, Order { number, bytes }) {
                    break;
                }
            }
            Ok(())
        });
        halt.over()?;
        self.tell()?;
        if let Err(failure) = ended {
            logging::say(&format!("stopped; {}", self.go_on()));
            return Err(failure);
        }
        if number < self.how.skip {
            return Err(Failure::usage(format!("--skip: there are only {number} lines")));
        }
        match self.tally().refused {
            0 => Ok(()),
            n => Err(Failure::Refused(format!("{client}: {n} lines were refused"))),
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do about it when it stops here.
    fn go_on(&self) -> String {
        (self.how.go_on)(self.tally().end(self.how.skip + 1) - 1)
    }

    /// Counts a line. What is wrong with it alone is told and passed over.
    fn count(&self, client: &Client, number: u64, reply: Reply) -> Result<(), Failure> {
        let mut tally = self.tally();
        match reply.status {
            status if status.is_success() => tally.written += 1,
            StatusCode::PRECONDITION_FAILED if !self.how.overwrite => tally.kept += 1,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::CONFLICT => {
                tally.refused += 1;
                if tally.refused <= TOLD_MAX
                    && let Failure::Refused(why) = client.said_no(reply.status, &reply.body)
                {
                    self.progress.suspend(|| logging::say(&format!("line {number}: {why}")));
                }
            }
            status => return Err(client.said_no(status, &reply.body)),
        }
        tally.settle(number);
        self.progress.add(1);
        Ok(())
    }

    /// The last line, on standard error; as JSON on standard output.
    fn tell(&self) -> Result<(), Failure> {
        self.progress.end();
        let (seconds, done) = (self.progress.seconds(), self.how.done);
        let Tally { written, kept, refused, expired, .. } = *self.tally();
        let n_lines = written + kept + refused + expired;
        if self.how.as_json {
            let told = json!({
                "lines": n_lines, "written": written, "kept": kept, "refused": refused,
                "expired": expired, "seconds": seconds,
            });
            return output::print(|out| Ok(writeln!(out, "{told}")?));
        }
        let rate = rate(n_lines, seconds);
        let expired = if expired > 0 { format!(", {expired} expired") } else { String::new() };
        logging::say(&format!(
            "{done} {n_lines} lines: {written} written, {kept} kept as they were, {refused} \
             refused{expired}; {rate}"
        ));
        Ok(())
    }
}

fn open(path: Option<&OsString>) -> Result<Box<dyn BufRead>, Failure> {
    const BUFFER_LEN: usize = 1 << 20;
    let Some(path) = path.filter(|path| *path != "-") else {
        input::say_that_we_wait("an export");
        return Ok(Box::new(BufReader::with_capacity(BUFFER_LEN, io::stdin())));
    };
    let file = File::open(path);
    let file = file.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_LEN, file)))
}

/// Reads a line without its end into `text`; false at the end of the source.
fn next_line(source: &mut dyn BufRead, text: &mut Vec<u8>, number: u64) -> Result<bool, Failure> {
    text.clear();
    let read = source.take(LINE_LEN_MAX as u64 + 1).read_until(b'\n', text);
    let len = read.map_err(|error| Failure::failed(format!("line {number}: {error}")))?;
    if text.ends_with(b"\n") {
        text.pop();
    } else if len > LINE_LEN_MAX {
        return Err(Failure::failed(format!("line {number}: longer than {LINE_LEN_MAX} bytes")));
    }
    Ok(len > 0)
}

fn request(wire: &Wire, entry: &line::Entry<'_>, ttl: Option<u64>, overwrite: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512 + entry.value.len());
    let Wire { prefix, headers, .. } = wire;
    let parameters: Vec<String> = ttl.map(|ttl| format!("ttl={ttl}s")).into_iter().collect();
    // Writing to a vector does not fail.
    let _ = write!(bytes, "PUT {prefix}{} HTTP/1.1\r\n{headers}", target(&entry.key, &parameters));
    if !overwrite {
        bytes.extend_from_slice(b"If-None-Match: *\r\n");
    }
    if let Some(content_type) = &entry.content_type {
        let _ = write!(bytes, "Content-Type: {content_type}\r\n");
    }
    let _ = write!(bytes, "Content-Length: {}\r\n\r\n", entry.value.len());
    bytes.extend_from_slice(&entry.value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_go_on_is_before_the_first_gap() {
        let mut tally = Tally::default();
        assert_eq!(tally.end(11), 11);
        for number in [12, 14, 11, 20, 13] {
            tally.settle(number);
        }
        assert_eq!((tally.end(11), tally.settled.len()), (15, 2));
        for number in 15..20 {
            tally.settle(number);
        }
        assert_eq!((tally.end(11), tally.settled.len()), (21, 1));
    }
}
