//! Answers that come later: those the node has to be asked for.
//!
//! ```text
//! worker                     gate                                 node
//!   |--- Command -------------------------------------------------->|
//!   |--- 202, Pending: 17 ----->| the lane is free again              |
//!   |                         |<----------------------------- Reply-|
//!   |                         | render(Reply) -> client
//! ```
//!
//! A worker that waited would hold up its whole lane, and every client behind it. So it parks a
//! [`PendingAnswer`] and answers with its number; the gate, where waiting costs nothing, takes it from
//! there. Nothing of this is seen outside.

use crate::limits::HTTP_WAITING_MAX;
use crate::node::command::{Bridge, Command, Reply};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Appends the answer for the client. `None`: the node gave no reply in time.
pub type Render = Box<dyn FnOnce(Option<Reply>, &mut Vec<u8>) + Send>;

/// An answer under way.
pub struct PendingAnswer {
    reply: oneshot::Receiver<Reply>,
    limit: Duration,
    render: Render,
    _slot: Slot,
}

impl PendingAnswer {
    /// Waits for the node, at most as long as was said, and appends the answer.
    pub async fn finish(self, out: &mut Vec<u8>) {
        let reply = tokio::time::timeout(self.limit, self.reply).await;
        (self.render)(reply.ok().and_then(Result::ok), out);
    }
}

/// One of [`HTTP_WAITING_MAX`] places; given back when dropped.
#[derive(Debug)]
pub struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The answers under way, by number.
#[derive(Default)]
pub struct PendingAnswers {
    parked: Mutex<Parked>,
    n_taken: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Parked {
    next: u64,
    by_number: BTreeMap<u64, PendingAnswer>,
}

impl PendingAnswers {
    /// A seat, while there is one. Taken before a write that wants to wait, so that none is
    /// accepted and then refused.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        let slot = Slot(Arc::clone(&self.n_taken));
        let n_before = self.n_taken.fetch_add(1, Ordering::Relaxed);
        if n_before < HTTP_WAITING_MAX { Some(slot) } else { None }
    }

    /// Seats taken at present.
    #[must_use]
    pub fn n_taken(&self) -> usize {
        self.n_taken.load(Ordering::Relaxed)
    }

    /// Hands `command` to the node and parks its answer. Returns the number to answer with.
    ///
    /// # Errors
    /// `render`, when the node takes no command: the answer can be given at once.
    pub fn park(
        &self,
        bridge: &dyn Bridge,
        slot: Slot,
        command: Command,
        limit: Duration,
        render: Render,
    ) -> Result<u64, Render> {
        let (reply_to, reply) = oneshot::channel();
        let reply_to = Box::new(move |answer| {
            // A client that has gone needs no answer.
            let _ = reply_to.send(answer);
        });
        if bridge.send(command, reply_to).is_err() {
            return Err(render);
        }
        let mut parked = self.parked.lock();
        let number = parked.next;
        parked.next += 1;
        parked.by_number.insert(number, PendingAnswer { reply, limit, render, _slot: slot });
        Ok(number)
    }

    /// Takes an answer over.
    pub fn take(&self, number: u64) -> Option<PendingAnswer> {
        self.parked.lock().by_number.remove(&number)
    }
}
