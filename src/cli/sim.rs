//! `sim`: whole clusters in virtual time, through faults, each from one number.

use super::failure::Failure;
use super::output::{self, Out, Stop};
use super::progress::Progress;
use crate::runtime::clock::Clock;
use crate::sim::measure::{Row, measure};
use crate::sim::minimize::minimize;
use crate::sim::options::{FAULTS, Fault, Request};
use crate::sim::run::{self, Outcome};
use crate::sim::slowness::{Accused, MEMBERS, Slow, slow_members};
use crate::sim::sweep::{Broken, Summary};
use clap::Args;
use serde_json::{Value, json};
use std::io::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What runs where no seeds are given: some seconds on one processor.
const SEEDS: Range<u64> = 0..100;

const EXAMPLES: &str = "\
Examples:
  gossipykv sim                                     a hundred seeds
  gossipykv sim --seeds 0..1000                     a sweep: 3 to 9 nodes, faults drawn by seed
  gossipykv sim --seeds 7..8 --trace                the story of one seed
  gossipykv sim --seeds 7..8 --minimize             the smallest run found that breaks the same
  gossipykv sim --seeds 0..50 --nodes 5 --faults crash,partition,loss
  gossipykv sim --membership 10,100,1000            how membership scales, beside the papers

A seed draws everything: members, faults, delays, what clients do. After the chaos there is calm,
in which all must settle. Equal seeds and options give equal runs on every machine: compare the
trace hash. Exit status: 0 nothing broken, 1 a promise broken, 2 wrong usage.";

/// Runs clusters in virtual time, through faults, and checks every promise.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SimArgs {
    /// The seeds, the last one excluded [default: 0..100]
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,

    /// Measure membership alone at these sizes, against what the papers promise
    #[arg(long, value_name = "N,..", value_delimiter = ',', conflicts_with_all = ["seeds"])]
    #[arg(value_parser = clap::value_parser!(u16).range(4..=10_000))]
    membership: Vec<u16>,

    /// Members of every cluster [default: 3 to 9, drawn by the seed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: Option<u16>,

    /// Length of the chaos in simulated seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,

    /// Only these faults, and all of them in every run; "none" for none [default: a random choice
    /// for each seed]
    #[arg(long, value_name = "LIST", value_parser = parse_faults)]
    faults: Option<FaultList>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Print what happened in each run, line by line
    #[arg(long)]
    trace: bool,

    /// Look for a smaller run that breaks the same promise
    #[arg(long)]
    minimize: bool,

    /// Seeds run at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,

    /// Run with each deliberate bug in turn, and count the seeds that catch it
    #[cfg(feature = "mutations")]
    #[arg(long)]
    mutations: bool,

    /// Only this deliberate bug
    #[cfg(feature = "mutations")]
    #[arg(long, value_name = "NAME")]
    mutation: Option<String>,
}

/// A list of faults, in a type of its own because clap takes a `Vec` for repeated values.
#[derive(Debug, Clone)]
struct FaultList(Vec<Fault>);

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    const FORM: &str = "two numbers as in 0..100, the second one larger";
    let (first, end) = text.split_once("..").ok_or(FORM)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| FORM.to_owned());
    let seeds = number(first)?..number(end)?;
    if seeds.is_empty() { Err(FORM.to_owned()) } else { Ok(seeds) }
}

fn parse_faults(text: &str) -> Result<FaultList, String> {
    match text {
        "none" => Ok(FaultList(Vec::new())),
        "all" => Ok(FaultList(FAULTS.iter().map(|(_, fault)| *fault).collect())),
        list => {
            list.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>().map(FaultList)
        }
    }
}

