//! The connection between the gate and a worker, and how it is made private.
//!
//! On Linux the line is an abstract Unix socket. It needs no file, so a read-only root will do. Its
//! queue has room for one connection: the gate connects at once, and shuts the listener down before
//! tiny_http sees it. So tiny_http accepts the gate's connection and no other.
//!
//! Elsewhere the line is a TCP connection over 127.0.0.1, and the listener is shut down as soon as
//! the line is proven. Whoever connects before that lacks the [`Secret`], and gets no answer.

use super::secret::{PROOF_ANSWER, Secret};
use super::worker::{Kind, Worker};
use crate::http::request::Handler;
use std::io::{self, Read as _, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

#[cfg(target_os = "linux")]
use std::os::unix::net::{UnixListener, UnixStream};

/// How long the proof of a fresh connection may take.
const PROOF_LIMIT: Duration = Duration::from_secs(10);
/// Tries at a Unix socket before TCP: a stranger may have taken the one place in its queue.
#[cfg(target_os = "linux")]
const UNIX_TRIES: usize = 3;

/// What the gate holds of a worker: where requests go in and answers come out.
#[derive(Debug)]
pub(in crate::http) struct Upstream {
    pub(super) line: Line,
    /// Bodies of the requests that have [`BODY_OUT_OF_BAND`](super::worker::BODY_OUT_OF_BAND), in
    /// their order, each before its head. Copying a long one into the kernel and out again would
    /// take longer than all else that is done with it. As many wait as requests are under way.
    pub(super) bodies: Sender<Vec<u8>>,
}

/// The gate's end of a connection to tiny_http.
#[derive(Debug)]
pub(super) enum Line {
    /// An abstract Unix socket.
    #[cfg(target_os = "linux")]
    Unix(UnixStream),
    /// TCP over the loopback interface.
    Tcp(TcpStream),
}

/// Starts a worker, connects to it, and proves the connection.
///
/// # Errors
/// Those of the operating system, and a connection that is not proven to be private.
pub(super) fn start(
    name: &str,
    secret: &Secret,
    handler: &Arc<dyn Handler>,
    kind: Kind,
) -> io::Result<(Worker, Upstream)> {
    #[cfg(target_os = "linux")]
    for _ in 0..UNIX_TRIES {
        if let Ok(started) = start_unix(name, secret, handler, kind) {
            return Ok(started);
        }
    }
    start_tcp(name, secret, handler, kind)
}

#[cfg(target_os = "linux")]
pub(super) fn start_unix(
    name: &str,
    secret: &Secret,
    handler: &Arc<dyn Handler>,
    kind: Kind,
) -> io::Result<(Worker, Upstream)> {
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
    let (worker, bodies) = Worker::start(name, secret, handler, kind, UnixListener::from(socket))?;
    let line = UnixStream::from(line);
    line.set_read_timeout(Some(PROOF_LIMIT))?;
    prove(&line, secret)?;
    line.set_read_timeout(None)?;
    Ok((worker, Upstream { line: Line::Unix(line), bodies }))
}

pub(super) fn start_tcp(
    name: &str,
    secret: &Secret,
    handler: &Arc<dyn Handler>,
    kind: Kind,
) -> io::Result<(Worker, Upstream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let closer = listener.try_clone()?;
    let (worker, bodies) = Worker::start(name, secret, handler, kind, listener)?;
    let line = TcpStream::connect(address)?;
    line.set_nodelay(true)?;
    line.set_read_timeout(Some(PROOF_LIMIT))?;
    prove(&line, secret)?;
    line.set_read_timeout(None)?;
    // Not every system can shut a listening socket down; there the secret alone keeps others out.
    let _ = socket2::SockRef::from(&closer).shutdown(Shutdown::Both);
    Ok((worker, Upstream { line: Line::Tcp(line), bodies }))
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
