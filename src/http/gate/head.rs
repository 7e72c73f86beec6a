//! The head of a request, read as strictly as RFC 9112 allows.
//!
//! Two readers that disagree on where a request ends let one client speak in another's name. So the
//! gate refuses whatever two readers might read differently, even where tiny_http would take it.
//! That is a bare line feed, white space before or inside a field name, two lengths, a length and a
//! transfer coding, a sign before the digits.

use super::codings::Codings;
use super::refusal::Refusal;
use crate::http::counters::Reason;
use crate::http::request::Method;
use crate::http::route::Route;
use crate::limits::{HTTP_HEAD_LEN_MAX, HTTP_HEADERS_MAX, HTTP_TARGET_LEN_MAX};
use httparse::{Error, Status};
use memchr::{memchr, memmem};
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// Longest method, version and white space around a target.
const REQUEST_LINE_LEN_MAX: usize = HTTP_TARGET_LEN_MAX + 32;

/// Finds the end of a head as it arrives, looking at each byte once.
#[derive(Debug, Default)]
pub struct Scan {
    line_start: usize,
    looked: usize,
    n_lines: usize,
}

impl Scan {
    /// The length of the head at the front of `buffer`, its empty line included, once it is all
    /// there. `buffer` may only have grown since the last call.
    ///
    /// # Errors
    /// A [`Refusal`] as soon as it is clear that no acceptable head will come.
    pub fn end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Refusal> {
        if buffer.first().is_some_and(|first| !first.is_ascii_graphic()) {
            return Err(Refusal::malformed("this port speaks plain HTTP/1.1"));
        }
        while let Some(offset) = memchr(b'\n', &buffer[self.looked..]) {
            let at = self.looked + offset;
            self.looked = at + 1;
            if at == 0 || buffer[at - 1] != b'\r' {
                return Err(Refusal::malformed("a line ends without a carriage return"));
            }
            if at - 1 == self.line_start {
                return if self.looked > HTTP_HEAD_LEN_MAX {
                    Err(too_long())
                } else {
                    Ok(Some(self.looked))
                };
            }
            if self.n_lines == 0 && at > REQUEST_LINE_LEN_MAX {
                return Err(target_too_long());
            }
            self.line_start = at + 1;
            self.n_lines += 1;
            if self.n_lines > HTTP_HEADERS_MAX + 1 {
                return Err(too_many());
            }
        }
        self.looked = buffer.len();
        if self.n_lines == 0 && buffer.len() > REQUEST_LINE_LEN_MAX {
            return Err(target_too_long());
        }
        if buffer.len() >= HTTP_HEAD_LEN_MAX {
            return Err(too_long());
        }
        Ok(None)
    }
}

fn too_long() -> Refusal {
    let message = format_args!("the request head is longer than {HTTP_HEAD_LEN_MAX} bytes");
    Refusal::new(Reason::Large, 431, message)
}

fn too_many() -> Refusal {
    let message = format_args!("the request has more than {HTTP_HEADERS_MAX} header lines");
    Refusal::new(Reason::Large, 431, message)
}

fn target_too_long() -> Refusal {
    let message = format_args!("the request target is longer than {HTTP_TARGET_LEN_MAX} bytes");
    Refusal::new(Reason::Large, 414, message)
}

/// How the body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Neither a length nor a transfer coding: there is no body.
    None,
    /// This many bytes follow.
    Length(usize),
    /// Chunks follow, up to an empty one.
    Chunked,
}

