//! Clients that ask for much, and those beside them.

use super::http_rig::{Client, PATIENCE, Rig, config, until};
use crate::agents::Node;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gossipykv::http::Reason;
use gossipykv::limits::{HTTP_BULK_DEPTH_MAX, HTTP_BULK_WAITING_MAX, HTTP_CONNECTIONS_DEFAULT_MAX};
use gossipykv::node::command::{Busy, Command, Reply};
use gossipykv::runtime::clock::Clock;
use gossipykv::time::Instant;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

const LIST: &str = "GET /kv/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Connections for lists and long bodies.
const N_BULK: usize = 2;

/// Lists answered so far.
fn n_lists(rig: &Rig) -> usize {
    rig.metric("http_requests_total{route=\"/kv/\",status=\"2xx\"}") as usize
}

/// The most memory that a node has taken so far, in KiB.
fn peak_kib(node: &Node) -> usize {
    let status = format!("/proc/{}/status", node.process.pid().as_raw_nonzero());
    let text = std::fs::read_to_string(status).expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn what_nobody_waits_for_is_not_begun() {
    // All of it was worked off, and behind it the proof that the worker is alive: after 4,000 lists
    // that nobody waited for, the process took itself for stuck and ended.
    let rig = Rig::new();
    for key in ["/kv/a", "/kv/b"] {
        rig.send("PUT", key, "", &[0; 400 << 10]).is(200);
    }
    let n_clients = 400;
    let clients: Vec<Client> = (0..n_clients).map(|_| rig.client()).collect();
    for mut client in clients {
        client.raw(LIST);
    }
    until("they are forgotten", || rig.metric("http_connections") == 1.0);
    let n_worked_off = n_lists(&rig);
    assert!(n_worked_off < n_clients / 2, "{n_worked_off}");
    // Whoever still waits is answered.
    rig.ask("GET", "/kv/?keys").is(200);
}

#[test]
fn who_has_ended_sending_is_answered_all_the_same() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.raw(LIST);
    client.end();
    client.answer().is(200);
    assert!(client.is_closed());
}

#[test]
fn too_many_lists_are_refused_and_nothing_else() {
    let mut config = config();
    config.connections_max = HTTP_CONNECTIONS_DEFAULT_MAX;
    let rig = Rig::with(config);
    for key in ["/kv/a", "/kv/b"] {
        rig.send("PUT", key, "", &[0; 400 << 10]).is(200);
    }
    let n_clients = N_BULK * (HTTP_BULK_DEPTH_MAX + HTTP_BULK_WAITING_MAX) + 400;
    let mut clients: Vec<Client> = (0..n_clients).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.raw(LIST);
    }
    until("some are refused", || rig.server.n_refused(Reason::Busy) > 0);
    rig.send("PUT", "/kv/c", "", b"v").is(200);
    rig.ask("GET", "/kv/c").is(200);
    rig.ask("GET", "/health").is(200);
    let is_told = |client: &Client| {
        let mut begin = [0; 12];
        client.stream().set_nonblocking(true).unwrap();
        let n = client.stream().peek(&mut begin).unwrap_or(0);
        client.stream().set_nonblocking(false).unwrap();
        n == begin.len() && begin.ends_with(b"503")
    };
    until("one of them is told", || clients.iter().any(is_told));
    let told = clients.iter().position(is_told).unwrap();
    let answer = clients[told].answer().is(503);
    assert_eq!(answer.header("Retry-After"), Some("1"));
}

/// More clients than lists may wait, all of which ask for `target`.
fn crowd(rig: &Rig, target: &str) -> Vec<Client> {
    let n_clients = 2 * N_BULK * (HTTP_BULK_DEPTH_MAX + HTTP_BULK_WAITING_MAX);
    let mut clients: Vec<Client> = (0..n_clients).map(|_| rig.client()).collect();
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    clients.iter_mut().for_each(|client| client.raw(&request));
    until("all watch", || {
        assert_eq!(rig.server.n_refused(Reason::Busy), 0);
        rig.metric("http_watches") == n_clients as f64
    });
    clients
}

#[test]
fn streams_begin_together_however_many_they_are() {
    // They waited among the lists: of 10,000 clients that came back at once most were refused.
    let rig = Rig::new();
    drop(crowd(&rig, "/kv/?watch"));
}

