//! `keys`: the gossip keyring of a running cluster, rotated without a restart.
//!
//! A rotation is three steps, each told to every member by the node that is asked: install the
//! new key everywhere, use it everywhere, remove the old one everywhere. The node refuses a step
//! that would shut a member out, and a row says of each member that has not done it why.

use super::client::ServerFlags;
use super::failure::{Failure, one_line};
use super::table::Table;
use super::{input, logging, output};
use crate::wire::keyring::Key;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use ureq::http::Method;

/// Most bytes of a key on standard input.
const KEY_TEXT_LEN_MAX: u64 = 1024;

/// What a person is told behind each change.
const FILES: &str = "\
this lasts as long as the nodes run: write it into the key file or the secret of each, too, or one \
that is started again comes back with its old keys and is shut out";

const EXAMPLES: &str = "\
Examples, a whole rotation:
  gossipykv keygen > new.key
  gossipykv keys install - < new.key             all members can decrypt with it
  gossipykv keys use - < new.key                 all members encrypt with it
  gossipykv keys list                            until every member shows it first
  gossipykv keys remove - < old.key              nobody decrypts with the old one any more

A step that would shut out a member that answers is refused with exit status 4, and nothing changes
anywhere. One that misses a member names it, says why, and exits with 1: do not go on then, unless
that member is gone for good.

A change lasts as long as the nodes run: write it into the file or the secret that each starts with,
too, or one that is started again comes back with its old keys and is shut out.

Keys are shown as fingerprints only. A node answers these requests to whoever has the HTTP token. A
node on this host answers them without one, too, to its own user and to root.";

const LIST_EXAMPLES: &str = "\
Example:
  $ gossipykv keys list
  MEMBER  KEYS
  node-0  5b9c2f10 a3e77d42
  node-1  5b9c2f10 a3e77d42
  gossipykv keys list --json | jq -r '.members[] | select(.error).name'

Fingerprints, the key that encrypts first. Exit status 1 when a member did not answer, be it one
that has been silent for hours: it is remembered for a day. Do not go on with a rotation then, or
that member is shut out.";

const INSTALL_EXAMPLES: &str = "\
Examples:
  gossipykv keys install - < new.key             not seen in the list of processes
  gossipykv keys install 8fPRc5MyOAYVYrlhX6aFRzWMmKxIhzDKqBSfbYEE7ZI=";

const USE_EXAMPLES: &str = "\
Example:
  gossipykv keys use - < new.key

The key must be installed on every member first: as long as one that answers lacks it, or does not
say which it has, this is refused and changes nothing. Exit status 4 then.";

const REMOVE_EXAMPLES: &str = "\
Example:
  gossipykv keys remove - < old.key

The key in use cannot be removed: as long as a member that answers encrypts with it, or does not say
with which it does, this is refused and changes nothing. Exit status 4 then.";

/// Rotates the gossip keys of the whole cluster.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true)]
pub(super) struct KeysArgs {
    #[command(flatten)]
    server: ServerFlags,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Prints which keys are installed on which member.
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Adds a key that decrypts, on every member.
    #[command(after_help = INSTALL_EXAMPLES)]
    Install(KeyArgs),
    /// Encrypts with an installed key, on every member.
    #[command(after_help = USE_EXAMPLES)]
    Use(KeyArgs),
    /// Forgets a key, on every member.
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(KeyArgs),
}

#[derive(Debug, Args)]
struct KeyArgs {
    /// Base64 of 16, 24 or 32 bytes; "-" or nothing: standard input
    key: Option<String>,
}

/// What each member says.
#[derive(Debug, Deserialize, Serialize)]
struct Answers {
    members: Vec<MemberAnswer>,
}

#[derive(Debug, Deserialize, Serialize)]
struct MemberAnswer {
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl KeysArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (path, key) = match self.command {
            KeysCommand::List => ("/keys", None),
            KeysCommand::Install(args) => ("/keys/install", Some(args.key()?)),
            KeysCommand::Use(args) => ("/keys/use", Some(args.key()?)),
            KeysCommand::Remove(args) => ("/keys/remove", Some(args.key()?)),
        };
        let client = self.server.admin_client()?;
        let answer = match key {
            None => client.get(path)?,
            Some(key) => {
                let body = json!({ "key": key }).to_string();
                let headers = [("content-type", "application/json")];
                client.ask(Method::POST, path, &headers, Some(body.as_bytes()))?
            }
        };
        let mut answers: Answers = client.json(client.accept(answer)?, "that of /keys")?;
        answers.members.sort_by(|a, b| a.name.cmp(&b.name));
        report(&answers, self.server.json, path != "/keys")
    }
}

/// One row a member, or JSON; a failure when some member fails.
fn report(answers: &Answers, as_json: bool, is_change: bool) -> Result<(), Failure> {
    let mut table = Table::new(&["MEMBER", "KEYS"]);
    let mut failed = Vec::new();
    for member in &answers.members {
        match &member.error {
            None if member.keys.is_empty() => table.row(&[&member.name, "none: plaintext"]),
            None => table.row(&[&member.name, &member.keys.join(" ")]),
            Some(error) => {
                table.row(&[&member.name, &format!("failed: {error}")]);
                failed.push(one_line(&member.name));
            }
        }
    }
    output::print(|out| match as_json {
        true => Ok(writeln!(out, "{}", json!(answers))?),
        false => Ok(write!(out, "{table}")?),
    })?;
    if failed.is_empty() {
        if is_change && io::stderr().is_terminal() {
            logging::say(FILES);
        }
        return Ok(());
    }
    Err(Failure::failed(format!("not done on {}; the table says why", failed.join(", "))))
}

impl KeyArgs {
    /// The key in base64, checked here so that a slip is named without being sent.
    fn key(self) -> Result<String, Failure> {
        let text = match self.key {
            Some(text) if text != "-" => text,
            _ => standard_input()?,
        };
        let text = text.trim();
        match Key::from_base64(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err(Failure::usage("KEY: not base64 of 16, 24 or 32 bytes")),
        }
    }
}

fn standard_input() -> Result<String, Failure> {
    input::say_that_we_wait("the key");
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(KEY_TEXT_LEN_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("standard input: {error}")))?;
    Ok(text)
}
