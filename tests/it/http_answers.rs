//! Every answer belongs to its own request: in its form, with its version.

use super::http_rig::{Answer, Client, Rig, TestBridge, config, tokens};

/// With a token, which a client may lack.
fn guarded() -> Rig {
    let mut config = config();
    config.tokens = Some(tokens("s3cret"));
    Rig::with(config)
}

/// What the gate refuses by itself, as what follows the method, and with which status.
fn refused() -> Vec<(String, u16)> {
    let after = |target: &str, headers: &str| format!(" {target} HTTP/1.1\r\n{headers}\r\n");
    let host = "Host: localhost\r\n";
    vec![
        (after("/kv/a", host), 401),
        (after(&format!("/kv/{}", "k".repeat(9_000)), host), 414),
        (after("/kv/a", ""), 400),
        (after("/kv/a", &format!("{host}X : y\r\n")), 400),
        (after("/kv/a", &format!("{host}X: {}\r\n", "x".repeat(17_000))), 431),
        (after("/kv/a", &format!("{host}Expect: the-best\r\n")), 417),
        (after("/kv/a", &format!("{host}Transfer-Encoding: gzip\r\n")), 501),
        (after("/kv/a b", host), 400),
        (after("/kv/a", host).replace("1.1", "2.0"), 505),
    ]
}

/// Reads a refusal in the form of this method, after which nothing comes but the end.
#[track_caller]
fn told(client: &mut Client, method: &str, status: u16) -> Answer {
    let answer = if method == "HEAD" { client.head() } else { client.answer() };
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(answer.header("Content-Length").unwrap().parse::<usize>().unwrap() > 0);
    assert_eq!(answer.body.is_empty(), method == "HEAD", "{method} {status}");
    assert!(client.is_closed(), "{method} {status}: nothing follows");
    answer.is(status)
}

#[test]
fn a_refusal_has_the_form_of_its_own_request() {
    // The form was that of the request before: a GET after a HEAD was refused without the body it
    // announced, and a HEAD before everything else with one.
    let rig = guarded();
    for (rest, status) in refused() {
        for method in ["GET", "HEAD", "PUT"] {
            let mut client = rig.client();
            client.raw_if_wanted(format!("{method}{rest}"));
            told(&mut client, method, status);
            for (before, is_head) in [("HEAD", true), ("GET", false)] {
                let mut client = rig.client();
                client.raw(format!("{before} /health HTTP/1.1\r\nHost: localhost\r\n\r\n"));
                let answer = if is_head { client.head() } else { client.answer() };
                answer.is(200);
                client.raw_if_wanted(format!("{method}{rest}"));
                told(&mut client, method, status);
            }
        }
    }
}

#[test]
fn a_slow_request_is_told_so_in_its_form() {
    let mut config = config();
    config.timing.head = std::time::Duration::from_millis(100);
    let rig = Rig::with(config);
    let mut client = rig.client();
    client.ask("GET", "/health", "", b"").is(200);
    client.raw("HEAD /kv/a HTTP/1.1\r\n");
    told(&mut client, "HEAD", 408);
    let mut client = rig.client();
    client.ask("HEAD", "/health", "", b"").is(200);
    client.raw("GET /kv/a HTTP/1.1\r\n");
    told(&mut client, "GET", 408);
}

#[test]
fn curl_reads_a_refusal_after_a_head() {
    let rig = guarded();
    let health = format!("http://{}/health", rig.addr);
    let head = ["--head", &health, "--next", "--silent", "--show-error"];
    let shown = rig.curl(&head, "/kv/a");
    assert!(shown.contains("Authorization: Bearer TOKEN"), "{shown}");
}

#[test]
fn every_answer_about_a_key_has_its_version() {
    let rig = Rig::over(config(), TestBridge::new(20_000));
    let put = rig.send("PUT", "/kv/a", "", b"v").is(200);
    let version = put.version();
    // Those that a condition refuses, and those for which there is no room.
    let unless = "If-None-Match: *\r\n";
    let only = "If-Match: \"0000000000000001-0000000000000002\"\r\n";
    assert_eq!(rig.send("PUT", "/kv/a", unless, b"w").is(412).version(), version);
    assert_eq!(rig.send("PUT", "/kv/a/w", only, b"").is(412).version(), version);
    assert_eq!(rig.send("DELETE", "/kv/a", only, b"").is(412).version(), version);
    assert_eq!(rig.send("GET", "/kv/a", only, b"").is(412).version(), version);
    assert_eq!(rig.send("HEAD", "/kv/a", only, b"").is(412).version(), version);
    assert_eq!(rig.send("PUT", "/kv/a", "", &[b'v'; 30_000]).is(507).version(), version);
    // A delete has a version, too; what was never there has none.
    let deleted = rig.ask("DELETE", "/kv/a").is(200).version();
    assert_eq!(rig.ask("GET", "/kv/a").is(404).version(), deleted);
    assert_eq!(rig.send("PUT", "/kv/a", only, b"w").is(412).version(), deleted);
    assert_eq!(rig.send("PUT", "/kv/never", only, b"w").is(412).header("ETag"), None);
}

