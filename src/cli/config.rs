//! The many flags of `agent`: read, checked, and complained about all at once.
//!
//! ```text
//!   flag  >  environment variable  >  default        then  parse  ->  AgentConfig
//!                                                          or every problem, one line each
//! ```
//!
//! clap finds the texts and tells where each came from; it parses none of them, since it would
//! stop at the first that is wrong.

use super::files::{self, Kind};
use super::front::{Front, FrontFlags};
use super::logging::{LogConfig, LogFormat};
use super::parse::{self, Advertise};
use super::reader::Reader;
use crate::discovery::{Seed, SrvName};
use crate::limits::VALUE_LEN_HARD_MAX;
use crate::wire::keyring::Keyring;
use clap::{ArgMatches, Args};
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Holds keys themselves, for platforms that hand out secrets as variables.
pub(super) const KEYS_VARIABLE: &str = "GOSSIPYKV_ENCRYPT_KEYS";
/// The Go original's name for what is `GOSSIPYKV_DISCOVER_SRV` here.
pub(super) const SRV_VARIABLE: &str = "SERVICE_DISCOVERY_HOST";
/// What many programs call it.
pub(super) const LOG_LEVEL_VARIABLE: &str = "LOG_LEVEL";

/// From what a test can wait for to what nobody waits for.
const GRACE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 60 * 60);
/// Up to more than any supervisor waits before it kills.
const LEAVE_TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60 * 60);

/// The flags of `agent` as given.
#[derive(Debug, Args)]
pub(super) struct AgentFlags {
    /// Member name, unique in the cluster [default: ECS task metadata DockerId, else the host name]
    #[arg(long, value_name = "NAME", env = "GOSSIPYKV_NAME", hide_env_values = true)]
    name: Option<OsString>,

    /// Where to gossip, UDP and TCP on the same port; IPv6 as [::]:7947
    #[arg(long, value_name = "ADDR:PORT", env = "GOSSIPYKV_BIND", hide_env_values = true)]
    #[arg(default_value = "0.0.0.0:7947")]
    bind: OsString,

    /// What others dial [default: the ECS metadata address, else the bind address if it is a
    /// concrete one, else that of the route to the peers looked for, else that of the default
    /// route; the port of --bind]
    #[arg(long, value_name = "ADDR[:PORT]", env = "GOSSIPYKV_ADVERTISE", hide_env_values = true)]
    advertise: Option<OsString>,

    /// Where to serve the REST API
    #[arg(long, value_name = "ADDR:PORT", env = "GOSSIPYKV_HTTP", hide_env_values = true)]
    #[arg(default_value = "127.0.0.1:8080")]
    http: OsString,

    /// Where to find a peer; repeatable, in the environment separated by commas. Port 7947 unless
    /// given; names are resolved again at every try
    #[arg(long, value_name = "HOST[:PORT]", env = "GOSSIPYKV_JOIN", hide_env_values = true)]
    join: Vec<OsString>,

    /// DNS SRV record of the peers; the variable SERVICE_DISCOVERY_HOST serves as well
    #[arg(long, value_name = "NAME", env = "GOSSIPYKV_DISCOVER_SRV", hide_env_values = true)]
    discover_srv: Option<OsString>,

    /// DNS server to ask [default: the system's resolvers]
    #[arg(long, value_name = "ADDR:PORT", env = "GOSSIPYKV_DNS", hide_env_values = true)]
    dns: Option<OsString>,

    /// Timing presets, as memberlist's three: local, lan or wan
    #[arg(long, value_name = "PROFILE", env = "GOSSIPYKV_PROFILE", hide_env_values = true)]
    #[arg(default_value = "lan")]
    profile: OsString,

    /// Name of the cluster, checked on every packet and stream
    #[arg(long, value_name = "LABEL", env = "GOSSIPYKV_LABEL", hide_env_values = true)]
    #[arg(default_value = "")]
    label: OsString,

    /// Another label to take as ours while a cluster changes its own node by node; repeatable, in
    /// the environment separated by commas. An empty one stands for nodes without a label
    #[arg(long, value_name = "LABEL", env = "GOSSIPYKV_ACCEPT_LABEL", hide_env_values = true)]
    accept_label: Vec<OsString>,

