//! How other threads reach the engine: two bounded queues, one flag, one doorbell.
//!
//! ```text
//!  HTTP workers, discovery -- commands: full means Busy ------------+
//!  HTTP workers ------------- written: a flag, however many writes -+--> engine
//!  connection tasks --------- reports: full means wait -------------+
//! ```
//!
//! The doorbell costs a system call only while the engine sleeps: it arms the bell, looks at its
//! mail once more, and only then sleeps; a sender delivers first and rings afterwards. Whichever
//! comes second sees the other.

use super::clock::Clock;
use super::counters::Counters;
use super::seals::Seals;
use crate::limits::{MAILBOX_MAX, REPORTS_MAX};
use crate::node::command::{Bell, Busy, Command, Health, NotReady, ReplyTo};
use crate::node::io::ConnId;
use crate::time::Instant;
use crate::wire::stream::{Frame, Mismatch};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

/// How long the engine may be silent before it no longer counts as live.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Where the node stands, as its engine tells after every turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub health: Health,
    /// Whether its store holds all that it must before it answers for the cluster.
    pub is_complete: bool,
    /// What keeps it from being ready.
    pub not_ready: Option<NotReady>,
    /// Whether no other member is alive as far as it knows.
    pub is_alone: bool,
}

/// What the engine and everybody around it share.
#[derive(Debug)]
pub(super) struct Shared {
    pub clock: Clock,
    pub counters: Counters,
    pub seals: Seals,
    pub doorbell: Doorbell,
    written: AtomicBool,
    stopping: AtomicBool,
    health: AtomicU8,
    is_complete: AtomicBool,
    /// 0 for ready, else one more than the place in [`NotReady::ALL`].
    not_ready: AtomicU8,
    /// Locked by the engine when it changes, and by whoever asks for `/health`.
    why: Mutex<Option<Arc<str>>>,
    /// Locked by the engine when it changes, and by whoever writes what expires.
    lacks_ttl: Mutex<Option<Arc<str>>>,
    alone: AtomicBool,
    /// When the engine last began a turn, in nanoseconds.
    turned: AtomicU64,
    /// Rung when the table of members has become another one.
    members_bell: FrontsBell,
}

impl Shared {
    pub fn new(clock: Clock) -> Shared {
        Shared {
            clock,
            counters: Counters::default(),
            seals: Seals::default(),
            doorbell: Doorbell::default(),
            written: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            health: AtomicU8::new(health_code(Health::Starting)),
            is_complete: AtomicBool::new(false),
            not_ready: AtomicU8::new(not_ready_code(Some(NotReady::Alone))),
            why: Mutex::new(Some("the node has just been started".into())),
            lacks_ttl: Mutex::new(None),
            alone: AtomicBool::new(true),
            turned: AtomicU64::new(clock.instant().0),
            members_bell: FrontsBell::default(),
        }
    }

    /// Says that the store holds new local writes.
    pub(super) fn set_written(&self) {
        if !self.written.swap(true, AcqRel) {
            self.doorbell.ring();
        }
    }

    /// Whether there were new local writes since the last call.
    pub(super) fn take_written(&self) -> bool {
        self.is_written() && self.written.swap(false, AcqRel)
    }

    pub(super) fn is_written(&self) -> bool {
        self.written.load(Acquire)
    }

