//! Whom to ask, and for what: what `/etc/resolv.conf` says, read as the C library reads it.
//!
//! - What is odd in it is passed over and the rest counts: one search domain that is no name does
//!   not cost the servers.
//! - The last of `search` and `domain` counts, else the domain of the host's name.
//! - A name without a final dot is tried as it is before the search list when it has `ndots` dots,
//!   else after it.

use hickory_resolver::proto::rr::Name;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

const PATH: &str = "/etc/resolv.conf";
/// The port of DNS.
const DNS_PORT: u16 = 53;
/// Servers asked; the C library takes no more either.
const SERVERS_MAX: usize = 3;

/// The servers and the search list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct System {
    /// Asked in this order.
    pub(super) servers: Vec<SocketAddr>,
    search: Vec<Name>,
    ndots: u32,
    /// Why there is no server, where there is none.
    pub(super) lacks: String,
}

impl System {
    /// What the system says now. Without the file (an image from scratch) there is no server.
    pub(super) fn read() -> System {
        match fs::read(PATH) {
            Ok(bytes) => System::parse(&bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                System::without(format!("no DNS server: there is no {PATH}"))
            }
            Err(error) => System::without(format!("no DNS server: {PATH}: {error}")),
        }
    }

    /// One server, and names as they are.
    pub(super) fn only(server: SocketAddr) -> System {
        System { servers: vec![server], ..System::without(String::new()) }
    }

    fn without(lacks: String) -> System {
        System { servers: Vec::new(), search: Vec::new(), ndots: 1, lacks }
    }

    pub(super) fn parse(bytes: &[u8]) -> System {
        let (config, errors) = resolv_conf::Config::parse_with_errors(bytes);
        for error in errors {
            tracing::debug!(%error, "a line of {PATH} is passed over");
        }
        let servers = config.nameservers.iter().take(SERVERS_MAX);
        let mut search: Vec<String> = config.get_last_search_or_domain().cloned().collect();
        if search.is_empty() {
            search.extend(config.get_system_domain());
        }
        System {
            servers: servers.map(|ip| SocketAddr::new(IpAddr::from(ip), DNS_PORT)).collect(),
            search: search.iter().filter_map(|word| domain(word)).collect(),
            ndots: config.ndots,
            lacks: format!("no DNS server: {PATH} names none"),
        }
    }

    /// The absolute names that a name may stand for, in the order in which they are tried.
    pub(super) fn expansions(&self, name: &Name) -> Vec<Name> {
        let mut whole = name.clone();
        whole.set_fqdn(true);
        if name.is_fqdn() || name.is_localhost() {
            return vec![whole];
        }
        let mut names = Vec::new();
        for domain in &self.search {
            // One that would be too long is no name that could be asked for.
            if let Ok(longer) = name.clone().append_domain(domain)
                && !names.contains(&longer)
            {
                names.push(longer);
            }
        }
        let n_dots = u32::from(name.num_labels()).saturating_sub(1);
        names.retain(|longer| *longer != whole);
        names.insert(if n_dots >= self.ndots { 0 } else { names.len() }, whole);
        names
    }
}

/// A domain of the search list, absolute; none when it is no name.
fn domain(word: &str) -> Option<Name> {
    let mut name = Name::from_str_relaxed(word).ok()?;
    name.set_fqdn(true);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(text: &str) -> System {
        System::parse(text.as_bytes())
    }

    fn expansions(text: &str, name: &str) -> Vec<String> {
        let name = Name::from_str_relaxed(name).expect("a name");
        system(text).expansions(&name).iter().map(Name::to_string).collect()
    }

    #[test]
    fn servers_in_their_order_and_no_more_than_three() {
        let text = "nameserver 10.0.0.3\n# one\nnameserver 10.0.0.1\nnameserver fe80::1\n\
            nameserver 10.0.0.4\n";
        let expected = ["10.0.0.3:53", "10.0.0.1:53", "[fe80::1]:53"];
        assert_eq!(system(text).servers, expected.map(|addr| addr.parse().unwrap()));
        assert_eq!(system("search a.\n").lacks, "no DNS server: /etc/resolv.conf names none");
    }

    #[test]
    fn what_is_odd_does_not_cost_the_rest() {
        for odd in ["search -bad..name good", "bogus line\nsearch good", "search good a..b"] {
            let text = format!("nameserver 10.0.0.3\n{odd}\n");
            assert_eq!(system(&text).servers.len(), 1, "{odd}");
            assert!(expansions(&text, "kv").contains(&"kv.good.".to_owned()), "{odd}");
        }
    }

    #[test]
    fn a_name_is_tried_in_the_search_list_and_as_it_is() {
        let text = "search ns.svc svc\noptions ndots:2\n";
        assert_eq!(expansions(text, "kv"), ["kv.ns.svc.", "kv.svc.", "kv."]);
        assert_eq!(expansions(text, "kv.a"), ["kv.a.ns.svc.", "kv.a.svc.", "kv.a."]);
        assert_eq!(expansions(text, "kv.a.b"), ["kv.a.b.", "kv.a.b.ns.svc.", "kv.a.b.svc."]);
        assert_eq!(expansions(text, "kv.a."), ["kv.a."]);
        assert_eq!(expansions(text, "localhost"), ["localhost."]);
        assert_eq!(expansions("search a\ndomain b\n", "kv"), ["kv.b.", "kv."]);
        assert_eq!(expansions("search .\n", "kv"), ["kv."]);
    }
}
