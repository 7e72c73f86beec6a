//! Reads the file of tokens again: at SIGHUP, and when it has changed.
//!
//! A file that is bad or gone changes nothing: the tokens stay, and a line of the log says so, once
//! for each reason.

use super::files::{self, Kind, Looks};
use super::parse;
use crate::http::Tokens;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What watches the file.
pub(super) struct Reload {
    tokens: Arc<Tokens>,
    path: PathBuf,
    looks: Looks,
    /// What was read last, or why not.
    last: Option<Result<String, String>>,
}

impl Reload {
    /// Takes SIGHUP over. Must be called within a tokio runtime whose I/O is enabled.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn new(tokens: Arc<Tokens>, path: PathBuf) -> io::Result<Reload> {
        Ok(Reload { tokens, path, looks: Looks::new()?, last: None })
    }

    /// Looks at it for ever.
    pub(super) async fn run(mut self) {
        // It has been read just now; what it was then is not known here, so it is taken once more.
        self.look(false).await;
        loop {
            let is_asked = self.looks.next().await;
            self.look(is_asked).await;
        }
    }

    /// Takes over what the file holds, if that is new or asked for.
    async fn look(&mut self, is_asked: bool) {
        let path = self.path.clone();
        let read = move || files::secret(&path, Kind::Regular);
        let mut is_slow = false;
        let on_slow = || {
            is_slow = true;
            self.tokens.set_stale();
        };
        let Some(read) = files::aside("the file of HTTP tokens", read, on_slow).await else {
            return;
        };
        if !is_asked && !is_slow && self.last.as_ref() == Some(&read) {
            return;
        }
        let is_first = self.last.is_none();
        let list = read.clone().and_then(|text| {
            parse::tokens(&text).map_err(|error| format!("{:?}: {error}", self.path))
        });
        match list {
            Ok(list) => {
                let shown = list.shown().join(", ");
                self.tokens.exchange(list);
                if !is_first {
                    tracing::info!(tokens = shown, "the HTTP tokens are read anew");
                }
            }
            Err(error) => {
                self.tokens.set_stale();
                tracing::warn!(error, "the HTTP tokens stay as they were");
            }
        }
        self.last = Some(read);
    }
}
