//! A machine that does what a test says, in a shell that is real.

use crate::discovery;
use crate::kv::{OriginId, Store, StoreConfig};
use crate::limits::STREAM_UNFINISHED_LEN_MAX;
use crate::node::command::{Command, Health, NotReady, Reply};
use crate::node::io::{ConnId, Input, Output};
use crate::runtime::Agent;
use crate::runtime::clock::Clock;
use crate::runtime::engine::Machine;
use crate::runtime::sockets;
use crate::runtime::tcp::Limits;
use crate::runtime::watchdog::{PACE, Pace};
use crate::time::{Instant, Now};
use crate::wire::packet::Security;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Long enough for anything here, on a machine busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long the clocks of all these shells have been running: longer than any timer can wait.
pub const AGE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Generous limits, for tests that are not about them.
pub const LIMITS: Limits = Limits {
    first_byte: PATIENCE,
    exchange: PATIENCE,
    idle: PATIENCE,
    stall: PATIENCE,
    unacked: PATIENCE,
    linger: Duration::from_secs(2),
    unfinished_len: STREAM_UNFINISHED_LEN_MAX,
};

/// Answers one input with outputs.
pub type React = Box<dyn FnMut(&Input) -> Vec<Output> + Send>;

/// What a test and its puppet share.
#[derive(Default)]
struct Strings {
    outputs: VecDeque<Output>,
    deadline: Option<Instant>,
    health: Option<(Health, bool)>,
    why: Option<String>,
}

struct Puppet {
    strings: Arc<Mutex<Strings>>,
    seen: Sender<Input>,
    react: React,
    security: Arc<Security>,
}

impl Machine for Puppet {
    fn handle(&mut self, _now: Now, input: Input) {
        let outputs = (self.react)(&input);
        self.strings.lock().outputs.extend(outputs);
        if matches!(input, Input::Timeout) {
            self.strings.lock().deadline = None;
        }
        // A test that has seen enough no longer listens.
        let _ = self.seen.send(input);
    }

    fn poll(&mut self, _now: Now) -> Output {
        let mut strings = self.strings.lock();
        let deadline = strings.deadline.unwrap_or(Instant::NEVER);
        strings.outputs.pop_front().unwrap_or(Output::Timeout(deadline))
    }

    fn security(&self) -> Arc<Security> {
        self.security.clone()
    }

    fn health(&self) -> Health {
        self.strings.lock().health.map_or(Health::Starting, |(health, _)| health)
    }

    fn is_complete(&self) -> bool {
        matches!(self.health(), Health::Ok | Health::Leaving)
    }

    fn not_ready(&self) -> Option<NotReady> {
        match self.health() {
            Health::Ok => None,
            Health::Starting => Some(NotReady::Copying),
            Health::Leaving => Some(NotReady::Leaving),
            Health::Stalled => Some(NotReady::Stalled),
        }
    }

    fn why(&self) -> Option<String> {
        self.strings.lock().why.clone()
    }

    fn alone(&self) -> bool {
        self.strings.lock().health.is_none_or(|(_, alone)| alone)
    }
}

/// A running shell and the strings of its puppet.
pub struct Shell {
    pub agent: Agent,
    pub addr: SocketAddr,
    pub clock: Clock,
    strings: Arc<Mutex<Strings>>,
    seen: Receiver<Input>,
}

/// How a shell is set up.
pub struct Setup {
    pub bind: &'static str,
    pub limits: Limits,
    pub pace: Pace,
    pub security: Security,
    pub react: React,
    pub discovery: discovery::Config,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            bind: "127.0.0.1:0",
            limits: LIMITS,
            pace: PACE,
            security: Security::default(),
            react: Box::new(|_| Vec::new()),
            discovery: discovery::Config::default(),
        }
    }
}

impl Setup {
    pub fn start(self) -> Shell {
        let pair = sockets::bind(self.bind.parse().expect("an address")).expect("a free port");
        let (seen_by, seen) = channel();
        let strings = Arc::new(Mutex::new(Strings::default()));
        let security = Arc::new(self.security);
        let (strings_too, react) = (strings.clone(), self.react);
        let puppet = Puppet { strings: strings_too, seen: seen_by, react, security };
        let (clock, addr) = (Clock::running_for(AGE), pair.addr);
        let store = Arc::new(store());
        let Setup { limits, pace, discovery, .. } = self;
        let agent = Agent::assemble(puppet, clock, store, pair, limits, pace, discovery)
            .expect("threads and sockets");
        Shell { agent, addr, clock, strings, seen }
    }
}

