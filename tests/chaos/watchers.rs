//! Clients that watch: in the end each has exactly what the processes hold.
//!
//! Some hop from host to host with the token of their last `sync`, as behind a load balancer. The
//! others are `gossipykv watch`, one a host, which go on through whatever happens to the process
//! there. All obey docs/watch.md, and note what nobody may tell them.

use crate::clients::HTTP;
use crate::harness::{BINARY, Process, in_namespace, now};
use crate::judge::Held;
use gossipykv::kv::Stamp;
use gossipykv::rng::Rng;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Clients that hop.
const N_HOPPERS: u64 = 4;
/// The longest that one stays with a process.
const STAY_MAX: Duration = Duration::from_secs(3);
/// How long one waits for an answer, and for more of it.
const ANSWER_MAX: Duration = Duration::from_secs(1);
const READ_MAX: Duration = Duration::from_millis(50);
/// Time before the next one is asked where nobody answered.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a client stands with a key: the version that it was told last, and the value.
type Told = BTreeMap<String, (Stamp, Option<Vec<u8>>)>;

/// What a client has.
#[derive(Default)]
struct Model {
    told: Told,
    token: Option<String>,
    /// What it was told by this stream: it may not go back.
    by_stream: BTreeMap<String, Stamp>,
    complaint: Option<String>,
    n_events: u64,
    n_resets: u64,
}

impl Model {
    /// A stream begins: what came before a first `sync` does not count.
    fn begin(&mut self) {
        self.by_stream.clear();
        if self.token.is_none() {
            self.told.clear();
        }
    }

    fn take(&mut self, line: &str) {
        self.n_events += 1;
        if let Err(what) = self.try_take(line) {
            self.complaint.get_or_insert(format!("{what}: {line}"));
        }
    }

    fn try_take(&mut self, line: &str) -> Result<(), String> {
        let event: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        match event["event"].as_str() {
            Some("sync") => self.token = event["token"].as_str().map(str::to_owned),
            Some("reset") => {
                self.told.clear();
                self.token = None;
                self.by_stream.clear();
                self.n_resets += 1;
            }
            Some("put") => {
                let value = event["value"].as_str().ok_or("no value")?.as_bytes().to_vec();
                self.change(&event, Some(value))?;
            }
            Some("delete") if event["version"].is_null() => {
                // Gone while nobody could tell of it: the program says so after a reset.
                self.told.remove(event["key"].as_str().ok_or("no key")?);
            }
            Some("delete") => self.change(&event, None)?,
            Some("bye") => {}
            _ => return Err("no event".to_owned()),
        }
        Ok(())
    }

    fn change(&mut self, event: &Value, value: Option<Vec<u8>>) -> Result<(), String> {
        let key = event["key"].as_str().ok_or("no key")?.to_owned();
        let version: Stamp = event["version"]
            .as_str()
            .and_then(|version| version.parse().ok())
            .ok_or("no version")?;
        if let Some(before) = self.by_stream.insert(key.clone(), version)
            && before > version
        {
            return Err(format!("this stream has told {before} before"));
        }
        let last = self.told.get(&key);
        if last.is_none_or(|(last, _)| *last < version) {
            self.told.insert(key, (version, value));
        }
        Ok(())
    }

    /// What is missing in comparison with what all processes hold. A later version than theirs is
    /// of a write that was lost with its holders, which only a reset can tell.
    fn lacks(&self, held: &Held) -> Result<(), String> {
        if let Some(what) = &self.complaint {
            return Err(what.clone());
        }
        let nothing = (None, &None);
        for (key, (version, value)) in held {
            let (last, told) = self.told.get(key).map_or(nothing, |(v, told)| (Some(*v), told));
            let is_later = last.is_some_and(|last| last > *version);
            // Deletes of what a client was never told of need not be told to it.
            let is_same = told == value && (value.is_none() || last == Some(*version));
            if !is_same && !is_later {
                return Err(format!("{key} is {version}, and the last it heard of is {last:?}"));
            }
        }
        Ok(())
    }
}

/// All clients that watch.
pub struct Watchers {
    hoppers: Vec<Arc<Mutex<Model>>>,
    threads: Vec<JoinHandle<()>>,
    done: Arc<AtomicBool>,
    n_hops: Arc<AtomicU64>,
    namespaces: Vec<String>,
    /// By host the programs, how many of their lines have been read, and what they told.
    programs: BTreeMap<usize, (Process, usize, Model)>,
}

