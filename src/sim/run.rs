//! One run: chaos, then calm, with every promise checked on the way and at the end.

use super::check::{self, Clocks, Forgetting, Incarnations, Violation};
use super::cluster::{Cluster, Counts};
use super::faults::Faults;
use super::history::History;
use super::host::{EPOCH_MS, Host, Process};
use super::network::DELAY_MAX;
use super::options::{Fault, Options, Request};
use super::workload;
use crate::kv::{OriginId, Stamp, Store, StoreConfig};
use crate::node::command::Look;
use crate::node::formats::Formats;
use crate::node::{self, Node};
use crate::rng::Rng;
use crate::swim;
use crate::time::{Instant, WallMillis};
use crate::wire::keyring::{Key, Keyring};
use crate::wire::message::NodeName;
use crate::wire::packet::Security;
use bytes::Bytes;
use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Time between two looks at the whole cluster.
const LOOK: Duration = Duration::from_millis(500);
/// Calm in which everything must settle: detection and suspicion at their slowest, a redial of the
/// dead, two looks of discovery, and the name of a moved member reclaimed.
pub const CALM_MAX: Duration = Duration::from_secs(120);

/// After all has settled: how long rumours may still be told, and how long it is quiet then.
const DYING_DOWN: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(10);

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
    Discover(usize),
    Look,
    Mend(Mend),
}

/// The end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mend {
    Network,
    Slow(usize),
    Restart(usize),
    Dns,
    /// A clock goes to and fro, so many times more.
    Strobe(usize, u32),
}

/// A run under way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) options: Options,
    pub(super) cluster: Cluster,
    pub(super) history: History,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) dns_silent: bool,
    agenda: BTreeMap<(Instant, u64), Step>,
    next_step: u64,
    next_origin: u64,
    pub(super) next_name: u32,
    incarnations: Incarnations,
    clocks: Clocks,
    forgetting: Forgetting,
    is_calm: bool,
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
        waits: (run.cluster.waits.n_met, run.cluster.waits.n_unmet),
        clients: (run.history.n_writes, run.history.n_reads, run.history.n_lost_with_holders),
        story: run.cluster.trace.story().to_vec(),
    }
}

impl Run {
    fn new(options: Options) -> Run {
        let mut run = Run {
            cluster: Cluster::new(&options),
            history: History::new(!options.outlasting),
            rng: Rng::from_seed(options.rng_seed),
            faults: Faults::default(),
            dns_silent: false,
            agenda: BTreeMap::new(),
            next_step: 0,
            next_origin: 0,
            next_name: 0,
            incarnations: Incarnations::default(),
            clocks: Clocks::default(),
            forgetting: Forgetting::new(options.tombstone_grace),
            is_calm: false,
            options,
        };
        for _ in 0..run.options.n_nodes {
            let index = run.add_place(false);
            run.start_node(index);
        }
        if run.options.has(Fault::Foreign) {
            let index = run.add_place(false);
            run.start_foreign(index);
            run.faults.count(Fault::Foreign);
        }
        if run.options.has(Fault::Stranger) {
            let index = run.add_place(true);
            run.start_node(index);
            run.faults.count(Fault::Stranger);
        }
        run.after(Duration::from_secs(1), Step::Operate);
        run.after(Duration::from_secs(4), Step::Break);
        run.after(LOOK, Step::Look);
        run
    }

