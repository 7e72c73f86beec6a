//! Agents that are killed, restarted and stopped, with the times users are promised.

use crate::harness::{Node, State, Trio, await_all, eventually, now};
use rustix::process::Signal;
use std::time::Duration;

const DEAD_MAX: Duration = Duration::from_secs(8);
const BACK_MAX: Duration = Duration::from_secs(3);
const COPIED_MAX: Duration = Duration::from_secs(1);
const LEFT_MAX: Duration = Duration::from_secs(1);
/// `--leave-timeout`'s default and 2 s.
const EXIT_MAX: Duration = Duration::from_secs(7);

#[test]
fn a_killed_agent_is_suspect_then_dead_and_comes_back_whole() {
    let mut trio = Trio::start(&[]);
    for n in 0..300 {
        trio.agents[n % 3].put(&format!("key-{n}"), &format!("value-{n}"));
    }
    eventually("a copy of each", COPIED_MAX, || {
        trio.agents[..2].iter().try_for_each(|agent| match agent.n_keys()? {
            300 => Ok(()),
            n => Err(format!("{} has {n}", agent.name())),
        })
    });
    let killed = now();
    trio.agents[2].process().signal(Signal::KILL);
    let survivors = &trio.agents[..2];
    for agent in survivors {
        let within = DEAD_MAX.saturating_sub(killed.elapsed());
        eventually("suspect", within, || agent.holds("r3", State::Suspect));
    }
    let suspect = killed.elapsed();
    for agent in survivors {
        let within = DEAD_MAX.saturating_sub(killed.elapsed());
        eventually("dead", within, || agent.holds("r3", State::Dead));
    }
    println!("suspect {suspect:?} and dead {:?} after the kill", killed.elapsed());
    trio.agents[0].put("while-away", "yes");
    trio.agents[1].delete("key-0");

    let agent = trio.agents.pop().expect("three").restart();
    trio.agents.push(agent);
    let took = await_all(&trio.nodes(), BACK_MAX);
    let back = &trio.agents[2];
    let (_, copied) = eventually("every key", COPIED_MAX, || match back.n_keys()? {
        300 => back.has("while-away", Some("yes")),
        n => Err(format!("{n} keys")),
    });
    back.has("key-0", None).expect("deleted while away");
    for n in 1..300 {
        back.has(&format!("key-{n}"), Some(&format!("value-{n}"))).expect("every value");
    }
    println!("alive everywhere after {took:?}, every key {copied:?} later");
}

#[test]
fn a_stopped_agent_leaves_and_takes_no_write_with_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut trio = Trio::start(&[]);
        trio.agents[2].put("last", "word");
        std::thread::sleep(Duration::from_millis(1));
        let stopped = now();
        trio.agents[2].process().signal(signal);
        for agent in &trio.agents[..2] {
            let within = LEFT_MAX.saturating_sub(stopped.elapsed());
            eventually("left", within, || agent.holds("r3", State::Left));
        }
        println!("left everywhere {:?} after the signal", stopped.elapsed());
        let (status, took) = trio.agents[2].process_mut().wait_exit(EXIT_MAX);
        assert_eq!(status.code(), Some(0), "{status}");
        println!("exit 0 after {took:?}");
        Trio::await_value(&trio.agents[..2], "last", Some("word"), Duration::ZERO);
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut trio = Trio::start(&["--leave-timeout", "60s"]);
    // Nobody answers any more, so the leave can't finish early.
    for agent in &trio.agents[..2] {
        agent.process().signal(Signal::STOP);
    }
    trio.agents[2].process().signal(Signal::TERM);
    eventually("it says that it is leaving", LEFT_MAX, || {
        match trio.agents[2].request("GET", "/health")?.status {
            503 => Ok(()),
            other => Err(format!("status {other}")),
        }
    });
    // Two signals within 50 ms count as one, so it is told until it ends.
    let process = trio.agents[2].process_mut();
    let (status, took) = eventually("it ends", LEFT_MAX, || {
        process.signal(Signal::TERM);
        process.try_exit().ok_or("it still runs")
    });
    println!("{status} {took:?} after the second signal");
}

#[test]
fn a_lone_agent_takes_writes_and_stops() {
    use crate::harness::{Agent, AgentOptions, Range};
    let range = Range::claim();
    let nobody = range.gossip(99);
    let options = AgentOptions { seeds: vec![nobody], ..AgentOptions::default() };
    let mut agent = Agent::start(&range, 1, options);
    agent.put("alone", "yes");
    let read = agent.request("GET", "/kv/alone").expect("an answer");
    assert_eq!(read.status, 503, "it cannot know what the node that it looks for holds");
    agent.leave();
    let (status, _) = agent.process_mut().wait_exit(EXIT_MAX);
    assert_eq!(status.code(), Some(1), "what it took ends with it, and others may be somewhere");
}