#[test]
fn a_cache_asks_before_it_answers() {
    // A cache in between kept what it liked for as long as it liked: 404s and lists, too.
    let rig = Rig::new();
    let put = rig.send("PUT", "/kv/a", "", b"v").is(200);
    let fresh = format!("If-None-Match: \"{}\"\r\n", put.version());
    let asked = [
        ("GET", "/kv/a", ""),
        ("HEAD", "/kv/a?raw", ""),
        ("GET", "/kv/a?raw", ""),
        ("GET", "/kv/a", &fresh),
        ("GET", "/kv/none", ""),
        ("GET", "/kv/", ""),
        ("GET", "/kv/?limit=x", ""),
        ("GET", "/kv/a/b", ""),
        ("PUT", "/kv/b", ""),
        ("PUT", "/kv/a", "If-Match: \"x\"\r\n"),
        ("DELETE", "/kv/b", ""),
        ("GET", "/version", ""),
        ("GET", "/", ""),
    ];
    for (method, target, headers) in asked {
        let answer = rig.send(method, target, headers, b"");
        assert_eq!(answer.header("Cache-Control"), Some("no-cache"), "{method} {target}");
    }
    for target in ["/health", "/live", "/members", "/metrics"] {
        let answer = rig.ask("GET", target).is(200);
        assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{target}");
    }
    let rig = guarded();
    assert_eq!(rig.ask("GET", "/kv/a").is(401).header("Cache-Control"), Some("no-cache"));
}

#[test]
fn tags_are_taken_as_proxies_return_them() {
    // Each was a 412 that named the very version sent.
    let rig = Rig::new();
    let mut version = rig.send("PUT", "/kv/a", "", b"v").is(200).version();
    for spelt in ["W/\"V\"", "\"V-gzip\"", "\"V-br\"", "W/\"V-zstd\"", "\"x\", ,\"V\",", ",\"V\""] {
        let only = format!("If-Match: {}\r\n", spelt.replace('V', &version));
        let unless = only.replace("If-Match", "If-None-Match");
        rig.send("GET", "/kv/a", &unless, b"").is(304);
        version = rig.send("PUT", "/kv/a", &only, b"v").is(200).version();
        rig.send("PUT", "/kv/a", &only, b"v").is(412);
    }
    // A list may be spread over lines.
    let lines = format!("If-Match: \"x\"\r\nIf-Match: \"{version}\"\r\nIf-Match:\r\n");
    let version = rig.send("PUT", "/kv/a", &lines, b"v").is(200).version();
    let lines = format!("If-None-Match: \"x\", \"y\"\r\nIf-None-Match: \"{version}\"\r\n");
    rig.send("GET", "/kv/a", &lines, b"").is(304);
    rig.send("GET", "/kv/a", "If-Match: *\r\nIf-Match: \"x\"\r\n", b"").is(400);
}

#[test]
fn a_list_has_a_tag_of_its_own() {
    let rig = Rig::new();
    rig.send("PUT", "/kv/a", "", b"v").is(200);
    let list = rig.ask("GET", "/kv/").is(200);
    let tag = list.version();
    assert_eq!(rig.ask("GET", "/kv/").version(), tag);
    assert_eq!(rig.ask("HEAD", "/kv/").version(), tag);
    assert_ne!(rig.ask("GET", "/kv/?keys").version(), tag);
    let fresh = format!("If-None-Match: W/\"{tag}\"\r\n");
    let same = rig.send("GET", "/kv/", &fresh, b"").is(304);
    assert_eq!((same.version(), same.header("Cache-Control")), (tag.clone(), Some("no-cache")));
    rig.send("GET", "/kv/", &fresh.replace("None-", ""), b"").is(200);
    // The same value written again is another version.
    rig.send("PUT", "/kv/a", "", b"v").is(200);
    let list = rig.send("GET", "/kv/", &fresh, b"").is(200);
    assert_ne!(list.version(), tag);
    let other = rig.send("GET", "/kv/", &fresh.replace("None-", ""), b"").is(412);
    assert_eq!(other.version(), list.version());
}
