//! The gate's end of a connection to tiny_http, which many clients share.
//!
//! ```text
//! client tasks --submit--> unsent --writer task--> [Line] --reader task--> Answer --> client task
//!                            |  up to `depth_max` under way, answered in order           ^
//!                            `------------------------> sent ----------------------------'
//!                               long bodies: a channel to the worker, in the same order
//! ```
//!
//! A lane never waits for a client. A request is whole when it is submitted. An answer is read
//! whole, or thrown away when the budget of memory is spent. So the slowest client delays nobody.

use super::line::{Line, Upstream};
use crate::http::manner::Manner;
use crate::http::memory::Held;
use crate::http::pending::Parked;
use crate::http::request::Form;
use crate::http::shared::Shared;
use crate::limits::HTTP_POLL_TURNS_MAX;
use bytes::{Buf as _, BufMut as _, BytesMut};
use memchr::memchr;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot};

/// Requests written with one call, in bytes; what is more goes in a further call.
const BATCH_LEN_MAX: usize = 64 << 10;
/// A body of more bytes is not copied: the worker gets it out of band.
pub(in crate::http) const COPIED_BODY_LEN_MAX: usize = 16 << 10;
/// Bytes read at a time.
const READ_LEN: usize = 64 << 10;
/// Room for the header lines that the gate adds to an answer, so that it need not move. With
/// origins they may be longer.
const LINES_LEN: usize = 64;
/// Most header lines of an answer: those of [`crate::http::response`] and of tiny_http itself.
const HEADERS_MAX: usize = 16;

/// A whole request in the form tiny_http gets it.
#[derive(Debug, Default)]
pub(in crate::http) struct Job {
    /// Head, and the body when that is short. The answer comes in the same buffer.
    pub(in crate::http) bytes: Vec<u8>,
    /// A longer body, which goes out of band; the head says so.
    pub(in crate::http) body: Vec<u8>,
    /// What the answer has to be like.
    pub(in crate::http) manner: Manner,
}

/// What comes back from a lane.
pub(in crate::http) struct Answer {
    /// The answer as it goes to the client, `Connection` excepted. Empty when it was [`Lost`].
    ///
    /// [`Lost`]: Ending::Lost
    pub(in crate::http) bytes: Vec<u8>,
    /// What the gate does with it.
    pub(in crate::http) ending: Ending,
    /// The share of the budget that its bytes take.
    pub(in crate::http) held: Held,
}

/// What kind of answer came back.
pub(in crate::http) enum Ending {
    /// The answer is complete.
    Ready,
    /// The gate has to finish it.
    Parked(Parked),
    /// It takes time, and this is no lane for that. `bytes` are the request as it was submitted.
    Again,
    /// The budget was spent, and it is thrown away. What was asked has been done.
    Lost,
}

/// One connection to tiny_http; [`run`](Lane::run) drives it.
pub(in crate::http) struct Lane {
    queue: Mutex<Queue>,
    filled: Notify,
    load: AtomicUsize,
    answered: AtomicU64,
    depth_max: usize,
    waiting_max: usize,
}

#[derive(Default)]
struct Queue {
    is_broken: bool,
    unsent: VecDeque<(Job, oneshot::Sender<Answer>)>,
    sent: VecDeque<Sent>,
}

struct Sent {
    manner: Manner,
    /// The request, in whose place its answer comes.
    bytes: Vec<u8>,
    answer_to: oneshot::Sender<Answer>,
}

