//! Captured bytes explained: one JSON object per layer and message, outermost first.
//!
//! Every object has a `type`, named as in memberlist's source; the other keys are the fields as
//! they are called on the wire. Byte fields read `hex:..`, nil is null, strings that are not
//! UTF-8 read `hexstr:..`. What cannot be decoded becomes `{"error": ..}`; the rest goes on.

use super::codec::type_byte;
use super::error::DecodeError;
use super::keyring::{CryptError, Keyring};
use super::message::{Message, NodeName, PushNodeState, PushPull};
use super::packet::{check_crc, split_compound};
use super::stream::{Body, Frame, authenticated};
use super::{label, lzw};
use crate::limits::{PACKET_DEPTH_MAX, PACKET_INFLATED_LEN_MAX, STREAM_INFLATED_LEN_MAX};
use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::{Value, json};

/// Most objects one input is explained in.
const LINES_MAX: usize = 10_000;

/// Explains one datagram. `label` is what a header is checked against, when not empty.
#[must_use]
pub fn packet(bytes: &[u8], keys: &Keyring, label: &[u8]) -> Vec<Value> {
    let mut lines = Lines::default();
    let mut datagram = Bytes::copy_from_slice(bytes);
    let Some(label) = lines.label(&mut datagram, label) else { return lines.lines };
    let opened = keys.open(&label, &datagram);
    let encrypted = match opened {
        Ok((plain, key)) => {
            lines.push(json!({
                "type": "encrypt", "version": datagram[0], "nonce": hex(&datagram[1..13]),
                "key": key.fingerprint(), "len": datagram.len(),
            }));
            datagram = plain.into();
            None
        }
        Err(error) => Some(error),
    };
    match check_crc(&mut datagram) {
        Ok(Some(crc)) => lines.push(json!({ "type": "hasCrc", "crc32": format!("{crc:08x}") })),
        Ok(None) => {}
        Err(error) => lines.error(&error),
    }
    let before = lines.lines.len();
    lines.message(datagram, 0);
    let undecoded = lines.lines.get(before).is_some_and(|line| line.get("error").is_some());
    match encrypted {
        Some(CryptError::NoKeyFits) if undecoded => {
            let hint = if keys.is_empty() { "none was given" } else { "none of those given fits" };
            lines.error(&format_args!("an encrypted datagram needs its key; {hint}"));
        }
        Some(_) | None => {}
    }
    lines.lines
}

/// Explains what one side of a connection sent. `label` is what a header is checked against, and
/// what authenticates a reply, which has no header.
#[must_use]
pub fn stream(bytes: &[u8], keys: &Keyring, label: &[u8]) -> Vec<Value> {
    let mut lines = Lines::default();
    let mut rest = Bytes::copy_from_slice(bytes);
    let Some(label) = lines.label(&mut rest, label) else { return lines.lines };
    loop {
        match lines.frame(&mut rest, keys, &label) {
            Ok(()) if rest.is_empty() => return lines.lines,
            Ok(()) => {}
            Err(error) => {
                lines.error(&error);
                return lines.lines;
            }
        }
        if rest[0] != type_byte::KV && rest[0] != type_byte::ENCRYPT {
            lines.push(json!({ "type": "ignored", "len": rest.len() }));
            return lines.lines;
        }
    }
}

