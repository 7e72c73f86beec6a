//! Typed messages to bytes and back.
//!
//! A message is its type byte and a MessagePack struct; a user message is its type byte and raw
//! bytes. Every key is always sent, in bytewise order, but the `Source*` ones, which are left out
//! when empty; on the way in any key may be missing and then has its zero value.

use super::error::DecodeError;
use super::message::{
    Ack, AddrBytes, Alive, Dead, IndirectPing, Message, Nack, NodeName, Ping, PushNodeState,
    PushPull, Suspect, Vsn,
};
use super::msgpack::{Fields, Reader, Writer};
use crate::limits::{ADDR_LEN_MAX, META_LEN_MAX, VSN_LEN_MAX};
use bytes::Bytes;

/// The first byte of every message and layer.
pub mod type_byte {
    /// `ping`.
    pub const PING: u8 = 0;
    /// `indirectPingReq`.
    pub const INDIRECT_PING: u8 = 1;
    /// `ackResp`.
    pub const ACK: u8 = 2;
    /// `suspect`.
    pub const SUSPECT: u8 = 3;
    /// `alive`.
    pub const ALIVE: u8 = 4;
    /// `dead`.
    pub const DEAD: u8 = 5;
    /// Push-pull, streams only.
    pub const PUSH_PULL: u8 = 6;
    /// Several messages in one.
    pub const COMPOUND: u8 = 7;
    /// User message.
    pub const USER: u8 = 8;
    /// LZW around a message.
    pub const COMPRESS: u8 = 9;
    /// Encrypted frame, streams only (an encrypted datagram has no type byte).
    pub const ENCRYPT: u8 = 10;
    /// `nackResp`.
    pub const NACK: u8 = 11;
    /// CRC-32 before a datagram's message.
    pub const HAS_CRC: u8 = 12;
    /// Error reply, streams only.
    pub const ERR: u8 = 13;
    /// Our replication frame, streams between nodes of our kind only.
    pub const KV: u8 = 200;
    /// Label before everything else.
    pub const HAS_LABEL: u8 = 244;
}

impl Message {
    /// The message as bytes, type byte first.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Message::Ping(ping) => ping.encode(),
            Message::IndirectPing(request) => request.encode(),
            Message::Ack(ack) => ack.encode(),
            Message::Nack(nack) => nack.encode(),
            Message::Suspect(suspect) => suspect.encode(),
            Message::Alive(alive) => alive.encode(),
            Message::Dead(dead) => dead.encode(),
            Message::User(payload) => {
                let mut bytes = Vec::with_capacity(1 + payload.len());
                bytes.push(type_byte::USER);
                bytes.extend_from_slice(payload);
                bytes.into()
            }
        }
    }

    /// Reads one message, type byte first. A user payload is a slice of `bytes`; all else is
    /// copied, so that a member's meta does not keep a whole datagram alive.
    ///
    /// # Errors
    /// See [`DecodeError`]. Layers (compound, compression, CRC) and stream-only types are
    /// unexpected here.
    pub fn decode(bytes: &Bytes) -> Result<Message, DecodeError> {
        let (kind, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
        let mut reader = Reader::new(body);
        Ok(match *kind {
            type_byte::PING => Message::Ping(reader.fields()?),
            type_byte::INDIRECT_PING => Message::IndirectPing(reader.fields()?),
            type_byte::ACK => Message::Ack(reader.fields()?),
            type_byte::NACK => Message::Nack(reader.fields()?),
            type_byte::SUSPECT => {
                let Accusation { incarnation, node, from } = reader.fields()?;
                Message::Suspect(Suspect { incarnation, node, from })
            }
            type_byte::ALIVE => Message::Alive(reader.fields()?),
            type_byte::DEAD => {
                let Accusation { incarnation, node, from } = reader.fields()?;
                Message::Dead(Dead { incarnation, node, from })
            }
            type_byte::USER => Message::User(bytes.slice(1..)),
            other => return Err(DecodeError::UnexpectedType(other)),
        })
    }
}

impl Vsn {
    /// Length on the wire in bytes.
    pub const LEN: usize = 6;

    /// The six bytes as every alive message and push-pull entry carries them.
    #[must_use]
    pub fn to_bytes(self) -> Bytes {
        let Vsn { pmin, pmax, pcur, dmin, dmax, dcur } = self;
        Bytes::copy_from_slice(&[pmin, pmax, pcur, dmin, dmax, dcur])
    }

    /// The first six bytes of `bytes`, or `None` when there are fewer.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Vsn> {
        let [pmin, pmax, pcur, dmin, dmax, dcur] = *bytes.first_chunk::<{ Vsn::LEN }>()?;
        Some(Vsn { pmin, pmax, pcur, dmin, dmax, dcur })
    }
}

