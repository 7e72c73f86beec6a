//! Whose account asks S3: keys of the environment, or those that a container is lent.
//!
//! ```text
//! AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN    as they are
//! AWS_CONTAINER_CREDENTIALS_RELATIVE_URI    the task role of ECS, at its link-local address
//! AWS_CONTAINER_CREDENTIALS_FULL_URI        others, as EKS Pod Identity, with what is in
//!     AWS_CONTAINER_AUTHORIZATION_TOKEN     this variable, or in the file that
//!     AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE  names
//! ```
//!
//! What is lent ends after some hours, and is asked for again before.

use crate::cli::failure::Failure;
use crate::cli::files::{self, Kind};
use crate::cli::reader::variable;
use crate::discovery::fetch;
use crate::runtime::clock::Clock;
use crate::time::WallMillis;
use rusty_s3::Credentials;
use serde::Deserialize;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use ureq::http::Uri;

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
/// Where ECS tells containers of their role.
const ECS: &str = "http://169.254.170.2";
/// Hosts that are asked without TLS, beside loopback: of ECS, and of EKS in both families.
const PLAIN: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
/// How long one answer may take, and how often it is asked for.
const LIMIT: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
const ANSWER_LEN_MAX: u64 = 64 << 10;
/// How long before their end keys are replaced.
const BEFORE: Duration = Duration::from_secs(300);

/// Keeps credentials that are good.
pub(super) struct Keeper {
    lender: Option<Lender>,
    kept: Mutex<Option<Kept>>,
    clock: Clock,
}

#[derive(Clone)]
struct Kept {
    credentials: Arc<Credentials>,
    /// `None`: good for ever.
    until: Option<SystemTime>,
}

/// Who lends credentials.
#[derive(Debug)]
struct Lender {
    source: &'static str,
    uri: Uri,
    addr: SocketAddr,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lent {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

impl Keeper {
    /// What the environment tells of.
    ///
    /// # Errors
    /// Nothing; half of a pair; an address that credentials are not asked for at.
    pub(super) fn from_environment() -> Result<Keeper, Failure> {
        let text = |name: &str| super::text_of(&[name]);
        let pair = (text("AWS_ACCESS_KEY_ID")?, text("AWS_SECRET_ACCESS_KEY")?);
        let (lender, kept) = match pair {
            (Some(key), Some(secret)) => {
                let credentials = match text("AWS_SESSION_TOKEN")? {
                    Some(token) => Credentials::new_with_token(key, secret, token),
                    None => Credentials::new(key, secret),
                };
                (None, Some(Kept { credentials: Arc::new(credentials), until: None }))
            }
            (Some(_), None) | (None, Some(_)) => {
                let why =
                    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: one is there without the other";
                return Err(Failure::usage(why));
            }
            (None, None) => (Some(Lender::from_environment()?), None),
        };
        Ok(Keeper { lender, kept: Mutex::new(kept), clock: Clock::start() })
    }

    /// Credentials that are good for some minutes.
    ///
    /// # Errors
    /// Who lends them does not answer as it should.
    pub(super) fn credentials(&self) -> Result<Arc<Credentials>, Failure> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let WallMillis(now) = self.clock.now().wall;
        let soon = SystemTime::UNIX_EPOCH + Duration::from_millis(now) + BEFORE;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.until.is_none_or(|end| end > soon)) {
            return Ok(Arc::clone(&kept.credentials));
        }
        match (self.lender.as_ref().map(Lender::ask), kept.as_ref()) {
            (Some(Ok(lent)), _) => {
                let credentials = Arc::clone(&lent.credentials);
                *kept = Some(lent);
                Ok(credentials)
            }
            // They may still do.
            (_, Some(kept)) => Ok(Arc::clone(&kept.credentials)),
            (Some(Err(failure)), None) => Err(failure),
            (None, None) => Err(Failure::failed("no credentials")),
        }
    }
}

