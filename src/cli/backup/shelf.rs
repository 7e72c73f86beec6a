//! What a folder and S3 do for backups alike.

use crate::cli::failure::Failure;
use std::io::{BufRead, Write};

/// What holds backups by their names.
pub(super) trait Shelf {
    /// The names of all that is there and could be a backup, in any order.
    ///
    /// # Errors
    /// It cannot be listed.
    fn names(&self) -> Result<Vec<String>, Failure>;

    /// Begins to write a backup. Nothing is there under its name before [`Target::finish`].
    ///
    /// # Errors
    /// It cannot be written.
    fn create(&self, name: &str) -> Result<Box<dyn Target + '_>, Failure>;

    /// Begins to read a backup.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    fn open(&self, name: &str) -> Result<Box<dyn BufRead + '_>, Failure>;

    /// Removes a backup.
    ///
    /// # Errors
    /// It is still there.
    fn remove(&self, name: &str) -> Result<(), Failure>;

    /// What to call a backup of it, or all of them where `name` is empty.
    fn describe(&self, name: &str) -> String;
}

/// A backup that is being written; when dropped before its end nothing is left of it.
pub(super) trait Target: Write {
    /// Makes it appear, whole, under its name.
    ///
    /// # Errors
    /// It did not.
    fn finish(self: Box<Self>) -> Result<(), Failure>;
}
