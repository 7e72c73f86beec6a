//! Nodes at work, from their start to their end: one for `agent`, some for `dev`.
//!
//! ```text
//!   prepare --> start --> serve --signal--> not ready, leave, drain, stop --> exit 0, or 1 when
//!      |                    |                     |                  writes were not handed over
//!      +-- signal: exit 0   |                     +-- second signal --> exit 128 + its number
//!                           +-- a part has died ----------> exit 1, with its last word
//! ```

use super::certificates::{CertificateFiles, Renewal};
use super::failure::Failure;
use super::tokens::Reload;
use super::version;
use crate::http::{self, Server, Tls, Tokens};
use crate::node::command::{Bridge, Command, Health, MemberStatus, Reply};
use crate::runtime::clock::Clock;
use crate::runtime::signal::{self, Signals};
use crate::runtime::threads::Fault;
use crate::runtime::{self, Agent};
use crate::time::Instant;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::Signal;
use tokio::task::{JoinSet, spawn_blocking};

/// How long past the leave timeout HTTP may take for what is in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(1200);
/// How long past the leave timeout everything may take; the contract says 2 s.
const END_TIMEOUT: Duration = Duration::from_millis(1700);
/// How long past its deadline the node's answer may take to reach us.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);
/// Signals so soon after the first are the same wish: `timeout` and some supervisors signal the
/// process and then its group.
const ECHO: Duration = Duration::from_millis(50);
/// How long a node on loopback that looks for nobody waits before it opens HTTP.
const CALLS_TIMEOUT: Duration = Duration::from_millis(250);
/// How often we ask again.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// A node and its HTTP.
pub(super) struct Serving {
    agent: Agent,
    server: Server,
}

/// How nodes end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// How long they serve on after readiness has turned.
    pub(super) drain_delay: Duration,
    /// How long they tell the others.
    pub(super) leave_timeout: Duration,
}

/// What to blame when an address is not to be had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flags {
    pub(super) gossip: &'static str,
    pub(super) http: &'static str,
}

/// Listens on an address for a moment.
///
/// # Errors
/// What the system says, with the flag that says where.
pub(super) fn try_listening<T>(
    flag: &str,
    addr: SocketAddr,
    bind: impl FnOnce(SocketAddr) -> io::Result<T>,
) -> Result<(), Failure> {
    let refused = |error| Failure::failed(format!("{flag}: cannot listen on {addr}: {error}"));
    bind(addr).map(drop).map_err(refused)
}

/// HTTP at an address, with this program's version.
pub(super) fn http_config(listen: SocketAddr) -> http::Config {
    let version =
        http::Version { version: version::VERSION, hash: version::HASH, date: version::DATE };
    http::Config::new(listen, version)
}

/// What the system is to know of a process that serves.
pub(super) fn settle_in() {
    raise_open_files();
    use_small_pages();
}

/// Has memory come in pages of 4 KiB, where the allocator asks for 2 MiB. The kernel clears such a
/// page in one go, in up to 5 ms on a virtual machine that has to fetch it first: a copy of a
/// million keys then made the slowest reads of other clients of the machine eight times slower,
/// instead of twice. And an empty process takes 12 MiB instead of 37.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay as they are");
    }
}

/// Lets the process open as many files as the system permits: a connection is one.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = ?limit.current, "cannot raise the limit of open files");
    }
}

impl Serving {
    /// Starts the node, then HTTP in front of it.
    ///
    /// # Errors
    /// What could not be bound or started, with the flag that says where.
    pub(super) fn start(
        gossip: runtime::Config,
        http: http::Config,
        flags: Flags,
    ) -> Result<Serving, Failure> {
        // A node that cannot serve must not show up in the cluster only to die in it.
        try_listening(flags.http, http.listen, TcpListener::bind)?;
        let speaks_tls = http.tls.is_some();
        let calls_soon = gossip.discovery.is_empty() && gossip.node.advertise.ip().is_loopback();
        let agent = runtime::start(gossip).map_err(|error| match error {
            runtime::StartError::Bind(error) => {
                Failure::failed(format!("{}: {error}", flags.gossip))
            }
            error => Failure::failed(error.to_string()),
        })?;
        if calls_soon {
            hear_calls(&*agent.bridge());
        }
        let server = http::start(http, agent.bridge()).map_err(|error| match error {
            error @ http::StartError::Listen(..) => {
                Failure::failed(format!("{}: {error}", flags.http))
            }
            error => Failure::failed(error.to_string()),
        })?;
        let (http, version, tls) = (server.local_addr(), version::LINE, speaks_tls);
        tracing::info!(%http, tls, version, "serving");
        if let Some(error) = server.local_error() {
            tracing::warn!(error, "gossipykv keys on this host will need a token");
        }
        Ok(Serving { agent, server })
    }

    /// What the front of the house holds of the node.
    pub(super) fn bridge(&self) -> Arc<dyn Bridge> {
        self.agent.bridge()
    }

