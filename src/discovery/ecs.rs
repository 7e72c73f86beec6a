//! Who and where we are, as Amazon ECS tells a container: task metadata endpoint, version 4.
//!
//! `$ECS_CONTAINER_METADATA_URI_V4` names a plain HTTP endpoint on a link-local address. Of its
//! answer we use `DockerId`, unique per task, as the member name, and the address of the first
//! network as what others dial.

use super::fetch;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use ureq::http::Uri;

/// The variable that ECS sets in every container from platform version 1.4.
pub const URI_VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// How long one request may take; the endpoint is on the same host.
const LIMIT: Duration = Duration::from_secs(2);
/// Tries before we do without: the endpoint may come up after the container.
const TRIES: u32 = 3;
/// Largest answer we read, in bytes.
const ANSWER_LEN_MAX: u64 = 256 << 10;

/// What the metadata says about this container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// `DockerId`.
    pub name: String,
    /// First IPv4 address of the first network.
    pub ipv4: Option<Ipv4Addr>,
    /// First IPv6 address of the first network.
    pub ipv6: Option<Ipv6Addr>,
}

impl Metadata {
    /// The addresses that could be advertised, at most one of each family, the preferred first.
    pub fn addresses(&self, prefer_ipv6: bool) -> impl Iterator<Item = IpAddr> {
        let (v4, v6) = (self.ipv4.map(IpAddr::V4), self.ipv6.map(IpAddr::V6));
        let both = if prefer_ipv6 { [v6, v4] } else { [v4, v6] };
        both.into_iter().flatten()
    }
}

/// Why the metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EcsError {
    /// The variable holds no `http://IP[:PORT]/..`.
    #[error("{URI_VARIABLE} is not a plain http address: {0:?}")]
    Uri(String),
    /// No answer, or not in time.
    #[error("{URI_VARIABLE}: {0}")]
    Http(#[from] ureq::Error),
    /// Another status than 200.
    #[error("{URI_VARIABLE}: answered with status {0}")]
    Status(u16),
    /// Not the JSON we expect.
    #[error("{URI_VARIABLE}: answered with something else than task metadata: {0}")]
    Json(#[from] serde_json::Error),
}

/// Reads the metadata when the environment says that there is some.
///
/// # Errors
/// The last failure of several tries.
pub fn from_environment() -> Result<Option<Metadata>, EcsError> {
    let Some(uri) = std::env::var_os(URI_VARIABLE).filter(|uri| !uri.is_empty()) else {
        return Ok(None);
    };
    let uri = uri.to_string_lossy();
    let mut tries = 1;
    loop {
        match read(&uri) {
            Ok(metadata) => return Ok(Some(metadata)),
            Err(error @ EcsError::Uri(_)) => return Err(error),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => tries += 1,
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Reads the metadata at `uri`.
///
/// # Errors
/// See [`EcsError`].
pub fn read(uri: &str) -> Result<Metadata, EcsError> {
    let address = address(uri).ok_or_else(|| EcsError::Uri(uri.to_owned()))?;
    let mut answer = fetch::client(vec![address], LIMIT).get(uri).call()?;
    if answer.status() != 200 {
        return Err(EcsError::Status(answer.status().as_u16()));
    }
    let body = answer.body_mut().with_config().limit(ANSWER_LEN_MAX).read_to_vec()?;
    let container: Container = serde_json::from_slice(&body)?;
    let network = container.networks.into_iter().next().unwrap_or_default();
    Ok(Metadata {
        name: container.docker_id,
        ipv4: network.ipv4.iter().find_map(|ip| ip.parse().ok()),
        ipv6: network.ipv6.iter().find_map(|ip| ip.parse().ok()),
    })
}

/// The socket address of a URI whose host is literal.
fn address(uri: &str) -> Option<SocketAddr> {
    let uri: Uri = uri.parse().ok()?;
    if uri.scheme_str() != Some("http") {
        return None;
    }
    let ip = uri.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(SocketAddr::new(ip, uri.port_u16().unwrap_or(80)))
}

#[derive(Deserialize)]
struct Container {
    #[serde(rename = "DockerId")]
    docker_id: String,
    #[serde(rename = "Networks", default)]
    networks: Vec<Network>,
}

#[derive(Deserialize, Default)]
struct Network {
    #[serde(rename = "IPv4Addresses", default)]
    ipv4: Vec<String>,
    #[serde(rename = "IPv6Addresses", default)]
    ipv6: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, expected: Option<&str>) {
        assert_eq!(address(uri), expected.map(|text| text.parse().unwrap()), "{uri}");
    }

    #[test]
    fn only_plain_http_to_a_literal_address_is_asked() {
        check("http://169.254.170.2/v4/abc", Some("169.254.170.2:80"));
        check("http://[fd00:ec2::23]:8080/v4/abc", Some("[fd00:ec2::23]:8080"));
        check("https://169.254.170.2/v4/abc", None);
        check("http://metadata.example/v4/abc", None);
        check("169.254.170.2", None);
    }

    #[test]
    fn the_bind_family_decides_where_there_are_both() {
        let both = Metadata {
            name: "task".into(),
            ipv4: Some(Ipv4Addr::new(10, 0, 1, 2)),
            ipv6: "2001:db8::2".parse().ok(),
        };
        let shown = |metadata: &Metadata, prefer_ipv6| {
            metadata.addresses(prefer_ipv6).map(|ip| ip.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(shown(&both, false), ["10.0.1.2", "2001:db8::2"]);
        assert_eq!(shown(&both, true), ["2001:db8::2", "10.0.1.2"]);
        let v4 = Metadata { ipv6: None, ..both };
        assert_eq!(shown(&v4, true), ["10.0.1.2"]);
    }
}
