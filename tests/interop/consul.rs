//! Clients of Consul, as their users install them: at one agent, and at two in turn.

use crate::distance;
use crate::harness::{Agent, CLIENTS, CONSUL_CLIENTS, Range, go_build, long, needs, scratch};
use crate::scripts::run;
use std::path::Path;
use std::time::Duration;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/consul");
/// How far the two agents are from each other.
const NEAR: Duration = Duration::from_millis(16);
const FAR: Duration = Duration::from_millis(300);

/// Two agents that far apart, and where they serve.
fn two(range: &Range, round_trip: Duration) -> ([Agent; 2], [String; 2]) {
    let agents = distance::pair(range, round_trip);
    let places = agents.each_ref().map(|agent| agent.http().to_string());
    (agents, places)
}

#[test]
fn clients_for_python_find_a_consul() {
    needs!(ConsulClients);
    let range = Range::claim();
    let (_agents, [a, b]) = two(&range, NEAR);
    let script = format!("{SCRIPTS}/clients.py");
    for name in CONSUL_CLIENTS {
        let said = run(&format!("{CLIENTS}/{name}/bin/python"), &[&script, &a, &b]);
        let expected = if name == "py-consul" { "consul, ldclient" } else { "consul" };
        assert_eq!(said.trim(), format!("checked: {expected}"), "{name}");
    }
}

#[test]
fn sdks_of_openfeature_read_flags() {
    needs!(OpenFeature);
    let range = Range::claim();
    let (_agents, [a, b]) = two(&range, NEAR);
    let script = format!("{SCRIPTS}/flags.py");
    let said = run(&format!("{CLIENTS}/openfeature/bin/python"), &[&script, &a, &b]);
    assert_eq!(said.trim(), "checked");
}

#[test]
fn the_client_for_npm_finds_a_consul() {
    needs!(NpmConsul);
    let range = Range::claim();
    let (_agents, [a, b]) = two(&range, NEAR);
    let script = format!("{SCRIPTS}/client.js");
    let said = run("node", &[&script, &format!("{CLIENTS}/npm/node_modules/consul"), &a, &b]);
    assert_eq!(said.trim(), "checked");
}

#[test]
fn a_go_program_keeps_its_values() {
    needs!(Crypt);
    let range = Range::claim();
    let [agent, _] = distance::pair(&range, NEAR);
    let (at, file) = (agent.http().to_string(), scratch().join(format!("crypt-{}", range.ip(1))));
    std::fs::write(&file, "kept").expect("cargo's directory is writable");
    let file = file.to_str().expect("a path of text");
    let to = ["-plaintext", "-backend", "consul", "-endpoint", &at, "app/config"];
    run("crypt-xordataexchange", &[&["set"], &to[..], &[file]].concat());
    assert_eq!(run("crypt-xordataexchange", &[&["get"], &to[..]].concat()).trim(), "kept");
}

#[test]
fn a_client_for_go_finds_a_consul() {
    needs!(GoConsul, Python);
    let range = Range::claim();
    let (_agents, [a, b]) = two(&range, NEAR);
    let binary = go_build(Path::new(SCRIPTS).join("armon"), "consul-armon");
    let binary = binary.to_str().expect("a path of text");
    let args = [&format!("{SCRIPTS}/in_turn.py"), &format!("{a},{b}"), binary, &a, &b, "BOTH"];
    assert_eq!(run("python3", &args).trim(), "checked");
}

#[test]
fn ansible_keeps_keys() {
    needs!(Ansible, Python);
    let range = Range::claim();
    let (_agents, [a, b]) = two(&range, NEAR);
    let (play, book) =
        (format!("{CLIENTS}/ansible/bin/ansible-playbook"), format!("{SCRIPTS}/keys.yml"));
    for (n, at) in [&*a, "BOTH"].into_iter().enumerate() {
        let (at, root) = (format!("at={at}"), format!("root=ansible{n}"));
        let turn = [&format!("{SCRIPTS}/in_turn.py"), &format!("{a},{b}"), &*play, "-i"];
        let args = [&turn[..], &["localhost,", &book, "-e", &at, "-e", &root]].concat();
        let said = run("python3", &args);
        assert!(said.contains("All assertions passed"), "{said}");
    }
}

#[test]
fn watchers_of_every_kind_end_with_what_the_nodes_hold() {
    needs!(Python);
    let rounds = if long() { 10 } else { 2 };
    for round_trip in [NEAR, FAR] {
        let range = Range::claim();
        let (_agents, [a, b]) = two(&range, round_trip);
        let said =
            run("python3", &[&format!("{SCRIPTS}/watchers.py"), &rounds.to_string(), &a, &b]);
        let expected = format!("watchers: {}, wrong: 0", rounds * 12);
        assert_eq!(said.trim(), expected, "{round_trip:?}");
    }
}
