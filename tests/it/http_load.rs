//! `POST /kv/` as NDJSON: many writes in one request.

use super::http_rig::{Answer, Rig, TestBridge, config};
use gossipykv::kv::{Bound, HlcTime, OriginId, Record, Stamp};
use gossipykv::limits::{
    CONTENT_TYPE_LEN_MAX, KEY_LEN_MAX, LOAD_ERRORS_MAX, LOAD_LINES_MAX, LOAD_SLICE,
};
use gossipykv::node::command::{Bridge as _, Command, Concern, Health, Reply};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

fn load(rig: &Rig, query: &str, lines: impl AsRef<[u8]>) -> Answer {
    rig.send("POST", &format!("/kv/{query}"), NDJSON, lines.as_ref())
}

fn puts(n: usize) -> String {
    (0..n).map(|i| format!("{{\"put\":\"k/{i:05}\",\"value\":\"v{i}\"}}\n")).collect()
}

fn count(rig: &Rig) -> Value {
    rig.ask("GET", "/kv/?count").is(200).json()["count"].clone()
}

/// The lines that an answer names, with what it says of them.
fn errors(answer: &Value) -> Vec<(u64, &str)> {
    let errors = answer["errors"].as_array().expect("errors").iter();
    let line = |error: &Value| error["line"].as_u64().expect("a number");
    errors.map(|error| (line(error), error["error"].as_str().expect("a text"))).collect()
}

#[test]
fn every_line_is_written_in_its_order() {
    let rig = Rig::new();
    rig.send("PUT", "/kv/old", "", b"1").is(200);
    let lines = "\u{20}{\"put\":\"a\",\"value\":\"1\",\"type\":\"text/plain\"}\r\n\
        \r\n\
        {\"delete\":\"old\"}\n\n   \n\
        {\"put\":\"b\\u00fc/c\",\"base64\":\"//4=\",\"ttl\":\"1h\"}\r\n\
        {\"put\":\"a\",\"value\":\"2\"}\n\
        {\"put\":\"gone\",\"value\":\"\"}\n{\"delete\":\"gone\"}";
    for content_type in
        ["application/x-ndjson", "Application/X-NDJSON; charset=utf-8", "application/ndjson"]
    {
        let header = format!("Content-Type: {content_type}\r\n");
        let answer = rig.send("POST", "/kv/", &header, lines.as_bytes()).is(200).json();
        assert_eq!(answer["applied"], 6, "{content_type}");
        assert!(answer["version"].as_str().is_some_and(|version| version.len() == 33));
    }
    let a = rig.ask("GET", "/kv/a?raw").is(200);
    assert_eq!(
        (a.text().as_str(), a.header("Content-Type")),
        ("2", Some("application/octet-stream"))
    );
    let lasting = rig.ask("GET", "/kv/b%C3%BC%2Fc?raw").is(200);
    assert_eq!((&lasting.body[..], lasting.header("TTL").is_some()), (&b"\xff\xfe"[..], true));
    for gone in ["old", "gone"] {
        rig.ask("GET", &format!("/kv/{gone}")).is(404);
    }
    assert_eq!(load(&rig, "", "").is(200).json(), json!({ "applied": 0 }));
    assert_eq!(load(&rig, "", "\r\n\n").is(200).json(), json!({ "applied": 0 }));
}

