//! `delete --prefix`: many keys at once, for whoever has said yes.

use super::list::Pages;
use super::pipeline::{self, Order, Reply};
use super::target;
use crate::cli::client::ServerFlags;
use crate::cli::failure::Failure;
use crate::cli::progress::{Progress, rate};
use crate::cli::{logging, output};
use serde::Deserialize;
use serde_json::json;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Deserialize)]
struct Key {
    key: String,
}

/// Deletes every key that begins with `prefix`, after a yes.
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
    let progress = Progress::new(None, "keys deleted", false);
    let n_deleted = AtomicU64::new(0);
    let settle = |_: u64, reply: Reply| {
        if !reply.status.is_success() {
            return Err(client.said_no(reply.status, &reply.body));
        }
        n_deleted.fetch_add(1, Relaxed);
        progress.add(1);
        Ok(())
    };
    let wire = client.wire();
    let ended = pipeline::run(&client, &settle, |sender| {
        let mut pages = Pages::new(&client, prefix, None, false);
        while let Some(keys) = pages.next::<Key>()? {
            for Key { key } in keys {
                let (path, headers) = (target(&key, &[]), &wire.headers);
                let head = format!("DELETE {}{path} HTTP/1.1\r\n{headers}\r\n", wire.prefix);
                if !sender.push(Order { number: 0, bytes: head.into_bytes() }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    });
    progress.end();
    let n_deleted = n_deleted.into_inner();
    if server.json {
        output::print(|out| Ok(writeln!(out, "{}", json!({ "deleted": n_deleted }))?))?;
    } else {
        logging::say(&format!("deleted {n_deleted} keys; {}", rate(n_deleted, progress.seconds())));
    }
    ended
}

/// Asks on the terminal.
fn confirm(n_keys: usize, prefix: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let problem = format!("--prefix: {n_keys} keys begin with {prefix:?}; --yes deletes them");
        return Err(Failure::usage(problem));
    }
    logging::say(&format!("{n_keys} keys begin with {prefix:?}. Delete them on all nodes? [y/N]"));
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
