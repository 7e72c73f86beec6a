//! The one task that owns the node.
//!
//! ```text
//!        .--> take what waits, of each kind up to a bound:
//!        |       datagrams, reports of connections, commands, written?, deadline passed?
//!        |    drain the node's outputs: seal and send, dial, answer, log
//!        `--- sleep until a datagram, the doorbell, or the node's deadline
//! ```
//!
//! Nothing here waits for anybody: sends are best effort, outboxes are bounded, answers are
//! called back. So a probe is answered however busy the rest of the process is.

use super::alarm::Alarm;
use super::detail::Detail;
use super::entropy;
use super::log::Log;
use super::mailbox::{Letter, Mailbox, Report, State};
use super::tcp::Streams;
use super::turns::Turns;
use super::udp::Udp;
use crate::kv::Store;
use crate::limits::{STREAMS_OUTBOUND_MAX, TICKETS_MAX, TURN_INPUTS_MAX};
use crate::node::command::{Command, Health, NotReady, Reply, ReplyTo, Sample};
use crate::node::io::{ConnId, Input, Output, Ticket};
use crate::node::replication::COALESCE;
use crate::time::{Instant, Now};
use crate::wire::packet::{Security, seal};
use crate::wire::stream::Frame;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Longest sleep, so that a quiet node still shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The node as the engine knows it; the tests of the shell put a puppet in its place.
pub(super) trait Machine: Send + 'static {
    fn handle(&mut self, now: Now, input: Input);
    fn poll(&mut self, now: Now) -> Output;
    fn security(&self) -> Arc<Security>;
    fn health(&self) -> Health;
    /// Whether its store holds all that it must before it answers for the cluster.
    fn is_complete(&self) -> bool;
    /// What keeps it from being ready, by kind; `None` when it is.
    fn not_ready(&self) -> Option<NotReady>;
    /// The same as a sentence that an operator can act on; foreign names in it are escaped.
    fn why(&self) -> Option<String>;
    fn alone(&self) -> bool;
    /// The name of a member that does not know keys that expire.
    fn lacks_ttl(&self) -> Option<String> {
        None
    }
}

/// How long a turn takes what waits, of each kind, and one thing more: so that a probe or a client
/// does not wait for a hundred large frames.
const SLICE: Duration = Duration::from_millis(2);

/// Frames longer than this take long enough that whoever waits for the processor comes first.
const BULK_LEN: usize = 8 << 10;

/// Owns the node and everything that only its thread touches.
pub(super) struct Engine<M> {
    machine: M,
    /// Only looked at: whether it is full.
    store: Arc<Store>,
    mailbox: Mailbox,
    udp: Udp,
    alarm: Alarm,
    streams: Streams,
    conns: BTreeMap<ConnId, Conn>,
    n_dialled: usize,
    tickets: BTreeMap<Ticket, ReplyTo>,
    next_ticket: u64,
    /// What the engine itself has to tell the node, at the next turn.
    backlog: Vec<Input>,
    deadline: Instant,
    /// When the node is told of writes next. As long as it would only gather them, the flag stays
    /// up, and whoever writes has nobody to wake.
    next_written: Instant,
    security: Arc<Security>,
    /// The same without compression.
    security_raw: Arc<Security>,
    to_streams: watch::Sender<Arc<Security>>,
    /// As the front was told last.
    why: Option<Arc<str>>,
    lacks_ttl: Option<Arc<str>>,
    log: Log,
    turns: Turns,
    detail: Detail,
    /// A question for the node's numbers that is not answered yet.
    numbers: Option<Ticket>,
    /// When it was last said that the key is worn.
    worn_told: Option<Instant>,
}

/// A connection that has not ended.
#[derive(Debug)]
struct Conn {
    /// Gone when no more is to be sent.
    outbox: Option<mpsc::Sender<Frame>>,
    overflowed: bool,
}