    /// File of gossip keys, base64 of 16, 24 or 32 bytes, one a line: the first encrypts, all
    /// decrypt. The variable GOSSIPYKV_ENCRYPT_KEYS holds keys themselves, separated by commas
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_ENCRYPT_KEYS_FILE", hide_env_values = true)]
    encrypt_keys_file: Option<OsString>,

    /// Whether gossip must be encrypted to be heard; false while a cluster changes over
    #[arg(long, value_name = "BOOL", hide_env_values = true, default_value = "true")]
    #[arg(env = "GOSSIPYKV_GOSSIP_VERIFY_INCOMING")]
    gossip_verify_incoming: OsString,

    /// Whether our gossip is encrypted when there is a key; false while a cluster changes over
    #[arg(long, value_name = "BOOL", hide_env_values = true, default_value = "true")]
    #[arg(env = "GOSSIPYKV_GOSSIP_VERIFY_OUTGOING")]
    gossip_verify_outgoing: OsString,

    #[command(flatten)]
    front: FrontFlags,

    /// Longest value in bytes; longer ones get 413
    #[arg(long, value_name = "BYTES", env = "GOSSIPYKV_MAX_VALUE_BYTES", hide_env_values = true)]
    #[arg(default_value = "1048576")]
    max_value_bytes: OsString,

    /// Most bytes the store holds; a PUT past it gets 507 and changes nothing. auto: three eighths
    /// of the memory there is (a container's limit, or all), less 16 MiB. 0: no limit
    #[arg(long, value_name = "BYTES", env = "GOSSIPYKV_MAX_STORE_BYTES", hide_env_values = true)]
    #[arg(default_value = "auto")]
    max_store_bytes: OsString,

    /// Found a new cluster whatever discovery says, 3 s after it has answered, or after 60 s where
    /// it fails: for the first node of all, and for a disaster. Where a cluster is in reach the
    /// node joins it all the same
    #[arg(long, value_name = "BOOL", env = "GOSSIPYKV_BOOTSTRAP", hide_env_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "false")]
    bootstrap: OsString,

    /// Answer reads and conditional writes before the node is ready, from what it has got so far;
    /// without, they are 503 until then
    #[arg(long, value_name = "BOOL", hide_env_values = true, default_value = "false")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(env = "GOSSIPYKV_SERVE_WHILE_STARTING")]
    serve_while_starting: OsString,

    /// How long a delete is remembered at least
    #[arg(long, value_name = "DURATION", env = "GOSSIPYKV_TOMBSTONE_GRACE")]
    #[arg(hide_env_values = true, default_value = "24h")]
    tombstone_grace: OsString,

    /// How long a key that has expired is remembered; never longer than a delete, and less where
    /// over 25,000 have
    #[arg(long, value_name = "DURATION", env = "GOSSIPYKV_EXPIRED_GRACE")]
    #[arg(hide_env_values = true, default_value = "10m")]
    expired_grace: OsString,

    /// How long a stopping node serves on, not ready any more, until load balancers have noticed
    #[arg(long, value_name = "DURATION", env = "GOSSIPYKV_DRAIN_DELAY", hide_env_values = true)]
    #[arg(default_value = "0s")]
    drain_delay: OsString,

    /// How long a stopping node tells the others, after the drain delay; it ends at most 2 s later
    #[arg(long, value_name = "DURATION", env = "GOSSIPYKV_LEAVE_TIMEOUT", hide_env_values = true)]
    #[arg(default_value = "5s")]
    leave_timeout: OsString,

    /// What is logged to standard error: off, error, warn, info, debug or trace; the variable
    /// LOG_LEVEL serves as well [default: info]
    #[arg(long, value_name = "LEVEL", env = "GOSSIPYKV_LOG_LEVEL", hide_env_values = true)]
    log_level: Option<OsString>,

    /// How: text or json [default: text on a terminal, else json]
    #[arg(long, value_name = "FORMAT", env = "GOSSIPYKV_LOG_FORMAT", hide_env_values = true)]
    log_format: Option<OsString>,