    /// Turns load balancers away, hands over, tells the others, finishes the requests in flight,
    /// stops. Blocks. What could not be handed over is told to `left` as soon as it is known.
    fn end(self, ending: Ending, left: &mpsc::Sender<Left>) {
        let bridge = self.agent.bridge();
        self.server.set_not_ready();
        std::thread::sleep(ending.drain_delay);
        let started = bridge.now().instant;
        // What is written up to here reaches the others before they are told.
        self.server.refuse_writes();
        // Whoever waits has gone only when the process ends at once.
        let _ = left.send(leave(&*bridge, ending.leave_timeout));
        let spent = bridge.now().instant.since(started);
        self.server.drain((ending.leave_timeout + DRAIN_TIMEOUT).saturating_sub(spent));
        self.agent.shutdown();
    }
}

/// Gives members on this machine that know the node from before the moment they take to call it.
/// A node that looks for nobody founds a cluster after it, and so serves from its first answer on.
fn hear_calls(bridge: &dyn Bridge) {
    let deadline = bridge.now().instant + CALLS_TIMEOUT;
    while bridge.health() == Health::Starting && bridge.now().instant < deadline {
        std::thread::sleep(ASK_EVERY);
    }
}

/// Writes that a node could not hand over; `None` when it did not say.
type Left = Option<u64>;

/// Leaves the cluster: readiness turns, what others lack is handed over, they are told. Returns
/// when that is done or the time is over.
fn leave(bridge: &dyn Bridge, timeout: Duration) -> Left {
    let deadline = bridge.now().instant + timeout;
    loop {
        match ask(bridge, Command::Leave { deadline }, timeout + ANSWER_TIMEOUT) {
            Asked::Answered(Reply::Left { unsent }) => return Some(unsent),
            Asked::Busy if bridge.now().instant < deadline => std::thread::sleep(ASK_EVERY),
            Asked::Answered(_) | Asked::Silent | Asked::Busy => return None,
        }
    }
}

/// What the end of some nodes comes to.
fn handed_over(left: impl Iterator<Item = Left>) -> Result<(), Failure> {
    let (mut unsent, mut n_silent) = (0_u64, 0_u32);
    for left in left {
        unsent = unsent.saturating_add(left.unwrap_or(0));
        n_silent += u32::from(left.is_none());
    }
    let why = match (unsent, n_silent) {
        (0, 0) => return Ok(()),
        (0, _) => "the node did not say whether its writes were handed over".to_owned(),
        (unsent, _) => format!(
            "{unsent} writes could not be handed over before the end of --leave-timeout: no member \
             that stays has confirmed that it holds them"
        ),
    };
    tracing::error!(unsent, "{why}");
    Err(Failure::failed(why))
}

/// What became of a command.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    Answered(Reply),
    Silent,
    Busy,
}

/// Asks the node and waits for its answer.
pub(super) fn ask(bridge: &dyn Bridge, command: Command, timeout: Duration) -> Asked {
    let (tell, told) = mpsc::channel();
    let reply_to = Box::new(move |reply| {
        // Nobody waits any more when the time is over.
        let _ = tell.send(reply);
    });
    match bridge.send(command, reply_to) {
        Ok(()) => told.recv_timeout(timeout).map_or(Asked::Silent, Asked::Answered),
        Err(_) => Asked::Busy,
    }
}

/// Waits until every node sees all of them alive and is ready, or the time is over.
pub(super) fn meet(nodes: &[Serving], timeout: Duration) {
    for node in nodes {
        let bridge = node.agent.bridge();
        let deadline = bridge.now().instant + timeout;
        let is_settled = || bridge.health() == Health::Ok && sees(&*bridge, nodes.len());
        while !is_settled() && bridge.now().instant < deadline {
            std::thread::sleep(ASK_EVERY);
        }
    }
}

fn sees(bridge: &dyn Bridge, n_nodes: usize) -> bool {
    match ask(bridge, Command::Members, ANSWER_TIMEOUT) {
        Asked::Answered(Reply::Members(members)) => {
            let alive = members.iter().filter(|member| member.state == MemberStatus::Alive);
            alive.count() >= n_nodes
        }
        _ => false,
    }
}

/// What SIGHUP means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hangup {
    /// The terminal has closed: the end, in good order.
    Ends,
    /// Files are to be read again, where there are any.
    ReadsAgain,
}

/// What waits for signals. From its making on, none of them kills the process by itself, and as the
/// first process of a container it misses none.
pub(super) struct Watch {
    runtime: Runtime,
    signals: Signals,
    /// SIGHUP, while there is nobody who reads anything again.
    hangup: Option<Signal>,
}

