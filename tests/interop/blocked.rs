//! Networks that let one of UDP and TCP through: what is written is seen everywhere as fast as
//! before, and what is blocked is told.
//!
//! ```text
//! n1 --- n2          UDP blocked: between n3 and both others
//!   \   /            TCP blocked: between n3 and n1, so that large values go by way of n2
//!    n3
//! ```
//!
//! `GOSSIPYKV_BLOCKED_WRITES` asks for more writes than a few.

use crate::harness::{
    Agent, AgentOptions, Net, Node as _, Weather, await_all, await_ready, eventually, needs, now,
    seconds,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

const JOIN_MAX: Duration = Duration::from_secs(20);
/// A probe every 3 s, or ten tries of a write in vain.
const NOTICED_MAX: Duration = Duration::from_secs(20);
const SEEN_MAX: Duration = Duration::from_secs(10);
/// What most writes take at most, and all but one of a hundred: the target on a machine that does
/// nothing else, and what the machine that runs other tests beside this one is given.
const USUAL_MAX: Duration = Duration::from_millis(50);
const BUSY_MAX: Duration = Duration::from_millis(500);
const LARGE_MAX: Duration = Duration::from_secs(2);
/// No datagram holds it.
const LARGE_LEN: usize = 300_000;

/// Between host 3 and each of these, both ways.
fn with_third(others: &[u8]) -> BTreeSet<(u8, u8)> {
    others.iter().flat_map(|&other| [(3, other), (other, 3)]).collect()
}

/// Three agents that see each other and are ready.
fn three() -> (Net, Vec<Agent>) {
    let mut net = Net::create();
    let hosts = [1, 2, 3].map(|host| net.add_host(host));
    let seeds: Vec<SocketAddr> = hosts.iter().map(|(_, ip)| (*ip, 7947).into()).collect();
    let agents: Vec<Agent> = hosts
        .into_iter()
        .zip(&seeds)
        .enumerate()
        .map(|(at, ((namespace, _), gossip))| {
            let (namespace, seeds) = (Some(namespace), seeds.clone());
            let options = AgentOptions { namespace, seeds, ..AgentOptions::default() };
            let http = SocketAddr::from(([127, 0, 0, 1], 8080));
            Agent::start_at(&format!("r{}", at + 1), *gossip, http, options)
        })
        .collect();
    await_all(&agents.iter().map(|agent| agent as _).collect::<Vec<_>>(), JOIN_MAX);
    await_ready(&agents, JOIN_MAX);
    (net, agents)
}

/// How long each of so many writes takes from the client's call until every other node shows it,
/// the slowest last.
fn seen(agents: &[Agent], writer: usize, what: &str, n: usize, len: usize) -> Vec<Duration> {
    let path = |index: usize| format!("/kv/{what}-{writer}-{index}");
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let others = agents.iter().enumerate().filter(|(at, _)| *at != writer);
        for (_, agent) in others {
            let tell = tell.clone();
            scope.spawn(move || {
                for index in 0..n {
                    eventually("it is seen", SEEN_MAX, || {
                        match agent.request("GET", &path(index))?.status {
                            200 => Ok(()),
                            other => Err(format!("{}: {other}", agent.name())),
                        }
                    });
                    tell.send(now()).expect("somebody waits for it");
                }
            });
        }
        let put = |index| {
            let start = now();
            let answer = agents[writer].request_with("PUT", &path(index), &vec![b'v'; len]);
            assert!(answer.as_ref().is_ok_and(|answer| answer.status == 200), "{answer:?}");
            let last = (1..agents.len()).map(|_| told.recv_timeout(SEEN_MAX * 2).expect("seen"));
            last.max().expect("there are others").duration_since(start)
        };
        let mut took: Vec<Duration> = (0..n).map(put).collect();
        took.sort();
        took
    })
}

/// Median, the 99th of a hundred, and the longest.
fn figures(took: &[Duration]) -> [Duration; 3] {
    [took[took.len() / 2], took[took.len() * 99 / 100], took[took.len() - 1]]
}

fn n_writes() -> usize {
    seconds("GOSSIPYKV_BLOCKED_WRITES").map_or(40, |n| usize::try_from(n).expect("a number"))
}

/// Whether this is a campaign with a program as users have it, or one test of many.
fn is_campaign() -> bool {
    seconds("GOSSIPYKV_BLOCKED_WRITES").is_some()
}

/// What a node's table says of the way to another.
fn way(agent: &Agent, to: &str, kind: &str) -> Result<String, String> {
    let members = agent.json("/members")?;
    let rows = members["members"].as_array().ok_or("no members")?;
    let row = rows.iter().find(|row| row["name"] == to).ok_or("no such member")?;
    Ok(row[kind].as_str().unwrap_or_default().to_owned())
}

