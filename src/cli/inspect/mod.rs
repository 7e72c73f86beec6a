//! `inspect`: one captured datagram, or one side of a TCP connection, in words.

mod capture;
mod ours;
mod pcap;
mod readable;

use super::config::KEYS_VARIABLE;
use super::failure::Failure;
use super::files::{self, Kind};
use super::output::{self, Out, Stop};
use super::reader::variable;
use crate::limits::STREAM_TOTAL_LEN_MAX;
use crate::wire::inspect;
use crate::wire::keyring::{Key, Keyring};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{self, BufRead, Read as _, Write as _};
use std::time::{Duration, SystemTime};

/// Longest line of standard input, in bytes: the largest stream in hex, with room for separators.
const LINE_LEN_MAX: u64 = 3 * STREAM_TOTAL_LEN_MAX as u64;

const EXAMPLES: &str = "\
Examples:
  gossipykv inspect packet 0083a5...
  gossipykv inspect packet --pcap gossip.pcap --encrypt-keys-file gossip.keys
  gossipykv inspect stream --encrypt-keys-file gossip.keys --label prod < connection.hex

Beside memberlist's fields: Address, SourceAddress and TargetAddress are the addresses that their
bytes mean; a message of our own replication follows the one that carries it: kv.push and others.";

const PACKET_EXAMPLES: &str = "\
Examples:
  $ gossipykv inspect packet 0082a45365714e6f2aa44e6f6465a16e
  {\"Node\":\"n\",\"SeqNo\":42,\"SourceAddr\":null,...,\"type\":\"ping\"}

  tcpdump -i any -w gossip.pcap udp port 7947
  gossipykv inspect packet --pcap gossip.pcap

Of several captures each but the first is told by a line {\"type\":\"capture\",..}, of a file each.
Whatever cannot be decoded reads {\"error\":..}; the rest goes on, and the exit status is 1.";

const STREAM_EXAMPLES: &str = "\
Examples:
  gossipykv inspect stream --label prod 068384...
  gossipykv inspect stream --pcap gossip.pcap --encrypt-keys-file gossip.keys

Of a file each side of each connection is a capture.

The reply of a connection carries no label header; --label tells it. Whatever cannot be decoded
reads {\"error\":..}, and the exit status is 1.";

/// Decodes captured gossip: one JSON object a line, the layers outermost first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true)]
pub(super) struct InspectArgs {
    #[command(subcommand)]
    command: InspectCommand,
}

#[derive(Debug, Subcommand)]
enum InspectCommand {
    /// Decodes datagrams.
    #[command(after_help = PACKET_EXAMPLES)]
    Packet(CaptureArgs),
    /// Decodes what one side of a TCP connection sent.
    #[command(after_help = STREAM_EXAMPLES)]
    Stream(CaptureArgs),
}

#[derive(Debug, Args)]
struct CaptureArgs {
    /// A key that may decrypt, in base64; repeatable. Everybody on this machine can see it in the
    /// list of processes: rather use a file
    #[arg(long = "key", value_name = "BASE64")]
    keys: Vec<String>,

    /// File of keys that may decrypt, as the agent takes it; the variable GOSSIPYKV_ENCRYPT_KEYS
    /// holds keys themselves
    #[arg(long, value_name = "PATH", env = "GOSSIPYKV_ENCRYPT_KEYS_FILE", hide_env_values = true)]
    encrypt_keys_file: Option<OsString>,

    /// Read a file of tcpdump or Wireshark instead, pcap or pcapng
    #[arg(long, value_name = "FILE", conflicts_with = "hex")]
    pcap: Option<OsString>,

    /// Of that file what is from or to this port; 0 for all
    #[arg(long, value_name = "PORT", default_value_t = 7947)]
    port: u16,

    /// The cluster's name: checked where a label is sent, assumed where none is
    #[arg(long, value_name = "LABEL", default_value = "", hide_default_value = true)]
    label: String,

    /// The bytes; "-" or nothing: standard input, one capture a line. Blanks and colons between
    /// digits do not matter
    #[arg(value_name = "HEX|-")]
    hex: Option<String>,
}

/// Explains bytes as objects.
type Explain = fn(&[u8], &Keyring, &[u8]) -> Vec<Value>;

/// How captures are explained.
struct Explainer {
    explain: Explain,
    keys: Keyring,
    label: String,
}

impl Explainer {
    fn bytes(&self, bytes: &[u8]) -> Vec<Value> {
        readable::complete((self.explain)(bytes, &self.keys, self.label.as_bytes()))
    }

    fn hex(&self, hex: &str) -> Vec<Value> {
        match unhex(hex) {
            Ok(bytes) => self.bytes(&bytes),
            Err(error) => vec![json!({ "error": error })],
        }
    }
}

impl InspectArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (explain, args, is_stream): (Explain, CaptureArgs, bool) = match self.command {
            InspectCommand::Packet(args) => (inspect::packet, args, false),
            InspectCommand::Stream(args) => (inspect::stream, args, true),
        };
        let explainer = Explainer { explain, keys: args.keyring()?, label: args.label };
        if let Some(path) = args.pcap {
            return output::print(|out| file(&path, args.port, is_stream, &explainer, out));
        }
        match args.hex.as_deref() {
            Some(hex) if hex != "-" => output::print(|out| {
                let clean = write(out, &explainer.hex(hex))?;
                verdict(clean)
            }),
            _ => {
                super::input::say_that_we_wait("hex, a capture a line,");
                output::print(|out| lines(&mut io::stdin().lock(), &explainer, out))
            }
        }
    }
}

impl CaptureArgs {
    /// All keys that are given, in whatever way.
    fn keyring(&self) -> Result<Keyring, Failure> {
        let given = keyring(&self.keys)?;
        let mut keys = given.keys().to_vec();
        if let Some(path) = &self.encrypt_keys_file {
            let ring = files::secret(path, Kind::Any).and_then(|text| {
                Keyring::parse(&text).map_err(|error| format!("{path:?}: {error}"))
            });
            let ring =
                ring.map_err(|error| Failure::usage(format!("--encrypt-keys-file: {error}")))?;
            keys.extend(ring.keys().iter().cloned());
        }
        if let Some(text) = variable(KEYS_VARIABLE) {
            let ring = text.to_str().ok_or_else(|| "not UTF-8".to_owned());
            let ring = ring.and_then(|text| Keyring::parse(text).map_err(|e| e.to_string()));
            let ring = ring.map_err(|error| Failure::usage(format!("{KEYS_VARIABLE}: {error}")))?;
            keys.extend(ring.keys().iter().cloned());
        }
        let mut known = std::collections::BTreeSet::new();
        keys.retain(|key| known.insert(key.fingerprint().to_owned()));
        Keyring::new(keys).map_err(|error| Failure::usage(format!("the keys: {error}")))
    }
}

/// Explains what is in a file, each capture behind a line that says where it was seen.
fn file(
    path: &OsString,
    port: u16,
    is_stream: bool,
    explainer: &Explainer,
    out: &mut Out<'_>,
) -> Result<(), Stop> {
    let (mut clean, mut number) = (true, 0);
    let mut explain = |seen: pcap::Seen| -> Result<(), Stop> {
        number += 1;
        let separator = json!({
            "type": "capture", "number": number, "time": time(seen.at),
            "from": seen.from.to_string(), "to": seen.to.to_string(), "len": seen.bytes.len(),
        });
        write(out, &[separator])?;
        clean &= write(out, &explainer.bytes(&seen.bytes))?;
        Ok(())
    };
    if is_stream {
        pcap::streams(path, port)?.into_iter().try_for_each(explain)?;
    } else {
        pcap::packets(path, port, &mut explain)?;
    }
    verdict(clean)
}

fn time(since_epoch: Duration) -> Option<String> {
    use std::fmt::Write as _;
    let mut text = String::new();
    let time = SystemTime::UNIX_EPOCH.checked_add(since_epoch)?;
    // It fails past the year 9999.
    write!(text, "{}", humantime::format_rfc3339_micros(time)).ok()?;
    Some(text)
}

/// Explains every line that is not blank, each as soon as it is there, all but the first behind a
/// line that says which one it is.
fn lines(input: &mut impl BufRead, explainer: &Explainer, out: &mut Out<'_>) -> Result<(), Stop> {
    let (mut clean, mut number) = (true, 0);
    loop {
        let mut line = Vec::new();
        input
            .by_ref()
            .take(LINE_LEN_MAX)
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::failed(format!("standard input: {error}")))?;
        if line.is_empty() {
            return verdict(clean);
        }
        if line.len() as u64 == LINE_LEN_MAX && !line.ends_with(b"\n") {
            let problem = format!("standard input: a line is longer than {LINE_LEN_MAX} bytes");
            return Err(Failure::failed(problem).into());
        }
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        number += 1;
        if number > 1 {
            write(out, &[json!({ "type": "capture", "number": number })])?;
        }
        clean &= write(out, &explainer.hex(&text))?;
        out.flush()?;
    }
}

/// Writes the objects; false when one of them is an error.
fn write(out: &mut Out<'_>, objects: &[Value]) -> io::Result<bool> {
    let mut clean = true;
    for object in objects {
        writeln!(out, "{object}")?;
        clean &= object.get("error").is_none();
    }
    Ok(clean)
}

fn verdict(clean: bool) -> Result<(), Stop> {
    if clean { Ok(()) } else { Err(Stop::Failure(Failure::Told)) }
}

/// The keys given; what is wrong with one is told by its place, never by its text.
fn keyring(texts: &[String]) -> Result<Keyring, Failure> {
    let (mut keys, mut problems) = (Vec::new(), Vec::new());
    for (index, text) in texts.iter().enumerate() {
        match Key::from_base64(text) {
            Ok(key) => keys.push(key),
            Err(_) => problems
                .push(format!("--key, number {}: not base64 of 16, 24 or 32 bytes", index + 1)),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::Usage(problems));
    }
    Keyring::new(keys).map_err(|error| Failure::usage(format!("--key: {error}")))
}

/// Bytes from hex digits, with blanks and colons between them.
fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for (index, char) in text.char_indices() {
        if char.is_ascii_whitespace() || char == ':' {
            continue;
        }
        let digit = char.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digit = digit.ok_or_else(|| format!("not hex: {char:?} at column {}", index + 1))?;
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err("not hex: an odd number of digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_as_tools_print_it() {
        assert_eq!(unhex("00fF10"), Ok(vec![0, 255, 16]));
        assert_eq!(unhex(" 00:ff 10\n"), Ok(vec![0, 255, 16]));
        assert_eq!(unhex("0"), Err("not hex: an odd number of digits".to_owned()));
        assert_eq!(unhex("0x10"), Err("not hex: 'x' at column 2".to_owned()));
    }

    #[test]
    fn a_wrong_key_is_told_by_its_place() {
        let good = "AAAAAAAAAAAAAAAAAAAAAA==".to_owned();
        assert_eq!(keyring(std::slice::from_ref(&good)).map(|ring| ring.keys().len()), Ok(1));
        let wrong = ["c2VjcmV0".to_owned(), good, "secret!".to_owned()];
        let Err(Failure::Usage(problems)) = keyring(&wrong) else { panic!("accepted") };
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("--key, number 1:"), "{problems:?}");
        assert!(problems[1].starts_with("--key, number 3:"), "{problems:?}");
        assert!(!problems.concat().contains("c2VjcmV0"), "{problems:?}");
    }
}
