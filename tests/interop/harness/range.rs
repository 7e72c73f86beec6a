//! A /24 of the loopback network for each test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
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

/// Three consecutive ports that nobody has now, from about `start` on, for what can't have an
/// address of its own. Below the ports that the system hands out.
pub fn free_ports(ip: IpAddr, start: u16) -> u16 {
    let is_free = |port: u16| {
        let at = SocketAddr::from((ip, port));
        TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
    };
    let start = start + (std::process::id() % 500) as u16 * 3;
    let mut candidates = (start..start + 3000).step_by(3);
    candidates.find(|&port| (port..port + 3).all(is_free)).expect("some ports are free")
}