impl<M: Machine> Engine<M> {
    /// `to_streams` passes the node's keys on to the connections.
    pub fn new(
        machine: M,
        store: Arc<Store>,
        mailbox: Mailbox,
        udp: Udp,
        alarm: Alarm,
        streams: Streams,
        to_streams: watch::Sender<Arc<Security>>,
    ) -> Engine<M> {
        let security = machine.security();
        mailbox.shared.seals.sealed_with(security.keyring.primary());
        Engine {
            why: mailbox.shared.why(),
            lacks_ttl: None,
            machine,
            store,
            mailbox,
            udp,
            alarm,
            streams,
            conns: BTreeMap::new(),
            n_dialled: 0,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            backlog: Vec::new(),
            deadline: Instant::ZERO,
            next_written: Instant::ZERO,
            security_raw: without_compression(&security),
            security,
            to_streams,
            log: Log::default(),
            turns: Turns::default(),
            detail: Detail::default(),
            numbers: None,
            worn_told: None,
        }
    }

    /// Runs until asked to stop.
    ///
    /// # Errors
    /// When the datagram socket is broken.
    pub async fn run(mut self) -> Result<(), String> {
        loop {
            self.turn().map_err(|error| format!("the datagram socket is broken: {error}"))?;
            if self.mailbox.shared.is_stopping() {
                return Ok(());
            }
            self.wait().await;
        }
    }

    fn turn(&mut self) -> std::io::Result<()> {
        let now = self.mailbox.shared.clock.now();
        let began = now.instant;
        self.mailbox.shared.set_turned(began);
        for input in std::mem::take(&mut self.backlog) {
            self.machine.handle(now, input);
        }
        self.take_datagrams(now)?;
        self.take_reports();
        let urgent = self.take_commands();
        let now = self.mailbox.shared.clock.now();
        if (urgent || self.next_written <= now.instant) && self.mailbox.shared.take_written() {
            self.next_written = now.instant + COALESCE;
            self.machine.handle(now, Input::Written);
        }
        if now.instant >= self.deadline {
            self.machine.handle(now, Input::Timeout);
        }
        if self.numbers.is_none() && self.detail.wants_numbers(now.instant) {
            let ticket = self.ticket();
            self.numbers = Some(ticket);
            self.machine.handle(now, Input::Command { ticket, command: Command::Stats });
        }
        self.drain(now);
        self.tell_state(now.instant);
        self.mailbox.shared.seals.warn(now.instant, &mut self.worn_told);
        self.turns.took(self.mailbox.shared.clock.instant().since(began));
        Ok(())
    }

    /// Tells the front and the log where the node stands.
    fn tell_state(&mut self, now: Instant) {
        let shared = &self.mailbox.shared;
        let health = self.machine.health();
        let state = State {
            health,
            is_complete: self.machine.is_complete(),
            not_ready: self.machine.not_ready(),
            is_alone: self.machine.alone(),
        };
        let why = state.not_ready.and_then(|_| self.machine.why());
        if why.as_deref() != self.why.as_deref() {
            self.why = why.map(Arc::from);
            shared.set_why(self.why.clone());
        }
        let lacks_ttl = self.machine.lacks_ttl();
        if lacks_ttl.as_deref() != self.lacks_ttl.as_deref() {
            self.lacks_ttl = lacks_ttl.map(Arc::from);
            shared.set_lacks_ttl(self.lacks_ttl.clone());
        }
        shared.set_state(state);
        self.log.state(health, self.why.as_ref(), now);
        let store = &self.store;
        self.log.store(store.refused_full(), &store.stats(), store.len_max(), now);
    }