/// Why a lane ended.
#[derive(Debug, thiserror::Error)]
pub(in crate::http) enum LaneError {
    /// The connection to tiny_http broke.
    #[error("the connection to the HTTP workers broke: {0}")]
    Io(#[from] io::Error),
    /// Something else than an answer came.
    #[error("the HTTP workers answered with something unreadable: {0}")]
    Answer(&'static str),
}

impl Lane {
    /// A lane on which so many requests are under way at once, and so many more may wait.
    pub(super) fn new(depth_max: usize, waiting_max: usize) -> Lane {
        Lane {
            queue: Mutex::default(),
            filled: Notify::new(),
            load: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            depth_max,
            waiting_max,
        }
    }

    /// Answers that have come. While there is something to do it must not stand still.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether what is submitted now has to wait for its turn.
    pub(in crate::http) fn is_backed_up(&self) -> bool {
        self.load() > self.depth_max
    }

    /// Requests submitted and not yet answered.
    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Sends a request when its turn comes, unless nobody waits for the answer any more. The
    /// receiver fails only when the lane is broken. `None` when too many wait already.
    pub(in crate::http) fn submit(&self, job: Job) -> Option<oneshot::Receiver<Answer>> {
        self.push(job, self.waiting_max)
    }

    /// The same for one that has one of the [`HTTP_POLL_TURNS_MAX`] turns: there is room for all of
    /// these.
    pub(in crate::http) fn submit_in_turn(&self, job: Job) -> Option<oneshot::Receiver<Answer>> {
        self.push(job, self.waiting_max + HTTP_POLL_TURNS_MAX)
    }

    fn push(&self, job: Job, waiting_max: usize) -> Option<oneshot::Receiver<Answer>> {
        let (answer_to, answer) = oneshot::channel();
        let mut queue = self.queue.lock();
        if queue.unsent.len() >= waiting_max {
            queue.unsent.retain(|(_, answer_to)| !self.is_forgotten(answer_to));
            if queue.unsent.len() >= waiting_max {
                return None;
            }
        }
        if !queue.is_broken {
            self.load.fetch_add(1, Ordering::Relaxed);
            queue.unsent.push_back((job, answer_to));
            self.filled.notify_one();
        }
        Some(answer)
    }

    /// Whether nobody waits for an unsent request any more; then it is no load either.
    fn is_forgotten(&self, answer_to: &oneshot::Sender<Answer>) -> bool {
        let is_closed = answer_to.is_closed();
        self.load.fetch_sub(usize::from(is_closed), Ordering::Relaxed);
        is_closed
    }

    /// Sends and receives until the connection breaks, which is never meant to happen.
    pub(in crate::http) async fn run(&self, to: Upstream, shared: &Shared) -> LaneError {
        let (reader, writer) = match split(to.line) {
            Ok(halves) => halves,
            Err(error) => return error.into(),
        };
        let reader = Reader { lane: self, shared, input: BytesMut::new(), reader };
        let ended = tokio::select! {
            ended = self.write(writer, &to.bodies) => ended.map_err(LaneError::from),
            ended = reader.run() => ended,
        };
        // Whoever waits must not wait for ever.
        *self.queue.lock() = Queue { is_broken: true, ..Queue::default() };
        match ended {
            Ok(()) => LaneError::Answer("nothing"),
            Err(error) => error,
        }
    }

    async fn write(
        &self,
        mut writer: Box<dyn AsyncWrite + Send + Unpin>,
        bodies: &Sender<Vec<u8>>,
    ) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH_LEN_MAX);
        loop {
            self.filled.notified().await;
            // Other clients of this turn of the scheduler may have requests as well.
            tokio::task::yield_now().await;
            loop {
                batch.clear();
                self.fill(&mut batch, bodies);
                if batch.is_empty() {
                    break;
                }
                writer.write_all(&batch).await?;
            }
        }
    }

    /// Moves what may be sent into `batch` and `bodies`, where a body is before its head is sent.
    fn fill(&self, batch: &mut Vec<u8>, bodies: &Sender<Vec<u8>>) {
        let mut queue = self.queue.lock();
        while queue.sent.len() < self.depth_max
            && batch.len() < BATCH_LEN_MAX
            && let Some((job, answer_to)) = queue.unsent.pop_front()
        {
            if self.is_forgotten(&answer_to) {
                continue;
            }
            let Job { bytes, body, manner } = job;
            batch.extend_from_slice(&bytes);
            queue.sent.push_back(Sent { manner, bytes, answer_to });
            if !body.is_empty() {
                // A worker that has gone breaks the connection too.
                let _ = bodies.send(body);
            }
        }
    }

    /// The request that the next answer belongs to.
    fn next_sent(&self) -> Option<Sent> {
        let mut queue = self.queue.lock();
        let sent = queue.sent.pop_front();
        if queue.sent.len() + 1 == self.depth_max {
            self.filled.notify_one();
        }
        drop(queue);
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
        sent
    }
}

