//! The simulated cluster: hosts, the network between them, and one queue of events in virtual time.
//!
//! It is a shell like `runtime`: it carries encoded, sealed bytes, and tells each process what the
//! law of the state machine wants told. Nothing in it reads a clock or draws entropy.

use super::check::holders::{Wait, Waits};
pub use super::counts::Counts;
use super::host::{Clock, End, Host, Process};
use super::network::{DELAY_MAX, Network};
use super::options::Options;
use super::story::{part_told, told};
use super::trace::Trace;
use crate::node::command::{Command, Concern, Look, Reply};
use crate::node::io::{ConnId, Input, Note, Output, Ticket};
use crate::node::replication::message::is_push;
use crate::rng::Rng;
use crate::time::{Instant, Now};
use crate::wire::packet::{self, Security};
use crate::wire::stream::{self, Frame, Role};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Inputs a stopped process finds when it goes on; its socket buffer holds no more.
const HELD_BACK_MAX: usize = 400;
/// How often a connection across a partition is tried again.
const STALL_STEP: Duration = Duration::from_millis(200);
/// Events at one instant past which a cluster is taken to run in circles.
const EVENTS_AT_ONCE_MAX: u64 = 50_000;
/// A connection that moves nothing for this long ends.
const STALL_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
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
    n_events_now: u64,
    queue: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    next_event: u64,
    by_addr: BTreeMap<SocketAddr, usize>,
    rng: Rng,
    next_nonce: u64,
    next_ticket: u64,
}

impl Cluster {
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
        host.leaving = false;
        host.n_forgotten = 0;
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

