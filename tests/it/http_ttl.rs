//! Keys that expire: what clients see of them, and when.

use super::agents::Node;
use super::http_rig::{Answer, Client, Rig, until};
use gossipykv::kv::Expiring;
use gossipykv::node::command::Bridge as _;
use serde_json::{Value, json};
use std::collections::VecDeque;

fn put(rig: &Rig, target: &str) -> String {
    rig.send("PUT", target, "", b"v").is(200).version()
}

fn header(answer: &Answer, name: &str) -> String {
    answer.header(name).unwrap_or_default().to_owned()
}

/// Lets expire what is due, as a node does ten times a second; how much that was.
fn sweep(rig: &Rig) -> usize {
    let _turn = rig.bridge.turn.lock().unwrap();
    rig.bridge.store().expire(rig.bridge.now(), &mut Expiring::default(), usize::MAX)
}

fn await_absent(rig: &Rig, key: &str) -> Answer {
    let target = format!("/kv/{key}");
    until("it expires", || rig.ask("GET", &target).status == 404);
    rig.ask("GET", &target)
}

/// Lines of a stream, one at a time.
struct Events(Client, VecDeque<Value>);

impl Events {
    fn of(client: Client, target: &str) -> Events {
        let mut client = client;
        client.request("GET", target, "", b"");
        assert_eq!(client.head().status, 200);
        Events(client, VecDeque::new())
    }

    /// The next event of this name.
    fn next(&mut self, name: &str) -> Value {
        loop {
            while let Some(event) = self.1.pop_front() {
                if event["event"] == name {
                    return event;
                }
            }
            let text = String::from_utf8(self.0.chunk().expect("no end")).expect("text");
            self.1.extend(text.lines().map(|line| serde_json::from_str(line).expect("JSON")));
        }
    }
}

