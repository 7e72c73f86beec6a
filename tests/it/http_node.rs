//! What the node has to be asked for: members, numbers, keys, holders of a write.

use super::http_rig::{Answer, PATIENCE, Rig, config, tokens, until};
use gossipykv::http::{Config, HostName, Server, local};
use gossipykv::kv::OriginId;
use gossipykv::limits::{HTTP_ASKING_MAX, HTTP_WAITING_MAX};
use gossipykv::node::command::{Bridge as _, Busy, Command, Concern, KeyCommand, Reply, ReplyTo};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Replies to every command with this, and keeps the commands.
fn replying(rig: &Rig, reply: impl Fn() -> Reply + Send + 'static) -> Arc<Mutex<Vec<Command>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let commands = Arc::clone(&asked);
    rig.bridge.replies(move |command, reply_to| {
        commands.lock().unwrap().push(command);
        reply_to(reply());
        Ok(())
    });
    asked
}

/// Replies to nothing from now on, and keeps what it was to reply with.
fn silent(rig: &Rig) -> Arc<Mutex<Vec<ReplyTo>>> {
    let kept: Arc<Mutex<Vec<ReplyTo>>> = Arc::default();
    let keep = Arc::clone(&kept);
    rig.bridge.replies(move |_, reply_to| {
        keep.lock().unwrap().push(reply_to);
        Ok(())
    });
    kept
}

