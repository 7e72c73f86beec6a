//! `members`: who is in the cluster, as one node sees it.

use super::client::ServerFlags;
use super::failure::Failure;
use super::output;
use super::table::Table;
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use std::io::Write as _;

const EXAMPLES: &str = "\
Examples:
  $ gossipykv members
  NAME    ADDRESS         STATE    INCARNATION  KV
  node-0  127.0.0.1:7947  alive    1            yes
  node-1  127.0.0.1:7948  suspect  1            yes

  gossipykv members --json | jq -r '.members[].address'

KV says whether a member speaks our replication; a plain memberlist node does not, and one of ours
whose version shares no replication format with the node asked is told with its formats.";

/// Prints the table of members.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct MembersArgs {
    /// Print what GET /members answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Debug, Deserialize)]
struct Members {
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    name: String,
    address: String,
    state: String,
    incarnation: u64,
    kv: bool,
    /// Nodes of a version before formats were told do not tell them.
    formats: Option<String>,
}

impl MembersArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        const WHAT: &str = "the table of members";
        let client = self.server.client()?;
        let answer: Value = client.json(client.accept(client.get("/members")?)?, WHAT)?;
        if self.json {
            return output::print(|out| Ok(writeln!(out, "{answer}")?));
        }
        let Members { members } = serde_json::from_value(answer)
            .map_err(|error| client.failure(&format!("the answer is not {WHAT}: {error}")))?;
        let mut table = Table::new(&["NAME", "ADDRESS", "STATE", "INCARNATION", "KV"]);
        for member in members {
            let kv = match &member.formats {
                _ if member.kv => "yes",
                Some(formats) => &format!("no: formats {formats}"),
                None => "no",
            };
            let incarnation = member.incarnation.to_string();
            table.row(&[&member.name, &member.address, &member.state, &incarnation, kv]);
        }
        output::print(|out| Ok(write!(out, "{table}")?))
    }
}
