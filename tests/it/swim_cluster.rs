//! Membership machines on a network of their own, in virtual time.
//!
//! Every packet and every half of an exchange takes one millisecond. What happens is written down
//! as text, one line each: `seconds node what`.

use crate::swim_words::{self as words, show, show_push_state};
use gossipykv::swim::io::{Event, ExchangeId, Output, Packet};
use gossipykv::swim::{Config, Identity, Swim};
use gossipykv::time::Instant;
use gossipykv::wire::message::{Ack, Message, NodeName, Ping, PushNodeState};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

const LATENCY: Duration = Duration::from_millis(1);

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    Events,
    All,
}

/// Something on its way.
#[derive(Debug)]
enum Flight {
    Packet { from: SocketAddr, packet: Packet },
    Request { dialler: SocketAddr, id: ExchangeId, peer: SocketAddr, what: Request },
    Reply { dialler: SocketAddr, id: ExchangeId, what: Reply },
}

#[derive(Debug)]
enum Request {
    PushPull { join: bool, states: Vec<PushNodeState>, deadline: Instant },
    Ping { ping: Ping, deadline: Instant },
}

#[derive(Debug)]
enum Reply {
    PushPull(Vec<PushNodeState>),
    Ack(Ack),
    Failed(&'static str),
}

pub struct Node {
    pub swim: Swim,
    frozen: bool,
}

/// The machines, by address, and what lies between them.
pub struct Cluster {
    pub now: Instant,
    pub trace: Trace,
    pub lines: Vec<String>,
    /// Events since the start, as the lines tell them, without the time.
    pub events: BTreeSet<String>,
    nodes: BTreeMap<SocketAddr, Node>,
    flights: BTreeMap<(Instant, u64), Flight>,
    n_flights: u64,
    cuts: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Links that carry streams only.
    packet_cuts: BTreeSet<(SocketAddr, SocketAddr)>,
}

impl Cluster {
    pub fn new() -> Cluster {
        Cluster {
            now: Instant::ZERO,
            trace: Trace::All,
            lines: Vec::new(),
            events: BTreeSet::new(),
            nodes: BTreeMap::new(),
            flights: BTreeMap::new(),
            n_flights: 0,
            cuts: BTreeSet::new(),
            packet_cuts: BTreeSet::new(),
        }
    }

    pub fn add(&mut self, config: Config, me: Identity, incarnation: u32, rng_seed: u64) {
        let addr = me.addr.socket_addr(me.port).expect("an address to dial");
        let swim = Swim::new(config, me, incarnation, rng_seed, self.now);
        self.nodes.insert(addr, Node { swim, frozen: false });
        self.drain(addr);
    }

    pub fn kill(&mut self, addr: SocketAddr) {
        self.nodes.remove(&addr).expect("a node to kill");
    }

    pub fn freeze(&mut self, addr: SocketAddr) {
        self.nodes.get_mut(&addr).expect("a node to freeze").frozen = true;
    }

    /// Lets a frozen node run again; its timers fire before it reads what has arrived.
    pub fn thaw(&mut self, addr: SocketAddr) {
        self.nodes.get_mut(&addr).expect("a node to thaw").frozen = false;
        let now = self.now;
        self.tell(addr, |swim| swim.timeout(now));
    }

    /// Whether packets and streams pass between two nodes.
    pub fn connect(&mut self, a: SocketAddr, b: SocketAddr, connected: bool) {
        for link in [(a, b), (b, a)] {
            if connected {
                self.cuts.remove(&link);
            } else {
                self.cuts.insert(link);
            }
        }
    }

    /// Lets streams pass between two nodes, but no packets.
    pub fn drop_packets(&mut self, a: SocketAddr, b: SocketAddr) {
        self.packet_cuts.extend([(a, b), (b, a)]);
    }

    pub fn node(&self, addr: SocketAddr) -> &Swim {
        &self.nodes.get(&addr).expect("a node of that name").swim
    }

    pub fn addr(&self, name: &str) -> SocketAddr {
        let of_name = |swim: &Swim| swim.me().name == words::name(name);
        let found = self.nodes.iter().find(|(_, node)| of_name(&node.swim));
        *found.unwrap_or_else(|| panic!("no node {name:?}")).0
    }

