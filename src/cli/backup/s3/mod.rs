//! Backups in S3, or in what speaks as S3 does.
//!
//! `rusty_s3` signs addresses; what is sent there goes over the same small HTTP client and the same
//! TLS as everything else. One that fails for a moment is sent again, signed anew.
//!
//! ```text
//! AWS_REGION, AWS_DEFAULT_REGION               where the bucket is
//! AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL        another server than Amazon's
//! AWS_CA_BUNDLE                                CAs that alone count; else the system's, or where
//!                                              it has none, those that are compiled in
//! ```

mod credentials;
mod download;
mod upload;

use super::shelf::{Shelf, Target};
use crate::cli::client::{self, Answer};
use crate::cli::failure::{Failure, one_line};
use crate::cli::reader::variable;
use crate::cli::secure::{Trusted, objection};
use crate::cli::server_url::ServerUrl;
use credentials::Keeper;
use rusty_s3::actions::{ListObjectsV2, ListObjectsV2Response};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use std::io::{BufRead, BufReader, Read as _};
use std::str::FromStr;
use std::time::Duration;
use ureq::http::{Method, Request, StatusCode};

/// How long one request may take: a part of 8 MiB at 140 KB a second.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a signature is good: longer than a request, and than clocks differ in order.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// Most tries of a request, and the wait before the second, which doubles.
const TRIES: u32 = 5;
const REST: Duration = Duration::from_millis(200);
/// Most bytes of an answer that is held as a whole: a list of a thousand names of 1 KiB.
const ANSWER_LEN_MAX: u64 = 4 << 20;

/// How S3 is to encrypt what it is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) enum Encryption {
    /// As the bucket does on its own; S3 has encrypted everything since 2023.
    #[default]
    OfBucket,
    /// With keys of S3.
    Aes256,
    /// With a key of KMS: the named one, or that of the account for S3.
    Kms(Option<String>),
}

impl FromStr for Encryption {
    type Err = String;

    fn from_str(text: &str) -> Result<Encryption, String> {
        match text {
            "bucket" => Ok(Encryption::OfBucket),
            "AES256" => Ok(Encryption::Aes256),
            "aws:kms" => Ok(Encryption::Kms(None)),
            other => match other.strip_prefix("aws:kms:").filter(|key| !key.is_empty()) {
                Some(key) if key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    Ok(Encryption::Kms(Some(key.to_owned())))
                }
                _ => Err("not bucket, AES256, aws:kms or aws:kms:KEY".to_owned()),
            },
        }
    }
}

impl Encryption {
    /// Signs a request together with the headers that ask for it.
    fn sign<'a>(&self, mut action: impl S3Action<'a>) -> String {
        for (name, value) in self.headers() {
            action.headers_mut().insert(name, value.to_owned());
        }
        action.sign(SIGNED_FOR).to_string()
    }

    /// The headers that ask for it; they are signed.
    fn headers(&self) -> Vec<(&'static str, &str)> {
        const NAME: &str = "x-amz-server-side-encryption";
        match self {
            Encryption::OfBucket => Vec::new(),
            Encryption::Aes256 => vec![(NAME, "AES256")],
            Encryption::Kms(None) => vec![(NAME, "aws:kms")],
            Encryption::Kms(Some(key)) => {
                vec![(NAME, "aws:kms"), ("x-amz-server-side-encryption-aws-kms-key-id", key)]
            }
        }
    }
}

/// A prefix in a bucket.
pub(super) struct S3 {
    bucket: Bucket,
    agent: ureq::Agent,
    keeper: Keeper,
    encryption: Encryption,
    /// Without a slash at its end; empty for the whole bucket.
    prefix: String,
}

/// A request: which, signed with what, and more of its headers that are not signed.
struct Wanted<'w> {
    method: Method,
    sign: &'w dyn Fn(&Credentials) -> String,
    headers: &'w [(&'static str, &'w str)],
    body: &'w [u8],
}

