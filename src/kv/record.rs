//! One version of one key, packed into one allocation.
//!
//! ```text
//!  0        8         16      22       25            29         31       32
//!  | time   | origin  | seq   | check  | value_len   | key_len  | ct_len | key | ct | value |
//!    u64      u64       u48     u24      u32           u16        u8
//! ```
//!
//! Integers are big-endian. `value_len` of `u32::MAX` marks a tombstone: no content type, no
//! value. Bit 15 of `key_len` marks a record that expires: 4 bytes more stand before its key, the
//! seconds that it lasts (`kv::ttl`). The same bytes are the wire form: records concatenate,
//! each tells its own length.
//!
//! The check is what finds damage, in memory or on the way, and two contents under one stamp: the
//! lower 24 bits of xxh3 over the bytes before it, seeded with xxh3 over those behind it. It is no
//! proof against a forger.
//!
//! Bounds: key 1..=[`KEY_LEN_MAX`] bytes of UTF-8; content type at most [`CONTENT_TYPE_LEN_MAX`]
//! bytes of printable ASCII, none when empty; value at most [`VALUE_LEN_HARD_MAX`] bytes; `seq`
//! and `origin` not 0, `seq` at most [`SEQ_MAX`]; seconds 1..=[`TTL_SECONDS_MAX`].

use super::version::{Dot, HlcTime, OriginId, Stamp};
use crate::limits::{CONTENT_TYPE_LEN_MAX, KEY_LEN_MAX, TTL_SECONDS_MAX, VALUE_LEN_HARD_MAX};
use bytes::Bytes;
use std::fmt;
use std::ops::Range;
use triomphe::{Arc, ThinArc};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Bytes before the key, or before the seconds that the record lasts.
pub const HEAD_LEN: usize = 32;
/// Bytes of these.
const TTL_LEN: usize = 4;
/// Longest record in bytes.
pub const RECORD_LEN_MAX: usize =
    HEAD_LEN + TTL_LEN + KEY_LEN_MAX + CONTENT_TYPE_LEN_MAX + VALUE_LEN_HARD_MAX;

const TIME: Range<usize> = 0..8;
const ORIGIN: Range<usize> = 8..16;
const SEQ: Range<usize> = 16..22;
const CHECK: Range<usize> = 22..25;
const VALUE_LEN: Range<usize> = 25..29;
const KEY_LEN: Range<usize> = 29..31;
const CONTENT_TYPE_LEN: usize = 31;
const TTL: Range<usize> = HEAD_LEN..HEAD_LEN + TTL_LEN;
const TOMBSTONE: u32 = u32::MAX;
/// The bit of the key's length that says that the record expires.
const EXPIRES: u16 = 1 << 15;

/// Highest number of a write: at a million a second, nine years away.
pub const SEQ_MAX: u64 = (1 << 48) - 1;

/// A value and its content type.
pub type Content<'a> = (&'a [u8], Option<&'a str>);

/// One version of one key. Cloning shares the bytes.
///
/// The handle is 8 bytes, half of an `Arc<[u8]>`: the map holds one for every key.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(ThinArc<(), u8>);

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end before the record does.
    #[error("a record is cut short: {have} bytes of {need}")]
    Truncated {
        /// Bytes present.
        have: usize,
        /// Bytes the record has, as far as can be told.
        need: usize,
    },
    /// The key is empty or too long.
    #[error("a key of {0} bytes; 1 to {KEY_LEN_MAX} are allowed")]
    KeyLen(usize),
    /// The key is not UTF-8.
    #[error("a key that is not UTF-8")]
    KeyNotUtf8,
    /// The content type holds something else than printable ASCII.
    #[error("a content type that is not printable ASCII")]
    ContentType,
    /// The value is too long.
    #[error("a value of {0} bytes; at most {VALUE_LEN_HARD_MAX} are allowed")]
    ValueLen(usize),
    /// The origin is zero, which no process draws.
    #[error("origin zero")]
    Origin,
    /// The number of the write is zero; they count from 1.
    #[error("write number zero")]
    Seq,
    /// A tombstone with a content type.
    #[error("a tombstone with a content type")]
    TypedTombstone,
    /// It lasts for no time, or for too long.
    #[error("a record that expires after {0} s; 1 to {TTL_SECONDS_MAX} are allowed")]
    Ttl(u32),
    /// The check is another: the record was damaged.
    #[error("a record that was damaged: its check does not fit")]
    Check,
}