/// A request head, its fields borrowed from the buffer it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'b> {
    /// One of the methods that the gate knows.
    pub method: Method,
    /// Path and query: visible ASCII from the first `/` on, without scheme and authority.
    pub target: &'b str,
    /// `HTTP/1.0`, which closes by default and knows no chunks and no 100.
    pub is_http_1_0: bool,
    /// Whether the client wants to send another request on this connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// How to tell where the body ends.
    pub framing: Framing,
    /// The value of `Host`, empty when an HTTP/1.0 client sent none.
    pub host: &'b str,
    /// The value of `Authorization`, not judged yet.
    pub authorization: Option<&'b [u8]>,
    /// The value of `X-Consul-Token`, likewise; not an empty one.
    pub consul_token: Option<&'b [u8]>,
    /// Whether a header names a part of a Consul that is not the default.
    pub names_part: bool,
    /// The value of `Content-Type`, to be kept with a value.
    pub content_type: Option<&'b str>,
    /// The value of `If-None-Match`, not read yet; several lines are one list.
    pub if_none_match: Option<Cow<'b, str>>,
    /// The value of `If-Match`, likewise.
    pub if_match: Option<Cow<'b, str>>,
    /// Whether a page is wanted, by `Accept`: a person has asked, with a browser.
    pub wants_page: bool,
    /// Whether server-sent events are wanted, by `Accept`.
    pub wants_events: bool,
    /// Whether a long list may be compressed by gzip, by `Accept-Encoding`.
    pub takes_gzip: bool,
    /// The value of `Last-Event-ID`, by which a browser goes on reading a stream.
    pub last_event_id: Option<&'b str>,
    /// The value of `Origin`: a web page has asked.
    pub origin: Option<&'b [u8]>,
    /// A header says that the request was made for another: by a proxy or by a web page.
    pub is_relayed: bool,
}

impl<'b> Head<'b> {
    /// Reads a head that [`Scan`] has found complete.
    ///
    /// # Errors
    /// A [`Refusal`] that names what was wrong.
    pub fn read(bytes: &'b [u8]) -> Result<Head<'b>, Refusal> {
        let mut headers = [const { MaybeUninit::uninit() }; HTTP_HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, &mut headers) {
            Ok(Status::Complete(_)) => {}
            Ok(Status::Partial) => {
                return Err(Refusal::malformed("the request head is broken off"));
            }
            Err(error) => return Err(syntax(error, bytes)),
        }
        let Some(method) = Method::from_name(request.method.unwrap_or_default()) else {
            let message = "the method is none of GET, HEAD, PUT, POST, DELETE";
            return Err(Refusal::new(Reason::Unsupported, 501, message));
        };
        let is_http_1_0 = request.version == Some(0);
        let mut head = Head {
            method,
            target: target(method, request.path.unwrap_or_default())?,
            is_http_1_0,
            keep_alive: !is_http_1_0,
            expects_continue: false,
            framing: Framing::None,
            host: "",
            authorization: None,
            consul_token: None,
            names_part: false,
            content_type: None,
            if_none_match: None,
            if_match: None,
            wants_page: false,
            wants_events: false,
            takes_gzip: false,
            last_event_id: None,
            origin: None,
            is_relayed: false,
        };
        let mut seen = Seen::default();
        for header in request.headers.iter() {
            head.take(&mut seen, header.name, header.value)?;
        }
        head.check(&seen)?;
        Ok(head)
    }

    /// The route that the target means.
    #[must_use]
    pub fn route(&self) -> Route<'b> {
        match self.target.split_once('?') {
            Some((path, query)) => Route::of(path, Some(query)),
            None => Route::of(self.target, None),
        }
    }

