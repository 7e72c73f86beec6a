//! `members`: who is in the cluster, as one node sees it.

use super::client::{Client, ServerFlags, timeout};
use super::failure::{Failure, one_line};
use super::table::Table;
use super::{logging, output};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;
use ureq::http::Method;

const EXAMPLES: &str = "\
Examples:
  $ gossipykv members
  NAME    ADDRESS         STATE    INCARNATION  KV
  node-0  127.0.0.1:7947  alive    1            yes
  node-1  127.0.0.1:7948  suspect  1            yes

  gossipykv members --json | jq -r '.members[].address'
  gossipykv members --watch                      a line for each change, until it is ended

KV says whether a member speaks our replication; a plain memberlist node does not, and one of ours
whose version shares no replication format with the node asked is told with its formats.";

/// Prints the table of members.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct MembersArgs {
    /// Go on, and print a line for each change; look again at this interval
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s")]
    #[arg(require_equals = true, value_parser = timeout)]
    watch: Option<Duration>,
    #[command(flatten)]
    server: ServerFlags,
    #[command(subcommand)]
    command: Option<MembersCommand>,
}

#[derive(Debug, Subcommand)]
enum MembersCommand {
    Forget(ForgetArgs),
}

const FORGET_EXAMPLES: &str = "\
Example:
  gossipykv members forget node-7

All members drop it from their tables, call it no more, and remember no deletes for it: its process
must be gone for good. One that comes back all the same is a new member. A member that could not do
it is named, with exit status 1; it may be repeated. Who may rotate gossip keys may do this.";

/// Gives up a dead member that will not come back, instead of waiting for a day.
#[derive(Debug, Args)]
#[command(after_help = FORGET_EXAMPLES)]
struct ForgetArgs {
    /// Its name
    name: String,
}

/// A member as `/members` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) state: String,
    incarnation: u64,
    kv: bool,
    /// Nodes of a version before formats were told do not tell them.
    formats: Option<String>,
}

/// What an answer is when it is none.
const WHAT: &str = "the table of members";

impl Member {
    /// Those of an answer of `/members`.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn all(client: &Client, answer: &Value) -> Result<Vec<Member>, Failure> {
        let members = Vec::<Member>::deserialize(&answer["members"]);
        members.map_err(|error| client.failure(&format!("the answer is not {WHAT}: {error}")))
    }

    /// Whether it speaks our replication.
    pub(super) fn kv(&self) -> String {
        match &self.formats {
            _ if self.kv => "yes".to_owned(),
            Some(formats) => format!("no: formats {formats}"),
            None => "no".to_owned(),
        }
    }
}

impl MembersArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        if let Some(MembersCommand::Forget(args)) = self.command {
            return forget(&self.server, &args.name);
        }
        let mut client = self.server.client()?;
        let answer = ask(&client)?;
        let mut members = Member::all(&client, &answer)?;
        if self.server.json {
            output::print(|out| Ok(writeln!(out, "{answer}")?))?;
        } else {
            let mut table = Table::new(&["NAME", "ADDRESS", "STATE", "INCARNATION", "KV"]);
            for member in &members {
                let incarnation = member.incarnation.to_string();
                let Member { name, address, state, .. } = member;
                table.row(&[name, address, state, &incarnation, &member.kv()]);
            }
            output::print(|out| Ok(write!(out, "{table}")?))?;
        }
        let Some(interval) = self.watch else { return Ok(()) };
        let mut is_lost = false;
        output::print(|out| {
            loop {
                out.flush()?;
                std::thread::sleep(interval);
                // The name may lead elsewhere by now.
                let found = if is_lost { client.look_up() } else { Ok(()) };
                let now = found.and_then(|()| ask(&client));
                let now = match now.and_then(|answer| Member::all(&client, &answer)) {
                    Ok(now) => now,
                    // It may be restarted; who watches wants to see what comes then.
                    Err(Failure::Unreachable(line) | Failure::Refused(line)) => {
                        if !is_lost {
                            logging::say(&format!("error: {line}; goes on trying"));
                        }
                        is_lost = true;
                        continue;
                    }
                    Err(other) => return Err(other.into()),
                };
                is_lost = false;
                for change in changes(&members, &now) {
                    match self.server.json {
                        true => writeln!(out, "{}", change.json())?,
                        false => writeln!(out, "{}", change.line())?,
                    }
                }
                members = now;
            }
        })
    }
}

fn forget(server: &ServerFlags, name: &str) -> Result<(), Failure> {
    let client = server.admin_client()?;
    let body = json!({ "name": name }).to_string();
    let headers = [("content-type", "application/json")];
    let path = "/members/forget";
    let answer = client.ask(Method::POST, path, &headers, Some(body.as_bytes()))?;
    let told: Value = client.json(client.accept(answer)?, "that of /members/forget")?;
    if server.json {
        output::print(|out| Ok(writeln!(out, "{told}")?))?;
    }
    let members = told["members"].as_array().into_iter().flatten();
    let text = |member: &Value, field: &str| member[field].as_str().map(one_line);
    let failed = members.filter_map(|member| {
        Some(format!("{}: {}", text(member, "name")?, text(member, "error")?))
    });
    let failed: Vec<String> = failed.collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("not forgotten by all; it may be repeated: {}", failed.join("; "))))
}

fn ask(client: &Client) -> Result<Value, Failure> {
    client.json(client.accept(client.get("/members")?)?, WHAT)
}

/// What has become of a member between two looks.
struct Change<'m> {
    name: &'m str,
    address: &'m str,
    was: Option<&'m str>,
    is: Option<&'m str>,
}

impl Change<'_> {
    fn line(&self) -> String {
        let [was, is] = [self.was, self.is].map(|state| state.unwrap_or("absent"));
        one_line(&format!("{}  {}  {was} -> {is}", self.name, self.address))
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "address": self.address, "was": self.was, "is": self.is })
    }
}

/// Those that have another state or address, or are new or gone, in the order of names.
fn changes<'m>(before: &'m [Member], now: &'m [Member]) -> Vec<Change<'m>> {
    let find = |members: &'m [Member], name: &str| -> Option<&'m Member> {
        members.iter().find(|member| member.name == name)
    };
    let names: BTreeSet<&str> = before.iter().chain(now).map(|member| &*member.name).collect();
    let change = |name: &'m str| {
        let (was, is) = (find(before, name), find(now, name));
        let key =
            |member: Option<&'m Member>| member.map(|member| (&*member.state, &*member.address));
        (key(was) != key(is)).then(|| Change {
            name,
            address: is.or(was).map_or("", |member| &*member.address),
            was: was.map(|member| &*member.state),
            is: is.map(|member| &*member.state),
        })
    };
    names.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_between_two_looks() {
        let member = |name: &str, state: &str| Member {
            name: name.to_owned(),
            address: "a:1".to_owned(),
            state: state.to_owned(),
            incarnation: 1,
            kv: true,
            formats: None,
        };
        let before = [member("a", "alive"), member("b", "alive"), member("c", "left")];
        let now = [member("b", "dead"), member("a", "alive"), member("d", "alive")];
        let lines: Vec<String> = changes(&before, &now).iter().map(Change::line).collect();
        let expected =
            ["b  a:1  alive -> dead", "c  a:1  left -> absent", "d  a:1  absent -> alive"];
        assert_eq!(lines, expected);
    }
}
