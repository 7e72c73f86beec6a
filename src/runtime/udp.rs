//! The datagram socket: sends from where it listens, so that replies find back.
//!
//! The runtime watches it for reading only. Sending never waits, so that nobody needs to be woken
//! each time the system has passed a datagram on and has room again.

use super::counters::Counters;
use super::sockets::{canonical, mapped_for};
use crate::limits::DATAGRAM_RECV_LEN;
use bytes::Bytes;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering::Relaxed;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Errors in a row after which the socket is taken for broken.
const ERRORS_MAX: u32 = 1000;

/// The UDP socket of a node.
#[derive(Debug)]
pub(super) struct Udp {
    socket: AsyncFd<UdpSocket>,
    bound: SocketAddr,
    buffer: Box<[u8]>,
    errors: u32,
}

impl Udp {
    /// Takes over a bound socket that does not block. Must be called within the runtime.
    #[expect(deprecated, reason = "the successor is unsafe; a UdpSocket keeps its descriptor")]
    pub fn new(socket: UdpSocket) -> io::Result<Udp> {
        let bound = socket.local_addr()?;
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        let buffer = vec![0; DATAGRAM_RECV_LEN].into_boxed_slice();
        Ok(Udp { socket, bound, buffer, errors: 0 })
    }

    /// Waits until there may be something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(drop)
    }

    /// The next datagram that waits, copied to its own bytes; `None` when there is none.
    ///
    /// Errors of single datagrams (an ICMP answer to one we sent, say) are counted and passed
    /// over.
    ///
    /// # Errors
    /// When nothing but errors comes: the socket is broken.
    pub fn receive(&mut self, counters: &Counters) -> io::Result<Option<(SocketAddr, Bytes)>> {
        loop {
            let receive = |socket: &UdpSocket| socket.recv_from(&mut self.buffer);
            match self.socket.try_io(Interest::READABLE, receive) {
                Ok((len, from)) => {
                    self.errors = 0;
                    counters.datagrams_received.fetch_add(1, Relaxed);
                    counters.datagram_bytes_received.fetch_add(len as u64, Relaxed);
                    let bytes = Bytes::copy_from_slice(&self.buffer[..len]);
                    return Ok(Some((canonical(from), bytes)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => {
                    counters.datagram_receive_errors.fetch_add(1, Relaxed);
                    self.errors += 1;
                    if self.errors >= ERRORS_MAX {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Sends one datagram, best effort: what the system does not take at once is counted and
    /// forgotten, as the network may do with it anyway.
    pub fn send(&self, to: SocketAddr, datagram: &[u8], counters: &Counters) {
        let to = mapped_for(self.bound, to);
        let mut outcome = self.socket.get_ref().send_to(datagram, to);
        if matches!(&outcome, Err(error) if is_about_an_earlier_one(error)) {
            outcome = self.socket.get_ref().send_to(datagram, to);
        }
        match outcome {
            Ok(len) => {
                counters.datagrams_sent.fetch_add(1, Relaxed);
                counters.datagram_bytes_sent.fetch_add(len as u64, Relaxed);
            }
            Err(error) => {
                counters.datagram_send_errors.fetch_add(1, Relaxed);
                tracing::trace!(%to, %error, "a datagram could not be sent");
            }
        }
    }
}

/// Whether the error was caused by another datagram and only told now.
fn is_about_an_earlier_one(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::sockets::bind;

    async fn receive(udp: &mut Udp, counters: &Counters) -> (SocketAddr, Bytes) {
        loop {
            udp.readable().await.expect("a socket");
            if let Some(received) = udp.receive(counters).expect("a socket") {
                return received;
            }
        }
    }

    /// Sends from `a` to `b` at `b_addr` and back to where it came from, as the node sees it.
    fn check_there_and_back(a: &str, b: &str, b_ip: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (Ok(a), Ok(b)) = (bind(a.parse().unwrap()), bind(b.parse().unwrap())) else {
                panic!("this machine lacks {a} or {b}");
            };
            let b_addr = SocketAddr::new(b_ip.parse().unwrap(), b.addr.port());
            let a_port = a.addr.port();
            let (mut a, mut b) = (Udp::new(a.udp).unwrap(), Udp::new(b.udp).unwrap());
            let counters = Counters::default();
            a.send(b_addr, b"there", &counters);
            let (from, bytes) = receive(&mut b, &counters).await;
            assert_eq!((from.port(), &bytes[..]), (a_port, &b"there"[..]));
            assert_eq!(from, canonical(from));
            b.send(from, b"back", &counters);
            let (from, bytes) = receive(&mut a, &counters).await;
            assert_eq!((from, &bytes[..]), (b_addr, &b"back"[..]));
            assert_eq!(counters.datagrams_sent.load(Relaxed), 2);
            assert_eq!(counters.datagram_bytes_received.load(Relaxed), 9);
        });
    }

    #[test]
    fn ipv4_alone_and_through_a_dual_stack_socket() {
        check_there_and_back("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1");
        if UdpSocket::bind("[::]:0").is_ok() {
            check_there_and_back("[::]:0", "127.0.0.1:0", "127.0.0.1");
            check_there_and_back("127.0.0.1:0", "[::]:0", "127.0.0.1");
            check_there_and_back("[::1]:0", "[::]:0", "::1");
        }
    }

    #[test]
    fn a_refused_datagram_costs_no_other() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (a, gone) =
                (bind("127.0.0.1:0".parse().unwrap()), bind("127.0.0.1:0".parse().unwrap()));
            let (a, gone) = (a.unwrap(), gone.unwrap());
            let (own, nobody) = (a.addr, gone.addr);
            drop(gone);
            let mut a = Udp::new(a.udp).unwrap();
            let counters = Counters::default();
            for _ in 0..3 {
                a.send(nobody, b"x", &counters);
            }
            // No IPv6 on an IPv4 socket, and nothing so long in one datagram: counted, no more.
            a.send("[2001:db8::1]:9".parse().unwrap(), b"x", &counters);
            a.send(own, &[0; DATAGRAM_RECV_LEN], &counters);
            a.send(own, b"me", &counters);
            assert_eq!(&receive(&mut a, &counters).await.1[..], b"me");
            assert_eq!(counters.datagram_send_errors.load(Relaxed), 2);
            assert_eq!(a.receive(&counters).unwrap(), None);
        });
    }
}
