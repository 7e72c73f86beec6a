//! What goes into the node and what comes out of it.
//!
//! A shell calls [`handle`](super::Node::handle) with an [`Input`], then
//! [`poll`](super::Node::poll) until it says [`Output::Timeout`], then waits for the next input or
//! that deadline. A spurious timeout is harmless.
//!
//! A connection is a [`ConnId`] and frames in both directions. The node dials with even numbers,
//! the shell numbers what it accepts with odd ones. memberlist's exchanges are one frame each way;
//! a replication link carries [`Frame::Kv`] frames until it falls idle.

use super::command::{Command, Reply};
use super::formats::Formats;
use crate::kv::OriginId;
use crate::swim::io::Event;
use crate::time::Instant;
use crate::wire::message::NodeName;
use crate::wire::packet::Security;
use crate::wire::stream::{Frame, Mismatch};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;

/// One TCP connection, for as long as it lives. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Pairs a command with its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the shell tells the node.
#[derive(Debug)]
pub enum Input {
    /// A datagram arrived.
    Datagram {
        /// Its source.
        from: SocketAddr,
        /// All of it, layers on.
        bytes: Bytes,
    },
    /// A frame arrived on a connection, its layers already off. The first frame of an accepted
    /// connection makes it known.
    Frame {
        /// On which one.
        conn: ConnId,
        /// Its other end.
        from: SocketAddr,
        /// What it carried.
        frame: Frame,
    },
    /// A frame handed over for `conn` has been written to its socket.
    Sent {
        /// On which one.
        conn: ConnId,
        /// The payload length of that [`Frame::Kv`], 0 for other frames.
        len: usize,
    },
    /// The other end of a connection that we dialled does not want us: instead of an answer came
    /// something that we cannot read, or nothing. [`Input::Closed`] follows.
    Refused {
        /// On which one.
        conn: ConnId,
        /// What does not go together.
        mismatch: Mismatch,
    },
    /// A connection has ended, whoever ended it. Nothing more comes from it.
    Closed {
        /// Which one.
        conn: ConnId,
        /// What went wrong, when something did.
        error: Option<String>,
    },
    /// The store holds new local writes.
    Written,
    /// A request of the front.
    Command {
        /// Pairs it with its reply.
        ticket: Ticket,
        /// What is asked.
        command: Command,
    },
    /// The deadline has passed (or not: that is harmless).
    Timeout,
}

/// What the node tells the shell.
#[derive(Debug)]
pub enum Output {
    /// Seal and send one datagram to each of these addresses, best effort. Sealing once for all
    /// is fine.
    Datagram {
        /// Where to; at least one.
        to: Vec<SocketAddr>,
        /// Encoded messages, type byte first; their compound fits a datagram.
        parts: Vec<Bytes>,
        /// Whether the receivers check a CRC.
        crc: bool,
        /// Whether compressing may pay (membership yes, data no).
        compress: bool,
    },
    /// Dial and send this frame. The end is always told by [`Input::Closed`].
    Dial {
        /// Its number, even.
        conn: ConnId,
        /// Whom to dial.
        peer: SocketAddr,
        /// The first frame.
        frame: Frame,
        /// When to give up: the whole exchange, or for a link connecting and the first frame.
        deadline: Instant,
        /// Whether it is a replication link, which lives on.
        link: bool,
    },
    /// Send a frame on a connection; dropped without a word when it has just ended.
    Send {
        /// On which one.
        conn: ConnId,
        /// What.
        frame: Frame,
    },
    /// Close a connection once what was handed over before is written.
    Close {
        /// Which one.
        conn: ConnId,
    },
    /// The answer to a command.
    Reply {
        /// Whose.
        ticket: Ticket,
        /// What.
        reply: Reply,
    },
    /// Something worth a log line.
    Event(Event),
    /// Something worth a log line that is no membership event.
    Note(Note),
    /// Keys or switches have changed: seal and open with these from now on.
    Security(Arc<Security>),
    /// Nothing more until then.
    Timeout(Instant),
}

/// What the replication wants an operator to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A peer's write is stamped far ahead of our clock; it is kept.
    ClockAhead {
        /// The writer, as 16 hex digits.
        origin: String,
        /// How far ahead, in milliseconds.
        ahead_ms: u64,
    },
    /// This node stamps its writes far ahead of its own clock, which was ahead and has been set
    /// back.
    OwnClockAhead {
        /// How far ahead, in milliseconds.
        ahead_ms: u64,
    },
    /// The first copy of the store from a peer is complete.
    CopyDone {
        /// Keys and tombstones received.
        records: u64,
    },
    /// This node has founded a cluster: the text says on what evidence.
    Founded {
        /// A sentence.
        why: String,
    },
    /// This node had founded a cluster apart, and joins the one of this member.
    Merging {
        /// Its name.
        with: String,
    },
    /// The safety net found and repaired a divergence, which should not happen.
    Divergence {
        /// Buckets that differed.
        buckets: usize,
    },
    /// Records were found damaged in memory and dropped; they are fetched again.
    Damage {
        /// How many.
        records: usize,
    },
    /// A peer's datagrams come, and dialling it comes to nothing: TCP to its port is blocked.
    TcpBlocked {
        /// Its name.
        name: NodeName,
        /// Where it gossips.
        addr: SocketAddr,
    },
    /// A peer that could not be dialled can be dialled again.
    TcpOpen {
        /// Its name.
        name: NodeName,
    },
    /// This node leaves and no other member is there to hand its store over to.
    NoHeir {
        /// Keys that end with it.
        keys: u64,
    },
    /// The smallest limit of a ready member, which is below this node's own, has changed.
    Bounded {
        /// Whose it is, and how many bytes; `None` when there is none any more.
        bound: Option<(String, u64)>,
        /// This node's own limit; 0 for none.
        own: u64,
    },
    /// This node had slept past forgotten deletes: it hides behind not-ready while it is reset.
    Reset,
    /// A member holds more writes of this run than it has made: it was set back to an earlier
    /// state, and goes on as another run. It hides until its store has been compared.
    SetBack {
        /// The name of that member.
        by: String,
        /// Writes of this run that it holds.
        through: u64,
        /// Writes that this run has made.
        last: u64,
    },
    /// This node knows runs that are over no more by name.
    LetGo {
        /// The number of the floor under which they are.
        floor: u64,
        /// Which, and the last number of each.
        runs: Vec<(OriginId, u64)>,
    },
    /// Members of our kind share no replication format with this node: when there is a new one, and
    /// each minute.
    Incompatible {
        /// How many.
        members: usize,
        /// The name of one of them.
        name: String,
        /// The formats it speaks.
        theirs: Formats,
        /// The formats this node speaks.
        ours: Formats,
    },
    /// The members that this node has lost refuse it: at once, and each minute.
    ShutOut {
        /// A sentence.
        why: String,
    },
    /// Gossip that could not be read, by reason; at most one note a second.
    Unreadable {
        /// Why.
        why: String,
        /// From whom.
        from: SocketAddr,
    },
}
