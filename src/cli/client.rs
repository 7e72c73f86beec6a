//! What the client commands share: where the server is, how to ask it, what its errors say.

use super::failure::{Failure, one_line};
use super::files::{self, Kind};
use super::front::TOKEN_VARIABLE;
use super::parse;
use super::reader::variable;
use super::secure::{Objection, Secure, SecureConnector, Trusted, objection};
use super::server_url::ServerUrl;
use crate::discovery::fetch;
use crate::http;
use clap::Args;
use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use ureq::Timeout;
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::unversioned::transport::TcpConnector;

/// Where a node serves unless told otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
/// Where an agent of the same environment serves.
const HTTP_VARIABLE: &str = "GOSSIPYKV_HTTP";
/// The certificate of that agent, when it speaks TLS.
const CERTIFICATE_VARIABLE: &str = "GOSSIPYKV_HTTP_TLS_CERT";
/// Most bytes of an error answer that are read.
const ERROR_LEN_MAX: u64 = 64 << 10;
/// Most bytes of a JSON answer: a page of a thousand values of the hard maximum is beyond it on
/// purpose, since it is held in memory as a whole.
const JSON_LEN_MAX: u64 = 256 << 20;

/// How long a whole request may take unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The flags of every command that talks to a node: the same everywhere, of the same variables.
#[derive(Debug, Args)]
pub(super) struct ServerFlags {
    /// A node's REST API; port 8080 where there is neither a scheme nor a port [default: the port
    /// of GOSSIPYKV_HTTP on this machine, else http://127.0.0.1:8080]
    #[arg(long, value_name = "URL", env = "GOSSIPYKV_SERVER", hide_env_values = true)]
    #[arg(global = true)]
    server: Option<ServerUrl>,

    /// File of the server's token, if it wants one; the variable GOSSIPYKV_HTTP_TOKEN holds the
    /// token itself
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_HTTP_TOKEN_FILE", hide_env_values = true)]
    #[arg(global = true)]
    token_file: Option<PathBuf>,

    /// File of the CAs that the certificate of an https:// server may be signed by, PEM [default:
    /// the system's; of the agent of this environment its very certificate as well]
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_CA_FILE", hide_env_values = true)]
    #[arg(global = true)]
    ca_file: Option<PathBuf>,

    /// File of the certificate to show to a server that asks for one, PEM
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_CLIENT_CERT", hide_env_values = true)]
    #[arg(global = true)]
    client_cert: Option<PathBuf>,

    /// File of its private key, PEM, not encrypted
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_CLIENT_KEY", hide_env_values = true)]
    #[arg(global = true)]
    client_key: Option<PathBuf>,

    /// How long a whole request may take [default: 15s; of health 3s; of a connection of watch 10m]
    #[arg(long, value_name = "DURATION", value_parser = timeout, global = true)]
    timeout: Option<Duration>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl ServerFlags {
    /// A client for the server. Its name is resolved now.
    ///
    /// # Errors
    /// No token in the file, no address behind the name.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.client_within(self.limit())
    }

    /// The same for another server, which is trusted and shown what the flags say.
    ///
    /// # Errors
    /// As [`ServerFlags::client`].
    pub(super) fn client_of(&self, server: &ServerUrl) -> Result<Client, Failure> {
        Client::new(server.clone(), self.token()?, self.limit(), &self.trusted(false)?)
    }

    /// The same as `client`, with another limit than that of the flags.
    ///
    /// # Errors
    /// As [`ServerFlags::client`].
    pub(super) fn client_within(&self, limit: Duration) -> Result<Client, Failure> {
        let (url, is_own) = self.url()?;
        Client::new(url, self.token()?, limit, &self.trusted(is_own)?)
    }

    /// The same as `client` for what not everybody may: without a token, a node on this host is
    /// asked for the secret of its local clients.
    ///
    /// # Errors
    /// The same, and a node that tells it to other users only.
    pub(super) fn admin_client(&self) -> Result<Client, Failure> {
        let mut client = self.client()?;
        if client.token.is_none() {
            let told = http::local::ask(&client.addresses);
            client.token = told.map_err(|refusal| client.refusal(&refusal))?;
        }
        Ok(client)
    }

