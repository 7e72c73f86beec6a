//! Many keys at once: folders, numbers, deletes by prefix; and reads of what was written elsewhere.

use super::http_rig::{Rig, until};
use gossipykv::kv::{HlcTime, OriginId, Record, Stamp};
use gossipykv::node::command::{Bridge as _, Command, Reply};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn filled(keys: &[&str]) -> Rig {
    let rig = Rig::new();
    for key in keys {
        rig.bridge.store().put(rig.bridge.now(), key.as_bytes(), b"v", None).expect("room");
    }
    rig
}

#[test]
fn keys_behind_a_delimiter_are_listed_as_folders() {
    let rig = filled(&["a/1", "a/b/2", "a/b/3", "a/c/4", "a/d", "z"]);
    let list = |query: &str| rig.ask("GET", &format!("/kv/?{query}")).is(200).json();
    let keys = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("items").iter();
        items.map(|item| item["key"].as_str().expect("key").to_owned()).collect()
    };
    let whole = list("prefix=a/&delimiter=/");
    assert_eq!(keys(&whole), ["a/1", "a/d"]);
    assert_eq!(whole["folders"], json!(["a/b/", "a/c/"]));
    assert_eq!((&whole["next"], &whole["items"][0]["value"]), (&Value::Null, &json!("v")));
    let first = list("prefix=a/&delimiter=/&limit=2&keys");
    assert_eq!((keys(&first), &first["next"]), (vec!["a/1".to_owned()], &json!("a/b/")));
    assert_eq!(first["items"][0].get("value"), None);
    let rest = list("prefix=a/&delimiter=/&limit=2&after=a/b/");
    assert_eq!((keys(&rest), &rest["folders"]), (vec!["a/d".to_owned()], &json!(["a/c/"])));
    assert_eq!(list("delimiter=/")["folders"], json!(["a/"]));
    assert_eq!(list("delimiter=/&prefix=none")["folders"], json!([]));
    assert_eq!(list("prefix=a/").get("folders"), None);
    // The page has a tag of its own, which changes with what it says.
    let tag = rig.ask("GET", "/kv/?delimiter=/").is(200).header("ETag").expect("tag").to_owned();
    let again =
        rig.client().ask("GET", "/kv/?delimiter=/", &format!("If-None-Match: {tag}\r\n"), b"");
    again.is(304);
    rig.send("PUT", "/kv/b%2F1", "", b"v").is(200);
    rig.client().ask("GET", "/kv/?delimiter=/", &format!("If-None-Match: {tag}\r\n"), b"").is(200);
}

#[test]
fn keys_are_counted() {
    let rig = filled(&["a/1", "a/2", "b"]);
    let count =
        |query: &str| rig.ask("GET", &format!("/kv/?{query}")).is(200).json()["count"].clone();
    assert_eq!([count("count"), count("count&prefix=a/"), count("count&prefix=c")], [3, 2, 0]);
    rig.ask("GET", "/kv/?count&limit=2").is(400);
}