    pub fn has(&self, name: &str) -> bool {
        self.nodes.values().any(|node| node.swim.me().name == words::name(name))
    }

    /// Has a node do something, and takes what comes of it.
    pub fn tell<T>(&mut self, addr: SocketAddr, act: impl FnOnce(&mut Swim) -> T) -> T {
        let node = self.nodes.get_mut(&addr).expect("a node to tell");
        let answer = act(&mut node.swim);
        node.swim.check().expect("a consistent machine");
        self.drain(addr);
        answer
    }

    /// Runs everything until `until`, or until `stop` says so.
    pub fn run(&mut self, until: Instant, mut stop: impl FnMut(&Cluster) -> bool) -> bool {
        while !stop(self) {
            let flight = self.flights.first_key_value().map(|(&(at, _), _)| at);
            let awake = self.nodes.iter().filter(|(_, node)| !node.frozen);
            let timer = awake.map(|(&addr, node)| (node.swim.deadline(), addr)).min();
            let next_timer = timer.map_or(Instant::NEVER, |(at, _)| at);
            let next = flight.unwrap_or(Instant::NEVER).min(next_timer).max(self.now);
            if next > until {
                self.now = self.now.max(until);
                return false;
            }
            self.now = next;
            match timer {
                Some((at, addr)) if at <= flight.unwrap_or(Instant::NEVER) => {
                    let before = self.node(addr).deadline();
                    self.tell(addr, |swim| swim.timeout(next));
                    assert!(self.node(addr).deadline() > before, "a timeout must move on");
                }
                _ => self.land(),
            }
        }
        true
    }

    /// Runs until nothing is on its way, which takes no longer than a few round trips.
    pub fn deliver(&mut self) {
        let until = self.now + Duration::from_millis(50);
        self.run(until, |cluster| cluster.flights.is_empty());
    }

    fn land(&mut self) {
        let Some((_, flight)) = self.flights.pop_first() else { return };
        match flight {
            Flight::Packet { from, packet } => self.land_packet(from, packet),
            Flight::Request { dialler, id, peer, what } => {
                self.land_request(dialler, id, peer, what)
            }
            Flight::Reply { dialler, id, what } => {
                let now = self.now;
                if self.nodes.contains_key(&dialler) {
                    self.tell(dialler, |swim| match what {
                        Reply::PushPull(states) => swim.push_pull_done(now, id, states),
                        Reply::Ack(ack) => swim.stream_ack(now, id, &ack),
                        Reply::Failed(why) => swim.exchange_failed(now, id, why),
                    });
                }
            }
        }
    }

    fn land_packet(&mut self, from: SocketAddr, packet: Packet) {
        let now = self.now;
        let Some(node) = self.nodes.get(&packet.to) else { return };
        if node.frozen {
            return self.fly(Duration::from_millis(100), Flight::Packet { from, packet });
        }
        let link = (from, packet.to);
        if self.cuts.contains(&link) || self.packet_cuts.contains(&link) {
            return;
        }
        self.tell(packet.to, |swim| {
            for part in &packet.parts {
                let message = Message::decode(part).expect("our own message");
                swim.message(now, from, message);
            }
        });
    }

    fn land_request(
        &mut self,
        dialler: SocketAddr,
        id: ExchangeId,
        peer: SocketAddr,
        what: Request,
    ) {
        let now = self.now;
        let (Request::PushPull { deadline, .. } | Request::Ping { deadline, .. }) = what;
        let reachable = !self.cuts.contains(&(dialler, peer));
        let (delay, what) = match self.nodes.get(&peer) {
            Some(node) if reachable && !node.frozen => {
                let reply = self.tell(peer, |swim| match what {
                    Request::PushPull { join, states, .. } => {
                        Some(Reply::PushPull(swim.push_pull_request(now, dialler, states, join)))
                    }
                    Request::Ping { ping, .. } => swim.stream_ping(now, &ping).map(Reply::Ack),
                });
                (LATENCY, reply.unwrap_or(Reply::Failed("closed")))
            }
            None if reachable => (LATENCY, Reply::Failed("connection refused")),
            _ => (deadline.since(now), Reply::Failed("timed out")),
        };
        self.fly(delay, Flight::Reply { dialler, id, what });
    }

    fn fly(&mut self, delay: Duration, flight: Flight) {
        self.n_flights += 1;
        self.flights.insert((self.now + delay, self.n_flights), flight);
    }

