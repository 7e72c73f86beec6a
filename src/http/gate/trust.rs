//! How far a client is trusted.
//!
//! Of all that a client sends, a token alone raises its trust: the one that is asked for, or the
//! secret that commands on this host are told. Where that is switched on, the gate trusts a client
//! on loopback more than others; a header that shows a proxy or a web page lowers that again.

use super::head::Head;
use super::refusal::Refusal;
use crate::http::counters::Reason;
use crate::http::failure::Failure;
use crate::http::hosts;
use crate::http::request::{Method, Trust};
use crate::http::route::Route;
use crate::http::shared::Shared;
use crate::http::token::Token;
use crate::http::tokens::Role;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

/// How far the client at `peer` is trusted with this request.
///
/// # Errors
/// 401, when a token is asked for and the request carries none; 403, when it carries one that may
/// not do this; 421, when there is no token and the request calls the server by a name that is none
/// of its own.
pub(super) fn of(
    shared: &Shared,
    peer: IpAddr,
    head: &Head<'_>,
    route: Route<'_>,
) -> Result<Trust, Refusal> {
    let Shared { config, local, n_local, .. } = shared;
    // What tells nothing of the store is told to anybody: probes, and what may be asked for.
    let is_open = route.is_probe() || head.method == Method::Options;
    let shows = |token: &Token| head.authorization.is_some_and(|given| token.admits(given));
    if local.as_ref().is_some_and(shows) {
        n_local.fetch_add(1, Ordering::Relaxed);
        tell(head, route, "(local)");
        return Ok(Trust::Token);
    }
    let Some(tokens) = &config.tokens else {
        let is_address = head.host.is_empty() || hosts::is_address(head.host);
        if !is_address && !is_open && !hosts::is_named(&config.hosts, head.host) {
            return Err(Refusal::misdirected(head.host));
        }
        let is_local = is_loopback(peer) && !head.is_relayed && is_address;
        return Ok(if config.keys_on_loopback && is_local { Trust::Local } else { Trust::Anybody });
    };
    let Some(shown) = head.authorization.and_then(|given| tokens.shown_by(given)) else {
        return if is_open { Ok(Trust::Anybody) } else { Err(unknown(head)) };
    };
    let wanted = wanted(head.method, route);
    if shown.role < wanted && !is_open {
        let message = format_args!(
            "the token {} may {}: this wants one that may {}",
            shown.name,
            shown.role.name(),
            wanted.name()
        );
        return Err(Refusal::new(Reason::Token, 403, message));
    }
    if shown.role < Role::Admin {
        return Ok(Trust::Anybody);
    }
    tell(head, route, &shown.name);
    Ok(Trust::Token)
}

/// Whether a client that has shown no certificate may ask this. Where certificates are asked for,
/// a probe may have none, nor a browser that asks what it may ask for; and commands on this host
/// show by their secret who they are.
///
/// # Errors
/// 403, where it may not.
pub(super) fn without_certificate(shared: &Shared, head: &Head<'_>) -> Result<(), Refusal> {
    let Some(tls) = &shared.config.tls else { return Ok(()) };
    let is_open = head.route().is_probe() || head.method == Method::Options;
    let shows = |token: &Token| head.authorization.is_some_and(|given| token.admits(given));
    if is_open || !tls.wants_clients() || shared.local.as_ref().is_some_and(shows) {
        return Ok(());
    }
    let message = "this server wants a client's certificate, signed by a CA that it knows";
    Err(Refusal::new(Reason::Certificate, 403, message))
}

fn unknown(head: &Head<'_>) -> Refusal {
    let message = match head.authorization {
        None => "this server wants the header Authorization: Bearer TOKEN",
        Some(_) => "the token in the Authorization header is not the right one",
    };
    let failure = Failure::new(401, message).with("WWW-Authenticate", "Bearer");
    Refusal { reason: Reason::Token, failure }
}

/// What a token has to permit for a request.
fn wanted(method: Method, route: Route<'_>) -> Role {
    let is_of_keys =
        matches!(route, Route::Keys | Route::KeysInstall | Route::KeysUse | Route::KeysRemove);
    let is_of_store = matches!(route, Route::List | Route::Entry(_) | Route::Pair(..));
    match method.is_write() {
        _ if is_of_keys => Role::Admin,
        false => Role::Read,
        true if is_of_store => Role::Write,
        true => Role::Admin,
    }
}

/// Logs who changes the gossip keys.
fn tell(head: &Head<'_>, route: Route<'_>, token: &str) {
    if matches!(route, Route::KeysInstall | Route::KeysUse | Route::KeysRemove) {
        tracing::info!(token, method = head.method.name(), route = route.label(), "admin request");
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
