//! Whole clusters started at once, as processes: one is founded, and nobody is ready beside it.
//!
//! `GOSSIPYKV_FOUNDING_ROUNDS` repeats each of them.

use crate::agents::{Node, until};
use gossipykv::runtime::clock::Clock;
use gossipykv::time::Instant;
use std::time::Duration;

/// Longest time from the last start until all are ready, in half of the rounds: three seconds, and
/// as much again for a machine that runs other tests beside these.
const READY_MAX: Duration = Duration::from_secs(6);

#[expect(clippy::disallowed_methods, reason = "a setting of the tests, not of the program")]
fn rounds() -> u8 {
    let rounds = std::env::var("GOSSIPYKV_FOUNDING_ROUNDS");
    rounds.map_or(1, |rounds| rounds.parse().expect("a number of rounds"))
}

/// An address on this machine that nobody else uses.
fn place(round: u8, n: usize) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{high}.{low}:{}", 130 + round, 7947 + n)
}

/// Starts this many at once, each with the list of all; the time until all are ready.
#[track_caller]
fn found(round: u8, n: usize) -> Duration {
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
    until("all are ready", || {
        nodes.iter().all(|node| node.get("/health").is_some_and(|got| got.0 == 200)).then_some(())
    });
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

#[test]
fn nodes_started_at_once_with_a_list_are_one_cluster_and_ready() {
    for n in [3, 5, 9] {
        let mut took: Vec<Duration> = (0..rounds()).map(|round| found(round, n)).collect();
        took.sort();
        println!(
            "{n} nodes: ready after {:?} at the median, {:?} at most",
            took[took.len() / 2],
            took[took.len() - 1]
        );
        assert!(took[took.len() / 2] <= READY_MAX, "{took:?}");
    }
}
