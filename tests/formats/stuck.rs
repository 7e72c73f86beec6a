//! Versions that share no format: a roll from the one to the other sticks at its first node, which
//! says why, and nothing is lost.

use super::Version::{Next, Now, Old};
use super::{Agent, PATIENCE, Range, await_ready, cluster};
use crate::harness::{Node as _, eventually, hold};
use crate::rolls;
use std::time::Duration;

/// Longer than a node waits before it takes itself for the first of a cluster.
const LONG_ENOUGH: Duration = Duration::from_secs(12);
const N_KEYS: usize = 200;

fn health(agent: &Agent) -> Result<String, String> {
    let answer = agent.request("GET", "/health")?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

#[test]
fn a_roll_of_five_to_a_version_that_shares_no_format_sticks() {
    rolls::tries("an incompatible format", |_| {
        rolls::roll(&Old.options(vec![]), |_, seeds| rolls::New {
            options: Next.options(seeds),
            why: &["speaks formats 2 "],
        });
    });
}

#[test]
fn a_roll_to_a_version_that_shares_no_format_sticks_and_loses_nothing() {
    let range = Range::claim();
    let old = cluster(Old, &range, 3);
    for n in 0..N_KEYS {
        old[n % 3].put(&format!("k{n}"), "v");
    }
    // An impatient operator starts two of them.
    let seeds: Vec<_> = old.iter().map(|agent| agent.gossip()).collect();
    let next: Vec<Agent> = (4..=5).map(|host| Next.start(&range, host, seeds.clone())).collect();
    for agent in &next {
        eventually("it has met them", PATIENCE, || match agent.metric("peers_incompatible")? {
            3.0 => Ok(()),
            n => Err(n.to_string()),
        });
        eventually("it says why", PATIENCE, || {
            let health = health(agent)?;
            let says = health.contains("starting") && health.contains("speaks formats 2 ");
            if says { Ok(()) } else { Err(health) }
        });
    }
    hold("neither is ready", LONG_ENOUGH, || {
        let ready = next.iter().find(|agent| agent.is_ready().is_ok());
        ready.map_or(Ok(()), |agent| Err(format!("{} is ready", agent.name())))
    });
    for agent in &next {
        assert_eq!(agent.request("GET", "/kv/k1").expect("an answer").status, 503);
        let members = agent.json("/members").expect("members");
        let rows = members["members"].as_array().expect("rows");
        for row in rows.iter().filter(|row| ["r1", "r2", "r3"].iter().any(|n| row["name"] == *n)) {
            assert_eq!((&row["kv"], &row["formats"]), (&false.into(), &"2".into()), "{row}");
        }
        let keys = agent.client(&["keys", "list"]).stdout;
        let keys = String::from_utf8_lossy(&keys).into_owned();
        assert_eq!(
            keys.matches("not told: it speaks replication formats 2 only").count(),
            3,
            "{keys}"
        );
        let table = agent.client(&["members"]).stdout;
        let table = String::from_utf8_lossy(&table).into_owned();
        assert_eq!(table.matches("no: formats 2").count(), 3, "{table}");
        assert!(agent.complaints().iter().any(|line| line.contains("other replication formats")));
    }
    for agent in &old {
        agent.is_ready().expect("ready all the while");
        assert_eq!(agent.n_keys(), Ok(N_KEYS));
    }
    // By way of the version between them it goes on.
    let now = Now.start(&range, 6, seeds);
    await_ready(&now);
    for agent in &next {
        await_ready(agent);
        eventually("it holds everything", PATIENCE, || match agent.n_keys()? {
            N_KEYS => Ok(()),
            n => Err(n.to_string()),
        });
    }
}
