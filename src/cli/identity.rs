//! What a node calls itself and what others dial, when no flag says so.
//!
//! ```text
//!   name        --name        else ECS DockerId      else the host name
//!   advertise   --advertise   else the ECS address   else --bind if concrete
//!                                                    else that of the route others come by
//! ```

use super::config::AgentConfig;
use super::failure::Failure;
use super::{parse, route};
use crate::discovery::Seed;
use crate::discovery::ecs::{self, Metadata};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
    let advertise = match advertise(config, metadata.as_ref(), route::own_address) {
        Some(advertise) => advertise,
        None if stays_here(config) => {
            tracing::warn!("no route leads out, so nobody elsewhere can join; see --advertise");
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

/// The address others dial; `own_address` asks the routing table, for IPv6 first if told so.
fn advertise(
    config: &AgentConfig,
    metadata: Option<&Metadata>,
    own_address: impl Fn(bool) -> Option<IpAddr>,
) -> Option<SocketAddr> {
    let bind = config.bind;
    if let Some(advertise) = config.advertise {
        return Some(SocketAddr::new(advertise.ip, advertise.port.unwrap_or(bind.port())));
    }
    let with_port = |ip| SocketAddr::new(ip, bind.port());
    if let Some(ip) = metadata.and_then(|metadata| metadata.address(bind.is_ipv6())) {
        return Some(with_port(ip));
    }
    let bound = bind.ip().to_canonical();
    if bound.is_unspecified() {
        own_address(bind.is_ipv6()).map(with_port)
    } else {
        Some(with_port(bound))
    }
}

/// Whether loopback will do: there is nobody to look for, or somebody on this machine.
fn stays_here(config: &AgentConfig) -> bool {
    let mut literal = config.seeds.iter().filter_map(Seed::literal);
    let nobody = config.seeds.is_empty() && config.srv.is_none();
    nobody || literal.any(|addr| addr.ip().to_canonical().is_loopback())
}

fn loopback(bind: SocketAddr) -> IpAddr {
    match bind {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::tests::config;

    const METADATA: &str = "10.0.1.2";

    fn check(flags: &[&str], ecs: bool, expected: Option<&str>) {
        let metadata =
            Metadata { name: "task-1".to_owned(), ipv4: METADATA.parse().ok(), ipv6: None };
        let own_address = |ipv6| if ipv6 { "2001:db8::5".parse().ok() } else { None };
        let found = advertise(&config(flags), ecs.then_some(&metadata), own_address);
        assert_eq!(found, expected.map(|addr| addr.parse().unwrap()), "{flags:?}");
    }

    #[test]
    fn the_address_others_dial() {
        check(&["--advertise", "1.2.3.4"], true, Some("1.2.3.4:7947"));
        check(&["--advertise", "1.2.3.4:9"], true, Some("1.2.3.4:9"));
        check(&["--bind", "127.0.0.1:5"], true, Some("10.0.1.2:5"));
        check(&["--bind", "127.0.0.1:5"], false, Some("127.0.0.1:5"));
        check(&["--bind", "[::ffff:10.0.0.7]:5"], false, Some("10.0.0.7:5"));
        check(&["--bind", "[::]:7"], false, Some("[2001:db8::5]:7"));
        check(&[], false, None);
    }

    #[test]
    fn without_a_route_loopback_will_do_for_those_who_stay_on_the_machine() {
        for (flags, stays) in [
            (&[][..], true),
            (&["--join", "127.0.0.1"], true),
            (&["--join", "peer,[::1]:9"], true),
            (&["--join", "10.0.0.1"], false),
            (&["--discover-srv", "peers.example"], false),
        ] {
            assert_eq!(stays_here(&config(flags)), stays, "{flags:?}");
        }
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
}
