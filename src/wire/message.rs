//! The messages of the gossip protocol as typed values.
//!
//! Field names follow the wire (`memberlist`'s Go structs). Byte fields are [`Bytes`]; `None` is
//! the wire's nil, which differs from an empty value only in how it is encoded.

use bytes::Bytes;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// A member's unique name: any bytes, compared exactly. Shown lossily.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<[u8]>);

impl NodeName {
    /// The name as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the empty name, which a ping uses for "whoever you are".
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for NodeName {
    fn default() -> NodeName {
        NodeName(Arc::from([]))
    }
}

impl From<&str> for NodeName {
    fn from(name: &str) -> NodeName {
        NodeName(Arc::from(name.as_bytes()))
    }
}

impl From<&[u8]> for NodeName {
    fn from(name: &[u8]) -> NodeName {
        NodeName(Arc::from(name))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// An address as a member announced it: 4 or 16 bytes, kept verbatim because Go peers compare it
/// by bytes (the same IPv4 in 4 and in 16 bytes is a conflict to them).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AddrBytes(pub Bytes);

impl AddrBytes {
    /// The shortest form of `ip`: 4 bytes for IPv4, 16 for IPv6.
    #[must_use]
    pub fn from_ip(ip: IpAddr) -> AddrBytes {
        AddrBytes(match ip {
            IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
        })
    }

    /// The address to dial: IPv4 for 4 bytes and for IPv4-mapped 16 bytes; `None` for other
    /// lengths.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        if let Ok(octets) = <[u8; 4]>::try_from(&self.0[..]) {
            return Some(IpAddr::V4(Ipv4Addr::from(octets)));
        }
        let octets = <[u8; 16]>::try_from(&self.0[..]).ok()?;
        Some(Ipv6Addr::from(octets).to_canonical())
    }

    /// Address and port to dial.
    #[must_use]
    pub fn socket_addr(&self, port: u16) -> Option<SocketAddr> {
        self.ip().map(|ip| SocketAddr::new(ip, port))
    }
}

/// Protocol versions a member announces: `pmin pmax pcur dmin dmax dcur`, six bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Vsn {
    /// Lowest memberlist protocol understood.
    pub pmin: u8,
    /// Highest memberlist protocol understood.
    pub pmax: u8,
    /// Memberlist protocol spoken.
    pub pcur: u8,
    /// Lowest delegate protocol understood.
    pub dmin: u8,
    /// Highest delegate protocol understood.
    pub dmax: u8,
    /// Delegate protocol spoken.
    pub dcur: u8,
}

/// `ping` (type 0). Empty source fields are left out on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ping {
    /// Pairs the ping with its ack.
    pub seq_no: u32,
    /// Whom the ping is for; another node ignores it, an empty name is answered by anyone.
    pub node: NodeName,
    /// Where to send the ack, when not empty.
    pub source_addr: AddrBytes,
    /// Port to send the ack to, when not 0.
    pub source_port: u16,
    /// Who asks.
    pub source_node: NodeName,
}

/// `indirectPingReq` (type 1): please ping `target` for me.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IndirectPing {
    /// The requester's number, echoed in the relayed ack.
    pub seq_no: u32,
    /// Address of the member to ping; `None` on the wire is nil.
    pub target: Option<Bytes>,
    /// Port of the member to ping; 0 means our own bind port.
    pub port: u16,
    /// Name of the member to ping.
    pub node: NodeName,
    /// Whether the requester wants a nack when there is no answer.
    pub nack: bool,
    /// Where to send the ack, when not empty.
    pub source_addr: AddrBytes,
    /// Port to send the ack to, when not 0.
    pub source_port: u16,
    /// Who asks.
    pub source_node: NodeName,
}

/// `ackResp` (type 2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ack {
    /// The ping's number.
    pub seq_no: u32,
    /// Whatever the peer's ping delegate adds (Serf: coordinates); `None` is nil.
    pub payload: Option<Bytes>,
}

/// `nackResp` (type 11): the relayed ping was not answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Nack {
    /// The indirect ping's number.
    pub seq_no: u32,
}

/// `suspect` (type 3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Suspect {
    /// Incarnation accused.
    pub incarnation: u32,
    /// Member accused.
    pub node: NodeName,
    /// Accuser.
    pub from: NodeName,
}

/// `dead` (type 5). `from == node` means the member left of its own will.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dead {
    /// Incarnation declared dead.
    pub incarnation: u32,
    /// Member declared dead.
    pub node: NodeName,
    /// Who declares it.
    pub from: NodeName,
}

/// `alive` (type 4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alive {
    /// Incarnation announced.
    pub incarnation: u32,
    /// Member announced.
    pub node: NodeName,
    /// Its address, verbatim; `None` is nil.
    pub addr: Option<AddrBytes>,
    /// Its port; 0 means the receiver's own bind port.
    pub port: u16,
    /// Its meta; `None` is nil.
    pub meta: Option<Bytes>,
    /// Its versions, verbatim (normally six bytes); `None` is nil.
    pub vsn: Option<Bytes>,
}

/// One entry of a push-pull (`pushNodeState`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushNodeState {
    /// Member name.
    pub name: NodeName,
    /// Its address, verbatim; `None` is nil.
    pub addr: Option<AddrBytes>,
    /// Its port.
    pub port: u16,
    /// Its meta; `None` is nil.
    pub meta: Option<Bytes>,
    /// Its incarnation.
    pub incarnation: u32,
    /// 0 alive, 1 suspect, 2 dead, 3 left; other values are kept and ignored by the merge.
    pub state: i64,
    /// Its versions, verbatim; `None` is nil.
    pub vsn: Option<Bytes>,
}

/// A whole push-pull message (type 6), one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushPull {
    /// First contact, as opposed to periodic anti-entropy.
    pub join: bool,
    /// Everything the sender knows of the members, itself included.
    pub nodes: Vec<PushNodeState>,
    /// What the sender's delegate adds; ours is the replication digest, for our kind only.
    pub user_state: Bytes,
}

/// One message of a datagram, the layers around it removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Type 0.
    Ping(Ping),
    /// Type 1.
    IndirectPing(IndirectPing),
    /// Type 2.
    Ack(Ack),
    /// Type 3.
    Suspect(Suspect),
    /// Type 4.
    Alive(Alive),
    /// Type 5.
    Dead(Dead),
    /// Type 8: raw payload for the layer above.
    User(Bytes),
    /// Type 11.
    Nack(Nack),
}
