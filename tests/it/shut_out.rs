//! A key that is changed while a node is cut off: the commands say that it has missed it, and it
//! says itself that it is shut out. Silence says nothing.

use crate::agents::{Node, pause, until};
use rustix::process::Signal;
use std::time::Duration;

const OLD: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";
const NEW: &str = "ZmVkY2JhOTg3NjU0MzIxMA==";
const SETTINGS: [(&str, &str); 2] =
    [("GOSSIPYKV_ENCRYPT_KEYS", OLD), ("GOSSIPYKV_PROFILE", "local")];

/// Status and reason that `/health` tells.
fn health(node: &Node) -> (u16, String) {
    let (status, _, why) = node.health();
    (status, why)
}

#[track_caller]
fn await_dead(node: &Node, names: &[&str]) {
    until("they are dead", || names.iter().all(|name| node.sees(name, "dead")).then_some(()));
}

/// A change that does not reach c says so, and fails.
#[track_caller]
fn misses_c(node: &Node, args: &[&str]) {
    let ended = node.run(&[&["keys"], args].concat());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let out = String::from_utf8_lossy(&ended.out);
    let row = out.lines().find(|line| line.starts_with("n2"));
    assert!(row.is_some_and(|row| row.contains("has not answered for")), "{ended:?}");
    assert!(ended.err.contains("not done on n2"), "{ended:?}");
}

#[test]
fn a_rotation_past_a_node_that_is_cut_off_does_not_end_silently() {
    let [a, b, c] = Node::cluster::<3>(&[], &SETTINGS);
    assert_eq!(a.run(&["keys", "list"]).code, Some(0));
    c.process.signal(Signal::STOP);
    await_dead(&a, &["n2"]);
    await_dead(&b, &["n2"]);
    misses_c(&a, &["list"]);
    misses_c(&a, &["install", NEW]);
    misses_c(&b, &["use", NEW]);
    misses_c(&a, &["remove", OLD]);
    assert_eq!(a.run(&["kv", "put", "meanwhile", "1"]).code, Some(0));

    c.process.signal(Signal::CONT);
    until("it says why it is not ready", || {
        let (status, why) = health(&c);
        let parts = ["shut out: ", " refuses this node", "its gossip key is another"];
        (status == 503 && parts.iter().all(|part| why.contains(part))).then_some(())
    });
    pause(Duration::from_secs(3));
    assert_eq!(health(&c).0, 503, "it stays so");
    assert_eq!(c.metric("not_ready{reason=\"refused\"}"), 1.0);
    assert!(a.metric("packets_dropped_total{reason=\"key\"}") > 0.0);
    assert_eq!(a.metric("packets_dropped_total{reason=\"label\"}"), 0.0);
    let told = c.process.log().matches("the cluster has shut this node out").count();
    assert_eq!(told, 1, "now and then only");
    assert_eq!((health(&a).0, health(&b).0), (200, 200));

    // Nothing has to be restarted: the key is all that it lacks.
    assert_eq!(c.run(&["keys", "install", NEW]).code, Some(1), "the others are not told");
    let used = c.run(&["keys", "use", NEW]);
    assert!(matches!(used.code, Some(0 | 1)), "{used:?}");
    until("it is ready again", || (health(&c).0 == 200).then_some(()));
    until("it has caught up", || (c.get("/kv/meanwhile")?.0 == 200).then_some(()));
    assert_eq!(a.run(&["keys", "list"]).code, Some(0));
}

/// Starts n2 with these keys beside two whose keys are others, and waits until all see it.
#[track_caller]
fn joined(seed: &Node, others: &[&Node], keys: &str) -> Node {
    let settings = [("GOSSIPYKV_ENCRYPT_KEYS", keys), ("GOSSIPYKV_PROFILE", "local")];
    let node = Node::start("n2", &["--join", &seed.gossip.to_string()], &settings);
    node.await_ready();
    for other in others {
        until("n2 is alive", || other.sees("n2", "alive").then_some(()));
    }
    node
}

