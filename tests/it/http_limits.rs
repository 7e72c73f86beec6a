//! The gate's bounds: time, connections, memory; and its end.

use super::http_rig::{Client, PATIENCE, Rig, config, until};
use gossipykv::http::{Config, Reason};
use gossipykv::limits::{CONSUL_LIST_LEN_MAX, HTTP_HELD_LEN_MAX};
use gossipykv::node::command::{Bridge as _, Reply};
use std::io::Read as _;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

/// Clients may take as little time as this.
fn hasty() -> Config {
    let mut config = config();
    config.timing.head = SHORT;
    config.timing.body = SHORT;
    config.timing.idle = SHORT;
    config.timing.reader = SHORT;
    config.timing.reader_rate_min = 1 << 30;
    config
}

#[test]
fn a_slow_head_is_told_so() {
    // tiny_http waits for ever, with a thread each.
    let rig = Rig::with(hasty());
    let mut client = rig.client();
    client.raw("GET / HTTP/1.1\r\nHost:");
    assert!(client.answer().is(408).text().contains("0.2 s"));
    assert!(client.is_closed());
    // A byte now and then does not help: the limit is for the whole head.
    let mut client = rig.client();
    let (sent, is_done) = mpsc::channel();
    let mut writer = client.stream().try_clone().unwrap();
    let dribble = std::thread::Builder::new().spawn(move || {
        use std::io::Write as _;
        for byte in "GET / HTTP/1.1\r\n".bytes().chain(std::iter::repeat(b'x')) {
            if writer.write_all(&[byte]).is_err() || is_done.recv_timeout(SHORT / 8).is_ok() {
                return;
            }
        }
    });
    client.answer().is(408);
    sent.send(()).unwrap();
    dribble.unwrap().join().unwrap();
    assert_eq!(rig.server.n_refused(Reason::Slow), 2);
}

#[test]
fn a_slow_body_is_told_so() {
    let rig = Rig::with(hasty());
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut client = rig.client();
        client.raw(format!("PUT /kv/k HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n5\r\nhel"));
        client.answer().is(408);
        assert!(client.is_closed());
    }
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 0);
}

#[test]
fn a_body_gets_time_by_its_length() {
    // An upload that came on steadily was 408 after a minute, with most of it through.
    let mut config = hasty();
    config.timing.writer_rate_min = 10;
    let rig = Rig::with(config);
    for (framing, body) in [("Content-Length: 50", ""), ("Transfer-Encoding: chunked", "32\r\n")] {
        let mut client = rig.client();
        let head = format!("PUT /kv/k HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{body}");
        client.raw(head);
        for _ in 0..10 {
            client.raw("v".repeat(5));
            std::thread::sleep(SHORT / 2);
        }
        client.raw_if_wanted(if body.is_empty() { "" } else { "\r\n0\r\n\r\n" });
        assert_eq!(client.answer().is(200).json()["size"], 50);
        // Once it stops, what it has sent before earns nothing.
        let mut client = rig.client();
        let head = format!("PUT /kv/k HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{body}");
        client.raw(format!("{head}{}", "v".repeat(49)));
        std::thread::sleep(4 * SHORT);
        client.answer().is(408);
    }
    // What has not come earns no time.
    let mut client = rig.client();
    client.raw("PUT /kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nv");
    client.answer().is(408);
}

#[test]
fn who_reads_nothing_gets_no_time_by_length() {
    // It could hold the whole answer for as long as reading it slowly takes.
    let mut config = config();
    config.value_len_max = 16 << 20;
    config.timing.reader = SHORT;
    config.timing.reader_rate_min = 1 << 20;
    let rig = Rig::with(config);
    rig.send("PUT", "/kv/big", "", &[0; 16 << 20]).is(200);
    let mut client = rig.client();
    client.request("GET", "/kv/big", "", b"");
    // What the sockets take in counts as read: a few of the 96 MiB.
    until("it is cut off", || rig.server.n_refused(Reason::Slow) == 1);
    until("what it held is given back", || rig.metric("http_held_bytes") == 0.0);
}

