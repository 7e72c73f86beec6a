//! Certificates made for a test, and a client that speaks TLS.

use crate::http_rig::{PATIENCE, until};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer};
use rcgen::{KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tempfile::TempDir;

/// A CA of a test, with a folder for its files.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    folder: TempDir,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Signed {
    pub chain: String,
    pub key: String,
}

impl Ca {
    pub fn new() -> Ca {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        // Each has a name of its own: it is looked for by that.
        let folder = tempfile::tempdir().expect("a folder");
        params.distinguished_name = named(&format!("CA {}", folder.path().display()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Ca { issuer: Issuer::new(params, key), pem, folder }
    }

    /// A certificate for these names or addresses, good until a year's begin.
    pub fn sign_until(&self, names: &[&str], year: i32) -> Signed {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = named("a node or a client");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let chain = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Signed { chain, key: key.serialize_pem() }
    }

    pub fn sign(&self, names: &[&str]) -> Signed {
        self.sign_until(names, 4000)
    }

    /// The path of a file of this name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, as a whole, and gives its path as a flag takes it.
    pub fn file(&self, name: &str, text: &str) -> String {
        let (path, next) = (self.path(name), self.path("next"));
        std::fs::write(&next, text).expect("room");
        std::fs::rename(&next, &path).expect("the same folder");
        path.display().to_string()
    }

    /// Its own certificate, as a file.
    pub fn own_file(&self) -> String {
        self.file("ca.pem", &self.pem)
    }

    /// How a client is set up that trusts it, and shows a certificate if it has one.
    pub fn client_config(&self, identity: Option<&Signed>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate");
        roots.add(der).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(Signed { chain, key }) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
                let chain = chain.map(|der| der.expect("a certificate")).collect();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        }
    }

    /// A client of the server that calls itself localhost.
    pub fn client(&self, addr: SocketAddr, identity: Option<&Signed>) -> Secure {
        Secure::over(connect(addr), self.client_config(identity)).expect("a handshake")
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// A certificate for localhost that is its own CA.
pub fn self_signed_until(year: i32) -> Signed {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let chain = params.self_signed(&key).expect("signed").pem();
    Signed { chain, key: key.serialize_pem() }
}

/// The flags of an agent with this certificate, written to files of the CA's folder.
pub fn flags(ca: &Ca, signed: &Signed) -> [String; 4] {
    let (cert, key) = (ca.file("cert.pem", &signed.chain), ca.file("key.pem", &signed.key));
    ["--http-tls-cert".to_owned(), cert, "--http-tls-key".to_owned(), key]
}

pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream.set_write_timeout(Some(PATIENCE)).expect("a limit");
    stream
}

/// One connection through TLS.
pub struct Secure {
    pub reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// What one request got.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Secure {
    /// Begins to speak TLS.
    pub fn over(mut stream: TcpStream, config: ClientConfig) -> std::io::Result<Secure> {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut conn = ClientConnection::new(Arc::new(config), name).expect("a connection");
        while conn.is_handshaking() {
            conn.complete_io(&mut stream)?;
        }
        Ok(Secure { reader: BufReader::new(StreamOwned::new(conn, stream)) })
    }

    pub fn conn(&mut self) -> &mut ClientConnection {
        &mut self.reader.get_mut().conn
    }

    pub fn tcp(&self) -> &TcpStream {
        &self.reader.get_ref().sock
    }

    pub fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)?;
        self.reader.get_mut().flush()
    }

    /// Sends a request and reads its answer.
    pub fn try_ask(&mut self, method: &str, target: &str, body: &[u8]) -> std::io::Result<Got> {
        let len = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n"
        );
        self.raw(&[head.as_bytes(), body].concat())?;
        self.answer(method == "HEAD")
    }

    #[track_caller]
    pub fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> Got {
        self.try_ask(method, target, body).expect("an answer")
    }

    /// Reads an answer, with its body unless it `is_head`.
    pub fn answer(&mut self, is_head: bool) -> std::io::Result<Got> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
        let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let len = len.filter(|_| !is_head).map_or(0, |len| len.parse().expect("a length"));
        let mut body = vec![0; len];
        self.reader.read_exact(&mut body)?;
        Ok(Got { status, body })
    }

    /// Whether the server ends it in good order, with nothing more to say.
    pub fn ends_well(&mut self) -> bool {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).is_ok() && rest.is_empty()
    }
}

/// Clients that write through TLS without a pause.
pub struct Crowd {
    is_over: AtomicBool,
    n: AtomicU64,
}

/// Says that it is over when it goes, whatever has become of the test.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Crowd {
    /// Four of them ask the server at `addr` during `work`, and are answered with 200: two over one
    /// connection, two over one for each request. Returns how many requests there were.
    pub fn during(ca: &Ca, addr: SocketAddr, work: impl FnOnce(&Crowd)) -> u64 {
        let crowd = Crowd { is_over: AtomicBool::new(false), n: AtomicU64::new(0) };
        std::thread::scope(|threads| {
            for is_kept in [true, true, false, false] {
                let crowd = &crowd;
                threads.spawn(move || crowd.ask(ca, addr, is_kept));
            }
            let _ends = Ends(&crowd.is_over);
            work(&crowd);
        });
        crowd.n.into_inner()
    }

    fn ask(&self, ca: &Ca, addr: SocketAddr, is_kept: bool) {
        // Its sessions are resumed, where they can be.
        let config = ca.client_config(None);
        let connect = || Secure::over(connect(addr), config.clone()).expect("a handshake");
        let mut client = connect();
        while !self.is_over.load(Ordering::Relaxed) {
            if !is_kept {
                client = connect();
            }
            assert_eq!(client.ask("PUT", "/kv/k", b"v").status, 200);
            self.n.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until they have asked fifty times more.
    pub fn asks_on(&self) {
        let n = || self.n.load(Ordering::Relaxed);
        let before = n();
        until("they ask", || n() > before + 50);
    }
}
