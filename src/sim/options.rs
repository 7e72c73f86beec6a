//! What one run does, all of it drawn from its seed: swarm testing.
//!
//! Each seed switches on a random choice of faults, so that every mix of them is tried somewhere,
//! also the mixes in which a fault is absent (Groce et al., "Swarm Testing", 2012).

use crate::node::config::FoldedBound;
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
    /// All nodes are replaced, one by one, each next one once the new one says that it is ready.
    Surge,
    /// The same with new nodes that have another gossip key.
    OtherKey,
    /// The same with new nodes that have another label.
    OtherLabel,
    /// The same with new nodes that speak another replication format than all others.
    OtherFormat,
    /// Some nodes speak the format before the current one only.
    Formats,
    /// All processes end, and come back empty.
    Restart,
    /// One node has nobody to look for.
    Seedless,
    /// For a while DNS shows each half of the cluster only its own addresses.
    Halves,
    /// A node claims the name of another one that lives. Only where it is asked for by name.
    Twin,
    /// A node leaves in good order just after it has taken many large values.
    Backlog,
    /// A process dies while it takes many small writes, and half of what it sent of them is lost.
    Burst,
    /// So few runs that are over are known by name that some are let go of.
    Floor,
}

/// All of them, by the names the command line knows.
pub const FAULTS: [(&str, Fault); 30] = [
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
    ("surge", Fault::Surge),
    ("other-key", Fault::OtherKey),
    ("other-label", Fault::OtherLabel),
    ("other-format", Fault::OtherFormat),
    ("formats", Fault::Formats),
    ("restart", Fault::Restart),
    ("seedless", Fault::Seedless),
    ("halves", Fault::Halves),
    ("backlog", Fault::Backlog),
    ("twin", Fault::Twin),
    ("burst", Fault::Burst),
    ("floor", Fault::Floor),
];

/// Whether a fault is drawn where none is named. Where the owner of a name may end, a twin of it
/// becomes a member in its place and in good order, and the checks count it as none.
fn is_mixed(fault: &Fault) -> bool {
    !matches!(fault, Fault::Twin)
}

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

/// What a cluster holds before the chaos begins, and how fast it is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Keys written at once by one node, beside those in use.
    pub n_stored: usize,
    /// Longest of their values; half of that on average.
    pub value_len_max: usize,
    /// Bytes a second that a host puts on one connection; `None` for as fast as one likes.
    pub line_rate: Option<u64>,
    /// Whether one node starts alone and is written to, and the others come later.
    pub first_alone: bool,
    /// Whether clients go on, at leisure, while all is to settle.
    pub steady: bool,
}

impl Load {
    /// Nothing stored, no bound on the lines, all at once, silence at the end.
    pub const NONE: Load =
        Load { n_stored: 0, value_len_max: 0, line_rate: None, first_alone: false, steady: false };

    /// Draws one: in two of five runs something is stored that takes 0.2 to 5 s to copy.
    fn draw(rng: &mut Rng) -> Load {
        let is_stored = rng.chance(0.4);
        let (n_stored, len) = (50_u64 << rng.below(5), (32_u64 << 10) << rng.below(6));
        let copied_in_ms = 200 + rng.below(4800) as u64;
        let line_rate = (len * 1000 / copied_in_ms).max(LINE_RATE_MIN);
        let (is_slow, first_alone, steady) = (rng.chance(0.4), rng.chance(0.3), rng.chance(0.5));
        Load {
            n_stored: if is_stored { n_stored as usize } else { 0 },
            value_len_max: (2 * len / n_stored).min(VALUE_LEN_MAX) as usize,
            line_rate: (is_stored || is_slow).then_some(line_rate),
            first_alone,
            steady,
        }
    }
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
    /// How many runs that are over are known by name.
    pub folded: FoldedBound,
    /// What is stored, how it is copied, what clients do in the end.
    pub load: Load,
}

/// Draws how many runs that are over are known by name: so few that some are let go of.
fn draw_folded(rng: &mut Rng) -> FoldedBound {
    FoldedBound { most: 1 + rng.below(4), age: Duration::from_secs(1 + rng.below(8) as u64) }
}

/// The slowest line: a large value takes a second.
const LINE_RATE_MIN: u64 = 64 << 10;
/// The longest value stored at the start.
const VALUE_LEN_MAX: u64 = 40 << 10;

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
            None => FAULTS.iter().map(|(_, fault)| *fault).filter(is_mixed).collect(),
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
        // Of two clusters that were apart for longer than deletes are remembered, one that has let
        // go of runs takes what the other alone holds for deleted: that is the price of a floor.
        let forget_each_other = has(Fault::Halves) && has(Fault::Forget) && !short;
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
            folded: if has(Fault::Floor) && !forget_each_other {
                draw_folded(&mut Rng::from_seed(request.rng_seed ^ 0x666c_6f6f_7221_2121))
            } else {
                FoldedBound::default()
            },
            load: Load::draw(&mut Rng::from_seed(request.rng_seed ^ 0x6c6f_6164_2121_2121)),
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
            "{}{} nodes, {} s, {} keys and {} of up to {} bytes, lines of {} bytes a second, \
             delays {:?}..{:?}, loss {}, a write or read each {:?}{}, a fault each {:?}, grace \
             {:?}{}{}; faults: {}",
            if self.load.first_alone { "1 and then " } else { "" },
            self.n_nodes,
            self.chaos.as_secs(),
            self.n_keys,
            self.load.n_stored,
            self.load.value_len_max,
            self.load.line_rate.map_or("any number of".to_owned(), |rate| rate.to_string()),
            self.latency.0,
            self.latency.1,
            self.loss,
            self.op_interval,
            if self.load.steady { " to the end" } else { "" },
            self.fault_interval,
            self.tombstone_grace,
            if self.is_short() { ", longer than any fault" } else { "" },
            match self.folded {
                folded if folded == FoldedBound::default() => String::new(),
                FoldedBound { most, age } => format!(", {most} folded runs known for {age:?}"),
            },
            if faults.is_empty() { "none".to_owned() } else { faults.join(" ") },
        )
    }
}
