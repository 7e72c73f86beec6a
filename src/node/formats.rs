//! Which replication formats a node reads and writes, and which two nodes have in common.
//!
//! Each node tells its range in its meta (`formats=2-3`). To each peer goes the lowest format that
//! can say a message and that both read; what the peer would not understand is left out. Two whose
//! ranges do not overlap say nothing to each other. `docs/replication.md` has the rule for changes.

use std::fmt;

/// The oldest format of which anything is known: what a member speaks that tells no range.
pub const OLDEST: u8 = 2;

/// A range of formats, from the lowest to the highest that is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Formats {
    /// The lowest.
    pub first: u8,
    /// The highest, not below the lowest.
    pub last: u8,
}

impl Formats {
    /// What this program speaks: the format before the current one, and the current one.
    pub const SPOKEN: Formats = if cfg!(feature = "next-format") {
        Formats { first: 3, last: 4 }
    } else {
        Formats { first: 2, last: 3 }
    };
    /// What this source can say, spoken or not.
    pub const KNOWN: Formats = Formats { first: OLDEST, last: Formats::SPOKEN.last };
    /// What a member speaks that tells no range.
    pub const UNTOLD: Formats = Formats { first: OLDEST, last: OLDEST };
    /// What a member speaks that tells its range in words unknown here: nothing we know of.
    pub const STRANGE: Formats = Formats { first: 0, last: 0 };

    /// One format.
    #[must_use]
    pub const fn only(format: u8) -> Formats {
        Formats { first: format, last: format }
    }

    /// Whether who speaks these knows keys that expire. That is told in a word of its own, as the
    /// first that spoke the newer ones did not.
    #[must_use]
    pub fn know_ttl(self) -> bool {
        self.last > OLDEST
    }

    /// Whether who speaks these can say whom a digest is for. That is told in a word of its own.
    #[must_use]
    pub fn know_whom(self) -> bool {
        self.last > OLDEST
    }

    /// Whether `format` is read and written.
    #[must_use]
    pub fn contains(self, format: u8) -> bool {
        (self.first..=self.last).contains(&format)
    }

    /// What both read and write, if anything.
    #[must_use]
    pub fn common(self, other: Formats) -> Option<Formats> {
        let both = Formats { first: self.first.max(other.first), last: self.last.min(other.last) };
        (both.first <= both.last).then_some(both)
    }

    /// Reads what [`Display`](fmt::Display) writes: `2-3`, or `3` for one format alone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Formats> {
        // Digits only: the standard reading takes a sign, too.
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
            text.parse().ok().filter(|_| is_plain)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let formats = Formats { first: number(first)?, last: number(last)? };
        (formats.first <= formats.last).then_some(formats)
    }
}

impl Default for Formats {
    fn default() -> Formats {
        Formats::SPOKEN
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            &Formats::STRANGE => f.write_str("unknown"),
            Formats { first, last } if first == last => write!(f, "{first}"),
            Formats { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_it_is_written() {
        for formats in [Formats::SPOKEN, Formats::only(7), Formats { first: 1, last: 255 }] {
            assert_eq!(Formats::parse(&formats.to_string()), Some(formats));
        }
        for strange in ["", "-", "3-2", "2-", "-3", "2-3-4", "256", "+2", "02", "0", "0-3", "2,3"] {
            assert_eq!(Formats::parse(strange), None, "{strange:?}");
        }
        assert_eq!(Formats::STRANGE.to_string(), "unknown");
    }

    #[test]
    fn two_ranges_have_in_common_what_both_hold() {
        let range = |first, last| Formats { first, last };
        assert_eq!(range(2, 3).common(range(3, 4)), Some(range(3, 3)));
        assert_eq!(range(2, 5).common(range(3, 4)), Some(range(3, 4)));
        assert_eq!(range(2, 2).common(range(3, 4)), None);
        assert_eq!(range(2, 255).common(Formats::STRANGE), None);
    }
}
