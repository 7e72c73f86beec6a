//! The resolver: hickory, with the defaults changed that would hurt discovery.
//!
//! - Nothing is cached: at first boot a cached "no such name" would stick for minutes.
//! - EDNS0 is on, so that an SRV answer of eight records fits one datagram; a truncated answer is
//!   asked for again over TCP.
//! - `/etc/resolv.conf` and `/etc/hosts` are read whenever a [`Dns`] is made, which is at every
//!   look. Without a `resolv.conf` (an image from scratch), `/etc/hosts` still counts.
//! - Servers are asked one after the other, in the order given. The first one that answers counts,
//!   with one exception: that there is nobody counts only when no server before it has failed. Who
//!   found a cluster on the word of a second server would do so wherever only the first one knows
//!   the name.
//! - A and AAAA are asked for separately, and so is each name that the search list makes of one.
//!   What failed beside what was found is told, too.

use super::Families;
use super::system::System;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as WireError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long one server may take to answer one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often each server is asked the same question, when none answers.
const ROUNDS: usize = 2;
/// How long resolving one name may take in all: retries, TCP. Each form that the search list makes
/// of it has half of that.
const NAME_TIMEOUT: Duration = Duration::from_secs(6);
/// For how many forms of a name there is time.
const FORMS_MAX: usize = 8;

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
    /// A record whose port is 0.
    #[error("its record has port 0")]
    NoPort,
    /// There are SRV records, and none of their targets has an address.
    #[error("its {0} targets have no address")]
    NoAddress(usize),
    /// There are addresses, and none that can be dialled from where the node listens.
    #[error("its {0} addresses are of a family that --bind has not")]
    OtherFamily(usize),
    /// No server answered in time.
    #[error("no answer from the DNS server in time")]
    Timeout,
    /// A server says that there is nothing, and one before it has failed.
    #[error("{0}")]
    Doubted(String),
    /// No server is known, or the known one cannot be asked.
    #[error("{0}")]
    Failed(String),
}

impl DnsError {
    /// Whether DNS has answered, if only that there is nothing: not so when it could not be asked,
    /// was silent, or failed.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, DnsError::NoName | DnsError::NoRecord(_))
    }
}

/// One SRV record, reduced to what is dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The name to resolve.
    pub name: Name,
    /// The port its addresses are dialled on; 0 is none.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// What a name came to: one address at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Every address that is known.
    pub addresses: Vec<IpAddr>,
    /// What failed on the way, so that there may be others.
    pub failure: Option<DnsError>,
    /// Which form of the name that the search list puts before this one has failed, so that the
    /// addresses may be somebody else's.
    pub doubt: Option<DnsError>,
}

impl From<Vec<IpAddr>> for Host {
    fn from(addresses: Vec<IpAddr>) -> Host {
        Host { addresses, failure: None, doubt: None }
    }
}

/// A resolver over the configuration as it stands now. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dns(Arc<Resolver>);

/// What the clones share.
struct Resolver {
    servers: Vec<Server>,
    system: System,
    hosts: Hosts,
    families: Families,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("system", &self.system).finish_non_exhaustive()
    }
}

/// One server, and whether it has been silent to a question of a kind: it is asked last then, so
/// that a dead one costs its time once.
struct Server {
    addr: Option<SocketAddr>,
    resolver: TokioResolver,
    silent: [AtomicBool; 3],
}

impl Server {
    /// # Errors
    /// [`DnsError::Failed`] when it cannot be made.
    fn new(addr: Option<SocketAddr>) -> Result<Server, DnsError> {
        let servers = addr.map(reached_at).into_iter().collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        adjust(builder.options_mut());
        let resolver = builder.build().map_err(|error| DnsError::Failed(error.to_string()))?;
        Ok(Server { addr, resolver, silent: Default::default() })
    }

    fn silent(&self, kind: RecordType) -> &AtomicBool {
        match kind {
            RecordType::A => &self.silent[0],
            RecordType::AAAA => &self.silent[1],
            _ => &self.silent[2],
        }
    }
}

