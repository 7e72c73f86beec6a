//! The timings and factors of the protocol.
//!
//! Each field says what it does, the formula it enters, and when to change it. The presets are
//! memberlist's three; every member of a cluster should run the same one, because each node
//! judges the others by its own numbers.

use std::time::Duration;

/// Timings and factors. A zero interval switches its activity off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Time between two probes, each of the next member in a shuffled order. Detection takes
    /// about 1.6 intervals on average and at most `2n - 1` of them, whatever the cluster's size.
    /// Shorter finds failures sooner and costs one ping and one ack an interval more.
    pub probe_interval: Duration,
    /// How long a direct (or relayed) ping may take before others are asked. Set it to the 99th
    /// percentile of the round trip. Never scaled.
    pub probe_timeout: Duration,
    /// How many members are asked to ping in our stead when a probe times out. More of them see
    /// past lossy links, at a packet each.
    pub indirect_checks: usize,
    /// Whether a probe that timed out is tried over a stream too. Its success keeps a member alive
    /// whose UDP is blocked.
    pub stream_pings: bool,
    /// One more than the highest health score: a score of `s` stretches a probe's whole wait to
    /// `probe_interval * (s + 1)`.
    pub awareness_max: u8,

    /// Time between two gossip rounds while there is something to tell.
    pub gossip_interval: Duration,
    /// How many random members each round tells. More spread rumors in fewer rounds.
    pub gossip_fanout: usize,
    /// How long the dead are still gossiped to, so that one declared dead wrongly can refute; and
    /// how long dead and left members stay in the probe order and in push-pulls.
    pub gossip_to_the_dead: Duration,
    /// A rumor is sent `retransmit_mult * digits(n)` times, which reaches all but a vanishing
    /// part of `n` members.
    pub retransmit_mult: u32,

    /// A suspicion lasts at least `suspicion_mult * max(1, log10 n) * probe_interval`, time for
    /// the accused to refute. Higher forgives longer, lower declares dead sooner. It also sets the
    /// number of independent accusers that shorten a suspicion to its least: `suspicion_mult - 2`.
    pub suspicion_mult: u32,
    /// A suspicion nobody confirms lasts this many times as long: Lifeguard's answer to an
    /// accuser that is slow itself.
    pub suspicion_max_mult: u32,

    /// Time between two push-pulls with a random member, stretched in clusters above 32 members by
    /// `ceil(log2 n - log2 32) + 1`.
    pub push_pull_interval: Duration,
    /// How long one push-pull may take.
    pub stream_timeout: Duration,

    /// After this time a dead member's name may be taken by an alive message from another address
    /// whatever its incarnation; at once when that incarnation is higher than the dead one's. Zero
    /// leaves only the latter. memberlist's default is never, which locks a replaced container out
    /// until its old self is reaped.
    pub dead_node_reclaim: Duration,
    /// Time between two attempts to reach one random dead member by push-pull, so that a partition
    /// heals whoever forgot whom; in proportion longer with more than
    /// [`REDIAL_SCALE_ABOVE`](super::scale::REDIAL_SCALE_ABOVE) members.
    pub redial_interval: Duration,
    /// How long a dead member is remembered and redialled.
    pub dead_memory: Duration,
    /// How long we ask for our name, by a push-pull every probe interval, while a peer holds it
    /// for another address. After that the periodic push-pulls go on asking.
    pub contest_time: Duration,
}

impl Config {
    /// For members on one network: memberlist's `DefaultLANConfig`.
    #[must_use]
    pub fn lan() -> Config {
        Config {
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_checks: 3,
            stream_pings: true,
            awareness_max: 8,
            gossip_interval: Duration::from_millis(200),
            gossip_fanout: 3,
            gossip_to_the_dead: Duration::from_secs(30),
            retransmit_mult: 4,
            suspicion_mult: 4,
            suspicion_max_mult: 6,
            push_pull_interval: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(10),
            dead_node_reclaim: Duration::from_secs(30),
            redial_interval: Duration::from_secs(2),
            dead_memory: Duration::from_secs(24 * 60 * 60),
            contest_time: Duration::from_secs(120),
        }
    }

    /// For members across the world: memberlist's `DefaultWANConfig`.
    #[must_use]
    pub fn wan() -> Config {
        Config {
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(3),
            gossip_interval: Duration::from_millis(500),
            gossip_fanout: 4,
            gossip_to_the_dead: Duration::from_secs(60),
            suspicion_mult: 6,
            push_pull_interval: Duration::from_secs(60),
            stream_timeout: Duration::from_secs(30),
            dead_node_reclaim: Duration::from_secs(60),
            redial_interval: Duration::from_secs(6),
            ..Config::lan()
        }
    }

    /// For members on one machine: memberlist's `DefaultLocalConfig`.
    #[must_use]
    pub fn local() -> Config {
        Config {
            probe_timeout: Duration::from_millis(200),
            indirect_checks: 1,
            gossip_interval: Duration::from_millis(100),
            gossip_to_the_dead: Duration::from_secs(15),
            retransmit_mult: 2,
            suspicion_mult: 3,
            push_pull_interval: Duration::from_secs(15),
            stream_timeout: Duration::from_secs(1),
            dead_node_reclaim: Duration::from_secs(15),
            redial_interval: Duration::from_secs(1),
            ..Config::lan()
        }
    }
}
