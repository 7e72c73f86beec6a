//! Mixed clusters form whatever the layers of the wire, and stay formed.

use crate::control::KEYS;
use crate::harness::{
    Agent, AgentOptions, JOIN_MAX, Mixed, MixedOptions, Net, Node, Peer, PeerOptions, State,
    await_all, await_ready, eventually, free_ports, hold, hold_calm, lan, long, needs,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Every member probes every other at least once in this time.
const QUIET: Duration = Duration::from_secs(8);
/// Two of memberlist's LAN push-pulls.
const QUIET_LONG: Duration = Duration::from_secs(70);

#[track_caller]
fn forms_and_stays(options: &MixedOptions) {
    let mut mixed = Mixed::start(options);
    println!("all saw all after {:?}", mixed.joined_after);
    mixed.rust[0].put("kept", "by-us");
    for agent in &mixed.rust {
        eventually("the value", Duration::from_secs(1), || agent.has("kept", Some("by-us")));
    }
    // A push-pull between each pair of kinds once more, now with full tables.
    let seeds: Vec<_> = mixed.rust.iter().map(Node::gossip).collect();
    for peer in &mut mixed.go {
        peer.join(&seeds);
    }
    let quiet = if long() { QUIET_LONG } else { QUIET };
    hold_calm(&mixed.nodes(), mixed.nodes().len(), quiet);
    for peer in &mixed.go {
        let pinged: std::collections::BTreeSet<String> = peer
            .events("pinged")
            .iter()
            .map(|event| event["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        let ours = mixed.rust.iter().filter(|agent| pinged.contains(agent.name())).count();
        assert_eq!(ours, mixed.rust.len(), "{} has acks of {pinged:?} only", peer.name());
    }
    mixed.assert_content();
    await_all(&mixed.nodes(), lan::SLACK);
}

#[test]
fn plain() {
    needs!(Go);
    forms_and_stays(&MixedOptions { compress: false, ..MixedOptions::default() });
}

#[test]
fn compressed() {
    needs!(Go);
    forms_and_stays(&MixedOptions { compress: true, ..MixedOptions::default() });
}

#[test]
fn encrypted_with_aes_128() {
    needs!(Go);
    forms_and_stays(&MixedOptions { keys: vec![KEYS[0].to_owned()], ..MixedOptions::default() });
}

#[test]
fn encrypted_with_aes_192() {
    needs!(Go);
    forms_and_stays(&MixedOptions { keys: vec![KEYS[1].to_owned()], ..MixedOptions::default() });
}

#[test]
fn encrypted_with_aes_256() {
    needs!(Go);
    forms_and_stays(&MixedOptions { keys: vec![KEYS[2].to_owned()], ..MixedOptions::default() });
}

#[test]
fn with_members_of_the_oldest_protocol() {
    needs!(Go);
    // Version 1 pads what it encrypts, and takes everybody's port for its own.
    let go_flags = vec!["-protocol=1".to_owned()];
    forms_and_stays(&MixedOptions {
        keys: vec![KEYS[0].to_owned()],
        go_flags,
        ..MixedOptions::default()
    });
}

#[test]
fn with_members_of_the_newest_protocol() {
    needs!(Go);
    let go_flags = vec!["-protocol=5".to_owned()];
    forms_and_stays(&MixedOptions { go_flags, ..MixedOptions::default() });
}

#[test]
fn with_members_that_send_user_state_and_ack_payloads() {
    needs!(Go);
    let go_flags = ["-state=of no use to us", "-ack-payload=coordinates"].map(String::from);
    let mixed =
        Mixed::start(&MixedOptions { go_flags: go_flags.into(), ..MixedOptions::default() });
    hold_calm(&mixed.nodes(), mixed.nodes().len(), QUIET);
    for agent in &mixed.rust {
        assert_eq!(agent.complaints(), Vec::<String>::new(), "{}", agent.name());
    }
}

#[test]
fn over_ipv6() {
    needs!(Go);
    let ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let (gossip, http) = (free_ports(ip, 26_000), free_ports(ip, 29_000));
    let seeds = vec![SocketAddr::from((ip, gossip))];
    let [r0, r1] = [0, 1].map(|at| {
        let options = AgentOptions { seeds: seeds.clone(), ..AgentOptions::default() };
        let name = format!("r{at}");
        Agent::start_at(&name, (ip, gossip + at).into(), (ip, http + at).into(), options)
    });
    let mut peer = Peer::start_at("g2", (ip, gossip + 2).into(), PeerOptions::default());
    peer.join(&[r1.gossip()]);
    await_all(&[&r0, &r1, &peer], JOIN_MAX);
    // One of two new nodes founds, the other copies: a second later where the first may not.
    await_ready([&r0, &r1], JOIN_MAX);
    r0.put("six", "6");
    eventually("the value", Duration::from_secs(1), || r1.has("six", Some("6")));
}

#[test]
fn an_address_goes_on_as_it_was_announced() {
    needs!(Go, Namespaces);
    // Bound to 0.0.0.0, memberlist announces its IPv4 address in 16 bytes; to every Go member the
    // 4-byte form of it is somebody else.
    let mut net = Net::create();
    let places = [1, 2, 3].map(|host| net.add_host(host));
    let [(first, one), (second, two), (third, three)] = places;
    let http = SocketAddr::from(([127, 0, 0, 1], 8080));
    let options = AgentOptions { namespace: Some(first), ..AgentOptions::default() };
    let agent = Agent::start_at("r1", (one, 7947).into(), http, options);
    let peer = |name: &str, ip: Ipv4Addr, namespace| {
        let flags = vec!["-bind=0.0.0.0".to_owned()];
        let options = PeerOptions { namespace: Some(namespace), flags, ..PeerOptions::default() };
        let mut peer = Peer::start_at(name, (ip, 7947).into(), options);
        peer.join(&[agent.gossip()]);
        peer
    };
    let (mut g2, g3) = (peer("g2", two, second), peer("g3", three, third));
    await_all(&[&agent, &g2, &g3], JOIN_MAX);
    for _ in 0..5 {
        g2.join(&[agent.gossip()]);
    }
    hold_calm(&[&agent, &g2, &g3], 3, Duration::from_secs(3));
    for peer in [&g2, &g3] {
        assert_eq!(peer.events("conflict"), Vec::<serde_json::Value>::new(), "{}", peer.name());
    }
}

#[test]
fn a_name_taken_twice_stays_with_the_first() {
    needs!(Go);
    let mixed = Mixed::start(&MixedOptions { n_rust: 2, n_go: 1, ..MixedOptions::default() });
    let options = PeerOptions::default();
    let mut thief = Peer::start_at("r1", mixed.range.gossip(66), options);
    let mark = mixed.go[0].mark();
    thief.join(&[mixed.go[0].gossip(), mixed.rust[1].gossip()]);
    mixed.go[0].event("Go sees the conflict", mark, JOIN_MAX, |event| event["event"] == "conflict");
    hold("r1 stays who it was", Duration::from_secs(5), || {
        for node in mixed.nodes() {
            node.holds("r1", State::Alive)?;
        }
        let json = mixed.rust[1].json("/members")?;
        let members = json["members"].as_array().ok_or("no members")?;
        let r1 = members.iter().find(|member| member["name"] == "r1").ok_or("no r1")?;
        let expected = mixed.rust[0].gossip().to_string();
        if r1["address"] == expected { Ok(()) } else { Err(format!("{r1} is not {expected}")) }
    });
}

#[test]
fn a_stranger_gets_the_table_and_no_user_state() {
    needs!(Go);
    let mixed = Mixed::start(&MixedOptions { n_rust: 2, n_go: 1, ..MixedOptions::default() });
    mixed.rust[0].put("secret", "value");
    for agent in &mixed.rust {
        let (table, user_state) = agent.wire_table().expect("a push-pull");
        assert_eq!(table.len(), 3, "{table:?}");
        assert_eq!(user_state, Vec::<u8>::new());
    }
}
