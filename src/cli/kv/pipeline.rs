//! Many small requests at once: a few connections, on each of which a batch is sent before its
//! answers are read. A round trip for each request would be ten times slower.
//!
//! ```text
//!   Sender::push --by key--> [ a short queue each ] --> connection: write all, read all --> Settle
//! ```
//!
//! Orders of one key are done in the order in which they were pushed: one connection has all of
//! them, and none is sent before the one before it is settled.
//!
//! What is not answered, because a connection ended or the node was busy, is sent again: every
//! request here may be repeated. The first answer that makes all others pointless ends the work,
//! and so does a signal: a batch that has begun is settled then, and no other begins.

use crate::cli::client::{Client, Wire};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Halt;
use crate::cli::secure::objection;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use ureq::http::StatusCode;

/// Connections at once.
const CONNECTIONS: usize = 4;
/// Most requests of the batches that are filled at once, be it one alone: their answers must fit
/// into what the system holds of a connection, since nobody reads while we write.
const BATCH_MAX: usize = 128;
/// Bytes after which they are full.
const BATCH_LEN_MAX: usize = 256 << 10;
/// Batches that wait for one connection.
const QUEUE_MAX: usize = 8;
/// Longest head and longest body of an answer, in bytes.
const HEAD_LEN_MAX: u64 = 16 << 10;
const BODY_LEN_MAX: usize = 64 << 10;
/// How long a node that is busy is left alone, unless it says how long itself.
const REST: Duration = Duration::from_millis(200);
const REST_MAX: Duration = Duration::from_secs(2);

/// A request, and what it is called by whoever sends it.
#[derive(Debug)]
pub(super) struct Order {
    /// For [`Settle`]; it grows from one order to the next.
    pub(super) number: u64,
    /// Head and body.
    pub(super) bytes: Vec<u8>,
}

/// What an order came to.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// Takes what orders came to, from several threads; an error ends the work.
pub(super) type Settle<'s> = dyn Fn(u64, Reply) -> Result<(), Failure> + Sync + 's;

/// An order, and what its key is among those under way: two keys may share a mark, seldom.
#[derive(Debug)]
struct Marked {
    mark: u64,
    order: Order,
}

/// Where orders are pushed.
pub(super) struct Sender<'w> {
    marks: RandomState,
    lanes: [Lane; CONNECTIONS],
    /// Orders of all the batches, and their bytes.
    n_orders: usize,
    n_bytes: usize,
    is_over: &'w AtomicBool,
}

/// What is to go to one connection.
struct Lane {
    batch: Vec<Marked>,
    queue: SyncSender<Vec<Marked>>,
}

impl Sender<'_> {
    /// Sends an order that is about a key, in time; false when the work is over and nothing more
    /// is taken.
    pub(super) fn push(&mut self, key: &str, order: Order) -> bool {
        let mark = self.marks.hash_one(key);
        (self.n_orders, self.n_bytes) = (self.n_orders + 1, self.n_bytes + order.bytes.len());
        self.lanes[(mark % CONNECTIONS as u64) as usize].batch.push(Marked { mark, order });
        if self.n_orders < BATCH_MAX && self.n_bytes < BATCH_LEN_MAX {
            return !self.is_over.load(Relaxed);
        }
        self.flush()
    }

    fn flush(&mut self) -> bool {
        let mut is_taken = true;
        (self.n_orders, self.n_bytes) = (0, 0);
        for lane in &mut self.lanes {
            let batch = std::mem::take(&mut lane.batch);
            is_taken &= batch.is_empty() || lane.queue.send(batch).is_ok();
        }
        is_taken && !self.is_over.load(Relaxed)
    }
}

/// Runs `push`, which sends orders, and settles them; returns when all are.
///
/// # Errors
/// The first failure of `settle`, a server that is out of reach, a signal, or what `push` fails
/// with.
pub(super) fn run(
    client: &Client,
    halt: &Halt,
    settle: &Settle<'_>,
    push: impl FnOnce(&mut Sender<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (is_over, first) = (AtomicBool::new(false), Mutex::new(None));
    let pushed = thread::scope(|threads| {
        let lanes = std::array::from_fn(|_| {
            let (queue, batches) = sync_channel::<Vec<Marked>>(QUEUE_MAX);
            let (is_over, first) = (&is_over, &first);
            threads.spawn(move || {
                let mut line = Line { client, wire: client.wire(), settle, stream: None };
                for batch in batches {
                    // Once it is over the queue is emptied all the same: whoever pushes must not
                    // wait for ever.
                    if is_over.load(Relaxed) {
                        continue;
                    }
                    let settled = halt.step().and_then(|step| {
                        let settled = line.settle_all(batch, is_over);
                        drop(step);
                        settled
                    });
                    if let Err(failure) = settled {
                        is_over.store(true, Relaxed);
                        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert(failure);
                    }
                }
            });
            Lane { batch: Vec::new(), queue }
        });
        let (marks, is_over) = (RandomState::new(), &is_over);
        let mut sender = Sender { marks, lanes, n_orders: 0, n_bytes: 0, is_over };
        let pushed = push(&mut sender);
        sender.flush();
        pushed
    });
    match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(failure) => Err(failure),
        None => pushed,
    }
}

/// One connection, made anew when it ends.
struct Line<'w> {
    client: &'w Client,
    wire: Wire,
    settle: &'w Settle<'w>,
    stream: Option<BufReader<Stream>>,
}

/// A connection, plain or through TLS.
type Stream = Box<dyn ReadWrite>;

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

/// Why orders of a round are left.
enum Left {
    /// The connection ended.
    Broken(io::Error),
    /// The node says that it is busy, and wants to be left alone for that long.
    Busy(Reply, Duration),
}

