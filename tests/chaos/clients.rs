//! Clients: one a host, which keeps asking the process that runs there and notes each answer.

use crate::harness::{in_namespace, now};
use gossipykv::kv::Stamp;
use gossipykv::rng::Rng;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where each process serves, in the namespace of its host.
pub const HTTP: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);
/// Longer than a process is stopped.
const ANSWER_MAX: Duration = Duration::from_secs(40);
/// How long a write waits for its second holder.
const HOLDERS_TIMEOUT: &str = "500ms";
const N_KEYS: usize = 300;

/// A key, by number.
pub fn key(number: usize) -> String {
    format!("key-{number:03}")
}

/// All keys there are.
pub fn keys() -> impl Iterator<Item = String> {
    (0..N_KEYS).map(key)
}

/// One run of one process: 1, 2, ...; 0 is nobody.
pub type Run = u32;

/// A version and the value, `None` for a delete that is remembered.
pub type Seen = (Stamp, Option<Vec<u8>>);

/// What came of one request.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A write was acknowledged by the process and so many others.
    Wrote { write: Seen, holders: u32 },
    /// Nobody knows whether this write happened.
    Unanswered(Option<Vec<u8>>),
    /// What a read has shown; nothing when the process knows nothing of the key.
    Saw(Option<Seen>),
    /// An answer that no fault explains.
    Odd(String),
}

/// A request and what came of it.
#[derive(Debug, Clone)]
pub struct Event {
    pub run: Run,
    pub key: String,
    pub outcome: Outcome,
}

/// What a host's client and the test share.
struct Line {
    run: AtomicU32,
    /// Read by the client for as long as a request is under way.
    gate: RwLock<()>,
}

/// All clients.
pub struct Clients {
    lines: Vec<Arc<Line>>,
    events: Arc<Mutex<Vec<Event>>>,
    done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// One for each of these namespaces, asking at most once in `pace`.
    pub fn start(namespaces: &[String], seed: u64, pace: Duration) -> Clients {
        let (events, done) = (Arc::<Mutex<Vec<Event>>>::default(), Arc::<AtomicBool>::default());
        let mut clients = Clients { lines: Vec::new(), events, done, threads: Vec::new() };
        for (at, namespace) in (0_u64..).zip(namespaces) {
            let line = Arc::new(Line { run: AtomicU32::new(0), gate: RwLock::new(()) });
            clients.lines.push(Arc::clone(&line));
            let (events, done) = (Arc::clone(&clients.events), Arc::clone(&clients.done));
            let mut client = Client::new(Rng::from_seed(seed ^ (at + 1)));
            let namespace = namespace.clone();
            let work = move || {
                in_namespace(Some(&namespace), || client.work(&line, &events, &done, pace));
            };
            let thread = std::thread::Builder::new().name(format!("client {at}"));
            clients.threads.push(thread.spawn(work).expect("a thread"));
        }
        clients
    }

    /// From here on a host's client asks this run; 0 for nobody. Waits until the request to the
    /// one before has ended: with an answer, or because its process has.
    pub fn ask(&self, host: usize, run: Run) {
        self.lines[host].run.store(run, Ordering::SeqCst);
        drop(self.lines[host].gate.write());
    }

    /// Nobody asks anything while this is held.
    pub fn hush(&self) -> Vec<RwLockWriteGuard<'_, ()>> {
        self.lines.iter().map(|line| line.gate.write()).collect()
    }

    /// What came of the requests since the last time, each run's in order.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Client {
    http: Http,
    rng: Rng,
    n_written: u64,
}

impl Client {
    fn new(rng: Rng) -> Client {
        Client { http: Http::new(), rng, n_written: 0 }
    }

    fn work(&mut self, line: &Line, events: &Mutex<Vec<Event>>, done: &AtomicBool, pace: Duration) {
        while !done.load(Ordering::SeqCst) {
            let asked = now();
            let asking = line.gate.read();
            let run = line.run.load(Ordering::SeqCst);
            if run != 0 {
                let event = self.ask(run);
                events.lock().extend(event);
            }
            drop(asking);
            std::thread::sleep(pace.saturating_sub(asked.elapsed()));
        }
    }

