//! Where a request ends: what two readers could read differently is refused.
//!
//! tiny_http alone takes nearly all of what is refused here; the comments name what came of it.

use super::http_rig::{Answer, Rig, config};
use std::sync::atomic::Ordering;

/// Sends bytes, ends sending, and expects one answer, then the end.
#[track_caller]
fn check(rig: &Rig, bytes: impl AsRef<[u8]>, status: u16) -> Answer {
    let mut client = rig.client();
    client.raw_if_wanted(bytes);
    let answer = client.answer().is(status);
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(client.is_closed());
    answer
}

/// A PUT of `/kv/k` with these header lines, and this after its head.
fn put(headers: &str, rest: &str) -> String {
    format!("PUT /kv/k HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{rest}")
}

/// None of the requests hidden in others has been seen.
#[track_caller]
fn nothing_smuggled(rig: &Rig) {
    assert_eq!(rig.metric("http_requests_total{route=\"other\",status=\"4xx\"}"), 0.0);
}

#[test]
fn a_huge_length_is_refused_before_anything_is_kept() {
    // tiny_http allocates what was announced, and the process aborts.
    let rig = Rig::new();
    for length in ["1048577", "99999999999", "18446744073709551615", "99999999999999999999999999"] {
        let answer = check(&rig, put(&format!("Content-Length: {length}\r\n"), "x"), 413);
        assert!(answer.text().contains("1048576"));
    }
    let get = "GET /kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n";
    check(&rig, get, 413);
    rig.ask("GET", "/health").is(200);
}

#[test]
fn a_body_that_breaks_off_changes_nothing() {
    let rig = Rig::new();
    for rest in ["", "x", "123456789"] {
        let mut client = rig.client();
        client.raw(put("Content-Length: 10\r\n", rest));
        client.end();
        assert!(client.is_closed());
        let mut client = rig.client();
        client.raw(put("Transfer-Encoding: chunked\r\n", &format!("a\r\n{rest}")));
        client.end();
        assert!(client.is_closed());
    }
    rig.ask("GET", "/kv/k").is(404);
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 0);
}

