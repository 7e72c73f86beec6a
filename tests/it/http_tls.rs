//! HTTP through TLS, at the gate: everything as without, and what only TLS has.

use super::certificates::{Ca, Crowd, Secure, Signed, connect};
use super::http_rig::{Rig, config, until};
use gossipykv::http::{Certificate, Config, Tls};
use gossipykv::limits::HTTP_TLS_HELD_LEN;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn certificate(signed: &Signed, client_ca: Option<&Ca>) -> Certificate {
    let client_ca = client_ca.map(|ca| ca.pem.as_bytes());
    Certificate::parse(signed.chain.as_bytes(), signed.key.as_bytes(), client_ca).expect("good")
}

fn tls(ca: &Ca) -> Arc<Tls> {
    Tls::new(certificate(&ca.sign(&["localhost"]), None))
}

fn metric(ca: &Ca, rig: &Rig, name: &str) -> f64 {
    let text = ca.client(rig.addr, None).ask("GET", "/metrics", b"").body;
    let text = String::from_utf8(text).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("gossipykv_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().expect("a number")
}

#[test]
fn requests_and_answers_of_every_length_come_through() {
    let ca = Ca::new();
    let rig = Rig::with(Config { tls: Some(tls(&ca)), value_len_max: 8 << 20, ..config() });
    let mut client = ca.client(rig.addr, None);
    assert_eq!(client.ask("GET", "/kv/none", b"").status, 404);
    // Around a record, around what is held ahead, and far beyond both.
    for len in [1, 16 << 10, (16 << 10) + 1, 100_000, 1 << 20, 8 << 20] {
        let value: Vec<u8> = (0..len).map(|n: u32| (n % 251) as u8).collect();
        assert_eq!(client.ask("PUT", "/kv/k", &value).status, 200, "{len}");
        let got = client.ask("GET", "/kv/k?raw", b"");
        assert!(got.status == 200 && got.body == value, "{len}");
        assert_eq!(client.ask("HEAD", "/kv/k", b"").status, 200);
    }
    // Requests sent ahead, a body in chunks, and the end of a connection.
    let chunked = "PUT /kv/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\nGET /kv/c?raw HTTP/1.1\r\nHost: localhost\r\n\r\n\
                   GET /kv/c?raw HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    client.raw(chunked.replace("Host: a", "Host: localhost").as_bytes()).expect("sent");
    assert_eq!(client.answer(false).expect("an answer").status, 200);
    assert_eq!(client.answer(false).expect("an answer").body, b"hello");
    assert_eq!(client.answer(false).expect("an answer").body, b"hello");
    assert!(client.ends_well());
    // A refusal ends in good order as well.
    let mut client = ca.client(rig.addr, None);
    client.raw(b"BAD\r\n\r\n").expect("sent");
    assert_eq!(client.answer(false).expect("an answer").status, 400);
    assert!(client.ends_well());
}

#[test]
fn a_client_may_end_its_side_and_nothing_cut_off_counts() {
    let ca = Ca::new();
    let rig = Rig::with(Config { tls: Some(tls(&ca)), ..config() });
    // Its side ended in good order: it gets the answer.
    let mut client = ca.client(rig.addr, None);
    client
        .raw(b"PUT /kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
        .expect("sent");
    client.conn().send_close_notify();
    client.raw(b"").expect("sent");
    assert_eq!(client.answer(false).expect("an answer").status, 200);
    assert!(client.ends_well());
    // In the middle of a body, with and without a word.
    for says in [false, true] {
        let mut client = ca.client(rig.addr, None);
        client
            .raw(b"PUT /kv/cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
            .expect("sent");
        if says {
            client.conn().send_close_notify();
            client.raw(b"").expect("sent");
        }
        client.tcp().shutdown(Shutdown::Write).expect("ended");
        // There is no answer to it, of course.
        assert!(client.answer(false).is_err());
    }
    assert_eq!(ca.client(rig.addr, None).ask("GET", "/kv/cut", b"").status, 404);
}

#[test]
fn only_http_1_1_is_spoken_within() {
    let ca = Ca::new();
    let rig = Rig::with(Config { tls: Some(tls(&ca)), ..config() });
    for (offered, taken) in [
        (&["h2", "http/1.1"][..], Some("http/1.1")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let mut config = ca.client_config(None);
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client = Secure::over(connect(rig.addr), config).expect("a handshake");
        assert_eq!(client.ask("GET", "/live", b"").status, 200);
        assert_eq!(client.conn().alpn_protocol(), taken.map(str::as_bytes), "{offered:?}");
    }
    let mut config = ca.client_config(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert!(Secure::over(connect(rig.addr), config).is_err());
    let failed = "http_tls_handshake_failures_total{reason=\"incompatible\"}";
    assert_eq!(metric(&ca, &rig, failed) as u32, 1);
}

#[test]
fn who_speaks_the_other_protocol_is_told() {
    let ca = Ca::new();
    let rig = Rig::with(Config { tls: Some(tls(&ca)), ..config() });
    let told = rig.ask("GET", "/kv/a").is(400).text();
    assert!(told.contains("this port speaks HTTPS"), "{told}");
    let mut client = rig.client();
    assert_eq!(client.ask("HEAD", "/kv/a", "", b"").status, 400);
    assert!(client.is_closed());
    assert_eq!(metric(&ca, &rig, "http_tls_handshake_failures_total{reason=\"plain_http\"}"), 2.0);
    // And the other way round: at once, without a whole head.
    let rig = Rig::new();
    let began = Duration::from_secs(5);
    let mut stream = connect(rig.addr);
    stream.set_read_timeout(Some(began)).expect("a limit");
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").expect("sent");
    let mut told = String::new();
    stream.read_to_string(&mut told).expect("an answer, then the end");
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("plain HTTP, not TLS"), "{told}");
    let refused = Secure::over(connect(rig.addr), ca.client_config(None)).err().expect("no TLS");
    assert!(refused.to_string().contains("InvalidContentType"), "{refused}");
}

#[test]
fn what_is_no_tls_is_counted_and_ends_the_connection() {
    let ca = Ca::new();
    let rig = Rig::with(Config { tls: Some(tls(&ca)), ..config() });
    // A greeting with nothing in it; a handshake that ends in the middle; a client that trusts
    // another CA.
    let mut nonsense = connect(rig.addr);
    nonsense.write_all(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00").expect("sent");
    let mut rest = Vec::new();
    nonsense.read_to_end(&mut rest).expect("the end");
    assert_eq!(rest.first(), Some(&21), "an alert: {rest:?}");
    // One that is announced too long to be held; what was sent on it may reset it.
    let mut long = connect(rig.addr);
    let record = [&b"\x16\x03\x01\x40\x00"[..], &[0; 16 << 10]].concat();
    let first = [&b"\x16\x03\x01\x40\x00\x01\x00\xff\xff"[..], &[0; (16 << 10) - 4]].concat();
    long.write_all(&[first, record.clone(), record].concat()).expect("sent");
    let _ = long.read_to_end(&mut rest);
    let mut half = connect(rig.addr);
    half.write_all(b"\x16\x03\x01\x02\x00\x01").expect("sent");
    drop(half);
    assert!(Secure::over(connect(rig.addr), Ca::new().client_config(None)).is_err());
    for (reason, n) in [("malformed", 2), ("closed", 1), ("rejected_by_client", 1)] {
        let failed = format!("http_tls_handshake_failures_total{{reason=\"{reason}\"}}");
        until(reason, || metric(&ca, &rig, &failed) as u32 == n);
    }
    assert!(metric(&ca, &rig, "http_tls_handshakes_total") >= 3.0);
    let expires = metric(&ca, &rig, "http_tls_certificate_expires_timestamp_seconds");
    assert_eq!(expires as u64, 64_060_588_800);
}

#[test]
fn handshakes_that_stand_have_their_time_and_shut_nobody_out() {
    let ca = Ca::new();
    let mut config = Config { tls: Some(tls(&ca)), connections_max: 256, ..config() };
    config.timing.head = Duration::from_secs(3);
    let rig = Rig::with(config);
    // One source has all that it may: silent ones, and ones in the middle of their first record.
    let idle: Vec<TcpStream> = (0..300)
        .map(|n| {
            let mut stream = from(rig.addr, "127.0.0.2");
            if n % 2 == 0 {
                stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").expect("sent");
            }
            stream
        })
        .collect();
    // Others are served meanwhile.
    for _ in 0..20 {
        assert_eq!(ca.client(rig.addr, None).ask("PUT", "/kv/k", b"v").status, 200);
    }
    for mut stream in idle {
        let mut rest = Vec::new();
        // Ended, whether by a word or without.
        let _ = stream.read_to_end(&mut rest);
    }
    until("all have gone", || rig.server.n_connections() == 0);
    let slow = "http_tls_handshake_failures_total{reason=\"slow\"}";
    assert!(metric(&ca, &rig, slow) > 200.0);
}

#[test]
fn connections_beyond_the_bound_are_told_and_probes_answered() {
    let ca = Ca::new();
    let rig = Rig::with(Config { tls: Some(tls(&ca)), connections_max: 4, ..config() });
    let mut open: Vec<Secure> = (0..4).map(|_| ca.client(rig.addr, None)).collect();
    for client in &mut open {
        assert_eq!(client.ask("GET", "/kv/", b"").status, 200);
    }
    for (target, status) in [("/live", 200), ("/health", 200), ("/kv/", 503)] {
        let mut more = ca.client(rig.addr, None);
        assert_eq!(more.ask("GET", target, b"").status, status, "{target}");
        assert!(more.ends_well());
    }
    // One that says nothing gets no answer that is not of TLS.
    let mut silent = connect(rig.addr);
    let mut told = Vec::new();
    silent.read_to_end(&mut told).expect("the end");
    assert_eq!(told, b"");
    assert_eq!(rig.server.n_refused(gossipykv::http::Reason::Connections), 2);
}

#[test]
fn a_drain_ends_handshakes_that_stand_and_answers_what_is_under_way() {
    let ca = Ca::new();
    let rig = Rig::with(Config { tls: Some(tls(&ca)), ..config() });
    let mut idle = ca.client(rig.addr, None);
    assert_eq!(idle.ask("PUT", "/kv/k", b"v").status, 200);
    let (mut silent, mut half) = (connect(rig.addr), connect(rig.addr));
    half.write_all(b"\x16\x03\x01\x02\x00\x01\x00").expect("sent");
    let mut under_way = ca.client(rig.addr, None);
    under_way.raw(b"GET /kv/k HTTP/1.1\r\n").expect("sent");
    until("all are there", || rig.server.n_connections() == 4);
    std::thread::scope(|threads| {
        threads.spawn(|| rig.server.drain(super::http_rig::PATIENCE));
        // Long before their ten seconds are over.
        for stream in [&mut silent, &mut half] {
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
            let mut rest = Vec::new();
            assert!(stream.read_to_end(&mut rest).is_ok() && rest.is_empty());
        }
        assert!(idle.ends_well());
        under_way.raw(b"Host: localhost\r\n\r\n").expect("sent");
        assert_eq!(under_way.answer(false).expect("an answer").status, 200);
        assert!(under_way.ends_well());
    });
}

fn from(addr: SocketAddr, source: &str) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let source: SocketAddr = format!("{source}:0").parse().expect("an address");
    socket.bind(&source.into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect(&addr.into()).expect("connects");
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(super::http_rig::PATIENCE)).expect("a limit");
    stream
}

#[test]
fn a_reader_that_stands_is_cut_off_and_not_told_an_end() {
    let ca = Ca::new();
    let mut config = Config { tls: Some(tls(&ca)), value_len_max: 16 << 20, ..config() };
    config.timing.reader = Duration::from_millis(300);
    config.timing.reader_rate_min = 1 << 30;
    let rig = Rig::with(config);
    let value = vec![7; 16 << 20];
    assert_eq!(ca.client(rig.addr, None).ask("PUT", "/kv/long", &value).status, 200);
    let mut client = ca.client(rig.addr, None);
    client.raw(b"GET /kv/long HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    until("it is cut off", || rig.server.n_refused(gossipykv::http::Reason::Slow) == 1);
    let mut got = Vec::new();
    assert!(client.reader.read_to_end(&mut got).is_err() && got.len() < value.len());
}

#[test]
fn what_tls_holds_for_a_reader_that_stands_is_counted() {
    let ca = Ca::new();
    let rig = Rig::with(Config { tls: Some(tls(&ca)), ..config() });
    // Short enough to be free by itself.
    let mut client = ca.client(rig.addr, None);
    assert_eq!(client.ask("PUT", "/kv/k", &[b'v'; 20_000]).status, 200);
    let held = || metric(&ca, &rig, "http_held_bytes");
    assert_eq!(held(), 0.0);
    // More than the system takes for it.
    let ask = "GET /kv/k?raw HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.raw(ask.repeat(1_000).as_bytes()).expect("sent");
    until("it is counted", || held() >= HTTP_TLS_HELD_LEN as f64);
    drop(client);
    until("it is given back", || held() == 0.0);
}

#[test]
fn a_connection_that_is_idle_ends_in_good_order() {
    let ca = Ca::new();
    let mut config = Config { tls: Some(tls(&ca)), ..config() };
    config.timing.idle = Duration::from_secs(1);
    let rig = Rig::with(config);
    let mut client = ca.client(rig.addr, None);
    assert_eq!(client.ask("GET", "/live", b"").status, 200);
    assert!(client.ends_well());
}

#[test]
fn a_watch_comes_through() {
    let ca = Ca::new();
    let rig = Rig::with(Config { tls: Some(tls(&ca)), ..config() });
    let mut watching = ca.client(rig.addr, None);
    watching.raw(b"GET /kv/?watch HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("sent");
    assert_eq!(watching.answer(true).expect("a head").status, 200);
    let mut line = |wanted: &str| {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            let n = std::io::BufRead::read_line(&mut watching.reader, &mut line).expect("a line");
            assert!(n > 0, "ended before {wanted}");
        }
    };
    line("sync");
    assert_eq!(ca.client(rig.addr, None).ask("PUT", "/kv/news", b"v").status, 200);
    line("\"news\"");
}

#[test]
fn certificates_of_clients_are_asked_for_but_not_by_probes() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let made = certificate(&ca.sign(&["localhost"]), Some(&clients));
    let rig = Rig::with(Config { tls: Some(Tls::new(made)), ..config() });
    let mut without = ca.client(rig.addr, None);
    for (target, status) in [("/health", 200), ("/live", 200)] {
        assert_eq!(without.ask("GET", target, b"").status, status);
    }
    assert_eq!(without.ask("OPTIONS", "/kv/a", b"").status, 204);
    for (method, target) in [("GET", "/kv/a"), ("PUT", "/kv/a"), ("GET", "/metrics"), ("GET", "/")]
    {
        let got = ca.client(rig.addr, None).ask(method, target, b"");
        assert_eq!(got.status, 403, "{method} {target}");
        assert!(String::from_utf8_lossy(&got.body).contains("certificate"), "{got:?}");
    }
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 0);
    assert_eq!(rig.server.n_refused(gossipykv::http::Reason::Certificate), 4);
    let good = clients.sign(&["a client"]);
    assert_eq!(ca.client(rig.addr, Some(&good)).ask("PUT", "/kv/a", b"v").status, 200);
    // One that another CA has signed, and one that has expired: not even a probe.
    for bad in [ca.sign(&["a client"]), clients.sign_until(&["a client"], 2021)] {
        let asked = Secure::over(connect(rig.addr), ca.client_config(Some(&bad)))
            .and_then(|mut client| client.try_ask("GET", "/live", b""));
        let refused = asked.expect_err("refused").to_string();
        assert!(refused.contains("alert"), "{refused}");
    }
    let mut good = ca.client(rig.addr, Some(&good));
    let metrics = String::from_utf8(good.ask("GET", "/metrics", b"").body).expect("text");
    let failed = "http_tls_handshake_failures_total{reason=\"client_certificate\"} 2";
    assert!(metrics.contains(failed), "{metrics}");
}

#[test]
fn an_exchange_under_load_costs_no_request() {
    let ca = Ca::new();
    let shared = tls(&ca);
    let rig = Rig::with(Config { tls: Some(Arc::clone(&shared)), ..config() });
    let n = Crowd::during(&ca, rig.addr, |crowd| {
        for _ in 0..20 {
            crowd.asks_on();
            shared.exchange(certificate(&ca.sign(&["localhost"]), None));
        }
    });
    assert!(n > 1_000);
}

#[test]
fn sessions_are_resumed_unless_clients_show_certificates() {
    let ca = Ca::new();
    for (client_ca, expected) in
        [(None, rustls::HandshakeKind::Resumed), (Some(&ca), rustls::HandshakeKind::Full)]
    {
        let made = certificate(&ca.sign(&["localhost"]), client_ca);
        let rig = Rig::with(Config { tls: Some(Tls::new(made)), ..config() });
        let config = ca.client_config(None);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut client = Secure::over(connect(rig.addr), config.clone()).expect("a handshake");
            assert_eq!(client.ask("GET", "/live", b"").status, 200);
            kinds.push(client.conn().handshake_kind());
        }
        assert_eq!(kinds, [Some(rustls::HandshakeKind::Full), Some(expected)]);
    }
}

/// What curl prints, or what it says when it fails.
fn curl(ca: &Ca, addr: SocketAddr, args: &[&str], target: &str) -> Result<String, String> {
    let output = std::process::Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--cacert", &ca.own_file()])
        .args(args)
        .arg(format!("https://localhost:{}{target}", addr.port()))
        .output()
        .expect("curl is installed");
    let [out, err] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into());
    if output.status.success() { Ok(out) } else { Err(err) }
}

#[test]
fn curl_asks_by_every_version_and_cipher() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let rig = Rig::with(Config { tls: Some(tls(&ca)), ..config() });
    let shown = ["--write-out", " %{http_version} %{response_code}"];
    for more in [&["--tlsv1.3"][..], &["--tls-max", "1.2"], &["--http2"], &["--http1.0"]] {
        let put = curl(&ca, rig.addr, &[&["--upload-file", "Cargo.toml"], more].concat(), "/kv/c");
        assert!(put.as_ref().is_ok_and(|text| text.contains("\"size\"")), "{more:?} {put:?}");
        let got = curl(&ca, rig.addr, &[&shown, more].concat(), "/kv/c?raw").expect("an answer");
        assert!(got.contains("[package]") && got.contains(" 1.") && got.ends_with(" 200"), "{got}");
    }
    let old = curl(&ca, rig.addr, &["--tls-max", "1.1"], "/live").expect_err("no TLS 1.1");
    assert!(old.contains("alert") || old.contains("protocol"), "{old}");
    // With a certificate of its own.
    let made = certificate(&ca.sign(&["localhost"]), Some(&clients));
    let rig = Rig::with(Config { tls: Some(Tls::new(made)), ..config() });
    let good = clients.sign(&["a client"]);
    let (cert, key) = (ca.file("client.pem", &good.chain), ca.file("client.key", &good.key));
    for version in ["1.2", "1.3"] {
        let args = ["--cert", &cert, "--key", &key, "--tls-max", version];
        let put = curl(&ca, rig.addr, &[&args[..], &["--request", "PUT"]].concat(), "/kv/a/v");
        assert_eq!(put.as_deref(), Ok("{\"a\":\"v\"}"), "{version}");
    }
    let without = curl(&ca, rig.addr, &[], "/kv/a").expect("an answer");
    assert!(without.contains("client's certificate"), "{without}");
    assert!(curl(&ca, rig.addr, &["--fail"], "/live").is_ok());
}
