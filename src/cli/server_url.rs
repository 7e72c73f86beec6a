//! Where a server is, as the command line names it.

use crate::discovery::Families;
use crate::discovery::dns::Dns;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use ureq::http::Uri;

/// The port of a node that is named without a scheme.
const NODE_PORT: u16 = 8080;

/// `[http[s]://]HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerUrl {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_secure: bool,
    /// Without a slash at its end.
    pub(super) base: String,
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerUrl, String> {
        const WANTED: &str = "not http://HOST[:PORT] or https://HOST[:PORT]";
        let has_scheme = text.contains("://");
        let whole = if has_scheme { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|_| WANTED.to_owned())?;
        let is_secure = uri.scheme_str() == Some("https");
        let authority = uri.authority().ok_or(WANTED)?;
        let host = authority.host();
        // A port that is no number is left out of `port_u16` without a word.
        let rest = authority.as_str().strip_prefix(host).ok_or(WANTED)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or("no such port")?,
            None if rest.is_empty() && is_secure => 443,
            None if rest.is_empty() && has_scheme => 80,
            None if rest.is_empty() => NODE_PORT,
            None => return Err(WANTED.to_owned()),
        };
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let is_known = is_secure || uri.scheme_str() == Some("http");
        if !is_known || name.is_empty() || uri.query().is_some() {
            return Err(WANTED.to_owned());
        }
        let path = uri.path().trim_end_matches('/');
        // The port is always there, so that an error tells which one was tried.
        let base = format!("{}://{host}:{port}{path}", scheme(is_secure));
        Ok(ServerUrl { host: name.to_owned(), port, is_secure, base })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

fn scheme(is_secure: bool) -> &'static str {
    if is_secure { "https" } else { "http" }
}

impl ServerUrl {
    /// The server at an address; the one a node listens on may be "any", which is dialled as
    /// loopback.
    pub(super) fn at(mut addr: SocketAddr, is_secure: bool) -> ServerUrl {
        if addr.ip().is_unspecified() {
            addr.set_ip(match addr.ip() {
                IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        let (host, port) = (addr.ip().to_string(), addr.port());
        ServerUrl { host, port, is_secure, base: format!("{}://{addr}", scheme(is_secure)) }
    }

    /// Whether it is this machine by its address or its name.
    pub(super) fn is_loopback(&self) -> bool {
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        self.host.parse().map_or(self.host.eq_ignore_ascii_case("localhost"), is_loopback)
    }

    /// The host as a URL has it.
    pub(super) fn host_text(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    /// Every address of the host, without the C library's resolver, which a static binary lacks.
    pub(super) fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = self.host.parse() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let found = runtime.block_on(async {
            let dns = Dns::new(None, Families::BOTH).map_err(|error| error.to_string())?;
            dns.addresses(&self.host).await.map_err(|error| error.to_string())
        })?;
        let addresses = found.addresses.into_iter();
        Ok(addresses.map(|ip| SocketAddr::new(ip, self.port)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, u16, &str), &str>) {
        let url = text.parse::<ServerUrl>();
        let url = url.as_ref().map(|url| (&*url.host, url.port, &*url.base)).map_err(|e| &**e);
        assert_eq!(url, expected, "{text}");
    }

    #[test]
    fn server_urls() {
        check("http://127.0.0.1:8080", Ok(("127.0.0.1", 8080, "http://127.0.0.1:8080")));
        check("http://[::1]:8080/", Ok(("::1", 8080, "http://[::1]:8080")));
        check("localhost:8080", Ok(("localhost", 8080, "http://localhost:8080")));
        check("http://kv.example", Ok(("kv.example", 80, "http://kv.example:80")));
        check("http://kv.example/a/", Ok(("kv.example", 80, "http://kv.example:80/a")));
        check("10.0.0.1", Ok(("10.0.0.1", 8080, "http://10.0.0.1:8080")));
        check("kv.example/a", Ok(("kv.example", 8080, "http://kv.example:8080/a")));
        check("[::1]", Ok(("::1", 8080, "http://[::1]:8080")));
        let wanted = Err("not http://HOST[:PORT] or https://HOST[:PORT]");
        for wrong in ["", "http://", "ftp://a", "http://a?b", "http://u:p@a:1", "http://:80"] {
            check(wrong, wanted);
        }
        check("http://a:0", Err("no such port"));
        check("http://a:65536", Err("no such port"));
        check("https://kv.example/a", Ok(("kv.example", 443, "https://kv.example:443/a")));
        check("https://[::1]:8080", Ok(("::1", 8080, "https://[::1]:8080")));
    }

    #[test]
    fn a_listener_on_any_address_is_dialled_on_loopback() {
        for (listen, base) in [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:8080", "http://[::1]:8080"),
            ("10.0.0.5:8080", "http://10.0.0.5:8080"),
        ] {
            let listen = listen.parse().unwrap();
            assert_eq!(ServerUrl::at(listen, false).to_string(), base);
            let secure = base.replace("http:", "https:");
            assert_eq!(ServerUrl::at(listen, true).to_string(), secure);
        }
    }
}
