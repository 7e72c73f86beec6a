//! What a joiner costs, and what nothing costs.

use super::agent::{Agent, wait_for};
use super::figures::{Figures, Scale, quantile};
use super::{load, network, size};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A fresh node joins two that hold a full map, while a client reads from each of these.
pub fn join(scale: &Scale, figures: &mut Figures) {
    let agents = size::full(2, scale.n_keys);
    let mut before = watched(&agents, scale, || std::thread::sleep(scale.watched));
    let mut ready = Duration::ZERO;
    let mut joiner = None;
    let mut during = watched(&agents, scale, || {
        let began = Instant::now();
        let agent = joiner.insert(Agent::start(3, &[1, 2]));
        wait_for("readiness", || agent.is_ready());
        ready = began.elapsed();
    });
    let n_held = joiner.map(|agent| agent.n_keys());
    assert_eq!(n_held, Some(scale.n_keys), "ready means that it holds everything");
    figures.note_millis("from the start of the process to ready, ms", ready);
    let names = ["p99 of one before, ms", "p99 of the other before, ms"];
    let names_during = ["p99 of one during, ms", "p99 of the other during, ms"];
    let mut worst: f64 = 0.0;
    for i in 0..2 {
        let (quiet, busy) = (quantile(&mut before[i], 0.99), quantile(&mut during[i], 0.99));
        figures.note_millis(names[i], quiet);
        figures.note_millis(names_during[i], busy);
        worst = worst.max(busy.as_secs_f64() / quiet.as_secs_f64());
    }
    figures.note("p99 grown by, the worse of both", worst);
}

/// Latencies of one client at each of the first two agents while something happens. Each asks a
/// thousand times a second at most, as one user of many would.
fn watched(agents: &[Agent], scale: &Scale, what: impl FnOnce()) -> [Vec<Duration>; 2] {
    let stop = Arc::new(AtomicBool::new(false));
    let watch = |agent: &Agent| reader(agent.http(), scale.n_keys, Arc::clone(&stop));
    let readers = [watch(&agents[0]), watch(&agents[1])];
    what();
    stop.store(true, Ordering::Relaxed);
    readers.map(|reader| reader.join().expect("every GET is answered"))
}

fn reader(addr: SocketAddr, n: usize, stop: Arc<AtomicBool>) -> JoinHandle<Vec<Duration>> {
    let read = move || {
        let mut client = super::client::Client::open(addr);
        let mut taken = Vec::new();
        let mut i = 0;
        while !stop.load(Ordering::Relaxed) {
            i = (i * 7919 + 1) % n;
            let began = Instant::now();
            assert_eq!(client.get(&format!("/kv/key-{i:012}")).0, 200);
            taken.push(began.elapsed());
            std::thread::sleep(Duration::from_millis(1));
        }
        taken
    };
    std::thread::Builder::new().name("reader".to_owned()).spawn(read).expect("a thread")
}

/// Bytes a second that a node sends when nothing differs: three nodes, a full map and an empty one.
pub fn idle(scale: &Scale, figures: &mut Figures) {
    let agents = size::full(3, scale.n_keys);
    let replication = |agents: &[Agent]| -> f64 {
        agents.iter().map(|agent| agent.metric("replication_bytes_total{direction=\"out\"")).sum()
    };
    let sent = |agents: &[Agent]| -> f64 { agents.iter().map(Agent::sent).sum() };
    let all = || (sent(&agents), replication(&agents), network::counted().1);
    let before = all();
    let began = Instant::now();
    std::thread::sleep(scale.watched);
    let seconds = began.elapsed().as_secs_f64() * agents.len() as f64;
    let after = all();
    figures.note("all gossip, B/s a node", (after.0 - before.0) / seconds);
    figures.note("of that replication, B/s a node", (after.1 - before.1) / seconds);
    figures
        .note("with IP and transport headers, B/s a node", (after.2 - before.2) as f64 / seconds);
}

/// Keeps a PUT load on an agent until told to stop; joins to the number answered.
pub fn writer(addr: SocketAddr, n_keys: usize, stop: Arc<AtomicBool>) -> JoinHandle<usize> {
    let write = move || {
        let make = move |i: usize| {
            let key = i * 7919 % n_keys;
            ("PUT", format!("/kv/key-{key:012}/{i:032}"), Vec::new())
        };
        load::until(addr, 32, stop, make).len()
    };
    std::thread::Builder::new().name("writer".to_owned()).spawn(write).expect("a thread")
}
