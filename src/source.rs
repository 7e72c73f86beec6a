//! Where a connection comes from, as far as what is scarce is shared by it.

use std::net::IpAddr;

/// An address; of IPv6 the network of 64 bits, all of which one host may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source of a connection from this address. IPv4 within IPv6 is IPv4.
    #[must_use]
    pub fn of(ip: IpAddr) -> Source {
        Source(match ip.to_canonical() {
            // Loopback has no network.
            IpAddr::V6(ip) if !ip.is_loopback() => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
            ip => ip,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().expect("an address"))
    }

    #[test]
    fn a_source_is_an_address_or_a_network_of_ipv6() {
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_eq!(source("2001:db8:0:1::1"), source("2001:db8:0:1:ffff::9"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
        assert_ne!(source("::1"), source("::2"));
    }
}
