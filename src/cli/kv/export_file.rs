//! The file of an export: under another name until it is whole, so that an export that fails
//! leaves the one before it alone.

use super::line::{LINE_LEN_MAX, key_of};
use crate::cli::{files, logging};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A file to write to.
pub(super) struct ExportFile {
    /// Behind what is to be kept of it.
    pub(super) file: File,
    /// The name it has, and the one it gets when it is whole, if that is another.
    names: Option<(PathBuf, PathBuf)>,
    /// The file that has the name so far. Nobody resumes that one meanwhile.
    _before: Option<File>,
}

impl ExportFile {
    /// An empty file beside `path`, whose mode it gets if there is one; a pipe or a device itself.
    ///
    /// # Errors
    /// What the system says; a link that leads nowhere.
    pub(super) fn create(path: &Path) -> io::Result<ExportFile> {
        let (path, found) = files::target(path)?;
        if found.as_ref().is_some_and(|found| !found.is_file()) {
            let file = OpenOptions::new().write(true).open(path)?;
            return Ok(ExportFile { file, names: None, _before: None });
        }
        let before = to_lock(&path);
        before.as_ref().map_or(Ok(()), |before| claim(before, &path))?;
        let part = part_of(&path);
        let open = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&part)?;
            claim(&file, &part)?;
            Ok(file)
        };
        let file = open().map_err(|error| named(&part, &error))?;
        if file.metadata()?.len() > 0 {
            let part = part.display();
            logging::say(&format!("{part}: an export that stopped left it; it is written anew"));
        }
        file.set_len(0)?;
        if let Some(found) = found {
            file.set_permissions(found.permissions())?;
        }
        Ok(ExportFile { file, names: Some((part, path)), _before: before })
    }

    /// What an export left that stopped, up to its last whole line, and the key of that one: the
    /// part beside `path`, else what is called so.
    ///
    /// # Errors
    /// What the system says; a file that holds something else than an export.
    pub(super) fn resume(path: &Path) -> io::Result<(ExportFile, Option<String>)> {
        let (path, found) = files::target(path)?;
        let part = part_of(&path);
        let is_ours = fs::metadata(&part).is_ok_and(|found| found.is_file());
        let open = |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            claim(&file, path)?;
            Ok(file)
        };
        if is_ours {
            let mut file = open(&part).map_err(|error| named(&part, &error))?;
            let (_, key) = cut(&mut file, true).map_err(|error| named(&part, &error))?;
            let file = ExportFile { file, names: Some((part, path)), _before: None };
            return Ok((file, key));
        }
        match found {
            None => Ok((ExportFile::create(&path)?, None)),
            Some(found) if !found.is_file() => Err(io::Error::other("not a regular file")),
            Some(_) => {
                let mut file = open(&path)?;
                let (_, key) = cut(&mut file, false)?;
                Ok((ExportFile { file, names: None, _before: None }, key))
            }
        }
    }

    /// Whether an export that stops can be gone on with: not where it went to a pipe or a device.
    pub(super) fn can_resume(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.is_file())
    }

    /// Gives it its name, once it is on the disk.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn finish(self) -> io::Result<()> {
        let Some((part, path)) = self.names else { return Ok(()) };
        self.file.sync_all()?;
        fs::rename(part, path)
    }
}

/// The file of this name, to be claimed and left as it is; `None` for one that cannot be resumed
/// either. It is opened for writing, too: else NFS refuses the lock (`EBADF`).
fn to_lock(path: &Path) -> Option<File> {
    let open = OpenOptions::new().read(true).write(true).open(path);
    open.or_else(|_| File::open(path)).ok()
}

/// Keeps another export from writing the same file, as long as this one is open.
///
/// # Errors
/// Another one does.
fn claim(file: &File, path: &Path) -> io::Result<()> {
    let is_taken = match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(error) => error == Errno::WOULDBLOCK,
        // The other one may have ended since it was opened, and given it its name.
        Ok(()) => fs::metadata(path)?.ino() != file.metadata()?.ino(),
    };
    // A file system without locks has no say in it.
    if is_taken { Err(io::Error::other("another export writes it")) } else { Ok(()) }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What an export is called until it is whole.
fn part_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    path.with_file_name(name)
}