    /// A new place with an address and a name of its own.
    pub(super) fn add_place(&mut self, is_stranger: bool) -> usize {
        let index = self.cluster.hosts.len();
        let addr = SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8 + 1], 7947));
        let mut host = Host::empty(self.fresh_name(), addr);
        host.is_stranger = is_stranger;
        let index = self.cluster.add_host(host);
        self.after(Duration::from_millis(50), Step::Discover(index));
        index
    }

    pub(super) fn fresh_name(&mut self) -> String {
        self.next_name += 1;
        format!("n{}", self.next_name)
    }

    fn security(&self, index: usize) -> Security {
        let encrypt = self.options.has(Fault::Encrypt);
        let key = encrypt.then(|| Key::from_bytes(&[7; 32])).flatten();
        let label: &'static [u8] =
            if self.cluster.hosts[index].is_stranger { b"theirs" } else { b"ours" };
        Security {
            label: Bytes::from_static(label),
            keyring: Keyring::new(key).unwrap_or_default(),
            compress: self.options.rng_seed.is_multiple_of(2),
            ..Security::default()
        }
    }

    /// Seconds since 2026, by the host's own clock.
    fn incarnation(&self, index: usize) -> u32 {
        const START_OF_2026_MS: u64 = 1_767_225_600_000;
        let WallMillis(wall) = self.cluster.now_at(index).wall;
        u32::try_from(wall.saturating_sub(START_OF_2026_MS) / 1000).unwrap_or(1).max(1)
    }

    /// Starts an empty node of ours on a host, under the host's name.
    pub(super) fn start_node(&mut self, index: usize) {
        self.next_origin += 1;
        // Spread as random origins are, and never 0.
        let origin = OriginId(self.next_origin.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let store = Arc::new(Store::new(StoreConfig { origin, store_len_max: 0 }));
        let security = self.security(index);
        let host = &self.cluster.hosts[index];
        let mut timing = swim::Config::lan();
        timing.dead_memory = self.options.dead_memory;
        let config = node::Config {
            name: NodeName::from(host.name.as_str()),
            advertise: host.addr,
            incarnation: self.incarnation(index),
            swim: timing,
            security: security.clone(),
            tombstone_grace: self.options.tombstone_grace,
            expects_peers: true,
            bootstrap: false,
            formats: Formats::SPOKEN,
            rng_seed: self.rng.next_u64(),
        };
        let node = Node::new(config, Arc::clone(&store), self.cluster.now_at(index));
        self.cluster.hosts[index].store = Some(store);
        self.cluster.start(index, Process::Ours(Box::new(node)), Arc::new(security));
    }

    fn start_foreign(&mut self, index: usize) {
        let security = self.security(index);
        let (name, addr) = (self.cluster.hosts[index].name.clone(), self.cluster.hosts[index].addr);
        let foreign = super::foreign::Foreign::new(
            &name,
            addr,
            self.incarnation(index),
            security.clone(),
            self.rng.next_u64(),
            self.cluster.now_at(index),
        );
        self.cluster.start(index, Process::Foreign(Box::new(foreign)), Arc::new(security));
    }

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
                Step::Operate if !self.is_calm => {
                    workload::operate(self);
                    let pause = self.rng.duration_below(self.options.op_interval * 2);
                    self.after(pause, Step::Operate);
                }
                Step::Break if !self.is_calm => {
                    self.break_something();
                    let pause = self.rng.duration_below(self.options.fault_interval * 2);
                    self.after(pause + Duration::from_millis(100), Step::Break);
                }
                Step::Operate | Step::Break => {}
                Step::Discover(index) => self.discover(index),
                Step::Look => {
                    self.finish_leaves();
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
            self.cluster.run_until(until);
            if self.cluster.forgetful.is_empty() {
                return;
            }
        }
    }

    /// Whether somebody is still to come, or to go.
    fn is_mending(&self) -> bool {
        let coming = |step: &Step| matches!(step, Step::Mend(Mend::Restart(_)));
        self.agenda.values().any(coming)
            || self.cluster.hosts.iter().any(|host| host.leaving && host.is_up())
    }

    fn look(&mut self) -> Result<(), Violation> {
        let now = self.cluster.now;
        self.cluster.hosts.iter_mut().for_each(|host| host.see_clock(now));
        for store in self.cluster.hosts.iter().filter_map(|host| host.store.as_ref()) {
            self.history.look(store.origin(), |key| store.entry(key));
        }
        let (incarnations, clocks) = (&mut self.incarnations, &mut self.clocks);
        check::always(&self.cluster, &self.history, incarnations, clocks)?;
        self.forgetting.check()
    }

    /// What DNS names: everybody's address, dead ones too, at most eight a look. Another cluster's
    /// members find ours, but ours never find them there.
    fn discover(&mut self, index: usize) {
        let pause = Duration::from_secs(2) + self.rng.duration_below(Duration::from_secs(8));
        self.after(pause, Step::Discover(index));
        if !self.cluster.hosts[index].is_up() {
            return;
        }
        if self.dns_silent {
            self.cluster.network.felt.unresolved += 1;
            let failed = vec!["DNS is silent".to_owned()];
            self.cluster.look(index, Look { failed, ..Look::default() });
            return;
        }
        let hosts = self.cluster.hosts.iter().enumerate();
        let is_told = |host: &Host| !host.is_stranger || self.cluster.hosts[index].is_stranger;
        let mut named: Vec<SocketAddr> = hosts
            .filter(|(at, host)| *at != index && is_told(host))
            .map(|(_, host)| host.addr)
            .collect();
        self.rng.shuffle(&mut named);
        named.truncate(8);
        let look = Look { named, names_me: true, answered: true, ..Look::default() };
        self.cluster.look(index, look);
    }

    fn chaos(&mut self) -> Result<(), Violation> {
        let until = self.cluster.now + self.options.chaos;
        self.play(until, |_| false)
    }

    /// No more faults: everything has to settle; how long that took.
    fn calm(&mut self) -> Result<Duration, Violation> {
        self.is_calm = true;
        self.begin_calm();
        let start = self.cluster.now;
        let mut missing = Ok(());
        self.play(start + CALM_MAX, |run| {
            missing = check::settled(&run.cluster).and_then(|()| check::folded(&run.cluster));
            // What was sent in the chaos may still arrive, and a settled cluster has to stay so.
            let is_calm = run.cluster.now >= start + DELAY_MAX;
            is_calm && missing.is_ok() && !run.is_mending()
        })?;
        missing?;
        let took = self.cluster.now.since(start);
        self.quiet()?;
        check::finally(&self.cluster, &self.history)?;
        Ok(took)
    }
}

impl Run {
    /// A settled cluster stays settled, and costs little.
    fn quiet(&mut self) -> Result<(), Violation> {
        self.play(self.cluster.now + DYING_DOWN, |_| false)?;
        let before = self.cluster.counts.clone();
        self.play(self.cluster.now + QUIET, |_| false)?;
        let n_up = self.cluster.hosts.iter().filter(|host| host.is_up()).count();
        check::quiet(&before, &self.cluster.counts, n_up, QUIET)?;
        check::settled(&self.cluster)
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

const _: () = assert!(EPOCH_MS > 1_767_225_600_000);