impl Record {
    /// The version `stamp` of `key`, its origin's write number `seq`; `content` of `None` is a
    /// tombstone.
    ///
    /// # Panics
    /// When a length or the number is out of the bounds of this module; callers have checked what
    /// they were given.
    #[must_use]
    pub fn new(stamp: Stamp, seq: u64, key: &[u8], content: Option<Content<'_>>) -> Record {
        Draft::new(key, content, None).stamped(stamp, seq)
    }

    /// Reads the record at the front of `bytes`; returns it and its length.
    ///
    /// # Errors
    /// The first rule of this module that is broken. Nothing is allocated then.
    pub fn read(bytes: &[u8]) -> Result<(Record, usize), RecordError> {
        let layout = Layout::check(bytes)?;
        let all = &bytes[..layout.len()];
        check_key(&all[layout.key()])?;
        if !is_printable(&all[layout.content_type()]) {
            return Err(RecordError::ContentType);
        }
        if all[CHECK] != check(all, body_hash(all)) {
            return Err(RecordError::Check);
        }
        Ok((Record(ThinArc::from_header_and_slice((), all)), layout.len()))
    }

    /// The record as it goes over the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// The same bytes sharing this record's memory.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    /// The check: equal for equal versions, other for other contents.
    #[must_use]
    pub fn check(&self) -> u32 {
        u24_at(self.as_bytes(), CHECK)
    }

    /// Whether the bytes are still those that were written. Everything else here takes that for
    /// granted.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let bytes = self.as_bytes();
        Layout::of(bytes).len() == bytes.len() && check_of(bytes) == Some(self.check())
    }

    /// Everything that tells this version from any other: the stamp, the number and the check.
    pub(super) fn version_bytes(&self) -> &[u8] {
        &self.as_bytes()[..CHECK.end]
    }

    /// The key: UTF-8.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.as_bytes()[self.layout().key()]
    }

    /// The value, `None` for a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        let layout = self.layout();
        layout.value_len.map(|_| &self.as_bytes()[layout.value()])
    }

    /// The value sharing this record's memory, `None` for a tombstone.
    #[must_use]
    pub fn value_bytes(&self) -> Option<Bytes> {
        let layout = self.layout();
        layout.value_len.map(|_| self.to_bytes().slice(layout.value()))
    }

    /// The content type given with the value.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        let text = &self.as_bytes()[self.layout().content_type()];
        if text.is_empty() { None } else { std::str::from_utf8(text).ok() }
    }

    /// When it was written and by whom: decides which version wins.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let bytes = self.as_bytes();
        Stamp { time: HlcTime(u64_at(bytes, TIME)), origin: OriginId(u64_at(bytes, ORIGIN)) }
    }

    /// Which write it was.
    #[must_use]
    pub fn dot(&self) -> Dot {
        let bytes = self.as_bytes();
        Dot { origin: OriginId(u64_at(bytes, ORIGIN)), seq: u64_at(bytes, SEQ) }
    }

    /// Whether it marks a delete, or an expiry.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.layout().value_len.is_none()
    }

    /// The seconds after its time that it lasts, if it does not stay for good.
    #[must_use]
    pub fn ttl(&self) -> Option<u32> {
        self.layout().expires.then(|| u32_at(self.as_bytes(), TTL))
    }

    fn layout(&self) -> Layout {
        Layout::of(self.as_bytes())
    }
}

impl AsRef<[u8]> for Record {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("stamp", &format_args!("{}", self.stamp()))
            .field("seq", &self.dot().seq)
            .field("value_len", &self.layout().value_len)
            .finish_non_exhaustive()
    }
}

/// The check that the record at the front of `bytes` ought to carry; `None` when no whole record
/// is there.
#[must_use]
pub fn check_of(bytes: &[u8]) -> Option<u32> {
    let head = bytes.first_chunk::<HEAD_LEN>()?;
    let all = bytes.get(..Layout::of(head).len())?;
    Some(u24_at(&check(all, body_hash(all)), 0..3))
}

/// The hash of what does not change when a record is stamped.
fn body_hash(all: &[u8]) -> u64 {
    xxh3_64(&all[CHECK.end..])
}

fn check(all: &[u8], body_hash: u64) -> [u8; 3] {
    let [.., a, b, c] = xxh3_64_with_seed(&all[..CHECK.start], body_hash).to_be_bytes();
    [a, b, c]
}

/// A record that waits for its stamp: built and hashed before any lock is taken, stamped under it.
pub(super) struct Draft {
    packed: ThinArc<(), u8>,
    body_hash: u64,
}