#[test]
fn a_write_waits_for_as_many_as_it_asks_for() {
    let rig = Rig::new();
    let asked = replying(&rig, || Reply::Holders { held: 2, wanted: 2 });
    let put = rig.send("PUT", "/kv/a?w=majority&timeout=500ms", "", b"v").is(200);
    assert_eq!(put.json(), json!({ "key": "a", "version": put.version(), "size": 1 }));
    let mut client = rig.client();
    client.raw("PUT /kv/a/b?w=all HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.answer().is(200).text(), r#"{"a":"b"}"#);
    let delete = rig.ask("DELETE", "/kv/a?w=3").is(200);
    assert_eq!((delete.body.len(), delete.version().len()), (0, 33));
    // This node alone is enough: nobody is asked.
    rig.send("PUT", "/kv/a?w=1", "", b"v").is(200);
    let asked = asked.lock().unwrap();
    let concerns = [Concern::Majority, Concern::All, Concern::Count(3)];
    assert_eq!(asked.len(), concerns.len());
    let now = rig.bridge.now().instant;
    for (n, (command, expected)) in asked.iter().zip(concerns).enumerate() {
        let Command::AwaitHolders { dot, concern, deadline } = command else {
            panic!("{command:?}")
        };
        assert_eq!((dot.origin, dot.seq, *concern), (OriginId(7), n as u64 + 1, expected));
        assert!(*deadline < now + Duration::from_secs(2));
    }
}

#[test]
fn a_write_held_by_too_few_stands_and_says_so() {
    let rig = Rig::new();
    replying(&rig, || Reply::Holders { held: 1, wanted: 3 });
    let answer = rig.send("PUT", "/kv/a?w=all", "", b"v").is(504);
    let json = answer.json();
    assert_eq!((&json["held"], &json["wanted"]), (&json!(1), &json!(3)));
    assert_eq!(json["version"], answer.version());
    assert_eq!(rig.ask("GET", "/kv/a").is(200).version(), answer.version());
    let head = rig.ask("DELETE", "/kv/a?w=2").is(504);
    assert_eq!(head.json()["held"], 1);
    rig.ask("GET", "/kv/a").is(404);
    // The node refuses to wait, or takes no command: the write stands all the same.
    replying(&rig, || Reply::Refused("too many wait".into()));
    let answer = rig.send("PUT", "/kv/b?w=all", "", b"v").is(504);
    assert!(answer.text().contains("too many wait"));
    rig.bridge.replies(|_, _| Err(Busy));
    let answer = rig.send("PUT", "/kv/c?w=all", "", b"v").is(504);
    assert_eq!(answer.json()["version"], answer.version());
    rig.ask("GET", "/kv/b").is(200);
    rig.ask("GET", "/kv/c").is(200);
}

#[test]
fn a_node_that_is_silent_is_not_awaited_for_ever() {
    let rig = Rig::new();
    let kept = silent(&rig);
    rig.send("PUT", "/kv/a?w=all&timeout=1ms", "", b"v").is(504);
    let answer = rig.ask("GET", "/members").is(503);
    assert_eq!(answer.header("Retry-After"), Some("1"));
    // Our own numbers are told even so.
    assert_eq!(rig.metric("node_replies"), 0.0);
    // The node drops its end, as it does when it has ended.
    rig.bridge.replies(|_, _| Ok(()));
    rig.ask("GET", "/members").is(503);
    rig.bridge.replies(|_, _| Err(Busy));
    rig.ask("GET", "/members").is(503);
    assert_eq!(rig.metric("node_replies"), 0.0);
    assert_eq!(kept.lock().unwrap().len(), 3);
}

#[test]
fn those_that_wait_are_bounded_and_none_is_written_in_vain() {
    let rig = Rig::with(trusting());
    let kept = silent(&rig);
    // One source may take seven eighths of the places that the others have left.
    let sources = (2..).map(|n| format!("127.0.0.{n}"));
    let share = |left: usize| (left * 7).div_ceil(8);
    let mut clients = Vec::new();
    for source in sources {
        for _ in 0..share(HTTP_WAITING_MAX - clients.len()) {
            let mut client = rig.client_from(&source);
            client.request("PUT", "/kv/k?w=all&timeout=60s", "", b"v");
            clients.push(client);
        }
        until("all wait", || kept.lock().unwrap().len() == clients.len());
        if clients.len() == HTTP_WAITING_MAX {
            break;
        }
    }
    let answer = rig.send("PUT", "/kv/more?w=all", "", b"v").is(503);
    assert_eq!(answer.header("Retry-After"), Some("1"));
    rig.ask("GET", "/kv/more").is(404);
    rig.send("PUT", "/kv/more", "", b"v").is(200);
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), HTTP_WAITING_MAX as u64 + 1);
    // Questions to the node have places of their own.
    let waiting = std::mem::take(&mut *kept.lock().unwrap());
    rig.bridge.replies(|command, reply_to| {
        reply_to(match command {
            Command::Members => Reply::Members(Vec::new()),
            _ => Reply::Keys(Vec::new()),
        });
        Ok(())
    });
    rig.ask("GET", "/members").is(200);
    rig.ask("GET", "/keys").is(200);
    assert_eq!(rig.metric("http_waiting"), HTTP_WAITING_MAX as f64);
    for reply_to in waiting {
        reply_to(Reply::Holders { held: 9, wanted: 9 });
    }
    for client in &mut clients {
        client.answer().is(200);
    }
    rig.bridge.replies(|_, reply_to| {
        reply_to(Reply::Holders { held: 9, wanted: 9 });
        Ok(())
    });
    rig.send("PUT", "/kv/k?w=all", "", b"v").is(200);
}

