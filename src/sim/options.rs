//! What one run does, all of it drawn from its seed: swarm testing.
//!
//! Each seed switches on a random choice of faults, so that every mix of them is tried somewhere,
//! also the mixes in which a fault is absent (Groce et al., "Swarm Testing", 2012).

use crate::rng::Rng;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Datagrams get lost.
    Loss,
    /// Datagrams arrive twice.
    Duplicate,
    /// Datagrams overtake each other by far.
    Reorder,
    /// Datagrams are cut short or have a bit flipped.
    Corrupt,
    /// Groups of nodes cannot talk.
    Partition,
    /// Some pairs can talk in one direction only.
    OneWay,
    /// A process dies and comes back empty, under its name.
    Crash,
    /// A process dies and comes back under its name at another address.
    Move,
    /// A dead process's address goes to a node of another name.
    Reuse,
    /// A process stops for a while and goes on.
    Pause,
    /// A process leaves in good order and another takes its place.
    Roll,
    /// Civil clocks are off, drift, jump and strobe.
    Clock,
    /// DNS names nobody for a while.
    Dns,
    /// A node's traffic takes long.
    Slow,
    /// A plain memberlist member that knows no key is in the cluster.
    Foreign,
    /// A node of another cluster talks to ours.
    Stranger,
    /// Gossip is encrypted.
    Encrypt,
    /// Deletes are forgotten after seconds instead of a day.
    Forget,
}

/// All of them, by the names the command line knows.
pub const FAULTS: [(&str, Fault); 18] = [
    ("loss", Fault::Loss),
    ("duplicate", Fault::Duplicate),
    ("reorder", Fault::Reorder),
    ("corrupt", Fault::Corrupt),
    ("partition", Fault::Partition),
    ("one-way", Fault::OneWay),
    ("crash", Fault::Crash),
    ("move", Fault::Move),
    ("reuse", Fault::Reuse),
    ("pause", Fault::Pause),
    ("roll", Fault::Roll),
    ("clock", Fault::Clock),
    ("dns", Fault::Dns),
    ("slow", Fault::Slow),
    ("foreign", Fault::Foreign),
    ("stranger", Fault::Stranger),
    ("encrypt", Fault::Encrypt),
    ("forget", Fault::Forget),
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = FAULTS.iter().find(|(_, fault)| fault == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        FAULTS.iter().find(|(name, _)| *name == text).map(|(_, fault)| *fault).ok_or_else(|| {
            let names: Vec<&str> = FAULTS.iter().map(|(name, _)| *name).collect();
            format!("no fault is called {text:?}; there are {}", names.join(", "))
        })
    }
}

/// What the caller fixes; the rest is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The seed.
    pub rng_seed: u64,
    /// Members, or 3 to 9 drawn.
    pub n_nodes: Option<usize>,
    /// Simulated length of the chaos phase.
    pub chaos: Duration,
    /// Faults to draw from; all when `None`.
    pub faults: Option<Vec<Fault>>,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The seed, again.
    pub rng_seed: u64,
    /// Members of our kind.
    pub n_nodes: usize,
    /// Length of the chaos phase.
    pub chaos: Duration,
    /// Faults of this run, sorted.
    pub faults: Vec<Fault>,
    /// Least and greatest delay of a packet.
    pub latency: (Duration, Duration),
    /// Chance of a datagram to get lost, in the chaos phase.
    pub loss: f64,
    /// Mean time between two client operations.
    pub op_interval: Duration,
    /// Keys in use; few, so that writes meet.
    pub n_keys: usize,
    /// Mean time between two fault events.
    pub fault_interval: Duration,
    /// How long a delete is remembered.
    pub tombstone_grace: Duration,
    /// How long the dead are.
    pub dead_memory: Duration,
    /// Whether that is longer than any fault lasts and any clock is wrong, as a day is.
    pub outlasting: bool,
}