impl Ping {
    /// The message as bytes, type byte first.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let source = Source(&self.source_addr, &self.source_node, self.source_port);
        let mut out = Writer::message(type_byte::PING, 80 + self.node.as_bytes().len());
        out.map(2 + source.n_fields());
        out.key("Node").raw(self.node.as_bytes());
        out.key("SeqNo").uint(self.seq_no);
        source.write(&mut out);
        out.0.into()
    }
}

impl<'a> Fields<'a> for Ping {
    const NAMES: &'static [&'static str] =
        &["SeqNo", "Node", "SourceAddr", "SourcePort", "SourceNode"];

    fn read_field(&mut self, index: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match index {
            0 => self.seq_no = reader.u32()?,
            1 => self.node = reader.name("Node")?,
            2 => self.source_addr = read_addr("SourceAddr", reader)?.unwrap_or_default(),
            3 => self.source_port = reader.u16()?,
            _ => self.source_node = reader.name("SourceNode")?,
        }
        Ok(())
    }
}

impl IndirectPing {
    /// The message as bytes, type byte first.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let source = Source(&self.source_addr, &self.source_node, self.source_port);
        let mut out = Writer::message(type_byte::INDIRECT_PING, 110 + self.node.as_bytes().len());
        out.map(5 + source.n_fields());
        out.key("Nack").bool(self.nack);
        out.key("Node").raw(self.node.as_bytes());
        out.key("Port").uint(u32::from(self.port));
        out.key("SeqNo").uint(self.seq_no);
        source.write(&mut out);
        out.key("Target").raw_or_nil(self.target.as_deref());
        out.0.into()
    }
}

impl<'a> Fields<'a> for IndirectPing {
    const NAMES: &'static [&'static str] =
        &["SeqNo", "Target", "Port", "Node", "Nack", "SourceAddr", "SourcePort", "SourceNode"];

    fn read_field(&mut self, index: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match index {
            0 => self.seq_no = reader.u32()?,
            1 => self.target = reader.owned_bytes("Target", ADDR_LEN_MAX)?,
            2 => self.port = reader.u16()?,
            3 => self.node = reader.name("Node")?,
            4 => self.nack = reader.bool()?,
            5 => self.source_addr = read_addr("SourceAddr", reader)?.unwrap_or_default(),
            6 => self.source_port = reader.u16()?,
            _ => self.source_node = reader.name("SourceNode")?,
        }
        Ok(())
    }
}

impl Ack {
    /// The message as bytes, type byte first.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let payload_len = self.payload.as_ref().map_or(0, Bytes::len);
        let mut out = Writer::message(type_byte::ACK, 25 + payload_len);
        out.map(2);
        out.key("Payload").raw_or_nil(self.payload.as_deref());
        out.key("SeqNo").uint(self.seq_no);
        out.0.into()
    }
}

impl<'a> Fields<'a> for Ack {
    const NAMES: &'static [&'static str] = &["SeqNo", "Payload"];

    fn read_field(&mut self, index: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match index {
            0 => self.seq_no = reader.u32()?,
            _ => self.payload = reader.owned_bytes("Payload", usize::MAX)?,
        }
        Ok(())
    }
}

impl Nack {
    /// The message as bytes, type byte first.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::message(type_byte::NACK, 12);
        out.map(1);
        out.key("SeqNo").uint(self.seq_no);
        out.0.into()
    }
}

impl<'a> Fields<'a> for Nack {
    const NAMES: &'static [&'static str] = &["SeqNo"];

    fn read_field(&mut self, _: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        self.seq_no = reader.u32()?;
        Ok(())
    }
}

impl Suspect {
    /// The message as bytes, type byte first.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode_accusation(type_byte::SUSPECT, self.incarnation, &self.node, &self.from)
    }
}

impl Dead {
    /// The message as bytes, type byte first.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode_accusation(type_byte::DEAD, self.incarnation, &self.node, &self.from)
    }
}

/// The body `suspect` and `dead` share.
#[derive(Debug, Default)]
struct Accusation {
    incarnation: u32,
    node: NodeName,
    from: NodeName,
}

fn encode_accusation(kind: u8, incarnation: u32, node: &NodeName, from: &NodeName) -> Bytes {
    let mut out = Writer::message(kind, 40 + node.as_bytes().len() + from.as_bytes().len());
    out.map(3);
    out.key("From").raw(from.as_bytes());
    out.key("Incarnation").uint(incarnation);
    out.key("Node").raw(node.as_bytes());
    out.0.into()
}

