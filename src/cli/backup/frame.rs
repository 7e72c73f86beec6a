//! What a backup is made of: lines of JSON, the first and the last of which tell of the others.
//!
//! ```text
//!   {"gossipykv":"backup","format":1,"began":"..","server":"..","program":".."}
//!   {"key":"a","value":"text","type":"text/plain","version":".."}       as `kv export` writes it
//!   {"gossipykv":"end","keys":1,"bytes":163,"sha256":"..","ended":".."}
//! ```
//!
//! The last line counts the keys, and the bytes before it, and has their SHA-256. A backup without
//! it ends in the middle, whatever its place says of it.

use crate::cli::kv::line;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read as _, Write};

/// The version of what is written here; a reader refuses any other.
const FORMAT: u32 = 1;
/// What the first and the last line begin with, and no line of an entry does.
const MARK: &[u8] = b"{\"gossipykv\":\"";
const BACKUP: &str = "backup";
const END: &str = "end";

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    gossipykv: String,
    format: u32,
    /// When the first key was asked for, RFC 3339.
    pub(super) began: String,
    /// The node that was asked.
    pub(super) server: String,
    /// The version of the program that wrote it.
    program: String,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tail {
    gossipykv: String,
    /// Lines between the first and this one.
    pub(super) keys: u64,
    /// Bytes before this line.
    pub(super) bytes: u64,
    /// Their hash, in hexadecimal digits.
    pub(super) sha256: String,
    /// When the last key was there, RFC 3339.
    pub(super) ended: String,
}

impl Head {
    /// Of a backup that begins now.
    pub(super) fn new(began: String, server: String) -> Head {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        Head { gossipykv: BACKUP.to_owned(), format: FORMAT, began, server, program }
    }
}

/// Counts and hashes what goes by.
struct Sum {
    keys: u64,
    bytes: u64,
    hash: Context,
}

impl Sum {
    fn new() -> Sum {
        Sum { keys: 0, bytes: 0, hash: Context::new(&SHA256) }
    }

    fn add(&mut self, bytes: &[u8], keys: u64) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.keys += keys;
    }

    fn tail(self, ended: String) -> Tail {
        let hash = self.hash.finish();
        let sha256 = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Tail { gossipykv: END.to_owned(), keys: self.keys, bytes: self.bytes, sha256, ended }
    }
}

/// Writes a backup.
pub(super) struct Sealer<W> {
    out: W,
    sum: Sum,
}

impl<W: Write> Sealer<W> {
    /// Writes the first line.
    ///
    /// # Errors
    /// As `out` says.
    pub(super) fn new(out: W, head: &Head) -> io::Result<Sealer<W>> {
        let mut sealer = Sealer { out, sum: Sum::new() };
        sealer.write(&line_of(head)?, 0)?;
        Ok(sealer)
    }

    /// Writes lines of so many keys, ends of lines included.
    ///
    /// # Errors
    /// As `out` says.
    pub(super) fn write(&mut self, lines: &[u8], keys: u64) -> io::Result<()> {
        self.sum.add(lines, keys);
        self.out.write_all(lines)
    }

    /// Keys so far.
    pub(super) fn keys(&self) -> u64 {
        self.sum.keys
    }

    /// Writes the last line.
    ///
    /// # Errors
    /// As `out` says.
    pub(super) fn end(mut self, ended: String) -> io::Result<(W, Tail)> {
        let tail = self.sum.tail(ended);
        self.out.write_all(&line_of(&tail)?)?;
        Ok((self.out, tail))
    }
}

