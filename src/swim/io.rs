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
    /// Run a push-pull over a stream; end it with `push_pull_done`, `exchange_refused` or
    /// `exchange_failed`.
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

/// Why a join came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Nobody answered, or nothing that says more; the text says what happened.
    #[error("{0}")]
    NoAnswer(String),
    /// Somebody is there and does not want us, or we it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The address leads to ourselves.
    #[error("it is this node itself")]
    Ourselves,
}

/// Why two nodes that reach each other do not become members of one cluster. As a sentence whose
/// subject is the other one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its gossip key is another one, or only one of us encrypts.
    #[error("its gossip key is another, or only one of the two nodes has one")]
    Key,
    /// Its label is another one, or only one of us has one.
    #[error("its label is another, or only one of the two nodes has one")]
    Label,
    /// It accepts connections and closes them without a word.
    #[error(
        "it closes connections without an answer: its gossip key or label is another, most likely"
    )]
    Silence,
    /// It speaks other protocol versions; the text says which.
    #[error("it speaks other protocol versions: {0}")]
    Version(String),
    /// Another live node has our name.
    #[error("our name is taken by {0}")]
    NameTaken(SocketAddr),
    /// It claims the name of another live member.
    #[error("it claims the name {name}, which {holder} has")]
    NameClaimed {
        /// The contested name.
        name: NodeName,
        /// The member that has it.
        holder: SocketAddr,
    },
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
    /// A probe of this member came to nothing: no answer by UDP, none by way of others, none over a
    /// stream.
    ProbeFailed {
        /// Who did not answer.
        name: NodeName,
        /// Members that were asked to ping it.
        helpers: u32,
        /// How many of them said that they got no answer either; the others were silent.
        nacks: u32,
    },
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
    /// A member that did not answer by UDP does again.
    UdpOpen(NodeName),
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
    /// A join by push-pull with this address ended.
    JoinDone {
        /// The address dialled.
        peer: SocketAddr,
        /// `Ok`, or why not.
        result: Result<(), JoinError>,
    },
    /// Our leave has been told to the others as often as the retransmit limit asks.
    LeaveDone,
}

impl Event {
    /// Whether the table of members is another one since.
    #[must_use]
    pub fn changes_members(&self) -> bool {
        !matches!(
            self,
            Event::Refuted(_)
                | Event::Conflict { .. }
                | Event::JoinDone { .. }
                | Event::ProbeFailed { .. }
        )
    }
}
