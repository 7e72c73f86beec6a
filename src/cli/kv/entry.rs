//! One key: `get`, `put`, `delete`.

use super::sweep;
use super::{encode, key, target, utf8};
use crate::cli::client::{Answer, Client, ServerFlags, is_missing_key, timeout};
use crate::cli::failure::{Failure, one_line};
use crate::cli::{input, output};
use crate::limits::VALUE_LEN_HARD_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;
use ureq::http::{Method, StatusCode};

const GET_EXAMPLES: &str = "\
Examples:
  gossipykv kv get greeting
  gossipykv kv get logo.png > logo.png
  gossipykv kv get greeting --json               with key, type, version, seconds left

With --json a value that is not UTF-8 is \"base64\" instead of \"value\". A missing key: one line on
standard error, exit status 3.";

const PUT_EXAMPLES: &str = "\
Examples:
  gossipykv kv put greeting hello
  gossipykv kv put logo.png - --type image/png < logo.png
  gossipykv kv put greeting hello --w all        wait until all members hold it
  gossipykv kv put job me --if-absent            only when the node asked holds no such key
  gossipykv kv put session/7 data --ttl 30m      gone everywhere after that time
  gossipykv kv put -- -key- -value-              a key that begins with a dash

It prints the version of the write. A condition that does not hold: exit status 4.";

const DELETE_EXAMPLES: &str = "\
Examples:
  gossipykv kv delete greeting
  gossipykv kv delete --prefix user/             asks before it does so
  gossipykv kv delete --prefix user/ --yes
  gossipykv kv delete --all                      every key, after a yes

It succeeds whether the key was there or not.";

/// Prints the bytes of a value, nothing added.
#[derive(Debug, Args)]
#[command(after_help = GET_EXAMPLES)]
pub(super) struct GetArgs {
    /// 1 to 512 bytes of UTF-8
    key: OsString,
}

/// Writes a value and prints its version.
#[derive(Debug, Args)]
#[command(after_help = PUT_EXAMPLES)]
pub(super) struct PutArgs {
    /// 1 to 512 bytes of UTF-8
    key: OsString,
    /// The value; "-" or nothing: standard input, to its end
    #[arg(allow_negative_numbers = true)]
    value: Option<OsString>,
    /// The content type, kept with the value and given back with it
    #[arg(long = "type", alias = "content-type", value_name = "TYPE")]
    content_type: Option<String>,
    /// How long it lasts: whole seconds, as 30s, 5m, 1m30s or 12h [default: for good]
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Write only when the node asked holds no such key
    #[arg(long, conflicts_with = "if_match")]
    if_absent: bool,
    #[command(flatten)]
    concern: Concern,
}

/// Deletes a key, or all that begin alike.
#[derive(Debug, Args)]
#[command(after_help = DELETE_EXAMPLES)]
pub(super) struct DeleteArgs {
    /// 1 to 512 bytes of UTF-8
    #[arg(required_unless_present = "many", conflicts_with = "many")]
    key: Option<OsString>,
    /// Delete every key that begins with this, one byte at least; it asks on a terminal
    #[arg(long, value_name = "PREFIX", group = "many", conflicts_with_all = ["if_match", "w"])]
    prefix: Option<OsString>,
    /// Delete every key there is; it asks on a terminal
    #[arg(long, group = "many", conflicts_with_all = ["if_match", "w"])]
    all: bool,
    /// Do not ask
    #[arg(long, requires = "many")]
    yes: bool,
    #[command(flatten)]
    concern: Concern,
}

/// What a write may ask for.
#[derive(Debug, Args)]
struct Concern {
    /// Write only when the node asked holds this version, as `put` prints it
    #[arg(long, value_name = "VERSION")]
    if_match: Option<String>,
    /// Wait until so many members hold the write: a number, majority or all
    #[arg(long, value_name = "N", value_parser = members)]
    w: Option<String>,
    /// How long to wait for them [default: 2s]
    #[arg(long, value_name = "DURATION", requires = "w", value_parser = timeout)]
    w_timeout: Option<Duration>,
}

/// How much longer than the wait for members the answer may take.
const WAIT_GRACE: Duration = Duration::from_secs(5);

fn members(text: &str) -> Result<String, String> {
    match text.parse::<u32>() {
        Ok(n) if n > 0 => Ok(text.to_owned()),
        _ if matches!(text, "all" | "majority") => Ok(text.to_owned()),
        _ => Err("neither a number from 1 on nor majority nor all".to_owned()),
    }
}

impl Concern {
    /// The parameters of the request.
    fn parameters(&self) -> Vec<String> {
        let w = self.w.as_ref().map(|w| format!("w={w}"));
        let wait = self.w_timeout.map(|wait| format!("timeout={}ms", wait.as_millis()));
        w.into_iter().chain(wait).collect()
    }

    /// The tag of the version that is wanted.
    fn tag(&self) -> Option<String> {
        self.if_match.as_ref().map(|version| format!("\"{version}\""))
    }

