//! One message of a stream behind its type byte, decoded as its bytes arrive.
//!
//! ```text
//! Struct --ping, ack, err--> frame
//!   |--UserMsgLen--> Raw --> frame
//!   `--Nodes--> Nodes --all read--> Raw --> frame
//! ```
//!
//! A struct is decoded once, when all of it is there; finding its end looks at each byte once.

use super::{Frame, StreamError};
use crate::limits::{
    PUSH_PULL_NODES_MAX, STREAM_FRAME_LEN_MAX, STREAM_STRUCT_LEN_MAX, STREAM_TOTAL_LEN_MAX,
};
use crate::wire::codec::type_byte;
use crate::wire::error::DecodeError;
use crate::wire::message::{Ack, Ping, PushNodeState, PushPull};
use crate::wire::msgpack::{Fields, Progress, Reader, Scan};
use bytes::{Buf as _, BytesMut};

/// A message in the making.
#[derive(Debug)]
pub(in crate::wire) struct Body {
    kind: u8,
    stage: Stage,
    scan: Scan,
    taken_len: usize,
    refused_states: usize,
}

#[derive(Debug)]
enum Stage {
    /// The struct after the type byte.
    Struct,
    /// `left` node states are still to come, then `user_len` bytes.
    Nodes { push_pull: PushPull, left: usize, user_len: usize },
    /// `len` bytes are still to come: user state of a push-pull, or a user message.
    Raw { push_pull: Option<PushPull>, len: usize },
}

impl Body {
    /// A message of type `kind`, or `None` when streams carry none such.
    pub(in crate::wire) fn new(kind: u8) -> Option<Body> {
        matches!(
            kind,
            type_byte::PING
                | type_byte::ACK
                | type_byte::ERR
                | type_byte::USER
                | type_byte::PUSH_PULL
        )
        .then(|| Body {
            kind,
            stage: Stage::Struct,
            scan: Scan::default(),
            taken_len: 0,
            refused_states: 0,
        })
    }

    /// Node states left out because a field of theirs is longer than we take.
    pub(in crate::wire) fn refused_states(&self) -> usize {
        self.refused_states
    }

