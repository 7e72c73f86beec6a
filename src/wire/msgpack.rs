//! MessagePack as memberlist's Go codecs speak it.
//!
//! Out: maps with sorted keys, strings and bytes alike in the old specification's raw family
//! (`fixstr`, `str16`, `str32`; never `str8`, never `bin`, which old peers refuse), nil for an
//! absent byte slice. In: every form go-msgpack 2 takes, see `docs/wire.md`. No length read from
//! the wire is allocated before its bytes are there.

use super::error::DecodeError;
use super::message::NodeName;
use crate::limits::{MSGPACK_DEPTH_MAX, NODE_NAME_LEN_MAX};
use bytes::Bytes;
use rmp::Marker;
use std::borrow::Cow;

/// A struct that travels as a map (or, inbound only, as an array in declaration order).
pub(super) trait Fields<'a>: Default {
    /// Field names in the order Go declares them.
    const NAMES: &'static [&'static str];

    /// Reads the value of field `index` of [`Fields::NAMES`].
    fn read_field(&mut self, index: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError>;
}

/// Appends values to a growing message.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    /// A message that begins with its type byte.
    pub(super) fn message(type_byte: u8, capacity: usize) -> Writer {
        let mut bytes = Vec::with_capacity(capacity + 1);
        bytes.push(type_byte);
        Writer(bytes)
    }

    /// The header of a map of at most 15 entries: no struct of the protocol has more.
    pub(super) fn map(&mut self, n_fields: u8) {
        debug_assert!(n_fields < 16);
        self.0.push(Marker::FixMap(n_fields).to_u8());
    }

    /// A field name.
    pub(super) fn key(&mut self, name: &'static str) -> &mut Writer {
        self.raw(name.as_bytes());
        self
    }

    /// Bytes or a string, in the shortest form of the raw family.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.raw_header(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// The header of `len` raw bytes that follow.
    pub(super) fn raw_header(&mut self, len: usize) {
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(short), _) if short < 32 => self.0.push(Marker::FixStr(short).to_u8()),
            (_, Ok(medium)) => {
                self.0.push(Marker::Str16.to_u8());
                self.0.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                self.0.push(Marker::Str32.to_u8());
                self.0.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
            }
        }
    }

    /// Bytes, or nil.
    pub(super) fn raw_or_nil(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.raw(bytes),
            None => self.0.push(Marker::Null.to_u8()),
        }
    }

    /// A boolean.
    pub(super) fn bool(&mut self, value: bool) {
        self.0.push(if value { Marker::True } else { Marker::False }.to_u8());
    }

    /// A field of a Go unsigned type: the narrowest unsigned form.
    pub(super) fn uint(&mut self, value: u32) {
        if value < 128 {
            self.0.push(value.to_le_bytes()[0]);
        } else if let Ok(value) = u8::try_from(value) {
            self.0.extend_from_slice(&[Marker::U8.to_u8(), value]);
        } else if let Ok(value) = u16::try_from(value) {
            self.0.push(Marker::U16.to_u8());
            self.0.extend_from_slice(&value.to_be_bytes());
        } else {
            self.0.push(Marker::U32.to_u8());
            self.0.extend_from_slice(&value.to_be_bytes());
        }
    }

    /// A field of Go's signed `int`: the narrowest signed form, as go-msgpack 2 writes it.
    pub(super) fn int(&mut self, value: i64) {
        if (-32..128).contains(&value) {
            self.0.push(value.to_le_bytes()[0]);
        } else if let Ok(value) = i8::try_from(value) {
            self.0.push(Marker::I8.to_u8());
            self.0.extend_from_slice(&value.to_be_bytes());
        } else if let Ok(value) = i16::try_from(value) {
            self.0.push(Marker::I16.to_u8());
            self.0.extend_from_slice(&value.to_be_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.0.push(Marker::I32.to_u8());
            self.0.extend_from_slice(&value.to_be_bytes());
        } else {
            self.0.push(Marker::I64.to_u8());
            self.0.extend_from_slice(&value.to_be_bytes());
        }
    }

    /// A length as Go's signed `int`.
    pub(super) fn len(&mut self, len: usize) {
        self.int(i64::try_from(len).unwrap_or(i64::MAX));
    }
}