    /// Sleeps until there is something to do.
    async fn wait(&mut self) {
        let shared = &self.mailbox.shared;
        shared.doorbell.arm();
        let now = shared.clock.instant();
        let mut until = self.deadline.min(now + HEARTBEAT);
        if shared.is_written() {
            until = until.min(self.next_written);
        }
        if until <= now || !self.backlog.is_empty() || self.mailbox.has_mail() {
            shared.doorbell.disarm();
            // Lets the runtime look at the socket, however much mail there is.
            tokio::task::yield_now().await;
            return;
        }
        tokio::select! {
            biased;
            () = shared.doorbell.rung() => {}
            _ = self.udp.readable() => {}
            () = self.alarm.wait(until) => {}
        }
        shared.doorbell.disarm();
    }

    fn take_datagrams(&mut self, now: Now) -> std::io::Result<()> {
        for _ in 0..TURN_INPUTS_MAX {
            match self.udp.receive(&self.mailbox.shared.counters)? {
                Some((from, bytes)) => {
                    self.detail.received(from, bytes.len());
                    self.machine.handle(now, Input::Datagram { from, bytes });
                }
                None => break,
            }
            if self.is_slice_over(now.instant) {
                break;
            }
        }
        Ok(())
    }

    /// Whether what waits of one kind has been taken for long enough.
    fn is_slice_over(&self, began: Instant) -> bool {
        self.mailbox.shared.clock.instant().since(began) >= SLICE
    }

    fn take_reports(&mut self) {
        let began = self.mailbox.shared.clock.instant();
        for _ in 0..TURN_INPUTS_MAX {
            if self.is_slice_over(began) {
                break;
            }
            let Ok(report) = self.mailbox.reports.try_recv() else { break };
            let now = self.mailbox.shared.clock.now();
            match report {
                Report::Opened { conn, outbox } => {
                    self.conns.insert(conn, Conn { outbox: Some(outbox), overflowed: false });
                }
                Report::Frame { conn, from, frame, room } => {
                    let is_bulk = matches!(&frame, Frame::Kv(payload) if payload.len() >= BULK_LEN);
                    self.detail.frame(conn, from, &frame);
                    self.machine.handle(now, Input::Frame { conn, from, frame });
                    drop(room);
                    if is_bulk {
                        std::thread::yield_now();
                    }
                }
                Report::Sent { conn, len } => self.machine.handle(now, Input::Sent { conn, len }),
                Report::Refused { conn, mismatch } => {
                    self.machine.handle(now, Input::Refused { conn, mismatch });
                }
                Report::Closed { conn, error } => {
                    let error = self.forget(conn).or(error);
                    self.detail.closed(conn, error.as_deref());
                    self.machine.handle(now, Input::Closed { conn, error });
                }
            }
        }
    }

    /// Takes a connection off the table; why we ended it, when we did.
    fn forget(&mut self, conn: ConnId) -> Option<String> {
        if is_dialled(conn) {
            self.n_dialled -= 1;
        }
        let overflowed = self.conns.remove(&conn).is_some_and(|conn| conn.overflowed);
        overflowed.then(|| "more frames were handed over than may wait".to_owned())
    }

    /// Whether there were any. A command may be about a write just made.
    fn take_commands(&mut self) -> bool {
        let mut taken = 0;
        let began = self.mailbox.shared.clock.instant();
        while taken < TURN_INPUTS_MAX
            && !self.is_slice_over(began)
            && let Ok(Letter { command, reply_to }) = self.mailbox.commands.try_recv()
        {
            self.command(command, reply_to);
            taken += 1;
        }
        taken > 0
    }

