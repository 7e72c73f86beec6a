//! One run: chaos, then calm, with every promise checked on the way and at the end.

use super::check::{self, Clocks, Deleted, Forgetting, Incarnations, Kept, Ready, Violation};
use super::cluster::{Cluster, Counts};
use super::dns::Dns;
use super::faults::Faults;
use super::history::History;
use super::host::Host;
use super::network::DELAY_MAX;
use super::options::{Fault, Options, Request};
use super::orchestrate::Roll;
use super::ttl::{self, Ttls};
use super::watch::{self, Watchers};
use super::workload;
use crate::kv::Stamp;
use crate::rng::Rng;
use crate::time::Instant;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Time between two looks at the whole cluster.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// Calm in which everything must settle: detection and suspicion at their slowest, a redial of the
/// dead, two looks of discovery, and the name of a moved member reclaimed.
pub const CALM_MAX: Duration = Duration::from_secs(120);

/// After all has settled: how long rumors may still be told, and how long it is quiet then.
const DYING_DOWN: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(10);
/// How long deletes may stay once their grace is over and the dead are forgotten: two sweeps of all
/// shards, and some rounds of digests.
const LETTING_GO: Duration = Duration::from_secs(60);
/// How many times more rarely clients do something in the calm, where they go on.
const AT_LEISURE: u32 = 5;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it was drawn.
    pub options: Options,
    /// Equal runs have equal ones.
    pub trace_hash: u64,
    /// The first promise found broken.
    pub violation: Option<Violation>,
    /// Simulated time, both phases.
    pub simulated: Duration,
    /// How long calm took to settle.
    pub calm: Duration,
    /// Counted by the cluster.
    pub counts: Counts,
    /// How often each fault was felt: packets or events, whatever tells it best.
    pub felt: BTreeMap<Fault, u64>,
    /// Nodes whose readiness was judged at the moment in which they became ready.
    pub judged: u64,
    /// Events told to clients that watch, times that one went on from a token, and times that one
    /// had to begin anew.
    pub watches: (u64, u64, u64),
    /// Waits for holders that ended with enough of them, and with fewer.
    pub waits: (u64, u64),
    /// Writes acknowledged, reads made, writes lost with all their holders.
    pub clients: (u64, u64, u64),
    /// The story, when it was kept.
    pub story: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Operate,
    Break,
    /// A process started on a host then; it looks for peers.
    Discover(usize, Instant),
    /// The cluster is filled as soon as a node is ready.
    Fill,
    /// A node starts for the first time.
    Start(usize),
    Look,
    /// Clients that watch go on.
    Watch,
    Mend(Mend),
}

/// The end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mend {
    Network,
    Slow(usize),
    Restart(usize),
    Dns,
    /// A process that was to be there for a while only ends.
    End(usize),
    /// A clock goes to and fro, so many times more.
    Strobe(usize, u32),
    /// A client makes so many more writes at the process that was started there then, which dies
    /// with the last.
    Burst(usize, Instant, u32),
}

/// A run under way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) options: Options,
    pub(super) cluster: Cluster,
    pub(super) history: History,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) dns: Dns,
    pub(super) roll: Option<Roll>,
    pub(super) agenda: BTreeMap<(Instant, u64), Step>,
    pub(super) next_step: u64,
    pub(super) next_origin: u64,
    pub(super) next_name: u32,
    pub(super) incarnations: Incarnations,
    pub(super) clocks: Clocks,
    pub(super) deleted: Deleted,
    pub(super) kept: Kept,
    pub(super) forgetting: Forgetting,
    pub(super) ready: Ready,
    pub(super) ttls: Ttls,
    pub(super) watchers: Watchers,
    pub(super) is_calm: bool,
    /// Whether clients are done.
    pub(super) is_silent: bool,
}

