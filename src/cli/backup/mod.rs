//! `backup`, `restore`, `check`: a copy of all keys outside the cluster, and back.
//!
//! ```text
//!   backup:   node --pages--> frame (counts, hashes) --> place: file, folder, S3
//!   restore:  place --> frame, to its end --> again --> node, as `kv import` writes
//!   check:    place --> frame, to its end
//! ```
//!
//! A copy is whole or is none: it appears under its name when it has been written to its end, and
//! its last line says how much there is before it. `restore` writes nothing before it has read
//! that.

mod frame;
mod local;
mod place;
mod s3;
mod shelf;

use super::client::{Client, ServerFlags};
use super::failure::Failure;
use super::interrupt::Halt;
use super::kv::import::{Loading, Next};
use super::kv::line::Item;
use super::kv::list::Pages;
use super::logging;
use super::output;
use super::progress::{Progress, rate};
use crate::runtime::clock::Clock;
use crate::time::WallMillis;
use clap::Args;
use frame::{Head, Lines, Sealer, Tail};
use place::Place;
use s3::Encryption;
use serde_json::json;
use std::ffi::OsString;
use std::io::{BufRead, Write as _};
use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

const BACKUP_EXAMPLES: &str = "\
Examples:
  gossipykv backup copy.ndjson
  gossipykv backup /var/backups/kv/ --keep 14
  gossipykv backup s3://bucket/kv/production --keep 48

A folder and a prefix of S3 get a backup called gossipykv-TIME.ndjson. It appears when it is whole.
It is no snapshot: every write answered by the node asked before it began is in it, and so is what
other nodes had told that node; of what is written meanwhile some may be. S3 is told of by
AWS_REGION, AWS_ENDPOINT_URL, AWS_CA_BUNDLE, and AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or
the role of the container on ECS and EKS.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such bucket, 4 refused, 5 no answer.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  gossipykv restore copy.ndjson
  gossipykv restore s3://bucket/kv/production          the newest one there
  gossipykv restore /var/backups/kv/ --overwrite       the backup wins over what is there

The backup is read to its end before anything is written. Keys, values, content types and the
moments at which keys expire are as they were; versions are new ones, since a version names the
writer. Without --overwrite a key that is there already is left as it is, so that a restore that
stopped goes on when it is run again; with it that one begins anew, and wins over what was written
meanwhile, too. A key that was deleted since the backup is written again.";

const CHECK_EXAMPLES: &str = "\
Examples:
  gossipykv check copy.ndjson
  gossipykv check s3://bucket/kv/production --json

Reads a backup to its end as restore does, and writes nothing. Asks no node.";

/// How long a backup waits for writes of others that the node knows of and does not have.
const SETTLE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Copies every key to a file, a folder or S3.
#[derive(Debug, Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub(super) struct BackupArgs {
    /// A file, a folder, or s3://BUCKET/PREFIX
    #[arg(value_name = "PLACE")]
    place: OsString,
    /// Of a folder or a prefix: remove all but the newest so many, once the new one is there
    #[arg(long, value_name = "COUNT")]
    keep: Option<NonZeroUsize>,
    /// Make a backup of a node that holds no key, too
    #[arg(long)]
    allow_empty: bool,
    /// How S3 encrypts it: as the "bucket" does on its own, or AES256, aws:kms, aws:kms:KEY
    #[arg(long, value_name = "HOW", default_value = "bucket")]
    s3_encryption: Encryption,
    #[command(flatten)]
    server: ServerFlags,
}

