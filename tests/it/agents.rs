//! Real processes that serve: started, watched through their log, signalled, reaped.

use crate::program::{Ended, command, run};
use gossipykv::discovery::fetch;
use gossipykv::runtime::clock::Clock;
use gossipykv::time::Instant;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::NamedTempFile;

/// Long enough for anything here, on a machine busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `found` is something.
#[track_caller]
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::start();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(clock.instant() < Instant::ZERO + PATIENCE, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Waits that long. (A park may end early.)
pub fn pause(time: Duration) {
    let clock = Clock::start();
    until("time passes", || (clock.instant() >= Instant::ZERO + time).then_some(()));
}

/// A running process. Killed when dropped before its end.
pub struct Running {
    child: Child,
    out: NamedTempFile,
    log: NamedTempFile,
    clock: Clock,
}

impl Running {
    /// Starts the program with arguments and variables.
    pub fn start(args: &[&str], variables: &[(&str, &str)]) -> Running {
        Running::of(command(args), variables)
    }

    /// Starts a command that becomes the program.
    pub fn of(mut command: Command, variables: &[(&str, &str)]) -> Running {
        let [out, log] = [(); 2].map(|()| NamedTempFile::new().expect("a temporary file"));
        let to = |file: &NamedTempFile| Stdio::from(file.reopen().expect("the file again"));
        let child = command
            .envs(variables.iter().copied())
            .stdout(to(&out))
            .stderr(to(&log))
            .spawn()
            .expect("the program starts");
        Running { child, out, log, clock: Clock::start() }
    }

    /// Everything written to standard error so far.
    pub fn log(&self) -> String {
        text(&self.log)
    }

    /// Everything written to standard output so far.
    pub fn out(&self) -> String {
        text(&self.out)
    }

    /// The first log line with this message, once it is there.
    #[track_caller]
    pub fn logged(&mut self, message: &str) -> Value {
        until(message, || {
            let log = self.log();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            let line = lines.find(|line: &Value| line["message"] == message);
            let ended = self.child.try_wait().expect("its state");
            assert!(line.is_some() || ended.is_none(), "ended without {message:?}:\n{log}");
            line
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a process to signal");
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended, and how long after the call.
    #[track_caller]
    pub fn end(mut self) -> (Ended, Duration) {
        let begin = self.clock.instant();
        let status = until("the end of the process", || self.child.try_wait().expect("its state"));
        let took = self.clock.instant().since(begin);
        let ended = Ended { code: status.code(), out: self.out().into(), err: self.log() };
        (ended, took)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(file: &NamedTempFile) -> String {
    let mut text = String::new();
    File::open(file).and_then(|mut file| file.read_to_string(&mut text)).expect("text");
    text
}

/// One `agent` on ports of the system's choice.
pub struct Node {
    pub process: Running,
    /// Where it gossips.
    pub gossip: SocketAddr,
    /// Where it serves.
    pub http: SocketAddr,
}

impl Node {
    /// Starts it with further flags and variables; returns when it serves.
    #[track_caller]
    pub fn start(name: &str, flags: &[&str], variables: &[(&str, &str)]) -> Node {
        let args = ["agent", "--name", name, "--http", "127.0.0.1:0"];
        let mut args = args.to_vec();
        if !flags.contains(&"--bind") {
            args.extend(["--bind", "127.0.0.1:0"]);
        }
        args.extend(flags);
        Node::of(Running::start(&args, variables))
    }

    /// One that has been started with ports of the system's choice; returns when it serves.
    #[track_caller]
    pub fn of(mut process: Running) -> Node {
        let addr = |line: &Value, field: &str| {
            line[field].as_str().and_then(|addr| addr.parse().ok()).expect("an address")
        };
        let gossip = addr(&process.logged("gossip begins"), "bind");
        let http = addr(&process.logged("serving"), "http");
        Node { process, gossip, http }
    }

    /// A cluster of these, each of which is ready and sees all alive.
    #[track_caller]
    pub fn cluster<const N: usize>(flags: &[&str], variables: &[(&str, &str)]) -> [Node; N] {
        let mut seed = None;
        let nodes: [Node; N] = std::array::from_fn(|index| {
            let join = seed.map(|seed: SocketAddr| ["--join".to_owned(), seed.to_string()]);
            let join = join.iter().flatten().map(String::as_str);
            let flags: Vec<&str> = flags.iter().copied().chain(join).collect();
            let node = Node::start(&format!("n{index}"), &flags, variables);
            seed.get_or_insert(node.gossip);
            node
        });
        for node in &nodes {
            until("all are alive", || {
                (0..N).all(|index| node.sees(&format!("n{index}"), "alive")).then_some(())
            });
            node.await_ready();
        }
        nodes
    }

    /// Status, state and reason that `/health` tells, the last empty for none.
    #[track_caller]
    pub fn health(&self) -> (u16, String, String) {
        let (status, body) = self.get("/health").expect("an answer");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        (status, text("status"), text("why"))
    }

    /// Waits until it answers reads.
    #[track_caller]
    pub fn await_ready(&self) {
        until("it is ready", || (self.get("/health")?.0 == 200).then_some(()));
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Runs a client command against it.
    pub fn run(&self, args: &[&str]) -> Ended {
        run(&[args, &["--server", &self.url()]].concat())
    }

    /// Status and body of a GET; none without an answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let client = fetch::client(vec![self.http], PATIENCE);
        let answer = client.get(format!("{}{path}", self.url())).call().ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.into_body().read_to_string().ok()?))
    }

    /// A figure of its metrics, by its name without the program's.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.get("/metrics").expect("an answer");
        let prefix = format!("gossipykv_{name} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
        value.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().expect("a number")
    }

    /// Whether it takes a member for this.
    pub fn sees(&self, name: &str, state: &str) -> bool {
        let Some((200, members)) = self.get("/members") else { return false };
        let members: Value = serde_json::from_str(&members).expect("JSON");
        let mut members = members["members"].as_array().expect("members").iter();
        members.any(|member| member["name"] == name && member["state"] == state)
    }
}
