//! What the clients of a bench do, each on a thread of its own, and what comes of it.

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::kv::target;
use crate::limits::KEY_LEN_MAX;
use crate::rng::Rng;
use crate::runtime::clock::Clock;
use crate::time::Instant;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use ureq::http::{Method, StatusCode};

/// Longest prefix: a key has a number behind it.
pub(super) const PREFIX_LEN_MAX: usize = KEY_LEN_MAX - 16;
/// Longest time that is told apart, in microseconds: an hour.
const LATENCY_MAX: u64 = 3_600_000_000;
/// Digits of a time that are told apart.
const DIGITS: u8 = 3;
/// How long a client rests after a request that failed, so that failures do not come by the
/// million.
const REST: Duration = Duration::from_millis(20);
/// How long is rested between two writes that another node is asked for.
const BETWEEN: Duration = Duration::from_millis(10);
/// How often it is looked, while nothing is due, whether it is over.
const LOOK: Duration = Duration::from_millis(20);
/// How often a delete is tried.
const DELETES: usize = 5;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) prefix: String,
    pub(super) n_clients: usize,
    pub(super) n_keys: usize,
    pub(super) value_len: usize,
    /// Of a hundred requests so many read.
    pub(super) gets: usize,
    pub(super) requests: Option<u64>,
    /// How many are due in a second, where they do not wait for the one before.
    pub(super) rate: Option<u32>,
    /// How long is measured.
    pub(super) limit: Option<Duration>,
    /// How long another node may take to show a write.
    pub(super) wait: Duration,
}

/// Of what kind a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Get,
    /// From the write at one node until another shows it.
    Visible,
}

/// All that the clients share.
pub(super) struct Load {
    pub(super) plan: Plan,
    /// One for each client, and one of each node at least: node after node, from the first again.
    pub(super) clients: Vec<Client>,
    pub(super) n_nodes: usize,
    clock: Clock,
    begun: Mutex<Instant>,
    ended: Mutex<Option<Instant>>,
    /// The next request, or key, of the phase.
    next: AtomicU64,
    n_sent: AtomicU64,
    /// Clients that still send.
    n_working: AtomicUsize,
    /// When all were told to end, if that was before the limit.
    stopped: OnceLock<Instant>,
    /// Which keys may be there; behind those of the plan one of each node, to be looked for.
    written: Vec<AtomicBool>,
    measured: Mutex<Measured>,
    first: Mutex<Option<Failure>>,
}

/// What came of the requests.
#[derive(Debug)]
pub(super) struct Measured {
    /// Microseconds that those took that were answered, by [`Kind`].
    pub(super) times: [Histogram<u64>; 3],
    /// Reads of a key that was not there.
    pub(super) n_missing: u64,
    /// Those that failed, by what was the matter.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Measured {
    fn new() -> Result<Measured, Failure> {
        let times = Histogram::new_with_bounds(1, LATENCY_MAX, DIGITS);
        let times = times.map_err(|error| Failure::failed(error.to_string()))?;
        let times = [(); 3].map(|()| times.clone());
        Ok(Measured { times, n_missing: 0, errors: BTreeMap::new() })
    }
}

#[derive(Deserialize)]
struct Written {
    version: String,
}

impl Load {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// None that the bounds here lead to.
    pub(super) fn new(plan: Plan, clients: Vec<Client>, n_nodes: usize) -> Result<Load, Failure> {
        let n_keys = plan.n_keys + n_nodes;
        Ok(Load {
            plan,
            clients,
            n_nodes,
            clock: Clock::start(),
            begun: Mutex::new(Instant::ZERO),
            ended: Mutex::new(None),
            next: AtomicU64::new(0),
            n_sent: AtomicU64::new(0),
            n_working: AtomicUsize::new(0),
            stopped: OnceLock::new(),
            written: (0..n_keys).map(|_| AtomicBool::new(false)).collect(),
            measured: Mutex::new(Measured::new()?),
            first: Mutex::new(None),
        })
    }

    /// Has all clients end what they measure; whether that was said before.
    pub(super) fn stop(&self) -> bool {
        self.stopped.set(self.clock.instant()).is_err()
    }

    fn is_stopped(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// The measuring begins now.
    pub(super) fn begin(&self) {
        *self.begun.lock() = self.clock.instant();
        self.n_working.store(self.plan.n_clients, Relaxed);
        self.next.store(0, Relaxed);
    }

    /// It is over.
    pub(super) fn end(&self) {
        *self.ended.lock() = Some(self.clock.instant());
        self.next.store(0, Relaxed);
    }

    /// Seconds that were measured.
    pub(super) fn seconds(&self) -> f64 {
        let ended = *self.ended.lock();
        ended.map_or(0.0, |ended| ended.since(*self.begun.lock()).as_secs_f64())
    }

    /// What was measured.
    pub(super) fn measured(&self) -> parking_lot::MutexGuard<'_, Measured> {
        self.measured.lock()
    }

    /// Keys that were written, or may have been, and are not deleted.
    pub(super) fn n_left(&self) -> usize {
        self.written.iter().filter(|written| written.load(Relaxed)).count()
    }

