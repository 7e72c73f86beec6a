//! SWIM's own claims, measured: how soon a failure is seen, how long until all know, what a member
//! costs, and how often a slow member has others accuse the innocent.

use super::mesh::{Mesh, name};
use crate::rng::Rng;
use crate::swim::Config;
use crate::swim::io::Event;
use crate::time::Instant;
use std::time::Duration;

/// What one size of cluster shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Members.
    pub n: usize,
    /// Failures measured.
    pub n_failures: usize,
    /// From a failure to the first ping that meets it: mean, in probe intervals.
    pub first_ping: f64,
    /// From a failure to the first suspicion: mean, in probe intervals.
    pub first_suspicion: f64,
    /// From a failure to the first declaration of death: mean, in seconds.
    pub declared: f64,
    /// From that to the last member that hears of it: mean and longest, in seconds.
    pub told_mean: f64,
    /// See `told_mean`.
    pub told_max: f64,
    /// Packets an idle member sends in a second: mean, and of the busiest.
    pub packets: f64,
    /// See `packets`.
    pub packets_max: f64,
    /// Bytes of messages an idle member sends in a second.
    pub bytes: f64,
}

/// Idle time over which load is measured.
const IDLE: Duration = Duration::from_secs(20);

/// Measures a cluster of `n` members in which `n_failures` die, one after the other.
#[must_use]
pub fn measure(n: usize, n_failures: usize, rng_seed: u64) -> Row {
    let config = Config::lan();
    let mut rng = Rng::from_seed(rng_seed);
    let mut mesh = Mesh::settled(n, &config, rng.next_u64());
    mesh.run_until(mesh.now + Duration::from_secs(3));
    let (packets, packets_max, bytes) = idle_load(&mut mesh);
    let mut sums = Sums::default();
    let mut victims: Vec<usize> = (0..n).collect();
    rng.shuffle(&mut victims);
    victims.truncate(n_failures.min(n - 3));
    for victim in &victims {
        mesh.run_until(mesh.now + rng.duration_below(config.probe_interval * 2));
        sums.fail(&mut mesh, *victim);
    }
    let count = victims.len() as f64;
    let intervals = |sum: Duration| sum.as_secs_f64() / config.probe_interval.as_secs_f64() / count;
    Row {
        n,
        n_failures: victims.len(),
        first_ping: intervals(sums.pinged),
        first_suspicion: intervals(sums.suspected),
        declared: sums.declared.as_secs_f64() / count,
        told_mean: sums.told.as_secs_f64() / count,
        told_max: sums.told_max.as_secs_f64(),
        packets,
        packets_max,
        bytes,
    }
}

fn idle_load(mesh: &mut Mesh) -> (f64, f64, f64) {
    let before: Vec<(u64, u64)> = mesh.machines.iter().map(|m| (m.packets, m.bytes)).collect();
    mesh.run_until(mesh.now + IDLE);
    let sent = mesh.machines.iter().zip(&before).map(|(m, b)| (m.packets - b.0, m.bytes - b.1));
    let (mut packets, mut most, mut bytes) = (0, 0, 0);
    for (p, b) in sent {
        packets += p;
        most = most.max(p);
        bytes += b;
    }
    let per_second = |n: u64| n as f64 / IDLE.as_secs_f64();
    let n = mesh.machines.len() as f64;
    (per_second(packets) / n, per_second(most), per_second(bytes) / n)
}

#[derive(Debug, Default)]
struct Sums {
    pinged: Duration,
    suspected: Duration,
    declared: Duration,
    told: Duration,
    told_max: Duration,
}

impl Sums {
    /// Kills `victim` and waits until everybody has declared it dead.
    fn fail(&mut self, mesh: &mut Mesh, victim: usize) {
        const LIMIT: Duration = Duration::from_secs(180);
        let died = mesh.now;
        mesh.kill(victim);
        mesh.events.clear();
        let n_living = mesh.machines.iter().filter(|machine| machine.swim.is_some()).count();
        let victim_name = name(victim);
        let is_death =
            |event: &Event| matches!(event, Event::Failed(dead) if dead.to_string() == victim_name);
        let deaths = |mesh: &Mesh| -> Vec<Instant> {
            mesh.events.iter().filter(|(_, _, event)| is_death(event)).map(|(at, ..)| *at).collect()
        };
        while deaths(mesh).len() < n_living && mesh.now.since(died) < LIMIT {
            mesh.run_until(mesh.now + Duration::from_millis(250));
        }
        let suspected = mesh.events.iter().find(|(_, _, event)| {
            matches!(event, Event::Suspected(who, _) if who.to_string() == victim_name)
        });
        let deaths = deaths(mesh);
        let pinged = mesh.first_pinged.get(&victim).map_or(LIMIT, |at| at.since(died));
        self.pinged += pinged;
        self.suspected += suspected.map_or(LIMIT, |(at, ..)| at.since(died));
        let first = deaths.iter().min().copied().unwrap_or(died + LIMIT);
        let last = deaths.iter().max().copied().unwrap_or(died + LIMIT);
        self.declared += first.since(died);
        self.told += last.since(first);
        self.told_max = self.told_max.max(last.since(first));
    }
}