    /// A client that waits as long as the node does.
    fn client(&self, server: &ServerFlags) -> Result<Client, Failure> {
        let wait = self.w_timeout.map_or(Duration::ZERO, |wait| wait + WAIT_GRACE);
        server.client_within(server.limit().max(wait))
    }
}

impl GetArgs {
    pub(super) fn run(self, server: &ServerFlags) -> Result<(), Failure> {
        let key = key(self.key)?;
        let client = server.client()?;
        let answer = client.get(&target(&key, &["raw".to_owned()]))?;
        if answer.status() == StatusCode::NOT_FOUND {
            let status = answer.status();
            let body = client.body(answer)?;
            return Err(match is_missing_key(status, &body) {
                true => Failure::Missing(format!("no such key: {key:?}")),
                false => client.said_no(status, &body),
            });
        }
        let answer = client.accept(answer)?;
        if server.json {
            return print_entry(&client, &key, answer);
        }
        let mut body = answer.into_body().into_reader();
        output::print(|out| {
            let mut chunk = vec![0; 64 << 10];
            loop {
                let len = body
                    .read(&mut chunk)
                    .map_err(|error| client.unreachable(&error.to_string()))?;
                if len == 0 {
                    return Ok(());
                }
                out.write_all(&chunk[..len])?;
            }
        })
    }
}

/// What nodes say of a value that was put without a type.
const UNKNOWN_TYPE: &str = "application/octet-stream";

fn print_entry(client: &Client, key: &str, answer: Answer) -> Result<(), Failure> {
    let content_type = header(&answer, "content-type").filter(|kept| kept != UNKNOWN_TYPE);
    let version = version(&answer);
    let ttl = header(&answer, "ttl").and_then(|ttl| ttl.parse::<u64>().ok());
    let value = client.body(answer)?;
    let mut entry = json!({ "key": key, "version": version });
    match String::from_utf8(value) {
        Ok(text) => entry["value"] = text.into(),
        Err(error) => entry["base64"] = STANDARD.encode(error.as_bytes()).into(),
    }
    if let Some(content_type) = content_type {
        entry["type"] = content_type.into();
    }
    if let Some(ttl) = ttl {
        entry["ttl"] = ttl.into();
    }
    output::print(|out| Ok(writeln!(out, "{entry}")?))
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    answer.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// The version in the tag, whatever a proxy that compresses made of it.
fn version(answer: &Answer) -> Option<String> {
    let tag = header(answer, "etag")?;
    let tag = tag.trim_start_matches("W/").trim_matches('"');
    Some(tag.trim_end_matches("-gzip").to_owned())
}

impl PutArgs {
    pub(super) fn run(self, server: &ServerFlags) -> Result<(), Failure> {
        let key = key(self.key)?;
        let value = match self.value {
            Some(value) if value != "-" => value.into_vec(),
            _ => standard_input()?,
        };
        let client = self.concern.client(server)?;
        let tag = self.concern.tag();
        let mut headers = Vec::new();
        headers.extend(self.content_type.as_deref().map(|kept| ("content-type", kept)));
        headers.extend(tag.as_deref().map(|tag| ("if-match", tag)));
        headers.extend(self.if_absent.then_some(("if-none-match", "*")));
        let mut parameters = self.concern.parameters();
        parameters.extend(self.ttl.map(|ttl| format!("ttl={}", encode(&ttl))));
        let target = target(&key, &parameters);
        let answer = client.ask(Method::PUT, &target, &headers, Some(&value))?;
        let written: Value = client.json(client.accept(answer)?, "that of a PUT")?;
        let version = written["version"]
            .as_str()
            .ok_or_else(|| client.failure("the answer is not that of a PUT: it has no version"))?;
        output::print(|out| match server.json {
            true => Ok(writeln!(out, "{written}")?),
            false => Ok(writeln!(out, "{}", one_line(version))?),
        })
    }
}

impl DeleteArgs {
    pub(super) fn run(self, server: &ServerFlags) -> Result<(), Failure> {
        if let Some(prefix) = self.prefix {
            let prefix = utf8(prefix, "--prefix")?;
            if prefix.is_empty() {
                let why = "--prefix: it is empty, and every key begins so; --all deletes them all";
                return Err(Failure::usage(why));
            }
            return sweep::delete(server, &prefix, self.yes);
        }
        if self.all {
            return sweep::delete(server, "", self.yes);
        }
        let key = key(self.key.unwrap_or_default())?;
        let client = self.concern.client(server)?;
        let tag = self.concern.tag();
        let headers: Vec<_> = tag.as_deref().map(|tag| ("if-match", tag)).into_iter().collect();
        let target = target(&key, &self.concern.parameters());
        let answer = client.accept(client.ask(Method::DELETE, &target, &headers, None)?)?;
        if !server.json {
            return Ok(());
        }
        let told = json!({ "key": key, "version": version(&answer) });
        output::print(|out| Ok(writeln!(out, "{told}")?))
    }
}

/// Everything up to the end of standard input, within the bound of the largest value possible.
fn standard_input() -> Result<Vec<u8>, Failure> {
    input::say_that_we_wait("the value");
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
