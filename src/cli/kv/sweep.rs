//! `delete --prefix` and `--all`: many keys at once, for whoever has said yes.

use super::list::{Key, Pages};
use super::pipeline::{self, Order, Reply};
use super::target;
use crate::cli::client::{Client, ServerFlags};
use crate::cli::failure::Failure;
use crate::cli::interrupt::{Halt, guarded};
use crate::cli::progress::{Progress, rate};
use crate::cli::{logging, output};
use serde_json::json;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Deletes every key that begins with `prefix`, after a yes; with an empty one all there are.
///
/// # Errors
/// No yes, nobody to ask, or what the server says.
pub(super) fn delete(server: &ServerFlags, prefix: &str, yes: bool) -> Result<(), Failure> {
    let client = server.client()?;
    if !yes {
        let mut n_keys = 0;
        let mut pages = Pages::new(&client, prefix, None, false);
        while let Some(keys) = pages.next::<Key>()? {
            n_keys += keys.len();
        }
        confirm(n_keys, prefix)?;
    }
    let sweep = Sweep {
        prefix: prefix.to_owned(),
        progress: Progress::new(None, "keys deleted", false),
        n_deleted: AtomicU64::new(0),
        as_json: server.json,
    };
    guarded(move |halt| Arc::new(sweep).run(&client, halt))
}

/// Deletes at work.
struct Sweep {
    prefix: String,
    progress: Progress,
    n_deleted: AtomicU64,
    as_json: bool,
}

impl Sweep {
    fn run(self: &Arc<Self>, client: &Client, halt: &Halt) -> Result<(), Failure> {
        let this = Arc::clone(self);
        halt.last_words(move |name| {
            // Whoever reads what is told may be gone.
            let _ = this.tell();
            logging::say(&format!("stopped by {name}; the others are still there"));
        });
        let settle = |_: u64, reply: Reply| {
            if !reply.status.is_success() {
                return Err(client.said_no(reply.status, &reply.body));
            }
            self.n_deleted.fetch_add(1, Relaxed);
            self.progress.add(1);
            Ok(())
        };
        let wire = client.wire();
        let ended = pipeline::run(client, halt, &settle, |sender| {
            let mut pages = Pages::new(client, &self.prefix, None, false);
            while let Some(keys) = pages.next::<Key>()? {
                for Key { key } in keys {
                    let (path, headers) = (target(&key, &[]), &wire.headers);
                    let head = format!("DELETE {}{path} HTTP/1.1\r\n{headers}\r\n", wire.prefix);
                    if !sender.push(&key, Order { number: 0, bytes: head.into_bytes() }) {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        halt.over()?;
        self.tell()?;
        ended
    }

    fn tell(&self) -> Result<(), Failure> {
        self.progress.end();
        let n_deleted = self.n_deleted.load(Relaxed);
        if self.as_json {
            return output::print(|out| Ok(writeln!(out, "{}", json!({ "deleted": n_deleted }))?));
        }
        let rate = rate(n_deleted, self.progress.seconds());
        logging::say(&format!("deleted {n_deleted} keys; {rate}"));
        Ok(())
    }
}

/// Asks on the terminal.
fn confirm(n_keys: usize, prefix: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let problem = match prefix {
            "" => format!("--all: there are {n_keys} keys; --yes deletes them"),
            _ => format!("--prefix: {n_keys} keys begin with {prefix:?}; --yes deletes them"),
        };
        return Err(Failure::usage(problem));
    }
    let which = match prefix {
        "" => format!("{n_keys} keys are all there are"),
        _ => format!("{n_keys} keys begin with {prefix:?}"),
    };
    logging::say(&format!("{which}. Delete them on all nodes? [y/N]"));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::failed(format!("standard input: {error}")))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was deleted")),
    }
}
