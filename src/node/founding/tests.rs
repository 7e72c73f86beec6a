//! What discovery saw, and what a node makes of it.

use super::*;
use crate::node::command::{Command, Health, Peer};
use crate::node::io::{Input, Ticket};
use crate::node::tests::{self, addr, at};
use crate::node::{Config, Node};
use crate::wire::message::PushNodeState;

fn node(advertise: SocketAddr, expects_peers: bool, bootstrap: bool) -> Node {
    tests::node(Config { advertise, expects_peers, bootstrap, ..tests::config() })
}

/// A node that looks for others at 10.0.0.1.
fn seeking() -> Node {
    node(addr(1), true, false)
}

fn look(node: &mut Node, millis: u64, look: Look) {
    let command = Command::Look(look);
    node.handle(at(millis), Input::Command { ticket: Ticket(millis), command });
    pass(node, millis);
}

/// Time passes until then.
fn pass(node: &mut Node, millis: u64) {
    node.handle(at(millis), Input::Timeout);
    while !matches!(node.poll(at(millis)), Output::Timeout(_)) {}
}

fn named(last: &[u8]) -> Look {
    let named = last.iter().map(|last| addr(*last)).collect();
    Look { names_me: true, ..Look::each(named) }
}

/// What became of a try to join. Who was joined is a plain member.
fn joined(node: &mut Node, millis: u64, last: u8, result: Result<(), JoinError>) {
    if result.is_ok() {
        let state = PushNodeState { meta: None, ..tests::member(&format!("plain-{last}"), last) };
        node.swim.acquaint(at(millis).instant, vec![state]);
    }
    node.founding.joined(at(millis).instant, addr(last), &result);
    pass(node, millis);
}

fn no_answer() -> Result<(), JoinError> {
    Err(JoinError::NoAnswer("connection refused".to_owned()))
}

#[track_caller]
fn waits(node: &Node, kind: NotReady, says: &str) {
    let why = node.why().unwrap_or_default();
    assert_eq!((node.health(), node.not_ready()), (Health::Starting, Some(kind)), "{why}");
    assert!(why.contains(says), "{why}");
}

#[track_caller]
fn is_ready(node: &Node) {
    assert_eq!((node.health(), node.why()), (Health::Ok, None));
}

#[test]
fn with_nowhere_to_look_those_that_know_the_node_may_call_first() {
    let mut far = node(addr(1), false, false);
    pass(&mut far, 2_900);
    waits(&far, NotReady::Alone, "nowhere to look");
    pass(&mut far, 3_100);
    is_ready(&far);

    let mut near = node(SocketAddr::from(([127, 0, 0, 1], 7947)), false, false);
    pass(&mut near, 100);
    waits(&near, NotReady::Alone, "nowhere to look");
    pass(&mut near, 200);
    is_ready(&near);
}

#[test]
fn silence_is_no_evidence() {
    let mut node = seeking();
    pass(&mut node, 3_600_000);
    waits(&node, NotReady::Discovery, "discovery has not answered yet");

    let failed = vec!["SRV _kv.: SERVFAIL".to_owned()];
    for look_at in 1..100 {
        look(&mut node, 3_600_000 + look_at * 1000, Look { failed: failed.clone(), ..named(&[]) });
        let unanswered = Look { failed: failed.clone(), answered: false, ..named(&[]) };
        look(&mut node, 3_600_000 + look_at * 1000, unanswered);
        waits(&node, NotReady::Discovery, "SRV _kv.: SERVFAIL");
    }
}

#[test]
fn a_record_that_names_nobody_else_takes_two_looks_and_eight_seconds() {
    let mut node = seeking();
    look(&mut node, 100, named(&[]));
    look(&mut node, 7_900, named(&[]));
    waits(&node, NotReady::Alone, "names nobody else yet");
    pass(&mut node, 8_100);
    is_ready(&node);

    let mut node = seeking();
    look(&mut node, 9_000, named(&[]));
    waits(&node, NotReady::Alone, "names nobody else yet");
    look(&mut node, 9_500, named(&[]));
    is_ready(&node);
}

