//! Gossip streams: a thread of their own, so that no connection can keep the engine waiting.
//!
//! ```text
//!  accept loop --> accepted --+-- first frame is ours ----> link: frames both ways until idle
//!                             `-- memberlist's -----------> exchange: one frame, one answer
//!  engine -------> dialled ---+-- link
//!                             `-- exchange
//!
//!  every connection: frames in  --> reports --> engine     (waits while the engine is behind)
//!                    frames out <-- outbox  <-- engine     (the node keeps the window)
//! ```
//!
//! Bounds: connections by kind, frames decoded and not yet taken, bytes of unfinished frames (all
//! in [`crate::limits`]), and time: see [`Limits`]. Who gets a place when there are none left is
//! said in `strangers`. Decryption and decompression happen here.

mod detour;
mod exchange;
mod incoming;
mod line;
mod link;
mod strangers;

use super::clock::Clock;
use super::mailbox::Reporter;
use super::process;
use super::sockets::canonical;
use super::threads::{self, Fault, Lifeline};
use super::throttle::Throttle;
use crate::limits::{
    LINKS_INBOUND_MAX, LINKS_INBOUND_SHARE, STREAM_FRAMES_WAITING_MAX, STREAM_OUTBOX_MAX,
    STREAMS_INBOUND_MAX, STREAMS_INBOUND_SHARE, connections_of,
};
use crate::node::io::ConnId;
use crate::time::Instant;
use crate::wire::packet::Security;
use crate::wire::stream::Frame;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use strangers::Strangers;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, Semaphore, mpsc, watch};

/// Bytes of unfinished frames that one permit stands for.
const UNFINISHED_UNIT_LEN: usize = 1024;
/// How long connections may take to end when the node stops.
const FAREWELL: Duration = Duration::from_millis(500);
/// Pause after the system had no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// From accepting to the first byte.
    pub first_byte: Duration,
    /// From accepting to the end of the first frame; from there to the end of the answer.
    pub exchange: Duration,
    /// How long a link may carry nothing.
    pub idle: Duration,
    /// How long a link may be stuck in a frame, either way.
    pub stall: Duration,
    /// How long sent bytes may stay without an acknowledgement by the other end's system.
    pub unacked: Duration,
    /// How long we wait for the other end to close after we have.
    pub linger: Duration,
    /// Bytes of unfinished frames over all connections, beyond what each may hold anyway.
    pub unfinished_len: usize,
}

/// What all connections of a node share.
#[derive(Debug)]
pub(super) struct Context {
    clock: Clock,
    limits: Limits,
    reporter: Reporter,
    security: watch::Receiver<Arc<Security>>,
    fault: Fault,
    /// Inbound connections that are no links, or not yet.
    strangers: Arc<Strangers>,
    links: Arc<Semaphore>,
    frames: Arc<Semaphore>,
    unfinished: Arc<Semaphore>,
    next_accepted: AtomicU64,
    refusals: Throttle,
    detour: detour::Detour,
    /// Gone with the last connection.
    _alive: mpsc::Sender<Infallible>,
}

/// The engine's end: it dials.
#[derive(Debug)]
pub(super) struct Streams {
    handle: Handle,
    context: Arc<Context>,
}

impl Streams {
    /// Dials `peer` and sends `frame`. What goes into the returned outbox is sent behind it;
    /// dropping the outbox closes the connection after the last frame. Its end is reported.
    pub fn dial(
        &self,
        conn: ConnId,
        peer: SocketAddr,
        frame: Frame,
        deadline: Instant,
        link: bool,
    ) -> mpsc::Sender<Frame> {
        self.context.reporter.shared.counters.streams_dialled.fetch_add(1, Relaxed);
        let (to_outbox, outbox) = mpsc::channel(STREAM_OUTBOX_MAX);
        let dial = exchange::Dial { conn, peer: canonical(peer), frame, deadline, link, outbox };
        self.handle.spawn(exchange::dialled(self.context.clone(), dial));
        to_outbox
    }
}

/// The thread all connections live on.
#[derive(Debug)]
pub(super) struct StreamsThread {
    thread: JoinHandle<()>,
    stop: Arc<Notify>,
    handle: Handle,
}

