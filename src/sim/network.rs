//! The network between simulated hosts: what becomes of a packet. Pure: it decides, the cluster
//! delivers.

use super::options::{Fault, Options};
use crate::rng::Rng;
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Counts of faults that really happened to packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Felt {
    /// Datagrams lost by chance.
    pub lost: u64,
    /// Datagrams delivered twice.
    pub duplicated: u64,
    /// Datagrams delayed past others.
    pub reordered: u64,
    /// Datagrams changed on their way.
    pub corrupted: u64,
    /// Packets that met a partition.
    pub blocked: u64,
    /// Packets that a slow host held up.
    pub slowed: u64,
    /// Inputs that waited for, or were lost on, a stopped process.
    pub held_back: u64,
    /// Looks at DNS that were answered with nothing.
    pub unresolved: u64,
    /// Datagrams sent encrypted.
    pub encrypted: u64,
    /// Connections from or to a node of another cluster.
    pub strange: u64,
    /// Datagrams that reached a plain memberlist member.
    pub foreign: u64,
}

/// How many of the second copies are late: later than deletes are remembered.
const LATE: f64 = 0.5;
/// How late at most, in seconds; the network forgets what is older.
const LATE_MAX_S: u64 = 45;
/// Longest delay of anything that is not such a copy.
pub const DELAY_MAX: Duration = Duration::from_secs(2);

/// Who can talk to whom, and how well.
#[derive(Debug)]
pub struct Network {
    latency: (Duration, Duration),
    loss: f64,
    duplicate: f64,
    reorder: f64,
    corrupt: f64,
    /// How late a second copy is at most.
    late_max: Duration,
    /// Directed pairs that cannot talk.
    blocked: BTreeSet<(IpAddr, IpAddr)>,
    /// When that last changed.
    changed_at: Instant,
    /// Bytes a second that a host puts on one connection; as fast as one likes where none is said.
    rates: BTreeMap<IpAddr, u64>,
    /// Hosts whose packets take long, and how long.
    slow: Vec<(IpAddr, Duration)>,
    /// A host that is about to end: half of the datagrams that it sends get lost.
    ending: Option<IpAddr>,
    /// What packets went through.
    pub felt: Felt,
}

/// Where and how a datagram arrives: after these delays, as these bytes.
pub type Arrivals = Vec<(Duration, Vec<u8>)>;

impl Network {
    /// A network as a run's options have it.
    #[must_use]
    pub fn new(options: &Options) -> Network {
        let chance = |fault, p| if options.has(fault) { p } else { 0.0 };
        Network {
            latency: options.latency,
            late_max: options.lasting(LATE_MAX_S),
            loss: options.loss,
            duplicate: chance(Fault::Duplicate, 0.05),
            reorder: chance(Fault::Reorder, 0.05),
            corrupt: chance(Fault::Corrupt, 0.02),
            blocked: BTreeSet::new(),
            changed_at: Instant::ZERO,
            rates: BTreeMap::new(),
            slow: Vec::new(),
            ending: None,
            felt: Felt::default(),
        }
    }

    /// Nothing goes wrong any more.
    pub fn calm(&mut self, now: Instant) {
        self.loss = 0.0;
        self.duplicate = 0.0;
        self.reorder = 0.0;
        self.corrupt = 0.0;
        self.heal(now);
        self.slow.clear();
        self.ending = None;
    }

    /// Everybody can talk to everybody.
    pub fn heal(&mut self, now: Instant) {
        self.blocked.clear();
        self.changed_at = now;
    }

    /// `from` cannot reach `to`; the way back is left as it is.
    pub fn block(&mut self, now: Instant, from: IpAddr, to: IpAddr) {
        self.blocked.insert((from, to));
        self.changed_at = now;
    }

    /// Whether two hosts have been able to talk, both ways, since `since` at least.
    #[must_use]
    pub fn open_since(&self, a: IpAddr, b: IpAddr, since: Instant) -> bool {
        self.changed_at <= since && self.is_open(a, b) && self.is_open(b, a)
    }

    /// `host` puts `rate` bytes a second on each of its connections.
    pub fn pace(&mut self, host: IpAddr, rate: u64) {
        self.rates.insert(host, rate.max(1));
    }

    /// How long `host` takes to put `len` bytes on a connection.
    #[must_use]
    pub fn sending(&self, host: IpAddr, len: usize) -> Duration {
        let Some(rate) = self.rates.get(&host) else { return Duration::ZERO };
        Duration::from_nanos((len as u64).saturating_mul(1_000_000_000) / rate)
    }

    /// Packets of `host` take `delay` longer; zero ends it.
    pub fn slow(&mut self, host: IpAddr, delay: Duration) {
        self.slow.retain(|(slow, _)| *slow != host);
        if delay > Duration::ZERO {
            self.slow.push((host, delay));
        }
    }

    /// From now on half of the datagrams of this host get lost, and those of no other.
    pub fn lose_from(&mut self, host: Option<IpAddr>) {
        self.ending = host;
    }

    /// Whether anything sent from `from` reaches `to` now.
    #[must_use]
    pub fn is_open(&self, from: IpAddr, to: IpAddr) -> bool {
        !self.blocked.contains(&(from, to))
    }

    /// How long something takes from `from` to `to`.
    pub fn delay(&mut self, from: IpAddr, to: IpAddr, rng: &mut Rng) -> Duration {
        let (least, most) = self.latency;
        let slow = self.slow.iter().filter(|(host, _)| *host == from || *host == to);
        let extra: Duration = slow.map(|(_, delay)| *delay).sum();
        self.felt.slowed += u64::from(extra > Duration::ZERO);
        least + rng.duration_below(most.saturating_sub(least)) + extra
    }

    /// What becomes of a datagram.
    pub fn datagram(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8], rng: &mut Rng) -> Arrivals {
        if !self.is_open(from, to) {
            self.felt.blocked += 1;
            return Vec::new();
        }
        if rng.chance(self.loss) || (self.ending == Some(from) && rng.chance(0.5)) {
            self.felt.lost += 1;
            return Vec::new();
        }
        let mut arrivals = vec![(self.delay(from, to, rng), bytes.to_vec())];
        if rng.chance(self.duplicate) {
            self.felt.duplicated += 1;
            let mut delay = self.delay(from, to, rng);
            if rng.chance(LATE) {
                delay += rng.duration_below(self.late_max);
            }
            arrivals.push((delay, bytes.to_vec()));
        }
        if rng.chance(self.reorder) {
            self.felt.reordered += 1;
            arrivals[0].0 += rng.duration_below(Duration::from_millis(400));
        }
        if self.corrupt > 0.0 && rng.chance(self.corrupt) {
            self.felt.corrupted += 1;
            let victim = &mut arrivals[0].1;
            if rng.chance(0.5) {
                victim.truncate(rng.below(victim.len()));
            } else {
                let at = rng.below(victim.len());
                victim[at] ^= 1 << rng.below(8);
            }
        }
        arrivals
    }
}