#[test]
fn who_stops_reading_is_cut_off_soon() {
    // Having read much at once, it could hold the rest for almost an hour.
    let mut config = config();
    config.value_len_max = 16 << 20;
    config.timing.reader = 2 * SHORT;
    config.timing.reader_rate_min = 1 << 20;
    let rig = Rig::with(config);
    rig.send("PUT", "/kv/big", "", &[0; 16 << 20]).is(200);
    let mut client = rig.client();
    client.request("GET", "/kv/big", "", b"");
    let mut part = vec![0; 40 << 20];
    client.head().is(200);
    client.read_exact(&mut part);
    // It was given 40 s.
    until("it is cut off", || rig.server.n_refused(Reason::Slow) == 1);
    until("what it held is given back", || rig.metric("http_held_bytes") == 0.0);
}

#[test]
fn who_still_sends_can_read_why_it_is_too_much() {
    // The connection was reset after 32 MiB, and the client saw a broken pipe.
    let rig = Rig::new();
    let part = vec![b'v'; 1 << 20];
    for framing in [format!("Content-Length: {}", 40 << 20), "Transfer-Encoding: chunked".into()] {
        let mut client = rig.client();
        client.raw(format!("PUT /kv/k HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"));
        for _ in 0..40 {
            client.raw([b"100000\r\n", &part[..], b"\r\n"].concat());
        }
        assert!(client.answer().is(413).text().contains("1048576"));
        client.end();
        assert!(client.is_closed());
    }
}

