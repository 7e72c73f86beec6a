//! How far a client is trusted.
//!
//! Without a token to ask for, the gate trusts a client on this host more than others. What a
//! client sends can lower its trust, by a header that shows a proxy or a web page. Only the token
//! raises it.

use super::head::Head;
use super::refusal::Refusal;
use crate::http::counters::Reason;
use crate::http::failure::Failure;
use crate::http::request::Trust;
use crate::http::route::Route;
use crate::http::token::Token;
use std::net::IpAddr;

/// How far the client at `peer` is trusted with this request.
///
/// # Errors
/// 401, when a token is asked for and the request does not carry it.
pub(super) fn of(
    token: Option<&Token>,
    peer: IpAddr,
    head: &Head<'_>,
    route: Route<'_>,
) -> Result<Trust, Refusal> {
    let Some(token) = token else {
        let is_local = is_loopback(peer)
            && !head.is_relayed
            && (head.host.is_empty() || is_local_host(head.host));
        return Ok(if is_local { Trust::Local } else { Trust::Anybody });
    };
    match head.authorization {
        Some(given) if token.admits(given) => Ok(Trust::Token),
        _ if route.is_probe() => Ok(Trust::Anybody),
        given => {
            let message = match given {
                None => "this server wants the header Authorization: Bearer TOKEN",
                Some(_) => "the token in the Authorization header is not the right one",
            };
            let failure = Failure::new(401, message).with("WWW-Authenticate", "Bearer");
            Err(Refusal { reason: Reason::Token, failure })
        }
    }
}

/// Whether an address is this host's own.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether a `Host` names this host by address or as `localhost`. A page of a name that its owner
/// points at 127.0.0.1 (DNS rebinding) does not.
fn is_local_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_is_an_address_or_localhost() {
        for good in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7"] {
            assert!(is_local_host(good), "{good}");
        }
        for bad in ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert!(!is_local_host(bad), "{bad}");
        }
        assert!(is_loopback("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!is_loopback("10.0.0.7".parse().unwrap()));
    }
}
