//! One round after the other: fault, heal, judgement.

use crate::cluster::Cluster;
use crate::harness::now;
use crate::judge::{Held, Judge};
use crate::plan::{Blow, N_SEATS, Network, Plan, Round};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The bound, and for how long it is still worth to know when.
const EQUAL_MAX: Duration = Duration::from_secs(5);
const WATCHED_MAX: Duration = Duration::from_secs(60);
/// Everybody alive for everybody again.
const WHOLE_MAX: Duration = Duration::from_secs(30);
/// What a stopped process has sent is with the others by then, where it can get there.
const IN_FLIGHT: Duration = Duration::from_millis(50);
/// Load between a heal and the next fault.
const BREATH: Duration = Duration::from_millis(500);
/// Each client's pace: in the short form 300 requests a second in all, in the long one 200.
const SHORT_PACE: Duration = Duration::from_micros(16_667);
const LONG_PACE: Duration = Duration::from_millis(25);
/// The program looks once a second whether its clock was set.
const CLOCK_FELT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// What happened so far.
#[derive(Default)]
struct Tally {
    kinds: BTreeMap<&'static str, u32>,
    n_rounds: u32,
    n_lost_packets: u64,
    /// Clocks set ahead. One that is behind is not seen in versions: a node follows the others.
    n_clocks_ahead: usize,
    slowest_equal: Duration,
    slowest_whole: Duration,
}

struct Game {
    cluster: Cluster,
    judge: Judge,
    tally: Tally,
    began: Instant,
}

/// Plays the short form, or rounds as they are drawn for so long.
///
/// # Panics
/// When a promise is broken; says which round of which seed it was.
pub fn play(seed: u64, during: Option<Duration>) {
    let pace = if during.is_some() { LONG_PACE } else { SHORT_PACE };
    let cluster = Cluster::start(seed, pace);
    let mut plan = Plan::new(seed, cluster.has_clocks());
    let mut game = Game { cluster, judge: Judge::default(), tally: Tally::default(), began: now() };
    game.judge_now("the start");
    match during {
        None => plan.short().iter().for_each(|round| game.play(round)),
        Some(during) => {
            while game.began.elapsed() < during {
                game.play(&plan.draw());
                if game.tally.n_rounds.is_multiple_of(20) {
                    game.report();
                }
            }
        }
    }
    game.report();
    let tally = &game.tally;
    assert!(tally.n_lost_packets > 0, "no packet was lost, so no partition was shown");
    let was_felt = tally.n_clocks_ahead == 0 || game.judge.n_skewed > 0;
    assert!(was_felt, "no write felt a clock that was set ahead");
}

impl Game {
    fn play(&mut self, round: &Round) {
        let Round { network, blow, lasts } = round;
        self.tally.n_rounds += 1;
        let title = format!("round {}: {network:?}, {blow:?}, {lasts:.1?}", self.tally.n_rounds);
        println!("{:6.1?} s {title}", self.began.elapsed().as_secs_f32());
        for kind in [network.kind(), blow.kind()] {
            *self.tally.kinds.entry(kind).or_default() += 1;
        }
        std::thread::sleep(BREATH);
        let begun = now();
        self.cluster.set_network(network);
        match blow {
            Blow::Nothing => {}
            Blow::Kill { seats, down } => {
                // Not the very moment in which the network changes.
                std::thread::sleep(lasts.saturating_sub(*down) / 2);
                self.kill(seats);
                std::thread::sleep(*down);
                seats.iter().for_each(|seat| self.cluster.begin(*seat));
            }
            Blow::Pause(seats) => {
                seats.iter().for_each(|seat| self.cluster.signal(*seat, Signal::STOP));
            }
            Blow::Clock { seat, offsets } => {
                self.tally.n_clocks_ahead += offsets.iter().filter(|offset| **offset > 0).count();
                for offset in offsets {
                    self.cluster.set_clock(*seat, *offset);
                    let share = *lasts / u32::try_from(offsets.len()).unwrap_or(1);
                    std::thread::sleep(share.max(CLOCK_FELT));
                }
            }
            Blow::Roll { new_first } => self.roll(*new_first),
        }
        std::thread::sleep(lasts.saturating_sub(begun.elapsed()));
        self.heal(round);
        self.judge_now(&title);
    }

    /// kill -9 of these; what they take along is what none of the others holds.
    fn kill(&mut self, seats: &[usize]) {
        seats.iter().for_each(|seat| self.cluster.signal(*seat, Signal::STOP));
        std::thread::sleep(IN_FLIGHT);
        let others: Vec<_> = (0..N_SEATS).filter(|seat| !seats.contains(seat)).collect();
        let survivors = self.cluster.holdings_of(&others);
        assert_eq!(survivors.len(), others.len(), "all survivors answer");
        let runs: Vec<_> = seats.iter().map(|seat| self.cluster.kill(*seat)).collect();
        self.judge.hear(self.cluster.clients.events());
        self.judge.ended(&runs, &survivors, false);
    }