    /// How often a line of the log tells how the node stands; 0s: never
    #[arg(long, value_name = "DURATION", hide_env_values = true, default_value = "60s")]
    #[arg(env = "GOSSIPYKV_STATUS_INTERVAL")]
    status_interval: OsString,
}

/// Timing presets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// One machine.
    Local,
    /// One site.
    Lan,
    /// Many sites.
    Wan,
}

/// A configuration of `agent` that makes sense in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgentConfig {
    /// `None`: see [`super::identity`].
    pub(super) name: Option<String>,
    pub(super) bind: SocketAddr,
    /// `None`: see [`super::identity`].
    pub(super) advertise: Option<Advertise>,
    pub(super) http: SocketAddr,
    pub(super) seeds: Vec<Seed>,
    pub(super) srv: Option<SrvName>,
    pub(super) dns: Option<SocketAddr>,
    pub(super) profile: Profile,
    pub(super) label: String,
    /// Taken beside it.
    pub(super) accepted_labels: Vec<String>,
    pub(super) keyring: Keyring,
    pub(super) verify_incoming: bool,
    pub(super) verify_outgoing: bool,
    pub(super) front: Front,
    pub(super) value_len_max: usize,
    /// In bytes; 0 for no limit.
    /// `None`: what the memory there is allows.
    pub(super) store_len_max: Option<u64>,
    pub(super) bootstrap: bool,
    pub(super) serves_while_starting: bool,
    pub(super) tombstone_grace: Duration,
    pub(super) expired_grace: Duration,
    pub(super) drain_delay: Duration,
    pub(super) leave_timeout: Duration,
    pub(super) log: LogConfig,
    pub(super) status_interval: Option<Duration>,
}

