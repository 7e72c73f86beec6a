//! Nodes with different limits of their stores, as processes: the smallest bounds all.

use crate::agents::{Node, until};

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
