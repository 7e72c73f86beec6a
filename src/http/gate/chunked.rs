//! A chunked body, taken apart.
//!
//! ```text
//! 5;name=value CRLF hello CRLF 0 CRLF (trailer line CRLF)* CRLF
//! `- Size          `- Data `- Gap  `- Size  `- Trailer      `- done
//! ```
//!
//! The request that goes on to tiny_http carries a length instead. tiny_http would leave unread
//! chunks in the connection, and take them for the next request.

use super::refusal::Refusal;
use crate::http::counters::Reason;
use crate::limits::{HTTP_CHUNK_LINE_LEN_MAX, HTTP_HEADERS_MAX};
use bytes::{Buf as _, BytesMut};
use memchr::memchr;

/// Most hex digits of a chunk's size: more than any limit needs, less than overflows.
const SIZE_DIGITS_MAX: usize = 8;

/// Where in a chunked body we are.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    len_max: usize,
    /// What may still come of the body, in bytes. Whoever calls may have taken away what came.
    len_left: usize,
}

#[derive(Debug)]
enum State {
    Size,
    Data(usize),
    Gap,
    Trailer(usize),
    Done,
}

impl Chunks {
    /// A body of at most `len_max` bytes, chunk sizes not counted.
    #[must_use]
    pub fn new(len_max: usize) -> Chunks {
        Chunks { state: State::Size, len_max, len_left: len_max }
    }

    /// Moves what is there of the body from `input` to `body`; true when it is complete. What
    /// follows it stays in `input`.
    ///
    /// # Errors
    /// A [`Refusal`] that names what was wrong.
    pub fn take(&mut self, input: &mut BytesMut, body: &mut Vec<u8>) -> Result<bool, Refusal> {
        loop {
            self.state = match self.state {
                State::Size => match line(input)? {
                    None => return Ok(false),
                    Some(line) => match size(&line)? {
                        0 => State::Trailer(0),
                        size if size > self.len_left => {
                            return Err(body_too_long(None, self.len_max));
                        }
                        size => {
                            self.len_left -= size;
                            State::Data(size)
                        }
                    },
                },
                State::Data(size) => {
                    let n = size.min(input.len());
                    body.extend_from_slice(&input[..n]);
                    input.advance(n);
                    if n < size {
                        self.state = State::Data(size - n);
                        return Ok(false);
                    }
                    State::Gap
                }
                State::Gap => match input.get(..2) {
                    None => return Ok(false),
                    Some(b"\r\n") => {
                        input.advance(2);
                        State::Size
                    }
                    Some(_) => {
                        return Err(Refusal::malformed("a chunk is longer than its size says"));
                    }
                },
                State::Trailer(n_lines) => match line(input)? {
                    None => return Ok(false),
                    Some(line) if line.is_empty() => State::Done,
                    Some(_) if n_lines == HTTP_HEADERS_MAX => {
                        return Err(Refusal::malformed("the chunked body has too many trailers"));
                    }
                    Some(_) => State::Trailer(n_lines + 1),
                },
                State::Done => return Ok(true),
            };
        }
    }
}

/// 413 for a body too long, however it is framed.
/// 413, in words that clients of Consul look for.
pub(super) fn body_too_long(len: Option<usize>, len_max: usize) -> Refusal {
    let len = len.map(|len| format!("({len} bytes)")).unwrap_or_default();
    let message =
        format_args!("Request body{len} too large, max size: {len_max} bytes (--max-value-bytes)");
    Refusal::new(Reason::Large, 413, message)
}

