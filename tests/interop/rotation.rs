//! A live cluster changes its key, `install`, `use`, `remove`, while clients write to every node.
//!
//! ```text
//! writers   two a node, a steady rate in all, each key written once and counted when answered
//! leg       install new .. use new .. remove old, between them every node's probes go on
//! after     every counted key on every node; nobody suspected, no datagram unreadable
//! ```

use crate::control::KEYS;
use crate::harness::{
    Agent, AgentOptions, JOIN_MAX, Mixed, MixedOptions, Node, Peer, Range, State, await_all,
    await_ready, eventually, needs, now,
};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// PUTs a second over all writers; halved for another try when the machine has
/// no time left for anything else.
const PUTS_PER_SECOND: u32 = 2_000;
/// It is halved no further than to this.
const PUTS_PER_SECOND_LEAST: u32 = 600;
/// What it takes for a rotation to have been one under load.
const PUTS_PER_SECOND_MIN: f64 = 500.0;
const WRITERS_PER_AGENT: u32 = 2;

/// Between two steps every node begins so many probes: then the first of them, and what gossip
/// goes with it, has been answered or failed.
const PROBES_BETWEEN: f64 = 2.0;
const PROBES_MAX: Duration = Duration::from_secs(20);
const STEP_MAX: Duration = Duration::from_secs(20);
const SPREAD_MAX: Duration = Duration::from_secs(10);
/// So soon the last node shows what the first was told, when it keeps up.
const BEHIND_MAX: Duration = Duration::from_millis(500);
const KEEPING_UP_MAX: Duration = Duration::from_secs(30);
/// The key that is watched for it.
const MARKER: &str = "marker";

/// One rotation at a time: two would be twice the load.
static ALONE: Mutex<()> = Mutex::new(());

/// What one writer has counted.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    accepted: usize,
    /// Answers that a node was too busy: nothing was written, and the writer asked again.
    busy: usize,
}

/// Writes distinct keys at a steady rate, this writer's share of `rate`, until that is 0.
///
/// # Panics
/// When a write is neither taken nor refused as one too many.
fn write_at(rate: &AtomicU32, agent: &Agent, writer: u32, n_writers: u32) -> Count {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let client = config.build().new_agent();
    let (mut due, mut count) = (now(), Count::default());
    loop {
        let rate = rate.load(Ordering::Relaxed);
        if rate == 0 {
            return count;
        }
        let url = format!("http://{}/kv/w{writer}-{}/x", agent.http(), count.accepted);
        let mut answer = client.put(&url).send_empty().expect("an answer to every write");
        answer.body_mut().read_to_vec().expect("the whole answer");
        match answer.status().as_u16() {
            200 => count.accepted += 1,
            503 => count.busy += 1,
            other => panic!("{url}: {other}"),
        }
        due += Duration::from_secs(1) * n_writers / rate;
        std::thread::sleep(due.saturating_duration_since(now()));
    }
}

/// Runs `act`, which may change the rate, once all are ready, while clients write to all of these,
/// and checks what came of the rate; returns how many writes were taken.
#[track_caller]
fn under_load(agents: &[Agent], act: impl FnOnce(&AtomicU32)) -> usize {
    await_ready(agents, JOIN_MAX);
    let n_writers = u32::try_from(agents.len()).expect("a few") * WRITERS_PER_AGENT;
    let (rate, start) = (AtomicU32::new(PUTS_PER_SECOND), now());
    let counts: Vec<Count> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..n_writers)
            .zip(agents.iter().cycle())
            .map(|(writer, agent)| {
                let rate = &rate;
                scope.spawn(move || write_at(rate, agent, writer, n_writers))
            })
            .collect();
        // A writer must stop whatever happens here, or the scope never ends.
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&rate)));
        rate.store(0, Ordering::Relaxed);
        let counts = writers.into_iter().map(|writer| writer.join().expect("it counts")).collect();
        acted.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        counts
    });
    let took = start.elapsed();
    let accepted: usize = counts.iter().map(|count| count.accepted).sum();
    let busy: usize = counts.iter().map(|count| count.busy).sum();
    let rate = accepted as f64 / took.as_secs_f64();
    println!(
        "{accepted} PUTs taken in {took:.1?}, {rate:.0}/s of {PUTS_PER_SECOND}; {busy} too many"
    );
    assert!(rate >= PUTS_PER_SECOND_MIN, "only {rate:.0} PUTs/s");
    accepted
}

/// Every one of these holds so many keys, and the marker. The keys differ, so that none is missing.
#[track_caller]
fn await_keys(agents: &[Agent], n_keys: usize) {
    for agent in agents {
        eventually("all writes everywhere", SPREAD_MAX, || match agent.n_keys()? {
            n if n == n_keys + 1 => Ok(()),
            n => Err(format!("{}: {n} of {n_keys}", agent.name())),
        });
    }
}

#[track_caller]
fn sum(agents: &[Agent], metric: &str) -> f64 {
    agents.iter().map(|agent| agent.metric(metric).expect("a counter")).sum()
}

/// Waits until all have probed.
#[track_caller]
fn await_probes(agents: &[Agent]) {
    let begun = |agent: &Agent| agent.metric("probes_total");
    let before: Vec<f64> = agents.iter().map(|agent| begun(agent).expect("a counter")).collect();
    eventually("probes of all", PROBES_MAX, || {
        agents.iter().zip(&before).try_for_each(|(agent, before)| match begun(agent)? - before {
            n if n >= PROBES_BETWEEN => Ok(()),
            n => Err(format!("{} has begun {n}", agent.name())),
        })
    });
}

