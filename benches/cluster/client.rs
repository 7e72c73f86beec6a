//! An HTTP client on one kept connection, as small as it can be: it must cost less than what it
//! measures.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection.
pub struct Client {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Client {
    /// Opens a connection.
    pub fn open(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).expect("the agent listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a TCP socket");
        Client { stream, held: Vec::new() }
    }

    pub fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        self.ask("GET", path, b"")
    }

    pub fn put(&mut self, path: &str, body: &[u8]) {
        let (status, answer) = self.ask("PUT", path, body);
        assert_eq!(status, 200, "PUT {path}: {}", String::from_utf8_lossy(&answer));
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let request = request(method, path, body);
        self.stream.write_all(&request).expect("the agent reads");
        self.answer()
    }

    fn answer(&mut self) -> (u16, Vec<u8>) {
        let mut buffer = [0; 64 << 10];
        loop {
            if let Some((status, head_len, body_len)) = parse(&self.held) {
                let body = self.held[head_len..head_len + body_len].to_vec();
                self.held.drain(..head_len + body_len);
                return (status, body);
            }
            let n = self.stream.read(&mut buffer).expect("the agent answers");
            assert!(n > 0, "the agent closed the connection");
            self.held.extend_from_slice(&buffer[..n]);
        }
    }
}

/// A request as it travels.
pub fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Status, bytes of the head and bytes of the body of an answer, once all of it is here.
pub fn parse(held: &[u8]) -> Option<(u16, usize, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 24];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_len) = answer.parse(held).expect("an HTTP answer") else {
        return None;
    };
    let named = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("content-length");
    let length = answer.headers.iter().find(named).expect("a length");
    let length = std::str::from_utf8(length.value).expect("ASCII").parse().expect("a number");
    (held.len() >= head_len + length).then_some((answer.code?, head_len, length))
}
