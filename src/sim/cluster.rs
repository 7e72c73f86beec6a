//! The simulated cluster: hosts, the network between them, and one queue of events in virtual time.
//!
//! It is a shell like `runtime`: it carries encoded, sealed bytes, and tells each process what the
//! law of the state machine wants told. Nothing in it reads a clock or draws entropy.

use super::check::holders::{Wait, Waits};
pub use super::counts::Counts;
use super::host::{Clock, Host, Process};
use super::network::{DELAY_MAX, Network};
use super::options::Options;
use super::standing::Standing;
use super::story::part_told;
use super::trace::Trace;
use crate::kv::OriginId;
use crate::node::command::{Command, Concern, Look, Reply};
use crate::node::io::{ConnId, Input, Note, Output, Ticket};
use crate::node::replication::message::is_push;
use crate::rng::Rng;
use crate::time::{Instant, Now};
use crate::wire::packet::{self, Security};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;

/// Inputs a stopped process finds when it goes on; its socket buffer holds no more.
const HELD_BACK_MAX: usize = 400;
/// Events at one instant past which a cluster is taken to run in circles.
const EVENTS_AT_ONCE_MAX: u64 = 50_000;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Datagram { to: usize, from: SocketAddr, bytes: Bytes },
    Timer { host: usize },
    Pump { host: usize, conn: ConnId },
    Closed { host: usize, conn: ConnId, why: String },
    Deadline { host: usize, conn: ConnId },
    Resume { host: usize },
}

impl Event {
    fn host(&self) -> usize {
        match self {
            Event::Datagram { to: host, .. }
            | Event::Timer { host }
            | Event::Pump { host, .. }
            | Event::Closed { host, .. }
            | Event::Deadline { host, .. }
            | Event::Resume { host } => *host,
        }
    }
}

/// The cluster.
#[derive(Debug)]
pub struct Cluster {
    /// What there is.
    pub hosts: Vec<Host>,
    /// What lies between.
    pub network: Network,
    /// True time.
    pub now: Instant,
    /// Counted so far.
    pub counts: Counts,
    /// Replies to commands, until somebody takes them.
    pub replies: BTreeMap<Ticket, Reply>,
    /// What happened.
    pub trace: Trace,
    /// The highest incarnation that ended processes had given themselves, by name.
    pub last_incarnations: BTreeMap<Vec<u8>, u32>,
    /// Clients that wait for holders of their write.
    pub waits: Waits,
    /// Set when time stands still because something is always due at once.
    pub stuck: Option<String>,
    /// Hosts whose node has just forgotten deletes, with the hosts it had for peers: time waits
    /// until somebody has taken them.
    pub forgetful: Vec<(usize, Vec<usize>)>,
    /// Hosts whose node has just become ready: time waits for these too.
    pub turned: Vec<usize>,
    /// Whether somebody judges nodes that become ready: only then time waits for that.
    pub is_judged: bool,
    /// Per floor the runs below it, with their last numbers.
    floors: BTreeMap<u64, BTreeMap<OriginId, u64>>,
    n_events_now: u64,
    queue: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    next_event: u64,
    pub(super) by_addr: BTreeMap<SocketAddr, usize>,
    pub(super) rng: Rng,
    next_nonce: u64,
    next_ticket: u64,
}

impl Cluster {
    /// The latest that any clock has shown, in milliseconds since 1970.
    pub(super) fn wall_max_ms(&self) -> u64 {
        self.hosts.iter().map(|host| host.wall_max_ms).max().unwrap_or_default()
    }

    /// The nodes of ours that answer clients now.
    pub(super) fn answering(&self) -> Vec<usize> {
        let hosts = self.hosts.iter().enumerate();
        hosts
            .filter(|(_, host)| host.node().is_some() && !host.is_paused(self.now))
            .filter(|(_, host)| !host.is_stranger && host.leaving.is_none())
            .map(|(index, _)| index)
            .collect()
    }

    /// No host yet, at the origin of time.
    #[must_use]
    pub fn new(options: &Options) -> Cluster {
        Cluster {
            hosts: Vec::new(),
            network: Network::new(options),
            now: Instant::from_millis(1),
            counts: Counts::default(),
            replies: BTreeMap::new(),
            trace: Trace::default(),
            last_incarnations: BTreeMap::new(),
            waits: Waits::default(),
            stuck: None,
            forgetful: Vec::new(),
            turned: Vec::new(),
            is_judged: false,
            floors: BTreeMap::new(),
            n_events_now: 0,
            queue: BinaryHeap::new(),
            next_event: 0,
            by_addr: BTreeMap::new(),
            rng: Rng::from_seed(options.rng_seed ^ 0x6e65_7477_6f72_6b21),
            next_nonce: 0,
            next_ticket: 0,
        }
    }

