//! What a request is once the gate has let it through.
//!
//! Nothing here knows sockets or tiny_http: a [`Handler`] takes an [`Request`] and writes a whole HTTP
//! answer, head and body, into a buffer.

/// The methods the gate knows; any other is answered with 501 there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `PUT`
    Put,
    /// `POST`
    Post,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `TRACE`
    Trace,
    /// `CONNECT`
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
    #[must_use]
    pub fn from_name(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|&(_, text)| text == name).map(|(method, _)| method)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Method::ALL.into_iter().find(|&(method, _)| method == self).map_or("", |(_, text)| text)
    }
}

/// How far the gate trusts a client. The gate decides it from the connection itself; nothing a
/// client sends raises it but the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Anybody, where no token is asked for.
    Anybody,
    /// On this host, and speaking for nobody else: no proxy's or browser's headers.
    Local,
    /// It knows the token.
    Token,
}

/// One request: its framing is checked, its body complete, its client authorised.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// Path and query, still percent-encoded: visible ASCII that begins with `/`.
    pub target: &'a str,
    /// How far its client is trusted.
    pub trust: Trust,
    /// `Content-Type`, when given.
    pub content_type: Option<&'a str>,
    /// `If-None-Match`, when given.
    pub if_none_match: Option<&'a str>,
    /// `If-Match`, when given.
    pub if_match: Option<&'a str>,
    /// Whether a length was announced, be it 0: an empty body and none at all differ.
    pub has_length: bool,
    /// The body.
    pub body: &'a [u8],
}

/// Answers requests. One thread of each lane calls it.
pub trait Handler: Send + Sync + 'static {
    /// Appends one whole HTTP/1.1 answer to `out`: `Content-Length` always, `Connection` never,
    /// no body for `HEAD`. `scratch` is empty, and for any use.
    fn answer(&self, request: &Request<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>);
    /// Appends the answer to a request whose handling panicked.
    fn failed(&self, out: &mut Vec<u8>);
}
