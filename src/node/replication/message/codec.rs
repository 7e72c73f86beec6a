//! Replication messages to bytes and back, in a format that the other side reads.
//!
//! A message is written in the lowest format that can say it. Whoever sends it somewhere [`fit`]s
//! it to what the peer and this node have in common; most often that is no work at all. From format
//! 3 on, fields after those of its format and kinds that are not known are passed over, and
//! counted by the caller. Format 2 has no room for either.

#[cfg(feature = "next-format")]
use super::kinds::Played;
use super::kinds::{
    Ack, Busy, Digest, Folded, Items, KeyReply, KeyRequest, KvMessage, Leaves, Pull, PullEnd, Push,
    Roots, Supply, Verdicts, Want,
};
use crate::kv::{OriginId, Record, RecordError};
use crate::limits::{KV_HEAD_DEPTH_MAX, KV_HEAD_LEN_MAX, LINK_CHUNK_LEN};
use crate::mutation::mutated;
use crate::node::formats::{Formats, OLDEST};
use crate::wire::stream::{PIECE_LEN_MIN, Payload};
use bytes::Bytes;
use serde::Serialize;
use serde::de::Visitor;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, SeqAccess};
use std::fmt;
use std::marker::PhantomData;

/// First byte of everything here: our replication.
const MAGIC: u8 = 200;
/// Bytes before the head: the first, the format, the kind.
const PREFIX_LEN: usize = 3;
/// The header of a MessagePack array of up to 15 elements, without their number.
const ARRAY: u8 = 0x90;

/// The fields of a message: first those of format 2, then those that were added, in order.
trait Head: Serialize + DeserializeOwned + Clone {
    /// How many fields format 2 has.
    const FIELDS: usize;
    /// For each field added since, the format that brought it: never falling.
    const ADDED: &'static [u8];
    /// How many of those added are told: up to the last one that says something.
    fn n_told(&self) -> usize;
    /// Takes away what came after `format`.
    fn strip(&mut self, format: u8);

    /// How many fields a head of `format` has at most.
    fn n_known(format: u8) -> usize {
        Self::FIELDS + Self::ADDED.iter().filter(|added| **added <= format).count()
    }
}