/// Reads values from the front of a slice.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// A struct: a map with any keys in any order (the last of equal ones wins, unknown ones are
    /// skipped), an array in declaration order, or nil. What follows it is left alone.
    pub(super) fn fields<T: Fields<'a>>(&mut self) -> Result<T, DecodeError> {
        let mut value = T::default();
        let (n_entries, keyed) = match self.marker()? {
            Marker::Null => return Ok(value),
            Marker::FixMap(n) => (u32::from(n), true),
            Marker::Map16 => (u32::from(self.be_u16()?), true),
            Marker::Map32 => (self.be_u32()?, true),
            Marker::FixArray(n) => (u32::from(n), false),
            Marker::Array16 => (u32::from(self.be_u16()?), false),
            Marker::Array32 => (self.be_u32()?, false),
            other => return Err(wrong("a map or array", other)),
        };
        for position in 0..n_entries as usize {
            let index = if keyed {
                let key = self.key()?;
                T::NAMES.iter().position(|name| name.as_bytes() == key)
            } else {
                Some(position).filter(|position| *position < T::NAMES.len())
            };
            match index {
                Some(index) => value.read_field(index, self)?,
                None => self.skip()?,
            }
        }
        Ok(value)
    }

    /// An unsigned integer of at most `max`; nil is 0.
    fn uint(&mut self, max: u64) -> Result<u64, DecodeError> {
        let value = match self.integer("an unsigned integer")? {
            Integer::Unsigned(value) => value,
            Integer::Negative(_) => return Err(DecodeError::OutOfRange { max }),
        };
        if value <= max { Ok(value) } else { Err(DecodeError::OutOfRange { max }) }
    }

    /// A Go `uint8`.
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.uint(u64::from(u8::MAX)).map(|value| value as u8)
    }

    /// A Go `uint16`.
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.uint(u64::from(u16::MAX)).map(|value| value as u16)
    }

    /// A Go `uint32`.
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.uint(u64::from(u32::MAX)).map(|value| value as u32)
    }

    /// A Go `int`.
    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        match self.integer("an integer")? {
            Integer::Negative(value) => Ok(value),
            Integer::Unsigned(value) => i64::try_from(value)
                .map_err(|_| DecodeError::OutOfRange { max: i64::MAX.unsigned_abs() }),
        }
    }

    /// A boolean; the integers 0 and 1 and nil pass for one.
    pub(super) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.marker()? {
            Marker::True | Marker::FixPos(1) => Ok(true),
            Marker::False | Marker::FixPos(0) | Marker::Null => Ok(false),
            other => Err(wrong("a boolean", other)),
        }
    }

    /// A byte slice: any string or binary form, an array of small integers, or (as go-msgpack
    /// does) a map flattened to key, value, key, value. `None` is nil.
    pub(super) fn bytes(&mut self) -> Result<Option<Cow<'a, [u8]>>, DecodeError> {
        Ok(Some(match self.blob("bytes")? {
            Blob::Nil => return Ok(None),
            Blob::Raw(raw) => raw.into(),
            Blob::Array(n) => self.small_ints(u64::from(n))?.into(),
            Blob::Map(n) => self.small_ints(2 * u64::from(n))?.into(),
        }))
    }

    /// A string of any bytes; nil is empty.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, DecodeError> {
        let found = self.rest.first().copied().unwrap_or_default();
        match self.blob("a string")? {
            Blob::Nil => Ok((&[][..]).into()),
            Blob::Raw(raw) => Ok(raw.into()),
            Blob::Array(n) => Ok(self.small_ints(u64::from(n))?.into()),
            Blob::Map(_) => Err(DecodeError::WrongKind { expected: "a string", found }),
        }
    }

    /// A member name within its bound.
    pub(super) fn name(&mut self, field: &'static str) -> Result<NodeName, DecodeError> {
        let name = self.string()?;
        bounded(field, name.len(), NODE_NAME_LEN_MAX)?;
        Ok(NodeName::from(&name[..]))
    }

    /// A byte slice of its own, at most `len_max` long. `None` is nil.
    pub(super) fn owned_bytes(
        &mut self,
        field: &'static str,
        len_max: usize,
    ) -> Result<Option<Bytes>, DecodeError> {
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        bounded(field, bytes.len(), len_max)?;
        Ok(Some(Bytes::copy_from_slice(&bytes)))
    }

    /// Passes over one value of any kind.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        let mut scan = Scan::default();
        match scan.advance(self.rest)? {
            Progress::Complete(len) => self.rest = &self.rest[len..],
            Progress::Incomplete { needed } => {
                let missing = needed - self.rest.len() as u64;
                return Err(DecodeError::Truncated { missing });
            }
        }
        Ok(())
    }

    fn key(&mut self) -> Result<&'a [u8], DecodeError> {
        let found = self.rest.first().copied().unwrap_or_default();
        match self.blob("a field name")? {
            Blob::Raw(raw) => Ok(raw),
            _ => Err(DecodeError::WrongKind { expected: "a field name", found }),
        }
    }

    fn blob(&mut self, expected: &'static str) -> Result<Blob<'a>, DecodeError> {
        let len = match self.marker()? {
            Marker::Null => return Ok(Blob::Nil),
            Marker::FixArray(n) => return Ok(Blob::Array(u32::from(n))),
            Marker::Array16 => return Ok(Blob::Array(u32::from(self.be_u16()?))),
            Marker::Array32 => return Ok(Blob::Array(self.be_u32()?)),
            Marker::FixMap(n) => return Ok(Blob::Map(u32::from(n))),
            Marker::Map16 => return Ok(Blob::Map(u32::from(self.be_u16()?))),
            Marker::Map32 => return Ok(Blob::Map(self.be_u32()?)),
            Marker::FixStr(len) => u32::from(len),
            Marker::Str8 | Marker::Bin8 => u32::from(self.take::<1>()?[0]),
            Marker::Str16 | Marker::Bin16 => u32::from(self.be_u16()?),
            Marker::Str32 | Marker::Bin32 => self.be_u32()?,
            other => return Err(wrong(expected, other)),
        };
        Ok(Blob::Raw(self.take_slice(len as usize)?))
    }

    /// Elements of an array that stands for bytes. Grows with what is read, not what is claimed.
    fn small_ints(&mut self, n: u64) -> Result<Vec<u8>, DecodeError> {
        let mut bytes = Vec::new();
        for _ in 0..n {
            if self.rest.first() == Some(&Marker::Null.to_u8()) {
                return Err(wrong("a small integer", Marker::Null));
            }
            bytes.push(self.u8()?);
        }
        Ok(bytes)
    }

    fn integer(&mut self, expected: &'static str) -> Result<Integer, DecodeError> {
        let signed = match self.marker()? {
            Marker::Null => return Ok(Integer::Unsigned(0)),
            Marker::FixPos(value) => return Ok(Integer::Unsigned(u64::from(value))),
            Marker::U8 => return Ok(Integer::Unsigned(u64::from(self.take::<1>()?[0]))),
            Marker::U16 => return Ok(Integer::Unsigned(u64::from(self.be_u16()?))),
            Marker::U32 => return Ok(Integer::Unsigned(u64::from(self.be_u32()?))),
            Marker::U64 => return Ok(Integer::Unsigned(u64::from_be_bytes(self.take()?))),
            Marker::FixNeg(value) => i64::from(value),
            Marker::I8 => i64::from(i8::from_be_bytes(self.take()?)),
            Marker::I16 => i64::from(i16::from_be_bytes(self.take()?)),
            Marker::I32 => i64::from(i32::from_be_bytes(self.take()?)),
            Marker::I64 => i64::from_be_bytes(self.take()?),
            other => return Err(wrong(expected, other)),
        };
        Ok(u64::try_from(signed).map_or(Integer::Negative(signed), Integer::Unsigned))
    }

    fn marker(&mut self) -> Result<Marker, DecodeError> {
        Ok(Marker::from_u8(self.take::<1>()?[0]))
    }

    fn be_u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_be_bytes)
    }

    fn be_u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_be_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.truncated(N))?;
        self.rest = rest;
        Ok(*head)
    }

    fn take_slice(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.truncated(len))?;
        self.rest = rest;
        Ok(head)
    }

    fn truncated(&self, len: usize) -> DecodeError {
        DecodeError::Truncated { missing: (len - self.rest.len()) as u64 }
    }
}

