//! The members as Consul's clients see them, and waiting for them to change.

use super::agents::{self, Node};
use super::http_rig::{Answer, Client, Rig, TestBridge, config, member, until};
use gossipykv::node::command::{Busy, Command, Health, MemberStatus, Reply};
use gossipykv::runtime::clock::Clock;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn index(answer: &Answer) -> u64 {
    let index = answer.header("X-Consul-Index").expect("an index").parse().expect("a number");
    assert!(index < 1 << 53);
    index
}

/// The names in an answer's rows.
fn names(answer: &Answer) -> Vec<String> {
    let rows = answer.json();
    let name = |row: &Value| {
        let name = row["Node"].as_str().or(row["Node"]["Node"].as_str()).or(row["Name"].as_str());
        name.expect("a name").to_owned()
    };
    rows.as_array().expect("an array").iter().map(name).collect()
}

fn ask(addr: SocketAddr, target: &str) -> Answer {
    Client::to(addr).ask("GET", target, "", b"")
}

/// The answer to a read that waits for another index, and how long it took.
fn wait_for(addr: SocketAddr, target: &str, index: u64, wait: &str) -> (Answer, Duration) {
    let clock = Clock::start();
    let began = clock.instant();
    let answer = ask(addr, &format!("/v1/{target}?index={index}&wait={wait}")).is(200);
    (answer, clock.instant().since(began))
}

/// What a read that waits is told when `change` is made, and how long after that.
fn told(addr: SocketAddr, target: &str, change: impl FnOnce()) -> (Answer, Duration) {
    let clock = Clock::start();
    let at = index(&ask(addr, target).is(200));
    let mut client = Client::to(addr);
    client.request("GET", &format!("{target}?index={at}&wait=18s"), "", b"");
    change();
    let begin = clock.instant();
    let answer = client.answer().is(200);
    assert!(index(&answer) > at);
    (answer, clock.instant().since(begin))
}

#[test]
fn who_waits_is_told_at_once_that_a_node_has_died_joined_or_left() {
    let [a, b, c] = Node::cluster::<3>(&["--profile", "local"], &[]);
    let (at, seed) = (a.http, a.gossip.to_string());
    let second = Duration::from_secs(1);
    let (answer, took) = told(at, "/v1/catalog/nodes", || {
        drop(c);
        agents::until("it is found dead", || a.sees("n2", "dead").then_some(()));
    });
    assert_eq!(names(&answer), ["n0", "n1"]);
    assert!(took < second, "{took:?} after it was found dead");
    assert_eq!(names(&ask(at, "/v1/health/state/critical")), ["n2"]);
    let mut joined = None;
    let (answer, took) = told(at, "/v1/health/service/gossipykv", || {
        joined = Some(Node::start("n3", &["--profile", "local", "--join", &seed], &[]));
        agents::until("it is found alive", || a.sees("n3", "alive").then_some(()));
    });
    assert_eq!(names(&answer), ["n0", "n1", "n3"]);
    assert!(took < second, "{took:?} after it was found alive");
    let (answer, took) = told(at, "/v1/agent/members", || {
        b.process.signal(Signal::TERM);
        agents::until("it is found gone", || a.sees("n1", "left").then_some(()));
    });
    assert_eq!(answer.json()[1]["Status"], 3);
    assert!(took < second, "{took:?} after it was found gone");
    // Nodes that see the same hold a client of each other, whenever each came to see it.
    let joined = joined.expect("it has joined");
    agents::until("the other has heard", || joined.sees("n1", "left").then_some(()));
    joined.await_ready();
    let [one, other] = [at, joined.http].map(|at| index(&ask(at, "/v1/catalog/nodes").is(200)));
    let held = Duration::from_millis(700);
    assert!(wait_for(at, "catalog/nodes", other, "700ms").1 >= held);
    assert!(wait_for(joined.http, "catalog/nodes", one, "700ms").1 >= held);
}