    fn drain(&mut self, from: SocketAddr) {
        while let Some(output) = self.nodes.get_mut(&from).and_then(|node| node.swim.poll()) {
            match output {
                Output::Packet(packet) => {
                    let parts: Vec<String> = packet
                        .parts
                        .iter()
                        .map(|part| show(&Message::decode(part).expect("our own message")))
                        .collect();
                    let crc = if packet.crc { "" } else { " (no crc)" };
                    let to = self.label(packet.to);
                    self.write(from, &format!("-> {to}{crc}: {}", parts.join(" | ")));
                    self.fly(LATENCY, Flight::Packet { from, packet });
                }
                Output::PushPull { id, peer, join, states, deadline, .. } => {
                    let shown: Vec<String> = states.iter().map(show_push_state).collect();
                    let kind = if join { "join" } else { "push-pull" };
                    let to = self.label(peer);
                    self.write(from, &format!("=> {to} {kind}: {}", shown.join(" | ")));
                    let what = Request::PushPull { join, states, deadline };
                    self.fly(LATENCY, Flight::Request { dialler: from, id, peer, what });
                }
                Output::StreamPing { id, peer, ping, deadline } => {
                    let to = self.label(peer);
                    let shown = show(&Message::Ping(ping.clone()));
                    self.write(from, &format!("=> {to}: {shown}"));
                    let what = Request::Ping { ping, deadline };
                    self.fly(LATENCY, Flight::Request { dialler: from, id, peer, what });
                }
                Output::Event(event) => self.event(from, &event),
            }
        }
    }

    fn event(&mut self, from: SocketAddr, event: &Event) {
        let text = match event {
            Event::Joined(name) => format!("joined {name}"),
            Event::Updated(name) => format!("updated {name}"),
            Event::ProbeFailed { name, helpers, nacks } => {
                format!("probe of {name} failed, {helpers} asked, {nacks} nacks")
            }
            Event::Suspected(name, accuser) => format!("suspected {name} by {accuser}"),
            Event::Recovered(name) => format!("recovered {name}"),
            Event::Failed(name) => format!("failed {name}"),
            Event::Left(name) => format!("left {name}"),
            Event::Reaped(name) => format!("reaped {name}"),
            Event::UdpBlocked(name) => format!("udp-blocked {name}"),
            Event::UdpOpen(name) => format!("udp-open {name}"),
            Event::Refuted(incarnation) => format!("refuted, now {incarnation}"),
            Event::Conflict { name, known, claimed } => {
                format!("conflict {name}: known {known}, claimed {claimed}")
            }
            Event::MergeRefused { peer, why } => format!("merge refused {peer}: {why}"),
            Event::JoinDone { peer, result } => {
                let result = result.as_ref().map_err(ToString::to_string);
                format!("join done {peer}: {result:?}")
            }
            Event::LeaveDone => "leave done".to_owned(),
        };
        let name = self.label(from);
        self.events.insert(format!("{name} {text}"));
        self.lines.push(format!("{} {name} * {text}", self.clock()));
    }

    fn write(&mut self, from: SocketAddr, text: &str) {
        if self.trace == Trace::All {
            self.lines.push(format!("{} {} {text}", self.clock(), self.label(from)));
        }
    }

    fn clock(&self) -> String {
        let millis = self.now.0 / 1_000_000;
        format!("{}.{:03}", millis / 1000, millis % 1000)
    }

    /// A node's name, or the bare address where there is none.
    pub fn label(&self, addr: SocketAddr) -> String {
        let name = |node: &Node| node.swim.me().name.to_string();
        self.nodes.get(&addr).map_or_else(|| addr.to_string(), name)
    }

    /// Everyone a node knows, one line each.
    pub fn table(&self, addr: SocketAddr) -> Vec<String> {
        let row = |member: &gossipykv::swim::Member| {
            let since = self.now.since(member.state_change).as_millis();
            format!("  {} for {since} ms", show_push_state(&member.to_push_state()))
        };
        self.node(addr).members().map(row).collect()
    }

    /// What a node thinks of another, when it knows it.
    pub fn opinion(&self, addr: SocketAddr, name: &NodeName) -> Option<&'static str> {
        self.node(addr).member(name).map(|member| words::show_state(member.state))
    }
}
