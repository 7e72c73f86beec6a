//! A running node: what is started together, and ended together.

use super::alarm::Alarm;
use super::bridge::Front;
use super::clock::Clock;
use super::engine::{Engine, Machine};
use super::entropy;
use super::mailbox::{Mailbox, Post};
use super::sockets::Pair;
use super::tcp::{self, Limits, StreamsThread};
use super::threads::{self, Fault, Lifeline};
use super::udp::Udp;
use super::watchdog::{self, Watchdog};
use crate::discovery;
use crate::kv::Store;
use crate::node::command::{Bridge, Command, Look, Peer};
use crate::rng::Rng;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::Builder;
use tokio::sync::watch;

/// A node at work. Dropped, it stops; the others are not told, that is what
/// [`Command::Leave`] is for.
pub struct Agent {
    front: Arc<Front>,
    gossip_addr: SocketAddr,
    fault: Fault,
    engine: Option<JoinHandle<()>>,
    watchdog: Option<Watchdog>,
    streams: Option<StreamsThread>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("gossip_addr", &self.gossip_addr).finish_non_exhaustive()
    }
}

impl Agent {
    /// Starts the shell around a node. Returns when its threads run.
    pub(super) fn assemble<M: Machine>(
        machine: M,
        clock: Clock,
        store: Arc<Store>,
        pair: Pair,
        limits: Limits,
        pace: watchdog::Pace,
        discovery: discovery::Config,
    ) -> io::Result<Agent> {
        let fault = Fault::default();
        let (mailbox, post, reporter) = Mailbox::new(clock);
        let (to_streams, security) = watch::channel(machine.security());
        let (streams, streams_thread) =
            tcp::start(pair.tcp, limits, reporter, security, discovery.own, &fault)?;
        let mut agent = Agent {
            front: Arc::new(Front { post: post.clone(), store }),
            gossip_addr: pair.addr,
            fault: fault.clone(),
            engine: None,
            watchdog: None,
            streams: None,
        };
        let streams_thread = agent.streams.insert(streams_thread);
        let lifeline = Lifeline::new("the discovery task", &fault);
        streams_thread.handle().spawn(discover(discovery, post, lifeline));

        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (udp, alarm) = {
            let _entered = runtime.enter();
            (Udp::new(pair.udp)?, Alarm::new(clock)?)
        };
        let store = agent.front.store.clone();
        let engine = Engine::new(machine, store, mailbox, udp, alarm, streams, to_streams);
        let body = move || runtime.block_on(engine.run());
        agent.engine = Some(threads::spawn("gossip-engine", &fault, body)?);
        let shared = agent.front.post.shared.clone();
        agent.watchdog = Some(Watchdog::start(shared, pace, &fault)?);
        Ok(agent)
    }

    /// What the front of the house holds of the node.
    #[must_use]
    pub fn bridge(&self) -> Arc<dyn Bridge> {
        self.front.clone()
    }

    /// Where gossip listens, over UDP and TCP; the port is never 0.
    #[must_use]
    pub fn gossip_addr(&self) -> SocketAddr {
        self.gossip_addr
    }

    /// Waits, on any executor, until a thread or task of the node has died; for ever when all is
    /// well. The process must end then, with this message.
    pub fn failed(&self) -> impl Future<Output = String> + Send + 'static + use<> {
        self.fault.told()
    }

    /// Makes the engine take a turn.
    #[cfg(test)]
    pub(super) fn wake(&self) {
        self.front.post.shared.doorbell.force();
    }

    /// Stops at once: nothing is sent any more but what connections have already been handed,
    /// for which there is half a second. Blocks until all threads have ended.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.front.post.shared.stop();
        drop(self.watchdog.take());
        if let Some(engine) = self.engine.take() {
            // A panic has been told to the fault.
            let _ = engine.join();
        }
        if let Some(streams) = self.streams.take() {
            streams.stop();
        }
    }
}

/// Tells the node what discovery finds, for ever.
async fn discover(config: discovery::Config, post: Post, _lifeline: Lifeline) {
    let shared = post.shared.clone();
    let tell = move |found| {
        // Refused is counted, and the next look comes soon.
        let _ = post.send(command(found), Box::new(|_| {}));
    };
    let rng = Rng::from_seed(entropy::nonzero_u64());
    discovery::run(config, tell, move || shared.is_alone(), rng).await;
}

fn command(found: discovery::Found) -> Command {
    match found {
        discovery::Found::Early(addresses) => Command::Join(addresses),
        discovery::Found::Look(look) => Command::Look(Look {
            named: look.named,
            peers: look.peers.into_iter().map(peer).collect(),
            n_untried: look.n_untried,
            names_me: look.names_me,
            only_literal: look.only_literal,
            answered: look.failed.is_empty(),
            failed: look.failed,
        }),
    }
}

fn peer(peer: discovery::peers::Peer) -> Peer {
    let discovery::peers::Peer { addresses, n_ipv4, n_ipv6, names_me, unreachable } = peer;
    Peer { addresses, n_ipv4, n_ipv6, names_me, unreachable }
}
