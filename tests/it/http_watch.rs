//! Waiting for changes: long polls of a key and of many, streams, and how they end.

use super::agents::Node;
use super::http_rig::{Client, Rig, TestBridge, config, until};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gossipykv::http::Server;
use gossipykv::kv::{Ended, EndedRun, OriginId, Record, Stamp};
use gossipykv::node::command::{Bridge as _, Health};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A stream of events, as lines of JSON.
struct Events {
    client: Client,
    lines: VecDeque<Value>,
}

impl Events {
    #[track_caller]
    fn of(rig: &Rig, target: &str) -> Events {
        Events::at(rig.addr, target)
    }

    #[track_caller]
    fn at(addr: SocketAddr, target: &str) -> Events {
        let mut client = Client::to(addr);
        client.request("GET", target, "", b"");
        let head = client.head();
        assert_eq!(head.status, 200);
        assert_eq!(head.header("Content-Type"), Some("application/x-ndjson"));
        assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
        assert_eq!(head.header("Cache-Control"), Some("no-store"));
        Events { client, lines: VecDeque::new() }
    }

    /// The next event; `None` at the end.
    #[track_caller]
    fn next(&mut self) -> Option<Value> {
        while self.lines.is_empty() {
            let chunk = self.client.chunk()?;
            let text = String::from_utf8(chunk).expect("text");
            self.lines.extend(text.lines().map(|line| serde_json::from_str(line).expect("JSON")));
        }
        self.lines.pop_front()
    }

    /// Events until the next `sync`, each as `put a 1`, and its token.
    #[track_caller]
    fn until_sync(&mut self) -> (Vec<String>, String) {
        let mut told = Vec::new();
        loop {
            let event = self.next().expect("no end");
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            match text("event").as_str() {
                "sync" => return (told, text("token")),
                "reset" => told.push("reset".into()),
                name => {
                    assert_eq!(text("version").len(), 33);
                    told.push(format!("{name} {} {}", text("key"), text("value")).trim().into());
                }
            }
        }
    }

    /// The same, until anything was told.
    #[track_caller]
    fn until_told(&mut self) -> (Vec<String>, String) {
        loop {
            let (told, token) = self.until_sync();
            if !told.is_empty() {
                return (told, token);
            }
        }
    }
}

fn put(rig: &Rig, key: &str, value: &str) -> String {
    rig.send("PUT", &format!("/kv/{key}"), "", value.as_bytes()).is(200).version()
}

fn watches(rig: &Rig) -> f64 {
    rig.metric("http_watches")
}

#[test]
fn a_stream_tells_what_is_there_and_then_what_changes() {
    let rig = Rig::new();
    put(&rig, "a%2F1", "one");
    put(&rig, "b", "no");
    rig.ask("DELETE", "/kv/a%2Fgone").is(200);
    let mut events = Events::of(&rig, "/kv/?prefix=a/&watch");
    assert_eq!(events.until_sync().0, ["put a/1 one"], "what is deleted is not there");
    put(&rig, "b", "still no");
    put(&rig, "a%2F2", "two");
    assert_eq!(events.until_told().0, ["put a/2 two"]);
    rig.ask("DELETE", "/kv/a%2F1").is(200);
    let (told, token) = events.until_told();
    assert_eq!(told, ["delete a/1"]);
    drop(events);
    // A client that was away hears what it has missed, deletes included, and nothing twice.
    put(&rig, "a%2F3", "three");
    rig.ask("DELETE", "/kv/a%2F2").is(200);
    let mut events = Events::of(&rig, &format!("/kv/?prefix=a/&watch&since={token}"));
    let mut told = events.until_sync().0;
    told.sort();
    assert_eq!(told, ["delete a/2", "put a/3 three"]);
    // Without values, and of one key alone.
    let mut events = Events::of(&rig, "/kv/?prefix=a/&watch&keys");
    assert_eq!(events.until_sync().0, ["put a/3"]);
    let mut events = Events::of(&rig, "/kv/?prefix=a/3&watch&exact");
    assert_eq!(events.until_sync().0, ["put a/3 three"]);
    put(&rig, "a%2F33", "longer");
    put(&rig, "a%2F3", "again");
    assert_eq!(events.until_told().0, ["put a/3 again"]);
}