impl AgentFlags {
    /// The configuration these flags make. `matches` tells which came from the environment, and
    /// `variable` looks up the variables that are no flag's.
    ///
    /// # Errors
    /// Everything that is wrong, one line each, in the order of the flags.
    pub(super) fn check(
        self,
        matches: &ArgMatches,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<AgentConfig, Vec<String>> {
        let mut reader = Reader::new(matches);
        let config = reader.agent(self, &variable);
        reader.end(config)
    }
}

impl Reader<'_> {
    /// Everything is read before anything that is missing ends it.
    fn agent(
        &mut self,
        flags: AgentFlags,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Option<AgentConfig> {
        const PROFILES: [(&str, Profile); 3] =
            [("local", Profile::Local), ("lan", Profile::Lan), ("wan", Profile::Wan)];
        let value_lens = 1..=VALUE_LEN_HARD_MAX as u64;
        let name = self.optional("name", flags.name.as_deref(), parse::node_name);
        let bind = self.value("bind", &flags.bind, parse::gossip_addr);
        let advertise = self.optional("advertise", flags.advertise.as_deref(), parse::advertise);
        let http = self.value("http", &flags.http, parse::socket_addr);
        let seeds = flags.join.iter().filter_map(|words| self.value("join", words, parse::seeds));
        let seeds = seeds.collect::<Vec<Vec<Seed>>>().concat();
        let srv = self.srv(flags.discover_srv, variable);
        let dns = self.optional("dns", flags.dns.as_deref(), parse::dns_server);
        let profile = self.value("profile", &flags.profile, |text| parse::choice(text, &PROFILES));
        let label = self.value("label", &flags.label, parse::label);
        let accepted_labels = self.accepted_labels(&flags.accept_label);
        let keyring = self.keyring(flags.encrypt_keys_file.as_deref(), variable);
        let verify_incoming =
            self.value("gossip_verify_incoming", &flags.gossip_verify_incoming, parse::boolean);
        let verify_outgoing =
            self.value("gossip_verify_outgoing", &flags.gossip_verify_outgoing, parse::boolean);
        let front = self.front(&flags.front, variable);
        let value_len_max = self.value("max_value_bytes", &flags.max_value_bytes, |text| {
            parse::number(text, value_lens.clone())
        });
        let store_len_max = self.value("max_store_bytes", &flags.max_store_bytes, |text| {
            parse::number_or_auto(text, 0..=u64::MAX)
        });
        let bootstrap = self.value("bootstrap", &flags.bootstrap, parse::boolean);
        let serves_while_starting =
            self.value("serve_while_starting", &flags.serve_while_starting, parse::boolean);
        let tombstone_grace = self
            .value("tombstone_grace", &flags.tombstone_grace, |text| parse::duration(text, GRACE));
        let expired_grace =
            self.value("expired_grace", &flags.expired_grace, |text| parse::duration(text, GRACE));
        let drain_delay = self
            .value("drain_delay", &flags.drain_delay, |text| parse::duration(text, LEAVE_TIMEOUT));
        let leave_timeout = self.value("leave_timeout", &flags.leave_timeout, |text| {
            parse::duration(text, LEAVE_TIMEOUT)
        });
        let log = self.log(flags.log_level, flags.log_format.as_deref(), variable);
        let status_interval =
            self.value("status_interval", &flags.status_interval, parse::interval);
        self.addresses(bind, advertise, http);
        Some(AgentConfig {
            name,
            bind: bind?,
            advertise,
            http: http?,
            seeds,
            srv,
            dns,
            profile: profile?,
            label: label?,
            accepted_labels,
            keyring,
            verify_incoming: verify_incoming?,
            verify_outgoing: verify_outgoing?,
            front: front?,
            value_len_max: usize::try_from(value_len_max?).ok()?,
            store_len_max: store_len_max?,
            bootstrap: bootstrap?,
            serves_while_starting: serves_while_starting?,
            tombstone_grace: tombstone_grace?,
            expired_grace: expired_grace?,
            drain_delay: drain_delay?,
            leave_timeout: leave_timeout?,
            log,
            status_interval: status_interval?,
        })
    }

    fn srv(
        &mut self,
        given: Option<OsString>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Option<SrvName> {
        match (given, variable(SRV_VARIABLE)) {
            (None, Some(name)) => {
                let source = format!("--discover-srv (from {SRV_VARIABLE})");
                self.parsed(&source, &name, parse::word)
            }
            (given, _) => self.optional("discover_srv", given.as_deref(), parse::word),
        }
    }

    /// A variable that is set to nothing accepts nothing: templates leave such behind.
    fn accepted_labels(&mut self, given: &[OsString]) -> Vec<String> {
        const ID: &str = "accept_label";
        let is_flag = self.is_on_command_line(ID);
        let given = given.iter().filter(|text| is_flag || !text.is_empty());
        given.filter_map(|text| self.value(ID, text, parse::labels)).flatten().collect()
    }

    /// The keys of the file or of the variable. A flag beats the variable; two variables that
    /// both name keys leave nobody sure which encrypt.
    fn keyring(
        &mut self,
        file: Option<&OsStr>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Keyring {
        const ID: &str = "encrypt_keys_file";
        let keys = variable(KEYS_VARIABLE).filter(|_| !self.is_on_command_line(ID));
        let ring = match (file, keys) {
            (Some(_), Some(_)) => {
                let source = self.source(ID);
                self.problem(&source, &format!("{KEYS_VARIABLE} is set too; give one"));
                None
            }
            (Some(_), None) => self.optional(ID, file, |path| {
                let text = files::secret(path, Kind::Regular)?;
                Keyring::parse(&text).map_err(|error| format!("{path:?}: {error}"))
            }),
            (None, Some(keys)) => {
                let source = format!("--encrypt-keys-file (from {KEYS_VARIABLE})");
                self.parsed(&source, &keys, |keys| {
                    Keyring::parse(keys).map_err(|error| error.to_string())
                })
            }
            (None, None) => None,
        };
        ring.unwrap_or_default()
    }

    fn log(
        &mut self,
        level: Option<OsString>,
        format: Option<&OsStr>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> LogConfig {
        const FORMATS: [(&str, LogFormat); 2] =
            [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let level = match (level, variable(LOG_LEVEL_VARIABLE)) {
            (None, Some(level)) => {
                let source = format!("--log-level (from {LOG_LEVEL_VARIABLE})");
                self.parsed(&source, &level, parse::log_level)
            }
            (level, _) => self.optional("log_level", level.as_deref(), parse::log_level),
        };
        let format = self.optional("log_format", format, |text| parse::choice(text, &FORMATS));
        LogConfig { level: level.unwrap_or(LevelFilter::INFO), format }
    }
}

#[cfg(test)]
pub(super) mod tests;
