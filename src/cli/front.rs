//! The flags of `agent` about who may ask its HTTP, and how long a connection may wait.

use super::certificates::{CertificateFiles, Wrong};
use super::files::{self, Kind};
use super::parse;
use super::reader::Reader;
use crate::http::{Certificate, HostName, Origin, TokenList};
use crate::limits::{HTTP_CONNECTIONS_HARD_MAX, MEMBERS_MAX};
use crate::node::command::Concern;
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Holds the token itself, for platforms that hand out secrets as variables.
pub(super) const TOKEN_VARIABLE: &str = "GOSSIPYKV_HTTP_TOKEN";

/// From what lets a browser, a scraper and a health check in to what the memory of a node bears.
const CONNECTIONS: RangeInclusive<u64> = 16..=HTTP_CONNECTIONS_HARD_MAX as u64;

/// From what a client can use at all to what no pool keeps.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60 * 60);

/// From what is still a wait to the most that Consul waits.
const CONSUL_WAIT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// The flags as given.
#[derive(Debug, Args)]
pub(super) struct FrontFlags {
    /// File of a token, or of several, a line each: ROLE NAME TOKEN, the role one of read, write
    /// and admin. When set, every request but /health and /live needs the header "Authorization:
    /// Bearer ..". It is read again when it changes, and at SIGHUP. The variable
    /// GOSSIPYKV_HTTP_TOKEN holds a token itself
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_HTTP_TOKEN_FILE", hide_env_values = true)]
    http_token_file: Option<OsString>,

    /// File of the certificate, PEM, with those of its issuers behind it: then the port speaks
    /// HTTPS, and nothing else. It is read again when it changes, and at SIGHUP, and so are the two
    /// below
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_HTTP_TLS_CERT", hide_env_values = true)]
    http_tls_cert: Option<OsString>,

    /// File of the certificate's private key, PEM, not encrypted
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_HTTP_TLS_KEY", hide_env_values = true)]
    http_tls_key: Option<OsString>,

    /// File of CAs, PEM: every request but /health and /live wants a client's certificate that one
    /// of them has signed
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_HTTP_TLS_CLIENT_CA", hide_env_values = true)]
    http_tls_client_ca: Option<OsString>,

    /// Whether /keys is open without a token to requests that come over loopback and show no proxy.
    /// A proxy on this host that adds no header opens it to all. gossipykv keys needs it nowhere
    /// but on systems other than Linux
    #[arg(long, value_name = "BOOL", env = "GOSSIPYKV_KEYS_ON_LOOPBACK", hide_env_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "false")]
    keys_on_loopback: OsString,

    /// A name by which clients may call this node when there is no token, beside its addresses and
    /// localhost; repeatable, in the environment separated by commas. * for any: then a web page
    /// may reach the node through a browser near it
    #[arg(long, value_name = "NAME", env = "GOSSIPYKV_HTTP_HOST", hide_env_values = true)]
    http_host: Vec<OsString>,

    /// A site whose web pages may use the REST API, as https://HOST or http://HOST:PORT;
    /// repeatable, in the environment separated by commas
    #[arg(long, value_name = "ORIGIN", env = "GOSSIPYKV_CORS_ORIGIN", hide_env_values = true)]
    cors_origin: Vec<OsString>,

    /// How many HTTP connections are held at once, streams and long polls among them; never more
    /// than half of the open files that the process may have (ulimit -n)
    #[arg(long, value_name = "N", hide_env_values = true, default_value = "4096")]
    #[arg(env = "GOSSIPYKV_HTTP_CONNECTIONS_MAX")]
    http_connections_max: OsString,

    /// How long an idle HTTP connection is kept, and told to be; longer than what is in front of
    /// the node keeps it
    #[arg(long, value_name = "DURATION", hide_env_values = true, default_value = "75s")]
    #[arg(env = "GOSSIPYKV_HTTP_IDLE_TIMEOUT")]
    http_idle_timeout: OsString,

    /// How long a read of Consul's API under /v1 waits for a change at most, whatever its client
    /// asks for; shorter than what is in front of the node waits for an answer
    #[arg(long, value_name = "DURATION", hide_env_values = true, default_value = "55s")]
    #[arg(env = "GOSSIPYKV_CONSUL_WAIT_MAX")]
    consul_wait_max: OsString,

    /// How many members hold a write of Consul's API before it is answered: majority, all, or a
    /// number. After 2 s without them the answer is 500, and the write stands
    #[arg(long, value_name = "CONCERN", hide_env_values = true, default_value = "1")]
    #[arg(env = "GOSSIPYKV_CONSUL_WRITE_CONCERN")]
    consul_write_concern: OsString,
}

/// What they make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) tokens: Option<TokenList>,
    /// The file that they are from, to be read again.
    pub(super) tokens_file: Option<PathBuf>,
    /// The certificate, and the files that it is from, to be read again.
    pub(super) tls: Option<(Certificate, CertificateFiles)>,
    pub(super) keys_on_loopback: bool,
    pub(super) hosts: Vec<HostName>,
    pub(super) cors_origins: Vec<Origin>,
    pub(super) connections_max: usize,
    pub(super) idle: Duration,
    pub(super) consul_wait_max: Duration,
    pub(super) consul_write_concern: Option<Concern>,
}

