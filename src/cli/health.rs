//! `health`: whether a node is alive or ready, for a container without shell and curl.

use super::client::ServerFlags;
use super::failure::Failure;
use super::output;
use clap::Args;
use serde_json::Value;
use std::io::Write as _;
use std::time::Duration;

/// How long the answer may take unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  gossipykv health                               exit status 0: live, 1: not
  gossipykv health --ready                       exit status 0: ready, 1: not, and why
  HEALTHCHECK CMD [\"/gossipykv\", \"health\"]       in a Dockerfile

Live means that HTTP answers and gossip makes progress (GET /live): restart a node that is not.
Ready means that it holds all that the cluster held when it came (GET /health): send no clients to
a node that is not, and stop none of the others for it. A node that looks for the others or still
copies is live and not ready, and so is one that leaves.";

/// Exits with 0 when a node is live (with --ready: when it is ready), with 1 when it is not.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct HealthArgs {
    /// Ask whether it is live: GET /live. What is asked without a flag
    #[arg(long, conflicts_with = "ready")]
    live: bool,

    /// Ask whether it is ready, not only live: GET /health
    #[arg(long)]
    ready: bool,

    #[command(flatten)]
    server: ServerFlags,
}

impl HealthArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Health checks of containers know two answers.
        self.ask().map_err(Failure::into_failed)
    }

    fn ask(self) -> Result<(), Failure> {
        // Neither route wants a token, and a probe must not fail for the lack of its file.
        let client = self.server.probe(TIMEOUT)?;
        let (path, word) = if self.ready { ("/health", "ready") } else { ("/live", "live") };
        let answer = client.get(path)?;
        if self.server.json {
            let status = answer.status();
            let body = client.body(answer)?;
            let printed: Value = serde_json::from_slice(&body)
                .map_err(|_| client.failure("the answer is not that of a node"))?;
            output::print(|out| Ok(writeln!(out, "{printed}")?))?;
            return if status.is_success() { Ok(()) } else { Err(Failure::Told) };
        }
        client.accept(answer)?;
        output::print(|out| Ok(writeln!(out, "{word}")?))
    }
}
