//! Failures: answers that say what was wrong, from the gate and from the routes alike.

use super::json::json_text;
use super::request::Form;
use super::response::Response;
use crate::kv::Record;
use crate::time::WallMillis;
use std::fmt;

/// Says what was wrong, with one more header where the status wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The status of the answer, from 400 up.
    pub status: u16,
    /// What was wrong, with the limit or the allowed values.
    pub message: String,
    /// `Allow`, `Retry-After`, `WWW-Authenticate` or `Accept-Encoding`.
    pub header: Option<(&'static str, &'static str)>,
    /// The entry that the answer is about.
    pub(super) entry: Option<Record>,
}

impl Failure {
    /// A failure without a further header.
    pub(super) fn new(status: u16, message: impl fmt::Display) -> Failure {
        Failure { status, message: message.to_string(), header: None, entry: None }
    }

    /// The same with a header.
    pub(super) fn with(self, name: &'static str, value: &'static str) -> Failure {
        Failure { header: Some((name, value)), ..self }
    }

    /// The same about an entry, whose version the answer tells.
    pub(super) fn about(self, entry: Option<&Record>) -> Failure {
        Failure { entry: entry.cloned(), ..self }
    }

    /// 503: a bound is reached, and will not be for long.
    pub(super) fn busy(message: impl fmt::Display) -> Failure {
        Failure::new(503, message).with("Retry-After", "1")
    }

    /// Appends the whole answer.
    pub(super) fn write(&self, out: &mut Vec<u8>, now: WallMillis, form: Form) {
        let body = error_body(&self.message);
        let response = Response::new(out, now, self.status, body.len()).json();
        let response = match self.header {
            Some((name, value)) => response.header(name, value),
            None => response,
        };
        let response = match &self.entry {
            Some(entry) => response.of(entry, now),
            None => response,
        };
        response.end(form, &body);
    }

    /// Appends the whole answer as plain text, as clients of Consul read it.
    pub(super) fn write_plain(&self, out: &mut Vec<u8>, now: WallMillis, form: Form) {
        let body = self.message.as_bytes();
        let response = Response::new(out, now, self.status, body.len());
        let response = response.header("Content-Type", "text/plain; charset=utf-8");
        let response = match self.header {
            Some((name, value)) => response.header(name, value),
            None => response,
        };
        response.end(form, body);
    }
}

/// The body of an error.
pub(super) fn error_body(message: &str) -> Vec<u8> {
    let mut body = b"{\"error\":".to_vec();
    json_text(&mut body, message);
    body.push(b'}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_whole_answer() {
        let mut out = Vec::new();
        let failure = Failure::new(405, "use \"GET\"").with("Allow", "GET, HEAD");
        failure.write(&mut out, WallMillis(784_111_777_000), Form::Whole);
        let expected = "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 23\r\n\
            Cache-Control: no-cache\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
            Content-Type: application/json\r\nAllow: GET, HEAD\r\n\r\n\
            {\"error\":\"use \\\"GET\\\"\"}";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