    /// Adds a place; its index.
    pub fn add_host(&mut self, host: Host) -> usize {
        let index = self.hosts.len();
        self.by_addr.insert(host.addr, index);
        self.hosts.push(host);
        index
    }

    /// Starts a process on a host.
    pub fn start(&mut self, index: usize, process: Process, security: Arc<Security>) {
        let host = &mut self.hosts[index];
        host.process = Some(process);
        host.security = security;
        host.timer_at = Instant::NEVER;
        host.leaving = None;
        host.had_no_heir = false;
        host.n_forgotten = 0;
        host.floor = 0;
        host.below.clear();
        host.standing = Standing { since: self.now, ..Default::default() };
        self.by_addr.insert(host.addr, index);
        self.trace.word(self.now, || format!("{} starts", self.hosts[index].name));
        self.drain(index);
    }

    /// Ends a process on the spot; its connections are reset.
    pub fn kill(&mut self, index: usize) {
        self.trace.word(self.now, || format!("{} is killed", self.hosts[index].name));
        self.waits.ending(&self.hosts[index]);
        if let Some(process) = &self.hosts[index].process {
            let me = process.swim().me();
            let last = self.last_incarnations.entry(me.name.as_bytes().to_vec()).or_default();
            *last = me.incarnation.max(*last);
        }
        let host = &mut self.hosts[index];
        self.counts.refused += host.n_refused();
        host.process = None;
        host.ended_at = Some(self.now);
        host.standing.ok_since = None;
        host.paused_until = None;
        host.held_back.clear();
        host.timer_at = Instant::NEVER;
        let ends = std::mem::take(&mut host.ends);
        for end in ends.into_values() {
            self.reset_peer(end.peer);
        }
    }

    /// Stops a process until then.
    pub fn pause(&mut self, index: usize, until: Instant) {
        self.trace.word(self.now, || format!("{} stops", self.hosts[index].name));
        self.hosts[index].paused_until = Some(until);
        self.push(until, Event::Resume { host: index });
    }

    /// Lets a stopped process go on now.
    pub fn go_on(&mut self, index: usize) {
        self.hosts[index].paused_until = Some(self.now);
        self.resume(index);
    }

    /// What a host's clocks show.
    #[must_use]
    pub fn now_at(&self, index: usize) -> Now {
        let clock: Clock = self.hosts[index].clock;
        clock.read(self.now)
    }

    /// Has a client wait until enough members hold its write.
    pub fn await_holders(&mut self, index: usize, wait: Wait, concern: Concern, deadline: Instant) {
        let ticket = self.next_ticket();
        let dot = wait.dot;
        self.waits.begin(ticket, wait);
        let command = Command::AwaitHolders { dot, concern, deadline };
        self.input(index, Input::Command { ticket, command });
    }

    fn next_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// Hands a command to a node; its reply will be under the ticket.
    pub fn command(&mut self, index: usize, command: Command) -> Ticket {
        let ticket = self.next_ticket();
        self.input(index, Input::Command { ticket, command });
        ticket
    }

    /// Tells a process something, or holds it back while the process is stopped.
    pub fn input(&mut self, index: usize, input: Input) {
        let now = self.now_at(index);
        let host = &mut self.hosts[index];
        if host.is_paused(self.now) {
            self.network.felt.held_back += 1;
            if host.held_back.len() < HELD_BACK_MAX {
                host.held_back.push_back(input);
            }
            return;
        }
        let Some(process) = &mut host.process else { return };
        process.handle(now, input);
        self.drain(index);
    }

    /// Tells a process what discovery has found.
    pub fn look(&mut self, index: usize, look: Look) {
        let now = self.now_at(index);
        match &mut self.hosts[index].process {
            Some(Process::Ours(_)) => {
                let ticket = self.command(index, Command::Look(look));
                self.replies.remove(&ticket);
            }
            Some(Process::Foreign(foreign)) => {
                foreign.join(now, &look.named);
                self.input(index, Input::Timeout);
            }
            None => {}
        }
    }

    /// Mends the network, and drops late copies that are still on their way.
    pub fn calm(&mut self) {
        self.network.calm(self.now);
        let limit = self.now + DELAY_MAX;
        self.queue.retain(|Reverse((at, _, event))| {
            *at <= limit || !matches!(event, Event::Datagram { .. })
        });
    }