#[test]
fn keys_are_deleted_by_prefix() {
    let keys: Vec<String> = (0..2_500).map(|i| format!("a/{i}")).collect();
    let mut all: Vec<&str> = keys.iter().map(String::as_str).collect();
    all.extend(["a", "b/1"]);
    let rig = filled(&all);
    for (target, told) in [
        ("/kv/", "prefix"),
        ("/kv/?prefix=", "prefix"),
        ("/kv/?prefix=a&all", "prefix"),
        ("/kv/?prefix=a&limit=3", "no such parameter"),
    ] {
        let error = rig.ask("DELETE", target).is(400).json()["error"].to_string();
        assert!(error.contains(told), "{target}: {error}");
    }
    let tag = "If-Match: \"x\"\r\n";
    rig.send("DELETE", "/kv/?prefix=a", tag, b"").is(400);
    assert_eq!(rig.bridge.store().stats().n_live, 2_502, "nothing has changed");
    let done = rig.ask("DELETE", "/kv/?prefix=a/").is(200).json();
    assert_eq!(done, json!({ "deleted": 2_500, "next": null }));
    assert_eq!(rig.ask("DELETE", "/kv/?prefix=a/").is(200).json()["deleted"], 0);
    assert_eq!(
        rig.ask("GET", "/kv/?keys").is(200).json()["items"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(rig.ask("DELETE", "/kv/?all&after=a").is(200).json()["deleted"], 1);
    rig.ask("GET", "/kv/a").is(200);
}

#[test]
fn a_delete_by_prefix_waits_for_holders_of_its_last_write() {
    let rig = filled(&["a/1", "a/2"]);
    let n_held = Arc::new(AtomicU32::new(1));
    let told = Arc::clone(&n_held);
    rig.bridge.replies(move |command, reply_to| {
        let Command::AwaitHolders { dot, .. } = command else { panic!("{command:?}") };
        assert_eq!(dot.seq, 4);
        reply_to(Reply::Holders { held: told.load(Ordering::Relaxed), wanted: 2 });
        Ok(())
    });
    let short = rig.ask("DELETE", "/kv/?prefix=a/&w=2").is(504).json();
    assert_eq!((&short["held"], &short["wanted"]), (&json!(1), &json!(2)));
    // Nothing is there any more, and who asks again hears no better.
    rig.ask("DELETE", "/kv/?prefix=a/&w=2").is(504);
    n_held.store(2, Ordering::Relaxed);
    assert_eq!(rig.ask("DELETE", "/kv/?prefix=a/&w=2").is(200).json()["deleted"], 0);
}

#[test]
fn a_read_waits_for_what_was_written_elsewhere() {
    let rig = Rig::new();
    let stamp = |time| Stamp { time: HlcTime::from_millis(time), origin: OriginId(77) };
    let arrives = |time, seq| {
        let record = Record::new(stamp(time), seq, b"k", Some((format!("{seq}").as_bytes(), None)));
        rig.bridge.store().merge(&record, rig.bridge.now());
    };
    let target = |time, rest: &str| format!("/kv/k?min_version={}{rest}", stamp(time));
    rig.ask("GET", "/kv/k?min_version=x").is(400);
    rig.ask("GET", &target(1, "&newer=")).is(400);
    let late = rig.ask("GET", &target(1, "&wait=50ms")).is(504).json();
    assert!(late["error"].as_str().expect("text").contains("it has none"), "{late}");
    arrives(1, 1);
    assert_eq!(rig.ask("GET", &target(1, "")).is(200).json(), json!({ "k": "1" }));
    assert_eq!(rig.ask("GET", &target(0, "&raw")).is(200).text(), "1");
    let late = rig.ask("GET", &target(2, "&wait=50ms")).is(504);
    assert_eq!(late.version(), stamp(1).to_string());
    let mut client = rig.client();
    client.request("GET", &target(2, "&wait=60s"), "", b"");
    until("the reader waits", || rig.metric("http_watches") > 0.0);
    arrives(2, 2);
    assert_eq!(client.answer().is(200).json(), json!({ "k": "2" }));
}

#[test]
fn a_read_waits_until_a_node_has_caught_up_with_a_token() {
    // Two nodes of one origin: what one has written the other is behind with.
    let (first, second) = (Rig::new(), Rig::new());
    let arrives = |rig: &Rig, key: &str| {
        rig.bridge.store().put(rig.bridge.now(), key.as_bytes(), b"v", None).expect("room");
    };
    arrives(&first, "a");
    arrives(&first, "b");
    let token = first.ask("GET", "/kv/?limit=1").is(200).json()["token"].clone();
    let token = token.as_str().expect("a token");
    arrives(&second, "a");
    for (target, status) in [
        (format!("/kv/?min_token={token}&wait=60ms"), 504),
        (format!("/kv/?after=a&min_token={token}&wait=60ms"), 504),
        (format!("/kv/b?min_token={token}&wait=60ms"), 504),
        (format!("/kv/a?min_token={token}&newer="), 400),
        (format!("/kv/?watch&min_token={token}"), 400),
        ("/kv/?min_token=t0".to_owned(), 400),
        ("/kv/a?min_token=x".to_owned(), 400),
    ] {
        let late = second.ask("GET", &target).is(status).json();
        assert!(late["error"].as_str().expect("text").contains("min_token"), "{late}");
    }
    let mut client = second.client();
    client.request("GET", &format!("/kv/?after=a&min_token={token}&wait=60s"), "", b"");
    until("the reader waits", || second.metric("http_watches") > 0.0);
    arrives(&second, "b");
    assert_eq!(client.answer().is(200).json()["items"][0]["key"], "b");
    second.ask("GET", &format!("/kv/b?min_token={token}")).is(200);
}
