//! Membership machines alone, thousands of them, on a network that loses nothing.
//!
//! Messages are encoded and decoded, but neither sealed nor queued in a socket: what is measured
//! here is the protocol. A machine may be blocked, as a starved process is: its inputs wait.

use crate::rng::Rng;
use crate::swim::io::{Event, ExchangeId, Output};
use crate::swim::{Config, Identity, Swim, VSN};
use crate::time::Instant;
use crate::wire::message::{Ack, AddrBytes, Message, NodeName, Ping, PushNodeState};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

const LATENCY: Duration = Duration::from_millis(1);
/// Inputs a blocked machine finds when it goes on, and outputs that wait with them.
const HELD_BACK_MAX: usize = 400;

#[derive(Debug)]
enum Flight {
    Timer(usize),
    Packet { from: SocketAddr, to: usize, parts: Vec<Bytes> },
    PushPull { from: usize, id: ExchangeId, to: usize, join: bool, states: Vec<PushNodeState> },
    StreamPing { from: usize, id: ExchangeId, to: usize, ping: Ping },
    Answered { to: usize, id: ExchangeId, states: Vec<PushNodeState> },
    Acked { to: usize, id: ExchangeId, ack: Ack },
    Failed { to: usize, id: ExchangeId },
}

/// One machine and what it has cost.
#[derive(Debug)]
pub struct Machine {
    /// The machine; `None` when it is dead.
    pub swim: Option<Swim>,
    /// Packets sent.
    pub packets: u64,
    /// Bytes of their messages.
    pub bytes: u64,
    blocked: bool,
    /// Messages are held both ways.
    muted: bool,
    held_back: VecDeque<Flight>,
    held_out: VecDeque<Output>,
    timer_at: Instant,
}

/// All of them.
#[derive(Debug)]
pub struct Mesh {
    /// By index.
    pub machines: Vec<Machine>,
    /// True time.
    pub now: Instant,
    /// What anybody said: when, who, what.
    pub events: Vec<(Instant, usize, Event)>,
    /// Pings of a member, by its index: when first.
    pub first_pinged: BTreeMap<usize, Instant>,
    flights: BTreeMap<(Instant, u64), Flight>,
    next_flight: u64,
}

/// The name of a machine.
#[must_use]
pub fn name(index: usize) -> String {
    format!("m{index}")
}

fn addr(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 1, (index >> 8) as u8, index as u8], 7947))
}

/// The machine at an address.
fn index_of(addr: SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(addr) => {
            let [_, _, high, low] = addr.ip().octets();
            usize::from(high) << 8 | usize::from(low)
        }
        SocketAddr::V6(_) => usize::MAX,
    }
}

impl Mesh {
    /// `n` machines that have known each other for long.
    #[must_use]
    pub fn settled(n: usize, config: &Config, rng_seed: u64) -> Mesh {
        let mut rng = Rng::from_seed(rng_seed);
        let now = Instant::from_millis(1);
        let mut mesh = Mesh {
            machines: Vec::new(),
            now,
            events: Vec::new(),
            first_pinged: BTreeMap::new(),
            flights: BTreeMap::new(),
            next_flight: 0,
        };
        let new = |index: usize, rng: &mut Rng| {
            let identity = Identity {
                name: NodeName::from(name(index).as_str()),
                addr: AddrBytes::from_ip(addr(index).ip()),
                port: addr(index).port(),
                meta: Bytes::new(),
                vsn: VSN,
            };
            Swim::new(config.clone(), identity, 1, rng.next_u64(), now)
        };
        let swims: Vec<Swim> = (0..n).map(|index| new(index, &mut rng)).collect();
        let states: Vec<PushNodeState> =
            swims.iter().map(|swim| swim.me().to_push_state()).collect();
        for (index, mut swim) in swims.into_iter().enumerate() {
            swim.acquaint(now, states.clone());
            mesh.machines.push(Machine {
                swim: Some(swim),
                packets: 0,
                bytes: 0,
                blocked: false,
                muted: false,
                held_back: VecDeque::new(),
                held_out: VecDeque::new(),
                timer_at: Instant::NEVER,
            });
            mesh.drain(index);
        }
        mesh
    }

    /// Ends a machine.
    pub fn kill(&mut self, index: usize) {
        self.machines[index].swim = None;
        self.first_pinged.remove(&index);
    }

    /// Blocks a machine, or lets it go on with what has come meanwhile.
    pub fn block(&mut self, index: usize, blocked: bool) {
        self.machines[index].blocked = blocked;
        if !blocked {
            self.machines[index].timer_at = Instant::NEVER;
            let now = self.now;
            if let Some(swim) = &mut self.machines[index].swim {
                swim.timeout(now);
            }
            self.drain(index);
            self.land_held_back(index);
        }
    }

    fn land_held_back(&mut self, index: usize) {
        for flight in std::mem::take(&mut self.machines[index].held_back) {
            self.land(flight);
        }
    }