/// Each head, how many fields it has in format 2, and each field added since: a line each, which is
/// all that a new field takes beside its own in the struct.
macro_rules! heads {
    ($($head:ident: $n:literal $(, $(#[$if:meta])? $field:ident in $format:literal)*;)*) => {$(
        impl Head for $head {
            const FIELDS: usize = $n;
            const ADDED: &'static [u8] = &[$($(#[$if])? $format),*];

            fn n_told(&self) -> usize {
                let told: &[bool] = &[$($(#[$if])? self.$field.is_some()),*];
                told.iter().rposition(|told| *told).map_or(0, |last| last + 1)
            }

            fn strip(&mut self, format: u8) {
                let _ = format;
                $($(#[$if])? {
                    if $format > format {
                        self.$field = None;
                    }
                })*
            }
        }
    )*};
}

heads! {
    Push: 4;
    Ack: 3, #[cfg(feature = "next-format")] played in 4;
    Digest: 6, stage in 3, limit in 3, to in 3, at in 3;
    Want: 3;
    Folded: 2;
    Pull: 4, to in 3, first in 3, #[cfg(feature = "next-format")] played in 4;
    PullEnd: 4, marks in 3;
    Busy: 1;
    Roots: 2, first in 3;
    Leaves: 2;
    Items: 2;
    Verdicts: 3;
    Supply: 2;
    KeyRequest: 3;
    KeyReply: 4;
}

#[cfg(feature = "next-format")]
heads! {
    Played: 2;
}

/// The format that brought a kind.
fn brought_by(kind: u8) -> u8 {
    match kind {
        ..=15 => 2,
        _ => 3,
    }
}

/// A head without its type.
trait AnyHead {
    /// The lowest format that can say it.
    fn needs(&self) -> u8;
    fn write(&self, out: &mut Vec<u8>);
    fn strip_to(&mut self, format: u8);
}

impl<T: Head> AnyHead for T {
    fn needs(&self) -> u8 {
        self.n_told().checked_sub(1).map_or(OLDEST, |last| T::ADDED[last])
    }

    fn write(&self, out: &mut Vec<u8>) {
        let at = out.len();
        rmp_serde::encode::write(out, self).expect("writing to memory does not fail");
        debug_assert_eq!(usize::from(out[at] ^ ARRAY), T::FIELDS + T::ADDED.len());
        // Each field that is not told is the one byte `nil`, and those at the end are left out.
        let n_told = T::FIELDS + self.n_told();
        out.truncate(out.len() - (T::FIELDS + T::ADDED.len() - n_told));
        out[at] = ARRAY | n_told as u8;
    }

    fn strip_to(&mut self, format: u8) {
        self.strip(format);
    }
}

/// Why a message was dropped, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Another program's message.
    #[error("not a message of ours")]
    Foreign,
    /// A format that is not spoken.
    #[error("replication format {0} is not spoken here, only {1}")]
    Format(u8, Formats),
    /// A kind that is not known. Nothing is wrong with it: it is from a later version.
    #[error("unknown replication message {0}")]
    Kind(u8),
    /// A head that is too long, or is not what its kind needs.
    #[error("malformed head of replication message {0}")]
    Head(u8),
    /// A record that cannot be read.
    #[error("replication message: {0}")]
    Record(#[from] RecordError),
    /// Bytes after the end.
    #[error("replication message {0} has bytes after its end")]
    Trailing(u8),
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The message.
    pub message: KvMessage,
    /// The format it was written in.
    pub format: u8,
    /// Fields at the end of its head that are not known here.
    pub n_passed_over: usize,
}

/// True for bytes that claim to be ours, whatever their format.
#[must_use]
pub fn is_ours(payload: &[u8]) -> bool {
    payload.first() == Some(&MAGIC)
}

/// True for bytes that claim to be a [`Push`].
#[must_use]
pub fn is_push(payload: &[u8]) -> bool {
    matches!(payload, [MAGIC, _, 1, ..])
}

/// True for bytes that claim to be a [`Pull`](super::Pull).
#[must_use]
pub fn is_pull(payload: &[u8]) -> bool {
    is_ours(payload) && payload.get(2) == Some(&6)
}

/// True for bytes that claim to be a [`PullEnd`](super::PullEnd).
#[must_use]
pub fn is_pull_end(payload: &[u8]) -> bool {
    is_ours(payload) && payload.get(2) == Some(&7)
}

/// The format of a message of ours.
#[must_use]
pub fn format_of(payload: &[u8]) -> Option<u8> {
    payload.get(1).copied().filter(|_| is_ours(payload))
}

/// Records of `from` as messages, each of about as many as one frame holds; see
/// [`Supply::observe`].
pub(in crate::node) fn supplies(
    from: OriginId,
    records: impl IntoIterator<Item = Record>,
    observe: bool,
) -> Vec<Payload> {
    let close = |records| KvMessage::Supply(Supply { from: from.0, observe }, records).payload();
    let (mut closed, mut open, mut open_len) = (Vec::new(), Vec::new(), 0);
    for record in records {
        open_len += record.as_bytes().len();
        open.push(record);
        if open_len >= LINK_CHUNK_LEN {
            closed.push(close(std::mem::take(&mut open)));
            open_len = 0;
        }
    }
    if !open.is_empty() {
        closed.push(close(open));
    }
    closed
}

/// A message for those who read `formats`, never longer than it was. `None` when it says what none
/// of them can.
#[must_use]
pub fn fit(payload: &Payload, formats: Formats) -> Option<Payload> {
    let first = payload.pieces().next()?;
    let format = format_of(first)?;
    if formats.contains(format) || mutated!(NewestToAll) {
        return Some(payload.clone());
    }
    if format < formats.first {
        // Each format says all that those before it can, with the same bytes.
        let mut bytes = first.to_vec();
        bytes[1] = formats.first;
        let rest = payload.pieces().skip(1).cloned();
        return Some(std::iter::once(bytes.into()).chain(rest).collect());
    }
    let read = KvMessage::read(&payload.join(), Formats::KNOWN).ok()?;
    read.message.payload_for(formats)
}

impl KvMessage {
    /// The message as bytes, in the lowest format that can say it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.payload().join()
    }

    /// The same as pieces for a link: large records are shared instead of copied.
    #[must_use]
    pub fn payload(&self) -> Payload {
        self.payload_in(self.needs())
    }

    /// The message for those who read `formats`, without what they cannot read. `None` when they
    /// do not know its kind.
    #[must_use]
    pub fn payload_for(&self, formats: Formats) -> Option<Payload> {
        let needs = self.needs();
        if needs <= formats.last {
            return Some(self.payload_in(needs.max(formats.first)));
        }
        let mut message = self.clone();
        message.head_mut().strip_to(formats.last);
        let needs = message.needs();
        (needs <= formats.last).then(|| message.payload_in(needs.max(formats.first)))
    }

    fn payload_in(&self, format: u8) -> Payload {
        let (kind, head) = self.head();
        let (mut open, mut pieces) = (vec![MAGIC, format, kind], Vec::new());
        head.write(&mut open);
        let small = |record: &&Record| record.as_bytes().len() < PIECE_LEN_MIN;
        let small_len = self.records().iter().filter(small).map(|record| record.as_bytes().len());
        open.reserve_exact(small_len.sum());
        for record in self.records() {
            if record.as_bytes().len() < PIECE_LEN_MIN {
                open.extend_from_slice(record.as_bytes());
                continue;
            }
            if !open.is_empty() {
                pieces.push(std::mem::take(&mut open).into());
            }
            pieces.push(record.to_bytes());
        }
        if !open.is_empty() {
            pieces.push(open.into());
        }
        pieces.into_iter().collect()
    }

    /// The lowest format that can say it.
    #[must_use]
    pub fn needs(&self) -> u8 {
        let (kind, head) = self.head();
        head.needs().max(brought_by(kind))
    }

    fn records(&self) -> &[Record] {
        match self {
            KvMessage::Push(_, records)
            | KvMessage::Verdicts(_, records)
            | KvMessage::Supply(_, records) => records,
            _ => &[],
        }
    }

    /// The run that sends it, where it says so.
    #[must_use]
    pub fn sender(&self) -> Option<OriginId> {
        let from = match self {
            KvMessage::Push(head, _) => head.from,
            KvMessage::Ack(head) => head.from,
            KvMessage::Digest(head) => head.from,
            KvMessage::Want(head) => head.from,
            KvMessage::Folded(head) => head.from,
            KvMessage::Pull(head) => head.from,
            KvMessage::Roots(head) => head.from,
            KvMessage::Supply(head, _) => head.from,
            KvMessage::KeyReply(head) => head.from,
            _ => return None,
        };
        Some(OriginId(from))
    }

    fn head(&self) -> (u8, &dyn AnyHead) {
        match self {
            KvMessage::Push(head, _) => (1, head),
            KvMessage::Ack(head) => (2, head),
            KvMessage::Digest(head) => (3, head),
            KvMessage::Want(head) => (4, head),
            KvMessage::Folded(head) => (5, head),
            KvMessage::Pull(head) => (6, head),
            KvMessage::PullEnd(head) => (7, head),
            KvMessage::Busy(head) => (8, head),
            KvMessage::Roots(head) => (9, head),
            KvMessage::Leaves(head) => (10, head),
            KvMessage::Items(head) => (11, head),
            KvMessage::Verdicts(head, _) => (12, head),
            KvMessage::Supply(head, _) => (13, head),
            KvMessage::KeyRequest(head) => (14, head),
            KvMessage::KeyReply(head) => (15, head),
            #[cfg(feature = "next-format")]
            KvMessage::Played(head) => (16, head),
        }
    }

    fn head_mut(&mut self) -> &mut dyn AnyHead {
        match self {
            KvMessage::Push(head, _) => head,
            KvMessage::Ack(head) => head,
            KvMessage::Digest(head) => head,
            KvMessage::Want(head) => head,
            KvMessage::Folded(head) => head,
            KvMessage::Pull(head) => head,
            KvMessage::PullEnd(head) => head,
            KvMessage::Busy(head) => head,
            KvMessage::Roots(head) => head,
            KvMessage::Leaves(head) => head,
            KvMessage::Items(head) => head,
            KvMessage::Verdicts(head, _) => head,
            KvMessage::Supply(head, _) => head,
            KvMessage::KeyRequest(head) => head,
            KvMessage::KeyReply(head) => head,
            #[cfg(feature = "next-format")]
            KvMessage::Played(head) => head,
        }
    }

    /// Reads a message of any format that is known.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn decode(payload: &[u8]) -> Result<KvMessage, MessageError> {
        KvMessage::read(payload, Formats::KNOWN).map(|read| read.message)
    }

    /// Reads a message of one of `formats`.
    ///
    /// # Errors
    /// See [`MessageError`]; nothing of it takes effect then.
    pub fn read(payload: &[u8], formats: Formats) -> Result<Read, MessageError> {
        let (format, kind) = match payload {
            [MAGIC, format, ..] if !formats.contains(*format) => {
                return Err(MessageError::Format(*format, formats));
            }
            [MAGIC, format, kind, ..] => (*format, *kind),
            [MAGIC, ..] => return Err(MessageError::Head(0)),
            _ => return Err(MessageError::Foreign),
        };
        let rest = &payload[PREFIX_LEN..];
        let mut reader = Reader { format, kind, rest, n_passed_over: 0 };
        let message = match kind {
            1 => KvMessage::Push(reader.head()?, reader.records()?),
            2 => KvMessage::Ack(reader.head()?),
            3 => KvMessage::Digest(reader.head()?),
            4 => KvMessage::Want(reader.head()?),
            5 => KvMessage::Folded(reader.head()?),
            6 => KvMessage::Pull(reader.head()?),
            7 => KvMessage::PullEnd(reader.head()?),
            8 => KvMessage::Busy(reader.head()?),
            9 => KvMessage::Roots(reader.head()?),
            10 => KvMessage::Leaves(reader.head()?),
            11 => KvMessage::Items(reader.head()?),
            12 => KvMessage::Verdicts(reader.head()?, reader.records()?),
            13 => KvMessage::Supply(reader.head()?, reader.records()?),
            14 => KvMessage::KeyRequest(reader.head()?),
            15 => KvMessage::KeyReply(reader.head()?),
            // Who plays an earlier version does not know it.
            #[cfg(feature = "next-format")]
            16 if formats.last >= Formats::SPOKEN.last => KvMessage::Played(reader.head()?),
            other => return Err(MessageError::Kind(other)),
        };
        if !reader.rest.is_empty() {
            return Err(MessageError::Trailing(kind));
        }
        if !formats.know_ttl() && message.records().iter().any(|r| r.ttl().is_some()) {
            return Err(RecordError::KeyLen(usize::from(u16::MAX)).into());
        }
        Ok(Read { message, format, n_passed_over: reader.n_passed_over })
    }
}

struct Reader<'a> {
    format: u8,
    kind: u8,
    rest: &'a [u8],
    n_passed_over: usize,
}

impl Reader<'_> {
    /// Beside its lists, which are bounded each, a head has a bound of its own, which is also that
    /// of the fields passed over: nothing of them is kept.
    fn head<T: Head>(&mut self) -> Result<T, MessageError> {
        let mut bounded = &self.rest[..self.rest.len().min(KV_HEAD_LEN_MAX)];
        let before_len = bounded.len();
        let mut from = rmp_serde::Deserializer::new(&mut bounded);
        from.set_max_depth(KV_HEAD_DEPTH_MAX);
        let fields = Fields { format: self.format, head: PhantomData::<T> };
        let (head, n_passed_over) =
            fields.deserialize(&mut from).map_err(|_| MessageError::Head(self.kind))?;
        self.n_passed_over = n_passed_over;
        self.rest = &self.rest[before_len - bounded.len()..];
        Ok(head)
    }

    fn records(&mut self) -> Result<Vec<Record>, MessageError> {
        let mut records = Vec::new();
        while !self.rest.is_empty() {
            let (record, len) = Record::read(self.rest)?;
            records.push(record);
            self.rest = &self.rest[len..];
        }
        Ok(records)
    }
}

/// The fields of a head that its format has, and how many come after them.
struct Fields<T> {
    format: u8,
    head: PhantomData<T>,
}

impl<'de, T: Head> DeserializeSeed<'de> for Fields<T> {
    type Value = (T, usize);

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(T, usize), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, T: Head> Visitor<'de> for Fields<T> {
    type Value = (T, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at least {} fields", T::FIELDS)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(T, usize), A::Error> {
        let known = FirstOf { list: &mut list, left: T::n_known(self.format) };
        let head = T::deserialize(SeqAccessDeserializer::new(known))?;
        let mut n_passed_over = 0;
        while list.next_element::<IgnoredAny>()?.is_some() {
            n_passed_over += 1;
        }
        if n_passed_over > 0 && self.format == OLDEST {
            return Err(A::Error::invalid_length(T::FIELDS + n_passed_over, &self));
        }
        Ok((head, n_passed_over))
    }
}

/// The first few elements of a list.
struct FirstOf<'a, A> {
    list: &'a mut A,
    left: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for FirstOf<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.list.next_element_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// A head as they will be: a field of format 2, and three that came later.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Later {
        old: u32,
        #[serde(default)]
        third: Option<u32>,
        #[serde(default)]
        also_third: Option<bool>,
        #[serde(default)]
        fourth: Option<Vec<u32>>,
    }

    heads! {
        Later: 1, third in 3, also_third in 3, fourth in 4;
    }

    const NOTHING: Later = Later { old: 7, third: None, also_third: None, fourth: None };

    fn written(head: &Later) -> Vec<u8> {
        let mut out = Vec::new();
        head.write(&mut out);
        out
    }

    fn read(format: u8, head: &[u8]) -> Option<(Later, usize)> {
        let mut reader = Reader { format, kind: 99, rest: head, n_passed_over: 0 };
        let head = reader.head().ok()?;
        assert!(reader.rest.is_empty());
        Some((head, reader.n_passed_over))
    }

    #[test]
    fn a_head_is_written_up_to_its_last_field_that_says_something() {
        let (third, also_third) = (Some(300), Some(true));
        let heads = [
            (2, NOTHING, &b"\x91\x07"[..]),
            (3, Later { third, ..NOTHING }, b"\x92\x07\xcd\x01\x2c"),
            (3, Later { also_third, ..NOTHING }, b"\x93\x07\xc0\xc3"),
            (4, Later { fourth: Some(vec![5]), ..NOTHING }, b"\x94\x07\xc0\xc0\x91\x05"),
        ];
        for (needs, head, bytes) in heads {
            assert_eq!((head.needs(), &written(&head)[..]), (needs, bytes));
            assert_eq!(read(4, bytes), Some((head, 0)));
        }
    }

    #[test]
    fn a_head_is_stripped_to_what_its_reader_knows() {
        let mut head = Later { third: Some(1), also_third: None, fourth: Some(vec![2]), ..NOTHING };
        head.strip_to(3);
        assert_eq!(head, Later { third: Some(1), ..NOTHING });
        head.strip_to(2);
        assert_eq!(head, NOTHING);
    }

    #[test]
    fn fields_after_those_of_the_format_are_passed_over() {
        let bytes = b"\x96\x07\x05\xc2\x91\x05\x81\xa1k\xc4\x01x\x92\x90\xca\0\0\0\0";
        let head =
            Later { third: Some(5), also_third: Some(false), fourth: Some(vec![5]), ..NOTHING };
        assert_eq!(read(4, bytes), Some((head.clone(), 2)));
        // Who speaks format 3 alone does not look at the fourth field, whatever it is.
        assert_eq!(read(3, bytes), Some((Later { fourth: None, ..head }, 3)));
        assert_eq!(read(3, b"\x94\x07\xc0\xc0\xa1x"), Some((NOTHING, 1)));
        assert_eq!(read(2, bytes), None, "format 2 has no room for them");
        assert_eq!(read(2, b"\x92\x07\x05"), None);
    }

    #[test]
    fn what_is_passed_over_does_not_nest_without_end() {
        let nested =
            |depth: usize| [&b"\x95\x07\xc0\xc0\xc0"[..], &vec![0x91; depth], b"\x01"].concat();
        assert!(read(3, &nested(KV_HEAD_DEPTH_MAX - 2)).is_some());
        for depth in [KV_HEAD_DEPTH_MAX + 1, 100_000] {
            assert_eq!(read(3, &nested(depth)), None);
        }
    }

    #[test]
    fn a_field_that_is_missing_is_not_told_and_one_of_format_2_must_be_there() {
        assert_eq!(read(3, b"\x91\x07"), Some((NOTHING, 0)));
        assert_eq!(read(3, b"\x90"), None);
    }
}
