//! `inspect`: one captured datagram, or one side of a TCP connection, in words.

use super::failure::Failure;
use super::output::{self, Out, Stop};
use crate::limits::STREAM_TOTAL_LEN_MAX;
use crate::wire::inspect;
use crate::wire::keyring::{Key, Keyring};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{self, BufRead, Read as _, Write as _};

/// Longest line of standard input, in bytes: the largest stream in hex, with room for separators.
const LINE_LEN_MAX: u64 = 3 * STREAM_TOTAL_LEN_MAX as u64;

const EXAMPLES: &str = "\
Examples:
  gossipykv inspect packet 0083a5...
  gossipykv inspect stream --key \"$(cat gossip.key)\" --label prod < connection.hex";

const PACKET_EXAMPLES: &str = "\
Examples:
  $ gossipykv inspect packet 0082a45365714e6f2aa44e6f6465a16e
  {\"Node\":\"n\",\"SeqNo\":42,\"SourceAddr\":null,...,\"type\":\"ping\"}

  tshark -r gossip.pcap -Y udp.port==7947 -T fields -e udp.payload | gossipykv inspect packet

Whatever cannot be decoded reads {\"error\":..}; the rest goes on, and the exit status is 1.";

const STREAM_EXAMPLES: &str = "\
Examples:
  gossipykv inspect stream --label prod 068384...
  tshark -r gossip.pcap -q -z follow,tcp,raw,0 | grep '^[0-9a-f]' | tr -d '\\n' |
    gossipykv inspect stream --key \"$(cat gossip.key)\"

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
    /// A key that may decrypt, in base64; repeatable
    #[arg(long = "key", value_name = "BASE64")]
    keys: Vec<String>,

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

impl InspectArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (explain, args): (Explain, CaptureArgs) = match self.command {
            InspectCommand::Packet(args) => (inspect::packet, args),
            InspectCommand::Stream(args) => (inspect::stream, args),
        };
        let keys = keyring(&args.keys)?;
        let explain = |hex: &str| match unhex(hex) {
            Ok(bytes) => explain(&bytes, &keys, args.label.as_bytes()),
            Err(error) => vec![json!({ "error": error })],
        };
        match args.hex.as_deref() {
            Some(hex) if hex != "-" => output::print(|out| {
                let clean = write(out, &explain(hex))?;
                verdict(clean)
            }),
            _ => output::print(|out| lines(&mut io::stdin().lock(), explain, out)),
        }
    }
}

/// Explains every line that is not blank, each as soon as it is there.
fn lines(
    input: &mut impl BufRead,
    explain: impl Fn(&str) -> Vec<Value>,
    out: &mut Out<'_>,
) -> Result<(), Stop> {
    let mut clean = true;
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
        if !text.trim().is_empty() {
            clean &= write(out, &explain(&text))?;
            out.flush()?;
        }
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
