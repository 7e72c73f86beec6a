//! Streams: where a frame ends, and the layers around it.
//!
//! ```text
//! dialler  -> acceptor : [f4 len label] frame          label once per connection
//! acceptor -> dialler  :                frame          no label, yet authenticated when encrypted
//!
//! frame      plain  |  09 compress(plain)  |  0a len u32 | encrypted (plain or 09 compress(plain))
//! plain      00 ping | 02 ack | 0d err | 08 { UserMsgLen } payload
//!            06 { Join, Nodes, UserStateLen } node state ... user state
//!            c8 len u32 | payload              (ours; without the length where it is encrypted)
//! ```
//!
//! Encrypted frames authenticate their five header bytes and the label. memberlist exchanges one
//! request and at most one reply per connection; only our replication frames follow each other.

mod body;
mod payload;
mod reader;
mod refusal;

pub(super) use body::Body;
pub use payload::Payload;
pub use reader::{FrameReader, ROOM_LEN_MAX, Role};
pub use refusal::{Mismatch, encode_refusal};

use super::codec::type_byte;
use super::error::DecodeError;
use super::keyring::{CryptError, NONCE_LEN, OVERHEAD};
use super::message::{Ack, Ping, PushPull};
use super::msgpack::Writer;
use super::packet::Security;
use super::{label, lzw};
use crate::limits::STREAM_FRAME_LEN_MAX;
use bytes::Bytes;

/// Longest payload of a replication frame: one that still fits an encrypted frame.
pub const KV_PAYLOAD_LEN_MAX: usize = STREAM_FRAME_LEN_MAX - OVERHEAD - 1;
/// Bytes before an encrypted or a replication frame: its type and a length.
const FRAME_HEADER_LEN: usize = 5;

/// Shortest run of bytes that is worth a piece of its own.
pub const PIECE_LEN_MIN: usize = 16 << 10;

/// What a stream carries, its layers removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Everything a member knows of the others; answered with the same.
    PushPull(PushPull),
    /// A message for the layer above; not answered.
    User(Bytes),
    /// A probe where datagrams fail; answered with an ack.
    Ping(Ping),
    /// The answer to a ping.
    Ack(Ack),
    /// The answer to a frame that could not be read; its text, shown lossily.
    Error(String),
    /// Our replication: at most [`KV_PAYLOAD_LEN_MAX`] bytes, any number of frames each way.
    Kv(Payload),
}

/// Why a stream is given up. No frame comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A label header without a label.
    #[error("broken label header")]
    BrokenLabel,
    /// Another cluster's label, or one where there should be none, or none where there should be.
    #[error("label of another cluster")]
    LabelMismatch,
    /// Plaintext where encryption is required.
    #[error("encryption is required here and the stream is not encrypted")]
    NotEncrypted,
    /// An encrypted frame where we have no key.
    #[error("the stream is encrypted and encryption is not configured here")]
    NoKeys,
    /// An encrypted frame that could not be decrypted.
    #[error(transparent)]
    Decrypt(#[from] CryptError),
    /// A frame announced longer than its bound.
    #[error("frame of {len} bytes is longer than {max}")]
    FrameTooLong {
        /// As announced.
        len: u64,
        /// The bound.
        max: usize,
    },
    /// An encrypted or compressed frame with nothing in it.
    #[error("frame without a message")]
    EmptyFrame,
    /// A compressed frame that could not be decompressed.
    #[error("compressed frame: {0}")]
    Decompress(DecodeError),
    /// A type byte that this side does not take here.
    #[error("message type {0} is not expected on this stream")]
    UnexpectedType(u8),
    /// A message, or its header, or a node state, that could not be decoded.
    #[error("message type {kind}: {error}")]
    Decode {
        /// Its type byte.
        kind: u8,
        /// What is wrong.
        error: DecodeError,
    },
    /// A count or length of a header outside its bound.
    #[error("{field} of {value} is outside 0..={max}")]
    OutOfBounds {
        /// The field of the header.
        field: &'static str,
        /// As announced.
        value: i64,
        /// The bound.
        max: usize,
    },
    /// The message as a whole is longer than we take.
    #[error("message is longer than {0} bytes")]
    MessageTooLong(usize),
}