impl Lender {
    fn from_environment() -> Result<Lender, Failure> {
        let (source, uri) = match super::text_of(&[RELATIVE])? {
            Some(path) => (RELATIVE, format!("{ECS}{path}")),
            None => match super::text_of(&[FULL])? {
                Some(uri) => (FULL, uri),
                None => {
                    return Err(Failure::usage(format!(
                        "s3://: whose account? AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY tell, \
                         or in a container with a role {RELATIVE} or {FULL}"
                    )));
                }
            },
        };
        Lender::at(source, &uri).map_err(|why| Failure::usage(format!("{source}: {uri:?}: {why}")))
    }

    fn at(source: &'static str, uri: &str) -> Result<Lender, &'static str> {
        const WANTED: &str = "not http:// with the address of this machine or of the container \
                              service's";
        let uri: Uri = uri.parse().map_err(|_| WANTED)?;
        let host = uri.host().ok_or(WANTED)?.trim_start_matches('[').trim_end_matches(']');
        let ip: IpAddr = host.parse().map_err(|_| WANTED)?;
        let is_known = ip.is_loopback() || PLAIN.contains(&&*ip.to_string());
        if uri.scheme_str() != Some("http") || !is_known {
            return Err(WANTED);
        }
        let addr = SocketAddr::new(ip, uri.port_u16().unwrap_or(80));
        Ok(Lender { source, uri, addr })
    }

    fn ask(&self) -> Result<Kept, Failure> {
        let mut tries = 1;
        loop {
            match self.ask_once() {
                Err(_) if tries < TRIES => tries += 1,
                Err(why) => return Err(Failure::Unreachable(format!("{}: {why}", self.source))),
                Ok(kept) => return Ok(kept),
            }
        }
    }

    fn ask_once(&self) -> Result<Kept, String> {
        // It is read each time: the file is replaced now and then.
        let token = match variable(TOKEN_FILE) {
            Some(path) => Some(files::secret(path, Kind::Any)?.trim().to_owned()),
            None => variable(TOKEN).and_then(|token| token.into_string().ok()),
        };
        let mut request = fetch::client(vec![self.addr], LIMIT).get(self.uri.clone());
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let answer = request.call().map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("answered with status {}", answer.status().as_u16()));
        }
        let mut text = Vec::new();
        let mut reader = answer.into_body().into_reader().take(ANSWER_LEN_MAX);
        reader.read_to_end(&mut text).map_err(|error| error.to_string())?;
        read(&text)
    }
}

/// An error says nothing of what was read.
fn read(text: &[u8]) -> Result<Kept, String> {
    let lent: Lent = serde_json::from_slice(text)
        .map_err(|_| "answered with something else than credentials".to_owned())?;
    let until = lent.expiration.map(|text| humantime::parse_rfc3339(&text)).transpose();
    let until = until.map_err(|_| "answered with an Expiration that is no time".to_owned())?;
    let (key, secret) = (lent.access_key_id, lent.secret_access_key);
    let credentials = match lent.token {
        Some(token) => Credentials::new_with_token(key, secret, token),
        None => Credentials::new(key, secret),
    };
    Ok(Kept { credentials: Arc::new(credentials), until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_asked_for_on_this_machine_alone() {
        for good in ["http://169.254.170.2/v2/x", "http://[fd00:ec2::23]/v1", "http://127.0.0.1:9/"]
        {
            assert!(Lender::at(FULL, good).is_ok(), "{good}");
        }
        let bad = ["http://10.0.0.1/", "https://127.0.0.1/", "http://example.org/", "/x", ""];
        for bad in bad {
            assert!(Lender::at(FULL, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_ecs_answers_is_read() {
        let kept = read(
            br#"{"RoleArn":"r","AccessKeyId":"AKIA","SecretAccessKey":"s","Token":"t",
                 "Expiration":"2026-11-30T06:00:00Z"}"#,
        );
        let kept = kept.expect("credentials");
        assert_eq!((kept.credentials.key(), kept.credentials.token()), ("AKIA", Some("t")));
        assert_eq!(kept.until, humantime::parse_rfc3339("2026-11-30T06:00:00Z").ok());
        let error = read(b"{\"SecretAccessKey\":\"hidden\"}").err().expect("half of it");
        assert!(!error.contains("hidden"));
    }
}
