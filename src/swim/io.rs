//! What comes out of the membership machine, and how it names things.

use crate::time::Instant;
use crate::wire::message::{NodeName, Ping, PushNodeState};
use bytes::Bytes;
use std::net::SocketAddr;

/// Pairs a stream exchange with its end. Unique within one [`crate::swim`] machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub u64);

/// One datagram to send: encoded messages in order, not yet compounded or sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where to.
    pub to: SocketAddr,
    /// The member it is meant for, when known (a reply to an unknown source has none).
    pub member: Option<NodeName>,
    /// Whether the receiver announced that it checks a CRC (`pmax >= 5`).
    pub crc: bool,
    /// The encoded messages, type byte first; their compound fits the datagram budget.
    pub parts: Vec<Bytes>,
}

/// What the machine asks of its shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send one datagram.
    Packet(Packet),
    /// Run a push-pull over a stream; end it with `push_pull_done` or `exchange_failed`.
    PushPull {
        /// Pairs request and end.
        id: ExchangeId,
        /// Whom to dial.
        peer: SocketAddr,
        /// The member dialled, when known.
        member: Option<NodeName>,
        /// First contact.
        join: bool,
        /// Our states to send.
        states: Vec<PushNodeState>,
        /// When to give up.
        deadline: Instant,
    },
    /// Ping over a stream; end it with `stream_ack` or `exchange_failed`.
    StreamPing {
        /// Pairs request and end.
        id: ExchangeId,
        /// Whom to dial.
        peer: SocketAddr,
        /// The ping to send.
        ping: Ping,
        /// When to give up.
        deadline: Instant,
    },
    /// Something the layers above want to know.
    Event(Event),
}

/// Something that happened to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member became alive that was unknown, dead or left.
    Joined(NodeName),
    /// An alive member's meta or address changed.
    Updated(NodeName),
    /// A member is suspected; the accuser's name follows.
    Suspected(NodeName, NodeName),
    /// A suspected member proved alive.
    Recovered(NodeName),
    /// A member was declared dead.
    Failed(NodeName),
    /// A member left of its own will.
    Left(NodeName),
    /// A member was forgotten.
    Reaped(NodeName),
    /// A member answers probes over a stream but no longer by UDP: a firewall, most likely. Told
    /// once until it answers by UDP again.
    UdpBlocked(NodeName),
    /// We were accused and raised our incarnation to this.
    Refuted(u32),
    /// Another node claims a known member's name from another address.
    Conflict {
        /// The contested name.
        name: NodeName,
        /// The address we hold for it.
        known: SocketAddr,
        /// The address now claimed.
        claimed: SocketAddr,
    },
    /// What a push-pull said was not merged: its versions do not go with ours.
    MergeRefused {
        /// Who sent it.
        peer: SocketAddr,
        /// Which versions, and what they would have to be.
        why: String,
    },
    /// A join by push-pull with this address ended; the text says why it failed.
    JoinDone {
        /// The address dialled.
        peer: SocketAddr,
        /// `Ok`, or why not.
        result: Result<(), String>,
    },
    /// Our leave has been told to the others as often as the retransmit limit asks.
    LeaveDone,
}