/// Runs what a seed asks for.
#[must_use]
pub fn run(request: &Request, keep_story: bool) -> Outcome {
    let options = Options::draw(request);
    let mut run = Run::new(options);
    if keep_story {
        run.cluster.trace.keep();
    }
    // A panic is a broken promise too, and has a seed like any other.
    let outcome = catch_unwind(AssertUnwindSafe(|| run.chaos().and_then(|()| run.calm())))
        .unwrap_or_else(|panic| Err(Violation::new("no-panic", text_of(panic.as_ref()))));
    let calm = outcome.as_ref().copied().unwrap_or_default();
    let felt = run.felt();
    let mut counts = run.cluster.counts.clone();
    counts.refused += run.cluster.hosts.iter().map(Host::n_refused).sum::<u64>();
    Outcome {
        options: run.options,
        trace_hash: run.cluster.trace.hash(),
        violation: outcome.err(),
        simulated: run.cluster.now.since(Instant::ZERO),
        calm,
        counts,
        felt,
        judged: run.ready.n_judged,
        watches: (run.watchers.n_told, run.watchers.n_resumed, run.watchers.n_reset),
        waits: (run.cluster.waits.n_met, run.cluster.waits.n_unmet),
        clients: (run.history.n_writes, run.history.n_reads, run.history.n_lost_with_holders),
        story: run.cluster.trace.story().to_vec(),
    }
}

impl Run {
    /// Ends what runs on a host, and with it what only it held.
    pub(super) fn end_process(&mut self, index: usize) {
        self.cluster.kill(index);
        self.cluster.hosts[index].store = None;
        let hosts = &self.cluster.hosts;
        let living = || hosts.iter().filter(|host| !host.is_stranger);
        self.history.ended(
            |key, required| -> Option<Stamp> {
                let held = living().filter_map(|host| host.version(key, required));
                held.max()
            },
            |dot| living().any(|host| host.covers(dot)),
        );
    }

    pub(super) fn after(&mut self, delay: Duration, step: Step) {
        self.next_step += 1;
        self.agenda.insert((self.cluster.now + delay, self.next_step), step);
    }

    /// Runs the agenda up to `until`, or until `done` at a look.
    fn play(
        &mut self,
        until: Instant,
        mut done: impl FnMut(&Run) -> bool,
    ) -> Result<(), Violation> {
        while let Some((&(at, id), &step)) = self.agenda.first_key_value() {
            if at > until {
                break;
            }
            self.agenda.remove(&(at, id));
            self.advance(at);
            match step {
                Step::Operate if !self.is_silent => {
                    workload::operate(self);
                    ttl::operate(self);
                    let slower = if self.is_calm { AT_LEISURE } else { 1 };
                    let pause = self.rng.duration_below(self.options.op_interval * 2 * slower);
                    self.after(pause, Step::Operate);
                }
                Step::Break if !self.is_calm => {
                    self.break_something();
                    let pause = self.rng.duration_below(self.options.fault_interval * 2);
                    self.after(pause + Duration::from_millis(100), Step::Break);
                }
                Step::Operate | Step::Break => {}
                Step::Discover(index, since) => self.discover(index, since),
                Step::Fill => self.fill(),
                Step::Start(index) => self.start_node(index),
                Step::Watch => watch::operate(self),
                Step::Look => {
                    self.finish_leaves();
                    self.roll_on();
                    self.look()?;
                    self.after(LOOK, Step::Look);
                    if done(self) {
                        return Ok(());
                    }
                }
                Step::Mend(mend) => self.mend(mend),
            }
        }
        self.advance(until);
        Ok(())
    }

    /// Lets the cluster run, and looks at every node that forgets deletes before it goes on.
    fn advance(&mut self, until: Instant) {
        loop {
            for (index, peers) in std::mem::take(&mut self.cluster.forgetful) {
                self.forgetting.look(&self.cluster, index, &peers, &mut self.history);
            }
            for index in std::mem::take(&mut self.cluster.turned) {
                self.ready.turned(&self.cluster, index);
                self.deleted.turned(&self.cluster, index, &self.history);
            }
            self.cluster.run_until(until);
            if !self.cluster.is_waiting() {
                return;
            }
        }
    }

    /// Whether somebody is still to come, or to go.
    fn is_mending(&self) -> bool {
        let coming = |step: &Step| matches!(step, Step::Mend(Mend::Restart(_)) | Step::Start(_));
        self.agenda.values().any(coming)
            || self.roll.is_some()
            || self.cluster.hosts.iter().any(|host| host.leaving.is_some() && host.is_up())
    }

    fn look(&mut self) -> Result<(), Violation> {
        let now = self.cluster.now;
        self.cluster.hosts.iter_mut().for_each(|host| host.see_clock(now));
        for store in self.cluster.hosts.iter().filter_map(|host| host.store.as_ref()) {
            self.history.look(store.origin(), |key| store.entry(key));
        }
        let (incarnations, clocks) = (&mut self.incarnations, &mut self.clocks);
        let (deleted, kept) = (&mut self.deleted, &mut self.kept);
        check::always(&self.cluster, &self.history, incarnations, clocks, deleted, kept)?;
        self.ready.check(&self.cluster)?;
        self.ttls.look(&self.cluster)?;
        self.watchers.check()?;
        if let Some(lost) = &self.faults.broken {
            return Err(lost.clone());
        }
        self.forgetting.check()
    }