impl Dns {
    /// A resolver that asks `server`, or else the system's servers, for a node that dials addresses
    /// of these families.
    ///
    /// # Errors
    /// [`DnsError::Failed`] when it cannot be made.
    pub fn new(server: Option<SocketAddr>, families: Families) -> Result<Dns, DnsError> {
        Dns::with(server.map_or_else(System::read, System::only), families)
    }

    /// The same over a configuration that has been read.
    ///
    /// # Errors
    /// The same.
    pub(super) fn with(system: System, families: Families) -> Result<Dns, DnsError> {
        let mut servers: Vec<Server> =
            system.servers.iter().map(|addr| Server::new(Some(*addr))).collect::<Result<_, _>>()?;
        if servers.is_empty() {
            // It still knows what `localhost` is.
            servers.push(Server::new(None)?);
        }
        // Without the file there are no hosts in it.
        let hosts = Hosts::from_system().unwrap_or_default();
        Ok(Dns(Arc::new(Resolver { servers, system, hosts, families })))
    }

    /// Every address of a host: literal, from `/etc/hosts`, or A and AAAA from DNS.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn addresses(&self, host: &str) -> Result<Host, DnsError> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip].into());
        }
        self.resolve(Name::from_str_relaxed(host).map_err(|_| DnsError::BadName)?).await
    }

    /// Every address of a name, A and AAAA, by the search list where it has no final dot.
    ///
    /// # Errors
    /// Why there is none. That one of several questions has failed weighs more than that the
    /// others were answered with nothing.
    pub async fn resolve(&self, name: Name) -> Result<Host, DnsError> {
        let n_forms = self.0.system.expansions(&name).len().clamp(2, FORMS_MAX);
        let limit = NAME_TIMEOUT / 2 * u32::try_from(n_forms).unwrap_or(2);
        let whole = tokio::time::timeout(limit, self.search(&name)).await;
        whole.unwrap_or(Err(DnsError::Timeout))
    }

    /// What `/etc/hosts` says of a name as it is, whatever the search list would make of it.
    fn listed(&self, name: &Name) -> Option<Host> {
        let mut name = name.clone();
        name.set_fqdn(true);
        let listed = |kind| self.0.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let listed = [RecordType::A, RecordType::AAAA].map(listed).into_iter().flatten();
        let data = listed.flat_map(|found| found.answers().to_vec()).map(|record| record.data);
        let addresses: Vec<IpAddr> = data.filter_map(|data| data.ip_addr()).collect();
        (!addresses.is_empty()).then(|| addresses.into())
    }

    async fn search(&self, name: &Name) -> Result<Host, DnsError> {
        if let Some(host) = self.listed(name) {
            return Ok(host);
        }
        let (mut failure, mut nothing) = (None, DnsError::NoName);
        let names = self.0.system.expansions(name);
        for (at, full) in names.iter().enumerate() {
            let found = tokio::time::timeout(NAME_TIMEOUT / 2, self.host(full)).await;
            match found.unwrap_or(Err(DnsError::Timeout)) {
                Ok(host) => return Ok(Host { doubt: failure, ..host }),
                Err(DnsError::NoName) => {}
                Err(error) if error.is_answer() => nothing = error,
                Err(error) if names.len() == 1 => return Err(error),
                Err(error) => {
                    let why = format!(
                        "{full}, {} of {} by the search list: {error}",
                        at + 1,
                        names.len()
                    );
                    failure.get_or_insert(DnsError::Failed(why));
                }
            }
        }
        Err(failure.unwrap_or(nothing))
    }

    /// The addresses of an absolute name.
    async fn host(&self, name: &Name) -> Result<Host, DnsError> {
        if let Some(host) = self.listed(name) {
            return Ok(host);
        }
        let of = async |kind| {
            let found = self.ask(name, kind).await?;
            let addresses: Vec<IpAddr> = found.iter().filter_map(RData::ip_addr).collect();
            if addresses.is_empty() { Err(DnsError::NoRecord(word(kind))) } else { Ok(addresses) }
        };
        let (ipv4, ipv6) = tokio::join!(of(RecordType::A), of(RecordType::AAAA));
        both(self.0.families, ipv4, ipv6)
    }

    /// The targets of one SRV answer. A record whose target is `.` says "not here" and is left out.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn targets(&self, name: Name) -> Result<Vec<Target>, DnsError> {
        let records = tokio::time::timeout(NAME_TIMEOUT, self.ask(&name, RecordType::SRV)).await;
        let records = records.unwrap_or(Err(DnsError::Timeout))?;
        let targets = records.iter().filter_map(|data| match data {
            RData::SRV(srv) if !srv.target.is_root() => {
                Some(Target { name: srv.target.clone(), port: srv.port })
            }
            _ => None,
        });
        let targets: Vec<Target> = targets.collect();
        if targets.is_empty() { Err(DnsError::NoRecord("SRV")) } else { Ok(targets) }
    }

    /// Asks one server after the other, those that have been silent last.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Vec<RData>, DnsError> {
        let servers = &self.0.servers;
        let mut failures: Vec<Option<DnsError>> = vec![None; servers.len()];
        for _ in 0..ROUNDS {
            let mut order = Vec::from_iter(servers.iter().enumerate());
            order.sort_by_key(|(_, server)| server.silent(kind).load(Ordering::Relaxed));
            for (at, server) in order {
                let error = match server.resolver.lookup(name.clone(), kind).await {
                    Ok(found) => {
                        return Ok(found.answers().iter().map(|r| r.data.clone()).collect());
                    }
                    Err(NetError::NoConnections) if server.addr.is_none() => {
                        return Err(DnsError::Failed(self.0.system.lacks.clone()));
                    }
                    Err(error) => explain(&error, word(kind)),
                };
                if error.is_answer() {
                    return Err(self.doubted(at, kind, &failures).unwrap_or(error));
                }
                if error == DnsError::Timeout {
                    server.silent(kind).store(true, Ordering::Relaxed);
                }
                failures[at] = Some(error);
            }
        }
        // What a server says tells more than that another one is silent.
        let mut failures = Vec::from_iter(failures.into_iter().flatten());
        failures.sort_by_key(|error| *error == DnsError::Timeout);
        Err(failures.into_iter().next().unwrap_or(DnsError::Timeout))
    }

    /// Why the word of this server, that there is nothing, does not count: one before it, which
    /// may know the name, has failed.
    fn doubted(
        &self,
        at: usize,
        kind: RecordType,
        failures: &[Option<DnsError>],
    ) -> Option<DnsError> {
        let mut before = self.0.servers[..at].iter().zip(failures);
        before.find_map(|(server, failure)| {
            let silent = || server.silent(kind).load(Ordering::Relaxed);
            let failure = failure.clone().or_else(|| silent().then_some(DnsError::Timeout))?;
            let (first, second) = (server.addr?.ip(), self.0.servers[at].addr?.ip());
            Some(DnsError::Doubted(format!(
                "the DNS server {second} knows nothing, and {first} before it has failed: {failure}"
            )))
        })
    }
}

