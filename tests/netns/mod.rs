//! A mixed cluster on a network that loses packets: members are suspected, and nobody stays dead.

use crate::harness::{
    Agent, AgentOptions, Net, Node, Peer, PeerOptions, State, Weather, await_all, eventually, long,
    needs, now, seconds,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const LOSS_PERCENT: u8 = 10;
/// A cluster forms before packets are lost.
const JOIN_MAX: Duration = Duration::from_secs(10);
/// How long a refutation takes. The word of a death goes out with every gossip round of 200 ms, to
/// the dead too; four rounds in which a tenth is lost reach all of six members, and so do four more
/// with the answer: 1.6 s. The rest is for a machine with much else to do.
const REFUTED_MAX: Duration = Duration::from_secs(5);
const SPREAD_MAX: Duration = Duration::from_secs(5);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);

/// A minute; with `GOSSIPYKV_LONG=1` half an hour, or as `GOSSIPYKV_LOSS_SECONDS` says.
fn duration() -> Duration {
    let long = long().then(|| seconds("GOSSIPYKV_LOSS_SECONDS").unwrap_or(30 * 60));
    Duration::from_secs(long.unwrap_or(60))
}

/// Who wrote a member: r1 is ours, g4 is Go's.
fn kind(name: &str) -> &'static str {
    if name.starts_with('r') { "ours" } else { "Go" }
}

/// Times that members of one kind held members of one kind in a state, and how long.
#[derive(Default)]
struct Spells {
    n: u32,
    total: Duration,
    longest: Duration,
}

/// What was seen of the members in each other's eyes.
#[derive(Default)]
struct Sightings {
    /// By observer and observed: the state, since when.
    current: BTreeMap<(String, String), (State, Instant)>,
    /// By state, kind of the observer and kind of the observed: what is over.
    spells: BTreeMap<(&'static str, &'static str, &'static str), Spells>,
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
                    if let Some((state, since)) = before {
                        println!("{} holds {} as {:?}", pair.0, pair.1, row.state);
                        self.end(state, &pair, since.elapsed());
                    }
                    self.current.insert(pair, (row.state, now()));
                }
            }
        }
        for (pair, (state, since)) in &self.current {
            assert_ne!(*state, State::Left, "{pair:?}");
            let held = since.elapsed();
            assert!(*state != State::Dead || held < REFUTED_MAX, "{pair:?} dead for {held:?}");
        }
    }

    fn end(&mut self, state: State, (observer, observed): &(String, String), held: Duration) {
        let state = match state {
            State::Suspect => "suspect",
            State::Dead => "dead",
            State::Alive | State::Left => return,
        };
        let spells = self.spells.entry((state, kind(observer), kind(observed))).or_default();
        spells.n += 1;
        spells.total += held;
        spells.longest = spells.longest.max(held);
    }

    fn report(&self) {
        for ((state, observer, observed), Spells { n, total, longest }) in &self.spells {
            let mean = *total / *n;
            println!(
                "{observed} held {state} by {observer}: {n} times, {mean:.1?} each, at most \
                 {longest:.1?}"
            );
        }
        if self.spells.is_empty() {
            println!("nobody was held suspect or dead");
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

    /// What the members themselves counted: also what was over before anybody looked.
    fn report_own_counts(&self) {
        for agent in &self.rust {
            let count = |name: &str| agent.metric(name).unwrap_or(f64::NAN);
            println!(
                "{}: began {} suspicions, {} were refuted, {} became deaths; refuted {} of itself",
                agent.name(),
                count("suspicions_total"),
                count("recoveries_total"),
                count("deaths_total"),
                count("refutes_total"),
            );
        }
        for peer in &self.go {
            let log = peer.events("log");
            let count = |text: &str| {
                log.iter().filter(|line| line["text"].as_str().unwrap_or("").contains(text)).count()
            };
            println!(
                "{}: began {} suspicions of its own, {} became deaths; refuted {} of itself",
                peer.name(),
                count("memberlist: Suspect "),
                count("memberlist: Marking "),
                count("memberlist: Refuting a "),
            );
        }
    }

    /// Loses packets for so long, watches, and reports; `meanwhile` runs with each sample.
    fn watch(&self, during: Duration, mut meanwhile: impl FnMut()) {
        let weather = Weather { loss_percent: LOSS_PERCENT, ..Weather::default() };
        let means = self.net.set(&weather);
        let (start, mut sightings) = (now(), Sightings::default());
        while start.elapsed() < during {
            let sampled = now();
            sightings.sample(&self.nodes());
            meanwhile();
            std::thread::sleep(SAMPLE_INTERVAL.saturating_sub(sampled.elapsed()));
        }
        let lost = self.net.n_lost();
        let took = start.elapsed();
        println!("{took:.0?} with {LOSS_PERCENT} % loss by {means}: {lost} packets lost");
        sightings.report();
        self.report_own_counts();
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