#[test]
fn bytes_that_are_no_text_come_as_base64() {
    let rig = Rig::new();
    rig.send("PUT", "/kv/k", "", b"\xff\xfe").is(200);
    let mut events = Events::of(&rig, "/kv/?watch");
    let event = events.next().expect("an event");
    assert_eq!((&event["base64"], &event["value"]), (&json!("//4="), &Value::Null));
}

#[test]
fn a_browser_gets_server_sent_events_and_goes_on_by_itself() {
    let rig = Rig::new();
    put(&rig, "k", "line\nbreak");
    let mut client = rig.client();
    client.request("GET", "/kv/?watch", "Accept: text/event-stream\r\n", b"");
    let head = client.head();
    assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
    assert_eq!(head.header("X-Accel-Buffering"), Some("no"));
    let text = String::from_utf8(client.chunk().expect("events")).expect("text");
    let events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
    let [retry, put_event, sync] = events[..] else { panic!("{text}") };
    assert!(retry.starts_with("retry: "), "{retry}");
    assert!(put_event.starts_with("event: put\ndata: {\"key\":\"k\",\"value\":\"line\\nbreak\""));
    let id = sync.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
    assert!(sync.contains("event: sync\n"), "{sync}");
    drop(client);
    put(&rig, "later", "v");
    let mut client = rig.client();
    let headers = format!("Accept: text/event-stream\r\nLast-Event-ID: {id}\r\n");
    client.request("GET", "/kv/?watch&since=t0", &headers, b"");
    client.head();
    let text = String::from_utf8(client.chunk().expect("events")).expect("text");
    assert!(text.contains("\"later\"") && !text.contains("line"), "{text}");
    assert!(!text.contains("event: reset"), "the header counts more than the address: {text}");
    // As a browser does that was reset, and calls the same address before the next sync.
    drop(client);
    let mut client = rig.client();
    let headers = "Accept: text/event-stream\r\nLast-Event-ID: t0\r\n";
    client.request("GET", &format!("/kv/?watch&since={id}"), headers, b"");
    client.head();
    let text = String::from_utf8(client.chunk().expect("events")).expect("text");
    assert!(text.contains("id: t0\nevent: reset\n") && text.contains("line"), "{text}");
}

#[test]
fn a_token_too_old_begins_anew_and_says_so() {
    let rig = Rig::new();
    put(&rig, "a", "1");
    let (_, token) = Events::of(&rig, "/kv/?watch").until_sync();
    rig.ask("DELETE", "/kv/b").is(200);
    rig.bridge.forgotten.lock().unwrap().insert(OriginId(7), 2);
    let mut events = Events::of(&rig, &format!("/kv/?watch&since={token}"));
    assert_eq!(events.until_sync().0, ["reset", "put a 1"]);
    let page = rig.ask("GET", &format!("/kv/?since={token}")).is(200).json();
    assert_eq!((&page["reset"], &page["items"][0]["key"]), (&json!(true), &json!("a")));
    let page = rig.ask("GET", "/kv/?since=t0").is(200).json();
    assert_eq!(page["reset"], json!(true));
    for bad in ["limit=5", "after=a"] {
        rig.ask("GET", &format!("/kv/?watch&{bad}")).is(400);
    }
    for bad in ["x", "t1.AAA", ""] {
        rig.ask("GET", &format!("/kv/?since={bad}")).is(400);
        rig.ask("GET", &format!("/kv/?watch&since={bad}")).is(400);
    }
}

