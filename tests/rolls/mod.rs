//! Rolls as an orchestrator does them: a new node is started, waited for, and an old one stopped,
//! one after the other, while somebody writes.
//!
//! ```text
//! old 1..5    new 6: /health 200? --no, for ten seconds--> the roll sticks: all of old serve
//!                         | yes
//!                         v
//!             old 1: SIGTERM, exit 0; then new 7, ..
//! ```
//!
//! `GOSSIPYKV_ROLLS` asks for as many rolls of each kind, ten at a time.

use crate::harness::{
    Agent, AgentOptions, Node as _, Range, await_all, await_ready, eventually, now, seconds,
};
use crate::rounds::side_by_side;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const N_NODES: u8 = 5;
/// Keys that are there before the roll begins.
const N_KEYS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the orchestrator waits for a node that should get ready, on a busy machine, and for one
/// that should not: more than the 8 s after which silence once was taken for an empty cluster.
const READY_MAX: Duration = Duration::from_secs(60);
const STUCK_FOR: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 10;

/// What a new node is started with.
pub struct New {
    pub options: AgentOptions,
    /// What `/health` says when it is not wanted: one of these.
    pub why: &'static [&'static str],
}

/// As many tries as asked for, one by default, some of them side by side.
pub fn tries(what: &str, one: impl Fn(usize) + Sync) {
    let n = seconds("GOSSIPYKV_ROLLS").map_or(1, |n| usize::try_from(n).expect("a few"));
    side_by_side(n, AT_ONCE, one);
    println!("{n} rolls to {what}");
}

fn health(agent: &Agent) -> Result<(u16, String), String> {
    let answer = agent.request("GET", "/health")?;
    Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}

/// Five ready nodes that all see each other and hold some keys.
fn old_nodes(range: &Range, options: &AgentOptions) -> Vec<Agent> {
    let seeds: Vec<SocketAddr> = (1..=N_NODES).map(|host| range.gossip(host)).collect();
    let start = |host| {
        let seeds = [&options.seeds[..], &seeds].concat();
        Agent::start(range, host, AgentOptions { seeds, ..options.clone() })
    };
    let agents: Vec<Agent> = (1..=N_NODES).map(start).collect();
    await_all(&agents.iter().map(|agent| agent as _).collect::<Vec<_>>(), PATIENCE);
    await_ready(&agents, PATIENCE);
    for n in 0..N_KEYS {
        agents[n % agents.len()].put(&format!("k{n}"), "v");
    }
    agents
}

/// Who serves, and what somebody has written there while the roll went on.
struct Service {
    urls: Mutex<Vec<String>>,
    n_taken: AtomicUsize,
    stop: AtomicBool,
}

impl Service {
    fn new(agents: &[Agent]) -> Service {
        let urls = Mutex::new(agents.iter().map(url).collect());
        Service { urls, n_taken: AtomicUsize::new(0), stop: AtomicBool::new(false) }
    }

    fn urls(&self) -> Vec<String> {
        self.urls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<String>)) {
        change(&mut self.urls.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes key after key to one after the other, some fifty a second; what is not taken, since
    /// the node goes, the next one gets.
    fn write(&self) {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let client = config.timeout_global(Some(PATIENCE)).build().new_agent();
        let mut n_taken = 0;
        for turn in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let urls = self.urls();
            let path = format!("{}/kv/w{n_taken}", urls[turn % urls.len()]);
            if client.put(path).send(&b"v"[..]).is_ok_and(|answer| answer.status() == 200) {
                n_taken += 1;
                self.n_taken.store(n_taken, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn url(agent: &Agent) -> String {
    format!("http://{}", agent.http())
}

/// Rolls from nodes with the first options to ones with the others; returns what it came to.
///
/// # Panics
/// When it sticks without a reason or late, when a node that serves lacks a key, and when a node
/// that is not wanted gets ready.
pub fn roll(old: &AgentOptions, to: impl Fn(&Range, Vec<SocketAddr>) -> New) {
    let range = Range::claim();
    let mut agents = old_nodes(&range, old);
    let service = Service::new(&agents);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| service.write());
        // It ends although the roll is found wanting.
        let stop = Stop(&service);
        for host in N_NODES + 1..=2 * N_NODES {
            let seeds = agents.iter().map(|agent| agent.gossip()).collect();
            let New { options, why } = to(&range, seeds);
            let new = Agent::start(&range, host, options);
            if !why.is_empty() {
                sticks(&new, why);
                break;
            }
            eventually("the new node is ready", READY_MAX, || new.is_ready());
            service.change(|urls| urls.push(url(&new)));
            agents.push(new);
            let mut gone = agents.remove(0);
            service.change(|urls| urls.retain(|known| *known != url(&gone)));
            gone.leave();
            let (ended, _) = gone.process_mut().wait_exit(PATIENCE);
            assert!(ended.success(), "{} ended with {ended}", gone.name());
        }
        drop(stop);
        writer.join().expect("it writes to the end");
    });
    let n_taken = service.n_taken.load(Ordering::Relaxed);
    assert!(n_taken > 0, "nothing was written meanwhile");
    for agent in &agents {
        agent.is_ready().expect("it serves to the end");
        eventually("it serves everything", PATIENCE, || match agent.n_keys()? {
            n if n == N_KEYS + n_taken => Ok(()),
            n => Err(format!("{}: {n} of {N_KEYS} and {n_taken} keys", agent.name())),
        });
        (0..N_KEYS).try_for_each(|n| agent.has(&format!("k{n}"), Some("v"))).expect("it serves it");
    }
}

struct Stop<'a>(&'a Service);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// It is not ready all the while, answers no read, and in the end says why.
fn sticks(new: &Agent, why: &[&str]) {
    let (begun, mut said) = (now(), String::new());
    while begun.elapsed() < STUCK_FOR {
        let (status, text) = health(new).expect("an answer");
        assert_eq!(status, 503, "it would go on to: {text}");
        said = text;
        assert_eq!(new.request("GET", "/kv/k1").expect("an answer").status, 503);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(said.contains("starting"), "{said}");
    assert!(why.iter().any(|why| said.contains(why)), "{said:?} says none of {why:?}");
}
