//! Tokens with roles, and their exchange while the server runs.

use super::http_rig::{Answer, Client, Rig, config, tokens, until};
use crate::agents::Node;
use crate::program::run;
use gossipykv::http::{Config, TokenList};
use gossipykv::node::command::Reply;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};

const FILE: &str = "# ours\nread grafana rrr\nwrite backend www\nadmin ops ooo\n";
const KEY: &[u8] = br#"{"key":"BwcHBwcHBwcHBwcHBwcHBw=="}"#;

fn ask(rig: &Rig, token: &str, method: &str, target: &str, body: &[u8]) -> Answer {
    let mut client = rig.client();
    client.ask(method, target, &format!("Authorization: Bearer {token}\r\n"), body)
}

#[test]
fn each_token_may_what_its_role_may() {
    let rig = Rig::with(Config { tokens: Some(tokens(FILE)), ..config() });
    rig.bridge.replies(|_, reply_to| {
        reply_to(Reply::Keys(Vec::new()));
        Ok(())
    });
    let check = |method, target, body: &[u8], expected: [u16; 3]| {
        for (token, status) in ["rrr", "www", "ooo"].into_iter().zip(expected) {
            let answer = ask(&rig, token, method, target, body);
            assert_eq!(answer.status, status, "{method} {target} by {token}");
            assert!(!answer.text().contains(token), "{method} {target}");
        }
    };
    check("PUT", "/kv/a", b"v", [403, 200, 200]);
    check("PUT", "/kv/a/v", b"", [403, 200, 200]);
    check("GET", "/kv/a", b"", [200, 200, 200]);
    check("GET", "/kv/", b"", [200, 200, 200]);
    check("GET", "/version", b"", [200, 200, 200]);
    check("GET", "/metrics", b"", [200, 200, 200]);
    check("DELETE", "/kv/a", b"", [403, 200, 200]);
    check("OPTIONS", "/kv/a", b"", [204, 204, 204]);
    check("GET", "/health", b"", [200, 200, 200]);
    // Who may not change anything is told so before anything else.
    check("POST", "/members", b"", [403, 403, 405]);
    check("GET", "/keys", b"", [403, 403, 200]);
    for target in ["/keys/install", "/keys/use", "/keys/remove"] {
        check("POST", target, KEY, [403, 403, 200]);
    }
    let told = ask(&rig, "rrr", "PUT", "/kv/a", b"v").is(403).text();
    assert!(told.contains("grafana") && told.contains("write"), "{told}");
    for wrong in ["rr", "rrrr", "RRR", "read", "grafana", "ours", "#"] {
        let answer = ask(&rig, wrong, "GET", "/kv/a", b"").is(401);
        assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"));
    }
    let metrics = ask(&rig, "ooo", "GET", "/metrics", b"").is(200).text();
    for (name, role) in [("grafana", "read"), ("backend", "write"), ("ops", "admin")] {
        let begin =
            format!("gossipykv_http_token_requests_total{{token=\"{name}\",role=\"{role}\"}} ");
        let n = metrics.lines().find_map(|line| line.strip_prefix(&*begin));
        assert!(n.is_some_and(|n| n.parse::<u32>().unwrap() > 10), "{name} in\n{metrics}");
    }
}

#[test]
fn what_waits_ends_with_its_token() {
    // A stream told on what was written after its token had been taken out of use.
    let shared = tokens("admin a aaa\nread b bbb\n");
    let rig = Rig::with(Config { tokens: Some(shared.clone()), ..config() });
    let wait = |token: &str, target: &str| {
        let mut client = rig.client();
        client.request("GET", target, &format!("Authorization: Bearer {token}\r\n"), b"");
        client
    };
    let mut streams = [wait("aaa", "/kv/?watch"), wait("bbb", "/kv/?watch")];
    let mut polls = [wait("aaa", "/kv/k?newer="), wait("bbb", "/kv/k?newer=")];
    let mut of_consul = wait("bbb", "/v1/kv/k?index=1&wait=55s");
    for stream in &mut streams {
        assert_eq!(stream.head().status, 200);
    }
    let n_watches = || ask(&rig, "aaa", "GET", "/metrics", b"").text();
    until("all wait", || n_watches().contains("\ngossipykv_http_watches 5\n"));
    // The name is another's now, which changes nothing.
    shared.exchange(TokenList::parse("admin b aaa\nread a new\n").unwrap());
    ask(&rig, "aaa", "PUT", "/kv/k", b"s3cret").is(200);
    let told = |stream: &mut Client, last: &str| {
        let mut told = String::new();
        while !told.contains(last) {
            told += &String::from_utf8(stream.chunk().expect("no end")).unwrap();
        }
        told
    };
    assert!(told(&mut streams[0], "s3cret").contains("\"put\""));
    let revoked = told(&mut streams[1], "bye");
    assert!(!revoked.contains("s3cret") && revoked.contains("token"), "{revoked}");
    polls[0].answer().is(200);
    polls[1].answer().is(401);
    // Its clients take a 401 for a Consul without tokens.
    assert_eq!(of_consul.answer().status, 403);
}

