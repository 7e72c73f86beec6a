//! How far a client is trusted.
//!
//! Of all that a client sends, a token alone raises its trust: the one that is asked for, or the
//! secret that commands on this host are told. Where that is switched on, the gate trusts a client
//! on loopback more than others; a header that shows a proxy or a web page lowers that again.

use super::head::Head;
use super::refusal::Refusal;
use crate::http::config::Config;
use crate::http::counters::Reason;
use crate::http::failure::Failure;
use crate::http::hosts;
use crate::http::request::{Method, Trust};
use crate::http::route::Route;
use crate::http::token::Token;
use std::net::IpAddr;

/// How far the client at `peer` is trusted with this request, of a server with `config` that tells
/// commands on its host the secret `local`.
///
/// # Errors
/// 401, when a token is asked for and the request does not carry it; 421, when there is no token
/// and the request calls the server by a name that is none of its own.
pub(super) fn of(
    config: &Config,
    local: Option<&Token>,
    peer: IpAddr,
    head: &Head<'_>,
    route: Route<'_>,
) -> Result<Trust, Refusal> {
    // What tells nothing of the store is told to anybody: probes, and what may be asked for.
    let is_open = route.is_probe() || head.method == Method::Options;
    let shows = |token: &Token| head.authorization.is_some_and(|given| token.admits(given));
    if local.is_some_and(shows) {
        return Ok(Trust::Token);
    }
    let Some(token) = &config.token else {
        let is_address = head.host.is_empty() || hosts::is_address(head.host);
        if !is_address && !is_open && !hosts::is_named(&config.hosts, head.host) {
            return Err(Refusal::misdirected(head.host));
        }
        let is_local = is_loopback(peer) && !head.is_relayed && is_address;
        return Ok(if config.keys_on_loopback && is_local { Trust::Local } else { Trust::Anybody });
    };
    match head.authorization {
        Some(_) if shows(token) => Ok(Trust::Token),
        _ if is_open => Ok(Trust::Anybody),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_loopback_over_either_protocol() {
        assert!(is_loopback("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!is_loopback("10.0.0.7".parse().unwrap()));
    }
}
