//! What members of our kind say to each other about data: the formats.
//!
//! ```text
//! c8 | 02 | kind u8 | MessagePack array | records ...        user message of a datagram, and
//!                                                            payload of a replication frame
//! ```
//!
//! The head is an rmp-serde array of the fields in order, every list of it bounded; records follow
//! in the store's own packed form ([`Record`]) and delimit themselves. `c8 02` tells ours from
//! other programs' messages and carries the format's version.

use super::lists::{at_most, compared, if_any};
use crate::kv::{OriginId, Record, RecordError};
use crate::limits::{
    COMPARED_ITEMS_MAX, KEYS_MAX, KV_HEAD_LEN_MAX, LINK_CHUNK_LEN, ORIGINS_MAX, RANGES_MAX,
    STORE_SHARDS,
};
use crate::wire::stream::{PIECE_LEN_MIN, Payload};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use super::lists::Name;

/// First byte of everything here: our replication.
const MAGIC: u8 = 200;
/// Second byte: the version of the formats.
const VERSION: u8 = 2;
/// Bytes before the head.
const PREFIX_LEN: usize = 3;
/// Bytes of an item beside its key: the array, the key's length, three 64-bit numbers, the check.
const ITEM_FIXED_LEN_MAX: usize = 1 + 3 + 3 * 9 + 5;
/// Origins in a list: those of a full vector, and the sender itself.
const HEADS_MAX: usize = ORIGINS_MAX + 1;

/// Inclusive ranges of sequence numbers.
pub type Ranges = Vec<(u64, u64)>;
/// Per origin the number up to which every write is held.
pub type Heads = Vec<(u64, u64)>;
/// Folded origins: origin, its last number, the highest number of a tombstone of it forgotten.
pub type FoldedList = Vec<(u64, u64, u64)>;
/// Shard, leaf, and the records in it.
pub type LeafItems = (u16, u16, Vec<Item>);

/// Records, and which writes of one origin they settle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Whose writes.
    pub of: u64,
    /// Which of them: each is among the records or replaced by one of them.
    #[serde(deserialize_with = "at_most::<_, _, RANGES_MAX>")]
    pub settles: Ranges,
    /// Who sends this message.
    pub from: u64,
    /// A client waits for the acknowledgement.
    pub urgent: bool,
}

/// "I hold all your writes up to this one."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Who says so.
    pub from: u64,
    /// Whose writes.
    pub of: u64,
    /// Up to which.
    pub through: u64,
}

/// A summary of what a node holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Whose.
    pub from: u64,
    /// What it holds without a gap.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub heads: Heads,
    /// Hash of all live records; 0 when more is held than the heads say.
    pub root: u64,
    /// Hash of its folded origins.
    pub folded: u64,
    /// Whether it asks for ours in return.
    pub reply: bool,
    /// Whether these heads are all it has, or only those worth telling now.
    pub whole: bool,
}

/// "Send me these."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Who asks.
    pub from: u64,
    /// Whose writes.
    pub of: u64,
    /// Which of them.
    #[serde(deserialize_with = "at_most::<_, _, RANGES_MAX>")]
    pub ranges: Ranges,
}

/// The origins a node has folded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// Whose list.
    pub from: u64,
    /// The list, or a part of it.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub list: FoldedList,
}

/// "Send me all I lack."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Who asks.
    pub from: u64,
    /// What it holds.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub heads: Heads,
    /// What it has folded.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub folded: FoldedList,
    /// It has nothing to lose: a first copy.
    pub fresh: bool,
}

/// The end of the answer to a pull; nothing before it may be claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullEnd {
    /// What the asker holds now.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub heads: Heads,
    /// Likewise, folded.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub folded: FoldedList,
    /// Tombstones up to this hybrid time have been forgotten.
    pub forgotten: u64,
    /// The asker lacked deletes that are forgotten: it has to compare everything.
    pub reset: bool,
    /// For each of the heads the highest number of a tombstone that has been forgotten, 0 for none;
    /// none of it when nothing has. Format 3.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "if_any::<_, _, HEADS_MAX>"
    )]
    pub marks: Option<Vec<u64>>,
}