enum Integer {
    Unsigned(u64),
    Negative(i64),
}

enum Blob<'a> {
    Nil,
    Raw(&'a [u8]),
    Array(u32),
    Map(u32),
}

fn wrong(expected: &'static str, found: Marker) -> DecodeError {
    DecodeError::WrongKind { expected, found: found.to_u8() }
}

/// Refuses a field of more than `max` bytes.
pub(super) fn bounded(field: &'static str, len: usize, max: usize) -> Result<(), DecodeError> {
    if len <= max {
        Ok(())
    } else {
        Err(DecodeError::TooLong { field, len: len as u64, max: max as u64 })
    }
}

/// Finds the end of one value in bytes that arrive piecemeal, looking at each byte once.
///
/// `open` holds, for every container entered, how many values are still to come in it.
#[derive(Debug, Default)]
pub(super) struct Scan {
    offset: u64,
    open: Vec<u64>,
    complete: bool,
}

/// How far a [`Scan`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The value ends after this many bytes, all of them there.
    Complete(usize),
    /// The value is at least `needed` bytes long.
    Incomplete {
        /// Bytes from the start of the value.
        needed: u64,
    },
}

impl Scan {
    /// Continues over `bytes`, which start where the value starts and only ever grow at the end.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Progress, DecodeError> {
        while !self.complete {
            let at = usize::try_from(self.offset).unwrap_or(usize::MAX);
            let Some(value) = bytes.get(at..).filter(|value| !value.is_empty()) else {
                return Ok(Progress::Incomplete { needed: self.offset + 1 });
            };
            let Some((len, n_inner)) = shape(value)? else {
                return Ok(Progress::Incomplete { needed: self.offset + value.len() as u64 + 1 });
            };
            self.offset += len;
            if n_inner > 0 {
                if self.open.len() >= MSGPACK_DEPTH_MAX {
                    return Err(DecodeError::TooDeep(MSGPACK_DEPTH_MAX));
                }
                self.open.push(n_inner);
            } else {
                self.close();
            }
        }
        if self.offset <= bytes.len() as u64 {
            Ok(Progress::Complete(self.offset as usize))
        } else {
            Ok(Progress::Incomplete { needed: self.offset })
        }
    }

    /// Forgets the value scanned, for the next one.
    pub(super) fn restart(&mut self) {
        self.offset = 0;
        self.complete = false;
        self.open.clear();
    }

    fn close(&mut self) {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
        self.complete = true;
    }
}