    fn roll(&mut self, new_first: bool) {
        for seat in 0..N_SEATS {
            let (run, others) = self.cluster.replace(seat, new_first);
            self.judge.hear(self.cluster.clients.events());
            self.judge.ended(&[run], &others, true);
        }
    }

    fn heal(&mut self, round: &Round) {
        let n_lost = self.cluster.n_lost_packets();
        self.tally.n_lost_packets += n_lost;
        self.cluster.set_network(&Network::Calm);
        match &round.blow {
            Blow::Pause(seats) => {
                seats.iter().for_each(|seat| self.cluster.signal(*seat, Signal::CONT));
            }
            Blow::Clock { seat, .. } => self.cluster.set_clock(*seat, 0),
            Blow::Nothing | Blow::Kill { .. } | Blow::Roll { .. } => {}
        }
    }

    /// Everything is healed: nobody asks, and the stores must become equal; then they are judged.
    fn judge_now(&mut self, title: &str) {
        let healed = now();
        let hush = self.cluster.clients.hush();
        let held = loop {
            let asked = healed.elapsed();
            let why = match self.cluster.holdings() {
                Ok(held) => match difference(&held) {
                    None => break held,
                    Some(what) => what,
                },
                Err(error) => error,
            };
            assert!(asked < WATCHED_MAX, "{title}: not equal after {asked:?}: {why}");
            std::thread::sleep(POLL);
        };
        let equal = healed.elapsed();
        self.judge.hear(self.cluster.clients.events());
        let mut found = self.judge.settle();
        for (name, held) in &held {
            found = found.and_then(|()| self.judge.kept(name, held));
        }
        found.unwrap_or_else(|what| panic!("{title}: {what}"));
        assert!(equal < EQUAL_MAX, "{title}: equal only after {equal:?}");
        self.tally.slowest_equal = self.tally.slowest_equal.max(equal);
        // All hold the same, so it makes no difference whose it is.
        let all = held.into_values().next().expect("somebody sits there");
        let hosts = self.cluster.taken();
        while let Err(what) = self.cluster.watchers.lack(&all, &hosts) {
            assert!(healed.elapsed() < WATCHED_MAX, "{title}: {what}");
            std::thread::sleep(POLL);
        }
        let told = healed.elapsed();
        drop(hush);
        while let Err(why) = self.cluster.is_whole() {
            assert!(healed.elapsed() < WHOLE_MAX, "{title}: not whole: {why}");
            std::thread::sleep(POLL);
        }
        let whole = healed.elapsed();
        self.tally.slowest_whole = self.tally.slowest_whole.max(whole);
        println!(
            "         equal after {equal:.1?}, watchers told after {told:.1?}, all alive for all \
             after {whole:.1?}"
        );
    }

    fn report(&self) {
        let Tally { kinds, n_rounds, n_lost_packets, slowest_equal, slowest_whole, .. } =
            &self.tally;
        let (n_writes, n_reads, n_lost) = self.judge.counts();
        let took = self.began.elapsed();
        println!("{took:.0?}, {n_rounds} rounds:");
        for (kind, n) in kinds.iter().filter(|(kind, _)| !matches!(**kind, "calm" | "nothing")) {
            println!("  {n:4} {kind}");
        }
        println!("{n_lost_packets} packets lost or cut off");
        println!(
            "{n_writes} writes acknowledged, {} of them with two holders; {} without an answer; \
             {n_reads} reads; {} writes by a clock that was set",
            self.judge.n_held_by_two, self.judge.n_unanswered, self.judge.n_skewed
        );
        let (n_hops, n_events, n_resets) = self.cluster.watchers.counts();
        println!("{n_events} events told to watchers, {n_hops} hops, {n_resets} resets");
        println!(
            "lost with all who held them: {n_lost}; lost otherwise: 0; resurrected: 0; equal at \
             most {slowest_equal:.1?} after a heal, all alive for all {slowest_whole:.1?}"
        );
    }
}

/// The first thing in which what two processes hold differs.
fn difference(held: &BTreeMap<String, Held>) -> Option<String> {
    let mut all = held.iter();
    let (first, ours) = all.next()?;
    let (other, theirs) = all.find(|(_, theirs)| *theirs != ours)?;
    let keys = ours.keys().chain(theirs.keys());
    let differ: BTreeSet<_> = keys.filter(|key| ours.get(*key) != theirs.get(*key)).collect();
    let (n, key) = (differ.len(), *differ.first()?);
    let version =
        |held: &Held| held.get(key).map(|(stamp, value)| (stamp.to_string(), value.is_some()));
    let (ours, theirs) = (version(ours), version(theirs));
    Some(format!("{n} keys, {key}: {first} {ours:?}, {other} {theirs:?}"))
}