#[test]
fn long_polls_are_asked_again_together_however_many_they_are() {
    // The same when they began, and whenever something changed.
    let rig = Rig::new();
    let token = rig.ask("GET", "/kv/").is(200).json()["token"].as_str().unwrap().to_owned();
    let clients = crowd(&rig, &format!("/kv/?since={token}&wait=55s"));
    rig.send("PUT", "/kv/a", "", b"v").is(200);
    for mut client in clients {
        assert_eq!(client.answer().is(200).json()["items"][0]["key"], "a");
    }
}

#[test]
fn long_values_stand_in_nobodys_way() {
    // They were made by the quick workers: what was quick waited behind them.
    let mut config = config();
    config.value_len_max = 4 << 20;
    let rig = Rig::with(config);
    let value = vec![0; 4 << 20];
    rig.send("PUT", "/kv/long", "", &value).is(200);
    rig.send("PUT", "/kv/short", "", b"v").is(200);
    let is_over = AtomicBool::new(false);
    let (n_read, took) = (AtomicUsize::new(0), &mut Vec::new());
    std::thread::scope(|threads| {
        for target in ["/kv/long", "/kv/long", "/kv/long?raw", "/kv/?limit=1"] {
            let (addr, is_over, n_read) = (rig.addr, &is_over, &n_read);
            threads.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let answer = Client::to(addr).ask("GET", target, "", b"").is(200);
                    assert!(answer.body.len() >= 4 << 20);
                    n_read.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut client = rig.client();
        until("all are read", || n_read.load(Ordering::Relaxed) >= 4);
        while took.len() < 200 || n_read.load(Ordering::Relaxed) < 16 {
            let clock = Clock::start();
            client.ask("GET", "/kv/short", "", b"").is(200);
            took.push(clock.instant().since(Instant::ZERO));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    took.sort_unstable();
    let (half, most) = (took[took.len() / 2], took[took.len() * 95 / 100]);
    assert!(
        half < Duration::from_millis(20) && most < Duration::from_millis(100),
        "{half:?} {most:?}"
    );
    until("nothing is held", || rig.metric("http_held_bytes") == 0.0);
}

#[test]
fn what_takes_time_lets_all_else_go_first() {
    // On one processor, workers that measured long values took most of it from the gate.
    let node = Node::start("n", &[], &[]);
    let tasks = format!("/proc/{}/task", node.process.pid().as_raw_nonzero());
    // A thread gives itself its name, at some time after it has begun.
    until("all have their names", || {
        let tasks = std::fs::read_dir(&tasks).expect("Linux").map(|task| task.expect("a thread"));
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks.map(name).any(|name| name.is_ok_and(|name| name == "http-gate\n"))
    });
    let tasks = std::fs::read_dir(tasks).expect("Linux").map(|task| task.expect("a thread"));
    let nice = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).expect("it runs");
        let (name, rest) = stat.rsplit_once(") ").expect("its name");
        let name = name.split_once('(').expect("its name").1.to_owned();
        let nice = rest.split(' ').nth(16).expect("a field");
        (name, nice.parse::<i32>().expect("a number"))
    };
    let mut all: Vec<(String, i32)> = tasks.map(nice).collect();
    all.sort();
    let usual = all.iter().find(|(name, _)| name == "gossip-engine").expect("the engine").1;
    let workers = all.iter().filter(|(name, _)| name.starts_with("http-"));
    let mut behind: Vec<i32> = workers.map(|(_, nice)| nice - usual).collect();
    behind.sort_unstable();
    let n = behind.len();
    assert_eq!(behind[n - N_BULK..], [5; N_BULK], "{all:?}");
    assert!(n > 2 * N_BULK && behind[..n - N_BULK].iter().all(|nice| *nice == 0), "{all:?}");
}

#[test]
fn a_long_value_costs_what_is_counted() {
    // Two readers of 16 MiB of zero bytes, six times as long in JSON, took 600 MB.
    let node = Node::start("n", &["--max-value-bytes=16777216"], &[]);
    let value = vec![0; 16 << 20];
    let put = Client::to(node.http).ask("PUT", "/kv/zeros", "", &value);
    assert_eq!(put.status, 200);
    let before = peak_kib(&node);
    for target in ["/kv/zeros", "/kv/?limit=9", "/kv/zeros?raw"] {
        let mut clients = [(); 2].map(|()| Client::to(node.http));
        for client in &mut clients {
            client.request("GET", target, "", b"");
        }
        std::thread::scope(|threads| {
            for client in &mut clients {
                threads.spawn(|| assert!(client.answer().is(200).body.len() >= value.len()));
            }
        });
        // They are held once, as they are stored, and each reader has a piece.
        let grown = peak_kib(&node).saturating_sub(before);
        assert!(grown < 24 << 10, "{target}: {grown} kB");
    }
}

#[test]
fn a_storm_of_one_source_costs_another_little() {
    // All kinds at once: lists whose clients go, slow readers, waits, and bodies that do not end.
    // The long form has 4,000, 300, 1,030 and 140 of them at a time, for ten minutes.
    const LEN: usize = 16 << 20;
    let node = Node::start("n", &["--max-value-bytes=16777216"], &[]);
    for (key, value) in [("long", vec![0; LEN]), ("less", vec![0; 1 << 20]), ("k", vec![b'v'])] {
        let put = Client::to(node.http).ask("PUT", &format!("/kv/{key}"), "", &value);
        assert_eq!(put.status, 200, "{key}");
    }
    let version = Client::to(node.http).ask("GET", "/kv/k", "", b"").is(200).version();
    let newer = format!("/kv/k?newer={version}&wait=60s");
    let mut other = Client::from("127.0.0.2", node.http);
    let mut ask = |target: &str| {
        let clock = Clock::start();
        other.ask("GET", target, "", b"").is(200);
        clock.instant().since(Instant::ZERO)
    };
    let mut took = Vec::new();
    let mut readers: Vec<Client> = (0..20).map(|_| Client::to(node.http)).collect();
    for (client, target) in readers.iter_mut().zip(["/kv/long?raw", "/kv/less"].iter().cycle()) {
        client.request("GET", target, "", b"");
    }
    let mut waiters: Vec<Client> = (0..200).map(|_| Client::to(node.http)).collect();
    waiters.iter_mut().for_each(|client| client.request("GET", &newer, "", b""));
    let mut writers: Vec<Client> = (0..140).map(|_| Client::to(node.http)).collect();
    for client in &mut writers {
        client.raw("PUT /kv/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n");
        client.raw_if_wanted([b'b'; 900_000]);
    }
    for _ in 0..12 {
        let mut leaving: Vec<Client> = (0..40).map(|_| Client::to(node.http)).collect();
        leaving.iter_mut().for_each(|client| client.raw(LIST));
        drop(leaving);
        took.extend(["/kv/k", "/live", "/metrics", "/kv/k?raw"].map(&mut ask));
    }
    // Some of the bodies were too much for one source, and nothing else was.
    assert!(node.metric("http_held_bytes") <= (96 << 20) as f64);
    drop((readers, waiters, writers));
    let is_over = || node.metric("http_held_bytes") + node.metric("http_waiting") == 0.0;
    until("all is given back", || is_over() && node.metric("http_connections") <= 2.0);
    took.sort_unstable();
    // Beside other tests, of a program that is not optimised; on its own a tenth of this.
    let most = took[took.len() * 95 / 100];
    assert!(most < Duration::from_millis(200), "{most:?}");
    let peak = peak_kib(&node);
    assert!(peak < 512 << 10, "{peak} KiB");
}

#[test]
fn a_long_value_comes_whole() {
    let mut config = config();
    config.value_len_max = 16 << 20;
    let rig = Rig::with(config);
    let text: String = ('\0'..'\u{3000}').collect::<String>().repeat(8);
    let bytes: Vec<u8> = (0..=255).cycle().take(300_001).collect();
    let mut client = rig.client();
    for value in [text.as_bytes(), &bytes, &[b'v'; (64 << 10) + 1]] {
        let version = client.ask("PUT", "/kv/k", "Content-Type: a/b\r\n", value).is(200).version();
        let raw = client.ask("GET", "/kv/k?raw", "", b"").is(200);
        assert!(raw.body == value && raw.header("Content-Type") == Some("a/b"));
        let json = client.ask("GET", "/kv/k", "", b"").is(200);
        assert_eq!((json.version(), raw.version()), (version.clone(), version.clone()));
        let head = client.ask("HEAD", "/kv/k", "", b"").is(200);
        assert_eq!(head.header("Content-Length"), Some(&*json.body.len().to_string()));
        let list = client.ask("GET", "/kv/", "", b"").is(200);
        let (json, list) = (json.json(), list.json());
        let shown = match std::str::from_utf8(value) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": STANDARD.encode(value) }),
        };
        assert!(json == json!({ "k": shown }));
        let item = json!({
            "key": "k", "value": shown, "type": "a/b", "version": version, "size": value.len()
        });
        assert!(list["items"] == json!([item]));
        let unless = format!("If-None-Match: \"{version}\"\r\n");
        client.ask("GET", "/kv/k", &unless, b"").is(304);
    }
    // Sent ahead, they come in order; what closes says so.
    client.raw("GET /kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(3));
    client.raw("GET /kv/k HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    for n in 0..4 {
        let answer = client.answer().is(200);
        assert_eq!(answer.header("Connection"), (n == 3).then_some("close"));
        assert_eq!(answer.body.len(), (64 << 10) + 1 + 8);
    }
    assert!(client.is_closed());
}

#[test]
fn one_version_is_counted_once_and_many_are_bounded() {
    let mut config = config();
    config.value_len_max = 16 << 20;
    let rig = Rig::with(config);
    let value = vec![b'v'; 16 << 20];
    let wait = |target: &str| {
        let mut client = rig.client();
        client.request("GET", target, "", b"");
        client
    };
    for n in 0..8 {
        rig.send("PUT", &format!("/kv/{n}"), "", &value).is(200);
    }
    // However many read it.
    let readers: Vec<Client> = (0..20).map(|_| wait("/kv/0?raw")).collect();
    until("all read", || rig.metric("http_connections") == 21.0);
    until("it is counted", || rig.metric("http_held_bytes") > 0.0);
    assert!(rig.metric("http_held_bytes") < (17 << 20) as f64);
    // One source may have three quarters of 128 MiB.
    let more: Vec<Client> = (1..8).map(|n| wait(&format!("/kv/{n}?raw"))).collect();
    until("some are refused", || rig.server.n_refused(Reason::Memory) >= 2);
    drop((readers, more));
    until("all is given back", || rig.metric("http_held_bytes") == 0.0);
}

#[test]
fn answers_that_were_promised_room_are_their_own_and_nobody_elses() {
    // Those that a worker had made before in the same turn went to the same client.
    let rig = Rig::new();
    let long = "k".repeat(200);
    let ops =
        |n| (0..128).map(|at| json!({"put": format!("{n}-{at}-{long}"), "value": "v"})).collect();
    let mut clients: Vec<Client> = (0..60).map(|_| rig.client()).collect();
    for _ in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            let ops: Vec<_> = ops(n);
            match n % 3 {
                0 => client.request("GET", &format!("/kv/?prefix={n}-&limit=1"), "", b""),
                _ => {
                    client.request("POST", "/kv/", "", json!({ "ops": ops }).to_string().as_bytes())
                }
            }
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let answer = client.answer().is(200).json();
            let key = |at: &str| answer.pointer(at).and_then(|key| key.as_str()).map(str::to_owned);
            match n % 3 {
                0 => assert_eq!(answer["items"], json!([]), "client {n}"),
                _ => assert_eq!(key("/results/127/key"), Some(format!("{n}-127-{long}"))),
            }
        }
    }
}

