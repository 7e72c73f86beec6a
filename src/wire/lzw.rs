//! The compression layer: LZW as Go's `compress/lzw` speaks it.
//!
//! ```text
//! 09 | { Algo: 0, Buf: lzw }      least significant bit first, literal width 8, clear code 256,
//!                                 end code 257 (mandatory), code width 9 to 12
//! ```

use super::codec::type_byte;
use super::error::DecodeError;
use super::msgpack::{Fields, Reader, Writer};
use std::borrow::Cow;
use weezl::{BitOrder, LzwStatus, decode, encode};

const LITERAL_WIDTH: u8 = 8;
/// Output is produced in steps of this many bytes, so memory follows what was really expanded.
const STEP: usize = 4096;

/// A `compress` message holding `plain`, type byte first.
#[must_use]
pub fn compress(plain: &[u8]) -> Vec<u8> {
    let mut lzw = Vec::with_capacity(plain.len() / 2 + 16);
    let packed = encode::Encoder::new(BitOrder::Lsb, LITERAL_WIDTH)
        .into_vec(&mut lzw)
        .encode_all(plain)
        .status;
    debug_assert!(packed.is_ok(), "every byte has a code at literal width 8");
    let mut out = Writer::message(type_byte::COMPRESS, lzw.len() + 20);
    out.map(2);
    out.key("Algo").uint(0);
    out.key("Buf").raw(&lzw);
    out.0
}

/// What the body of a `compress` message (type byte removed) expands to, at most `len_max` bytes.
///
/// # Errors
/// A malformed body, another algorithm, a broken stream, or more output than `len_max`.
pub fn decompress(body: &[u8], mut len_max: usize) -> Result<Vec<u8>, DecodeError> {
    decompress_within(body, &mut len_max)
}

/// As [`decompress`], taking what was expanded off `left`, even where it ends in an error: several
/// layers share one bound on memory, and broken ones one on work.
pub(super) fn decompress_within(body: &[u8], left: &mut usize) -> Result<Vec<u8>, DecodeError> {
    let message: Compress<'_> = Reader::new(body).fields()?;
    if message.algo != 0 {
        return Err(DecodeError::UnknownAlgorithm(u64::from(message.algo)));
    }
    let mut plain = Vec::new();
    let outcome = inflate_into(&message.buf, *left, &mut plain);
    *left = left.saturating_sub(plain.len());
    outcome.map(|()| plain)
}

/// Expands a bare LZW stream to at most `len_max` bytes. Bytes after the end code are ignored.
///
/// # Errors
/// [`DecodeError::BrokenLzw`] or [`DecodeError::InflatedTooLong`].
pub fn inflate(lzw: &[u8], len_max: usize) -> Result<Vec<u8>, DecodeError> {
    let mut plain = Vec::new();
    inflate_into(lzw, len_max, &mut plain).map(|()| plain)
}

/// As [`inflate`]; after an error `plain` holds what was expanded until then.
fn inflate_into(mut lzw: &[u8], len_max: usize, plain: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut decoder = decode::Decoder::new(BitOrder::Lsb, LITERAL_WIDTH);
    loop {
        let filled = plain.len();
        // One byte of room past the bound tells "exactly full" from "too long".
        let room = STEP.max(filled / 2).min(len_max.saturating_add(1) - filled);
        plain.resize(filled + room, 0);
        let step = decoder.decode_bytes(lzw, &mut plain[filled..]);
        plain.truncate(filled + step.consumed_out);
        lzw = &lzw[step.consumed_in..];
        if plain.len() > len_max {
            return Err(DecodeError::InflatedTooLong(len_max));
        }
        match step.status {
            Ok(LzwStatus::Done) => return Ok(()),
            Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            Ok(_) | Err(_) => return Err(DecodeError::BrokenLzw),
        }
    }
}

/// `compress`.
#[derive(Debug, Default)]
struct Compress<'a> {
    algo: u8,
    buf: Cow<'a, [u8]>,
}

impl<'a> Fields<'a> for Compress<'a> {
    const NAMES: &'static [&'static str] = &["Algo", "Buf"];

    fn read_field(&mut self, index: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match index {
            0 => self.algo = reader.u8()?,
            _ => self.buf = reader.bytes()?.unwrap_or_default(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lzw: &[u8], len_max: usize, expected: Result<&[u8], DecodeError>) {
        assert_eq!(inflate(lzw, len_max).as_deref(), expected.as_ref().copied());
    }

    #[test]
    fn known_streams() {
        check(&[0x00, 0x03, 0x02], 100, Ok(b""));
        check(&[0x00, 0x83, 0x04, 0x04], 100, Ok(b"A"));
        // Bytes after the end code are nobody's business.
        check(&[0x00, 0x83, 0x04, 0x04, 0xff, 0xff], 100, Ok(b"A"));
    }

    #[test]
    fn the_end_code_is_mandatory() {
        check(&[], 100, Err(DecodeError::BrokenLzw));
        check(&[0x00, 0x83], 100, Err(DecodeError::BrokenLzw));
    }

    #[test]
    fn output_is_bounded_exactly() {
        let plain = vec![7; 100_000];
        let message = compress(&plain);
        assert!(message.len() < 1000);
        assert_eq!(decompress(&message[1..], plain.len()), Ok(plain.clone()));
        assert_eq!(
            decompress(&message[1..], plain.len() - 1),
            Err(DecodeError::InflatedTooLong(plain.len() - 1))
        );
    }

    #[test]
    fn only_lzw_is_known() {
        let mut message = compress(b"A");
        let algo = message.iter().position(|byte| *byte == 0).expect("Algo: 0");
        message[algo] = 1;
        assert_eq!(decompress(&message[1..], 10), Err(DecodeError::UnknownAlgorithm(1)));
    }
}
