//! Agents find each other through a real DNS server, however late it knows them.

use crate::harness::{
    Agent, AgentOptions, Dns, Node, Range, await_all, await_ready, eventually, hold, needs,
};
use std::net::SocketAddr;
use std::time::Duration;

/// How long the record is missing at first (the issue's).
const LATE: Duration = Duration::from_secs(10);
const FOUND_MAX: Duration = Duration::from_secs(5);
const MERGED_MAX: Duration = Duration::from_secs(15);

fn by_dns(dns: &Dns, seeds: Vec<SocketAddr>) -> AgentOptions {
    let flags = ["--discover-srv", Dns::SERVICE, "--dns", &dns.address().to_string()];
    AgentOptions { seeds, flags: flags.map(str::to_owned).into(), ..AgentOptions::default() }
}

fn nodes(agents: &[Agent]) -> Vec<&dyn Node> {
    agents.iter().map(|agent| agent as &dyn Node).collect()
}

#[track_caller]
fn hold_sizes(agents: &[Agent], n: usize, during: Duration) {
    hold("each serves and knows only its own", during, || {
        for agent in agents {
            let table = agent.table()?;
            if table.len() != n {
                return Err(format!("{} sees {table:?}", agent.name()));
            }
        }
        Ok(())
    });
}

#[test]
fn a_record_that_appears_late_makes_one_cluster() {
    needs!(Dnsmasq);
    let range = Range::claim();
    let mut dns = Dns::start(&range, &[]);
    let agents = [1, 2, 3].map(|host| Agent::start(&range, host, by_dns(&dns, vec![])));
    hold_sizes(&agents, 1, LATE);
    agents[0].put("early", "bird");
    dns.serve(&[1, 2, 3].map(|host| range.gossip(host)));
    let took = await_all(&nodes(&agents), FOUND_MAX);
    println!("one cluster {took:?} after the record");
    // Nobody is new here, so it comes with the digests: one a second to one of the others.
    let (_, took) = eventually("the key everywhere", FOUND_MAX, || {
        agents.iter().try_for_each(|agent| agent.has("early", Some("bird")))
    });
    println!("the key everywhere {took:?} later");
}

#[test]
fn two_clusters_that_share_a_record_become_one() {
    needs!(Dnsmasq);
    let range = Range::claim();
    let mut dns = Dns::start(&range, &[]);
    let seed = |host| vec![range.gossip(host)];
    let agents = [(1, seed(2)), (2, seed(1)), (3, seed(4)), (4, seed(3))]
        .map(|(host, seeds)| Agent::start(&range, host, by_dns(&dns, seeds)));
    let (left, right) = agents.split_at(2);
    await_all(&nodes(left), FOUND_MAX);
    await_all(&nodes(right), FOUND_MAX);
    for n in 0..50 {
        left[n % 2].put(&format!("left-{n}"), "l");
        right[n % 2].put(&format!("right-{n}"), "r");
        left[n % 2].put(&format!("both-{n}"), "l");
    }
    // Later by more than a clock's grain, so that there is a last writer.
    hold_sizes(&agents, 2, Duration::from_secs(2));
    for n in 0..50 {
        right[n % 2].put(&format!("both-{n}"), "r");
    }
    dns.serve(&[1, 3].map(|host| range.gossip(host)));
    let took = await_all(&nodes(&agents), MERGED_MAX);
    println!("merged {took:?} after the record");
    let left_over = MERGED_MAX.saturating_sub(took);
    eventually("all keys on all", left_over, || {
        for agent in &agents {
            let n = agent.n_keys()?;
            if n != 150 {
                return Err(format!("{} has {n} keys", agent.name()));
            }
            (0..50).try_for_each(|n| agent.has(&format!("both-{n}"), Some("r")))?;
        }
        Ok(())
    });
}

#[test]
fn a_lost_peer_is_found_again_by_its_record() {
    needs!(Dnsmasq);
    let range = Range::claim();
    let dns = Dns::start(&range, &[1, 2].map(|host| range.gossip(host)));
    let [a, b] = [1, 2].map(|host| Agent::start(&range, host, by_dns(&dns, vec![])));
    await_all(&[&a, &b], FOUND_MAX);
    a.put("key", "value");
    // The one that comes back knows nobody; the record leads it home.
    let b = b.restart();
    await_all(&[&a, &b], FOUND_MAX);
    eventually("the key", Duration::from_secs(1), || b.has("key", Some("value")));
}

/// A zone with DNS64 has an IPv6 address for every name, which nodes on IPv4 cannot dial.
#[test]
fn addresses_of_another_family_are_not_dialled() {
    needs!(Dnsmasq);
    let range = Range::claim();
    let mut dns = Dns::start(&range, &[]);
    let peers = [1, 2, 3].map(|host| range.gossip(host));
    let nat64 = |peer: SocketAddr| match peer {
        SocketAddr::V4(peer) => {
            Some(format!("64:ff9b::{}", peer.ip()).parse().expect("an address"))
        }
        SocketAddr::V6(_) => None,
    };
    dns.serve_with(&peers, nat64);
    let agents = [1, 2, 3].map(|host| Agent::start(&range, host, by_dns(&dns, vec![])));
    await_all(&nodes(&agents), FOUND_MAX);
    for agent in &agents {
        eventually("it is ready", FOUND_MAX, || agent.is_ready());
        // A peer that does not listen yet is another matter.
        let lines = agent.complaints().into_iter().filter(|line| line.contains("64:ff9b"));
        assert_eq!(lines.collect::<Vec<_>>(), Vec::<String>::new());
    }
}

/// Whoever can dial none of the addresses says so once, and says no more when there are others.
#[test]
fn a_complaint_is_told_once_and_ends_with_its_cause() {
    needs!(Dnsmasq);
    let range = Range::claim();
    let peers = [1, 2].map(|host| range.gossip(host));
    let nat64 = peers.map(|peer| {
        let port = peer.port();
        format!("[64:ff9b::7f00:1]:{port}").parse().expect("an address")
    });
    let mut dns = Dns::start(&range, &nat64);
    let agents = [1, 2].map(|host| Agent::start(&range, host, by_dns(&dns, vec![])));
    let is_told_once = || {
        for agent in &agents {
            let lines = agent.complaints();
            if lines.len() != 1 || !lines[0].contains("of a family that --bind has not") {
                return Err(format!("{} says {lines:?}", agent.name()));
            }
        }
        Ok(())
    };
    eventually("each says it", FOUND_MAX, is_told_once);
    hold("none says it again", LATE, is_told_once);
    dns.serve(&peers);
    await_all(&nodes(&agents), FOUND_MAX);
    await_ready(&agents, FOUND_MAX);
    // While the server changes it is asked in vain; that may be told, and is over now.
    let before = agents.each_ref().map(Agent::complaints);
    // Longer than two looks of a node that has found others.
    hold("none complains", Duration::from_secs(25), || {
        let now = agents.each_ref().map(Agent::complaints);
        if now == before { Ok(()) } else { Err(format!("{now:?}")) }
    });
}