impl StreamError {
    /// The text of the error frame the acceptor answers with before it closes, or `None` when it
    /// closes silently: what the layers hide is worth an answer, as in memberlist, and so is
    /// another label, which memberlist passes over in silence. A nonsensical message is not.
    #[must_use]
    pub fn reply(&self) -> Option<String> {
        match self {
            StreamError::NotEncrypted
            | StreamError::NoKeys
            | StreamError::Decrypt(_)
            | StreamError::LabelMismatch
            | StreamError::FrameTooLong { .. }
            | StreamError::EmptyFrame
            | StreamError::Decompress(_) => Some(self.to_string()),
            StreamError::BrokenLabel
            | StreamError::UnexpectedType(_)
            | StreamError::Decode { .. }
            | StreamError::OutOfBounds { .. }
            | StreamError::MessageTooLong(_) => None,
        }
    }
}

/// The first frame of a connection as its dialler sends it: label header and frame.
#[must_use]
pub fn encode_request(security: &Security, frame: &Frame, nonce: [u8; NONCE_LEN]) -> Bytes {
    let mut out = Vec::new();
    label::write(&security.label, &mut out);
    encode_frame(security, frame, nonce, &mut out);
    out.into()
}

/// A frame without the label header: a reply, or the second and later frames of a dialler.
#[must_use]
pub fn encode_reply(security: &Security, frame: &Frame, nonce: [u8; NONCE_LEN]) -> Bytes {
    let mut out = Vec::new();
    encode_frame(security, frame, nonce, &mut out);
    out.into()
}

/// As [`encode_reply`], in pieces to be written one after the other: a long payload that is sent
/// as it is keeps its pieces instead of being copied.
pub fn encode_reply_pieces(
    security: &Security,
    frame: &Frame,
    nonce: [u8; NONCE_LEN],
    pieces: &mut Vec<Bytes>,
) {
    match frame {
        Frame::Kv(payload) if payload.len() >= PIECE_LEN_MIN && !security.encrypts() => {
            pieces.push(Bytes::copy_from_slice(&frame_header(type_byte::KV, payload.len())));
            pieces.extend(payload.pieces().cloned());
        }
        _ => pieces.push(encode_reply(security, frame, nonce)),
    }
}

fn encode_frame(security: &Security, frame: &Frame, nonce: [u8; NONCE_LEN], out: &mut Vec<u8>) {
    if let (Frame::Kv(payload), false) = (frame, security.encrypts()) {
        out.reserve(FRAME_HEADER_LEN + payload.len());
        out.extend_from_slice(&frame_header(type_byte::KV, payload.len()));
        payload.pieces().for_each(|piece| out.extend_from_slice(piece));
        return;
    }
    let mut plain = frame.encode();
    // Unlike on datagrams, memberlist compresses streams even where that makes them longer.
    if security.compress && !matches!(frame, Frame::Kv(_)) {
        plain = lzw::compress(&plain).into();
    }
    if !security.encrypts() {
        out.extend_from_slice(&plain);
        return;
    }
    let header = frame_header(type_byte::ENCRYPT, plain.len() + OVERHEAD);
    out.reserve(FRAME_HEADER_LEN + OVERHEAD + plain.len());
    out.extend_from_slice(&header);
    security.keyring.seal(nonce, &authenticated(header, &security.label), &plain, out);
}

fn frame_header(kind: u8, len: usize) -> [u8; FRAME_HEADER_LEN] {
    debug_assert!(len <= STREAM_FRAME_LEN_MAX, "receivers refuse a frame of {len} bytes");
    let [a, b, c, d] = u32::try_from(len).expect("a frame is far below 4 GiB").to_be_bytes();
    [kind, a, b, c, d]
}

/// What the tag of an encrypted frame covers besides the frame.
pub(super) fn authenticated(header: [u8; FRAME_HEADER_LEN], label: &[u8]) -> Vec<u8> {
    [&header, label].concat()
}

impl Frame {
    /// The frame as bytes without any layer, type byte first.
    fn encode(&self) -> Bytes {
        match self {
            Frame::PushPull(push_pull) => push_pull.encode(),
            Frame::Ping(ping) => ping.encode(),
            Frame::Ack(ack) => ack.encode(),
            Frame::User(payload) => {
                let mut out = Writer::message(type_byte::USER, 20 + payload.len());
                out.map(1);
                out.key("UserMsgLen").len(payload.len());
                out.0.extend_from_slice(payload);
                out.0.into()
            }
            Frame::Error(text) => {
                let mut out = Writer::message(type_byte::ERR, 16 + text.len());
                out.map(1);
                out.key("Error").raw(text.as_bytes());
                out.0.into()
            }
            Frame::Kv(payload) => {
                let mut out = Vec::with_capacity(1 + payload.len());
                out.push(type_byte::KV);
                payload.pieces().for_each(|piece| out.extend_from_slice(piece));
                out.into()
            }
        }
    }
}
