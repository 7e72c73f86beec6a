//! The commands: arguments in, exit code out.
//!
//! ```text
//!   arguments --clap--> Cli --> command --> Ok         exit 0
//!   environment --^      |         +-----> Failure --> one line on standard error
//!                        +-- usage ------> exit 2      exit 2 or 1
//! ```
//!
//! Each command is a file with its arguments, its help and its `run`. `config` makes a valid
//! configuration of the many flags of `agent`, or names everything that is wrong with them.

mod addresses;
mod agent;
mod backup;
mod bench;
mod certificates;
mod client;
mod completions;
mod config;
mod dev;
mod environment;
mod failure;
mod files;
mod front;
mod health;
mod identity;
mod input;
mod inspect;
mod interrupt;
mod keygen;
mod keys;
mod kv;
mod log_writer;
mod logging;
mod members;
mod node_status;
mod output;
mod parse;
mod progress;
mod reader;
mod route;
mod secure;
mod server_url;
mod serving;
mod settings;
mod sim;
mod status;
mod table;
mod tokens;
mod told;
mod usage;
mod version;
mod watch;

use crate::runtime::signal;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use failure::Failure;
use std::env;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  gossipykv dev                                  a cluster of three in this terminal
  gossipykv agent --join 10.0.0.5                one node, which joins the cluster of another
  gossipykv kv put greeting hello                write through the node on this machine
  gossipykv kv get greeting
  gossipykv watch                                what changes, as it changes
  gossipykv backup s3://bucket/kv                a copy outside; restore writes it back
  gossipykv members                              who is in the cluster
  gossipykv status                               how the node stands
  gossipykv bench                                how fast it answers

Exit status: 0 success, 1 failure, 2 wrong usage or configuration; of what asks a node also 3 no
such key, 4 refused by the server, 5 no answer.";

/// A gossip-replicated key-value store: one small binary, no leader, no quorum, no disk.
#[derive(Debug, Parser)]
#[command(name = "gossipykv", version = version::LINE, after_help = EXAMPLES)]
#[command(subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(Box<agent::AgentArgs>),
    Dev(dev::DevArgs),
    Kv(kv::KvArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Check(backup::CheckArgs),
    Watch(watch::WatchArgs),
    Members(members::MembersArgs),
    Status(node_status::StatusArgs),
    Bench(bench::BenchArgs),
    Health(health::HealthArgs),
    Keygen(keygen::KeygenArgs),
    Keys(keys::KeysArgs),
    Inspect(inspect::InspectArgs),
    Sim(sim::SimArgs),
    Version(version::VersionArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// Runs the command the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let matches = match command().try_get_matches_from(env::args_os()) {
        Ok(matches) => matches,
        Err(error) => return usage::report(&error),
    };
    let code = match run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    };
    logging::flush();
    code
}

/// The whole command line, for whoever wants to walk it: tests, completions, manual pages.
///
/// A variable of the environment that is set but empty counts as not set.
#[must_use]
pub fn command() -> clap::Command {
    without_empty_variables(Cli::command())
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.arg_required_else_help(false);
    let command = command.mut_args(|arg| {
        let is_empty = arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { arg.env(None::<&'static str>) } else { arg }
    });
    command.mut_subcommands(without_empty_variables)
}

fn run(matches: &ArgMatches) -> Result<(), Failure> {
    signal::end_as_first().map_err(|error| Failure::failed(format!("signals: {error}")))?;
    let cli = Cli::from_arg_matches(matches).map_err(|error| Failure::usage(error.to_string()))?;
    let flags = matches.subcommand().map_or(matches, |(_, flags)| flags);
    let unknown = environment::unknown(&environment::known(&Cli::command()), env::vars_os());
    match cli.command {
        // It tells everything that is wrong at once.
        Command::Agent(args) => args.run(flags, unknown),
        _ if !unknown.is_empty() => Err(Failure::Usage(unknown)),
        Command::Dev(args) => args.run(flags),
        Command::Kv(args) => args.run(),
        Command::Backup(args) => interrupt::guarded(move |halt| args.run(halt)),
        Command::Restore(args) => interrupt::guarded(move |halt| args.run(halt)),
        Command::Check(args) => args.run(),
        Command::Watch(args) => args.run(),
        Command::Members(args) => args.run(),
        Command::Status(args) => args.run(),
        Command::Bench(args) => args.run(),
        Command::Health(args) => args.run(),
        Command::Keygen(args) => args.run(),
        Command::Keys(args) => args.run(),
        Command::Inspect(args) => args.run(),
        Command::Sim(args) => args.run(),
        Command::Version(args) => args.run(),
        Command::Completions(args) => args.run(Cli::command()),
        Command::Man(args) => args.run(Cli::command()),
    }
}
