//! The certificate of a server that speaks TLS: what it is made of, and its exchange.
//!
//! ```text
//! PEM of chain and key --> Certificate --> Tls: in use, exchanged while the server runs
//!  PEM of the clients' CAs --'              `--> each connection keeps the one it began with
//! ```
//!
//! Sessions can be resumed, by tickets that nothing is kept for. An exchange ends that: their keys
//! belong to the certificate. Where clients show certificates there are no tickets, so that each
//! connection shows one that is good now.

use parking_lot::RwLock;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use x509_cert::der::Decode as _;

/// What is spoken within TLS: never HTTP/2.
const PROTOCOLS: [&[u8]; 2] = [b"http/1.1", b"http/1.0"];

/// Why texts make no certificate. Nothing of it shows what stands in the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No certificate, or none that can be read.
    #[error("the certificate file: {0}")]
    Chain(String),
    /// No private key, or none that can be used.
    #[error("the key file: {0}")]
    Key(String),
    /// The key is another certificate's.
    #[error("the key is not that of the certificate, which comes first in its file")]
    Mismatch,
    /// No certificate to check those of clients with.
    #[error("the file of the clients' CA: {0}")]
    ClientCa(String),
    /// The library refuses what is in order by itself.
    #[error("TLS: {0}")]
    Unusable(String),
}

/// A certificate with its key, ready to be used.
#[derive(Clone)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    expires: Duration,
    wants_clients: bool,
}

impl Certificate {
    /// A certificate of PEM texts: the chain, the server's own certificate first; its private key,
    /// not encrypted (PKCS#8, PKCS#1 or SEC1); and, where clients must show a certificate, those of
    /// the CAs that sign them.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn parse(
        chain: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
    ) -> Result<Certificate, CertificateError> {
        let chain = certificates(chain).map_err(CertificateError::Chain)?;
        let expires = expiry(&chain).map_err(CertificateError::Chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            CertificateError::Key(match error {
                rustls::pki_types::pem::Error::NoItemsFound => {
                    "no private key in PEM (an encrypted one will not do)".to_owned()
                }
                error => error.to_string(),
            })
        })?;
        let unusable = |error: rustls::Error| CertificateError::Unusable(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        provider
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(text) => {
                let roots = roots(text).map_err(CertificateError::ClientCa)?;
                // Probes have none: what a client without one may do is decided by its request.
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated()
                        .build()
                        .map_err(|error| CertificateError::ClientCa(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config =
            builder.with_single_cert(chain.clone(), key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch,
                rustls::Error::InvalidCertificate(error) => {
                    CertificateError::Chain(format!("{error:?}"))
                }
                error => unusable(error),
            })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if client_ca.is_some() {
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
            config.send_tls13_tickets = 1;
        }
        let (config, wants_clients) = (Arc::new(config), client_ca.is_some());
        Ok(Certificate { config, chain, expires, wants_clients })
    }

    /// When the first certificate of the chain expires, since 1970.
    #[must_use]
    pub fn expires(&self) -> Duration {
        self.expires
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        (&self.chain, self.wants_clients) == (&other.chain, other.wants_clients)
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    /// A key never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// All certificates of a text, one at least.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("no certificate in PEM".to_owned()) } else { Ok(found) }
}

/// The certificates of a text as CAs.
fn roots(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// When the first of a chain expires, since 1970.
fn expiry(chain: &[CertificateDer<'_>]) -> Result<Duration, String> {
    let end = |certificate: &CertificateDer<'_>| {
        let read = x509_cert::Certificate::from_der(certificate);
        let read = read.map_err(|error| format!("not a certificate: {error}"))?;
        Ok(read.tbs_certificate().validity().not_after.to_unix_duration())
    };
    let ends = chain.iter().map(end).collect::<Result<Vec<Duration>, String>>()?;
    Ok(ends.into_iter().min().unwrap_or_default())
}

/// Why a handshake came to nothing; the label of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmet {
    /// It was not whole in time.
    Slow,
    /// The client went away in the middle of it.
    Closed,
    /// The client spoke plain HTTP.
    Plain,
    /// The client wants a version, a cipher or a protocol that the server does not have.
    Incompatible,
    /// The client did not take the server's certificate, or broke off for a reason of its own.
    Rejected,
    /// The client's certificate is not good.
    ClientCertificate,
    /// What came was not TLS.
    Malformed,
}

impl Unmet {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Unmet; 7] = [
        Unmet::Slow,
        Unmet::Closed,
        Unmet::Plain,
        Unmet::Incompatible,
        Unmet::Rejected,
        Unmet::ClientCertificate,
        Unmet::Malformed,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Unmet::Slow => "slow",
            Unmet::Closed => "closed",
            Unmet::Plain => "plain_http",
            Unmet::Incompatible => "incompatible",
            Unmet::Rejected => "rejected_by_client",
            Unmet::ClientCertificate => "client_certificate",
            Unmet::Malformed => "malformed",
        }
    }

    /// What an error of the library comes to.
    pub(super) fn of(error: &rustls::Error) -> Unmet {
        match error {
            rustls::Error::AlertReceived(_) => Unmet::Rejected,
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::InvalidCertRevocationList(_)
            | rustls::Error::NoCertificatesPresented => Unmet::ClientCertificate,
            rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
                Unmet::Incompatible
            }
            _ => Unmet::Malformed,
        }
    }
}

