//! `keygen`: a fresh gossip key.

use super::failure::Failure;
use super::output;
use crate::runtime::entropy;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::json;
use std::io::Write as _;

/// Bytes of a key: AES-256.
const KEY_LEN: usize = 32;

const EXAMPLES: &str = "\
Examples:
  gossipykv keygen > gossip.keys
  gossipykv agent --encrypt-keys-file gossip.keys

  gossipykv keygen | gossipykv keys install -      begin a rotation of a running cluster";

/// Prints a fresh gossip key: 32 random bytes in base64.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct KeygenArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl KeygenArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut key = [0; KEY_LEN];
        entropy::fill(&mut key);
        let key = STANDARD.encode(key);
        output::print(|out| match self.json {
            true => Ok(writeln!(out, "{}", json!({ "key": key }))?),
            false => Ok(writeln!(out, "{key}")?),
        })
    }
}
