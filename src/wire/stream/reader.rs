//! Frames out of a byte stream, whatever the pieces it arrives in.
//!
//! ```text
//! Label --> Type --0a--> Encrypted --.
//!  (acceptor) |  --09--> Compressed --> frame --> Done        bytes after it are ignored
//!             |  --c8--> Kv ---------.     |
//!             `--------> Body -------'     `--c8--> Type      replication goes on
//! ```
//!
//! Every announced length is checked before its bytes are awaited, little is allocated ahead of
//! bytes received ([`ROOM_LEN_MAX`]), and each byte is looked at a bounded number of times.

use super::body::Body;
use super::{FRAME_HEADER_LEN, Frame, KV_PAYLOAD_LEN_MAX, StreamError, authenticated};
use crate::limits::{STREAM_FRAME_LEN_MAX, STREAM_INFLATED_LEN_MAX, STREAM_TOTAL_LEN_MAX};
use crate::mutation::mutated;
use crate::wire::codec::type_byte;
use crate::wire::error::DecodeError;
use crate::wire::msgpack::{Progress, Scan};
use crate::wire::packet::Security;
use crate::wire::{label, lzw};
use bytes::buf::Limit;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Least that is worth receiving in place rather than through a buffer for everything.
const ROOM_LEN_MIN: usize = 16 << 10;
/// Most bytes of room made for a body of which fewer have come: more than most chunks.
pub const ROOM_LEN_MAX: usize = 160 << 10;

/// Which end of the connection reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We were dialled: a label header comes first, then requests.
    Acceptor,
    /// We dialled: replies come, without a label header.
    Dialer,
}

impl Role {
    fn takes(self, kind: u8) -> bool {
        match self {
            Role::Acceptor => {
                matches!(kind, type_byte::PING | type_byte::PUSH_PULL | type_byte::USER)
            }
            Role::Dialer => {
                matches!(kind, type_byte::ACK | type_byte::PUSH_PULL | type_byte::ERR)
            }
        }
    }
}

/// Reads the frames of one connection: feed with [`extend`](FrameReader::extend), then call
/// [`next`](FrameReader::next) until it has no more.
///
/// After an error, and after any frame but [`Frame::Kv`], further bytes are ignored.
#[derive(Debug)]
pub struct FrameReader {
    role: Role,
    state: State,
    buffer: BytesMut,
    /// A replication frame has come.
    is_link: bool,
    refused_states: usize,
    /// The label at the front of a stream that we accepted.
    label: Option<Bytes>,
}

#[derive(Debug)]
enum State {
    Label,
    Type,
    Encrypted { header: [u8; FRAME_HEADER_LEN], len: usize },
    Compressed(Scan),
    Kv { len: usize },
    Body(Box<Body>),
    Done,
}

impl FrameReader {
    /// A reader for the first byte of a connection.
    #[must_use]
    pub fn new(role: Role) -> FrameReader {
        let state = match role {
            Role::Acceptor => State::Label,
            Role::Dialer => State::Type,
        };
        FrameReader {
            role,
            state,
            buffer: BytesMut::new(),
            is_link: false,
            refused_states: 0,
            label: None,
        }
    }