/// Writes the keys of a backup.
#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(super) struct RestoreArgs {
    /// A file, or a folder or s3://BUCKET/PREFIX: the newest there; or s3://BUCKET/NAME.ndjson
    #[arg(value_name = "PLACE")]
    place: OsString,
    /// Write every key, over what was written since the backup
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Reads a backup to its end, and says what is in it.
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(super) struct CheckArgs {
    /// A file, or a folder or s3://BUCKET/PREFIX: the newest there; or s3://BUCKET/NAME.ndjson
    #[arg(value_name = "PLACE")]
    place: OsString,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl BackupArgs {
    pub(super) fn run(self, halt: &Halt) -> Result<(), Failure> {
        halt.last_words(none_made);
        let clock = Clock::start();
        let place = Place::new(&self.place, &self.s3_encryption)?;
        if self.keep.is_some() && place.name.is_some() {
            return Err(Failure::usage("--keep: of a folder or a prefix, and this is one backup"));
        }
        let client = self.server.client()?;
        settle(&client, &clock)?;
        let name = place.name.clone().unwrap_or_else(|| place::name_of(clock.now().wall));
        let at = place.shelf.describe(&name);
        let progress = Progress::new(None, "keys", false);
        let tail = self.copy(&client, &place, &name, &clock, &progress, halt);
        progress.end();
        let tail = tail?;
        if !self.server.json {
            let (keys, bytes) = (tail.keys, tail.bytes);
            let rate = rate(keys, progress.seconds());
            logging::say(&format!("backed up {keys} keys, {bytes} bytes, to {at}; {rate}"));
        }
        let removed = match self.keep {
            Some(keep) => place.thin_out(keep.get())?,
            None => Vec::new(),
        };
        if self.server.json {
            let mut told = summary(&at, None, &tail);
            told["removed"] = json!(removed);
            return output::print(|out| Ok(writeln!(out, "{told}")?));
        }
        for name in removed {
            logging::say(&format!("removed {}", place.shelf.describe(&name)));
        }
        Ok(())
    }

    /// Writes the copy; when that fails nothing of it is left.
    fn copy(
        &self,
        client: &Client,
        place: &Place,
        name: &str,
        clock: &Clock,
        progress: &Progress,
        halt: &Halt,
    ) -> Result<Tail, Failure> {
        let at = place.shelf.describe(name);
        let failed = |error: std::io::Error| Failure::failed(format!("{at}: {error}"));
        let mut pages = Pages::new(client, "", None, true);
        // Asked for before anything is written: what nobody may read makes no empty file.
        let mut next = pages.next::<Item>()?;
        let head = Head::new(time_of(clock.now().wall), client.to_string());
        // A part of it is to be taken away again.
        halt.no_last_words()?;
        let mut write = || {
            let target = place.shelf.create(name)?;
            let mut sealer = Sealer::new(target, &head).map_err(failed)?;
            let mut lines = Vec::new();
            while let Some(items) = next.take() {
                halt.check()?;
                lines.clear();
                for item in &items {
                    item.write(&mut lines);
                }
                sealer.write(&lines, items.len() as u64).map_err(failed)?;
                progress.add(items.len() as u64);
                next = pages.next::<Item>()?;
            }
            if sealer.keys() == 0 && !self.allow_empty {
                return Err(Failure::failed(format!(
                    "{client}: it holds no key; a backup of nothing would in time take the place \
                     of better ones. --allow-empty makes one"
                )));
            }
            let (target, tail) = sealer.end(time_of(clock.now().wall)).map_err(failed)?;
            halt.over()?;
            target.finish()?;
            Ok(tail)
        };
        let written = write();
        // What it failed with may be no more than that it was waited for.
        if written.is_err()
            && let Err(Failure::Interrupted(name)) = halt.check()
        {
            progress.end();
            none_made(name);
            return Err(Failure::Interrupted(name));
        }
        written
    }
}

impl RestoreArgs {
    pub(super) fn run(self, halt: &Halt) -> Result<(), Failure> {
        halt.last_words(|name| logging::say(&format!("stopped by {name}; nothing was written")));
        let place = Place::new(&self.place, &Encryption::default())?;
        let client = self.server.client()?;
        client.accept(client.get("/health")?)?;
        let name = place.existing()?;
        let at = place.shelf.describe(&name);
        let (head, tail) = verify(&place, &name)?;
        if !self.server.json {
            let (keys, began) = (tail.keys, &head.began);
            logging::say(&format!("{at} is whole: {keys} keys of {began}"));
        }
        let wrong = |why: String| Failure::failed(format!("{at}: {why}"));
        let mut lines = open(&place, &name)?;
        // How many are written is told by itself, and is not where it stopped.
        let go_on: fn(u64) -> String = match self.overwrite {
            false => |_| "run it again: it leaves the keys that are there".to_owned(),
            true => |_| "run it again: it writes all of them anew, over what is there".to_owned(),
        };
        let (done, overwrite, as_json) = ("restored", self.overwrite, self.server.json);
        let work = Loading { done, go_on, overwrite, skip: 0, as_json }.begin(halt);
        let mut is_over = false;
        work.run(&client, halt, &mut |text, _| {
            if is_over {
                return Ok(Next::End);
            }
            match lines.next(text).map_err(wrong)? {
                None => Ok(Next::Line),
                Some(found) if found == tail && *lines.head() == head => {
                    is_over = true;
                    Ok(Next::End)
                }
                Some(_) => Err(wrong("it was replaced while it was read".to_owned())),
            }
        })
    }
}

impl CheckArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let place = Place::new(&self.place, &Encryption::default())?;
        let name = place.existing()?;
        let (head, tail) = verify(&place, &name)?;
        let at = place.shelf.describe(&name);
        output::print(|out| {
            if self.json {
                return Ok(writeln!(out, "{}", summary(&at, Some(&head), &tail))?);
            }
            let Tail { keys, bytes, ended, .. } = &tail;
            let Head { began, server, .. } = &head;
            writeln!(out, "{at} is whole")?;
            writeln!(out, "{keys} keys, {bytes} bytes, of {server}, {began} to {ended}")?;
            Ok(())
        })
    }
}