    /// Takes one header line over; most names are of no interest.
    fn take(&mut self, seen: &mut Seen, name: &str, value: &'b [u8]) -> Result<(), Refusal> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            3 if is("Via") => self.is_relayed = true,
            4 if is("Host") => {
                seen.n_hosts += 1;
                self.host = visible("Host", value)?;
            }
            6 if is("Accept") => {
                self.wants_page |= memmem::find(value, b"text/html").is_some();
                self.wants_events |= memmem::find(value, b"text/event-stream").is_some();
            }
            6 if is("Expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    let message = "the only expectation known is 100-continue";
                    return Err(Refusal::new(Reason::Unsupported, 417, message));
                }
                self.expects_continue = !self.is_http_1_0;
            }
            6 if is("Origin") => {
                self.is_relayed = true;
                once("Origin", &mut self.origin, value)?;
            }
            8 if is("If-Match") => {
                join(&mut self.if_match, visible("If-Match", value)?);
            }
            9 if is("Forwarded") => self.is_relayed = true,
            10 if is("Connection") => self.connection(seen, value),
            12 if is("Content-Type") => {
                once("Content-Type", &mut self.content_type, visible("Content-Type", value)?)?
            }
            13 if is("Content-Range") => seen.is_part = true,
            13 if is("Authorization") => once("Authorization", &mut self.authorization, value)?,
            13 if is("Last-Event-ID") => {
                once("Last-Event-ID", &mut self.last_event_id, visible("Last-Event-ID", value)?)?
            }
            13 if is("If-None-Match") => {
                join(&mut self.if_none_match, visible("If-None-Match", value)?);
            }
            14 if is("Content-Length") => {
                seen.n_lengths += 1;
                self.framing = Framing::Length(length(value)?);
            }
            14 if is("X-Consul-Token") => {
                once("X-Consul-Token", &mut self.consul_token, value)?;
            }
            18 if is("X-Consul-Namespace") || is("X-Consul-Partition") => {
                self.names_part |= !value.is_empty() && value != b"default";
            }
            15 if is("Accept-Encoding") => seen.codings.read(value),
            15 if is("X-Forwarded-For") => self.is_relayed = true,
            16 if is("Content-Encoding") => seen.is_encoded |= !is_identity(value),
            17 if is("Transfer-Encoding") => {
                seen.n_codings += 1;
                seen.is_chunked = value.eq_ignore_ascii_case(b"chunked");
            }
            19 if is("If-Unmodified-Since") => seen.is_dated = true,
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, seen: &mut Seen, value: &[u8]) {
        for token in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                seen.is_closing = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            }
        }
    }

    /// What no single line can tell.
    fn check(&mut self, seen: &Seen) -> Result<(), Refusal> {
        if seen.n_hosts > 1 {
            return Err(twice("Host"));
        }
        if seen.n_hosts == 0 && !self.is_http_1_0 {
            return Err(Refusal::malformed("HTTP/1.1 wants a Host header"));
        }
        if seen.n_lengths > 1 {
            return Err(twice("Content-Length"));
        }
        if seen.n_codings > 0 {
            if seen.n_lengths > 0 {
                let message = "Content-Length and Transfer-Encoding exclude each other";
                return Err(Refusal::malformed(message));
            }
            if self.is_http_1_0 {
                return Err(Refusal::malformed("HTTP/1.0 has no Transfer-Encoding"));
            }
            if seen.n_codings > 1 {
                return Err(twice("Transfer-Encoding"));
            }
            if !seen.is_chunked {
                let message = "the only transfer coding known is chunked";
                return Err(Refusal::new(Reason::Unsupported, 501, message));
            }
            self.framing = Framing::Chunked;
        }
        // Some clients send an empty one for none.
        self.consul_token = self.consul_token.filter(|token| !token.is_empty());
        self.keep_alive &= !seen.is_closing;
        self.takes_gzip = seen.codings.prefer_gzip();
        self.check_wishes(seen)
    }

    /// What is asked of a write, and would be another write if it was ignored.
    fn check_wishes(&self, seen: &Seen) -> Result<(), Refusal> {
        if self.method.takes_body() && seen.is_part {
            let message = "Content-Range: a part of a value cannot be written, only a whole one";
            return Err(Refusal::malformed(message));
        }
        if self.method.takes_body() && seen.is_encoded {
            return Err(Refusal::encoded());
        }
        if self.method.is_write() && seen.is_dated {
            let message = "If-Unmodified-Since: values have versions, not dates; send If-Match";
            return Err(Refusal::malformed(message));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Seen {
    n_hosts: usize,
    n_lengths: usize,
    n_codings: usize,
    is_chunked: bool,
    is_closing: bool,
    /// `Content-Range`: the body is a part of something.
    is_part: bool,
    /// `Content-Encoding`: the body is compressed.
    is_encoded: bool,
    /// `If-Unmodified-Since`: a condition that names a date.
    is_dated: bool,
    codings: Codings,
}

fn twice(name: &str) -> Refusal {
    Refusal::malformed(format_args!("the header {name} is given twice"))
}

fn once<T>(name: &str, slot: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice(name)),
    }
}