    /// Tells a host what discovery sees.
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
        self.network.calm();
        let limit = self.now + DELAY_MAX;
        self.queue.retain(|Reverse((at, _, event))| {
            *at <= limit || !matches!(event, Event::Datagram { .. })
        });
    }

    /// Handles events up to `until`; stops early when stuck, and when a node has forgotten deletes.
    pub fn run_until(&mut self, until: Instant) {
        while self.forgetful.is_empty() && self.step(until).is_some() {}
        if self.forgetful.is_empty() {
            self.now = self.now.max(until);
        }
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

    fn push(&mut self, at: Instant, event: Event) {
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
                    self.see_forgetting(index);
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
                    _ => {}
                }
                self.trace.word(self.now, || format!("{}: {note:?}", self.hosts[index].name));
            }
            Output::Security(security) => self.hosts[index].security = security,
            Output::Timeout(_) => {}
        }
    }

    fn nonce(&mut self) -> [u8; 12] {
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

    fn dial(
        &mut self,
        index: usize,
        conn: ConnId,
        peer: SocketAddr,
        frame: &Frame,
        deadline: Instant,
        link: bool,
    ) {
        self.counts.dials += 1;
        self.trace.detail(self.now, || {
            let kind = if link { "a link" } else { "a stream" };
            format!("{} dials {kind} {} to {peer}: {}", self.hosts[index].name, conn.0, told(frame))
        });
        let from = self.hosts[index].addr.ip();
        let met = [Some(index), self.by_addr.get(&peer).copied()];
        let strange = met.into_iter().flatten().any(|host| self.hosts[host].is_stranger);
        self.network.felt.strange += u64::from(strange);
        let target = self.by_addr.get(&peer).copied().filter(|to| self.hosts[*to].is_up());
        let open = self.network.is_open(from, peer.ip()) && self.network.is_open(peer.ip(), from);
        match target {
            _ if !open => {
                let why = "timed out".to_owned();
                self.push(deadline, Event::Closed { host: index, conn, why });
            }
            None => {
                let delay = self.network.delay(from, peer.ip(), &mut self.rng);
                let why = "connection refused".to_owned();
                self.push(self.now + delay * 2, Event::Closed { host: index, conn, why });
            }
            Some(to) => {
                let accepted = ConnId(self.hosts[to].next_accepted);
                self.hosts[to].next_accepted += 2;
                self.hosts[index].ends.insert(conn, End::new((to, accepted), Role::Dialer));
                self.hosts[to].ends.insert(accepted, End::new((index, conn), Role::Acceptor));
                self.send_frame(index, conn, frame);
                if !link {
                    self.push(deadline, Event::Deadline { host: index, conn });
                }
            }
        }
    }

    fn send_frame(&mut self, index: usize, conn: ConnId, frame: &Frame) {
        let nonce = self.nonce();
        let security = Arc::clone(&self.hosts[index].security);
        let Some(end) = self.hosts[index].ends.get_mut(&conn) else { return };
        let first = end.dialled && !end.sent_any;
        end.sent_any = true;
        let peer = end.peer;
        let bytes = if first {
            stream::encode_request(&security, frame, nonce)
        } else {
            stream::encode_reply(&security, frame, nonce)
        };
        self.counts.stream_len += bytes.len() as u64;
        self.trace.detail(self.now, || {
            format!("{} sends on {}: {}", self.hosts[index].name, conn.0, told(frame))
        });
        let payload =
            if let Frame::Kv(payload) = frame { payload } else { &stream::Payload::default() };
        self.counts.pushes += u64::from(payload.pieces().next().is_some_and(|head| is_push(head)));
        let len = payload.len();
        self.post(index, peer, Some(bytes.to_vec()), len);
    }

    /// Puts something on its way to the other end; in order, whatever the delays.
    fn post(&mut self, from: usize, peer: (usize, ConnId), bytes: Option<Vec<u8>>, len: usize) {
        let (from_ip, to_ip) = (self.hosts[from].addr.ip(), self.hosts[peer.0].addr.ip());
        let delay = self.network.delay(from_ip, to_ip, &mut self.rng);
        let now = self.now;
        let Some(end) = self.hosts[peer.0].ends.get_mut(&peer.1) else { return };
        let earliest = end.inbox.back().map_or(Instant::ZERO, |(at, _, _)| *at);
        let at = (now + delay).max(earliest);
        end.inbox.push_back((at, bytes, len));
        self.push(at, Event::Pump { host: peer.0, conn: peer.1 });
    }

    /// Delivers what has arrived on a connection.
    fn pump(&mut self, index: usize, conn: ConnId) {
        let now = self.now;
        let Some(end) = self.hosts[index].ends.get(&conn) else { return };
        let peer = end.peer;
        let (from, to) = (self.hosts[peer.0].addr.ip(), self.hosts[index].addr.ip());
        if !self.network.is_open(from, to) || self.hosts[index].is_paused(now) {
            let Some(end) = self.hosts[index].ends.get_mut(&conn) else { return };
            let since = *end.stalled_since.get_or_insert(now);
            if now.since(since) > STALL_MAX {
                self.close(index, conn, Some("stalled".to_owned()));
                self.reset_peer(peer);
            } else {
                self.push(now + STALL_STEP, Event::Pump { host: index, conn });
            }
            return;
        }
        loop {
            let Some(end) = self.hosts[index].ends.get_mut(&conn) else { return };
            end.stalled_since = None;
            let Some((at, _, _)) = end.inbox.front() else { return };
            if *at > now {
                return;
            }
            let Some((_, bytes, len)) = end.inbox.pop_front() else { return };
            let Some(bytes) = bytes else {
                self.hosts[index].ends.remove(&conn);
                self.input(index, Input::Closed { conn, error: None });
                return;
            };
            end.reader.extend(&bytes);
            if self.hosts[peer.0].ends.contains_key(&peer.1) {
                self.input(peer.0, Input::Sent { conn: peer.1, len });
            }
            self.frames(index, conn, peer);
        }
    }

    fn frames(&mut self, index: usize, conn: ConnId, peer: (usize, ConnId)) {
        let security = Arc::clone(&self.hosts[index].security);
        let from = self.hosts[peer.0].addr;
        loop {
            let Some(end) = self.hosts[index].ends.get_mut(&conn) else { return };
            match end.reader.next(&security) {
                Ok(Some(frame)) => self.input(index, Input::Frame { conn, from, frame }),
                Ok(None) => return,
                Err(error) => {
                    if end.dialled {
                        if let Some(mismatch) = error.mismatch() {
                            self.input(index, Input::Refused { conn, mismatch });
                        }
                    } else if let Some(answer) =
                        stream::encode_refusal(&security, &error, self.nonce())
                    {
                        self.post(index, peer, Some(answer.to_vec()), 0);
                    }
                    self.close(index, conn, Some(error.to_string()));
                    return;
                }
            }
        }
    }

    /// Ends a connection from one side: it is told at once, the other after what was sent before.
    fn close(&mut self, index: usize, conn: ConnId, error: Option<String>) {
        let Some(end) = self.hosts[index].ends.remove(&conn) else { return };
        self.post(index, end.peer, None, 0);
        self.input(index, Input::Closed { conn, error });
    }

    fn reset_peer(&mut self, peer: (usize, ConnId)) {
        if self.hosts[peer.0].ends.remove(&peer.1).is_some() {
            let why = "connection reset".to_owned();
            let at = self.now + Duration::from_millis(1);
            self.push(at, Event::Closed { host: peer.0, conn: peer.1, why });
        }
    }
}