fn line_of(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a backup line by line, and compares it with its last line.
pub(super) struct Lines<R> {
    source: R,
    sum: Option<Sum>,
    /// The number of the line that was read last.
    number: u64,
    head: Head,
}

impl<R: BufRead> Lines<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// The source, or that it is no backup, or one of another format.
    pub(super) fn new(mut source: R) -> Result<Lines<R>, String> {
        let (mut text, mut sum) = (Vec::new(), Sum::new());
        if !read_line(&mut source, &mut text, 1)? || !text.starts_with(MARK) {
            return Err(
                "this is no backup of gossipykv: its first line does not say so; is it of \
                        kv export? that one is read by kv import"
                    .to_owned(),
            );
        }
        let head: Head = serde_json::from_slice(&text)
            .map_err(|error| format!("line 1: not the first line of a backup: {error}"))?;
        if head.gossipykv != BACKUP || head.format != FORMAT {
            return Err(format!(
                "a {:?} of format {}; this version of gossipykv reads backups of format {FORMAT}",
                head.gossipykv, head.format
            ));
        }
        sum.add(&text, 0);
        Ok(Lines { source, sum: Some(sum), number: 1, head })
    }

    /// The first line.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Reads the line of the next entry into `text`, without its end, or says what the last line
    /// does, which has been found to be true. Nothing may be read behind that.
    ///
    /// # Errors
    /// The source; that it ends in the middle, or goes on behind its end; that count, length or
    /// hash are others than the last line says.
    pub(super) fn next(&mut self, text: &mut Vec<u8>) -> Result<Option<Tail>, String> {
        self.number += 1;
        if !read_line(&mut self.source, text, self.number)? {
            return Err(format!(
                "it ends in the middle, after {} keys: the last line, which says how many there \
                 are, is not there",
                self.number - 2
            ));
        }
        let Some(sum) = &mut self.sum else { return Err("read behind its end".to_owned()) };
        if !text.starts_with(MARK) {
            sum.add(text, 1);
            text.pop();
            return Ok(None);
        }
        let told: Tail = serde_json::from_slice(text)
            .map_err(|error| format!("line {}: not its last line: {error}", self.number))?;
        let mut rest = [0];
        if self.source.read(&mut rest).map_err(|error| error.to_string())? > 0 {
            return Err(format!("something follows its last line, {}", self.number));
        }
        let found = self.sum.take().map(|sum| sum.tail(told.ended.clone()));
        match found {
            Some(found) if found == told => Ok(Some(told)),
            Some(found) if found.keys != told.keys => {
                Err(format!("it holds {} keys, and its last line says {}", found.keys, told.keys))
            }
            _ => Err("it is damaged: its SHA-256 is not what its last line says".to_owned()),
        }
    }

    /// Reads all of it; every line of an entry is read as one.
    ///
    /// # Errors
    /// As [`Lines::next`], and a line that is no entry.
    pub(super) fn verify(mut self, step: impl Fn(u64)) -> Result<(Head, Tail), String> {
        let mut text = Vec::new();
        loop {
            if let Some(tail) = self.next(&mut text)? {
                return Ok((self.head, tail));
            }
            line::read(&text).map_err(|why| format!("line {}: {why}", self.number))?;
            step(1);
        }
    }
}

/// Reads a whole line, its end included; false at the end of the source or in the middle of one.
fn read_line(source: &mut impl BufRead, text: &mut Vec<u8>, number: u64) -> Result<bool, String> {
    text.clear();
    let mut bounded = source.take(line::LINE_LEN_MAX as u64 + 1);
    let len = bounded.read_until(b'\n', text).map_err(|error| error.to_string())?;
    if len > line::LINE_LEN_MAX && !text.ends_with(b"\n") {
        return Err(format!("line {number}: longer than {} bytes", line::LINE_LEN_MAX));
    }
    Ok(text.ends_with(b"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(keys: &[&str]) -> Vec<u8> {
        let head = Head::new("2026-11-30T00:00:00Z".to_owned(), "http://n:8080".to_owned());
        let mut sealer = Sealer::new(Vec::new(), &head).expect("room");
        for key in keys {
            let line = format!("{{\"key\":\"{key}\",\"value\":\"v\"}}\n");
            sealer.write(line.as_bytes(), 1).expect("room");
        }
        sealer.end("2026-11-30T00:00:01Z".to_owned()).expect("room").0
    }

    fn verify(bytes: &[u8]) -> Result<u64, String> {
        let (_, tail) = Lines::new(bytes)?.verify(|_| ())?;
        Ok(tail.keys)
    }

    #[test]
    fn what_is_sealed_is_whole_and_what_is_not_is_found_out() {
        let whole = made(&["a", "b", "c"]);
        assert_eq!((verify(&whole), verify(&made(&[]))), (Ok(3), Ok(0)));
        // Cut anywhere.
        for len in 0..whole.len() {
            assert!(verify(&whole[..len]).is_err(), "cut after {len} bytes");
        }
        // Any bit of it turned: in the date of the last line alone it is not seen.
        let date = whole.windows(7).rposition(|part| part == b"\"ended\"").expect("there");
        for at in (0..date).chain(whole.len() - 2..whole.len()) {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert!(verify(&other).is_err(), "byte {at} changed");
        }
        let twice = [&whole[..], &whole].concat();
        assert!(verify(&twice).is_err_and(|why| why.contains("follows its last line")));
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let without = [lines[0], lines[1], lines[3], lines[4]].concat();
        let why = verify(&without).unwrap_err();
        assert_eq!(why, "it holds 2 keys, and its last line says 3");
    }

    #[test]
    fn what_is_no_backup_says_what_it_may_be() {
        for bytes in [&b""[..], b"{\"key\":\"a\",\"value\":\"v\"}\n", b"\xff\n"] {
            assert!(verify(bytes).is_err_and(|why| why.contains("no backup")), "{bytes:?}");
        }
        let newer = String::from_utf8(made(&[])).expect("text").replace("format\":1", "format\":2");
        assert!(verify(newer.as_bytes()).is_err_and(|why| why.contains("of format 2")));
    }
}
