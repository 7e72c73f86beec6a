//! Properties of the membership machine: whatever arrives, in whatever order, it stays consistent.

use bytes::Bytes;
use gossipykv::limits::{COMPOUND_PARTS_MAX, MEMBERS_MAX};
use gossipykv::swim::io::{Event, ExchangeId, Output, Packet};
use gossipykv::swim::{Config, Identity, MemberState, Swim, VSN};
use gossipykv::time::Instant;
use gossipykv::wire::message::{
    Ack, AddrBytes, Alive, Dead, IndirectPing, Message, Nack, NodeName, Ping, PushNodeState,
    Suspect,
};
use gossipykv::wire::packet::{PART_OVERHEAD, Security, budget};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::net::SocketAddr;
use std::time::Duration;

/// Something that happens to the machine.
#[derive(Debug, Clone)]
enum Act {
    Message(SocketAddr, Message),
    Request(SocketAddr, Vec<PushNodeState>, bool),
    Done(u64, Vec<PushNodeState>),
    Failed(u64),
    StreamPing(Ping),
    StreamAck(u64, u32),
    Join(Vec<SocketAddr>),
    Meta(Bytes),
    Leave,
    /// Time passes, with a timeout at its end or at every deadline on the way.
    Wait(Duration, bool),
}

/// Few names, so that the same member is met again; "me" is the machine itself.
fn name() -> impl Strategy<Value = NodeName> {
    prop_oneof![
        8 => proptest::sample::select(vec!["me", "a", "b", "c", "d", "e"]).prop_map(NodeName::from),
        1 => vec(any::<u8>(), 0..260).prop_map(|name| NodeName::from(&name[..])),
    ]
}

fn incarnation() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => 0..10_u32,
        1 => any::<u32>(),
        1 => Just(u32::MAX),
        1 => (u32::MAX - (1 << 20) - 2)..=(u32::MAX - (1 << 20) + 2),
    ]
}

fn octets() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => (0..8_u8).prop_map(|host| Bytes::copy_from_slice(&[10, 0, 0, host])),
        1 => vec(any::<u8>(), 16).prop_map(Bytes::from),
        1 => vec(any::<u8>(), 0..20).prop_map(Bytes::from),
    ]
}

fn addr() -> impl Strategy<Value = Option<AddrBytes>> {
    option::weighted(0.95, octets().prop_map(AddrBytes))
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![8 => Just(7946), 1 => Just(0), 1 => any::<u16>()]
}

fn meta() -> impl Strategy<Value = Option<Bytes>> {
    option::of(prop_oneof![
        8 => vec(any::<u8>(), 0..3).prop_map(Bytes::from),
        1 => vec(any::<u8>(), 500..600).prop_map(Bytes::from),
    ])
}

fn vsn() -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        4 => Just(Some(VSN.to_bytes())),
        1 => Just(Some(Bytes::from_static(&[1, 5, 2, 2, 5, 5]))),
        1 => Just(Some(Bytes::from_static(&[1, 5, 2, 0, 0, 0]))),
        1 => Just(None),
        1 => vec(any::<u8>(), 0..8).prop_map(|vsn| Some(Bytes::from(vsn))),
    ]
}

fn place() -> impl Strategy<Value = SocketAddr> {
    (0..12_u8, port()).prop_map(|(host, port)| SocketAddr::from(([10, 0, 0, host], port)))
}

fn seq_no() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..20_u32, 1 => any::<u32>()]
}