#[test]
fn chunks_are_taken_to_their_end() {
    // tiny_http leaves the rest of a chunked body in the connection: GET /SMUGGLED was answered.
    let rig = Rig::new();
    let mut client = rig.client();
    client.raw("GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let hidden = "GET /SMUGGLED HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.raw(format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()));
    assert_eq!(client.answer().is(200).text(), r#"{"status":"ok"}"#);
    // The connection is in step.
    client.raw(put("Transfer-Encoding: Chunked\r\n", "5;x=\"y\"\r\nhello\r\n3\r\n..."));
    client.raw("\r\n0\r\nTrailer: 1\r\n\r\nGET /kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.answer().is(200).json()["size"], 8);
    assert_eq!(client.answer().is(200).text(), r#"{"k":"hello..."}"#);
    nothing_smuggled(&rig);
}

#[test]
fn a_body_nobody_asked_for_is_no_request() {
    let rig = Rig::new();
    let hidden = "GET /SMUGGLED HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = rig.client();
    for method in ["GET", "HEAD", "DELETE", "POST", "PATCH", "OPTIONS"] {
        let head = format!("{method} /kv/k HTTP/1.1\r\nHost: localhost\r\n");
        client.raw(format!("{head}Content-Length: {}\r\n\r\n{hidden}", hidden.len()));
        let answer = if method == "HEAD" { client.head() } else { client.answer() };
        assert!([200, 204, 404, 405].contains(&answer.status), "{method} {}", answer.status);
    }
    // Upgrades are not offered: what follows is the next request.
    client.raw("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n");
    client.raw("Upgrade: websocket\r\n\r\n");
    client.answer().is(200);
    client.ask("GET", "/health", "", b"").is(200);
    nothing_smuggled(&rig);
}

#[test]
fn bad_lengths_and_codings_are_refused() {
    // tiny_http takes a bad length for none, +3 for 3, the first of two, any coding for chunked,
    // and a coding beside a length.
    let rig = Rig::new();
    let hidden = "GET /SMUGGLED HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for length in ["+3", "-3", "3 3", "0x3", "3,3", "three", "", "3.0", "\u{663}"] {
        check(&rig, put(&format!("Content-Length: {length}\r\n"), hidden), 400);
    }
    let doubled = [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3\r\ncontent-length: 3\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ];
    for headers in doubled {
        check(&rig, put(headers, &format!("0\r\n\r\n{hidden}")), 400);
    }
    for coding in ["identity", "gzip", "gzip, chunked", "chunked, chunked", "xchunked", ""] {
        let headers = format!("Transfer-Encoding: {coding}\r\n");
        check(&rig, put(&headers, &format!("0\r\n\r\n{hidden}")), 501);
    }
    let old = "PUT /kv/k HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(&rig, old, 400);
    for chunk in ["x\r\n", "5\r\nhello!\r\n", "5\nhello\r\n", "-1\r\n", "fffffffff\r\n"] {
        check(&rig, put("Transfer-Encoding: chunked\r\n", chunk), 400);
    }
    check(&rig, put("Transfer-Encoding: chunked\r\n", "ffffffff\r\n"), 413);
    nothing_smuggled(&rig);
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 0);
}

#[test]
fn lines_that_are_no_headers_are_refused() {
    // tiny_http takes a name after white space, and waits for ever at a bare line feed.
    let rig = Rig::new();
    let lines = [
        " Transfer-Encoding: chunked\r\n",
        "\tTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\r\n",
        "X: a\r\n folded\r\n",
        ": empty\r\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
        "X: a\n",
        "X\u{e9}: a\r\n",
        "Content-Type: t\u{e9}xt\r\n",
        "Host: other\r\n",
        "Content-Type: a/b\r\nContent-Type: a/b\r\n",
    ];
    for line in lines {
        check(&rig, format!("GET /kv/k HTTP/1.1\r\nHost: localhost\r\n{line}\r\n"), 400);
    }
    check(&rig, "GET / HTTP/1.1\nHost: localhost\n\n", 400);
    check(&rig, "GET / HTTP/1.1\r\n\r\n", 400);
    check(&rig, "GET\r\nHost: localhost\r\n\r\n", 400);
    check(&rig, "GET /\r\nHost: localhost\r\n\r\n", 400);
    check(&rig, "GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400);
    check(&rig, "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505);
    check(&rig, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    check(&rig, "\x16\x03\x01\x02\x00\x01\x00\x01", 400);
    check(&rig, "\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400);
}

#[test]
fn what_is_asked_of_a_write_is_done_or_refused() {
    // A part was kept as the whole value, gzip as if it was the text, and a condition was ignored.
    let rig = Rig::new();
    let length = "Content-Length: 3\r\n";
    let part = check(&rig, put(&format!("Content-Range: bytes 3-5/6\r\n{length}"), "bar"), 400);
    assert!(part.text().contains("Content-Range"));
    for coding in ["gzip", "br", "identity, gzip", "x", "Identity;q=1"] {
        let headers = format!("Content-Encoding: {coding}\r\n{length}");
        let answer = check(&rig, put(&headers, "bar"), 415);
        assert_eq!(answer.header("Accept-Encoding"), Some("identity"), "{coding}");
    }
    let since = "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    check(&rig, put(&format!("{since}{length}"), "bar"), 400);
    let delete = format!("DELETE /kv/k HTTP/1.1\r\nHost: localhost\r\n{since}\r\n");
    assert!(check(&rig, delete, 400).text().contains("If-Match"));
    assert_eq!(rig.bridge.n_written.load(Ordering::Relaxed), 0);
    for coding in ["", "identity", "Identity , identity,"] {
        rig.send("PUT", "/kv/k", &format!("Content-Encoding: {coding}\r\n"), b"bar").is(200);
    }
    // A reader that gets the whole value gets no less than it asked for.
    let asked = format!("Range: bytes=1-\r\nContent-Encoding: gzip\r\n{since}");
    assert_eq!(rig.send("GET", "/kv/k?raw", &asked, b"").is(200).text(), "bar");
}

#[test]
fn a_space_in_a_target_is_named() {
    // It was taken for an unknown version of HTTP.
    let rig = Rig::new();
    for target in ["/kv/a b", "/kv/a b c", "/kv/a/b c?d e", "/kv/a HTTP/1.1"] {
        let request = format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(check(&rig, request, 400).text().contains("%20"), "{target}");
    }
    check(&rig, "GET /kv/a HTTP/3\r\nHost: localhost\r\n\r\n", 505);
    check(&rig, "GET /kv/a b HTTP/2.0\r\nHost: localhost\r\n\r\n", 505);
}

#[test]
fn targets_come_in_the_forms_of_the_standard() {
    let rig = Rig::new();
    let ask = |target: &str| {
        let mut client = rig.client();
        client.raw(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        client.answer()
    };
    for target in ["http://localhost/health", "HTTP://other:1/health?x", "https://x/live"] {
        ask(target).is(200);
    }
    for target in ["http://localhost", "http://localhost?x", "http://localhost/"] {
        assert!(ask(target).is(200).text().contains("<html"), "{target}");
    }
    for target in
        ["health", "localhost:80", "ftp://localhost/", "http:///x", "*", "/a#b", "/\u{e9}"]
    {
        ask(target).is(400);
    }
    let mut client = rig.client();
    client.raw("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.answer().is(400);
    rig.ask("OPTIONS", "*").is(204);
    // What looks like the gate's own form is just a path.
    ask(&format!("/{}t/kv/k", "0".repeat(32))).is(404);
    ask("/!").is(404);
}

#[test]
fn http_1_0_closes_unless_asked_not_to() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.raw("GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().is(200).header("Connection"), Some("close"));
    assert!(client.is_closed());
    let mut client = rig.client();
    client.raw("GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert_eq!(client.answer().is(200).header("Connection"), Some("keep-alive"));
    // No 100: it would be taken for the answer.
    client.raw("PUT /kv/k HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    client.raw("v");
    client.answer().is(200);
    assert!(client.is_closed());
    let mut client = rig.client();
    client.raw("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: foo , CLOSE\r\n\r\n");
    assert_eq!(client.answer().is(200).header("Connection"), Some("close"));
    assert!(client.is_closed());
    let mut client = rig.client();
    assert_eq!(client.ask("GET", "/health", "", b"").header("Connection"), None);
}

#[test]
fn an_expectation_is_answered_before_the_body() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.raw(put("Expect: 100-Continue\r\nContent-Length: 5\r\n", ""));
    let go_on = client.head();
    assert_eq!((go_on.status, go_on.headers.len()), (100, 0));
    client.raw("hello");
    client.answer().is(200);
    // Refused at once, and nothing is sent for nothing.
    let mut client = rig.client();
    client.raw(put("Expect: 100-continue\r\nContent-Length: 1048577\r\n", ""));
    client.answer().is(413);
    assert!(client.is_closed());
    check(&rig, put("Expect: 200-ok\r\nContent-Length: 5\r\n", ""), 417);
    // Who does not wait gets no 100.
    let mut client = rig.client();
    client.raw(put("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"));
    client.answer().is(200);
}

#[test]
fn heads_are_bounded() {
    // tiny_http took a head of 50 MB.
    let rig = Rig::new();
    let long = "v".repeat(16 << 10);
    check(&rig, format!("GET /kv/k HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"), 431);
    check(&rig, format!("GET /kv/k HTTP/1.1\r\nHost: localhost\r\nX: {long}"), 431);
    let many = "X: v\r\n".repeat(100);
    check(&rig, format!("GET /kv/k HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), 431);
    let many = "X: v\r\n".repeat(99);
    let mut client = rig.client();
    client.raw(format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"));
    client.answer().is(200);
    check(&rig, format!("GET /kv/{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 414);
    check(&rig, format!("GET /kv/{long}"), 414);
    let mut client = rig.client();
    let value = "v".repeat(8_000);
    client.raw(format!("PUT /kv/k/{value} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client.answer().is(200);
    assert_eq!(rig.metric("http_refusals_total{reason=\"large\"}"), 5.0);
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let rig = Rig::new();
    let n_requests = 300;
    let mut client = rig.client();
    let mut bytes = String::new();
    for n in 0..n_requests {
        bytes += &format!("PUT /kv/{n}/{n} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        bytes += &format!("GET /kv/{n} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    client.raw(bytes);
    for n in 0..n_requests {
        for _ in 0..2 {
            assert_eq!(client.answer().is(200).text(), format!("{{\"{n}\":\"{n}\"}}"));
        }
    }
    // A body runs straight into the next request, a stray line break between them or not.
    client.raw(put(
        "Content-Length: 2\r\n",
        "ab\r\nGET /kv/k?raw HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ));
    client.answer().is(200);
    assert_eq!(client.answer().is(200).text(), "ab");
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let rig = Rig::new();
    let mut client = rig.client();
    let bytes = put("Content-Length: 5\r\nContent-Type: a/b\r\n", "hello");
    for byte in bytes.as_bytes() {
        client.raw([*byte]);
    }
    client.answer().is(200);
    for byte in put("Transfer-Encoding: chunked\r\n", "5\r\nworld\r\n0\r\n\r\n").as_bytes() {
        client.raw([*byte]);
    }
    client.answer().is(200);
    assert_eq!(client.ask("GET", "/kv/k?raw", "", b"").text(), "world");
}

#[test]
fn nothing_sent_at_random_ends_the_service() {
    let mut rng = gossipykv::rng::Rng::from_seed(1);
    let mut config = config();
    config.timing.head = std::time::Duration::from_millis(50);
    config.timing.body = std::time::Duration::from_millis(50);
    let rig = Rig::with(config);
    let seeds = [
        put("Content-Length: 10\r\nExpect: 100-continue\r\n", "0123456789"),
        put("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        "GET /kv/?prefix=%41&after=b&limit=10&keys HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".to_owned(),
        "GET http://x/kv/a?raw HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(),
    ];
    for round in 0..1_000 {
        let mut bytes = seeds[round % seeds.len()].clone().into_bytes();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len());
            match rng.below(3) {
                0 => bytes[at] = rng.below(256) as u8,
                1 => bytes.insert(at, b"\r\n :;,%0/\0"[rng.below(10)]),
                _ => drop(bytes.remove(at)),
            }
        }
        let mut client = rig.client();
        client.raw_if_wanted(&bytes);
        client.end();
        client.read_all();
    }
    // Every line to the workers is whole and in step.
    for _ in 0..20 {
        rig.ask("GET", "/health").is(200);
        rig.ask("GET", "/kv/none").is(404);
    }
    assert_eq!(rig.metric("http_refusals_total{reason=\"broken\"}"), 0.0);
}