impl<'a> Fields<'a> for Accusation {
    const NAMES: &'static [&'static str] = &["Incarnation", "Node", "From"];

    fn read_field(&mut self, index: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match index {
            0 => self.incarnation = reader.u32()?,
            1 => self.node = reader.name("Node")?,
            _ => self.from = reader.name("From")?,
        }
        Ok(())
    }
}

impl Alive {
    /// The message as bytes, type byte first.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let meta_len = self.meta.as_ref().map_or(0, Bytes::len);
        let mut out = Writer::message(type_byte::ALIVE, 90 + self.node.as_bytes().len() + meta_len);
        out.map(6);
        out.key("Addr").raw_or_nil(self.addr.as_ref().map(|addr| &addr.0[..]));
        out.key("Incarnation").uint(self.incarnation);
        out.key("Meta").raw_or_nil(self.meta.as_deref());
        out.key("Node").raw(self.node.as_bytes());
        out.key("Port").uint(u32::from(self.port));
        out.key("Vsn").raw_or_nil(self.vsn.as_deref());
        out.0.into()
    }
}

impl<'a> Fields<'a> for Alive {
    const NAMES: &'static [&'static str] = &["Incarnation", "Node", "Addr", "Port", "Meta", "Vsn"];

    fn read_field(&mut self, index: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match index {
            0 => self.incarnation = reader.u32()?,
            1 => self.node = reader.name("Node")?,
            2 => self.addr = read_addr("Addr", reader)?,
            3 => self.port = reader.u16()?,
            4 => self.meta = reader.owned_bytes("Meta", META_LEN_MAX)?,
            _ => self.vsn = reader.owned_bytes("Vsn", VSN_LEN_MAX)?,
        }
        Ok(())
    }
}

impl PushNodeState {
    /// Appends the entry; it has no type byte.
    fn write(&self, out: &mut Writer) {
        out.map(7);
        out.key("Addr").raw_or_nil(self.addr.as_ref().map(|addr| &addr.0[..]));
        out.key("Incarnation").uint(self.incarnation);
        out.key("Meta").raw_or_nil(self.meta.as_deref());
        out.key("Name").raw(self.name.as_bytes());
        out.key("Port").uint(u32::from(self.port));
        out.key("State").int(self.state);
        out.key("Vsn").raw_or_nil(self.vsn.as_deref());
    }
}

impl<'a> Fields<'a> for PushNodeState {
    const NAMES: &'static [&'static str] =
        &["Name", "Addr", "Port", "Meta", "Incarnation", "State", "Vsn"];

    fn read_field(&mut self, index: usize, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match index {
            0 => self.name = reader.name("Name")?,
            1 => self.addr = read_addr("Addr", reader)?,
            2 => self.port = reader.u16()?,
            3 => self.meta = reader.owned_bytes("Meta", META_LEN_MAX)?,
            4 => self.incarnation = reader.u32()?,
            5 => self.state = reader.i64()?,
            _ => self.vsn = reader.owned_bytes("Vsn", VSN_LEN_MAX)?,
        }
        Ok(())
    }
}

impl PushPull {
    /// The message as bytes, type byte first: header, node states, raw user state.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let capacity = 40 + 100 * self.nodes.len() + self.user_state.len();
        let mut out = Writer::message(type_byte::PUSH_PULL, capacity);
        out.map(3);
        out.key("Join").bool(self.join);
        out.key("Nodes").len(self.nodes.len());
        out.key("UserStateLen").len(self.user_state.len());
        for node in &self.nodes {
            node.write(&mut out);
        }
        out.0.extend_from_slice(&self.user_state);
        out.0.into()
    }
}

/// The three optional fields that say who asks.
struct Source<'a>(&'a AddrBytes, &'a NodeName, u16);

impl Source<'_> {
    fn n_fields(&self) -> u8 {
        let Source(addr, node, port) = self;
        u8::from(!addr.0.is_empty()) + u8::from(!node.is_empty()) + u8::from(*port != 0)
    }

    fn write(&self, out: &mut Writer) {
        let Source(addr, node, port) = self;
        if !addr.0.is_empty() {
            out.key("SourceAddr").raw(&addr.0);
        }
        if !node.is_empty() {
            out.key("SourceNode").raw(node.as_bytes());
        }
        if *port != 0 {
            out.key("SourcePort").uint(u32::from(*port));
        }
    }
}

fn read_addr(
    field: &'static str,
    reader: &mut Reader<'_>,
) -> Result<Option<AddrBytes>, DecodeError> {
    Ok(reader.owned_bytes(field, ADDR_LEN_MAX)?.map(AddrBytes))
}