    /// Takes bytes received.
    pub fn extend(&mut self, bytes: &[u8]) {
        if !self.is_done() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Room for bytes to be received straight into the reader, when most of a long body is still
    /// to come. It ends with the header of the frame after it, and is at most as long as what has
    /// come of the body, or [`ROOM_LEN_MAX`] where a replication frame came before.
    pub fn room(&mut self) -> Option<Limit<&mut BytesMut>> {
        let (State::Encrypted { len, .. } | State::Kv { len }) = self.state else { return None };
        let missing = len.saturating_sub(self.buffer.len());
        let ahead = if self.is_link { ROOM_LEN_MAX } else { 0 };
        let len = (missing + FRAME_HEADER_LEN).min(self.buffer.len().max(ahead));
        if len < ROOM_LEN_MIN {
            return None;
        }
        self.buffer.reserve(len);
        Some((&mut self.buffer).limit(len))
    }

    /// The next frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// See [`StreamError`]; its [`reply`](StreamError::reply) says what the peer should hear.
    pub fn next(&mut self, security: &Security) -> Result<Option<Frame>, StreamError> {
        let outcome = self.step(security);
        match &outcome {
            Ok(None) => {}
            Ok(Some(Frame::Kv(_))) => (self.state, self.is_link) = (State::Type, true),
            Ok(Some(_)) | Err(_) => {
                self.state = State::Done;
                self.buffer = BytesMut::new();
            }
        }
        outcome
    }

    /// True when no further frame can come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// True when the peer may close here: nothing of a frame has arrived yet.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.buffer.is_empty() && matches!(self.state, State::Label | State::Type | State::Done)
    }

    /// Node states of the push-pull read that were left out for an over-long field.
    #[must_use]
    pub fn refused_states(&self) -> usize {
        self.refused_states
    }

    /// The label under which the other end dialled, once it is known: what it is answered with
    /// must be authenticated with it. `None` on a stream that we dialled: there it is our own.
    #[must_use]
    pub fn dialled_under(&self) -> Option<&Bytes> {
        self.label.as_ref()
    }

    fn step(&mut self, security: &Security) -> Result<Option<Frame>, StreamError> {
        loop {
            let next = match &mut self.state {
                State::Done => return Ok(None),
                State::Label => self.label(security)?,
                State::Type => self.frame_type(security)?,
                State::Encrypted { len, .. } | State::Kv { len } if self.buffer.len() < *len => {
                    return Ok(None);
                }
                State::Encrypted { header, len } => {
                    let (header, len) = (*header, *len);
                    let blob = self.take(len);
                    return self.decrypted(security, header, &blob).map(Some);
                }
                State::Kv { len } => {
                    let len = *len;
                    return Ok(Some(Frame::Kv(self.take(len).freeze().into())));
                }
                State::Compressed(scan) => {
                    let Some(len) = compressed_len(scan, &self.buffer)? else { return Ok(None) };
                    let plain = decompress(&self.buffer[..len])?;
                    return self.whole(plain).map(Some);
                }
                State::Body(body) => {
                    let frame = body.advance(&mut self.buffer)?;
                    self.refused_states = body.refused_states();
                    return Ok(frame);
                }
            };
            match next {
                Some(state) => self.state = state,
                None => return Ok(None),
            }
        }
    }

    /// Takes a whole body off the buffer, which keeps no memory for what it no longer holds.
    fn take(&mut self, len: usize) -> BytesMut {
        let body = self.buffer.split_to(len);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        body
    }