/// Adds a line to a list that may be spread over several.
fn join<'b>(slot: &mut Option<Cow<'b, str>>, line: &'b str) {
    match slot {
        None => *slot = Some(Cow::Borrowed(line)),
        Some(list) => {
            let list = list.to_mut();
            list.push_str(", ");
            list.push_str(line);
        }
    }
}

/// A header value we use is ASCII without controls: tiny_http takes no other, and a kept
/// `Content-Type` is sent to others again.
fn visible<'b>(name: &str, value: &'b [u8]) -> Result<&'b str, Refusal> {
    let is_plain = value.iter().all(|&b| (b' '..=b'~').contains(&b));
    match std::str::from_utf8(value) {
        Ok(text) if is_plain => Ok(text),
        _ => Err(Refusal::malformed(format_args!("the header {name} is not plain ASCII"))),
    }
}

/// Whether a `Content-Encoding` names none.
fn is_identity(value: &[u8]) -> bool {
    let names = value.split(|&b| b == b',').map(<[u8]>::trim_ascii);
    names.into_iter().all(|name| name.is_empty() || name.eq_ignore_ascii_case(b"identity"))
}

/// A length is digits and nothing else; what does not fit a number is larger than any limit.
fn length(value: &[u8]) -> Result<usize, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::malformed("Content-Length is not a number"));
    }
    let add =
        |sum: usize, digit: &u8| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
    Ok(value.iter().fold(0, add))
}

/// Path and query of a request target. The absolute form, which proxies send, names the same.
fn target(method: Method, given: &str) -> Result<&str, Refusal> {
    if given.len() > HTTP_TARGET_LEN_MAX {
        return Err(target_too_long());
    }
    if !given.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(Refusal::malformed("the request target has characters to be percent-encoded"));
    }
    if given.starts_with('/') {
        return Ok(given);
    }
    if method == Method::Options && given == "*" {
        return Ok("/");
    }
    let scheme_end = given.find("://").unwrap_or(0);
    let scheme = &given[..scheme_end];
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Refusal::malformed("the request target is neither a path nor a URL"));
    }
    let rest = &given[scheme_end + 3..];
    match rest.find(['/', '?']) {
        Some(0) => Err(Refusal::malformed("the URL of the request has no host")),
        Some(at) if rest.as_bytes()[at] == b'/' => Ok(&rest[at..]),
        _ => Ok("/"),
    }
}

fn syntax(error: Error, head: &[u8]) -> Refusal {
    match error {
        Error::Version | Error::NewLine if has_spaced_target(head) => {
            Refusal::malformed("the request target has a space in it: a space is written %20")
        }
        Error::Version => {
            let message = "this server speaks HTTP/1.1 and HTTP/1.0";
            Refusal::new(Reason::Unsupported, 505, message)
        }
        Error::TooManyHeaders => too_many(),
        Error::HeaderName => Refusal::malformed("a header line has no valid name before its colon"),
        Error::HeaderValue => Refusal::malformed("a header value has a control character"),
        Error::Token => Refusal::malformed("the method or the target is no valid HTTP"),
        Error::NewLine | Error::Status => Refusal::malformed("the request line is no valid HTTP"),
    }
}