    /// A client for what needs no token, which takes `limit` unless a flag says otherwise.
    ///
    /// # Errors
    /// No address behind the name.
    pub(super) fn probe(&self, limit: Duration) -> Result<Client, Failure> {
        let (url, is_own) = self.url()?;
        let mut trusted = self.trusted(is_own)?;
        // Whoever answers on this machine will do: what is asked is no secret, and a certificate
        // that has expired is no reason to end a node.
        if trusted.ca_file.is_none() && (is_own || url.is_loopback()) {
            (trusted.own, trusted.anybody) = (None, true);
        }
        Client::new(url, None, self.limit_or(limit), &trusted)
    }

    /// Whom to trust, and what to show.
    fn trusted(&self, is_own: bool) -> Result<Trusted<'_>, Failure> {
        let is_given = |path: &&PathBuf| !path.as_os_str().is_empty();
        let [ca_file, cert, key] = [&self.ca_file, &self.client_cert, &self.client_key]
            .map(|path| path.as_ref().filter(is_given).map(PathBuf::as_path));
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(Failure::usage("--client-cert: give --client-key, too")),
            (None, Some(_)) => return Err(Failure::usage("--client-key: give --client-cert, too")),
        };
        let is_own = is_own && ca_file.is_none();
        let own = variable(CERTIFICATE_VARIABLE).filter(|_| is_own).map(PathBuf::from);
        Ok(Trusted { ca_file, identity, own, ..Trusted::default() })
    }

    /// How long a whole request may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit_or(TIMEOUT)
    }

    /// The same where it is `unless_told` when no flag says otherwise.
    pub(super) fn limit_or(&self, unless_told: Duration) -> Duration {
        self.timeout.unwrap_or(unless_told)
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let (source, token) = match (&self.token_file, variable(TOKEN_VARIABLE)) {
            (Some(path), _) => {
                let text = files::secret(path, Kind::Any);
                ("--token-file", text.and_then(|text| parse::bearer_of_file(&text)))
            }
            (None, Some(token)) => {
                let text = token.into_string().map_err(|_| "not UTF-8".to_owned());
                (TOKEN_VARIABLE, text.and_then(|text| parse::bearer(&text)))
            }
            (None, None) => return Ok(None),
        };
        token.map(Some).map_err(|error| Failure::usage(format!("{source}: {error}")))
    }

    /// The server told, else where the agent of the same environment serves, which is true then.
    fn url(&self) -> Result<(ServerUrl, bool), Failure> {
        if let Some(server) = &self.server {
            return Ok((server.clone(), false));
        }
        let is_secure = variable(CERTIFICATE_VARIABLE).is_some();
        let listen = variable(HTTP_VARIABLE).unwrap_or_else(|| DEFAULT_LISTEN.into());
        let listen = listen.to_str().ok_or_else(|| "not UTF-8".to_owned());
        let addr = listen.and_then(parse::socket_addr);
        let addr = addr.map_err(|error| Failure::usage(format!("{HTTP_VARIABLE}: {error}")))?;
        Ok((ServerUrl::at(addr, is_secure), true))
    }
}

/// A time limit of a request.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    parse::duration(text, Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60))
}

/// One server and how to ask it.
pub(super) struct Client {
    agent: ureq::Agent,
    /// Of the server; there is one at least.
    addresses: Vec<SocketAddr>,
    server: ServerUrl,
    token: Option<String>,
    limit: Duration,
    /// How long nothing may come of an answer.
    silence: Option<Duration>,
    secure: Option<Secure>,
}

/// The small HTTP client for a server that is none of ours.
///
/// # Errors
/// As [`Client::new`].
pub(super) fn agent(
    server: &ServerUrl,
    limit: Duration,
    trusted: &Trusted<'_>,
) -> Result<ureq::Agent, Failure> {
    connected(server, limit, trusted).map(|(agent, ..)| agent)
}

type Connected = (ureq::Agent, Vec<SocketAddr>, Option<Secure>);

fn connected(
    server: &ServerUrl,
    limit: Duration,
    trusted: &Trusted<'_>,
) -> Result<Connected, Failure> {
    let secure = match server.is_secure {
        true => Some(Secure::new(&server.host, trusted)?),
        false => None,
    };
    let addresses = addresses_of(server)?;
    Ok((agent_to(&addresses, limit, secure.as_ref()), addresses, secure))
}