impl S3 {
    /// A bucket that nobody has been asked for yet. Its host is resolved now.
    ///
    /// # Errors
    /// No name of a bucket; no region; no credentials; no address.
    pub(super) fn new(name: &str, prefix: &str, encryption: Encryption) -> Result<S3, Failure> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = (3..=63).contains(&name.len())
            && name.bytes().all(|byte| is_plain(byte) || byte == b'-' || byte == b'.')
            && name.bytes().next().is_some_and(is_plain);
        if !is_name {
            return Err(Failure::usage(format!("s3://{name}: {name:?} is no name of a bucket")));
        }
        let (region, endpoint) = (text_of(&["AWS_REGION", "AWS_DEFAULT_REGION"])?, endpoint()?);
        let Some(region) = region.or_else(|| endpoint.as_ref().map(|_| "us-east-1".to_owned()))
        else {
            return Err(Failure::usage("s3://: in which region? AWS_REGION names it"));
        };
        // A name with dots fits no certificate, and other servers have no names for buckets.
        let style = match endpoint.is_some() || name.contains('.') {
            true => UrlStyle::Path,
            false => UrlStyle::VirtualHost,
        };
        let endpoint = endpoint.unwrap_or_else(|| host_of(&region));
        let wrong = |why: String| Failure::usage(format!("{endpoint}: {why}"));
        let url = endpoint.parse().map_err(|error| wrong(format!("{error}")))?;
        let bucket = Bucket::new(url, style, name.to_owned(), region)
            .map_err(|error| wrong(error.to_string()))?;
        let base: ServerUrl = bucket.base_url().as_str().parse().map_err(wrong)?;
        let ca_file = variable("AWS_CA_BUNDLE").map(std::path::PathBuf::from);
        let trusted = Trusted {
            ca_file: ca_file.as_deref(),
            ca_source: "AWS_CA_BUNDLE",
            public: true,
            ..Trusted::default()
        };
        let agent = client::agent(&base, LIMIT, &trusted)?;
        let (keeper, prefix) = (Keeper::from_environment()?, prefix.to_owned());
        Ok(S3 { bucket, agent, keeper, encryption, prefix })
    }

    /// The name of an object.
    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    /// Sends a request until it is answered, and gives the answer if its status is a good one.
    fn ask(&self, name: &str, wanted: &Wanted<'_>) -> Result<Answer, Failure> {
        let (mut tries, mut rest) = (1, REST);
        loop {
            let failure = match self.ask_once(name, wanted)? {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let status = answer.status();
                    let failure = self.refused(name, answer);
                    if !matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504) {
                        return Err(failure);
                    }
                    failure
                }
                Err(failure) => failure,
            };
            if tries == TRIES {
                return Err(failure);
            }
            std::thread::sleep(rest);
            (tries, rest) = (tries + 1, rest * 2);
        }
    }

    /// The same for an answer that is text.
    fn ask_text(&self, name: &str, wanted: &Wanted<'_>) -> Result<String, Failure> {
        let answer = self.ask(name, wanted)?;
        text_of_answer(answer).map_err(|why| self.strange(name, &why))
    }

    /// The inner failure may pass.
    fn ask_once(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
    ) -> Result<Result<Answer, Failure>, Failure> {
        let credentials = self.keeper.credentials()?;
        let url = (wanted.sign)(&credentials);
        let mut request = Request::builder().method(&wanted.method).uri(url);
        for (header, value) in wanted.headers {
            request = request.header(*header, *value);
        }
        let request = request.body(wanted.body);
        let request = request.map_err(|error| Failure::failed(error.to_string()))?;
        let told = |why: &str| {
            let host = self.bucket.base_url().host_str().unwrap_or_default();
            Failure::Unreachable(format!("{}: {host}: {}", self.describe(name), one_line(why)))
        };
        match self.agent.run(request) {
            Ok(answer) => Ok(Ok(answer)),
            Err(ureq::Error::Io(error)) => match objection(&error) {
                // Another try would find the same.
                Some(objection) => Err(told(objection.why())),
                None => Ok(Err(told(&error.to_string()))),
            },
            Err(error) => Ok(Err(told(&error.to_string()))),
        }
    }

    /// What an answer with a bad status says.
    fn refused(&self, name: &str, answer: Answer) -> Failure {
        let status = answer.status();
        let text = text_of_answer(answer).unwrap_or_default();
        let part = |tag: &str| {
            let rest = text.split_once(&format!("<{tag}>"))?.1;
            Some(one_line(rest.split_once(&format!("</{tag}>"))?.0))
        };
        let said = match (part("Code"), part("Message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code,
            (None, _) => status.canonical_reason().unwrap_or("no reason told").to_owned(),
        };
        let line = format!("{}: {}: {said}", self.describe(name), status.as_u16());
        match status {
            StatusCode::NOT_FOUND => Failure::Missing(line),
            _ => Failure::Refused(line),
        }
    }

    fn strange(&self, name: &str, what: &str) -> Failure {
        Failure::failed(format!("{}: not an answer of S3: {what}", self.describe(name)))
    }

    /// A page of the list of objects, behind `after`.
    fn page(&self, after: Option<&str>) -> Result<ListObjectsV2Response, Failure> {
        let prefix = self.key("");
        let sign = |credentials: &Credentials| {
            let mut action: ListObjectsV2<'_> = self.bucket.list_objects_v2(Some(credentials));
            action.with_prefix(&*prefix);
            action.with_delimiter("/");
            if let Some(after) = after {
                action.with_continuation_token(after);
            }
            action.sign(SIGNED_FOR).to_string()
        };
        let wanted = Wanted { method: Method::GET, sign: &sign, headers: &[], body: &[] };
        let text = self.ask_text("", &wanted)?;
        ListObjectsV2::parse_response(&text).map_err(|why| self.strange("", &why.to_string()))
    }
}

