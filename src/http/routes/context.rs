//! What a route may use: the [`Api`], and the [`Call`] that it answers.
//!
//! A route reads its request, reads or changes the store, and only then writes. It may return a
//! [`Failure`] as long as it has written nothing.

use crate::http::counters::Reason;
use crate::http::failure::Failure;
use crate::http::long::{LongAnswer, Part};
use crate::http::memory::Held;
use crate::http::pending::{Finish, Parked, Render, Slot, Waiter};
use crate::http::request::{Form, Request, Trust};
use crate::http::response::{Response, number};
use crate::http::route::Route;
use crate::http::shared::Shared;
use crate::kv::{Bound, Record, Stamp, Store, WriteError};
use crate::limits::HTTP_UNCOUNTED_LEN_MAX;
use crate::node::command::{Command, Health, NotReady, Reply};
use crate::time::{Now, WallMillis};
use std::sync::Arc;
use std::time::Duration;

/// How long the node may take for an answer it has at hand.
pub(super) const NODE_LIMIT: Duration = Duration::from_secs(2);

/// Bytes of the head of an answer, with the lines that the gate adds.
const HEAD_LEN_MAX: usize = 1 << 10;

/// What all routes have in common.
pub(super) struct Api {
    pub(super) shared: Arc<Shared>,
}

/// One request, and where its answer is written.
pub(super) struct Call<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) route: Route<'a>,
    pub(super) query: Option<&'a str>,
    /// When the worker took the request up.
    pub(super) now: Now,
    /// An empty buffer to write a body in before its length is known.
    pub(super) body: &'a mut Vec<u8>,
    /// Where the answer goes.
    pub(super) out: &'a mut Vec<u8>,
    /// Memory that its answer has been promised; see [`Api::reserve`].
    pub(super) room: &'a mut Option<Held>,
}

/// What has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The answer, of this status.
    Answered(u16),
    /// The number of a pending answer, which is counted when it is finished.
    Parked,
    /// That the request takes time: a worker for such has to answer it.
    Again,
}

impl Api {
    pub(super) fn new(shared: Arc<Shared>) -> Api {
        Api { shared }
    }

    pub(super) fn store(&self) -> &Store {
        self.shared.bridge.store()
    }

    /// What was wrong with a write; of a full store also whose limit that is.
    pub(super) fn write_error(&self, error: WriteError) -> String {
        let WriteError::StoreFull { .. } = error else { return error.to_string() };
        match self.store().bound() {
            None => format!("{error} (--max-store-bytes)"),
            Some(Bound { by, .. }) => {
                format!("{error} (--max-store-bytes of the member {by}, which holds the same)")
            }
        }
    }

    /// How the node is, or that HTTP shuts down: HTTP is not ready before the node leaves.
    pub(super) fn health(&self) -> Health {
        match self.shared.bridge.health() {
            Health::Stalled => Health::Stalled,
            _ if self.shared.shutdown.is_not_ready() => Health::Leaving,
            health => health,
        }
    }

    /// What keeps the node from being ready, by kind; `None` when it is.
    pub(super) fn not_ready(&self) -> Option<NotReady> {
        match self.health() {
            Health::Ok => None,
            Health::Starting => self.shared.bridge.not_ready().or(Some(NotReady::Alone)),
            Health::Leaving => Some(NotReady::Leaving),
            Health::Stalled => Some(NotReady::Stalled),
        }
    }

    /// Why the node's health is what it is, in a sentence to act on.
    pub(super) fn why(&self, health: Health) -> Arc<str> {
        let why = match health {
            Health::Leaving => "this node is leaving the cluster: ask another one",
            _ => match self.shared.bridge.why() {
                Some(why) => return why,
                None => "it has just changed: ask again",
            },
        };
        Arc::from(why)
    }

    /// A slot for a request that has to wait for the node.
    ///
    /// # Errors
    /// 503 when too many wait already.
    pub(super) fn slot(&self, waiter: Waiter) -> Result<Slot, Failure> {
        let too_many = || Failure::busy("too many requests wait for the node; try again");
        self.shared.pending.slot(waiter).ok_or_else(too_many)
    }

    /// Has `held` hold so many bytes of the budget.
    ///
    /// # Errors
    /// 503 when too many are held already.
    pub(super) fn hold(&self, held: &mut Held, len: usize) -> Result<(), Failure> {
        held.grow_to(len).map_err(|_| {
            self.shared.counters.refused(Reason::Memory);
            Failure::busy("too many bytes are held for other clients; try again")
        })
    }

