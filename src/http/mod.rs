//! The REST API in front of the store.
//!
//! ```text
//!   clients ==> gate ==private lines==> lanes (tiny_http) --> routes --> Store, Command
//! ```
//!
//! - [`gate`]: faces the network: limits, deadlines, framing, authorisation. Async, own runtime.
//! - [`lanes`]: the one file that names tiny_http: a few private connections, a worker each.
//! - [`request`], [`response`], [`pending`]: a request, an answer, an answer that the node still owes.
//! - [`token`]: the token, and who counts as local.
//! - [`routes`], [`route`]: every route.
//!
//! Reads and writes of keys go straight to the store on the worker's thread; everything else is a
//! [`Command`](crate::node::command::Command) to the node, and waits in the gate.

pub mod counters;
pub mod gate;
pub mod json;
pub mod lanes;
pub mod memory;
pub mod pending;
pub mod request;
pub mod requests;
pub mod response;
pub mod route;
pub mod routes;
pub mod shutdown;
pub mod token;

pub use gate::Timing;
pub use token::{Token, TokenError};

use crate::limits::{HTTP_CONNECTIONS_MAX, HTTP_HELD_LEN_MAX, VALUE_LEN_DEFAULT_MAX};
use crate::node::command::Bridge;

use counters::Counters;
use gate::Gate;
use gate::refusal::Reason;
use lanes::lane::Lane;
use lanes::worker::{self, Secret, Upstream};
use memory::Budget;
use pending::PendingAnswers;
use request::Handler;
use routes::context::Api;
use shutdown::Shutdown;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Most connections to tiny_http for quick requests, each with a thread to parse and one to answer.
const QUICK_LANES_MAX: usize = 4;
/// Those for requests that take their time.
const BULK_LANES: usize = 2;
/// Most threads of the gate. One carries over 100,000 requests a second.
const GATE_THREADS_MAX: usize = 4;

/// What HTTP is told at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What clients must know; none: everybody may ask, and keys are for local clients.
    pub token: Option<Token>,
    /// Largest value taken, in bytes, at most
    /// [`VALUE_LEN_HARD_MAX`](crate::limits::VALUE_LEN_HARD_MAX).
    pub value_len_max: usize,
    /// Whether reads and conditional writes are answered before the node is ready, instead of 503.
    pub serves_while_starting: bool,
    /// Most client connections.
    pub connections_max: usize,
    /// How long clients may take.
    pub timing: Timing,
    /// What `/version` tells.
    pub version: Version,
    /// Counted up elsewhere, shown by `/metrics`.
    pub log_lines_dropped: Arc<AtomicU64>,
}

/// What `/version` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Of the release.
    pub version: &'static str,
    /// The commit it was built from.
    pub hash: &'static str,
    /// When, as ISO 8601.
    pub date: &'static str,
}

impl Config {
    /// The defaults, at an address.
    #[must_use]
    pub fn new(listen: SocketAddr, version: Version) -> Config {
        Config {
            listen,
            token: None,
            value_len_max: VALUE_LEN_DEFAULT_MAX,
            serves_while_starting: false,
            connections_max: HTTP_CONNECTIONS_MAX,
            timing: Timing::default(),
            version,
            log_lines_dropped: Arc::default(),
        }
    }
}

/// Why HTTP could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("cannot listen for HTTP on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// A thread, a socket or random bytes were refused.
    #[error("cannot start the HTTP workers: {0}")]
    Workers(io::Error),
}

/// HTTP, running.
pub struct Server {
    runtime: Option<Runtime>,
    gate: Arc<Gate>,
    workers: Vec<worker::Lane>,
    accepting: Option<JoinHandle<()>>,
    local_addr: SocketAddr,
    failed: watch::Receiver<Option<String>>,
}

/// Starts HTTP; returns when the port is bound and the workers have answered.
///
/// # Errors
/// See [`StartError`].
pub fn start(config: Config, bridge: Arc<dyn Bridge>) -> Result<Server, StartError> {
    let (pending, counters) = (Arc::new(PendingAnswers::default()), Arc::new(Counters::default()));
    let budget = Budget::new(HTTP_HELD_LEN_MAX);
    let shutdown = Arc::new(Shutdown::default());
    let api = Api {
        bridge: Arc::clone(&bridge),
        shutdown: Arc::clone(&shutdown),
        version: config.version,
        value_len_max: config.value_len_max,
        serves_while_starting: config.serves_while_starting,
        pending: Arc::clone(&pending),
        requests: Arc::default(),
        counters: Arc::clone(&counters),
        budget: Arc::clone(&budget),
        log_lines_dropped: Arc::clone(&config.log_lines_dropped),
    };
    start_with(config, bridge, Arc::new(api), Shared { pending, counters, budget, shutdown })
}

/// What the gate shares with a handler.
#[derive(Clone)]
pub struct Shared {
    /// Answers that come later.
    pub pending: Arc<PendingAnswers>,
    /// What the gate counts.
    pub counters: Arc<Counters>,
    /// What the gate holds.
    pub budget: Arc<Budget>,
    /// What is still let in.
    pub shutdown: Arc<Shutdown>,
}

