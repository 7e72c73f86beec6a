//! Which address others dial, when nobody has said it.
//!
//! The bind address if it is a concrete one, else the address of the default route, else that of
//! any other route (a network of containers may have no way out). The system is asked by
//! connecting a UDP socket, which chooses a source address and sends nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Connected to, never sent to: addresses set aside for documentation (RFC 5737, RFC 3849), which
/// only the default route leads to.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const ROUTES_V4: &str = "/proc/net/route";
const ADDRESSES_V6: &str = "/proc/net/if_inet6";

/// No address of this machine can be dialled from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no address to advertise: no route leads out of this machine; say one with --advertise")]
pub struct NoAddress;

/// The address that others can dial when we listen on `bind`.
///
/// # Errors
/// [`NoAddress`] when `bind` names none and there is no route.
pub fn address(bind: IpAddr) -> Result<IpAddr, NoAddress> {
    let bind = bind.to_canonical();
    if !bind.is_unspecified() {
        return Ok(bind);
    }
    let v4 = || source(FAR_V4.into()).or_else(|| routes_v4().into_iter().find_map(source));
    let found =
        if bind.is_ipv4() { v4() } else { source(FAR_V6.into()).or_else(v4).or_else(first_v6) };
    found.ok_or(NoAddress)
}

/// Our address towards `peer`, when there is a route.
fn source(peer: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(peer, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// An address inside each network that the system has a route to.
fn routes_v4() -> Vec<IpAddr> {
    let table = std::fs::read_to_string(ROUTES_V4).unwrap_or_default();
    parse_routes_v4(&table)
}

fn parse_routes_v4(table: &str) -> Vec<IpAddr> {
    let network = |line: &str| {
        let destination = line.split_whitespace().nth(1)?;
        // Four bytes in network order, shown as the number this processor reads them as.
        let bytes = u32::from_str_radix(destination, 16).ok()?.to_ne_bytes();
        Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes(bytes).saturating_add(1))))
    };
    table.lines().skip(1).filter_map(network).collect()
}

/// The first address of global scope in the system's list.
fn first_v6() -> Option<IpAddr> {
    let table = std::fs::read_to_string(ADDRESSES_V6).unwrap_or_default();
    parse_addresses_v6(&table)
}

fn parse_addresses_v6(table: &str) -> Option<IpAddr> {
    table.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let address = u128::from_str_radix(columns.next()?, 16).ok()?;
        let scope = columns.nth(2)?;
        (scope == "00").then(|| IpAddr::V6(Ipv6Addr::from_bits(address)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concrete_bind_address_is_advertised() {
        for (bind, expected) in
            [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::ffff:10.1.2.3", "10.1.2.3")]
        {
            assert_eq!(address(bind.parse().unwrap()), expected.parse().map_err(|_| NoAddress));
        }
    }

    #[test]
    fn what_is_found_can_be_dialled_from_elsewhere() {
        for bind in ["0.0.0.0", "::"] {
            match address(bind.parse().unwrap()) {
                Ok(ip) => assert!(!ip.is_unspecified() && !ip.is_loopback(), "{ip}"),
                Err(error) => assert!(error.to_string().contains("--advertise")),
            }
        }
    }

    #[test]
    fn the_system_tables_are_read_right() {
        let routes = "Iface\tDestination\tGateway \tFlags\n\
                      eth0\t00000000\t0112A8C0\t0003\n\
                      eth0\t0012A8C0\t00000000\t0001\n\
                      broken\n";
        let expected = ["0.0.0.1", "192.168.18.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(parse_routes_v4(routes), expected);
        let addresses = "00000000000000000000000000000001 01 80 10 80       lo\n\
                         fe80000000000000021122fffe334455 02 40 20 80     eth0\n\
                         20010db8000000000000000000000007 02 40 00 80     eth0\n";
        assert_eq!(parse_addresses_v6(addresses), Some("2001:db8::7".parse().unwrap()));
        assert_eq!(parse_addresses_v6(""), None);
    }
}