/// Bodies that lack their last byte, as many from a source as it may have held.
fn fill(rig: &Rig, source: &str) -> Vec<Client> {
    let (n_refused, mut clients) = (rig.server.n_refused(Reason::Memory), Vec::new());
    while rig.server.n_refused(Reason::Memory) == n_refused {
        let held = rig.metric("http_held_bytes");
        let (mut client, len) = (rig.client_from(source), 1 << 20);
        let head = "PUT /kv/held HTTP/1.1\r\nHost: localhost\r\nContent-Length: ";
        client.raw(format!("{head}{len}\r\n\r\n"));
        client.raw_if_wanted(vec![0; len - 1]);
        clients.push(client);
        until("it is held, or refused", || {
            rig.metric("http_held_bytes") > held + (len - (1 << 10)) as f64
                || rig.server.n_refused(Reason::Memory) > n_refused
        });
    }
    clients
}

#[test]
fn a_write_whose_answer_finds_no_room_is_not_made() {
    // It was made, and answered with 503: try again.
    let mut config = config();
    config.value_len_max = 3 << 20;
    let rig = Rig::with(config);
    rig.send("PUT", "/kv/long", "", &[b'v'; 3 << 20]).is(200);
    let batch = |key| json!({"ops": [{"put": key, "value": "v"}, {"get": "long"}]}).to_string();
    let get = json!({"KV": {"Verb": "get", "Key": "long"}});
    let txn = |key| json!([{"KV": {"Verb": "set", "Key": key, "Value": "dg=="}}, get]).to_string();
    let mut most = fill(&rig, "127.0.0.1");
    let full = rig.metric("http_held_bytes");
    drop(most.pop().and_then(|_refused| most.pop()));
    let has_room = || rig.metric("http_held_bytes") <= full - (1 << 20) as f64;
    until("there is some room", has_room);
    // What one source may have is no bound for what is done already.
    assert!(rig.send("POST", "/kv/", "", batch("a").as_bytes()).is(200).body.len() > 3 << 20);
    until("its answer is given back", has_room);
    assert!(rig.send("PUT", "/v1/txn", "", txn("b").as_bytes()).is(200).body.len() > 3 << 20);
    let rest: Vec<_> = (2..6).map(|n| fill(&rig, &format!("127.0.0.{n}"))).collect();
    let mut other = rig.client_from("127.0.0.9");
    let told = other.ask("POST", "/kv/", "", batch("c").as_bytes()).is(503);
    assert!(told.text().contains("nothing has changed"), "{}", told.text());
    assert_eq!(other.ask("PUT", "/v1/txn", "", txn("d").as_bytes()).status, 503);
    // Who has its share is refused before it is asked.
    rig.send("POST", "/kv/", "", batch("d").as_bytes()).is(503);
    for (key, status) in [("a", 200), ("b", 200), ("c", 404), ("d", 404)] {
        rig.ask("GET", &format!("/kv/{key}")).is(status);
    }
    drop((most, rest));
    until("all is given back", || rig.metric("http_held_bytes") == 0.0);
}

