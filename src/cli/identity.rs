//! What a node calls itself and what others dial, when no flag says so.
//!
//! ```text
//!   name        --name        else ECS DockerId      else the host name
//!   advertise   --advertise   else the ECS address   else --bind if concrete
//!                                                    else that of the route to the seeds
//!                                                    else that of the default route
//! ```

use super::config::AgentConfig;
use super::failure::Failure;
use super::{parse, route};
use crate::discovery::ecs::{self, Metadata};
use crate::discovery::{self, Families, Seed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long DNS may take to tell where the peers are, before a route is chosen without.
const DNS_LIMIT: Duration = Duration::from_secs(2);

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
    let own_address = |ipv6| route::own_address(ipv6, &looked_for(config));
    let hint = || hint(config.bind, |ipv6| route::own_address(ipv6, &[]));
    let advertise = match advertise(config, metadata.as_ref(), own_address) {
        Some(advertise) => advertise,
        None if stays_here(config) => {
            tracing::warn!(
                "no route leads out, so nobody elsewhere can join; see --advertise{}",
                hint()
            );
            SocketAddr::new(loopback(config.bind), config.bind.port())
        }
        None => {
            let problem = "--advertise: neither the bind address nor a route tells which address \
                           others can dial; give it";
            return Err(Failure::failed(format!("{problem}{}", hint())));
        }
    };
    Ok(Identity { name, advertise })
}

/// What to do on a host that has IPv6 alone, when told to listen on IPv4.
fn hint(bind: SocketAddr, own_address: impl Fn(bool) -> Option<IpAddr>) -> String {
    let has_ipv6_alone = bind.is_ipv4() && own_address(true).is_some_and(|ip| ip.is_ipv6());
    if !has_ipv6_alone {
        return String::new();
    }
    let port = bind.port();
    format!(". This host has an IPv6 address and no route over IPv4: start with --bind [::]:{port}")
}

/// Addresses of the peers looked for. DNS is asked where it could make a difference: on a host with
/// several addresses, for peers that are given by name alone.
fn looked_for(config: &AgentConfig) -> Vec<IpAddr> {
    let literal: Vec<IpAddr> =
        config.seeds.iter().filter_map(Seed::literal).map(|addr| addr.ip()).collect();
    let ipv6 = config.bind.is_ipv6();
    let nowhere = config.seeds.is_empty() && config.srv.is_none();
    if !literal.is_empty() || nowhere || !route::has_choice(ipv6) {
        return literal;
    }
    let discovery = discovery::Config {
        seeds: config.seeds.clone(),
        srv: config.srv.clone(),
        dns: config.dns,
        own: None,
        bound: None,
    };
    let named = discovery::look_once(discovery, DNS_LIMIT).unwrap_or_else(|error| {
        tracing::warn!(%error, "the peers looked for could not be resolved beforehand");
        Vec::new()
    });
    let mut named: Vec<IpAddr> = named.into_iter().map(|addr| addr.ip()).collect();
    named.sort_by_key(|ip| ip.is_ipv6() != ipv6);
    named
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
    if let Some(metadata) = metadata {
        let heard = |ip: &IpAddr| Families::of(bind).has(*ip);
        if let Some(ip) = metadata.addresses(bind.is_ipv6()).find(heard) {
            return Some(with_port(ip));
        }
        if let Some(ip) = metadata.addresses(true).next() {
            tracing::warn!(%bind, address = %ip, "no address of the ECS metadata is listened on");
        }
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
    fn an_address_of_the_metadata_that_nobody_listens_on_is_not_advertised() {
        let both = Metadata {
            name: "task-1".to_owned(),
            ipv4: METADATA.parse().ok(),
            ipv6: "fd00::2".parse().ok(),
        };
        let (v4, v6) =
            (Metadata { ipv6: None, ..both.clone() }, Metadata { ipv4: None, ..both.clone() });
        for (bind, metadata, expected) in [
            ("0.0.0.0:5", &both, Some("10.0.1.2:5")),
            ("[::]:5", &both, Some("[fd00::2]:5")),
            ("[::]:5", &v4, Some("10.0.1.2:5")),
            ("[fd00::2]:5", &both, Some("[fd00::2]:5")),
            ("0.0.0.0:5", &v6, None),
            ("10.0.0.7:5", &v6, Some("10.0.0.7:5")),
            ("[fd00::2]:5", &v4, Some("[fd00::2]:5")),
        ] {
            let found = advertise(&config(&["--bind", bind]), Some(metadata), |_| None);
            assert_eq!(found, expected.map(|addr| addr.parse().unwrap()), "{bind} {metadata:?}");
        }
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
    fn a_host_with_ipv6_alone_is_told_how_to_listen() {
        let v6_alone = |ipv6| if ipv6 { "fd00::5".parse().ok() } else { None };
        let bind = |text: &str| text.parse().expect("an address");
        assert!(hint(bind("0.0.0.0:7947"), v6_alone).contains("--bind [::]:7947"));
        assert!(hint(bind("0.0.0.0:9"), v6_alone).contains("--bind [::]:9"));
        assert_eq!(hint(bind("[::]:9"), v6_alone), "");
        assert_eq!(hint(bind("0.0.0.0:7947"), |_| None), "");
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
