//! HTTP is started, watched and ended here; only this file knows all its parts.
//!
//! ```text
//!   start:  bind the port --> lanes and their workers --> the gate's runtime: accept clients
//!   end:    set_not_ready --> refuse_writes --> drain
//! ```

use super::config::Config;
use super::counters::Reason;
use super::gate::{self, Gate};
use super::lanes::{Lanes, Upstream, Worker};
use super::local;
use super::request::Handler;
use super::routes::Router;
use super::shared::Shared;
use super::token::Token;
use crate::node::command::Bridge;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Most threads of the gate. One carries over 100,000 requests a second.
const GATE_THREADS_MAX: usize = 4;

/// Why HTTP could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is in use, or is none of this host's.
    #[error("cannot listen for HTTP on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// A thread, a socket or random bytes were refused.
    #[error("cannot start the HTTP workers: {0}")]
    Workers(io::Error),
}

/// HTTP, running; dropping it ends all of it at once.
pub struct Server {
    runtime: Option<Runtime>,
    gate: Arc<Gate>,
    workers: Vec<Worker>,
    accepting: Option<JoinHandle<()>>,
    local_addr: SocketAddr,
    local_error: Option<String>,
    failed: watch::Receiver<Option<String>>,
}

/// Starts HTTP; returns when the port is bound and the workers have answered.
///
/// # Errors
/// See [`StartError`].
pub fn start(config: Config, bridge: Arc<dyn Bridge>) -> Result<Server, StartError> {
    let listener =
        gate::bind(config.listen).map_err(|error| StartError::Listen(config.listen, error))?;
    let (telling, local) = listen_locally(&listener);
    let shared = Shared::new(config, bridge, local);
    let handler: Arc<dyn Handler> = Arc::new(Router::new(Arc::clone(&shared)));
    let (lanes, ends) = Lanes::start(&handler).map_err(StartError::Workers)?;
    let gate = Arc::new(Gate::new(shared, lanes, handler));
    let (workers, upstreams) = ends.into_iter().unzip();
    run(gate, workers, upstreams, Listeners { clients: listener, telling })
        .map_err(StartError::Workers)
}

/// Where the server listens.
struct Listeners {
    clients: std::net::TcpListener,
    /// For commands on this host; or why not.
    telling: io::Result<local::Listener>,
}

/// Begins to tell commands on this host their secret. Where that fails all else goes on.
fn listen_locally(
    listener: &std::net::TcpListener,
) -> (io::Result<local::Listener>, Option<Token>) {
    match listener.local_addr().and_then(local::listen) {
        Ok((telling, token)) => (Ok(telling), Some(token)),
        Err(error) => (Err(error), None),
    }
}

/// Starts the gate's own runtime and everything that runs on it.
fn run(
    gate: Arc<Gate>,
    workers: Vec<Worker>,
    upstreams: Vec<Upstream>,
    listeners: Listeners,
) -> io::Result<Server> {
    let n_cores = std::thread::available_parallelism().map_or(2, NonZero::get);
    let runtime = Builder::new_multi_thread()
        .worker_threads((n_cores / 2).clamp(1, GATE_THREADS_MAX))
        .thread_name("http-gate")
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let local_addr = listeners.clients.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listeners.clients)?;
    let told = listeners.telling.map(|telling| drop(tokio::spawn(local::serve(telling))));
    let (failure, failed) = watch::channel(None);
    let failure = Arc::new(failure);
    for (n, upstream) in upstreams.into_iter().enumerate() {
        let (gate, failure) = (Arc::clone(&gate), Arc::clone(&failure));
        tokio::spawn(async move {
            if let Some(lane) = gate.lanes.all().nth(n) {
                let error = lane.run(upstream, &gate.shared).await;
                failure.send_replace(Some(error.to_string()));
            }
        });
    }
    tokio::spawn(Arc::clone(&gate.shared.hub).run());
    tokio::spawn(Arc::clone(&gate.shared.rosters).run());
    let accepting = Some(tokio::spawn(gate::accept(Arc::clone(&gate), listener)));
    let proven = Arc::clone(&gate);
    tokio::spawn(async move {
        let error = proven.lanes.prove().await;
        failure.send_replace(Some(error));
    });
    drop(entered);
    let local_error = told.err().map(|error| error.to_string());
    Ok(Server { runtime: Some(runtime), gate, workers, accepting, local_addr, local_error, failed })
}

impl Server {
    /// The address and port that the server listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Why commands on this host cannot show that they are, where they cannot: then `/keys` is for
    /// clients with a token only.
    #[must_use]
    pub fn local_error(&self) -> Option<&str> {
        self.local_error.as_deref()
    }

    /// Client connections that are open now.
    #[must_use]
    pub fn n_connections(&self) -> usize {
        self.gate.shared.counters.n_open()
    }

    /// Requests and connections refused so far, for this reason.
    #[must_use]
    pub fn n_refused(&self, reason: Reason) -> u64 {
        self.gate.shared.counters.refusals(reason)
    }

    /// Ends, with what went wrong, when a part of HTTP has failed: then the process must end.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let mut failed = self.failed.clone();
        async move {
            let failure = failed.wait_for(Option::is_some).await.map(|failure| failure.clone());
            match failure {
                Ok(failure) => failure.unwrap_or_default(),
                // The sender was dropped together with the server: that is no failure.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// From now on `/health` answers as that of a leaving node, and all else is answered as before.
    /// So load balancers send their clients elsewhere before anything is refused.
    pub fn set_not_ready(&self) {
        self.gate.shared.shutdown.set_not_ready();
    }

    /// Answers writes with 503 from now on; those answered before are in the store.
    pub fn refuse_writes(&self) {
        self.gate.shared.shutdown.refuse_writes();
    }

    /// Stops accepting, answers what is in flight, closes; returns when that is done, or after
    /// `limit`. Blocks: not for async code.
    pub fn drain(mut self, limit: Duration) {
        self.gate.shared.shutdown.drain();
        let (Some(runtime), Some(accepting)) = (&self.runtime, self.accepting.take()) else {
            return;
        };
        let (done, is_done) = mpsc::channel();
        let gate = Arc::clone(&self.gate);
        runtime.spawn(async move {
            // Fails only if accepting has been ended already.
            let _ = accepting.await;
            gate.emptied().await;
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
