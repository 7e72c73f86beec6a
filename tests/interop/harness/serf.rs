//! A Serf agent with its default settings.

use super::process::Process;
use super::range::Range;
use super::table::{Node, Row, State, Table, is_about_probes};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// An event handler that answers the query `which` with `answered`. It reads what it is given:
/// Serf logs an error when a handler does not.
pub const ANSWERING: &str = "query:which=cat >/dev/null; echo answered";

/// A running Serf agent.
pub struct Serf {
    name: String,
    gossip: SocketAddr,
    rpc: SocketAddr,
    process: Process,
}

impl Serf {
    /// Starts one on a host of a range, with more flags, and waits until it serves.
    pub fn start(range: &Range, host: u8, flags: &[&str]) -> Serf {
        let (name, gossip, rpc) = (format!("s{host}"), range.gossip(host), range.rpc(host));
        let mut command = Process::command("serf", None);
        command.args(["agent", "-node", &name]);
        command.args(["-bind", &gossip.to_string(), "-rpc-addr", &rpc.to_string()]);
        command.args(flags);
        let process = Process::spawn(&name, command);
        process.find_line("it runs", 0, START_TIMEOUT, |line| {
            line.contains("Serf agent running").then_some(())
        });
        let serf = Serf { name, gossip, rpc, process };
        super::clock::eventually("its RPC answers", START_TIMEOUT, || serf.run(&["info"]));
        serf
    }

    /// Runs `serf <arguments>` against it and returns what it prints.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let (verb, rest) = arguments.split_first().expect("a command of serf");
        let mut command = Command::new("serf");
        command.arg(verb).arg(format!("-rpc-addr={}", self.rpc)).args(rest);
        let output = command.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(format!("serf {verb}: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Serf's own words: `alive`, `leaving`, `left` or `failed`.
    pub fn statuses(&self) -> Result<Vec<(String, String)>, String> {
        let text = self.run(&["members", "-format=json"])?;
        let json: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let members = json["members"].as_array().ok_or("no members")?;
        let field = |member: &Value, name: &str| member[name].as_str().unwrap_or("").to_owned();
        Ok(members.iter().map(|member| (field(member, "name"), field(member, "status"))).collect())
    }

    /// Lines of its log at warning or above, but for what probes came to: others judge that.
    pub fn complaints(&self) -> Vec<String> {
        let is_complaint = |line: &String| {
            (line.contains("[ERR]") || line.contains("[WARN]")) && !is_about_probes(line)
        };
        self.process.lines(0).into_iter().filter(is_complaint).collect()
    }
}

impl Node for Serf {
    fn name(&self) -> &str {
        &self.name
    }

    fn gossip(&self) -> SocketAddr {
        self.gossip
    }

    /// Serf tells neither incarnation nor suspicion.
    fn table(&self) -> Result<Table, String> {
        let row = |(name, status): (String, String)| {
            let state = match status.as_str() {
                "alive" => State::Alive,
                "failed" => State::Dead,
                _ => State::Left,
            };
            (name, Row { state, incarnation: 0, meta: Vec::new() })
        };
        Ok(self.statuses()?.into_iter().map(row).collect())
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn join(&mut self, seeds: &[SocketAddr]) {
        let seeds: Vec<String> = seeds.iter().map(SocketAddr::to_string).collect();
        let arguments: Vec<&str> =
            std::iter::once("join").chain(seeds.iter().map(String::as_str)).collect();
        self.run(&arguments).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    fn leave(&mut self) {
        self.run(&["leave"]).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }
}
