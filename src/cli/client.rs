//! What the client commands share: where the server is, how to ask it, what its errors say.

use super::failure::{Failure, one_line};
use super::front::TOKEN_VARIABLE;
use super::parse;
use super::reader::variable;
use crate::discovery::dns::Dns;
use crate::discovery::fetch;
use crate::http;
use clap::Args;
use std::fmt;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use ureq::http::{Method, Request, Response, StatusCode, Uri};

/// Where a node serves unless told otherwise.
pub(super) const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";
/// Most bytes of an error answer that are read.
const ERROR_LEN_MAX: u64 = 64 << 10;
/// Most bytes of a JSON answer: a page of a thousand values of the hard maximum is beyond it on
/// purpose, since it is held in memory as a whole.
const JSON_LEN_MAX: u64 = 256 << 20;

/// The flags of every command that talks to a node.
#[derive(Debug, Args)]
pub(super) struct ServerFlags {
    /// A node's REST API
    #[arg(long, value_name = "URL", env = "GOSSIPYKV_SERVER", hide_env_values = true)]
    #[arg(default_value = DEFAULT_SERVER, global = true)]
    server: ServerUrl,

    /// File of the server's token, if it wants one; the variable GOSSIPYKV_HTTP_TOKEN holds the
    /// token itself
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_HTTP_TOKEN_FILE", hide_env_values = true)]
    #[arg(global = true)]
    token_file: Option<PathBuf>,

    /// How long a whole request may take
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = timeout)]
    #[arg(global = true)]
    timeout: Duration,
}

impl ServerFlags {
    /// A client for the server. Its name is resolved now.
    ///
    /// # Errors
    /// No token in the file, no address behind the name.
    pub(super) fn client(self) -> Result<Client, Failure> {
        let token = match (&self.token_file, variable(TOKEN_VARIABLE)) {
            (Some(path), _) => {
                let text = parse::secret_file(path).and_then(|text| parse::bearer(&text));
                Some(text.map_err(|error| Failure::usage(format!("--token-file: {error}")))?)
            }
            (None, Some(token)) => {
                let text = token.to_str().ok_or_else(|| "not UTF-8".to_owned());
                let text = text.and_then(parse::bearer);
                Some(text.map_err(|error| Failure::usage(format!("{TOKEN_VARIABLE}: {error}")))?)
            }
            (None, None) => None,
        };
        Client::new(self.server, token, self.timeout)
    }

    /// The same for what not everybody may: without a token, a node on this host is asked for the
    /// secret of its local clients.
    ///
    /// # Errors
    /// The same, and a node that tells it to other users only.
    pub(super) fn admin_client(self) -> Result<Client, Failure> {
        let mut client = self.client()?;
        if client.token.is_none() {
            let told = http::local::ask(&client.addresses);
            client.token = told.map_err(|refusal| client.failure(&refusal))?;
        }
        Ok(client)
    }
}

/// A time limit of a request.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    parse::duration(text, Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60))
}