/// "Not now."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// Ask again after this many milliseconds.
    pub retry_ms: u32,
}

/// The hashes of the store's shards; begins a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// Who begins.
    pub from: u64,
    /// One 64-bit hash per shard, big-endian.
    pub roots: Bytes,
}

/// The leaf hashes of shards that differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaves {
    /// Shard, and one 64-bit hash per leaf, big-endian.
    #[serde(deserialize_with = "at_most::<_, _, STORE_SHARDS>")]
    pub shards: Vec<(u16, Bytes)>,
    /// More shards differ; compare again after these.
    pub more: bool,
}

/// Name and version of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The key.
    pub key: Name,
    /// Hybrid time of its stamp.
    pub time: u64,
    /// Origin of its stamp.
    pub origin: u64,
    /// Its number.
    pub seq: u64,
    /// Its check: another one is another content.
    pub check: u32,
}

/// The records of leaves that differ, by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items {
    /// Shard, leaf, records.
    #[serde(deserialize_with = "compared")]
    pub leaves: Vec<LeafItems>,
    /// More shards differ.
    pub more: bool,
}

/// What the other side makes of [`Items`]; records it holds newer follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Keys whose record it lacks or holds older.
    #[serde(deserialize_with = "at_most::<_, _, COMPARED_ITEMS_MAX>")]
    pub need: Vec<Name>,
    /// Records that were deleted, and the delete forgotten since.
    #[serde(deserialize_with = "at_most::<_, _, COMPARED_ITEMS_MAX>")]
    pub drop: Vec<Item>,
    /// More shards differ.
    pub more: bool,
}

/// Records that settle no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// Who sends them.
    pub from: u64,
    /// Whether each record's number may be noted by itself; a bulk copy is claimed at its end.
    pub observe: bool,
}

/// A change of the keyring.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRequest {
    /// Pairs request and reply.
    pub id: u64,
    /// 0 list, 1 install, 2 use, 3 remove.
    pub action: u8,
    /// The key, empty to list.
    pub key: Bytes,
}

impl std::fmt::Debug for KeyRequest {
    /// Key bytes never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRequest").field("id", &self.id).field("action", &self.action).finish()
    }
}

/// What a member made of a [`KeyRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReply {
    /// Pairs request and reply.
    pub id: u64,
    /// Whose reply.
    pub from: u64,
    /// Fingerprints it holds now, primary first.
    #[serde(deserialize_with = "at_most::<_, _, KEYS_MAX>")]
    pub fingerprints: Vec<String>,
    /// Why it refused, empty when it did not.
    pub error: String,
}

/// One message between members of our kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvMessage {
    /// Kind 1.
    Push(Push, Vec<Record>),
    /// Kind 2.
    Ack(Ack),
    /// Kind 3.
    Digest(Digest),
    /// Kind 4.
    Want(Want),
    /// Kind 5.
    Folded(Folded),
    /// Kind 6, links only.
    Pull(Pull),
    /// Kind 7, links only.
    PullEnd(PullEnd),
    /// Kind 8, links only.
    Busy(Busy),
    /// Kind 9, links only.
    Roots(Roots),
    /// Kind 10, links only.
    Leaves(Leaves),
    /// Kind 11, links only.
    Items(Items),
    /// Kind 12, links only.
    Verdicts(Verdicts, Vec<Record>),
    /// Kind 13, links only.
    Supply(Supply, Vec<Record>),
    /// Kind 14, links only.
    KeyRequest(KeyRequest),
    /// Kind 15, links only.
    KeyReply(KeyReply),
}

/// Why a message was dropped, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Another program's message.
    #[error("not a message of ours")]
    Foreign,
    /// A version of the formats that we do not speak.
    #[error("replication format {0} is not spoken here")]
    Version(u8),
    /// A kind that does not exist.
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

/// True for bytes that claim to be ours, whatever their version.
#[must_use]
pub fn is_ours(payload: &[u8]) -> bool {
    payload.first() == Some(&MAGIC)
}

/// True for bytes that claim to be a [`Push`].
#[must_use]
pub fn is_push(payload: &[u8]) -> bool {
    payload.starts_with(&[MAGIC, VERSION, 1])
}