    /// Asks the engine to end.
    pub fn stop(&self) {
        self.stopping.store(true, Release);
        self.doorbell.ring();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Acquire)
    }

    pub(super) fn set_turned(&self, at: Instant) {
        self.turned.store(at.0, Relaxed);
        self.counters.engine_turns.fetch_add(1, Relaxed);
    }

    pub fn is_live(&self) -> bool {
        self.silence() < SILENCE_MAX
    }

    /// How long ago the engine began its last turn.
    pub fn silence(&self) -> Duration {
        self.clock.instant().since(Instant(self.turned.load(Relaxed)))
    }

    pub(super) fn set_state(&self, state: State) {
        self.health.store(health_code(state.health), Relaxed);
        self.is_complete.store(state.is_complete, Relaxed);
        self.not_ready.store(not_ready_code(state.not_ready), Relaxed);
        self.alone.store(state.is_alone, Relaxed);
    }

    /// To be called when it has changed.
    pub(super) fn set_why(&self, why: Option<Arc<str>>) {
        *self.why.lock() = why;
    }

    /// To be called when it has changed: a member that does not know keys that expire.
    pub(super) fn set_lacks_ttl(&self, name: Option<Arc<str>>) {
        *self.lacks_ttl.lock() = name;
    }

    /// The first bell is the one that is rung.
    pub fn on_members_changed(&self, bell: Bell) {
        let _ = self.members_bell.0.set(bell);
    }

    /// Says that the table of members is another one.
    pub(super) fn ring_members(&self) {
        if let Some(bell) = self.members_bell.0.get() {
            bell();
        }
    }

    pub fn lacks_ttl(&self) -> Option<Arc<str>> {
        self.lacks_ttl.lock().clone()
    }

    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Starting,
            1 => Health::Ok,
            2 => Health::Leaving,
            _ => Health::Stalled,
        }
    }

    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Relaxed)
    }

    pub fn not_ready(&self) -> Option<NotReady> {
        let code = usize::from(self.not_ready.load(Relaxed));
        NotReady::ALL.get(code.checked_sub(1)?).copied()
    }

    pub fn why(&self) -> Option<Arc<str>> {
        self.why.lock().clone()
    }

    pub fn is_alone(&self) -> bool {
        self.alone.load(Relaxed)
    }
}

/// A bell that the front has given us, if it has.
#[derive(Default)]
struct FrontsBell(OnceLock<Bell>);

impl std::fmt::Debug for FrontsBell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.get().is_some() { "a bell" } else { "no bell" })
    }
}

fn health_code(health: Health) -> u8 {
    match health {
        Health::Starting => 0,
        Health::Ok => 1,
        Health::Leaving => 2,
        Health::Stalled => 3,
    }
}

fn not_ready_code(not_ready: Option<NotReady>) -> u8 {
    not_ready.map_or(0, |kind| kind as u8 + 1)
}

/// Wakes one sleeper, at the price of a system call only when there is one.
#[derive(Debug, Default)]
pub(super) struct Doorbell {
    armed: AtomicBool,
    notify: Notify,
}

impl Doorbell {
    /// Wakes the engine if it sleeps. To be called after the mail is in.
    pub fn ring(&self) {
        fence(SeqCst);
        if self.armed.load(Relaxed) && self.armed.swap(false, AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Announces a sleep. Mail must be looked for once more afterwards.
    pub(super) fn arm(&self) {
        self.armed.store(true, Relaxed);
        fence(SeqCst);
    }

    /// Takes the announcement back.
    pub(super) fn disarm(&self) {
        self.armed.store(false, Relaxed);
    }

    /// Wakes the engine even if it has found nothing yet, now or at its next sleep.
    #[cfg(test)]
    pub(super) fn force(&self) {
        self.notify.notify_one();
    }

    /// Sleeps until the bell rings.
    pub async fn rung(&self) {
        self.notify.notified().await;
    }
}

/// A command and where its answer goes.
pub(super) struct Letter {
    pub command: Command,
    pub reply_to: ReplyTo,
}

/// What connection tasks tell the engine.
#[derive(Debug)]
pub(super) enum Report {
    /// Somebody dialled us and a first frame has arrived; it follows.
    Opened {
        conn: ConnId,
        /// Takes the frames to send; dropped, the connection is closed after the last of them.
        outbox: mpsc::Sender<Frame>,
    },
    /// A frame arrived.
    Frame {
        conn: ConnId,
        from: SocketAddr,
        frame: Frame,
        /// Held until the node has taken the frame.
        room: OwnedSemaphorePermit,
    },
    /// A frame has been written.
    Sent { conn: ConnId, len: usize },
    /// The other end of a connection that we dialled does not want us; its end follows.
    Refused { conn: ConnId, mismatch: Mismatch },
    /// The connection has ended; nothing more comes from it.
    Closed { conn: ConnId, error: Option<String> },
}

/// The sending end of the commands.
#[derive(Clone)]
pub(super) struct Post {
    commands: mpsc::Sender<Letter>,
    pub shared: Arc<Shared>,
}

impl Post {
    /// Hands a command to the engine, or drops it when there is no room.
    pub fn send(&self, command: Command, reply_to: ReplyTo) -> Result<(), Busy> {
        if self.commands.try_send(Letter { command, reply_to }).is_err() {
            self.shared.counters.mailbox_refused.fetch_add(1, Relaxed);
            return Err(Busy);
        }
        self.shared.doorbell.ring();
        Ok(())
    }
}

/// The sending end of the reports.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    reports: mpsc::Sender<Report>,
    pub shared: Arc<Shared>,
}

impl Reporter {
    /// Hands a report to the engine as soon as there is room. Once the engine has ended there is
    /// nobody to tell, and connections end for other reasons.
    pub async fn tell(&self, report: Report) {
        if self.reports.send(report).await.is_ok() {
            self.shared.doorbell.ring();
        }
    }
}

/// The engine's end of everything.
pub(super) struct Mailbox {
    pub commands: mpsc::Receiver<Letter>,
    pub reports: mpsc::Receiver<Report>,
    pub shared: Arc<Shared>,
}

impl Mailbox {
    pub fn new(clock: Clock) -> (Mailbox, Post, Reporter) {
        let shared = Arc::new(Shared::new(clock));
        let (to_commands, commands) = mpsc::channel(MAILBOX_MAX);
        let (to_reports, reports) = mpsc::channel(REPORTS_MAX);
        let post = Post { commands: to_commands, shared: shared.clone() };
        let reporter = Reporter { reports: to_reports, shared: shared.clone() };
        (Mailbox { commands, reports, shared }, post, reporter)
    }

