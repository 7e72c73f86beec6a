//! The routes of the contract, over a socket.

use super::http_rig::{Rig, TestBridge, config, tokens};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gossipykv::http::Config;
use gossipykv::node::command::{Busy, Health};
use serde_json::json;
use std::sync::atomic::Ordering;

#[test]
fn the_transcript_of_the_original() {
    let rig = Rig::new();
    let put = rig.ask_put("/kv/foo/bar");
    assert_eq!((put.status, put.text().as_str()), (200, r#"{"foo":"bar"}"#));
    let get = rig.ask("GET", "/kv/foo").is(200);
    assert_eq!(get.text(), r#"{"foo":"bar"}"#);
    assert_eq!(get.header("Content-Type"), Some("application/json"));
    assert_eq!(get.version(), put.version());
    let delete = rig.ask("DELETE", "/kv/foo").is(200);
    assert_eq!((delete.body.len(), delete.header("Content-Length")), (0, Some("0")));
    rig.ask("GET", "/kv/foo").is(404);
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 2);
}

impl Rig {
    /// A PUT whose value is in its path.
    fn ask_put(&self, target: &str) -> super::http_rig::Answer {
        let mut client = self.client();
        client.raw(format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        client.answer()
    }
}

#[test]
fn a_body_is_kept_with_its_type() {
    let rig = Rig::new();
    let put = rig.send("PUT", "/kv/a", "Content-Type: text/x-odd\r\n", b"\0\xff").is(200);
    let expected = json!({ "key": "a", "version": put.version(), "size": 2 });
    assert_eq!(put.json(), expected);
    let raw = rig.ask("GET", "/kv/a?raw").is(200);
    assert_eq!(
        (raw.body.as_slice(), raw.header("Content-Type")),
        (&b"\0\xff"[..], Some("text/x-odd"))
    );
    assert_eq!(raw.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(raw.version(), put.version());
    assert_eq!(rig.ask("GET", "/kv/a").json(), json!({ "a": { "base64": "AP8=" } }));
    let head = rig.ask("HEAD", "/kv/a?raw").is(200);
    assert_eq!(head.header("Content-Length"), Some("2"));
    rig.send("PUT", "/kv/a", "", b"").is(200);
    let raw = rig.ask("GET", "/kv/a?raw").is(200);
    assert_eq!(raw.header("Content-Type"), Some("application/octet-stream"));
    assert_eq!(rig.ask("GET", "/kv/a").text(), r#"{"a":""}"#);
}

#[test]
fn head_is_get_without_the_body() {
    let rig = Rig::new();
    rig.ask_put("/kv/k/value").is(200);
    let mut client = rig.client();
    for target in ["/kv/k", "/kv/k?raw", "/kv/none", "/kv/", "/", "/health", "/version", "/members"]
    {
        let get = client.ask("GET", target, "", b"");
        // On the same connection, so that a body sent by mistake would be seen.
        let head = client.ask("HEAD", target, "", b"");
        assert_eq!(head.status, get.status, "{target}");
        for name in ["Content-Length", "Content-Type", "ETag"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {target}");
        }
    }
}

#[test]
fn keys_and_values_of_all_kinds_come_back() {
    let rig = Rig::new();
    let cases: [(&str, &str, &[u8]); 8] = [
        ("a%2Fb", "a/b", b"slash"),
        ("a+b", "a+b", b"plus"),
        ("a%20b", "a b", b"space"),
        ("%F0%9F%A6%80", "\u{1f980}", "\u{1f980}".as_bytes()),
        ("%22%5C%0A%00", "\"\\\n\0", b"\"\\\n\0"),
        ("..", "..", b"dots"),
        ("%25", "%", b"%"),
        ("~!$&'()*,;=:@", "~!$&'()*,;=:@", b"\xc3\x28"),
    ];
    for (spelt, key, value) in cases {
        let put = rig.send("PUT", &format!("/kv/{spelt}"), "", value).is(200);
        assert_eq!(put.json()["key"], key);
        let json = rig.ask("GET", &format!("/kv/{spelt}")).is(200).json();
        let back = match json[key]["base64"].as_str() {
            Some(text) => STANDARD.decode(text).unwrap(),
            None => json[key].as_str().unwrap().as_bytes().to_vec(),
        };
        assert_eq!(back, value, "{spelt}");
        assert_eq!(rig.ask("GET", &format!("/kv/{spelt}?raw")).body, value);
    }
    // In a path, too, a value is any bytes.
    assert_eq!(rig.ask_put("/kv/p/a%2Fb+c").is(200).text(), r#"{"p":"a/b+c"}"#);
    assert_eq!(rig.ask_put("/kv/p/%FF").is(200).json(), json!({ "p": { "base64": "/w==" } }));
}

#[test]
fn a_key_may_stand_in_the_query() {
    // A proxy that decodes %2F made another key of a path, and no browser sends the path of "..".
    let rig = Rig::new();
    let cases = [
        ("a%2Fb", "a/b", "/kv/a%2Fb"),
        ("c/d", "c/d", "/kv/c%2Fd"),
        ("..", "..", "/kv/.."),
        (".", ".", "/kv/."),
        ("a+b%2B", "a b+", "/kv/a%20b+"),
        ("a=b", "a=b", "/kv/a=b"),
    ];
    for (spelt, key, path) in cases {
        let target = format!("/kv?key={spelt}");
        let put = rig.send("PUT", &target, "Content-Type: a/b\r\n", b"v").is(200);
        assert_eq!(put.json()["key"], key);
        for target in [&target, path, &format!("/kv/?key={spelt}")] {
            let get = rig.ask("GET", target).is(200);
            assert_eq!((get.json(), get.version()), (json!({ key: "v" }), put.version()));
            assert_eq!(rig.ask("HEAD", target).is(200).version(), put.version());
        }
        let raw = rig.ask("GET", &format!("/kv?raw&key={spelt}")).is(200);
        assert_eq!((raw.text().as_str(), raw.header("Content-Type")), ("v", Some("a/b")));
        rig.send("PUT", &target, "If-None-Match: *\r\n", b"w").is(412);
        rig.ask("DELETE", &format!("{target}&w=1")).is(200);
        rig.ask("GET", path).is(404);
    }
    let refused = [
        ("GET", "/kv?key", 400, "1 to 512"),
        ("GET", "/kv?key=", 400, "1 to 512"),
        ("GET", "/kv?key=a&key=a", 400, "twice"),
        ("GET", "/kv?key=a&prefix=b", 400, "prefix"),
        ("GET", "/kv/a?key=b", 400, "no such parameter: key"),
        ("PUT", "/kv/a/b?key=b", 400, "no such parameter: key"),
        ("GET", "/kv?key=%ff", 400, "not UTF-8"),
        ("POST", "/kv?key=a", 405, "PUT"),
        ("PUT", "/kv", 405, "/kv?key="),
    ];
    for (method, target, status, says) in refused {
        let answer = rig.send(method, target, "", b"").is(status);
        assert!(answer.text().contains(says), "{method} {target}: {}", answer.text());
    }
    let long = format!("/kv?key={}", "k".repeat(513));
    rig.ask("GET", &long).is(414);
    assert_eq!(rig.metric("http_requests_total{route=\"/kv/\",status=\"4xx\"}"), 1.0);
}

#[test]
fn what_is_malformed_is_named() {
    let rig = Rig::new();
    let check = |method: &str, target: &str, status: u16, says: &str| {
        let answer = match method {
            "PUT" => rig.send("PUT", target, "", b"v"),
            _ => rig.ask(method, target),
        };
        let text = answer.is(status).json()["error"].as_str().unwrap().to_owned();
        assert!(text.contains(says), "{method} {target}: {text}");
    };
    check("GET", "/kv/%zz", 400, "%zz");
    check("GET", "/kv/a%", 400, "no percent-encoding");
    check("GET", "/kv/%ff", 400, "not UTF-8");
    check("PUT", &format!("/kv/{}", "k".repeat(513)), 414, "512");
    check("PUT", &format!("/kv/{}", "%6b".repeat(513)), 414, "513");
    check("GET", "/kv//x", 405, "%2F");
    check("PUT", "/kv//", 404, "%2F");
    check("PUT", "/kv/a/b/c", 404, "%2F");
    check("PUT", "/kv/a/", 404, "%2F");
    check("PUT", "/kv/a/b", 400, "given twice");
    check("GET", "/kv/a?recurse", 400, "raw");
    check("GET", "/kv/a?raw=maybe", 400, "raw=maybe");
    check("PUT", "/kv/a?W=all", 400, "w, timeout");
    check("PUT", "/kv/a?w=some", 400, "majority");
    check("PUT", "/kv/a?w=all&timeout=1h", 400, "60s");
    check("DELETE", "/kv/a?w=0", 400, "majority");
    check("GET", "/kv/?limit=0", 400, "1000");
    check("GET", "/kv/?limit=x", 400, "1000");
    check("GET", "/kv/?prefix=%", 400, "prefix");
    check("GET", "/kv/?after=%ff", 400, "after");
    check("GET", "/nothing", 404, "/nothing");
    check("GET", "/health/", 404, "GET /");
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 0);
    let list = rig.ask("GET", "/kv/").json();
    assert_eq!((&list["items"], &list["next"]), (&json!([]), &json!(null)));
}

#[test]
fn a_method_not_there_is_told_which_are() {
    let rig = Rig::new();
    let check = |method: &str, target: &str, allow: &str| {
        let answer = rig.ask(method, target).is(405);
        assert_eq!(answer.header("Allow"), Some(allow), "{method} {target}");
    };
    check("POST", "/kv/a", "GET, HEAD, PUT, DELETE, OPTIONS");
    check("PATCH", "/kv/a", "GET, HEAD, PUT, DELETE, OPTIONS");
    check("GET", "/kv/a/b", "PUT, OPTIONS");
    check("PUT", "/kv/", "GET, HEAD, POST, DELETE, OPTIONS");
    check("DELETE", "/members", "GET, HEAD, OPTIONS");
    check("POST", "/health", "GET, HEAD, OPTIONS");
    check("GET", "/keys/use", "POST, OPTIONS");
    check("TRACE", "/", "GET, HEAD, OPTIONS");
    rig.ask("BREW", "/").is(501);
}

#[test]
fn sizes_are_bounded() {
    let mut config = config();
    config.value_len_max = 10_000;
    let rig = Rig::over(config, TestBridge::new(20_000));
    rig.send("PUT", "/kv/a", "", &[b'v'; 10_000]).is(200);
    let error = rig.send("PUT", "/kv/a", "", &[b'w'; 10_001]).is(413);
    assert!(error.text().contains("10000"));
    assert_eq!(rig.ask("GET", "/kv/a?raw").body, [b'v'; 10_000]);
    rig.send("PUT", "/kv/b", "", &[b'v'; 9_000]).is(200);
    let full = rig.send("PUT", "/kv/c", "", &[b'v'; 2_000]).is(507);
    assert!(full.text().contains("20000"));
    rig.ask("GET", "/kv/c").is(404);
    // A delete is taken whatever it is about, until the store is full of deletes and after that.
    for n in 0..100 {
        rig.ask("DELETE", &format!("/kv/unknown-{n}")).is(200);
    }
    let error =
        rig.send("PUT", "/kv/t", &format!("Content-Type: {}\r\n", "t".repeat(256)), b"v").is(400);
    assert!(error.text().contains("255"));
    let mut client = rig.client();
    client.raw("PUT /kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.answer().is(411);
    // A small limit holds for values in paths as well.
    let mut config = super::http_rig::config();
    config.value_len_max = 3;
    let rig = Rig::with(config);
    rig.ask_put("/kv/a/1234").is(413);
    rig.ask_put("/kv/a/123").is(200);
}

#[test]
fn a_large_value_has_a_length_and_no_chunks() {
    let rig = Rig::new();
    let value: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    rig.send("PUT", "/kv/big", "Content-Type: image/x\r\n", &value).is(200);
    let mut client = rig.client();
    let raw = client.ask("GET", "/kv/big?raw", "", b"").is(200);
    assert_eq!(raw.header("Transfer-Encoding"), None);
    assert!(raw.body == value);
    let json = client.ask("GET", "/kv/big", "TE: chunked\r\n", b"").is(200).json();
    assert!(STANDARD.decode(json["big"]["base64"].as_str().unwrap()).unwrap() == value);
    // Text may grow sixfold.
    rig.send("PUT", "/kv/big", "", &[0; 1 << 20]).is(200);
    assert_eq!(client.ask("GET", "/kv/big", "", b"").is(200).body.len(), 10 + (6 << 20));
}

#[test]
fn conditions_compare_with_this_node() {
    let rig = Rig::new();
    let etag = |answer: &super::http_rig::Answer| format!("\"{}\"", answer.version());
    let create = "If-None-Match: *\r\n";
    let first = rig.send("PUT", "/kv/k", create, b"1").is(200);
    let error = rig.send("PUT", "/kv/k", create, b"2").is(412);
    assert!(error.text().contains(&first.version()));
    let fresh = format!("If-None-Match: {}\r\n", etag(&first));
    let unchanged = rig.send("GET", "/kv/k", &fresh, b"").is(304);
    assert_eq!((unchanged.version(), unchanged.header("Content-Length")), (first.version(), None));
    let only = format!("If-Match: {}\r\n", etag(&first));
    rig.send("PUT", "/kv/k", &only, b"2").is(200);
    rig.send("PUT", "/kv/k", &only, b"3").is(412);
    rig.send("DELETE", "/kv/k", &only, b"").is(412);
    rig.send("GET", "/kv/k", &only, b"").is(412);
    let get = rig.send("GET", "/kv/k", &fresh, b"").is(200);
    assert_eq!(get.text(), r#"{"k":"2"}"#);
    rig.send("DELETE", "/kv/k", &format!("If-Match: {}\r\n", etag(&get)), b"").is(200);
    rig.send("DELETE", "/kv/k", "If-Match: *\r\n", b"").is(412);
    rig.send("GET", "/kv/k", "If-None-Match: x\r\n", b"").is(400);
}

#[test]
fn a_list_goes_on_where_it_ended() {
    let rig = Rig::new();
    for n in 0..2_500 {
        let store = gossipykv::node::command::Bridge::store(&*rig.bridge);
        let now = gossipykv::node::command::Bridge::now(&*rig.bridge);
        store.put(now, format!("k {n:04}").as_bytes(), b"v", None).unwrap();
    }
    rig.send("PUT", "/kv/other", "", b"\xff").is(200);
    let (mut keys, mut target) = (Vec::new(), "/kv/?prefix=k+&limit=5000".to_owned());
    loop {
        let page = rig.ask("GET", &target).is(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 1_000);
        keys.extend(items.iter().map(|item| item["key"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/kv/?prefix=k%20&after={}", next.replace(' ', "%20"));
    }
    assert_eq!(keys, (0..2_500).map(|n| format!("k {n:04}")).collect::<Vec<_>>());
    let page = rig.ask("GET", "/kv?prefix=o").is(200).json();
    let item = &page["items"][0];
    assert_eq!(item["value"], json!({ "base64": "/w==" }));
    assert_eq!(item["version"], rig.ask("GET", "/kv/other").version());
    let page = rig.ask("GET", "/kv/?prefix=o&keys").is(200).json();
    assert!(page["items"][0].get("value").is_none());
    assert_eq!((&page["items"][0]["size"], page["items"][0].get("type")), (&json!(1), None));
    let typed = rig.send("PUT", "/kv/other", "Content-Type: a/b\r\n", b"four");
    typed.is(200);
    for path in ["/kv/?prefix=o", "/kv/?prefix=o&keys"] {
        let item = &rig.ask("GET", path).is(200).json()["items"][0];
        assert_eq!((&item["size"], &item["type"]), (&json!(4), &json!("a/b")));
    }
}

#[test]
fn a_list_of_large_values_ends_early_and_says_so() {
    let rig = Rig::new();
    for n in 0..10 {
        rig.send("PUT", &format!("/kv/{n}"), "", &[b'v'; 1 << 20]).is(200);
    }
    let page = rig.ask("GET", "/kv/").is(200).json();
    let items = page["items"].as_array().unwrap().len();
    assert!((1..10).contains(&items), "{items}");
    assert_eq!(page["next"], items.saturating_sub(1).to_string());
    assert_eq!(rig.ask("GET", "/kv/?keys").json()["items"].as_array().unwrap().len(), 10);
}

#[test]
fn probes_tell_the_state() {
    let rig = Rig::new();
    assert_eq!(rig.ask("GET", "/health").is(200).text(), r#"{"status":"ok"}"#);
    assert_eq!(rig.ask("GET", "/live").is(200).text(), r#"{"status":"ok"}"#);
    for (health, text) in [(Health::Starting, "starting"), (Health::Leaving, "leaving")] {
        *rig.bridge.health.lock().unwrap() = health;
        let answer = rig.ask("GET", "/health");
        let why = match health {
            Health::Starting => "it is a \"test\"",
            _ => "this node is leaving the cluster: ask another one",
        };
        let expected = json!({ "status": text, "why": why });
        assert_eq!((answer.status, answer.json()), (503, expected));
        assert!(answer.header("Retry-After").is_some());
    }
    *rig.bridge.health.lock().unwrap() = Health::Ok;
    rig.bridge.is_live.store(false, Ordering::Relaxed);
    assert_eq!(rig.ask("GET", "/live").status, 503);
    let answer = rig.ask("GET", "/health");
    let expected = json!({ "status": "stalled", "why": "it does not turn" });
    assert_eq!((answer.status, answer.json()), (503, expected));
}

/// Everything that reads the store; whether the request is taken all the same.
#[track_caller]
fn reads_are(rig: &Rig, status: [u16; 4]) {
    let [get, put_if, delete_if, delete_unless] = status;
    for target in ["/kv/a", "/kv/a?raw", "/kv/", "/kv", "/kv/?prefix=a&limit=1", "/kv/?keys"] {
        let answer = rig.ask("GET", target).is(get);
        if get == 503 {
            assert!(answer.text().contains("it is a \\\"test\\\""), "{}", answer.text());
            assert_eq!(answer.header("Retry-After"), Some("1"));
            assert_eq!(answer.header("ETag"), None, "{target}");
        }
        assert_eq!(rig.ask("HEAD", target).status, get);
    }
    let unless = "If-None-Match: *\r\n";
    let only = "If-Match: \"0000000000000001-0000000000000002\"\r\n";
    rig.send("GET", "/kv/a", only, b"").is(if get == 503 { 503 } else { 412 });
    rig.send("PUT", "/kv/a", unless, b"mine").is(put_if);
    rig.send("PUT", "/kv/a/mine", unless, b"").is(put_if);
    rig.send("PUT", "/kv/a?w=all", only, b"mine").is(put_if);
    rig.send("DELETE", "/kv/a", only, b"").is(delete_if);
    rig.send("DELETE", "/kv/none", unless, b"").is(delete_unless);
}

#[test]
fn a_node_that_is_not_complete_neither_reads_nor_judges() {
    let rig = Rig::new();
    let version = rig.send("PUT", "/kv/a", "", b"v").is(200).version();
    *rig.bridge.health.lock().unwrap() = Health::Starting;
    reads_are(&rig, [503; 4]);
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 1, "nothing has changed");
    // What is wrong with a request is told at any time.
    rig.ask("GET", "/kv/%FF").is(400);
    rig.ask("GET", "/kv/?limit=0").is(400);
    rig.send("PUT", "/kv/a", "If-Match: x\r\n", b"v").is(400);
    // Plain writes merge with what comes.
    rig.send("PUT", "/kv/b", "", b"v").is(200);
    rig.send("PUT", "/kv/c/v", "", b"").is(200);
    rig.ask("DELETE", "/kv/d").is(200);
    for target in ["/", "/live", "/members", "/metrics", "/version"] {
        rig.ask("GET", target).is(200);
    }
    rig.ask("GET", "/keys");
    // A node that leaves holds what it held; one that never had all does not get it by leaving.
    for health in [Health::Ok, Health::Leaving] {
        *rig.bridge.health.lock().unwrap() = health;
        assert_eq!(rig.ask("GET", "/kv/a").is(200).version(), version);
        rig.ask("GET", "/kv/").is(200);
    }
    *rig.bridge.health.lock().unwrap() = Health::Starting;
    rig.server.set_not_ready();
    let answer = rig.ask("GET", "/kv/a").is(503);
    assert!(answer.text().contains("leaving the cluster"), "{}", answer.text());
}

#[test]
fn who_wants_may_have_it_serve_while_it_starts() {
    let rig = Rig::with(Config { serves_while_starting: true, ..config() });
    rig.send("PUT", "/kv/a", "", b"v").is(200);
    *rig.bridge.health.lock().unwrap() = Health::Starting;
    reads_are(&rig, [200, 412, 412, 200]);
    assert_eq!(rig.ask("GET", "/health").status, 503);
}

#[test]
fn readiness_is_a_metric_even_when_the_node_is_stuck() {
    let rig = Rig::new();
    let reason = |kind: &str| rig.metric(&format!("not_ready{{reason=\"{kind}\"}}"));
    assert_eq!((rig.metric("ready"), reason("copying")), (1.0, 0.0));
    *rig.bridge.health.lock().unwrap() = Health::Starting;
    assert_eq!((rig.metric("ready"), reason("copying")), (0.0, 1.0));
    rig.bridge.is_live.store(false, Ordering::Relaxed);
    rig.bridge.replies(|_, _| Err(Busy));
    assert_eq!((rig.metric("ready"), reason("stalled"), reason("copying")), (0.0, 1.0, 0.0));
    assert_eq!(rig.metric("node_replies"), 0.0);
}

#[test]
fn version_members_and_page() {
    let rig = Rig::new();
    let expected = json!({ "version": "1.2.3", "buildhash": "abc123", "builddate": "2025-01-01" });
    assert_eq!(rig.ask("GET", "/version").is(200).json(), expected);
    let row = |name, address, state, kv| {
        let mut row = json!({ "name": name, "address": address, "state": state, "incarnation": 3,
            "kv": kv, "me": kv, "udp": if kv { "open" } else { "blocked" }, "tcp": "open" });
        if kv {
            row["formats"] = json!("2-3");
        }
        row
    };
    let rows = [
        row("one", "127.0.0.1:7947", "alive", true),
        row("two \"2\"", "[::1]:7947", "suspect", false),
    ];
    assert_eq!(rig.ask("GET", "/members").is(200).json(), json!({ "members": rows }));
    let page = rig.ask("GET", "/").is(200);
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(page.header("Content-Security-Policy").unwrap().contains("default-src 'none'"));
    let text = page.text();
    assert!(text.contains("/members") && text.is_ascii());
    // Behind a prefix of a proxy an address that begins with / leads elsewhere.
    for absolute in ["href=\"/", "ask(\"/", "ask(`/", "href = `/", "location.origin"] {
        assert!(!text.contains(absolute), "{absolute}");
    }
    // Complete in itself: nothing is fetched from elsewhere.
    assert!(!text.contains("src=") && !text.contains("https://"));
}

#[test]
fn the_token_guards_all_but_the_probes() {
    let mut config = config();
    config.tokens = Some(tokens("s3cret"));
    let rig = Rig::with(config);
    rig.ask("GET", "/health").is(200);
    rig.ask("GET", "/live?x").is(200);
    for target in
        ["/", "/kv/a", "/kv/", "/members", "/metrics", "/version", "/keys", "/%68ealth", "/none"]
    {
        let answer = rig.ask("GET", target).is(401);
        assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"), "{target}");
        assert!(!answer.text().contains("s3cret"));
    }
    for wrong in ["Bearer s3cre", "Bearer s3crett", "Basic s3cret", "s3cret", "Bearer"] {
        rig.send("GET", "/kv/a", &format!("Authorization: {wrong}\r\n"), b"").is(401);
    }
    // A wrong one is told at once, whatever it wants to send.
    let mut client = rig.client();
    client.raw("PUT /kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
    client.answer().is(401);
    assert!(client.is_closed());
    let right = "Authorization: Bearer s3cret\r\n";
    rig.send("PUT", "/kv/a", right, b"v").is(200);
    rig.send("GET", "/kv/a", right, b"").is(200);
    rig.send("GET", "/kv/a", "authorization:   bearer s3cret  \r\n", b"").is(200);
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 1);
}
