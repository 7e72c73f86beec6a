//! `dev`: a real cluster on loopback, in one process and one terminal.

use super::failure::Failure;
use super::logging::{self, LogConfig};
use super::output;
use super::parse;
use super::reader::Reader;
use super::serving::{self, Ending, Flags, Hangup, Serving, Watch};
use super::table::Table;
use crate::discovery::{self, Seed};
use crate::limits::EXPIRED_GRACE;
use crate::node::formats::Formats;
use crate::runtime::threads::{self, Fault};
use crate::runtime::{self, NodeSettings};
use crate::swim::config::Config as SwimConfig;
use crate::wire::packet::Security;
use clap::{ArgMatches, Args};
use std::ffi::OsString;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;
use tracing::level_filters::LevelFilter;

const FLAGS: Flags = Flags { gossip: "--gossip-port", http: "--http-port" };
/// Most nodes in one process.
const NODES_MAX: u16 = 64;
/// Nodes that stop tell each other, and no load balancer stands before them.
const ENDING: Ending =
    Ending { drain_delay: Duration::ZERO, leave_timeout: Duration::from_secs(2) };
/// How long the nodes may take to find each other before the table is printed anyway.
const MEET_TIMEOUT: Duration = Duration::from_secs(5);

/// How long deletes are remembered; as `agent` does.
const TOMBSTONE_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

const EXAMPLES: &str = "\
Examples:
  gossipykv dev
  gossipykv dev --nodes 5 --http-port 9000

Node i, counted from 0, serves HTTP on http-port + i and gossips on gossip-port + i.
Ctrl-C ends it, and so does closing the terminal.";

/// Runs a whole cluster on 127.0.0.1 in this terminal, to try things out.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DevArgs {
    /// How many nodes
    #[arg(long, value_name = "N", default_value = "3")]
    nodes: OsString,

    /// HTTP port of the first node
    #[arg(long, value_name = "PORT", default_value = "8080")]
    http_port: OsString,

    /// Gossip port of the first node, UDP and TCP
    #[arg(long, value_name = "PORT", default_value = "7947")]
    gossip_port: OsString,

    /// What is logged to standard error: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: OsString,
}

/// A cluster that fits the machine's ports.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    n_nodes: u16,
    http_port: u16,
    gossip_port: u16,
    level: LevelFilter,
}

impl DevArgs {
    pub(super) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let plan = self.check(matches).map_err(Failure::Usage)?;
        plan.try_ports()?;
        let logging = logging::start(LogConfig { level: plan.level, format: None })?;
        serving::settle_in();
        let watch = Watch::begin(Hangup::Ends)?;
        let nodes = (0..plan.n_nodes).map(|index| plan.start(index));
        let nodes = nodes.collect::<Result<Vec<Serving>, Failure>>()?;
        serving::meet(&nodes, MEET_TIMEOUT);
        greet(plan.greeting(), &logging.fault)?;
        watch.serve(nodes, ENDING, &logging.fault)
    }

    fn check(self, matches: &ArgMatches) -> Result<Plan, Vec<String>> {
        let mut reader = Reader::new(matches);
        let port = |text: &str| parse::number(text, 1..=u64::from(u16::MAX)).map(|n| n as u16);
        let n_nodes = reader.value("nodes", &self.nodes, |text| {
            parse::number(text, 1..=u64::from(NODES_MAX)).map(|n| n as u16)
        });
        let http_port = reader.value("http_port", &self.http_port, port);
        let gossip_port = reader.value("gossip_port", &self.gossip_port, port);
        let level = reader.value("log_level", &self.log_level, parse::log_level);
        let plan = || {
            let (n_nodes, http_port, gossip_port) = (n_nodes?, http_port?, gossip_port?);
            Some(Plan { n_nodes, http_port, gossip_port, level: level? })
        };
        let plan = plan();
        if let Some(plan) = &plan {
            plan.check_ports(&mut reader);
        }
        reader.end(plan)
    }
}

/// Prints it, on a thread of its own: whoever reads standard output may stand, and a signal must
/// end the nodes even then.
fn greet(greeting: String, fault: &Fault) -> Result<(), Failure> {
    let body = move || {
        let printed = output::print(|out| Ok(write!(out, "{greeting}")?));
        printed.map_err(|failure| match failure {
            Failure::Failed(why) => why,
            other => format!("{other:?}"),
        })
    };
    let started = threads::spawn("greeting", fault, body);
    started.map(drop).map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))
}

impl Plan {
    /// All ports exist, and none is wanted twice: gossip listens on TCP too.
    fn check_ports(&self, reader: &mut Reader<'_>) {
        let last = self.n_nodes - 1;
        for (flag, first) in [("--http-port", self.http_port), ("--gossip-port", self.gossip_port)]
        {
            if first.checked_add(last).is_none() {
                let n_nodes = self.n_nodes;
                reader.problem(flag, &format!("{n_nodes} ports from {first} on pass 65535"));
            }
        }
        if self.http_port.abs_diff(self.gossip_port) <= last {
            let problem = format!(
                "its {} ports from {} on meet those of --gossip-port, {} on",
                self.n_nodes, self.http_port, self.gossip_port
            );
            reader.problem("--http-port", &problem);
        }
    }

