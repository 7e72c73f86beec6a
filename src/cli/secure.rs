//! How commands speak TLS to a server, and whom they take for it.
//!
//! ```text
//! --ca-file                                those CAs alone
//! else, the agent of this environment      the very certificate in GOSSIPYKV_HTTP_TLS_CERT, too
//! else                                     the system's CAs
//! health, on this machine, no --ca-file    anybody: it tells nothing, and only asks who lives
//! S3                                       AWS_CA_BUNDLE, else the system's, else Mozilla's
//! ```

use super::failure::Failure;
use super::files::{self, Kind};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore};
use rustls::{
    DigitallySignedStruct, Error, InvalidMessage, OtherError, SignatureScheme, StreamOwned,
};
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};
use x509_cert::der::Decode as _;

/// What a command is told of TLS.
#[derive(Debug, Default)]
pub(super) struct Trusted<'p> {
    /// CAs that alone count.
    pub(super) ca_file: Option<&'p Path>,
    /// What names that file, if not --ca-file.
    pub(super) ca_source: &'static str,
    /// The server is one of the whole world's: where the system has no CA, those that are
    /// compiled in count.
    pub(super) public: bool,
    /// A certificate to show, and its key.
    pub(super) identity: Option<(&'p Path, &'p Path)>,
    /// The certificate of the agent that is asked.
    pub(super) own: Option<PathBuf>,
    /// Whoever answers will do.
    pub(super) anybody: bool,
}

/// A way to one server through TLS.
#[derive(Debug, Clone)]
pub(super) struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Secure {
    /// A way to the server of this name or address.
    ///
    /// # Errors
    /// A file that is not what it should be; no CA to trust.
    pub(super) fn new(host: &str, trusted: &Trusted<'_>) -> Result<Secure, Failure> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Failure::usage(format!("{host:?} is no name that a certificate has")))?;
        let provider = Arc::new(ring::default_provider());
        let unusable = |error: Error| Failure::failed(format!("TLS: {error}"));
        let verifier = Arc::new(Verifier::new(Arc::clone(&provider), trusted)?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match trusted.identity {
            None => builder.with_no_client_auth(),
            Some((chain_path, key_path)) => {
                let chain = certificates(chain_path)
                    .map_err(|error| Failure::usage(format!("--client-cert: {error}")))?;
                let key = files::bundle(key_path, Kind::Any).and_then(|key| {
                    let key = PrivateKeyDer::from_pem_slice(&key);
                    key.map_err(|_| {
                        format!(
                            "{key_path:?}: no private key in PEM (an encrypted one will not do)"
                        )
                    })
                });
                let key = key.map_err(|error| Failure::usage(format!("--client-key: {error}")))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    Failure::usage(format!("--client-cert, --client-key: {error}"))
                })?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Secure { config: Arc::new(config), name })
    }

    /// Speaks TLS over a connection.
    ///
    /// # Errors
    /// The handshake failed.
    pub(super) fn over<S: Read + Write>(
        &self,
        mut stream: S,
    ) -> io::Result<StreamOwned<ClientConnection, S>> {
        let conn = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut conn = conn.map_err(io::Error::other)?;
        while conn.is_handshaking() {
            conn.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(conn, stream))
    }
}

/// All certificates of a file, one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = files::bundle(path, Kind::Any)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| format!("{path:?}: {error}"))?;
    if found.is_empty() { Err(format!("{path:?}: no certificate in PEM")) } else { Ok(found) }
}

/// Decides whether a server is the one that is meant.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Those of `--ca-file`. One that is its own CA, as `openssl req -x509` makes it, is taken as
    /// it is: by the rules it may not be a server's.
    given: Vec<CertificateDer<'static>>,
    /// By name and CA; `None` where there is no CA.
    by_ca: Option<Arc<WebPkiServerVerifier>>,
    own: Option<CertificateDer<'static>>,
    anybody: bool,
}