/// Whether its probes are answered by datagrams.
fn has_udp(agent: &Agent) -> Result<(), String> {
    let json = agent.json("/members")?;
    let members = json["members"].as_array().ok_or("no members")?;
    match members.iter().find(|member| member["udp"] != "open") {
        None => Ok(()),
        Some(member) => Err(format!("{} hears {} late", agent.name(), member["name"])),
    }
}

/// Writes no faster than nodes replicate on this machine, whatever else it has to do. Of nodes that
/// are seconds behind, requests about keys are answered too late, and datagrams wait in sockets
/// until the key that they were sent with is removed.
#[track_caller]
fn await_keeping_up(agents: &[Agent], rate: &AtomicU32) {
    let (writer, reader) = (&agents[0], &agents[agents.len() - 1]);
    let mut written = 0;
    eventually("nodes that keep up", KEEPING_UP_MAX, || {
        written += 1;
        let (value, start) = (format!("{written}"), now());
        writer.put(MARKER, &value);
        eventually("what was written", SPREAD_MAX, || reader.has(MARKER, Some(&value)));
        let took = start.elapsed();
        let is_soon = if took < BEHIND_MAX { Ok(()) } else { Err(format!("seen after {took:?}")) };
        let keeps_up = is_soon.and_then(|()| agents.iter().try_for_each(has_udp));
        keeps_up.inspect_err(|_| slow_down(rate))
    });
}

/// Leaves the machine more time for all else.
fn slow_down(rate: &AtomicU32) {
    let halved = rate.load(Ordering::Relaxed) / 2;
    rate.store(halved.max(PUTS_PER_SECOND_LEAST), Ordering::Relaxed);
}

/// One step, tried again until all have done it, with fewer writes: one that misses somebody may be
/// repeated, and one that is refused has changed nothing.
#[track_caller]
fn change(agent: &Agent, verb: &str, key: &str, rate: &AtomicU32) {
    eventually("all have done it", STEP_MAX, || {
        let output = agent.client(&["keys", verb, key]);
        if output.status.success() {
            return Ok(());
        }
        slow_down(rate);
        Err(format!("keys {verb}: {output:?}"))
    });
}

/// The whole rotation as an operator does it, each step told to another node, and to Go's members,
/// which ours cannot tell.
#[track_caller]
fn rotate(agents: &[Agent], go: &mut [Peer], (old, new): (&str, &str), rate: &AtomicU32) {
    await_probes(agents);
    for (agent, (verb, key)) in agents.iter().zip([("install", new), ("use", new), ("remove", old)])
    {
        await_keeping_up(agents, rate);
        change(agent, verb, key, rate);
        for peer in &mut *go {
            peer.key(verb, key);
        }
        await_probes(agents);
    }
}

/// What every rotation must leave behind: nothing unreadable on the way, nobody suspected, and the
/// old key worth nothing.
#[track_caller]
fn assert_unnoticed(agents: &[Agent]) {
    for reason in ["key", "label", "checksum", "malformed"] {
        let metric = format!("packets_dropped_total{{reason=\"{reason}\"}}");
        assert_eq!(sum(agents, &metric), 0.0, "{metric}");
    }
    for agent in agents {
        assert_eq!(agent.complaints(), Vec::<String>::new(), "{}", agent.name());
        // Asked with the key it was started with.
        let refused = agent.wire_table();
        assert!(refused.is_err(), "{} takes the old key: {refused:?}", agent.name());
    }
}

/// Rotates until nobody was suspected in a rotation, three times at most: a machine with too much
/// else to do makes somebody suspect now and then, a key that is missing somewhere always, and also
/// at half the rate.
#[track_caller]
fn rotate_calmly(agents: &[Agent], go: &mut [Peer], rate: &AtomicU32) {
    let [first, second, third] = KEYS;
    // Go's members suspect too: whom they accuse refutes it.
    let begun = || sum(agents, "suspicions_total") + sum(agents, "refutes_total");
    let mut suspicions = Vec::new();
    for (old, new) in [(first, third), (third, second), (second, third)] {
        let before = begun();
        rotate(agents, go, (old, new), rate);
        suspicions.push(begun() - before);
        println!("suspicions begun in each rotation: {suspicions:?}");
        if suspicions.last() == Some(&0.0) {
            return;
        }
        slow_down(rate);
    }
    panic!("somebody was suspected in each of three rotations: {suspicions:?}");
}

#[test]
fn five_of_ours_change_their_key_without_losing_a_write() {
    let _alone = ALONE.lock();
    let range = Range::claim();
    let options = AgentOptions {
        keys: vec![KEYS[0].to_owned()],
        seeds: vec![range.gossip(1)],
        ..AgentOptions::default()
    };
    let agents = [1, 2, 3, 4, 5].map(|host| Agent::start(&range, host, options.clone()));
    let nodes: Vec<&dyn Node> = agents.iter().map(|agent| agent as &dyn Node).collect();
    await_all(&nodes, JOIN_MAX);
    agents[4].wire_table().expect("the first key opens it");
    let n_written = under_load(&agents, |rate| rotate_calmly(&agents, &mut [], rate));
    await_keys(&agents, n_written);
    assert_unnoticed(&agents);
    await_all(&nodes, Duration::ZERO);
}

#[test]
fn a_mixed_cluster_changes_its_key_without_losing_a_write() {
    needs!(Go);
    let _alone = ALONE.lock();
    let keys = vec![KEYS[0].to_owned()];
    let options = MixedOptions { n_rust: 4, n_go: 1, keys, ..MixedOptions::default() };
    let Mixed { range: _range, rust, mut go, .. } = Mixed::start(&options);
    let n_written = under_load(&rust, |rate| rotate_calmly(&rust, &mut go, rate));
    await_keys(&rust, n_written);
    assert_unnoticed(&rust);
    go[0].holds("r1", State::Alive).expect("the new key is the only one");
    assert_eq!(go[0].complaints(), Vec::<String>::new());
}
