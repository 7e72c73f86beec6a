//! What the log says, and at which level.

use crate::agents::{Node, Running, until};
use crate::program::run_fed;
use rustix::process::Signal;
use serde_json::Value;
use std::net::UdpSocket;

fn lines(process: &Running) -> Vec<Value> {
    let log = process.log();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The first line for which that holds, once it is there.
#[track_caller]
fn line(process: &Running, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(what, || lines(process).into_iter().find(&holds))
}

fn is(line: &Value, level: &str, message: &str) -> bool {
    line["level"] == level && line["message"].as_str().is_some_and(|m| m.starts_with(message))
}

#[test]
fn info_tells_what_an_operator_wants_to_know() {
    let key =
        |byte: u8| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [byte; 32]);
    let flags = ["--max-store-bytes=4000"];
    let variables = [("GOSSIPYKV_ENCRYPT_KEYS", &*key(1))];
    let [a, b] = Node::cluster::<2>(&flags, &variables);
    let begins = line(&a.process, "a start", |line| is(line, "INFO", "gossip begins"));
    assert_eq!((&begins["name"], &begins["encrypted"]), (&"n0".into(), &true.into()));
    line(&a.process, "readiness", |line| is(line, "INFO", "this node is ready"));
    // A name is there as it is, in no quotes of its own.
    let joined = line(&a.process, "a join", |line| is(line, "INFO", "member joined"));
    assert_eq!(joined["member"], "n1");

    let ended = run_fed(&["kv", "put", "large", "-", "--server", &a.url()], &[0; 3500]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let refused = run_fed(&["kv", "put", "more", "-", "--server", &a.url()], &[0; 3500]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let full = line(&a.process, "full", |line| is(line, "WARN", "the store is full"));
    assert_eq!(full["limit"], 4000);
    assert_eq!(a.run(&["kv", "delete", "large"]).code, Some(0));
    line(&a.process, "room", |line| is(line, "INFO", "the store has room again"));

    let ended = run_fed(&["keys", "install", "--server", &a.url()], key(2).as_bytes());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for node in [&a, &b] {
        let changed =
            line(&node.process, "new keys", |line| is(line, "INFO", "gossip keys have changed"));
        let keys = changed["keys"].as_str().unwrap_or_default().to_owned();
        assert_eq!(keys.split(' ').count(), 2, "{changed}");
    }
    b.process.signal(Signal::TERM);
    let left = line(&a.process, "a leave", |line| is(line, "INFO", "member left"));
    assert_eq!(left["member"], "n1");
    let log = a.process.log();
    assert!(!log.contains("\\\"n1\\\"") && !log.contains(&key(2)), "{log}");
    assert!(lines(&a.process).iter().all(|line| line["level"] != "DEBUG"));
}

#[test]
fn debug_tells_probes_exchanges_and_drops_and_trace_datagrams() {
    let [a, b] = Node::cluster::<2>(&["--log-level=trace", "--profile=local"], &[]);
    let dials =
        line(&b.process, "a join", |line| is(line, "DEBUG", "dials") && line["what"] == "join");
    assert_eq!(dials["peer"], a.gossip.to_string());
    line(&a.process, "its other side", |line| is(line, "DEBUG", "hears") && line["what"] == "join");
    line(&b.process, "its end", |line| {
        is(line, "DEBUG", "connection ended") && line["conn"] == dials["conn"]
    });
    for (message, field) in [("datagram received", "from"), ("datagram sent", "to")] {
        let seen = line(&a.process, message, |line| is(line, "TRACE", message));
        assert!(seen[field].is_string() && seen["len"].as_u64() > Some(0), "{seen}");
    }
    // Not ours: dropped, and told why.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.send_to(b"\xf4\x05other and more", a.gossip).expect("loopback");
    line(&a.process, "a drop", |line| {
        line["level"] == "DEBUG"
            && line["counter"] == "packets_dropped_total"
            && line["reason"] == "label"
            && line["more"].as_f64() >= Some(1.0)
    });
    b.process.signal(Signal::KILL);
    let failed = line(&a.process, "a failed probe", |line| is(line, "DEBUG", "probe failed"));
    assert_eq!((&failed["member"], &failed["helpers"]), (&"n1".into(), &0.into()), "{failed}");
}

#[test]
fn what_several_nodes_in_one_process_say_is_told_apart() {
    let mut tries = std::process::id() % 500;
    let dev = until("a start", || {
        // Below the ports that the system gives out; on others next time, if these are taken.
        tries += 1;
        let base = 22_000 + u16::try_from(tries % 500).unwrap_or(0) * 20;
        let [http, gossip] = [base, base + 10].map(|port| port.to_string());
        let args = ["dev", "--nodes=2", "--http-port", &http, "--gossip-port", &gossip];
        let process = Running::start(&[&args[..], &["--log-level=info"]].concat(), &[]);
        until("the table or an error", || {
            let is_up = process.out().contains("Ctrl-C ends it.\n");
            (is_up || process.log().contains("error: ")).then_some(())
        });
        process.out().contains("Ctrl-C").then_some(process)
    });
    for node in ["node-0", "node-1"] {
        for message in ["gossip begins", "this node is ready", "member joined", "serving"] {
            line(&dev, message, |line| is(line, "INFO", message) && line["span"]["node"] == node);
        }
    }
    dev.signal(Signal::INT);
    assert_eq!(dev.end().0.code, Some(0));
}

#[test]
fn a_dead_member_is_forgotten_by_all_when_it_is_told_to() {
    let flags = ["--profile=local", "--log-level=debug"];
    let [a, b, c] = Node::cluster::<3>(&flags, &[]);
    let refused = a.run(&["members", "forget", "n2"]);
    assert!(refused.error(4).contains("the member is not dead"), "{refused:?}");
    let unknown = a.run(&["members", "forget", "nobody"]);
    assert!(unknown.error(4).contains("no member of that name is known"), "{unknown:?}");
    c.process.signal(Signal::KILL);
    for node in [&a, &b] {
        until("it is dead", || node.sees("n2", "dead").then_some(()));
    }
    assert_eq!(a.run(&["members", "forget", "n2"]).success(), "");
    for node in [&a, &b] {
        let table = node.run(&["members"]);
        assert!(!table.success().contains("n2"), "{table:?}");
        line(&node.process, "it is told", |line| is(line, "DEBUG", "member forgotten"));
    }
    // Nothing brings it back but itself.
    let again = Node::start("n2", &[&flags[..], &["--join", &a.gossip.to_string()]].concat(), &[]);
    again.await_ready();
    for node in [&a, &b] {
        until("it is a member", || node.sees("n2", "alive").then_some(()));
    }
}