    /// Handles events up to `until`; stops early when stuck, and when there is something to judge
    /// before time goes on: see [`Cluster::is_waiting`].
    pub fn run_until(&mut self, until: Instant) {
        while !self.is_waiting() && self.step(until).is_some() {}
        if !self.is_waiting() {
            self.now = self.now.max(until);
        }
    }

    /// Whether a node has forgotten deletes, or become ready, and nobody has looked at it yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.forgetful.is_empty() || !self.turned.is_empty()
    }

    /// Handles the next event up to `until`; the host it was about. `None` when there is none, or
    /// when stuck.
    pub fn step(&mut self, until: Instant) -> Option<usize> {
        if self.stuck.is_some() || self.queue.peek().is_none_or(|Reverse((at, ..))| *at > until) {
            return None;
        }
        let Reverse((at, _, event)) = self.queue.pop()?;
        self.n_events_now = if at > self.now { 0 } else { self.n_events_now + 1 };
        if self.n_events_now > EVENTS_AT_ONCE_MAX {
            self.stuck = Some(format!("at {:?} again and again: {event:?}", self.now));
        }
        self.now = self.now.max(at);
        self.counts.events += 1;
        let host = event.host();
        self.event(event);
        Some(host)
    }

    pub(super) fn push(&mut self, at: Instant, event: Event) {
        self.next_event += 1;
        self.queue.push(Reverse((at, self.next_event, event)));
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Datagram { to, from, bytes } => {
                self.trace.bytes(self.now, to, &bytes);
                let is_foreign = matches!(self.hosts[to].process, Some(Process::Foreign(_)));
                self.network.felt.foreign += u64::from(is_foreign);
                self.input(to, Input::Datagram { from, bytes });
            }
            Event::Timer { host } => {
                if self.hosts[host].timer_at <= self.now && !self.hosts[host].is_paused(self.now) {
                    self.hosts[host].timer_at = Instant::NEVER;
                    self.input(host, Input::Timeout);
                }
            }
            Event::Pump { host, conn } => self.pump(host, conn),
            Event::Closed { host, conn, why } => {
                self.trace.detail(self.now, || {
                    format!("{}: {} closes: {why}", self.hosts[host].name, conn.0)
                });
                self.input(host, Input::Closed { conn, error: Some(why) });
            }
            Event::Deadline { host, conn } => {
                if self.hosts[host].ends.contains_key(&conn) {
                    self.close(host, conn, Some("timed out".to_owned()));
                }
            }
            Event::Resume { host } => self.resume(host),
        }
    }

    fn resume(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.is_paused(self.now) || host.paused_until.take().is_none() {
            return;
        }
        // Timers that came due meanwhile have been passed over.
        host.timer_at = Instant::NEVER;
        host.standing.went_on = self.now;
        self.trace.word(self.now, || format!("{} goes on", self.hosts[index].name));
        let held_back = std::mem::take(&mut self.hosts[index].held_back);
        for input in held_back {
            self.input(index, input);
        }
        self.input(index, Input::Timeout);
    }

    fn drain(&mut self, index: usize) {
        loop {
            let now = self.now_at(index);
            let Some(process) = &mut self.hosts[index].process else { return };
            match process.poll(now) {
                Output::Timeout(deadline) => {
                    self.set_timer(index, deadline);
                    self.see_floor(index);
                    self.see_forgetting(index);
                    self.see_ready(index);
                    return;
                }
                output => self.output(index, output),
            }
        }
    }

    fn see_forgetting(&mut self, index: usize) {
        let Some(node) = self.hosts[index].node() else { return };
        let n_forgotten = node.replication().forgotten_total();
        if n_forgotten > self.hosts[index].n_forgotten {
            let is_peer = |host: &Host| {
                let origin = host.store.as_ref().map(|store| store.origin());
                origin.is_some_and(|origin| node.replication().has_peer(origin))
            };
            let peers = (0..self.hosts.len()).filter(|other| is_peer(&self.hosts[*other]));
            self.forgetful.push((index, peers.collect()));
            self.hosts[index].n_forgotten = n_forgotten;
        }
    }

    fn set_timer(&mut self, index: usize, deadline: Instant) {
        // A deadline that has passed already still lets the queue go first.
        let at = deadline.max(self.now);
        if at < self.hosts[index].timer_at && deadline != Instant::NEVER {
            self.hosts[index].timer_at = at;
            self.push(at, Event::Timer { host: index });
        }
    }

    fn output(&mut self, index: usize, output: Output) {
        match output {
            Output::Datagram { to, parts, crc, compress } => {
                self.send_datagram(index, &to, &parts, crc, compress);
            }
            Output::Dial { conn, peer, frame, deadline, link } => {
                self.dial(index, conn, peer, &frame, deadline, link);
            }
            Output::Send { conn, frame } => self.send_frame(index, conn, &frame),
            Output::Close { conn } => self.close(index, conn, None),
            Output::Reply { ticket, reply: Reply::Holders { held, wanted } } => {
                self.waits.answered(ticket, held, wanted, &self.hosts);
            }
            Output::Reply { ticket, reply } => {
                self.replies.insert(ticket, reply);
            }
            Output::Event(event) => {
                use crate::swim::io::Event as Swim;
                match &event {
                    Swim::Suspected(..) => self.counts.suspicions += 1,
                    Swim::Failed(_) => self.counts.deaths += 1,
                    Swim::Refuted(_) => self.counts.refutes += 1,
                    _ => {}
                }
                self.trace.word(self.now, || format!("{}: {event:?}", self.hosts[index].name));
            }
            Output::Note(note) => {
                match &note {
                    Note::Divergence { .. } => self.counts.divergences += 1,
                    Note::Reset => self.counts.resets += 1,
                    Note::SetBack { .. } => self.counts.set_backs += 1,
                    Note::NoHeir { .. } => self.hosts[index].had_no_heir = true,
                    Note::LetGo { floor, runs } => self.let_go(index, *floor, runs),
                    _ => {}
                }
                self.trace.word(self.now, || format!("{}: {note:?}", self.hosts[index].name));
            }
            Output::Security(security) => self.hosts[index].security = security,
            Output::Timeout(_) => {}
        }
    }

    /// The node on a host has let go of runs that are over: from here on they are below this floor.
    fn let_go(&mut self, index: usize, floor: u64, runs: &[(OriginId, u64)]) {
        self.counts.let_go += runs.len() as u64;
        let host = &mut self.hosts[index];
        host.goes_below(runs);
        self.floors.entry(floor).or_insert_with(|| host.below.clone());
    }

    /// Notes what is below the floor of the node on a host, which may have taken it over.
    fn see_floor(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let floor = host.node().map_or(0, |node| node.replication().floor());
        if floor == host.floor {
            return;
        }
        host.floor = floor;
        let below = self.floors.get(&floor).into_iter().flatten();
        let below: Vec<(OriginId, u64)> = below.map(|(of, last)| (*of, *last)).collect();
        host.goes_below(&below);
    }

    /// The lowest floor that this run is below, with its last number: of halves that were founded
    /// apart, one may have let go of runs that the other never knew.
    pub(super) fn floor_above(&self, of: OriginId) -> Option<(u64, u64)> {
        self.floors.iter().find_map(|(floor, below)| Some((*floor, *below.get(&of)?)))
    }

    pub(super) fn nonce(&mut self) -> [u8; 12] {
        self.next_nonce += 1;
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.next_nonce.to_be_bytes());
        nonce
    }

    fn send_datagram(
        &mut self,
        index: usize,
        to: &[SocketAddr],
        parts: &[Bytes],
        crc: bool,
        compress: bool,
    ) {
        let nonce = self.nonce();
        let host = &self.hosts[index];
        let from = host.addr;
        let sealed = if compress == host.security.compress {
            packet::seal(&host.security, parts, crc, nonce)
        } else {
            packet::seal(&Security { compress, ..(*host.security).clone() }, parts, crc, nonce)
        };
        self.trace.detail(self.now, || {
            let (name, parts) = (&self.hosts[index].name, parts.iter().map(part_told));
            format!("{name} sends to {to:?}: {}", parts.collect::<Vec<_>>().join(" | "))
        });
        self.network.felt.encrypted += u64::from(host.security.encrypts());
        self.counts.datagram_len_max = self.counts.datagram_len_max.max(sealed.len());
        let pushes = parts.iter().any(|part| part.get(1..).is_some_and(is_push));
        self.counts.pushes += if pushes { to.len() as u64 } else { 0 };
        for to in to {
            self.counts.datagrams += 1;
            self.counts.datagram_len += sealed.len() as u64;
            let Some(&target) = self.by_addr.get(to) else { continue };
            let arrivals = self.network.datagram(from.ip(), to.ip(), &sealed, &mut self.rng);
            for (delay, bytes) in arrivals {
                let bytes = Bytes::from(bytes);
                self.push(self.now + delay, Event::Datagram { to: target, from, bytes });
            }
        }
    }
}