struct Reader<'l> {
    lane: &'l Lane,
    shared: &'l Shared,
    input: BytesMut,
    reader: Box<dyn AsyncRead + Send + Unpin>,
}

impl Reader<'_> {
    async fn run(mut self) -> Result<(), LaneError> {
        loop {
            self.input.reserve(READ_LEN);
            if self.reader.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            while let Some(head) = AnswerHead::read(&self.input)? {
                self.answer(head).await?;
            }
        }
    }

    /// Takes the rest of an answer and hands it over.
    async fn answer(&mut self, head: AnswerHead) -> Result<(), LaneError> {
        let Some(sent) = self.lane.next_sent() else {
            return Err(LaneError::Answer("an answer that nobody waits for"));
        };
        let Sent { manner, mut bytes, answer_to } = sent;
        let body_len = match manner.form {
            Form::Whole => head.body_len,
            Form::HeadOnly => 0,
        };
        let len = head.len + body_len;
        let mut held = Held::new(&self.shared.budget);
        // Taken out whatever becomes of the answer: nobody else would.
        let parked = head.pending.and_then(|number| self.shared.pending.take(number));
        let ending = if head.is_again {
            self.skip(len).await?;
            Ending::Again
        } else if held.grow_to(len).is_ok() {
            bytes.clear();
            bytes.reserve_exact(len + LINES_LEN);
            self.take(head.status_len, &mut bytes).await?;
            self.shared.lines.write(manner, &mut bytes);
            self.take(len - head.status_len, &mut bytes).await?;
            match parked {
                Some(parked) => Ending::Parked(parked),
                None => Ending::Ready,
            }
        } else {
            bytes.clear();
            self.skip(len).await?;
            Ending::Lost
        };
        // A client that has gone needs no answer.
        let _ = answer_to.send(Answer { bytes, ending, held });
        Ok(())
    }

    async fn take(&mut self, len: usize, bytes: &mut Vec<u8>) -> Result<(), LaneError> {
        let here = len.min(self.input.len());
        let end = bytes.len() + len;
        bytes.extend_from_slice(&self.input[..here]);
        self.input.advance(here);
        while bytes.len() < end {
            let rest = end - bytes.len();
            if self.reader.read_buf(&mut bytes.limit(rest)).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(())
    }

    async fn skip(&mut self, len: usize) -> Result<(), LaneError> {
        let mut rest = len;
        loop {
            let here = rest.min(self.input.len());
            self.input.advance(here);
            rest -= here;
            if rest == 0 {
                return Ok(());
            }
            self.input.reserve(READ_LEN);
            if self.reader.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

/// What the head of an answer says.
struct AnswerHead {
    status_len: usize,
    len: usize,
    body_len: usize,
    pending: Option<u64>,
    is_again: bool,
}

impl AnswerHead {
    /// Reads a head, once it is all there.
    fn read(input: &[u8]) -> Result<Option<AnswerHead>, LaneError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(input) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(LaneError::Answer("no HTTP")),
        };
        let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse().ok();
        let find = |name: &str| response.headers.iter().find(|header| header.name == name);
        let pending = find("Pending").and_then(|header| number(header.value));
        let is_again = find("Again").is_some();
        let body_len = match (response.code, find("Content-Length")) {
            (Some(204 | 304), None) => 0,
            (_, Some(header)) => number(header.value)
                .and_then(|len: u64| usize::try_from(len).ok())
                .ok_or(LaneError::Answer("no number as length"))?,
            _ => return Err(LaneError::Answer("no length")),
        };
        let status_len = memchr(b'\n', input).map_or(len, |at| at + 1);
        Ok(Some(AnswerHead { status_len, len, body_len, pending, is_again }))
    }
}

type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

fn split(line: Line) -> io::Result<Halves> {
    match line {
        #[cfg(target_os = "linux")]
        Line::Unix(line) => {
            line.set_nonblocking(true)?;
            let (reader, writer) = tokio::net::UnixStream::from_std(line)?.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
        Line::Tcp(line) => {
            line.set_nonblocking(true)?;
            let (reader, writer) = tokio::net::TcpStream::from_std(line)?.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
    }
}