impl SimArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        #[cfg(feature = "mutations")]
        if self.mutations || self.mutation.is_some() {
            return self.mutate();
        }
        if !self.membership.is_empty() {
            return self.measure();
        }
        output::print(|out| {
            let clock = Clock::start();
            let summary = self.sweep(out)?;
            let took = clock.instant().since(crate::time::Instant::ZERO);
            self.report(out, &summary, took)?;
            if summary.broken.is_empty() { Ok(()) } else { Err(Failure::Told.into()) }
        })
    }

    fn seeds(&self) -> Range<u64> {
        self.seeds.clone().unwrap_or(SEEDS)
    }

    fn request(&self, rng_seed: u64) -> Request {
        Request {
            rng_seed,
            n_nodes: self.nodes.map(usize::from),
            chaos: Duration::from_secs(self.seconds),
            faults: self.faults.clone().map(|list| list.0),
        }
    }

    /// Runs all seeds, `jobs` at once, and adds them up in their order.
    fn sweep(&self, out: &mut Out<'_>) -> Result<Summary, Stop> {
        let seeds = self.seeds();
        let next = AtomicU64::new(seeds.start);
        let (done, outcomes) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (done, next) = (done.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let seed = next.fetch_add(1, Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let outcome = run::run(&self.request(seed), self.trace);
                        // Nobody listens any more when the output has ended.
                        if done.send((seed, outcome)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(done);
            let progress = Progress::new(Some(seeds.end - seeds.start), "seeds", self.trace);
            let summary = self.add_up(out, outcomes, &progress);
            progress.end();
            summary
        })
    }

    fn add_up(
        &self,
        out: &mut Out<'_>,
        outcomes: mpsc::Receiver<(u64, Outcome)>,
        progress: &Progress,
    ) -> Result<Summary, Stop> {
        let mut summary = Summary::default();
        let mut waiting = std::collections::BTreeMap::new();
        let mut next = self.seeds().start;
        for (seed, outcome) in outcomes {
            waiting.insert(seed, outcome);
            while let Some(outcome) = waiting.remove(&next) {
                let request = self.request(next);
                summary.add(&request, &outcome);
                progress.suspend(|| self.tell(out, &request, &outcome))?;
                progress.add(1);
                next += 1;
            }
        }
        Ok(summary)
    }

    /// What is told of one run: its story when asked for, and what it broke.
    fn tell(&self, out: &mut Out<'_>, request: &Request, outcome: &Outcome) -> Result<(), Stop> {
        if self.json {
            return Ok(());
        }
        if self.trace {
            writeln!(out, "seed {}: {}", request.rng_seed, outcome.options)?;
            for line in &outcome.story {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "seed {}: trace hash {:016x}", request.rng_seed, outcome.trace_hash)?;
        }
        if let Some(violation) = &outcome.violation {
            writeln!(
                out,
                "seed {}: {}: {}",
                request.rng_seed, violation.invariant, violation.what
            )?;
            writeln!(out, "  options: {}", outcome.options)?;
            writeln!(out, "  replay:  {}", replay(request, &["--trace"]))?;
            if self.minimize {
                let smaller = minimize(request, violation.invariant);
                writeln!(out, "  smaller: {}", replay(&smaller, &["--trace"]))?;
            }
            out.flush()?;
        }
        Ok(())
    }

    fn report(&self, out: &mut Out<'_>, summary: &Summary, took: Duration) -> Result<(), Stop> {
        if self.json {
            return Ok(writeln!(out, "{}", to_json(summary, self.minimize, took))?);
        }
        let n_broken = summary.broken.len();
        writeln!(out, "seeds      {}..{}", self.seeds().start, self.seeds().end)?;
        writeln!(out, "broken     {n_broken}")?;
        writeln!(
            out,
            "simulated  {} s in {:.1} s, {:.0} cluster-seconds a second",
            summary.simulated.as_secs(),
            took.as_secs_f64(),
            summary.simulated.as_secs_f64() / took.as_secs_f64().max(1e-9),
        )?;
        writeln!(out, "calm       settled within {:.1} s", summary.calm_max.as_secs_f64())?;
        writeln!(
            out,
            "clients    {} writes, {} reads; {} writes lost with all their holders; {} waits for \
             holders met, {} not",
            summary.writes,
            summary.reads,
            summary.lost_with_holders,
            summary.waits.0,
            summary.waits.1,
        )?;
        writeln!(out, "network    {} datagrams, {} events", summary.datagrams, summary.events)?;
        let felt: Vec<String> =
            summary.felt.iter().map(|(fault, n)| format!("{fault} {n}")).collect();
        writeln!(out, "faults     {}", felt.join(", "))?;
        let reactions: Vec<String> =
            summary.reactions.iter().map(|(name, n)| format!("{name} {n}")).collect();
        writeln!(out, "reactions  {}", reactions.join(", "))?;
        writeln!(out, "trace hash {:016x}", summary.trace_hash)?;
        Ok(())
    }
}