#[test]
fn a_key_is_absent_everywhere_after_its_time_swept_or_not() {
    let rig = Rig::new();
    let written = rig.send("PUT", "/kv/k?ttl=2s", "Content-Type: text/a\r\n", b"v").is(200);
    let expires = written.json()["expires"].as_str().expect("when").to_owned();
    let version = written.version();
    rig.ask("PUT", "/kv/pair/v?ttl=1h").is(200);
    put(&rig, "/kv?key=stays");
    let got = rig.ask("GET", "/kv/k?raw").is(200);
    assert!(["1", "2"].contains(&header(&got, "TTL").as_str()), "{}", header(&got, "TTL"));
    assert_eq!(header(&rig.ask("HEAD", "/kv/pair").is(200), "TTL"), "3600");
    assert_eq!(rig.ask("GET", "/kv/stays").is(200).header("TTL"), None);
    let list = rig.ask("GET", "/kv/").is(200);
    let items = list.json()["items"].clone();
    assert_eq!((&items[0]["key"], &items[0]["expires"]), (&json!("k"), &json!(expires)));
    assert_eq!(items[2]["expires"], Value::Null);
    let tag = header(&list, "ETag");
    // The list says when, not how long still: it is the same a moment later.
    let unchanged = rig.send("GET", "/kv/", &format!("If-None-Match: {tag}\r\n"), b"");
    assert_eq!(unchanged.status, 304);

    let gone = await_absent(&rig, "k");
    assert_eq!(gone.version(), format!("{version}-expired"), "later than before, as text");
    assert_eq!(gone.header("TTL"), None);
    let keys = |list: &Answer| {
        let items = list.json()["items"].as_array().expect("items").clone();
        items.iter().map(|item| item["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&rig.ask("GET", "/kv/").is(200)), ["pair", "stays"]);
    let on_it = format!("If-Match: \"{version}\"\r\n");
    let refused = rig.send("PUT", "/kv/k", &on_it, b"x").is(412);
    assert_eq!(
        refused.version(),
        format!("{version}-expired"),
        "what it is at, not what was asked"
    );
    rig.send("DELETE", "/kv/k", &on_it, b"").is(412);
    let batch =
        |ops: Value| rig.send("POST", "/kv/", "", json!({ "ops": ops }).to_string().as_bytes());
    let refused = batch(json!([{"check": "k", "if_version": version}])).is(412).json();
    assert_eq!(refused["version"], format!("{version}-expired"));
    let found = batch(json!([{"get": "k"}, {"check": "k", "if_version": ""}])).is(200);
    assert_eq!(found.json()["results"][0]["absent"], true);
    assert_eq!(sweep(&rig), 1);
    assert_eq!(rig.ask("GET", "/kv/k").is(404).version(), format!("{version}-expired"));
    rig.send("PUT", "/kv/k", "If-None-Match: *\r\n", b"again").is(200);
    assert_eq!(rig.ask("GET", "/kv/k").is(200).header("TTL"), None, "cleared");
}

#[test]
fn a_put_without_a_ttl_clears_it_and_one_with_it_sets_it_anew() {
    let rig = Rig::new();
    put(&rig, "/kv/a?ttl=1s");
    put(&rig, "/kv/b?ttl=1s");
    put(&rig, "/kv/c?ttl=1s");
    put(&rig, "/kv/a");
    put(&rig, "/kv/b?ttl=1h");
    await_absent(&rig, "c");
    assert_eq!(sweep(&rig), 1);
    assert_eq!(rig.ask("GET", "/kv/a").is(200).header("TTL"), None);
    assert_eq!(header(&rig.ask("GET", "/kv/b").is(200), "TTL").len(), "3599".len());
}

#[test]
fn a_ttl_that_cannot_be_is_refused_and_changes_nothing() {
    let rig = Rig::new();
    for ttl in ["", "0s", "500ms", "1500ms", "30", "-1s", "3654d", "1y", "soon", "1s%20"] {
        for target in [format!("/kv/k?ttl={ttl}"), format!("/kv/k/v?ttl={ttl}")] {
            let refused = rig.send("PUT", &target, "", b"").is(400);
            assert!(refused.text().contains("ttl="), "{}", refused.text());
        }
        let text = json!({"ops": [{"put": "k", "value": "v", "ttl": ttl}]}).to_string();
        rig.send("POST", "/kv/", "", text.as_bytes()).is(400);
    }
    rig.send("DELETE", "/kv/k?ttl=1s", "", b"").is(400);
    rig.ask("GET", "/kv/k?ttl=1s").is(400);
    let text = json!({"ops": [{"get": "k", "ttl": "1s"}]}).to_string();
    rig.send("POST", "/kv/", "", text.as_bytes()).is(400);
    rig.ask("GET", "/kv/k").is(404);
}

#[test]
fn nothing_that_expires_is_taken_while_a_member_does_not_know_it() {
    let rig = Rig::new();
    *rig.bridge.lacks_ttl.lock().unwrap() = Some("old-1".into());
    let refused = rig.send("PUT", "/kv/k?ttl=1s", "", b"v").is(503);
    assert!(refused.text().contains("a member does not know ttl yet: old-1"), "{}", refused.text());
    assert!(refused.header("Retry-After").is_some());
    let batch = |ttl: Value| json!({"ops": [{"put": "k", "value": "v", "ttl": ttl}]}).to_string();
    rig.send("POST", "/kv/", "", batch(json!("1s")).as_bytes()).is(503);
    rig.ask("GET", "/kv/k").is(404);
    put(&rig, "/kv/k");
    *rig.bridge.lacks_ttl.lock().unwrap() = None;
    let done = rig.send("POST", "/kv/", "", batch(json!("1h")).as_bytes()).is(200);
    assert!(done.json()["results"][0]["expires"].is_string(), "{}", done.text());
    assert_eq!(header(&rig.ask("GET", "/kv/k").is(200), "TTL"), "3600");
}

#[test]
fn whoever_waits_is_woken_by_an_expiry_and_told_of_it_once() {
    let rig = Rig::new();
    let version = put(&rig, "/kv/k?ttl=1s");
    let expired = format!("{version}-expired");
    let mut poll = rig.client();
    poll.request("GET", &format!("/kv/k?newer={version}&wait=30s"), "", b"");
    let mut events = Events::of(rig.client(), "/kv/?watch");
    assert!(events.next("put")["expires"].is_string());
    let token = events.next("sync")["token"].as_str().expect("a token").to_owned();
    let mut many = rig.client();
    many.request("GET", &format!("/kv/?since={token}&wait=30s"), "", b"");
    until("they wait", || rig.metric("http_watches") == 3.0);
    until("it expires", || sweep(&rig) == 1);
    assert_eq!(poll.answer().is(404).version(), expired);
    let told = events.next("delete");
    assert_eq!(told, json!({"event":"delete","key":"k","version":expired,"expired":true}));
    let page = many.answer().is(200).json();
    let item = &page["items"][0];
    assert_eq!((&item["deleted"], &item["expired"]), (&json!(true), &json!(true)), "{item}");
    // Who has been told is not told again, and nobody turns in circles.
    rig.ask("GET", &format!("/kv/k?newer={expired}&wait=0s")).is(304);
    let after = page["token"].as_str().expect("a token");
    rig.ask("GET", &format!("/kv/?since={after}&wait=0s")).is(304);
    // Who saw it put, and was away when it expired, is told.
    let mut late = Events::of(rig.client(), &format!("/kv/?watch&since={token}"));
    assert_eq!(late.next("delete")["expired"], true);
    rig.ask("GET", &format!("/kv/k?newer={version}&wait=0s")).is(404);
    put(&rig, "/kv/k");
    rig.ask("GET", &format!("/kv/k?newer={expired}&wait=0s")).is(200);
}

#[test]
fn a_key_expires_on_every_node_and_wakes_those_who_watch_there() {
    let [one, two] = Node::cluster::<2>(&["--profile", "local"], &[]);
    let ask =
        |node: &Node, method, target: &str| Client::to(node.http).ask(method, target, "", b"v");
    // Whoever has just joined may not have told yet that it knows such keys.
    until("both know ttl", || ask(&one, "PUT", "/kv/first?ttl=1h").status == 200);
    let version = ask(&one, "PUT", "/kv/k?ttl=2s&w=2").is(200).version();
    let expired = format!("{version}-expired");
    let mut events = Events::of(Client::to(two.http), "/kv/?watch");
    assert_eq!(events.next("put")["key"], "first");
    assert_eq!(events.next("put")["key"], "k");
    let token = events.next("sync")["token"].as_str().expect("a token").to_owned();
    let mut poll = Client::to(two.http);
    poll.request("GET", &format!("/kv/k?newer={version}&wait=30s"), "", b"");
    assert_eq!(events.next("delete")["version"], expired);
    assert_eq!(poll.answer().is(404).version(), expired);
    until("it is gone there, too", || ask(&one, "GET", "/kv/k").status == 404);
    assert_eq!(ask(&one, "GET", "/kv/first").is(200).header("TTL").map(str::len), Some(4));
    // A token from before it is good on the other node, and tells of it.
    until("it is swept", || {
        let page = ask(&one, "GET", &format!("/kv/?since={token}&wait=1s"));
        page.status == 200 && page.json()["items"][0]["expired"] == true
    });
    until("it is counted", || {
        let metrics = ask(&one, "GET", "/metrics").text();
        metrics.contains("\ngossipykv_ttl_keys 1\n")
            && metrics.contains("\ngossipykv_expired_total 1\n")
    });
}

#[test]
fn the_commands_write_and_show_and_carry_over_what_expires() {
    let [node] = Node::cluster::<1>(&["--profile", "local", "--bootstrap"], &[]);
    let run = |args: &[&str]| {
        let ended = node.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        String::from_utf8(ended.out).expect("text")
    };
    run(&["kv", "put", "k", "v", "--ttl", "1h"]);
    let shown: Value = serde_json::from_str(&run(&["kv", "get", "k", "--json"])).expect("JSON");
    assert_eq!(shown["ttl"], 3600);
    assert!(run(&["kv", "list", "--long"]).contains("  expires 20"));
    let refused = node.run(&["kv", "put", "k", "v", "--ttl", "500ms"]);
    assert_eq!(refused.code, Some(4));
    assert!(refused.err.contains("less than a second"), "{}", refused.err);
    run(&["kv", "put", "soon", "v", "--ttl", "1s"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("copy.ndjson");
    let path = path.to_str().expect("text");
    run(&["kv", "export", "--output", path]);
    let first = run(&["kv", "list", "--json"]);
    until("it expires", || Client::to(node.http).ask("GET", "/kv/soon", "", b"").status == 404);
    let told = run(&["kv", "import", "--overwrite", "--json", path]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["written"], &told["expired"]), (&json!(1), &json!(1)), "{told}");
    let line = |text: &str| serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap();
    let expires = |text: &str| line(text)["expires"].as_str().expect("when").to_owned();
    let (before, after) = (expires(&first), expires(&run(&["kv", "list", "--json"])));
    assert!(after <= before, "it lasts no longer than it would have: {before}, {after}");
    assert_eq!(before[..16], after[..16]);
    assert_eq!(Client::to(node.http).ask("GET", "/kv/soon", "", b"").status, 404);
}
