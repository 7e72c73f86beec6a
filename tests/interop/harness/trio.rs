//! Three agents of ours, as most people will run them.

use super::agent::{Agent, AgentOptions};
use super::clock::eventually;
use super::mixed::JOIN_MAX;
use super::range::Range;
use super::table::{Node, await_all};
use std::time::Duration;

/// Agents r1, r2 and r3 that know each other by `--join`.
pub struct Trio {
    _range: Range,
    pub agents: Vec<Agent>,
}

impl Trio {
    /// Starts and joins them, each with these flags too.
    #[track_caller]
    pub fn start(flags: &[&str]) -> Trio {
        let range = Range::claim();
        let options = AgentOptions {
            seeds: [1, 2, 3].map(|host| range.gossip(host)).into(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            ..AgentOptions::default()
        };
        let agents: Vec<_> =
            [1, 2, 3].map(|host| Agent::start(&range, host, options.clone())).into();
        let trio = Trio { _range: range, agents };
        await_all(&trio.nodes(), JOIN_MAX);
        trio
    }

    /// All three.
    pub fn nodes(&self) -> Vec<&dyn Node> {
        self.agents.iter().map(|agent| agent as &dyn Node).collect()
    }

    /// Waits until each of these agents holds this value for the key, or nothing.
    #[track_caller]
    pub fn await_value(
        agents: &[Agent],
        key: &str,
        value: Option<&str>,
        within: Duration,
    ) -> Duration {
        let (_, took) = eventually("the value everywhere", within, || {
            agents.iter().try_for_each(|agent| agent.has(key, value))
        });
        took
    }
}