    /// Holds a machine's messages, both ways, or lets them all go.
    pub fn mute(&mut self, index: usize, muted: bool) {
        self.machines[index].muted = muted;
        if !muted {
            for output in std::mem::take(&mut self.machines[index].held_out) {
                self.output(index, output);
            }
            self.land_held_back(index);
        }
    }

    /// Plays until then.
    pub fn run_until(&mut self, until: Instant) {
        while let Some(entry) = self.flights.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), flight) = entry.remove_entry();
            self.now = self.now.max(at);
            self.land(flight);
        }
        self.now = self.now.max(until);
    }

    fn fly(&mut self, at: Instant, flight: Flight) {
        self.next_flight += 1;
        self.flights.insert((at, self.next_flight), flight);
    }

    fn land(&mut self, flight: Flight) {
        let to = match &flight {
            Flight::Timer(to)
            | Flight::Packet { to, .. }
            | Flight::PushPull { to, .. }
            | Flight::StreamPing { to, .. }
            | Flight::Answered { to, .. }
            | Flight::Acked { to, .. }
            | Flight::Failed { to, .. } => *to,
        };
        let Some(machine) = self.machines.get_mut(to) else { return };
        let is_timer = matches!(flight, Flight::Timer(_));
        if machine.blocked || (machine.muted && !is_timer) {
            if !is_timer && machine.held_back.len() < HELD_BACK_MAX {
                machine.held_back.push_back(flight);
            }
            return;
        }
        if machine.swim.is_none() {
            if let Flight::PushPull { from, id, .. } | Flight::StreamPing { from, id, .. } = flight
            {
                self.fly(self.now + LATENCY, Flight::Failed { to: from, id });
            }
            return;
        }
        self.tell(to, flight);
        self.drain(to);
    }

    fn tell(&mut self, to: usize, flight: Flight) {
        let now = self.now;
        let machine = &mut self.machines[to];
        let Some(swim) = &mut machine.swim else { return };
        match flight {
            Flight::Timer(_) => {
                if machine.timer_at <= now {
                    machine.timer_at = Instant::NEVER;
                    swim.timeout(now);
                }
            }
            Flight::Packet { from, parts, .. } => {
                for message in parts.iter().filter_map(|part| Message::decode(part).ok()) {
                    swim.message(now, from, message);
                }
            }
            Flight::PushPull { from, id, join, states, .. } => {
                let states = swim.push_pull_request(now, addr(from), states, join);
                self.fly(now + LATENCY, Flight::Answered { to: from, id, states });
            }
            Flight::StreamPing { from, id, ping, .. } => {
                if let Some(ack) = swim.stream_ping(now, &ping) {
                    self.fly(now + LATENCY, Flight::Acked { to: from, id, ack });
                }
            }
            Flight::Answered { id, states, .. } => swim.push_pull_done(now, id, states),
            Flight::Acked { id, ack, .. } => swim.stream_ack(now, id, &ack),
            Flight::Failed { id, .. } => swim.exchange_failed(now, id, "refused"),
        }
    }

    fn drain(&mut self, index: usize) {
        let now = self.now;
        while let Some(output) = self.machines[index].swim.as_mut().and_then(Swim::poll) {
            self.output(index, output);
        }
        let Some(swim) = &self.machines[index].swim else { return };
        let at = swim.deadline().max(now);
        if at < self.machines[index].timer_at {
            self.machines[index].timer_at = at;
            self.fly(at, Flight::Timer(index));
        }
    }

    fn output(&mut self, from: usize, output: Output) {
        let at = self.now + LATENCY;
        let machine = &mut self.machines[from];
        if machine.muted && !matches!(output, Output::Event(_)) {
            if machine.held_out.len() < HELD_BACK_MAX {
                machine.held_out.push_back(output);
            }
            return;
        }
        match output {
            Output::Packet(packet) => {
                let machine = &mut self.machines[from];
                machine.packets += 1;
                machine.bytes += packet.parts.iter().map(|part| part.len() as u64).sum::<u64>();
                let to = index_of(packet.to);
                if packet.parts.first().and_then(|part| part.first()) == Some(&PING) {
                    self.first_pinged.entry(to).or_insert(self.now);
                }
                let from = addr(from);
                self.fly(at, Flight::Packet { from, to, parts: packet.parts });
            }
            Output::PushPull { id, peer, join, states, .. } => {
                self.fly(at, Flight::PushPull { from, id, to: index_of(peer), join, states });
            }
            Output::StreamPing { id, peer, ping, .. } => {
                self.fly(at, Flight::StreamPing { from, id, to: index_of(peer), ping });
            }
            Output::Event(event) => self.events.push((self.now, from, event)),
        }
    }
}

/// First byte of a ping.
const PING: u8 = crate::wire::type_byte::PING;
