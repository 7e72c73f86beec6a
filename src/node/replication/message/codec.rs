//! Replication messages to bytes and back, in a format that the other side reads.
//!
//! A message is written in the lowest format that can say it. Whoever sends it somewhere [`fit`]s
//! it to what the peer and this node have in common; most often that is no work at all. From format
//! 3 on, fields after those of its format and kinds that are not known are passed over, and
//! counted by the caller. Format 2 has no room for either.

use super::heads::{self, AnyHead, Head};
use super::kinds::{KvMessage, Supply};
use crate::kv::{OriginId, Record, RecordError};
use crate::limits::LINK_CHUNK_LEN;
use crate::mutation::mutated;
use crate::node::formats::Formats;
use crate::wire::stream::{PIECE_LEN_MIN, Payload};
use bytes::Bytes;

/// First byte of everything here: our replication.
const MAGIC: u8 = 200;
/// Bytes before the head: the first, the format, the kind.
const PREFIX_LEN: usize = 3;

/// The format that brought a kind.
fn brought_by(kind: u8) -> u8 {
    match kind {
        ..=15 => 2,
        _ => 3,
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

/// True for bytes that claim to be a [`Push`](super::Push).
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
        // In a format without this kind nothing could be said to those who read no other.
        if brought_by(kind) > format {
            return Err(MessageError::Kind(kind));
        }
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
    fn head<T: Head>(&mut self) -> Result<T, MessageError> {
        let (head, n_passed_over) =
            heads::read(self.format, &mut self.rest).ok_or(MessageError::Head(self.kind))?;
        self.n_passed_over = n_passed_over;
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
