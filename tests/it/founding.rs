//! Whole clusters started at once, as processes: one is founded, and nobody is ready beside it.
//!
//! `GOSSIPYKV_FOUNDING_ROUNDS` repeats each of them, some side by side.

use crate::agents::{Node, PATIENCE, until};
use crate::rounds::side_by_side;
use gossipykv::runtime::clock::Clock;
use gossipykv::time::Instant;
use rustix::process::Signal;
use std::time::Duration;

/// Longest time from the last start until all are ready, in half of the rounds: three seconds, and
/// as much again for a machine that runs other tests beside these.
const READY_MAX: Duration = Duration::from_secs(6);
/// How long a write may be on its way to one that was ready before.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 4;

#[expect(clippy::disallowed_methods, reason = "a setting of the tests, not of the program")]
fn rounds() -> usize {
    let rounds = std::env::var("GOSSIPYKV_FOUNDING_ROUNDS");
    rounds.map_or(1, |rounds| rounds.parse().expect("a number of rounds"))
}

/// An address on this machine that nobody else uses.
fn place(round: usize, n: usize) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{high}.{low}:{}", 130 + round % 120, 7947 + n)
}

fn is_ready(node: &Node) -> bool {
    node.get("/health").is_some_and(|got| got.0 == 200)
}

fn has_key(node: &Node) -> bool {
    node.get("/kv/k").is_some_and(|got| got.0 == 200)
}

/// Waits until all are ready; none may be so without what a ready one showed before.
#[track_caller]
fn await_ready(nodes: &[Node]) {
    let mut waiting: Vec<&Node> = nodes.iter().collect();
    let mut ready: Vec<&Node> = Vec::new();
    let clock = Clock::start();
    while !waiting.is_empty() {
        let is_shown = ready.iter().any(|node| has_key(node));
        let (now_ready, still): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|node| is_ready(node));
        let asked = Clock::start();
        for node in now_ready.iter().filter(|_| is_shown) {
            until("what a ready one showed", || has_key(node).then_some(()));
        }
        assert!(asked.instant() < Instant::ZERO + ON_ITS_WAY, "ready and empty beside data");
        ready.extend(now_ready);
        waiting = still;
        assert!(clock.instant() < Instant::ZERO + PATIENCE, "all are ready");
    }
}

/// Starts this many at once, each with the list of all; the time until all are ready.
#[track_caller]
fn found(round: usize, n: usize) -> Duration {
    let places: Vec<String> = (0..n).map(|index| place(round, index)).collect();
    let list = places.join(",");
    let start = |index: usize| {
        let flags = ["--bind", &places[index][..], "--log-level", "info"];
        Node::start(&format!("n{index}"), &flags, &[("GOSSIPYKV_JOIN", &list[..])])
    };
    let nodes: Vec<Node> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..n).map(|index| scope.spawn(move || start(index))).collect();
        starting.into_iter().map(|node| node.join().expect("it starts")).collect()
    });
    let clock = Clock::start();
    nodes[0].run(&["kv", "put", "k", "v"]);
    await_ready(&nodes);
    let took = clock.instant().since(Instant::ZERO);
    for node in &nodes {
        let sees = |other: usize| node.sees(&format!("n{other}"), "alive");
        until("it sees all", || (0..n).all(sees).then_some(()));
        until("it has the key", || {
            node.run(&["kv", "get", "k"]).out.starts_with(b"v").then_some(())
        });
    }
    let founders = nodes.iter().filter(|node| node.process.log().contains("founds a cluster"));
    assert!(founders.count() >= 1, "somebody has founded it");
    took
}

/// All rounds of one size, the quickest first.
fn founded(n: usize) -> Vec<Duration> {
    let mut took = side_by_side(rounds(), AT_ONCE, |round| found(round, n));
    took.sort();
    took
}

#[test]
fn nodes_started_at_once_with_a_list_are_one_cluster_and_ready() {
    for n in [3, 5, 9] {
        let took = founded(n);
        println!(
            "{n} nodes: ready after {:?} at the median, {:?} at most",
            took[took.len() / 2],
            took[took.len() - 1]
        );
        assert!(took[took.len() / 2] <= READY_MAX, "{took:?}");
    }
}

#[test]
fn one_with_nobody_to_look_for_finds_its_cluster_again_after_a_stop_in_good_order() {
    let at = place(100, 0);
    let start = || Node::start("seed", &["--bind", &at], &[]);
    let mut seed = start();
    let others = ["b", "c"].map(|name| Node::start(name, &["--join", &at], &[]));
    seed.await_ready();
    others.iter().for_each(Node::await_ready);
    until("they see each other", || others[0].sees("c", "alive").then_some(()));
    for round in 0..3 {
        until("the others know it", || others[0].sees("seed", "alive").then_some(()));
        seed.process.signal(Signal::TERM);
        let (ended, _) = seed.process.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let key = format!("k{round}");
        let put = others[0].run(&["kv", "put", &key, "meanwhile"]);
        assert_eq!(put.code, Some(0), "{put:?}");
        seed = start();
        seed.await_ready();
        let got = seed.get(&format!("/kv/{key}")).map(|got| got.0);
        assert_eq!(got, Some(200), "round {round}: ready without what was written");
    }
}
