//! Has a request answered: by a worker, by the node, or by time.
//!
//! ```text
//! submit --> the answer
//!   |-----> parked: a reply of the node --> the answer
//!   |-----> parked: a stream            --> written by [`super::stream`]
//!   '-----> parked: a long poll: hold its watch --> submit again --> the answer
//!                                                      ^  `--> nothing: wait for the watch, --.
//!                                                      |       its time, or the shutdown      |
//!                                                      '--------------------------------------'
//! ```
//!
//! No worker and no lane ever waits.

use super::client::{Conn, Stop};
use super::forward::{Opened, Tells};
use super::refusal::Refusal;
use super::send::Outgoing;
use super::trust;
use crate::http::lanes::{Answer, Ending, Job};
use crate::http::manner::Manner;
use crate::http::pending::{Parked, Slot};
use crate::http::request::Poll;
use crate::http::shared::Shared;
use crate::http::tokens::Pass;
use crate::http::watch::wish::{PollWish, StreamWish};
use crate::time::Instant;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How old what a list tells of this node's progress may be. Older tokens are not wrong: by them a
/// reader is told again what it has seen.
const COVERAGE_AGE: Duration = Duration::from_millis(10);

/// How long a list waits for what the node says of it.
const COVERAGE_LIMIT: Duration = Duration::from_millis(100);

/// When a long poll is asked again whose node did not say how far it has come.
const AGAIN: Duration = Duration::from_millis(500);

/// What a request came to.
pub(super) enum Asked {
    /// An answer, ready to be sent.
    Answer(Outgoing),
    /// A stream of events, which is still to be written.
    Stream(Box<Streaming>),
}

/// A stream of events that a client is to get.
pub(super) struct Streaming {
    pub(super) wish: StreamWish,
    pub(super) manner: Manner,
    /// Whether its client knows no chunks.
    pub(super) is_http_1_0: bool,
    pub(super) pass: Option<Pass>,
    /// Its place among all streams.
    pub(super) _slot: Slot,
}

/// How a request goes to the workers.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Whether it takes its time, so that quick requests must not stand behind it.
    is_bulk: bool,
    /// Whether it is one of those that are asked again. Thousands of them are, at the same moment,
    /// when a key changes that all wait for. They take turns: to refuse them would have them
    /// call again.
    takes_turn: bool,
}

/// A long poll under way.
struct Polling {
    wish: PollWish,
    _slot: Slot,
    /// The request as it is asked anew, its empty line left out.
    head: Vec<u8>,
    until: Instant,
    pass: Option<Pass>,
    /// When it is over unless it is known by then what it waits for.
    hold: Option<Instant>,
}

impl Conn {
    /// Has a whole request answered.
    ///
    /// # Errors
    /// A [`Refusal`], or that the client has gone.
    pub(super) async fn ask(&mut self, opened: Opened) -> Result<Asked, Stop> {
        let Opened { job, is_bulk, may_wait, is_told_long, tells, is_http_1_0, pass, .. } = opened;
        let manner = job.manner;
        let head = may_wait.then(|| without_end(&job.bytes));
        self.look(tells, COVERAGE_AGE).await;
        if is_told_long && self.shared().budget.is_spent(self.source) {
            return Err(Refusal::memory().into());
        }
        let way = Way { is_bulk, takes_turn: may_wait };
        let answer = self.submit(job, way).await?;
        match (answer.ending, head) {
            (Ending::Parked(Parked::Stream(wish, slot)), _) => {
                let streaming = Streaming { wish, manner, is_http_1_0, pass, _slot: slot };
                Ok(Asked::Stream(Box::new(streaming)))
            }
            (Ending::Parked(Parked::Poll(wish, slot)), Some(head)) => {
                let now = self.shared().bridge.now().instant;
                let (until, hold) = (now + wish.wait, wish.hold.map(|hold| now + hold));
                let polling = Polling { wish, _slot: slot, head, until, pass, hold };
                self.poll(polling, manner, way, tells).await
            }
            (Ending::Parked(Parked::Rest(known)), Some(head)) => {
                self.go_on(&head, Poll::Known(known), manner, way).await
            }
            (ending, _) => self.finish(Answer { ending, ..answer }, manner).await,
        }
    }

    /// Has a request done that is done in parts.
    async fn go_on(
        &mut self,
        head: &[u8],
        poll: Poll,
        manner: Manner,
        way: Way,
    ) -> Result<Asked, Stop> {
        loop {
            let answer = self.submit(again(head, poll, manner), way).await?;
            if !matches!(answer.ending, Ending::Parked(Parked::Rest(_))) {
                return self.finish(answer, manner).await;
            }
        }
    }

    /// Asks anew whenever something has changed, until there is an answer.
    async fn poll(
        &mut self,
        mut polling: Polling,
        manner: Manner,
        way: Way,
        tells: Tells,
    ) -> Result<Asked, Stop> {
        let mut poll = polling.wish.first;
        loop {
            polling.wish.watch.take();
            // What the worker is to look at must be known to be new. If it is not told in time, it
            // is asked for again soon.
            let is_new = self.look(tells, Duration::ZERO).await;
            if !trust::lasts(self.shared(), polling.pass.as_ref()) {
                return Err(trust::ended(manner.is_plain).into());
            }
            let answer = self.submit(again(&polling.head, poll, manner), way).await?;
            match answer.ending {
                Ending::Parked(Parked::Nothing) if poll != Poll::Over => {}
                Ending::Parked(Parked::Known(known)) if poll != Poll::Over => {
                    (poll, polling.hold) = (Poll::Known(known), None);
                }
                _ => return self.finish(answer, manner).await,
            }
            let most = polling.wish.every.min(if is_new { Duration::MAX } else { AGAIN });
            if self.news(&mut polling, most).await? {
                poll = Poll::Over;
            }
        }
    }