    fn label(&mut self, security: &Security) -> Result<Option<State>, StreamError> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let (found, end) = match label::read(&self.buffer) {
            label::Header::Absent => (&[][..], 0),
            label::Header::Label { label, end } => (label, end),
            label::Header::Malformed => return Err(StreamError::BrokenLabel),
            label::Header::Incomplete => return Ok(None),
        };
        if !security.takes(found) && !mutated!(AnyLabel) {
            // What no member sends gets no answer.
            let kind = self.buffer.get(end).copied().filter(|_| end == 0);
            return Err(match kind {
                Some(kind) if !begins_frame(kind) => StreamError::UnexpectedType(kind),
                _ => StreamError::LabelMismatch,
            });
        }
        self.label = Some(Bytes::copy_from_slice(found));
        self.buffer.advance(end);
        Ok(Some(State::Type))
    }

    fn frame_type(&mut self, security: &Security) -> Result<Option<State>, StreamError> {
        let Some(&kind) = self.buffer.first() else { return Ok(None) };
        if kind == type_byte::ENCRYPT {
            if security.keyring.is_empty() {
                return Err(StreamError::NoKeys);
            }
            let Some((header, len)) = self.frame_header(STREAM_FRAME_LEN_MAX)? else {
                return Ok(None);
            };
            return Ok(Some(State::Encrypted { header, len }));
        }
        // That the label is another can only be said in clear.
        let says_why = self.role == Role::Dialer && kind == type_byte::ERR;
        if security.requires_encryption() && !says_why {
            return Err(StreamError::NotEncrypted);
        }
        if kind == type_byte::KV {
            let header = self.frame_header(KV_PAYLOAD_LEN_MAX)?;
            return Ok(header.map(|(_, len)| State::Kv { len }));
        }
        self.buffer.advance(1);
        if kind == type_byte::COMPRESS {
            return Ok(Some(State::Compressed(Scan::default())));
        }
        Ok(Some(State::Body(Box::new(self.body(kind)?))))
    }

    /// Type and length at the front of the buffer, taken off it once they are there.
    fn frame_header(
        &mut self,
        max: usize,
    ) -> Result<Option<([u8; FRAME_HEADER_LEN], usize)>, StreamError> {
        let Some(&header) = self.buffer.first_chunk::<FRAME_HEADER_LEN>() else { return Ok(None) };
        let [_, a, b, c, d] = header;
        let len = u32::from_be_bytes([a, b, c, d]);
        if u64::from(len) > max as u64 {
            return Err(StreamError::FrameTooLong { len: u64::from(len), max });
        }
        self.buffer.advance(FRAME_HEADER_LEN);
        Ok(Some((header, len as usize)))
    }

    fn body(&self, kind: u8) -> Result<Body, StreamError> {
        Body::new(kind).filter(|_| self.role.takes(kind)).ok_or(StreamError::UnexpectedType(kind))
    }

    fn decrypted(
        &mut self,
        security: &Security,
        header: [u8; FRAME_HEADER_LEN],
        blob: &[u8],
    ) -> Result<Frame, StreamError> {
        let aad = authenticated(header, self.label.as_ref().unwrap_or(&security.label));
        let (plain, _) = security.keyring.open(&aad, blob)?;
        match plain.first() {
            None => Err(StreamError::EmptyFrame),
            Some(&type_byte::KV) => Ok(Frame::Kv(Bytes::from(plain).slice(1..).into())),
            Some(&type_byte::COMPRESS) => self.whole(decompress(&plain[1..])?),
            Some(_) => self.whole(plain),
        }
    }

    /// Decodes a message of which no more bytes will come, type byte first.
    fn whole(&mut self, plain: Vec<u8>) -> Result<Frame, StreamError> {
        let kind = *plain.first().ok_or(StreamError::EmptyFrame)?;
        let mut body = self.body(kind)?;
        let mut rest = BytesMut::from(Bytes::from(plain));
        rest.advance(1);
        let frame = body.advance(&mut rest)?;
        self.refused_states = body.refused_states();
        let error = DecodeError::Truncated { missing: 1 };
        frame.ok_or(StreamError::Decode { kind, error })
    }
}

/// Whether a dialler's frame can begin with this byte.
fn begins_frame(kind: u8) -> bool {
    matches!(kind, type_byte::ENCRYPT | type_byte::COMPRESS | type_byte::KV)
        || Role::Acceptor.takes(kind)
}

fn decompress(body: &[u8]) -> Result<Vec<u8>, StreamError> {
    lzw::decompress(body, STREAM_INFLATED_LEN_MAX).map_err(StreamError::Decompress)
}

/// Length of the compression struct at the front of `bytes`, once all of it is there.
fn compressed_len(scan: &mut Scan, bytes: &[u8]) -> Result<Option<usize>, StreamError> {
    let (len, complete) = match scan.advance(bytes).map_err(StreamError::Decompress)? {
        Progress::Complete(len) => (len as u64, true),
        Progress::Incomplete { needed } => (needed, false),
    };
    if len > STREAM_TOTAL_LEN_MAX as u64 {
        return Err(StreamError::MessageTooLong(STREAM_TOTAL_LEN_MAX));
    }
    Ok(complete.then_some(len as usize))
}