impl Watchers {
    /// Starts them on these hosts.
    pub fn start(namespaces: &[String], seed: u64) -> Watchers {
        let (done, n_hops) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (mut hoppers, mut threads) = (Vec::new(), Vec::new());
        for at in 0..N_HOPPERS {
            let model = Arc::<Mutex<Model>>::default();
            hoppers.push(Arc::clone(&model));
            let mut rng = Rng::from_seed(seed ^ (0x7761_7463_6800 + at));
            let (namespaces, done) = (namespaces.to_vec(), Arc::clone(&done));
            let n_hops = Arc::clone(&n_hops);
            let work = move || {
                while !done.load(Ordering::SeqCst) {
                    let namespace = &namespaces[rng.below(namespaces.len())];
                    let stay = rng.duration_below(STAY_MAX);
                    let hop = || watch(&model, stay, &done);
                    match in_namespace(Some(namespace), hop) {
                        Ok(()) => drop(n_hops.fetch_add(1, Ordering::Relaxed)),
                        // Nobody there, or one that is not ready.
                        Err(_) => std::thread::sleep(PAUSE),
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("watcher {at}"));
            threads.push(thread.spawn(work).expect("a thread"));
        }
        let (namespaces, programs) = (namespaces.to_vec(), BTreeMap::new());
        Watchers { hoppers, threads, done, n_hops, namespaces, programs }
    }

    /// A program that watches at a host; it has to find somebody there.
    fn program(namespace: &str) -> Process {
        let mut command = Process::command(&BINARY, Some(namespace));
        let server = format!("http://{}", SocketAddr::from(HTTP));
        command.args(["watch", "--json", "--server", &server]);
        Process::spawn(&format!("watch-{namespace}"), command)
    }

    /// What one of them lacks of what all processes hold, or was told and should not have been.
    /// Those of the programs count that are on the hosts of a process; where there is none yet, one
    /// begins.
    pub fn lack(&mut self, held: &Held, hosts: &[usize]) -> Result<(), String> {
        for (at, model) in self.hoppers.iter().enumerate() {
            model.lock().lacks(held).map_err(|what| format!("watcher {at}: {what}"))?;
        }
        for host in hosts {
            let begin = || (Watchers::program(&self.namespaces[*host]), 0, Model::default());
            self.programs.entry(*host).or_insert_with(begin);
        }
        for (host, (process, n_read, model)) in &mut self.programs {
            let lines = process.lines(*n_read);
            *n_read += lines.len();
            // The rest is what it says about the node.
            lines.iter().filter(|line| line.starts_with('{')).for_each(|line| {
                // It goes over connections, and tells nothing twice.
                model.take(line);
            });
            if hosts.contains(host) {
                model.lacks(held).map_err(|what| format!("watch at host {host}: {what}"))?;
            }
        }
        Ok(())
    }

    /// Hops, events, and resets so far.
    pub fn counts(&self) -> (u64, u64, u64) {
        let hoppers = self.hoppers.iter().map(|model| {
            let model = model.lock();
            (model.n_events, model.n_resets)
        });
        let programs = self.programs.values().map(|(_, _, model)| (model.n_events, model.n_resets));
        let (events, resets): (Vec<u64>, Vec<u64>) = hoppers.chain(programs).unzip();
        (self.n_hops.load(Ordering::Relaxed), events.iter().sum(), resets.iter().sum())
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Watches everything at the process of this network for so long.
fn watch(model: &Mutex<Model>, stay: Duration, done: &AtomicBool) -> Result<(), ErrorKind> {
    let began = now();
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(HTTP), ANSWER_MAX)
        .map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(READ_MAX)).map_err(|error| error.kind())?;
    let since = model.lock().token.as_ref().map(|token| format!("&since={token}"));
    // An old client reads until the end, and needs no chunks.
    let head =
        format!("GET /kv/?watch{} HTTP/1.0\r\nHost: localhost\r\n\r\n", since.unwrap_or_default());
    stream.write_all(head.as_bytes()).map_err(|error| error.kind())?;
    let (mut bytes, mut is_begun, mut chunk) = (Vec::new(), false, [0; 16 << 10]);
    loop {
        let is_late = !is_begun && began.elapsed() > ANSWER_MAX;
        if is_late || began.elapsed() > stay.max(ANSWER_MAX) || done.load(Ordering::SeqCst) {
            return if is_begun { Ok(()) } else { Err(ErrorKind::TimedOut) };
        }
        match stream.read(&mut chunk) {
            Ok(0) => return if is_begun { Ok(()) } else { Err(ErrorKind::UnexpectedEof) },
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return if is_begun { Ok(()) } else { Err(error.kind()) },
        }
        if !is_begun {
            let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            if !bytes.starts_with(b"HTTP/1.1 200 ") {
                return Err(ErrorKind::ConnectionRefused);
            }
            bytes.drain(..at + 4);
            is_begun = true;
            model.lock().begin();
        }
        let mut model = model.lock();
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=at).collect();
            model.take(String::from_utf8_lossy(&line).trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, version: u32, value: &str) -> String {
        let version = format!("{version:016x}-00000000000000aa");
        format!(
            "{{\"event\":\"{name}\",\"key\":\"k\",\"version\":\"{version}\",\"value\":\"{value}\"}}"
        )
    }

    fn held(version: u32, value: Option<&str>) -> Held {
        let version = format!("{version:016x}-00000000000000aa").parse().expect("a version");
        [("k".to_owned(), (version, value.map(|value| value.as_bytes().to_vec())))].into()
    }

    #[test]
    fn what_a_client_lacks_or_was_told_wrongly_is_seen() {
        let mut model = Model::default();
        model.begin();
        assert!(model.lacks(&held(1, Some("a"))).is_err(), "it was told nothing");
        model.lacks(&held(1, None)).expect("nor was it told of anything that is gone");
        model.take(&event("put", 1, "a"));
        model.lacks(&held(1, Some("a"))).expect("the same");
        model.lacks(&held(2, Some("b"))).expect_err("that is not the last state");
        model.lacks(&held(2, None)).expect_err("nor does it know that it is gone");
        model.lacks(&held(1, Some("b"))).expect_err("another value");
        model.take(&event("delete", 3, ""));
        model.lacks(&held(3, None)).expect("gone");
        model.lacks(&held(2, Some("b"))).expect("a delete that was lost with who held it");
        // The next stream may tell an older one, which does not count; the same one may not.
        model.take("{\"event\":\"sync\",\"token\":\"t1.x\"}");
        model.begin();
        model.take(&event("put", 2, "b"));
        model.lacks(&held(3, None)).expect("as before");
        model.take(&event("put", 1, "a"));
        model.lacks(&held(3, None)).expect_err("it went back");
        // Without a token nothing counts that came before.
        let mut model = Model::default();
        model.begin();
        model.take(&event("put", 9, "z"));
        model.begin();
        assert!(model.told.is_empty());
    }
}
