//! Keys in order, page by page: `list`, and what walks through all of them.

use super::{encode, utf8};
use crate::cli::client::{Client, ServerFlags};
use crate::cli::failure::{Failure, one_line};
use crate::cli::output::{self, Out, Stop};
use crate::kv::Stamp;
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

const EXAMPLES: &str = "\
Examples:
  gossipykv kv list                              every key, one a line
  gossipykv kv list user/ --long                 with size in bytes and time of the write
  gossipykv kv list user/ --json                 {\"key\":..,\"value\":..,\"version\":..} a line

A value that is not UTF-8 reads {\"base64\":..}. A key is printed as it is; with --json and --long
its line breaks, if it has some, are escaped. The time is that of the writer's clock, in UTC.";

/// Prints the keys in order, each page as it comes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    /// Only keys that begin with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// Print size, time of the write, content type and expiry too
    #[arg(long, short)]
    long: bool,
}

/// What a page says when it is none.
const NO_PAGE: &str = "the answer is no page of keys in order";

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

/// An item of a page of keys alone.
#[derive(Deserialize)]
pub(super) struct Key {
    pub(super) key: String,
}

/// The pages of a prefix, in order, each asked for when it is wanted.
pub(in crate::cli) struct Pages<'c> {
    client: &'c Client,
    prefix: String,
    after: Option<String>,
    with_values: bool,
    is_over: bool,
}

impl<'c> Pages<'c> {
    /// Those behind the key `after`, if one is given.
    pub(in crate::cli) fn new(
        client: &'c Client,
        prefix: &str,
        after: Option<String>,
        with_values: bool,
    ) -> Pages<'c> {
        Pages { client, prefix: prefix.to_owned(), after, with_values, is_over: false }
    }

    /// The next page; `None` after the last one.
    ///
    /// # Errors
    /// No answer, a refusal, or no page; a server that turns in circles is left.
    pub(in crate::cli) fn next<T: serde::de::DeserializeOwned>(
        &mut self,
    ) -> Result<Option<Vec<T>>, Failure> {
        if self.is_over {
            return Ok(None);
        }
        let mut path = format!("/kv/?prefix={}", encode(&self.prefix));
        if let Some(after) = &self.after {
            path.push_str(&format!("&after={}", encode(after)));
        }
        if !self.with_values {
            path.push_str("&keys");
        }
        let answer = self.client.accept(self.client.get(&path)?)?;
        let page: Page<T> = self.client.json(answer, "a page of keys")?;
        match page.next {
            None => self.is_over = true,
            Some(next) if self.after.as_ref().is_none_or(|after| next > *after) => {
                self.after = Some(next);
            }
            Some(_) => return Err(self.client.failure(NO_PAGE)),
        }
        Ok(Some(page.items))
    }
}

impl ListArgs {
    pub(super) fn run(self, server: &ServerFlags) -> Result<(), Failure> {
        let prefix = utf8(self.prefix, "PREFIX")?;
        let client = server.client()?;
        let mut pages = Pages::new(&client, &prefix, None, server.json);
        output::print(|out| {
            if self.long && !server.json {
                writeln!(out, "{:>12}  {:20}  KEY", "SIZE", "WRITTEN")?;
            }
            while let Some(items) = pages.next::<Value>()? {
                for item in &items {
                    match item["key"].as_str() {
                        _ if server.json => writeln!(out, "{item}")?,
                        None => return Err(Stop::Failure(client.failure(NO_PAGE))),
                        Some(key) if self.long => write_long(out, item, key)?,
                        Some(key) => writeln!(out, "{key}")?,
                    }
                }
                out.flush()?;
            }
            Ok(())
        })
    }
}

/// A node of a version before sizes were told does not tell them.
fn write_long(out: &mut Out<'_>, item: &Value, key: &str) -> Result<(), Stop> {
    let size = item["size"].as_u64().map_or("?".to_owned(), |size| size.to_string());
    let time = item["version"].as_str().and_then(written_at).unwrap_or("?".to_owned());
    write!(out, "{size:>12}  {time:20}  {}", one_line(key))?;
    if let Some(kept) = item["type"].as_str() {
        write!(out, "  {}", one_line(kept))?;
    }
    if let Some(expires) = item["expires"].as_str() {
        write!(out, "  expires {}", one_line(expires))?;
    }
    Ok(writeln!(out)?)
}

/// When a version was made, by the clock of whoever made it.
fn written_at(version: &str) -> Option<String> {
    let stamp: Stamp = version.parse().ok()?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(stamp.time.millis()))?;
    let mut text = String::new();
    // It fails past the year 9999.
    write!(text, "{}", humantime::format_rfc3339_seconds(time)).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_when_it_was_made() {
        let time = written_at("01a2287b8c280000-acd722e39daa1516");
        assert_eq!(time.as_deref(), Some("2026-11-29T18:05:15Z"));
        assert_eq!(written_at("ffffffffffffffff-0000000000000000"), None, "past the year 9999");
        assert_eq!(written_at("1-1"), None);
    }
}
