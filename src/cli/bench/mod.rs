//! `gossipykv bench`: how fast running nodes answer, as their clients see it.
//!
//! ```text
//! probe each node --> fill keys (for gets) --> put and get, timed --> delete what was written
//!                                              + put at one node, read at the next
//! ```
//!
//! Each client has a connection and one request on its way. A signal ends the measuring; what was
//! written is deleted and what was measured is told all the same.

mod load;
mod report;

use super::client::{Answer, Client, ServerFlags};
use super::failure::Failure;
use super::kv::list::Pages;
use super::server_url::ServerUrl;
use crate::limits::VALUE_LEN_HARD_MAX;
use crate::rng::Rng;
use crate::runtime::entropy;
use crate::runtime::signal::Signals;
use clap::Args;
use load::{Load, Plan};
use report::Report;
use serde::de::IgnoredAny;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const EXAMPLES: &str = "\
Examples:
  gossipykv bench                                10 s of puts and gets at the node of this machine
  gossipykv bench --requests 100000 --clients 64 --gets 90
  gossipykv bench --rate 2000 --seconds 60       2,000 a second, each timed from when it is due
  gossipykv bench --server 10.0.0.1 --node 10.0.0.2,10.0.0.3 --seconds 60 --json
                                                 three nodes, and how soon each shows what was
                                                 written at the one before it

Each client sends a request when it has the answer to the one before, so a node that is slow is
asked less often. With --rate requests are due at fixed times, whatever the node does, and timed
from then on: what waits for a client to be free has waited for the node. Keys lie under a prefix
of their own and are deleted at the end, by Ctrl-C, too.
It loads the nodes as much as it can: think twice before you run it where others work.";

/// Most clients, each of which is a thread and a connection.
const CLIENTS_MAX: i64 = 512;
/// Most keys, of each of which a byte is remembered.
const KEYS_MAX: i64 = 1_000_000;
/// Most requests a second.
const RATE_MAX: i64 = 1_000_000;
/// Most nodes.
const NODES_MAX: usize = 64;
/// How long it measures unless it is told.
const SECONDS: u64 = 10;

/// Measures how fast nodes answer.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    server: ServerFlags,
    /// A further node, driven as --server is; repeatable, or a list with commas
    #[arg(long = "node", value_name = "URL", value_delimiter = ',')]
    nodes: Vec<ServerUrl>,
    /// Clients at once, dealt out to the nodes, each with a connection of its own
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    clients: u32,
    /// How long to measure [default: 10, without --requests]
    #[arg(long, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// How many requests to measure; with --seconds whichever comes first
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// How many requests a second are due in all; give it clients enough for them
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=RATE_MAX))]
    rate: Option<u32>,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=VALUE_LEN_HARD_MAX as i64))]
    value_size: u32,
    /// Keys that are written and read, any of them as likely as any other
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=KEYS_MAX))]
    keys: u32,
    /// Of a hundred requests so many read; the others write
    #[arg(long, value_name = "PERCENT", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    gets: u32,
    /// What the keys begin with; none may be there yet [default: bench/ and a random number]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Begin though there are keys of that prefix: some may be overwritten, and deleted at the end
    #[arg(long, requires = "prefix")]
    overwrite: bool,
    /// Leave the keys where they are
    #[arg(long)]
    keep: bool,
}

impl BenchArgs {
    /// Measures, cleans up, and prints what was measured.
    ///
    /// # Errors
    /// A node that cannot be asked or refuses, keys that are there already, and that requests
    /// failed, once everything has been told.
    pub(super) fn run(self) -> Result<(), Failure> {
        let nodes = self.probe()?;
        let (json, keep, gets) = (self.server.json, self.keep, self.gets);
        let plan = self.plan();
        let n_clients = plan.n_clients;
        let clients: Result<Vec<Client>, Failure> =
            (0..n_clients.max(nodes.len())).map(|i| self.client(nodes[i % nodes.len()])).collect();
        let load = Arc::new(Load::new(plan, clients?, nodes.len())?);
        let mut bench = Bench::start(n_clients + nodes.len())
            .map_err(|error| Failure::failed(error.to_string()))?;
        let measured = bench.measure(&load, gets > 0);
        // Not after a second signal, which asks for an end at once.
        let cleaned = match measured {
            Err(Failure::Signal(_)) => Ok(()),
            _ if keep => Ok(()),
            _ => bench.phase(&load, n_clients, Load::delete),
        };
        bench.runtime.shutdown_background();
        if let (Err(Failure::Signal(name)), _) | (_, Err(Failure::Signal(name))) =
            (&measured, &cleaned)
        {
            return Err(Failure::Signal(name));
        }
        Report::of(&load, keep).print(json)?;
        measured.and(cleaned).and(load.failure())
    }