#[test]
fn one_wrong_line_stops_all_and_is_named() {
    let rig = Rig::new();
    let before = rig.bridge.store().stats();
    let put = |key: &str| format!("{{\"put\":\"{key}\",\"value\":\"v\"}}");
    let long = "t".repeat(CONTENT_TYPE_LEN_MAX + 1);
    for (wrong, told) in [
        ("{\"put\":\"k\"", "EOF while parsing an object at column 10"),
        ("{\"put\":\"k\",\"value\":\"v\"}}", "trailing characters"),
        ("{\"put\":\"k\",\"value\":\"v\",\"x\":1}", "unknown field `x`"),
        ("[]", "a line is one JSON object"),
        ("[\"k\",null,null,null,\"v\",null,null,null]", "a line is one JSON object"),
        ("put k v", "a line is one JSON object"),
        ("{\"put\":\"k\"}", "put wants value or base64"),
        ("{\"put\":\"k\",\"value\":1}", "invalid type"),
        ("{\"put\":\"k\",\"base64\":\"*\"}", "base64"),
        ("{\"put\":\"k\",\"value\":\"v\",\"ttl\":\"soon\"}", "ttl"),
        ("{\"put\":\"k\",\"value\":\"v\",\"type\":\"\u{fc}\"}", "not printable ASCII"),
        (
            &format!("{{\"put\":\"k\",\"value\":\"v\",\"type\":\"{long}\"}}"),
            "256 bytes; at most 255",
        ),
        ("{\"put\":\"\",\"value\":\"v\"}", "1 to 512 bytes, not 0"),
        (&put(&"k".repeat(KEY_LEN_MAX + 1)), "1 to 512 bytes, not 513"),
        ("{\"get\":\"k\"}", "put and delete"),
        ("{\"delete\":\"k\",\"if_version\":\"\"}", "put and delete"),
        ("{\"delete\":\"k\",\"value\":\"v\"}", "only put has a value"),
        ("{\"ops\":[]}", "unknown field `ops`"),
    ] {
        let lines = format!("{}\n\r\n{wrong}\n{}", put("a"), put("b"));
        let answer = load(&rig, "", lines).is(400).json();
        assert_eq!(answer["applied"], 0);
        let [(line, text)] = errors(&answer)[..] else { panic!("one: {answer}") };
        assert!(line == 3 && text.contains(told), "{wrong}: {answer}");
        let error = answer["error"].as_str().expect("a text");
        assert!(error.starts_with("1 of 3 lines wrong, nothing is written; line 3: "), "{error}");
    }
    load(&rig, "", b"{\"put\":\"\xff\",\"value\":\"v\"}").is(400);
    // Not more are named than an answer has room for, and no more of each.
    let many = format!("{{\"{}\":1}}\n", "x".repeat(1_000)).repeat(LOAD_ERRORS_MAX + 5);
    let answer = load(&rig, "", many).is(400).json();
    assert_eq!(errors(&answer).len(), LOAD_ERRORS_MAX);
    assert!(answer.to_string().len() < LOAD_ERRORS_MAX * 400);
    assert_eq!(rig.bridge.store().stats(), before);
    rig.send("POST", "/kv/", &format!("{NDJSON}If-Match: *\r\n"), b"").is(400);
    load(&rig, "?w=0", puts(1)).is(400);
    // Without the type it is a batch, and no line of it.
    rig.send("POST", "/kv/", "", puts(2).as_bytes()).is(400);
    assert_eq!(count(&rig), 0);
}

#[test]
fn a_body_or_a_line_that_is_too_long_is_refused_before_it_is_read() {
    let mut config = config();
    config.value_len_max = 1_000;
    let rig = Rig::over(config, TestBridge::new(0));
    load(&rig, "", format!("{{\"put\":\"k\",\"value\":\"{}\"}}", "v".repeat(1_000))).is(413);
    load(&rig, "", puts(100)).is(413);
    let fits = format!("{{\"put\":\"k\",\"value\":\"{}\"}}", "v".repeat(960));
    assert_eq!(load(&rig, "", fits).is(200).json()["applied"], 1);
}

#[test]
fn more_lines_than_a_worker_has_time_for_are_refused() {
    let rig = Rig::new();
    let many = "{\"delete\":\"k\"}\n".repeat(LOAD_LINES_MAX);
    assert_eq!(load(&rig, "", format!("\n{many}\n")).is(200).json()["applied"], LOAD_LINES_MAX);
    let before = rig.bridge.store().stats();
    load(&rig, "", format!("{many}{{\"delete\":\"k\"}}")).is(413);
    assert_eq!(rig.bridge.store().stats(), before);
}

#[test]
fn a_load_is_written_in_slices_and_the_engine_hears_of_each() {
    let rig = Rig::new();
    let n = 3 * LOAD_SLICE + 1;
    assert_eq!(load(&rig, "", puts(n)).is(200).json()["applied"], n);
    assert_eq!(count(&rig), n);
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 4);
}

