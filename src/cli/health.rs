//! `health`: whether a node is alive, for a container without shell and curl.

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
  HEALTHCHECK CMD [\"/gossipykv\", \"health\"]       in a Dockerfile

Live means that HTTP answers and gossip makes progress (GET /live). A node that is alone or still
copies is live; whether it is ready, GET /health tells a load balancer.";

/// Exits with 0 when a node is live, with 1 when it is not.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct HealthArgs {
    /// A node's REST API [default: the port of GOSSIPYKV_HTTP on this machine, else
    /// http://127.0.0.1:8080]
    #[arg(long, value_name = "URL", env = "GOSSIPYKV_SERVER", hide_env_values = true)]
    server: Option<ServerUrl>,

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
        client.accept(client.get("/live")?)?;
        output::print(|out| Ok(writeln!(out, "live")?))
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