    /// That requests failed, with the first of the failures.
    pub(super) fn failure(&self) -> Result<(), Failure> {
        let Some(first) = self.first.lock().take() else { return Ok(()) };
        let n_failed: u64 = self.measured.lock().errors.values().sum();
        let told = |line: String| format!("{n_failed} requests failed, the first: {line}");
        Err(match first {
            Failure::Refused(line) => Failure::Refused(told(line)),
            Failure::Unreachable(line) => Failure::Unreachable(told(line)),
            other => Failure::failed(told(other.line())),
        })
    }

    fn key(&self, n: usize) -> String {
        format!("{}{n:08}", self.plan.prefix)
    }

    fn value(&self, n: u64) -> Vec<u8> {
        let mut value = format!("{n:016x}").into_bytes();
        value.resize(self.plan.value_len, b'.');
        value
    }

    /// Writes every key, so that reads find something; a share of them by each client.
    ///
    /// # Errors
    /// The first write that fails.
    pub(super) fn fill(&self, index: usize) -> Result<(), Failure> {
        let client = &self.clients[index];
        while !self.is_stopped() {
            let Some(n) = self.next(self.plan.n_keys as u64) else { return Ok(()) };
            let done = self.put(client, n as usize, self.value(n));
            if let Err(failure) = done.and_then(|answer| client.accept(answer)) {
                self.stop();
                return Err(failure);
            }
        }
        Ok(())
    }

    /// The next number below `end`.
    fn next(&self, end: u64) -> Option<u64> {
        let n = self.next.fetch_add(1, Relaxed);
        (n < end).then_some(n)
    }

    fn put(&self, client: &Client, n: usize, value: Vec<u8>) -> Result<super::Answer, Failure> {
        let answer = client.ask(Method::PUT, &target(&self.key(n), &[]), &[], Some(&value));
        let may_stand = match &answer {
            Ok(answer) => may_stand(answer.status()),
            // Neither was sent, or nobody took it.
            Err(Failure::Usage(_) | Failure::Refused(_)) => false,
            Err(_) => true,
        };
        if may_stand {
            self.written[n].store(true, Relaxed);
        }
        answer
    }

    fn goes_on(&self) -> bool {
        let now = self.clock.instant();
        !self.is_stopped() && self.limit().is_none_or(|limit| now < limit)
    }

    /// When it is over at the latest, unless it is stopped.
    fn limit(&self) -> Option<Instant> {
        self.plan.limit.map(|limit| *self.begun.lock() + limit)
    }

    /// Until when requests were due: clients that wait notice the end a moment later.
    fn last_due(&self) -> Option<Instant> {
        self.limit().into_iter().chain(self.stopped.get().copied()).min()
    }

    /// When a request is due, once it is: `Some(None)` where it is as soon as its client is free,
    /// and `None` where it is over before.
    fn await_turn(&self, number: u64) -> Option<Option<Instant>> {
        let Some(rate) = self.plan.rate else { return Some(None) };
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
        let after = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let due = *self.begun.lock() + after;
        loop {
            // What was due in time is sent, however late its client comes to it.
            let left = due.since(self.clock.instant());
            if left.is_zero() {
                return Some(Some(due));
            }
            if !self.goes_on() && self.last_due().is_some_and(|last| last <= due) {
                return None;
            }
            thread::sleep(left.min(LOOK));
        }
    }

    /// Requests that were due by the end and had not been sent, where they are due at fixed times.
    pub(super) fn n_unsent(&self) -> u64 {
        let Some(rate) = self.plan.rate else { return 0 };
        let ended = *self.ended.lock();
        let last = self.last_due().into_iter().chain(ended).min();
        let spent = last.map_or(Duration::ZERO, |last| last.since(*self.begun.lock()));
        let due = (spent.as_secs_f64() * f64::from(rate)) as u64;
        let due = due.min(self.plan.requests.unwrap_or(u64::MAX));
        due.saturating_sub(self.n_sent.load(Relaxed))
    }

    /// Sends requests one after the other until it is over.
    pub(super) fn work(&self, index: usize, rng: &mut Rng) {
        let _working = Working(&self.n_working);
        let client = &self.clients[index];
        while self.goes_on() {
            let Some(number) = self.next(self.plan.requests.unwrap_or(u64::MAX)) else { return };
            let Some(due) = self.await_turn(number) else { return };
            let n = rng.below(self.plan.n_keys);
            let kind = if rng.below(100) < self.plan.gets { Kind::Get } else { Kind::Put };
            self.n_sent.fetch_add(1, Relaxed);
            // One that is sent late has been waited for since it was due.
            let begin = due.unwrap_or_else(|| self.clock.instant());
            let answer = match kind {
                Kind::Get => client.get(&target(&self.key(n), &["raw".to_owned()])),
                _ => self.put(client, n, self.value(number)),
            };
            if self.settle(client, kind, begin, answer).is_none() && due.is_none() {
                thread::sleep(REST);
            }
        }
    }

