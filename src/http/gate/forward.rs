//! A client's request in the form in which tiny_http gets it.
//!
//! ```text
//! PUT /kv/a?w=1 HTTP/1.1                     PUT /SECRETt/kv/a?w=1 HTTP/1.1
//! Host: h, Cookie: .., Content-Type: a/b --> Content-Type: a/b
//! Transfer-Encoding: chunked                 Content-Length: 5 (or Out-Of-Band: 1)
//! ```
//!
//! The head is written anew: the method, the secret of the lanes with the client's trust, the
//! target, and only the headers that a route uses. Everything else that a client sent ends here.

use super::context::Gate;
use super::head::{Framing, Head};
use super::refusal::Refusal;
use super::trust::{self, Admission};
use crate::http::counters::Reason;
use crate::http::lanes::{BODY_OUT_OF_BAND, COPIED_BODY_LEN_MAX, Job};
use crate::http::manner::Manner;
use crate::http::pending::Waiter;
use crate::http::request::{Method, Poll, Request, Trust};
use crate::http::response::number;
use crate::http::route::{self, Route};
use crate::http::tokens::Pass;
use std::net::IpAddr;

/// A request whose head is read and whose client is admitted; the body is still to come.
pub(super) struct Opened {
    pub(super) job: Job,
    pub(super) framing: Framing,
    pub(super) expects_continue: bool,
    /// Whether it takes its time, so that quick requests must not stand behind it.
    pub(super) is_bulk: bool,
    /// Whether the job is its own answer already: nobody else is asked.
    pub(super) is_answered: bool,
    /// Whether anybody wants the body.
    pub(super) takes_body: bool,
    /// Whether it may be a long poll, which is asked more than once.
    pub(super) may_wait: bool,
    /// What its answer tells that only the node knows.
    pub(super) tells: Tells,
    /// Whether its client knows no chunks.
    pub(super) is_http_1_0: bool,
    /// As whom it may have to wait.
    pub(super) waiter: Option<Waiter>,
    /// Whether it is a write whose answer may be long: that is counted for its source late.
    pub(super) is_told_long: bool,
    /// What it was let in with, to be looked for again while it waits.
    pub(super) pass: Option<Pass>,
}

/// What an answer tells that has to be learnt of the node before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    /// Nothing.
    Nothing,
    /// How far it has come.
    Coverage,
    /// Who is there.
    Members,
}

/// Parameters of a read that may be a long poll.
const WAITS: [&str; 4] = ["newer", "since", "min_version", TOKEN];
/// The one for which the node has to say what it holds.
const TOKEN: &str = "min_token";

/// The parameters of a query as they are spelt.
fn parameters<'h>(head: &Head<'h>) -> impl Iterator<Item = &'h str> {
    let (_, query) = head.target.split_once('?').unwrap_or_default();
    query.split('&')
}

/// Whether a query has one of these parameters.
fn asks_for(head: &Head<'_>, wanted: &[&str]) -> bool {
    let mut names = parameters(head).map(|pair| pair.split('=').next().unwrap_or_default());
    names.any(|name| wanted.contains(&name))
}

/// Whether it is a read of Consul's API that waits for another index.
fn waits_as_consul(head: &Head<'_>, route: Route<'_>) -> bool {
    let is_consul = matches!(route, Route::ConsulKv(_)) || route.is_of_members();
    is_consul && !head.method.is_write() && asks_for(head, &["index"])
}

/// Whether it may be asked more than once: it waits, or is done in parts.
fn may_be_asked_again(head: &Head<'_>, route: Route<'_>) -> bool {
    let is_read = matches!(head.method, Method::Get | Method::Head);
    let waits = is_read && asks_for(head, &WAITS);
    let is_of_many = matches!(route, Route::ConsulKv(_)) && asks_for(head, &["recurse"]);
    waits || waits_as_consul(head, route) || (head.method == Method::Delete && is_of_many)
}

/// Whether it begins a stream: what that tells is read by the gate, a part at a time.
fn begins_stream(head: &Head<'_>) -> bool {
    parameters(head).any(|pair| matches!(pair, "watch" | "watch=" | "watch=1" | "watch=true"))
}

/// Whether it takes its time.
fn is_bulk(head: &Head<'_>, route: Route<'_>) -> bool {
    match route {
        Route::List if begins_stream(head) => false,
        Route::List | Route::ConsulTxn | Route::OfrepFlags => true,
        Route::ConsulKv(_) => asks_for(head, &["recurse", "keys"]),
        _ => false,
    }
}

/// As whom a request may have to wait. Of `/metrics` the node's numbers are left out instead.
fn waiter(gate: &Gate, head: &Head<'_>, route: Route<'_>) -> Option<Waiter> {
    let is_awaited = gate.shared.config.consul_write_concern.is_some();
    match route {
        Route::ConsulKv(_) | Route::ConsulTxn if is_awaited && head.method.is_write() => {
            Some(Waiter::Write)
        }
        Route::Entry(_) | Route::Pair(..) | Route::List
            if head.method.is_write() && asks_for(head, &["w"]) =>
        {
            Some(Waiter::Write)
        }
        Route::Entry(_) | Route::List if asks_for(head, &["watch"]) || asks_for(head, &WAITS) => {
            Some(Waiter::Watch)
        }
        _ if waits_as_consul(head, route) => Some(Waiter::Watch),
        _ if route.is_of_members() => Some(Waiter::Question),
        Route::Members | Route::Keys | Route::KeysInstall | Route::KeysUse | Route::KeysRemove => {
            Some(Waiter::Question)
        }
        _ => None,
    }
}

