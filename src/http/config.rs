//! What HTTP is given at its start: where to listen, whom to admit, how long to wait for clients.

use super::hosts::HostName;
use super::manner::Origin;
use super::tls::Tls;
use super::tokens::Tokens;
use crate::limits::{CONSUL_WAIT_MAX, HTTP_CONNECTIONS_DEFAULT_MAX, VALUE_LEN_DEFAULT_MAX};
use crate::node::command::Concern;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// What HTTP is given at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address and port to listen on; `[::]` takes IPv4 clients as well.
    pub listen: SocketAddr,
    /// What clients must know, one of them. Without it everybody may ask, but nobody for `/keys`,
    /// save who has the secret of [`super::local`].
    pub tokens: Option<Arc<Tokens>>,
    /// The certificate of a server that speaks TLS, and nothing else. `None`: plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// Whether `/keys` is open to requests that come over loopback without a token, and show by no
    /// header that they were made for another. A proxy that adds no such header opens it to all.
    pub keys_on_loopback: bool,
    /// By which names clients may call this server when there is no token, beside its addresses and
    /// `localhost`.
    pub hosts: Vec<HostName>,
    /// Which sites' web pages may use the API.
    pub cors_origins: Vec<Origin>,
    /// Largest value taken, in bytes, at most
    /// [`VALUE_LEN_HARD_MAX`](crate::limits::VALUE_LEN_HARD_MAX).
    pub value_len_max: usize,
    /// Whether reads and conditional writes are answered before the node is ready, instead of 503.
    pub serves_while_starting: bool,
    /// Longest time that a read of Consul's API waits for a change.
    pub consul_wait_max: Duration,
    /// How many members hold a write of Consul's API before it is answered; `None` for this node
    /// alone.
    pub consul_write_concern: Option<Concern>,
    /// Most client connections at one time, at most
    /// [`HTTP_CONNECTIONS_HARD_MAX`](crate::limits::HTTP_CONNECTIONS_HARD_MAX) and half of the file
    /// descriptors that the process may have.
    pub connections_max: usize,
    /// How long clients may take.
    pub timing: Timing,
    /// What `/version` answers with.
    pub version: Version,
    /// Log lines that were dropped, counted by the log and shown by `/metrics`.
    pub log_lines_dropped: Arc<AtomicU64>,
}

/// What `/version` answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The number of the release.
    pub version: &'static str,
    /// The commit that the program was built from.
    pub hash: &'static str,
    /// The date of that commit, as ISO 8601.
    pub date: &'static str,
}

impl Config {
    /// The defaults, at an address.
    #[must_use]
    pub fn new(listen: SocketAddr, version: Version) -> Config {
        Config {
            listen,
            tokens: None,
            tls: None,
            keys_on_loopback: false,
            hosts: Vec::new(),
            cors_origins: Vec::new(),
            value_len_max: VALUE_LEN_DEFAULT_MAX,
            serves_while_starting: false,
            consul_wait_max: CONSUL_WAIT_MAX,
            consul_write_concern: None,
            connections_max: HTTP_CONNECTIONS_DEFAULT_MAX,
            timing: Timing::default(),
            version,
            log_lines_dropped: Arc::default(),
        }
    }
}

/// How long clients may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For a head, from its first byte to its last.
    pub head: Duration,
    /// For a body, beside the time that what has come takes at `writer_rate_min`; it is also the
    /// longest time in which nothing may come.
    pub body: Duration,
    /// Bytes a second that a client sends at least; not 0.
    pub writer_rate_min: u64,
    /// Between requests. Longer than a load balancer's idle limit (60 s with AWS): if ours ended
    /// first, a request could meet the closing connection.
    pub idle: Duration,
    /// For reading an answer, beside the time that what has gone takes at `reader_rate_min`; it is
    /// also the longest time in which nothing may go.
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
            writer_rate_min: 32 << 10,
            idle: Duration::from_secs(75),
            reader: Duration::from_secs(30),
            reader_rate_min: 32 << 10,
            drain: Duration::from_millis(250),
        }
    }
}
