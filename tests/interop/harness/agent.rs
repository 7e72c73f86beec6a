//! Our own agent, from the outside: its command line, its HTTP, its log.

use super::clock::{eventually, now};
use super::fake::{Verify, push_pull};
use super::installed::{scratch, setting};
use super::namespace::in_namespace;
use super::process::Process;
use super::range::Range;
use super::table::{Node, Row, State, Table, is_about_probes};
use serde_json::Value;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::Duration;

const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Long: on a machine with much else to do an answer takes its time, and being late is no failure.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// The program under test: the one built with the tests, or another that the environment names.
pub static BINARY: LazyLock<String> = LazyLock::new(|| {
    setting("GOSSIPYKV_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_gossipykv").to_owned())
});

/// How an agent differs from one with only name and addresses given.
#[derive(Clone, Default)]
pub struct AgentOptions {
    pub keys: Vec<String>,
    pub verify: Verify,
    pub seeds: Vec<SocketAddr>,
    pub namespace: Option<String>,
    /// More flags of `gossipykv agent`.
    pub flags: Vec<String>,
    /// More of its environment.
    pub env: Vec<(String, OsString)>,
    /// Another program than [`BINARY`].
    pub program: Option<String>,
}

/// A running agent.
pub struct Agent {
    name: String,
    gossip: SocketAddr,
    http: SocketAddr,
    options: AgentOptions,
    process: Process,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Agent {
    /// Starts one on a host of a range and waits until it serves HTTP.
    pub fn start(range: &Range, host: u8, options: AgentOptions) -> Agent {
        Agent::start_at(&format!("r{host}"), range.gossip(host), range.http(host), options)
    }

    /// Starts one anywhere.
    pub fn start_at(
        name: &str,
        gossip: SocketAddr,
        http: SocketAddr,
        options: AgentOptions,
    ) -> Agent {
        let program = options.program.as_deref().unwrap_or(&BINARY);
        let mut command = Process::command(program, options.namespace.as_deref());
        command.args(["agent", "--name", name, "--bind", &gossip.to_string()]);
        command.args(["--http", &http.to_string(), "--log-format", "json"]);
        for seed in &options.seeds {
            command.args(["--join", &seed.to_string()]);
        }
        if !options.keys.is_empty() {
            let file = scratch().join(format!("keys-{}-{}", std::process::id(), gossip.ip()));
            std::fs::write(&file, options.keys.join("\n")).expect("cargo's directory is writable");
            // A file that others can read is complained about.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&file, mode).expect("it is ours");
            command.arg("--encrypt-keys-file").arg(file);
        }
        if options.verify != Verify::default() {
            let Verify { incoming, outgoing } = options.verify;
            command.args(["--gossip-verify-incoming", &incoming.to_string()]);
            command.args(["--gossip-verify-outgoing", &outgoing.to_string()]);
        }
        command.args(&options.flags).envs(options.env.iter().cloned());
        let process = Process::spawn(name, command);
        let agent = Agent { name: name.to_owned(), gossip, http, options, process };
        eventually("it serves", START_TIMEOUT, || agent.request("GET", "/live"));
        agent
    }

    /// One HTTP request, any status.
    pub fn request(&self, method: &str, path: &str) -> Result<Answer, String> {
        self.request_with(method, path, &[])
    }

    /// One HTTP request with a body.
    pub fn request_with(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer, String> {
        let (url, namespace) = (format!("http://{}{path}", self.http), &self.options.namespace);
        in_namespace(namespace.as_deref(), || send(method, &url, body))
    }

    /// The answer to a GET, which must be 200. An agent that is too busy to answer says so and is
    /// asked again, as any client would.
    fn text(&self, path: &str) -> Result<String, String> {
        let asked = now();
        loop {
            let answer = self.request("GET", path)?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            match answer.status {
                200 => return Ok(text),
                503 if asked.elapsed() < HTTP_TIMEOUT => std::thread::sleep(BUSY_PAUSE),
                other => return Err(format!("{} {path}: {other} {text}", self.name)),
            }
        }
    }

    /// The answer to a GET, which must be 200 and JSON.
    pub fn json(&self, path: &str) -> Result<Value, String> {
        serde_json::from_str(&self.text(path)?).map_err(|error| error.to_string())
    }

    /// Puts a value, which must succeed.
    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        let answer = self.request("PUT", &format!("/kv/{key}/{value}"));
        assert!(answer.as_ref().is_ok_and(|answer| answer.status == 200), "{key}: {answer:?}");
    }

    /// Deletes a key, which must succeed.
    #[track_caller]
    pub fn delete(&self, key: &str) {
        let answer = self.request("DELETE", &format!("/kv/{key}"));
        assert!(answer.as_ref().is_ok_and(|answer| answer.status == 200), "{key}: {answer:?}");
    }

    /// Whether it holds this value for a key, or nothing.
    pub fn has(&self, key: &str, value: Option<&str>) -> Result<(), String> {
        let answer = self.request("GET", &format!("/kv/{key}?raw"))?;
        let found = match answer.status {
            200 => Some(String::from_utf8_lossy(&answer.body).into_owned()),
            404 => None,
            other => return Err(format!("{} {key}: status {other}", self.name)),
        };
        if found.as_deref() == value {
            return Ok(());
        }
        Err(format!("{} {key}: {found:?} where {value:?} should be", self.name))
    }

    /// How many keys it holds.
    pub fn n_keys(&self) -> Result<usize, String> {
        let mut n = 0;
        let mut after = String::new();
        loop {
            let page = self.json(&format!("/kv/?keys&limit=1000{after}"))?;
            n += page["items"].as_array().ok_or("no items")?.len();
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(n),
            }
        }
    }