    /// Asks every node whether it answers and knows nothing of the prefix; they come back as
    /// `None` for the one of `--server`.
    fn probe(&self) -> Result<Vec<Option<&ServerUrl>>, Failure> {
        let nodes: Vec<_> = std::iter::once(None).chain(self.nodes.iter().map(Some)).collect();
        if nodes.len() > NODES_MAX {
            return Err(Failure::usage(format!("--node: {} at most", NODES_MAX - 1)));
        }
        let prefix = self.prefix.as_deref().unwrap_or_default();
        if self.prefix.is_some() && (prefix.is_empty() || prefix.len() > load::PREFIX_LEN_MAX) {
            let most = load::PREFIX_LEN_MAX;
            return Err(Failure::usage(format!("--prefix: 1 to {most} bytes are possible")));
        }
        for node in &nodes {
            let client = self.client(*node)?;
            let page = Pages::new(&client, prefix, None, false).next::<IgnoredAny>()?;
            let is_empty = page.is_none_or(|items| items.is_empty());
            if self.prefix.is_some() && !self.overwrite && !is_empty {
                return Err(Failure::failed(format!(
                    "{client}: there are keys that begin with {prefix:?}; --overwrite begins all \
                     the same"
                )));
            }
        }
        Ok(nodes)
    }

    /// A client for the node of `--server`, which is `None`, or another.
    fn client(&self, node: Option<&ServerUrl>) -> Result<Client, Failure> {
        node.map_or_else(|| self.server.client(), |url| self.server.client_of(url))
    }

    fn plan(&self) -> Plan {
        let prefix = self.prefix.clone();
        let seconds = self.seconds.or(self.requests.is_none().then_some(SECONDS));
        Plan {
            prefix: prefix.unwrap_or_else(|| format!("bench/{:016x}/", entropy::nonzero_u64())),
            n_clients: self.clients as usize,
            n_keys: self.keys as usize,
            value_len: self.value_size as usize,
            gets: self.gets as usize,
            requests: self.requests,
            rate: self.rate,
            limit: seconds.map(Duration::from_secs),
            wait: self.server.limit().min(Duration::from_secs(10)) / 2,
        }
    }
}

/// The threads of the clients, and the signals that end them.
struct Bench {
    runtime: Runtime,
    signals: Signals,
}

impl Bench {
    fn start(n_threads: usize) -> io::Result<Bench> {
        let runtime =
            Builder::new_current_thread().enable_all().max_blocking_threads(n_threads).build()?;
        let signals = runtime.block_on(async { Signals::listen() })?;
        Ok(Bench { runtime, signals })
    }

    fn measure(&mut self, load: &Arc<Load>, fills: bool) -> Result<(), Failure> {
        let n_clients = load.plan.n_clients;
        if fills {
            self.phase(load, n_clients, Load::fill)?;
        }
        load.begin();
        let n_pairs = if load.n_nodes > 1 { load.n_nodes } else { 0 };
        let seeds: Vec<u64> = (0..n_clients).map(|_| entropy::nonzero_u64()).collect();
        let done = self.phase(load, n_clients + n_pairs, move |load, index| {
            match seeds.get(index) {
                Some(seed) => load.work(index, &mut Rng::from_seed(*seed)),
                None => load.see(index - n_clients),
            }
            Ok(())
        });
        load.end();
        done
    }

    /// Runs `task` on so many threads, each with its index, and waits for all. The first signal
    /// has the load stop; a second one ends the wait.
    ///
    /// # Errors
    /// The first failure, or the second signal.
    fn phase(
        &mut self,
        load: &Arc<Load>,
        n_tasks: usize,
        task: impl Fn(&Load, usize) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Result<(), Failure> {
        let Bench { runtime, signals } = self;
        let task = Arc::new(task);
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for index in 0..n_tasks {
                let (load, task) = (Arc::clone(load), Arc::clone(&task));
                tasks.spawn_blocking(move || task(&load, index));
            }
            let mut first = Ok(());
            loop {
                tokio::select! {
                    ended = tasks.join_next() => match ended {
                        None => return first,
                        Some(Ok(ended)) => first = first.and(ended),
                        Some(Err(error)) => {
                            load.stop();
                            first = first.and(Err(Failure::failed(error.to_string())));
                        }
                    },
                    name = signals.next() => {
                        if load.stop() {
                            return Err(Failure::Signal(name));
                        }
                    }
                }
            }
        })
    }
}