#[cfg(feature = "mutations")]
impl SimArgs {
    /// One line for each bug: how many seeds catch it, the first of them, and by which promises.
    fn mutate(&self) -> Result<(), Failure> {
        use crate::mutation::{MUTATIONS, switch};
        output::print(|out| {
            writeln!(out, "| bug | seeds run | caught by | first | by these promises |")?;
            writeln!(out, "|---|---|---|---|---|")?;
            let mut missed = false;
            let is_asked = |name: &str| self.mutation.as_deref().is_none_or(|only| only == name);
            for (name, mutation) in MUTATIONS.into_iter().filter(|(name, _)| is_asked(name)) {
                switch(Some(mutation));
                let mut summary = Summary::default();
                for seed in self.seeds() {
                    let request = self.request(seed);
                    summary.add(&request, &run::run(&request, false));
                }
                switch(None);
                missed |= summary.broken.is_empty();
                writeln!(out, "{}", caught(name, &summary))?;
                out.flush()?;
            }
            if missed { Err(Failure::Told.into()) } else { Ok(()) }
        })
    }
}

#[cfg(feature = "mutations")]
fn caught(name: &str, summary: &Summary) -> String {
    let mut promises = std::collections::BTreeMap::new();
    for broken in &summary.broken {
        *promises.entry(broken.violation.invariant).or_insert(0) += 1;
    }
    let promises: Vec<String> = promises.iter().map(|(name, n)| format!("{name} {n}")).collect();
    let first = summary.broken.first().map_or("-".to_owned(), |b| b.request.rng_seed.to_string());
    let (n, caught) = (summary.n_runs, summary.broken.len());
    format!("| {name} | {n} | {caught} | {first} | {} |", promises.join(", "))
}

/// How many members die in a cluster of `n`: more where it costs little.
fn n_failures(n: usize) -> usize {
    match n {
        0..=20 => 5,
        21..=200 => 60,
        201..=2000 => 30,
        _ => 5,
    }
}