    /// One request: half of them writes, a third of those for two holders. `None` when it was
    /// refused without an effect, or a read without an answer.
    fn ask(&mut self, run: Run) -> Option<Event> {
        let key = key(self.rng.below(N_KEYS));
        let (concern, wanted) = match self.rng.below(3) {
            0 => (format!("?w=2&timeout={HOLDERS_TIMEOUT}"), 2),
            _ => (String::new(), 1),
        };
        let outcome = match self.rng.below(20) {
            0..8 => {
                let value = self.value(run);
                let path = format!("/kv/{key}{concern}");
                self.write("PUT", &path, Some(value), wanted)?
            }
            8..11 => self.write("DELETE", &format!("/kv/{key}{concern}"), None, wanted)?,
            _ => match self.http.read(&key).ok()? {
                Ok(seen) => Outcome::Saw(seen),
                Err(odd) => Outcome::Odd(odd),
            },
        };
        Some(Event { run, key, outcome })
    }

    /// A value that nobody else writes. Most fit a datagram with others, some need a link.
    fn value(&mut self, run: Run) -> Vec<u8> {
        self.n_written += 1;
        let mut value = format!("{run}.{}.", self.n_written).into_bytes();
        let len = match self.rng.below(100) {
            0 => 30_000,
            1..6 => 3_000,
            _ => self.rng.below(200),
        };
        value.resize(value.len() + len, b'.');
        value
    }

    fn write(
        &self,
        method: &str,
        path: &str,
        value: Option<Vec<u8>>,
        wanted: u32,
    ) -> Option<Outcome> {
        let answer = self.http.send(method, path, value.as_deref().unwrap_or_default());
        let Ok(answer) = answer else { return Some(Outcome::Unanswered(value)) };
        let stood = |holders| {
            let version = answer.version().ok_or("no version".to_owned());
            match version {
                Ok(stamp) => Outcome::Wrote { write: (stamp, value.clone()), holders },
                Err(odd) => Outcome::Odd(format!("{method} {path}: {odd}: {answer:?}")),
            }
        };
        match answer.status {
            200 => Some(stood(wanted)),
            // It stands, and fewer hold it than asked for.
            504 => Some(stood(1)),
            // Nothing was written: it is leaving, or a bound was reached.
            503 => None,
            _ => Some(Outcome::Odd(format!("{method} {path}: {answer:?}"))),
        }
    }
}

/// An HTTP client of this thread's network.
pub struct Http(ureq::Agent);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    etag: Option<String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The version in its `ETag`, or in its body.
    fn version(&self) -> Option<Stamp> {
        if let Some(etag) = &self.etag {
            return etag.trim_matches('"').parse().ok();
        }
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body["version"].as_str()?.parse().ok()
    }
}

impl Http {
    pub fn new() -> Http {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_MAX))
            .http_status_as_error(false)
            .build();
        Http(config.new_agent())
    }

    /// One request, any status.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer, String> {
        let uri = format!("http://{}{path}", std::net::SocketAddr::from(HTTP));
        let text = |error: ureq::Error| format!("{method} {path}: {error}");
        let request = ureq::http::Request::builder().method(method).uri(uri);
        let request = request.body(body).map_err(|error| error.to_string())?;
        let mut response = self.0.run(request).map_err(text)?;
        let etag = response.headers().get("ETag").and_then(|value| value.to_str().ok());
        let (status, etag) = (response.status().as_u16(), etag.map(str::to_owned));
        let body = response.body_mut().read_to_vec().map_err(text)?;
        Ok(Answer { status, etag, body })
    }

    /// What a process shows of a key. The inner error is an answer that should not be.
    pub fn read(&self, key: &str) -> Result<Result<Option<Seen>, String>, String> {
        let answer = self.send("GET", &format!("/kv/{key}?raw"), b"")?;
        Ok(match (answer.status, answer.version()) {
            (200, Some(stamp)) => Ok(Some((stamp, Some(answer.body)))),
            (404, stamp) => Ok(stamp.map(|stamp| (stamp, None))),
            (503, _) => return Err("busy".to_owned()),
            _ => Err(format!("GET {key}: {answer:?}")),
        })
    }
}
