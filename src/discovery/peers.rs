//! Whom the names stand for: what each name, target and address came to.
//!
//! A node on two networks has an address of each family, and a name that lists a cluster of such
//! nodes has one of each for every node. Where a name has more of one family than of the other,
//! some nodes may be on one network alone. Two addresses of one family may always be two nodes.

use super::Config;
use super::dns::{DnsError, Host};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// What one name, one target of a record, or one address given by hand came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// What it is called in a sentence: `n1.kv.:7947`.
    pub name: String,
    /// Its addresses, also those that cannot be dialled.
    pub addresses: BTreeSet<SocketAddr>,
    /// Why there is none.
    pub why: Option<String>,
}

impl Named {
    /// An address given by hand.
    #[must_use]
    pub fn literal(addr: SocketAddr) -> Named {
        Named { name: addr.to_string(), addresses: BTreeSet::from([addr]), why: None }
    }

    /// Somebody who has no address.
    #[must_use]
    pub fn nowhere(name: String, why: &DnsError) -> Named {
        let why = Some(format!("{name}: {why}"));
        Named { name, addresses: BTreeSet::new(), why }
    }

    /// Why an address of it cannot be dialled.
    fn unreachable(&self, config: &Config) -> Option<String> {
        let name = &self.name;
        let other = self.addresses.iter().find(|addr| !config.reaches(**addr));
        let other = other.map(|addr| match addr.to_string() {
            addr if addr == *name => format!("{name} is of a family that --bind has not"),
            addr => format!("{name} is {addr}, of a family that --bind has not"),
        });
        self.why.clone().or(other)
    }
}

/// What a source of addresses gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Everybody whom it named.
    pub named: Vec<Named>,
    /// How many more it named that were not asked for, and are left to later looks.
    pub n_untried: usize,
    /// Why there is nobody, when DNS itself says so.
    pub nothing: Option<DnsError>,
    /// Why it gave no answer, or not all of one.
    pub failure: Option<DnsError>,
    /// Why those may be somebody else, where our own address is not among theirs.
    pub doubt: Option<DnsError>,
}

impl Answer {
    /// What one name came to, for those who listen on `port`.
    #[must_use]
    pub fn at(name: String, port: u16, found: Result<Host, DnsError>) -> Answer {
        match found {
            Ok(Host { addresses, failure, doubt }) => {
                let at = |ip| SocketAddr::new(ip, port);
                let addresses = addresses.into_iter().map(at).collect();
                let named = vec![Named { name, addresses, why: None }];
                Answer { named, failure, doubt, ..Answer::default() }
            }
            Err(error) => error.into(),
        }
    }

    /// What failed of it for this node. Addresses among which is its own are those that it looks
    /// for, whatever another form of their name came to.
    pub fn failed(&self, config: &Config) -> Option<&DnsError> {
        let has_own = |named: &Named| config.own.is_some_and(|own| named.addresses.contains(&own));
        let names_me = self.named.iter().any(has_own);
        self.failure.as_ref().or(self.doubt.as_ref().filter(|_| !names_me))
    }

    /// Its addresses that can be dialled.
    pub fn dialled(&self, config: &Config) -> BTreeSet<SocketAddr> {
        let all = self.named.iter().flat_map(|named| named.addresses.iter().copied());
        all.filter(|addr| config.reaches(*addr)).collect()
    }

    /// What is worth a line in the log: how many addresses to dial, or why there are none.
    ///
    /// # Errors
    /// Why there are none.
    pub fn to_log(&self, config: &Config) -> Result<usize, DnsError> {
        let n_dialled = self.dialled(config).len();
        if n_dialled > 0 {
            return Ok(n_dialled);
        }
        let n_given = self.named.iter().map(|named| named.addresses.len()).sum();
        let (failure, nothing) = (self.failure.as_ref(), self.nothing.as_ref());
        match failure.or(nothing) {
            Some(error) => Err(error.clone()),
            None if n_given > 0 => Err(DnsError::OtherFamily(n_given)),
            None if !self.named.is_empty() => Err(DnsError::NoAddress(self.named.len())),
            None => Ok(0),
        }
    }
}

impl From<DnsError> for Answer {
    fn from(error: DnsError) -> Answer {
        if error.is_answer() {
            Answer { nothing: Some(error), ..Answer::default() }
        } else {
            Answer { failure: Some(error), ..Answer::default() }
        }
    }
}

/// Nodes that one name stands for, or several with an address in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Those of its addresses that are to be dialled, our own left out.
    pub addresses: Vec<SocketAddr>,
    /// How many addresses of IPv4 it has, our own and those that cannot be dialled counted.
    pub n_ipv4: usize,
    /// How many of IPv6.
    pub n_ipv6: usize,
    /// Whether our own address is one of them.
    pub names_me: bool,
    /// A sentence where one of its addresses cannot be dialled, or it has none.
    pub unreachable: Option<String>,
}

/// Everybody named, once: names with an address in common are one.
#[must_use]
pub fn distinct(all: Vec<Named>) -> Vec<Named> {
    let mut distinct: Vec<Named> = Vec::new();
    for mut named in all {
        distinct.retain_mut(|other| {
            let is_other = other.addresses.is_disjoint(&named.addresses);
            if !is_other {
                named.addresses.append(&mut other.addresses);
            }
            is_other
        });
        distinct.push(named);
    }
    distinct
}