#[test]
fn an_exchange_under_load_refuses_nobody() {
    let shared = tokens("admin a old");
    let rig = Rig::with(Config { tokens: Some(shared.clone()), ..config() });
    let list = |text: &str| TokenList::parse(text).unwrap();
    let (is_new, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|threads| {
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let (addr, is_new, is_over) = (rig.addr, &is_new, &is_over);
                threads.spawn(move || {
                    let (mut client, mut n) = (Client::to(addr), 0);
                    while !is_over.load(Ordering::Relaxed) {
                        let token = if is_new.load(Ordering::Relaxed) { "new" } else { "old" };
                        let headers = format!("Authorization: Bearer {token}\r\n");
                        client.ask("PUT", "/kv/k", &headers, b"v").is(200);
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        for _ in 0..20 {
            shared.exchange(list("admin a old\nadmin b new"));
            is_new.store(true, Ordering::Relaxed);
            let n = rig.bridge.n_written.load(Ordering::Relaxed);
            // Each of them has asked with the new one by then.
            until("they ask", || rig.bridge.n_written.load(Ordering::Relaxed) > n + 100);
            shared.exchange(list("admin b new\nadmin a old"));
            is_new.store(false, Ordering::Relaxed);
        }
        is_over.store(true, Ordering::Relaxed);
        let n: u32 = askers.into_iter().map(|asker| asker.join().unwrap()).sum();
        assert!(n > 2_000, "{n}");
    });
    shared.exchange(list("admin b new"));
    ask(&rig, "old", "GET", "/kv/k", b"").is(401);
    ask(&rig, "new", "GET", "/kv/k", b"").is(200);
}

#[test]
fn a_file_is_read_again_when_it_changes_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    let path_text = path.display().to_string();
    std::fs::write(&path, FILE).expect("room");
    let mut node = Node::start("n", &["--http-token-file", &path_text], &[]);
    let addr = node.http;
    let status = |token: &str, method: &str| {
        let headers = format!("Authorization: Bearer {token}\r\n");
        Client::to(addr).ask(method, "/kv/k", &headers, b"").status
    };
    assert_eq!([status("www", "PUT"), status("rrr", "PUT"), status("rrr", "GET")], [200, 403, 200]);
    // Commands show the strongest of the file.
    let put = node.run(&["kv", "put", "k", "v", "--token-file", &path_text]);
    assert_eq!(put.code, Some(0), "{put:?}");
    assert_eq!(node.run(&["keys", "list", "--token-file", &path_text]).code, Some(0));
    // Exchanged as a whole, as a mounted secret is.
    let next = folder.path().join("next");
    std::fs::write(&next, FILE.replace("www", "xxx")).expect("room");
    std::fs::rename(&next, &path).expect("the same folder");
    until("the new one counts", || status("xxx", "PUT") == 200);
    assert_eq!(status("www", "PUT"), 401);
    let told = node.process.logged("the HTTP tokens are read anew");
    let shown = told["tokens"].as_str().expect("text").to_owned();
    assert!(shown.contains("write:backend:") && shown.contains("admin:ops:"), "{shown}");
    // A bad one changes nothing, and says why; so does one that is gone.
    std::fs::write(&path, "read a s3cret\nadmn b s3cret2\n").expect("room");
    let told = node.process.logged("the HTTP tokens stay as they were");
    let error = told["error"].as_str().expect("text").to_owned();
    assert!(error.contains("line 2: the role") && !error.contains("s3cret"), "{error}");
    assert_eq!(status("xxx", "PUT"), 200);
    std::fs::remove_file(&path).expect("it is there");
    let complaints =
        |node: &Node| node.process.log().matches("the HTTP tokens stay as they were").count();
    until("it says so", || complaints(&node) == 2);
    assert_eq!(status("xxx", "PUT"), 200);
    let metrics = |node: &Node| {
        let headers = "Authorization: Bearer rrr\r\n";
        Client::to(node.http).ask("GET", "/metrics", headers, b"").is(200).text()
    };
    assert!(metrics(&node).contains("\ngossipykv_http_tokens_stale 1\n"));
    // SIGHUP has it read at once, and does not end the process.
    std::fs::write(&path, FILE).expect("room");
    node.process.signal(Signal::HUP);
    until("the first ones count again", || status("www", "PUT") == 200);
    assert!(metrics(&node).contains("\ngossipykv_http_tokens_stale 0\n"));
    let log = node.process.log();
    for secret in ["rrr", "www", "xxx", "ooo", "s3cret"] {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
}

#[test]
fn a_file_that_would_block_is_refused_and_stops_neither_signals_nor_the_next_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    let path_text = path.display().to_string();
    std::fs::write(&path, FILE).expect("room");
    let mut node = Node::start("n", &["--http-token-file", &path_text], &[]);
    let blocks = || {
        let next = folder.path().join("next");
        mkfifoat(CWD, &next, Mode::RUSR | Mode::WUSR).expect("a pipe");
        std::fs::rename(&next, &path).expect("the same folder");
    };
    blocks();
    let told = node.process.logged("the HTTP tokens stay as they were");
    let error = told["error"].as_str().expect("text").to_owned();
    assert!(error.contains("not a regular file"), "{error}");
    let next = folder.path().join("next");
    std::fs::write(&next, FILE.replace("www", "xxx")).expect("room");
    std::fs::rename(&next, &path).expect("the same folder");
    node.process.logged("the HTTP tokens are read anew");
    blocks();
    let complaints =
        |node: &Node| node.process.log().matches("the HTTP tokens stay as they were").count();
    until("it says so", || complaints(&node) == 2);
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.end().0.code, Some(0));
    // It is told at the start, too.
    let ended = run(&["agent", "--http-token-file", &path_text]);
    assert!(ended.error(2).contains("not a regular file"), "{ended:?}");
    let ended = run(&["agent", "--encrypt-keys-file", &path_text]);
    assert!(ended.error(2).contains("not a regular file"), "{ended:?}");
}