#[test]
fn a_kept_connection_is_told_for_how_long() {
    // Pools that keep a connection as long as the gate does met its end now and then.
    let told = |client: &mut Client, headers: &str| {
        let answer = client.ask("GET", "/kv/none", headers, b"").is(404);
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        (header("Keep-Alive"), header("Connection"))
    };
    let expect = |keep: &str, connection: &str| (keep.to_owned(), connection.to_owned());
    let rig = Rig::new();
    let mut client = rig.client();
    assert_eq!(told(&mut client, ""), expect("timeout=75", ""));
    assert_eq!(told(&mut client, "Connection: close\r\n"), expect("", "close"));
    let mut client = rig.client();
    client.raw("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.answer().is(200);
    assert_eq!(answer.header("Keep-Alive"), Some("timeout=75"));
    assert_eq!(answer.header("Connection"), Some("keep-alive"));
    let mut config = config();
    config.timing.idle = Duration::from_secs(1);
    let rig = Rig::with(config);
    let mut client = rig.client();
    assert_eq!(told(&mut client, ""), expect("timeout=1", ""));
    assert!(client.is_closed());
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let rig = Rig::with(hasty());
    assert!(rig.client().is_closed());
    assert_eq!(rig.server.n_refused(Reason::Slow), 0);
    let mut config = config();
    config.timing.idle = Duration::from_secs(1);
    let rig = Rig::with(config);
    let mut client = rig.client();
    // Longer than the limit, all in all.
    for _ in 0..6 {
        client.ask("GET", "/health", "", b"").is(200);
        std::thread::sleep(SHORT);
    }
    assert!(client.is_closed());
    assert_eq!(rig.server.n_refused(Reason::Slow), 0);
}

#[test]
fn a_slow_reader_is_cut_off_and_delays_nobody() {
    let mut config = config();
    config.timing.reader = SHORT;
    config.timing.reader_rate_min = 1 << 30;
    let rig = Rig::with(config);
    rig.send("PUT", "/kv/big", "", &[b'v'; 1 << 20]).is(200);
    // More of them than there are lines to tiny_http. Each asks for more than sockets buffer.
    let slow: Vec<Client> = (0..32)
        .map(|_| {
            let mut client = rig.client();
            client.raw("GET /kv/big?raw HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20));
            client
        })
        .collect();
    for _ in 0..100 {
        rig.ask("GET", "/health").is(200);
        rig.ask("GET", "/kv/none").is(404);
    }
    until("the slow readers are cut off", || rig.server.n_refused(Reason::Slow) >= 32);
    drop(slow);
    until("what they held is given back", || rig.metric("http_held_bytes") == 0.0);
}

#[test]
fn too_many_connections_are_turned_away_and_told() {
    let mut config = config();
    config.connections_max = 4;
    let rig = Rig::with(config);
    let mut clients: Vec<Client> = (0..4).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.ask("GET", "/health", "", b"").is(200);
    }
    let mut more = rig.client();
    let answer = more.answer().is(503);
    assert_eq!(answer.header("Retry-After"), Some("1"));
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(answer.text().contains('4'));
    drop(clients.pop());
    until("there is a place again", || {
        let mut client = rig.client();
        client.raw_if_wanted("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.answer().status == 200
    });
    let refused = clients[0].ask("GET", "/metrics", "", b"").text();
    assert!(refused.contains("gossipykv_http_refusals_total{reason=\"connections\"}"), "{refused}");
}

#[test]
fn a_source_that_floods_gets_its_own_probes_answered() {
    let mut config = config();
    config.connections_max = 64;
    config.timing.head = PATIENCE;
    let rig = Rig::with(config);
    // All that it may have, and more than are told at one time, and again while it is asked.
    let mut silent: Vec<Client> = (0..500).map(|_| rig.client()).collect();
    for _ in 0..20 {
        rig.ask("GET", "/live").is(200);
        silent.extend((0..20).map(|_| rig.client()));
    }
    until("the first have made room", || rig.server.n_refused(Reason::Connections) > 0);
    assert_eq!(rig.server.n_connections(), 56);
}

#[test]
fn silent_connections_keep_nobody_out() {
    // 4,096 that never sent anything made /live 503, and whoever probed ended the process.
    let mut config = config();
    config.connections_max = 64;
    config.timing.head = PATIENCE;
    let rig = Rig::with(config);
    let silent: Vec<Client> = (0..100).map(|_| rig.client()).collect();
    until("it has what it may have", || rig.server.n_connections() == 56);
    // A probe is answered, also one from the same address.
    for target in ["/live", "/health"] {
        let mut probe = rig.client();
        let answer = probe.ask("GET", target, "", b"").is(200);
        assert_eq!(answer.header("Connection"), Some("close"));
        assert!(probe.is_closed());
        assert_eq!(rig.client().ask("HEAD", target, "", b"").status, 200);
    }
    let mut told = rig.client();
    let answer = told.ask("GET", "/kv/a", "", b"").is(503);
    assert_eq!(
        (answer.header("Retry-After"), answer.header("Connection")),
        (Some("1"), Some("close"))
    );
    assert_eq!(rig.client().ask("HEAD", "/kv/a", "", b"").status, 503);
    // Others have room.
    let mut other = rig.client_from("127.0.0.2");
    other.ask("GET", "/kv/a", "", b"").is(404);
    other.ask("GET", "/live", "", b"").is(200);
    drop(silent);
    until("there is room again", || rig.client().ask("GET", "/kv/a", "", b"").status == 404);
}

#[test]
fn a_first_byte_comes_soon() {
    // A client that never sent anything had 75 s.
    let mut config = config();
    config.timing.head = SHORT;
    let rig = Rig::with(config);
    assert!(rig.client().is_closed());
    let mut client = rig.client();
    client.ask("GET", "/health", "", b"").is(200);
    std::thread::sleep(3 * SHORT);
    client.ask("GET", "/health", "", b"").is(200);
}

#[test]
fn the_end_answers_those_that_wait_to_be_accepted() {
    for _ in 0..20 {
        let rig = Rig::new();
        let mut clients = Vec::new();
        for _ in 0..40 {
            let mut client = rig.client();
            client.request("PUT", "/kv/k", "", b"v");
            clients.push(client);
        }
        let server = rig.server;
        let drain = std::thread::Builder::new().spawn(move || server.drain(PATIENCE)).unwrap();
        for client in &mut clients {
            client.answer().is(200);
        }
        drop(clients);
        drain.join().unwrap();
    }
}

#[test]
fn five_hundred_connections_at_once_are_all_answered() {
    // tiny_http alone answered 446 to 494 of them within five seconds, and some never.
    let rig = Rig::new();
    let streams: Vec<TcpStream> =
        (0..512).map(|_| TcpStream::connect(rig.addr).expect("connects")).collect();
    let mut clients: Vec<Client> = streams.into_iter().map(Client::over).collect();
    for client in &mut clients {
        client.request("GET", "/health", "", b"");
    }
    for client in &mut clients {
        client.answer().is(200);
    }
    assert!(rig.metric("http_connections") >= 512.0);
}

#[test]
fn clients_that_vanish_at_once_harm_nobody() {
    // A reset before it was looked at panicked tiny_http's thread.
    let rig = Rig::new();
    for n in 0..200 {
        let mut client = rig.client();
        if n % 2 == 0 {
            client.raw("GET /kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        let socket = socket2::SockRef::from(client.stream());
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
    rig.ask("GET", "/health").is(200);
    until("they are forgotten", || rig.metric("http_connections") == 1.0);
}

#[test]
fn bodies_and_answers_held_are_bounded() {
    let mut config = config();
    config.value_len_max = 16 << 20;
    let rig = Rig::with(config);
    // Bodies that never end, of more than there is room for.
    let part = vec![b'v'; 15 << 20];
    let head =
        format!("PUT /kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 16 << 20);
    let n_clients = HTTP_HELD_LEN_MAX / part.len() + 4;
    let mut clients: Vec<Client> = (0..n_clients).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.raw(&head);
        client.raw_if_wanted(&part);
    }
    until("some are refused", || rig.server.n_refused(Reason::Memory) >= 4);
    let is_told = |client: &Client| {
        client.stream().set_nonblocking(true).unwrap();
        let is_told = client.stream().peek(&mut [0]).is_ok_and(|n| n == 1);
        client.stream().set_nonblocking(false).unwrap();
        is_told
    };
    until("one of them is told", || clients.iter().any(is_told));
    let told = clients.iter().position(is_told).unwrap();
    assert_eq!(clients[told].answer().is(503).header("Retry-After"), Some("1"));
    // Small requests need no such room.
    rig.send("PUT", "/kv/small", "", &[b'v'; 16 << 10]).is(200);
    assert!(rig.metric("http_held_bytes") > HTTP_HELD_LEN_MAX as f64 / 2.0);
    drop(clients);
    until("the room is given back", || rig.metric("http_held_bytes") == 0.0);
    rig.send("PUT", "/kv/k", "", &part).is(200);
}

#[test]
fn a_long_wait_holds_up_nobody() {
    // tiny_http's worker would be blocked, and with it every client of its connection.
    let rig = Rig::new();
    let (parked, waiting) = mpsc::channel();
    rig.bridge.replies(move |_, reply_to| {
        parked.send(reply_to).unwrap();
        Ok(())
    });
    let mut clients: Vec<Client> = (0..64).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.request("PUT", "/kv/k?w=all&timeout=30s", "", b"v");
        // Sent ahead: it has to wait for the answer before it.
        client.request("PUT", "/kv/ahead", "", b"v");
    }
    let replies: Vec<_> = (0..64).map(|_| waiting.recv_timeout(PATIENCE).unwrap()).collect();
    for _ in 0..100 {
        rig.send("PUT", "/kv/other", "", b"v").is(200);
    }
    rig.ask("GET", "/kv/ahead").is(404);
    for reply_to in replies {
        reply_to(Reply::Holders { held: 3, wanted: 3 });
    }
    for client in &mut clients {
        client.answer().is(200);
        client.answer().is(200);
    }
}

#[test]
fn the_end_answers_what_is_under_way() {
    let rig = Rig::new();
    let (parked, waiting) = mpsc::channel();
    rig.bridge.replies(move |_, reply_to| {
        parked.send(reply_to).unwrap();
        Ok(())
    });
    let mut idle = rig.client();
    idle.ask("GET", "/health", "", b"").is(200);
    let mut fresh = rig.client();
    let mut busy = rig.client();
    busy.request("PUT", "/kv/k?w=all", "", b"v");
    let reply_to = waiting.recv_timeout(PATIENCE).unwrap();
    let mut half = rig.client();
    half.raw("GET /health HTTP/1.1\r\n");
    until("all are accepted", || rig.server.n_connections() == 4);
    let (addr, server) = (rig.addr, rig.server);
    let drain = std::thread::Builder::new().spawn(move || server.drain(PATIENCE)).unwrap();
    assert!(idle.is_closed());
    assert!(fresh.is_closed());
    until("it accepts nobody", || TcpStream::connect(addr).is_err());
    half.raw("Host: localhost\r\n\r\n");
    assert_eq!(half.answer().is(200).header("Connection"), Some("close"));
    assert!(half.is_closed());
    assert!(!drain.is_finished());
    reply_to(Reply::Holders { held: 1, wanted: 1 });
    assert_eq!(busy.answer().is(200).header("Connection"), Some("close"));
    assert!(busy.is_closed());
    drain.join().unwrap();
}

#[test]
fn the_end_loses_no_request() {
    let mut config = config();
    config.timing.drain = PATIENCE;
    let rig = Rig::with(config);
    let clients: Vec<_> = (0..16).map(|_| rig.client()).collect();
    let busy = clients.into_iter().map(|mut client| {
        let until_closed = move || {
            let mut n_answered = 0;
            while client.ask("PUT", "/kv/k", "", b"v").is(200).header("Connection").is_none() {
                n_answered += 1;
            }
            assert!(client.is_closed());
            n_answered
        };
        std::thread::Builder::new().spawn(until_closed).unwrap()
    });
    let busy: Vec<_> = busy.collect();
    let (server, bridge) = (rig.server, rig.bridge);
    until("all are busy", || bridge.n_written.load(Ordering::Relaxed) > 1_000);
    server.drain(PATIENCE);
    let n_answered: u64 = busy.into_iter().map(|client| client.join().unwrap() + 1).sum();
    assert_eq!(bridge.n_written.load(Ordering::Relaxed), n_answered);
}

#[test]
fn the_end_waits_no_longer_than_it_is_told() {
    let rig = Rig::new();
    let mut half = rig.client();
    half.raw("GET /health HTTP/1.1\r\n");
    until("it is accepted", || rig.server.n_connections() == 1);
    rig.server.drain(SHORT);
    assert!(half.is_closed());
}

#[test]
fn a_port_in_use_is_named() {
    let rig = Rig::new();
    let mut config = config();
    config.listen = rig.addr;
    let bridge = std::sync::Arc::clone(&rig.bridge);
    let Err(error) = gossipykv::http::start(config, bridge) else { panic!("it is in use") };
    assert!(error.to_string().contains(&rig.addr.to_string()), "{error}");
}

#[test]
fn ipv6_takes_ipv4_as_well() {
    let mut config = config();
    config.listen = "[::]:0".parse().unwrap();
    config.keys_on_loopback = true;
    let rig = Rig::with(config);
    for addr in [format!("[::1]:{}", rig.addr.port()), format!("127.0.0.1:{}", rig.addr.port())] {
        let mut client = Client::to(addr.parse().unwrap());
        client.ask("GET", "/health", "", b"").is(200);
        // Whoever comes over IPv4 is as local.
        client.ask("GET", "/keys", "", b"").is(503);
    }
}

#[test]
fn threads_do_not_follow_connections() {
    // tiny_http alone has one for each.
    let rig = Rig::new();
    let mut clients: Vec<Client> = (0..300).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.ask("GET", "/kv/none", "", b"").is(404);
    }
    let mut n_gate = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("Linux") {
        let mut name = String::new();
        let comm = task.unwrap().path().join("comm");
        let read = std::fs::File::open(comm).and_then(|mut file| file.read_to_string(&mut name));
        n_gate += usize::from(read.is_ok() && name.starts_with("http-"));
    }
    // Other tests have gates of their own at the same time.
    assert!(n_gate < 150, "{n_gate}");
}

#[test]
fn running_out_of_descriptors_ends_only_what_comes_too_much() {
    // The first accept that fails ends tiny_http's listener for good. The limit is the process's,
    // so a process of its own tries it.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["http_limits::out_of_descriptors", "--exact", "--ignored", "--nocapture"])
        .output()
        .expect("starts");
    let out = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && out.contains("1 passed"), "{out}");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn out_of_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let rig = Rig::new();
    let mut client = rig.client();
    client.ask("GET", "/health", "", b"").is(200);
    let n_open = std::fs::read_dir("/proc/self/fd").expect("Linux").count() as u64;
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(n_open + 20), maximum: before.maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
    let clients: Vec<TcpStream> =
        std::iter::from_fn(|| TcpStream::connect(rig.addr).ok()).take(40).collect();
    assert!(clients.len() < 40);
    until("an accept has failed", || {
        let text = client.ask("GET", "/metrics", "", b"").text();
        !text.contains("gossipykv_http_accept_failures_total 0")
    });
    drop(clients);
    rig.ask("GET", "/health").is(200);
}

#[test]
fn the_longest_list_of_consuls_api_is_answered() {
    let rig = Rig::new();
    let now = rig.bridge.now();
    let put = |n: u32| {
        let key = format!("l/{n:05}");
        rig.bridge.store().put(now, key.as_bytes(), &[b'v'; 4_096], None).expect("room");
    };
    // An entry counts 128 bytes, its key, and its value in base64.
    let n_max = u32::try_from(CONSUL_LIST_LEN_MAX / (128 + 7 + 5_466)).expect("some");
    (0..n_max).for_each(put);
    let list = rig.ask("GET", "/v1/kv/?recurse").is(200);
    assert!(list.body.len() > 60 << 20 && list.body.ends_with(b"}]"), "{}", list.body.len());
    (n_max..n_max + 9).for_each(put);
    let longer = rig.ask("GET", "/v1/kv/?recurse");
    assert_eq!(longer.status, 500);
    assert!(longer.text().contains("ask for a longer prefix"), "{}", longer.text());
}