/// One message as an object.
#[must_use]
pub fn message(message: &Message) -> Value {
    match message {
        Message::Ping(ping) => json!({
            "type": "ping", "SeqNo": ping.seq_no, "Node": text(&ping.node),
            "SourceAddr": nonempty(&ping.source_addr.0), "SourcePort": ping.source_port,
            "SourceNode": text(&ping.source_node),
        }),
        Message::IndirectPing(request) => json!({
            "type": "indirectPing", "SeqNo": request.seq_no,
            "Target": optional(request.target.as_ref()), "Port": request.port,
            "Node": text(&request.node), "Nack": request.nack,
            "SourceAddr": nonempty(&request.source_addr.0), "SourcePort": request.source_port,
            "SourceNode": text(&request.source_node),
        }),
        Message::Ack(ack) => json!({
            "type": "ackResp", "SeqNo": ack.seq_no, "Payload": optional(ack.payload.as_ref()),
        }),
        Message::Nack(nack) => json!({ "type": "nackResp", "SeqNo": nack.seq_no }),
        Message::Suspect(suspect) => json!({
            "type": "suspect", "Incarnation": suspect.incarnation, "Node": text(&suspect.node),
            "From": text(&suspect.from),
        }),
        Message::Dead(dead) => json!({
            "type": "dead", "Incarnation": dead.incarnation, "Node": text(&dead.node),
            "From": text(&dead.from),
        }),
        Message::Alive(alive) => json!({
            "type": "alive", "Incarnation": alive.incarnation, "Node": text(&alive.node),
            "Addr": optional(alive.addr.as_ref().map(|addr| &addr.0)), "Port": alive.port,
            "Meta": optional(alive.meta.as_ref()), "Vsn": optional(alive.vsn.as_ref()),
        }),
        Message::User(payload) => json!({ "type": "user", "payload": hex(payload) }),
    }
}

fn frame(frame: Frame) -> Value {
    match frame {
        Frame::Ping(ping) => message(&Message::Ping(ping)),
        Frame::Ack(ack) => message(&Message::Ack(ack)),
        Frame::User(payload) => json!({
            "type": "user", "UserMsgLen": payload.len(), "payload": hex(&payload),
        }),
        Frame::Error(text) => json!({ "type": "err", "Error": text }),
        Frame::Kv(payload) => json!({
            "type": "kv", "len": payload.len(), "payload": hex(&payload.join()),
        }),
        Frame::PushPull(PushPull { join, nodes, user_state }) => json!({
            "type": "pushPull", "Join": join, "Nodes": nodes.len(),
            "UserStateLen": user_state.len(),
            "nodes": nodes.iter().map(node_state).collect::<Vec<_>>(),
            "user_state": hex(&user_state),
        }),
    }
}

fn node_state(state: &PushNodeState) -> Value {
    json!({
        "Name": text(&state.name), "Addr": optional(state.addr.as_ref().map(|addr| &addr.0)),
        "Port": state.port, "Meta": optional(state.meta.as_ref()),
        "Incarnation": state.incarnation, "State": state.state,
        "Vsn": optional(state.vsn.as_ref()),
    })
}

struct Lines {
    lines: Vec<Value>,
    /// Bytes that the compressed layers of a datagram may still expand to.
    inflatable_len: usize,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines { lines: Vec::new(), inflatable_len: PACKET_INFLATED_LEN_MAX }
    }
}

