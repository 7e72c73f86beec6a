//! Rolls to settings with which a new node cannot be a member stick at their first node, which says
//! why, and nothing is lost; a roll to the same settings ends with all five replaced.
//!
//! The kinds that take another replication format are in `tests/formats`.

use crate::harness::{AgentOptions, Range};
use crate::roll::{New, roll, tries};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

const KEY: &str = "8fPRc5MyOAYVYrlhX6aFRzWMmKxIhzDKqBSfbYEE7ZI=";
const OTHER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";
/// Nobody listens on it.
const CLOSED_PORT: u16 = 7950;

fn with(seeds: Vec<SocketAddr>, keys: &[&str], flags: &[&str]) -> AgentOptions {
    AgentOptions {
        seeds,
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        ..AgentOptions::default()
    }
}

#[test]
fn a_roll_of_five_to_the_same_settings_replaces_all() {
    tries("the same settings", |_| {
        roll(&with(vec![], &[KEY], &["--label", "blue"]), |_, seeds| New {
            options: with(seeds, &[KEY], &["--label", "blue"]),
            why: &[],
        });
    });
}

#[test]
fn a_roll_of_five_to_another_key_sticks() {
    const WHY: &[&str] = &["its gossip key is another"];
    tries("another gossip key", |number| {
        // Another, none, and one where there was none.
        let (old, new): (&[&str], &[&str]) = match number % 3 {
            0 => (&[KEY], &[OTHER_KEY]),
            1 => (&[KEY], &[]),
            _ => (&[], &[KEY]),
        };
        roll(&with(vec![], old, &[]), |_, seeds| New { options: with(seeds, new, &[]), why: WHY });
    });
}

#[test]
fn a_roll_of_five_to_another_label_sticks() {
    const WHY: &[&str] = &["its label is another"];
    tries("another label", |number| {
        let keys: &[&str] = if number % 2 == 0 { &[KEY] } else { &[] };
        roll(&with(vec![], keys, &["--label", "blue"]), |_, seeds| New {
            options: with(seeds, keys, &["--label", "green"]),
            why: WHY,
        });
    });
}

#[test]
fn a_roll_of_five_to_a_closed_port_sticks() {
    // In between it dials again.
    const WHY: &[&str] = &["refused", "not done in time", "waits for an answer of"];
    tries("a closed port", |number| {
        let silent = std::sync::Mutex::new(Vec::new());
        roll(&with(vec![], &[], &[]), |range, mut seeds| {
            for seed in &mut seeds {
                seed.set_port(CLOSED_PORT);
            }
            if number % 2 == 1 {
                // Whoever drops packets, as firewalls do, is silent; these never answer.
                *silent.lock().expect("one roll") = deaf(range, &seeds);
            }
            New { options: with(seeds, &[], &[]), why: WHY }
        });
    });
}

/// Takes what comes there, and answers nothing.
fn deaf(_: &Range, places: &[SocketAddr]) -> Vec<(UdpSocket, TcpListener)> {
    let bound = |place| {
        (UdpSocket::bind(place).expect("a free port"), TcpListener::bind(place).expect("likewise"))
    };
    places.iter().map(bound).collect()
}

#[test]
fn a_roll_of_five_to_a_dead_dns_server_sticks() {
    const WHY: &[&str] = &["DNS", "answer"];
    tries("a dead DNS server", |number| {
        // Silent, or gone: the port refuses then.
        let dns = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let server = dns.local_addr().expect("its address").to_string();
        let dns = (number % 2 == 0).then_some(dns);
        roll(&with(vec![], &[], &[]), |_, _| New {
            options: with(
                vec![],
                &[],
                &["--discover-srv", "_gossip._tcp.kv.test", "--dns", &server],
            ),
            why: WHY,
        });
        drop(dns);
    });
}
