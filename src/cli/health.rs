//! `health`: whether a node is alive or ready, for a container without shell and curl.

use super::client::{Client, DEFAULT_SERVER, ServerUrl, timeout};
use super::failure::Failure;
use super::output;
use super::reader::variable;
use clap::Args;
use std::io::Write as _;
use std::time::Duration;

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
    /// A node's REST API [default: the port of GOSSIPYKV_HTTP on this machine, else
    /// http://127.0.0.1:8080]
    #[arg(long, value_name = "URL", env = "GOSSIPYKV_SERVER", hide_env_values = true)]
    server: Option<ServerUrl>,

    /// Ask whether it is ready, not only live
    #[arg(long)]
    ready: bool,

    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = timeout)]
    timeout: Duration,
}

impl HealthArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let server = match self.server {
            Some(server) => server,
            None => own_server()?,
        };
        let client = Client::new(server, None, self.timeout)?;
        let (path, word) = if self.ready { ("/health", "ready") } else { ("/live", "live") };
        client.accept(client.get(path)?)?;
        output::print(|out| Ok(writeln!(out, "{word}")?))
    }
}

/// Where the agent of the same environment serves.
fn own_server() -> Result<ServerUrl, Failure> {
    let listen = variable("GOSSIPYKV_HTTP");
    match listen.as_ref().and_then(|text| text.to_str()?.parse().ok()) {
        Some(addr) => Ok(ServerUrl::at(addr)),
        None => DEFAULT_SERVER.parse().map_err(Failure::usage),
    }
}