fn addresses_of(server: &ServerUrl) -> Result<Vec<SocketAddr>, Failure> {
    server.resolve().map_err(|error| Failure::Unreachable(format!("{server}: {error}")))
}

fn agent_to(addresses: &[SocketAddr], limit: Duration, secure: Option<&Secure>) -> ureq::Agent {
    match secure.cloned() {
        None => fetch::client(addresses.to_owned(), limit),
        Some(secure) => {
            let connector = SecureConnector { secure, tcp: TcpConnector::default() };
            fetch::client_over(connector, addresses.to_owned(), limit)
        }
    }
}

/// What a connection of one's own needs to know of the server.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    /// Where it is; there is one at least.
    pub(super) addresses: Vec<SocketAddr>,
    /// What its paths begin with, without a slash at the end.
    pub(super) prefix: String,
    /// Header lines of every request.
    pub(super) headers: String,
    /// How long an answer may take.
    pub(super) limit: Duration,
    /// How to speak TLS, where that is spoken.
    pub(super) secure: Option<Secure>,
}

/// An answer, whatever its status.
pub(super) type Answer = Response<ureq::Body>;

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}

impl Client {
    /// A client that gives up a request after `limit`.
    ///
    /// # Errors
    /// No address behind the name.
    pub(super) fn new(
        server: ServerUrl,
        token: Option<String>,
        limit: Duration,
        trusted: &Trusted<'_>,
    ) -> Result<Client, Failure> {
        let (agent, addresses, secure) = connected(&server, limit, trusted)?;
        Ok(Client { agent, addresses, server, token, limit, silence: None, secure })
    }

    /// The same that gives up an answer of which nothing comes for so long, too.
    pub(super) fn with_silence(self, silence: Duration) -> Client {
        Client { silence: Some(silence), ..self }
    }

    /// Resolves the name of the server again, and forgets its connections: another machine may
    /// bear the name by now.
    ///
    /// # Errors
    /// No address behind the name; the client stays as it was.
    pub(super) fn look_up(&mut self) -> Result<(), Failure> {
        self.addresses = addresses_of(&self.server)?;
        self.agent = agent_to(&self.addresses, self.limit, self.secure.as_ref());
        Ok(())
    }

