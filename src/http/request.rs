//! A request as the routes get it, after the gate has let it through.
//!
//! Nothing here knows sockets or tiny_http: a [`Handler`] takes a [`Request`] and writes a whole
//! HTTP answer, head and body, into a buffer.

use std::borrow::Cow;

/// The methods the gate knows; any other is answered with 501 there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
}

impl Method {
    const ALL: [(Method, &'static str); 9] = [
        (Method::Get, "GET"),
        (Method::Head, "HEAD"),
        (Method::Put, "PUT"),
        (Method::Post, "POST"),
        (Method::Delete, "DELETE"),
        (Method::Options, "OPTIONS"),
        (Method::Patch, "PATCH"),
        (Method::Trace, "TRACE"),
        (Method::Connect, "CONNECT"),
    ];

    /// The method of this name; names are case-sensitive.
    pub(super) fn from_name(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|&(_, text)| text == name).map(|(method, _)| method)
    }

    /// Whether the body of a request is what it is about; with other methods it has no meaning.
    pub(super) fn takes_body(self) -> bool {
        matches!(self, Method::Put | Method::Post | Method::Patch)
    }

    /// Whether it may change something.
    pub(super) fn is_write(self) -> bool {
        self.takes_body() || self == Method::Delete
    }

    pub(super) fn name(self) -> &'static str {
        Method::ALL.into_iter().find(|&(method, _)| method == self).map_or("", |(_, text)| text)
    }
}

/// Which part of an answer goes to the client. It follows from the method of the request, so it is
/// part of the request from its first byte on, and of nothing that outlives the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// Head and body.
    #[default]
    Whole,
    /// The head alone, with the length that the body would have: the answer to `HEAD`.
    HeadOnly,
}

impl Form {
    /// The form of an answer to this method.
    pub(super) fn of(method: Method) -> Form {
        if method == Method::Head { Form::HeadOnly } else { Form::Whole }
    }

    /// The same for a request of which only these bytes have come: it may be refused before it is
    /// whole, or because it never will be.
    pub(super) fn of_bytes(request: &[u8]) -> Form {
        if request.starts_with(b"HEAD ") { Form::HeadOnly } else { Form::Whole }
    }

    /// What of a body is sent.
    pub(super) fn part_of(self, body: &[u8]) -> &[u8] {
        match self {
            Form::Whole => body,
            Form::HeadOnly => b"",
        }
    }
}

/// How far the gate trusts a client. Of all that a client sends, the token alone raises its trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The client has not sent the token that is asked for. It gets the page that asks a person for
    /// it, and nothing else.
    Stranger,
    /// Nothing is known about the client.
    Anybody,
    /// The client is on this host and seems to speak for nobody else: no proxy's or browser's
    /// headers. No proof of anything, and so nobody is unless that is switched on.
    Local,
    /// The client has sent the token.
    Token,
}

/// How far a long poll has come. The gate asks it several times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Poll {
    /// It is asked for the first time: what it waits for is to be watched from now on.
    #[default]
    New,
    /// It is watched: what there is now is the answer, or there is none yet.
    Watched,
    /// The same, and this is what the request has made of what it has seen so far.
    Known(u64),
    /// Its time is up: it is answered now.
    Over,
}

impl Poll {
    /// As a header between gate and worker says it; clients cannot send that one.
    pub(super) fn of_header(value: Option<&str>) -> Poll {
        match value {
            Some("watched") => Poll::Watched,
            Some(value) => match value.strip_prefix("known ").and_then(|sum| sum.parse().ok()) {
                Some(sum) => Poll::Known(sum),
                None => Poll::Over,
            },
            None => Poll::New,
        }
    }

    /// The header line that says it.
    pub(super) fn line(self) -> Cow<'static, str> {
        match self {
            Poll::New => "".into(),
            Poll::Watched => "Poll: watched\r\n".into(),
            Poll::Known(sum) => format!("Poll: known {sum}\r\n").into(),
            Poll::Over => "Poll: over\r\n".into(),
        }
    }
}

/// One request: its framing is checked, its body complete, its client authorised.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Path and query, still percent-encoded: visible ASCII that begins with `/`.
    pub(super) target: &'a str,
    pub(super) trust: Trust,
    pub(super) content_type: Option<&'a str>,
    pub(super) if_none_match: Option<&'a str>,
    pub(super) if_match: Option<&'a str>,
    /// Whether server-sent events are wanted, by `Accept`.
    pub(super) wants_events: bool,
    /// Whether a long list may be compressed by gzip.
    pub(super) takes_gzip: bool,
    /// The value of `Last-Event-ID`.
    pub(super) last_event_id: Option<&'a str>,
    /// How far a long poll has come.
    pub(super) poll: Poll,
    /// Whether a length was announced, even one of 0: an empty body and none at all differ.
    pub(super) has_length: bool,
    pub(super) body: &'a [u8],
    /// Whether the worker is one for what takes its time. Another one hands such a request back.
    pub(super) may_take_time: bool,
}

impl Request<'_> {
    /// The form of its answer.
    pub(super) fn form(&self) -> Form {
        Form::of(self.method)
    }
}

/// Answers requests. One thread of each lane calls it.
pub(super) trait Handler: Send + Sync + 'static {
    /// Appends one whole HTTP/1.1 answer to `out`: `Content-Length` always, `Connection` never,
    /// no body for `HEAD`. `scratch` is empty, and for any use.
    fn answer(&self, request: &Request<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>);
    /// Appends the answer to a request whose handling panicked.
    fn failed(&self, form: Form, out: &mut Vec<u8>);
}
