//! Nodes with limits of their stores, as processes: the smallest bounds all, and what is full says
//! so once and has room again.

use crate::agents::{Node, PATIENCE, until};
use gossipykv::discovery::fetch;
use gossipykv::limits::BATCH_OPS_MAX;
use serde_json::{Value, json};

fn put(node: &Node, key: &str, len: usize) -> (Option<i32>, String) {
    let value = "v".repeat(len);
    let ended = node.run(&["kv", "put", key, &value]);
    (ended.code, ended.err)
}

#[test]
fn a_node_refuses_what_a_member_cannot_hold_and_names_it() {
    let large = Node::start("large", &["--max-store-bytes=1000000"], &[]);
    large.await_ready();
    let seed = large.gossip.to_string();
    assert_eq!(put(&large, "a", 3_000).0, Some(0));
    let small = Node::start("small", &["--join", &seed, "--max-store-bytes=9000"], &[]);
    small.await_ready();
    until("the limit is known", || {
        let (_, metrics) = large.get("/metrics").expect("metrics");
        metrics.contains("gossipykv_store_bound_bytes 9000\n").then_some(())
    });
    let (status, refused) = put(&large, "b", 7_000);
    assert_eq!(status, Some(4), "{refused}");
    assert!(refused.contains("9000") && refused.contains("of the member small"), "{refused}");
    assert_eq!(put(&large, "c", 1_000).0, Some(0));
    // One that cannot hold what there is says so, and bounds nobody.
    let tiny = Node::start("tiny", &["--join", &seed, "--max-store-bytes=2000"], &[]);
    let why = until("it says why", || {
        let (status, _, why) = tiny.health();
        (status == 503 && why.contains("max-store-bytes")).then_some(why)
    });
    assert!(why.contains("the cluster holds more than this node may"), "{why}");
    let (_, metrics) = tiny.get("/metrics").expect("metrics");
    assert!(metrics.contains("gossipykv_not_ready{reason=\"room\"} 1"), "{metrics}");
    assert_eq!(put(&large, "d", 1_000).0, Some(0));
}

const FULL: &str = "the store is full: PUTs that would grow it are refused";
const ROOM: &str = "the store has room again";

/// The lines of its log with this message.
fn lines(node: &Node, message: &str) -> Vec<Value> {
    let log = node.process.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines.filter(|line: &Value| line["message"] == message).collect()
}

/// Status and body of several operations in one step.
fn batch(node: &Node, ops: impl Iterator<Item = Value>) -> (u16, String) {
    let client = fetch::client(vec![node.http], PATIENCE);
    let body = json!({ "ops": ops.collect::<Vec<_>>() }).to_string();
    let request = client.post(format!("{}/kv/", node.url())).content_type("application/json");
    let answer = request.send(body).expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.into_body().read_to_string().expect("text"))
}

#[test]
fn a_store_full_of_deletes_takes_more_of_them_and_has_room_again() {
    let flags = ["--max-store-bytes=200000", "--tombstone-grace=5s"];
    let nodes = Node::cluster::<2>(&flags, &[]);
    let node = &nodes[0];
    let keys = |round: usize| (0..BATCH_OPS_MAX).map(move |key| format!("key-{round}-{key}"));
    let mut rounds = 0..;
    let refused = until("it is full", || {
        let round = rounds.next().expect("another");
        let (status, why) = batch(node, keys(round).map(|key| json!({"put": key, "value": ""})));
        if status == 507 {
            return Some(why);
        }
        assert_eq!(status, 200, "{why}");
        let (status, why) = batch(node, keys(round).map(|key| json!({"delete": key})));
        assert_eq!(status, 200, "{why}");
        None
    });
    assert!(refused.contains("the store is full; at most 200000 bytes"), "{refused}");
    assert_eq!(node.metric("keys"), 0.0, "deletes take all of it");
    let (status, why) = batch(node, keys(999).map(|key| json!({"delete": key})));
    assert_eq!(status, 200, "a delete is always taken: {why}");
    assert!(node.metric("tombstones") > 2_000.0);
    for node in &nodes {
        assert_eq!(node.health().0, 200);
    }
    // Nobody does anything about it.
    until("there is room", || (put(node, "again", 10_000).0 == Some(0)).then_some(()));
    for node in &nodes {
        until("all deletes are forgotten", || {
            (node.metric("tombstones") == 0.0 && node.metric("keys") == 1.0).then_some(())
        });
    }
    until("it says so", || (!lines(node, ROOM).is_empty()).then_some(()));
    let full = lines(node, FULL);
    assert_eq!(full.len(), 1, "{full:?}");
    assert!(full[0]["deletes"].as_u64() > Some(100_000), "it says what takes the room: {full:?}");
}

#[test]
fn what_finds_no_room_is_told_once_and_not_at_each_try() {
    let large = Node::start("large", &["--max-store-bytes=1000000"], &[]);
    large.await_ready();
    let seed = large.gossip.to_string();
    let small = Node::start("small", &["--join", &seed, "--max-store-bytes=9000"], &[]);
    small.await_ready();
    until("the limit is known", || (large.metric("store_bound_bytes") == 9_000.0).then_some(()));
    for _ in 0..5 {
        assert_eq!(put(&large, "a", 20_000).0, Some(4));
        // The engine looks at each turn, and has had one since.
        let turns = large.metric("engine_turn_seconds_count");
        until("a turn", || (large.metric("engine_turn_seconds_count") > turns).then_some(()));
    }
    let full = lines(&large, FULL);
    assert_eq!((full.len(), &full[0]["limit"]), (1, &json!(9_000)), "{full:?}");
    assert_eq!(lines(&large, ROOM), Vec::<Value>::new(), "somebody still tries");
    until("nobody has tried for a while", || (!lines(&large, ROOM).is_empty()).then_some(()));
    assert_eq!(lines(&large, FULL).len(), 1);
}