    /// Whether it says that it is ready; else what it says.
    pub fn is_ready(&self) -> Result<(), String> {
        let answer = self.request("GET", "/health")?;
        let text = String::from_utf8_lossy(&answer.body);
        match answer.status {
            200 => Ok(()),
            status => Err(format!("{}: {status} {text}", self.name)),
        }
    }

    /// One of its counters; `name` without the program's prefix. The page is without the node's own
    /// when that has no time to tell them, and is then asked for again.
    pub fn metric(&self, name: &str) -> Result<f64, String> {
        let value = |line: &str| line.strip_prefix(&format!("gossipykv_{name} "))?.parse().ok();
        let asked = now();
        loop {
            match self.text("/metrics")?.lines().find_map(value) {
                Some(value) => return Ok(value),
                None if asked.elapsed() < HTTP_TIMEOUT => std::thread::sleep(BUSY_PAUSE),
                None => return Err(format!("{}: no {name}", self.name)),
            }
        }
    }

    /// Runs a client command of the program against it.
    pub fn client(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&*BINARY);
        Process::without_our_variables(&mut command);
        command.args(arguments).env("GOSSIPYKV_SERVER", format!("http://{}", self.http));
        command.output().expect("our own program runs")
    }

    /// The same member once more, after it ended.
    pub fn restart(self) -> Agent {
        let options = self.options.clone();
        self.restart_with(options)
    }

    /// The same name and addresses with other options.
    pub fn restart_with(self, options: AgentOptions) -> Agent {
        let Agent { name, gossip, http, process, .. } = self;
        drop(process);
        Agent::start_at(&name, gossip, http, options)
    }

    /// Its table as it goes over the wire, and the user state it answers a stranger with.
    pub fn wire_table(&self) -> Result<(Table, Vec<u8>), String> {
        let security = self.options.verify.of_questions(&self.options.keys);
        in_namespace(self.options.namespace.as_deref(), || push_pull(self.gossip, &security))
            .map(|(table, state)| (table, state.to_vec()))
    }

    /// Where it serves HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Its process, to be waited for.
    pub fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Lines of its log at warning or above, but for what probes came to: others judge that.
    pub fn complaints(&self) -> Vec<String> {
        let is_complaint = |line: &String| {
            let level = serde_json::from_str::<Value>(line).ok();
            let level = level.as_ref().and_then(|line| line["level"].as_str()).unwrap_or("ERROR");
            matches!(level, "WARN" | "ERROR") && !is_about_probes(line)
        };
        self.process.lines(0).into_iter().filter(is_complaint).collect()
    }
}

/// Waits until every one of these is ready, each for so long.
#[track_caller]
pub fn await_ready<'a>(agents: impl IntoIterator<Item = &'a Agent>, within: Duration) {
    for agent in agents {
        eventually("it is ready", within, || agent.is_ready());
    }
}

impl Node for Agent {
    fn name(&self) -> &str {
        &self.name
    }

    fn gossip(&self) -> SocketAddr {
        self.gossip
    }

    /// As the API tells it, which does not tell meta.
    fn table(&self) -> Result<Table, String> {
        let json = self.json("/members")?;
        let row = |member: &Value| {
            let state = match member["state"].as_str()? {
                "alive" => State::Alive,
                "suspect" => State::Suspect,
                "dead" => State::Dead,
                "left" => State::Left,
                _ => return None,
            };
            let incarnation = u32::try_from(member["incarnation"].as_u64()?).ok()?;
            Some((member["name"].as_str()?.to_owned(), Row { state, incarnation, meta: vec![] }))
        };
        let members = json["members"].as_array().ok_or("no members")?;
        members.iter().map(|member| row(member).ok_or_else(|| format!("row {member}"))).collect()
    }

    fn process(&self) -> &Process {
        &self.process
    }

    /// An agent is told its seeds at start; it contacts them again and again.
    fn join(&mut self, seeds: &[SocketAddr]) {
        assert!(
            seeds.iter().all(|seed| self.options.seeds.contains(seed)),
            "{} was not started with the seeds {seeds:?}",
            self.name
        );
    }

    fn leave(&mut self) {
        self.process.signal(rustix::process::Signal::TERM);
    }
}

fn send(method: &str, url: &str, body: &[u8]) -> Result<Answer, String> {
    let client = ureq::Agent::config_builder()
        .timeout_global(Some(HTTP_TIMEOUT))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let text = |error: ureq::Error| format!("{method} {url}: {error}");
    let request = ureq::http::Request::builder().method(method).uri(url);
    let request = request.body(body).map_err(|error| error.to_string())?;
    let mut response = client.run(request).map_err(text)?;
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_vec().map_err(text)?;
    Ok(Answer { status, body })
}
