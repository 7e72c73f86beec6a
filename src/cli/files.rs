//! Small files with secrets, keys and certificates, read so that none of them stops the reader.
//!
//! A pipe in the place of a file blocks whoever opens it until somebody writes; a mount that hangs
//! blocks whoever reads. So a node takes regular files only, and reads them again on a thread of
//! its own ([`aside`]): signals and the other files go on. A command, which ends when it is
//! interrupted, takes a pipe, too: `--token-file <(pass show kv)`.

use crate::runtime::signal;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::Signal;

/// Most bytes of a file of keys or of a token.
const SECRET_LEN_MAX: u64 = 64 << 10;
/// Most bytes of a file of certificates: those of all public CAs take a quarter.
const BUNDLE_LEN_MAX: u64 = 1 << 20;
/// How long files may take before the log tells.
const SLOW: Duration = Duration::from_secs(5);

/// How often the file is looked at: what it holds counts at the second look. It is short, and read
/// as a whole: by its times and its length not every change shows, and what it is may be exchanged
/// with a link to it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file, or a link to one: what a node reads.
    Regular,
    /// A pipe or a device, too: what a command reads once.
    Any,
}

/// Reads a file that holds a secret. An error names the file and shows nothing of it.
///
/// # Errors
/// What the system says; another kind of file; one longer than 64 KiB or not UTF-8.
pub(super) fn secret(path: impl AsRef<Path>, kind: Kind) -> Result<String, String> {
    let path = path.as_ref();
    let bytes = read(path, kind, SECRET_LEN_MAX)?;
    String::from_utf8(bytes).map_err(|_| format!("{path:?}: it is not UTF-8"))
}

/// Reads a file of certificates or of a key. An error names the file and shows nothing of it.
///
/// # Errors
/// What the system says; another kind of file; one longer than 1 MiB.
pub(super) fn bundle(path: &Path, kind: Kind) -> Result<Vec<u8>, String> {
    read(path, kind, BUNDLE_LEN_MAX)
}

/// The file to write where one at `path` is to be replaced: the one that a link leads to; and what
/// is there, if anything. What is no regular file stays under the name that was given.
///
/// # Errors
/// What the system says; a link that leads nowhere.
pub(super) fn target(path: &Path) -> io::Result<(PathBuf, Option<Metadata>)> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match fs::metadata(path) {
        Ok(found) if is_link && found.is_file() => Ok((fs::canonicalize(path)?, Some(found))),
        Ok(found) => Ok((path.to_owned(), Some(found))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_link => {
            Err(io::Error::new(error.kind(), "a link that leads nowhere"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((path.to_owned(), None)),
        Err(error) => Err(error),
    }
}

fn read(path: &Path, kind: Kind, len_max: u64) -> Result<Vec<u8>, String> {
    let read = || {
        let mut bytes = Vec::new();
        open(path, kind)?.take(len_max + 1).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    let bytes = read().map_err(|error| format!("{path:?}: {error}"))?;
    if bytes.len() as u64 > len_max {
        return Err(format!("{path:?}: longer than {len_max} bytes"));
    }
    Ok(bytes)
}

fn open(path: &Path, kind: Kind) -> io::Result<File> {
    if kind == Kind::Any {
        return File::open(path);
    }
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file (a folder, a pipe, a device)"))
    }
}

/// The moments at which files that may have changed are looked at.
pub(super) struct Looks {
    hangup: Signal,
}

impl Looks {
    /// Takes SIGHUP over. Must be called within a tokio runtime whose I/O is enabled.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn new() -> io::Result<Looks> {
        Ok(Looks { hangup: signal::hangup()? })
    }

    /// Waits for the next one; true when it was asked for, by SIGHUP.
    pub(super) async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.hangup.recv() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        }
    }
}

/// Takes what files hold only once it stays. Somebody may be writing them, one after the other or
/// line by line, and half of a list of tokens or of CAs is one, too: its other half would
/// be refused.
#[derive(Debug)]
pub(super) struct Settled<T> {
    /// What was read at the last look.
    seen: Option<T>,
    /// What has been taken.
    taken: Option<T>,
}

impl<T> Default for Settled<T> {
    fn default() -> Settled<T> {
        Settled { seen: None, taken: None }
    }
}

