//! Refusals: the answers that the gate gives itself, before anything reaches tiny_http.

use crate::http::counters::Reason;
use crate::http::failure::Failure;
use std::fmt;

/// A refusal; the connection is closed after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub(super) reason: Reason,
    /// What the client is told.
    pub failure: Failure,
}

impl Refusal {
    pub(super) fn new(reason: Reason, status: u16, message: impl fmt::Display) -> Refusal {
        Refusal { reason, failure: Failure::new(status, message) }
    }

    /// 400 for what is not framed as RFC 9112 says.
    pub(super) fn malformed(message: impl fmt::Display) -> Refusal {
        Refusal::new(Reason::Malformed, 400, message)
    }

    /// 421: this server does not go by the name that the request calls it.
    pub(super) fn misdirected(host: &str) -> Refusal {
        let message = format_args!(
            "without a token this server answers to its addresses, to localhost, and to the names \
             given by --http-host, not to {host}"
        );
        Refusal::new(Reason::Host, 421, message)
    }

    /// 415 for a body that is compressed.
    pub(super) fn encoded() -> Refusal {
        let message = "Content-Encoding: a body is taken as it is, not compressed";
        let failure = Failure::new(415, message).with("Accept-Encoding", "identity");
        Refusal { reason: Reason::Unsupported, failure }
    }

    /// 408 for what did not arrive in time.
    pub(super) fn slow(message: impl fmt::Display) -> Refusal {
        Refusal::new(Reason::Slow, 408, message)
    }

    /// 503: too much is held for clients to hold this body or answer too.
    pub(super) fn memory() -> Refusal {
        let failure = Failure::busy("too many bytes are held for other clients; try again");
        Refusal { reason: Reason::Memory, failure }
    }

    /// 503: too many requests wait that take their time.
    pub(super) fn busy() -> Refusal {
        let failure = Failure::busy("too many lists and long values wait to be served; try again");
        Refusal { reason: Reason::Busy, failure }
    }

    /// 503: too many requests of this client's address wait.
    pub(super) fn waiting() -> Refusal {
        let failure = Failure::busy("too many requests of your address wait; try again");
        Refusal { reason: Reason::Busy, failure }
    }

    /// 500: nobody is left to answer.
    pub(super) fn broken() -> Refusal {
        Refusal::new(Reason::Broken, 500, "the HTTP workers are gone")
    }

    /// 503: no further connection may be open.
    pub(super) fn connections(max: usize) -> Refusal {
        let failure = Failure::busy(format_args!(
            "too many connections are open: at most {max} may be, and of one address an eighth less"
        ));
        Refusal { reason: Reason::Connections, failure }
    }
}