fn store() -> Store {
    Store::new(StoreConfig { origin: OriginId(1), store_len_max: 0 })
}

impl Shell {
    /// A shell whose puppet only listens.
    pub fn start() -> Shell {
        Setup::default().start()
    }

    /// Makes the puppet say this at its next turn, which is now.
    pub fn say(&self, outputs: impl IntoIterator<Item = Output>) {
        self.strings.lock().outputs.extend(outputs);
        self.agent.wake();
    }

    /// Sets the puppet's deadline.
    pub fn set_deadline(&self, deadline: Instant) {
        self.strings.lock().deadline = Some(deadline);
        self.agent.wake();
    }

    /// Sets what the puppet says of itself.
    pub fn set_health(&self, health: Health, alone: bool) {
        self.strings.lock().health = Some((health, alone));
        self.agent.wake();
    }

    /// Sets why the puppet is not ready.
    pub fn set_why(&self, why: Option<&str>) {
        self.strings.lock().why = why.map(str::to_owned);
        self.agent.wake();
    }

    /// The moment `delay` from now.
    pub fn after(&self, delay: Duration) -> Instant {
        self.clock.instant() + delay
    }

    /// Waits for an input that `pick` picks, passing over others.
    #[track_caller]
    pub fn expect<T>(&self, what: &str, mut pick: impl FnMut(Input) -> Option<T>) -> T {
        let give_up = self.after(PATIENCE);
        let mut passed_over = Vec::new();
        loop {
            let left = give_up.since(self.clock.instant());
            match self.seen.recv_timeout(left) {
                Ok(input) => {
                    let shown = brief(&input);
                    match pick(input) {
                        Some(picked) => return picked,
                        None => passed_over.push(shown),
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what}, only {passed_over:#?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the engine ended before {what}, after {passed_over:#?}")
                }
            }
        }
    }

    /// The next input, if it comes that soon.
    pub fn next_within(&self, wait: Duration) -> Option<Input> {
        self.seen.recv_timeout(wait).ok()
    }

    /// Waits for the end of `conn`; what was wrong with it.
    #[track_caller]
    pub fn expect_closed(&self, expected: ConnId) -> Option<String> {
        self.expect(&format!("end of {expected:?}"), |input| match input {
            Input::Closed { conn, error } if conn == expected => Some(error),
            _ => None,
        })
    }

    /// Sends a command and waits for its answer.
    #[track_caller]
    pub fn ask(&self, command: Command) -> Reply {
        let (answer, answered) = channel();
        let reply_to = Box::new(move |reply| answer.send(reply).expect("somebody waits"));
        self.agent.bridge().send(command, reply_to).expect("room");
        answered.recv_timeout(PATIENCE).expect("an answer")
    }

    /// The shell's counter of this name. The puppet must answer `Stats` with no samples.
    #[track_caller]
    pub fn counter(&self, name: &str) -> f64 {
        let Reply::Stats(samples) = self.ask(Command::Stats) else { panic!("samples") };
        let sample = samples.iter().find(|sample| sample.name == name);
        sample.unwrap_or_else(|| panic!("no {name}")).value
    }

    /// Waits until `holds`, looking every now and then.
    #[track_caller]
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let give_up = self.after(PATIENCE);
        while !holds() {
            assert!(self.clock.instant() < give_up, "never: {what}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// An input without the megabytes it may carry.
pub fn brief(input: &Input) -> String {
    match input {
        Input::Frame { conn, .. } => format!("frame on {conn:?}"),
        Input::Datagram { from, bytes } => format!("{} bytes from {from}", bytes.len()),
        input => format!("{input:?}"),
    }
}

/// Answers `Stats` with no samples of its own, and anything else as `rest` says.
pub fn with_stats(mut rest: impl FnMut(&Input) -> Vec<Output> + Send + 'static) -> React {
    Box::new(move |input| match input {
        Input::Command { ticket, command: Command::Stats } => {
            vec![Output::Reply { ticket: *ticket, reply: Reply::Stats(Vec::new()) }]
        }
        input => rest(input),
    })
}