#[track_caller]
fn await_way(agent: &Agent, to: &str, kind: &str, expected: &str) {
    eventually("it is shown", NOTICED_MAX, || match way(agent, to, kind)? {
        way if way == expected => Ok(()),
        way => Err(format!("{} shows {kind} to {to} as {way}", agent.name())),
    });
}

#[track_caller]
fn complains(agent: &Agent, of: &str, text: &str) {
    eventually("it is logged", NOTICED_MAX, || {
        let lines = agent.process().lines(0);
        let member = format!("\"member\":\"{of}\"");
        let texts = ["WARN", &member, text];
        let found = lines.iter().any(|line| texts.iter().all(|text| line.contains(text)));
        if found { Ok(()) } else { Err(format!("{} does not say {text:?}", agent.name())) }
    });
}

/// Writes large values until the writer's table shows the way to another as blocked; the figures of
/// these, and how long it took.
#[track_caller]
fn write_until_blocked(agents: &[Agent], writer: usize, to: &str) -> ([Duration; 3], Duration) {
    let (mut took, mut n) = (Vec::new(), 0);
    let (_, noticed) = eventually("it is shown", NOTICED_MAX, || {
        n += 1;
        took.extend(seen(agents, writer, &format!("first-{n}"), 1, LARGE_LEN));
        match way(&agents[writer], to, "tcp")?.as_str() {
            "blocked" => Ok(()),
            way => Err(format!("{} shows TCP to {to} as {way}", agents[writer].name())),
        }
    });
    took.sort();
    (figures(&took), noticed)
}

/// All three write small values, each seen by the others in time.
fn small_values_are_seen(agents: &[Agent], what: &str) {
    for writer in 0..agents.len() {
        let took = seen(agents, writer, what, n_writes(), 100);
        let [median, p99, longest] = figures(&took);
        println!("{what}, written at r{}: {median:.1?}, p99 {p99:.1?}, {longest:.1?}", writer + 1);
        assert!(median < USUAL_MAX, "{took:?}");
        assert!(p99 < if is_campaign() { USUAL_MAX } else { BUSY_MAX }, "{took:?}");
    }
}

#[test]
fn with_udp_blocked_at_one_node_writes_are_seen_as_soon_as_ever() {
    needs!(Namespaces);
    let (net, agents) = three();
    small_values_are_seen(&agents, "open");
    net.set(&Weather { udp_cut: with_third(&[1, 2]), ..Weather::default() });
    // Until it is noticed the first writes pay for it.
    let first = seen(&agents, 2, "first", 12, 100);
    println!("the first twelve: {first:.1?}");
    for (agent, to) in [(0, "r3"), (1, "r3"), (2, "r1"), (2, "r2")] {
        await_way(&agents[agent], to, "udp", "blocked");
        complains(&agents[agent], to, "over TCP only");
    }
    small_values_are_seen(&agents, "blocked");
    assert!(net.n_lost() > 0, "no datagram was lost, so nothing was shown");
    net.set(&Weather::default());
    for (agent, to) in [(0, "r3"), (1, "r3"), (2, "r1"), (2, "r2")] {
        await_way(&agents[agent], to, "udp", "open");
    }
    small_values_are_seen(&agents, "again");
}

#[test]
fn with_tcp_blocked_between_two_large_values_come_by_the_third() {
    needs!(Namespaces);
    let (net, agents) = three();
    net.set(&Weather { tcp_cut: with_third(&[1]), ..Weather::default() });
    for (writer, to) in [(0, "r3"), (2, "r1")] {
        // The link that is there stands still, and is given up; then dials fail. All the while the
        // third serves.
        let (first, noticed) = write_until_blocked(&agents, writer, to);
        println!("r{}: noticed after {noticed:.1?}; until then {first:.1?}", writer + 1);
        assert!(first[2] < LARGE_MAX, "{first:?}");
        complains(&agents[writer], to, "TCP to its port seems to be blocked");
        let took = seen(&agents, writer, "large", n_writes() / 2, LARGE_LEN);
        println!("large, written at r{}: {:.1?}", writer + 1, figures(&took));
        assert!(figures(&took)[1] < LARGE_MAX, "{took:?}");
    }
    small_values_are_seen(&agents, "small");
    assert!(net.n_lost() > 0, "no packet was lost, so nothing was shown");
    net.set(&Weather::default());
    for (agent, to) in [(0, "r3"), (2, "r1")] {
        await_way(&agents[agent], to, "tcp", "open");
    }
}