fn ping() -> impl Strategy<Value = Ping> {
    (seq_no(), name(), addr(), port(), name()).prop_map(
        |(seq_no, node, addr, source_port, source_node)| {
            let source_addr = addr.unwrap_or_default();
            Ping { seq_no, node, source_addr, source_port, source_node }
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let indirect = (ping(), option::of(octets()), port(), any::<bool>());
    let alive = (incarnation(), name(), addr(), port(), meta(), vsn());
    prop_oneof![
        1 => ping().prop_map(Message::Ping),
        1 => indirect.prop_map(|(ping, target, port, nack)| Message::IndirectPing(IndirectPing {
            seq_no: ping.seq_no,
            target,
            port,
            node: ping.node,
            nack,
            source_addr: ping.source_addr,
            source_port: ping.source_port,
            source_node: ping.source_node,
        })),
        1 => seq_no().prop_map(|seq_no| Message::Ack(Ack { seq_no, payload: None })),
        1 => seq_no().prop_map(|seq_no| Message::Nack(Nack { seq_no })),
        3 => alive.prop_map(|(incarnation, node, addr, port, meta, vsn)| Message::Alive(Alive {
            incarnation,
            node,
            addr,
            port,
            meta,
            vsn,
        })),
        2 => (incarnation(), name(), name()).prop_map(|(incarnation, node, from)| {
            Message::Suspect(Suspect { incarnation, node, from })
        }),
        2 => (incarnation(), name(), name()).prop_map(|(incarnation, node, from)| {
            Message::Dead(Dead { incarnation, node, from })
        }),
        1 => Just(Message::User(Bytes::from_static(b"x"))),
    ]
}

fn states() -> impl Strategy<Value = Vec<PushNodeState>> {
    let state = prop_oneof![8 => 0..4_i64, 1 => any::<i64>()];
    let entry = (name(), addr(), port(), meta(), incarnation(), state, vsn());
    let entry = entry.prop_map(|(name, addr, port, meta, incarnation, state, vsn)| PushNodeState {
        name,
        addr,
        port,
        meta,
        incarnation,
        state,
        vsn,
    });
    vec(entry, 0..5)
}

fn act() -> impl Strategy<Value = Act> {
    let short = (0..3_000_u64, any::<bool>())
        .prop_map(|(millis, every)| Act::Wait(Duration::from_millis(millis), every));
    let long = (0..100_u64).prop_map(|secs| Act::Wait(Duration::from_secs(secs), true));
    prop_oneof![
        12 => (place(), message()).prop_map(|(from, message)| Act::Message(from, message)),
        3 => (place(), states(), any::<bool>())
            .prop_map(|(from, states, join)| Act::Request(from, states, join)),
        3 => (0..12_u64, states()).prop_map(|(id, states)| Act::Done(id, states)),
        1 => (0..12_u64).prop_map(Act::Failed),
        1 => ping().prop_map(Act::StreamPing),
        1 => (0..12_u64, seq_no()).prop_map(|(id, seq_no)| Act::StreamAck(id, seq_no)),
        1 => vec(place(), 0..4).prop_map(Act::Join),
        1 => vec(any::<u8>(), 0..20).prop_map(|meta| Act::Meta(meta.into())),
        6 => short,
        1 => long,
    ]
}

/// The machine and what we believe of it.
struct Watched {
    swim: Swim,
    now: Instant,
    budget_len: usize,
    incarnation: u32,
    /// Whether the incarnation has risen for a reason since it was last looked at.
    may_rise: bool,
}

impl Watched {
    fn new(config: Config, incarnation: u32, rng_seed: u64) -> Watched {
        let me = Identity {
            name: "me".into(),
            addr: AddrBytes(Bytes::from_static(&[10, 0, 0, 1])),
            port: 7946,
            meta: Bytes::new(),
            vsn: VSN,
        };
        let now = Instant::from_millis(5);
        let mut swim = Swim::new(config, me, incarnation, rng_seed, now);
        let budget_len = budget(&Security::default(), true);
        swim.set_budget(budget_len);
        let incarnation = swim.me().incarnation;
        Watched { swim, now, budget_len, incarnation, may_rise: false }
    }

    fn act(&mut self, act: Act) {
        let (swim, now) = (&mut self.swim, self.now);
        match act {
            Act::Message(from, message) => swim.message(now, from, message),
            Act::Request(from, states, join) => {
                let ours = swim.push_pull_request(now, from, states, join);
                check_states(&ours);
            }
            Act::Done(id, states) => swim.push_pull_done(now, ExchangeId(id), states),
            Act::Failed(id) => swim.exchange_failed(now, ExchangeId(id), "no reason"),
            Act::StreamPing(ping) => {
                let answer = swim.stream_ping(now, &ping);
                let ours = ping.node.is_empty() || ping.node == NodeName::from("me");
                assert_eq!(answer.map(|ack| ack.seq_no), ours.then_some(ping.seq_no));
            }
            Act::StreamAck(id, seq_no) => {
                swim.stream_ack(now, ExchangeId(id), &Ack { seq_no, payload: None });
            }
            Act::Join(peers) => swim.join(now, &peers),
            Act::Meta(meta) => {
                self.may_rise = true;
                swim.update_meta(now, meta);
            }
            Act::Leave => swim.leave(now),
            Act::Wait(delay, every) => return self.wait(delay, every),
        }
        self.look();
    }

    fn wait(&mut self, delay: Duration, every: bool) {
        let until = self.now + delay;
        while every && self.swim.deadline() <= until {
            let due = self.swim.deadline().max(self.now);
            self.now = due;
            self.swim.timeout(due);
            assert!(self.swim.deadline() > due, "what was due is done");
            self.look();
        }
        self.now = until;
        self.swim.timeout(until);
        self.look();
    }

    /// Checks everything there is to check.
    fn look(&mut self) {
        let swim = &mut self.swim;
        swim.check().expect("a consistent machine");
        while let Some(output) = swim.poll() {
            match output {
                Output::Packet(packet) => check_packet(&packet, self.budget_len),
                Output::PushPull { states, deadline, .. } => {
                    check_states(&states);
                    assert!(deadline > self.now);
                }
                Output::StreamPing { deadline, .. } => assert!(deadline >= self.now),
                Output::Event(Event::Refuted(incarnation)) => {
                    assert!(incarnation >= self.incarnation);
                    self.may_rise = true;
                }
                Output::Event(_) => {}
            }
        }
        let me = swim.me();
        assert!(me.incarnation >= self.incarnation.max(1), "it never falls");
        let adopted = me.vsn.dcur != VSN.dcur;
        let may_rise = self.may_rise || adopted;
        assert!(me.incarnation == self.incarnation || may_rise, "only we raise it");
        (self.incarnation, self.may_rise) = (me.incarnation, false);
        assert!(swim.deadline() < Instant::NEVER, "there is always a probe to come");
        assert!(swim.health_score() <= 7);
        assert!(swim.members().count() <= MEMBERS_MAX);
        assert!(swim.members().all(|member| member.incarnation > 0));
        let n_alive = swim.members().filter(|m| m.state == MemberState::Alive).count();
        assert_eq!(n_alive, swim.n_alive());
    }
}

fn check_packet(packet: &Packet, budget_len: usize) {
    let len: usize = packet.parts.iter().map(|part| PART_OVERHEAD + part.len()).sum();
    assert!(len <= budget_len, "{len} bytes");
    assert!((1..=COMPOUND_PARTS_MAX).contains(&packet.parts.len()));
    assert!(!packet.crc || packet.member.is_some(), "a stranger promised nothing");
    for part in &packet.parts {
        match Message::decode(part).expect("what we send can be read") {
            Message::Alive(alive) => {
                assert!(alive.incarnation > 0);
                assert_eq!(alive.vsn.map(|vsn| vsn.len()), Some(6));
            }
            Message::Suspect(Suspect { incarnation, .. })
            | Message::Dead(Dead { incarnation, .. }) => assert!(incarnation > 0),
            _ => {}
        }
    }
}

fn check_states(states: &[PushNodeState]) {
    for state in states {
        assert!(state.incarnation > 0);
        assert_eq!(state.vsn.as_ref().map(Bytes::len), Some(6));
        assert!((0..4).contains(&state.state));
    }
}

fn config() -> impl Strategy<Value = Config> {
    let quiet = Config { push_pull_interval: Duration::ZERO, ..Config::lan() };
    proptest::sample::select(vec![Config::lan(), Config::wan(), Config::local(), quiet])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_arrives_it_stays_consistent(
        config in config(),
        own_incarnation in incarnation(),
        rng_seed in any::<u64>(),
        acts in vec(act(), 0..120),
        leave_at in option::of(0..120_usize),
    ) {
        let mut watched = Watched::new(config, own_incarnation, rng_seed);
        watched.look();
        for (at, act) in acts.into_iter().enumerate() {
            if leave_at == Some(at) {
                watched.act(Act::Leave);
            }
            watched.act(act);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run(
        rng_seed in any::<u64>(),
        acts in vec(act(), 0..60),
    ) {
        let run = || {
            let mut watched = Watched::new(Config::lan(), 1, rng_seed);
            for act in acts.clone() {
                watched.act(act);
            }
            format!("{:?}", watched.swim)
        };
        prop_assert_eq!(run(), run());
    }
}

#[test]
fn a_full_packet_has_at_most_255_parts() {
    let mut watched = Watched::new(Config::lan(), 1, 1);
    watched.swim.set_budget(60_000);
    watched.budget_len = 60_000;
    let alive = |n: u16| Alive {
        incarnation: 1,
        node: NodeName::from(&n.to_be_bytes()[..]),
        addr: Some(AddrBytes(Bytes::copy_from_slice(&[10, 1, n.to_be_bytes()[0], 1]))),
        port: n.max(1),
        meta: None,
        vsn: None,
    };
    let from = SocketAddr::from(([10, 1, 0, 1], 7946));
    for n in 1..600 {
        watched.act(Act::Message(from, Message::Alive(alive(n))));
    }
    watched.act(Act::Wait(Duration::from_secs(2), true));
    assert!(watched.swim.stats().broadcasts >= 600);
}
