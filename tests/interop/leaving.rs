//! Agents that are told to stop while clients write to them as fast as they can: what was answered
//! is held by those who stay.
//!
//! ```text
//! 16 clients -- PUT, one key after the other --> b --SIGTERM--> exit 0
//!                                                | hands over
//!                                                v
//!                                                a: every key that was answered
//! ```
//!
//! Two rounds of each kind; `GOSSIPYKV_LEAVES=50` asks for as many. A program built for tests
//! encrypts so slowly that it has more time than the default. Should a machine busy with other
//! tests be slower than that, what was left must have been counted and told, all of the time must
//! have been spent on it, and everything else must be held.

use crate::harness::{
    Agent, AgentOptions, Node as _, Range, State, await_all, await_ready, eventually, now, seconds,
};
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const N_CLIENTS: usize = 16;
/// How long clients write before the signal; and how much, where the program encrypts a few
/// megabytes a second.
const WRITING: Duration = Duration::from_millis(700);
const WRITTEN_SLOW: usize = 2 * N_CLIENTS;
const JOIN_MAX: Duration = Duration::from_secs(20);
/// `--leave-timeout`, and what a program that encrypts slowly is given.
const LEAVE_MAX: Duration = Duration::from_secs(5);
const LEAVE_MAX_SLOW: Duration = Duration::from_secs(60);
const EXIT_MAX: Duration = Duration::from_secs(65);
/// How much earlier than that a node stops to hand over, to tell the others that it leaves.
const TELLING: Duration = Duration::from_secs(1);
const KEY: &str = "8fPRc5MyOAYVYrlhX6aFRzWMmKxIhzDKqBSfbYEE7ZI=";

/// One round at a time: each takes all of the machine.
static ALONE: Mutex<()> = Mutex::new(());

/// The default where the program is another than the one built with the tests.
fn leave_max() -> Duration {
    let is_slow = cfg!(debug_assertions) && std::env::var_os("GOSSIPYKV_PROGRAM").is_none();
    if is_slow { LEAVE_MAX_SLOW } else { LEAVE_MAX }
}

/// Writes that a node has said to have left to nobody.
fn told_unsent(agent: &Agent) -> Option<usize> {
    let lines = agent.process().lines(0).into_iter();
    let mut told = lines.filter(|line| line.contains("writes could not be handed over"));
    let line: Value = serde_json::from_str(&told.next()?).expect("a line of JSON");
    usize::try_from(line["unsent"].as_u64()?).ok()
}

fn n_rounds() -> u64 {
    seconds("GOSSIPYKV_LEAVES").unwrap_or(2)
}

/// Writes distinct keys until it is refused or nobody is there; what was answered with 200.
fn write(url: &str, client: usize, body: &[u8], n_taken: &AtomicUsize) -> Vec<String> {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let config = config.timeout_global(Some(Duration::from_secs(10))).build();
    let (agent, mut taken) = (config.new_agent(), Vec::new());
    loop {
        let key = format!("c{client}-{}", taken.len());
        let answer = agent.put(format!("{url}/kv/{key}")).send(body);
        let Ok(mut answer) = answer else { return taken };
        if answer.status() != 200 || answer.body_mut().read_to_vec().is_err() {
            return taken;
        }
        taken.push(key);
        n_taken.fetch_add(1, Ordering::Relaxed);
    }
}

/// All keys of an agent.
fn keys(agent: &Agent) -> Result<BTreeSet<String>, String> {
    let (mut keys, mut after) = (BTreeSet::new(), String::new());
    loop {
        let page = agent.json(&format!("/kv/?keys&limit=1000{after}"))?;
        for item in page["items"].as_array().ok_or("no items")? {
            keys.insert(item["key"].as_str().ok_or("no key")?.to_owned());
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(keys),
        }
    }
}

