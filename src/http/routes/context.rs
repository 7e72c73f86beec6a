//! Every route, answered.
//!
//! A route reads its request, changes or reads the store, and only then writes: a [`Failure`] may
//! be returned as long as nothing has been written.

use super::{entry, keys, list, members, metrics, page};
use crate::http::Version;
use crate::http::counters::Counters;
use crate::http::memory::Budget;
use crate::http::pending::{PendingAnswers, Render, Slot};
use crate::http::request::{Handler, Method, Request, Trust};
use crate::http::requests::Requests;
use crate::http::response::{Failure, Response, json_text, number};
use crate::http::route::Route;
use crate::http::shutdown::Shutdown;
use crate::kv::Stamp;
use crate::node::command::Reply as NodeReply;
use crate::node::command::{Bridge, Command, Health, NotReady};
use crate::time::{Now, WallMillis};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How long the node may take for an answer it has at hand.
pub const NODE_LIMIT: Duration = Duration::from_secs(2);

/// What all routes share.
pub struct Api {
    /// The node.
    pub bridge: Arc<dyn Bridge>,
    /// What is still let in.
    pub shutdown: Arc<Shutdown>,
    /// What `/version` tells.
    pub version: Version,
    /// Longest value taken, in bytes.
    pub value_len_max: usize,
    /// Whether reads are answered from a store that is not complete yet.
    pub serves_while_starting: bool,
    /// Answers the node still owes.
    pub pending: Arc<PendingAnswers>,
    /// Answers given, by route.
    pub requests: Arc<Requests>,
    /// What the gate counts, for `/metrics`.
    pub counters: Arc<Counters>,
    /// What the gate holds, for `/metrics`.
    pub budget: Arc<Budget>,
    /// Log lines that found no room, for `/metrics`.
    pub log_lines_dropped: Arc<AtomicU64>,
}

/// One request on the desk of a worker.
pub struct Call<'a> {
    /// What is asked.
    pub request: &'a Request<'a>,
    /// Its route.
    pub route: Route<'a>,
    /// Its query string.
    pub query: Option<&'a str>,
    /// When it was taken up.
    pub now: Now,
    /// Empty budget to write a body in before its length is known.
    pub body: &'a mut Vec<u8>,
    /// Where the answer goes.
    pub out: &'a mut Vec<u8>,
}

/// What has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer, of this status.
    Answered(u16),
    /// The number of an answer that comes later, and is counted then.
    Parked,
}

impl Handler for Api {
    fn answer(&self, request: &Request<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        let (path, query) = match request.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (request.target, None),
        };
        let (route, now) = (Route::of(path), self.bridge.now());
        let done = route
            .check(request.method, path)
            .and_then(|()| self.dispatch(Call { request, route, query, now, body: scratch, out }));
        match done {
            Ok(Outcome::Answered(status)) => self.requests.count(route, status),
            Ok(Outcome::Parked) => {}
            Err(failure) => {
                self.requests.count(route, failure.status);
                failure.write(out, now.wall, request.method != Method::Head);
            }
        }
    }

    fn failed(&self, out: &mut Vec<u8>) {
        self.requests.count(Route::Unknown, 500);
        let message = "the server failed at this request; its log says why";
        Failure::new(500, message).write(out, self.bridge.now().wall, true);
    }
}

impl Api {
    fn dispatch(&self, call: Call<'_>) -> Result<Outcome, Failure> {
        match call.route {
            Route::Entry(key) => match call.request.method {
                Method::Put => entry::put_body(self, call, key),
                Method::Delete => entry::delete(self, call, key),
                _ => entry::get(self, call, key),
            },
            Route::Pair(key, value) => entry::put_pair(self, call, key, value),
            Route::List => list::answer(self, call),
            Route::Health => Ok(self.health(call)),
            Route::Live => Ok(self.live(call)),
            Route::Version => Ok(self.version(call)),
            Route::Members => members::answer(self, call),
            Route::Metrics => metrics::answer(self, call),
            Route::Home => Ok(page::home(call)),
            Route::Keys | Route::KeysInstall | Route::KeysUse | Route::KeysRemove => {
                keys::answer(self, call)
            }
            Route::Unknown => Err(Failure::new(404, "no such route")),
        }
    }

