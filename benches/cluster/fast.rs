//! How fast a write is everywhere, one at a time and in a flood.

use super::agent::{Agent, all_hold, cluster};
use super::client::Client;
use super::figures::{Figures, Scale, quantile};
use super::load;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 32;
/// A value of 32 bytes.
const VALUE: &str = "0123456789abcdef0123456789abcdef";

/// One PUT at a time, the others asked over and over until they show it.
pub fn visible(scale: &Scale, figures: &mut Figures) {
    let agents = cluster(3);
    note_visible(&agents, scale.n_visible, NAMES, figures);
}

/// Names of the figures of `visible`.
pub const NAMES: [&str; 4] = ["p50, ms", "p90, ms", "p99, ms", "longest, ms"];

/// The times from the answer of a PUT until all others show it.
pub fn note_visible(agents: &[Agent], n: usize, names: [&'static str; 4], figures: &mut Figures) {
    let mut taken = seen(agents, n);
    for (name, share) in names.into_iter().zip([0.5, 0.9, 0.99, 1.0]) {
        figures.note_millis(name, quantile(&mut taken, share));
    }
}

fn seen(agents: &[Agent], n: usize) -> Vec<Duration> {
    let mut writer = agents[0].client();
    let mut readers: Vec<Client> = agents[1..].iter().map(Agent::client).collect();
    let mut taken = Vec::with_capacity(n);
    for i in 0..n {
        let path = format!("/kv/visible-{i}");
        writer.put(&path, VALUE.as_bytes());
        let began = Instant::now();
        for reader in &mut readers {
            while reader.get(&path).0 != 200 {}
        }
        taken.push(began.elapsed());
        // Writes at any moment of the nodes' own timers, not in step with them.
        std::thread::sleep(Duration::from_millis(3 * (i as u64 % 7)));
    }
    taken
}

/// A flood of PUTs to one node, alone and as one of three, by turns in each run.
pub fn rate(scale: &Scale, figures: &mut Figures) {
    let alone = flood(&cluster(1), scale.n_puts);
    let agents = cluster(3);
    let together = flood(&agents, scale.n_puts);
    let behind = all_hold(&agents, scale.n_puts);
    let rate = |taken: Duration| scale.n_puts as f64 / taken.as_secs_f64();
    figures.note("alone, PUT/s", rate(alone));
    figures.note("with two replicas, PUT/s", rate(together));
    figures.note("ratio", rate(together) / rate(alone));
    figures.note_millis("all hold all, ms after the last answer", behind);
}

fn flood(agents: &[Agent], n: usize) -> Duration {
    load::all(agents[0].http(), CONNECTIONS, n, |i| {
        ("PUT", format!("/kv/flood-{i}/{VALUE}"), Vec::new())
    })
}
