//! `agent`: one node, from its flags to its end.

use super::config::{AgentConfig, AgentFlags, Profile};
use super::failure::Failure;
use super::identity::{self, Identity};
use super::logging::{self, Logging};
use super::reader::variable;
use super::serving::{self, Ending, Flags, Hangup, Serving, Watch};
use super::{settings, status};
use crate::discovery;
use crate::http::{Tls, Tokens};
use crate::node::formats::Formats;
use crate::runtime::{self, NodeSettings};
use crate::swim::config::Config as SwimConfig;
use crate::wire::packet::Security;
use clap::{ArgMatches, Args};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  gossipykv agent                                        the first node, on this machine
  gossipykv agent --join 10.0.0.5 --http 0.0.0.0:8080    one more, which joins the first
  gossipykv agent --discover-srv _kv._tcp.example.internal --encrypt-keys-file /run/gossip.keys

Every flag has an environment variable: GOSSIPYKV_ and the flag in capitals, with _ for -. Flags
win over variables, variables over defaults; an empty variable counts as not set.

SIGTERM and SIGINT: readiness turns 503, queued writes go to the peers, the node leaves, HTTP
finishes what is in flight. A second signal ends it at once. SIGHUP has files of tokens and
certificates read again, and ends nothing: a node outlives the terminal it was started in.";

/// Runs one node: it serves HTTP from its first moment and never gives up looking for peers.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct AgentArgs {
    #[command(flatten)]
    flags: AgentFlags,
}

impl AgentArgs {
    /// `unknown` are complaints about variables that nobody reads.
    pub(super) fn run(self, matches: &ArgMatches, unknown: Vec<String>) -> Result<(), Failure> {
        const FLAGS: Flags = Flags { gossip: "--bind", http: "--http" };
        let watch = Watch::begin(Hangup::ReadsAgain)?;
        let matches = matches.clone();
        let prepared = watch.prepare(move || self.prepare(&matches, unknown))?;
        let Some((mut watch, (config, identity, logging))) = prepared else { return Ok(()) };
        let (drain_delay, leave_timeout) = (config.drain_delay, config.leave_timeout);
        let mut http = serving::http_config(config.http);
        http.tokens = config.front.tokens.clone().map(Tokens::new);
        let tokens = http.tokens.clone().zip(config.front.tokens_file.clone());
        let certificate = config.front.tls.clone();
        let certificate = certificate.map(|(made, files)| (Tls::new(made), files));
        http.tls = certificate.as_ref().map(|(tls, _)| Arc::clone(tls));
        http.keys_on_loopback = config.front.keys_on_loopback;
        http.hosts = config.front.hosts.clone();
        http.cors_origins = config.front.cors_origins.clone();
        http.connections_max = config.front.connections_max;
        http.timing.idle = config.front.idle;
        http.consul_wait_max = config.front.consul_wait_max;
        http.consul_write_concern = config.front.consul_write_concern;
        http.value_len_max = config.value_len_max;
        http.serves_while_starting = config.serves_while_starting;
        http.log_lines_dropped = Arc::clone(&logging.dropped);
        if let Some((tokens, path)) = tokens {
            watch.reload(tokens, path)?;
        }
        if let Some((tls, files)) = certificate {
            watch.renew(tls, files)?;
        }
        let (name, interval) = (identity.name.clone(), config.status_interval);
        let node = Serving::start(gossip(config, identity), http, FLAGS)?;
        if let Some(interval) = interval {
            status::start(name, node.bridge(), interval, &logging.fault).map_err(|error| {
                Failure::failed(format!("cannot start the thread of the status lines: {error}"))
            })?;
        }
        watch.serve(vec![node], Ending { drain_delay, leave_timeout }, &logging.fault)
    }

    /// Everything that is settled before a port is opened, the log among it. It may take long:
    /// files are read, and others are asked.
    fn prepare(
        self,
        matches: &ArgMatches,
        unknown: Vec<String>,
    ) -> Result<(AgentConfig, Identity, Logging), Failure> {
        let config = match self.flags.check(matches, variable) {
            Ok(config) if unknown.is_empty() => config,
            Ok(_) => return Err(Failure::Usage(unknown)),
            Err(problems) => return Err(Failure::Usage([problems, unknown].concat())),
        };
        let logging = logging::start(config.log)?;
        serving::settle_in();
        let identity = identity::settle(&config)?;
        settings::collect(matches, &config, &identity, variable).tell();
        for warning in settings::warnings(matches, &config) {
            tracing::warn!("{warning}");
        }
        Ok((config, identity, logging))
    }
}

/// Least factor of how often a membership rumor is sent.
const RETRANSMIT_MULT_MIN: u32 = 8;

fn gossip(config: AgentConfig, identity: Identity) -> runtime::Config {
    let mut swim = match config.profile {
        Profile::Local => SwimConfig::local(),
        Profile::Lan => SwimConfig::lan(),
        Profile::Wan => SwimConfig::wan(),
    };
    // memberlist's four sends leave 5 % of rumors incomplete among 6 members and 11 % among 9,
    // without any loss; eight leave almost none. Peers cannot tell but by being told.
    swim.retransmit_mult = swim.retransmit_mult.max(RETRANSMIT_MULT_MIN);
    let security = Security {
        label: config.label.into(),
        accepted_labels: config.accepted_labels.into_iter().map(Into::into).collect(),
        keyring: config.keyring,
        verify_incoming: config.verify_incoming,
        verify_outgoing: config.verify_outgoing,
        ..Security::default()
    };
    let discovery = discovery::Config {
        seeds: config.seeds,
        srv: config.srv,
        dns: config.dns,
        own: Some(identity.advertise),
        bound: Some(config.bind),
    };
    let node = NodeSettings {
        name: identity.name.as_str().into(),
        advertise: identity.advertise,
        swim,
        security,
        tombstone_grace: config.tombstone_grace,
        expired_grace: config.expired_grace,
        bootstrap: config.bootstrap,
        formats: formats(),
        store_len_max: config.store_len_max.unwrap_or_else(limit_by_memory),
    };
    runtime::Config { bind: config.bind, node, discovery }
}

/// The limit of a store that follows from the memory there is; none where the system tells nothing.
fn limit_by_memory() -> u64 {
    let memory = runtime::memory::limit();
    let limit = memory.map_or(0, runtime::memory::store_len_max);
    tracing::info!(
        memory_bytes = memory,
        store_limit_bytes = limit,
        "the store is limited by memory"
    );
    limit
}

/// What this program speaks; where the next version is played, what it is told to.
fn formats() -> Formats {
    #[cfg(feature = "next-format")]
    if let Some(range) = std::env::var_os("GOSSIPYKV_PLAYED_FORMATS") {
        let range = range.to_str().and_then(Formats::parse);
        return range.expect("GOSSIPYKV_PLAYED_FORMATS is a range of formats, as 2-3");
    }
    Formats::SPOKEN
}
