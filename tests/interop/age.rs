//! Agents older than any timer of theirs: their clocks are set forward by more than a year, and
//! again, with the monotonic one among them.

use crate::harness::{
    Agent, AgentOptions, BINARY, Need, Node, Range, State, available, eventually, libfaketime,
    scratch,
};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Long: the jump itself ends every wait that was under way, suspicions among them.
const SETTLED_MAX: Duration = Duration::from_secs(30);
/// `--leave-timeout`'s default and 2 s.
const EXIT_MAX: Duration = Duration::from_secs(7);
/// An idle gossip loop turns a few dozen times a second; one whose timers are all over, as often as
/// the processor can.
const TURNS_MAX: f64 = 5_000.0;
/// Longer than a datagram: it takes a link.
const LINK_LEN: usize = 100_000;
/// The default of `--max-value-bytes`.
const LARGE_LEN: usize = 1 << 20;

/// The clock that some agents share, ahead of the machine's. Back in time when dropped.
struct Offset {
    library: PathBuf,
    file: PathBuf,
    /// Of all agents that were started.
    pids: RefCell<Vec<u32>>,
}

impl Offset {
    /// Still 0. `None` where there is no library to set clocks with, or a program that does not
    /// load any.
    fn new() -> Option<Offset> {
        let library = available(&[Need::Faketime]).then(libfaketime).flatten()?;
        let program = std::fs::read(&*BINARY).expect("our own program");
        if !program.windows(9).any(|bytes| bytes == b"ld-linux-") {
            println!("the program is linked statically, so its clock cannot be set");
            return None;
        }
        // The gossip loop, the streams and the gate all read the clock.
        let library = library.with_file_name("libfaketimeMT.so.1");
        let file = scratch().join(format!("age-{}", std::process::id()));
        std::fs::write(&file, "+0").expect("cargo's directory is writable");
        Some(Offset { library, file, pids: RefCell::default() })
    }

    /// Seen by every agent within a second. A half-written file would be another time.
    fn set_days(&self, days: u32) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("+{days}d")).expect("cargo's directory is writable");
        std::fs::rename(new, &self.file).expect("the same directory");
    }

    fn start(&self, range: &Range, host: u8, seeds: &[u8]) -> Agent {
        let set = |name: &str, value: &Path| (name.to_owned(), value.to_owned().into());
        let options = AgentOptions {
            seeds: seeds.iter().map(|host| range.gossip(*host)).collect(),
            flags: ["--profile", "local"].map(str::to_owned).to_vec(),
            env: vec![
                set("LD_PRELOAD", &self.library),
                set("FAKETIME_TIMESTAMP_FILE", &self.file),
                set("FAKETIME_CACHE_DURATION", Path::new("1")),
            ],
            ..AgentOptions::default()
        };
        let agent = Agent::start(range, host, options);
        self.pids.borrow_mut().push(agent.process().pid());
        agent
    }
}

impl Drop for Offset {
    fn drop(&mut self) {
        // Nothing is lost when it stays.
        let _ = std::fs::remove_file(&self.file);
        // What the library leaves behind where a process is killed.
        for pid in self.pids.borrow().iter() {
            for kind in ["faketime_shm", "sem.faketime_sem"] {
                let _ = std::fs::remove_file(format!("/dev/shm/{kind}_{pid}"));
            }
        }
    }
}

#[test]
fn agents_of_400_and_of_800_days_work_as_on_their_first() {
    let Some(offset) = Offset::new() else { return };
    let range = Range::claim();
    let mut a = offset.start(&range, 1, &[]);
    let b = offset.start(&range, 2, &[1]);
    let mut n_keys = 1;
    for (days, host) in [(0, 3), (400, 4), (800, 5)] {
        println!("{days} days on");
        offset.set_days(days);
        let both = [&a, &b];
        eventually("both are alive, and their loops sleep", SETTLED_MAX, || {
            both.iter().try_for_each(|agent| {
                agent.holds("r1", State::Alive)?;
                agent.holds("r2", State::Alive)?;
                is_calm(agent)
            })
        });
        put(&a, &format!("small-{days}"), 10, "?w=2&timeout=2s");
        eventually("the small value", SETTLED_MAX, || has(&b, &format!("small-{days}"), 10));
        for (from, to, len) in [(&a, &b, LINK_LEN), (&b, &a, LARGE_LEN)] {
            let key = format!("{len}-{days}");
            put(from, &key, len, "");
            eventually("a value over a link", SETTLED_MAX, || has(to, &key, len));
            // Held by its number, too: no write before it is missing.
            put(from, "last", 1, "?w=2&timeout=10s");
        }
        n_keys += 3;
        let mut joiner = offset.start(&range, host, &[1]);
        eventually("the joiner is ready", SETTLED_MAX, || joiner.is_ready());
        assert_eq!(joiner.n_keys(), Ok(n_keys));
        has(&joiner, &format!("{LARGE_LEN}-{days}"), LARGE_LEN).expect("the large value");
        put(&joiner, "last", 1, "?w=3&timeout=10s");
        leave(&mut joiner, &both);
    }
    leave(&mut a, &[&b]);
}

/// Puts that many bytes, which must be taken.
fn put(agent: &Agent, key: &str, len: usize, query: &str) {
    let path = format!("/kv/{key}{query}");
    let answer = agent.request_with("PUT", &path, &vec![b'v'; len]);
    assert!(answer.as_ref().is_ok_and(|answer| answer.status == 200), "{path}: {answer:?}");
}

fn has(agent: &Agent, key: &str, len: usize) -> Result<(), String> {
    let answer = agent.request("GET", &format!("/kv/{key}?raw"))?;
    let found = (answer.status, answer.body.len());
    if found == (200, len) { Ok(()) } else { Err(format!("{} {key}: {found:?}", agent.name())) }
}

/// Whether its gossip loop sleeps between its turns.
fn is_calm(agent: &Agent) -> Result<(), String> {
    let turns = || agent.metric("engine_turns_total");
    let before = turns()?;
    std::thread::sleep(Duration::from_secs(1));
    let turned = turns()? - before;
    if turned < TURNS_MAX { Ok(()) } else { Err(format!("{turned} turns in a second")) }
}

fn leave(agent: &mut Agent, others: &[&Agent]) {
    agent.leave();
    let name = agent.name().to_owned();
    let (status, _) = agent.process_mut().wait_exit(EXIT_MAX);
    assert_eq!(status.code(), Some(0), "{name}: {status}");
    for other in others {
        eventually("it left", SETTLED_MAX, || other.holds(&name, State::Left));
    }
}