fn none_made(name: &'static str) {
    logging::say(&format!("stopped by {name}; no backup was made"));
}

fn summary(at: &str, head: Option<&Head>, tail: &Tail) -> serde_json::Value {
    let mut told = json!({
        "place": at, "keys": tail.keys, "bytes": tail.bytes, "sha256": tail.sha256,
        "ended": tail.ended,
    });
    if let Some(head) = head {
        told["began"] = json!(head.began);
        told["server"] = json!(head.server);
    }
    told
}

fn open<'p>(place: &'p Place, name: &str) -> Result<Lines<Box<dyn BufRead + 'p>>, Failure> {
    let source = place.shelf.open(name)?;
    let at = || place.shelf.describe(name);
    Lines::new(source).map_err(|why| Failure::failed(format!("{}: {why}", at())))
}

fn verify(place: &Place, name: &str) -> Result<(Head, Tail), Failure> {
    let progress = Progress::new(None, "keys read", false);
    let found = open(place, name)?.verify(|keys| progress.add(keys));
    progress.end();
    found.map_err(|why| Failure::failed(format!("{}: {why}", place.shelf.describe(name))))
}

/// A moment as text, RFC 3339.
fn time_of(wall: WallMillis) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(wall.0);
    humantime::format_rfc3339_millis(time).to_string()
}

/// Waits until the node is ready, and has what it knows that others wrote; that for a moment only:
/// some of it may never come.
fn settle(client: &Client, clock: &Clock) -> Result<(), Failure> {
    client.accept(client.get("/health")?)?;
    let deadline = clock.instant() + SETTLE;
    loop {
        let answer = client.accept(client.get("/metrics")?)?;
        let text = client.body(answer)?;
        let text = String::from_utf8_lossy(&text);
        let gaps = text.lines().find_map(|line| line.strip_prefix("gossipykv_gaps_open "));
        let gaps = gaps.unwrap_or("0");
        if gaps == "0" {
            return Ok(());
        }
        if clock.instant() >= deadline {
            logging::say(&format!("{client}: {gaps} writes of others have not come; going on"));
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
