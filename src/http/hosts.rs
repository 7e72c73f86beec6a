//! Which names a server without a token answers to.
//!
//! A web page may have its own name lead to the address of a node (DNS rebinding). Then a browser
//! takes the node for a part of that site, and lets the page read and write there. It shows by
//! `Host`, which no page can set: so a request by a name that nobody has named is refused. With a
//! token there is no need for it: the page does not know the token.

use std::net::IpAddr;
use std::str::FromStr;

/// A name that clients may call the server by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// Every name: `*`.
    Any,
    /// This one, in lower case.
    Name(Box<str>),
}

/// A text that is no name of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a host name without scheme, port and path, or * for any")]
pub struct NoHostName;

impl FromStr for HostName {
    type Err = NoHostName;

    fn from_str(text: &str) -> Result<HostName, NoHostName> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        match name {
            "*" => Ok(HostName::Any),
            "" => Err(NoHostName),
            _ if name.bytes().all(is_plain) => Ok(HostName::Name(name.to_ascii_lowercase().into())),
            _ => Err(NoHostName),
        }
    }
}

impl HostName {
    fn is(&self, host: &str) -> bool {
        match self {
            HostName::Any => true,
            HostName::Name(name) => name.eq_ignore_ascii_case(host),
        }
    }
}

/// Whether a `Host` is one of these names.
pub(super) fn is_named(names: &[HostName], host: &str) -> bool {
    let name = without_port(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    names.iter().any(|known| known.is(name))
}

/// Whether a `Host` names a host by address or as `localhost`.
pub(super) fn is_address(host: &str) -> bool {
    let name = without_port(host);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_localhost_is_no_name() {
        for good in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn names_are_compared_without_port_and_case() {
        let names: Vec<HostName> = ["Kv.example.", "a_b"].map(|name| name.parse().unwrap()).into();
        for good in ["kv.example", "KV.EXAMPLE:8080", "kv.example.:80", "a_b"] {
            assert!(is_named(&names, good), "{good}");
        }
        for bad in ["", "example", "x.kv.example", "kv.example.evil", "127.0.0.1"] {
            assert!(!is_named(&names, bad), "{bad}");
        }
        assert!(is_named(&[HostName::Any], "evil.example") && !is_named(&[], "kv.example"));
        for bad in ["", "http://a", "a:80", "a/b", "*.a", "[::1]", "a b"] {
            assert_eq!(bad.parse::<HostName>(), Err(NoHostName), "{bad}");
        }
    }
}