#[test]
fn a_write_that_the_node_cannot_be_asked_about_is_answered_once_and_gives_its_room_back() {
    let mut config = config();
    config.value_len_max = 3 << 20;
    let rig = Rig::with(config);
    rig.send("PUT", "/kv/long", "", &[b'v'; 3 << 20]).is(200);
    rig.bridge.replies(|command, reply_to| match command {
        Command::AwaitHolders { .. } => Err(Busy),
        _ => {
            reply_to(Reply::Stats(Vec::new()));
            Ok(())
        }
    });
    // It is promised room for what it reads.
    let batch = json!({"ops": [{"put": "a", "value": "v"}, {"get": "long"}]}).to_string();
    for _ in 0..3 {
        let told = rig.send("POST", "/kv/?w=2", "", batch.as_bytes()).is(504).text();
        assert!(told.contains("the write stands") && told.contains("too busy"), "{told}");
    }
    let name = "http_requests_total{route=\"/kv/\",status=\"5xx\"}";
    assert_eq!(rig.metric(name), 3.0);
    until("all is given back", || rig.metric("http_held_bytes") == 0.0);
}

#[test]
fn a_probe_waits_for_no_worker() {
    // It waited behind whatever the workers had to do.
    let rig = Rig::new();
    let (begun, is_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    rig.bridge.replies(move |_, reply_to| {
        begun.send(()).unwrap();
        let _ = may_go_on.recv_timeout(PATIENCE);
        reply_to(Reply::Members(Vec::new()));
        Ok(())
    });
    // More of them than there are workers, which all stand.
    let mut clients: Vec<Client> = (0..16).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.request("GET", "/members", "", b"");
    }
    is_begun.recv_timeout(PATIENCE).unwrap();
    let mut probe = rig.client();
    for target in ["/health", "/live"] {
        probe.ask("GET", target, "", b"").is(200);
        probe.ask("HEAD", target, "", b"").is(200);
        probe.ask("POST", target, "", b"body").is(405);
    }
    drop(go_on);
    for client in &mut clients {
        client.answer().is(200);
    }
}

