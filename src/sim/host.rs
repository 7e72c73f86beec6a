//! One simulated host: a process, or the place where one was, with clocks of its own.

use super::foreign::Foreign;
use super::history::Required;
use super::standing::Standing;
use crate::kv::{Dot, OriginId, Stamp, Store};
use crate::node::Node;
use crate::node::io::{ConnId, Input, Output};
use crate::swim::Swim;
use crate::time::{Instant, Now, WallMillis};
use crate::wire::packet::Security;
use crate::wire::stream::{FrameReader, Role};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// Civil time at the start of every simulation: 2026-11-01, in milliseconds.
pub const EPOCH_MS: u64 = 1_793_491_200_000;

/// A civil clock that may be wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// Milliseconds ahead of true time.
    pub offset_ms: i64,
    /// Milliseconds gained a second, in thousandths.
    pub drift_ppm: i64,
}

impl Clock {
    /// What it shows at `instant`.
    #[must_use]
    pub fn read(self, instant: Instant) -> Now {
        let elapsed_ms = (instant.0 / 1_000_000) as i64;
        let drift_ms = elapsed_ms * self.drift_ppm / 1_000_000;
        let wall = (EPOCH_MS as i64 + elapsed_ms + drift_ms + self.offset_ms).max(0);
        Now { instant, wall: WallMillis(wall as u64) }
    }
}

/// What runs on a host.
#[derive(Debug)]
pub enum Process {
    /// A node of ours.
    Ours(Box<Node>),
    /// A plain memberlist member.
    Foreign(Box<Foreign>),
}

impl Process {
    pub(super) fn handle(&mut self, now: Now, input: Input) {
        match self {
            Process::Ours(node) => node.handle(now, input),
            Process::Foreign(foreign) => foreign.handle(now, input),
        }
    }

    pub(super) fn poll(&mut self, now: Now) -> Output {
        match self {
            Process::Ours(node) => node.poll(now),
            Process::Foreign(foreign) => foreign.poll(),
        }
    }

    /// Its table of members.
    #[must_use]
    pub fn swim(&self) -> &Swim {
        match self {
            Process::Ours(node) => node.swim(),
            Process::Foreign(foreign) => foreign.swim(),
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) peer: (usize, ConnId),
    pub(super) reader: FrameReader,
    pub(super) dialled: bool,
    pub(super) sent_any: bool,
    /// What is on its way here: when it arrives, the bytes (`None` is the end), and the length of
    /// the payload that the sender is told about.
    pub(super) inbox: VecDeque<(Instant, Option<Vec<u8>>, usize)>,
    /// When the last byte that was handed over for here has left the other end.
    pub(super) line_free_at: Instant,
    pub(super) stalled_since: Option<Instant>,
}

impl End {
    /// The end of a fresh connection.
    pub(super) fn new(peer: (usize, ConnId), role: Role) -> End {
        End {
            peer,
            reader: FrameReader::new(role),
            dialled: role == Role::Dialer,
            sent_any: false,
            inbox: VecDeque::new(),
            line_free_at: Instant::ZERO,
            stalled_since: None,
        }
    }
}

/// What the process on a host takes itself for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guise {
    /// One of ours.
    #[default]
    Ours,
    /// A member of a cluster with another label.
    OtherLabel,
    /// A node with a gossip key that nobody else has.
    OtherKey,
    /// A node that speaks another replication format than all others.
    OtherFormat,
    /// A node that has the name of another one.
    Twin,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Member name of what runs here.
    pub name: String,
    /// Where it gossips.
    pub addr: SocketAddr,
    /// What runs here; `None` when it is dead.
    pub process: Option<Process>,
    /// The store of a node of ours.
    pub store: Option<Arc<Store>>,
    /// Its civil clock.
    pub clock: Clock,
    /// The latest its civil clock has shown, as far as anybody looked.
    pub wall_max_ms: u64,
    /// Stopped until then.
    pub paused_until: Option<Instant>,
    /// Since when it has been leaving, to be replaced when done.
    pub leaving: Option<Instant>,
    /// What runs here is no member of our cluster, whatever it takes itself for.
    pub is_stranger: bool,
    /// Told to leave, its node knew of nobody to hand over to, and said so.
    pub(super) had_no_heir: bool,
    /// What that is.
    pub guise: Guise,
    /// What runs here has nobody to look for.
    pub is_seedless: bool,
    /// When the last process here ended.
    pub ended_at: Option<Instant>,
    /// What was seen of its node's readiness.
    pub(super) standing: Standing,
    /// The floor of its node, and the last numbers of the runs that are below it.
    pub(super) floor: u64,
    pub(super) below: BTreeMap<OriginId, u64>,
    /// Deletes its node has forgotten, as far as anybody looked.
    pub(super) n_forgotten: u64,
    pub(super) held_back: VecDeque<Input>,
    pub(super) timer_at: Instant,
    pub(super) ends: BTreeMap<ConnId, End>,
    pub(super) next_accepted: u64,
    pub(super) security: Arc<Security>,
}

