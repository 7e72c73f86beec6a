//! The one file that names tiny_http.
//!
//! tiny_http parses requests and hands them out; a worker answers them. It is kept on a private
//! line to the gate, a [`Lane`] each with a server of its own:
//!
//! ```text
//! gate ==(one connection)==> tiny_http: parse --queue--> worker: Handler
//!  |                                                        | ^
//!  |--------- long bodies: a channel, in order -------------|-'
//!  `<================== answers, in order ==================`
//! ```
//!
//! One worker per connection makes the order of answers the order of requests, so the gate can
//! send many requests without waiting, and the worker can write many answers with one asked.
//!
//! **Nobody else reaches it.** On Linux the line is an abstract Unix socket: no file, so that a
//! read-only root will do. Its queue has room for one connection, the gate connects at once and
//! shuts the listener down before tiny_http sees it: what is accepted is the gate's connection and
//! no other.
//! Elsewhere the line is a TCP connection over 127.0.0.1, shut down as soon as it is proven; who
//! slips in before lacks the secret that every target begins with, and gets no answer.

use crate::http::request::{Handler, Method, Request, Trust};
use std::io::{self, Read as _, Write};
use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

#[cfg(target_os = "linux")]
use std::os::unix::net::{UnixListener, UnixStream};

/// Answers written with one asked, in bytes; what is more goes in a further asked.
const BATCH_LEN_MAX: usize = 64 << 10;
/// How long the proof of a fresh connection may take.
const PROOF_LIMIT: Duration = Duration::from_secs(10);
/// How long a worker may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// Tries at a Unix socket before TCP: a stranger may have taken the one place in its queue.
#[cfg(target_os = "linux")]
const UNIX_TRIES: usize = 3;
/// What a buffer may keep between requests, in bytes.
const KEPT_LEN_MAX: usize = 1 << 20;

/// What every target of the gate begins with: `/`, 32 hex digits, then how far the client is
/// trusted. Clients cannot send it: the gate puts it before whatever they send.
#[derive(Clone)]
pub struct Secret(String);

/// The answer to a [`Secret::proof`].
const PROOF_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const PROOF_MARK: char = '!';