#[test]
fn one_source_leaves_places_to_wait_to_others() {
    let rig = Rig::new();
    let kept = silent(&rig);
    let n_share = HTTP_ASKING_MAX * 7 / 8;
    let mut clients: Vec<_> = (0..n_share).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.request("GET", "/members", "", b"");
    }
    until("all wait", || kept.lock().unwrap().len() == n_share);
    let told = rig.ask("GET", "/members").is(503);
    assert_eq!(told.header("Retry-After"), Some("1"));
    let mut other = rig.client_from("127.0.0.2");
    other.request("GET", "/members", "", b"");
    until("it waits", || kept.lock().unwrap().len() == n_share + 1);
    for reply_to in kept.lock().unwrap().drain(..) {
        reply_to(Reply::Members(Vec::new()));
    }
    other.answer().is(200);
    // The numbers of HTTP itself are told whoever else asks: the node's are left out.
    let mut more: Vec<_> = (0..HTTP_ASKING_MAX).map(|_| rig.client()).collect();
    for client in &mut more {
        client.request("GET", "/metrics", "", b"");
    }
    until("all wait", || kept.lock().unwrap().len() == HTTP_ASKING_MAX);
    let answer = rig.ask("GET", "/metrics").is(200).text();
    assert!(answer.contains("\ngossipykv_node_replies 0\n"), "{answer}");
}

#[test]
fn a_wait_ends_when_the_server_does() {
    // Its client was cut off without an answer after the time that a drain may take.
    let rig = Rig::new();
    let kept = silent(&rig);
    let (mut put, mut clear) = (rig.client(), rig.client());
    put.request("PUT", "/kv/k?w=5&timeout=20s", "", b"v");
    until("one waits", || !kept.lock().unwrap().is_empty());
    clear.request("DELETE", "/kv/?prefix=k&w=5&timeout=20s", "", b"");
    until("both wait", || kept.lock().unwrap().len() >= 2);
    let Rig { server, .. } = rig;
    std::thread::scope(|threads| {
        threads.spawn(move || Server::drain(server, PATIENCE));
        for client in [&mut put, &mut clear] {
            let told = client.answer().is(504).text();
            assert!(told.contains("the write stands") && told.contains("leaving"), "{told}");
        }
    });
}

#[test]
fn a_wait_ends_with_its_client() {
    // 1,030 writes with w=2 and a timeout of 60 s, each given up at once: places were taken for as
    // long, in the gate and in the node.
    let rig = Rig::new();
    let (begun, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (tell_begun, tell_ended) = (Arc::clone(&begun), Arc::clone(&ended));
    rig.bridge.replies(move |command, reply_to| {
        match command {
            Command::AwaitHolders { dot, .. } => tell_begun.lock().unwrap().push((dot, reply_to)),
            Command::EndWait { dot } => tell_ended.lock().unwrap().push(dot),
            _ => reply_to(Reply::Stats(Vec::new())),
        }
        Ok(())
    });
    let mut clients: Vec<_> = (0..20).map(|_| rig.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.request("PUT", "/kv/k?w=2&timeout=60s", "", b"v");
        if n % 2 == 0 {
            // What is sent ahead does not hide it.
            client.request("GET", "/kv/k", "", b"");
        }
    }
    until("all wait", || begun.lock().unwrap().len() == clients.len());
    assert_eq!(rig.metric("http_waiting"), clients.len() as f64);
    let mut stays = clients.pop().expect("the last one");
    drop(clients);
    until("their places are free", || rig.metric("http_waiting") == 1.0);
    let mut dots: Vec<_> = ended.lock().unwrap().clone();
    dots.sort_unstable();
    dots.dedup();
    assert_eq!(dots.len(), 19);
    let mut begun = std::mem::take(&mut *begun.lock().unwrap());
    begun.retain(|(dot, _)| !dots.contains(dot));
    assert_eq!(begun.len(), 1);
    for (_, reply_to) in begun {
        reply_to(Reply::Holders { held: 2, wanted: 2 });
    }
    stays.answer().is(200);
}

#[test]
fn metrics_count_what_happened() {
    let rig = Rig::new();
    rig.send("PUT", "/kv/a", "", b"v").is(200);
    rig.ask("GET", "/kv/a").is(200);
    rig.ask("GET", "/kv/b").is(404);
    rig.ask("GET", "/none").is(404);
    let answer = rig.ask("GET", "/metrics").is(200);
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    let lines = [
        "gossipykv_http_requests_total{route=\"/kv/{key}\",status=\"2xx\"} 2",
        "gossipykv_http_requests_total{route=\"/kv/{key}\",status=\"4xx\"} 1",
        "gossipykv_http_requests_total{route=\"other\",status=\"4xx\"} 1",
        "gossipykv_http_connections 1",
        "gossipykv_http_connections_total 5",
        "gossipykv_http_request_duration_seconds_count 4",
        "gossipykv_http_request_duration_seconds_bucket{le=\"+Inf\"} 4",
        "gossipykv_members{state=\"alive\"} 2",
        "gossipykv_node_replies 1",
        "gossipykv_build_info{version=\"1.2.3\",commit=\"abc123\"} 1",
        "# TYPE gossipykv_http_request_duration_seconds histogram",
        "# TYPE gossipykv_http_requests_total counter",
        "# TYPE gossipykv_members gauge",
    ];
    for line in lines {
        assert!(text.lines().any(|seen| seen == line), "no {line} in\n{text}");
    }
    // Every sample is described, and every family once.
    for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
        assert_eq!(text.matches(line).count(), 1, "{line}");
    }
    // The next look finds this one.
    assert_eq!(rig.metric("http_requests_total{route=\"/metrics\",status=\"2xx\"}"), 1.0);
}