#[test]
fn a_body_that_nobody_wants_is_not_held() {
    // 140 unfinished bodies to /health, without a token, and everybody else got 503.
    let rig = Rig::new();
    let part = "b".repeat(900_000);
    let mut clients = Vec::new();
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        for request in ["POST /health", "GET /kv/a", "PUT /members", "POST /none", "DELETE /kv/a"] {
            let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
            let mut client = rig.client();
            client.raw(head);
            if framing.contains("chunked") {
                client.raw(format!("{:x}\r\n", 1_000_000));
            }
            client.raw(&part);
            clients.push(client);
        }
    }
    assert_eq!(rig.metric("http_held_bytes"), 0.0);
    // The end of it is found all the same.
    for (n, client) in clients.iter_mut().enumerate() {
        client.raw("b".repeat(100_000));
        client.raw(if n < 5 { "" } else { "\r\n0\r\n\r\n" });
        client.raw("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let status = client.answer().status;
        assert!([200, 404, 405].contains(&status), "{status}");
        assert!(client.answer().is(200).text().contains("buildhash"));
    }
    // More than any body may have is refused as before.
    let mut client = rig.client();
    client.raw("GET /kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.raw(format!("{:x}\r\n{part}\r\n{:x}\r\n", part.len(), 200_000));
    client.answer().is(413);
}