impl Secret {
    /// A fresh one from these random bytes.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Secret {
        Secret(format!("/{:032x}", u128::from_ne_bytes(random)))
    }

    /// What goes before the target of a client's request.
    pub fn prefix(&self, trust: Trust, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
        out.push(match trust {
            Trust::Anybody => b'-',
            Trust::Local => b'l',
            Trust::Token => b't',
        });
    }

    /// A whole request that only asks whether the lane is alive.
    #[must_use]
    pub fn proof(&self) -> Vec<u8> {
        format!("GET {}{PROOF_MARK} HTTP/1.1\r\n\r\n", self.0).into_bytes()
    }

    /// Takes the prefix off; `None` from anybody but the gate.
    fn open<'t>(&self, target: &'t str) -> Option<(char, &'t str)> {
        let mut rest = target.strip_prefix(self.0.as_str())?.chars();
        Some((rest.next()?, rest.as_str()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The header of a request whose body comes through [`Upstream::bodies`]. Clients cannot send it:
/// the gate passes on only headers it names.
pub const BODY_OUT_OF_BAND: &[u8] = b"Out-Of-Band: 1\r\n";

/// The gate's end of a lane.
#[derive(Debug)]
pub struct Upstream {
    /// Requests go in, answers come out.
    pub line: Line,
    /// Bodies of requests with [`BODY_OUT_OF_BAND`], in their order, each before its head: copying a long one
    /// into the kernel and out again would take longer than all else that is done with it. As many
    /// wait as requests are under way.
    pub bodies: Sender<Vec<u8>>,
}

/// The gate's end of a connection to tiny_http.
#[derive(Debug)]
pub enum Line {
    /// Through an abstract Unix socket.
    #[cfg(target_os = "linux")]
    Unix(UnixStream),
    /// Over the loopback interface.
    Tcp(TcpStream),
}

/// One tiny_http server with its worker. Ends when the gate closes the [`Line`] and
/// [`stop`](Lane::stop) is called.
pub struct Lane {
    server: Arc<Tiny>,
    stopping: Arc<AtomicBool>,
    worker: JoinHandle<()>,
    /// Disconnected when the worker has ended.
    ended: Receiver<()>,
}

/// Never dropped: `tiny_http::Server::drop` panics for an abstract socket, and has nothing to do
/// here, where its listener is shut down already. What stays behind is some hundred bytes.
type Tiny = ManuallyDrop<tiny_http::Server>;

impl Lane {
    /// Starts a server and its worker, connects, and proves the connection.
    ///
    /// # Errors
    /// Whatever keeps us from a private connection.
    pub fn start(
        name: &str,
        secret: &Secret,
        handler: Arc<dyn Handler>,
    ) -> io::Result<(Lane, Upstream)> {
        #[cfg(target_os = "linux")]
        for _ in 0..UNIX_TRIES {
            if let Ok(started) = start_unix(name, secret, &handler) {
                return Ok(started);
            }
        }
        start_tcp(name, secret, &handler)
    }

    /// Ends the worker. Requests it has not taken yet are not answered. One that is stuck is left
    /// to itself.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.server.unblock();
        if self.ended.recv_timeout(STOP_LIMIT) == Err(RecvTimeoutError::Disconnected) {
            // A worker catches its handler's panics, so it has none of its own to report.
            let _ = self.worker.join();
        }
    }

    /// Serves what connects to `listener`, until that is shut down.
    fn serve(
        name: &str,
        secret: &Secret,
        handler: &Arc<dyn Handler>,
        listener: tiny_http::Listener,
    ) -> io::Result<(Lane, Sender<Vec<u8>>)> {
        let server = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let server = Arc::new(ManuallyDrop::new(server));
        let stopping = Arc::new(AtomicBool::new(false));
        let (alive, ended) = mpsc::channel();
        let (to_worker, bodies) = mpsc::channel();
        let worker = Worker {
            _alive: alive,
            server: Arc::clone(&server),
            stopping: Arc::clone(&stopping),
            secret: secret.clone(),
            handler: Arc::clone(handler),
            bodies,
            body: Vec::new(),
            scratch: Vec::new(),
            answers: Vec::new(),
        };
        let worker = Builder::new().name(name.to_owned()).spawn(move || worker.run())?;
        Ok((Lane { server, stopping, worker, ended }, to_worker))
    }
}

#[cfg(target_os = "linux")]
fn start_unix(
    name: &str,
    secret: &Secret,
    handler: &Arc<dyn Handler>,
) -> io::Result<(Lane, Upstream)> {
    use std::os::linux::net::SocketAddrExt as _;

    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // Bound to no name, the kernel gives it a free abstract one.
    socket.bind(&socket2::SockAddr::unix("")?)?;
    socket.listen(0)?;
    let address = UnixListener::from(socket.try_clone()?).local_addr()?;
    if address.as_abstract_name().is_none_or(<[u8]>::is_empty) {
        return Err(io::Error::other("the kernel gave no abstract name"));
    }
    let line = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // When a stranger has taken the one place this fails at once; blocking it would wait for ever.
    line.set_nonblocking(true)?;
    line.connect(&socket.local_addr()?)?;
    line.set_nonblocking(false)?;
    // What is queued is still accepted; nothing more is queued.
    socket.shutdown(Shutdown::Both)?;
    let (lane, bodies) = Lane::serve(name, secret, handler, UnixListener::from(socket).into())?;
    let line = UnixStream::from(line);
    line.set_read_timeout(Some(PROOF_LIMIT))?;
    prove(&line, secret)?;
    line.set_read_timeout(None)?;
    Ok((lane, Upstream { line: Line::Unix(line), bodies }))
}

fn start_tcp(
    name: &str,
    secret: &Secret,
    handler: &Arc<dyn Handler>,
) -> io::Result<(Lane, Upstream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let closer = listener.try_clone()?;
    let (lane, bodies) = Lane::serve(name, secret, handler, listener.into())?;
    let line = TcpStream::connect(address)?;
    line.set_nodelay(true)?;
    line.set_read_timeout(Some(PROOF_LIMIT))?;
    prove(&line, secret)?;
    line.set_read_timeout(None)?;
    // Not every system can shut a listening socket down; there the secret alone keeps others out.
    let _ = socket2::SockRef::from(&closer).shutdown(Shutdown::Both);
    Ok((lane, Upstream { line: Line::Tcp(line), bodies }))
}

/// Makes sure that this connection is served, and by our own worker.
fn prove<'l, L>(line: &'l L, secret: &Secret) -> io::Result<()>
where
    &'l L: io::Read + Write,
{
    let (mut reader, mut writer) = (line, line);
    writer.write_all(&secret.proof())?;
    let mut answer = [0; PROOF_ANSWER.len()];
    reader.read_exact(&mut answer)?;
    if answer == PROOF_ANSWER { Ok(()) } else { Err(io::Error::other("a stranger answered")) }
}

/// Takes one request after the other, and writes the answers of those that wait together.
struct Worker {
    _alive: Sender<()>,
    server: Arc<Tiny>,
    stopping: Arc<AtomicBool>,
    secret: Secret,
    handler: Arc<dyn Handler>,
    bodies: Receiver<Vec<u8>>,
    body: Vec<u8>,
    scratch: Vec<u8>,
    answers: Vec<u8>,
}

impl Worker {
    fn run(mut self) {
        while !self.stopping.load(Ordering::Acquire) {
            // An error is the shut-down of the listener or the wake-up of `stop`.
            let Ok(request) = self.server.recv() else { continue };
            let mut writer = self.answer(request);
            while self.answers.len() < BATCH_LEN_MAX
                && let Ok(Some(request)) = self.server.try_recv()
            {
                // Dropping a writer passes the turn on, so the last one may write for all.
                writer = self.answer(request).or(writer);
            }
            if let Some(mut writer) = writer {
                // When this fails the gate has gone; `stop` follows.
                let _ = writer.write_all(&self.answers).and_then(|()| writer.flush());
            }
            for buffer in [&mut self.answers, &mut self.body, &mut self.scratch] {
                buffer.clear();
                buffer.shrink_to(KEPT_LEN_MAX);
            }
        }
    }

    /// Reads a request's body, or gets it from beside; false when it is not whole.
    fn take_body(&mut self, request: &mut tiny_http::Request) -> bool {
        let is_out_of_band = |header: &tiny_http::Header| header.field.equiv("Out-Of-Band");
        if request.headers().iter().any(is_out_of_band) {
            return self.bodies.try_recv().map(|body| self.body = body).is_ok();
        }
        // Read to its end: what is left unread tiny_http reads into a buffer of that length.
        request.as_reader().read_to_end(&mut self.body).is_ok()
    }

    /// Appends the answer to `answers`; `None` for what the gate did not send.
    fn answer(&mut self, mut request: tiny_http::Request) -> Option<Box<dyn Write + Send>> {
        if self.secret.open(request.url()).is_none() {
            // Never dropped, a stranger's request takes no body in, gets no answer, and makes
            // tiny_http wait for its end instead of reading his next.
            std::mem::forget(request);
            return None;
        }
        self.body.clear();
        self.scratch.clear();
        let is_whole = self.take_body(&mut request);
        let (mark, target) = self.secret.open(request.url())?;
        let method = Method::from_name(request.method().as_str()).filter(|_| is_whole)?;
        let before = self.answers.len();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let trust = match mark {
                PROOF_MARK => return self.answers.extend_from_slice(PROOF_ANSWER),
                'l' => Trust::Local,
                't' => Trust::Token,
                _ => Trust::Anybody,
            };
            let header = |name: &'static str| {
                let header = request.headers().iter().find(|header| header.field.equiv(name));
                header.map(|header| header.value.as_str())
            };
            let asked = Request {
                method,
                target,
                trust,
                content_type: header("Content-Type"),
                if_none_match: header("If-None-Match"),
                if_match: header("If-Match"),
                has_length: request.body_length().is_some(),
                body: &self.body,
            };
            self.handler.answer(&asked, &mut self.scratch, &mut self.answers);
        }));
        if caught.is_err() {
            self.answers.truncate(before);
            self.handler.failed(&mut self.answers);
        }
        Some(request.into_writer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            out.extend_from_slice(text.as_bytes());
        }
        fn failed(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
        }
    }

    const LIMIT: Duration = Duration::from_secs(20);

    fn request(secret: &Secret, trust: Trust, target: &str) -> String {
        let mut prefix = Vec::new();
        secret.prefix(trust, &mut prefix);
        format!("GET {}{target} HTTP/1.1\r\n\r\n", String::from_utf8(prefix).unwrap())
    }

    /// Sends four requests at once, the last with a body from beside, and expects their answers in
    /// order.
    fn check<'l, L>(line: &'l L, bodies: &Sender<Vec<u8>>, secret: &Secret)
    where
        &'l L: io::Read + Write,
    {
        let put = request(secret, Trust::Token, "/c?d").replace("GET", "PUT");
        let put = put.replace("\r\n\r\n", "\r\nContent-Length: 5000\r\n\r\n");
        let beside = request(secret, Trust::Local, "/e").replace("GET", "PUT");
        let beside = beside.replace("\r\n\r\n", "\r\nOut-Of-Band: 1\r\nContent-Length: 0\r\n\r\n");
        let requests = request(secret, Trust::Local, "/a")
            + &request(secret, Trust::Anybody, "/panic")
            + &put
            + &"x".repeat(5_000)
            + &beside;
        bodies.send(vec![b'x'; 70_000]).unwrap();
        let expected = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nGet /a Local 0\
            HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n\
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
        let (lane, to) = start_unix("test-unix", &secret, &handler).unwrap();
        let Line::Unix(line) = to.line else { panic!("another line") };
        line.set_read_timeout(Some(LIMIT)).unwrap();
        assert!(UnixStream::connect_addr(&line.peer_addr().unwrap()).is_err());
        check(&line, &to.bodies, &secret);
        drop(line);
        lane.stop();
    }

    #[test]
    fn a_tcp_line_is_served_in_order_and_is_the_only_one() {
        let secret = Secret::new([7; 16]);
        let handler: Arc<dyn Handler> = Arc::new(Echo);
        let (lane, to) = start_tcp("test-tcp", &secret, &handler).unwrap();
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
        lane.stop();
    }

    #[test]
    fn a_stranger_gets_no_answer_and_none_of_ours() {
        let secret = Secret::new([7; 16]);
        let handler: Arc<dyn Handler> = Arc::new(Echo);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let closer = listener.try_clone().unwrap();
        let (lane, bodies) =
            Lane::serve("test-stranger", &secret, &handler, listener.into()).unwrap();
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
        lane.stop();
        // Ends the accepting thread, where the system can.
        let _ = socket2::SockRef::from(&closer).shutdown(Shutdown::Both);
    }
}
