//! The datagram socket: sends from where it listens, so that replies find back.

use super::counters::Counters;
use super::sockets::{canonical, mapped_for};
use crate::limits::DATAGRAM_RECV_LEN;
use bytes::Bytes;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use tokio::net::UdpSocket;

/// Errors in a row after which the socket is taken for broken.
const ERRORS_MAX: u32 = 1000;

/// The UDP socket of a node.
#[derive(Debug)]
pub(super) struct Udp {
    /// Registered with the runtime, to await and receive.
    socket: UdpSocket,
    /// The same socket, to send without asking the runtime whether it is ready.
    sender: std::net::UdpSocket,
    bound: SocketAddr,
    buffer: Box<[u8]>,
    errors: u32,
}

impl Udp {
    /// Takes over a bound socket that does not block. Must be called within the runtime.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Udp> {
        let bound = socket.local_addr()?;
        let sender = socket.try_clone()?;
        let socket = UdpSocket::from_std(socket)?;
        let buffer = vec![0; DATAGRAM_RECV_LEN].into_boxed_slice();
        Ok(Udp { socket, sender, bound, buffer, errors: 0 })
    }

    /// Waits until there may be something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
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
            match self.socket.try_recv_from(&mut self.buffer) {
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
        let mut outcome = self.sender.send_to(datagram, to);
        if matches!(&outcome, Err(error) if is_about_an_earlier_one(error)) {
            outcome = self.sender.send_to(datagram, to);
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
        if std::net::UdpSocket::bind("[::]:0").is_ok() {
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
