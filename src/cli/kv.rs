//! `kv`: put, get, delete and list through a node.

use super::client::{Client, ServerFlags};
use super::failure::{Failure, one_line};
use super::output::{self, Stop};
use crate::limits::{KEY_LEN_MAX, VALUE_LEN_HARD_MAX};
use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use ureq::http::{Method, StatusCode};

const EXAMPLES: &str = "\
Examples:
  gossipykv kv put greeting hello
  gossipykv kv get greeting
  gossipykv kv list user/
  gossipykv kv delete greeting --server http://10.0.0.5:8080";

const GET_EXAMPLES: &str = "\
Examples:
  gossipykv kv get greeting
  gossipykv kv get logo.png > logo.png

A missing key: one line on standard error, exit status 1.";

const PUT_EXAMPLES: &str = "\
Examples:
  gossipykv kv put greeting hello
  gossipykv kv put logo.png - --content-type image/png < logo.png
  gossipykv kv put -- -key- -value-              a key that begins with a dash";

const DELETE_EXAMPLES: &str = "\
Example:
  gossipykv kv delete greeting

It succeeds whether the key was there or not.";

const LIST_EXAMPLES: &str = "\
Examples:
  gossipykv kv list                              every key, one a line
  gossipykv kv list user/ --json                 {\"key\":..,\"value\":..,\"version\":..} a line

A value that is not UTF-8 reads {\"base64\":..}. A key is printed as it is; with --json its line
breaks, if it has some, are escaped.";

/// Reads and writes keys through a node.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true)]
pub(super) struct KvArgs {
    #[command(flatten)]
    server: ServerFlags,
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Debug, Subcommand)]
enum KvCommand {
    Get(GetArgs),
    Put(PutArgs),
    Delete(DeleteArgs),
    List(ListArgs),
}

/// Prints the bytes of a value, nothing added.
#[derive(Debug, Args)]
#[command(after_help = GET_EXAMPLES)]
struct GetArgs {
    /// 1 to 512 bytes of UTF-8
    key: OsString,
}

/// Writes a value and prints its version.
#[derive(Debug, Args)]
#[command(after_help = PUT_EXAMPLES)]
struct PutArgs {
    /// 1 to 512 bytes of UTF-8
    key: OsString,
    /// The value; "-" or nothing: standard input, to its end
    #[arg(allow_negative_numbers = true)]
    value: Option<OsString>,
    /// Kept with the value, and given back with it
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

/// Deletes a key.
#[derive(Debug, Args)]
#[command(after_help = DELETE_EXAMPLES)]
struct DeleteArgs {
    /// 1 to 512 bytes of UTF-8
    key: OsString,
}

/// Prints the keys in order.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
struct ListArgs {
    /// Only keys that begin with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// Print one JSON object a line, with value and version
    #[arg(long)]
    json: bool,
}

impl KvArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            KvCommand::Get(args) => get(self.server, args),
            KvCommand::Put(args) => put(self.server, args),
            KvCommand::Delete(args) => delete(self.server, args),
            KvCommand::List(args) => list(self.server, args),
        }
    }
}

fn get(server: ServerFlags, args: GetArgs) -> Result<(), Failure> {
    let key = key(args.key)?;
    let client = server.client()?;
    let answer = client.get(&format!("{}?raw", path(&key)))?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Err(Failure::failed(format!("no such key: {key:?}")));
    }
    let mut body = client.accept(answer)?.into_body().into_reader();
    output::print(|out| {
        let mut chunk = vec![0; 64 << 10];
        loop {
            let len = body.read(&mut chunk).map_err(|error| client.failure(&error.to_string()))?;
            if len == 0 {
                return Ok(());
            }
            out.write_all(&chunk[..len])?;
        }
    })
}

fn put(server: ServerFlags, args: PutArgs) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Written {
        version: String,
    }
    let key = key(args.key)?;
    let value = match args.value {
        Some(value) if value != "-" => value.into_vec(),
        _ => standard_input()?,
    };
    let client = server.client()?;
    let content_type = args.content_type.as_deref();
    let answer = client.send(Method::PUT, &path(&key), content_type, &value)?;
    let written: Written = client.json(client.accept(answer)?, "that of a PUT")?;
    output::print(|out| Ok(writeln!(out, "{}", one_line(&written.version))?))
}

fn delete(server: ServerFlags, args: DeleteArgs) -> Result<(), Failure> {
    let key = key(args.key)?;
    let client = server.client()?;
    client.accept(client.delete(&path(&key))?).map(drop)
}

fn list(server: ServerFlags, args: ListArgs) -> Result<(), Failure> {
    let prefix = utf8(args.prefix, "PREFIX")?;
    let client = server.client()?;
    output::print(|out| {
        let mut after = None;
        loop {
            let page = page(&client, &prefix, after.as_deref(), args.json)?;
            for item in &page.items {
                if args.json {
                    writeln!(out, "{item}")?;
                } else {
                    let key = item["key"].as_str();
                    writeln!(out, "{}", key.ok_or_else(|| client.failure(NO_PAGE))?)?;
                }
            }
            match page.next {
                // A server that turns in circles must not keep us for ever.
                Some(next) if after.as_ref().is_none_or(|after| next > *after) => {
                    after = Some(next);
                }
                Some(_) => return Err(Stop::Failure(client.failure(NO_PAGE))),
                None => return Ok(()),
            }
        }
    })
}

const NO_PAGE: &str = "the answer is no page of keys in order";

#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
    next: Option<String>,
}

fn page(client: &Client, prefix: &str, after: Option<&str>, values: bool) -> Result<Page, Failure> {
    let mut path = format!("/kv/?prefix={}", encode(prefix));
    if let Some(after) = after {
        path.push_str(&format!("&after={}", encode(after)));
    }
    if !values {
        path.push_str("&keys");
    }
    client.json(client.accept(client.get(&path)?)?, "a page of keys")
}

/// A key from the command line.
fn key(text: OsString) -> Result<String, Failure> {
    let key = utf8(text, "KEY")?;
    if key.is_empty() || key.len() > KEY_LEN_MAX {
        let problem = format!("KEY: 1 to {KEY_LEN_MAX} bytes are possible, not {}", key.len());
        return Err(Failure::usage(problem));
    }
    Ok(key)
}

fn utf8(text: OsString, what: &str) -> Result<String, Failure> {
    text.into_string().map_err(|_| Failure::usage(format!("{what}: not UTF-8")))
}

/// Every byte but letters and digits is encoded, so that nothing on the way takes a meaning from
/// a slash or from dots.
fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

fn path(key: &str) -> String {
    format!("/kv/{}", encode(key))
}

/// Everything up to the end of standard input, within the bound of the largest value possible.
fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    let most = VALUE_LEN_HARD_MAX as u64 + 1;
    io::stdin()
        .lock()
        .take(most)
        .read_to_end(&mut value)
        .map_err(|error| Failure::failed(format!("standard input: {error}")))?;
    if value.len() > VALUE_LEN_HARD_MAX {
        let problem = format!("standard input: a value has at most {VALUE_LEN_HARD_MAX} bytes");
        return Err(Failure::failed(problem));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment_of_the_path_whatever_it_holds() {
        assert_eq!(path("a/b c"), "/kv/a%2Fb%20c");
        assert_eq!(path(".."), "/kv/%2E%2E");
        assert_eq!(path("?#%&\u{e9}"), "/kv/%3F%23%25%26%C3%A9");
    }
}