const DAY_S: u64 = 24 * 60 * 60;
/// What part of its time a fault lasts where memory is to outlast it.
const SHORTER: u32 = 4;
/// The same for the jumps of clocks, and milliseconds at most.
const CLOCK_SHORTER: i64 = 10;
const CLOCK_MS_MAX: i64 = 3_000;

impl Options {
    /// Draws a run from its seed.
    #[must_use]
    pub fn draw(request: &Request) -> Options {
        // Two generators, so that naming the faults leaves the rest of the draw as it was.
        let mut rng = Rng::from_seed(request.rng_seed ^ 0x6f70_7469_6f6e_7321);
        let mut fault_rng = Rng::from_seed(request.rng_seed ^ 0x6661_756c_7473_2121);
        let n_drawn = 3 + rng.below(7);
        let candidates: Vec<Fault> = match &request.faults {
            Some(faults) => faults.clone(),
            None => FAULTS.iter().map(|(_, fault)| *fault).collect(),
        };
        // Faults that were asked for by name all happen; else each does in two runs of five.
        let chance = if request.faults.is_some() { 1.0 } else { 0.4 };
        let mut faults: Vec<Fault> =
            candidates.into_iter().filter(|_| fault_rng.chance(chance)).collect();
        faults.sort_unstable();
        faults.dedup();
        let has = |fault| faults.contains(&fault);
        let loss = 0.02 + rng.below(28) as f64 / 100.0;
        let grace_s = 5 + rng.below(20) as u64;
        let least = Duration::from_micros(100 + rng.below(2000) as u64);
        let spread = Duration::from_micros(rng.below(20_000) as u64);
        // Half of the runs that forget have faults that are shorter than the memory.
        let short = has(Fault::Forget)
            && Rng::from_seed(request.rng_seed ^ 0x6f75_746c_6173_7421).chance(0.5);
        let (grace_s, dead_s) = match (has(Fault::Forget), short) {
            (false, _) => (DAY_S, DAY_S),
            (true, false) => (grace_s, 15),
            (true, true) => (grace_s + 30, 60),
        };
        Options {
            rng_seed: request.rng_seed,
            n_nodes: request.n_nodes.unwrap_or(n_drawn),
            chaos: request.chaos,
            latency: (least, least + spread),
            loss: if has(Fault::Loss) { loss } else { 0.0 },
            op_interval: Duration::from_millis(20 + rng.below(200) as u64),
            n_keys: 5 + rng.below(60),
            fault_interval: Duration::from_millis(1500 + rng.below(8000) as u64),
            tombstone_grace: Duration::from_secs(grace_s),
            dead_memory: Duration::from_secs(dead_s),
            outlasting: short || !has(Fault::Forget),
            faults,
        }
    }

    /// How long a fault of up to `seconds` may last in this run.
    #[must_use]
    pub fn lasting(&self, seconds: u64) -> Duration {
        let whole = Duration::from_secs(seconds);
        if self.is_short() { whole / SHORTER } else { whole }
    }

    /// How wrong a clock may be that jumps by up to `millis`.
    #[must_use]
    pub fn clock_error_ms(&self, millis: i64) -> i64 {
        let shorter = (millis / CLOCK_SHORTER).clamp(-CLOCK_MS_MAX, CLOCK_MS_MAX);
        if self.is_short() { shorter } else { millis }
    }

    /// Whether its faults are cut down so that memory outlasts them.
    fn is_short(&self) -> bool {
        self.outlasting && self.has(Fault::Forget)
    }

    /// Whether this run has a fault.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(Fault::to_string).collect();
        write!(
            f,
            "{} nodes, {} s, {} keys, delays {:?}..{:?}, loss {}, a write or read each {:?}, a \
             fault each {:?}, grace {:?}{}; faults: {}",
            self.n_nodes,
            self.chaos.as_secs(),
            self.n_keys,
            self.latency.0,
            self.latency.1,
            self.loss,
            self.op_interval,
            self.fault_interval,
            self.tombstone_grace,
            if self.is_short() { ", longer than any fault" } else { "" },
            if faults.is_empty() { "none".to_owned() } else { faults.join(" ") },
        )
    }
}