impl Draft {
    /// Copies key and content into place.
    pub(super) fn new(key: &[u8], content: Option<Content<'_>>, ttl: Option<u32>) -> Draft {
        let (value, content_type) = content.unwrap_or((&[], None));
        let content_type = content_type.unwrap_or_default().as_bytes();
        assert!((1..=KEY_LEN_MAX).contains(&key.len()), "the caller has checked the key");
        assert!(content_type.len() <= CONTENT_TYPE_LEN_MAX, "the caller has checked the type");
        assert!(value.len() <= VALUE_LEN_HARD_MAX, "the caller has checked the value");
        let is_ttl = |ttl| (1..=TTL_SECONDS_MAX).contains(&ttl);
        assert!(ttl.is_none_or(is_ttl), "the caller has checked how long it lasts");
        let layout = Layout {
            key_len: key.len(),
            content_type_len: content_type.len(),
            value_len: content.map(|_| value.len()),
            expires: ttl.is_some(),
        };
        let mut packed = Vec::with_capacity(layout.len());
        packed.extend_from_slice(&layout.unstamped_head());
        packed.extend(ttl.iter().flat_map(|ttl| ttl.to_be_bytes()));
        packed.extend_from_slice(key);
        packed.extend_from_slice(content_type);
        packed.extend_from_slice(value);
        let body_hash = body_hash(&packed);
        Draft { packed: ThinArc::from_header_and_slice((), &packed), body_hash }
    }

    /// Length of the record in bytes.
    pub(super) fn len(&self) -> usize {
        self.packed.slice.len()
    }

    /// The finished record.
    pub(super) fn stamped(mut self, stamp: Stamp, seq: u64) -> Record {
        assert!(seq <= SEQ_MAX, "nobody writes that often");
        self.packed.with_arc_mut(|packed| {
            let bytes = Arc::get_mut(packed).expect("a draft is never cloned").slice_mut();
            bytes[TIME].copy_from_slice(&stamp.time.0.to_be_bytes());
            bytes[ORIGIN].copy_from_slice(&stamp.origin.0.to_be_bytes());
            bytes[SEQ].copy_from_slice(&seq.to_be_bytes()[2..]);
            let check = check(bytes, self.body_hash);
            bytes[CHECK].copy_from_slice(&check);
        });
        Record(self.packed)
    }
}

/// Where the parts of a record lie.
#[derive(Clone, Copy)]
struct Layout {
    key_len: usize,
    content_type_len: usize,
    /// `None` for a tombstone.
    value_len: Option<usize>,
    /// Whether the seconds that it lasts stand before the key.
    expires: bool,
}

impl Layout {
    /// Reads the lengths of a well-formed record.
    fn of(bytes: &[u8]) -> Layout {
        let (value_len, key_len) = (u32_at(bytes, VALUE_LEN), u16_at(bytes, KEY_LEN));
        Layout {
            key_len: usize::from(key_len & !EXPIRES),
            content_type_len: usize::from(bytes[CONTENT_TYPE_LEN]),
            value_len: (value_len != TOMBSTONE).then_some(value_len as usize),
            expires: key_len & EXPIRES != 0,
        }
    }

    /// Reads the lengths of a record that may be anything, and checks all of its head.
    fn check(bytes: &[u8]) -> Result<Layout, RecordError> {
        let have = bytes.len();
        if have < HEAD_LEN {
            return Err(RecordError::Truncated { have, need: HEAD_LEN });
        }
        let layout = Layout::of(bytes);
        if !(1..=KEY_LEN_MAX).contains(&layout.key_len) {
            return Err(RecordError::KeyLen(layout.key_len));
        }
        if let Some(len) = layout.value_len.filter(|len| *len > VALUE_LEN_HARD_MAX) {
            return Err(RecordError::ValueLen(len));
        }
        if layout.value_len.is_none() && layout.content_type_len > 0 {
            return Err(RecordError::TypedTombstone);
        }
        if u64_at(bytes, ORIGIN) == 0 {
            return Err(RecordError::Origin);
        }
        if u64_at(bytes, SEQ) == 0 {
            return Err(RecordError::Seq);
        }
        if have < layout.len() {
            return Err(RecordError::Truncated { have, need: layout.len() });
        }
        let ttl = if layout.expires { u32_at(bytes, TTL) } else { 1 };
        if !(1..=TTL_SECONDS_MAX).contains(&ttl) {
            return Err(RecordError::Ttl(ttl));
        }
        Ok(layout)
    }