/// `[http://]HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerUrl {
    host: String,
    port: u16,
    /// Without a slash at its end.
    base: String,
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerUrl, String> {
        const WANTED: &str = "not http://HOST[:PORT]";
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|_| WANTED.to_owned())?;
        if uri.scheme_str() == Some("https") {
            return Err("https is for a proxy in front of a node; nodes speak http".to_owned());
        }
        let authority = uri.authority().ok_or(WANTED)?;
        let host = authority.host();
        // A port that is no number is left out of `port_u16` without a word.
        let rest = authority.as_str().strip_prefix(host).ok_or(WANTED)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or("no such port")?,
            None if rest.is_empty() => 80,
            None => return Err(WANTED.to_owned()),
        };
        let name = host.trim_start_matches('[').trim_end_matches(']');
        if uri.scheme_str() != Some("http") || name.is_empty() || uri.query().is_some() {
            return Err(WANTED.to_owned());
        }
        let path = uri.path().trim_end_matches('/');
        Ok(ServerUrl { host: name.to_owned(), port, base: format!("http://{authority}{path}") })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl ServerUrl {
    /// The server at an address; the one a node listens on may be "any", which is dialled as
    /// loopback.
    pub(super) fn at(mut addr: SocketAddr) -> ServerUrl {
        if addr.ip().is_unspecified() {
            addr.set_ip(match addr.ip() {
                IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        let (host, port) = (addr.ip().to_string(), addr.port());
        ServerUrl { host, port, base: format!("http://{addr}") }
    }

    /// Every address of the host, without the C library's resolver, which a static binary lacks.
    fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = self.host.parse() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let addresses = runtime.block_on(async {
            let dns = Dns::new(None).map_err(|error| error.to_string())?;
            dns.addresses(&self.host).await.map_err(|error| error.to_string())
        })?;
        Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect())
    }
}

/// One server and how to ask it.
pub(super) struct Client {
    agent: ureq::Agent,
    server: ServerUrl,
    /// Where its name leads.
    addresses: Vec<SocketAddr>,
    token: Option<String>,
    limit: Duration,
}

/// An answer, whatever its status.
pub(super) type Answer = Response<ureq::Body>;

impl Client {
    /// A client that gives up a request after `limit`.
    ///
    /// # Errors
    /// No address behind the name.
    pub(super) fn new(
        server: ServerUrl,
        token: Option<String>,
        limit: Duration,
    ) -> Result<Client, Failure> {
        let addresses =
            server.resolve().map_err(|error| Failure::failed(format!("{server}: {error}")))?;
        let agent = fetch::client(addresses.clone(), limit);
        Ok(Client { agent, server, addresses, token, limit })
    }

    /// Asks for `path`, which begins with a slash and is encoded.
    ///
    /// # Errors
    /// No answer.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(Method::GET, path, None, &[])
    }

    /// Sends a body.
    ///
    /// # Errors
    /// No answer.
    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Answer, Failure> {
        self.ask(method, path, content_type, body)
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// No answer.
    pub(super) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(Method::DELETE, path, None, &[])
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Answer, Failure> {
        let mut request =
            Request::builder().method(&method).uri(format!("{}{path}", self.server.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let has_body = method == Method::PUT || method == Method::POST;
        let answer = if has_body {
            let request = request.body(body).map_err(|error| self.failure(&error.to_string()))?;
            self.agent.run(request)
        } else {
            let request = request.body(()).map_err(|error| self.failure(&error.to_string()))?;
            self.agent.run(request)
        };
        answer.map_err(|error| self.failure(&self.explain(&error)))
    }

    /// What is wrong with a server that did not answer as it should.
    pub(super) fn failure(&self, problem: &str) -> Failure {
        Failure::failed(format!("{}: {problem}", self.server))
    }

    /// What went wrong below the answer.
    pub(super) fn explain(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(_) => {
                format!("no answer within {}", humantime::format_duration(self.limit))
            }
            other => other.to_string(),
        }
    }

    /// The answer when its status is a good one, or else the server's own words.
    ///
    /// # Errors
    /// The status and the text.
    pub(super) fn accept(&self, answer: Answer) -> Result<Answer, Failure> {
        if answer.status().is_success() { Ok(answer) } else { Err(self.refused(answer)) }
    }

    /// The failure an answer with a bad status means.
    pub(super) fn refused(&self, answer: Answer) -> Failure {
        let status = answer.status();
        let mut text = Vec::new();
        // What has been read before a failure still says more than the failure.
        let _ = answer.into_body().into_reader().take(ERROR_LEN_MAX).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        let said = serde_json::from_str::<ErrorBody>(&text).map(|body| body.error);
        let said = said.unwrap_or_else(|_| text.trim().to_owned());
        let status = status_line(status);
        if said.is_empty() {
            return self.failure(&status);
        }
        self.failure(&format!("{status}: {}", one_line(&said)))
    }

    /// The JSON of an answer.
    ///
    /// # Errors
    /// Not the JSON that is expected; `what` says what that is.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        answer: Answer,
        what: &str,
    ) -> Result<T, Failure> {
        let body = answer
            .into_body()
            .with_config()
            .limit(JSON_LEN_MAX)
            .read_to_vec()
            .map_err(|error| self.failure(&self.explain(&error)))?;
        serde_json::from_slice(&body)
            .map_err(|error| self.failure(&format!("the answer is not {what}: {error}")))
    }
}

#[derive(serde::Deserialize)]
struct ErrorBody {
    /// `/health` calls it a reason: it is none of its own errors.
    #[serde(alias = "why")]
    error: String,
}

fn status_line(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
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
        check("http://kv.example", Ok(("kv.example", 80, "http://kv.example")));
        check("http://kv.example/a/", Ok(("kv.example", 80, "http://kv.example/a")));
        let wanted = Err("not http://HOST[:PORT]");
        for wrong in ["", "http://", "ftp://a", "http://a?b", "http://u:p@a:1", "http://:80"] {
            check(wrong, wanted);
        }
        check("http://a:0", Err("no such port"));
        check("http://a:65536", Err("no such port"));
        check("https://a", Err("https is for a proxy in front of a node; nodes speak http"));
    }

    #[test]
    fn a_listener_on_any_address_is_dialled_on_loopback() {
        for (listen, base) in [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:8080", "http://[::1]:8080"),
            ("10.0.0.5:8080", "http://10.0.0.5:8080"),
        ] {
            assert_eq!(ServerUrl::at(listen.parse().unwrap()).to_string(), base);
        }
    }
}