impl Host {
    /// A place with nothing running.
    #[must_use]
    pub fn empty(name: String, addr: SocketAddr) -> Host {
        Host {
            name,
            addr,
            process: None,
            store: None,
            clock: Clock::default(),
            wall_max_ms: 0,
            paused_until: None,
            leaving: None,
            is_stranger: false,
            had_no_heir: false,
            guise: Guise::Ours,
            is_seedless: false,
            ended_at: None,
            standing: Standing::default(),
            floor: 0,
            below: BTreeMap::new(),
            n_forgotten: 0,
            held_back: VecDeque::new(),
            timer_at: Instant::NEVER,
            ends: BTreeMap::new(),
            next_accepted: 1,
            security: Arc::new(Security::default()),
        }
    }

    /// The version held here of a key.
    pub(super) fn entry(&self, key: &[u8]) -> Option<Stamp> {
        Some(self.store.as_ref()?.entry(key)?.stamp())
    }

    /// Copies from before a forgotten delete that the node here has refused.
    pub(super) fn n_refused(&self) -> u64 {
        self.node().map_or(0, |node| node.replication().resurrections_refused_total())
    }

    /// Whether the node here holds a write, something later, or has forgotten its delete.
    pub(super) fn covers(&self, dot: Dot) -> bool {
        let is_covered = self.node().is_some_and(|node| node.replication().covers(dot));
        is_covered || dot.seq <= self.below(dot.origin)
    }

    /// The number up to which the node here holds the writes of a run.
    pub(super) fn contiguous(&self, origin: OriginId) -> u64 {
        let known = self.node().map_or(0, |node| node.replication().contiguous(origin));
        known.max(self.below(origin))
    }

    /// These runs are below its floor, with their last numbers.
    pub(super) fn goes_below(&mut self, runs: &[(OriginId, u64)]) {
        for &(origin, last) in runs {
            let known = self.below.entry(origin).or_default();
            *known = last.max(*known);
        }
    }

    /// The same by its floor.
    fn below(&self, origin: OriginId) -> u64 {
        self.below.get(&origin).copied().unwrap_or(0)
    }

    /// Every run of which the node here holds anything.
    pub(super) fn origins(&self) -> BTreeSet<OriginId> {
        let named = self.node().map_or(Vec::new(), |node| node.replication().origins());
        self.below.keys().copied().chain(named).collect()
    }

    /// The version held here of a key, or of a delete of it that was held and is forgotten.
    pub(super) fn version(&self, key: &[u8], required: Required) -> Option<Stamp> {
        let store = self.node().and(self.store.as_ref())?;
        match store.entry(key) {
            Some(record) => Some(record.stamp()),
            None => {
                let Required { stamp, seq, is_delete } = required;
                let known = self.contiguous(stamp.origin) >= seq;
                (is_delete && known).then_some(stamp)
            }
        }
    }

    /// Looks at the civil clock.
    pub(super) fn see_clock(&mut self, now: Instant) {
        let WallMillis(wall) = self.clock.read(now).wall;
        self.wall_max_ms = wall.max(self.wall_max_ms);
    }

    /// The node, when one of ours runs here.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        match &self.process {
            Some(Process::Ours(node)) => Some(node),
            _ => None,
        }
    }

    /// Whether something runs here.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Whether what runs here is stopped.
    #[must_use]
    pub fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }
}
