//! The pair of sockets gossip listens on: UDP and TCP on one port.
//!
//! ```text
//!  bound to      sends to 10.0.0.1 as    hears 10.0.0.1 as     the node sees
//!  0.0.0.0       10.0.0.1                10.0.0.1              10.0.0.1
//!  [::]          [::ffff:10.0.0.1]       [::ffff:10.0.0.1]     10.0.0.1
//! ```
//!
//! `[::]` listens to both families whatever the system's default says.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

/// Connections the system holds ready for us to accept.
const BACKLOG: i32 = 1024;
/// What we ask for as UDP buffers, in bytes; halved until the system agrees.
const UDP_BUFFER_LEN: usize = 2 << 20;
/// Tries to find a port that is free for UDP and TCP alike.
const PORT_TRIES: u32 = 10;

/// Why we cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} for gossip over {transport}: {error}")]
pub struct BindError {
    /// What was asked for.
    pub addr: SocketAddr,
    /// `UDP` or `TCP`.
    pub transport: &'static str,
    /// What the system says.
    pub error: io::Error,
}

/// Both sockets, not blocking.
#[derive(Debug)]
pub(super) struct Pair {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
    /// Where both are bound, its port never 0.
    pub addr: SocketAddr,
}

/// Listens on `addr`. Port 0 stands for any that is free for both.
pub(super) fn bind(addr: SocketAddr) -> Result<Pair, BindError> {
    let mut tries = 1;
    loop {
        match bind_pair(addr) {
            Err(error)
                if addr.port() == 0
                    && tries < PORT_TRIES
                    && error.error.kind() == io::ErrorKind::AddrInUse =>
            {
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

fn bind_pair(addr: SocketAddr) -> Result<Pair, BindError> {
    let failed = |transport| move |error| BindError { addr, transport, error };
    let tcp = bind_tcp(addr).map_err(failed("TCP"))?;
    let addr = tcp.local_addr().map_err(failed("TCP"))?;
    let udp = bind_udp(addr).map_err(failed("UDP"))?;
    Ok(Pair { udp, tcp, addr })
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(addr, Type::STREAM, Protocol::TCP)?;
    // A restart must not wait for the last connections of its predecessor to be forgotten. For
    // UDP the same option would let two nodes share a port in silence.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(addr, Type::DGRAM, Protocol::UDP)?;
    halve_until_accepted(|len| socket.set_recv_buffer_size(len))?;
    halve_until_accepted(|len| socket.set_send_buffer_size(len))?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

fn open(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    Ok(socket)
}

fn halve_until_accepted(set: impl Fn(usize) -> io::Result<()>) -> io::Result<()> {
    let mut len = UDP_BUFFER_LEN;
    loop {
        match set(len) {
            Err(_) if len > 4096 => len /= 2,
            outcome => return outcome,
        }
    }
}

/// The address as everybody else writes it: an IPv4 address mapped into IPv6 is that IPv4 address.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// The address as a socket of the family of `bound` takes it.
pub(super) fn mapped_for(bound: SocketAddr, to: SocketAddr) -> SocketAddr {
    match (bound, canonical(to)) {
        (SocketAddr::V6(_), SocketAddr::V4(to)) => {
            SocketAddr::new(IpAddr::V6(to.ip().to_ipv6_mapped()), to.port())
        }
        (_, to) => to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_0_is_one_port_for_both() {
        let pairs: Vec<Pair> =
            (0..20).map(|_| bind("127.0.0.1:0".parse().unwrap()).expect("a free port")).collect();
        for pair in &pairs {
            assert_ne!(pair.addr.port(), 0);
            assert_eq!(pair.udp.local_addr().unwrap(), pair.addr);
            assert_eq!(pair.tcp.local_addr().unwrap(), pair.addr);
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_its_transport() {
        let first = bind("127.0.0.1:0".parse().unwrap()).expect("a free port");
        let error = bind(first.addr).expect_err("in use");
        assert_eq!(error.transport, "TCP");
        assert!(error.to_string().contains(&first.addr.to_string()), "{error}");
        drop(first.tcp);
        let error = bind(first.addr).expect_err("UDP still holds it");
        assert_eq!((error.transport, error.error.kind()), ("UDP", io::ErrorKind::AddrInUse));
        drop(first.udp);
        bind(first.addr).expect("free again");
    }

    #[track_caller]
    fn check_mapped(bound: &str, to: &str, expected: &str) {
        let mapped = mapped_for(bound.parse().unwrap(), to.parse().unwrap());
        assert_eq!(mapped, expected.parse().unwrap());
        assert_eq!(canonical(mapped), canonical(to.parse().unwrap()));
    }

    #[test]
    fn mapped_addresses_go_both_ways() {
        check_mapped("[::]:1", "10.0.0.1:2", "[::ffff:10.0.0.1]:2");
        check_mapped("[::]:1", "[::ffff:10.0.0.1]:2", "[::ffff:10.0.0.1]:2");
        check_mapped("[::]:1", "[2001:db8::1]:2", "[2001:db8::1]:2");
        check_mapped("0.0.0.0:1", "[::ffff:10.0.0.1]:2", "10.0.0.1:2");
        check_mapped("0.0.0.0:1", "10.0.0.1:2", "10.0.0.1:2");
    }
}