/// What records of this type are called.
fn word(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        _ => "SRV",
    }
}

/// What the answers for both families come to.
fn both(
    families: Families,
    ipv4: Result<Vec<IpAddr>, DnsError>,
    ipv6: Result<Vec<IpAddr>, DnsError>,
) -> Result<Host, DnsError> {
    let failed = |of: &Result<_, DnsError>| of.as_ref().err().filter(|e| !e.is_answer()).cloned();
    let named = |kind: &str, error: DnsError| match error {
        doubted @ DnsError::Doubted(_) => doubted,
        other => DnsError::Failed(format!("for {kind}, {other}")),
    };
    let failures = [(families.ipv4, "A", failed(&ipv4)), (families.ipv6, "AAAA", failed(&ipv6))];
    if let [(.., Some(first)), (.., Some(second))] = &failures
        && first == second
    {
        return Err(first.clone());
    }
    let is_nobody = [&ipv4, &ipv6].iter().all(|of| **of == Err(DnsError::NoName));
    let addresses: Vec<IpAddr> = ipv4.into_iter().chain(ipv6).flatten().collect();
    let has_none = addresses.is_empty();
    // A family that cannot be dialled matters where no other has an address: there may be peers.
    // Whoever knows an address of the name is believed that it has none of the other family.
    let counts = |(is_reached, _, error): &(bool, &str, Option<DnsError>)| {
        has_none || *is_reached && !matches!(error, Some(DnsError::Doubted(_)))
    };
    let mut failures = failures.into_iter().filter(counts);
    let failure = failures.find_map(|(_, kind, error)| Some(named(kind, error?)));
    match failure {
        failure if !has_none => Ok(Host { failure, ..addresses.into() }),
        Some(failure) => Err(failure),
        None if is_nobody => Err(DnsError::NoName),
        None => Err(DnsError::NoRecord("A or AAAA")),
    }
}