    fn health(&self, call: Call<'_>) -> Outcome {
        let health = self.state();
        if health == Health::Ok {
            return call.state(200, "{\"status\":\"ok\"}");
        }
        let mut text = format!("{{\"status\":\"{}\",\"why\":", health.as_str()).into_bytes();
        json_text(&mut text, &self.why(health));
        text.push(b'}');
        call.state(503, &String::from_utf8_lossy(&text))
    }

    /// Readiness: of the node, and of this room, which turns clients away before the node leaves.
    #[must_use]
    pub fn state(&self) -> Health {
        match self.bridge.health() {
            Health::Stalled => Health::Stalled,
            _ if self.shutdown.is_not_ready() => Health::Leaving,
            health => health,
        }
    }

    /// What keeps the node from being ready, by kind; `None` when it is.
    #[must_use]
    pub fn not_ready(&self) -> Option<NotReady> {
        match self.state() {
            Health::Ok => None,
            Health::Starting => self.bridge.not_ready().or(Some(NotReady::Alone)),
            Health::Leaving => Some(NotReady::Leaving),
            Health::Stalled => Some(NotReady::Stalled),
        }
    }

    /// Why it is in this state, in a sentence to act on.
    #[must_use]
    pub fn why(&self, health: Health) -> Arc<str> {
        let why = match health {
            Health::Leaving => "this node is leaving the cluster: ask another one",
            _ => match self.bridge.why() {
                Some(why) => return why,
                None => "it has just changed: ask again",
            },
        };
        Arc::from(why)
    }

    fn live(&self, call: Call<'_>) -> Outcome {
        // That HTTP makes progress is told by there being an answer.
        if self.bridge.live() {
            call.state(200, "{\"status\":\"ok\"}")
        } else {
            call.state(503, "{\"status\":\"stalled\"}")
        }
    }

    fn version(&self, call: Call<'_>) -> Outcome {
        let Version { version, hash, date } = self.version;
        for (name, text) in
            [("{\"version\":", version), (",\"buildhash\":", hash), (",\"builddate\":", date)]
        {
            call.body.extend_from_slice(name.as_bytes());
            json_text(call.body, text);
        }
        call.body.push(b'}');
        call.json(200, None)
    }