/// Tells these members from now on, and how often it was asked.
fn tells(bridge: &TestBridge, members: &[(&str, MemberStatus)]) -> Arc<AtomicUsize> {
    let members = members.iter().enumerate().map(|(n, (name, state))| {
        let mut view = member(name, &format!("10.0.0.{n}:7947"), *state, n == 0);
        view.kv = true;
        view
    });
    let (members, n_asked) = (members.collect::<Vec<_>>(), Arc::<AtomicUsize>::default());
    let asked = Arc::clone(&n_asked);
    bridge.replies(move |command, reply_to| {
        if command == Command::Members {
            asked.fetch_add(1, Ordering::Relaxed);
            reply_to(Reply::Members(members.clone()));
        }
        Ok(())
    });
    bridge.members_bell.lock().unwrap().as_ref().expect("a bell")();
    n_asked
}

const TARGETS: [&str; 7] = [
    "catalog/nodes",
    "catalog/services",
    "catalog/service/gossipykv",
    "health/service/gossipykv",
    "health/state/any",
    "agent/members",
    "status/peers",
];

#[test]
fn the_index_of_the_members_rises_when_they_change_and_holds_who_waits() {
    use MemberStatus::{Alive, Dead, Suspect};
    let rig = Rig::new();
    let addr = rig.addr;
    for target in TARGETS {
        tells(&rig.bridge, &[("a", Alive), ("b", Alive), ("c", Alive)]);
        let before = ask(addr, &format!("/v1/{target}")).is(200);
        let at = index(&before);
        // That it is suspected is shown nowhere.
        tells(&rig.bridge, &[("a", Alive), ("b", Suspect), ("c", Alive)]);
        let (answer, took) = wait_for(addr, target, at, "300ms");
        assert!(took >= Duration::from_millis(300), "{target} {took:?}");
        assert_eq!((index(&answer), answer.body), (at, before.body), "{target}");
        std::thread::scope(|threads| {
            let waiting = threads.spawn(move || wait_for(addr, target, at, "20s"));
            until("it waits", || rig.metric("http_watches") >= 1.0);
            tells(&rig.bridge, &[("a", Alive), ("b", Dead), ("c", Alive)]);
            let (answer, took) = waiting.join().expect("no panic");
            assert!(index(&answer) > at && took < Duration::from_secs(10), "{target} {took:?}");
            // It has changed already.
            let (again, _) = wait_for(addr, target, at, "20s");
            assert_eq!((index(&again), &again.body), (index(&answer), &answer.body), "{target}");
            // Back as it was, and yet later.
            tells(&rig.bridge, &[("a", Alive), ("b", Alive), ("c", Alive)]);
            let back = ask(addr, &format!("/v1/{target}")).is(200);
            assert!(index(&back) > index(&answer), "{target}");
        });
    }
}

#[test]
fn an_index_of_elsewhere_neither_hangs_nor_spins() {
    use MemberStatus::Alive;
    let rig = Rig::new();
    tells(&rig.bridge, &[("a", Alive), ("b", Alive)]);
    let at = index(&ask(rig.addr, "/v1/catalog/nodes").is(200));
    for (theirs, least, most) in [
        // Of a former life or of a node that saw less, as far as the hash tells.
        (1, 0, 2_500),
        ((at - (1 << 30)) ^ 1, 0, 2_500),
        // Of a node that sees something else, later: this one has a moment to see it, too.
        ((at + (1 << 30)) ^ 1, 500, 2_500),
        ((1 << 53) - 1 - (at & 1), 500, 2_500),
        (u64::MAX - (at & 1), 500, 2_500),
        // Of a node that sees the same since another moment.
        (at + (1 << 30), 3_000, 10_000),
        (at - (1 << 30), 3_000, 10_000),
    ] {
        let (answer, took) = wait_for(rig.addr, "catalog/nodes", theirs, "3s");
        let range = Duration::from_millis(least)..Duration::from_millis(most);
        assert!(range.contains(&took), "{theirs:x} at {at:x}: {took:?}");
        assert_eq!(index(&answer), at);
    }
    // It catches up meanwhile with what the client has seen elsewhere.
    let addr = rig.addr;
    std::thread::scope(|threads| {
        let waiting = threads.spawn(move || wait_for(addr, "catalog/nodes", (at + 9) ^ 1, "9s"));
        until("it waits", || rig.metric("http_watches") >= 1.0);
        tells(&rig.bridge, &[("a", Alive), ("b", Alive), ("c", Alive)]);
        let (answer, took) = waiting.join().expect("no panic");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(names(&answer), ["a", "b", "c"]);
    });
}

