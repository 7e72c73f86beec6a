//! Death, leave, suspicion and refutation, each seen by the other kind within memberlist's bounds.

use crate::harness::{
    Fake, Mixed, MixedOptions, Node, State, await_all, eventually, hold, lan, needs, now, security,
};
use gossipykv::wire::message::{Dead, Message, Suspect};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

const SPREAD_MAX: Duration = Duration::from_secs(2);
/// Gossip misses one of six members in some of a thousand cases; then the next push-pull (every
/// 30 s) tells it.
const HEALED_MAX: Duration = Duration::from_secs(35);
const REJOIN_MAX: Duration = Duration::from_secs(3);

/// Waits until all of these hold `name` as dead, and asserts the bounds since it was killed.
#[track_caller]
fn await_dead(nodes: &[&dyn Node], name: &str, killed: Instant) {
    // The member itself counted when its suspicion began.
    let n = u32::try_from(nodes.len()).expect("a few") + 1;
    let deadline = killed + lan::dead_within(n);
    for node in nodes {
        let within = deadline.saturating_duration_since(now());
        eventually("it is dead", within, || node.holds(name, State::Dead));
        let after = killed.elapsed();
        println!("{} holds {name} as dead {after:?} after the kill", node.name());
        assert!(after >= lan::SUSPICION_MIN, "{}: dead after {after:?}", node.name());
    }
}

#[test]
fn a_kill_of_either_kind_is_seen_by_both_and_its_return_too() {
    needs!(Go);
    let mut mixed = Mixed::start(&MixedOptions::default());
    let killed = now();
    mixed.go[2].process().signal(Signal::KILL);
    await_dead(&mixed.others("g13"), "g13", killed);

    let mut peer = mixed.go.pop().expect("three").restart();
    peer.join(&[mixed.rust[1].gossip()]);
    mixed.go.push(peer);
    await_all(&mixed.nodes(), REJOIN_MAX);

    let killed = now();
    mixed.rust[2].process().signal(Signal::KILL);
    await_dead(&mixed.others("r3"), "r3", killed);

    let agent = mixed.rust.pop().expect("three").restart();
    mixed.rust.push(agent);
    await_all(&mixed.nodes(), REJOIN_MAX);
}

#[test]
fn a_leave_of_either_kind_is_left_on_both() {
    needs!(Go);
    let mut mixed = Mixed::start(&MixedOptions::default());
    mixed.go[2].leave();
    for node in mixed.others("g13") {
        eventually("g13 has left", SPREAD_MAX, || node.holds("g13", State::Left));
    }
    mixed.go.pop();
    mixed.rust[2].leave();
    for node in mixed.others("r3") {
        eventually("r3 has left", SPREAD_MAX, || node.holds("r3", State::Left));
    }
    let (status, took) = mixed.rust[2].process_mut().wait_exit(Duration::from_secs(7));
    assert!(status.success(), "{status} after {took:?}");
    for peer in &mixed.go {
        let left = peer.events("leave").iter().any(|event| event["member"]["name"] == "r3");
        assert!(left, "{}: the delegate hears of it too", peer.name());
    }
}

/// Stops a member until `accuser` suspects it, lets it go on, and waits until all hold it alive
/// with an incarnation above the accused one.
#[track_caller]
fn pause_until_suspect(mixed: &Mixed, paused: &dyn Node, accuser: &dyn Node) {
    let name = paused.name();
    paused.process().signal(Signal::STOP);
    let within = lan::probed_by_all(6) + lan::SLACK;
    let (accused, took) =
        eventually("the suspicion", within, || accuser.holds(name, State::Suspect));
    paused.process().signal(Signal::CONT);
    println!("{} suspects {name} after {took:?}", accuser.name());
    for node in mixed.nodes() {
        eventually("the refutation", lan::SUSPICION_MIN, || {
            let row = node.holds(name, State::Alive)?;
            let refuted = row.incarnation > accused.incarnation;
            if refuted { Ok(()) } else { Err(format!("{}: {row:?}", node.name())) }
        });
    }
}

#[test]
fn a_suspicion_by_either_kind_is_refuted_by_the_other() {
    needs!(Go);
    let mixed = Mixed::start(&MixedOptions::default());
    pause_until_suspect(&mixed, &mixed.rust[2], &mixed.go[0]);
    pause_until_suspect(&mixed, &mixed.go[2], &mixed.rust[0]);
    for peer in &mixed.go {
        assert_eq!(peer.events("leave"), Vec::<serde_json::Value>::new(), "nobody died");
    }
}

#[test]
fn a_false_accusation_is_refuted_wherever_it_is_heard() {
    needs!(Go);
    let mut mixed = Mixed::start(&MixedOptions::default());
    // A Go member's own socket accuses ours; a liar in our name accuses a Go member. As suspect
    // and as dead, to the accused itself or behind its back.
    let fake = Fake::bind(mixed.range.gossip(200), security(&[]));
    for (accused, accuser) in [("r1", "g11"), ("g12", "r2")] {
        let names: Vec<String> = mixed.nodes().iter().map(|node| node.name().to_owned()).collect();
        for listener in [accused, "r3", "g13"] {
            for dead in [false, true] {
                let row = mixed.nodes()[0].holds(accused, State::Alive).expect("it is alive");
                let incarnation = row.incarnation;
                let (node, from) = (accused.into(), accuser.into());
                let message = match dead {
                    false => Message::Suspect(Suspect { incarnation, node, from }),
                    true => Message::Dead(Dead { incarnation, node, from }),
                };
                let at = names.iter().position(|name| name == listener).expect("a member");
                let to = mixed.nodes()[at].gossip();
                if accuser == "g11" {
                    let bytes = message.encode();
                    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    mixed.go[0].tell(json!({"do": "raw", "address": to, "hex": hex}));
                } else {
                    fake.send(to, &[message]);
                }
                for node in mixed.nodes() {
                    eventually("the refutation", HEALED_MAX, || {
                        let row = node.holds(accused, State::Alive)?;
                        let refuted = row.incarnation > incarnation;
                        if refuted { Ok(()) } else { Err(format!("{}: {row:?}", node.name())) }
                    });
                }
            }
        }
    }
}

#[test]
fn an_accusation_of_the_past_is_ignored() {
    needs!(Go);
    let mixed = Mixed::start(&MixedOptions { n_rust: 2, n_go: 1, ..MixedOptions::default() });
    let fake = Fake::bind(mixed.range.gossip(200), security(&[]));
    let incarnation = mixed.rust[0].holds("r1", State::Alive).expect("itself").incarnation;
    let past = incarnation - 1;
    for node in mixed.nodes() {
        let (node_name, from) = ("r1".into(), "g11".into());
        let suspect = Suspect { incarnation: past, node: node_name, from };
        fake.send(node.gossip(), &[Message::Suspect(suspect)]);
    }
    hold("nobody cares", SPREAD_MAX, || {
        for node in mixed.nodes() {
            let row = node.holds("r1", State::Alive)?;
            if row.incarnation != incarnation {
                return Err(format!("{}: {row:?}", node.name()));
            }
        }
        Ok(())
    });
}