/// The certificate in use, and what is counted of its use.
pub struct Tls {
    current: RwLock<Certificate>,
    is_stale: AtomicBool,
    n_met: AtomicU64,
    unmet: [AtomicU64; Unmet::ALL.len()],
}

impl Tls {
    /// A certificate to begin with.
    #[must_use]
    pub fn new(certificate: Certificate) -> Arc<Tls> {
        Arc::new(Tls {
            current: RwLock::new(certificate),
            is_stale: AtomicBool::new(false),
            n_met: AtomicU64::new(0),
            unmet: Default::default(),
        })
    }

    /// Uses this one for connections that begin from now on. The others keep theirs.
    pub fn exchange(&self, certificate: Certificate) {
        *self.current.write() = certificate;
        self.is_stale.store(false, Ordering::Relaxed);
    }

    /// The files of this certificate cannot be used any more, so that it may be old.
    pub fn set_stale(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    /// When it expires, since 1970.
    #[must_use]
    pub fn expires(&self) -> Duration {
        self.current.read().expires
    }

    pub(super) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    /// Whether requests want a client's certificate.
    pub(super) fn wants_clients(&self) -> bool {
        self.current.read().wants_clients
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().config)
    }

    /// A handshake has come to its end.
    pub(super) fn met(&self) {
        self.n_met.fetch_add(1, Ordering::Relaxed);
    }

    /// A handshake came to nothing.
    pub(super) fn not_met(&self, why: Unmet) {
        self.unmet[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Handshakes so far that came to their end.
    pub(super) fn n_met(&self) -> u64 {
        self.n_met.load(Ordering::Relaxed)
    }

    pub(super) fn n_unmet(&self, why: Unmet) -> u64 {
        self.unmet[why as usize].load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("current", &*self.current.read()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_and_no_key_shown() {
        let ((chain, key), (_, other)) = (made("a.example"), made("b.example"));
        assert!(Certificate::parse(chain.as_bytes(), key.as_bytes(), None).is_ok());
        let ca = Some(chain.as_bytes());
        let good = Certificate::parse(chain.as_bytes(), key.as_bytes(), ca).expect("good");
        assert!(!format!("{good:?}").contains("PRIVATE"));
        let cut = &chain[..chain.len() / 2];
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (given, shown, ca, wanted) in [
            ("", &*key, None, "the certificate file: no certificate in PEM"),
            (cut, &key, None, "the certificate file: "),
            (broken, &key, None, "the certificate file: not a certificate"),
            (&chain, "", None, "the key file: no private key in PEM"),
            (&chain, &chain, None, "the key file: no private key in PEM"),
            (&chain, &other, None, "the key is not that of the certificate"),
            (&chain, &key, Some(&*key), "the file of the clients' CA: no certificate"),
            (&chain, &key, Some(broken), "the file of the clients' CA: "),
        ] {
            let ca = ca.map(str::as_bytes);
            let error = Certificate::parse(given.as_bytes(), shown.as_bytes(), ca).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(wanted) && !error.contains(&key[40..60]), "{error}");
        }
    }

    #[test]
    fn the_first_of_a_chain_to_expire_counts() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let until = |year| {
            let mut params = rcgen::CertificateParams::new(["a".to_owned()]).expect("a name");
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            params.self_signed(&key).expect("signed").pem()
        };
        let chain = until(2040) + &until(2030);
        let read = Certificate::parse(chain.as_bytes(), key.serialize_pem().as_bytes(), None);
        assert_eq!(read.expect("good").expires(), Duration::from_secs(1_893_456_000));
    }
}
