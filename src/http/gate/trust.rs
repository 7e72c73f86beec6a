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
use crate::http::percent::{self, Plus};
use crate::http::request::{Method, Trust};
use crate::http::route::{self, Route};
use crate::http::shared::Shared;
use crate::http::token::Token;
use crate::http::tokens::{Pass, Role};
use std::borrow::Cow;
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
) -> Result<Admission, Refusal> {
    let Shared { config, local, n_local, .. } = shared;
    // What tells nothing of the store is told to anybody: probes, and what may be asked for.
    let is_open = route.is_probe() || head.method == Method::Options;
    let shows = |token: &Token| head.authorization.is_some_and(|given| token.admits(given));
    if local.as_ref().is_some_and(shows) {
        n_local.fetch_add(1, Ordering::Relaxed);
        tell(head, route, "(local)");
        return Ok(Trust::Token.into());
    }
    let Some(tokens) = &config.tokens else {
        let is_address = head.host.is_empty() || hosts::is_address(head.host);
        if !is_address && !is_open && !hosts::is_named(&config.hosts, head.host) {
            return Err(Refusal::misdirected(head.host));
        }
        let is_local = is_loopback(peer) && !head.is_relayed && is_address;
        let is_local = config.keys_on_loopback && is_local;
        return Ok(if is_local { Trust::Local } else { Trust::Anybody }.into());
    };
    let is_consul = route::is_consul(head.target);
    let consul_token = if is_consul { consul_token(head) } else { None };
    let shown = match &consul_token {
        Some(given) => tokens.shown_as(given),
        None => head.authorization.and_then(|given| tokens.shown_by(given)),
    };
    let Some(shown) = shown else {
        let is_none = consul_token.is_none() && head.authorization.is_none();
        return match is_open {
            true => Ok(Trust::Anybody.into()),
            false if is_consul => Err(unknown_to_consul(is_none)),
            false => Err(unknown(head)),
        };
    };
    let wanted = wanted(head.method, route);
    if shown.role < wanted && !is_open {
        let begin = if is_consul { "Permission denied: " } else { "" };
        let message = format_args!(
            "{begin}the token {} may {}: this wants one that may {}",
            shown.name,
            shown.role.name(),
            wanted.name()
        );
        return Err(Refusal::new(Reason::Token, 403, message));
    }
    if shown.role < Role::Admin {
        return Ok(Admission { trust: Trust::Anybody, pass: Some(shown.pass()) });
    }
    tell(head, route, &shown.name);
    Ok(Admission { trust: Trust::Token, pass: Some(shown.pass()) })
}

/// How a client is let in.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) trust: Trust,
    /// What lets it in only as long as that is in use.
    pub(super) pass: Option<Pass>,
}

impl From<Trust> for Admission {
    fn from(trust: Trust) -> Admission {
        Admission { trust, pass: None }
    }
}

/// Whether a client that was let in with this would be now.
pub(super) fn lasts(shared: &Shared, pass: Option<&Pass>) -> bool {
    let tokens = shared.config.tokens.as_ref();
    tokens.zip(pass).is_none_or(|(tokens, pass)| tokens.admit_still(pass))
}

/// What a long poll is answered with whose token was taken out of use.
pub(super) fn ended(is_consul: bool) -> Refusal {
    if is_consul {
        return unknown_to_consul(false);
    }
    let message = "the token of this request is in use no more";
    let failure = Failure::new(401, message).with("WWW-Authenticate", "Bearer");
    Refusal { reason: Reason::Token, failure }
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

/// 403, in Consul's words: its clients take a 401 for a Consul without tokens.
fn unknown_to_consul(is_none: bool) -> Refusal {
    let message = if is_none { "Permission denied" } else { "ACL not found" };
    Refusal::new(Reason::Token, 403, message)
}

/// The token that a client of Consul sends in the query or in a header of its own.
fn consul_token<'h>(head: &Head<'h>) -> Option<Cow<'h, [u8]>> {
    let (_, query) = head.target.split_once('?').unwrap_or_default();
    let token = query.split('&').find_map(|pair| pair.strip_prefix(TOKEN_IN_QUERY));
    let token = token.filter(|token| !token.is_empty());
    // What is no text is no token either.
    let decode = |token| percent::decode(token, Plus::Space).unwrap_or_default();
    token.map(decode).or(head.consul_token.map(Cow::Borrowed))
}

/// A target without the token that a client of Consul may send in it: no log has to see that.
pub(super) fn without_token(target: &str) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?') else { return target.into() };
    if !route::is_consul(path) || !query.split('&').any(is_token) {
        return target.into();
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_token(pair)).collect();
    format!("{path}?{}", kept.join("&")).into()
}

const TOKEN_IN_QUERY: &str = "token=";

fn is_token(pair: &str) -> bool {
    pair == "token" || pair.starts_with(TOKEN_IN_QUERY)
}

/// What a token has to permit for a request.
fn wanted(method: Method, route: Route<'_>) -> Role {
    let is_of_keys =
        matches!(route, Route::Keys | Route::KeysInstall | Route::KeysUse | Route::KeysRemove);
    match method.is_write() {
        _ if is_of_keys => Role::Admin,
        false => Role::Read,
        true if route.is_question() => Role::Read,
        true if route.is_of_store() => Role::Write,
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
    fn a_token_in_the_query_goes_no_further() {
        for (target, expected) in [
            ("/v1/kv/a?token=s3cret", "/v1/kv/a?"),
            ("/v1/kv/a?raw&token=s3cret&dc=x", "/v1/kv/a?raw&dc=x"),
            ("/v1/kv/a?token&token=s3cret&token=t", "/v1/kv/a?"),
            ("/v1/kv/token=a?tokens=b", "/v1/kv/token=a?tokens=b"),
            ("/kv/a?token=b", "/kv/a?token=b"),
        ] {
            assert_eq!(without_token(target), expected);
        }
    }

    #[test]
    fn loopback_is_loopback_over_either_protocol() {
        assert!(is_loopback("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!is_loopback("10.0.0.7".parse().unwrap()));
    }
}