#[test]
fn thousands_of_runs_that_are_over_leave_a_token_good_and_short() {
    let rig = Rig::new();
    let run = |origin| EndedRun { origin: OriginId(origin), last: 9, forgotten: 3 };
    let ended: Ended = (100_001..=105_000).map(run).collect();
    *rig.bridge.ended.lock().unwrap() = Arc::new(ended);
    put(&rig, "a", "1");
    let token = rig.ask("GET", "/kv/").is(200).json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("t2.") && token.len() < 64, "{token}");
    rig.ask("GET", &format!("/kv/?since={token}&wait=0s")).is(304);
    rig.ask("GET", &format!("/kv/?min_token={token}")).is(200);
    put(&rig, "b", "2");
    let page = rig.ask("GET", &format!("/kv/?since={token}")).is(200).json();
    assert_eq!((&page["reset"], &page["items"][0]["key"]), (&Value::Null, &json!("b")));
    let mut events = Events::of(&rig, &format!("/kv/?watch&since={token}"));
    let (told, token) = events.until_sync();
    assert_eq!(told, ["put b 2"]);
    // A node that never had these runs among those that are over.
    *rig.bridge.ended.lock().unwrap() = Arc::default();
    let caught_up = format!("/kv/?min_token={token}&wait=0s");
    until("it says so", || rig.ask("GET", &caught_up).status == 504);
    let page = rig.ask("GET", &format!("/kv/?since={token}")).is(200).json();
    assert_eq!(page["reset"], json!(true));
    let mut events = Events::of(&rig, &format!("/kv/?watch&since={token}"));
    assert_eq!(events.until_sync().0, ["reset", "put a 1", "put b 2"]);
}

#[test]
fn who_is_ahead_of_a_node_is_told_so_before_the_past() {
    let rig = Rig::new();
    put(&rig, "a", "1");
    // The reader knows five writes of another run, of which this node holds two.
    let (me, other) = (rig.bridge.store().origin(), OriginId(1 << 40));
    rig.bridge.of_others.lock().unwrap().insert(other, 2);
    let mut bytes = vec![2];
    for (origin, through) in [(me, 1), (other, 5)] {
        bytes.extend(origin.0.to_be_bytes());
        bytes.push(through);
    }
    let token = format!("t1.{}", URL_SAFE_NO_PAD.encode(bytes));
    put(&rig, "b", "2");
    let mut events = Events::of(&rig, &format!("/kv/?watch&since={token}"));
    let first = events.next().expect("an event");
    assert_eq!(first["event"], "sync", "{first}");
    let less = first["token"].as_str().expect("a token").to_owned();
    assert_ne!(less, token);
    assert_eq!(events.until_sync().0, ["put b 2"]);
    // Who lost the stream before that, and goes on from there, lacks nothing.
    let mut events = Events::of(&rig, &format!("/kv/?watch&since={less}"));
    assert_eq!(events.until_sync().0, ["put b 2"]);
}

#[test]
fn a_long_poll_of_many_keys_answers_with_what_is_lacked() {
    let rig = Rig::new();
    put(&rig, "a", "1");
    let list = rig.ask("GET", "/kv/").is(200);
    let token = list.json()["token"].as_str().expect("a token").to_owned();
    let other = rig.ask("GET", "/kv/").is(200);
    assert_eq!(list.header("ETag"), other.header("ETag"));
    let none = rig.ask("GET", &format!("/kv/?since={token}&wait=0s")).is(304);
    assert!(none.header("Watch-Token").is_some_and(|token| token.starts_with("t1.")));
    let mut client = rig.client();
    client.request("GET", &format!("/kv/?prefix=b&since={token}&wait=30s"), "", b"");
    until("it waits", || watches(&rig) == 1.0);
    put(&rig, "c", "other");
    put(&rig, "b", "2");
    let page = client.answer().is(200).json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1));
    assert_eq!((&page["items"][0]["key"], &page["items"][0]["value"]), (&json!("b"), &json!("2")));
    let token = page["token"].as_str().expect("a token");
    rig.ask("DELETE", "/kv/b").is(200);
    let page = rig.ask("GET", &format!("/kv/?prefix=b&since={token}")).is(200).json();
    assert_eq!(page["items"][0]["deleted"], json!(true));
    until("it waits no more", || watches(&rig) == 0.0);
    rig.ask("GET", "/kv/?wait=1s").is(400);
    rig.ask("GET", &format!("/kv/?since={token}&wait=301s")).is(400);
    rig.ask("GET", "/kv/?exact").is(400);
}

