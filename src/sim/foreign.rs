//! A plain memberlist member: membership and nothing else, as a Go program would have it.

use crate::node::io::{ConnId, Input, Output};
use crate::swim::io::{ExchangeId, Output as SwimOutput};
use crate::swim::{Config, Identity, Swim, VSN};
use crate::time::Now;
use crate::wire::message::{AddrBytes, Message, NodeName, PushPull, Vsn};
use crate::wire::packet::{self, Security};
use crate::wire::stream::Frame;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Versions of a Go program with default settings.
const PLAIN_VSN: Vsn = Vsn { dmin: 0, dmax: 0, dcur: 0, ..VSN };

/// Membership in a shell of its own, with the node's inputs and outputs.
#[derive(Debug)]
pub struct Foreign {
    swim: Swim,
    security: Security,
    dialled: BTreeMap<ConnId, ExchangeId>,
    next_conn: u64,
    out: VecDeque<Output>,
    /// User messages and user state received: nobody should send us any.
    pub n_user_messages: u64,
}

impl Foreign {
    /// A member that knows nobody.
    #[must_use]
    pub fn new(
        name: &str,
        addr: SocketAddr,
        incarnation: u32,
        security: Security,
        rng_seed: u64,
        now: Now,
    ) -> Foreign {
        let me = Identity {
            name: NodeName::from(name),
            addr: AddrBytes::from_ip(addr.ip()),
            port: addr.port(),
            meta: Bytes::new(),
            vsn: PLAIN_VSN,
        };
        let mut swim = Swim::new(Config::lan(), me, incarnation, rng_seed, now.instant);
        swim.set_budget(packet::budget(&security, true));
        Foreign {
            swim,
            security,
            dialled: BTreeMap::new(),
            next_conn: 2,
            out: VecDeque::new(),
            n_user_messages: 0,
        }
    }

    /// Its table of members.
    #[must_use]
    pub fn swim(&self) -> &Swim {
        &self.swim
    }

    /// Tries these addresses.
    pub fn join(&mut self, now: Now, addresses: &[SocketAddr]) {
        self.swim.join(now.instant, addresses);
    }

    /// As the node's.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Datagram { from, bytes } => {
                let Ok(opened) = packet::open(&self.security, bytes) else { return };
                for message in opened.messages {
                    match message {
                        Message::User(_) => self.n_user_messages += 1,
                        message => self.swim.message(now.instant, from, message),
                    }
                }
            }
            Input::Frame { conn, from, frame } => self.frame(now, conn, from, frame),
            Input::Closed { conn, error } => {
                if let Some(id) = self.dialled.remove(&conn) {
                    let why = error.as_deref().unwrap_or("closed");
                    self.swim.exchange_failed(now.instant, id, why);
                }
            }
            Input::Timeout => self.swim.timeout(now.instant),
            Input::Sent { .. } | Input::Refused { .. } | Input::Written | Input::Command { .. } => {
            }
        }
        while let Some(output) = self.swim.poll() {
            self.output(output);
        }
    }

    fn frame(&mut self, now: Now, conn: ConnId, from: SocketAddr, frame: Frame) {
        match (self.dialled.remove(&conn), frame) {
            (Some(id), Frame::PushPull(push_pull)) => {
                self.n_user_messages += u64::from(!push_pull.user_state.is_empty());
                self.swim.push_pull_done(now.instant, id, push_pull.nodes);
            }
            (Some(id), Frame::Ack(ack)) => self.swim.stream_ack(now.instant, id, &ack),
            (Some(id), _) => self.swim.exchange_failed(now.instant, id, "something else came"),
            (None, Frame::PushPull(push_pull)) => {
                self.n_user_messages += u64::from(!push_pull.user_state.is_empty());
                let join = push_pull.join;
                let nodes = self.swim.push_pull_request(now.instant, from, push_pull.nodes, join);
                let answer = PushPull { join, nodes, user_state: Bytes::new() };
                self.out.push_back(Output::Send { conn, frame: Frame::PushPull(answer) });
            }
            (None, Frame::Ping(ping)) => {
                if let Some(ack) = self.swim.stream_ping(now.instant, &ping) {
                    self.out.push_back(Output::Send { conn, frame: Frame::Ack(ack) });
                }
            }
            (None, Frame::User(_) | Frame::Kv(_)) => self.n_user_messages += 1,
            (None, _) => {}
        }
        self.out.push_back(Output::Close { conn });
    }

    fn output(&mut self, output: SwimOutput) {
        let (id, peer, frame, deadline) = match output {
            SwimOutput::Packet(packet) => {
                let to = vec![packet.to];
                let (parts, crc) = (packet.parts, packet.crc);
                self.out.push_back(Output::Datagram { to, parts, crc, compress: true });
                return;
            }
            SwimOutput::PushPull { id, peer, join, states, deadline, .. } => {
                let push_pull = PushPull { join, nodes: states, user_state: Bytes::new() };
                (id, peer, Frame::PushPull(push_pull), deadline)
            }
            SwimOutput::StreamPing { id, peer, ping, deadline } => {
                (id, peer, Frame::Ping(ping), deadline)
            }
            SwimOutput::Event(_) => return,
        };
        self.next_conn += 2;
        let conn = ConnId(self.next_conn);
        self.dialled.insert(conn, id);
        self.out.push_back(Output::Dial { conn, peer, frame, deadline, link: false });
    }

    /// As the node's.
    pub fn poll(&mut self) -> Output {
        self.out.pop_front().unwrap_or(Output::Timeout(self.swim.deadline()))
    }
}
