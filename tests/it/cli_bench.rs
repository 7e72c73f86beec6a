//! `gossipykv bench`, against real nodes.

use crate::agents::{Node, Running, pause, until};
use crate::program::{Server, answer, run};
use rustix::process::Signal;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("one object of JSON")
}

/// How many keys a node shows under a prefix.
fn n_keys(node: &Node, prefix: &str) -> usize {
    node.run(&["kv", "list", prefix]).success().lines().count()
}

fn lone() -> Node {
    let node = Node::start("n", &["--profile", "local"], &[]);
    node.await_ready();
    node
}

#[test]
fn it_tells_rates_and_times_and_leaves_nothing_behind() {
    let node = lone();
    node.run(&["kv", "put", "bench/mine", "stays"]).success();
    let args = ["bench", "--requests", "400", "--clients", "4", "--keys", "50", "--gets", "75"];
    let told = json(node.run(&[&args[..], &["--json"]].concat()).success());
    assert_eq!((&told["requests"], &told["missing"]), (&400.into(), &0.into()), "{told}");
    assert_eq!((&told["errors"], &told["left"]), (&serde_json::json!({}), &0.into()), "{told}");
    assert!(told["rate"].as_f64() > Some(0.0) && told["visible"].is_null(), "{told}");
    let [put, get] = [&told["put"], &told["get"]];
    assert_eq!(
        put["requests"].as_u64().zip(get["requests"].as_u64()).map(|(a, b)| a + b),
        Some(400)
    );
    let quantiles = ["p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms"];
    let times = quantiles.map(|name| get[name].as_f64().expect(name));
    assert!(times[0] > 0.0 && times.is_sorted(), "{told}");
    assert_eq!(n_keys(&node, ""), 1);
    let ended = node.run(&args);
    let text = ended.success();
    for word in ["REQUESTS", "put", "get", "400 requests in"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn requests_that_are_due_at_fixed_times_are_timed_from_then_on() {
    let node = lone();
    // Five seconds, of which the node stands still for one.
    let args = ["bench", "--rate", "200", "--requests", "1000", "--clients", "2", "--gets", "0"];
    let url = node.url();
    let bench = Running::start(&[&args[..], &["--json", "--server", &url]].concat(), &[]);
    until("it writes", || (n_keys(&node, "bench/") > 0).then_some(()));
    node.process.signal(Signal::STOP);
    pause(Duration::from_secs(1));
    node.process.signal(Signal::CONT);
    let told = until("it tells", || serde_json::from_str::<Value>(&bench.out()).ok());
    assert_eq!((&told["put"]["requests"], &told["errors"]), (&1000.into(), &json("{}")), "{told}");
    assert_eq!((&told["asked_rate"], &told["unsent"]), (&200.into(), &0.into()), "{told}");
    // As many were due meanwhile; of clients that wait for their answers only two would have seen.
    assert!(told["put"]["p90_ms"].as_f64() > Some(300.0), "{told}");
    assert!(told["seconds"].as_f64() >= Some(4.9), "{told}");
}

#[test]
fn keys_that_are_there_are_left_alone_unless_told() {
    let node = lone();
    let args = ["bench", "--requests", "40", "--keys", "5", "--prefix", "p/", "--gets", "0"];
    assert_eq!(node.run(&[&args[..], &["--keep"]].concat()).code, Some(0));
    assert_eq!(n_keys(&node, "p/"), 5);
    let refused = node.run(&args);
    assert!(refused.error(1).contains("\"p/\""), "{refused:?}");
    assert_eq!(n_keys(&node, "p/"), 5);
    assert_eq!(node.run(&[&args[..], &["--overwrite"]].concat()).code, Some(0));
    assert_eq!(n_keys(&node, "p/"), 0);
}

#[test]
fn what_is_written_at_one_node_is_looked_for_at_the_next() {
    let nodes: [Node; 2] = Node::cluster(&["--profile", "local"], &[]);
    let (first, second) = (nodes[0].url(), nodes[1].url());
    let args = ["bench", "--seconds", "1", "--clients", "2", "--json"];
    let ended = run(&[&args[..], &["--server", &first, "--node", &second]].concat());
    let told = json(ended.success());
    assert_eq!(told["servers"], serde_json::json!([first, second]));
    let visible = &told["visible"];
    assert!(visible["requests"].as_u64() > Some(0), "{told}");
    assert!(visible["p50_ms"].as_f64() > Some(0.0), "{told}");
    for node in &nodes {
        until("the keys are gone", || (n_keys(node, "") == 0).then_some(()));
    }
}

#[test]
fn a_signal_ends_it_with_what_was_measured() {
    let node = lone();
    let url = node.url();
    let args = ["bench", "--seconds", "3600", "--gets", "0", "--json", "--server", &url];
    let bench = Running::start(&args, &[]);
    until("it writes", || (n_keys(&node, "bench/") > 20).then_some(()));
    bench.signal(Signal::INT);
    let (ended, _) = bench.end();
    let told = json(ended.success());
    assert!(told["requests"].as_u64() > Some(20) && told["left"] == 0, "{told}");
    assert_eq!(n_keys(&node, ""), 0);
}

#[test]
fn what_was_refused_is_not_deleted_and_what_may_be_there_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let [server, ours] = [("server", "read me rrr\n"), ("ours", "rrr\n")].map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("room");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
        path.display().to_string()
    });
    let node = Node::start("n", &["--profile", "local", "--http-token-file", &server], &[]);
    node.await_ready();
    let args = ["bench", "--requests", "5", "--gets", "0", "--json", "--token-file", &ours];
    let ended = node.run(&args);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let told = json(ended.text());
    assert_eq!((&told["errors"], &told["left"]), (&json("{\"403\":5}"), &0.into()), "{told}");
    assert!(ended.complaint().starts_with("5 requests failed, the first: "), "{ended:?}");
    // An answer that is lost, or of a proxy that gave up, tells nothing.
    for answered in [answer(502, b""), Vec::new()] {
        let page = answer(200, b"{\"items\":[],\"next\":null}");
        let deletes = [500; 5].map(|status| answer(status, b""));
        let server = Server::start([&[page, answered], &deletes[..]].concat());
        let args = ["--requests", "1", "--gets", "0", "--clients", "1", "--keys", "1", "--json"];
        let ended = run(&[&["bench", "--server", &server.url()], &args[..]].concat());
        assert_eq!(json(ended.text())["left"], 1, "{ended:?}");
        assert!(ended.err.contains("1 keys that begin with \"bench/"), "{ended:?}");
        assert!(ended.err.contains("may still be there: they could not be deleted"), "{ended:?}");
        let asked: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
        assert!(
            asked[2..].iter().all(|line| line.starts_with("DELETE /kv?key=bench")),
            "{asked:?}"
        );
    }
}

#[test]
fn what_fails_is_told_by_its_kind_and_by_the_exit_code() {
    let node = Node::start("n", &["--profile", "local", "--max-value-bytes", "100"], &[]);
    node.await_ready();
    let args = ["bench", "--requests", "5", "--gets", "0", "--value-size", "101", "--json"];
    let ended = node.run(&args);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let told = json(ended.text());
    assert_eq!((&told["errors"], &told["left"]), (&json("{\"413\":5}"), &0.into()), "{told}");
    assert!(ended.complaint().starts_with("5 requests failed, the first: "), "{ended:?}");
    assert_eq!(run(&["bench", "--server", "http://127.0.0.1:1"]).code, Some(5));
    for wrong in [
        &["--clients", "0"][..],
        &["--gets", "101"],
        &["--seconds", "0"],
        &["--prefix", ""],
        &["--overwrite"],
        &["--node", "ftp://a"],
    ] {
        let ended = node.run(&[&["bench"], wrong].concat());
        assert!(ended.error(2).contains(wrong[0]) || wrong[0] == "--overwrite", "{ended:?}");
    }
}
