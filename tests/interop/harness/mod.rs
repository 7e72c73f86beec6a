//! What the tests run clusters with: programs of others, our own agent, and ways to look at them.
//!
//! Every test works in a loopback range of its own ([`Range`]), so tests run side by side; every
//! child is killed and reaped when its handle goes; every wait has a deadline and ends at the
//! condition, not after a pause.

mod agent;
mod clock;
mod dns;
mod fake;
mod installed;
mod mixed;
mod namespace;
mod peer;
mod process;
mod range;
mod serf;
mod table;
mod trio;
mod weather;

pub use agent::{Agent, AgentOptions, BINARY, await_ready};
pub use clock::{eventually, hold, now};
pub use dns::Dns;
pub use fake::{Fake, Verify, open_stream, security};
pub use installed::{
    CLIENTS, CONSUL_CLIENTS, Need, available, libfaketime, long, scratch, seconds, setting,
};
pub use mixed::{JOIN_MAX, Mixed, MixedOptions, lan};
pub use namespace::{Net, in_namespace};
pub use peer::{Peer, PeerOptions, go_build};
pub use process::Process;
pub use range::{Range, free_ports};
pub use serf::{ANSWERING, Serf};
pub use table::{Node, State, await_all, cluster_of, hold_calm, tells_of_tcp_only};
pub use trio::Trio;
pub use weather::Weather;

/// Ends the test early when something it talks to is not installed; fails instead in CI.
macro_rules! needs {
    ($($need:ident),+) => {
        if !crate::harness::available(&[$(crate::harness::Need::$need),+]) {
            return;
        }
    };
}
pub(crate) use needs;
