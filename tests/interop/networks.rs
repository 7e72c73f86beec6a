//! Hosts with two networks, of which the peers are on the one without the default route, and hosts
//! with IPv6 alone.

use crate::harness::{
    Agent, AgentOptions, BINARY, JOIN_MAX, Net, Node, Process, await_all, eventually, hold, needs,
};
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

/// Long enough for a node that nobody reaches to be suspected and declared dead.
const HOLD: Duration = Duration::from_secs(12);
const DETOUR: &str = "from another address than the one this node advertises";

fn http() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

/// Where `agent` says that it can be dialled.
fn advertised(agent: &Agent) -> Result<String, String> {
    let members = agent.json("/members")?;
    let rows = members["members"].as_array().ok_or("no members")?;
    let row = rows.iter().find(|row| row["name"] == agent.name()).ok_or("not there")?;
    Ok(row["address"].as_str().unwrap_or_default().to_owned())
}

/// Three hosts of two networks; the agents listen everywhere, `flags` for the last of them.
fn start(net: &mut Net, flags: &[String]) -> Vec<Agent> {
    let hosts: Vec<(String, IpAddr)> = (1..=3)
        .map(|host| {
            let (namespace, ip) = net.add_host(host);
            net.add_way_out(host);
            (namespace, ip.into())
        })
        .collect();
    let seeds: Vec<SocketAddr> = hosts.iter().map(|(_, ip)| SocketAddr::new(*ip, 7947)).collect();
    let start = |host: u8, (namespace, _): (String, IpAddr)| {
        let options = AgentOptions {
            namespace: Some(namespace),
            seeds: seeds.clone(),
            flags: if host == 3 { flags.to_vec() } else { Vec::new() },
            ..AgentOptions::default()
        };
        let gossip = SocketAddr::from(([0, 0, 0, 0], 7947));
        Agent::start_at(&format!("r{host}"), gossip, http(), options)
    };
    (1..=3).zip(hosts).map(|(host, place)| start(host, place)).collect()
}

#[test]
fn the_address_on_the_route_to_the_peers_is_advertised() {
    needs!(Namespaces);
    let mut net = Net::create();
    let agents = start(&mut net, &[]);
    let nodes: Vec<&dyn Node> = agents.iter().map(|agent| agent as &dyn Node).collect();
    await_all(&nodes, JOIN_MAX);
    for (host, agent) in (1..=3).zip(&agents) {
        assert_eq!(advertised(agent), Ok(format!("10.77.0.{host}:7947")));
    }
    hold("nobody is suspected", HOLD, || {
        agents.iter().try_for_each(|agent| match agent.metric("suspicions_total")? {
            0.0 => Ok(()),
            n => Err(format!("{}: {n}", agent.name())),
        })
    });
    for agent in &agents {
        let complaints = agent.complaints();
        assert!(!complaints.iter().any(|line| line.contains(DETOUR)), "{complaints:?}");
    }
}

#[test]
fn an_address_on_the_other_network_is_warned_of() {
    needs!(Namespaces);
    let mut net = Net::create();
    let agents = start(&mut net, &["--advertise".to_owned(), "10.88.0.3".to_owned()]);
    let told = || {
        let complaints = agents[2].complaints();
        complaints.into_iter().filter(|line| line.contains(DETOUR)).collect::<Vec<_>>()
    };
    let ((), _) = eventually("it says so", JOIN_MAX, || match &told()[..] {
        [line] if line.contains("10.77.0.3") && line.contains("10.88.0.3") => Ok(()),
        lines => Err(format!("{lines:?}")),
    });
    hold("once", HOLD, || match told().len() {
        1 => Ok(()),
        n => Err(n.to_string()),
    });
    assert!(!agents[0].complaints().iter().any(|line| line.contains(DETOUR)));
}

#[test]
fn a_host_with_ipv6_alone_is_told_how_to_listen() {
    needs!(Namespaces);
    let mut net = Net::create();
    let (namespace, _) = net.add_host(1);
    let ip = net.leave_ipv6_alone(1);
    let run = |flags: &[&str]| {
        let mut command = Process::command(&BINARY, Some(&namespace));
        command.args(["agent", "--name", "r1", "--join", "[fd77::2]:7947"]).args(flags);
        command.stdin(Stdio::null()).output().expect("our own program runs")
    };
    let ended = run(&[]);
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("--bind [::]:7947"), "{told}");
    let ended = run(&["--bind", "[fe80::1%eth0]:7947"]);
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{told}");
    assert!(told.contains("--bind: ") && told.contains("fd00::/8"), "{told}");
    // And that is all it takes.
    let options = AgentOptions { namespace: Some(namespace.clone()), ..AgentOptions::default() };
    let gossip = "[::]:7947".parse().expect("an address");
    let agent = Agent::start_at("r1", gossip, http(), options);
    assert_eq!(advertised(&agent), Ok(format!("[{ip}]:7947")));
}