impl<T: PartialEq + Clone> Settled<T> {
    /// Whether to take what was read now: it is new, and was the same at the last look. The first
    /// is taken at once, and so is what is `asked` for, be it new or not.
    pub(super) fn takes(&mut self, read: &T, asked: bool) -> bool {
        let is_still = self.seen.as_ref() == Some(read);
        if !is_still {
            self.seen = Some(read.clone());
        }
        let is_new = self.taken.as_ref() != Some(read);
        let takes = asked || is_new && (is_still || self.taken.is_none());
        if takes && is_new {
            self.taken = Some(read.clone());
        }
        takes
    }
}

/// What comes of reading, on a thread of its own; `None` when the thread died. When it takes long,
/// the log tells once, and `on_slow` is called.
pub(super) async fn aside<T: Send + 'static>(
    what: &'static str,
    read: impl FnOnce() -> T + Send + 'static,
    on_slow: impl FnOnce(),
) -> Option<T> {
    aside_or(SLOW, read, || {
        on_slow();
        tracing::warn!("{what} cannot be read: the file system does not answer; still waiting");
    })
    .await
}

async fn aside_or<T: Send + 'static>(
    slow: Duration,
    read: impl FnOnce() -> T + Send + 'static,
    on_slow: impl FnOnce(),
) -> Option<T> {
    let mut reading = tokio::task::spawn_blocking(read);
    if let Ok(read) = tokio::time::timeout(slow, &mut reading).await {
        return read.ok();
    }
    on_slow();
    reading.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tokio::runtime::Builder;

    #[test]
    fn a_node_reads_regular_files_and_commands_read_pipes() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "text").expect("room");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        for path in [&file, &link] {
            assert_eq!(secret(path, Kind::Regular), Ok("text".to_owned()));
            assert_eq!(bundle(path, Kind::Any), Ok(b"text".to_vec()));
        }
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).expect("a pipe");
        for other in [pipe.clone(), folder.path().into(), PathBuf::from("/dev/zero")] {
            let error = secret(&other, Kind::Regular).unwrap_err();
            assert!(
                error.contains("not a regular file") && error.contains(&*other.to_string_lossy())
            );
            assert!(bundle(&other, Kind::Regular).is_err());
        }
        std::thread::scope(|threads| {
            threads.spawn(|| fs::write(&pipe, "piped").expect("a reader"));
            assert_eq!(secret(&pipe, Kind::Any), Ok("piped".to_owned()));
        });
        fs::write(&file, [0xff; 9]).expect("room");
        assert!(secret(&file, Kind::Regular).is_err_and(|error| error.contains("UTF-8")));
        fs::write(&file, vec![b'a'; 1 + (64 << 10)]).expect("room");
        assert!(secret(&file, Kind::Regular).is_err_and(|error| error.contains("longer")));
        assert!(bundle(&file, Kind::Regular).is_ok());
    }

    #[test]
    fn what_is_read_is_taken_when_it_stays() {
        let mut settled = Settled::default();
        let looks = [
            ("a", false, true),
            ("a", false, false),
            ("b", false, false),
            ("ab", false, false),
            ("ab", false, true),
            ("ab", false, false),
            // It was nothing but a moment.
            ("x", false, false),
            ("ab", false, false),
            ("ab", true, true),
            ("c", true, true),
            ("c", false, false),
        ];
        for (n, (read, asked, takes)) in looks.into_iter().enumerate() {
            assert_eq!(settled.takes(&read, asked), takes, "look {n}");
        }
    }

    #[test]
    fn who_waits_for_a_file_that_hangs_goes_on_with_the_rest() {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (tell, told) = mpsc::channel();
        let (warn, warned) = tokio::sync::oneshot::channel();
        let read = runtime.block_on(async {
            let on_slow = || warn.send(()).expect("somebody waits");
            let read = aside_or(Duration::from_millis(1), move || told.recv().is_ok(), on_slow);
            // Another task has its turn meanwhile, and what it does lets the file be read.
            let other = async {
                warned.await.expect("a warning");
                tell.send(()).expect("it is read");
            };
            tokio::join!(read, other).0
        });
        assert_eq!(read, Some(true));
    }
}