/// The prefix and head of a message.
fn plain(kind: u8, head: &impl Serialize) -> Vec<u8> {
    let mut out = vec![MAGIC, VERSION, kind];
    rmp_serde::encode::write(&mut out, head).expect("writing to memory does not fail");
    out
}

/// Records of `from` as messages, each of about as many as one frame holds; see
/// [`Supply::observe`].
pub(super) fn supplies(
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

impl KvMessage {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = self.head();
        let records = self.records();
        out.reserve_exact(records.iter().map(|record| record.as_bytes().len()).sum());
        for record in records {
            out.extend_from_slice(record.as_bytes());
        }
        out.into()
    }

    /// The same as pieces for a link: large records are shared instead of copied.
    #[must_use]
    pub fn payload(&self) -> Payload {
        let (mut open, mut pieces) = (self.head(), Vec::new());
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

    fn records(&self) -> &[Record] {
        match self {
            KvMessage::Push(_, records)
            | KvMessage::Verdicts(_, records)
            | KvMessage::Supply(_, records) => records,
            _ => &[],
        }
    }

    fn head(&self) -> Vec<u8> {
        match self {
            KvMessage::Push(head, _) => plain(1, head),
            KvMessage::Ack(head) => plain(2, head),
            KvMessage::Digest(head) => plain(3, head),
            KvMessage::Want(head) => plain(4, head),
            KvMessage::Folded(head) => plain(5, head),
            KvMessage::Pull(head) => plain(6, head),
            KvMessage::PullEnd(head) => plain(7, head),
            KvMessage::Busy(head) => plain(8, head),
            KvMessage::Roots(head) => plain(9, head),
            KvMessage::Leaves(head) => plain(10, head),
            KvMessage::Items(head) => plain(11, head),
            KvMessage::Verdicts(head, _) => plain(12, head),
            KvMessage::Supply(head, _) => plain(13, head),
            KvMessage::KeyRequest(head) => plain(14, head),
            KvMessage::KeyReply(head) => plain(15, head),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// See [`MessageError`]; nothing of it takes effect then.
    pub fn decode(payload: &[u8]) -> Result<KvMessage, MessageError> {
        let kind = match payload {
            [MAGIC, VERSION, kind, ..] => *kind,
            [MAGIC, version, ..] => return Err(MessageError::Version(*version)),
            _ => return Err(MessageError::Foreign),
        };
        let mut reader = HeadReader { kind, rest: &payload[PREFIX_LEN..] };
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
            other => return Err(MessageError::Kind(other)),
        };
        if reader.rest.is_empty() { Ok(message) } else { Err(MessageError::Trailing(kind)) }
    }
}

struct HeadReader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl HeadReader<'_> {
    /// Beside its lists, which are bounded each, a head has a bound of its own.
    fn head<T: DeserializeOwned>(&mut self) -> Result<T, MessageError> {
        let mut bounded = &self.rest[..self.rest.len().min(KV_HEAD_LEN_MAX)];
        let before_len = bounded.len();
        let head = rmp_serde::from_read(&mut bounded).map_err(|_| MessageError::Head(self.kind))?;
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

impl Item {
    /// Name and version of `record`.
    #[must_use]
    pub fn of(record: &Record) -> Item {
        let (stamp, dot) = (record.stamp(), record.dot());
        Item {
            key: Name::new(record.key()),
            time: stamp.time.0,
            origin: stamp.origin.0,
            seq: dot.seq,
            check: record.check(),
        }
    }

    /// Bytes it takes in a head, at most.
    #[must_use]
    pub fn len_max(&self) -> usize {
        ITEM_FIXED_LEN_MAX + self.key.len()
    }

    /// The version.
    #[must_use]
    pub fn stamp(&self) -> crate::kv::Stamp {
        crate::kv::Stamp { time: crate::kv::HlcTime(self.time), origin: OriginId(self.origin) }
    }

    /// Which write it is.
    #[must_use]
    pub fn dot(&self) -> crate::kv::Dot {
        crate::kv::Dot { origin: OriginId(self.origin), seq: self.seq }
    }
}