    /// Takes what it can from the front of `input`; `None` asks for more bytes.
    pub(in crate::wire) fn advance(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<Frame>, StreamError> {
        loop {
            match &mut self.stage {
                Stage::Struct => {
                    let Some(len) = self.struct_len(input)? else { return Ok(None) };
                    let frame = self.begin(&input[..len])?;
                    self.take(input, len)?;
                    if frame.is_some() {
                        return Ok(frame);
                    }
                }
                Stage::Nodes { push_pull, left: 0, user_len } => {
                    let push_pull = Some(std::mem::take(push_pull));
                    self.stage = Stage::Raw { push_pull, len: *user_len };
                }
                Stage::Nodes { .. } => {
                    let Some(len) = self.struct_len(input)? else { return Ok(None) };
                    self.node_state(&input[..len])?;
                    self.take(input, len)?;
                }
                Stage::Raw { len, .. } if input.len() < *len => return Ok(None),
                Stage::Raw { push_pull, len } => {
                    let raw = input.split_to(*len).freeze();
                    return Ok(Some(match push_pull.take() {
                        Some(push_pull) => {
                            Frame::PushPull(PushPull { user_state: raw, ..push_pull })
                        }
                        None => Frame::User(raw),
                    }));
                }
            }
        }
    }

    /// Length of the struct at the front of `input`, once all of it is there.
    fn struct_len(&mut self, input: &BytesMut) -> Result<Option<usize>, StreamError> {
        let (len, complete) = match self.scan.advance(input).map_err(|error| self.bad(error))? {
            Progress::Complete(len) => (len as u64, true),
            Progress::Incomplete { needed } => (needed, false),
        };
        let max = STREAM_STRUCT_LEN_MAX as u64;
        if len > max {
            return Err(self.bad(DecodeError::TooLong { field: "struct", len, max }));
        }
        Ok(complete.then_some(len as usize))
    }

    /// Drops a decoded struct from the front of `input`.
    fn take(&mut self, input: &mut BytesMut, len: usize) -> Result<(), StreamError> {
        input.advance(len);
        self.scan.restart();
        self.taken_len += len;
        if self.taken_len > STREAM_TOTAL_LEN_MAX {
            return Err(StreamError::MessageTooLong(STREAM_TOTAL_LEN_MAX));
        }
        Ok(())
    }

    /// Decodes the struct after the type byte: the whole message, or the header of more to come.
    fn begin(&mut self, bytes: &[u8]) -> Result<Option<Frame>, StreamError> {
        match self.kind {
            type_byte::PING => self.decode::<Ping>(bytes).map(|ping| Some(Frame::Ping(ping))),
            type_byte::ACK => self.decode::<Ack>(bytes).map(|ack| Some(Frame::Ack(ack))),
            type_byte::ERR => {
                let ErrResp { text } = self.decode(bytes)?;
                Ok(Some(Frame::Error(text)))
            }
            type_byte::USER => {
                let UserMsgHeader { len } = self.decode(bytes)?;
                let len = within("UserMsgLen", len, STREAM_FRAME_LEN_MAX)?;
                self.stage = Stage::Raw { push_pull: None, len };
                Ok(None)
            }
            _ => {
                let PushPullHeader { join, nodes, user_state_len } = self.decode(bytes)?;
                let left = within("Nodes", nodes, PUSH_PULL_NODES_MAX)?;
                let user_len = within("UserStateLen", user_state_len, STREAM_FRAME_LEN_MAX)?;
                let push_pull = PushPull { join, ..PushPull::default() };
                self.stage = Stage::Nodes { push_pull, left, user_len };
                Ok(None)
            }
        }
    }

    /// Decodes one node state. One with an over-long field is left out: a foreign member with a
    /// long name must not keep the whole cluster from synchronizing.
    fn node_state(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let decoded = Reader::new(bytes).fields::<PushNodeState>();
        let kind = self.kind;
        if let Stage::Nodes { push_pull, left, .. } = &mut self.stage {
            *left -= 1;
            match decoded {
                Ok(state) => push_pull.nodes.push(state),
                Err(DecodeError::TooLong { .. }) => self.refused_states += 1,
                Err(error) => return Err(StreamError::Decode { kind, error }),
            }
        }
        Ok(())
    }

    fn decode<'a, T: Fields<'a>>(&self, bytes: &'a [u8]) -> Result<T, StreamError> {
        Reader::new(bytes).fields().map_err(|error| self.bad(error))
    }

    fn bad(&self, error: DecodeError) -> StreamError {
        StreamError::Decode { kind: self.kind, error }
    }
}

fn within(field: &'static str, value: i64, max: usize) -> Result<usize, StreamError> {
    usize::try_from(value).ok().filter(|value| *value <= max).ok_or(StreamError::OutOfBounds {
        field,
        value,
        max,
    })
}

/// `pushPullHeader`.
#[derive(Debug, Default)]
pub(in crate::wire) struct PushPullHeader {
    pub(in crate::wire) join: bool,
    pub(in crate::wire) nodes: i64,
    pub(in crate::wire) user_state_len: i64,
}

impl<'a> Fields<'a> for PushPullHeader {
    const NAMES: &'static [&'static str] = &["Nodes", "UserStateLen", "Join"];

    fn read_field(&mut self, index: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match index {
            0 => self.nodes = reader.i64()?,
            1 => self.user_state_len = reader.i64()?,
            _ => self.join = reader.bool()?,
        }
        Ok(())
    }
}

/// `userMsgHeader`.
#[derive(Debug, Default)]
pub(in crate::wire) struct UserMsgHeader {
    pub(in crate::wire) len: i64,
}

impl<'a> Fields<'a> for UserMsgHeader {
    const NAMES: &'static [&'static str] = &["UserMsgLen"];

    fn read_field(&mut self, _: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        self.len = reader.i64()?;
        Ok(())
    }
}

/// `errResp`.
#[derive(Debug, Default)]
struct ErrResp {
    text: String,
}

impl<'a> Fields<'a> for ErrResp {
    const NAMES: &'static [&'static str] = &["Error"];

    fn read_field(&mut self, _: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        self.text = String::from_utf8_lossy(&reader.string()?).into_owned();
        Ok(())
    }
}