/// The next line without its end, when it is all there.
fn line(input: &mut BytesMut) -> Result<Option<BytesMut>, Refusal> {
    let within = &input[..input.len().min(HTTP_CHUNK_LINE_LEN_MAX)];
    let Some(at) = memchr(b'\n', within) else {
        return if within.len() < HTTP_CHUNK_LINE_LEN_MAX {
            Ok(None)
        } else {
            Err(Refusal::malformed(format_args!(
                "a line between chunks is longer than {HTTP_CHUNK_LINE_LEN_MAX} bytes"
            )))
        };
    };
    let mut line = input.split_to(at + 1);
    let is_plain = |&b: &u8| b == b'\t' || (b >= b' ' && b != 0x7f);
    if at == 0 || line[at - 1] != b'\r' || !line[..at - 1].iter().all(is_plain) {
        return Err(Refusal::malformed("a line between chunks is no valid HTTP"));
    }
    line.truncate(at - 1);
    Ok(Some(line))
}

/// A chunk's size: hex digits, then nothing or an extension, which we do not read.
fn size(line: &[u8]) -> Result<usize, Refusal> {
    let n_digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let extension = &line[n_digits..];
    let digits = std::str::from_utf8(&line[..n_digits]).unwrap_or_default();
    if (1..=SIZE_DIGITS_MAX).contains(&n_digits)
        && (extension.is_empty() || extension.starts_with(b";"))
        && let Ok(size) = usize::from_str_radix(digits, 16)
    {
        return Ok(size);
    }
    Err(Refusal::malformed("a chunk does not begin with its size in hex"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, and what is left of the input, for any way the input may arrive in two pieces.
    fn check(input: &str, expected: Result<(&str, &str), u16>) {
        for cut in 0..=input.len() {
            let mut chunks = Chunks::new(16);
            let mut body = Vec::new();
            let mut buffer = BytesMut::from(&input.as_bytes()[..cut]);
            let mut result = chunks.take(&mut buffer, &mut body);
            if result == Ok(false) {
                buffer.extend_from_slice(&input.as_bytes()[cut..]);
                result = chunks.take(&mut buffer, &mut body);
            } else {
                buffer.extend_from_slice(&input.as_bytes()[cut..]);
            }
            let seen = match &result {
                Ok(done) => {
                    assert!(done, "{input:?} cut at {cut}");
                    Ok((std::str::from_utf8(&body).unwrap(), std::str::from_utf8(&buffer).unwrap()))
                }
                Err(refusal) => Err(refusal.failure.status),
            };
            assert_eq!(seen, expected, "{input:?} cut at {cut}");
        }
    }

    #[test]
    fn whole_bodies_are_taken_and_the_rest_is_left() {
        check("0\r\n\r\n", Ok(("", "")));
        check("5\r\nhello\r\n0\r\n\r\nGET /", Ok(("hello", "GET /")));
        check("5;a=\"b\"\r\nhello\r\n00B\r\n, old world\r\n0;x\r\nT: 1\r\n\r\n", {
            Ok(("hello, old world", ""))
        });
    }

    #[test]
    fn anything_else_is_refused() {
        check("11\r\n", Err(413));
        check("8\r\n12345678\r\n9\r\n", Err(413));
        check("ffffffff\r\n", Err(413));
        let bad = ["\r\n", "x\r\n", "-1\r\n", "+5\r\n", " 5\r\n", "0x5\r\n", "5 \r\n", "5\n"];
        for bad in bad {
            check(bad, Err(400));
        }
        check("123456789\r\n", Err(400));
        check("5;a\rb\r\nhello", Err(400));
        check("5\r\nhello!\r\n", Err(400));
        check("5\r\nhello\n0\r\n\r\n", Err(400));
        check("0\r\nT: 1\n\r\n", Err(400));
    }

    #[test]
    fn lines_and_their_number_are_bounded() {
        let mut chunks = Chunks::new(16);
        let mut input = BytesMut::from(&[b"5;".as_slice(), &[b'a'; 300]].concat()[..]);
        assert_eq!(chunks.take(&mut input, &mut Vec::new()).unwrap_err().failure.status, 400);
        let mut chunks = Chunks::new(16);
        let trailers = "a: b\r\n".repeat(HTTP_HEADERS_MAX + 1);
        let mut input = BytesMut::from(format!("0\r\n{trailers}").as_bytes());
        assert_eq!(chunks.take(&mut input, &mut Vec::new()).unwrap_err().failure.status, 400);
    }
}
