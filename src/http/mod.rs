//! The REST API in front of the store.
//!
//! ```text
//!   clients ==> gate ==private lines==> server (tiny_http) --> api --> Store, Command
//! ```
//!
//! - [`gate`]: faces the network: limits, deadlines, framing, authorisation. Async, own runtime.
//! - [`server`]: the one file that names tiny_http: a few private connections, a worker each.
//! - [`ask`], [`reply`], [`later`]: a request, an answer, an answer that the node still owes.
//! - [`auth`]: the token, and who counts as local.
//!
//! Reads and writes of keys go straight to the store on the worker's thread; everything else is a
//! [`Command`](crate::node::command::Command) to the node, and waits in the gate.

pub mod ask;
pub mod auth;
pub mod gate;
pub mod later;
pub mod reply;
pub mod server;

pub use auth::{Token, TokenError};
pub use gate::Timing;

use crate::limits::{HTTP_CONNECTIONS_MAX, VALUE_LEN_DEFAULT_MAX};
use crate::node::command::Bridge;
use ask::Handler;
use gate::held::Room;
use gate::lane::Lane;
use gate::{Counters, Gate};
use later::Waiting;
use server::Secret;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

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
    /// Most client connections.
    pub connections_max: usize,
    /// How long clients may take.
    pub timing: Timing,
    /// What `/version` tells.
    pub version: Version,
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
            connections_max: HTTP_CONNECTIONS_MAX,
            timing: Timing::default(),
            version,
        }
    }
}

/// Why HTTP could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("cannot listen for HTTP on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// A thread, a socket or random bytes were refused.
    #[error("cannot start the HTTP workers: {0}")]
    Workers(std::io::Error),
}

/// HTTP, running.
pub struct Server {
    runtime: Option<Runtime>,
    gate: Arc<Gate>,
    workers: Vec<server::Lane>,
    accepting: JoinHandle<()>,
    local_addr: SocketAddr,
    failed: watch::Receiver<Option<String>>,
}

/// Starts HTTP with any handler; returns when the port is bound and the workers have answered.
///
/// # Errors
/// See [`StartError`].
pub fn start_with(
    config: Config,
    bridge: Arc<dyn Bridge>,
    handler: Arc<dyn Handler>,
    waiting: Arc<Waiting>,
    counters: Arc<Counters>,
    room: Arc<Room>,
) -> Result<Server, StartError> {
    let listener = gate::listen::bind(config.listen);
    let listener = listener.map_err(|error| StartError::Listen(config.listen, error))?;
    let secret = secret().map_err(StartError::Workers)?;
    let env =
        |n: &str, d: usize| std::env::var_os(n).and_then(|v| v.to_str()?.parse().ok()).unwrap_or(d);
    let (n_threads, n_quick, n_bulk) = (env("T", 1), env("Q", 2), env("B", 1));
    let mut workers = Vec::new();
    let mut lines = Vec::new();
    for n in 0..n_quick + n_bulk {
        let started = server::Lane::start(&format!("http-{n}"), &secret, Arc::clone(&handler));
        let (worker, line) = started.map_err(StartError::Workers)?;
        workers.push(worker);
        lines.push(line);
    }
    let gate = Arc::new(Gate {
        bridge,
        secret,
        token: config.token,
        value_len_max: config.value_len_max,
        timing: config.timing,
        connections_max: gate::listen::connections_max(config.connections_max),
        quick: (0..n_quick).map(|_| Lane::new()).collect(),
        bulk: (0..n_bulk).map(|_| Lane::new()).collect(),
        room,
        waiting,
        counters,
        draining: AtomicBool::new(false),
        drain: Notify::new(),
        emptied: Notify::new(),
    });
    let runtime = Builder::new_multi_thread()
        .worker_threads(n_threads)
        .thread_name("http-gate")
        .enable_all()
        .build()
        .map_err(StartError::Workers)?;
    let entered = runtime.enter();
    let local_addr = listener.local_addr().map_err(StartError::Workers)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Workers)?;
    let (failure, failed) = watch::channel(None);
    let failure = Arc::new(failure);
    for (n, line) in lines.into_iter().enumerate() {
        let (gate, failure) = (Arc::clone(&gate), Arc::clone(&failure));
        tokio::spawn(async move {
            let lane = gate.quick.iter().chain(&gate.bulk).nth(n);
            if let Some(lane) = lane {
                let error = lane.run(line, &gate.waiting, &gate.room).await;
                failure.send_replace(Some(error.to_string()));
            }
        });
    }
    let accepting = tokio::spawn(Arc::clone(&gate).accept(listener));
    let watched = Arc::clone(&gate);
    tokio::spawn(async move {
        let error = watched.watch_lanes().await;
        failure.send_replace(Some(error));
    });
    drop(entered);
    Ok(Server { runtime: Some(runtime), gate, workers, accepting, local_addr, failed })
}

#[expect(clippy::disallowed_methods, reason = "the line to the workers wants a secret")]
fn secret() -> std::io::Result<Secret> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    Ok(Secret::new(random))
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
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

    /// Stops accepting, answers what is in flight, closes; returns when that is done, or after
    /// `limit`. Blocks: not for async code.
    pub fn drain(self, limit: Duration) {
        self.accepting.abort();
        self.gate.draining.store(true, Ordering::Release);
        self.gate.drain.notify_waiters();
        let Some(runtime) = &self.runtime else { return };
        let (done, is_done) = mpsc::channel();
        let gate = Arc::clone(&self.gate);
        runtime.spawn(async move {
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