fn leave_while_written(value_len: usize, keys_of: &[&str]) {
    let _alone = ALONE.lock();
    for round in 0..n_rounds() {
        let range = Range::claim();
        let options = |seeds| AgentOptions {
            keys: keys_of.iter().map(|key| (*key).to_owned()).collect(),
            seeds,
            flags: vec!["--leave-timeout".to_owned(), format!("{}s", leave_max().as_secs())],
            ..AgentOptions::default()
        };
        let stays = Agent::start(&range, 1, options(vec![range.gossip(2)]));
        let mut leaves = Agent::start(&range, 2, options(vec![range.gossip(1)]));
        await_all(&[&stays, &leaves], JOIN_MAX);
        await_ready([&stays, &leaves], JOIN_MAX);
        let (url, body) = (format!("http://{}", leaves.http()), vec![b'v'; value_len]);
        let (process, n_taken) = (leaves.process_mut(), &AtomicUsize::new(0));
        let (taken, status, took) = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..N_CLIENTS)
                .map(|client| {
                    let (url, body) = (&url, &body);
                    scope.spawn(move || write(url, client, body, n_taken))
                })
                .collect();
            let is_slow = leave_max() > LEAVE_MAX && !keys_of.is_empty();
            if is_slow && value_len > 100_000 {
                eventually("they write", JOIN_MAX, || match n_taken.load(Ordering::Relaxed) {
                    n if n > WRITTEN_SLOW => Ok(()),
                    n => Err(format!("{n} answered")),
                });
            } else {
                std::thread::sleep(WRITING);
            }
            process.signal(Signal::TERM);
            let (status, took) = process.wait_exit(EXIT_MAX);
            let taken = clients.into_iter().flat_map(|client| client.join().expect("it counts"));
            (taken.collect::<BTreeSet<_>>(), status, took)
        });
        let held = eventually("it has left", EXIT_MAX, || {
            stays.holds("r2", State::Left)?;
            keys(&stays)
        });
        let lost = taken.difference(&held.0).count();
        println!(
            "round {round}, {value_len} B: {} answered, {lost} lost, {status} after {took:.1?}",
            taken.len()
        );
        let log = leaves.process().lines(0);
        match told_unsent(&leaves) {
            None => assert_eq!((lost, status.code()), (0, Some(0)), "{log:#?}"),
            Some(unsent) => {
                assert!(leave_max() > LEAVE_MAX, "{unsent} writes left: {log:#?}");
                assert_eq!(status.code(), Some(1), "{log:#?}");
                assert!(lost <= unsent && took >= leave_max() - TELLING, "{log:#?}");
            }
        }
        assert!(taken.len() > N_CLIENTS, "too few writes to show anything");
    }
}

#[test]
fn large_values_are_handed_over() {
    leave_while_written(1_000_000, &[]);
}

#[test]
fn small_values_are_handed_over() {
    leave_while_written(1_000, &[]);
}

#[test]
fn large_values_are_handed_over_encrypted() {
    leave_while_written(1_000_000, &[KEY]);
}

#[test]
fn small_values_are_handed_over_encrypted() {
    leave_while_written(1_000, &[KEY]);
}

#[test]
fn what_nobody_takes_is_counted_and_told_by_the_exit_code() {
    let range = Range::claim();
    let options = |seeds| AgentOptions {
        seeds,
        flags: vec!["--leave-timeout".to_owned(), "2s".to_owned()],
        ..AgentOptions::default()
    };
    let stays = Agent::start(&range, 1, options(vec![range.gossip(2)]));
    let mut leaves = Agent::start(&range, 2, options(vec![range.gossip(1)]));
    await_all(&[&stays, &leaves], JOIN_MAX);
    // It takes nothing any more, and is not known to be dead yet.
    stays.process().signal(Signal::STOP);
    let body = vec![b'v'; 100_000];
    for n in 0..7 {
        let answer = leaves.request_with("PUT", &format!("/kv/k{n}"), &body);
        assert!(answer.is_ok_and(|answer| answer.status == 200));
    }
    let asked = now();
    leaves.process().signal(Signal::TERM);
    let (status, _) = leaves.process_mut().wait_exit(EXIT_MAX);
    println!("{status} after {:?}", asked.elapsed());
    stays.process().signal(Signal::CONT);
    assert_eq!(status.code(), Some(1));
    let log = leaves.process().lines(0).join("\n");
    assert!(log.contains("7 writes could not be handed over"), "{log}");
}

#[test]
fn a_node_alone_ends_in_good_order_and_says_that_its_store_ends() {
    let range = Range::claim();
    let mut alone = Agent::start(&range, 1, AgentOptions::default());
    alone.put("k", "v");
    alone.process().signal(Signal::TERM);
    let (status, _) = alone.process_mut().wait_exit(EXIT_MAX);
    assert_eq!(status.code(), Some(0));
    let log = alone.process().lines(0).join("\n");
    assert!(log.contains("no other member is there to hand the store over to"), "{log}");
}