impl StreamsThread {
    /// Where other tasks of the shell that mostly wait may live, too.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops accepting, gives connections a moment to end, and ends the thread. To be called when
    /// the engine has ended.
    pub fn stop(self) {
        self.stop.notify_one();
        // Panics are caught inside and told to the fault.
        let _ = self.thread.join();
    }
}

/// Accepts on `listener` and serves connections until stopped. `advertise` is what others dial.
pub(super) fn start(
    listener: std::net::TcpListener,
    limits: Limits,
    reporter: Reporter,
    security: watch::Receiver<Arc<Security>>,
    advertise: Option<SocketAddr>,
    fault: &Fault,
) -> io::Result<(Streams, StreamsThread)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let listener = {
        let _entered = handle.enter();
        TcpListener::from_std(listener)?
    };
    let open_files = process::open_files_max();
    let fit = |share: usize, max: usize| max.min(connections_of(open_files, share));
    let (alive, gone) = mpsc::channel(1);
    let context = Arc::new(Context {
        clock: reporter.shared.clock,
        limits,
        reporter,
        security,
        fault: fault.clone(),
        strangers: Arc::new(Strangers::new(fit(STREAMS_INBOUND_SHARE, STREAMS_INBOUND_MAX))),
        links: Arc::new(Semaphore::new(fit(LINKS_INBOUND_SHARE, LINKS_INBOUND_MAX))),
        frames: Arc::new(Semaphore::new(STREAM_FRAMES_WAITING_MAX)),
        unfinished: Arc::new(Semaphore::new(limits.unfinished_len / UNFINISHED_UNIT_LEN)),
        next_accepted: AtomicU64::new(1),
        refusals: Throttle::default(),
        detour: detour::Detour::new(advertise),
        _alive: alive,
    });
    let stop = Arc::new(Notify::new());
    let (accepting, stopped) = (accept(listener, context.clone()), stop.clone());
    let body = move || {
        run(runtime, accepting, &stopped, gone);
        Ok(())
    };
    let thread = threads::spawn("gossip-streams", fault, body)?;
    Ok((Streams { handle: handle.clone(), context }, StreamsThread { thread, stop, handle }))
}

fn run(
    runtime: Runtime,
    accepting: impl Future<Output = Infallible>,
    stopped: &Notify,
    mut gone: mpsc::Receiver<Infallible>,
) {
    runtime.block_on(async move {
        {
            let accepting = std::pin::pin!(accepting);
            tokio::select! {
                () = stopped.notified() => {}
                never = accepting => match never {},
            }
        }
        let _ = tokio::time::timeout(FAREWELL, gone.recv()).await;
    });
}

/// Accepts for ever: an error concerns one connection, or passes.
async fn accept(listener: TcpListener, context: Arc<Context>) -> Infallible {
    let counters = &context.reporter.shared.counters;
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let now = context.clock.instant();
                let Some((place, displaced)) = context.strangers.admit(from.ip(), now) else {
                    counters.streams_refused.fetch_add(1, Relaxed);
                    continue;
                };
                counters.streams_accepted.fetch_add(1, Relaxed);
                counters.streams_displaced.fetch_add(u64::from(displaced), Relaxed);
                let conn = ConnId(context.next_accepted.fetch_add(2, Relaxed));
                let line = line::Line::new(context.clone(), stream, conn, canonical(from));
                tokio::spawn(exchange::accepted(line, place));
                // What it has sent is read before a further one could take its place.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                counters.stream_errors.fetch_add(1, Relaxed);
                if context.refusals.allows(context.clock.instant()) {
                    tracing::warn!(%error, "a gossip connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Context {
    fn lifeline(&self) -> Lifeline {
        Lifeline::new("a task of a gossip connection", &self.fault)
    }

    /// The keys and switches of now.
    fn security(&self) -> Arc<Security> {
        self.security.borrow().clone()
    }

    /// The moment `wait` from now, for tokio's timers.
    fn timer_in(&self, wait: Duration) -> tokio::time::Instant {
        self.clock.timer(self.clock.instant() + wait)
    }
}