/// Starts HTTP with a handler of one's own.
///
/// # Errors
/// See [`StartError`].
pub fn start_with(
    config: Config,
    bridge: Arc<dyn Bridge>,
    handler: Arc<dyn Handler>,
    shared: Shared,
) -> Result<Server, StartError> {
    let listener = gate::listen::bind(config.listen)
        .map_err(|error| StartError::Listen(config.listen, error))?;
    let started = Started::new(&handler).map_err(StartError::Workers)?;
    let gate = Arc::new(Gate {
        bridge,
        secret: started.secret.clone(),
        token: config.token,
        value_len_max: config.value_len_max,
        timing: config.timing,
        connections_max: gate::listen::connections_max(config.connections_max),
        quick: (0..started.n_quick).map(|_| Lane::default()).collect(),
        bulk: (started.n_quick..started.upstreams.len()).map(|_| Lane::default()).collect(),
        budget: shared.budget,
        shutdown: shared.shutdown,
        pending: shared.pending,
        counters: shared.counters,
        draining: AtomicBool::new(false),
        drain: Notify::new(),
        emptied: Notify::new(),
    });
    run(started, gate, listener).map_err(StartError::Workers)
}

/// The workers, up and proven, and what leads to them.
struct Started {
    secret: Secret,
    n_quick: usize,
    workers: Vec<worker::Lane>,
    upstreams: Vec<Upstream>,
}

impl Started {
    fn new(handler: &Arc<dyn Handler>) -> io::Result<Started> {
        let n_quick = n_cores().clamp(2, QUICK_LANES_MAX);
        let mut started =
            Started { secret: secret()?, n_quick, workers: Vec::new(), upstreams: Vec::new() };
        for n in 0..n_quick + BULK_LANES {
            let name = format!("http-{n}");
            let (worker, upstream) =
                worker::Lane::start(&name, &started.secret, Arc::clone(handler))?;
            started.workers.push(worker);
            started.upstreams.push(upstream);
        }
        Ok(started)
    }
}

/// Starts the gate's own runtime and everything that runs on it.
fn run(started: Started, gate: Arc<Gate>, listener: std::net::TcpListener) -> io::Result<Server> {
    let runtime = Builder::new_multi_thread()
        .worker_threads((n_cores() / 2).clamp(1, GATE_THREADS_MAX))
        .thread_name("http-gate")
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let local_addr = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (failure, failed) = watch::channel(None);
    let failure = Arc::new(failure);
    for (n, upstream) in started.upstreams.into_iter().enumerate() {
        let (gate, failure) = (Arc::clone(&gate), Arc::clone(&failure));
        tokio::spawn(async move {
            let lane = gate.quick.iter().chain(&gate.bulk).nth(n);
            if let Some(lane) = lane {
                let error = lane.run(upstream, &gate.pending, &gate.budget).await;
                failure.send_replace(Some(error.to_string()));
            }
        });
    }
    let accepting = Some(tokio::spawn(Arc::clone(&gate).accept(listener)));
    let watched = Arc::clone(&gate);
    tokio::spawn(async move {
        let error = watched.prove_lanes().await;
        failure.send_replace(Some(error));
    });
    drop(entered);
    let (runtime, workers) = (Some(runtime), started.workers);
    Ok(Server { runtime, gate, workers, accepting, local_addr, failed })
}

fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get)
}

#[expect(clippy::disallowed_methods, reason = "the line to the workers wants a secret")]
fn secret() -> io::Result<Secret> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(Secret::new(random))
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Client connections at present.
    #[must_use]
    pub fn n_connections(&self) -> usize {
        self.gate.counters.n_open()
    }

    /// Requests and connections turned away so far, for this reason.
    #[must_use]
    pub fn n_refused(&self, reason: Reason) -> u64 {
        self.gate.counters.refusals(reason)
    }

    /// Ends, with what went wrong, when a part of HTTP has failed: then the process must end.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let mut failed = self.failed.clone();
        async move {
            let failure = failed.wait_for(Option::is_some).await.map(|failure| failure.clone());
            match failure {
                Ok(failure) => failure.unwrap_or_default(),
                // Dropped together with the server, whose end this is not.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Answers `/health` as a leaving node does from now on, and everything else as before: so that
    /// load balancers turn away before the shutdown is shut.
    pub fn set_not_ready(&self) {
        self.gate.shutdown.set_not_ready();
    }

    /// Answers writes with 503 from now on; those answered before are in the store.
    pub fn refuse_writes(&self) {
        self.gate.shutdown.refuse_writes();
    }

    /// Stops accepting, answers what is in flight, closes; returns when that is done, or after
    /// `limit`. Blocks: not for async code.
    pub fn drain(mut self, limit: Duration) {
        self.gate.draining.store(true, Ordering::Release);
        self.gate.drain.notify_waiters();
        let (Some(runtime), Some(accepting)) = (&self.runtime, self.accepting.take()) else {
            return;
        };
        let (done, is_done) = mpsc::channel();
        let gate = Arc::clone(&self.gate);
        runtime.spawn(async move {
            // Fails only if accepting has been ended already.
            let _ = accepting.await;
            loop {
                let emptied = gate.emptied.notified();
                if gate.counters.n_open() == 0 {
                    break;
                }
                emptied.await;
            }
            // When nobody waits any more the limit has passed.
            let _ = done.send(());
        });
        // What has not ended by then is cut off.
        let _ = is_done.recv_timeout(limit);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait, so that it may be done from async code too.
            runtime.shutdown_background();
        }
        for worker in self.workers.drain(..) {
            worker.stop();
        }
    }
}
