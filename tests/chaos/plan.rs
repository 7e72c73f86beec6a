//! What happens in each round, drawn from a seed.

use gossipykv::rng::Rng;
use std::collections::BTreeSet;
use std::time::Duration;

/// Processes in the cluster, each in a seat. A seat keeps its number when its process is replaced.
pub const N_SEATS: usize = 5;

/// Pairs of seats, the sender first.
pub type Cuts = BTreeSet<(usize, usize)>;

/// What the network does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    Calm,
    /// Nothing gets through between these seats and the others.
    Split(BTreeSet<usize>),
    /// Two sides, and a seat in neither that both reach.
    Bridge {
        bridge: usize,
        side: BTreeSet<usize>,
    },
    /// Each reaches its two neighbours in this order only.
    Ring(Vec<usize>),
    /// These ways are cut, the ways back are not.
    OneWay(Cuts),
    /// Shares of a hundred packets.
    Rough {
        loss: u8,
        late: u8,
        twice: u8,
    },
}

/// What happens to processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blow {
    Nothing,
    /// kill -9, at once or a little later the same name at the same address, without a memory.
    Kill {
        seats: Vec<usize>,
        down: Duration,
    },
    /// SIGSTOP until the round ends.
    Pause(Vec<usize>),
    /// The wall clock jumps, in seconds, to each of these in turn.
    Clock {
        seat: usize,
        offsets: Vec<i32>,
    },
    /// Each process is replaced by one of another name at another address, one after the other;
    /// the new one is started before the old one is told to stop, or after.
    Roll {
        new_first: bool,
    },
}

/// One round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    pub network: Network,
    pub blow: Blow,
    /// How long the fault lasts, at least.
    pub lasts: Duration,
}

impl Network {
    /// Its kind, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Network::Calm => "calm",
            Network::Split(side) if side.len() == 1 => "one node off",
            Network::Split(_) => "split",
            Network::Bridge { .. } => "bridge",
            Network::Ring(_) => "ring",
            Network::OneWay(_) => "one-way",
            Network::Rough { .. } => "loss, delay, repeats",
        }
    }

    /// The ways that are cut.
    pub fn cuts(&self) -> Cuts {
        let all = || (0..N_SEATS).flat_map(|a| (0..N_SEATS).map(move |b| (a, b)));
        match self {
            Network::Calm | Network::Rough { .. } => Cuts::new(),
            Network::Split(side) => {
                all().filter(|(a, b)| side.contains(a) != side.contains(b)).collect()
            }
            Network::Bridge { bridge, side } => all()
                .filter(|(a, b)| a != bridge && b != bridge)
                .filter(|(a, b)| side.contains(a) != side.contains(b))
                .collect(),
            Network::Ring(order) => {
                let at = |seat: usize| order.iter().position(|s| *s == seat).unwrap_or(0);
                let apart = |a, b| (at(a) + N_SEATS - at(b)) % N_SEATS;
                all().filter(|(a, b)| matches!(apart(*a, *b), 2..=3)).collect()
            }
            Network::OneWay(cuts) => cuts.clone(),
        }
    }
}

impl Blow {
    /// Its kind, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Blow::Nothing => "nothing",
            Blow::Kill { seats, .. } if seats.len() == N_SEATS - 1 => "kill -9 of all but one",
            Blow::Kill { .. } => "kill -9",
            Blow::Pause(_) => "pause",
            Blow::Clock { .. } => "clock",
            Blow::Roll { .. } => "rolling replacement",
        }
    }
}

/// Draws rounds.
pub struct Plan {
    rng: Rng,
    clocks: bool,
}

impl Plan {
    /// `clocks`: whether the clocks of processes can be set.
    pub fn new(seed: u64, clocks: bool) -> Plan {
        Plan { rng: Rng::from_seed(seed), clocks }
    }

    /// Every kind of fault once, in any order.
    pub fn short(&mut self) -> Vec<Round> {
        let brief = Duration::from_secs(3);
        let mut rounds = vec![
            // Long enough for each side to give the other up.
            (self.split(2), Blow::Nothing, Duration::from_secs(8)),
            (self.split(1), self.kill(1), brief),
            (self.bridge(), self.clock(), brief),
            (self.ring(), Blow::Nothing, brief),
            (self.one_way(), self.pause(), brief),
            (self.rough(), self.kill(2), brief),
            (Network::Calm, self.kill(N_SEATS - 1), brief),
            (Network::Calm, Blow::Roll { new_first: self.rng.chance(0.5) }, Duration::ZERO),
        ];
        self.rng.shuffle(&mut rounds);
        let round = |(network, blow, lasts)| Round { network, blow, lasts };
        rounds.into_iter().map(round).collect()
    }

