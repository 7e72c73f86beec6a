//! Backups in a folder. One appears under its name when it is whole and on the disk.

use super::shelf::{Shelf, Target};
use crate::cli::failure::Failure;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const BUFFER_LEN: usize = 1 << 20;
/// Keys may be anybody's business: a backup is its owner's alone.
const MODE: u32 = 0o600;

/// A folder of backups.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The folder at `path`.
    pub(super) fn new(path: &Path) -> Folder {
        Folder(path.to_owned())
    }

    fn failed(&self, name: &str, error: &io::Error) -> Failure {
        Failure::failed(format!("{}: {error}", self.describe(name)))
    }
}

impl Shelf for Folder {
    fn names(&self) -> Result<Vec<String>, Failure> {
        let read = || {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.0)? {
                // What is no text is no name of a backup.
                names.extend(entry?.file_name().into_string().ok());
            }
            Ok(names)
        };
        read().map_err(|error| self.failed("", &error))
    }

    fn create(&self, name: &str) -> Result<Box<dyn Target + '_>, Failure> {
        let part = self.0.join(format!(".{name}.part"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(MODE).open(&part);
        let file = file.map_err(|error| Failure::failed(format!("{}: {error}", part.display())))?;
        let out = BufWriter::with_capacity(BUFFER_LEN, file);
        Ok(Box::new(Part { folder: self, name: name.to_owned(), part: Some(part), out }))
    }

    fn open(&self, name: &str) -> Result<Box<dyn BufRead + '_>, Failure> {
        let open = || {
            let file = File::open(self.0.join(name))?;
            // It is read twice.
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            Ok(Box::new(BufReader::with_capacity(BUFFER_LEN, file)))
        };
        Ok(open().map_err(|error| self.failed(name, &error))?)
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        fs::remove_file(self.0.join(name)).map_err(|error| self.failed(name, &error))
    }

    fn describe(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

/// A file that is not whole yet, under another name.
struct Part<'f> {
    folder: &'f Folder,
    name: String,
    /// `None` once it has its name.
    part: Option<PathBuf>,
    out: BufWriter<File>,
}

impl Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Target for Part<'_> {
    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        let mut put = || {
            self.out.flush()?;
            self.out.get_ref().sync_all()?;
            if let Some(part) = &self.part {
                fs::rename(part, self.folder.0.join(&self.name))?;
            }
            self.part = None;
            // The name, too.
            File::open(&self.folder.0)?.sync_all()
        };
        put().map_err(|error| self.folder.failed(&self.name, &error))
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // It is no backup by its name, whether it goes or not.
            let _ = fs::remove_file(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_there_when_it_is_whole_and_never_before() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(place.path());
        fs::write(place.path().join("copy"), "older").expect("room");
        let mut given_up = folder.create("copy").expect("room");
        given_up.write_all(b"half").expect("room");
        drop(given_up);
        assert_eq!(folder.names(), Ok(vec!["copy".to_owned()]), "nothing is left");
        let mut target = folder.create("copy").expect("room");
        target.write_all(b"newer").expect("room");
        let read = |name: &str| {
            let mut text = String::new();
            folder.open(name).expect("there").read_to_string(&mut text).expect("text");
            text
        };
        assert_eq!(read("copy"), "older");
        target.finish().expect("room");
        assert_eq!(read("copy"), "newer");
        let mode = fs::metadata(place.path().join("copy")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            folder.open("absent").is_err() && Folder::new(&place.path().join("x")).names().is_err()
        );
        assert!(folder.open(".").is_err(), "a folder");
    }
}
