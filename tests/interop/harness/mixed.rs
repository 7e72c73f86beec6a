//! A cluster of both kinds, and how long memberlist's rules let things take in it.

use super::agent::{Agent, AgentOptions};
use super::peer::{Peer, PeerOptions};
use super::range::Range;
use super::table::{Node, await_all};
use std::time::Duration;

/// All see all within this after the last join. Mostly it takes a second or two; but Go's members
/// tell a rumor four times only, which misses somebody in a few of a hundred joins, and then the
/// next push-pull, half a minute later, has to tell.
pub const JOIN_MAX: Duration = Duration::from_secs(35);

/// The address of the first Go member; ours are 1, 2, ...
const FIRST_GO_HOST: u8 = 11;

/// What a mixed cluster is made of.
#[derive(Clone)]
pub struct MixedOptions {
    pub n_rust: u8,
    pub n_go: u8,
    /// Whether the Go members compress.
    pub compress: bool,
    pub keys: Vec<String>,
    /// More flags of the Go members.
    pub go_flags: Vec<String>,
}

impl Default for MixedOptions {
    fn default() -> MixedOptions {
        MixedOptions { n_rust: 3, n_go: 3, compress: true, keys: Vec::new(), go_flags: Vec::new() }
    }
}

/// Agents r1, r2, ... and Go members g11, g12, ..., joined.
pub struct Mixed {
    pub range: Range,
    pub rust: Vec<Agent>,
    pub go: Vec<Peer>,
    /// From the first join by a Go member until all saw all.
    pub joined_after: Duration,
}

impl Mixed {
    /// Starts and joins them; every kind joins through the other and through its own.
    #[track_caller]
    pub fn start(options: &MixedOptions) -> Mixed {
        let range = Range::claim();
        let rust_options = AgentOptions {
            keys: options.keys.clone(),
            seeds: vec![range.gossip(1)],
            ..AgentOptions::default()
        };
        let rust: Vec<Agent> = (1..=options.n_rust)
            .map(|host| Agent::start(&range, host, rust_options.clone()))
            .collect();
        let go_options = PeerOptions {
            compress: options.compress,
            keys: options.keys.clone(),
            flags: options.go_flags.clone(),
            ..PeerOptions::default()
        };
        let mut go: Vec<Peer> = (0..options.n_go)
            .map(|at| Peer::start(&range, FIRST_GO_HOST + at, go_options.clone()))
            .collect();
        let start = super::clock::now();
        let mut seed = rust[0].gossip();
        for peer in &mut go {
            peer.join(&[seed]);
            seed = peer.gossip();
        }
        let mut mixed = Mixed { range, rust, go, joined_after: Duration::ZERO };
        await_all(&mixed.nodes(), JOIN_MAX.saturating_sub(start.elapsed()));
        mixed.joined_after = start.elapsed();
        mixed
    }

    /// All of them, ours first.
    pub fn nodes(&self) -> Vec<&dyn Node> {
        let rust = self.rust.iter().map(|agent| agent as &dyn Node);
        rust.chain(self.go.iter().map(|peer| peer as &dyn Node)).collect()
    }

    /// All but the one of this name.
    pub fn others(&self, name: &str) -> Vec<&dyn Node> {
        self.nodes().into_iter().filter(|node| node.name() != name).collect()
    }

    /// No program has logged an error, and no Go member has got bytes it has no use for.
    #[track_caller]
    pub fn assert_content(&self) {
        for agent in &self.rust {
            assert_eq!(agent.complaints(), Vec::<String>::new(), "{}", agent.name());
        }
        for peer in &self.go {
            assert_eq!(peer.complaints(), Vec::<String>::new(), "{}", peer.name());
            assert_eq!(peer.messages(), Vec::<Vec<u8>>::new(), "{}: not its data", peer.name());
            assert_eq!(peer.events("state"), Vec::<serde_json::Value>::new(), "{}", peer.name());
        }
    }
}

/// memberlist's bounds under its LAN preset, for fewer than ten members (reference, section 7).
pub mod lan {
    use std::time::Duration;

    /// Between two probes of one member.
    pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);
    /// The shortest suspicion: SuspicionMult x max(1, log10 n) x ProbeInterval.
    pub const SUSPICION_MIN: Duration = Duration::from_secs(4);
    /// For a loaded machine to run a timer and spread the word.
    pub const SLACK: Duration = Duration::from_secs(2);

    /// Every one of n members has probed a given other one: two passes in unlucky order.
    pub fn probed_by_all(n: u32) -> Duration {
        PROBE_INTERVAL * (2 * (n - 1) + 1)
    }

    /// A killed member is dead everywhere by then: with four or more left, two of them confirm a
    /// suspicion as soon as they have probed; with fewer it runs its shortest time at once.
    pub fn dead_within(n: u32) -> Duration {
        probed_by_all(n) + SUSPICION_MIN + SLACK
    }
}
