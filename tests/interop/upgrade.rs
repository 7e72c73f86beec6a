//! A cluster rolled from the last release to this version and back, as an orchestrator does it,
//! while clients write to and read from every node that serves.
//!
//! `tests/formats/upgrade` builds the last release and runs this; it is passed over elsewhere.

use crate::harness::{Agent, AgentOptions, Node as _, Range, await_all, await_ready, eventually};
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const N_NODES: u8 = 3;
const N_CLIENTS: usize = 4;
/// Writes between two steps of a roll, at least.
const N_WRITES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);
/// Keys as many writes old as this are read.
const READ_AFTER: usize = 400;

/// Who serves, and what came of the requests.
struct Service {
    /// Of each node, and whether it has been told to stop.
    nodes: Mutex<Vec<(String, bool)>>,
    n_begun: AtomicUsize,
    /// By the number in the key: the version that its write was answered with.
    taken: Mutex<HashMap<usize, String>>,
    /// Requests to nodes that were stopping that had no or no good answer.
    n_cut_off: AtomicUsize,
    /// What else had none.
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    fn new(agents: &[Agent]) -> Service {
        Service {
            nodes: Mutex::new(agents.iter().map(|agent| (url(agent), false)).collect()),
            n_begun: AtomicUsize::new(0),
            taken: Mutex::new(HashMap::new()),
            n_cut_off: AtomicUsize::new(0),
            failures: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        }
    }

    /// Writes a key and reads an older one, over and over, each at another node. The read waits
    /// until the node has caught up with that write.
    fn client(&self) {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let client = config.timeout_global(Some(PATIENCE)).build().new_agent();
        while !self.stop.load(Relaxed) {
            let n = self.n_begun.fetch_add(1, Relaxed);
            let node = {
                let nodes = lock(&self.nodes);
                // Those that stop are still called for a moment, as a balancer does.
                nodes[n % nodes.len()].0.clone()
            };
            // Some are too large for a datagram, and some expire, much later.
            let value = vec![b'v'; if n.is_multiple_of(50) { 100_000 } else { 10 + n % 1_000 }];
            let ttl = if n.is_multiple_of(7) { "?ttl=1h" } else { "" };
            let put = client.put(format!("{node}/kv/k{n}{ttl}")).send(&value[..]);
            let mut version = None;
            let said = put.map(|mut answer| {
                let body = answer.body_mut().read_to_vec().unwrap_or_default();
                let body: Option<Value> = serde_json::from_slice(&body).ok();
                version = body.and_then(|body| Some(body["version"].as_str()?.to_owned()));
                answer.status().as_u16()
            });
            if self.judge(&node, "PUT", n, said) {
                lock(&self.taken).insert(n, version.expect("an answer of 200 tells the version"));
            }
            let Some(old) = n.checked_sub(READ_AFTER) else { continue };
            let version = lock(&self.taken).get(&old).cloned();
            if let Some(version) = version {
                let path = format!("kv/k{old}?raw&min_version={version}");
                let get = client.get(format!("{node}/{path}")).call();
                self.judge(&node, "GET", old, get.map(|answer| answer.status().as_u16()));
            }
        }
    }

