//! The files of the server's certificate: read at the start, and again at SIGHUP and when they have
//! changed; and warnings before it expires.
//!
//! Files that are bad, or gone, change nothing: the certificate stays, and a line of the log says
//! so, once for each reason. The files are exchanged one after the other, and for a moment the key
//! may be another's, or some of a chain be missing. So they are taken when they stay as they are.

use super::files::{self, Kind, Looks, Settled};
use crate::http::{Certificate, CertificateError, Tls};
use crate::runtime::clock::Clock;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// How long before its end a certificate is warned of, and how often.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateFiles {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_ca: Option<PathBuf>,
}

/// What the files hold, or which cannot be read and why.
type Texts = Result<(Vec<u8>, Vec<u8>, Option<Vec<u8>>), String>;

/// A file of them that is wrong, and how.
pub(super) enum Wrong {
    Chain(String),
    Key(String),
    ClientCa(String),
}

impl CertificateFiles {
    fn texts(&self) -> Texts {
        let client_ca = self.client_ca.as_deref().map(bundle).transpose()?;
        Ok((bundle(&self.chain)?, bundle(&self.key)?, client_ca))
    }

    /// The certificate that they make now.
    ///
    /// # Errors
    /// The first file that is wrong.
    pub(super) fn read(&self) -> Result<Certificate, Wrong> {
        let chain = bundle(&self.chain).map_err(Wrong::Chain)?;
        let key = bundle(&self.key).map_err(Wrong::Key)?;
        let client_ca = self.client_ca.as_deref().map(bundle).transpose();
        let client_ca = client_ca.map_err(Wrong::ClientCa)?;
        Certificate::parse(&chain, &key, client_ca.as_deref()).map_err(|error| self.wrong(error))
    }

    fn wrong(&self, error: CertificateError) -> Wrong {
        match error {
            CertificateError::Key(why) => Wrong::Key(format!("{:?}: {why}", self.key)),
            CertificateError::ClientCa(why) => Wrong::ClientCa(format!(
                "{:?}: {why}",
                self.client_ca.as_deref().unwrap_or(&self.chain)
            )),
            CertificateError::Mismatch => {
                Wrong::Key(format!("{:?}: {}", self.key, CertificateError::Mismatch))
            }
            CertificateError::Chain(why) => Wrong::Chain(format!("{:?}: {why}", self.chain)),
            error @ CertificateError::Unusable(_) => {
                Wrong::Chain(format!("{:?}: {error}", self.chain))
            }
        }
    }
}

fn bundle(path: &Path) -> Result<Vec<u8>, String> {
    files::bundle(path, Kind::Regular)
}

/// What watches the files.
pub(super) struct Renewal {
    tls: Arc<Tls>,
    files: CertificateFiles,
    looks: Looks,
    /// What was read.
    read: Settled<Texts>,
    warned: Option<Duration>,
}

impl Renewal {
    /// Takes SIGHUP over. Must be called within a tokio runtime whose I/O is enabled.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn new(tls: Arc<Tls>, files: CertificateFiles) -> io::Result<Renewal> {
        let looks = Looks::new()?;
        Ok(Renewal { tls, files, looks, read: Settled::default(), warned: None })
    }

    /// Looks at them for ever.
    pub(super) async fn run(mut self) {
        // What they held when the certificate was made is not known here: they are taken once more.
        self.look(false, true).await;
        loop {
            self.warn();
            let is_asked = self.looks.next().await;
            self.look(is_asked, false).await;
        }
    }

    /// Takes over what the files hold, if that is new or asked for.
    async fn look(&mut self, is_asked: bool, is_first: bool) {
        let from = self.files.clone();
        let mut is_slow = false;
        let on_slow = || {
            is_slow = true;
            self.tls.set_stale();
        };
        let texts = files::aside("the HTTP certificate", move || from.texts(), on_slow).await;
        let Some(texts) = texts else { return };
        if !self.read.takes(&texts, is_asked || is_slow) {
            return;
        }
        let made = texts.and_then(|(chain, key, client_ca)| {
            Certificate::parse(&chain, &key, client_ca.as_deref())
                .map_err(|error| error.to_string())
        });
        let made = made.and_then(|made| match made.expires() {
            expires if expires > now() || expires >= self.tls.expires() => Ok(made),
            expires => Err(format!("it has expired, at {}", date(expires))),
        });
        match made {
            Ok(made) => {
                let expires = date(made.expires());
                self.tls.exchange(made);
                self.warned = None;
                if !is_first {
                    tracing::info!(expires, "the HTTP certificate is read anew");
                }
            }
            Err(why) => self.refuse(&why),
        }
    }

    fn refuse(&self, error: &str) {
        self.tls.set_stale();
        let expires = date(self.tls.expires());
        tracing::error!(error, expires, "the HTTP certificate stays as it was");
    }

    /// Warns once a day of an end that is near.
    fn warn(&mut self) {
        let (now, expires) = (now(), self.tls.expires());
        let is_told = self.warned.is_some_and(|warned| now < warned + WARN_EVERY && now >= warned);
        if is_told || now + WARN_BEFORE < expires {
            return;
        }
        self.warned = Some(now);
        let until = date(expires);
        if expires <= now {
            tracing::error!(expires = until, "the HTTP certificate has expired: clients refuse it");
        } else {
            tracing::warn!(expires = until, "the HTTP certificate expires soon");
        }
    }
}

fn now() -> Duration {
    Duration::from_millis(Clock::start().now().wall.0)
}

/// A time of the calendar, as a log has it.
pub(super) fn date(since_1970: Duration) -> String {
    let time = UNIX_EPOCH.checked_add(since_1970).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}
