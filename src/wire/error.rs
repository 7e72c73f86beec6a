//! Why bytes were refused.

/// Why one message, or one layer inside a datagram or stream, could not be decoded.
///
/// The message is dropped whole; nothing of it takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing where a type byte must be.
    #[error("missing message type")]
    Empty,
    /// A type byte that means nothing here: unknown, or of another layer or transport.
    #[error("message type {0} does not belong here")]
    UnexpectedType(u8),
    /// The bytes end inside a value.
    #[error("truncated: at least {missing} more bytes expected")]
    Truncated {
        /// How many bytes the value lacks, as far as seen.
        missing: u64,
    },
    /// A MessagePack value of the wrong kind.
    #[error("{expected} expected, found MessagePack byte 0x{found:02x}")]
    WrongKind {
        /// What the field holds.
        expected: &'static str,
        /// The first byte of the value found.
        found: u8,
    },
    /// An integer that does not fit its field.
    #[error("integer outside 0..={max}")]
    OutOfRange {
        /// Largest value the field takes.
        max: u64,
    },
    /// A field longer than its bound.
    #[error("{field} of {len} bytes is longer than {max}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length as announced.
        len: u64,
        /// Its bound.
        max: u64,
    },
    /// Unknown fields nested too deeply to be skipped.
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    /// The parts of a compound message end before its table does.
    #[error("compound message lacks its last {missing} of {count} parts")]
    CompoundTruncated {
        /// Parts not found.
        missing: usize,
        /// Parts announced.
        count: usize,
    },
    /// A datagram expanded to more messages than it may.
    #[error("datagram expands to more than {0} messages")]
    TooManyMessages(usize),
    /// A datagram with more compressed layers than it may have.
    #[error("datagram has more than {0} compressed layers")]
    TooManyCompressed(usize),
    /// A compression algorithm other than LZW.
    #[error("unknown compression algorithm {0}")]
    UnknownAlgorithm(u64),
    /// Bytes that are no LZW stream, or one without its end code.
    #[error("broken LZW stream")]
    BrokenLzw,
    /// An LZW stream that expands past its bound.
    #[error("decompresses to more than {0} bytes")]
    InflatedTooLong(usize),
}
