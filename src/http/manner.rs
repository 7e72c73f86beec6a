//! How an answer is written beside what the route says: what of it is sent, and the header lines
//! that are the gate's.
//!
//! ```text
//! HTTP/1.1 200 OK CRLF
//! Keep-Alive: timeout=75 CRLF          what becomes of the connection
//! Access-Control-Allow-Origin: ...     whether a page of another site may read it
//! Content-Length: 13 CRLF              from here on as the route wrote it
//! ```

use super::request::Form;
use memchr::memchr;
use std::str::FromStr;
use std::time::Duration;

/// What the answer to one request has to be like. It belongs to the request, never to its
/// connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) form: Form,
    pub(super) next: Next,
    pub(super) page: Page,
    /// Whether a refusal is plain text, as clients of Consul read it.
    pub(super) is_plain: bool,
}

impl Manner {
    /// The same for the last answer of a connection.
    pub(super) fn closing(self) -> Manner {
        Manner { next: Next::Close, ..self }
    }
}

/// What becomes of the connection after the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Next {
    /// It is closed.
    #[default]
    Close,
    /// It takes another request, as is usual.
    Keep,
    /// The same for an HTTP/1.0 client, which has asked for it and is told.
    KeepSaid,
}

/// What the page of another site may see of the answer, if a page has asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Page {
    /// Nothing.
    #[default]
    None,
    /// All of it: it is of the origin at this place in the configuration.
    Reads(usize),
    /// What it may ask for.
    Asks(usize),
}

/// A web page's scheme, host and port, as browsers send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(Box<str>);

/// A text that is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an origin as browsers send it: https://HOST or http://HOST:PORT, without a path")]
pub struct NoOrigin;

impl FromStr for Origin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Origin, NoOrigin> {
        let (scheme, host) = text.split_once("://").ok_or(NoOrigin)?;
        let is_plain = |b: u8| b.is_ascii_graphic() && !b"/?#@*\\,\"".contains(&b);
        let is_host = !host.is_empty() && host.bytes().all(is_plain);
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
        // Browsers send both in lower case.
        if is_scheme && is_host {
            Ok(Origin(text.to_ascii_lowercase().into()))
        } else {
            Err(NoOrigin)
        }
    }
}

impl Origin {
    /// Whether this is the value of an `Origin` header.
    pub(super) fn is(&self, sent: &[u8]) -> bool {
        self.0.as_bytes() == sent
    }
}

/// The header lines of every manner, made once.
pub(super) struct Lines {
    keep: String,
    keep_said: String,
    /// For every answer, when there are origins: caches must not mix them up.
    vary: &'static str,
    reads: Vec<String>,
    asks: Vec<String>,
}

const CLOSE: &str = "Connection: close\r\n";
/// What pages may ask for, and for how long their browsers need not ask again.
const ASKED: &str = "Access-Control-Allow-Methods: GET, HEAD, PUT, POST, DELETE\r\n\
    Access-Control-Allow-Headers: Authorization, Content-Type, If-Match, If-None-Match, \
    X-Consul-Token\r\n\
    Access-Control-Max-Age: 600\r\n";
/// Headers of answers that scripts may read beside the usual ones.
const SHOWN: &str = "Access-Control-Expose-Headers: ETag, TTL, Watch-Token, Retry-After, Allow, \
    X-Consul-Index\r\n";

impl Lines {
    /// Those of a server that keeps idle connections so long, and lets pages of these origins in.
    pub(super) fn new(idle: Duration, origins: &[Origin]) -> Lines {
        let keep = match idle.as_secs() {
            0 => String::new(),
            seconds => format!("Keep-Alive: timeout={seconds}\r\n"),
        };
        let origins = origins.iter();
        let allowed =
            origins.map(|Origin(origin)| format!("Access-Control-Allow-Origin: {origin}\r\n"));
        let allowed: Vec<String> = allowed.collect();
        Lines {
            keep_said: format!("Connection: keep-alive\r\n{keep}"),
            keep,
            vary: if allowed.is_empty() { "" } else { "Vary: Origin\r\n" },
            reads: allowed.iter().map(|line| format!("{line}{SHOWN}")).collect(),
            asks: allowed.iter().map(|line| format!("{line}{ASKED}")).collect(),
        }
    }

    /// Appends the lines of a manner.
    pub(super) fn write(&self, manner: Manner, out: &mut Vec<u8>) {
        for part in self.parts(manner) {
            out.extend_from_slice(part.as_bytes());
        }
    }

    fn parts(&self, manner: Manner) -> [&str; 3] {
        let next = match manner.next {
            Next::Close => CLOSE,
            Next::Keep => self.keep.as_str(),
            Next::KeepSaid => self.keep_said.as_str(),
        };
        let page = match manner.page {
            Page::None => None,
            Page::Reads(origin) => self.reads.get(origin),
            Page::Asks(origin) => self.asks.get(origin),
        };
        [next, self.vary, page.map_or("", String::as_str)]
    }

    /// Puts the lines of a manner into an answer that has none.
    pub(super) fn insert(&self, manner: Manner, answer: &mut Vec<u8>) {
        self.exchange(0, manner, answer);
    }

    /// Has an answer say that its connection is closed after all.
    pub(super) fn close(&self, manner: Manner, answer: &mut Vec<u8>) {
        let len = self.parts(manner).iter().map(|part| part.len()).sum();
        self.exchange(len, Manner { next: Next::Close, ..manner }, answer);
    }

    fn exchange(&self, len: usize, manner: Manner, answer: &mut Vec<u8>) {
        if let Some(at) = memchr(b'\n', answer) {
            let lines = self.parts(manner).concat();
            answer.splice(at + 1..at + 1 + len, lines.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_browsers_send() {
        for good in ["https://a.example", "http://localhost:3000", "http://[::1]:8080"] {
            assert!(good.parse::<Origin>().unwrap().is(good.as_bytes()), "{good}");
        }
        assert!("HTTPS://A.example".parse::<Origin>().unwrap().is(b"https://a.example"));
        for bad in ["*", "null", "", "a.example", "https://", "https://a/", "https://*.a", "://a"] {
            assert_eq!(bad.parse::<Origin>(), Err(NoOrigin), "{bad}");
        }
    }
}
