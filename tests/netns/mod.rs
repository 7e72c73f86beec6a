//! A mixed cluster on a network that loses packets: members are suspected, and nobody stays dead.

use crate::harness::{
    Agent, AgentOptions, Net, Node, Peer, PeerOptions, State, await_all, eventually, long, needs,
    now,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const LOSS_PERCENT: u8 = 10;
/// A cluster forms before packets are lost.
const JOIN_MAX: Duration = Duration::from_secs(10);
/// The word of a death reaches the dead and its answer comes back: a few gossip rounds of 200 ms,
/// some of them lost.
const REFUTED_MAX: Duration = Duration::from_secs(5);
const SPREAD_MAX: Duration = Duration::from_secs(5);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);

/// The issue asks for 30 minutes.
fn duration() -> Duration {
    Duration::from_secs(if long() { 30 * 60 } else { 60 })
}

/// What was seen of the members in each other's eyes.
#[derive(Default)]
struct Sightings {
    /// By observer and observed: the state, since when.
    current: BTreeMap<(String, String), (State, Instant)>,
    n_suspicions: usize,
    n_deaths: usize,
    longest_dead: Duration,
}

impl Sightings {
    fn sample(&mut self, nodes: &[&dyn Node]) {
        for observer in nodes {
            // A question lost in the noise is asked again with the next sample.
            let Ok(table) = observer.table() else { continue };
            for (name, row) in table {
                let pair = (observer.name().to_owned(), name);
                let before = self.current.get(&pair).copied();
                if before.is_none_or(|(state, _)| state != row.state) {
                    self.n_suspicions += usize::from(row.state == State::Suspect);
                    self.n_deaths += usize::from(row.state == State::Dead);
                    if before.is_some() {
                        println!("{} holds {} as {:?}", pair.0, pair.1, row.state);
                    }
                    self.current.insert(pair, (row.state, now()));
                }
            }
        }
        for (pair, (state, since)) in &self.current {
            assert_ne!(*state, State::Left, "{pair:?}");
            if *state == State::Dead {
                self.longest_dead = self.longest_dead.max(since.elapsed());
                assert!(since.elapsed() < REFUTED_MAX, "{pair:?} dead for {:?}", since.elapsed());
            }
        }
    }
}

/// The members of a cluster in namespaces, and the network that is theirs.
struct Lossy {
    rust: Vec<Agent>,
    go: Vec<Peer>,
    net: Net,
}

impl Lossy {
    /// Members r1, r2, ... and then g's, formed before the first packet is lost.
    fn start(n_rust: u8, n_go: u8) -> Lossy {
        let mut lossy = Lossy { rust: Vec::new(), go: Vec::new(), net: Net::create() };
        let mut seeds = Vec::new();
        for host in 1..=n_rust + n_go {
            let (namespace, ip) = lossy.net.add_host(host);
            let (namespace, gossip) = (Some(namespace), SocketAddr::from((ip, 7947)));
            if host <= n_rust {
                seeds.push(gossip);
                let http = SocketAddr::from(([127, 0, 0, 1], 8080));
                let options =
                    AgentOptions { namespace, seeds: seeds.clone(), ..AgentOptions::default() };
                lossy.rust.push(Agent::start_at(&format!("r{host}"), gossip, http, options));
            } else {
                let options = PeerOptions { namespace, ..PeerOptions::default() };
                let mut peer = Peer::start_at(&format!("g{host}"), gossip, options);
                if !seeds.is_empty() {
                    peer.join(&seeds);
                }
                seeds.push(gossip);
                lossy.go.push(peer);
            }
        }
        await_all(&lossy.nodes(), JOIN_MAX);
        lossy
    }

    fn nodes(&self) -> Vec<&dyn Node> {
        let rust = self.rust.iter().map(|agent| agent as &dyn Node);
        rust.chain(self.go.iter().map(|peer| peer as &dyn Node)).collect()
    }

    /// Loses packets for so long, watches, and reports; `meanwhile` runs with each sample.
    fn watch(&self, during: Duration, mut meanwhile: impl FnMut()) {
        let means = self.net.lose(LOSS_PERCENT);
        let (start, mut sightings) = (now(), Sightings::default());
        while start.elapsed() < during {
            let sampled = now();
            sightings.sample(&self.nodes());
            meanwhile();
            std::thread::sleep(SAMPLE_INTERVAL.saturating_sub(sampled.elapsed()));
        }
        let lost = self.net.n_lost();
        println!(
            "{:?} with {LOSS_PERCENT} % loss by {means} ({lost} packets): {} suspicions, {} \
             deaths, the longest {:?}",
            start.elapsed(),
            sightings.n_suspicions,
            sightings.n_deaths,
            sightings.longest_dead,
        );
        assert!(lost > 0, "no packet was lost, so nothing was shown");
    }
}

#[test]
fn a_mixed_cluster_lives_with_a_tenth_of_its_packets_lost() {
    needs!(Go, Namespaces);
    let lossy = Lossy::start(3, 3);
    let mut n_written = 0;
    lossy.watch(duration(), || {
        lossy.rust[n_written % 3].put(&format!("key-{n_written}"), "value");
        n_written += 1;
    });
    for agent in &lossy.rust {
        eventually("every write on every agent", SPREAD_MAX, || match agent.n_keys()? {
            n if n == n_written => Ok(()),
            n => Err(format!("{}: {n} of {n_written}", agent.name())),
        });
    }
    for peer in &lossy.go {
        assert_eq!(peer.messages(), Vec::<Vec<u8>>::new(), "{}: not its data", peer.name());
    }
}

#[test]
fn so_does_a_cluster_of_go_members_alone() {
    needs!(Go, Namespaces);
    // What the same network does to memberlist itself: the figures to compare with.
    Lossy::start(0, 6).watch(duration() / 2, || {});
}
