//! The address of ours that others can dial, as the routing table has it.
//!
//! That of the route to the first peer looked for, else that of the default route, else that of any
//! other route: a network of containers may have no way out. The system is asked by connecting a
//! UDP socket, which chooses a source address and sends nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses set aside for documentation (RFC 5737, RFC 3849): only the default route leads there.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
// Not `/proc/net`, which is hidden where a service sees of `/proc` the processes alone.
const ROUTES_V4: &str = "/proc/self/net/route";
const ADDRESSES_V6: &str = "/proc/self/net/if_inet6";

/// Our address for peers of a node that listens on every address: towards the first of `peers` that
/// has a route. Where there is none, IPv6 first when it listens on IPv6, which hears IPv4 too.
pub(super) fn own_address(ipv6: bool, peers: &[IpAddr]) -> Option<IpAddr> {
    let heard = peers.iter().map(IpAddr::to_canonical).filter(|ip| ipv6 || ip.is_ipv4());
    let towards = heard.filter(|ip| !ip.is_loopback()).find_map(source);
    towards.or_else(|| any_address(ipv6))
}

fn any_address(ipv6: bool) -> Option<IpAddr> {
    let v4 = || source(FAR_V4.into()).or_else(|| routes_v4().into_iter().find_map(source));
    if ipv6 { source(FAR_V6.into()).or_else(v4).or_else(first_v6) } else { v4() }
}

/// Whether this host has several addresses to choose from.
pub(super) fn has_choice(ipv6: bool) -> bool {
    let v4: BTreeSet<IpAddr> = routes_v4().into_iter().filter_map(source).collect();
    v4.len() + if ipv6 { addresses_v6().len() } else { 0 } > 1
}

/// Our address towards `peer`, when there is a route.
fn source(peer: IpAddr) -> Option<IpAddr> {
    const DISCARD_PORT: u16 = 9;
    let any: IpAddr = match peer {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(peer, DISCARD_PORT)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    // One of a single link will not do: gossip tells no zone.
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    (!ip.is_unspecified() && !ip.is_loopback() && !link_local).then_some(ip)
}

/// An address inside each network that the system has a route to.
fn routes_v4() -> Vec<IpAddr> {
    parse_routes_v4(&std::fs::read_to_string(ROUTES_V4).unwrap_or_default())
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
    addresses_v6().first().copied()
}

fn addresses_v6() -> Vec<IpAddr> {
    parse_addresses_v6(&std::fs::read_to_string(ADDRESSES_V6).unwrap_or_default())
}

fn parse_addresses_v6(table: &str) -> Vec<IpAddr> {
    let global = |line: &str| {
        let mut columns = line.split_whitespace();
        let address = u128::from_str_radix(columns.next()?, 16).ok()?;
        let scope = columns.nth(2)?;
        (scope == "00").then(|| IpAddr::V6(Ipv6Addr::from_bits(address)))
    };
    table.lines().filter_map(global).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_can_be_dialled_from_elsewhere() {
        for ipv6 in [false, true] {
            if let Some(ip) = own_address(ipv6, &[Ipv4Addr::LOCALHOST.into()]) {
                assert!(!ip.is_unspecified() && !ip.is_loopback(), "{ip}");
            }
        }
        assert_eq!(source(Ipv4Addr::LOCALHOST.into()), None);
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
        assert_eq!(parse_addresses_v6(addresses), ["2001:db8::7".parse::<IpAddr>().unwrap()]);
        assert!(parse_addresses_v6("").is_empty());
    }
}