    /// A head with these lengths, and zeros for stamp and number.
    fn unstamped_head(self) -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        let value_len = self.value_len.map_or(TOMBSTONE, |len| len as u32);
        head[VALUE_LEN].copy_from_slice(&value_len.to_be_bytes());
        let expires = if self.expires { EXPIRES } else { 0 };
        head[KEY_LEN].copy_from_slice(&(self.key_len as u16 | expires).to_be_bytes());
        head[CONTENT_TYPE_LEN] = self.content_type_len as u8;
        head
    }

    fn key(self) -> Range<usize> {
        let start = if self.expires { TTL.end } else { HEAD_LEN };
        start..start + self.key_len
    }

    fn content_type(self) -> Range<usize> {
        let start = self.key().end;
        start..start + self.content_type_len
    }

    fn value(self) -> Range<usize> {
        let start = self.content_type().end;
        start..start + self.value_len.unwrap_or(0)
    }

    fn len(self) -> usize {
        self.value().end
    }
}

/// Checks what a key may be.
pub(super) fn check_key(key: &[u8]) -> Result<(), RecordError> {
    if !(1..=KEY_LEN_MAX).contains(&key.len()) {
        return Err(RecordError::KeyLen(key.len()));
    }
    std::str::from_utf8(key).map(drop).map_err(|_| RecordError::KeyNotUtf8)
}