/// Cuts a file behind its last whole line; its length, and the key of that line. One without a
/// whole line is emptied only if it `is_ours` by its name.
fn cut(file: &mut File, is_ours: bool) -> io::Result<(u64, Option<String>)> {
    let (mut last, mut line, mut len) = (Vec::new(), Vec::new(), 0);
    let mut reader = BufReader::with_capacity(1 << 20, &mut *file);
    loop {
        line.clear();
        reader.by_ref().take(LINE_LEN_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            break;
        }
        len += line.len() as u64;
        std::mem::swap(&mut last, &mut line);
    }
    let key = key_of(&last);
    let why = match key {
        None if !last.is_empty() => "its last line is none of an export",
        None if !is_ours && !line.is_empty() => "it holds no whole line of an export",
        _ => "",
    };
    if !why.is_empty() {
        let why = format!("{why}; without --resume it is written anew");
        return Err(io::Error::new(ErrorKind::InvalidData, why));
    }
    file.set_len(len)?;
    file.seek(SeekFrom::Start(len))?;
    Ok((len, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{OFlags, fcntl_getfl};
    use std::io::Write as _;
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

    const WHOLE: &str = "{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"b\",\"value\":\"2\"}\n";

    fn read(path: &Path) -> String {
        fs::read_to_string(path).expect("text")
    }

    #[test]
    fn what_is_resumed_begins_behind_the_last_whole_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("copy");
        for name in [path.clone(), part_of(&path)] {
            fs::write(&name, format!("{WHOLE}{{\"key\":\"c\",\"va")).expect("room");
            let (mut resumed, after) = ExportFile::resume(&path).expect("two lines");
            assert_eq!(after.as_deref(), Some("b"));
            resumed.file.write_all(b"more\n").expect("room");
            resumed.finish().expect("room");
            assert_eq!(read(&path), format!("{WHOLE}more\n"));
        }
        assert!(!part_of(&path).exists());
        assert!(ExportFile::resume(&path).is_err(), "that is no line of an export");
        // Some pages of ours, or what was a line of somebody's.
        fs::write(part_of(&path), "{\"key\":\"c\",\"va").expect("room");
        assert_eq!(ExportFile::resume(&path).expect("a part").1, None);
        fs::remove_file(part_of(&path)).expect("there");
        fs::write(&path, "notes").expect("room");
        let why = ExportFile::resume(&path).map(|_| ()).unwrap_err().to_string();
        assert!(why.contains("no whole line") && read(&path) == "notes", "{why}");
        fs::write(&path, "").expect("room");
        assert_eq!(ExportFile::resume(&path).expect("empty").1, None);
    }

    #[test]
    fn a_new_one_takes_the_place_of_the_old_one_when_it_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, link] = ["copy", "link"].map(|name| folder.path().join(name));
        fs::write(&path, "older").expect("room");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        symlink("copy", &link).expect("a link");
        let mut new = ExportFile::create(&link).expect("room");
        new.file.write_all(WHOLE.as_bytes()).expect("room");
        assert_eq!(read(&path), "older");
        new.finish().expect("room");
        assert_eq!(read(&path), WHOLE);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        fs::remove_file(&path).expect("there");
        assert!(ExportFile::create(&link).is_err(), "it leads nowhere");
        let mut device = ExportFile::create(Path::new("/dev/null")).expect("there");
        device.file.write_all(b"gone").expect("room");
        device.finish().expect("nothing to do");
        assert!(fs::metadata("/dev/null").expect("there").file_type().is_char_device());
        assert!(ExportFile::resume(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn what_is_locked_is_open_for_writing_and_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("copy");
        fs::write(&path, WHOLE).expect("room");
        let changed = || fs::metadata(&path).expect("there").modified().expect("a time");
        let before = changed();
        let locked = to_lock(&path).expect("there");
        claim(&locked, &path).expect("nobody else has it");
        let flags = fcntl_getfl(&locked).expect("open");
        assert_eq!(flags & OFlags::RWMODE, OFlags::RDWR, "NFS would refuse the lock");
        assert_eq!((read(&path).as_str(), changed()), (WHOLE, before));
        drop(locked);
        // Whoever may only read it locks it where that is enough.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("ours");
        assert!(to_lock(&path).is_some());
    }

    #[test]
    fn two_exports_do_not_write_one_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("copy");
        let mut first = ExportFile::create(&path).expect("room");
        first.file.write_all(WHOLE.as_bytes()).expect("room");
        for second in [ExportFile::create(&path), ExportFile::resume(&path).map(|(file, _)| file)] {
            let why = second.map(|_| ()).unwrap_err().to_string();
            assert!(why.ends_with("another export writes it"), "{why}");
        }
        first.finish().expect("room");
        assert_eq!(read(&path), WHOLE);
        drop(ExportFile::create(&path).expect("the first one is over"));
        // Nobody puts another file in the place of one that is gone on with.
        fs::remove_file(part_of(&path)).expect("the part that was dropped");
        let (resumed, _) = ExportFile::resume(&path).expect("an export");
        let why = ExportFile::create(&path).map(|_| ()).unwrap_err().to_string();
        assert!(why.ends_with("another export writes it"), "{why}");
        resumed.finish().expect("room");
        drop(ExportFile::create(&path).expect("it is over"));
    }
}
