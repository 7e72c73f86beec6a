//! A Go member: `tests/interop/peer`, built once on Debian's memberlist package, or built before on
//! another.

use super::fake::{Verify, push_pull};
use super::installed::{GOPATH, go_peer, scratch};
use super::namespace::in_namespace;
use super::process::Process;
use super::range::Range;
use super::table::{Node, Table, is_about_probes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Longer than any command takes; joining a dead address costs memberlist its TCP timeout of 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/peer");
    go_peer().unwrap_or_else(|| go_build(source, "interop-peer"))
});

/// Builds a Go program on Debian's packages.
///
/// # Panics
/// When it does not build.
pub fn go_build(source: impl AsRef<Path>, name: &str) -> PathBuf {
    let binary = scratch().join(name);
    let fresh = scratch().join(format!("{name}-{}", std::process::id()));
    let mut build = Command::new("go");
    build.current_dir(source).args(["build", "-o"]).arg(&fresh).arg(".");
    build.env("GO111MODULE", "off").env("GOPATH", GOPATH).env("GOFLAGS", "");
    build.env("GOCACHE", scratch().join("go-cache"));
    let output = build.output().expect("go runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} does not build:\n{errors}");
    // Another run of the tests may be executing the old one.
    std::fs::rename(&fresh, &binary).expect("both are in cargo's directory");
    binary
}

/// How a Go member differs from memberlist's default LAN configuration.
#[derive(Clone)]
pub struct PeerOptions {
    pub compress: bool,
    pub keys: Vec<String>,
    pub verify: Verify,
    pub namespace: Option<String>,
    /// More flags of the program.
    pub flags: Vec<String>,
}

impl Default for PeerOptions {
    fn default() -> PeerOptions {
        PeerOptions {
            compress: true,
            keys: Vec::new(),
            verify: Verify::default(),
            namespace: None,
            flags: Vec::new(),
        }
    }
}

/// A running Go member.
pub struct Peer {
    name: String,
    gossip: SocketAddr,
    options: PeerOptions,
    process: Process,
    n_commands: u64,
}

impl Peer {
    /// Starts one on a host of a range and waits until it listens.
    pub fn start(range: &Range, host: u8, options: PeerOptions) -> Peer {
        Peer::start_at(&format!("g{host}"), range.gossip(host), options)
    }

    /// Starts one anywhere.
    pub fn start_at(name: &str, gossip: SocketAddr, options: PeerOptions) -> Peer {
        let binary = BINARY.to_str().expect("a path in UTF-8");
        let mut command = Process::command(binary, options.namespace.as_deref());
        command.args(["-name", name, "-bind", &gossip.ip().to_string()]);
        command.args(["-port", &gossip.port().to_string()]);
        command.arg(format!("-compress={}", options.compress));
        command.arg(format!("-verify-incoming={}", options.verify.incoming));
        command.arg(format!("-verify-outgoing={}", options.verify.outgoing));
        command.args(["-keys", &options.keys.join(",")]).args(&options.flags);
        let process = Process::spawn(name, command);
        let peer = Peer { name: name.to_owned(), gossip, options, process, n_commands: 0 };
        peer.event("it listens", 0, ANSWER_TIMEOUT, |event| event["event"] == "ready");
        peer
    }

    /// The same member once more, after it ended.
    pub fn restart(self) -> Peer {
        let options = self.options.clone();
        self.restart_with(options)
    }

    /// The same name and address with other options.
    pub fn restart_with(self, options: PeerOptions) -> Peer {
        let Peer { name, gossip, process, .. } = self;
        drop(process);
        Peer::start_at(&name, gossip, options)
    }

    /// What changes of the keyring: `install`, `use` or `remove`.
    #[track_caller]
    pub fn key(&mut self, verb: &str, key: &str) {
        self.tell(json!({"do": format!("key-{verb}"), "key": key}));
        match verb {
            "use" => self.options.keys.insert(0, key.to_owned()),
            "remove" => self.options.keys.retain(|installed| installed != key),
            _ => {}
        }
    }

    /// Runs a command and returns its answer.
    pub fn ask(&mut self, mut command: Value) -> Result<Value, String> {
        self.n_commands += 1;
        let (id, from) = (self.n_commands, self.process.n_lines());
        command["id"] = id.into();
        self.process.send(&command.to_string());
        let what = format!("an answer to {command}");
        let (answer, ..) = self.process.find_line(&what, from, ANSWER_TIMEOUT, |line| {
            parse(line).filter(|answer| answer["id"] == id)
        });
        match answer["error"].as_str() {
            None => Ok(answer),
            Some(error) => Err(error.to_owned()),
        }
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn tell(&mut self, command: Value) -> Value {
        let what = command.to_string();
        self.ask(command).unwrap_or_else(|error| panic!("{} {what}: {error}", self.name))
    }

    /// Sends a user message to a member: `over` is `udp` or `tcp`.
    #[track_caller]
    pub fn send(&mut self, over: &str, member: &str, payload: &[u8]) {
        let payload = STANDARD.encode(payload);
        self.tell(json!({"do": format!("send-{over}"), "member": member, "payload": payload}));
    }

    /// Loses packets and streams as told; nothing when all is false and empty.
    pub fn lose(&mut self, addresses: &[SocketAddr], streams: bool, indirect: bool) {
        let rules = json!({"addresses": addresses, "streams": streams, "indirect": indirect});
        self.tell(json!({"do": "lose", "rules": rules}));
    }

    /// The number its next line will have, for `event`.
    pub fn mark(&self) -> usize {
        self.process.n_lines()
    }

    /// Waits for an event from a mark on.
    #[track_caller]
    pub fn event(
        &self,
        what: &str,
        from: usize,
        within: Duration,
        is_it: impl Fn(&Value) -> bool,
    ) -> (Value, Instant) {
        let find = |line: &str| parse(line).filter(|event| is_it(event));
        let (event, at, _) = self.process.find_line(what, from, within, find);
        (event, at)
    }

    /// Events so far of one name.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let lines = self.process.lines(0);
        lines.iter().filter_map(|line| parse(line)).filter(|event| event["event"] == name).collect()
    }

    /// User messages received so far.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let events = self.events("message");
        let payload = |event: &Value| {
            let text = event["payload"].as_str().unwrap_or_default();
            STANDARD.decode(text).expect("base64")
        };
        events.iter().map(payload).collect()
    }

    /// Lines of memberlist's log at warning or above, but for what probes came to: others judge
    /// that.
    pub fn complaints(&self) -> Vec<String> {
        let text = |event: &Value| event["text"].as_str().unwrap_or_default().to_owned();
        let is_complaint = |line: &String| {
            (line.contains("[ERR]") || line.contains("[WARN]")) && !is_about_probes(line)
        };
        self.events("log").iter().map(text).filter(is_complaint).collect()
    }
}

impl Node for Peer {
    fn name(&self) -> &str {
        &self.name
    }

    fn gossip(&self) -> SocketAddr {
        self.gossip
    }

    fn table(&self) -> Result<Table, String> {
        let security = self.options.verify.of_questions(&self.options.keys);
        in_namespace(self.options.namespace.as_deref(), || push_pull(self.gossip, &security))
            .map(|(table, _)| table)
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn join(&mut self, seeds: &[SocketAddr]) {
        self.tell(json!({"do": "join", "addresses": seeds}));
    }

    fn leave(&mut self) {
        self.tell(json!({"do": "leave"}));
    }
}

fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}
