//! Versions side by side: real processes that speak other ranges of replication formats, rolled
//! from one version to the next and back while clients write.
//!
//! ```text
//! old    speaks 2            the version before ranges
//! now    speaks 2 and 3      this one
//! next   speaks 3 and 4      the feature `next-format`: a field that only format 4 has, a kind
//!                            that format 3 does not know
//! ```
//!
//! All three are played by one program, built with that feature. `GOSSIPYKV_OLD=PATH` and
//! `GOSSIPYKV_NOW=PATH` put other programs in the place of the first two.

#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the interop tests use all of it, this one what it needs"
)]
#[path = "../interop/harness/mod.rs"]
mod harness;
mod roll;
#[path = "../rolls/mod.rs"]
mod rolls;
#[path = "../rounds/mod.rs"]
mod rounds;
mod stuck;

use gossipykv::node::replication::message::{KvMessage, MessageError, Played};
use harness::{Agent, AgentOptions, Range, eventually};
use std::net::SocketAddr;
use std::time::Duration;

/// Another program, where the environment names one.
#[expect(clippy::disallowed_methods, reason = "the tests are told by the environment")]
fn setting(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// On a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A version of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Old,
    Now,
    Next,
}

impl Version {
    fn start(self, range: &Range, host: u8, seeds: Vec<SocketAddr>) -> Agent {
        Agent::start(range, host, self.options(seeds))
    }

    fn options(self, seeds: Vec<SocketAddr>) -> AgentOptions {
        let (variable, formats) = match self {
            Version::Old => ("GOSSIPYKV_OLD", "2"),
            Version::Now => ("GOSSIPYKV_NOW", "2-3"),
            Version::Next => ("GOSSIPYKV_NEXT", "3-4"),
        };
        let program = setting(variable).filter(|path| !path.is_empty());
        let env = vec![("GOSSIPYKV_PLAYED_FORMATS".to_owned(), formats.into())];
        AgentOptions { seeds, env, program, ..AgentOptions::default() }
    }
}

#[track_caller]
fn await_ready(agent: &Agent) {
    eventually("it is ready", PATIENCE, || agent.is_ready());
}

/// Agents of one version on the first hosts, all ready, and each knows of all.
fn cluster(version: Version, range: &Range, n: u8) -> Vec<Agent> {
    let seeds = |host| if host == 1 { vec![] } else { vec![range.gossip(1)] };
    let agents: Vec<Agent> = (1..=n).map(|host| version.start(range, host, seeds(host))).collect();
    for agent in &agents {
        await_ready(agent);
        eventually("all are members", PATIENCE, || {
            let members = agent.json("/members")?;
            let n_known = members["members"].as_array().map_or(0, Vec::len);
            if n_known == usize::from(n) { Ok(()) } else { Err(members.to_string()) }
        });
    }
    agents
}

#[test]
fn a_kind_is_not_read_in_a_format_before_the_one_that_brought_it() {
    let message = KvMessage::Played(Played { from: 7, format: 4 });
    let mut bytes = message.encode().to_vec();
    assert_eq!((bytes[1], KvMessage::decode(&bytes)), (3, Ok(message)));
    // It could not be passed on to those who read this format: nothing says it there.
    bytes[1] = 2;
    assert_eq!(KvMessage::decode(&bytes), Err(MessageError::Kind(bytes[2])));
}
