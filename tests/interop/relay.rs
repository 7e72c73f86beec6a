//! Indirect pings: each kind relays for the other, with the requester's number.

use crate::harness::{
    Agent, AgentOptions, Fake, Mixed, MixedOptions, Node, State, eventually, hold_calm, lan, needs,
    security,
};
use gossipykv::wire::message::{AddrBytes, IndirectPing, Message, Ping};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Four members probe each other every 3 s: several probes of each pair.
const PROBES: Duration = Duration::from_secs(10);

/// Cuts every direct way between r1 and g11 and watches that only the relays' word keeps them
/// alive for each other.
#[track_caller]
fn survives_without_a_direct_way(n_rust: u8, n_go: u8) {
    let mut mixed = Mixed::start(&MixedOptions { n_rust, n_go, ..MixedOptions::default() });
    let r1 = mixed.rust[0].gossip();
    mixed.go[0].lose(&[r1], true, false);
    // g11 answers no stream now, so it is asked at the end.
    hold_calm(&mixed.others("g11"), usize::from(n_rust + n_go), PROBES);
    let answer = mixed.go[0].tell(json!({"do": "lose", "rules": {}}));
    let lost = answer["lost"].as_u64().expect("a count");
    assert!(lost >= 3, "only {lost} packets tried the direct way");
    mixed.go[0].holds("r1", State::Alive).expect("it has heard of r1 all the while");
}

#[test]
fn ours_relays_for_go() {
    needs!(Go);
    // memberlist draws its relays blindly, nine times among three members: with one to be drawn it
    // finds none in 3 of 100 probes, with two it finds one.
    survives_without_a_direct_way(3, 1);
}

#[test]
fn go_relays_for_ours() {
    needs!(Go);
    survives_without_a_direct_way(1, 3);
}

#[test]
fn without_a_relay_there_is_a_suspicion() {
    needs!(Go);
    // The control of the two above: the cut is real.
    let mut mixed = Mixed::start(&MixedOptions { n_rust: 1, n_go: 1, ..MixedOptions::default() });
    let r1 = mixed.rust[0].gossip();
    mixed.go[0].lose(&[r1], true, false);
    let within = lan::probed_by_all(2) + lan::SLACK;
    eventually("the suspicion", within, || mixed.rust[0].holds("g11", State::Suspect));
}

fn indirect(seq_no: u32, node: &str, target: SocketAddr) -> Message {
    let AddrBytes(ip) = AddrBytes::from_ip(target.ip());
    Message::IndirectPing(IndirectPing {
        seq_no,
        target: Some(ip),
        port: target.port(),
        node: node.into(),
        nack: true,
        ..IndirectPing::default()
    })
}

#[test]
fn a_relayed_answer_carries_the_number_asked_with() {
    needs!(Go);
    let mixed = Mixed::start(&MixedOptions { n_rust: 2, n_go: 1, ..MixedOptions::default() });
    let fake = Fake::bind(mixed.range.gossip(200), security(&[]));
    let [r1, r2, g11] = [&mixed.rust[0], &mixed.rust[1]]
        .map(|agent| agent.gossip())
        .into_iter()
        .chain([mixed.go[0].gossip()])
        .collect::<Vec<_>>()[..]
    else {
        unreachable!("three")
    };
    for (seq_no, relay, name, target) in
        [(1000, r1, "g11", g11), (2000, g11, "r1", r1), (3000, r1, "r2", r2)]
    {
        fake.send(relay, &[indirect(seq_no, name, target)]);
        fake.receive("the relayed ack", ANSWER_MAX, |from, message| match message {
            Message::Ack(ack) if from == relay && ack.seq_no == seq_no => Some(()),
            Message::Nack(nack) if nack.seq_no == seq_no => panic!("{from} gave up"),
            _ => None,
        });
        // Who lives there answers to its own name only: a nack, and no ack.
        fake.send(relay, &[indirect(seq_no + 1, "someone-else", target)]);
        fake.receive("the nack", ANSWER_MAX, |from, message| match message {
            Message::Nack(nack) if from == relay && nack.seq_no == seq_no + 1 => Some(()),
            Message::Ack(ack) if ack.seq_no == seq_no + 1 => panic!("{from} made that up"),
            _ => None,
        });
    }
}

#[test]
fn a_stranger_cannot_aim_us_at_a_stranger() {
    let range = crate::harness::Range::claim();
    let agent = Agent::start(&range, 1, AgentOptions::default());
    let [fake, victim] = [200, 201].map(|host| Fake::bind(range.gossip(host), security(&[])));
    fake.send(agent.gossip(), &[indirect(1, "victim", victim.address())]);
    let AddrBytes(source_addr) = AddrBytes::from_ip(victim.address().ip());
    let ping = Ping {
        seq_no: 2,
        node: "r1".into(),
        source_addr: AddrBytes(source_addr),
        source_port: victim.address().port(),
        source_node: "victim".into(),
    };
    fake.send(agent.gossip(), &[Message::Ping(ping)]);
    fake.receive("the ack, back to its cause", ANSWER_MAX, |_, message| match message {
        Message::Ack(ack) if ack.seq_no == 2 => Some(()),
        _ => None,
    });
    victim.assert_silence(Duration::from_secs(1));
}

#[test]
fn pings_by_datagram_and_stream_are_answered_in_our_name_only() {
    needs!(Go);
    let mut mixed = Mixed::start(&MixedOptions { n_rust: 1, n_go: 1, ..MixedOptions::default() });
    mixed.go[0].tell(json!({"do": "ping", "member": "r1"}));

    let fake = Fake::bind(mixed.range.gossip(200), security(&[]));
    let r1 = mixed.rust[0].gossip();
    let ping = |seq_no, node: &str| Ping { seq_no, node: node.into(), ..Ping::default() };
    fake.send(r1, &[Message::Ping(ping(1, "someone-else"))]);
    fake.send(r1, &[Message::Ping(ping(2, "r1"))]);
    fake.send(r1, &[Message::Ping(ping(3, ""))]);
    for expected in [2, 3] {
        fake.receive("an ack", ANSWER_MAX, |from, message| match message {
            Message::Ack(ack) => {
                assert_eq!((from, ack.seq_no), (r1, expected));
                Some(())
            }
            _ => None,
        });
    }
    use crate::harness::open_stream;
    use gossipykv::wire::stream::Frame;
    let plain = security(&[]);
    let reply = open_stream(r1, &plain, &Frame::Ping(ping(9, "r1"))).expect("a stream");
    assert!(matches!(&reply, Some(Frame::Ack(ack)) if ack.seq_no == 9), "{reply:?}");
    let reply = open_stream(r1, &plain, &Frame::Ping(ping(9, "someone-else"))).expect("a stream");
    assert_eq!(reply, None);
}
