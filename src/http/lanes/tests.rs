//! A line to a worker that says what it was asked: who reaches it, and in which order it answers.

#[cfg(target_os = "linux")]
use super::line::start_unix;
use super::line::{Line, start_tcp};
use super::secret::Secret;
use super::worker::{Kind, Worker};
use crate::http::request::{Form, Handler, Request, Trust};
use std::io::{self, Read as _, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
#[cfg(target_os = "linux")]
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Says what it was asked, and panics at `/panic`.
struct Echo;

impl Handler for Echo {
    fn answer(&self, request: &Request<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        assert!(scratch.is_empty());
        let len = out.len();
        out.extend_from_slice(b"half an answer");
        assert_ne!(request.target, "/panic");
        out.truncate(len);
        let text = format!(
            "{:?} {} {:?} {}",
            request.method,
            request.target,
            request.trust,
            request.body.len()
        );
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(request.form().part_of(text.as_bytes()));
    }
    fn failed(&self, form: Form, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n");
        out.extend_from_slice(form.part_of(b"oh"));
    }
}

const LIMIT: Duration = Duration::from_secs(20);

fn request(secret: &Secret, trust: Trust, target: &str) -> String {
    let mut prefix = Vec::new();
    secret.prefix(trust, &mut prefix);
    format!("GET {}{target} HTTP/1.1\r\n\r\n", String::from_utf8(prefix).unwrap())
}

/// Sends five requests at once, the last with a body out of band, and expects their answers in
/// order.
fn check<'l, L>(line: &'l L, bodies: &Sender<Vec<u8>>, secret: &Secret)
where
    &'l L: io::Read + Write,
{
    let put = request(secret, Trust::Token, "/c?d").replace("GET", "PUT");
    let put = put.replace("\r\n\r\n", "\r\nContent-Length: 5000\r\n\r\n");
    let out_of_band = request(secret, Trust::Local, "/e").replace("GET", "PUT");
    let out_of_band =
        out_of_band.replace("\r\n\r\n", "\r\nOut-Of-Band: 1\r\nContent-Length: 0\r\n\r\n");
    let requests = request(secret, Trust::Local, "/a")
        + &request(secret, Trust::Anybody, "/panic")
        + &request(secret, Trust::Anybody, "/panic").replace("GET", "HEAD")
        + &put
        + &"x".repeat(5_000)
        + &out_of_band;
    bodies.send(vec![b'x'; 70_000]).unwrap();
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nGet /a Local 0\
        HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\noh\
        HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\nPut /c?d Token 5000\
        HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\nPut /e Local 70000";
    let (mut reader, mut writer) = (line, line);
    writer.write_all(requests.as_bytes()).unwrap();
    let mut answers = vec![0; expected.len()];
    reader.read_exact(&mut answers).unwrap();
    assert_eq!(String::from_utf8_lossy(&answers), expected);
}

#[test]
#[cfg(target_os = "linux")]
fn a_unix_line_is_served_in_order_and_is_the_only_one() {
    let secret = Secret::new([7; 16]);
    let handler: Arc<dyn Handler> = Arc::new(Echo);
    let (worker, to) = start_unix("test-unix", &secret, &handler, Kind::Quick).unwrap();
    let Line::Unix(line) = to.line else { panic!("another line") };
    line.set_read_timeout(Some(LIMIT)).unwrap();
    assert!(UnixStream::connect_addr(&line.peer_addr().unwrap()).is_err());
    check(&line, &to.bodies, &secret);
    drop(line);
    worker.stop();
}

#[test]
fn a_tcp_line_is_served_in_order_and_is_the_only_one() {
    let secret = Secret::new([7; 16]);
    let handler: Arc<dyn Handler> = Arc::new(Echo);
    let (worker, to) = start_tcp("test-tcp", &secret, &handler, Kind::Quick).unwrap();
    let line = match to.line {
        Line::Tcp(line) => line,
        #[cfg(target_os = "linux")]
        Line::Unix(_) => panic!("another line"),
    };
    line.set_read_timeout(Some(LIMIT)).unwrap();
    if cfg!(target_os = "linux") {
        assert!(TcpStream::connect(line.peer_addr().unwrap()).is_err());
    }
    check(&line, &to.bodies, &secret);
    drop(line);
    worker.stop();
}

#[test]
fn a_stranger_gets_no_answer_and_none_of_ours() {
    let secret = Secret::new([7; 16]);
    let handler: Arc<dyn Handler> = Arc::new(Echo);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let closer = listener.try_clone().unwrap();
    let (worker, bodies) =
        Worker::start("test-stranger", &secret, &handler, Kind::Quick, listener).unwrap();
    let connect = || TcpStream::connect(address).unwrap();
    let (line, stranger) = (connect(), connect());
    line.set_read_timeout(Some(LIMIT)).unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let foreign = request(&Secret::new([8; 16]), Trust::Token, "/a").repeat(10);
    for _ in 0..20 {
        (&stranger).write_all(foreign.as_bytes()).unwrap();
        check(&line, &bodies, &secret);
    }
    assert!((&stranger).read(&mut [0]).is_err());
    drop((line, stranger));
    worker.stop();
    // Ends the accepting thread, where the system can.
    let _ = socket2::SockRef::from(&closer).shutdown(Shutdown::Both);
}
