//! `status`: one screen that says how a node stands.

use super::client::{Client, ServerFlags};
use super::failure::{Failure, one_line};
use super::members::Member;
use super::output;
use super::table::Table;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use ureq::http::StatusCode;

const EXAMPLES: &str = "\
Examples:
  gossipykv status
  gossipykv status --server 10.0.0.5 --json
  watch gossipykv status

LAG is how many writes of this node a member has not acknowledged. The exit status is 0 whether the
node is ready or not; gossipykv health --ready asks for that.";

/// Prints how a node stands: ready or why not, members, store, memory, clock, queues.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Deserialize)]
struct Health {
    status: String,
    why: Option<String>,
}

/// The numbers of `/metrics`, by name and labels as they stand there.
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn read(text: &str) -> Metrics {
        let sample = |line: &str| {
            let (name, value) = line.strip_prefix("gossipykv_")?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Metrics(text.lines().filter_map(sample).collect())
    }

    /// 0 where the node does not tell it.
    fn one(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, |value| *value as u64)
    }

    /// Each of a name by the value of its only label.
    fn each(&self, name: &str) -> BTreeMap<&str, u64> {
        let mut found = BTreeMap::new();
        for (full, value) in &self.0 {
            let labels = full.strip_prefix(name).and_then(|rest| rest.strip_prefix('{'));
            let label = labels.and_then(|labels| labels.strip_suffix("\"}")?.split_once("=\""));
            if let Some((_, label)) = label {
                found.insert(label, *value as u64);
            }
        }
        found
    }
}

impl StatusArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = self.server.client()?;
        let health = client.get("/health")?;
        let is_ready = health.status() == StatusCode::OK;
        if !is_ready && health.status() != StatusCode::SERVICE_UNAVAILABLE {
            return Err(client.refused(health));
        }
        let health: Health = client.json(health, "that of /health")?;
        let version: Value = ask(&client, "/version")?;
        let members: Value = ask(&client, "/members")?;
        let metrics = client.accept(client.get("/metrics")?)?;
        let metrics = Metrics::read(&String::from_utf8_lossy(&client.body(metrics)?));
        let status = Status { health, version, members, metrics };
        output::print(|out| match self.server.json {
            true => Ok(writeln!(out, "{}", status.json())?),
            false => Ok(write!(out, "{}", status.screen(&client)?)?),
        })
    }
}

fn ask(client: &Client, path: &str) -> Result<Value, Failure> {
    client.json(client.accept(client.get(path)?)?, &format!("that of {path}"))
}

struct Status {
    health: Health,
    version: Value,
    members: Value,
    metrics: Metrics,
}

impl Status {
    fn json(&self) -> Value {
        let one = |name| self.metrics.one(name);
        json!({
            "status": self.health.status,
            "why": self.health.why,
            "version": self.version["version"],
            "members": self.members["members"],
            "lag_writes": self.metrics.each("peer_lag_writes"),
            "gaps": one("gaps_open"),
            "store": {
                "keys": one("keys"), "tombstones": one("tombstones"),
                "bytes": one("store_bytes"), "limit_bytes": one("store_limit_bytes"),
            },
            "process": {
                "resident_bytes": one("process_resident_bytes"),
                "open_files": one("process_open_files"), "threads": one("process_threads"),
            },
            "clock": { "ahead_total": one("clock_ahead_total") },
            "queues": {
                "http_connections": one("http_connections"), "http_waiting": one("http_waiting"),
                "http_held_bytes": one("http_held_bytes"), "rumors": one("rumors_waiting"),
                "links": one("replication_links"),
                "link_bytes": one("replication_link_queue_bytes"),
            },
        })
    }

    fn screen(&self, client: &Client) -> Result<String, Failure> {
        let one = |name| self.metrics.one(name);
        let mut screen = String::new();
        let mut line = |what: &str, text: String| {
            // Writing to a string does not fail.
            let _ = writeln!(screen, "{what:8}{text}");
        };
        line("node", format!("{client}, version {}", word(&self.version["version"])));
        line(
            "ready",
            match &self.health.why {
                None => "yes".to_owned(),
                Some(why) => format!("no, {}: {}", one_line(&self.health.status), one_line(why)),
            },
        );
        let limit = match one("store_limit_bytes") {
            0 => "no limit".to_owned(),
            limit => format!("of {}, {} %", bytes(limit), one("store_bytes") * 100 / limit),
        };
        let (keys, tombstones) = (one("keys"), one("tombstones"));
        line(
            "store",
            format!(
                "{keys} keys, {tombstones} deletes remembered, {}, {limit}",
                bytes(one("store_bytes"))
            ),
        );
        line(
            "memory",
            format!(
                "{} resident, {} files open, {} threads",
                bytes(one("process_resident_bytes")),
                one("process_open_files"),
                one("process_threads")
            ),
        );
        line(
            "clock",
            match one("clock_ahead_total") {
                0 => "no write was stamped far ahead of it".to_owned(),
                n => format!("{n} writes were stamped over a minute ahead of it: check the clocks"),
            },
        );
        line(
            "queues",
            format!(
                "HTTP: {} connections, {} waiting, {}; gossip: {} rumors, {} gaps, {} in {} links",
                one("http_connections"),
                one("http_waiting"),
                bytes(one("http_held_bytes")),
                one("rumors_waiting"),
                one("gaps_open"),
                bytes(one("replication_link_queue_bytes")),
                one("replication_links")
            ),
        );
        let members = Member::all(client, &self.members)?;
        let lag = self.metrics.each("peer_lag_writes");
        let mut table = Table::new(&["MEMBER", "ADDRESS", "STATE", "KV", "LAG"]);
        for member in &members {
            let lag = lag.get(&*label(&member.name)).map_or("-".to_owned(), u64::to_string);
            table.row(&[&member.name, &member.address, &member.state, &member.kv(), &lag]);
        }
        Ok(format!("{screen}\n{table}"))
    }
}

/// A name as the label of a metric has it.
fn label(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn word(value: &Value) -> String {
    value.as_str().map_or("unknown".to_owned(), one_line)
}

/// `1.5 MiB`.
fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name_and_by_label() {
        let text = "# HELP gossipykv_keys Keys.\ngossipykv_keys 7\n\
                    gossipykv_peer_lag_writes{peer=\"a\"} 3\n\
                    gossipykv_peer_lag_writes_total{x=\"y\"} 4\nother 1\n";
        let metrics = Metrics::read(text);
        assert_eq!((metrics.one("keys"), metrics.one("absent")), (7, 0));
        assert_eq!(metrics.each("peer_lag_writes"), BTreeMap::from([("a", 3)]));
    }
}