impl Lines {
    fn push(&mut self, line: Value) {
        if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        }
    }

    fn error(&mut self, error: &dyn std::fmt::Display) {
        self.push(json!({ "error": error.to_string() }));
    }

    /// Takes the label header off; the label that authenticates what follows.
    fn label(&mut self, bytes: &mut Bytes, expected: &[u8]) -> Option<Vec<u8>> {
        match label::read(bytes) {
            label::Header::Absent => Some(expected.to_vec()),
            label::Header::Label { label, end } => {
                let label = label.to_vec();
                self.push(json!({ "type": "hasLabel", "label": lossless(&label) }));
                if !expected.is_empty() && label != expected {
                    let expected = lossless(expected);
                    self.error(&format_args!("another label than the expected {expected:?}"));
                }
                bytes.advance(end);
                Some(label)
            }
            label::Header::Malformed | label::Header::Incomplete => {
                self.error(&"broken label header");
                None
            }
        }
    }

    /// A message of a datagram with the layers it may nest in.
    fn message(&mut self, bytes: Bytes, depth: usize) {
        if depth > PACKET_DEPTH_MAX {
            return self.error(&DecodeError::TooDeep(PACKET_DEPTH_MAX));
        }
        match bytes.first() {
            Some(&type_byte::COMPOUND) => match split_compound(&bytes) {
                Ok((parts, outcome)) => {
                    self.push(json!({ "type": "compound", "parts": bytes[1] }));
                    for part in parts {
                        if self.lines.len() < LINES_MAX {
                            self.message(part, depth + 1);
                        }
                    }
                    if let Err(error) = outcome {
                        self.error(&error);
                    }
                }
                Err(error) => self.error(&error),
            },
            Some(&type_byte::COMPRESS) => {
                match lzw::decompress_within(&bytes[1..], &mut self.inflatable_len) {
                    Ok(plain) => {
                        self.compressed(bytes.len(), plain.len());
                        self.message(plain.into(), depth + 1);
                    }
                    Err(error) => self.error(&error),
                }
            }
            _ => match Message::decode(&bytes) {
                Ok(decoded) => self.push(message(&decoded)),
                Err(error) => self.error(&error),
            },
        }
    }

    /// One frame from the front of `rest`, all its layers.
    fn frame(&mut self, rest: &mut Bytes, keys: &Keyring, label: &[u8]) -> Result<(), String> {
        let kind = *rest.first().ok_or("nothing was sent")?;
        if kind != type_byte::ENCRYPT && kind != type_byte::KV {
            return self.plain_frame(rest);
        }
        let header = *rest.first_chunk::<5>().ok_or("ends inside a frame header")?;
        let [_, a, b, c, d] = header;
        rest.advance(header.len());
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > rest.len() {
            return Err(format!("ends {} bytes before its frame of {len} does", len - rest.len()));
        }
        let blob = rest.split_to(len);
        if kind == type_byte::KV {
            self.push(frame(Frame::Kv(blob.into())));
            return Ok(());
        }
        let (plain, key) =
            keys.open(&authenticated(header, label), &blob).map_err(|error| error.to_string())?;
        self.push(json!({
            "type": "encrypt", "version": blob[0], "nonce": hex(&blob[1..13]),
            "key": key.fingerprint(), "len": len,
        }));
        let mut plain = Bytes::from(plain);
        if plain.first() == Some(&type_byte::KV) {
            self.push(frame(Frame::Kv(plain.slice(1..).into())));
            return Ok(());
        }
        self.plain_frame(&mut plain)
    }

    fn plain_frame(&mut self, rest: &mut Bytes) -> Result<(), String> {
        let mut kind = *rest.first().ok_or("frame without a message")?;
        rest.advance(1);
        let mut body = BytesMut::from(std::mem::take(rest));
        if kind == type_byte::COMPRESS {
            let plain = lzw::decompress(&body, STREAM_INFLATED_LEN_MAX)
                .map_err(|error| error.to_string())?;
            self.compressed(1 + body.len(), plain.len());
            body = BytesMut::from(Bytes::from(plain));
            kind = *body.first().ok_or("frame without a message")?;
            body.advance(1);
        }
        let mut reader =
            Body::new(kind).ok_or_else(|| DecodeError::UnexpectedType(kind).to_string())?;
        match reader.advance(&mut body) {
            Ok(Some(decoded)) => self.push(frame(decoded)),
            Ok(None) => return Err(format!("message type {kind} is truncated")),
            Err(error) => return Err(error.to_string()),
        }
        if reader.refused_states() > 0 {
            let n_refused = reader.refused_states();
            self.error(&format_args!("{n_refused} node states left out: a field is too long"));
        }
        *rest = body.freeze();
        Ok(())
    }

    fn compressed(&mut self, len: usize, inflated_len: usize) {
        self.push(json!({
            "type": "compress", "Algo": 0, "len": len, "inflated_len": inflated_len,
        }));
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(4 + 2 * bytes.len());
    hex.push_str("hex:");
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            hex.push(char::from(DIGITS[usize::from(nibble)]));
        }
    }
    hex
}

fn optional(bytes: Option<&Bytes>) -> Option<String> {
    bytes.map(|bytes| hex(bytes))
}

fn nonempty(bytes: &Bytes) -> Option<String> {
    optional(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

fn text(name: &NodeName) -> String {
    lossless(name.as_bytes())
}

fn lossless(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => hex(bytes).replacen("hex:", "hexstr:", 1),
    }
}