/// Whether a content type can stand in an HTTP header as it is.
pub(super) fn is_printable(content_type: &[u8]) -> bool {
    content_type.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

fn u64_at(bytes: &[u8], at: Range<usize>) -> u64 {
    bytes[at].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn u32_at(bytes: &[u8], at: Range<usize>) -> u32 {
    bytes[at].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn u24_at(bytes: &[u8], at: Range<usize>) -> u32 {
    bytes[at].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn u16_at(bytes: &[u8], at: Range<usize>) -> u16 {
    bytes[at].iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte))
}

#[cfg(test)]
impl Record {
    /// Bytes that were a record once.
    pub(crate) fn damaged(bytes: &[u8]) -> Record {
        Record(ThinArc::from_header_and_slice((), bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp() -> Stamp {
        Stamp { time: HlcTime(0x0102_0304_0506_0708), origin: OriginId(0x1112_1314_1516_1718) }
    }

    #[test]
    fn the_bytes_are_those_of_the_picture() {
        let record = Record::new(stamp(), 0x21, b"key", Some((b"value", Some("a/b"))));
        let mut expected = vec![1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];
        expected.extend([0x18, 0, 0, 0, 0, 0, 0x21, 0x2e, 0xdf, 0x20, 0, 0, 0, 5, 0, 3, 3]);
        expected.extend(b"keya/bvalue");
        assert_eq!(record.as_bytes(), expected);
        let tombstone = Record::new(stamp(), 1, b"k", None);
        assert_eq!(tombstone.as_bytes()[25..], [255, 255, 255, 255, 0, 1, 0, b'k']);
        let lasting = Record::lasting(stamp(), 1, b"k", Some((b"v", None)), 0x0102_0304);
        assert_eq!(lasting.as_bytes()[25..], [0, 0, 0, 1, 0x80, 1, 0, 1, 2, 3, 4, b'k', b'v']);
        assert_eq!((lasting.ttl(), record.ttl()), (Some(0x0102_0304), None));
    }

    #[test]
    fn an_empty_value_is_no_tombstone() {
        let record = Record::new(stamp(), 1, b"k", Some((b"", Some(""))));
        assert_eq!(record.value(), Some(&b""[..]));
        assert_eq!(record.content_type(), None);
        assert!(!record.is_tombstone());
        assert_eq!(Record::new(stamp(), 1, b"k", None).value_bytes(), None);
    }

    #[test]
    fn a_value_is_shared_not_copied() {
        let record = Record::new(stamp(), 1, b"k", Some((b"value", None)));
        let shared = record.value_bytes().expect("a value");
        assert_eq!(shared.as_ptr(), record.value().expect("a value").as_ptr());
    }

    /// Gives the record at the front of `bytes` the check it ought to have.
    fn mend(bytes: &mut [u8]) {
        if let Some(check) = check_of(bytes) {
            bytes[CHECK].copy_from_slice(&check.to_be_bytes()[1..]);
        }
    }

    /// Reads a good record with one byte changed, and the check with it.
    fn read_with(at: usize, byte: u8) -> Result<(Record, usize), RecordError> {
        let record = Record::new(stamp(), 1, b"key", Some((b"v", Some("t"))));
        let mut bytes = record.as_bytes().to_vec();
        bytes[at] = byte;
        mend(&mut bytes);
        Record::read(&bytes)
    }

    #[test]
    fn every_rule_is_checked() {
        assert_eq!(read_with(30, 0), Err(RecordError::KeyLen(0)));
        assert_eq!(read_with(29, 2), Err(RecordError::KeyLen(515)));
        assert_eq!(read_with(25, 2), Err(RecordError::ValueLen((2 << 24) + 1)));
        assert_eq!(read_with(21, 0), Err(RecordError::Seq));
        assert_eq!(read_with(28, 2), Err(RecordError::Truncated { have: 37, need: 38 }));
        assert_eq!(read_with(32, 0xff), Err(RecordError::KeyNotUtf8));
        for ttl in [0, TTL_SECONDS_MAX + 1] {
            let record = Record::lasting(stamp(), 1, b"key", None, 1);
            let mut bytes = record.as_bytes().to_vec();
            bytes[TTL].copy_from_slice(&ttl.to_be_bytes());
            mend(&mut bytes);
            assert_eq!(Record::read(&bytes), Err(RecordError::Ttl(ttl)));
        }
        assert_eq!(read_with(35, b'\n'), Err(RecordError::ContentType));

        let origin = Stamp { origin: OriginId(0), ..stamp() };
        let record = Record::new(origin, 1, b"k", None);
        assert_eq!(Record::read(record.as_bytes()), Err(RecordError::Origin));

        let mut typed_tombstone = Record::new(stamp(), 1, b"kt", None).as_bytes().to_vec();
        (typed_tombstone[30], typed_tombstone[31]) = (1, 1);
        assert_eq!(Record::read(&typed_tombstone), Err(RecordError::TypedTombstone));
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let value = prop::collection::vec(any::<u8>(), 0..300);
        let content = prop::option::of((value, prop::option::of("[ -~]{1,255}")));
        let ttl = prop::option::of(1..=TTL_SECONDS_MAX);
        (any::<u64>(), 1..=u64::MAX, 1..=SEQ_MAX, "\\PC{1,40}", content, ttl).prop_map(
            |(time, origin, seq, key, content, ttl)| {
                let stamp = Stamp { time: HlcTime(time), origin: OriginId(origin) };
                let content = content.as_ref().map(|(v, ct)| (&v[..], ct.as_deref()));
                Draft::new(key.as_bytes(), content, ttl).stamped(stamp, seq)
            },
        )
    }

    proptest! {
        #[test]
        fn a_bit_that_flips_is_found(record in any_record(), at in any::<prop::sample::Index>()) {
            prop_assert!(record.is_sound());
            let mut bytes = record.as_bytes().to_vec();
            let at = at.index(8 * bytes.len());
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert!(Record::read(&bytes).is_err());
            prop_assert!(!Record::damaged(&bytes).is_sound());
        }

        #[test]
        fn records_concatenate_and_delimit_themselves(
            records in prop::collection::vec(any_record(), 1..5)
        ) {
            let joined = records.iter().map(Record::as_bytes).collect::<Vec<_>>().concat();
            let mut rest = &joined[..];
            for record in &records {
                let (read, len) = Record::read(rest).expect("a record");
                prop_assert_eq!(&read, record);
                prop_assert_eq!(read.value(), record.value());
                prop_assert_eq!(read.content_type(), record.content_type());
                rest = &rest[len..];
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn a_record_cut_anywhere_is_truncated(record in any_record(), cut in any::<usize>()) {
            let bytes = &record.as_bytes()[..cut % record.as_bytes().len()];
            let truncated = matches!(Record::read(bytes), Err(RecordError::Truncated { .. }));
            prop_assert!(truncated);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_what_reads_is_canonical(
            mut bytes in prop::collection::vec(any::<u8>(), 0..700),
            small in any::<[u8; 8]>(),
            shape in any::<bool>(),
        ) {
            // Lengths that fit are rare among random bytes: half of the cases get some.
            if let (true, Some(lens)) = (shape, bytes.get_mut(25..32)) {
                let tombstone = small[0] & 3 == 0;
                let high = if tombstone { [255; 4] } else { [0, 0, 0, small[1]] };
                lens[..4].copy_from_slice(&high);
                lens[4..].copy_from_slice(&[small[4] & 0x80, small[2] & 15, small[3] & 1]);
                bytes[32..].iter_mut().for_each(|byte| *byte &= 0x7f);
                bytes[32..].iter_mut().take(2).for_each(|byte| *byte = 0);
            }
            mend(&mut bytes);
            if let Ok((record, len)) = Record::read(&bytes) {
                let content = record.value().map(|value| (value, record.content_type()));
                let again = Draft::new(record.key(), content, record.ttl());
                let again = again.stamped(record.stamp(), record.dot().seq);
                prop_assert_eq!(again.as_bytes(), &bytes[..len]);
            }
        }
    }
}
