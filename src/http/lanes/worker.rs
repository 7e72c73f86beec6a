//! The only file that names tiny_http: it parses requests, and a thread answers them.
//!
//! ```text
//! line ==> tiny_http: parse --queue--> thread: Handler
//!   ^                                    |
//!   `========== answers, in order =======`
//! ```
//!
//! Each worker has a tiny_http server of its own and serves one connection. So the order of answers
//! is the order of requests: the gate sends many requests without waiting, and the worker writes
//! many answers with one call.

use super::secret::{Asked, PROOF_ANSWER, Secret};
use crate::http::request::{Form, Handler, Method, Poll, Request};
#[cfg(target_os = "linux")]
use rustix::process::{getpriority_process, setpriority_process};
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Answers written with one call, in bytes; what is more goes in a further call.
const BATCH_LEN_MAX: usize = 64 << 10;
/// How much lower than that of others the priority of a bulk worker is. A thread of the usual one
/// has three times its share of a processor that both want.
#[cfg(target_os = "linux")]
const BULK_NICE: i32 = 5;
/// How long a worker may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// What a buffer may keep between requests, in bytes.
const KEPT_LEN_MAX: usize = 1 << 20;

/// The header of a request whose body comes through the channel that [`Worker::start`] returns.
/// Clients cannot send it: the gate passes on only headers it names.
pub(in crate::http) const BODY_OUT_OF_BAND: &[u8] = b"Out-Of-Band: 1\r\n";

/// What a worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    /// What is done at once.
    Quick,
    /// What takes its time.
    Bulk,
}

/// One tiny_http server with its thread. Ends when the gate closes the line and
/// [`stop`](Worker::stop) is called.
pub(in crate::http) struct Worker {
    server: Arc<Tiny>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// Never dropped: `tiny_http::Server::drop` panics for an abstract socket, and has nothing to do
/// here, where its listener is shut down already. What stays behind is some hundred bytes.
type Tiny = ManuallyDrop<tiny_http::Server>;

impl Worker {
    /// Serves what connects to `listener`, until that is shut down. Returns where long bodies go.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn start(
        name: &str,
        secret: &Secret,
        handler: &Arc<dyn Handler>,
        kind: Kind,
        listener: impl Into<tiny_http::Listener>,
    ) -> io::Result<(Worker, Sender<Vec<u8>>)> {
        let server = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let server = Arc::new(ManuallyDrop::new(server));
        let stopping = Arc::new(AtomicBool::new(false));
        let (alive, ended) = mpsc::channel();
        let (to_worker, bodies) = mpsc::channel();
        let answering = Answering {
            _alive: alive,
            server: Arc::clone(&server),
            stopping: Arc::clone(&stopping),
            secret: secret.clone(),
            handler: Arc::clone(handler),
            kind,
            bodies,
            body: Vec::new(),
            scratch: Vec::new(),
            answers: Vec::new(),
        };
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            if kind == Kind::Bulk {
                step_back();
            }
            answering.run();
        })?;
        Ok((Worker { server, stopping, thread, ended }, to_worker))
    }

    /// Ends the worker. Requests that it has not taken yet are not answered. A worker that is stuck
    /// is left to itself.
    pub(in crate::http) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.server.unblock();
        if self.ended.recv_timeout(STOP_LIMIT) == Err(RecvTimeoutError::Disconnected) {
            // The thread catches its handler's panics, so it has none of its own to report.
            let _ = self.thread.join();
        }
    }
}

/// What the thread holds: it takes one request after the other, and writes the answers of those
/// that wait together.
struct Answering {
    _alive: Sender<()>,
    server: Arc<Tiny>,
    stopping: Arc<AtomicBool>,
    secret: Secret,
    handler: Arc<dyn Handler>,
    kind: Kind,
    bodies: Receiver<Vec<u8>>,
    body: Vec<u8>,
    scratch: Vec<u8>,
    answers: Vec<u8>,
}

/// Lets the other threads of the process go first, where there are fewer processors than work: the
/// gate, what is quick, and the gossip.
fn step_back() {
    // For Linux a thread is what has a priority; elsewhere it is the whole process. Where that may
    // not be, all else goes on.
    #[cfg(target_os = "linux")]
    let _ = getpriority_process(None)
        .and_then(|usual| setpriority_process(None, usual.saturating_add(BULK_NICE)));
}

impl Answering {
    fn run(mut self) {
        while !self.stopping.load(Ordering::Acquire) {
            // An error is the shut-down of the listener or the wake-up of `stop`.
            let Ok(request) = self.server.recv() else { continue };
            let mut writer = self.answer(request);
            while self.answers.len() < BATCH_LEN_MAX
                && let Ok(Some(request)) = self.server.try_recv()
            {
                // Dropping a writer passes the turn on, so the last one may write for all.
                writer = self.answer(request).or(writer);
            }
            if let Some(mut writer) = writer {
                // When this fails the gate has gone; `stop` follows.
                let _ = writer.write_all(&self.answers).and_then(|()| writer.flush());
            }
            for buffer in [&mut self.answers, &mut self.body, &mut self.scratch] {
                buffer.clear();
                buffer.shrink_to(KEPT_LEN_MAX);
            }
        }
    }

    /// Reads a request's body, or gets it out of band; false when it is not whole.
    fn take_body(&mut self, request: &mut tiny_http::Request) -> bool {
        let is_out_of_band = |header: &tiny_http::Header| header.field.equiv("Out-Of-Band");
        if request.headers().iter().any(is_out_of_band) {
            return self.bodies.try_recv().map(|body| self.body = body).is_ok();
        }
        // Read to its end: what is left unread tiny_http reads into a buffer of that length.
        request.as_reader().read_to_end(&mut self.body).is_ok()
    }

    /// Appends the answer to `answers`; `None` for what the gate did not send.
    fn answer(&mut self, mut request: tiny_http::Request) -> Option<Box<dyn Write + Send>> {
        if self.secret.open(request.url()).is_none() {
            // Never dropped, a stranger's request takes no body in, gets no answer, and makes
            // tiny_http wait for its end instead of reading his next.
            std::mem::forget(request);
            return None;
        }
        self.body.clear();
        self.scratch.clear();
        let is_whole = self.take_body(&mut request);
        let asked = self.secret.open(request.url())?;
        let method = Method::from_name(request.method().as_str()).filter(|_| is_whole)?;
        let Asked::Request(trust, target) = asked else {
            self.answers.extend_from_slice(PROOF_ANSWER);
            return Some(request.into_writer());
        };
        let before = self.answers.len();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let header = |name: &'static str| {
                let header = request.headers().iter().find(|header| header.field.equiv(name));
                header.map(|header| header.value.as_str())
            };
            let request = Request {
                method,
                target,
                trust,
                content_type: header("Content-Type"),
                if_none_match: header("If-None-Match"),
                if_match: header("If-Match"),
                wants_events: header("Accept").is_some(),
                takes_gzip: header("Accept-Encoding").is_some(),
                last_event_id: header("Last-Event-ID"),
                poll: Poll::of_header(header("Poll")),
                has_length: request.body_length().is_some(),
                body: &self.body,
                may_take_time: self.kind == Kind::Bulk,
            };
            self.handler.answer(&request, &mut self.scratch, &mut self.answers);
        }));
        if caught.is_err() {
            self.answers.truncate(before);
            self.handler.failed(Form::of(method), &mut self.answers);
        }
        Some(request.into_writer())
    }
}
