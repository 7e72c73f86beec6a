//! Reading an object in pieces, each asked for by itself, so that none takes for ever and one that
//! fails is asked for again. All are of one version of the object, or the reading ends.

use super::{S3, SIGNED_FOR, Wanted};
use crate::cli::failure::Failure;
use rusty_s3::{Credentials, S3Action as _};
use std::io::{self, Read};
use ureq::http::Method;
use ureq::http::header::{CONTENT_RANGE, ETAG};

/// Bytes of a piece.
const PIECE_LEN: u64 = 8 << 20;

/// An object that is being read.
pub(super) struct Download<'s> {
    s3: &'s S3,
    name: String,
    /// Which version of it.
    etag: String,
    len: u64,
    /// The piece at hand, and how far it has been read.
    piece: Vec<u8>,
    at: usize,
    /// Bytes of the object before the end of the piece.
    behind: u64,
}

impl<'s> Download<'s> {
    /// Asks for the first piece.
    ///
    /// # Errors
    /// No such object, or as S3 says.
    pub(super) fn new(s3: &'s S3, name: &str) -> Result<Download<'s>, Failure> {
        let (name, etag) = (name.to_owned(), String::new());
        let mut download =
            Download { s3, name, etag, len: PIECE_LEN, piece: Vec::new(), at: 0, behind: 0 };
        download.next()?;
        Ok(download)
    }

    /// Reads the next piece.
    fn next(&mut self) -> Result<(), Failure> {
        let end = (self.behind + PIECE_LEN).min(self.len);
        let range = format!("bytes={}-{}", self.behind, end.saturating_sub(1));
        let key = self.s3.key(&self.name);
        let sign = |credentials: &Credentials| {
            self.s3.bucket.get_object(Some(credentials), &key).sign(SIGNED_FOR).to_string()
        };
        let mut headers = vec![("range", &*range)];
        if self.behind > 0 {
            headers.push(("if-match", &*self.etag));
        }
        let wanted = Wanted { method: Method::GET, sign: &sign, headers: &headers, body: &[] };
        let mut tries = 1;
        let (answer, piece) = loop {
            let answer = self.s3.ask(&self.name, &wanted)?;
            let (head, body) = answer.into_parts();
            let mut piece = Vec::new();
            let read = body.into_reader().take(PIECE_LEN + 1).read_to_end(&mut piece);
            match read {
                Ok(_) => break (head, piece),
                Err(_) if tries < super::TRIES => tries += 1,
                Err(error) => {
                    let at = super::Shelf::describe(self.s3, &self.name);
                    return Err(Failure::Unreachable(format!("{at}: {error}")));
                }
            }
        };
        let text = |name| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let (etag, range) = (text(ETAG).unwrap_or_default(), text(CONTENT_RANGE));
        let told = range.and_then(|range| read_range(range, self.behind));
        // A server that knows no ranges, or an object that is no longer than a piece.
        let whole = (self.behind == 0).then_some(piece.len() as u64);
        let Some(len) = told.or(whole.filter(|len| *len <= PIECE_LEN)) else {
            return Err(self.s3.strange(&self.name, "it does not tell which piece it is"));
        };
        let is_other = self.behind > 0 && (etag != self.etag || len != self.len);
        if is_other || piece.len() as u64 != (self.behind + PIECE_LEN).min(len) - self.behind {
            return Err(self.s3.strange(&self.name, "not the piece that was asked for"));
        }
        (self.etag, self.len) = (etag.to_owned(), len);
        self.behind += piece.len() as u64;
        (self.piece, self.at) = (piece, 0);
        Ok(())
    }
}

/// The whole length, of `bytes 0-7/100` that begins at `begin`.
fn read_range(text: &str, begin: u64) -> Option<u64> {
    let (range, len) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    if from.parse() == Ok(begin) { len.parse().ok() } else { None }
}

impl Read for Download<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            if self.behind == self.len {
                return Ok(0);
            }
            self.next().map_err(|failure| io::Error::other(failure.line()))?;
        }
        let n = out.len().min(self.piece.len() - self.at);
        out[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::read_range;

    #[test]
    fn ranges_tell_the_whole_length() {
        assert_eq!(read_range("bytes 0-7/100", 0), Some(100));
        assert_eq!(read_range("bytes 8-15/100", 8), Some(100));
        for wrong in ["bytes 0-7/100", "bytes 8-15/*", "bytes */100", "8-15/100", ""] {
            assert_eq!(read_range(wrong, 8), None, "{wrong}");
        }
    }
}