impl Shelf for S3 {
    fn names(&self) -> Result<Vec<String>, Failure> {
        let (mut names, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.page(after.as_deref())?;
            let prefix = self.key("");
            let keys = page.contents.iter();
            names.extend(keys.filter_map(|it| it.key.strip_prefix(&prefix)).map(str::to_owned));
            if page.next_continuation_token.is_none() || page.next_continuation_token == after {
                return Ok(names);
            }
            after = page.next_continuation_token;
        }
    }

    fn create(&self, name: &str) -> Result<Box<dyn Target + '_>, Failure> {
        Ok(Box::new(upload::Upload::new(self, name)))
    }

    fn open(&self, name: &str) -> Result<Box<dyn BufRead + '_>, Failure> {
        let download = download::Download::new(self, name)?;
        Ok(Box::new(BufReader::with_capacity(1 << 20, download)))
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        let key = self.key(name);
        let sign = |credentials: &Credentials| {
            self.bucket.delete_object(Some(credentials), &key).sign(SIGNED_FOR).to_string()
        };
        let wanted = Wanted { method: Method::DELETE, sign: &sign, headers: &[], body: &[] };
        self.ask(name, &wanted).map(drop)
    }

    fn describe(&self, name: &str) -> String {
        format!("s3://{}/{}", self.bucket.name(), self.key(name))
    }
}

fn text_of_answer(answer: Answer) -> Result<String, String> {
    let mut text = String::new();
    let mut reader = answer.into_body().into_reader().take(ANSWER_LEN_MAX);
    reader.read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// The first of these variables that is set.
fn text_of(names: &[&str]) -> Result<Option<String>, Failure> {
    let set = names.iter().find_map(|name| Some((name, variable(name)?)));
    let Some((name, value)) = set else { return Ok(None) };
    let text = value.into_string();
    text.map(Some).map_err(|_| Failure::usage(format!("{name}: not UTF-8")))
}

fn endpoint() -> Result<Option<String>, Failure> {
    text_of(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
}

/// Amazon's, by the name that has addresses of both families.
fn host_of(region: &str) -> String {
    let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://s3.dualstack.{region}.{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_one_of_three() {
        let read = |text: &str| text.parse::<Encryption>();
        assert_eq!(read("bucket"), Ok(Encryption::OfBucket));
        assert_eq!(read("AES256"), Ok(Encryption::Aes256));
        assert_eq!(read("aws:kms"), Ok(Encryption::Kms(None)));
        let key = "arn:aws:kms:eu-west-1:1:key/2";
        let kms = read(&format!("aws:kms:{key}")).expect("a key");
        let names: Vec<&str> = kms.headers().iter().map(|(_, value)| *value).collect();
        assert_eq!(names, ["aws:kms", key]);
        for wrong in ["", "aes256", "aws:kms:", "aws:kms:a b", "aws:kms:a\r\nb: c"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_host_is_the_regions() {
        assert_eq!(host_of("eu-west-1"), "https://s3.dualstack.eu-west-1.amazonaws.com");
        assert_eq!(host_of("cn-north-1"), "https://s3.dualstack.cn-north-1.amazonaws.com.cn");
    }
}