    /// Whether anything waits to be taken at once. That there are writes is asked separately.
    pub(super) fn has_mail(&self) -> bool {
        !self.commands.is_empty() || !self.reports.is_empty() || self.shared.is_stopping()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::command::Reply;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn a_full_mailbox_refuses_and_counts() {
        let (mut mailbox, post, _reporter) = Mailbox::new(Clock::start());
        for _ in 0..MAILBOX_MAX {
            post.send(Command::Members, Box::new(|_| {})).expect("room");
        }
        let dropped = Arc::new(());
        let held = dropped.clone();
        let reply_to = Box::new(move |_: Reply| drop(held));
        assert_eq!(post.send(Command::Members, reply_to), Err(Busy));
        assert_eq!(Arc::strong_count(&dropped), 1, "the refused command is dropped");
        assert_eq!(post.shared.counters.mailbox_refused.load(Relaxed), 1);
        assert!(mailbox.commands.try_recv().is_ok());
        post.send(Command::Members, Box::new(|_| {})).expect("room again");
        drop(mailbox);
        assert_eq!(post.send(Command::Members, Box::new(|_| {})), Err(Busy));
    }

    #[test]
    fn many_writes_are_one_flag() {
        let (mailbox, post, _reporter) = Mailbox::new(Clock::start());
        assert!(!mailbox.shared.is_written());
        for _ in 0..100 {
            post.shared.set_written();
        }
        assert!(mailbox.shared.is_written() && !mailbox.has_mail());
        assert!(mailbox.shared.take_written());
        assert!(!mailbox.shared.is_written() && !mailbox.shared.take_written());
    }

    /// A sleeper that follows the rule never misses a ring, and rings while it is awake are free.
    #[test]
    fn no_ring_is_lost() {
        const ROUNDS: u32 = 20_000;
        let (bell, sent, seen) = (&Doorbell::default(), &AtomicU32::new(0), &AtomicU32::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    sent.store(round, Relaxed);
                    bell.ring();
                    while round % 3 == 0 && seen.load(Relaxed) < round {
                        std::thread::yield_now();
                    }
                }
            });
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                while seen.load(Relaxed) < ROUNDS {
                    bell.arm();
                    if sent.load(Relaxed) == seen.load(Relaxed) {
                        bell.rung().await;
                    }
                    bell.disarm();
                    seen.store(sent.load(Relaxed), Relaxed);
                }
            });
        });
    }
}
