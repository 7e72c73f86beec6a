//! Pending answers: those for which the node has to be asked.
//!
//! ```text
//! worker                     gate                                 node
//!   |--- Command -------------------------------------------------->|
//!   |--- 202, Pending: 17 --->| the lane is free again              |
//!   |                         |<----------------------------- Reply-|
//!   |                         | render(Reply) -> client
//! ```
//!
//! A worker that waited would hold up its whole lane, and every client behind it. So the worker
//! parks a [`PendingAnswer`] and answers with its number. The gate, where waiting costs nothing,
//! takes the pending answer and finishes it. Clients see only the finished answer. A long answer
//! takes the same way: the gate makes its body.

use super::counters::Counters;
use super::long::LongAnswer;
use super::memory::Held;
use super::shutdown::Shutdown;
use super::watch::wish::{PollWish, StreamWish};
use crate::limits::{HTTP_ASKING_MAX, HTTP_CONNECTIONS_HARD_MAX, HTTP_WAITING_MAX};
use crate::node::command::{Bridge, Command, Reply};
use crate::time::WallMillis;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long after the node has left what others have said to it may still come.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Appends the answer for the client and returns its status. `None`: the node gave no reply in
/// time.
pub(super) type Render = Box<dyn FnOnce(Option<Reply>, WallMillis, &mut Vec<u8>) -> u16 + Send>;

/// How the answer of a route is finished.
pub(super) struct Finish {
    pub(super) route: usize,
    pub(super) render: Render,
    /// Memory that the answer has been promised.
    pub(super) room: Option<Held>,
}

/// What is needed to answer a client once the node has replied.
pub(super) struct PendingAnswer {
    reply: oneshot::Receiver<Reply>,
    limit: Duration,
    finish: Finish,
    /// What to tell the node when the client goes first, where it is worth it.
    end: Option<Command>,
    _slot: Slot,
}

impl PendingAnswer {
    /// The memory that the answer has been promised, if any.
    pub(super) fn take_room(&mut self) -> Option<Held> {
        self.finish.room.take()
    }

    /// Waits for the node, at most as long as was said; appends the answer and counts it. A wait
    /// that the node can end is ended when the client has `gone`, and then it returns false. When
    /// the server drains, the node has left: soon nothing more comes of such a wait, and its answer
    /// says that.
    pub(super) async fn finish(
        mut self,
        bridge: &dyn Bridge,
        shutdown: &Shutdown,
        counters: &Counters,
        out: &mut Vec<u8>,
        gone: impl Future<Output = ()>,
    ) -> bool {
        let mut drain = pin!(shutdown.draining());
        drain.as_mut().enable();
        let drained = async {
            if !shutdown.is_draining() {
                drain.await;
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        let leaving = || Reply::Refused("this node is leaving the cluster".into());
        let reply = tokio::select! {
            biased;
            reply = tokio::time::timeout(self.limit, &mut self.reply) => {
                reply.ok().and_then(Result::ok)
            }
            () = gone, if self.end.is_some() => {
                if let Some(end) = self.end {
                    // A node that is too busy ends it at its deadline.
                    let _ = bridge.send(end, Box::new(|_| {}));
                }
                return false;
            }
            () = drained, if self.end.is_some() => Some(leaving()),
        };
        let status = (self.finish.render)(reply, bridge.now().wall, out);
        counters.answered(self.finish.route, status);
        true
    }
}

/// Who waits: each kind has places of its own, so that none keeps the other from being served. The
/// gate shares them by source, before it knows whether the node is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A write, until enough members hold it.
    Write,
    /// A question to the node: members, numbers, keys.
    Question,
    /// A stream of events, or a long poll. Each holds a connection, whose bound is also theirs.
    Watch,
}

impl Waiter {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Waiter; 3] = [Waiter::Write, Waiter::Question, Waiter::Watch];

    pub(super) fn max(self) -> usize {
        match self {
            Waiter::Write => HTTP_WAITING_MAX,
            Waiter::Question => HTTP_ASKING_MAX,
            Waiter::Watch => HTTP_CONNECTIONS_HARD_MAX,
        }
    }
}

/// One of the places there are for a kind of waiter; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The answers that wait for the node, by number.
#[derive(Default)]
pub(super) struct PendingAnswers {
    parked: Mutex<Numbered>,
    n_writes: Arc<AtomicUsize>,
    n_questions: Arc<AtomicUsize>,
    n_watches: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Numbered {
    next: u64,
    by_number: BTreeMap<u64, Parked>,
}

/// What is parked for the gate to finish.
pub(super) enum Parked {
    /// The node has yet to reply.
    Waits(PendingAnswer),
    /// The answer, with the memory that it was promised.
    Whole(Vec<u8>, Held),
    /// The body has yet to be made.
    Long(LongAnswer),
    /// A stream of events, to be written.
    Stream(StreamWish, Slot),
    /// A request to be asked once more.
    Poll(PollWish, Slot),
    /// The same request, asked once more: there is nothing yet.
    Nothing,
    /// The same, and it is known now what it waits for; it is asked with that from now on.
    Known(u64),
    /// A part is done: the request is to be asked with this again, at once.
    Rest(u64),
}

impl PendingAnswers {
    /// A slot, while one is free. A write that wants to wait takes its slot before it is written,
    /// so that none is accepted and then refused.
    pub(super) fn slot(&self, waiter: Waiter) -> Option<Slot> {
        let n_taken = match waiter {
            Waiter::Write => &self.n_writes,
            Waiter::Question => &self.n_questions,
            Waiter::Watch => &self.n_watches,
        };
        let slot = Slot(Arc::clone(n_taken));
        let n_before = n_taken.fetch_add(1, Ordering::Relaxed);
        if n_before < waiter.max() { Some(slot) } else { None }
    }

    /// How many slots are taken by those that wait for the node.
    pub(super) fn n_taken(&self) -> usize {
        self.n_writes.load(Ordering::Relaxed) + self.n_questions.load(Ordering::Relaxed)
    }

    /// Hands `command` to the node and parks the answer. Returns the number to answer with.
    ///
    /// # Errors
    /// `finish`, when the node takes no command: the answer can be given at once, in the memory
    /// that it has been promised.
    pub(super) fn park(
        &self,
        bridge: &dyn Bridge,
        slot: Slot,
        command: Command,
        limit: Duration,
        finish: Finish,
    ) -> Result<u64, Finish> {
        let end = match command {
            Command::AwaitHolders { dot, .. } => Some(Command::EndWait { dot }),
            _ => None,
        };
        let (reply_to, reply) = oneshot::channel();
        let reply_to = Box::new(move |answer| {
            // A client that has gone needs no answer.
            let _ = reply_to.send(answer);
        });
        if bridge.send(command, reply_to).is_err() {
            return Err(finish);
        }
        let answer = PendingAnswer { reply, limit, finish, end, _slot: slot };
        Ok(self.leave(Parked::Waits(answer)))
    }

    /// Parks something for the gate. Returns the number to answer with.
    pub(super) fn leave(&self, answer: Parked) -> u64 {
        let mut parked = self.parked.lock();
        let number = parked.next;
        parked.next += 1;
        parked.by_number.insert(number, answer);
        number
    }

    /// Takes the answer of this number out, to finish it.
    pub(super) fn take(&self, number: u64) -> Option<Parked> {
        self.parked.lock().by_number.remove(&number)
    }
}