/// A change that is refused: the complaint has these words, and no member's keys are others then.
#[track_caller]
fn refused(nodes: &[&Node], asked: &Node, args: &[&str], words: &[&str]) {
    let keys = || nodes.iter().map(|node| node.run(&["keys", "list"]).out).collect::<Vec<_>>();
    let before = keys();
    let ended = asked.run(&[&["keys"], args].concat());
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(words.iter().all(|word| ended.err.contains(word)), "{words:?}: {ended:?}");
    assert_eq!(keys(), before);
    assert!(before.iter().all(|keys| *keys == before[0]), "{before:?}");
}

#[test]
fn a_key_that_a_member_lacks_is_not_used_and_one_that_it_uses_is_not_removed() {
    let both = format!("{OLD},{NEW}");
    let settings = [("GOSSIPYKV_ENCRYPT_KEYS", both.as_str()), ("GOSSIPYKV_PROFILE", "local")];
    let [a, b] = Node::cluster::<2>(&[], &settings);
    let c = joined(&a, &[&a, &b], OLD);
    let nodes = [&a, &b, &c];
    refused(&nodes, &a, &["use", NEW], &["n2 does not hold it", "nothing has been changed"]);
    refused(&nodes, &c, &["use", NEW], &["is not installed here", "nothing has been changed"]);
    assert_eq!(a.run(&["keys", "install", NEW]).code, Some(0));
    assert_eq!(c.run(&["keys", "use", NEW]).code, Some(0));
    assert_eq!(a.run(&["keys", "remove", OLD]).code, Some(0));
    drop(c);
    until("n2 is dead", || a.sees("n2", "dead").then_some(()));

    // One comes back with the old key first: all read each other as long as all have both.
    let (key, other) = (NEW, OLD);
    assert_eq!(a.run(&["keys", "install", other]).code, Some(1), "n2 is dead");
    let c = joined(&a, &[&a, &b], &format!("{other},{key}"));
    let nodes = [&a, &b, &c];
    refused(&nodes, &a, &["remove", other], &["n2 encrypts with it", "nothing has been changed"]);
    refused(&nodes, &c, &["remove", other], &["it is in use here", "nothing has been changed"]);
    assert_eq!(c.run(&["kv", "put", "w", "1"]).code, Some(0));
    until("it is everywhere", || (a.get("/kv/w")?.0 == 200).then_some(()));
    assert_eq!(a.run(&["keys", "use", key]).code, Some(0));
    assert_eq!(c.run(&["keys", "remove", other]).code, Some(0));
    let list = a.run(&["keys", "list"]);
    let rows: Vec<String> =
        String::from_utf8_lossy(&list.out).lines().skip(1).map(|row| row[2..].to_owned()).collect();
    assert_eq!(rows.len(), 3, "{list:?}");
    assert!(
        rows.iter().all(|row| *row == rows[0] && row.split_whitespace().count() == 1),
        "{rows:?}"
    );
    assert!(nodes.iter().all(|node| health(node).0 == 200));
}

#[test]
fn silence_shuts_nobody_out_nor_does_a_peer_that_comes_back_with_another_key() {
    let [a, b, c] = Node::cluster::<3>(&[], &SETTINGS);
    a.process.signal(Signal::STOP);
    b.process.signal(Signal::STOP);
    await_dead(&c, &["n0", "n1"]);
    for _ in 0..30 {
        pause(Duration::from_millis(100));
        assert_eq!(health(&c), (200, String::new()));
    }
    drop(a);
    let at = b.gossip.to_string();
    drop(b);
    // One that refuses may as well be the one that is wrong.
    let settings = [("GOSSIPYKV_ENCRYPT_KEYS", NEW), ("GOSSIPYKV_PROFILE", "local")];
    let stranger = Node::start("n1", &["--bind", &at, "--join", &c.gossip.to_string()], &settings);
    let refused = "push_pulls_refused_total{reason=\"key\"}";
    until("it is refused", || (c.metric(refused) > 2.0).then_some(()));
    until("it says so", || {
        c.process.log().contains("the cluster has shut this node out").then_some(())
    });
    assert_eq!(health(&c), (200, String::new()));
    assert_eq!(health(&stranger).0, 503);
}
