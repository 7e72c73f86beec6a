//! A client's connection: what is kept of it.

use super::context::Gate;
use super::deadline::Deadline;
use super::refusal::Refusal;
use super::socket::Socket;
use crate::http::config::Timing;
use crate::http::shared::Shared;
use crate::limits::HTTP_HEAD_LEN_MAX;
use crate::source::Source;
use bytes::BytesMut;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Room made for what a client sends ahead, in bytes.
const READ_LEN: usize = 2 << 10;

/// What a step ends with that does not come to its end.
pub(super) enum Stop {
    /// The client has gone, or has to.
    Gone,
    /// It is told why, then has to go.
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Stop {
        Stop::Gone
    }
}

/// A client connection, and what is kept between its requests.
pub(super) struct Conn {
    pub(super) gate: Arc<Gate>,
    pub(super) stream: Socket,
    pub(super) peer: IpAddr,
    pub(super) source: Source,
    pub(super) input: BytesMut,
    pub(super) spare: Vec<u8>,
    pub(super) deadline: Deadline,
}

impl Conn {
    /// A connection just accepted.
    pub(super) fn new(gate: Arc<Gate>, stream: TcpStream, peer: IpAddr) -> Conn {
        let Timing { head, idle, .. } = gate.shared.config.timing;
        let deadline = Deadline::new(Arc::clone(&gate.shared.bridge), head.min(idle));
        let (input, spare) = (BytesMut::new(), Vec::new());
        let (stream, source) = (Socket::new(stream), Source::of(peer));
        Conn { gate, stream, peer, source, input, spare, deadline }
    }

    /// What all connections share.
    pub(super) fn shared(&self) -> &Shared {
        &self.gate.shared
    }

    /// Returns when the client has ended the connection, or only its side of it. What it sends
    /// ahead is taken in, as much as a head may have; more hides its end.
    pub(super) async fn left(&mut self) {
        while self.input.len() < HTTP_HEAD_LEN_MAX {
            self.input.reserve(READ_LEN);
            if matches!(self.stream.read_buf(&mut self.input).await, Ok(0) | Err(_)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Returns when the client has ended the connection. What it has sent ahead hides its end.
    pub(super) async fn gone(&mut self) {
        if self.input.is_empty() {
            self.stream.ended().await;
        } else {
            std::future::pending().await
        }
    }
}