    /// Hands a command to the node; `render` writes the answer when the reply comes, or at once
    /// with `None` when the node takes no command.
    ///
    /// # Errors
    /// 503 when too many wait already.
    pub(super) fn ask_node(
        &self,
        call: Call<'_>,
        command: Command,
        limit: Duration,
        render: impl FnOnce(Option<Reply>, &mut PendingResponse<'_>) -> u16 + Send + 'static,
    ) -> Result<Outcome, Failure> {
        let slot = self.slot(Waiter::Question)?;
        Ok(self.ask_node_in(slot, call, command, limit, render))
    }

    /// The same for an answer that is worth something without the node: it never waits for a slot.
    pub(super) fn ask_node_if_free(
        &self,
        call: Call<'_>,
        command: Command,
        limit: Duration,
        render: impl FnOnce(Option<Reply>, &mut PendingResponse<'_>) -> u16 + Send + 'static,
    ) -> Outcome {
        if let Some(slot) = self.shared.pending.slot(Waiter::Question) {
            return self.ask_node_in(slot, call, command, limit, render);
        }
        let (now, form) = (call.now.wall, call.request.form());
        Outcome::Answered(render(None, &mut PendingResponse { out: call.out, now, form }))
    }

    /// The same for a request that has its slot already.
    pub(super) fn ask_node_in(
        &self,
        slot: Slot,
        call: Call<'_>,
        command: Command,
        limit: Duration,
        render: impl FnOnce(Option<Reply>, &mut PendingResponse<'_>) -> u16 + Send + 'static,
    ) -> Outcome {
        let form = call.request.form();
        let render: Render =
            Box::new(move |reply, now, out| render(reply, &mut PendingResponse { out, now, form }));
        let Shared { pending, bridge, .. } = &*self.shared;
        let Call { out, room, .. } = call;
        let finish = Finish { route: call.route.number(), render, room: room.take() };
        match pending.park(&**bridge, slot, command, limit, finish) {
            Ok(parked) => {
                write_number(out, parked);
                Outcome::Parked
            }
            Err(finish) => {
                // Whoever takes the answer counts it, and finds the memory promised to it.
                *room = finish.room;
                Outcome::Answered((finish.render)(None, bridge.now().wall, out))
            }
        }
    }

    /// Answers with a body of `len` bytes that the gate makes of these parts. `begin` writes the
    /// headers of the route.
    pub(super) fn long(
        &self,
        call: Call<'_>,
        (body, len): (Vec<Part>, usize),
        held: Held,
        begin: impl FnOnce(Response<'_>) -> Response<'_>,
    ) -> Outcome {
        let mut head = Vec::new();
        begin(Response::new(&mut head, call.now.wall, 200, len)).end_bodiless();
        match call.request.form() {
            Form::HeadOnly => call.out.extend_from_slice(&head),
            Form::Whole => {
                let parked =
                    self.shared.pending.leave(Parked::Long(LongAnswer { head, body, held }));
                write_number(call.out, parked);
            }
        }
        Outcome::Answered(200)
    }

    /// Leaves something for the gate to finish, and answers with its number.
    pub(super) fn park(&self, call: &mut Call<'_>, parked: Parked) {
        write_number(call.out, self.shared.pending.leave(parked));
    }

    /// Promises the answer to a write memory for a body of `len` bytes, before anything is written:
    /// an answer that found none after it would say that nothing has changed.
    ///
    /// # Errors
    /// 503 when so many are held for other clients.
    pub(super) fn reserve(&self, call: &mut Call<'_>, len: usize) -> Result<(), Failure> {
        if len + HEAD_LEN_MAX <= HTTP_UNCOUNTED_LEN_MAX {
            return Ok(());
        }
        let mut room = Held::new(&self.shared.budget);
        room.grow_to(len + HEAD_LEN_MAX).map_err(|_| {
            Failure::busy("too many bytes are held for other clients; nothing has changed")
        })?;
        *call.room = Some(room);
        Ok(())
    }

    /// Refuses what only a complete store can answer: reads, and writes on a condition. A route
    /// calls it before it reads the store. A plain write needs no permission: it is merged with
    /// what is still to come.
    ///
    /// # Errors
    /// 503 with the reason.
    pub(super) fn check_complete(&self) -> Result<(), Failure> {
        if self.shared.config.serves_while_starting || self.shared.bridge.is_complete() {
            return Ok(());
        }
        let why = self.why(self.health());
        let message = format_args!("this node is not ready and may lack what others hold: {why}");
        Err(Failure::busy(message))
    }

    /// Refuses what expires as long as a member does not know such keys: it could not read them.
    ///
    /// # Errors
    /// 503 with its name.
    pub(super) fn check_ttl(&self) -> Result<(), Failure> {
        let Some(name) = self.shared.bridge.lacks_ttl() else { return Ok(()) };
        Err(Failure::busy(format_args!("a member does not know ttl yet: {name}")))
    }

    /// Refuses a client that has no token, unless it counts as local.
    ///
    /// # Errors
    /// 403 with who may.
    pub(super) fn check_admin(request: &Request<'_>) -> Result<(), Failure> {
        if request.trust != Trust::Anybody {
            return Ok(());
        }
        let message = "this is for the commands of gossipykv on this node's host, run \
            as the node's user or as root, or with --http-token-file for who knows the token";
        Err(Failure::new(403, message))
    }
}

/// Tells the gate where the answer is parked.
pub(super) fn write_number(out: &mut Vec<u8>, parked: u64) {
    out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nPending: ");
    number(out, usize::try_from(parked).unwrap_or(usize::MAX));
    out.extend_from_slice(b"\r\n\r\n");
}

impl Call<'_> {
    /// Hands the request back, for a worker that may take its time.
    pub(super) fn again(self) -> Outcome {
        self.out
            .extend_from_slice(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nAgain: 1\r\n\r\n");
        Outcome::Again
    }

    /// Answers with the body written so far, as JSON.
    pub(super) fn json(self, status: u16, etag: Option<Stamp>) -> Outcome {
        let response = Response::new(self.out, self.now.wall, status, self.body.len()).json();
        let response = match etag {
            Some(stamp) => response.etag(stamp),
            None => response,
        };
        response.end(self.request.form(), self.body);
        Outcome::Answered(status)
    }

    /// The same about a record, a tombstone too.
    pub(super) fn json_of(self, status: u16, record: Option<&Record>) -> Outcome {
        let wall = self.now.wall;
        let response = Response::new(self.out, wall, status, self.body.len()).json();
        let response = match record {
            Some(record) => response.of(record, wall),
            None => response,
        };
        response.end(self.request.form(), self.body);
        Outcome::Answered(status)
    }
}

/// Writes an answer after the node has replied. Each method returns the status it has written.
pub(super) struct PendingResponse<'a> {
    out: &'a mut Vec<u8>,
    now: WallMillis,
    form: Form,
}

impl PendingResponse<'_> {
    /// A body of this type, which nobody may keep.
    pub(super) fn body(&mut self, status: u16, content_type: &str, body: &[u8]) -> u16 {
        Response::unkept(self.out, self.now, status, body.len())
            .header("Content-Type", content_type)
            .end(self.form, body);
        status
    }

    /// A failure in plain text.
    pub(super) fn text(&mut self, status: u16, message: &str) -> u16 {
        let failure = match status {
            503 => Failure::busy(message),
            _ => Failure::new(status, message),
        };
        failure.write_plain(self.out, self.now, self.form);
        status
    }

    /// JSON with the headers that `begin` writes.
    pub(super) fn json(
        &mut self,
        body: &[u8],
        begin: impl FnOnce(Response<'_>) -> Response<'_>,
    ) -> u16 {
        begin(Response::new(self.out, self.now, 200, body.len()).json()).end(self.form, body);
        200
    }

    /// JSON with the version of an entry.
    pub(super) fn entry(&mut self, status: u16, stamp: Stamp, body: &[u8]) -> u16 {
        let response = Response::new(self.out, self.now, status, body.len()).json().etag(stamp);
        response.end(self.form, body);
        status
    }

    /// JSON that is about no single entry.
    pub(super) fn plain_json(&mut self, status: u16, body: &[u8]) -> u16 {
        let response = Response::new(self.out, self.now, status, body.len()).json();
        response.end(self.form, body);
        status
    }

    /// No body but the version of an entry.
    pub(super) fn empty_entry(&mut self, stamp: Stamp) -> u16 {
        Response::new(self.out, self.now, 200, 0).etag(stamp).end_bodiless();
        200
    }

    fn failure(&mut self, failure: &Failure) -> u16 {
        failure.write(self.out, self.now, self.form);
        failure.status
    }

    /// The node gave no reply in time, refused, or replied something else.
    pub(super) fn no_reply(&mut self, reply: Option<Reply>) -> u16 {
        let failure = match reply {
            Some(Reply::Refused(why)) => Failure::new(409, why),
            _ => Failure::busy("the node did not reply in time; try again"),
        };
        self.failure(&failure)
    }
}