impl Watch {
    /// Takes the signals over.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn begin(hangup: Hangup) -> Result<Watch, Failure> {
        let begin = || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (signals, hangup) = {
                let _entered = runtime.enter();
                let signals = Signals::listen()?;
                match hangup {
                    Hangup::Ends => (signals.and_hangup()?, None),
                    Hangup::ReadsAgain => (signals, Some(signal::hangup()?)),
                }
            };
            Ok(Watch { runtime, signals, hangup })
        };
        begin().map_err(|error: io::Error| Failure::failed(format!("signals: {error}")))
    }

    /// Does what comes before serving, on a thread of its own: it may wait for files, for name
    /// servers and endpoints that are silent. `None` when a signal came first; there is nothing to
    /// hand over yet, so that is the end.
    ///
    /// # Errors
    /// What `work` fails with.
    pub(super) fn prepare<T: Send + 'static>(
        mut self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<Option<(Watch, T)>, Failure> {
        let signals = &mut self.signals;
        let done = self.runtime.block_on(async {
            tokio::select! {
                done = spawn_blocking(work) => Some(done),
                signal = signals.next() => {
                    tracing::info!(signal, "ended before it began to serve");
                    None
                }
            }
        });
        let Some(done) = done else {
            // The work may stand where nothing wakes it.
            self.runtime.shutdown_background();
            return Ok(None);
        };
        let done = done.unwrap_or_else(|error| Err(Failure::failed(error.to_string())))?;
        Ok(Some((self, done)))
    }

    /// Has tokens read again from their file whenever it changes, as long as it serves.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn reload(&mut self, tokens: Arc<Tokens>, path: PathBuf) -> Result<(), Failure> {
        self.keep(|| Reload::new(tokens, path).map(Reload::run))
    }

    /// Has a certificate read again from its files whenever they change, as long as it serves.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn renew(&mut self, tls: Arc<Tls>, files: CertificateFiles) -> Result<(), Failure> {
        self.keep(|| Renewal::new(tls, files).map(Renewal::run))
    }

    /// Has something done that waits for signals, as long as it serves.
    fn keep<F>(&mut self, begin: impl FnOnce() -> io::Result<F>) -> Result<(), Failure>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let _entered = self.runtime.enter();
        let kept = begin().map_err(|error| Failure::failed(format!("signals: {error}")))?;
        drop(self.runtime.spawn(kept));
        self.hangup = None;
        Ok(())
    }

    /// Serves until the first signal, then ends in good order. `fault` is what else may die.
    ///
    /// # Errors
    /// A part has died, or a second signal came.
    pub(super) fn serve(
        mut self,
        nodes: Vec<Serving>,
        ending: Ending,
        fault: &Fault,
    ) -> Result<(), Failure> {
        if let Some(hangup) = self.hangup.take() {
            drop(self.runtime.spawn(shrug(hangup)));
        }
        let ended = self.runtime.block_on(serve(&mut self.signals, nodes, ending, fault));
        // What does not end in time must not keep the process.
        self.runtime.shutdown_background();
        ended
    }
}

/// Tells whoever wants files to be read again that there are none.
async fn shrug(mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP: there is nothing to read again");
    }
}

async fn serve(
    signals: &mut Signals,
    nodes: Vec<Serving>,
    ending: Ending,
    fault: &Fault,
) -> Result<(), Failure> {
    let mut failures = JoinSet::new();
    failures.spawn(fault.told());
    for node in &nodes {
        failures.spawn(node.agent.failed());
        failures.spawn(node.server.failed());
    }
    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "leaving the cluster"),
        failure = first(&mut failures) => {
            // Not dropped: that waits for threads, and one of them may be stuck.
            std::mem::forget(nodes);
            return Err(failure);
        }
    }
    let since_first = Clock::start();
    let mut ends = JoinSet::new();
    let n_nodes = nodes.len();
    let (tell, told) = mpsc::channel();
    for node in nodes {
        let tell = tell.clone();
        ends.spawn_blocking(move || node.end(ending, &tell));
    }
    drop(tell);
    let limit = ending.drain_delay + ending.leave_timeout + END_TIMEOUT;
    let ended = tokio::time::timeout(limit, ends.join_all());
    tokio::select! {
        biased;
        ended = ended => {
            if ended.is_err() {
                tracing::warn!("not everything ended in time; it is cut off");
            }
            let silent = std::iter::repeat(None);
            handed_over(told.try_iter().chain(silent).take(n_nodes))
        }
        signal = second(signals, since_first) => Err(Failure::Signal(signal)),
        failure = first(&mut failures) => Err(failure),
    }
}

/// The next signal that is not an echo of the first. A terminal that closes is none: its shell may
/// say so again.
pub(super) async fn second(signals: &mut Signals, since_first: Clock) -> &'static str {
    loop {
        let signal = signals.next().await;
        if signal != "SIGHUP" && since_first.instant() >= Instant::ZERO + ECHO {
            return signal;
        }
    }
}

/// The first part that dies.
async fn first(failures: &mut JoinSet<String>) -> Failure {
    match failures.join_next().await {
        Some(Ok(why)) => Failure::Failed(why),
        // Waiting neither panics nor is cancelled, and there is always somebody to wait for.
        Some(Err(error)) => Failure::failed(error.to_string()),
        None => std::future::pending().await,
    }
}