/// What a write waits for; `None` for this node alone.
fn concern(text: &str) -> Result<Option<Concern>, String> {
    match (text, text.parse::<u32>()) {
        ("majority", _) => Ok(Some(Concern::Majority)),
        ("all", _) => Ok(Some(Concern::All)),
        (_, Ok(1)) => Ok(None),
        (_, Ok(n)) if n > 1 && n as usize <= MEMBERS_MAX => Ok(Some(Concern::Count(n))),
        _ => Err(format!("{text:?}: majority, all, or a number from 1 to {MEMBERS_MAX}")),
    }
}

impl Reader<'_> {
    /// Reads them all; `None` when there is a problem with one that has no default.
    pub(super) fn front(
        &mut self,
        flags: &FrontFlags,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Option<Front> {
        let file = flags.http_token_file.as_deref();
        let tokens = self.tokens(file, variable);
        let tokens_file = file.map(PathBuf::from);
        let tls = self.certificate(flags);
        let keys_on_loopback =
            self.value("keys_on_loopback", &flags.keys_on_loopback, parse::boolean);
        let hosts = self.words("http_host", &flags.http_host);
        let cors_origins = self.words("cors_origin", &flags.cors_origin);
        let connections_max =
            self.value("http_connections_max", &flags.http_connections_max, |text| {
                parse::number(text, CONNECTIONS)
            });
        let idle = self.value("http_idle_timeout", &flags.http_idle_timeout, |text| {
            parse::duration(text, IDLE)
        });
        let consul_wait_max = self.value("consul_wait_max", &flags.consul_wait_max, |text| {
            parse::duration(text, CONSUL_WAIT)
        });
        let consul_write_concern =
            self.value("consul_write_concern", &flags.consul_write_concern, concern);
        let (keys_on_loopback, idle) = (keys_on_loopback?, idle?);
        let connections_max = usize::try_from(connections_max?).ok()?;
        let (consul_wait_max, consul_write_concern) = (consul_wait_max?, consul_write_concern?);
        Some(Front {
            tokens,
            tokens_file,
            tls,
            keys_on_loopback,
            hosts,
            cors_origins,
            connections_max,
            idle,
            consul_wait_max,
            consul_write_concern,
        })
    }

    /// The certificate of the files. Each makes sense only with the others.
    fn certificate(&mut self, flags: &FrontFlags) -> Option<(Certificate, CertificateFiles)> {
        const IDS: [&str; 3] = ["http_tls_cert", "http_tls_key", "http_tls_client_ca"];
        let FrontFlags { http_tls_cert, http_tls_key, http_tls_client_ca, .. } = flags;
        let [chain, key, client_ca] = [http_tls_cert, http_tls_key, http_tls_client_ca]
            .map(|path| path.as_deref().filter(|path| !path.is_empty()).map(PathBuf::from));
        let [of_chain, of_key, of_client_ca] = IDS.map(|id| self.source(id));
        let (chain, key) = match (chain, key, &client_ca) {
            (Some(chain), Some(key), _) => (chain, key),
            (Some(_), None, _) => {
                self.problem(&of_chain, "there is no key: give --http-tls-key");
                return None;
            }
            (None, Some(_), _) => {
                self.problem(&of_key, "there is no certificate: give --http-tls-cert");
                return None;
            }
            (None, None, Some(_)) => {
                self.problem(&of_client_ca, "there is no certificate: give --http-tls-cert");
                return None;
            }
            (None, None, None) => return None,
        };
        let files = CertificateFiles { chain, key, client_ca };
        match files.read() {
            Ok(certificate) => return Some((certificate, files)),
            Err(Wrong::Chain(why)) => self.problem(&of_chain, &why),
            Err(Wrong::Key(why)) => self.problem(&of_key, &why),
            Err(Wrong::ClientCa(why)) => self.problem(&of_client_ca, &why),
        }
        None
    }

    fn words<T>(&mut self, id: &str, given: &[OsString]) -> Vec<T>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        given.iter().filter_map(|text| self.value(id, text, parse::words)).flatten().collect()
    }

    /// The tokens of the file, or the one of the variable, by the same rule as the keys.
    fn tokens(
        &mut self,
        file: Option<&OsStr>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Option<TokenList> {
        const ID: &str = "http_token_file";
        let token = variable(TOKEN_VARIABLE).filter(|_| !self.is_on_command_line(ID));
        match (file, token) {
            (Some(_), Some(_)) => {
                let source = self.source(ID);
                self.problem(&source, &format!("{TOKEN_VARIABLE} is set too; give one"));
                None
            }
            (Some(_), None) => self.optional(ID, file, |path| {
                let text = files::secret(path, Kind::Regular)?;
                parse::tokens(&text).map_err(|error| format!("{path:?}: {error}"))
            }),
            (None, Some(token)) => {
                let source = format!("--http-token-file (from {TOKEN_VARIABLE})");
                self.parsed(&source, &token, parse::token).map(TokenList::alone)
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_waits_for_this_node_alone_or_for_some() {
        for (text, expected) in [
            ("1", None),
            ("2", Some(Concern::Count(2))),
            ("majority", Some(Concern::Majority)),
            ("all", Some(Concern::All)),
        ] {
            assert_eq!(concern(text), Ok(expected));
        }
        for bad in ["", "0", "-1", "most", "65537", "99999999999"] {
            assert!(concern(bad).is_err_and(|why| why.contains("majority")), "{bad}");
        }
    }
}