/// Whether a person with a browser asks for the page, which can ask for the token in turn.
fn asks_person(head: &Head<'_>, route: Route<'_>) -> bool {
    route == Route::Home && head.wants_page && matches!(head.method, Method::Get | Method::Head)
}

impl Opened {
    /// Decides how far the client is trusted with this head, and begins the job; `out` is an empty
    /// buffer to write it into.
    ///
    /// # Errors
    /// A [`Refusal`] that names what was wrong.
    pub(super) fn admit(
        gate: &Gate,
        peer: IpAddr,
        head: &Head<'_>,
        manner: Manner,
        mut out: Vec<u8>,
    ) -> Result<Opened, Refusal> {
        let route = head.route();
        let Admission { trust, pass } = match trust::of(&gate.shared, peer, head, route) {
            Err(refusal) if refusal.reason == Reason::Token && asks_person(head, route) => {
                gate.shared.counters.refused(refusal.reason);
                return Ok(Opened::answered(gate, head, Trust::Stranger, manner, out));
            }
            admission => admission?,
        };
        if route.is_probe() {
            return Ok(Opened::answered(gate, head, trust, manner, out));
        }
        if head.names_part && route::is_consul(head.target) {
            let message = "Invalid header: Namespaces are a Consul Enterprise feature";
            return Err(Refusal::malformed(message));
        }
        out.extend_from_slice(head.method.name().as_bytes());
        out.push(b' ');
        gate.lanes.secret().prefix(trust, &mut out);
        out.extend_from_slice(trust::without_token(head.target).as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let forwarded = [
            ("Content-Type: ", head.content_type),
            ("If-None-Match: ", head.if_none_match.as_deref()),
            ("If-Match: ", head.if_match.as_deref()),
            ("Accept: ", head.wants_events.then_some("text/event-stream")),
            // Nothing else is compressed, and quick requests stay short.
            ("Accept-Encoding: ", (route == Route::List && head.takes_gzip).then_some("gzip")),
            ("Last-Event-ID: ", head.last_event_id),
        ];
        for (name, value) in forwarded {
            if let Some(value) = value {
                for part in [name, value, "\r\n"] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
        }
        let is_read = matches!(head.method, Method::Get | Method::Head);
        let takes_body = head.method.takes_body()
            && route.methods().is_some_and(|(methods, _)| methods.contains(&head.method));
        Ok(Opened {
            job: Job { bytes: out, body: Vec::new(), manner },
            framing: head.framing,
            expects_continue: head.expects_continue,
            is_bulk: is_bulk(head, route),
            is_answered: false,
            may_wait: may_be_asked_again(head, route),
            tells: match route {
                _ if !is_read => Tells::Nothing,
                _ if route.is_of_members() => Tells::Members,
                _ if route == Route::List || asks_for(head, &[TOKEN]) => Tells::Coverage,
                _ => Tells::Nothing,
            },
            is_http_1_0: head.is_http_1_0,
            waiter: waiter(gate, head, route),
            pass,
            takes_body,
            is_told_long: takes_body && matches!(route, Route::List | Route::ConsulTxn),
        })
    }

    /// What is answered at once: a probe, which shows how the node is whatever is under way
    /// elsewhere, and the page that asks for the token.
    fn answered(
        gate: &Gate,
        head: &Head<'_>,
        trust: Trust,
        manner: Manner,
        mut out: Vec<u8>,
    ) -> Opened {
        let request = Request {
            method: head.method,
            target: head.target,
            trust,
            content_type: None,
            if_none_match: None,
            if_match: None,
            wants_events: false,
            takes_gzip: false,
            last_event_id: None,
            poll: Poll::New,
            has_length: false,
            body: b"",
            may_take_time: false,
        };
        gate.handler.answer(&request, &mut Vec::new(), &mut out);
        Opened {
            job: Job { bytes: out, body: Vec::new(), manner },
            framing: head.framing,
            expects_continue: head.expects_continue,
            is_bulk: false,
            is_answered: true,
            waiter: None,
            pass: None,
            takes_body: false,
            is_told_long: false,
            may_wait: false,
            tells: Tells::Nothing,
            is_http_1_0: head.is_http_1_0,
        }
    }

    /// Completes the job of a request without a body.
    pub(super) fn end_without_body(&mut self) {
        if !self.is_answered {
            self.job.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// Completes the job with a short body, which is copied. It is left out where nobody wants it.
    pub(super) fn end_with_copy(&mut self, body: &[u8]) {
        if !self.takes_body {
            return self.end_without_body();
        }
        self.end_head(body.len());
        self.job.bytes.extend_from_slice(body);
    }

    /// Completes the job with a body, which reaches the worker out of band when it is long.
    pub(super) fn end_with(&mut self, body: Vec<u8>) {
        if body.len() <= COPIED_BODY_LEN_MAX || !self.takes_body {
            return self.end_with_copy(&body);
        }
        self.job.bytes.extend_from_slice(BODY_OUT_OF_BAND);
        self.end_head(0);
        self.job.body = body;
    }

    fn end_head(&mut self, body_len: usize) {
        self.job.bytes.extend_from_slice(b"Content-Length: ");
        number(&mut self.job.bytes, body_len);
        self.job.bytes.extend_from_slice(b"\r\n\r\n");
    }
}
