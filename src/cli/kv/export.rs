//! `export`: every entry as a line, to be kept, looked at, or imported elsewhere.

use super::export_file::ExportFile;
use super::line::Item;
use super::list::{Key, Pages};
use super::utf8;
use crate::cli::client::{Client, ServerFlags};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Halt;
use crate::cli::logging;
use crate::cli::output::{self, Stop};
use crate::cli::progress::{Progress, rate};
use clap::Args;
use parking_lot::Mutex;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const EXAMPLES: &str = "\
Examples:
  gossipykv kv export > copy.ndjson
  gossipykv kv export user/ --output users.ndjson
  gossipykv kv export --output copy.ndjson --resume    go on with one that stopped

A line is a JSON object with \"key\", \"value\", \"type\" and \"version\"; a value that is not UTF-8
is \"base64\". Lines are in the order of keys. An export is no snapshot: a key that is there all
the while is in it once; one that comes or goes meanwhile may be or not.

FILE is written as .FILE.part and gets its name when it is whole: an export that fails leaves the
one before it alone. --resume goes on with that part; where there is none, with FILE itself. It
refuses to where the node holds none of the keys up to there any more. A pipe or a device is written
to as it is.";

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
    /// Go on behind the last whole line of what an export left that stopped
    #[arg(long, requires = "output")]
    resume: bool,
}

impl ExportArgs {
    pub(super) fn run(self, server: &ServerFlags, halt: &Halt) -> Result<(), Failure> {
        let path = self.output.filter(|path| path != "-");
        let lines = Arc::new(Written {
            n: AtomicU64::new(0),
            go_on: Mutex::new(if path.is_none() { MAYBE_CUT } else { NOTHING }),
            progress: Progress::new(None, "keys", path.is_none()),
        });
        let (last, is_output) = (Arc::clone(&lines), path.is_none());
        halt.last_words(move |name| {
            last.tell();
            logging::say(&format!("stopped by {name}; {}", last.go_on.lock()));
        });
        let prefix = utf8(self.prefix, "PREFIX")?;
        let client = server.client()?;
        let ended = match &path {
            None => {
                let mut pages = Pages::new(&client, &prefix, None, true);
                output::print(|out| {
                    while let Some(items) = pages.next::<Item>()? {
                        lines.write(&items, out, halt, Stop::from)?;
                    }
                    Ok(())
                })
            }
            Some(path) => {
                let path = Path::new(path);
                match to_file(path, self.resume, &prefix, &client, &lines, halt) {
                    Ok(()) => Ok(()),
                    Err(Stop::Failure(failure)) => Err(failure),
                    Err(Stop::ReaderGone) => {
                        let path = path.display();
                        Err(Failure::failed(format!("{path}: nobody reads it any more")))
                    }
                }
            }
        };
        halt.over()?;
        lines.tell();
        if ended.is_err() && !is_output {
            logging::say(&format!("stopped; {}", lines.go_on.lock()));
        }
        ended
    }
}

/// Of an export that cannot be gone on with.
const MAYBE_CUT: &str = "the last line may not be whole";
const RESUME: &str = "go on with --resume";
const NOTHING: &str = "nothing was written";

/// What is written.
struct Written {
    /// Lines.
    n: AtomicU64,
    /// What to do about it, or to know of it, when it stops here.
    go_on: Mutex<&'static str>,
    progress: Progress,
}

impl Written {
    /// Writes a page; `failed` says where to.
    fn write(
        &self,
        items: &[Item],
        out: &mut impl Write,
        halt: &Halt,
        failed: impl FnOnce(io::Error) -> Stop,
    ) -> Result<(), Stop> {
        let mut lines = Vec::new();
        for item in items {
            item.write(&mut lines);
        }
        let step = halt.step()?;
        out.write_all(&lines).and_then(|()| out.flush()).map_err(failed)?;
        self.n.fetch_add(items.len() as u64, Relaxed);
        drop(step);
        self.progress.add(items.len() as u64);
        Ok(())
    }

    fn tell(&self) {
        self.progress.end();
        let n = self.n.load(Relaxed);
        logging::say(&format!("exported {n} keys; {}", rate(n, self.progress.seconds())));
    }
}

fn to_file(
    path: &Path,
    resume: bool,
    prefix: &str,
    client: &Client,
    lines: &Written,
    halt: &Halt,
) -> Result<(), Stop> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::BrokenPipe => Stop::ReaderGone,
        _ => Stop::Failure(Failure::failed(format!("{}: {error}", path.display()))),
    };
    let (resumed, after) = match resume {
        true => {
            ExportFile::resume(path).map(|(file, after)| (Some(file), after)).map_err(failed)?
        }
        false => (None, None),
    };
    if resume {
        *lines.go_on.lock() = RESUME;
    }
    if let Some(after) = &after
        && let Some(why) = why_not(client, prefix, after)?
    {
        *lines.go_on.lock() = NOTHING;
        return Err(failed(io::Error::other(why)));
    }
    let mut pages = Pages::new(client, prefix, after, true);
    // Asked for before there is a file: where nobody answers, nothing is made.
    let mut next = pages.next::<Item>()?;
    let mut file = match resumed {
        Some(file) => file,
        None => ExportFile::create(path).map_err(failed)?,
    };
    *lines.go_on.lock() = if file.can_resume() { RESUME } else { MAYBE_CUT };
    while let Some(items) = next {
        lines.write(&items, &mut file.file, halt, failed)?;
        next = pages.next()?;
    }
    let step = halt.step()?;
    file.finish().map_err(failed)?;
    drop(step);
    Ok(())
}

/// Why what ends with the key `after` cannot be gone on with here, as far as that shows: the rest
/// would be of other keys than its beginning, and might be nothing.
fn why_not(client: &Client, prefix: &str, after: &str) -> Result<Option<String>, Failure> {
    let anew = "without --resume it is written anew";
    if !after.starts_with(prefix) {
        return Ok(Some(format!("it ends with {after:?}, which is no {prefix:?}; {anew}")));
    }
    let first = Pages::new(client, prefix, None, false).next::<Key>()?;
    let first = first.unwrap_or_default();
    let is_there = first.first().is_some_and(|first| *first.key <= *after);
    Ok((!is_there).then(|| {
        format!(
            "{client} holds none of the keys that are in it, up to {after:?}: it was emptied, or \
             is another one; its lines are left as they are, and {anew}"
        )
    }))
}
