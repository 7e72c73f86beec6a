//! What the gate itself answers, before anything reaches tiny_http.

use crate::http::response::Failure;
use std::fmt;

/// Why a request or a connection was turned away; the label of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not HTTP/1.x as written in RFC 9112, or framed in a way another reader may read otherwise.
    Malformed,
    /// The head, the body or the reading of an answer took too long.
    Slow,
    /// A head, target or body over its limit.
    Large,
    /// No or a wrong token.
    Token,
    /// A version, method, transfer coding or expectation we do not have.
    Unsupported,
    /// Too many connections.
    Connections,
    /// Too many bytes held for slow clients.
    Memory,
    /// The workers are gone; the process is about to end.
    Broken,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Reason; 8] = [
        Reason::Malformed,
        Reason::Slow,
        Reason::Large,
        Reason::Token,
        Reason::Unsupported,
        Reason::Connections,
        Reason::Memory,
        Reason::Broken,
    ];

    /// The label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Slow => "slow",
            Reason::Large => "large",
            Reason::Token => "token",
            Reason::Unsupported => "unsupported",
            Reason::Connections => "connections",
            Reason::Memory => "memory",
            Reason::Broken => "broken",
        }
    }
}

/// A refusal; the connection is closed after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For the counter.
    pub reason: Reason,
    /// For the client.
    pub failure: Failure,
}

impl Refusal {
    /// A refusal of any status.
    pub fn new(reason: Reason, status: u16, message: impl fmt::Display) -> Refusal {
        Refusal { reason, failure: Failure::new(status, message) }
    }

    /// 400.
    pub fn malformed(message: impl fmt::Display) -> Refusal {
        Refusal::new(Reason::Malformed, 400, message)
    }

    /// 408.
    pub fn slow(message: impl fmt::Display) -> Refusal {
        Refusal::new(Reason::Slow, 408, message)
    }

    /// 503: no room to hold a body or an answer.
    #[must_use]
    pub fn memory() -> Refusal {
        let failure = Failure::busy("too many bytes are held for other clients; try again");
        Refusal { reason: Reason::Memory, failure }
    }

    /// 500: nobody is left to answer.
    #[must_use]
    pub fn broken() -> Refusal {
        Refusal::new(Reason::Broken, 500, "the HTTP workers are gone")
    }

    /// 503: no room for a connection.
    #[must_use]
    pub fn connections(max: usize) -> Refusal {
        let failure = Failure::busy(format_args!("{max} connections are open, the most there may"));
        Refusal { reason: Reason::Connections, failure }
    }
}