#[test]
fn a_list_that_names_only_this_node_is_a_mistake() {
    let mut node = seeking();
    for second in 1..100 {
        look(&mut node, second * 1000, Look { only_literal: true, ..named(&[]) });
    }
    waits(&node, NotReady::Alone, "the only address found is our own, 10.0.0.1:7947");
}

#[test]
fn more_than_half_of_all_addresses_named_must_have_joined() {
    // Itself and two of four others are more than half of five.
    let mut node = seeking();
    look(&mut node, 100, named(&[2, 3, 4, 5]));
    waits(&node, NotReady::Alone, "waits for an answer of 10.0.0.2:7947");
    joined(&mut node, 200, 2, Ok(()));
    joined(&mut node, 300, 3, no_answer());
    joined(&mut node, 400, 4, no_answer());
    waits(&node, NotReady::Alone, "waits for an answer of 10.0.0.5:7947");
    joined(&mut node, 500, 5, no_answer());
    waits(&node, NotReady::Alone, "only 2 of 5 nodes named");
    assert!(node.why().is_some_and(|why| why.contains("10.0.0.3:7947: connection refused")));
    joined(&mut node, 600, 5, Ok(()));
    is_ready(&node);

    // A half is not more than half: the other one could think the same.
    let mut node = seeking();
    look(&mut node, 100, named(&[2, 3, 4]));
    for (last, result) in [(2, Ok(())), (3, no_answer()), (4, no_answer())] {
        joined(&mut node, 200, last, result);
    }
    pass(&mut node, 8_000);
    waits(&node, NotReady::Alone, "only 2 of 4 nodes named");
}

#[test]
fn one_that_has_yet_to_refute_that_it_is_gone_is_no_member() {
    let mut node = seeking();
    look(&mut node, 100, named(&[2]));
    // It was dead and is forgotten: it may have data, of which nothing can be known yet.
    node.founding.joined(at(200).instant, addr(2), &Ok(()));
    pass(&mut node, 5_000);
    waits(&node, NotReady::Alone, "waits for an answer of 10.0.0.2:7947");
    joined(&mut node, 5_100, 2, Ok(()));
    is_ready(&node);
}

#[test]
fn one_that_refuses_keeps_a_node_from_founding() {
    for (refusal, kind, says) in [
        (Refusal::Key, NotReady::Refused, "10.0.0.4:7947 refuses this node: its gossip key"),
        (Refusal::Label, NotReady::Refused, "its label is another"),
        (Refusal::Silence, NotReady::Refused, "without an answer"),
        (Refusal::NameTaken(addr(9)), NotReady::Name, "our name is taken by 10.0.0.9:7947"),
    ] {
        let mut node = seeking();
        look(&mut node, 100, named(&[2, 3, 4]));
        joined(&mut node, 200, 2, Ok(()));
        joined(&mut node, 200, 4, Err(refusal.into()));
        joined(&mut node, 200, 3, Ok(()));
        pass(&mut node, 8_000);
        waits(&node, kind, says);
        // Once it is named no more, it does not count.
        look(&mut node, 8_100, named(&[2, 3]));
        is_ready(&node);
    }
}

#[test]
fn an_address_that_leads_to_this_node_is_nobody_elses() {
    let mut node = seeking();
    look(&mut node, 100, named(&[2, 3]));
    joined(&mut node, 200, 2, Err(JoinError::Ourselves));
    joined(&mut node, 200, 3, Ok(()));
    is_ready(&node);
}