    /// Listens on every port for a moment, so that nothing is started when one is taken.
    fn try_ports(&self) -> Result<(), Failure> {
        for index in 0..self.n_nodes {
            serving::try_listening(FLAGS.http, self.http(index), TcpListener::bind)?;
            serving::try_listening(FLAGS.gossip, self.gossip(index), TcpListener::bind)?;
            serving::try_listening(FLAGS.gossip, self.gossip(index), UdpSocket::bind)?;
        }
        Ok(())
    }

    fn http(&self, index: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.http_port + index).into()
    }

    fn gossip(&self, index: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.gossip_port + index).into()
    }

    /// Starts the node of this index; all but the first join through it.
    fn start(&self, index: u16) -> Result<Serving, Failure> {
        // Marks its lines of the log; at this level it is there whatever is left out.
        let _marked = tracing::error_span!("at", node = name(index)).entered();
        let bind = self.gossip(index);
        let first = self.gossip(0).to_string().parse::<Seed>().ok();
        let seeds = first.filter(|_| index > 0).into_iter().collect();
        let node = NodeSettings {
            name: name(index).as_str().into(),
            advertise: bind,
            swim: SwimConfig::local(),
            security: Security::default(),
            tombstone_grace: TOMBSTONE_GRACE,
            expired_grace: EXPIRED_GRACE,
            bootstrap: false,
            formats: Formats::SPOKEN,
            store_len_max: 0,
        };
        let discovery = discovery::Config { seeds, ..discovery::Config::default() };
        let http = serving::http_config(self.http(index));
        Serving::start(runtime::Config { bind, node, discovery }, http, FLAGS)
    }

    /// What the terminal shows: where everything is, and what to try.
    fn greeting(&self) -> String {
        let mut table = Table::new(&["NODE", "HTTP", "GOSSIP"]);
        for index in 0..self.n_nodes {
            let [http, gossip] = [self.http(index), self.gossip(index)].map(|a| a.to_string());
            table.row(&[&name(index), &format!("http://{http}"), &gossip]);
        }
        let first = self.http_port;
        let last = self.http(self.n_nodes - 1).port();
        format!(
            "{table}\nTry:\n  curl -X PUT localhost:{first}/kv/foo/bar\n  \
             curl localhost:{last}/kv/foo\n  curl localhost:{first}/members\n\nCtrl-C ends it.\n"
        )
    }
}

fn name(index: u16) -> String {
    format!("node-{index}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches as _;

    fn check(flags: &[&str]) -> Result<Plan, Vec<String>> {
        let command = DevArgs::augment_args(clap::Command::new("dev"));
        let args = std::iter::once("dev").chain(flags.iter().copied());
        let matches = command.try_get_matches_from(args).expect("known flags with values");
        DevArgs::from_arg_matches(&matches).expect("they match").check(&matches)
    }

    #[test]
    fn ports_exist_and_none_is_wanted_twice() {
        let plan = check(&[]).expect("the defaults fit");
        assert_eq!((plan.http(2).port(), plan.gossip(2).port()), (8082, 7949));
        assert!(check(&["--http-port=65533"]).is_ok());
        assert!(check(&["--http-port=7950"]).is_ok());
        assert!(check(&["--http-port=7944"]).is_ok());
        for (flags, wrong) in [
            (&["--http-port=65534"][..], &["--http-port: 3 ports from 65534 on pass 65535"][..]),
            (&["--http-port=7949"], &["--http-port: its 3 ports"]),
            (&["--http-port=7945"], &["--http-port: its 3 ports"]),
            (
                &["--nodes=0", "--http-port=x", "--gossip-port=0", "--log-level=?"],
                &["--nodes: ", "--http-port: ", "--gossip-port: ", "--log-level: "],
            ),
        ] {
            let problems = check(flags).expect_err("wrong");
            assert_eq!(problems.len(), wrong.len(), "{problems:?}");
            for (problem, wrong) in problems.iter().zip(wrong) {
                assert!(problem.starts_with(wrong), "{problem}");
            }
        }
    }

    #[test]
    fn the_greeting_can_be_tried() {
        let expected = "\
NODE    HTTP                   GOSSIP
node-0  http://127.0.0.1:9000  127.0.0.1:7947
node-1  http://127.0.0.1:9001  127.0.0.1:7948

Try:
  curl -X PUT localhost:9000/kv/foo/bar
  curl localhost:9001/kv/foo
  curl localhost:9000/members

Ctrl-C ends it.
";
        let plan = check(&["--nodes=2", "--http-port=9000"]).expect("good flags");
        assert_eq!(plan.greeting(), expected);
    }
}
