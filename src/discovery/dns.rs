//! The resolver: hickory, with the defaults changed that would hurt discovery.
//!
//! - Nothing is cached: at first boot a cached "no such name" would stick for minutes.
//! - EDNS0 is on, so that an SRV answer of eight records fits one datagram; a truncated answer is
//!   asked for again over TCP.
//! - `/etc/resolv.conf` and `/etc/hosts` are read whenever a [`Dns`] is made, which is at every
//!   look. Without a `resolv.conf` (an image from scratch), `/etc/hosts` still counts.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as WireError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long one server may take to answer one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long resolving one name may take in all: retries, search list, TCP.
const NAME_TIMEOUT: Duration = Duration::from_secs(6);

/// Why a name gave no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// Not a name at all.
    #[error("not a DNS name")]
    BadName,
    /// The server says that the name does not exist.
    #[error("no such name")]
    NoName,
    /// The name exists, but not with a record of this type.
    #[error("no {0} record")]
    NoRecord(&'static str),
    /// There are SRV records, and none of their targets has an address.
    #[error("its {0} targets have no address")]
    NoAddress(usize),
    /// There are addresses, and none that can be dialled from where the node listens.
    #[error("its {0} addresses are of a family that --bind has not")]
    OtherFamily(usize),
    /// No server answered in time.
    #[error("no answer from the DNS server in time")]
    Timeout,
    /// No server is known, or the known one cannot be asked.
    #[error("{0}")]
    Failed(String),
}

impl DnsError {
    /// Whether DNS has answered, if only that there is nothing: not so when it could not be asked,
    /// was silent, or failed.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, DnsError::NoName | DnsError::NoRecord(_) | DnsError::NoAddress(_))
    }
}

/// What a source of addresses gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// All that it gave.
    pub addresses: BTreeSet<SocketAddr>,
    /// Why there is none, when DNS itself says so.
    pub nothing: Option<DnsError>,
    /// Why it gave no answer, or not all of one.
    pub failure: Option<DnsError>,
}

impl Answer {
    /// Leaves only addresses that can be dialled. Where none is left that is a failure: there are
    /// peers, if none to be reached.
    pub fn keep(&mut self, reaches: impl Fn(SocketAddr) -> bool) {
        let n_given = self.addresses.len();
        self.addresses.retain(|addr| reaches(*addr));
        if n_given > 0 && self.addresses.is_empty() {
            self.failure.get_or_insert(DnsError::OtherFamily(n_given));
        }
    }

    /// What is worth a line in the log: how many addresses, or why there are none.
    ///
    /// # Errors
    /// Why there are none.
    pub fn to_log(&self) -> Result<usize, DnsError> {
        match self.failure.as_ref().or(self.nothing.as_ref()) {
            Some(error) if self.addresses.is_empty() => Err(error.clone()),
            _ => Ok(self.addresses.len()),
        }
    }
}

impl<A: IntoIterator<Item = SocketAddr>> From<Result<A, DnsError>> for Answer {
    fn from(result: Result<A, DnsError>) -> Answer {
        match result {
            Ok(addresses) => {
                Answer { addresses: addresses.into_iter().collect(), ..Answer::default() }
            }
            Err(error) if error.is_answer() => Answer { nothing: Some(error), ..Answer::default() },
            Err(error) => Answer { failure: Some(error), ..Answer::default() },
        }
    }
}

/// One SRV record, reduced to what is dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The name to resolve.
    pub name: Name,
    /// The port its addresses are dialled on.
    pub port: u16,
}

/// A resolver over the configuration as it stands now. Cheap to make and to clone.
#[derive(Clone)]
pub struct Dns {
    resolver: TokioResolver,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dns")
    }
}

impl Dns {
    /// A resolver that asks `server`, or else the system's servers.
    ///
    /// # Errors
    /// [`DnsError::Failed`] when the system's configuration cannot be read.
    pub fn new(server: Option<SocketAddr>) -> Result<Dns, DnsError> {
        let mut builder = match server {
            Some(server) => {
                let provider = TokioRuntimeProvider::default();
                TokioResolver::builder_with_config(only(server), provider)
            }
            None => TokioResolver::builder_tokio().unwrap_or_else(|_| {
                let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
                TokioResolver::builder_with_config(nowhere, TokioRuntimeProvider::default())
            }),
        };
        adjust(builder.options_mut());
        let resolver = builder.build().map_err(|error| DnsError::Failed(error.to_string()))?;
        Ok(Dns { resolver })
    }

    /// Every address of a host: literal, from `/etc/hosts`, or A and AAAA from DNS.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        self.resolve(Name::from_str_relaxed(host).map_err(|_| DnsError::BadName)?).await
    }

    /// Every address of a name, A and AAAA.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn resolve(&self, name: Name) -> Result<Vec<IpAddr>, DnsError> {
        let lookup = tokio::time::timeout(NAME_TIMEOUT, self.resolver.lookup_ip(name)).await;
        let found = lookup.map_err(|_| DnsError::Timeout)?.map_err(|e| explain(&e, "A or AAAA"))?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() { Err(DnsError::NoRecord("A or AAAA")) } else { Ok(addresses) }
    }

    /// The targets of one SRV answer. Records that say "not here" (target `.`, port 0) are left
    /// out.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn targets(&self, name: Name) -> Result<Vec<Target>, DnsError> {
        let lookup = tokio::time::timeout(NAME_TIMEOUT, self.resolver.srv_lookup(name)).await;
        let found = lookup.map_err(|_| DnsError::Timeout)?.map_err(|e| explain(&e, "SRV"))?;
        let targets: Vec<Target> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) if srv.port != 0 && !srv.target.is_root() => {
                    Some(Target { name: srv.target.clone(), port: srv.port })
                }
                _ => None,
            })
            .collect();
        if targets.is_empty() { Err(DnsError::NoRecord("SRV")) } else { Ok(targets) }
    }
}

/// One server, asked over UDP and, for what does not fit, over TCP.
fn only(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn adjust(options: &mut ResolverOpts) {
    options.edns0 = true;
    options.try_tcp_on_error = true;
    options.timeout = ANSWER_TIMEOUT;
    options.attempts = 2;
    options.cache_size = 0;
    options.positive_max_ttl = Some(Duration::ZERO);
    options.negative_max_ttl = Some(Duration::ZERO);
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
}

/// Hickory's errors in words that stay the same from one look to the next.
fn explain(error: &NetError, record: &'static str) -> DnsError {
    match error {
        NetError::Dns(WireError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => DnsError::NoName,
            ResponseCode::NoError => DnsError::NoRecord(record),
            code => DnsError::Failed(format!("the DNS server says {code}")),
        },
        NetError::Dns(WireError::ResponseCode(code)) => {
            DnsError::Failed(format!("the DNS server says {code}"))
        }
        NetError::Timeout => DnsError::Timeout,
        NetError::NoConnections => DnsError::Failed("no DNS server answers".into()),
        other => DnsError::Failed(other.to_string()),
    }
}
