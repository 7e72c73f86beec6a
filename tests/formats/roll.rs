//! Rolls: one after the other a node of the other version joins, is waited for, and one of this
//! version is stopped. Clients write all the while, and every write waits for all members.

use super::Version::{self, Next, Now, Old};
use super::{Agent, PATIENCE, Range, await_ready, cluster};
use crate::harness::{Node as _, eventually};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const N_NODES: u8 = 3;
/// Writes between two steps of a roll, at least.
const N_WRITES: usize = 60;

/// Who serves, and how many keys have been taken.
struct Service {
    /// Locked for each write, and while a node goes: who counts as a member then is no question of
    /// formats.
    urls: Mutex<Vec<String>>,
    n_taken: AtomicUsize,
    stop: AtomicBool,
}

impl Service {
    /// Writes key after key, each to another of the nodes that serve, until told to stop.
    fn write(&self) {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let client = config.timeout_global(Some(PATIENCE)).build().new_agent();
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let urls = self.urls.lock().unwrap();
            let url = &urls[n % urls.len()];
            // Some are too large for a datagram.
            let value = vec![b'v'; if n % 20 == 0 { 100_000 } else { 10 + n % 1_000 }];
            let answer = client.put(format!("{url}/kv/k{n}?w=all&timeout=20s")).send(&value[..]);
            let status = answer.expect("an answer").status();
            drop(urls);
            assert_eq!(status, 200, "w=all of k{n}");
            self.n_taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until more has been written, to every node.
    fn await_writes(&self) {
        let so_far = self.n_taken.load(Ordering::Relaxed);
        eventually("more is written", PATIENCE, || {
            let n_more = self.n_taken.load(Ordering::Relaxed) - so_far;
            if n_more >= N_WRITES { Ok(()) } else { Err(format!("{n_more} writes")) }
        });
    }
}

fn url(agent: &Agent) -> String {
    format!("http://{}", agent.http())
}

/// Each of the agents gives way to a new one of that version.
fn roll(range: &Range, agents: &mut Vec<Agent>, to: Version, next: &mut u8, service: &Service) {
    for _ in 0..agents.len() {
        let seeds = agents.iter().map(|agent| agent.gossip()).collect();
        let agent = to.start(range, *next, seeds);
        *next += 1;
        await_ready(&agent);
        service.urls.lock().unwrap().push(url(&agent));
        service.await_writes();
        let mut urls = service.urls.lock().unwrap();
        agents.push(agent);
        let mut gone = agents.remove(0);
        urls.retain(|known| *known != url(&gone));
        gone.leave();
        let (ended, _) = gone.process_mut().wait_exit(PATIENCE);
        assert!(ended.success(), "{ended}");
        for agent in agents.iter() {
            eventually("it is known to have left", PATIENCE, || knows_left(agent, gone.name()));
        }
    }
}

fn knows_left(agent: &Agent, name: &str) -> Result<(), String> {
    let members = agent.json("/members")?;
    let row =
        members["members"].as_array().and_then(|rows| rows.iter().find(|r| r["name"] == name));
    match row {
        Some(row) if row["state"] != "left" => Err(row.to_string()),
        _ => Ok(()),
    }
}

fn sum(agents: &[Agent], name: &str) -> f64 {
    agents.iter().map(|agent| agent.metric(name).expect("a metric")).sum()
}

/// Clusters of the first version are rolled to each of the others in turn.
fn rolls(versions: &[Version]) {
    let range = Range::claim();
    let mut agents = cluster(versions[0], &range, N_NODES);
    let service = Service {
        urls: Mutex::new(agents.iter().map(url).collect()),
        n_taken: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    let mut next = N_NODES + 1;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| service.write());
        for version in &versions[1..] {
            roll(&range, &mut agents, *version, &mut next, &service);
            assert!(!writer.is_finished(), "the writer goes on");
            // Nobody gets what it cannot read.
            assert_eq!(sum(&agents, "replication_unreadable_total"), 0.0, "{version:?}");
        }
        service.stop.store(true, Ordering::Relaxed);
    });
    let n_taken = service.n_taken.load(Ordering::Relaxed);
    for agent in &agents {
        eventually("it holds everything", PATIENCE, || match agent.n_keys()? {
            n if n == n_taken => Ok(()),
            n => Err(format!("{} holds {n} of {n_taken}", agent.name())),
        });
    }
}

#[test]
fn a_roll_from_the_version_before_ranges_and_back_loses_nothing() {
    rolls(&[Old, Now, Old]);
}

#[test]
fn a_roll_to_the_next_version_and_back_loses_nothing() {
    rolls(&[Now, Next, Now]);
}

#[test]
fn versions_follow_each_other() {
    rolls(&[Old, Now, Next, Now, Old]);
}

#[test]
fn what_the_next_version_adds_reaches_who_knows_it_and_is_passed_over_by_others() {
    let range = Range::claim();
    let mut agents = cluster(Now, &range, 1);
    for host in 2..=3 {
        let agent = Next.start(&range, host, vec![range.gossip(1)]);
        await_ready(&agent);
        agents.push(agent);
    }
    let (now, next) = agents.split_at(1);
    eventually("all have heard of it", PATIENCE, || {
        agents[0].put("k", "v");
        agents[1].put("l", "v");
        let passed_over = sum(now, r#"replication_passed_over_total{what="kind"}"#);
        let played = sum(next, "replication_played_total");
        if passed_over >= 2.0 && played >= 2.0 { Ok(()) } else { Err("not yet") }
    });
    assert_eq!(sum(now, r#"replication_passed_over_total{what="field"}"#), 0.0, "format 4's field");
    assert_eq!(sum(&agents, "replication_unreadable_total"), 0.0);
}
