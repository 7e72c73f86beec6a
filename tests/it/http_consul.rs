//! Consul's KV API, row by row: what its clients send, and what they read.

use super::http_rig::{Answer, Client, Rig, TestBridge, config, tokens, until};
use gossipykv::http::Config;
use gossipykv::kv::{Bound, HlcTime, OriginId, Record, Stamp};
use gossipykv::node::command::{Bridge as _, Busy, Command, Concern, Health, Reply};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// An answer of this status. Errors are plain text.
#[track_caller]
pub(super) fn is(answer: Answer, status: u16) -> Answer {
    assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
    if status >= 400 && !answer.body.is_empty() && status != 409 {
        assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    }
    answer
}

#[track_caller]
fn index(answer: &Answer) -> u64 {
    for (name, value) in [
        ("X-Consul-KnownLeader", "true"),
        ("X-Consul-LastContact", "0"),
        ("X-Consul-Default-ACL-Policy", "allow"),
        ("X-Consul-Effective-Consistency", "stale"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    answer.header("X-Consul-Index").expect("an index").parse().expect("a number")
}

#[track_caller]
pub(super) fn put(rig: &Rig, target: &str, value: &[u8]) {
    assert_eq!(is(rig.send("PUT", target, "", value), 200).text(), "true");
}

/// The one entry of a key.
#[track_caller]
fn entry(rig: &Rig, key: &str) -> Value {
    let answer = is(rig.ask("GET", &format!("/v1/kv/{key}")), 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let entries = answer.json();
    assert_eq!(entries.as_array().map(Vec::len), Some(1));
    assert_eq!(entries[0]["ModifyIndex"], index(&answer));
    entries[0].clone()
}

fn modified(rig: &Rig, key: &str) -> u64 {
    entry(rig, key)["ModifyIndex"].as_u64().expect("a number")
}

#[test]
fn a_key_is_put_read_and_deleted() {
    let rig = Rig::new();
    let answer = is(rig.send("PUT", "/v1/kv/a/b?flags=42", "Content-Type: x/y\r\n", b"hello"), 200);
    assert_eq!((answer.text().as_str(), answer.header("X-Consul-Index")), ("true", None));
    let text = is(rig.ask("GET", "/v1/kv/a/b"), 200).text();
    let begin = r#"[{"LockIndex":0,"Key":"a/b","Flags":42,"Value":"aGVsbG8=","CreateIndex":"#;
    assert!(text.starts_with(begin), "{text}");
    let raw = is(rig.ask("GET", "/v1/kv/a/b?raw"), 200);
    assert_eq!((raw.text().as_str(), index(&raw)), ("hello", modified(&rig, "a/b")));
    assert_eq!(raw.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(raw.header("X-Content-Type-Options"), Some("nosniff"));
    let native = rig.ask("GET", "/kv/a%2Fb?raw").is(200);
    assert_eq!(native.header("Content-Type"), Some("application/octet-stream;flags=42"));
    // What was put natively has no flags.
    rig.send("PUT", "/kv/n", "Content-Type: text/plain\r\n", b"").is(200);
    assert_eq!(entry(&rig, "n")["Flags"], 0);
    assert_eq!(entry(&rig, "n")["Value"], Value::Null);
    let head = is(rig.ask("HEAD", "/v1/kv/a/b"), 200);
    assert_eq!(head.header("Content-Length").expect("a length"), text.len().to_string());
    let before = modified(&rig, "a/b");
    assert_eq!(is(rig.ask("DELETE", "/v1/kv/a/b"), 200).text(), "true");
    assert_eq!(is(rig.ask("DELETE", "/v1/kv/never"), 200).text(), "true");
    let gone = is(rig.ask("GET", "/v1/kv/a/b"), 404);
    assert!(gone.body.is_empty() && gone.header("Content-Type").is_none());
    assert!(index(&gone) > before && index(&gone) < 1 << 53);
    assert_eq!(index(&is(rig.ask("GET", "/v1/kv/unheard-of"), 404)), 1);
    put(&rig, "/v1/kv/big?flags=18446744073709551615", &[7; 200_000]);
    let big = entry(&rig, "big");
    assert_eq!(big["Flags"], u64::MAX);
    assert_eq!(big["Value"].as_str().map(str::len), Some(200_000_usize.div_ceil(3) * 4));
    assert_eq!(is(rig.ask("GET", "/v1/kv/big?raw"), 200).body, [7; 200_000]);
}

#[test]
fn keys_are_what_clients_mean_by_them() {
    let rig = Rig::new();
    let odd = "sp%20ace/%C3%BCn%C3%AF%252F+&=%3F%23:;@%5B%5D";
    put(&rig, &format!("/v1/kv/{odd}"), b"1");
    assert_eq!(entry(&rig, odd)["Key"], "sp ace/\u{fc}n\u{ef}%2F+&=?#:;@[]");
    let encoded = odd.replace('/', "%2F");
    assert_eq!(entry(&rig, &encoded)["Value"], "MQ==");
    put(&rig, "/v1/kv//x//y", b"2");
    for same in ["x/y", "x%2Fy", "/x///y", "x/%2Fy"] {
        assert_eq!(entry(&rig, same)["Key"], "x/y");
    }
    put(&rig, "/v1/kv/..", b"3");
    assert_eq!(entry(&rig, "..")["Key"], "..");
    for (method, target) in [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/"), ("PUT", "//")]
    {
        let answer = is(rig.send(method, &format!("/v1/kv{target}"), "", b""), 400);
        assert_eq!(answer.text(), "Missing key name");
    }
    is(rig.ask("GET", "/v1/kv/%FF"), 400);
    is(rig.ask("PUT", &format!("/v1/kv/{}", "k".repeat(513))), 414);
}

#[test]
fn a_prefix_is_listed_whole_or_its_keys() {
    let rig = Rig::new();
    let none = is(rig.ask("GET", "/v1/kv/a/?recurse"), 404);
    assert_eq!((index(&none), none.body.len()), (1, 0));
    assert_eq!(is(rig.ask("GET", "/v1/kv/?keys"), 200).text(), "[]");
    is(rig.ask("GET", "/v1/kv/a?keys"), 404);
    for key in ["a/x", "a/b/c", "a/b/d", "b", "a"] {
        put(&rig, &format!("/v1/kv/{key}"), key.as_bytes());
    }
    let keys = |target: &str| {
        let answer = is(rig.ask("GET", &format!("/v1/kv/{target}")), 200);
        let keys = answer.json();
        let text = |key: &Value| key.as_str().or(key["Key"].as_str()).expect("a key").to_owned();
        keys.as_array().expect("an array").iter().map(text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(keys("a/?recurse"), "a/b/c a/b/d a/x");
    for all in ["?recurse", "?recurse=", "?recurse=true", "?recurse=1", "/?recurse&raw", "?keys="] {
        assert_eq!(keys(all), "a a/b/c a/b/d a/x b", "{all}");
    }
    assert_eq!(keys("a//?recurse"), "a/b/c a/b/d a/x");
    assert_eq!(keys("a?recurse=false"), "a");
    assert_eq!(keys("a/?keys=True&recurse&separator=/"), "a/b/ a/x");
    assert_eq!(keys("a/?keys&seperator=%2F"), "a/b/ a/x");
    assert_eq!(keys("?keys&separator=/"), "a a/ b");
    let (list, keys) = (rig.ask("GET", "/v1/kv/a?recurse"), rig.ask("GET", "/v1/kv/a?keys"));
    assert_eq!(index(&list), index(&keys));
    put(&rig, "/v1/kv/b", b"elsewhere");
    assert_eq!(index(&rig.ask("GET", "/v1/kv/a?recurse")), index(&list));
    put(&rig, "/v1/kv/a/x", &[b'v'; 9_000]);
    let grown = rig.ask("GET", "/v1/kv/a?recurse");
    assert!(index(&grown) != index(&list));
    let value = grown.json()[3]["Value"].as_str().expect("a value").to_owned();
    assert_eq!(value.len(), 12_000);
}

#[test]
fn many_keys_are_one_answer_and_go_in_parts() {
    let rig = Rig::new();
    let now = rig.bridge.now();
    for n in 0..25_000 {
        let key = format!("many/{n:05}");
        rig.bridge.store().put(now, key.as_bytes(), b"0123456789", None).expect("room");
    }
    put(&rig, "/v1/kv/other", b"stays");
    let list = is(rig.ask("GET", "/v1/kv/many/?recurse"), 200).json();
    assert_eq!(list.as_array().map(Vec::len), Some(25_000));
    assert_eq!(list[24_999]["Key"], "many/24999");
    let keys = is(rig.ask("GET", "/v1/kv/many/?keys&separator=0"), 200).json();
    assert_eq!(keys[0], "many/0");
    assert_eq!(is(rig.ask("DELETE", "/v1/kv/many/?recurse"), 200).text(), "true");
    is(rig.ask("GET", "/v1/kv/many/?keys"), 404);
    assert_eq!(entry(&rig, "other")["Key"], "other");
    let long = vec![b'v'; 1 << 20];
    for n in 0..50 {
        rig.bridge.store().put(now, format!("l/{n}").as_bytes(), &long, None).expect("room");
    }
    let told = is(rig.ask("GET", "/v1/kv/l/?recurse"), 500).text();
    assert!(told.contains("ask for a longer prefix"), "{told}");
    assert_eq!(is(rig.ask("GET", "/v1/kv/l/?keys"), 200).json().as_array().map(Vec::len), Some(50));
}

#[test]
fn a_write_on_a_condition_is_made_or_not() {
    let rig = Rig::new();
    let cas = |method: &str, target: &str, value: &[u8]| {
        is(rig.send(method, &format!("/v1/kv/{target}"), "", value), 200).text() == "true"
    };
    assert!(cas("PUT", "k?cas=0", b"1") && !cas("PUT", "k?cas=0", b"2"));
    let first = modified(&rig, "k");
    assert!(!cas("PUT", &format!("k?cas={}", first + 1), b"2"));
    assert!(cas("PUT", &format!("k?cas={first}&flags=7"), b"2"));
    assert!(!cas("PUT", &format!("k?cas={first}"), b"3"));
    assert_eq!(
        (&entry(&rig, "k")["Value"], &entry(&rig, "k")["Flags"]),
        (&json!("Mg=="), &json!(7))
    );
    assert!(!cas("DELETE", "k?cas=0", b"") && !cas("DELETE", &format!("k?cas={first}"), b""));
    let second = modified(&rig, "k");
    assert!(cas("DELETE", &format!("k?cas={second}"), b"") && cas("DELETE", "k?cas=5", b""));
    assert!(!cas("PUT", &format!("k?cas={second}"), b"4") && cas("PUT", "k?cas=0", b"4"));
    // A thousand versions of one millisecond have a thousand indexes.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        rig.bridge.store().put(rig.bridge.now(), b"busy", b"", None).expect("room");
        seen.insert(modified(&rig, "busy"));
    }
    assert_eq!(seen.len(), 1_000);
}

#[test]
fn what_is_wrong_is_told_in_plain_text() {
    let rig = Rig::new();
    put(&rig, "/v1/kv/k", b"v");
    for (method, target, status, text) in [
        ("GET", "/v1/kv/k?dc=other", 500, "No path to datacenter"),
        ("GET", "/v1/kv/k?ns=team", 400, "Namespaces are a Consul Enterprise feature"),
        ("GET", "/v1/kv/k?stale&consistent", 400, "conflicting semantics"),
        ("GET", "/v1/kv/k?index=x", 400, "Invalid index"),
        ("GET", "/v1/kv/k?index=1&wait=5", 400, "Invalid wait time"),
        ("PUT", "/v1/kv/k?flags=-1", 400, "Invalid flags"),
        ("PUT", "/v1/kv/k?cas=x", 400, "Invalid cas"),
        ("PUT", "/v1/kv/k?cas=1&acquire=s", 400, "Conflicting flags"),
        ("PUT", "/v1/kv/k?release=s&acquire=s", 400, "Conflicting flags"),
        ("DELETE", "/v1/kv/k?recurse&cas=1", 400, "Conflicting flags"),
        ("PUT", "/v1/kv/k?acquire=s", 501, "need consensus"),
        ("PUT", "/v1/session/create", 501, "need consensus"),
        ("POST", "/v1/kv/k", 405, "method POST not allowed"),
        ("GET", "/v1/health/checks/x", 404, "not a recognized HTTP API endpoint"),
        ("PUT", "/v1", 404, "not a recognized HTTP API endpoint"),
    ] {
        let answer = is(rig.send(method, target, "", b""), status);
        assert!(answer.text().contains(text), "{method} {target}: {}", answer.text());
    }
    // Nothing of all that was written, and what is not known is passed over.
    assert_eq!(
        entry(&rig, "k?wait=3000ms&what=ever&consistent&dc=dc1&ns=default")["Value"],
        "dg=="
    );
    put(&rig, "/v1/kv/k?wait=3000ms&no-such", b"v");
    let long = vec![0; (1 << 20) + 1];
    let told = is(rig.send("PUT", "/v1/kv/k", "", &long), 413).text();
    assert!(told.contains("too large, max size: 1048576 bytes"), "{told}");
    let team = "X-Consul-Namespace: team\r\n";
    is(rig.send("GET", "/v1/kv/k", team, b""), 400);
    is(rig.send("PUT", "/v1/kv/k", "Content-Encoding: gzip\r\n", b"x"), 415);
    is(rig.send("PUT", "/v1/kv/k", "If-Match: \"x\"\r\n", b""), 400);
    let options = is(rig.ask("OPTIONS", "/v1/kv/k"), 204);
    assert_eq!(options.header("Allow"), Some("GET, HEAD, PUT, DELETE, OPTIONS"));
}

#[test]
fn a_put_without_a_length_is_an_empty_value_here_and_nowhere_else() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.raw("PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(is(client.answer(), 200).text(), "true");
    assert_eq!(entry(&rig, "k")["Value"], Value::Null);
    client.raw("PUT /kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.answer().is(411);
}

/// Asks for a change of `target` since `index`; returns the answer and how long it took.
fn wait_for(addr: SocketAddr, target: &str, index: u64, wait: &str) -> (Answer, Duration) {
    #[expect(clippy::disallowed_methods, reason = "the clock of a test")]
    let began = Instant::now();
    let target = format!("/v1/kv/{target}index={index}&wait={wait}");
    let answer = Client::to(addr).ask("GET", &target, "", b"");
    (answer, began.elapsed())
}

#[test]
fn a_read_waits_until_there_is_another_index() {
    let rig = Rig::new();
    let addr = rig.addr;
    put(&rig, "/v1/kv/k/a", b"1");
    for target in ["k/a?", "k/?recurse&", "k/?keys&", "k/b?"] {
        let before = rig.ask("GET", &format!("/v1/kv/{target}"));
        let at = index(&before);
        let (answer, took) = wait_for(addr, target, at, "300ms");
        assert_eq!((index(&answer), answer.body, answer.status), (at, before.body, before.status));
        assert!(took >= Duration::from_millis(300), "{target} {took:?}");
        std::thread::scope(|threads| {
            let waiting = threads.spawn(move || wait_for(addr, target, at, "20s"));
            until("it waits", || rig.metric("http_watches") >= 1.0);
            put(&rig, "/v1/kv/elsewhere", b"");
            put(&rig, &format!("/v1/kv/k/{}", if target == "k/b?" { "b" } else { "a" }), b"2");
            let (answer, took) = waiting.join().expect("no panic");
            assert!(index(&answer) > at && took < Duration::from_secs(10), "{target} {took:?}");
            assert_eq!(answer.status, 200);
        });
        let (answer, _) = wait_for(addr, target, at, "20s");
        assert!(index(&answer) > at, "it has changed already");
        is(rig.ask("DELETE", "/v1/kv/k/b"), 200);
    }
}

#[test]
fn a_client_that_knows_more_waits_a_moment_for_this_node_to_catch_up() {
    let rig = Rig::new();
    let addr = rig.addr;
    put(&rig, "/v1/kv/k", b"1");
    let now = modified(&rig, "k");
    let (answer, took) = wait_for(addr, "k?", now + 1_000, "20s");
    assert_eq!(index(&answer), now);
    assert!((Duration::from_millis(500)..Duration::from_secs(10)).contains(&took), "{took:?}");
    // What the client has seen arrives, and it goes on waiting; then there is more.
    let wall = rig.bridge.now().wall.0 + 1_000;
    let later = |at: u64| Stamp { time: HlcTime::from_millis(wall + at), origin: OriginId(9) };
    let record = |at| Record::new(later(at), 1 + at, b"k", Some((b"2", None)));
    let seen = (later(0).time.0 - (1_577_836_800_000 << 16)) >> 4;
    std::thread::scope(|threads| {
        let waiting = threads.spawn(move || wait_for(addr, "k?", seen, "20s"));
        until("it waits", || rig.metric("http_watches") >= 1.0);
        rig.bridge.store().merge(&record(0), rig.bridge.now());
        std::thread::sleep(Duration::from_millis(700));
        assert!(!waiting.is_finished(), "it has what it knows, and no reason to answer");
        rig.bridge.store().merge(&record(1), rig.bridge.now());
        let (answer, _) = waiting.join().expect("no panic");
        assert_eq!(index(&answer), seen + (1 << 12));
    });
}

#[test]
fn a_list_that_falls_is_told_to_who_waits() {
    let rig = Rig::new();
    let addr = rig.addr;
    put(&rig, "/v1/kv/l/a", b"1");
    let old = index(&rig.ask("GET", "/v1/kv/l/?recurse"));
    std::thread::sleep(Duration::from_millis(40));
    put(&rig, "/v1/kv/l/b", b"2");
    let both = index(&rig.ask("GET", "/v1/kv/l/?recurse"));
    assert!(both > old);
    std::thread::scope(|threads| {
        let waiting = threads.spawn(move || wait_for(addr, "l/?recurse&", both, "20s"));
        until("it waits", || rig.metric("http_watches") >= 1.0);
        is(rig.ask("DELETE", "/v1/kv/l/b"), 200);
        let (answer, took) = waiting.join().expect("no panic");
        assert_eq!(index(&answer), old, "the same content, the same index");
        assert!(took < Duration::from_secs(10));
    });
    // Old records that come late move it, too: a node behind another catches up.
    let stamp = Stamp { time: HlcTime::from_millis(1_600_000_000_000), origin: OriginId(9) };
    rig.bridge.store().merge(&Record::new(stamp, 1, b"l/z", Some((b"", None))), rig.bridge.now());
    assert_ne!(index(&rig.ask("GET", "/v1/kv/l/?recurse")), old);
}

#[test]
fn a_key_that_expires_is_at_another_index_then() {
    let rig = Rig::new();
    rig.send("PUT", "/kv/k?ttl=1s", "", b"v").is(200);
    let before = modified(&rig, "k");
    until("it expires", || rig.ask("GET", "/v1/kv/k").status == 404);
    let gone = is(rig.ask("GET", "/v1/kv/k"), 404);
    assert_eq!(index(&gone) - before, (1_000 << 12) - (before & 0xfff), "the moment of its expiry");
    is(rig.ask("GET", "/v1/kv/?recurse"), 404);
    assert_eq!(is(rig.ask("PUT", &format!("/v1/kv/k?cas={before}")), 200).text(), "false");
    put(&rig, "/v1/kv/k?cas=0", b"new");
}

pub(super) fn txn(rig: &Rig, ops: &Value) -> Answer {
    let ops: Vec<Value> =
        ops.as_array().expect("operations").iter().map(|op| json!({ "KV": op })).collect();
    rig.send("PUT", "/v1/txn", "", Value::from(ops).to_string().as_bytes())
}

#[test]
fn a_transaction_is_done_whole_or_not_at_all() {
    let rig = Rig::new();
    put(&rig, "/v1/kv/old", b"1");
    let old = modified(&rig, "old");
    let answer = txn(
        &rig,
        &json!([
            {"Verb": "check-index", "Key": "old", "Index": old},
            {"Verb": "check-not-exists", "Key": "new"},
            {"verb": "set", "key": "new", "value": "aGVsbG8=", "flags": 42, "session": ""},
            {"Verb": "get", "Key": "new"},
            {"Verb": "cas", "Key": "old", "Value": "Mg==", "Index": old},
            {"Verb": "get-or-empty", "Key": "never"},
            {"Verb": "delete", "Key": "whatever"},
            {"Verb": "delete-cas", "Key": "gone", "Index": 5},
        ]),
    );
    let answer = is(answer, 200).json();
    assert_eq!(answer["Errors"], Value::Null);
    let results = answer["Results"].as_array().expect("results");
    let shown: Vec<_> = results
        .iter()
        .map(|result| (result["KV"]["Key"].as_str().unwrap(), result["KV"]["Value"].as_str()))
        .collect();
    let expected =
        [("old", None), ("new", None), ("new", Some("aGVsbG8=")), ("old", None), ("never", None)];
    assert_eq!(shown, expected);
    assert_eq!(results[1]["KV"]["ModifyIndex"], modified(&rig, "new"));
    assert_eq!(
        (&results[2]["KV"]["Flags"], &results[4]["KV"]["ModifyIndex"]),
        (&json!(42), &json!(0))
    );
    let check = |op: Value, expected: &str| {
        let answer = is(txn(&rig, &json!([{"Verb": "set", "Key": "x", "Value": "MQ=="}, op])), 409);
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        let answer = answer.json();
        assert_eq!(answer["Results"], Value::Null);
        assert_eq!(answer["Errors"], json!([{"OpIndex": 1, "What": expected}]));
        is(rig.ask("GET", "/v1/kv/x"), 404);
    };
    let stale = "failed to set key \"old\", index is stale";
    check(json!({"Verb": "cas", "Key": "old", "Index": old}), stale);
    check(json!({"Verb": "cas", "Key": "old", "Index": 0}), stale);
    check(json!({"Verb": "get", "Key": "no"}), "key \"no\" doesn't exist");
    check(json!({"Verb": "check-not-exists", "Key": "old"}), "key \"old\" exists");
    let stale = "failed to delete key \"old\", index is stale";
    check(json!({"Verb": "delete-cas", "Key": "old", "Index": old}), stale);
    check(json!({"Verb": "what", "Key": "old"}), "unknown KV operation: what");
    let at = modified(&rig, "old");
    let wrong = format!("failed index check for key \"old\", current modify index {at} != 9");
    check(json!({"Verb": "check-index", "Key": "old", "Index": 9}), &wrong);
    for verb in ["lock", "unlock", "check-session"] {
        is(txn(&rig, &json!([{"Verb": verb, "Key": "k", "Session": "s"}])), 501);
    }
    is(rig.send("PUT", "/v1/txn", "", b"{"), 400);
    let many: Vec<_> =
        (0..129).map(|n| json!({"Verb": "get-or-empty", "Key": n.to_string()})).collect();
    let told = is(txn(&rig, &many.into()), 413).text();
    assert!(told.contains("too many operations (129 > 128)"), "{told}");
}

#[test]
fn a_node_that_leaves_still_reads_in_a_transaction() {
    let rig = Rig::new();
    put(&rig, "/v1/kv/k", b"v");
    rig.server.refuse_writes();
    let ops = json!([{"Verb": "get", "Key": "k"}, {"Verb": "check-not-exists", "Key": "l"}]);
    assert_eq!(is(txn(&rig, &ops), 200).json()["Results"][0]["KV"]["Value"], "dg==");
    is(txn(&rig, &json!([{"Verb": "get", "Key": "k"}, {"Verb": "delete", "Key": "k"}])), 503);
}

#[test]
fn a_transaction_means_the_same_keys_as_a_path() {
    let rig = Rig::new();
    is(txn(&rig, &json!([{"Verb": "set", "Key": "//t///f", "Value": "dg=="}])), 200);
    assert_eq!(entry(&rig, "/t//f")["Key"], "t/f");
    let tree = is(txn(&rig, &json!([{"Verb": "get-tree", "Key": "/t//"}])), 200).json();
    assert_eq!(tree["Results"][0]["KV"]["Key"], "t/f");
    let again = json!([{"Verb": "set", "Key": "a//b"}, {"Verb": "set", "Key": "/a/b"}]);
    assert!(is(txn(&rig, &again), 400).text().contains("twice"));
    let told = is(txn(&rig, &json!([{"Verb": "set", "Key": "//"}])), 400).text();
    assert_eq!(told, "Missing key name");
    // What is absent has no index, not even 0.
    let absent = is(txn(&rig, &json!([{"Verb": "check-index", "Key": "no", "Index": 0}])), 409);
    assert_eq!(absent.json()["Errors"][0]["What"], "key \"no\" doesn't exist");
}

#[test]
fn a_full_store_tells_whose_limit_it_is() {
    let rig = Rig::new();
    rig.bridge.store().set_bound(Some(Bound { len_max: 100, by: "small".into() }));
    let told = is(rig.send("PUT", "/v1/kv/k", "", &[b'v'; 200]), 507).text();
    assert!(told.contains("--max-store-bytes of the member small"), "{told}");
    let value = "A".repeat(400);
    let told = is(txn(&rig, &json!([{"Verb": "set", "Key": "k", "Value": value}])), 507).text();
    assert!(told.contains("--max-store-bytes of the member small"), "{told}");
}

#[test]
fn the_token_comes_in_three_forms_and_goes_no_further() {
    let file = "read r rrr\nwrite w w%w\n";
    let rig = Rig::with(Config { tokens: Some(tokens(file)), ..config() });
    let ask = |method: &str, query: &str, headers: &str| {
        rig.send(method, &format!("/v1/kv/k{query}"), headers, b"")
    };
    let none = is(ask("GET", "", ""), 403);
    assert_eq!(none.text(), "Permission denied");
    assert_eq!(is(ask("GET", "", "X-Consul-Token: \r\n"), 403).text(), "Permission denied");
    for (query, headers) in
        [("?token=no", ""), ("", "X-Consul-Token: no\r\n"), ("", "Authorization: Bearer no\r\n")]
    {
        assert_eq!(is(ask("GET", query, headers), 403).text(), "ACL not found");
    }
    let all = [
        ("?token=w%25w", ""),
        ("", "X-Consul-Token: w%w\r\n"),
        ("", "Authorization: Bearer w%w\r\n"),
    ];
    for (query, headers) in all {
        let answer = is(ask("PUT", query, headers), 200);
        assert_eq!(answer.header("X-Consul-Default-ACL-Policy"), Some("deny"));
    }
    // The first of the three counts.
    is(ask("GET", "?token=rrr", "X-Consul-Token: no\r\n"), 200);
    is(ask("GET", "?token=", "X-Consul-Token: rrr\r\n"), 200);
    let told = is(ask("PUT", "?token=rrr", ""), 403).text();
    assert!(told.starts_with("Permission denied") && !told.contains("rrr"), "{told}");
    // Of two nobody knows which the client means.
    is(ask("GET", "", "X-Consul-Token: no\r\nX-Consul-Token: rrr\r\n"), 400);
    // Only here: elsewhere a query is no place for a token.
    rig.ask("GET", "/kv/k?token=rrr").is(401);
    rig.send("GET", "/kv/k", "X-Consul-Token: rrr\r\n", b"").is(401);
    // A long answer that waits is asked more than once, without it.
    let answer = is(ask("GET", "?token=rrr&index=5&wait=1s&raw", ""), 200);
    assert!(answer.body.is_empty());
}

#[test]
fn a_node_that_is_not_ready_says_so() {
    let bridge = TestBridge::new(0);
    *bridge.health.lock().unwrap() = Health::Starting;
    let rig = Rig::over(config(), bridge);
    put(&rig, "/v1/kv/plain", b"");
    for (method, target) in [
        ("GET", "/v1/kv/plain"),
        ("GET", "/v1/kv/?keys"),
        ("PUT", "/v1/kv/plain?cas=0"),
        ("DELETE", "/v1/kv/plain?cas=0"),
        ("DELETE", "/v1/kv/?recurse"),
    ] {
        let answer = is(rig.send(method, target, "", b""), 503);
        assert_eq!(answer.header("Retry-After"), Some("1"), "{method} {target}");
    }
    is(txn(&rig, &json!([{"Verb": "get-or-empty", "Key": "k"}])), 503);
    is(txn(&rig, &json!([{"Verb": "set", "Key": "k"}])), 200);
    assert_eq!(is(rig.ask("GET", "/v1/status/leader"), 200).json(), "");
}

#[test]
fn a_write_may_wait_for_other_members() {
    let rig = Rig::with(Config { consul_write_concern: Some(Concern::Majority), ..config() });
    let held = |held| {
        rig.bridge.replies(move |command, reply_to| {
            let Command::AwaitHolders { concern, .. } = command else { return Err(Busy) };
            assert_eq!(concern, Concern::Majority);
            reply_to(Reply::Holders { held, wanted: 2 });
            Ok(())
        });
    };
    let all = [
        ("PUT", "/v1/kv/a/b", "true"),
        ("DELETE", "/v1/kv/a/b", "true"),
        ("DELETE", "/v1/kv/a/?recurse", "true"),
    ];
    held(2);
    for (method, target, expected) in all {
        assert_eq!(is(rig.send(method, target, "", b"v"), 200).text(), expected);
    }
    assert_eq!(
        is(txn(&rig, &json!([{"Verb": "set", "Key": "k"}])), 200).json()["Errors"],
        json!(null)
    );
    held(1);
    for (method, target, _) in all {
        let told = is(rig.send(method, target, "", b"v"), 500).text();
        assert_eq!(told, "written here, held by 1 of 2 members asked for");
    }
    is(txn(&rig, &json!([{"Verb": "set", "Key": "k"}])), 500);
    // What writes nothing waits for nobody.
    assert_eq!(is(rig.send("PUT", "/v1/kv/k?cas=7", "", b""), 200).text(), "false");
    is(txn(&rig, &json!([{"Verb": "get-or-empty", "Key": "k"}])), 200);
}

#[test]
fn the_cluster_is_shown_as_consul_shows_it() {
    let rig = Rig::new();
    let get = |path: &str| is(rig.ask("GET", &format!("/v1/{path}")), 200).json();
    assert_eq!(get("status/leader"), "127.0.0.1:7947");
    assert_eq!(get("status/peers"), json!(["127.0.0.1:7947"]));
    let agent = get("agent/self");
    assert_eq!(agent["Config"]["Datacenter"], "dc1");
    assert_eq!(
        (&agent["Config"]["NodeName"], &agent["Config"]["Server"]),
        (&json!("one"), &json!(true))
    );
    assert_eq!(agent["Config"]["Version"], "1.22.0+gossipykv.1.2.3");
    assert_eq!(get("agent/members").as_array().map(Vec::len), Some(2));
    assert_eq!(get("catalog/datacenters"), json!(["dc1"]));
    assert_eq!(get("catalog/nodes")[0]["Address"], "127.0.0.1");
    assert_eq!(get("catalog/services"), json!({ "gossipykv": [] }));
    // Where nothing ever changes, who waits must not ask all the time.
    let target = "/v1/catalog/datacenters?index=1&wait=300ms";
    #[expect(clippy::disallowed_methods, reason = "the clock of a test")]
    let began = Instant::now();
    assert_eq!(index(&is(rig.ask("GET", target), 200)), 1);
    assert!(began.elapsed() >= Duration::from_millis(300));
}
