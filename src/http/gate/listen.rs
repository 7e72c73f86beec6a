//! The listening socket, and how many connections the limit of open files permits.

use crate::limits::{
    HTTP_CONNECTIONS_SHARE, HTTP_REFUSED_CONNECTIONS_MAX, HTTP_REFUSED_CONNECTIONS_SHARE,
    connections_of,
};
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

/// How many connections of clients there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Those that are served.
    pub(super) connections: usize,
    /// Those that are told that there are too many.
    pub(super) refused: usize,
}

/// Raises the soft limit of open descriptors to the hard one, and returns what of `wanted` it
/// permits: all that clients have is at most half of it, the rest is for everything else in the
/// process.
pub(super) fn room(wanted: usize) -> Room {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let mut soft = limit.current;
    if soft != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            soft = limit.maximum;
        }
    }
    within(soft.map_or(usize::MAX, |soft| usize::try_from(soft).unwrap_or(usize::MAX)), wanted)
}

fn within(open_files: usize, wanted: usize) -> Room {
    let refused = connections_of(open_files, HTTP_REFUSED_CONNECTIONS_SHARE);
    Room {
        connections: wanted.min(connections_of(open_files, HTTP_CONNECTIONS_SHARE)),
        refused: refused.min(HTTP_REFUSED_CONNECTIONS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HTTP_CONNECTIONS_DEFAULT_MAX;

    #[test]
    fn clients_have_at_most_half_of_the_descriptors_those_that_are_refused_among_them() {
        for open_files in [0, 1, 64, 80, 256, 1024, 4096, 65_535, 1 << 20, usize::MAX] {
            let Room { connections, refused } = within(open_files, HTTP_CONNECTIONS_DEFAULT_MAX);
            assert!(connections > 0 && refused > 0, "{open_files}");
            assert!(open_files < 64 || connections + refused <= open_files / 2, "{open_files}");
        }
        let wanted = Room { connections: 4096, refused: HTTP_REFUSED_CONNECTIONS_MAX };
        assert_eq!(within(65_535, 4096), wanted);
        assert_eq!(within(usize::MAX, 4096), wanted);
        assert_eq!(within(1024, 4096), Room { connections: 420, refused: 60 });
    }
}