impl Verifier {
    fn new(provider: Arc<CryptoProvider>, trusted: &Trusted<'_>) -> Result<Verifier, Failure> {
        let own = match &trusted.own {
            None => None,
            Some(path) => certificates(path)
                .map_err(|error| Failure::usage(format!("GOSSIPYKV_HTTP_TLS_CERT: {error}")))?
                .into_iter()
                .next(),
        };
        let (mut roots, mut given) = (RootCertStore::empty(), Vec::new());
        if let Some(path) = trusted.ca_file {
            let source = Some(trusted.ca_source).filter(|name| !name.is_empty());
            let source = source.unwrap_or("--ca-file");
            let wrong = |error: String| Failure::usage(format!("{source}: {error}"));
            given = certificates(path).map_err(wrong)?;
            for certificate in &given {
                roots
                    .add(certificate.clone())
                    .map_err(|error| wrong(format!("{path:?}: {error}")))?;
            }
        } else if !trusted.anybody {
            // What cannot be read of the system's store is not needed for the server at hand, or
            // it is missed there.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() && trusted.public {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        if roots.is_empty() && own.is_none() && !trusted.anybody {
            return Err(Failure::usage(
                "this system has no store of CA certificates (an image from scratch has none): \
                 give --ca-file, the CA of the server's certificate",
            ));
        }
        let by_ca = match roots.is_empty() {
            true => None,
            false => {
                let made = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots),
                    Arc::clone(&provider),
                );
                let made = made.build();
                Some(made.map_err(|error| Failure::usage(format!("--ca-file: {error}")))?)
            }
        };
        Ok(Verifier { provider, given, by_ca, own, anybody: trusted.anybody })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.anybody || self.own.as_ref().is_some_and(|own| own == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        if self.given.iter().any(|given| given == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return is_current(end_entity, now).map(|()| ServerCertVerified::assertion());
        }
        match &self.by_ca {
            Some(by_ca) => {
                by_ca.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate is good at this time.
fn is_current(certificate: &CertificateDer<'_>, time: UnixTime) -> Result<(), Error> {
    let read = x509_cert::Certificate::from_der(certificate);
    let read = read.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let validity = read.tbs_certificate().validity();
    let [not_before, not_after] = [validity.not_before, validity.not_after]
        .map(|time| UnixTime::since_unix_epoch(time.to_unix_duration()));
    let error = match () {
        () if time < not_before => CertificateError::NotValidYetContext { time, not_before },
        () if time > not_after => CertificateError::ExpiredContext { time, not_after },
        () => return Ok(()),
    };
    Err(Error::InvalidCertificate(error))
}

/// What TLS has against a server, or the server against us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// We do not take it for the one that is meant.
    Ours(String),
    /// It does not take us.
    Theirs(String),
}

impl Objection {
    /// In words.
    pub(super) fn why(&self) -> &str {
        let (Objection::Ours(why) | Objection::Theirs(why)) = self;
        why
    }
}

/// The objection of TLS that an error tells, if it is one.
pub(super) fn objection(error: &io::Error) -> Option<Objection> {
    let error = error.get_ref()?;
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return objection(error);
    }
    let error = error.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(error) => Objection::Ours(certificate(error)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Objection::Ours("it does not speak TLS; is it http://?".to_owned())
        }
        Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError),
        ) => Objection::Theirs(format!("it does not take our certificate: {alert:?}")),
        error => Objection::Ours(format!("TLS: {error}")),
    })
}

/// What the verifier calls a server's certificate that is one of a CA.
const OWN_CA: &str = "CaUsedAsEndEntity";

/// What is wrong with a server's certificate.
fn certificate(error: &CertificateError) -> String {
    let date = |time: &UnixTime| super::certificates::date(Duration::from_secs(time.as_secs()));
    match error {
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<String> = presented.iter().map(|name| readable(name)).collect();
            let names = match &*presented {
                [] => "for no name".to_owned(),
                names => format!("for {}", names.join(", ")),
            };
            format!("the certificate is {names}, not for {}", expected.to_str())
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate has expired, at {}", date(not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid before {}", date(not_before))
        }
        // The latter of one that bears the name of a CA that is trusted, and is another.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate is signed by no CA that is trusted; give --ca-file".to_owned()
        }
        CertificateError::Other(OtherError(error)) if error.to_string() == OWN_CA => {
            "the certificate is a CA itself (CA:TRUE, as openssl req -x509 makes it), signed by no \
             CA that is trusted; give that certificate as --ca-file"
                .to_owned()
        }
        error => format!("the certificate will not do: {error}"),
    }
}

/// A name as rustls tells it: `DnsName("kv.example")`, `IpAddress(127.0.0.1)`.
fn readable(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"').to_owned()
}

/// Connects as `http` does, and speaks TLS then.
#[derive(Debug)]
pub(super) struct SecureConnector {
    pub(super) secure: Secure,
    pub(super) tcp: TcpConnector,
}

impl Connector<()> for SecureConnector {
    type Out = SecureTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<SecureTransport>, ureq::Error> {
        let Some(transport) = self.tcp.connect(details, chained)? else { return Ok(None) };
        let mut adapter =
            TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        adapter.set_timeout(details.timeout);
        let stream = self.secure.over(adapter)?;
        let (input, output) =
            (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(SecureTransport { stream, buffers: LazyBuffers::new(input, output) }))
    }
}

/// A connection of the HTTP client through TLS.
pub(super) struct SecureTransport {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for SecureTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecureTransport").finish_non_exhaustive()
    }
}

impl Transport for SecureTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let n = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(n);
        Ok(n > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
