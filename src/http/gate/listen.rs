//! The listening socket, and how many connections the limit of open files permits.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait to be accepted. The kernel caps it (`net.core.somaxconn`); with a
/// short queue a burst of clients waits seconds for its second SYN.
const BACKLOG: i32 = 4096;

/// Binds `address`; `[::]` takes IPv4 clients as well.
///
/// # Errors
/// Those of the operating system.
pub(in crate::http) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Raises the soft limit of open descriptors to the hard one, and returns how many client
/// connections fit: at most half of it, the rest is for everything else in the process.
pub(super) fn connections_max(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let mut soft = limit.current;
    if soft != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            soft = limit.maximum;
        }
    }
    match soft.and_then(|soft| usize::try_from(soft / 2).ok()) {
        Some(half) => wanted.min(half.max(1)),
        None => wanted,
    }
}
