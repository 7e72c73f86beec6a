//! HTTP answers, written straight into a buffer.
//!
//! ```text
//! HTTP/1.1 200 OK CRLF
//! Content-Length: 13 CRLF        always, so that the gate knows where an answer ends
//! Cache-Control: no-cache CRLF   or no-store: whatever is asked for may have changed since
//! Date: Tue, 29 Jul 2025 ... CRLF
//! (headers of the route) CRLF
//! CRLF
//! (body, not after HEAD)
//! ```

use super::json::json_text;
use super::request::Form;
use crate::kv::{Record, Stamp};
use crate::time::WallMillis;
use std::cell::RefCell;
use std::time::{Duration, SystemTime};

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
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
        421 => "Misdirected Request",
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
pub(super) struct Response<'a> {
    out: &'a mut Vec<u8>,
}

impl Response<'_> {
    /// Begins an answer whose body has `len` bytes (for `HEAD`: would have). A cache may keep it,
    /// but asks whether it is still the same before it gives it to anybody.
    pub(super) fn new(out: &mut Vec<u8>, now: WallMillis, status: u16, len: usize) -> Response<'_> {
        begin(out, status, len);
        out.extend_from_slice(NO_CACHE);
        date(out, now);
        Response { out }
    }

    /// The same, and no cache may keep it.
    pub(super) fn unkept(
        out: &mut Vec<u8>,
        now: WallMillis,
        status: u16,
        len: usize,
    ) -> Response<'_> {
        begin(out, status, len);
        out.extend_from_slice(b"Cache-Control: no-store\r\n");
        date(out, now);
        Response { out }
    }

    /// Begins an answer that has no body by its status, 204 or 304.
    pub(super) fn bodiless(out: &mut Vec<u8>, now: WallMillis, status: u16) -> Response<'_> {
        status_line(out, status);
        out.extend_from_slice(NO_CACHE);
        date(out, now);
        Response { out }
    }

    /// Adds a header. `value` holds no line break: callers pass text of ours, or what the gate has
    /// checked.
    pub(super) fn header(self, name: &str, value: &str) -> Self {
        debug_assert!(!value.bytes().any(|b| b.is_ascii_control()));
        for part in [name, ": ", value, "\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self
    }

    pub(super) fn json(self) -> Self {
        self.out.extend_from_slice(b"Content-Type: application/json\r\n");
        self
    }

    pub(super) fn etag(self, stamp: Stamp) -> Self {
        self.out.extend_from_slice(b"ETag: \"");
        version(self.out, stamp);
        self.out.extend_from_slice(b"\"\r\n");
        self
    }

    /// The version of a record, and how many seconds it still lasts.
    pub(super) fn of(self, record: &Record, now: WallMillis) -> Self {
        self.out.extend_from_slice(b"ETag: \"");
        version_of(self.out, record);
        self.out.extend_from_slice(b"\"\r\n");
        if let (Some(expiry), false) = (record.expiry(), record.is_tombstone()) {
            self.out.extend_from_slice(b"TTL: ");
            let left = expiry.saturating_sub(now.0).div_ceil(1_000);
            number(self.out, usize::try_from(left).unwrap_or(usize::MAX));
            self.out.extend_from_slice(b"\r\n");
        }
        self
    }

    /// An entity tag that is not a version.
    pub(super) fn tag(self, tag: &str) -> Self {
        for part in ["ETag: \"", tag, "\"\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self
    }

    /// Ends the head and appends what this form has of the body.
    pub(super) fn end(self, form: Form, body: &[u8]) {
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(form.part_of(body));
    }

    /// Ends an answer that has no body.
    pub(super) fn end_bodiless(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

const NO_CACHE: &[u8] = b"Cache-Control: no-cache\r\n";

fn begin(out: &mut Vec<u8>, status: u16, len: usize) {
    status_line(out, status);
    out.extend_from_slice(b"Content-Length: ");
    number(out, len);
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, usize::from(status));
    out.push(b' ');
    out.extend_from_slice(phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a version as text, the same as its `Display`.
pub(super) fn version(out: &mut Vec<u8>, stamp: Stamp) {
    hex(out, stamp.time.0);
    out.push(b'-');
    hex(out, stamp.origin.0);
}

/// Appends a version as a further field of a JSON object.
pub(super) fn version_field(out: &mut Vec<u8>, stamp: Stamp) {
    out.extend_from_slice(b",\"version\":\"");
    version(out, stamp);
    out.push(b'"');
}

/// What the version of a record ends with that has expired: it is later than before, and earlier
/// than whatever is written next, also as text.
pub(super) const EXPIRED: &str = "-expired";

/// Appends the version of a record as text.
pub(super) fn version_of(out: &mut Vec<u8>, record: &Record) {
    version_text(out, (record.stamp(), record.has_expired()));
}

/// Appends a version as text: its stamp, and whether it has expired since.
pub(super) fn version_text(out: &mut Vec<u8>, (stamp, has_expired): (Stamp, bool)) {
    version(out, stamp);
    if has_expired {
        out.extend_from_slice(EXPIRED.as_bytes());
    }
}

/// Appends the version of a record as a further field of a JSON object; and when it expires, or
/// that it has, as another.
pub(super) fn version_fields(out: &mut Vec<u8>, record: &Record) {
    out.extend_from_slice(b",\"version\":\"");
    version_of(out, record);
    out.push(b'"');
    if record.has_expired() {
        out.extend_from_slice(b",\"expired\":true");
    } else if let Some(expiry) = record.expiry() {
        expires_field(out, expiry);
    }
}

/// Appends a moment, in milliseconds since 1970, as the field that says when a key expires.
pub(super) fn expires_field(out: &mut Vec<u8>, expiry: u64) {
    let latest = Duration::from_millis(expiry).min(Duration::from_secs(DATE_SECS_MAX));
    let text = humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + latest);
    out.extend_from_slice(format!(",\"expires\":\"{text}\"").as_bytes());
}

/// Appends what a record's value was put as, if anything, as a further field of a JSON object.
pub(super) fn type_field(out: &mut Vec<u8>, record: &Record) {
    if let Some(content_type) = record.content_type() {
        out.extend_from_slice(b",\"type\":");
        json_text(out, content_type);
    }
}

fn hex(out: &mut Vec<u8>, value: u64) {
    let digit = |shift: u32| b"0123456789abcdef"[(value >> shift) as usize & 15];
    out.extend((0..16).rev().map(|nibble| digit(4 * nibble)));
}

/// Appends a number in decimal digits.
pub(super) fn number(out: &mut Vec<u8>, mut value: usize) {
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
    fn no_clock_makes_a_date_panic() {
        let mut out = Vec::new();
        date(&mut out, WallMillis(u64::MAX));
        assert!(out.ends_with(b"9999 23:59:59 GMT\r\n"));
    }
}
