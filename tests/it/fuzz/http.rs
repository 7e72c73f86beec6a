//! What the gate reads of clients: heads, the paths in them, and chunked bodies.

use super::{FIXED, Heap, pieces, within};
use bytes::BytesMut;
use gossipykv::http::readers::{Chunks, Framing, Head, Refusal, Route, Scan, Spelt, query};
use gossipykv::limits::{HTTP_HEAD_LEN_MAX, HTTP_HEADERS_MAX, HTTP_TARGET_LEN_MAX, KEY_LEN_MAX};

/// Longest chunked body taken here.
const BODY_LEN_MAX: usize = 1_000;

/// A request head of any bytes, arriving in pieces.
pub fn head(data: &[u8], heap: &dyn Heap) {
    let (arriving, bytes) = pieces(data);
    let at_once = within(heap, FIXED, || Scan::default().end(bytes));
    let cut = within(heap, FIXED, || {
        let (mut scan, mut len) = (Scan::default(), 0);
        for piece in arriving {
            len += piece.len();
            match scan.end(&bytes[..len]) {
                Ok(None) => {}
                found => return found,
            }
        }
        Ok(None)
    });
    assert_eq!(cut.is_err(), at_once.is_err(), "{cut:?} {at_once:?}");
    if let (Ok(cut), Ok(at_once)) = (&cut, &at_once) {
        assert_eq!(cut, at_once);
    }
    let Ok(Some(len)) = cut else { return };
    assert!(len <= HTTP_HEAD_LEN_MAX && bytes[..len].ends_with(b"\r\n\r\n"));
    match within(heap, 4 * len + FIXED, || Head::read(&bytes[..len])) {
        Ok(head) => taken(&head, heap),
        Err(refusal) => told(&refusal),
    }
}

fn told(refusal: &Refusal) {
    assert!((400..=599).contains(&refusal.failure.status));
    assert!(!refusal.failure.message.is_empty());
}

/// What is passed on is safe to write into a request of our own.
fn taken(head: &Head<'_>, heap: &dyn Heap) {
    assert!(head.target.starts_with('/') && head.target.len() <= HTTP_TARGET_LEN_MAX);
    assert!(head.target.bytes().all(|b| b.is_ascii_graphic()));
    let lists = [head.if_match.as_deref(), head.if_none_match.as_deref()];
    let texts = [Some(head.host), head.content_type, lists[0], lists[1]];
    for text in texts.into_iter().flatten() {
        assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text:?}");
    }
    assert!(!head.is_http_1_0 || (!head.expects_continue && head.framing != Framing::Chunked));
    within(heap, 4 * head.target.len() + FIXED, || routed(head));
}

fn routed(head: &Head<'_>) {
    let (path, parameters) = match head.target.split_once('?') {
        Some((path, parameters)) => (path, Some(parameters)),
        None => (head.target, None),
    };
    let route = head.route();
    let (key, value) = match route {
        Route::Entry(key) => (Some(key), None),
        Route::Pair(key, value) => (Some(Spelt::Path(key)), Some(value)),
        _ => (None, None),
    };
    if let Err(failure) = route.check(head.method, path) {
        assert!([404, 405].contains(&failure.status));
    }
    if let Some(Ok(key)) = key.map(query::key) {
        assert!((1..=KEY_LEN_MAX).contains(&key.len()));
    }
    if let Some(Ok(decoded)) = value.map(query::value) {
        assert!(decoded.len() <= path.len());
    }
    if let Ok(found) = query::parameters(parameters, ["w", "timeout", "prefix", "after"]) {
        for parameter in found.into_iter().flatten() {
            if let Ok(text) = query::text("w", parameter.text()) {
                assert!(text.len() <= parameter.text().len());
            }
        }
    }
}

/// Requests as clients send them.
pub fn head_seeds() -> Vec<Vec<u8>> {
    let heads = [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT /kv/a%2Fb/c+d?w=2&timeout=3s HTTP/1.1\r\nHost: h:80\r\nContent-Length: 0\r\n\r\n",
        "PUT http://h/kv/a?w=1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
            Expect: 100-continue\r\nContent-Type: text/plain\r\nAuthorization: Bearer t\r\n\
            If-Match: \"1-2\"\r\nIf-Match: W/\"3-4\"\r\nConnection: x, close\r\n\
            Via: 1.1 p\r\n\r\n5\r\n",
        "GET /kv/?prefix=a%20b&after=+ HTTP/1.0\r\nIf-None-Match: *\r\n\r\n",
        "PUT /kv?key=a/b+c%2F..&w=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1\r\n\r\n",
    ];
    let whole = heads.iter().map(|head| [&[0], head.as_bytes()].concat());
    let cut = heads.iter().map(|head| [&[3, 5, 17, 1], head.as_bytes()].concat());
    // Past the bounds of a line, of the lines and of the head.
    let long = [
        format!("PUT /kv/k/{} HTTP/1.1\r\nHost: x\r\n\r\n", "v".repeat(HTTP_TARGET_LEN_MAX)),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(HTTP_HEADERS_MAX)),
        format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(HTTP_HEAD_LEN_MAX)),
    ];
    let long = long.map(|head| [&[2, 200, 90], head.as_bytes()].concat());
    whole.chain(cut).chain(long).collect()
}

/// A chunked body of any bytes, arriving in pieces.
pub fn chunked(data: &[u8], heap: &dyn Heap) {
    let (arriving, bytes) = pieces(data);
    let budget = 3 * bytes.len() + FIXED;
    let cut = within(heap, budget, || take(&arriving));
    let at_once = within(heap, budget, || take(&[bytes]));
    match (cut, at_once) {
        (Ok(cut), Ok(at_once)) => assert_eq!(cut, at_once),
        (Err(refusal), Err(_)) => told(&refusal),
        (cut, at_once) => panic!("cut {cut:?}, at once {at_once:?}"),
    }
}

/// Whether the body was complete, the body, and what was left.
type Taken = (bool, Vec<u8>, Vec<u8>);

fn take(arriving: &[&[u8]]) -> Result<Taken, Refusal> {
    let mut chunks = Chunks::new(BODY_LEN_MAX);
    let (mut input, mut body, mut complete) = (BytesMut::new(), Vec::new(), false);
    for piece in arriving {
        input.extend_from_slice(piece);
        complete = complete || chunks.take(&mut input, &mut body)?;
        assert!(body.len() <= BODY_LEN_MAX);
    }
    Ok((complete, body, input.to_vec()))
}

/// Bodies as clients send them.
pub fn chunked_seeds() -> Vec<Vec<u8>> {
    let bodies = [
        "0\r\n\r\n",
        "5;a=\"b\"\r\nhello\r\n00B\r\n, old world\r\n0;x\r\nT: 1\r\n\r\nGET /",
        "3e7\r\n",
    ];
    let whole = bodies.iter().map(|body| [&[0], body.as_bytes()].concat());
    let cut = bodies.iter().map(|body| [&[4, 1, 2, 1, 9], body.as_bytes()].concat());
    // Past the bounds of a body, of a line and of the trailer's lines.
    let long = [
        format!("400\r\n{}\r\n0\r\n\r\n", "b".repeat(1024)),
        format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(300)),
        format!("1\r\nx\r\n0\r\n{}\r\n", "T: t\r\n".repeat(300)),
        "1\r\nx\r\n".repeat(900) + "0\r\n\r\n",
    ];
    let long = long.map(|body| [&[2, 200, 90], body.as_bytes()].concat());
    whole.chain(cut).chain(long).collect()
}
