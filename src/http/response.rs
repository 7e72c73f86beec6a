//! HTTP answers, written straight into a buffer.
//!
//! ```text
//! HTTP/1.1 200 OK CRLF
//! Content-Length: 13 CRLF        always, so that the gate knows where an answer ends
//! Date: Tue, 29 Jul 2025 ... CRLF
//! (headers of the route) CRLF
//! CRLF
//! (body, not after HEAD)
//! ```

use crate::kv::Stamp;
use crate::time::WallMillis;
use std::cell::RefCell;
use std::fmt;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

/// The reason phrase of a status.
#[must_use]
pub fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Unknown",
    }
}

/// One answer under way: the head is written as it is built, the body ends it.
#[derive(Debug)]
pub struct Response<'a> {
    out: &'a mut Vec<u8>,
}

impl Response<'_> {
    /// Begins an answer whose body has `len` bytes (for `HEAD`: would have).
    pub fn new(out: &mut Vec<u8>, now: WallMillis, status: u16, len: usize) -> Response<'_> {
        begin(out, status);
        out.extend_from_slice(b"Content-Length: ");
        number(out, len);
        out.extend_from_slice(b"\r\n");
        date(out, now);
        Response { out }
    }

    /// Begins an answer that has no body by its status, 304.
    pub fn bodiless(out: &mut Vec<u8>, now: WallMillis, status: u16) -> Response<'_> {
        begin(out, status);
        date(out, now);
        Response { out }
    }

    /// Adds a header. `value` holds no line break: callers pass text of ours, or what the gate has
    /// checked.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        debug_assert!(!value.bytes().any(|b| b.is_ascii_control()));
        for part in [name, ": ", value, "\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self
    }

    /// Adds `Content-Type: application/json`.
    #[must_use]
    pub fn json(self) -> Self {
        self.out.extend_from_slice(b"Content-Type: application/json\r\n");
        self
    }

    /// Adds the version as `ETag`.
    #[must_use]
    pub fn etag(self, stamp: Stamp) -> Self {
        self.out.extend_from_slice(b"ETag: \"");
        version(self.out, stamp);
        self.out.extend_from_slice(b"\"\r\n");
        self
    }

    /// Ends the head and appends the body, empty after `HEAD`.
    pub fn end(self, body: &[u8]) {
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(body);
    }
}

fn begin(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, usize::from(status));
    out.push(b' ');
    out.extend_from_slice(phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a version as text, the same as its `Display`.
pub fn version(out: &mut Vec<u8>, stamp: Stamp) {
    hex(out, stamp.time.0);
    out.push(b'-');
    hex(out, stamp.origin.0);
}

fn hex(out: &mut Vec<u8>, value: u64) {
    let digit = |shift: u32| b"0123456789abcdef"[(value >> shift) as usize & 15];
    out.extend((0..16).rev().map(|nibble| digit(4 * nibble)));
}

/// Appends a decimal number.
pub fn number(out: &mut Vec<u8>, mut value: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789"[value % 10];
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a text as a JSON string, quotes included.
pub fn json_text(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector does not fail, and a string always has a JSON form.
    let _ = serde_json::to_writer(out, text);
}

/// The body of an error.
#[must_use]
pub fn error_body(message: &str) -> Vec<u8> {
    let mut body = b"{\"error\":".to_vec();
    json_text(&mut body, message);
    body.push(b'}');
    body
}

/// An answer that tells what was wrong, with one more header where the status wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its status.
    pub status: u16,
    /// What was wrong, with the limit or the allowed values.
    pub message: String,
    /// `Allow`, `Retry-After` or `WWW-Authenticate`.
    pub header: Option<(&'static str, &'static str)>,
}

impl Failure {
    /// A failure without a further header.
    pub fn new(status: u16, message: impl fmt::Display) -> Failure {
        Failure { status, message: message.to_string(), header: None }
    }

    /// The same with a header.
    #[must_use]
    pub fn with(self, name: &'static str, value: &'static str) -> Failure {
        Failure { header: Some((name, value)), ..self }
    }

    /// A bound is reached, and will not be for long.
    pub fn busy(message: impl fmt::Display) -> Failure {
        Failure::new(503, message).with("Retry-After", "1")
    }

    /// Appends the whole answer.
    pub fn write(&self, out: &mut Vec<u8>, now: WallMillis, with_body: bool) {
        let body = error_body(&self.message);
        let reply = Response::new(out, now, self.status, body.len()).json();
        let reply = match self.header {
            Some((name, value)) => reply.header(name, value),
            None => reply,
        };
        reply.end(if with_body { &body } else { b"" });
    }
}

thread_local! {
    /// The second last written and its text: an HTTP date is dear to format.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// The latest second `httpdate` can print, at the end of the year 9999.
const DATE_SECS_MAX: u64 = 253_402_300_799;

fn date(out: &mut Vec<u8>, now: WallMillis) {
    let secs = (now.0 / 1000).min(DATE_SECS_MAX);
    DATE.with_borrow_mut(|(last, text)| {
        if *last != secs {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
            text.clear();
            text.push_str(&httpdate::fmt_http_date(time));
            *last = secs;
        }
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    });
}

/// Appends formatted text; a vector takes everything.
pub fn text(out: &mut Vec<u8>, arguments: fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{HlcTime, OriginId};

    #[test]
    fn numbers_and_versions_are_written_as_display_does() {
        for value in [0, 7, 10, 4096, usize::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
        let stamp = Stamp { time: HlcTime(0x0123_4567_89ab_cdef), origin: OriginId(0xfe) };
        let mut out = Vec::new();
        version(&mut out, stamp);
        assert_eq!(out, stamp.to_string().into_bytes());
    }

    #[test]
    fn a_failure_is_a_whole_answer() {
        let mut out = Vec::new();
        let failure = Failure::new(405, "use \"GET\"").with("Allow", "GET, HEAD");
        failure.write(&mut out, WallMillis(784_111_777_000), true);
        let expected = "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 23\r\n\
            Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n\
            Allow: GET, HEAD\r\n\r\n{\"error\":\"use \\\"GET\\\"\"}";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn no_clock_makes_a_date_panic() {
        let mut out = Vec::new();
        date(&mut out, WallMillis(u64::MAX));
        assert!(out.ends_with(b"9999 23:59:59 GMT\r\n"));
    }
}