    /// Hands a command to the node; `render` writes the answer when the reply comes, or at once
    /// with `None` when the node takes no command.
    ///
    /// # Errors
    /// 503 when too many wait already.
    pub fn ask_node(
        &self,
        call: Call<'_>,
        command: Command,
        limit: Duration,
        render: impl FnOnce(Option<NodeReply>, &mut PendingResponse<'_>) -> u16 + Send + 'static,
    ) -> Result<Outcome, Failure> {
        let slot = self.pending.slot().ok_or_else(too_many_wait)?;
        Ok(self.ask_node_in(call, slot, command, limit, render))
    }

    /// The same for a request that has its seat already.
    pub fn ask_node_in(
        &self,
        call: Call<'_>,
        slot: Slot,
        command: Command,
        limit: Duration,
        render: impl FnOnce(Option<NodeReply>, &mut PendingResponse<'_>) -> u16 + Send + 'static,
    ) -> Outcome {
        let (bridge, requests) = (Arc::clone(&self.bridge), Arc::clone(&self.requests));
        let has_body = call.request.method != Method::Head;
        let number_of = call.route.number();
        let render: Render = Box::new(move |reply, out| {
            let mut response = PendingResponse { out, now: bridge.now().wall, has_body };
            let status = render(reply, &mut response);
            requests.count_number(number_of, status);
        });
        match self.pending.park(&*self.bridge, slot, command, limit, render) {
            Ok(parked) => {
                call.out
                    .extend_from_slice(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nPending: ");
                number(call.out, usize::try_from(parked).unwrap_or(usize::MAX));
                call.out.extend_from_slice(b"\r\n\r\n");
            }
            Err(render) => render(None, call.out),
        }
        Outcome::Parked
    }

    /// Refuses what only a store that holds all can answer: reads, and writes on a condition. To be
    /// asked before the store is. A plain write is merged with what comes, and needs no leave.
    ///
    /// # Errors
    /// 503 with the reason.
    pub fn check_complete(&self) -> Result<(), Failure> {
        if self.serves_while_starting || self.bridge.is_complete() {
            return Ok(());
        }
        let why = self.why(self.state());
        let message = format_args!("this node is not ready and may lack what others hold: {why}");
        Err(Failure::busy(message))
    }

    /// Refuses a client that is neither local nor has the token.
    ///
    /// # Errors
    /// 403.
    pub fn check_admin(request: &Request<'_>) -> Result<(), Failure> {
        if request.trust != Trust::Anybody {
            return Ok(());
        }
        let message = "the gossip keys are for clients on this host (by address or localhost, \
            without a proxy), or with --http-token-file for those that know the token";
        Err(Failure::new(403, message))
    }
}

/// 503: the seats of those that wait for the node are taken.
#[must_use]
pub fn too_many_wait() -> Failure {
    Failure::busy("too many requests wait for the node; try again")
}

impl Call<'_> {
    /// The body written so far, as JSON.
    pub fn json(self, status: u16, etag: Option<Stamp>) -> Outcome {
        let reply = Response::new(self.out, self.now.wall, status, self.body.len()).json();
        let reply = match etag {
            Some(stamp) => reply.etag(stamp),
            None => reply,
        };
        reply.end(if self.request.method == Method::Head { b"" } else { self.body });
        Outcome::Answered(status)
    }

    /// A short text that changes by itself.
    fn state(self, status: u16, text: &str) -> Outcome {
        let reply = Response::new(self.out, self.now.wall, status, text.len()).json();
        let reply = reply.header("Cache-Control", "no-store");
        let reply = if status == 503 { reply.header("Retry-After", "1") } else { reply };
        reply.end(if self.request.method == Method::Head { b"" } else { text.as_bytes() });
        Outcome::Answered(status)
    }
}

/// An answer being written when the node has replied.
pub struct PendingResponse<'a> {
    out: &'a mut Vec<u8>,
    now: WallMillis,
    has_body: bool,
}

impl PendingResponse<'_> {
    /// A body of this type.
    pub fn body(&mut self, status: u16, content_type: &str, body: &[u8]) -> u16 {
        Response::new(self.out, self.now, status, body.len())
            .header("Content-Type", content_type)
            .header("Cache-Control", "no-store")
            .end(if self.has_body { body } else { b"" });
        status
    }

    /// JSON with the version of an entry.
    pub fn entry(&mut self, status: u16, stamp: Stamp, body: &[u8]) -> u16 {
        let reply = Response::new(self.out, self.now, status, body.len()).json().etag(stamp);
        reply.end(if self.has_body { body } else { b"" });
        status
    }

    /// No body but the version of an entry.
    pub fn empty_entry(&mut self, stamp: Stamp) -> u16 {
        Response::new(self.out, self.now, 200, 0).etag(stamp).end(b"");
        200
    }

    /// A failure.
    pub fn failure(&mut self, failure: &Failure) -> u16 {
        failure.write(self.out, self.now, self.has_body);
        failure.status
    }

    /// The node gave no reply in time, refused, or replied something else.
    pub fn no_reply(&mut self, reply: Option<NodeReply>) -> u16 {
        let failure = match reply {
            Some(NodeReply::Refused(why)) => Failure::new(409, why),
            _ => Failure::busy("the node did not reply in time; try again"),
        };
        self.failure(&failure)
    }
}