const BODY: &[u8] = br#"{"key":"BwcHBwcHBwcHBwcHBwcHBw=="}"#;

/// A server that takes loopback for a proof.
fn trusting() -> Config {
    Config { keys_on_loopback: true, ..config() }
}

#[test]
fn keys_are_for_nobody_without_a_token() {
    // Through a proxy on this host that adds no header, anybody could change the gossip keys.
    let rig = Rig::new();
    let asked = replying(&rig, || Reply::Keys(Vec::new()));
    for host in ["localhost", "127.0.0.1:8080", "[::1]"] {
        let mut client = rig.client();
        for (method, target) in [
            ("GET", "/keys"),
            ("HEAD", "/keys"),
            ("POST", "/keys/install"),
            ("POST", "/keys/use"),
            ("POST", "/keys/remove"),
        ] {
            let len = BODY.len();
            client.raw(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n"));
            client.raw(format!("Content-Length: {len}\r\n\r\n"));
            client.raw(BODY);
            let answer = if method == "HEAD" { client.head() } else { client.answer() };
            assert_eq!(answer.status, 403, "{method} {target}");
        }
    }
    rig.send("GET", "/keys", "Authorization: Bearer guessed\r\n", b"").is(403);
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn a_command_on_this_host_is_told_a_secret_for_the_keys() {
    let rig = Rig::new();
    let asked = replying(&rig, || Reply::Keys(Vec::new()));
    let secret = local::ask(&[rig.addr]).expect("the same user").expect("it is there");
    let headers = format!("Authorization: Bearer {secret}\r\n");
    rig.send("GET", "/keys", &headers, b"").is(200);
    rig.send("POST", "/keys/use", &headers, BODY).is(200);
    assert_eq!(asked.lock().unwrap().len(), 2);
    // Each run and each server has its own, whichever address it listens on.
    let other = Rig::with(Config { listen: "[::]:0".parse().unwrap(), ..config() });
    other.send("GET", "/keys", &headers, b"").is(403);
    let port = other.addr.port();
    for at in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let told = local::ask(&[at.parse().unwrap()]).expect("the same user");
        assert!(told.is_some_and(|told| told != secret), "{at}");
    }
    // A server with a token takes it as well: it tells it to nobody who could not read the token.
    let rig = Rig::with(Config { tokens: Some(tokens("s3cret")), ..config() });
    replying(&rig, || Reply::Keys(Vec::new()));
    let secret = local::ask(&[rig.addr]).expect("the same user").expect("it is there");
    rig.send("GET", "/keys", &format!("Authorization: Bearer {secret}\r\n"), b"").is(200);
    rig.send("GET", "/keys", &headers, b"").is(401);
    // It goes with its server.
    let addr = rig.addr;
    drop(rig);
    until("nobody tells", || local::ask(&[addr]) == Ok(None));
}

#[test]
fn keys_are_rotated_over_loopback_where_that_is_switched_on() {
    let rig = Rig::with(trusting());
    let asked = replying(&rig, || {
        Reply::Keys(vec![
            ("one".into(), Ok(vec!["0a1b".into(), "2c3d".into()])),
            ("two".into(), Err("not reached".into())),
        ])
    });
    let expected = json!({ "members": [
        { "name": "one", "keys": ["0a1b", "2c3d"] },
        { "name": "two", "error": "not reached" },
    ] });
    assert_eq!(rig.ask("GET", "/keys").is(200).json(), expected);
    for action in ["install", "use", "remove"] {
        let answer = rig.send("POST", &format!("/keys/{action}"), "", BODY).is(200);
        assert_eq!(answer.json(), expected);
    }
    let key = vec![7; 16];
    let commands = [
        KeyCommand::List,
        KeyCommand::Install(key.clone()),
        KeyCommand::Use(key.clone()),
        KeyCommand::Remove(key),
    ];
    assert_eq!(*asked.lock().unwrap(), commands.map(Command::Keys));
    let wrong = rig.send("POST", "/keys/install", "", br#"{"key":"c2hvcnQ="}"#).is(400);
    assert!(!wrong.text().contains("c2hvcnQ"));
    replying(&rig, || Reply::Refused("the key is in use".into()));
    assert!(rig.send("POST", "/keys/remove", "", BODY).is(409).text().contains("in use"));
}

#[test]
fn keys_are_for_nobody_who_speaks_for_others() {
    // A name of the server makes nobody local, whichever names it goes by.
    let rig = Rig::with(Config { hosts: vec![HostName::Any], ..trusting() });
    let asked = replying(&rig, || Reply::Keys(Vec::new()));
    let refuse = |head: String| -> Answer {
        let mut client = rig.client();
        client.raw(
            [format!("{head}Content-Length: {}\r\n\r\n", BODY.len()).as_bytes(), BODY].concat(),
        );
        client.answer().is(403)
    };
    // A page whose name points here; a page of another origin; a proxy on this host.
    refuse("POST /keys/install HTTP/1.1\r\nHost: evil.example:8080\r\n".into());
    for header in [
        "Origin: http://evil.example",
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "Via: 1.1 x",
    ] {
        refuse(format!("POST /keys/install HTTP/1.1\r\nHost: localhost\r\n{header}\r\n"));
    }
    assert!(asked.lock().unwrap().is_empty());
    // Everything else is open to them.
    rig.send("GET", "/kv/a", "Origin: http://x\r\n", b"").is(404);
    // With a token, the token decides and nothing else.
    let rig = Rig::with(Config { tokens: Some(tokens("s3cret")), ..config() });
    let asked = replying(&rig, || Reply::Keys(Vec::new()));
    rig.ask("GET", "/keys").is(401);
    let right = "Authorization: Bearer s3cret\r\nX-Forwarded-For: 10.0.0.1\r\n";
    rig.send("GET", "/keys", right, b"").is(200);
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[test]
fn keys_are_not_for_other_hosts() {
    // Another address of this machine stands for another host: such a peer is not on loopback.
    let Some(ip) = outside_address() else {
        println!("no address but loopback here: not tried");
        return;
    };
    let rig = Rig::with(Config { listen: (ip, 0).into(), ..trusting() });
    let asked = replying(&rig, || Reply::Keys(Vec::new()));
    rig.ask("GET", "/keys").is(403);
    rig.send("POST", "/keys/install", "", BODY).is(403);
    assert!(asked.lock().unwrap().is_empty());
    rig.ask("GET", "/kv/a").is(404);
}

/// An address of this host that is not loopback; nothing is sent to find it.
fn outside_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}
