//! `POST /kv/`: several operations, all of them or none.

use super::http_rig::{Answer, Rig, TestBridge, config};
use gossipykv::limits::BATCH_OPS_MAX;
use gossipykv::node::command::{Bridge as _, Command, Health, Reply};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

fn post(rig: &Rig, query: &str, ops: &Value) -> Answer {
    let body = json!({ "ops": ops }).to_string();
    rig.send("POST", &format!("/kv/{query}"), "", body.as_bytes())
}

#[test]
fn all_operations_are_done_and_answered_in_their_order() {
    let rig = Rig::new();
    let version = rig.send("PUT", "/kv/old", "", b"1").is(200).version();
    let ops = json!([
        { "put": "a", "value": "text", "type": "text/plain" },
        { "put": "b/c", "base64": "//4=" },
        { "delete": "old", "if_version": version },
        { "check": "absent", "if_version": "" },
        { "get": "old" },
        { "get": "absent" },
    ]);
    let answer = post(&rig, "", &ops).is(200).json();
    let results = answer["results"].as_array().expect("results");
    let keys: Vec<_> = results.iter().map(|result| result["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "b/c", "old", "absent", "old", "absent"]);
    assert_eq!((&results[4]["value"], &results[4]["version"]), (&json!("1"), &json!(version)));
    assert_eq!((&results[3]["absent"], &results[5]["absent"]), (&json!(true), &json!(true)));
    let raw = rig.ask("GET", "/kv/a?raw").is(200);
    assert_eq!((raw.text().as_str(), raw.header("Content-Type")), ("text", Some("text/plain")));
    assert_eq!(json!(raw.version()), results[0]["version"]);
    assert_eq!(rig.ask("GET", "/kv/b%2Fc?raw").is(200).body, b"\xff\xfe");
    rig.ask("GET", "/kv/old").is(404);
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 2, "one for the PUT, one for all");
}

#[test]
fn one_condition_that_does_not_hold_stops_all() {
    let rig = Rig::new();
    let version = rig.send("PUT", "/kv/k", "", b"1").is(200).version();
    let before = rig.bridge.store().stats();
    let ops = json!([
        { "put": "other", "value": "x" },
        { "put": "k", "value": "2", "if_version": "0000000000000001-0000000000000001" },
    ]);
    let refused = post(&rig, "", &ops).is(412).json();
    assert_eq!((&refused["index"], &refused["version"]), (&json!(1), &json!(version)));
    let refused = post(&rig, "", &json!([{ "delete": "k", "if_version": "" }])).is(412).json();
    assert_eq!(refused["index"], json!(0));
    let refused = post(&rig, "", &json!([{ "check": "no", "if_version": version }])).is(412).json();
    assert_eq!(refused.get("version"), None);
    assert_eq!(rig.bridge.store().stats(), before);
    let full = Rig::over(config(), TestBridge::new(300));
    let long = "x".repeat(150);
    let put = |key: &str| json!({ "put": key, "value": long });
    post(&full, "", &json!([put("a"), put("b")])).is(507);
    full.ask("GET", "/kv/a").is(404);
    post(&full, "", &json!([put("a")])).is(200);
}

#[test]
fn what_is_malformed_is_named_and_changes_nothing() {
    let rig = Rig::new();
    let check = |ops: Value, status: u16, text: &str| {
        let error = post(&rig, "", &ops).is(status).json()["error"].to_string();
        assert!(error.contains(text), "{ops}: {error}");
    };
    let put = json!({ "put": "ok", "value": "v" });
    check(json!([put, {}]), 400, "op 1");
    check(json!([put, { "put": "a" }]), 400, "value or base64");
    check(json!([put, { "put": "a", "value": "1", "base64": "" }]), 400, "exclude");
    check(json!([put, { "put": "a", "base64": "?" }]), 400, "base64");
    check(json!([put, { "put": "a", "delete": "b", "value": "" }]), 400, "op 1");
    check(json!([put, { "get": "a", "value": "v" }]), 400, "only put");
    check(json!([put, { "check": "a" }]), 400, "if_version");
    let expired = "0000000000000001-0000000000000001-expired";
    check(json!([put, { "check": "a", "if_version": expired }]), 412, "op 1");
    check(json!([["a", null, null, null, "v", null, null, null, ""]]), 400, "a JSON object");
    check(json!([put, { "get": "a", "if_version": "x" }]), 400, "if_version");
    check(json!([{ "put": "a", "value": "v", "if_version": null }]), 400, "null");
    check(json!([put, { "put": "", "value": "v" }]), 400, "1 to 512");
    check(json!([put, put]), 400, "another part");
    check(json!([{ "put": "a", "value": "v", "typ": "x" }]), 400, "typ");
    check(json!([{ "put": "a", "value": "v", "type": "a\nb" }]), 400, "content type");
    check(json!("no list"), 400, "ops");
    let many: Vec<Value> = (0..=BATCH_OPS_MAX).map(|i| json!({ "get": i.to_string() })).collect();
    check(json!(many), 413, "128");
    rig.send("POST", "/kv/", "", b"").is(400);
    let body = json!({ "ops": [put] }).to_string();
    for condition in ["If-Match: \"x\"\r\n", "If-None-Match: *\r\n"] {
        rig.send("POST", "/kv/", condition, body.as_bytes()).is(400);
    }
    rig.send("POST", "/kv/?prefix=a", "", b"{\"ops\":[]}").is(400);
    assert_eq!(post(&rig, "", &json!([])).is(200).json(), json!({ "results": [] }));
    assert_eq!(rig.bridge.store().stats().n_live, 0);
}

#[test]
fn only_plain_writes_are_taken_before_the_node_is_ready() {
    let rig = Rig::new();
    *rig.bridge.health.lock().unwrap() = Health::Starting;
    post(&rig, "", &json!([{ "put": "a", "value": "v" }, { "delete": "b" }])).is(200);
    post(&rig, "", &json!([{ "put": "c", "value": "v" }, { "get": "a" }])).is(503);
    post(&rig, "", &json!([{ "put": "c", "value": "v", "if_version": "" }])).is(503);
    assert_eq!(rig.bridge.store().stats().n_live, 1);
}

#[test]
fn a_node_that_leaves_still_reads() {
    let rig = Rig::new();
    post(&rig, "", &json!([{ "put": "a", "value": "v" }])).is(200);
    rig.server.refuse_writes();
    let ops = json!([{ "get": "a" }, { "check": "b", "if_version": "" }]);
    assert_eq!(post(&rig, "", &ops).is(200).json()["results"][0]["value"], "v");
    post(&rig, "", &json!([{ "get": "a" }, { "delete": "a" }])).is(503);
}

#[test]
fn a_batch_waits_for_holders_of_its_last_write() {
    let rig = Rig::new();
    rig.bridge.replies(|command, reply_to| {
        let Command::AwaitHolders { dot, .. } = command else { panic!("{command:?}") };
        assert_eq!(dot.seq, 2);
        reply_to(Reply::Holders { held: 1, wanted: 2 });
        Ok(())
    });
    let ops = json!([{ "put": "a", "value": "v" }, { "delete": "b" }, { "get": "c" }]);
    let short = post(&rig, "?w=2&timeout=100ms", &ops).is(504).json();
    assert_eq!(short["held"], json!(1));
    rig.ask("GET", "/kv/a").is(200);
    // Nothing is written: there is nothing to wait for.
    post(&rig, "?w=2", &json!([{ "get": "c" }])).is(200);
}

#[test]
fn what_a_batch_reads_is_bounded() {
    // 128 values of zero bytes came to 768 MiB of JSON, made whole.
    let rig = Rig::new();
    rig.send("PUT", "/kv/zeros", "", &[0; 100 << 10]).is(200);
    rig.send("PUT", "/kv/text", "", &[b'v'; 100 << 10]).is(200);
    let gets = |key: &str, n: usize| vec![json!({ "get": key }); n];
    for (key, n) in [("text", 128), ("zeros", 8)] {
        let mut ops = gets(key, n);
        ops[0] = json!({ "put": "new", "value": "v" });
        let told = post(&rig, "", &json!(ops)).is(413).text();
        assert!(told.contains("4194304") && told.contains("nothing has changed"), "{told}");
        rig.ask("GET", "/kv/new").is(404);
    }
    // Up to there all are read, and what takes its time takes a lane for that.
    let answer = post(&rig, "", &json!(gets("zeros", 6))).is(200);
    assert!(answer.body.len() > 3_600_000);
    assert_eq!(answer.json()["results"].as_array().map(Vec::len), Some(6));
    let answer = post(&rig, "", &json!(gets("text", 40))).is(200);
    assert!(answer.body.len() > 4_000_000);
}
