//! Whether others are dialled from another address than the one they are told.
//!
//! On a host of two networks the advertised address may be on the one where no peer is. Joins
//! succeed all the same, and then nobody reaches this node: it flaps, and the log blames UDP.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Addresses told of; past it no more are.
const TOLD_MAX: usize = 4;

/// What this node advertises, and what has been said about it.
#[derive(Debug)]
pub(super) struct Detour {
    /// `None` where nothing is to be compared: on loopback, and where the address is not one of
    /// this host's, so that somebody translates it.
    advertised: Option<IpAddr>,
    told: Mutex<BTreeSet<IpAddr>>,
}

impl Detour {
    pub fn new(advertise: Option<SocketAddr>) -> Detour {
        let ip = advertise.map(|addr| addr.ip().to_canonical());
        let ip = ip.filter(|ip| !ip.is_loopback() && UdpSocket::bind((*ip, 0)).is_ok());
        Detour { advertised: ip, told: Mutex::default() }
    }

    /// A connection to `peer` begins at `local`: says so when that is another address, once.
    pub fn note(&self, peer: SocketAddr, local: SocketAddr) {
        let local = local.ip().to_canonical();
        if let Some(advertised) = self.advertised
            && self.is_news(advertised, local)
        {
            tracing::warn!(
                %peer,
                %local,
                %advertised,
                "others are dialled from another address than the one this node advertises: if \
                 they cannot reach that one, start with --advertise"
            );
        }
    }

    /// Whether to say so; a yes counts as said.
    fn is_news(&self, advertised: IpAddr, local: IpAddr) -> bool {
        if local == advertised || local.is_ipv4() != advertised.is_ipv4() || local.is_loopback() {
            return false;
        }
        let mut told = self.told.lock();
        told.len() < TOLD_MAX && told.insert(local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_address_is_news_once() {
        let detour = Detour::new(None);
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let news = |local: &str| detour.is_news(ip("10.0.0.1"), ip(local));
        for (local, expected) in [
            ("10.0.0.1", false),
            ("fd00::1", false),
            ("127.0.0.1", false),
            ("10.1.0.1", true),
            ("10.1.0.1", false),
            ("10.1.0.2", true),
            ("10.1.0.3", true),
            ("10.1.0.4", true),
            ("10.1.0.5", false),
        ] {
            assert_eq!(news(local), expected, "{local}");
        }
    }

    #[test]
    fn addresses_of_others_and_loopback_are_not_compared() {
        for advertise in ["192.0.2.1:7947", "127.0.0.1:7947"] {
            assert_eq!(Detour::new(advertise.parse().ok()).advertised, None);
        }
    }
}
