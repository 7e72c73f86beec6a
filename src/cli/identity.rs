//! What a node calls itself and what others dial, when no flag says so.
//!
//! ```text
//!   name        --name        else ECS DockerId      else the host name
//!   advertise   --advertise   else the ECS address   else --bind if concrete
//!                                                    else the route: to anywhere, or to a peer
//! ```

use super::config::AgentConfig;
use super::failure::Failure;
use super::parse;
use crate::discovery::Seed;
use crate::discovery::ecs::{self, Metadata};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// What is dialled to learn which address we would send from: documentation prefixes (RFC 5737,
/// RFC 3849), which only a default route covers. Nothing is ever sent.
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// Who and where a node is. A port of 0 stands for the one it gets when it binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) advertise: SocketAddr,
}

/// Settles both, asking ECS and the routing table for what the configuration leaves open.
///
/// # Errors
/// No name or no address to be found, and which flag gives it.
pub(super) fn settle(config: &AgentConfig) -> Result<Identity, Failure> {
    let metadata = if config.name.is_none() || config.advertise.is_none() {
        ecs::from_environment().unwrap_or_else(|error| {
            tracing::warn!(%error, "ECS task metadata is not to be had; going on without");
            None
        })
    } else {
        None
    };
    let name = name(config, metadata.as_ref())?;
    let advertise = match advertise(config, metadata.as_ref(), route) {
        Some(advertise) => advertise,
        None if config.seeds.is_empty() && config.srv.is_none() => {
            tracing::warn!(
                "no route leads anywhere, so nobody can join this node; see --advertise"
            );
            SocketAddr::new(loopback(config.bind), config.bind.port())
        }
        None => {
            let problem = "--advertise: neither the bind address nor a route tells which address \
                           others can dial; give it";
            return Err(Failure::failed(problem));
        }
    };
    Ok(Identity { name, advertise })
}

fn name(config: &AgentConfig, metadata: Option<&Metadata>) -> Result<String, Failure> {
    if let Some(name) = &config.name {
        return Ok(name.clone());
    }
    if let Some(metadata) = metadata {
        match parse::node_name(&metadata.name) {
            Ok(name) => return Ok(name),
            Err(error) => tracing::warn!(%error, "the DockerId of the ECS metadata is no name"),
        }
    }
    let host = rustix::system::uname();
    let host = host.nodename().to_str().map_err(|_| "not UTF-8".to_owned());
    host.and_then(parse::node_name)
        .map_err(|error| Failure::failed(format!("--name: the host name will not do: {error}")))
}

/// The address others dial; `route` tells which address we would send from.
fn advertise(
    config: &AgentConfig,
    metadata: Option<&Metadata>,
    route: impl Fn(IpAddr) -> Option<IpAddr>,
) -> Option<SocketAddr> {
    let bind = config.bind;
    if let Some(advertise) = config.advertise {
        return Some(SocketAddr::new(advertise.ip, advertise.port.unwrap_or(bind.port())));
    }
    let with_port = |ip| SocketAddr::new(ip, bind.port());
    if let Some(ip) = metadata.and_then(|metadata| metadata.address(bind.is_ipv6())) {
        return Some(with_port(ip));
    }
    if !bind.ip().is_unspecified() {
        return Some(bind);
    }
    let seeds = config.seeds.iter().filter_map(Seed::literal).map(|addr| addr.ip());
    let mut targets: Vec<IpAddr> = ANYWHERE.into_iter().chain(seeds).collect();
    // A socket bound to [::] hears IPv4 too; one bound to 0.0.0.0 does not hear IPv6.
    targets.retain(|ip| ip.is_ipv4() || bind.is_ipv6());
    targets.sort_by_key(|ip| ip.is_ipv4() && bind.is_ipv6());
    targets.into_iter().find_map(route).map(with_port)
}

fn loopback(bind: SocketAddr) -> IpAddr {
    match bind {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The address this machine sends from to `target`. Connecting a UDP socket only looks the route
/// up.
fn route(target: IpAddr) -> Option<IpAddr> {
    const DISCARD_PORT: u16 = 9;
    let any: IpAddr = match target {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((target, DISCARD_PORT)).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::tests::config;

    const METADATA: &str = "10.0.1.2";

    fn check(flags: &[&str], ecs: bool, routes: &[(&str, &str)], expected: Option<&str>) {
        let metadata =
            Metadata { name: "task-1".to_owned(), ipv4: METADATA.parse().ok(), ipv6: None };
        let route = |target: IpAddr| {
            let routes = routes.iter().find(|(to, _)| target == to.parse::<IpAddr>().unwrap());
            routes.map(|(_, from)| from.parse().unwrap())
        };
        let found = advertise(&config(flags), ecs.then_some(&metadata), route);
        assert_eq!(found, expected.map(|addr| addr.parse().unwrap()), "{flags:?}");
    }

    #[test]
    fn the_address_others_dial() {
        const V4: (&str, &str) = ("192.0.2.1", "10.0.0.5");
        const V6: (&str, &str) = ("2001:db8::1", "2001:db8::5");
        check(&["--advertise", "1.2.3.4"], true, &[V4], Some("1.2.3.4:7947"));
        check(&["--advertise", "1.2.3.4:9"], true, &[V4], Some("1.2.3.4:9"));
        check(&["--bind", "127.0.0.1:5"], true, &[V4], Some("10.0.1.2:5"));
        check(&["--bind", "127.0.0.1:5"], false, &[V4], Some("127.0.0.1:5"));
        check(&[], false, &[V4, V6], Some("10.0.0.5:7947"));
        check(&["--bind", "[::]:7"], false, &[V4, V6], Some("[2001:db8::5]:7"));
        check(&["--bind", "[::]:7"], false, &[V4], Some("10.0.0.5:7"));
        check(&[], false, &[V6], None);
        check(&["--join", "10.9.0.1"], false, &[("10.9.0.1", "10.9.0.7")], Some("10.9.0.7:7947"));
        check(&["--join", "peer.example"], false, &[], None);
    }

    #[test]
    fn the_name_of_a_node() {
        let metadata = |name: &str| Metadata { name: name.to_owned(), ipv4: None, ipv6: None };
        let given = config(&["--name", "one"]);
        assert_eq!(name(&given, Some(&metadata("task-1"))), Ok("one".to_owned()));
        assert_eq!(name(&config(&[]), Some(&metadata("task-1"))), Ok("task-1".to_owned()));
        let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
        assert_eq!(name(&config(&[]), None), Ok(host.clone()));
        assert_eq!(name(&config(&[]), Some(&metadata(""))), Ok(host));
    }

    #[test]
    fn the_route_to_loopback_leaves_from_loopback() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(route(loopback), Some(loopback));
    }
}
