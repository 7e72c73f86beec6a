//! A /24 of the loopback network for each test.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};

/// The port every member gossips on, as the contract's default.
const GOSSIP_PORT: u16 = 7947;
const HTTP_PORT: u16 = 8080;
const RPC_PORT: u16 = 7373;
const DNS_PORT: u16 = 5353;
/// The host whose port marks a range as taken, also by another run of the tests.
const CLAIM_HOST: u8 = 254;

static NEXT: AtomicU8 = AtomicU8::new(0);

/// Addresses 127.a.b.0/24 that no other test of this machine uses now.
pub struct Range {
    a: u8,
    b: u8,
    _claim: UdpSocket,
}

impl Range {
    /// Takes a free range.
    ///
    /// # Panics
    /// When none is free.
    pub fn claim() -> Range {
        let a = 1 + (std::process::id() % 250) as u8;
        for _ in 0..=u8::MAX {
            let b = NEXT.fetch_add(1, Ordering::Relaxed);
            if let Ok(claim) = UdpSocket::bind((Ipv4Addr::new(127, a, b, CLAIM_HOST), GOSSIP_PORT))
            {
                return Range { a, b, _claim: claim };
            }
        }
        panic!("no loopback range is free");
    }

    /// The address of a host, 1 to 253.
    pub fn ip(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.a, self.b, host)
    }

    /// Where a host gossips.
    pub fn gossip(&self, host: u8) -> SocketAddr {
        (self.ip(host), GOSSIP_PORT).into()
    }

    /// Where a host of ours serves HTTP.
    pub fn http(&self, host: u8) -> SocketAddr {
        (self.ip(host), HTTP_PORT).into()
    }

    /// Where a Serf agent is asked.
    pub fn rpc(&self, host: u8) -> SocketAddr {
        (self.ip(host), RPC_PORT).into()
    }

    /// Where the range's DNS server answers.
    pub fn dns(&self) -> SocketAddr {
        (self.ip(53), DNS_PORT).into()
    }
}
