//! Our mark in a member's meta: text, so that other programs' tools can show it.
//!
//! ```text
//! gossipykv/1 00112233445566ff        our kind, format version; origin as 16 hex digits
//! ```
//!
//! Serf shows the meta of a foreign member as its `role`. Words after these are for later
//! versions and are passed over.

use crate::kv::OriginId;
use bytes::Bytes;

const KIND: &str = "gossipykv/1";

/// The meta of a node of our kind.
#[must_use]
pub fn encode(origin: OriginId) -> Bytes {
    format!("{KIND} {:016x}", origin.0).into()
}

/// The origin in a member's meta, or `None` when it is not of our kind.
#[must_use]
pub fn origin(meta: &[u8]) -> Option<OriginId> {
    let text = std::str::from_utf8(meta).ok()?;
    let mut words = text.split(' ');
    if words.next() != Some(KIND) {
        return None;
    }
    let hex = words.next().filter(|hex| hex.len() == 16)?;
    u64::from_str_radix(hex, 16).ok().filter(|origin| *origin != 0).map(OriginId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_mark_is_ours() {
        assert_eq!(origin(&encode(OriginId(0xff))), Some(OriginId(0xff)));
        assert_eq!(origin(b"gossipykv/1 00000000000000ff zone=a"), Some(OriginId(0xff)));
        for foreign in [&b""[..], b"\xff\x80", b"web", b"gossipykv/1", b"gossipykv/1 ff"] {
            assert_eq!(origin(foreign), None);
        }
        assert_eq!(origin(b"gossipykv/1 0000000000000000"), None);
        assert_eq!(origin(b"gossipykv/2 00000000000000ff"), None);
    }
}
