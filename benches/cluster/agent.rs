//! A process of the program, from the outside.

use super::client::Client;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Gossip port of every agent; each has an address of its own.
pub const GOSSIP_PORT: u16 = 7947;
const HTTP_PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(120);

/// A running agent; killed when dropped.
pub struct Agent {
    process: Child,
    host: u8,
}

/// The program of the agents: the one built with this, or that of another version to compare with.
fn program() -> String {
    let other = std::env::var("GOSSIPYKV_PROGRAM");
    other.unwrap_or_else(|_| env!("CARGO_BIN_EXE_gossipykv").to_owned())
}

/// The address of a host.
pub fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 7, host)
}

impl Agent {
    /// Starts one that joins the others.
    pub fn start(host: u8, others: &[u8]) -> Agent {
        let mut command = Command::new(program());
        // It says how to measure, and a node refuses variables that it does not know.
        command.env_remove("GOSSIPYKV_PROGRAM");
        command.args(["agent", "--name", &format!("n{host}"), "--log-level", "error"]);
        command.args(["--bind", &format!("{}:{GOSSIP_PORT}", address(host))]);
        command.args(["--http", &format!("{}:{HTTP_PORT}", address(host))]);
        for other in others {
            command.args(["--join", &format!("{}:{GOSSIP_PORT}", address(*other))]);
        }
        let process = command.stdin(Stdio::null()).spawn().expect("the program starts");
        let agent = Agent { process, host };
        wait_for("HTTP", || std::net::TcpStream::connect(agent.http()).is_ok());
        agent
    }

    pub fn http(&self) -> SocketAddr {
        (address(self.host), HTTP_PORT).into()
    }

    pub fn client(&self) -> Client {
        Client::open(self.http())
    }

    pub fn is_ready(&self) -> bool {
        self.client().get("/health").0 == 200
    }

    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.client().get("/metrics");
        let text = String::from_utf8(text).expect("metrics are text");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let of = |line: &str| {
            let rest = line.strip_prefix("gossipykv_")?.strip_prefix(name)?;
            rest.starts_with([' ', '{', '}', ',']).then_some(())?;
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        };
        lines.filter_map(of).sum()
    }

    pub fn n_keys(&self) -> usize {
        self.metric("keys") as usize
    }

    /// Bytes of gossip sent so far, whatever the path.
    pub fn sent(&self) -> f64 {
        self.metric("datagram_bytes_sent_total") + self.metric("stream_bytes_sent_total")
    }

    /// Every key with its version.
    pub fn listing(&self) -> Vec<String> {
        let mut client = self.client();
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let (status, body) = client.get(&format!("/kv/?keys&limit=1000&after={after}"));
            assert_eq!(status, 200);
            let page: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let items = page["items"].as_array().expect("a list");
            all.extend(items.iter().map(ToString::to_string));
            let Some(next) = page["next"].as_str() else { return all };
            next.clone_into(&mut after);
        }
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> f64 {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(path).expect("the process runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process");
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024.0
    }

    /// Stops it as SIGSTOP does, or lets it go on.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("the process runs");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A ready cluster of the hosts `1..=n`.
pub fn cluster(n: u8) -> Vec<Agent> {
    let agents: Vec<Agent> =
        (1..=n).map(|host| Agent::start(host, &(1..host).collect::<Vec<_>>())).collect();
    settled(&agents);
    agents
}

/// Waits until all see all and are ready.
fn settled(agents: &[Agent]) {
    let sees_all = |agent: &Agent| {
        let (_, text) = agent.client().get("/members");
        let seen: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let members = seen["members"].as_array().expect("a list");
        members.iter().filter(|member| member["state"] == "alive").count() == agents.len()
    };
    wait_for("a cluster", || agents.iter().all(|agent| agent.is_ready() && sees_all(agent)));
}

/// Waits until each holds so many keys; says how long it took.
pub fn all_hold(agents: &[Agent], n_keys: usize) -> Duration {
    wait_for("equality", || agents.iter().all(|agent| agent.n_keys() >= n_keys))
}

/// Waits until all list the same keys in the same versions.
pub fn all_equal(agents: &[Agent]) {
    wait_for("equality", || {
        let first = agents[0].listing();
        agents[1..].iter().all(|agent| agent.listing() == first)
    });
}

/// Waits, and says how long it took.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_micros(500));
    }
    began.elapsed()
}
