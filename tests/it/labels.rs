//! A cluster is given a label, or another, node by node and under writes: three rolls.

use crate::agents::{Node, until};
use crate::program::run;
use parking_lot::Mutex;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

const KEY: (&str, &str) = ("GOSSIPYKV_ENCRYPT_KEYS", "MDEyMzQ1Njc4OWFiY2RlZg==");
const LOCAL: (&str, &str) = ("GOSSIPYKV_PROFILE", "local");

/// Longer than a datagram: it goes over a link.
const LARGE_LEN: usize = 5000;

/// Writes one key after the other, at whichever node takes it; returns how many were taken.
fn write(places: &Mutex<Vec<SocketAddr>>, ends: &AtomicBool) -> usize {
    let mut n = 0;
    let large = "v".repeat(LARGE_LEN);
    while !ends.load(Ordering::Relaxed) {
        let (key, value) = (format!("key-{n}"), if n % 4 == 0 { &large } else { "v" });
        for place in places.lock().clone() {
            let server = format!("http://{place}");
            if run(&["kv", "put", &key, value, "--server", &server]).code == Some(0) {
                n += 1;
                break;
            }
        }
    }
    n
}

fn why_not_ready(node: &Node) -> Option<String> {
    let (status, _, why) = node.health();
    (status != 200).then_some(why)
}

/// Replaces one node after the other, each once the one before is ready. The two others are ready
/// all the while.
#[track_caller]
fn roll(nodes: &mut Vec<Node>, flags: &[&str], variables: &[(&str, &str)], places: &Places) {
    for index in 0..nodes.len() {
        let Node { process, gossip, http } = nodes.remove(index);
        let join: Vec<String> = nodes.iter().map(|node| node.gossip.to_string()).collect();
        let (name, at, join) = (format!("n{index}"), gossip.to_string(), join.join(","));
        let all_ready = |nodes: &[Node]| nodes.iter().all(|node| why_not_ready(node).is_none());
        places.lock().retain(|place| *place != http);
        process.signal(Signal::TERM);
        let (ended, _) = process.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(all_ready(nodes));
        let flags = [&["--bind", &at, "--join", &join], flags].concat();
        let node = Node::start(&name, &flags, variables);
        until("it is ready", || {
            assert!(all_ready(nodes));
            why_not_ready(&node).is_none().then_some(())
        });
        places.lock().push(node.http);
        nodes.insert(index, node);
        until("all see all", || nodes.iter().all(sees_all).then_some(()));
    }
}

fn sees_all(node: &Node) -> bool {
    ["n0", "n1", "n2"].iter().all(|name| node.sees(name, "alive"))
}

type Places = Mutex<Vec<SocketAddr>>;

/// One with a third label is refused, and says why.
#[track_caller]
fn refuses_a_third(nodes: &[Node], variables: &[(&str, &str)]) {
    let seed = nodes[0].gossip.to_string();
    let third = Node::start("third", &["--join", &seed, "--label", "third"], variables);
    until("it is refused", || {
        why_not_ready(&third)?.contains("its label is another").then_some(())
    });
    assert!(!nodes[0].sees("third", "alive"));
}

#[track_caller]
fn changes(old: &str, new: &str, variables: &[(&str, &str)]) {
    let mut nodes: Vec<Node> = Node::cluster::<3>(&["--label", old], variables).into();
    let places = Mutex::new(nodes.iter().map(|node| node.http).collect());
    let ends = AtomicBool::new(false);
    let n_written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&places, &ends));
        let rolled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            roll(&mut nodes, &["--label", old, "--accept-label", new], variables, &places);
            roll(&mut nodes, &["--label", new, "--accept-label", old], variables, &places);
            refuses_a_third(&nodes, variables);
            roll(&mut nodes, &["--label", new], variables, &places);
        }));
        // The writer must stop whatever happens here, or the scope never ends.
        ends.store(true, Ordering::Relaxed);
        rolled.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        writer.join().expect("it counts")
    });
    println!("{n_written} writes from {old:?} to {new:?}");
    assert!(n_written > 0);
    for node in &nodes {
        for n in 0..n_written {
            let path = format!("/kv/key-{n}?raw");
            let value_len = if n % 4 == 0 { LARGE_LEN } else { 1 };
            until(&path, || {
                let (status, value) = node.get(&path)?;
                (status == 200 && value.len() == value_len).then_some(())
            });
        }
    }
    refuses_a_third(&nodes, variables);
}

#[test]
fn a_cluster_is_given_a_label_without_losing_a_write() {
    changes("", "blue", &[KEY, LOCAL]);
}

#[test]
fn a_cluster_changes_its_label_without_losing_a_write() {
    changes("blue", "green", &[LOCAL]);
}
