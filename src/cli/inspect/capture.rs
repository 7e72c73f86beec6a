//! Captured frames of a network, taken out of their layers: Ethernet or another link, IP, UDP or
//! TCP. What is not gossip, or cut off, is left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How frames begin, by the numbers of pcap's list of link types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// 4 bytes of a family.
    Null,
    /// Addresses, perhaps tags, a type.
    Ethernet,
    /// IP at once.
    Raw,
    /// Linux "any", version 1.
    Sll,
    /// Linux "any", version 2.
    Sll2,
}

impl Link {
    /// That of a number; `None` for one that is not known here.
    pub(super) fn of(number: u32) -> Option<Link> {
        match number {
            0 | 108 => Some(Link::Null),
            1 => Some(Link::Ethernet),
            12 | 101 | 228 | 229 => Some(Link::Raw),
            113 => Some(Link::Sll),
            276 => Some(Link::Sll2),
            _ => None,
        }
    }
}

/// What a frame carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) layer: Layer,
    pub(super) payload: &'a [u8],
}

/// Under the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Udp,
    /// With the number of the payload's first byte.
    Tcp {
        seq: u32,
        begins: bool,
    },
}

/// Takes the layers off. `None` for what is no whole UDP or TCP over IP.
pub(super) fn unwrap(link: Link, frame: &[u8]) -> Option<Carried<'_>> {
    let ip = match link {
        Link::Null => frame.get(4..)?,
        Link::Raw => frame,
        Link::Sll => frame.get(16..)?,
        Link::Sll2 => frame.get(20..)?,
        Link::Ethernet => ethernet(frame)?,
    };
    match ip.first()? >> 4 {
        4 => ipv4(ip),
        6 => ipv6(ip),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn ethernet(frame: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    // Tags of virtual networks, one within the other.
    while matches!(u16_at(frame, at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    matches!(u16_at(frame, at)?, 0x0800 | 0x86dd).then(|| frame.get(at + 2..)).flatten()
}

fn ipv4(packet: &[u8]) -> Option<Carried<'_>> {
    let header_len = usize::from(packet[0] & 15) * 4;
    let len = usize::from(u16_at(packet, 2)?);
    let is_fragment = u16_at(packet, 6)? & 0x3fff != 0;
    // 0 where the network card was left to fill it in.
    let whole = if len == 0 { packet } else { packet.get(..len)? };
    let ip = |at: usize| -> Option<IpAddr> {
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?).into())
    };
    if is_fragment || header_len < 20 {
        return None;
    }
    transport(*packet.get(9)?, ip(12)?, ip(16)?, whole.get(header_len..)?)
}

fn ipv6(packet: &[u8]) -> Option<Carried<'_>> {
    let len = usize::from(u16_at(packet, 4)?);
    let ip = |at: usize| -> Option<IpAddr> {
        Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?).into())
    };
    let (mut next, mut rest) = (*packet.get(6)?, packet.get(40..)?);
    rest = if len == 0 { rest } else { rest.get(..len)? };
    // Headers in between: hop by hop, routing, destination.
    while matches!(next, 0 | 43 | 60) {
        next = *rest.first()?;
        rest = rest.get(8 + usize::from(*rest.get(1)?) * 8..)?;
    }
    transport(next, ip(8)?, ip(24)?, rest)
}

fn transport(protocol: u8, from: IpAddr, to: IpAddr, segment: &[u8]) -> Option<Carried<'_>> {
    let from = SocketAddr::new(from, u16_at(segment, 0)?);
    let to = SocketAddr::new(to, u16_at(segment, 2)?);
    match protocol {
        17 => {
            let len = usize::from(u16_at(segment, 4)?);
            let payload = segment.get(8..len)?;
            Some(Carried { from, to, layer: Layer::Udp, payload })
        }
        6 => {
            let seq = u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?);
            let payload = segment.get(usize::from(segment.get(12)? >> 4) * 4..)?;
            let begins = segment.get(13)? & 2 != 0;
            // The first number is that of the beginning itself.
            let seq = seq.wrapping_add(u32::from(begins));
            Some(Carried { from, to, layer: Layer::Tcp { seq, begins }, payload })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// UDP from 10.0.0.1:1 to 10.0.0.2:2 with this payload.
    fn udp(payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(28 + payload.len()).expect("short");
        let mut packet = vec![0x45, 0, 0, len, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0, 1, 0, 2, 0, len - 20, 0, 0]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn layers_come_off_whatever_is_below() {
        let packet = udp(b"gossip");
        let expected = Carried {
            from: "10.0.0.1:1".parse().expect("an address"),
            to: "10.0.0.2:2".parse().expect("an address"),
            layer: Layer::Udp,
            payload: b"gossip",
        };
        let below = |head: &[u8]| [head, &packet, &[0; 6]].concat();
        assert_eq!(unwrap(Link::Raw, &packet), Some(expected));
        assert_eq!(unwrap(Link::Null, &below(&[2, 0, 0, 0])), Some(expected));
        let plain = [&[0; 12][..], &[8, 0]].concat();
        assert_eq!(unwrap(Link::Ethernet, &below(&plain)), Some(expected));
        let tagged = [&[0; 12][..], &[0x81, 0, 0, 7, 8, 0]].concat();
        assert_eq!(unwrap(Link::Ethernet, &below(&tagged)), Some(expected));
        assert_eq!(unwrap(Link::Sll, &below(&[0; 16])), Some(expected));
        assert_eq!(unwrap(Link::Raw, &packet[..packet.len() - 1]), None, "cut off");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(link in 0_u32..300, mut frame: Vec<u8>, first: u8) {
            if let Some(byte) = frame.first_mut() {
                *byte = first;
            }
            for link in [Link::of(link), Some(Link::Raw), Some(Link::Ethernet)] {
                let _ = link.map(|link| unwrap(link, &frame));
            }
        }
    }
}