    /// Asks for `path`, which begins with a slash and is encoded.
    ///
    /// # Errors
    /// No answer.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(Method::GET, path, &[], None)
    }

    /// Sends a request with header lines of its own, and a body if there is one.
    ///
    /// # Errors
    /// No answer; a header that is none.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, Failure> {
        let mut request =
            Request::builder().method(&method).uri(format!("{}{path}", self.server.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let wrong = |error: ureq::http::Error| Failure::usage(error.to_string());
        let answer = match body {
            Some(body) => self.send(request.body(body).map_err(wrong)?),
            None => self.send(request.body(()).map_err(wrong)?),
        };
        answer.map_err(|error| self.no_answer(&error))
    }

    fn send(&self, request: Request<impl ureq::AsSendBody>) -> Result<Answer, ureq::Error> {
        let request = self.agent.configure_request(request).timeout_per_read(self.silence);
        self.agent.run(request.build())
    }

    /// What is wrong with a server that did not answer as it should.
    pub(super) fn failure(&self, problem: &str) -> Failure {
        Failure::failed(format!("{}: {problem}", self.server))
    }

    /// A server that gives no whole answer.
    pub(super) fn unreachable(&self, problem: &str) -> Failure {
        Failure::Unreachable(format!("{}: {problem}", self.server))
    }

    /// What went wrong below the answer.
    pub(super) fn no_answer(&self, error: &ureq::Error) -> Failure {
        match error {
            ureq::Error::Io(error) => self.broken(error),
            ureq::Error::Timeout(Timeout::PerRead) => {
                let silence = humantime::format_duration(self.silence.unwrap_or(self.limit));
                self.unreachable(&format!("nothing came for {silence}"))
            }
            ureq::Error::Timeout(_) => {
                let limit = humantime::format_duration(self.limit);
                self.unreachable(&format!("no answer within {limit}"))
            }
            error @ (ureq::Error::HostNotFound | ureq::Error::ConnectionFailed) => {
                self.unreachable(&error.to_string())
            }
            other => self.failure(&format!("not an answer of HTTP: {other}")),
        }
    }

    /// What an error of a connection means.
    pub(super) fn broken(&self, error: &std::io::Error) -> Failure {
        match objection(error) {
            None => self.unreachable(&error.to_string()),
            Some(Objection::Ours(why)) => self.unreachable(&why),
            Some(Objection::Theirs(why)) => self.refusal(&why),
        }
    }

    /// Where it is, and what it wants to know of each request on a connection of one's own.
    pub(super) fn wire(&self) -> Wire {
        let mut headers = format!("Host: {}:{}\r\n", self.server.host_text(), self.server.port);
        if let Some(token) = &self.token {
            headers.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        let path = self.server.base.splitn(4, '/').nth(3);
        Wire {
            addresses: self.addresses.clone(),
            prefix: path.map(|path| format!("/{path}")).unwrap_or_default(),
            headers,
            limit: self.limit,
            secure: self.secure.clone(),
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
        self.said_no(status, &text)
    }

    /// The failure that a bad status and the body beside it mean.
    pub(super) fn said_no(&self, status: StatusCode, body: &[u8]) -> Failure {
        let ours = serde_json::from_slice::<ErrorBody>(body).map(|body| body.error);
        let line = status_line(status);
        match (status, ours) {
            (StatusCode::GATEWAY_TIMEOUT, Ok(said)) => {
                // The write stands: it was not refused.
                self.failure(&format!("{line}: {}", one_line(&said)))
            }
            (_, Ok(said)) => self.refusal(&format!("{line}: {}", one_line(&said))),
            (StatusCode::NOT_FOUND, Err(_)) => self.failure(&format!(
                "{line}: not a GossipyKV answer; is the address right, and the path before /kv?"
            )),
            (_, Err(_)) => {
                let said = String::from_utf8_lossy(body);
                match said.trim() {
                    "" => self.refusal(&line),
                    said => self.refusal(&format!("{line}: {}", one_line(said))),
                }
            }
        }
    }

    fn refusal(&self, problem: &str) -> Failure {
        Failure::Refused(format!("{}: {problem}", self.server))
    }

    /// The whole body of an answer.
    ///
    /// # Errors
    /// It is cut short, or longer than any of ours.
    pub(super) fn body(&self, answer: Answer) -> Result<Vec<u8>, Failure> {
        let body = answer.into_body().with_config().limit(JSON_LEN_MAX).read_to_vec();
        body.map_err(|error| self.no_answer(&error))
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
        serde_json::from_slice(&self.body(answer)?)
            .map_err(|error| self.failure(&format!("the answer is not {what}: {error}")))
    }
}

#[derive(serde::Deserialize)]
struct ErrorBody {
    /// `/health` calls it a reason: it is none of its own errors.
    #[serde(alias = "why")]
    error: String,
}

/// Whether an error answer is the one of ours that says that there is no such key.
pub(super) fn is_missing_key(status: StatusCode, body: &[u8]) -> bool {
    let said = serde_json::from_slice::<ErrorBody>(body);
    status == StatusCode::NOT_FOUND && said.is_ok_and(|body| body.error.starts_with("no such key"))
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
    use std::io::Write as _;
    use std::net::TcpListener;

    #[test]
    fn a_server_that_falls_silent_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = ServerUrl::at(listener.local_addr().expect("an address"), false);
        let limit = Duration::from_secs(60);
        let client = Client::new(url, None, limit, &Trusted::default()).expect("an address");
        let client = client.with_silence(Duration::from_millis(50));
        std::thread::scope(|threads| {
            // It has the connection open until the client has given up.
            let (done, wait) = std::sync::mpsc::channel::<()>();
            threads.spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun";
                stream.write_all(head.as_bytes()).expect("room");
                assert!(wait.recv().is_err());
                drop((stream, listener));
            });
            let answer = client.get("/").expect("a head");
            let said = client.body(answer).unwrap_err().line();
            assert!(said.ends_with(": nothing came for 50ms"), "{said}");
            drop(done);
        });
    }
}
