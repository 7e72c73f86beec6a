//! Peers given by hand: `HOST[:PORT]`, resolved again at every try.

use super::GOSSIP_PORT;
use super::dns::Dns;
use super::peers::Answer;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Longest DNS name, in bytes, without its final dot (RFC 1035, section 2.3.4).
const NAME_LEN_MAX: usize = 253;
/// Longest label of a DNS name, in bytes.
const DNS_LABEL_LEN_MAX: usize = 63;

/// One peer to join through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    host: String,
    port: u16,
}

/// Text that is no `HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// Neither an address nor a DNS name.
    #[error("the host is neither an IP address nor a DNS name")]
    Host,
    /// Not a port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A URL, or something with a path.
    #[error("a seed is HOST[:PORT], without a scheme such as http:// and without a path")]
    Url,
    /// An opening bracket without its end, or text behind it.
    #[error("an IPv6 address with a port is written [ADDR]:PORT")]
    Bracket,
}

impl Seed {
    /// Every socket address it stands for now.
    pub async fn resolve(&self, dns: &Dns) -> Answer {
        let found = dns.addresses(&self.host).await;
        Answer::at(self.to_string(), self.port, found)
    }

    /// The socket address when the host is literal.
    #[must_use]
    pub fn literal(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Seed, SeedError> {
        if text.contains('/') {
            return Err(SeedError::Url);
        }
        let (host, port) = split(text)?;
        let port = match port {
            None => GOSSIP_PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(SeedError::Port)?,
        };
        if host.parse::<IpAddr>().is_err() && !is_dns_name(host) {
            return Err(SeedError::Host);
        }
        Ok(Seed { host: host.to_owned(), port })
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Splits `HOST[:PORT]`; more than one colon outside brackets is an IPv6 address without a port.
fn split(text: &str) -> Result<(&str, Option<&str>), SeedError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(SeedError::Bracket)?;
        host.parse::<Ipv6Addr>().map_err(|_| SeedError::Host)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(SeedError::Bracket),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// Whether `name` can be asked of DNS: labels of 1 to 63 bytes of letters, digits, `-` and `_`,
/// a final dot allowed. What only looks like an IPv4 address is a mistake, not a name.
pub(super) fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_ok = |label: &str| {
        (1..=DNS_LABEL_LEN_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last_is_number =
        name.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= NAME_LEN_MAX && name.split('.').all(label_ok) && !last_is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, SeedError>) {
        let shown = text.parse::<Seed>().map(|seed| seed.to_string());
        assert_eq!(shown.as_deref().map_err(Clone::clone), expected, "{text:?}");
    }

    #[test]
    fn hosts_and_ports() {
        check("10.0.0.1", Ok("10.0.0.1:7947"));
        check("10.0.0.1:8000", Ok("10.0.0.1:8000"));
        check("node-1.example.internal", Ok("node-1.example.internal:7947"));
        check("node_1.:9", Ok("node_1.:9"));
        check("::1", Ok("[::1]:7947"));
        check("[::1]", Ok("[::1]:7947"));
        check("[2001:db8::7]:8000", Ok("[2001:db8::7]:8000"));
    }

    #[test]
    fn what_is_refused_and_why() {
        check("", Err(SeedError::Host));
        check(":7947", Err(SeedError::Host));
        check("no spaces", Err(SeedError::Host));
        check("10.0.0.256", Err(SeedError::Host));
        check("a..b", Err(SeedError::Host));
        check(&"a".repeat(64), Err(SeedError::Host));
        check("http://10.0.0.1", Err(SeedError::Url));
        check("http://a", Err(SeedError::Url));
        check("10.0.0.1:7947/kv", Err(SeedError::Url));
        check("10.0.0.1:", Err(SeedError::Port));
        check("10.0.0.1:0", Err(SeedError::Port));
        check("10.0.0.1:65536", Err(SeedError::Port));
        check("[::1", Err(SeedError::Bracket));
        check("[::1]7947", Err(SeedError::Bracket));
        check("[10.0.0.1]:7947", Err(SeedError::Host));
    }

    #[test]
    fn only_literal_hosts_are_known_without_dns() {
        assert_eq!("[::1]:9".parse::<Seed>().unwrap().literal(), "[::1]:9".parse().ok());
        assert_eq!("localhost".parse::<Seed>().unwrap().literal(), None);
    }
}