impl Line<'_> {
    /// Until every order is settled, or nothing has been for as long as an answer may take.
    fn settle_all(&mut self, mut orders: Vec<Marked>, is_over: &AtomicBool) -> Result<(), Failure> {
        let mut rested = Duration::ZERO;
        loop {
            let n_before = orders.len();
            let (mut begun, mut held) = first_of_each(orders);
            let left = self.round(&mut begun)?;
            begun.append(&mut held);
            begun.sort_by_key(|marked| marked.order.number);
            orders = begun;
            if orders.is_empty() {
                return Ok(());
            }
            if is_over.load(Relaxed) {
                return Ok(());
            }
            if orders.len() < n_before {
                rested = Duration::ZERO;
            }
            let Some(left) = left else { continue };
            let (failure, rest) = match left {
                // Another try would find the same.
                Left::Broken(error) if objection(&error).is_some() => {
                    return Err(self.client.broken(&error));
                }
                Left::Broken(error) => (self.client.unreachable(&error.to_string()), REST),
                Left::Busy(reply, rest) => (self.client.said_no(reply.status, &reply.body), rest),
            };
            if rested >= self.wire.limit {
                return Err(failure);
            }
            thread::sleep(rest);
            rested += rest;
        }
    }

    /// Sends what is there and reads the answers. Orders that are settled are gone afterwards.
    fn round(&mut self, orders: &mut Vec<Marked>) -> Result<Option<Left>, Failure> {
        let mut stream = match self.stream.take().map_or_else(|| connect(&self.wire), Ok) {
            Ok(stream) => stream,
            Err(error) => return Ok(Some(Left::Broken(error))),
        };
        let mut bytes = Vec::new();
        orders.iter().for_each(|marked| bytes.extend_from_slice(&marked.order.bytes));
        // What was answered before the connection ended is read all the same.
        let sent = stream.get_mut().write_all(&bytes).and_then(|()| stream.get_mut().flush());
        // What all of them came to is known before one of them ends the work.
        let (mut busy, mut again, mut settled) = (None, Vec::new(), Ok(()));
        let mut sent_orders = std::mem::take(orders).into_iter();
        while let Some(marked) = sent_orders.next() {
            let answer = match read_answer(&mut stream) {
                Ok(answer) => answer,
                Err(error) => {
                    again.push(marked);
                    let is_objection = objection(&error).is_some();
                    let sent = sent.err().filter(|_| !is_objection);
                    busy = busy.or(Some(Left::Broken(sent.unwrap_or(error))));
                    break;
                }
            };
            let (reply, closes) = (answer.reply, answer.closes);
            if matches!(reply.status.as_u16(), 408 | 429 | 503) {
                again.push(marked);
                busy = Some(Left::Busy(reply, answer.rest.unwrap_or(REST).min(REST_MAX)));
            } else {
                settled = settled.and((self.settle)(marked.order.number, reply));
            }
            if closes {
                let error = io::Error::new(io::ErrorKind::ConnectionReset, "closed by the server");
                orders.extend(again.into_iter().chain(sent_orders));
                let is_all = orders.is_empty();
                settled?;
                return Ok(busy.or((!is_all).then_some(Left::Broken(error))));
            }
        }
        if !matches!(busy, Some(Left::Broken(_))) {
            self.stream = Some(stream);
        }
        orders.extend(again.into_iter().chain(sent_orders));
        settled.map(|()| busy)
    }
}

/// The orders that may be sent together, and those that wait for one of the same key: a node may
/// do what it gets at once in any order, and say of any of it that it is busy.
fn first_of_each(orders: Vec<Marked>) -> (Vec<Marked>, Vec<Marked>) {
    let mut marks = HashSet::with_capacity(orders.len());
    orders.into_iter().partition(|marked| marks.insert(marked.mark))
}

fn connect(wire: &Wire) -> io::Result<BufReader<Stream>> {
    let mut last = None;
    for address in &wire.addresses {
        match TcpStream::connect_timeout(address, wire.limit) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(wire.limit))?;
                stream.set_write_timeout(Some(wire.limit))?;
                let stream: Stream = match &wire.secure {
                    None => Box::new(stream),
                    Some(secure) => Box::new(secure.over(stream)?),
                };
                return Ok(BufReader::with_capacity(64 << 10, stream));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

struct Answer {
    reply: Reply,
    /// The server takes no more on this connection.
    closes: bool,
    /// How long it wants to be left alone.
    rest: Option<Duration>,
}

/// Reads one answer, strictly: its length must be told.
fn read_answer(stream: &mut BufReader<Stream>) -> io::Result<Answer> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        let room = HEAD_LEN_MAX - head.len() as u64;
        if stream.by_ref().take(room).read_until(b'\n', &mut head)? == 0 {
            let end = "the connection ended before the answer";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, end));
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    parsed.parse(&head).map_err(|error| wrong(&format!("not an answer of HTTP: {error}")))?;
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| wrong("not an answer of HTTP"))?;
    let header = |name: &str| {
        let found = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let len: usize = match header("content-length") {
        Some(text) => text.parse().map_err(|_| wrong("an answer with a wrong length"))?,
        None if status == StatusCode::NO_CONTENT => 0,
        None => return Err(wrong("an answer without its length")),
    };
    if len > BODY_LEN_MAX {
        return Err(wrong("an answer longer than any of a node"));
    }
    let closes = header("connection").is_some_and(|text| text.eq_ignore_ascii_case("close"));
    let rest = header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    Ok(Answer { reply: Reply { status, body }, closes, rest })
}