    /// Writes at one node and asks the next one for it, until the clients are done.
    pub(super) fn see(&self, node: usize) {
        let (writer, reader) = (&self.clients[node], &self.clients[(node + 1) % self.n_nodes]);
        let (n, mut number) = (self.plan.n_keys + node, 0);
        let wait = self.plan.wait.as_millis();
        while self.goes_on() && self.n_working.load(Relaxed) > 0 {
            number += 1;
            let begin = self.clock.instant();
            let answer = self.put(writer, n, self.value(number)).and_then(|a| writer.accept(a));
            let written = answer.and_then(|answer| writer.json::<Written>(answer, "a version"));
            let seen = written.and_then(|Written { version }| {
                let least = [format!("min_version={version}"), format!("wait={wait}ms")];
                reader.get(&target(&self.key(n), &least))
            });
            self.settle(reader, Kind::Visible, begin, seen);
            thread::sleep(BETWEEN);
        }
    }

    /// Notes what came of a request; `None` when it failed.
    fn settle(
        &self,
        client: &Client,
        kind: Kind,
        begin: Instant,
        answer: Result<super::Answer, Failure>,
    ) -> Option<()> {
        let answer = answer.map(|answer| (answer.status(), answer));
        let (error, failure) = match answer {
            Ok((status, answer)) if status.is_success() => match client.body(answer) {
                Ok(_) => {
                    self.record(kind, begin);
                    return Some(());
                }
                Err(failure) => ("answer cut short".to_owned(), failure),
            },
            Ok((StatusCode::NOT_FOUND, answer)) if kind == Kind::Get => {
                self.record(kind, begin);
                self.measured.lock().n_missing += 1;
                // Read to its end, so that its connection serves again.
                return client.body(answer).ok().map(drop);
            }
            Ok((status, answer)) => (status.as_u16().to_string(), client.refused(answer)),
            Err(failure @ Failure::Unreachable(_)) => ("no answer".to_owned(), failure),
            Err(failure @ Failure::Refused(_)) => ("refused".to_owned(), failure),
            Err(failure) => ("no answer of HTTP".to_owned(), failure),
        };
        *self.measured.lock().errors.entry(error).or_default() += 1;
        self.first.lock().get_or_insert(failure);
        None
    }

    /// An answer came, now.
    fn record(&self, kind: Kind, begin: Instant) {
        let took = self.clock.instant().since(begin).as_micros();
        let took = u64::try_from(took).unwrap_or(u64::MAX).max(1);
        self.measured.lock().times[kind as usize].saturating_record(took);
    }

    /// Deletes what was written, a share of it by each client; where a node fails, by the next.
    ///
    /// # Errors
    /// The first key that stays.
    pub(super) fn delete(&self, index: usize) -> Result<(), Failure> {
        while let Some(n) = self.next(self.written.len() as u64) {
            let n = n as usize;
            if !self.written[n].load(Relaxed) {
                continue;
            }
            let path = target(&self.key(n), &[]);
            let mut done = Ok(());
            for round in 0..DELETES {
                let client = &self.clients[(index + round) % self.clients.len()];
                let answer = client.ask(Method::DELETE, &path, &[], None);
                done = answer.and_then(|answer| client.body(client.accept(answer)?)).map(drop);
                if done.is_ok() {
                    self.written[n].store(false, Relaxed);
                    break;
                }
                thread::sleep(REST);
            }
            done?;
        }
        Ok(())
    }
}

/// Whether a write that was answered so may have been made: all but refusals leave that open, those
/// of something between us and the node that knows no better.
fn may_stand(status: StatusCode) -> bool {
    let is_refusal = status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT;
    !is_refusal && status != StatusCode::INSUFFICIENT_STORAGE
}

/// A client that sends; it no longer does when this is dropped.
struct Working<'w>(&'w AtomicUsize);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rate: u32, limit: Option<Duration>) -> Load {
        let plan = Plan {
            prefix: "p".to_owned(),
            n_clients: 0,
            n_keys: 0,
            value_len: 0,
            gets: 0,
            requests: None,
            rate: Some(rate),
            limit,
            wait: Duration::ZERO,
        };
        Load::new(plan, Vec::new(), 0).expect("a load")
    }

    #[test]
    fn what_is_due_while_clients_notice_the_end_is_not_told_as_unsent() {
        let seconds = Duration::from_secs;
        for (limit, stopped, unsent) in [
            (None, None, 40),
            (None, Some(2), 20),
            (Some(3), None, 30),
            (Some(3), Some(2), 20),
            (Some(1), Some(2), 10),
        ] {
            let load = load(10, limit.map(seconds));
            load.begin();
            let begun = *load.begun.lock();
            if let Some(stopped) = stopped {
                load.stopped.set(begun + seconds(stopped)).expect("once");
            }
            // So late the last of the clients is done.
            *load.ended.lock() = Some(begun + seconds(4));
            assert_eq!(load.n_unsent(), unsent, "{limit:?} {stopped:?}");
            load.n_sent.store(unsent, Relaxed);
            assert_eq!(load.n_unsent(), 0, "{limit:?} {stopped:?}");
        }
    }
}
