//! Long answers: their bodies are made piece by piece while they go out.
//!
//! ```text
//! worker: measure --> head, parts --parked--> gate: piece, send, piece, send, ...
//! ```
//!
//! A value of 16 MiB may be 96 MiB of JSON. Made whole, each reader would cost as much. So a worker
//! measures what the body will be, and the gate makes of it what the client takes.

use super::json::{BASE64_BEGIN, BASE64_END, escape, json_value_len};
use super::memory::Held;
use crate::kv::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A piece that is made has at most so many bytes, beside one step more.
const PIECE_LEN: usize = 48 << 10;
/// Bytes of a value escaped in one step: at most six times as many come of it.
const ESCAPED_LEN: usize = 2 << 10;
/// Bytes of a value written as base64 in one step; divides by three.
const BASE64_LEN: usize = 12 << 10;
/// Most bytes of a piece that is made, and so of the buffer for it.
pub(super) const MADE_LEN_MAX: usize = PIECE_LEN + 16 * BASE64_LEN / 12;

/// A part of a body.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// These bytes.
    Text(Vec<u8>),
    /// The bytes of a value.
    Raw(Record),
    /// The inside of a JSON string: a value that is UTF-8.
    Escaped(Record),
    /// A value as base64.
    Base64(Record),
}

impl Part {
    /// Whether it is made when it goes out.
    pub(super) fn is_made(&self) -> bool {
        matches!(self, Part::Escaped(_) | Part::Base64(_))
    }

    /// Bytes that it comes to.
    pub(super) fn len(&self) -> usize {
        match self {
            Part::Text(text) => text.len(),
            Part::Raw(record) => value(record).len(),
            // Without the quotes.
            Part::Escaped(record) => json_value_len(value(record)) - 2,
            Part::Base64(record) => value(record).len().div_ceil(3) * 4,
        }
    }

    /// The version that it reads from.
    pub(super) fn record(&self) -> Option<&Record> {
        match self {
            Part::Text(_) => None,
            Part::Raw(record) | Part::Escaped(record) | Part::Base64(record) => Some(record),
        }
    }
}

/// An answer, its head written and the body still to be made.
#[derive(Debug)]
pub(super) struct LongAnswer {
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<Part>,
    /// The share of the budget that its texts take.
    pub(super) held: Held,
}

/// Appends the parts that make a value as [`json_value`] does.
pub(super) fn value_parts(parts: &mut Vec<Part>, record: &Record) {
    let is_text = std::str::from_utf8(record.value().unwrap_or_default()).is_ok();
    let (begin, value, end) = if is_text {
        (&b"\""[..], Part::Escaped(record.clone()), &b"\""[..])
    } else {
        (BASE64_BEGIN, Part::Base64(record.clone()), BASE64_END)
    };
    push_text(parts, begin);
    parts.push(value);
    push_text(parts, end);
}

/// Appends a text to the parts of a body.
pub(super) fn push_text(parts: &mut Vec<Part>, text: &[u8]) {
    with_text(parts, |out| out.extend_from_slice(text));
}

/// The same for a text that is written.
pub(super) fn with_text(parts: &mut Vec<Part>, write: impl FnOnce(&mut Vec<u8>)) {
    match parts.last_mut() {
        Some(Part::Text(last)) => write(last),
        _ => {
            let mut text = Vec::new();
            write(&mut text);
            parts.push(Part::Text(text));
        }
    }
}

/// Where in a body its next piece begins.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    part: usize,
    at: usize,
}

impl Pieces {
    /// The next piece of a body, never an empty one: a part of the body itself, or made in
    /// `buffer`. `None` at the end.
    pub(super) fn next<'b>(
        &mut self,
        body: &'b [Part],
        buffer: &'b mut Vec<u8>,
    ) -> Option<&'b [u8]> {
        buffer.clear();
        loop {
            let part = body.get(self.part)?;
            let (bytes, make): (&[u8], Option<Make>) = match part {
                Part::Text(text) => (text, None),
                Part::Raw(record) => (value(record), None),
                Part::Escaped(record) => (value(record), Some((ESCAPED_LEN, escape))),
                Part::Base64(record) => (value(record), Some((BASE64_LEN, base64))),
            };
            let rest = &bytes[self.at..];
            if rest.is_empty() {
                (self.part, self.at) = (self.part + 1, 0);
                continue;
            }
            let Some((step, write)) = make else {
                (self.part, self.at) = (self.part + 1, 0);
                return Some(rest);
            };
            for step in rest.chunks(step) {
                write(buffer, step);
                self.at += step.len();
                if buffer.len() >= PIECE_LEN {
                    break;
                }
            }
            return Some(buffer);
        }
    }
}

/// How many bytes one step takes, and what writes them.
type Make = (usize, fn(&mut Vec<u8>, &[u8]));

fn value(record: &Record) -> &[u8] {
    record.value().unwrap_or_default()
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::json::json_value;
    use crate::kv::{HlcTime, OriginId, Stamp};
    use proptest::prelude::*;

    fn record(value: &[u8]) -> Record {
        let stamp = Stamp { time: HlcTime(1), origin: OriginId(1) };
        Record::new(stamp, 1, b"k", Some((value, None)))
    }

    fn made(body: &[Part]) -> Vec<u8> {
        let (mut pieces, mut buffer, mut all) = (Pieces::default(), Vec::new(), Vec::new());
        while let Some(piece) = pieces.next(body, &mut buffer) {
            assert!(!piece.is_empty());
            all.extend_from_slice(piece);
            assert!(buffer.len() <= MADE_LEN_MAX);
        }
        all
    }

    fn check(value: &[u8]) {
        let mut whole = Vec::new();
        json_value(&mut whole, value);
        assert_eq!(json_value_len(value), whole.len());
        let mut body = Vec::new();
        value_parts(&mut body, &record(value));
        assert!(made(&body) == whole, "{} bytes", value.len());
        assert_eq!(body.iter().map(Part::len).sum::<usize>(), whole.len());
    }

    #[test]
    fn a_body_made_in_pieces_is_the_whole_one() {
        let text: String = ('\0'..'\u{2000}').chain("\u{1f600}\"\\".chars()).collect();
        for value in [
            b"".to_vec(),
            vec![0; 100_000],
            vec![b'v'; 200_000],
            text.repeat(20).into_bytes(),
            vec![0xff; 100_000],
            vec![0xff; 3 * BASE64_LEN + 1],
        ] {
            check(&value);
        }
        let body = [Part::Text(b"{".into()), Part::Raw(record(b"raw")), Part::Text(b"}".into())];
        assert_eq!(made(&body), b"{raw}");
    }

    proptest! {
        #[test]
        fn any_value_is_made_alike(value: Vec<u8>, text: String) {
            check(&value);
            check(text.as_bytes());
        }
    }
}