/// The peers, where of all addresses `chosen` are dialled now, and how many nodes more are left to
/// later looks.
#[must_use]
pub fn peers(
    config: &Config,
    all: Vec<Named>,
    chosen: &BTreeSet<SocketAddr>,
) -> (Vec<Peer>, usize) {
    let (mut peers, mut n_untried) = (Vec::new(), 0);
    for named in distinct(all) {
        let unreachable = named.unreachable(config);
        let mut peer = Peer { unreachable, ..Peer::default() };
        let mut n_left = [0, 0];
        let has_addresses = !named.addresses.is_empty();
        for addr in named.addresses {
            let is_ipv4 = addr.ip().to_canonical().is_ipv4();
            let is_own = config.own == Some(addr);
            peer.names_me |= is_own;
            if chosen.contains(&addr) {
                peer.addresses.push(addr);
            } else if !is_own && config.reaches(addr) {
                n_left[usize::from(!is_ipv4)] += 1;
                continue;
            }
            peer.n_ipv4 += usize::from(is_ipv4);
            peer.n_ipv6 += usize::from(!is_ipv4);
        }
        n_untried += n_left[0].max(n_left[1]);
        if !has_addresses || peer.n_ipv4 + peer.n_ipv6 > 0 {
            peers.push(peer);
        }
    }
    (peers, n_untried)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, addresses: &[&str]) -> Named {
        let addresses = addresses.iter().map(|addr| addr.parse().expect("an address")).collect();
        Named { name: name.to_owned(), addresses, why: None }
    }

    fn config(bound: &str) -> Config {
        let own = "10.0.0.1:1".parse().ok();
        Config { own, bound: bound.parse().ok(), ..Config::default() }
    }

    fn every(all: &[Named]) -> BTreeSet<SocketAddr> {
        all.iter().flat_map(|named| named.addresses.iter().copied()).collect()
    }

    #[test]
    fn a_doubt_is_none_where_the_own_address_is_named() {
        let config = config("0.0.0.0:1");
        let of = |addresses: &[&str], failure: Option<DnsError>| Answer {
            named: vec![named("kv", addresses)],
            failure,
            doubt: Some(DnsError::Timeout),
            ..Answer::default()
        };
        let others = ["10.0.0.2:1", "10.0.0.3:1"];
        assert_eq!(of(&others, None).failed(&config), Some(&DnsError::Timeout));
        assert_eq!(of(&["10.0.0.1:1", "10.0.0.2:1"], None).failed(&config), None);
        let failing = of(&["10.0.0.1:1"], Some(DnsError::BadName));
        assert_eq!(failing.failed(&config), Some(&DnsError::BadName));
    }

    #[test]
    fn names_with_an_address_in_common_are_one() {
        let all = vec![
            named("a", &["10.0.0.1:1"]),
            named("b", &["10.0.0.2:1"]),
            named("c", &["10.0.0.3:1"]),
            named("all", &["10.0.0.1:1", "10.0.0.2:1"]),
            Named::nowhere("d".to_owned(), &DnsError::NoName),
            Named::nowhere("e".to_owned(), &DnsError::NoName),
        ];
        let lens: Vec<usize> = distinct(all).iter().map(|named| named.addresses.len()).collect();
        assert_eq!(lens, [1, 2, 0, 0]);
    }

    #[test]
    fn what_cannot_be_dialled_is_a_peer_all_the_same() {
        let all = vec![
            named("me", &["10.0.0.1:1", "[2001:db8::1]:1"]),
            named("old", &["[2001:db8::2]:1"]),
            Named::nowhere("gone".to_owned(), &DnsError::NoName),
            Named::literal("[2001:db8::3]:1".parse().unwrap()),
            named("new", &["10.0.0.4:1"]),
        ];
        let chosen = BTreeSet::from(["10.0.0.4:1".parse().unwrap()]);
        let (peers, n_untried) = peers(&config("0.0.0.0:1"), all, &chosen);
        let why: Vec<&str> = peers.iter().filter_map(|peer| peer.unreachable.as_deref()).collect();
        let expected = [
            "me is [2001:db8::1]:1, of a family that --bind has not",
            "old is [2001:db8::2]:1, of a family that --bind has not",
            "gone: no such name",
            "[2001:db8::3]:1 is of a family that --bind has not",
        ];
        assert_eq!(why, expected);
        let counts: Vec<_> = peers
            .iter()
            .map(|peer| (peer.n_ipv4, peer.n_ipv6, peer.addresses.len(), peer.names_me))
            .collect();
        let expected = [
            (1, 1, 0, true),
            (0, 1, 0, false),
            (0, 0, 0, false),
            (0, 1, 0, false),
            (1, 0, 1, false),
        ];
        assert_eq!((counts, n_untried), (expected.to_vec(), 0));
    }

    #[test]
    fn those_left_to_later_looks_are_counted() {
        let all = vec![
            named("all", &["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "[2001:db8::3]:1"]),
            named("b", &["10.0.0.4:1"]),
        ];
        let mut chosen = every(&all);
        for left in ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.4:1", "[2001:db8::3]:1"] {
            chosen.remove(&left.parse().unwrap());
        }
        let (peers, n_untried) = peers(&config("[::]:1"), all, &chosen);
        let expected = Peer {
            addresses: vec!["10.0.0.3:1".parse().unwrap()],
            n_ipv4: 2,
            names_me: true,
            ..Peer::default()
        };
        assert_eq!((peers, n_untried), (vec![expected], 2));
    }
}
