//! Reads the file of tokens again: at SIGHUP, and when it has changed and stays so.
//!
//! A file that is bad or gone changes nothing: the tokens stay, and a line of the log says so, once
//! for each reason.

use super::files::{self, Kind, Looks, Settled};
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
    /// What was read, or why not.
    read: Settled<Result<String, String>>,
    /// Whether it has been taken once.
    is_known: bool,
}

impl Reload {
    /// Takes SIGHUP over. Must be called within a tokio runtime whose I/O is enabled.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn new(tokens: Arc<Tokens>, path: PathBuf) -> io::Result<Reload> {
        Ok(Reload { tokens, path, looks: Looks::new()?, read: Settled::default(), is_known: false })
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
        if !self.read.takes(&read, is_asked || is_slow) {
            return;
        }
        let is_first = !std::mem::replace(&mut self.is_known, true);
        let list = read.and_then(|text| {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::TokenList;
    use std::fs;

    #[test]
    fn a_file_that_is_being_written_is_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let file = tempfile::NamedTempFile::new().expect("a file");
            let write = |text: &str| fs::write(file.path(), text).expect("room");
            let tokens = Tokens::new(TokenList::parse("write a old").expect("tokens"));
            write("write a old");
            let mut reload = Reload::new(Arc::clone(&tokens), file.path().into()).expect("signals");
            let names = || tokens.names().join(" ");
            reload.look(false).await;
            // An editor, or a shell, has come to the end of the first line.
            write("write b new\n");
            reload.look(false).await;
            assert_eq!(names(), "a", "clients with the old one would be refused");
            write("write b new\nwrite a old\n");
            reload.look(false).await;
            assert_eq!(names(), "a");
            reload.look(false).await;
            assert_eq!(names(), "b a");
            // What cannot be read is told when it stays so.
            write("write b");
            reload.look(false).await;
            assert!(!tokens.is_stale());
            reload.look(false).await;
            assert!(tokens.is_stale() && names() == "b a");
            // Whoever asks for it says that it is whole.
            write("write c newer");
            reload.look(true).await;
            assert!(!tokens.is_stale() && names() == "c");
        });
    }
}