#[test]
fn many_who_wait_ask_the_node_as_seldom_as_one() {
    use MemberStatus::Alive;
    let rig = Rig::new();
    tells(&rig.bridge, &[("a", Alive)]);
    let at = index(&ask(rig.addr, "/v1/catalog/nodes").is(200));
    let mut waiting: Vec<Client> = (0..50).map(|_| rig.client()).collect();
    for client in &mut waiting {
        client.request("GET", &format!("/v1/catalog/nodes?index={at}&wait=18s"), "", b"");
    }
    until("they wait", || rig.metric("http_watches") >= 50.0);
    let n_asked = tells(&rig.bridge, &[("a", Alive), ("b", Alive)]);
    for client in &mut waiting {
        assert_eq!(names(&client.answer().is(200)), ["a", "b"]);
    }
    let n_asked = n_asked.load(Ordering::Relaxed);
    assert!((1..10).contains(&n_asked), "{n_asked}");
    until("nobody waits", || rig.metric("http_watches") == 0.0);
}

#[test]
fn a_node_that_does_not_reply_or_knows_too_little_says_so() {
    let ask = |rig: &Rig, target: &str| {
        let answer = rig.ask("GET", &format!("/v1/{target}"));
        (answer.status, answer.header("Retry-After").map(str::to_owned))
    };
    let rig = Rig::new();
    rig.bridge.replies(|_, _| Err(Busy));
    for target in TARGETS {
        assert_eq!(ask(&rig, target), (503, Some("1".into())), "{target}");
    }
    let bridge = TestBridge::new(0);
    *bridge.health.lock().unwrap() = Health::Starting;
    let rig = Rig::over(config(), bridge);
    for target in TARGETS {
        // Who looks for the others must not hear that there are none.
        let is_of_catalog = target.starts_with(['c', 'h']);
        assert_eq!(ask(&rig, target).0, if is_of_catalog { 503 } else { 200 }, "{target}");
    }
    *rig.bridge.health.lock().unwrap() = Health::Leaving;
    assert_eq!(ask(&rig, "catalog/nodes").0, 200);
}

#[test]
fn services_nodes_and_checks_have_consuls_shapes() {
    use MemberStatus::{Alive, Dead};
    let rig = Rig::new();
    tells(&rig.bridge, &[("a", Alive), ("b", Dead)]);
    let get = |target: &str| rig.ask("GET", &format!("/v1/{target}")).is(200).json();
    let rows = get("health/service/gossipykv?passing=1&tag=");
    let [row] = &rows.as_array().expect("rows")[..] else { panic!("{rows}") };
    assert_eq!((&row["Node"]["Node"], &row["Node"]["Address"]), (&json!("a"), &json!("10.0.0.0")));
    let service = &row["Service"];
    assert_eq!((&service["Service"], &service["Port"]), (&json!("gossipykv"), &json!(7947)));
    assert_eq!(row["Checks"][0]["Status"], "passing");
    let of_catalog = &get("catalog/service/gossipykv")[0];
    assert_eq!(of_catalog["ServiceAddress"], "10.0.0.0");
    assert_eq!(get("catalog/service/web"), json!([]));
    let node = get("catalog/node/a");
    assert_eq!(node["Services"]["gossipykv"], *service);
    assert_eq!((&node["Node"], get("catalog/node/b")), (&row["Node"], Value::Null));
    let checks = get("health/node/b");
    let check = &checks[0];
    assert_eq!((&check["CheckID"], &check["Status"]), (&json!("serfHealth"), &json!("critical")));
    for wrong in ["health/state/well", "health/service/%FF", "catalog/nodes?filter=x"] {
        assert_eq!(rig.ask("GET", &format!("/v1/{wrong}")).status, 400, "{wrong}");
    }
    assert_eq!(rig.ask("HEAD", "/v1/health/state/any").is(200).body.len(), 0);
    assert_eq!(rig.ask("PUT", "/v1/health/state/any").status, 405);
}