    /// Any round.
    pub fn draw(&mut self) -> Round {
        let lasts = if self.rng.chance(0.3) { 20_000 } else { 6_000 };
        let lasts = Duration::from_millis(500) + self.up_to(lasts);
        let n_few = 1 + self.rng.below(2);
        // What takes nearly all processes, or all in turn, is for a network that works: nobody
        // promises anything to a write whose holders are gone before it can get away.
        let (network, blow) = match self.rng.below(20) {
            0 => (Network::Calm, self.kill(N_SEATS - 1)),
            1 | 2 => (Network::Calm, Blow::Roll { new_first: self.rng.chance(0.5) }),
            3..=6 => (self.network(), Blow::Nothing),
            7..=12 => (self.network(), self.kill(n_few)),
            13..=15 => (self.network(), self.pause()),
            16 | 17 => (self.network(), self.clock()),
            18 => (Network::Calm, self.kill(n_few)),
            _ => (Network::Calm, self.pause()),
        };
        Round { network, blow, lasts }
    }

    fn network(&mut self) -> Network {
        match self.rng.below(6) {
            0 => self.split(2),
            1 => self.split(1),
            2 => self.bridge(),
            3 => self.ring(),
            4 => self.one_way(),
            _ => self.rough(),
        }
    }

    fn seats(&mut self, n: usize) -> Vec<usize> {
        let mut seats = Vec::from_iter(0..N_SEATS);
        self.rng.shuffle(&mut seats);
        seats.truncate(n);
        seats
    }

    fn split(&mut self, n: usize) -> Network {
        Network::Split(self.seats(n).into_iter().collect())
    }

    fn bridge(&mut self) -> Network {
        let seats = self.seats(3);
        Network::Bridge { bridge: seats[0], side: seats[1..].iter().copied().collect() }
    }

    fn ring(&mut self) -> Network {
        Network::Ring(self.seats(N_SEATS))
    }

    fn one_way(&mut self) -> Network {
        let n = 1 + self.rng.below(3);
        let mut cuts = Cuts::new();
        while cuts.len() < n {
            let pair = self.seats(2);
            if !cuts.contains(&(pair[1], pair[0])) {
                cuts.insert((pair[0], pair[1]));
            }
        }
        Network::OneWay(cuts)
    }

    fn rough(&mut self) -> Network {
        let mut percent =
            |from: u8, below: usize| from + u8::try_from(self.rng.below(below)).unwrap_or(0);
        Network::Rough { loss: percent(2, 24), late: percent(0, 20), twice: percent(0, 10) }
    }

    fn kill(&mut self, n: usize) -> Blow {
        Blow::Kill { seats: self.seats(n), down: self.up_to(3_000) }
    }

    fn pause(&mut self) -> Blow {
        let n = 1 + self.rng.below(2);
        Blow::Pause(self.seats(n))
    }

    /// Half a minute either way, seldom further than any clock may lead, sometimes to and fro.
    fn clock(&mut self) -> Blow {
        if !self.clocks {
            return Blow::Nothing;
        }
        let seat = self.rng.below(N_SEATS);
        let span = if self.rng.chance(0.1) { 300 } else { 30 };
        let n = if self.rng.chance(0.2) { 4 } else { 1 };
        let sign = if self.rng.chance(0.5) { 1 } else { -1 };
        let offset = |at: usize| if at.is_multiple_of(2) { sign * span } else { -sign * span };
        Blow::Clock { seat, offsets: (0..n).map(offset).collect() }
    }

    fn up_to(&mut self, ms: u64) -> Duration {
        self.rng.duration_below(Duration::from_millis(ms))
    }
}

#[test]
fn shapes_cut_what_their_names_say() {
    let split = Network::Split([0, 1].into());
    assert_eq!(split.cuts().len(), 12);
    assert!(split.cuts().contains(&(0, 4)) && !split.cuts().contains(&(2, 4)));
    let bridge = Network::Bridge { bridge: 0, side: [1, 2].into() };
    assert_eq!(bridge.cuts().len(), 8);
    assert!(bridge.cuts().iter().all(|(a, b)| *a != 0 && *b != 0));
    let ring = Network::Ring(vec![4, 2, 0, 1, 3]);
    assert_eq!(ring.cuts().len(), 10);
    assert!(ring.cuts().contains(&(4, 0)) && !ring.cuts().contains(&(4, 3)));
    let mut plan = Plan::new(1, true);
    for _ in 0..200 {
        let Network::OneWay(cuts) = plan.one_way() else { panic!("it is one") };
        assert!(cuts.iter().all(|(a, b)| a != b && !cuts.contains(&(*b, *a))), "{cuts:?}");
    }
    assert_eq!(Plan::new(7, true).short(), Plan::new(7, true).short());
}
