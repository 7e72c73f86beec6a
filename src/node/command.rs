//! The corridor between the rooms at the front (HTTP, command line, discovery) and the node.
//!
//! A [`Command`] goes in with a [`ReplyTo`]; the engine answers each exactly once. [`Bridge`] is
//! what HTTP holds: it is implemented by the shell, so the front never sees a channel's type.

use crate::kv::{Coverage, Dot, Store};
use crate::time::{Instant, Now};
use std::net::SocketAddr;
use std::sync::Arc;

/// How many members must hold a write before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// Every alive member that speaks our replication.
    All,
    /// More than half of them.
    Majority,
    /// This many, the answering node included.
    Count(u32),
}

/// What discovery saw at one look at all of its sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Every address that a name, a record or a list gave, our own left out.
    pub named: Vec<SocketAddr>,
    /// Everybody named, those included who cannot be dialled; their addresses are all in `named`.
    pub peers: Vec<Peer>,
    /// Nodes named beyond these, which later looks try.
    pub n_untried: usize,
    /// Whether our own address was among them.
    pub names_me: bool,
    /// Whether every source is a list of addresses given by hand: no DNS was asked.
    pub only_literal: bool,
    /// A sentence for each source that failed: `SRV _gossip._tcp.kv.: no answer in time`.
    pub failed: Vec<String>,
    /// Whether every source gave an answer; "there is no such record" is one.
    pub answered: bool,
}

impl Look {
    /// An answer that names these, each a node by itself.
    #[must_use]
    pub fn each(named: Vec<SocketAddr>) -> Look {
        let peer = |addr: &SocketAddr| {
            let is_ipv4 = addr.ip().to_canonical().is_ipv4();
            let (n_ipv4, n_ipv6) = (usize::from(is_ipv4), usize::from(!is_ipv4));
            Peer { addresses: vec![*addr], n_ipv4, n_ipv6, ..Peer::default() }
        };
        let peers = named.iter().map(peer).collect();
        Look { named, peers, answered: true, ..Look::default() }
    }
}

/// Whoever one name stands for: at least one node. How many it may be, founding counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its addresses that are dialled, our own left out.
    pub addresses: Vec<SocketAddr>,
    /// How many addresses of IPv4 it has, our own and those that cannot be dialled counted.
    pub n_ipv4: usize,
    /// How many of IPv6.
    pub n_ipv6: usize,
    /// Whether our own address is one of them.
    pub names_me: bool,
    /// A sentence where one of its addresses cannot be dialled, or it has none.
    pub unreachable: Option<String>,
}

/// A request into the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The table of members.
    Members,
    /// Counters and gauges, for `/metrics`.
    Stats,
    /// What this node holds, by which readers go on reading elsewhere.
    Coverage,
    /// Answer when enough members hold this write, or at the deadline.
    AwaitHolders {
        /// The write.
        dot: Dot,
        /// How many must hold it.
        concern: Concern,
        /// When to answer with what there is.
        deadline: Instant,
    },
    /// The client that awaits holders of this write has gone: what waits for it is answered now.
    EndWait {
        /// The write.
        dot: Dot,
    },
    /// Addresses worth a push-pull; those of alive members and our own are skipped.
    Join(Vec<SocketAddr>),
    /// What discovery saw: evidence for founding a cluster. The addresses named are joined, too.
    Look(Look),
    /// Hand over what the others lack, tell them that we leave; answered with `Left` when done or
    /// at the deadline.
    Leave {
        /// When to answer whatever has happened.
        deadline: Instant,
    },
    /// List, install, use or remove a gossip key across the cluster.
    Keys(KeyCommand),
    /// Have every member of our kind forget a dead one of this name; answered as `Keys`, without
    /// fingerprints.
    Forget(String),
}

/// A change of the gossip keyring, told to every member of our kind.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyCommand {
    /// Which fingerprints are installed where.
    List,
    /// Add a key everywhere.
    Install(Vec<u8>),
    /// Encrypt with this installed key everywhere.
    Use(Vec<u8>),
    /// Forget this key everywhere; refused for the key in use.
    Remove(Vec<u8>),
}

impl std::fmt::Debug for KeyCommand {
    /// Key bytes never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            KeyCommand::List => "List",
            KeyCommand::Install(_) => "Install(..)",
            KeyCommand::Use(_) => "Use(..)",
            KeyCommand::Remove(_) => "Remove(..)",
        })
    }
}

/// A member's state, as the contract names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberStatus {
    /// Answering.
    Alive,
    /// Accused; not yet given up.
    Suspect,
    /// Given up.
    Dead,
    /// Gone of its own will.
    Left,
}

impl MemberStatus {
    /// The word the API uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MemberStatus::Alive => "alive",
            MemberStatus::Suspect => "suspect",
            MemberStatus::Dead => "dead",
            MemberStatus::Left => "left",
        }
    }
}

