//! `kv`: keys through a node, one, many, or all of them.

mod entry;
mod export;
mod export_file;
pub(super) mod import;
pub(super) mod line;
pub(super) mod list;
mod pipeline;
mod sweep;

use super::client::ServerFlags;
use super::failure::Failure;
use super::interrupt::guarded;
use crate::limits::KEY_LEN_MAX;
use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  gossipykv kv put greeting hello
  gossipykv kv get greeting
  gossipykv kv list user/ --long
  gossipykv kv delete greeting --server http://10.0.0.5:8080
  gossipykv kv export > copy.ndjson
  gossipykv kv import copy.ndjson

Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such key, 4 refused by the server, 5 no answer.";

/// Reads and writes keys through a node.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true)]
pub(super) struct KvArgs {
    #[command(flatten)]
    server: ServerFlags,
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Debug, Subcommand)]
enum KvCommand {
    Get(entry::GetArgs),
    Put(entry::PutArgs),
    Delete(entry::DeleteArgs),
    List(list::ListArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
}

impl KvArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let KvArgs { server, command } = self;
        match command {
            KvCommand::Get(args) => args.run(&server),
            KvCommand::Put(args) => args.run(&server),
            KvCommand::Delete(args) => args.run(&server),
            KvCommand::List(args) => args.run(&server),
            KvCommand::Export(args) => guarded(move |halt| args.run(&server, halt)),
            KvCommand::Import(args) => guarded(move |halt| args.run(&server, halt)),
        }
    }
}

/// A key from the command line.
fn key(text: OsString) -> Result<String, Failure> {
    let key = utf8(text, "KEY")?;
    if key.is_empty() || key.len() > KEY_LEN_MAX {
        let problem = format!("KEY: 1 to {KEY_LEN_MAX} bytes are possible, not {}", key.len());
        return Err(Failure::usage(problem));
    }
    Ok(key)
}

fn utf8(text: OsString, what: &str) -> Result<String, Failure> {
    text.into_string().map_err(|_| Failure::usage(format!("{what}: not UTF-8")))
}

/// Every byte but letters and digits is encoded, so that nothing on the way takes a meaning from
/// a slash or from dots.
pub(super) fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// Where a key is asked for, with parameters that are encoded.
///
/// One that may hold anything else than letters, digits, `-` and `_` goes into the query, which
/// no proxy rewrites.
pub(super) fn target(key: &str, parameters: &[String]) -> String {
    let is_plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let (mut target, mut separator) = match is_plain {
        true => (format!("/kv/{key}"), '?'),
        false => (format!("/kv?key={}", encode(key)), '&'),
    };
    for parameter in parameters {
        target.push(separator);
        target.push_str(parameter);
        separator = '&';
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_proxy_could_rewrite_goes_into_the_query() {
        assert_eq!(target("plain-key_1", &[]), "/kv/plain-key_1");
        assert_eq!(target("k", &["raw".into(), "w=2".into()]), "/kv/k?raw&w=2");
        assert_eq!(target("a/b c", &[]), "/kv?key=a%2Fb%20c");
        assert_eq!(target("..", &["raw".into()]), "/kv?key=%2E%2E&raw");
        assert_eq!(target("?#%&\u{e9}", &[]), "/kv?key=%3F%23%25%26%C3%A9");
    }
}
