//! The gate: what faces the network, in front of tiny_http.
//!
//! tiny_http alone has no limit on heads, bodies, time, connections or requests in flight, reads
//! framing loosely, and ends for good at the first failing accept. So clients talk to the gate:
//!
//! ```text
//! clients --> accept --> Conn (one task each): head, body, one request at a time
//!             (bounded)      |  authorised, re-framed, only the headers we use
//!                            v
//!                      Lane x few (private, opened once): tiny_http --> Handler
//! ```
//!
//! Every bound has a counter ([`super::counters`]); no client can hold up another.

pub mod chunked;
pub mod conn;
pub mod deadline;
pub mod head;
pub mod listen;
pub mod refusal;

use super::counters::Counters;
use super::lanes::lane::{Job, Lane};
use super::lanes::worker::Secret;
use super::memory::Budget;
use super::pending::PendingAnswers;
use super::shutdown::Shutdown;
use super::token::Token;
use crate::limits::HTTP_REFUSED_CONNECTIONS_MAX;
use crate::node::command::Bridge;
use conn::Conn;
use refusal::Refusal;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How long clients may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For a head, from its first byte to its last.
    pub head: Duration,
    /// For a body, from the end of the head.
    pub body: Duration,
    /// Between requests. Longer than a load balancer's idle limit (60 s with AWS): if ours ended
    /// first, a request could meet the closing connection.
    pub idle: Duration,
    /// For reading an answer, beside the time its length takes at `reader_rate_min`.
    pub reader: Duration,
    /// Bytes a second that a client takes in at least; not 0.
    pub reader_rate_min: u64,
    /// For a request that was on its way to an idle connection when draining began.
    pub drain: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            idle: Duration::from_secs(75),
            reader: Duration::from_secs(30),
            reader_rate_min: 32 << 10,
            drain: Duration::from_millis(250),
        }
    }
}

impl Timing {
    /// How long a client may take to read `len` bytes.
    #[must_use]
    pub fn for_reader(&self, len: usize) -> Duration {
        self.reader + Duration::from_secs(len as u64 / self.reader_rate_min.max(1))
    }
}

/// After an accept that failed for want of something, the wait before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often each lane is asked whether it is alive, and how long it may take to say so.
const PROOF_PERIOD: Duration = Duration::from_secs(5);
const PROOF_LIMIT: Duration = Duration::from_secs(30);

/// What all connections share.
pub struct Gate {
    /// The node, for its clocks.
    pub bridge: Arc<dyn Bridge>,
    /// What tells the workers that a request comes from here.
    pub secret: Secret,
    /// What clients must know.
    pub token: Option<Token>,
    /// Longest body.
    pub value_len_max: usize,
    /// How long clients may take.
    pub timing: Timing,
    /// Most client connections.
    pub connections_max: usize,
    /// For most requests, which are quick.
    pub quick: Vec<Lane>,
    /// For lists and long bodies, which take their time.
    pub bulk: Vec<Lane>,
    /// For bodies and answers.
    pub budget: Arc<Budget>,
    /// Answers under way in the node.
    pub pending: Arc<PendingAnswers>,
    /// What happened.
    pub counters: Arc<Counters>,
    /// What is still let in.
    pub shutdown: Arc<Shutdown>,
    /// Set once: no further request on any connection.
    pub draining: AtomicBool,
    /// Wakes idle connections when draining begins.
    pub drain: Notify,
    /// Wakes whoever waits for the last connection to end.
    pub emptied: Notify,
}

impl Gate {
    /// Whether the end has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The lane with the least to do.
    #[must_use]
    pub fn lane(&self, is_bulk: bool) -> &Lane {
        let lanes = if is_bulk { &self.bulk } else { &self.quick };
        let mut best = &lanes[0];
        let mut least = best.load();
        for lane in &lanes[1..] {
            if least == 0 {
                break;
            }
            let load = lane.load();
            if load < least {
                (best, least) = (lane, load);
            }
        }
        best
    }

    /// Accepts clients until draining begins, then those that were waiting.
    pub async fn accept(self: Arc<Gate>, listener: TcpListener) {
        let n_refused = Arc::new(AtomicUsize::new(0));
        let mut drain = pin!(self.drain.notified());
        drain.as_mut().enable();
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = drain.as_mut(), if !self.is_draining() => continue,
                // The queue is empty.
                () = std::future::ready(()), if self.is_draining() => return,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer.ip(), &n_refused),
                Err(error) => {
                    self.counters.accept_failed();
                    // A client that has vanished is no reason to wait.
                    if error.kind() != ErrorKind::ConnectionAborted {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    fn admit(self: &Arc<Gate>, stream: TcpStream, peer: IpAddr, n_refused: &Arc<AtomicUsize>) {
        let Some(open) = Open::one_of(self) else {
            self.refuse_connection(stream, n_refused);
            return;
        };
        // Answers leave as they are written; a socket that cannot do so serves all the same.
        let _ = stream.set_nodelay(true);
        let conn = Conn::new(Arc::clone(self), stream, peer);
        tokio::spawn(async move {
            conn.run().await;
            drop(open);
        });
    }

    /// Tells a client that there are too many, unless even those that are told are too many.
    fn refuse_connection(&self, stream: TcpStream, n_refused: &Arc<AtomicUsize>) {
        let refusal = Refusal::connections(self.connections_max);
        self.counters.refused(refusal.reason);
        if n_refused.fetch_add(1, Ordering::Relaxed) >= HTTP_REFUSED_CONNECTIONS_MAX {
            n_refused.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let mut bytes = Vec::new();
        refusal.failure.write(&mut bytes, self.bridge.now().wall, true);
        conn::connection_header(&mut bytes, conn::CLOSE);
        let n_refused = Arc::clone(n_refused);
        tokio::spawn(async move {
            conn::linger(stream, &bytes).await;
            n_refused.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Asks every lane, over and over, whether it is alive; returns when one is not.
    pub async fn prove_lanes(&self) -> String {
        loop {
            tokio::time::sleep(PROOF_PERIOD).await;
            for lane in self.quick.iter().chain(&self.bulk) {
                let job = Job { bytes: self.secret.proof(), ..Job::default() };
                let answer = tokio::time::timeout(PROOF_LIMIT, lane.submit(job)).await;
                if answer.is_err() {
                    return format!(
                        "an HTTP worker has been stuck for {} s",
                        PROOF_LIMIT.as_secs()
                    );
                }
            }
        }
    }
}

/// One client connection, counted while it is there.
struct Open(Arc<Gate>);

impl Open {
    fn one_of(gate: &Arc<Gate>) -> Option<Open> {
        if gate.counters.opened() <= gate.connections_max {
            return Some(Open(Arc::clone(gate)));
        }
        gate.counters.closed();
        None
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.counters.closed() == 0 {
            self.0.emptied.notify_waiters();
        }
    }
}