#[test]
fn peers_that_cannot_be_dialled_are_not_nobody() {
    let gone =
        |name: &str| Peer { unreachable: Some(format!("{name}: no such name")), ..Peer::default() };
    let with_gone = |last: &[u8], names: &[&str]| {
        let mut look = named(last);
        look.peers.push(Peer { n_ipv4: 1, names_me: true, ..Peer::default() });
        look.peers.extend(names.iter().map(|name| gone(name)));
        look
    };
    let mut node = seeking();
    for second in 1..100 {
        look(&mut node, second * 1000, with_gone(&[], &["b.kv.:7947", "c.kv.:7947"]));
    }
    waits(&node, NotReady::Alone, "only 1 of 3 nodes named");
    waits(&node, NotReady::Alone, "b.kv.:7947: no such name, c.kv.:7947: no such name");
    // Records of tasks that have stopped, beside more that are new.
    look(&mut node, 100_000, with_gone(&[2], &["b.kv.:7947"]));
    joined(&mut node, 100_100, 2, Ok(()));
    is_ready(&node);
}

#[test]
fn a_second_address_that_does_not_work_is_no_second_node() {
    let second: SocketAddr = "[2001:db8::1]:7947".parse().unwrap();
    let other = |last: u8| SocketAddr::new("2001:db8::2".parse().unwrap(), u16::from(last));
    let mut node = seeking();
    let peer = |addresses: &[SocketAddr], names_me| Peer {
        addresses: addresses.to_vec(),
        n_ipv4: 1,
        n_ipv6: 1,
        names_me,
        ..Peer::default()
    };
    let peers = vec![peer(&[second], true), peer(&[addr(2), other(2)], false)];
    let all = vec![second, addr(2), other(2)];
    look(&mut node, 100, Look { peers, ..Look::each(all) });
    for silent in [second, other(2)] {
        node.founding.joined(at(200).instant, silent, &no_answer());
    }
    joined(&mut node, 300, 2, Ok(()));
    is_ready(&node);

    // A record that names this node alone takes its time, also by a second address.
    let mut node = seeking();
    let alone = Look { peers: vec![peer(&[second], true)], ..Look::each(vec![second]) };
    look(&mut node, 100, alone.clone());
    node.founding.joined(at(200).instant, second, &no_answer());
    look(&mut node, 7_900, alone);
    waits(&node, NotReady::Alone, "names nobody else yet");
    pass(&mut node, 8_100);
    is_ready(&node);
}

#[test]
fn told_to_it_founds_whatever_discovery_says() {
    for (last, result) in [(2, no_answer()), (3, Err(Refusal::Key.into())), (4, Ok(()))] {
        let mut node = bootstrapping();
        look(&mut node, 100, named(&[last]));
        waits(&node, NotReady::Alone, "as --bootstrap tells it to");
        joined(&mut node, 200, last, result);
        is_ready(&node);
    }
    // One that has not answered for so long does not keep it.
    let mut node = bootstrapping();
    look(&mut node, 100, named(&[2]));
    pass(&mut node, 2_900);
    waits(&node, NotReady::Alone, "as --bootstrap tells it to");
    pass(&mut node, 3_100);
    is_ready(&node);
}

#[test]
fn told_to_it_gives_discovery_a_minute_to_answer() {
    let why = "founds after 60 s, as --bootstrap tells it to, because";
    let failing = || {
        let failed = vec!["SRV _kv.: SERVFAIL".to_owned()];
        Look { failed, answered: false, ..Look::default() }
    };
    let mut silent = bootstrapping();
    pass(&mut silent, 59_900);
    waits(&silent, NotReady::Discovery, &format!("{why} discovery has not answered yet"));
    pass(&mut silent, 60_100);
    is_ready(&silent);

    let mut failed = bootstrapping();
    look(&mut failed, 100, failing());
    pass(&mut failed, 59_900);
    waits(&failed, NotReady::Discovery, &format!("{why} SRV _kv.: SERVFAIL"));
    // Then it answers after all, and names somebody who has data or not: that one is asked.
    look(&mut failed, 59_950, named(&[2]));
    pass(&mut failed, 60_100);
    waits(&failed, NotReady::Alone, "asks the addresses that it knows");
    joined(&mut failed, 60_200, 2, no_answer());
    is_ready(&failed);

    let mut failed = bootstrapping();
    look(&mut failed, 100, failing());
    pass(&mut failed, 60_100);
    is_ready(&failed);
}

fn bootstrapping() -> Node {
    node(addr(1), true, true)
}
