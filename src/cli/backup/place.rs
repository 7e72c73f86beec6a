//! Where backups are: a file, a folder, an object of S3, or a prefix there.
//!
//! A folder and a prefix hold one backup for each time, by name; whatever else is there is left
//! alone. Names sort by time, so that the newest is the last, and `--keep` removes the first.

use super::local::Folder;
use super::s3::{Encryption, S3};
use super::shelf::Shelf;
use crate::cli::failure::Failure;
use crate::cli::files;
use crate::time::WallMillis;
use std::ffi::OsStr;
use std::path::Path;

const NAME_START: &str = "gossipykv-";
const NAME_END: &str = ".ndjson";
/// `20261130T010203.456Z`.
const TIME_LEN: usize = 20;
const SCHEME: &str = "s3://";

/// A place as the command line names it.
pub(super) struct Place {
    pub(super) shelf: Box<dyn Shelf>,
    /// Of one backup; `None` where the place holds many.
    pub(super) name: Option<String>,
}

impl Place {
    /// Reads a place; S3 is not asked yet.
    ///
    /// # Errors
    /// It names none; the environment lacks what S3 needs.
    pub(super) fn new(text: &OsStr, encryption: &Encryption) -> Result<Place, Failure> {
        if let Some(rest) = text.to_str().and_then(|text| text.strip_prefix(SCHEME)) {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let (prefix, name) = match key.rsplit_once('/') {
                Some((prefix, name)) if name.ends_with(NAME_END) => (prefix, Some(name)),
                None if key.ends_with(NAME_END) => ("", Some(key)),
                _ => (key.trim_end_matches('/'), None),
            };
            let shelf = Box::new(S3::new(bucket, prefix, encryption.clone())?);
            return Ok(Place { shelf, name: name.map(str::to_owned) });
        }
        let path = Path::new(text);
        if text.is_empty() || text == "-" {
            let why = "a backup is read twice, and appears whole or not at all: name a file, a \
                       folder or s3://BUCKET/PREFIX";
            return Err(Failure::usage(why));
        }
        if path.is_dir() {
            return Ok(Place { shelf: Box::new(Folder::new(path)), name: None });
        }
        let failed = |why: &str| Failure::failed(format!("{}: {why}", path.display()));
        let (path, found) = files::target(path).map_err(|error| failed(&error.to_string()))?;
        if found.is_some_and(|found| !found.is_file()) {
            return Err(failed("not a regular file; a backup appears whole, and is read twice"));
        }
        let name = path.file_name().and_then(OsStr::to_str);
        let (Some(name), false) = (name, ends_with_slash(text)) else {
            return Err(Failure::failed(format!("{}: no such folder", path.display())));
        };
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let shelf = Folder::new(folder.unwrap_or(Path::new(".")));
        Ok(Place { shelf: Box::new(shelf), name: Some(name.to_owned()) })
    }

    /// The backup that is named, or the newest one.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn existing(&self) -> Result<String, Failure> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let newest = ours(self.shelf.names()?).pop();
        newest.ok_or_else(|| {
            let at = self.shelf.describe("");
            let like = format!("{NAME_START}TIME{NAME_END}");
            Failure::failed(format!("{at}: no backup is there, none is called {like}"))
        })
    }

    /// Removes the oldest of the backups that have a time in their names, but for the newest
    /// `keep`. The names of those that went.
    ///
    /// # Errors
    /// One that should have gone is still there.
    pub(super) fn thin_out(&self, keep: usize) -> Result<Vec<String>, Failure> {
        let mut names = ours(self.shelf.names()?);
        names.truncate(names.len().saturating_sub(keep));
        for name in &names {
            self.shelf.remove(name)?;
        }
        Ok(names)
    }
}

fn ends_with_slash(text: &OsStr) -> bool {
    text.as_encoded_bytes().ends_with(b"/")
}

/// What a backup of this moment is called.
pub(super) fn name_of(now: WallMillis) -> String {
    let time = super::time_of(now).replace(['-', ':'], "");
    format!("{NAME_START}{time}{NAME_END}")
}

/// The names that [`name_of`] makes, the oldest first.
fn ours(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| is_ours(name));
    names.sort();
    names
}

fn is_ours(name: &str) -> bool {
    let time = name.strip_prefix(NAME_START).and_then(|rest| rest.strip_suffix(NAME_END));
    time.is_some_and(|time| {
        time.len() == TIME_LEN
            && time.bytes().enumerate().all(|(at, byte)| match at {
                8 => byte == b'T',
                15 => byte == b'.',
                19 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn place(text: &OsStr) -> Result<Place, Failure> {
        Place::new(text, &Encryption::default())
    }

    #[test]
    fn names_sort_by_time_and_only_they_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let times = [0, 999, 1_000, 1_796_000_000_123, 253_402_300_799_999];
        let names = times.map(|millis| name_of(WallMillis(millis)));
        assert_eq!(names[3], "gossipykv-20261130T005320.123Z.ndjson");
        assert!(names.is_sorted() && names.iter().all(|name| is_ours(name)));
        let others = ["gossipykv-.ndjson", "notes.ndjson", "gossipykv-2026.ndjson", "x"];
        for name in names.iter().map(String::as_str).chain(others) {
            fs::write(folder.path().join(name), "").expect("room");
        }
        let place = place(folder.path().as_os_str()).expect("a folder");
        assert_eq!(place.existing().as_deref(), Ok(&*names[4]));
        assert_eq!(place.thin_out(9), Ok(Vec::new()));
        assert_eq!(place.thin_out(2), Ok(names[..3].to_vec()));
        let mut left: Vec<String> = fs::read_dir(folder.path())
            .expect("there")
            .map(|entry| {
                entry.expect("readable").file_name().into_string().expect("a name of ours")
            })
            .collect();
        left.sort();
        let mut expected = [&names[3], &names[4]].map(String::as_str).to_vec();
        expected.extend(others);
        expected.sort_unstable();
        assert_eq!(left, expected);
    }

    #[test]
    fn a_place_is_a_file_or_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = place(folder.path().join("copy").as_os_str()).expect("a file to be");
        assert_eq!(file.name.as_deref(), Some("copy"));
        for wrong in ["", "-"] {
            assert!(matches!(place(OsStr::new(wrong)), Err(Failure::Usage(_))), "{wrong:?}");
        }
        let absent = place(folder.path().join("absent/").as_os_str());
        assert!(absent.is_err_and(|why| format!("{why:?}").contains("no such folder")));
        // What is replaced is what a link leads to, and no pipe nor device.
        fs::write(folder.path().join("real"), "older").expect("room");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("real", &link).expect("a link");
        let linked = place(link.as_os_str()).expect("a file");
        assert_eq!(linked.name.as_deref(), Some("real"));
        fs::remove_file(folder.path().join("real")).expect("there");
        let nowhere = place(link.as_os_str());
        assert!(nowhere.is_err_and(|why| format!("{why:?}").contains("leads nowhere")));
        let device = place(OsStr::new("/dev/null"));
        assert!(device.is_err_and(|why| format!("{why:?}").contains("not a regular file")));
        let empty = place(folder.path().as_os_str()).expect("a folder").existing();
        assert!(empty.is_err_and(|why| format!("{why:?}").contains("no backup is there")));
    }
}