/// One row of the table of members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Its name, lossily as text.
    pub name: String,
    /// Where it gossips.
    pub address: SocketAddr,
    /// What we think of it.
    pub state: MemberStatus,
    /// Its incarnation.
    pub incarnation: u32,
    /// Whether it speaks our replication, in a format that this node speaks, too.
    pub kv: bool,
    /// The replication formats it speaks, as `2-3` or `3`; `None` when it is not of our kind.
    pub formats: Option<String>,
    /// Whether it is this node.
    pub me: bool,
    /// Whether what is sent to it by UDP seems to come to nothing while TCP works.
    pub udp_blocked: bool,
    /// Whether dialling it comes to nothing while UDP works.
    pub tcp_blocked: bool,
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To `Members`: this node first, then by name.
    Members(Vec<MemberView>),
    /// To `Stats`.
    Stats(Vec<Sample>),
    /// To `Coverage`.
    Coverage(Coverage),
    /// To `AwaitHolders`.
    Holders {
        /// Members known to hold the write, this node included.
        held: u32,
        /// Members the concern asked for.
        wanted: u32,
    },
    /// To `Join`.
    Done,
    /// To `Leave`.
    Left {
        /// Writes that could not be handed over: no member that stays holds them.
        unsent: u64,
    },
    /// To `Keys`: per member, its name and the result or the fingerprints it holds, primary first.
    Keys(Vec<(String, Result<Vec<String>, String>)>),
    /// The command was refused; the text says why.
    Refused(String),
}

/// One Prometheus sample: a counter (`_total`) or a gauge.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Metric name without the `gossipykv_` prefix.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Label pairs.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// Called when there is something to look at; must not block.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// Called once with the answer; must not block.
pub type ReplyTo = Box<dyn FnOnce(Reply) + Send>;

/// Readiness, as `/health` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Serving, but no peer found yet, or its first copy is still running.
    Starting,
    /// In step.
    Ok,
    /// On its way out.
    Leaving,
    /// The gossip loop makes no progress.
    Stalled,
}

impl Health {
    /// The word the API uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Starting => "starting",
            Health::Ok => "ok",
            Health::Leaving => "leaving",
            Health::Stalled => "stalled",
        }
    }
}

/// What keeps a node from being ready, of a bounded number of kinds: for a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// It has not found anybody yet, or not enough of those named to found a cluster.
    Alone,
    /// A source of addresses could not be asked.
    Discovery,
    /// Peers refuse it: another key, label, or protocol version.
    Refused,
    /// Its name belongs to another node.
    Name,
    /// All its peers speak other formats of replication.
    Formats,
    /// It copies the store of a peer, or looks for one that can give a copy.
    Copying,
    /// It has slept past forgotten deletes, and compares its store with a peer's.
    Comparing,
    /// The cluster holds more than its limit allows.
    Room,
    /// It is on its way out.
    Leaving,
    /// Its gossip loop makes no progress.
    Stalled,
}

impl NotReady {
    /// All kinds, in the order of their declaration.
    pub const ALL: [NotReady; 10] = [
        NotReady::Alone,
        NotReady::Discovery,
        NotReady::Refused,
        NotReady::Name,
        NotReady::Formats,
        NotReady::Copying,
        NotReady::Comparing,
        NotReady::Room,
        NotReady::Leaving,
        NotReady::Stalled,
    ];

    /// The word of the metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NotReady::Alone => "alone",
            NotReady::Discovery => "discovery",
            NotReady::Refused => "refused",
            NotReady::Name => "name",
            NotReady::Formats => "formats",
            NotReady::Copying => "copying",
            NotReady::Comparing => "comparing",
            NotReady::Room => "room",
            NotReady::Leaving => "leaving",
            NotReady::Stalled => "stalled",
        }
    }
}

/// The mailbox was full or the engine is gone; the command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is too busy to take the command")]
pub struct Busy;

/// What the front of the house holds of the node.
pub trait Bridge: Send + Sync + 'static {
    /// Both clocks.
    fn now(&self) -> Now;
    /// The store, read and written directly.
    fn store(&self) -> &Store;
    /// A local write is in the store: wake the engine to replicate it. Never blocks, never fails:
    /// what the engine misses it finds in the store.
    fn written(&self);
    /// Hands a command to the engine. Never blocks; `reply_to` is dropped when `Busy`.
    ///
    /// # Errors
    /// [`Busy`] when the mailbox is full or the engine has ended.
    fn send(&self, command: Command, reply_to: ReplyTo) -> Result<(), Busy>;
    /// Readiness, without asking the engine: [`Health::Stalled`] whenever [`Bridge::live`] is not.
    fn health(&self) -> Health;
    /// Whether the store holds all that it must before it answers for the cluster. A node that
    /// leaves or is stalled may well be complete, one that starts never is.
    fn is_complete(&self) -> bool;
    /// What keeps the node from being ready, by kind; `None` when it is.
    fn not_ready(&self) -> Option<NotReady>;
    /// The same as a sentence that an operator can act on.
    fn why(&self) -> Option<Arc<str>>;
    /// The name of a member that does not know keys that expire, while there is one.
    fn lacks_ttl(&self) -> Option<Arc<str>> {
        None
    }
    /// True while the gossip loop makes progress.
    fn live(&self) -> bool;
    /// Has `bell` called whenever the table of members has become another one, soon afterwards and
    /// on the engine's thread: it must not block. One bell there is; a second call changes nothing.
    fn on_members_changed(&self, bell: Bell);
}