    fn chaos(&mut self) -> Result<(), Violation> {
        let until = self.cluster.now + self.options.chaos;
        self.play(until, |_| false)
    }

    /// No more faults: everything has to settle; how long that took.
    fn calm(&mut self) -> Result<Duration, Violation> {
        self.is_calm = true;
        self.is_silent = !self.options.load.steady;
        self.begin_calm();
        let start = self.cluster.now;
        let mut missing = Ok(());
        self.play(start + CALM_MAX, |run| {
            missing = check::settled(&run.cluster).and_then(|()| check::folded(&run.cluster));
            missing = missing.clone().and_then(|()| run.ttls.settled(&run.cluster));
            // What was sent in the chaos may still arrive, and a settled cluster has to stay so.
            let is_calm = run.cluster.now >= start + DELAY_MAX;
            is_calm && missing.is_ok() && !run.is_mending()
        })?;
        self.is_silent = true;
        missing?;
        let took = self.cluster.now.since(start);
        self.quiet()?;
        check::finally(&self.cluster, &self.history)?;
        self.watchers.finally(&self.cluster, &self.history)?;
        self.let_go()?;
        Ok(took)
    }
}

impl Run {
    /// A settled cluster stays settled, and costs little.
    fn quiet(&mut self) -> Result<(), Violation> {
        let resets = self.cluster.counts.resets;
        self.play(self.cluster.now + DYING_DOWN, |_| false)?;
        let before = self.cluster.counts.clone();
        self.play(self.cluster.now + QUIET, |_| false)?;
        if self.options.has(Fault::Floor) && self.cluster.counts.resets > resets {
            // A list was cut while a copy of it was on a slow line: who got it hides once more.
            let settled = |run: &Run| check::settled(&run.cluster).is_ok();
            self.play(self.cluster.now + CALM_MAX, settled)?;
            return check::settled(&self.cluster);
        }
        let n_up = self.cluster.hosts.iter().filter(|host| host.is_up()).count();
        check::quiet(&before, &self.cluster.counts, n_up, QUIET)?;
        check::settled(&self.cluster)
    }

    /// Where deletes are remembered for a short time, all are forgotten in the end.
    fn let_go(&mut self) -> Result<(), Violation> {
        if !self.options.has(Fault::Forget) {
            return Ok(());
        }
        let grace = self.options.tombstone_grace;
        let left = check::grace_left(&self.cluster, grace);
        let until = self.cluster.now + left.max(self.options.dead_memory) + LETTING_GO;
        let mut held = check::let_go(&self.cluster, Duration::ZERO);
        if held.is_err() {
            self.play(until, |run| {
                held = check::let_go(&run.cluster, Duration::ZERO);
                held.is_ok()
            })?;
        }
        // What has expired only now has its grace before it.
        held.or_else(|_| check::let_go(&self.cluster, grace + LETTING_GO / 2))
    }

    /// How often each fault of this run was felt.
    fn felt(&self) -> BTreeMap<Fault, u64> {
        let felt = &self.cluster.network.felt;
        let nodes = self.cluster.hosts.iter().filter_map(Host::node);
        let forgotten = nodes.map(|node| node.replication().forgotten_total()).sum();
        let packets = [
            (Fault::Loss, felt.lost),
            (Fault::Duplicate, felt.duplicated),
            (Fault::Reorder, felt.reordered),
            (Fault::Corrupt, felt.corrupted),
            (Fault::Partition, felt.blocked),
            (Fault::OneWay, felt.blocked),
            (Fault::Pause, felt.held_back),
            (Fault::Slow, felt.slowed),
            (Fault::Dns, felt.unresolved),
            (Fault::Encrypt, felt.encrypted),
            (Fault::Foreign, felt.foreign),
            (Fault::Stranger, felt.strange),
            (Fault::Forget, forgotten),
            (Fault::Floor, self.cluster.counts.let_go),
        ];
        let mut all = self.faults.counts.clone();
        all.extend(packets);
        all.retain(|fault, _| self.options.has(*fault));
        all
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
