//! Packets lost, a cluster cut in two, a member that stands still.

use super::agent::{Agent, all_equal, cluster, wait_for};
use super::fast::note_visible;
use super::figures::{Figures, Scale};
use super::{load, network, repair, size};
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// `visible` with one and with three packets in ten lost.
pub fn loss(scale: &Scale, figures: &mut Figures) {
    let tenth = ["10 %: p50, ms", "10 %: p90, ms", "10 %: p99, ms", "10 %: longest, ms"];
    let third = ["30 %: p50, ms", "30 %: p90, ms", "30 %: p99, ms", "30 %: longest, ms"];
    for (percent, names) in [(10, tenth), (30, third)] {
        network::count_only();
        let agents = cluster(3);
        network::lose(percent);
        note_visible(&agents, scale.n_visible, names, figures);
    }
}

/// Two nodes and one, apart; both sides write, a third of it to the same keys.
pub fn partition(scale: &Scale, figures: &mut Figures) {
    let agents = cluster(3);
    network::cut_off(3);
    let began = Instant::now();
    for (agent, side) in [(&agents[0], "left"), (&agents[2], "right")] {
        load::all(agent.http(), 8, scale.n_apart, move |i| {
            let key = if i % 3 == 0 { format!("both-{i}") } else { format!("{side}-{i}") };
            ("PUT", format!("/kv/{key}/{side}"), Vec::new())
        });
    }
    std::thread::sleep(scale.apart.saturating_sub(began.elapsed()));
    network::count_only();
    let contact = wait_for("contact", || agents[2].metric("members{state=\"alive\"") > 1.5);
    let began = Instant::now();
    let n = scale.n_apart + scale.n_apart - scale.n_apart.div_ceil(3);
    wait_for("every key", || agents.iter().all(|agent| agent.n_keys() == n));
    all_equal(&agents);
    let equal = began.elapsed();
    figures.note_millis("from the heal to the first contact, ms", contact);
    figures.note_millis("from the first contact to equal, ms", equal);
    // The right side wrote second, so it has the later version of each.
    let mut reader = agents[0].client();
    for i in (0..scale.n_apart).step_by(3) {
        assert_eq!(reader.get(&format!("/kv/both-{i}?raw")).1, b"right", "both-{i}");
    }
}

/// The third member stands still under a flood of writes to the first.
pub fn stopped(scale: &Scale, figures: &mut Figures) {
    let agents = cluster(3);
    let n_keys = scale.n_keys.min(100_000);
    size::fill(&agents[0], n_keys);
    let flood = |seconds: Duration| {
        let stop = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let writer = repair::writer(agents[0].http(), n_keys, Arc::clone(&stop));
        std::thread::sleep(seconds);
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("every PUT is answered") as f64 / began.elapsed().as_secs_f64()
    };
    let before = flood(scale.watched);
    let resident = |agent: &Agent| agent.resident();
    let memory: Vec<f64> = agents[..2].iter().map(resident).collect();
    agents[2].signal(Signal::STOP);
    let during = flood(scale.stopped);
    let grown = agents[..2].iter().zip(&memory).map(|(agent, before)| agent.resident() - before);
    let grown = grown.fold(0.0, f64::max);
    agents[2].signal(Signal::CONT);
    let woken = Instant::now();
    all_equal(&agents);
    let equal = woken.elapsed();
    figures.note("PUT/s with all three", before);
    figures.note("PUT/s with one stopped", during);
    figures.note("ratio", during / before);
    figures.note("memory grown by, the more of two, MiB", grown / f64::from(1 << 20));
    figures.note_millis("from waking to equal, ms", equal);
}
