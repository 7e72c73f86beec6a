//! A small HTTP client that never resolves a name: it is told the addresses.

use std::net::SocketAddr;
use std::time::Duration;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, DefaultConnector, NextTimeout};

/// Addresses somebody else has resolved; at most the first sixteen are tried.
#[derive(Debug)]
struct Resolved(Vec<SocketAddr>);

impl Resolver for Resolved {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        for address in self.0.iter().take(16) {
            addresses.push(*address);
        }
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// A client for the server at `addresses`. Statuses of 400 and up are answers, not errors; no
/// proxy, no redirect, and `limit` bounds the whole exchange.
#[must_use]
pub fn client(addresses: Vec<SocketAddr>, limit: Duration) -> ureq::Agent {
    client_over(DefaultConnector::default(), addresses, limit)
}

/// The same over connections that somebody else makes.
#[must_use]
pub fn client_over(
    connector: impl Connector,
    addresses: Vec<SocketAddr>,
    limit: Duration,
) -> ureq::Agent {
    let config = Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(limit.min(Duration::from_secs(5))))
        .timeout_global(Some(limit))
        .user_agent(concat!("gossipykv/", env!("CARGO_PKG_VERSION")))
        .build();
    ureq::Agent::with_parts(config, connector, Resolved(addresses))
}