/// Length of the value's own bytes (header and payload) and the number of values inside it, or
/// `None` while its header is incomplete.
fn shape(value: &[u8]) -> Result<Option<(u64, u64)>, DecodeError> {
    let marker = Marker::from_u8(value[0]);
    let field = |width: usize| -> Option<u64> {
        let bytes = value.get(1..1 + width)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let shape = match marker {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
            Some((1, 0))
        }
        Marker::U8 | Marker::I8 => Some((2, 0)),
        Marker::U16 | Marker::I16 | Marker::FixExt1 => Some((3, 0)),
        Marker::FixExt2 => Some((4, 0)),
        Marker::U32 | Marker::I32 | Marker::F32 => Some((5, 0)),
        Marker::FixExt4 => Some((6, 0)),
        Marker::U64 | Marker::I64 | Marker::F64 => Some((9, 0)),
        Marker::FixExt8 => Some((10, 0)),
        Marker::FixExt16 => Some((18, 0)),
        Marker::FixStr(len) => Some((1 + u64::from(len), 0)),
        Marker::Str8 | Marker::Bin8 => field(1).map(|len| (2 + len, 0)),
        Marker::Str16 | Marker::Bin16 => field(2).map(|len| (3 + len, 0)),
        Marker::Str32 | Marker::Bin32 => field(4).map(|len| (5 + len, 0)),
        Marker::Ext8 => field(1).map(|len| (3 + len, 0)),
        Marker::Ext16 => field(2).map(|len| (4 + len, 0)),
        Marker::Ext32 => field(4).map(|len| (6 + len, 0)),
        Marker::FixArray(n) => Some((1, u64::from(n))),
        Marker::Array16 => field(2).map(|n| (3, n)),
        Marker::Array32 => field(4).map(|n| (5, n)),
        Marker::FixMap(n) => Some((1, 2 * u64::from(n))),
        Marker::Map16 => field(2).map(|n| (3, 2 * n)),
        Marker::Map32 => field(4).map(|n| (5, 2 * n)),
        Marker::Reserved => return Err(wrong("a value", marker)),
    };
    Ok(shape)
}