/// A server, asked over UDP and, for what does not fit, over TCP.
fn reached_at(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.to_vec())
}

fn adjust(options: &mut ResolverOpts) {
    options.edns0 = true;
    options.try_tcp_on_error = true;
    options.timeout = ANSWER_TIMEOUT;
    // Asking again is done above, over all servers.
    options.attempts = 0;
    options.cache_size = 0;
    options.positive_max_ttl = Some(Duration::ZERO);
    options.negative_max_ttl = Some(Duration::ZERO);
    options.use_hosts_file = ResolveHosts::Never;
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

#[cfg(test)]
mod tests {
    use super::super::fake::{Says, at, dns, fails, no_name, nothing, server};
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const V4: Families = Families { ipv4: true, ipv6: false };

    /// One whose answers are these for one name, and that no other exists.
    async fn knows(name: &'static str, a: Says, aaaa: Says) -> SocketAddr {
        let says = move |asked: &str, kind| match kind {
            _ if asked != name => no_name(),
            RecordType::A => a.clone(),
            _ => aaaa.clone(),
        };
        server(says).await
    }

    async fn always(says: Says) -> SocketAddr {
        server(move |_, _| says.clone()).await
    }

    fn a(ip: &str) -> Says {
        at(RecordType::A, &[ip])
    }

    /// Addresses and failure, or the error.
    async fn resolve(dns: &Dns, name: &str) -> (Vec<String>, String) {
        let found = dns.resolve(Name::from_ascii(name).expect("a name")).await;
        let text = |error: DnsError| error.to_string();
        match found {
            Ok(Host { addresses, failure, doubt }) => (
                addresses.iter().map(ToString::to_string).collect(),
                failure.or(doubt).map(text).unwrap_or_default(),
            ),
            Err(error) if error.is_answer() => (vec![], text(error)),
            Err(error) => (vec![], format!("failed: {error}")),
        }
    }

    #[track_caller]
    fn check((addresses, why): (Vec<String>, String), expected: &[&str], says: &str) {
        assert_eq!(addresses, expected, "{why}");
        assert!(if says.is_empty() { why.is_empty() } else { why.contains(says) }, "{why}");
    }

    #[tokio::test]
    async fn servers_are_asked_in_their_order() {
        let slow = server(|_, kind| Says::Late(Box::new(at(kind, &["10.0.0.1"]))));
        let (knows, knows_not) = (slow.await, always(no_name()).await);
        let both = |servers: &[SocketAddr]| dns(servers, "", Families::BOTH);
        check(resolve(&both(&[knows, knows_not]), "kv.").await, &["10.0.0.1"], "");
        check(resolve(&both(&[knows_not, knows]), "kv.").await, &[], "no such name");
        // One that fails is none that has answered.
        for first in [fails(), Says::Code(ResponseCode::Refused), Says::Silence] {
            let first = always(first).await;
            check(resolve(&both(&[first, knows]), "kv.").await, &["10.0.0.1"], "");
        }
    }

    #[tokio::test]
    async fn nobody_is_believed_only_when_no_server_before_has_failed() {
        let (failing, silent) = (always(fails()).await, always(Says::Silence).await);
        let nobody = always(no_name()).await;
        let both = |servers: &[SocketAddr]| dns(servers, "", Families::BOTH);
        let says = "failed: the DNS server 127.0.0.1 knows nothing, and 127.0.0.1 before it";
        check(resolve(&both(&[failing, nobody]), "kv.").await, &[], says);
        let dns = both(&[silent, nobody]);
        check(resolve(&dns, "kv.").await, &[], says);
        // It is asked last now, and its silence still counts.
        check(resolve(&dns, "kv.").await, &[], "no answer from the DNS server in time");
        check(resolve(&both(&[nobody, failing]), "kv.").await, &[], "no such name");
    }

    #[tokio::test]
    async fn a_dead_server_costs_its_time_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let silent = server(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            Says::Silence
        });
        let (silent, knows) = (silent.await, server(|_, kind| at(kind, &["10.0.0.1"])).await);
        let dns = dns(&[silent, knows], "a b c d", V4);
        check(resolve(&dns, "kv.").await, &["10.0.0.1"], "");
        let before = asked.load(Ordering::Relaxed);
        for _ in 0..5 {
            check(resolve(&dns, "kv.").await, &["10.0.0.1"], "");
        }
        assert_eq!((before > 0, asked.load(Ordering::Relaxed)), (true, before));
    }

    #[tokio::test]
    async fn one_name_of_the_search_list_that_fails_is_a_failure() {
        let of = |says: Says| knows("kv.ns.svc.", says.clone(), says);
        let search = "ns.svc svc local";
        let failing = dns(&[of(fails()).await], search, V4);
        let says =
            "failed: kv.ns.svc., 1 of 4 by the search list: the DNS server says Server Failure";
        check(resolve(&failing, "kv").await, &[], says);
        let empty = dns(&[of(nothing()).await], search, V4);
        check(resolve(&empty, "kv").await, &[], "no A or AAAA record");
        check(resolve(&empty, "other").await, &[], "no such name");
        // Another that the list leads to may be somebody else.
        let wild = |asked: &str, _: RecordType| match asked {
            "kv.ns.svc." => fails(),
            "kv.svc." => a("10.0.0.9"),
            _ => no_name(),
        };
        let wild = dns(&[server(wild).await], search, V4);
        check(resolve(&wild, "kv").await, &["10.0.0.9"], "kv.ns.svc., 1 of 4 by the search");
    }

    #[tokio::test]
    async fn a_name_in_etc_hosts_is_asked_of_nobody() {
        // DNS was asked for the forms of the search list before.
        for says in [fails(), a("10.0.0.9"), Says::Silence] {
            let mut dns = dns(&[always(says).await], "corp.lan", V4);
            let resolver = Arc::get_mut(&mut dns.0).expect("no clone yet");
            resolver.hosts = Hosts::default();
            resolver.hosts.read_hosts_conf(&b"10.0.0.2 node2\n"[..]).expect("hosts");
            check(resolve(&dns, "node2").await, &["10.0.0.2"], "");
        }
    }

    #[tokio::test]
    async fn each_family_counts_by_itself() {
        let v6 = || at(RecordType::AAAA, &["2001:db8::1"]);
        let why = "the DNS server says Server Failure";
        for (ipv4, ipv6, families, addresses, says) in [
            (a("10.0.0.1"), nothing(), Families::BOTH, &["10.0.0.1"][..], ""),
            (a("10.0.0.1"), fails(), V4, &["10.0.0.1"], ""),
            (a("10.0.0.1"), fails(), Families::BOTH, &["10.0.0.1"], "for AAAA, the DNS server"),
            (fails(), v6(), V4, &["2001:db8::1"], "for A, the DNS server"),
            (a("10.0.0.1"), v6(), V4, &["10.0.0.1", "2001:db8::1"], ""),
            // There may be peers of the other family.
            (nothing(), fails(), V4, &[], "failed: for AAAA, the DNS server"),
            (fails(), no_name(), Families::BOTH, &[], "failed: for A, the DNS server"),
            (fails(), fails(), V4, &[], &format!("failed: {why}")),
            (nothing(), no_name(), V4, &[], "no A or AAAA record"),
            (no_name(), no_name(), V4, &[], "no such name"),
        ] {
            let server = knows("kv.", ipv4.clone(), ipv6.clone()).await;
            let found = resolve(&dns(&[server], "", families), "kv.").await;
            println!("{ipv4:?} {ipv6:?}: {found:?}");
            check(found, addresses, says);
        }
    }

    #[tokio::test]
    async fn without_a_server_it_says_why() {
        let dns = dns(&[], "", V4);
        check(resolve(&dns, "kv.").await, &[], "no DNS server: /etc/resolv.conf names none");
        let localhost = resolve(&dns, "localhost").await.0;
        assert!(localhost.contains(&"127.0.0.1".to_owned()), "{localhost:?}");
    }
}