    fn judge(&self, node: &str, what: &str, n: usize, answer: Result<u16, ureq::Error>) -> bool {
        let said = match answer {
            Ok(200) => return true,
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let is_serving = lock(&self.nodes).iter().any(|(url, stops)| url == node && !stops);
        if is_serving {
            lock(&self.failures).push(format!("{what} k{n} at {node}: {said}"));
        } else {
            self.n_cut_off.fetch_add(1, Relaxed);
        }
        false
    }

    fn await_writes(&self) {
        let so_far = self.n_begun.load(Relaxed);
        eventually("more is written", PATIENCE, || {
            let n_more = self.n_begun.load(Relaxed) - so_far;
            if n_more >= N_WRITES { Ok(()) } else { Err(format!("{n_more} writes")) }
        });
    }

    fn mark(&self, url: &str) {
        lock(&self.nodes).iter_mut().filter(|node| node.0 == url).for_each(|node| node.1 = true);
    }
}

fn url(agent: &Agent) -> String {
    format!("http://{}", agent.http())
}

/// An agent of the release, or of this version.
fn start(range: &Range, host: u8, seeds: Vec<SocketAddr>, release: Option<&str>) -> Agent {
    // As every deployment here has it: still served while a balancer finds out.
    let flags = vec!["--drain-delay=1s".to_owned()];
    let program = release.map(str::to_owned);
    Agent::start(range, host, AgentOptions { seeds, flags, program, ..AgentOptions::default() })
}

/// Each of the agents gives way to a new one.
fn roll(range: &Range, agents: &mut Vec<Agent>, next: &mut u8, to: Option<&str>, all: &Service) {
    for _ in 0..N_NODES {
        let seeds = agents.iter().map(|agent| agent.gossip()).collect();
        let agent = start(range, *next, seeds, to);
        *next += 1;
        eventually("it is ready", PATIENCE, || agent.is_ready());
        lock(&all.nodes).push((url(&agent), false));
        agents.push(agent);
        all.await_writes();
        let mut gone = agents.remove(0);
        all.mark(&url(&gone));
        gone.leave();
        // A balancer lets go of it within the delay.
        eventually("it says that it goes", PATIENCE, || match gone.is_ready() {
            Ok(()) => Err("it is ready".to_owned()),
            Err(_) => Ok(()),
        });
        lock(&all.nodes).retain(|node| node.0 != url(&gone));
        let (ended, _) = gone.process_mut().wait_exit(PATIENCE);
        assert!(ended.success(), "{ended}");
        all.await_writes();
    }
}

/// The program of the last release.
#[expect(clippy::disallowed_methods, reason = "the tests are told by the environment")]
fn last_release() -> String {
    std::env::var("GOSSIPYKV_LAST_RELEASE").expect("tests/formats/upgrade names it")
}

#[test]
#[ignore = "tests/formats/upgrade names the last release"]
fn upgrade_from_the_last_release_and_back_loses_nothing() {
    let release = last_release();
    let range = Range::claim();
    let seeds: Vec<SocketAddr> = (1..=N_NODES).map(|host| range.gossip(host)).collect();
    let old = |host| start(&range, host, seeds.clone(), Some(&release));
    let mut agents: Vec<Agent> = (1..=N_NODES).map(old).collect();
    await_all(&agents.iter().map(|agent| agent as _).collect::<Vec<_>>(), PATIENCE);
    await_ready(&agents, PATIENCE);
    let (all, mut next) = (Service::new(&agents), N_NODES + 1);
    std::thread::scope(|scope| {
        for _ in 0..N_CLIENTS {
            scope.spawn(|| all.client());
        }
        // One that panics must not leave the clients behind.
        let rolled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for to in [None, Some(&*release)] {
                all.await_writes();
                roll(&range, &mut agents, &mut next, to, &all);
                for agent in &agents {
                    let unreadable = agent.metric("replication_unreadable_total");
                    assert_eq!(unreadable, Ok(0.0), "what {} could not read", agent.name());
                }
            }
        }));
        all.stop.store(true, Relaxed);
        if let Err(panic) = rolled {
            std::panic::resume_unwind(panic);
        }
    });
    let failures = lock(&all.failures);
    assert!(failures.is_empty(), "{} at nodes that serve: {:?}", failures.len(), failures.first());
    let taken: Vec<usize> = lock(&all.taken).keys().copied().collect();
    assert!(taken.len() > 4 * N_WRITES * usize::from(N_NODES), "{} writes", taken.len());
    for agent in &agents {
        eventually("it holds every write that was answered", PATIENCE, || {
            let held = keys(agent)?;
            let lost: Vec<usize> =
                taken.iter().copied().filter(|n| !held.contains(&format!("k{n}"))).collect();
            match lost.first() {
                None => Ok(()),
                Some(first) => Err(format!("{} lacks {}, k{first}", agent.name(), lost.len())),
            }
        });
    }
    println!(
        "upgrade and back: {} writes, 0 lost; {} requests cut off at nodes that stopped, 0 others",
        taken.len(),
        all.n_cut_off.load(Relaxed)
    );
}

/// All keys of an agent.
fn keys(agent: &Agent) -> Result<std::collections::HashSet<String>, String> {
    let (mut keys, mut after) = (std::collections::HashSet::new(), String::new());
    loop {
        let page = agent.json(&format!("/kv/?keys&limit=1000{after}"))?;
        let items = page["items"].as_array().ok_or("no items")?;
        keys.extend(items.iter().filter_map(|item| item["key"].as_str().map(str::to_owned)));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(keys),
        }
    }
}
