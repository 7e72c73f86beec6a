//! `version`: which program this is.

use super::failure::Failure;
use super::output;
use clap::Args;
use serde_json::json;
use std::io::Write as _;

/// The version of the crate.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, or "unknown".
pub(super) const HASH: &str = env!("GOSSIPYKV_BUILD_HASH");
/// When that was, in UTC, or "unknown".
pub(super) const DATE: &str = env!("GOSSIPYKV_BUILD_DATE");
/// All of it.
pub(super) const LINE: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("GOSSIPYKV_BUILD_HASH"),
    ", ",
    env!("GOSSIPYKV_BUILD_DATE"),
    ")"
);

const EXAMPLES: &str = "\
Example:
  $ gossipykv version
  gossipykv 0.2.0 (commit 5d2a1f0c9b3e, 2026-01-31T12:00:00Z)

What was not known when it was built reads \"unknown\".";

/// Prints the version, the commit and its date.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl VersionArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let told = json!({ "version": VERSION, "buildhash": HASH, "builddate": DATE });
        output::print(|out| match self.json {
            true => Ok(writeln!(out, "{told}")?),
            false => Ok(writeln!(out, "gossipykv {LINE}")?),
        })
    }
}
