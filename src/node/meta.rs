//! Our mark in a member's meta: text, so that other programs' tools can show it.
//!
//! ```text
//! gossipykv/1 00112233445566ff formats=2-3 ttl names
//! kind        origin, 16 hex   the replication formats it speaks; 2 alone without the word
//!                                          it knows keys that expire
//!                                              its digests name the run that they are for
//! ```
//!
//! Serf shows the meta of a foreign member as its `role`. Words after the origin come in any order,
//! and unknown ones are passed over; the first two words never change.

use super::formats::Formats;
use crate::kv::OriginId;
use bytes::Bytes;

const KIND: &str = "gossipykv/1";
const FORMATS: &str = "formats=";
const TTL: &str = "ttl";
const NAMES: &str = "names";

/// The meta of a node of our kind.
#[must_use]
pub fn encode(origin: OriginId, formats: Formats) -> Bytes {
    let mut text = format!("{KIND} {:016x}", origin.0);
    if formats != Formats::UNTOLD {
        text.push_str(&format!(" {FORMATS}{formats}"));
    }
    if formats.know_ttl() {
        text.push_str(&format!(" {TTL}"));
    }
    if formats.know_whom() {
        text.push_str(&format!(" {NAMES}"));
    }
    text.into()
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

/// The formats that a member of our kind speaks. A range told in words that are not understood here
/// is [`Formats::STRANGE`]: such a member is known and gets nothing.
#[must_use]
pub fn formats(meta: &[u8]) -> Formats {
    let words = std::str::from_utf8(meta).unwrap_or_default().split(' ').skip(2);
    match words.filter_map(|word| word.strip_prefix(FORMATS)).next() {
        None => Formats::UNTOLD,
        Some(range) => Formats::parse(range).unwrap_or(Formats::STRANGE),
    }
}

/// Whether a member of our kind knows keys that expire.
#[must_use]
pub fn knows_ttl(meta: &[u8]) -> bool {
    has_word(meta, TTL)
}

/// Whether the digests of a member of our kind name the run that they are for.
#[must_use]
pub fn names_runs(meta: &[u8]) -> bool {
    has_word(meta, NAMES)
}

fn has_word(meta: &[u8], word: &str) -> bool {
    let mut words = std::str::from_utf8(meta).unwrap_or_default().split(' ').skip(2);
    words.any(|told| told == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_mark_is_ours() {
        let own = encode(OriginId(0xff), Formats::SPOKEN);
        assert_eq!(origin(&own), Some(OriginId(0xff)));
        assert_eq!(origin(b"gossipykv/1 00000000000000ff zone=a"), Some(OriginId(0xff)));
        for foreign in [&b""[..], b"\xff\x80", b"web", b"gossipykv/1", b"gossipykv/1 ff"] {
            assert_eq!(origin(foreign), None);
        }
        assert_eq!(origin(b"gossipykv/1 0000000000000000"), None);
        assert_eq!(origin(b"gossipykv/2 00000000000000ff"), None);
    }

    #[test]
    fn the_formats_are_told_and_two_alone_by_saying_nothing() {
        let told = |formats| encode(OriginId(0xff), formats);
        assert_eq!(
            told(Formats { first: 2, last: 3 }),
            "gossipykv/1 00000000000000ff formats=2-3 ttl names"
        );
        assert_eq!(told(Formats::UNTOLD), "gossipykv/1 00000000000000ff");
        for range in [Formats::SPOKEN, Formats::UNTOLD, Formats { first: 3, last: 4 }] {
            assert_eq!(formats(&told(range)), range);
            assert_eq!(knows_ttl(&told(range)), range != Formats::UNTOLD);
            assert_eq!(names_runs(&told(range)), range != Formats::UNTOLD);
        }
        assert!(!knows_ttl(b"gossipykv/1 00000000000000ff formats=2-3"), "one that came before");
        assert!(!names_runs(b"gossipykv/1 00000000000000ff formats=2-3 ttl"), "and one later");
        let later = b"gossipykv/1 00000000000000ff zone=a formats=4-9 more";
        assert_eq!(formats(later), Formats { first: 4, last: 9 });
        assert_eq!(formats(b"gossipykv/1 00000000000000ff formats=2,4"), Formats::STRANGE);
    }
}
