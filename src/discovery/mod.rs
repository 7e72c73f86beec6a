//! Discovery: a loop that only ever says "try these addresses", and what it knows them from.
//!
//! ```text
//!   --join names ----+    addresses, own one left out --> Early, of each but the last to answer
//!                    +-->
//!   --discover-srv --+    all of them, who failed ------> Look, then wait, then again, for ever
//! ```
//!
//! A look ends when every source has answered or has had its time. Its end is told even when it
//! found nobody: that DNS says "nobody", that it fails, and that it has not answered yet are three
//! different things to a node that wonders whether it is the first.
//!
//! Names are resolved afresh at every look, `/etc/hosts` and `/etc/resolv.conf` are read afresh
//! too, and nothing is cached here: what a look finds is what DNS says now. The loop never gives
//! up and never takes a success for the end, because a join can succeed on one of two islands.
//! Everything goes through hickory; nothing calls the C library's resolver, which a static binary
//! lacks.

pub mod backoff;
pub mod dns;
pub mod ecs;
#[cfg(test)]
mod fake;
pub mod fetch;
pub mod peers;
pub mod seeds;
pub mod srv;
mod standing;
mod system;

pub use seeds::Seed;
pub use srv::SrvName;
pub use standing::{Found, Look, look_once, run};

use std::net::{IpAddr, SocketAddr};

/// The port of gossip where none is given.
pub const GOSSIP_PORT: u16 = 7947;

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Names and addresses given by hand.
    pub seeds: Vec<Seed>,
    /// A DNS record that lists the peers.
    pub srv: Option<SrvName>,
    /// The DNS server to ask; the system's when none.
    pub dns: Option<SocketAddr>,
    /// What this node advertises; never offered.
    pub own: Option<SocketAddr>,
    /// Where it listens, and so dials from; addresses of a family that this has not are not
    /// offered. A zone with DNS64 has an IPv6 address for everybody.
    pub bound: Option<SocketAddr>,
}

impl Config {
    /// True when there is nowhere to look.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seeds.is_empty() && self.srv.is_none()
    }

    /// What is dialled from where it listens can be of these families.
    #[must_use]
    pub fn families(&self) -> Families {
        self.bound.map_or(Families::BOTH, Families::of)
    }

    /// Whether what is dialled from where it listens can be of this family.
    #[must_use]
    pub fn reaches(&self, addr: SocketAddr) -> bool {
        self.families().has(addr.ip())
    }
}

/// Families of addresses that can be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4, also when written as IPv6.
    pub ipv4: bool,
    /// IPv6 proper.
    pub ipv6: bool,
}

impl Families {
    /// All there is.
    pub const BOTH: Families = Families { ipv4: true, ipv6: true };

    /// Those of whoever listens there: every address of IPv6 is every address of IPv4, too.
    #[must_use]
    pub fn of(bound: SocketAddr) -> Families {
        let ip = bound.ip().to_canonical();
        Families { ipv4: ip.is_ipv4() || ip.is_unspecified(), ipv6: ip.is_ipv6() }
    }

    /// Whether an address is of one of them.
    #[must_use]
    pub fn has(self, ip: IpAddr) -> bool {
        if ip.to_canonical().is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_reaches_its_own_family_and_that_of_every_address_both() {
        let reaches = |bound: &str, addr: &str| {
            let bound = (!bound.is_empty()).then(|| bound.parse().expect("an address"));
            Config { bound, ..Config::default() }.reaches(addr.parse().expect("an address"))
        };
        for (bound, ipv4, ipv6) in [
            ("", true, true),
            ("0.0.0.0:1", true, false),
            ("10.0.0.1:1", true, false),
            ("[::]:1", true, true),
            ("[2001:db8::1]:1", false, true),
        ] {
            assert_eq!(reaches(bound, "10.0.0.2:7947"), ipv4, "{bound}");
            assert_eq!(reaches(bound, "[::ffff:10.0.0.2]:7947"), ipv4, "{bound}");
            assert_eq!(reaches(bound, "[64:ff9b::a00:2]:7947"), ipv6, "{bound}");
        }
    }
}
