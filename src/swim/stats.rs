//! Counters of the membership machine. All only ever rise.

/// What the machine has done and seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Probes begun.
    pub probes: u64,
    /// Probes answered, directly, through others or over a stream.
    pub probe_acks: u64,
    /// Probes answered only through others.
    pub probe_acks_relayed: u64,
    /// Probes answered only over a stream: UDP between us and the member does not work.
    pub probe_acks_stream: u64,
    /// Probes nobody answered.
    pub probe_failures: u64,
    /// Nacks received for our indirect pings.
    pub nacks: u64,
    /// Round trip of the last direct ack, in nanoseconds.
    pub rtt_last_nanos: u64,
    /// Pings answered.
    pub pings_answered: u64,
    /// Pings run for others.
    pub relays: u64,
    /// Pings for others dropped: too many at once, or neither asker nor target known.
    pub relays_refused: u64,
    /// Members that became alive.
    pub joins: u64,
    /// Suspicions begun.
    pub suspicions: u64,
    /// Suspicions that ended by refutation.
    pub recoveries: u64,
    /// Members declared dead.
    pub deaths: u64,
    /// Times we refuted an accusation.
    pub refutes: u64,
    /// Names found to be claimed by two live nodes.
    pub conflicts: u64,
    /// Names asked about at two addresses that claim them.
    pub inquiries: u64,
    /// Names that could not be asked about: too many at once.
    pub inquiries_dropped: u64,
    /// Rumors queued.
    pub broadcasts: u64,
    /// Rumors dropped because the queue was full.
    pub broadcasts_dropped: u64,
    /// Rumors that would fit no packet.
    pub broadcasts_too_long: u64,
    /// Push-pulls we began.
    pub push_pulls: u64,
    /// Push-pulls we answered.
    pub push_pulls_answered: u64,
    /// Push-pulls we began that failed.
    pub push_pulls_failed: u64,
    /// Push-pulls and stream pings we began that the other end refused, by reason. They count as
    /// failed, too.
    pub refused: RefusedBy,
    /// Push-pulls whose content was not merged because of its protocol versions.
    pub merges_refused: u64,
    /// Addresses to join that were dropped because too many were waiting.
    pub joins_dropped: u64,
    /// Times we woke so late that we judged nobody by what happened meanwhile.
    pub late_wakes: u64,
    /// Announced members we did not take, by reason.
    pub refusals: Refusals,
    /// Messages without effect, by reason.
    pub ignored: Ignored,
}

/// Why others did not take our streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefusedBy {
    /// Another gossip key, or only one end has one.
    pub key: u64,
    /// Another label, or only one end has one.
    pub label: u64,
    /// Closed without a word.
    pub silence: u64,
}

/// Announced members we did not take.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusals {
    /// Empty or too long a name.
    pub name: u64,
    /// Incarnation 0.
    pub incarnation: u64,
    /// An address that cannot be dialled.
    pub address: u64,
    /// Too long a meta.
    pub meta: u64,
    /// Protocol versions that contradict themselves.
    pub versions: u64,
    /// We know as many members as we can.
    pub full: u64,
}

impl Refusals {
    /// All reasons together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.name + self.incarnation + self.address + self.meta + self.versions + self.full
    }
}

/// Messages without effect. Most are part of the protocol: rumors arrive more than once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ignored {
    /// What it says is known, or older than what is known.
    pub stale: u64,
    /// An accusation of a member we do not know.
    pub unknown_member: u64,
    /// An incarnation so far ahead that no member can have reached it.
    pub implausible: u64,
    /// A ping for another node.
    pub foreign_ping: u64,
    /// An ack or nack nobody waits for.
    pub unexpected_ack: u64,
    /// A message with a field that cannot be used.
    pub malformed: u64,
}
