//! How writes are named and ordered.
//!
//! A write has a [`Stamp`], which decides who wins, and a [`Dot`], which says which write of which
//! process it is. Both carry the same origin.

use std::fmt;
use std::str::FromStr;

/// One run of one process: a random number drawn at start. Zero is never drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub u64);

/// Hybrid logical time: 48 bits of milliseconds since the Unix epoch, then a 16-bit counter.
///
/// Kulkarni et al., "Logical Physical Clocks" (2014), packed as in section 6.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HlcTime(pub u64);

impl HlcTime {
    /// The first time of the millisecond `millis`.
    #[must_use]
    pub const fn from_millis(millis: u64) -> HlcTime {
        HlcTime(millis << 16)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }
}

/// The total order of writes: later time wins, then the higher origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// When, by the writer's hybrid clock.
    pub time: HlcTime,
    /// By whom.
    pub origin: OriginId,
}

/// The version as users see it: 16 hex digits of time, `-`, 16 hex digits of origin.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.time.0, self.origin.0)
    }
}

/// A text that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version is 16 hex digits, '-', 16 hex digits")]
pub struct VersionError;

impl FromStr for Stamp {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Stamp, VersionError> {
        let (time, origin) = text.split_once('-').ok_or(VersionError)?;
        let number = |hex: &str| {
            let digits = hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit());
            if digits { u64::from_str_radix(hex, 16).ok() } else { None }
        };
        Ok(Stamp {
            time: HlcTime(number(time).ok_or(VersionError)?),
            origin: OriginId(number(origin).ok_or(VersionError)?),
        })
    }
}

/// The `seq`-th write of a process, counted from 1 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Whose write.
    pub origin: OriginId,
    /// Which of them.
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_text_round_trips_and_rejects_the_rest() {
        let stamp = Stamp { time: HlcTime(0x0123_4567_89ab_cdef), origin: OriginId(0xfe) };
        let text = stamp.to_string();
        assert_eq!(text, "0123456789abcdef-00000000000000fe");
        assert_eq!(text.parse(), Ok(stamp));
        for bad in ["", "-", "1-2", "+123456789abcdef-00000000000000fe"] {
            assert_eq!(bad.parse::<Stamp>(), Err(VersionError), "{bad}");
        }
    }
}
