//! How a connection to a server that speaks TLS begins.
//!
//! ```text
//! first byte: a handshake --> TLS, a step at a time --> the first request
//!             a letter    --> plain HTTP: 400, in plain text
//! ```
//!
//! A handshake takes a place among all connections, as everything does, and its whole time is that
//! of a first head. Its steps cost more than anything else that a client can ask for with as few
//! bytes. So they take turns, and between two turns everything else that is ready goes first.

use super::client::{Conn, Stop};
use super::conn::linger;
use super::refusal::Refusal;
use crate::http::tls::Unmet;
use crate::limits::HTTP_TLS_HANDSHAKE_LEN_MAX;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use tokio::sync::futures::Notified;

/// What a client that begins TLS sends first.
const HANDSHAKE: u8 = 22;

/// A handshake that came to nothing; why, and what the library says.
struct Broken(Unmet, String);

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken(Unmet::Closed, error.to_string())
    }
}

impl Conn {
    /// Makes it a TLS connection, where the server speaks that.
    ///
    /// # Errors
    /// The client has gone or has to; or it spoke plain HTTP, and is told so.
    pub(super) async fn secure(&mut self) -> Result<(), Stop> {
        let gate = Arc::clone(&self.gate);
        let Some(tls) = &gate.shared.config.tls else { return Ok(()) };
        let shutdown = &gate.shared.shutdown;
        let mut drain = pin!(shutdown.draining());
        drain.as_mut().enable();
        if shutdown.is_draining() {
            self.hurry();
        }
        if !self.begins_tls(drain.as_mut()).await? {
            tls.not_met(Unmet::Plain);
            self.tell_unmet(Unmet::Plain, "the client did not begin TLS, as by plain HTTP");
            // The form of the answer is the method's; one read mostly brings the whole head.
            self.more_plain().await?;
            return Err(Refusal::malformed("this port speaks HTTPS: use https://").into());
        }
        match self.meet(drain).await {
            Ok(()) => {
                tls.met();
                Ok(())
            }
            Err(Broken(why, what)) => {
                tls.not_met(why);
                self.tell_unmet(why, &what);
                if !matches!(why, Unmet::Slow | Unmet::Closed) {
                    // The client has been told why, in words of TLS, and may still be sending.
                    linger(&mut self.stream, b"").await;
                }
                Err(Stop::Gone)
            }
        }
    }

    /// What is left of the time when draining begins.
    fn hurry(&mut self) {
        let shared = &self.gate.shared;
        self.deadline.set(shared.bridge.now().instant, shared.config.timing.drain);
    }

    /// Waits for the first byte.
    async fn begins_tls(&mut self, mut drain: Pin<&mut Notified<'_>>) -> Result<bool, Stop> {
        let mut is_told = false;
        loop {
            tokio::select! {
                biased;
                first = self.stream.first() => match first? {
                    // Load balancers look whether the port is there.
                    None => return Err(Stop::Gone),
                    Some(first) => return Ok(first == HANDSHAKE),
                },
                () = drain.as_mut(), if !is_told => {
                    is_told = true;
                    self.hurry();
                }
                () = self.deadline.expired() => {
                    if let Some(tls) = &self.gate.shared.config.tls {
                        tls.not_met(Unmet::Slow);
                    }
                    return Err(Stop::Gone);
                }
            }
        }
    }

    async fn more_plain(&mut self) -> Result<(), Stop> {
        tokio::select! {
            n = self.stream.read_buf(&mut self.input) => match n? {
                0 => Err(Stop::Gone),
                _ => Ok(()),
            },
            () = self.deadline.expired() => Err(Stop::Gone),
        }
    }

    /// The handshake, to its end.
    async fn meet(&mut self, mut drain: Pin<&mut Notified<'_>>) -> Result<(), Broken> {
        let gate = Arc::clone(&self.gate);
        let Some(tls) = &gate.shared.config.tls else { return Ok(()) };
        let (mut is_told, mut len) = (false, 0);
        self.stream.begin_tls(tls.config()).map_err(|error| broken(&error))?;
        loop {
            let Some(mut secure) = self.stream.secure() else { return Ok(()) };
            secure.flush()?;
            if !secure.is_handshaking() {
                return Ok(());
            }
            let came = tokio::select! {
                biased;
                came = secure.receive() => came?,
                () = drain.as_mut(), if !is_told => {
                    is_told = true;
                    self.hurry();
                    continue;
                }
                () = self.deadline.expired() => {
                    return Err(Broken(Unmet::Slow, "it was not whole in time".to_owned()));
                }
            };
            len += came;
            if len > HTTP_TLS_HANDSHAKE_LEN_MAX {
                let what = format!("it is longer than {HTTP_TLS_HANDSHAKE_LEN_MAX} bytes");
                return Err(Broken(Unmet::Malformed, what));
            }
            if came == 0 {
                let what = "the client ended the connection".to_owned();
                return Err(Broken(Unmet::Closed, what));
            }
            // It is never closed.
            let turn = gate.handshakes.acquire().await;
            let Some(mut secure) = self.stream.secure() else { return Ok(()) };
            secure.digest().map_err(|error| broken(&error))?;
            tokio::task::yield_now().await;
            drop(turn);
        }
    }

    fn tell_unmet(&self, why: Unmet, what: &str) {
        if let Some(n_others) = self.gate.unmet_told.ask(self.shared().bridge.now().instant) {
            let (peer, reason) = (self.peer, why.label());
            let error = what;
            tracing::info!(%peer, reason, error, n_others, "a TLS handshake came to nothing");
        }
    }
}

fn broken(error: &rustls::Error) -> Broken {
    Broken(Unmet::of(error), error.to_string())
}