/// Whether a request line has more than its two spaces: a client has not encoded one in the target.
fn has_spaced_target(head: &[u8]) -> bool {
    let line = &head[..memchr(b'\r', head).unwrap_or(head.len())];
    let mut words = line.split(|&b| b == b' ');
    words.clone().count() > 3 && words.next_back().is_some_and(|word| word.starts_with(b"HTTP/1."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the scan says of bytes that arrive one by one, and all at once.
    fn scan(bytes: &[u8]) -> Result<Option<usize>, u16> {
        let at_once = Scan::default().end(bytes).map_err(|refusal| refusal.failure.status);
        let mut by_bytes = Scan::default();
        let mut last = Ok(None);
        for n in 1..=bytes.len() {
            last = by_bytes.end(&bytes[..n]).map_err(|refusal| refusal.failure.status);
            if last != Ok(None) {
                break;
            }
        }
        assert_eq!(last, at_once, "{}", String::from_utf8_lossy(bytes));
        at_once
    }

    #[test]
    fn a_head_ends_at_its_empty_line_however_it_arrives() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(scan(head), Ok(Some(head.len())));
        assert_eq!(scan(&[head, &b"rest\n"[..]].concat()), Ok(Some(head.len())));
        assert_eq!(scan(&head[..head.len() - 1]), Ok(None));
        assert_eq!(scan(b"GET / HTTP/1.1\nHost: x\n\n"), Err(400));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: x\n"), Err(400));
        assert_eq!(scan(b"\x16\x03\x01"), Err(400));
        assert_eq!(scan(b" GET / HTTP/1.1\r\n\r\n"), Err(400));
    }

    #[test]
    fn a_head_is_bounded_in_every_direction() {
        let line = |len: usize| format!("GET /{} HTTP/1.1\r\n", "x".repeat(len));
        assert_eq!(scan(line(HTTP_TARGET_LEN_MAX).as_bytes()), Ok(None));
        assert_eq!(scan(line(HTTP_TARGET_LEN_MAX + 100).as_bytes()), Err(414));
        let lines = |n: usize| format!("{}{}", line(0), "a: b\r\n".repeat(n));
        assert_eq!(scan(lines(HTTP_HEADERS_MAX).as_bytes()), Ok(None));
        assert_eq!(scan(lines(HTTP_HEADERS_MAX + 1).as_bytes()), Err(431));
        let filled = |len: usize| format!("{}a: {}\r\n\r\n", line(0), "b".repeat(len));
        let left = HTTP_HEAD_LEN_MAX - filled(0).len();
        assert_eq!(Scan::default().end(filled(left).as_bytes()), Ok(Some(HTTP_HEAD_LEN_MAX)));
        assert!(Scan::default().end(filled(left + 1).as_bytes()).is_err());
    }

    #[test]
    fn a_head_is_read_once() {
        let bytes = b"PUT http://h/kv/a?w=1 HTTP/1.1\r\nHost: h:80\r\nContent-Length: 3\r\n\
            connection: x, Close\r\nAUTHORIZATION: Bearer \xff\r\nContent-Type: a/b\r\n\
            Expect: 100-CONTINUE\r\nVia: 1.1 p\r\nAccept: a/b, text/html;q=1\r\n\r\n";
        let expected = Head {
            method: Method::Put,
            target: "/kv/a?w=1",
            is_http_1_0: false,
            keep_alive: false,
            expects_continue: true,
            framing: Framing::Length(3),
            host: "h:80",
            authorization: Some(b"Bearer \xff"),
            consul_token: None,
            names_part: false,
            content_type: Some("a/b"),
            if_none_match: None,
            if_match: None,
            takes_gzip: false,
            wants_events: false,
            last_event_id: None,
            wants_page: true,
            origin: None,
            is_relayed: true,
        };
        assert_eq!(Head::read(bytes), Ok(expected));
    }

    #[test]
    fn a_length_is_digits_and_never_overflows() {
        assert_eq!(length(b"0"), Ok(0));
        assert_eq!(length(b"007"), Ok(7));
        assert_eq!(length(&[b'9'; 100]), Ok(usize::MAX));
        for bad in ["", "+1", "-1", " 1", "1 ", "1,1", "0x1"] {
            assert!(length(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