#[test]
fn more_than_a_page_is_told_by_pages() {
    let rig = Rig::new();
    let token = rig.ask("GET", "/kv/").is(200).json()["token"].as_str().expect("one").to_owned();
    for i in 0..25 {
        put(&rig, &format!("k{i:02}"), "v");
    }
    let (mut keys, mut after) = (Vec::new(), String::new());
    loop {
        let target = format!("/kv/?since={token}&limit=10&after={after}");
        let page = rig.ask("GET", &target).is(200).json();
        let items = page["items"].as_array().expect("items");
        keys.extend(items.iter().map(|item| item["key"].as_str().expect("a key").to_owned()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(keys, (0..25).map(|i| format!("k{i:02}")).collect::<Vec<_>>());
}

#[test]
fn a_long_poll_of_a_key_waits_for_a_later_version() {
    let rig = Rig::new();
    let version = put(&rig, "k", "1");
    let earlier = rig.ask("GET", "/kv/k?newer=0000000000000000-0000000000000000").is(200);
    assert_eq!(earlier.text(), r#"{"k":"1"}"#);
    let same = rig.ask("GET", &format!("/kv/k?newer={version}&wait=0s")).is(304);
    assert_eq!(same.version(), version);
    let mut client = rig.client();
    client.request("GET", &format!("/kv/k?newer={version}&wait=30s&raw"), "", b"");
    until("it waits", || watches(&rig) == 1.0);
    put(&rig, "other", "x");
    let second = put(&rig, "k", "2");
    let answer = client.answer().is(200);
    assert_eq!((answer.text().as_str(), answer.version()), ("2", second.clone()));
    // The connection goes on.
    client.request("GET", &format!("/kv/k?newer={second}&wait=30s"), "", b"");
    until("it waits", || watches(&rig) == 1.0);
    let deleted = rig.ask("DELETE", "/kv/k").is(200).version();
    assert_eq!(client.answer().is(404).version(), deleted);
    // Where there was none it waits for one; a delete is none.
    client.request("GET", "/kv/k?newer=&wait=30s", "", b"");
    until("it waits", || watches(&rig) == 1.0);
    rig.ask("DELETE", "/kv/k").is(200);
    put(&rig, "k", "3");
    assert_eq!(client.answer().is(200).text(), r#"{"k":"3"}"#);
    let over = rig.ask("GET", "/kv/absent?newer=&wait=20ms").is(304);
    assert_eq!(over.header("ETag"), None);
    rig.ask("GET", "/kv/k?wait=1s").is(400);
    rig.ask("GET", "/kv/k?newer=x").is(400);
}

#[test]
fn a_write_of_another_node_wakes_like_our_own() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.request("GET", "/kv/k?newer=&wait=30s", "", b"");
    until("it waits", || watches(&rig) == 1.0);
    let now = rig.bridge.now();
    let time = gossipykv::kv::HlcTime::from_millis(now.wall.0);
    let stamp = Stamp { time, origin: OriginId(9) };
    rig.bridge.store().merge(&Record::new(stamp, 1, b"k", Some((b"theirs", None))), now);
    assert_eq!(client.answer().is(200).text(), r#"{"k":"theirs"}"#);
    // It is beyond all that the node says to hold, and told all the same.
    let mut events = Events::of(&rig, "/kv/?watch");
    assert_eq!(events.until_sync().0, ["put k theirs"]);
}

#[test]
fn a_poll_of_many_keys_hears_of_every_write_at_once() {
    // A write that was noted, and numbered only after the node had been asked, woke nobody again.
    let rig = Rig::new();
    let mut token = rig.ask("GET", "/kv/").json()["token"].as_str().expect("a token").to_owned();
    let n_rounds = 500;
    std::thread::scope(|threads| {
        let (go, going) = std::sync::mpsc::channel::<usize>();
        let mut writer = rig.client();
        threads.spawn(move || {
            for round in going {
                writer.ask("PUT", &format!("/kv/k{round}"), "", b"v").is(200);
            }
        });
        let mut client = rig.client();
        for round in 0..n_rounds {
            client.request("GET", &format!("/kv/?since={token}&wait=15s"), "", b"");
            go.send(round).expect("a writer");
            let page = client.answer();
            assert_eq!(page.status, 200, "round {round} was not heard of");
            let page = page.json();
            assert_eq!(page["items"][0]["key"], json!(format!("k{round}")));
            page["token"].as_str().expect("a token").clone_into(&mut token);
        }
        drop(go);
    });
}

#[test]
fn what_is_forgotten_while_a_client_reads_is_a_reset_and_no_silence() {
    let rig = Rig::new();
    let (_, token) = Events::of(&rig, "/kv/?watch").until_sync();
    put(&rig, "a", "1");
    let deleted = rig.ask("DELETE", "/kv/gone").is(200).version();
    // Long enough that the socket does not take it at once.
    let now = rig.bridge.now();
    for i in 0..60 {
        let (key, value) = (format!("long-{i:02}"), vec![b'x'; 1_000_000]);
        rig.bridge.store().put(now, key.as_bytes(), &value, None).expect("room");
    }
    for i in 0..1_100 {
        put(&rig, &format!("short-{i}"), "v");
    }
    let mut events = Events::of(&rig, &format!("/kv/?watch&since={token}"));
    // It is in the middle of what the client lacks. Now the delete is forgotten.
    rig.bridge.forgotten.lock().unwrap().insert(OriginId(7), 2);
    let is_there = rig.bridge.store().remove_exact(b"gone", deleted.parse().expect("a version"));
    assert!(is_there);
    let (mut told, _) = events.until_sync();
    told.retain(|event| !event.contains("long") && !event.contains("short"));
    let is_told = told.contains(&"delete gone".into());
    assert!(is_told || told.contains(&"reset".into()), "{told:?}");
}

#[test]
fn a_client_that_goes_ends_its_wait_and_its_stream() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.request("GET", "/kv/k?newer=&wait=300s", "", b"");
    let events = Events::of(&rig, "/kv/?watch");
    until("both wait", || watches(&rig) == 2.0);
    drop((client, events));
    until("nobody waits", || watches(&rig) == 0.0);
}

#[test]
fn a_node_that_leaves_says_so_and_lets_nobody_wait() {
    let rig = Rig::new();
    let version = put(&rig, "k", "1");
    let mut events = Events::of(&rig, "/kv/?watch");
    events.until_sync();
    let mut client = rig.client();
    client.request("GET", &format!("/kv/k?newer={version}&wait=300s"), "", b"");
    until("both wait", || watches(&rig) == 2.0);
    let Rig { server, .. } = rig;
    std::thread::scope(|threads| {
        threads.spawn(move || Server::drain(server, Duration::from_secs(10)));
        assert_eq!(client.answer().status, 304);
        let mut rest = std::iter::from_fn(|| events.next()).skip_while(|e| e["event"] == "sync");
        assert_eq!(rest.next().expect("an event")["event"], json!("bye"));
        assert_eq!(rest.next(), None);
    });
}

#[test]
fn a_wait_that_a_node_cuts_short_by_leaving_does_not_tell_of_a_time_that_has_not_passed() {
    let rig = Rig::new();
    put(&rig, "k", "1");
    // Written at another node, of which this one never hears.
    let mut bytes = vec![1];
    bytes.extend((1_u64 << 40).to_be_bytes());
    bytes.push(4);
    let token = format!("t1.{}", URL_SAFE_NO_PAD.encode(bytes));
    let later = "7fffffffffffffff-0000000000000009";
    let targets = [
        format!("/kv/k?min_version={later}&wait=20s"),
        format!("/kv/k?min_token={token}&wait=20s"),
        format!("/kv/?min_token={token}&wait=20s"),
    ];
    let mut clients = targets.map(|target| {
        let mut client = rig.client();
        client.request("GET", &target, "", b"");
        client
    });
    until("all wait", || watches(&rig) == 3.0);
    let Rig { server, .. } = rig;
    std::thread::scope(|threads| {
        threads.spawn(move || Server::drain(server, Duration::from_secs(10)));
        for client in &mut clients {
            let told = client.answer().is(503).text();
            assert!(told.contains("leaving") && !told.contains("20s"), "{told}");
        }
    });
}

#[test]
fn a_node_that_is_not_complete_serves_no_watch() {
    let rig = Rig::new();
    let mut events = Events::of(&rig, "/kv/?watch");
    events.until_sync();
    *rig.bridge.health.lock().unwrap() = Health::Starting;
    put(&rig, "k", "v");
    assert_eq!(events.next().expect("an event")["event"], json!("bye"));
    rig.ask("GET", "/kv/?watch").is(503);
    rig.ask("GET", "/kv/k?newer=").is(503);
    rig.ask("GET", "/kv/?since=t0").is(503);
}

#[test]
fn a_reader_too_slow_for_the_changes_is_told_the_last_state_of_each() {
    let rig = Rig::over(config(), TestBridge::new(0));
    let mut events = Events::of(&rig, "/kv/?watch");
    events.until_sync();
    // More than its watch remembers, more than once over, while it reads nothing.
    let now = rig.bridge.now();
    for round in 0..20 {
        for i in 0..1_000 {
            let value = [b'x'; 1_000];
            let key = format!("{i:04}-{round:02}");
            rig.bridge.store().put(now, key.as_bytes(), &value, None).expect("room");
        }
    }
    rig.bridge.store().put(now, b"last", b"v", None).expect("room");
    let mut keys = std::collections::BTreeSet::new();
    while keys.len() < 20_001 {
        let event = events.next().expect("no end");
        if event["event"] == "put" {
            keys.insert(event["key"].as_str().expect("a key").to_owned());
        }
    }
    assert!(keys.contains("last"));
}

#[test]
fn only_get_streams_and_old_clients_read_until_the_end() {
    let rig = Rig::new();
    rig.ask("HEAD", "/kv/?watch").is(405);
    let mut client = rig.client();
    client.raw("GET /kv/?watch HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status, head.header("Transfer-Encoding")), (200, None));
    assert_eq!(head.header("Connection"), Some("close"));
}

#[test]
fn a_token_of_one_node_is_good_at_another() {
    let [one, two] = Node::cluster::<2>(&["--profile", "local"], &[]);
    let put = |node: &Node, key: &str, value: &str| {
        let target = format!("/kv/{key}?w=2");
        Client::to(node.http).ask("PUT", &target, "", value.as_bytes()).is(200);
    };
    put(&one, "a", "1");
    put(&two, "b", "1");
    put(&two, "gone", "1");
    let mut events = Events::at(one.http, "/kv/?watch");
    assert_eq!(events.until_sync().0, ["put a 1", "put b 1", "put gone 1"]);
    put(&two, "b", "2");
    let (told, token) = events.until_told();
    assert_eq!(told, ["put b 2"]);
    drop(events);
    put(&one, "a", "2");
    put(&two, "c", "1");
    Client::to(one.http).ask("DELETE", "/kv/gone?w=2", "", b"").is(200);
    let mut events = Events::at(two.http, &format!("/kv/?watch&since={token}"));
    let mut told = events.until_sync().0;
    told.sort();
    assert_eq!(told, ["delete gone", "put a 2", "put c 1"]);
    let page = Client::to(one.http).ask("GET", &format!("/kv/?since={token}"), "", b"");
    let page = page.is(200).json();
    let keys: Vec<_> = page["items"].as_array().expect("items").iter().collect();
    assert_eq!(keys.len(), 3, "{page}");
}
