//! `export`: every entry as a line, to be kept, looked at, or imported elsewhere.

use super::line::{Item, LINE_LEN_MAX, key_of};
use super::list::Pages;
use super::utf8;
use crate::cli::client::ServerFlags;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Halt;
use crate::cli::logging;
use crate::cli::output::{self, Stop};
use crate::cli::progress::{Progress, rate};
use clap::Args;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const EXAMPLES: &str = "\
Examples:
  gossipykv kv export > copy.ndjson
  gossipykv kv export user/ --output users.ndjson
  gossipykv kv export --output copy.ndjson --resume    go on with one that stopped

A line is a JSON object with \"key\", \"value\", \"type\" and \"version\"; a value that is not UTF-8
is \"base64\". Lines are in the order of keys. An export is no snapshot: a key that is there all
the while is in it once; one that comes or goes meanwhile may be or not.";

/// Prints every entry as a line of JSON, to be imported elsewhere.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExportArgs {
    /// Only keys that begin with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// The file to write; "-" or nothing: standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<OsString>,
    /// Go on behind the last whole line of the file
    #[arg(long, requires = "output")]
    resume: bool,
}

impl ExportArgs {
    pub(super) fn run(self, server: &ServerFlags, halt: &Halt) -> Result<(), Failure> {
        let path = self.output.filter(|path| path != "-");
        let lines = Arc::new(Written {
            n: AtomicU64::new(0),
            progress: Progress::new(None, "keys", path.is_none()),
        });
        let (last, is_file) = (Arc::clone(&lines), path.is_some());
        halt.last_words(move |name| {
            last.tell();
            let go_on = if is_file { GO_ON } else { "the last line may not be whole" };
            logging::say(&format!("stopped by {name}; {go_on}"));
        });
        let prefix = utf8(self.prefix, "PREFIX")?;
        let client = server.client()?;
        let ended = match &path {
            None => {
                let mut pages = Pages::new(&client, &prefix, None, true);
                output::print(|out| write(&mut pages, out, &lines, halt))
            }
            Some(path) => {
                let failed = |error| Failure::failed(format!("{}: {error}", path.display()));
                let open = if self.resume { open_to_resume } else { create };
                let (mut file, after) = open(path).map_err(failed)?;
                let mut pages = Pages::new(&client, &prefix, after, true);
                match write(&mut pages, &mut file, &lines, halt) {
                    Ok(()) => Ok(()),
                    Err(Stop::Failure(failure)) => Err(failure),
                    Err(Stop::ReaderGone) => Err(Failure::failed("nobody reads the output")),
                }
            }
        };
        halt.over()?;
        lines.tell();
        if ended.is_err() && is_file {
            logging::say(&format!("stopped; {GO_ON}"));
        }
        ended
    }
}

/// What to do about an export to a file that stopped.
const GO_ON: &str = "go on with --resume";

/// How many lines are written.
struct Written {
    n: AtomicU64,
    progress: Progress,
}

impl Written {
    fn tell(&self) {
        self.progress.end();
        let n = self.n.load(Relaxed);
        logging::say(&format!("exported {n} keys; {}", rate(n, self.progress.seconds())));
    }
}

fn write(
    pages: &mut Pages<'_>,
    out: &mut impl Write,
    written: &Written,
    halt: &Halt,
) -> Result<(), Stop> {
    let mut lines = Vec::new();
    while let Some(items) = pages.next::<Item>()? {
        lines.clear();
        for item in &items {
            item.write(&mut lines);
        }
        let step = halt.step()?;
        out.write_all(&lines)?;
        out.flush()?;
        written.n.fetch_add(items.len() as u64, Relaxed);
        drop(step);
        written.progress.add(items.len() as u64);
    }
    Ok(())
}

/// A new file, empty if there was one, and no key to begin behind.
fn create(path: &OsString) -> io::Result<(File, Option<String>)> {
    File::create(path).map(|file| (file, None))
}

/// The file up to its last whole line, and the key of that one.
fn open_to_resume(path: &OsString) -> io::Result<(File, Option<String>)> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    let (mut last, mut line, mut len) = (Vec::new(), Vec::new(), 0);
    let mut reader = BufReader::with_capacity(1 << 20, &mut file);
    loop {
        line.clear();
        reader.by_ref().take(LINE_LEN_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            break;
        }
        len += line.len() as u64;
        std::mem::swap(&mut last, &mut line);
    }
    let key = key_of(&last);
    if key.is_none() && !last.is_empty() {
        let why = "its last line is none of an export";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    file.set_len(len)?;
    file.seek(SeekFrom::Start(len))?;
    Ok((file, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_resumed_begins_behind_the_last_whole_line() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().as_os_str().to_owned();
        assert_eq!(open_to_resume(&path).expect("empty").1, None);
        let whole = "{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"b\",\"value\":\"2\"}\n";
        write!(file, "{whole}{{\"key\":\"c\",\"va").expect("room");
        let (mut resumed, after) = open_to_resume(&path).expect("two lines");
        assert_eq!(after.as_deref(), Some("b"));
        resumed.write_all(b"more\n").expect("room");
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(text, format!("{whole}more\n"));
        assert!(open_to_resume(&path).is_err(), "that is no line of an export");
    }
}
