//! Writing an object in parts, of which S3 makes the object only when it is told that all are
//! there. A small one is written with a single request.

use super::{S3, SIGNED_FOR, Shelf as _, Target, Wanted};
use crate::cli::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use rusty_s3::actions::CreateMultipartUpload;
use rusty_s3::{Credentials, S3Action};
use std::io::{self, Write};
use ureq::http::Method;
use ureq::http::header::ETAG;

/// Bytes of the first parts; S3 takes at least 5 MiB for all but the last one.
const PART_LEN: usize = 8 << 20;
/// After so many parts they are twice as long: S3 takes 10,000, which are 1.2 TB in this way.
const PARTS_BEFORE_DOUBLE: usize = 1_500;

/// An object that is being written.
pub(super) struct Upload<'s> {
    s3: &'s S3,
    name: String,
    key: String,
    /// What is not sent yet.
    part: Vec<u8>,
    /// What S3 calls the upload, once there is a part.
    id: Option<String>,
    /// What it calls each part.
    etags: Vec<String>,
}

impl<'s> Upload<'s> {
    /// Nothing is sent before there is a part.
    pub(super) fn new(s3: &'s S3, name: &str) -> Upload<'s> {
        let (key, name) = (s3.key(name), name.to_owned());
        Upload { s3, name, key, part: Vec::new(), id: None, etags: Vec::new() }
    }

    fn part_len(&self) -> usize {
        PART_LEN << (self.etags.len() / PARTS_BEFORE_DOUBLE).min(5)
    }

    /// Sends what is there as a part.
    fn send_part(&mut self) -> Result<(), Failure> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => self.id.insert(self.begin()?).clone(),
        };
        let number = u16::try_from(self.etags.len() + 1)
            .map_err(|_| self.s3.strange(&self.name, "too many parts"))?;
        let sign = |credentials: &Credentials| {
            let action = self.s3.bucket.upload_part(Some(credentials), &self.key, number, &id);
            action.sign(SIGNED_FOR).to_string()
        };
        let md5 = STANDARD.encode(Md5::digest(&self.part));
        let headers = [("content-md5", &*md5)];
        let wanted =
            Wanted { method: Method::PUT, sign: &sign, headers: &headers, body: &self.part };
        let answer = self.s3.ask(&self.name, &wanted)?;
        let etag = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        let etag = etag.ok_or_else(|| self.s3.strange(&self.name, "a part without an ETag"))?;
        self.etags.push(etag.to_owned());
        self.part.clear();
        Ok(())
    }

    fn begin(&self) -> Result<String, Failure> {
        let encryption = &self.s3.encryption;
        let sign = |credentials: &Credentials| {
            let bucket = &self.s3.bucket;
            encryption.sign(bucket.create_multipart_upload(Some(credentials), &self.key))
        };
        let wanted =
            Wanted { method: Method::POST, sign: &sign, headers: &encryption.headers(), body: &[] };
        let text = self.s3.ask_text(&self.name, &wanted)?;
        let read = CreateMultipartUpload::parse_response(&text);
        let read = read.map_err(|why| self.s3.strange(&self.name, &why.to_string()))?;
        Ok(read.upload_id().to_owned())
    }

    /// Makes the object of its parts.
    fn complete(&self, id: &str) -> Result<(), Failure> {
        let bucket = &self.s3.bucket;
        // What is signed is the address; the parts are told in the body.
        let sign = |credentials: &Credentials| {
            let none = std::iter::empty();
            let action = bucket.complete_multipart_upload(Some(credentials), &self.key, id, none);
            action.sign(SIGNED_FOR).to_string()
        };
        let etags = self.etags.iter().map(String::as_str);
        let body = bucket.complete_multipart_upload(None, &self.key, id, etags).body();
        let wanted =
            Wanted { method: Method::POST, sign: &sign, headers: &[], body: body.as_bytes() };
        // The status comes before S3 knows, so that a failure may be in the body.
        let text = self.s3.ask_text(&self.name, &wanted)?;
        match text.contains("<CompleteMultipartUploadResult") {
            true => Ok(()),
            false => Err(self.s3.strange(&self.name, &format!("it did not end: {text}"))),
        }
    }

    /// Writes all of it with one request.
    fn put(&self) -> Result<(), Failure> {
        let encryption = &self.s3.encryption;
        let sign = |credentials: &Credentials| {
            encryption.sign(self.s3.bucket.put_object(Some(credentials), &self.key))
        };
        let md5 = STANDARD.encode(Md5::digest(&self.part));
        let mut headers = encryption.headers();
        headers.push(("content-md5", &md5));
        let wanted =
            Wanted { method: Method::PUT, sign: &sign, headers: &headers, body: &self.part };
        self.s3.ask(&self.name, &wanted).map(drop)
    }
}

impl Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.part_len() - self.part.len();
        let n = bytes.len().min(room);
        self.part.extend_from_slice(&bytes[..n]);
        if n == room {
            self.send_part().map_err(|failure| io::Error::other(failure.line()))?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Upload<'_> {
    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        if self.id.is_none() {
            return self.put();
        }
        if !self.part.is_empty() {
            self.send_part()?;
        }
        if let Some(id) = &self.id {
            self.complete(id)?;
        }
        self.id = None;
        Ok(())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let sign = |credentials: &Credentials| {
            let action = self.s3.bucket.abort_multipart_upload(Some(credentials), &self.key, &id);
            action.sign(SIGNED_FOR).to_string()
        };
        let wanted = Wanted { method: Method::DELETE, sign: &sign, headers: &[], body: &[] };
        if let Err(failure) = self.s3.ask(&self.name, &wanted) {
            let at = self.s3.describe(&self.name);
            let why = failure.line();
            crate::cli::logging::say(&format!("{at}: parts of it are left in the bucket: {why}"));
        }
    }
}
