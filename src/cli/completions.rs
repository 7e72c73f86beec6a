//! `completions` and `man`: what shells and `man` want to know, made of the command line itself.

use super::failure::Failure;
use super::output;
use clap::Args;
use clap_complete::Shell;
use std::ffi::OsString;
use std::io::Write as _;

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(gossipykv completions bash)           in this shell
  gossipykv completions zsh > ~/.zfunc/_gossipykv
  gossipykv completions fish > ~/.config/fish/completions/gossipykv.fish

The Debian package has them installed.";

const MAN_EXAMPLES: &str = "\
Examples:
  gossipykv man /usr/local/share/man/man1
  gossipykv man . && man ./gossipykv-kv-import.1

The Debian package has them installed.";

/// Prints what a shell needs to complete commands and flags.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Writes a manual page for each command.
#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(super) struct ManArgs {
    /// The folder, which is made if it is not there
    folder: OsString,
}

impl CompletionsArgs {
    pub(super) fn run(self, mut command: clap::Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "gossipykv", &mut script);
        output::print(|out| Ok(out.write_all(&script)?))
    }
}

impl ManArgs {
    pub(super) fn run(self, command: clap::Command) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::failed(format!("{}: {error}", self.folder.display()));
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        clap_mangen::generate_to(command, &self.folder).map_err(failed)
    }
}