#[test]
fn a_store_that_fills_up_says_how_far_it_came() {
    let rig = Rig::over(config(), TestBridge::new(40_000));
    let lines: String = (0..900)
        .map(|i| format!("{{\"put\":\"k{i:03}\",\"value\":\"{}\"}}\n\n", "v".repeat(40)))
        .collect();
    let answer = load(&rig, "", &lines).is(507).json();
    let applied = answer["applied"].as_u64().expect("a number");
    assert!((LOAD_SLICE as u64..900).contains(&applied), "{applied}");
    let [(line, text)] = errors(&answer)[..] else { panic!("one: {answer}") };
    assert_eq!(line, 2 * applied + 1, "each has an empty one behind it");
    assert!(text.starts_with(&format!("key k{applied:03}: the store is full")), "{text}");
    assert_eq!(count(&rig), applied);
    // What it has is written anew, as that needs no room; deletes are always taken.
    let deletes: String = (0..900).map(|i| format!("{{\"delete\":\"k{i:03}\"}}\n")).collect();
    assert_eq!(load(&rig, "", deletes).is(200).json()["applied"], 900);
    // Another member's limit is told as such.
    let rig = Rig::new();
    rig.bridge.store().set_bound(Some(Bound { by: "small".into(), len_max: 1 }));
    let answer = load(&rig, "", puts(1)).is(507).json();
    assert!(answer["error"].as_str().expect("a text").contains("member small"), "{answer}");
}

#[test]
fn a_key_at_the_last_version_stops_a_load_there() {
    let rig = Rig::new();
    let stamp = Stamp { time: HlcTime(u64::MAX), origin: OriginId(9) };
    let record = Record::new(stamp, 1, b"k/00003", Some((b"v", None)));
    rig.bridge.store().merge(&record, rig.bridge.now());
    let answer = load(&rig, "", puts(9)).is(409).json();
    assert_eq!((&answer["applied"], errors(&answer)[0].0), (&json!(3), 4));
}

#[test]
fn a_node_that_starts_leaves_or_has_an_old_member_says_so() {
    let bridge = TestBridge::new(0);
    *bridge.health.lock().unwrap() = Health::Starting;
    let rig = Rig::over(config(), bridge);
    let answer = load(&rig, "", puts(2)).is(503);
    assert_eq!(answer.header("Retry-After"), Some("1"));
    *rig.bridge.health.lock().unwrap() = Health::Ok;
    *rig.bridge.lacks_ttl.lock().unwrap() = Some("old".into());
    let lasting = "{\"put\":\"a\",\"value\":\"\"}\n{\"put\":\"b\",\"value\":\"\",\"ttl\":\"1h\"}";
    load(&rig, "", lasting).is(503);
    assert_eq!(count(&rig), 0);
    assert_eq!(load(&rig, "", puts(2)).is(200).json()["applied"], 2);
    rig.server.refuse_writes();
    let answer = load(&rig, "", puts(3)).is(503);
    assert_eq!(answer.header("Retry-After"), Some("1"));
    let answer = answer.json();
    assert_eq!((&answer["applied"], errors(&answer)[0].0), (&json!(0), 1));
}

#[test]
fn a_load_may_wait_for_other_members() {
    let rig = Rig::new();
    rig.bridge.replies(|command, reply_to| {
        let Command::AwaitHolders { dot, concern, .. } = command else {
            reply_to(Reply::Done);
            return Ok(());
        };
        // The last of the lines is waited for.
        assert_eq!(dot.seq, 5);
        let held = if concern == Concern::Count(2) { 2 } else { 1 };
        reply_to(Reply::Holders { held, wanted: 2 });
        Ok(())
    });
    assert_eq!(load(&rig, "?w=2", "").is(200).json(), json!({ "applied": 0 }));
    assert_eq!(load(&rig, "?w=2", puts(5)).is(200).json()["applied"], 5);
    let rig = Rig::new();
    rig.bridge.replies(|_, reply_to| {
        reply_to(Reply::Holders { held: 1, wanted: 3 });
        Ok(())
    });
    let short = load(&rig, "?w=3", puts(5)).is(504).json();
    assert_eq!((&short["held"], &short["wanted"]), (&json!(1), &json!(3)));
    assert_eq!(count(&rig), 5);
}
