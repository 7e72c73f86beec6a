//! The label: a cluster's name in clear before every datagram and every dialled stream.
//!
//! ```text
//! f4 | len u8 (1..=255) | label
//! ```
//!
//! Encrypted traffic authenticates it, so that two clusters with the same key stay apart.

use super::codec::type_byte::HAS_LABEL;
use crate::limits::LABEL_LEN_MAX;

/// Bytes the label costs: none when it is empty.
#[must_use]
pub fn header_len(label: &[u8]) -> usize {
    if label.is_empty() { 0 } else { 2 + label.len() }
}

/// Appends the header; nothing for an empty label.
///
/// # Panics
/// When the label is longer than [`LABEL_LEN_MAX`]: configuration is checked before it comes here.
pub fn write(label: &[u8], out: &mut Vec<u8>) {
    if label.is_empty() {
        return;
    }
    let len = u8::try_from(label.len()).expect("a configured label has at most 255 bytes");
    out.extend_from_slice(&[HAS_LABEL, len]);
    out.extend_from_slice(label);
}

/// A header at the front of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header<'a> {
    /// The bytes do not begin with one.
    Absent,
    /// They do; what follows begins at `end`.
    Label {
        /// The label, not empty.
        label: &'a [u8],
        /// Length of the header.
        end: usize,
    },
    /// They begin with one that says its label is empty, which no sender does.
    Malformed,
    /// They begin with one and end inside it.
    Incomplete,
}

/// Reads the header at the front of `bytes`.
#[must_use]
pub fn read(bytes: &[u8]) -> Header<'_> {
    match bytes {
        [HAS_LABEL] => Header::Incomplete,
        [HAS_LABEL, 0, ..] => Header::Malformed,
        [HAS_LABEL, len, rest @ ..] => match rest.get(..usize::from(*len)) {
            Some(label) => Header::Label { label, end: 2 + label.len() },
            None => Header::Incomplete,
        },
        _ => Header::Absent,
    }
}

const _: () = assert!(LABEL_LEN_MAX == u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        for (bytes, expected) in [
            (&b""[..], Header::Absent),
            (b"\x00\x80", Header::Absent),
            (b"\xf4", Header::Incomplete),
            (b"\xf4\x00abc", Header::Malformed),
            (b"\xf4\x03ab", Header::Incomplete),
            (b"\xf4\x03abc", Header::Label { label: b"abc", end: 5 }),
            (b"\xf4\x03abcd", Header::Label { label: b"abc", end: 5 }),
        ] {
            assert_eq!(read(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn written_headers_are_read() {
        for label in [vec![], vec![1], vec![2; 255]] {
            let mut out = Vec::new();
            write(&label, &mut out);
            assert_eq!(out.len(), header_len(&label));
            if !label.is_empty() {
                assert_eq!(read(&out), Header::Label { label: &label, end: out.len() });
            }
        }
    }
}