    /// Waits until a long poll is worth asking again, which it is after `most` at the latest. True
    /// when its time is up.
    async fn news(&mut self, polling: &mut Polling, most: Duration) -> Result<bool, Stop> {
        let gate = Arc::clone(&self.gate);
        let shutdown = &gate.shared.shutdown;
        let mut drain = pin!(shutdown.draining());
        drain.as_mut().enable();
        let until = polling.hold.map_or(polling.until, |hold| hold.min(polling.until));
        let rest = until.since(self.shared().bridge.now().instant);
        let (mut over, is_last) = (pin!(tokio::time::sleep(rest.min(most))), rest <= most);
        if shutdown.is_draining() {
            return Ok(true);
        }
        tokio::select! {
            () = polling.wish.watch.news() => Ok(false),
            () = &mut over => Ok(is_last),
            () = drain.as_mut() => Ok(true),
            () = self.gone() => Err(Stop::Gone),
        }
    }

    /// Learns what the answer tells of this node. When it does not say how far it has come, what
    /// it said before has to do: an older token is as right. True when it did say.
    async fn look(&self, tells: Tells, age: Duration) -> bool {
        match tells {
            Tells::Nothing => true,
            Tells::Coverage => {
                let told = self.shared().hub.coverage(age);
                matches!(tokio::time::timeout(COVERAGE_LIMIT, told).await, Ok(Some(_)))
            }
            Tells::Members => self.shared().rosters.look().await,
        }
    }

    /// Has a worker answer.
    async fn submit(&mut self, job: Job, way: Way) -> Result<Answer, Stop> {
        let manner = job.manner;
        let answer = self.submit_once(job, way).await?;
        if let Ending::Again = answer.ending {
            // A quick worker has found that it takes time.
            let job = Job { bytes: answer.bytes, body: Vec::new(), manner };
            return self.submit_once(job, Way { is_bulk: true, ..way }).await;
        }
        Ok(answer)
    }

    async fn submit_once(&mut self, job: Job, way: Way) -> Result<Answer, Stop> {
        let gate = Arc::clone(&self.gate);
        let turn = if way.is_bulk && way.takes_turn {
            tokio::select! {
                biased;
                turn = gate.poll_turns.acquire() => Some(turn.map_err(|_| Refusal::broken())?),
                () = self.gone() => return Err(Stop::Gone),
            }
        } else {
            None
        };
        let lane = gate.lanes.least_loaded(way.is_bulk);
        let answer = if turn.is_some() { lane.submit_in_turn(job) } else { lane.submit(job) };
        let mut answer = answer.ok_or_else(Refusal::busy)?;
        let is_backed_up = lane.is_backed_up();
        let answer = if is_backed_up {
            tokio::select! {
                biased;
                answer = &mut answer => answer,
                // What nobody waits for need not be begun.
                () = self.gone() => return Err(Stop::Gone),
            }
        } else {
            answer.await
        };
        Ok(answer.map_err(|_| Refusal::broken())?)
    }

    /// Makes of a worker's answer what the client gets; waits for the node if need be.
    async fn finish(&mut self, answer: Answer, manner: Manner) -> Result<Asked, Stop> {
        let Answer { mut bytes, ending, mut held } = answer;
        held.belong_to(self.source).map_err(|_| Refusal::memory())?;
        match ending {
            Ending::Ready => {}
            Ending::Parked(Parked::Whole(whole, room)) => {
                (bytes, held) = (whole, room);
                held.charge(self.source);
                self.shared().lines.insert(manner, &mut bytes);
            }
            Ending::Parked(Parked::Waits(mut pending)) => {
                if let Some(room) = pending.take_room() {
                    held = room;
                    held.charge(self.source);
                }
                bytes.clear();
                let gate = Arc::clone(&self.gate);
                let Shared { bridge, shutdown, counters, lines, .. } = &*gate.shared;
                let left = self.left();
                if !pending.finish(&**bridge, shutdown, counters, &mut bytes, left).await {
                    return Err(Stop::Gone);
                }
                lines.insert(manner, &mut bytes);
                held.grow_to(bytes.len()).map_err(|_| Refusal::memory())?;
            }
            Ending::Parked(Parked::Long(mut long)) => {
                self.shared().lines.insert(manner, &mut long.head);
                let long = Outgoing::long(&self.gate, self.source, long);
                return Ok(Asked::Answer(long.map_err(|_| Refusal::memory())?));
            }
            Ending::Lost => return Err(Refusal::memory().into()),
            Ending::Again | Ending::Parked(_) => return Err(Refusal::broken().into()),
        }
        Ok(Asked::Answer(Outgoing::Whole { bytes, _held: held }))
    }
}

/// A request to be asked again.
fn again(head: &[u8], poll: Poll, manner: Manner) -> Job {
    let bytes = [head, poll.line().as_bytes(), b"\r\n"].concat();
    Job { bytes, body: Vec::new(), manner }
}

/// A head without its empty line, so that a line can be added.
fn without_end(head: &[u8]) -> Vec<u8> {
    head.strip_suffix(b"\r\n").unwrap_or(head).to_vec()
}