impl SimArgs {
    fn measure(&self) -> Result<(), Failure> {
        output::print(|out| {
            writeln!(
                out,
                "| members | failures | first ping | first suspicion | declared dead \
                 | told to all, longest | packets/s, busiest | bytes/s |"
            )?;
            writeln!(out, "|---|---|---|---|---|---|---|---|")?;
            for n in &self.membership {
                writeln!(out, "{}", membership_row(usize::from(*n)))?;
                out.flush()?;
            }
            writeln!(out)?;
            writeln!(
                out,
                "| slow of {MEMBERS} | | innocent declared dead | at healthy members | slow |"
            )?;
            writeln!(out, "|---|---|---|---|---|")?;
            for n_slow in [4, 16, 32] {
                for (slow, how) in slow_kinds() {
                    for lifeguard in [false, true] {
                        let row = slowness_row(n_slow, how, &slow, lifeguard);
                        writeln!(out, "{row}")?;
                        out.flush()?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Starved of the processor, and starved of their messages as in the paper's grid.
fn slow_kinds() -> [(Vec<Slow>, &'static str); 2] {
    let millis = Duration::from_millis;
    let mut held = Vec::new();
    for lasts in [2_048, 8_192, 32_768] {
        for between in [64, 1_024, 16_384] {
            held.push(Slow::Held(millis(lasts), millis(between)));
        }
    }
    [(vec![Slow::Stopped(millis(4_000), millis(50)); 9], "stopped"), (held, "held")]
}

/// Two minutes of each.
fn slowness_row(n_slow: usize, how: &str, slow: &[Slow], lifeguard: bool) -> String {
    let mut sum = Accused::default();
    for (slow, rng_seed) in slow.iter().zip(1..) {
        sum += slow_members(n_slow, *slow, lifeguard, Duration::from_secs(120), rng_seed);
    }
    let Accused { innocent, innocent_at_healthy, slow } = sum;
    let with = if lifeguard { "with Lifeguard" } else { "without" };
    format!("| {n_slow} {how} | {with} | {innocent} | {innocent_at_healthy} | {slow} |")
}

/// Clusters of a size measured until enough have died; small ones several times over.
fn membership_row(n: usize) -> String {
    let times = if n <= 20 { 20 } else { 1 };
    let rows: Vec<Row> = (0..times).map(|seed| measure(n, n_failures(n), seed)).collect();
    let mean = |of: fn(&Row) -> f64| rows.iter().map(of).sum::<f64>() / rows.len() as f64;
    let most = |of: fn(&Row) -> f64| rows.iter().map(of).fold(0.0, f64::max);
    let n_failures: usize = rows.iter().map(|row| row.n_failures).sum();
    format!(
        "| {n} | {n_failures} | {:.2} | {:.2} | {:.1} s | {:.2} s, {:.2} s | {:.2}, {:.2} \
         | {:.0} |",
        mean(|row| row.first_ping),
        mean(|row| row.first_suspicion),
        mean(|row| row.declared),
        mean(|row| row.told_mean),
        most(|row| row.told_max),
        mean(|row| row.packets),
        most(|row| row.packets_max),
        mean(|row| row.bytes),
    )
}

/// The command that runs it again.
fn replay(request: &Request, more: &[&str]) -> String {
    let seed = request.rng_seed;
    let mut words = vec![format!("gossipykv sim --seeds {seed}..{}", seed.saturating_add(1))];
    words.extend(request.n_nodes.map(|n| format!("--nodes {n}")));
    words.push(format!("--seconds {}", request.chaos.as_secs()));
    words.extend(request.faults.as_ref().map(|faults| {
        let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
        format!("--faults {}", if names.is_empty() { "none".to_owned() } else { names.join(",") })
    }));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words.join(" ")
}

fn to_json(summary: &Summary, smaller: bool, took: Duration) -> Value {
    let broken = |broken: &Broken| {
        let violation = &broken.violation;
        let mut value = json!({
            "seed": broken.request.rng_seed,
            "invariant": violation.invariant,
            "what": violation.what,
            "replay": replay(&broken.request, &["--trace"]),
        });
        if smaller {
            let smaller = minimize(&broken.request, violation.invariant);
            value["smaller"] = replay(&smaller, &["--trace"]).into();
        }
        value
    };
    let felt = summary.felt.iter().map(|(fault, n)| (fault.to_string(), Value::from(*n)));
    let reactions = summary.reactions.iter().map(|(name, n)| ((*name).to_owned(), Value::from(*n)));
    json!({
        "runs": summary.n_runs,
        "broken": summary.broken.iter().map(broken).collect::<Vec<_>>(),
        "simulated_seconds": summary.simulated.as_secs_f64(),
        "seconds": took.as_secs_f64(),
        "calm_seconds_max": summary.calm_max.as_secs_f64(),
        "writes": summary.writes,
        "reads": summary.reads,
        "lost_with_holders": summary.lost_with_holders,
        "datagrams": summary.datagrams,
        "events": summary.events,
        "faults": felt.collect::<serde_json::Map<_, _>>(),
        "reactions": reactions.collect::<serde_json::Map<_, _>>(),
        "trace_hash": format!("{:016x}", summary.trace_hash),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_with_something_in_it() {
        assert_eq!(parse_seeds("3..5"), Ok(3..5));
        for wrong in ["3", "5..3", "3..3", "a..b", "..", "-1..3"] {
            assert!(parse_seeds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_replay_command_says_all_that_was_asked() {
        let request = Request {
            rng_seed: 7,
            n_nodes: Some(5),
            chaos: Duration::from_secs(60),
            faults: Some(vec![Fault::Crash, Fault::OneWay]),
        };
        let expected = "gossipykv sim --seeds 7..8 --nodes 5 --seconds 60 --faults crash,one-way";
        assert_eq!(replay(&request, &[]), expected);
        let none = Request { n_nodes: None, faults: Some(Vec::new()), ..request };
        assert_eq!(replay(&none, &[]), "gossipykv sim --seeds 7..8 --seconds 60 --faults none");
        assert_eq!(parse_faults("crash, one-way").map(|list| list.0.len()), Ok(2));
        assert!(parse_faults("crash,bogus").is_err());
    }
}