    fn command(&mut self, command: Command, reply_to: ReplyTo) {
        if self.tickets.len() >= TICKETS_MAX {
            reply_to(Reply::Refused("too many requests wait for their answer".to_owned()));
            return;
        }
        let ticket = self.ticket();
        self.tickets.insert(ticket, reply_to);
        let now = self.mailbox.shared.clock.now();
        self.machine.handle(now, Input::Command { ticket, command });
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    fn drain(&mut self, now: Now) {
        let mut is_another_table = false;
        loop {
            match self.machine.poll(now) {
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    break;
                }
                Output::Datagram { to, parts, crc, compress } => {
                    self.datagram(&to, &parts, crc, compress);
                }
                Output::Dial { conn, peer, frame, deadline, link } => {
                    self.dial(conn, peer, frame, deadline, link);
                }
                Output::Send { conn, frame } => self.send(conn, frame),
                Output::Close { conn } => {
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        conn.outbox = None;
                    }
                }
                Output::Reply { ticket, reply } => self.reply(ticket, reply),
                Output::Event(event) => {
                    is_another_table |= event.changes_members();
                    self.log.event(&event, now.instant);
                }
                Output::Note(note) => self.log.note(&note),
                Output::Security(security) => {
                    self.log.security(&self.security, &security);
                    self.mailbox.shared.seals.sealed_with(security.keyring.primary());
                    self.security_raw = without_compression(&security);
                    self.security = security.clone();
                    self.to_streams.send_replace(security);
                }
            }
        }
        if is_another_table {
            self.mailbox.shared.ring_members();
        }
    }

    fn datagram(&self, to: &[SocketAddr], parts: &[Bytes], crc: bool, compress: bool) {
        let security = if compress { &self.security } else { &self.security_raw };
        let nonce = if security.encrypts() {
            self.mailbox.shared.seals.count(1);
            entropy::nonce()
        } else {
            Default::default()
        };
        let datagram = seal(security, parts, crc, nonce);
        for &to in to {
            self.detail.sent(to, datagram.len());
            self.udp.send(to, &datagram, &self.mailbox.shared.counters);
        }
    }

    fn dial(
        &mut self,
        conn: ConnId,
        peer: SocketAddr,
        frame: Frame,
        deadline: Instant,
        link: bool,
    ) {
        if self.n_dialled >= STREAMS_OUTBOUND_MAX {
            self.mailbox.shared.counters.dials_refused.fetch_add(1, Relaxed);
            let error = Some("too many connections".to_owned());
            self.backlog.push(Input::Closed { conn, error });
            return;
        }
        self.n_dialled += 1;
        self.detail.dial(conn, peer, &frame);
        let outbox = Some(self.streams.dial(conn, peer, frame, deadline, link));
        self.conns.insert(conn, Conn { outbox, overflowed: false });
    }

    fn send(&mut self, conn: ConnId, frame: Frame) {
        let Some(conn) = self.conns.get_mut(&conn) else { return };
        let Some(outbox) = &conn.outbox else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = outbox.try_send(frame) {
            // A gap in the frames would be worse than none: the connection ends.
            self.mailbox.shared.counters.stream_frames_dropped.fetch_add(1, Relaxed);
            *conn = Conn { outbox: None, overflowed: true };
        }
    }

    fn reply(&mut self, ticket: Ticket, mut reply: Reply) {
        let is_own = self.numbers.take_if(|numbers| *numbers == ticket).is_some();
        let reply_to = self.tickets.remove(&ticket);
        if let Reply::Stats(samples) = &mut reply {
            samples.extend(self.mailbox.shared.counters.samples());
            samples.extend(self.turns.samples());
            samples.push(Sample {
                name: "gossip_key_messages",
                help: "Messages that this node has sealed with the gossip key of now.",
                labels: Vec::new(),
                value: self.mailbox.shared.seals.total() as f64,
            });
            let gauge = |name, help, value: usize| Sample {
                name,
                help,
                labels: Vec::new(),
                value: value as f64,
            };
            samples.push(gauge("streams", "Gossip connections open.", self.conns.len()));
            samples.push(gauge("tickets", "Commands without an answer yet.", self.tickets.len()));
            if is_own {
                self.detail.numbers(samples);
            }
        }
        if let Some(reply_to) = reply_to {
            reply_to(reply);
        }
    }
}

/// Whether we dialled: the node counts with even numbers.
fn is_dialled(conn: ConnId) -> bool {
    conn.0.is_multiple_of(2)
}

fn without_compression(security: &Security) -> Arc<Security> {
    Arc::new(Security { compress: false, ..security.clone() })
}
