//! The loop that never gives up: look, tell, wait.

use super::backoff::Pace;
use super::dns::{Dns, DnsError};
use super::peers::{self, Answer, Named, Peer};
use super::{Config, srv};
use crate::limits::LOOK_ADDRESSES_MAX;
use crate::rng::Rng;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// What the loop tells the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Addresses of one source while others are still asked; at most [`LOOK_ADDRESSES_MAX`].
    Early(Vec<SocketAddr>),
    /// A look has ended.
    Look(Look),
}

/// What one look at every source came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// What the sources gave, each address once and in order, our own left out; at most
    /// [`LOOK_ADDRESSES_MAX`], of more a random choice.
    pub named: Vec<SocketAddr>,
    /// Everybody whom the sources named, those included who cannot be dialled, each name once and
    /// names with an address in common as one. Their addresses are those of `named`.
    pub peers: Vec<Peer>,
    /// How many nodes more the sources named, which later looks try.
    pub n_untried: usize,
    /// Whether our own address was among them.
    pub names_me: bool,
    /// Whether every source is an address given by hand: no DNS was asked.
    pub only_literal: bool,
    /// One sentence for each source that gave no answer, or not all of one.
    pub failed: Vec<String>,
}

/// Looks at everything `config` names, for ever, and passes on what comes of it; members already
/// alive are for the node to skip. `alone` sets the pace. Ends only when there is nowhere to look.
/// Failures are logged when they begin and when they end, not at every look.
pub async fn run(
    config: Config,
    tell: impl Fn(Found) + Send,
    alone: impl Fn() -> bool + Send,
    mut rng: Rng,
) {
    let mut pace = Pace::default();
    let mut log = ChangeLog::default();
    while !config.is_empty() {
        let look = look(&config, &mut log, &tell, &mut rng).await;
        tell(Found::Look(look));
        tokio::time::sleep(pace.pause(alone(), &mut rng)).await;
    }
}

/// Asks every source once, for `limit` at most, and returns what has been told by then. Blocks, and
/// writes nothing to the log.
///
/// # Errors
/// When the system refuses what it takes to ask.
pub fn look_once(config: Config, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let told = Mutex::new(BTreeSet::new());
    let tell = |found| {
        let (Found::Early(named) | Found::Look(Look { named, .. })) = found;
        told.lock().extend(named);
    };
    let mut log = ChangeLog { quiet: true, ..ChangeLog::default() };
    let mut rng = Rng::from_seed(0);
    runtime.block_on(async {
        let whole = look(&config, &mut log, &tell, &mut rng);
        if let Ok(look) = tokio::time::timeout(limit, whole).await {
            tell(Found::Look(look));
        }
    });
    runtime.shutdown_background();
    Ok(Vec::from_iter(told.into_inner()))
}

/// Asks every source once. Of each but the last to answer, the addresses are told at once.
async fn look(
    config: &Config,
    log: &mut ChangeLog,
    tell: &(impl Fn(Found) + Send),
    rng: &mut Rng,
) -> Look {
    let only_literal = config.srv.is_none() && config.seeds.iter().all(|s| s.literal().is_some());
    let mut look = Look { only_literal, ..Look::default() };
    let (mut all, mut addresses) = (Vec::new(), BTreeSet::new());
    let mut sources = questions(config, log, &mut look.failed, rng);
    while let Some(answer) = sources.join_next().await {
        // A task of ours neither panics nor is cancelled while its set lives.
        let Ok((source, answer)) = answer else { continue };
        look.failed.extend(answer.failed(config).map(|error| format!("{source}: {error}")));
        let dialled = answer.dialled(config);
        log.note(source, answer.to_log(config));
        if !sources.is_empty() {
            let early = choose(config, dialled.clone(), rng);
            if !early.is_empty() {
                tell(Found::Early(early));
            }
        }
        addresses.extend(dialled);
        all.extend(answer.named);
        look.n_untried += answer.n_untried;
    }
    look.failed.sort();
    let chosen = BTreeSet::from_iter(choose(config, addresses, rng));
    let (peers, n_left) = peers::peers(config, all, &chosen);
    look.names_me = peers.iter().any(|peer| peer.names_me);
    look.n_untried += n_left;
    (look.peers, look.named) = (peers, Vec::from_iter(chosen));
    look
}

/// Asks every source at once; a slow one delays no other. Each says what it is called.
fn questions(
    config: &Config,
    log: &mut ChangeLog,
    failed: &mut Vec<String>,
    rng: &mut Rng,
) -> JoinSet<(String, Answer)> {
    let mut questions = JoinSet::new();
    let literal: BTreeSet<SocketAddr> =
        config.seeds.iter().filter_map(super::Seed::literal).collect();
    if !literal.is_empty() {
        let named = literal.into_iter().map(Named::literal).collect();
        let answer = Answer { named, ..Answer::default() };
        questions.spawn(async move { ("the addresses given".to_owned(), answer) });
    }
    let dns = match Dns::new(config.dns, config.families()) {
        Ok(dns) => dns,
        Err(error) => {
            let source = "the DNS configuration";
            failed.push(format!("{source}: {error}"));
            log.note(source.to_owned(), Err(error));
            return questions;
        }
    };
    for seed in &config.seeds {
        if seed.literal().is_none() {
            let (seed, dns) = (seed.clone(), dns.clone());
            questions.spawn(async move { (seed.to_string(), seed.resolve(&dns).await) });
        }
    }
    if let Some(name) = config.srv.clone() {
        let mut rng = Rng::from_seed(rng.next_u64());
        questions.spawn(async move {
            let answer = srv::look(&dns, &name, &mut rng).await;
            (format!("SRV {name}"), answer)
        });
    }
    questions
}

/// Leaves our own address out and bounds the rest, by a random choice.
fn choose(config: &Config, mut found: BTreeSet<SocketAddr>, rng: &mut Rng) -> Vec<SocketAddr> {
    if let Some(own) = config.own {
        found.remove(&own);
    }
    let mut addresses = Vec::from_iter(found);
    rng.shuffle(&mut addresses);
    addresses.truncate(LOOK_ADDRESSES_MAX);
    addresses
}

/// Logs what a source says when it differs from what it said before.
#[derive(Debug, Default)]
struct ChangeLog {
    last: BTreeMap<String, Result<usize, DnsError>>,
    quiet: bool,
}

impl ChangeLog {
    fn note(&mut self, source: String, outcome: Result<usize, DnsError>) {
        if self.quiet || self.last.get(&source) == Some(&outcome) {
            return;
        }
        match &outcome {
            Ok(addresses) => tracing::info!(%source, addresses, "discovery has addresses to try"),
            Err(error) => tracing::warn!(%source, %error, "discovery finds nobody; goes on trying"),
        }
        self.last.insert(source, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Says, at, config, fails, no_name, nothing, server, srv};
    use super::*;
    use hickory_resolver::proto::op::ResponseCode;
    use hickory_resolver::proto::rr::RecordType;

    /// One look, and the addresses told before its end.
    async fn looked(config: &Config) -> (Look, Vec<SocketAddr>) {
        let early = std::sync::Mutex::new(Vec::new());
        let tell = |found| match found {
            Found::Early(addresses) => early.lock().expect("one thread").extend(addresses),
            Found::Look(_) => panic!("told by the loop only"),
        };
        let mut rng = Rng::from_seed(1);
        let look = look(config, &mut ChangeLog::default(), &tell, &mut rng).await;
        (look, early.into_inner().expect("one thread"))
    }

    #[tokio::test]
    async fn what_dns_says_is_an_answer_and_what_it_does_not_say_is_a_failure() {
        let always = |says: Says| server(move |_, _| says.clone());
        for says in [no_name(), nothing()] {
            let (look, early) = looked(&config(always(says).await, &[])).await;
            assert_eq!((look, early), (Look::default(), vec![]));
        }
        for (says, why) in [
            (fails(), "the DNS server says Server Failure"),
            (Says::Code(ResponseCode::Refused), "the DNS server says Query Refused"),
            (Says::Silence, "no answer from the DNS server in time"),
        ] {
            let (look, _) = looked(&config(always(says).await, &[])).await;
            let expected = Look {
                failed: vec![format!("SRV _gossip._tcp.kv.internal.: {why}")],
                ..Look::default()
            };
            assert_eq!(look, expected);
        }
    }

    #[tokio::test]
    async fn addresses_are_told_while_another_source_is_still_asked() {
        let seeds = ["127.0.0.1:2", "127.0.0.1:1", "127.0.0.1:2", "localhost.:3"];
        let (look, early) = looked(&config(server(|_, _| Says::Silence).await, &seeds)).await;
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert!(early.contains(&address(2)), "{early:?}");
        assert!(look.named.contains(&address(2)) && !look.named.contains(&address(1)));
        assert!(look.names_me);
        assert_eq!(look.failed.len(), 1, "{:?}", look.failed);
    }

    #[tokio::test]
    async fn a_family_that_fails_is_told_beside_addresses() {
        // Two of three targets may have IPv6 addresses; the third is this node.
        let says = |name: &str, kind: RecordType| match (name, kind) {
            (_, RecordType::SRV) => srv(&[("a.kv.", 1), ("b.kv.", 2), ("c.kv.", 3)]),
            ("a.kv.", _) => at(kind, &["127.0.0.1"]),
            (_, RecordType::A) => nothing(),
            _ => fails(),
        };
        let (look, _) = looked(&config(server(says).await, &[])).await;
        assert!(look.names_me && look.named.is_empty(), "{look:?}");
        let why = "SRV _gossip._tcp.kv.internal.: for AAAA, the DNS server says Server Failure";
        assert_eq!(look.failed, [why]);
    }

    #[tokio::test]
    async fn what_cannot_be_dialled_is_not_offered_and_is_not_nobody() {
        let seeds = |seeds: &[&str]| {
            let mut config = config("127.0.0.1:9".parse().unwrap(), seeds);
            (config.srv, config.bound) = (None, "0.0.0.0:7947".parse().ok());
            config
        };
        let other = |addr: &str| {
            let unreachable = Some(format!("{addr} is of a family that --bind has not"));
            Peer { n_ipv6: 1, unreachable, ..Peer::default() }
        };
        let (look, _) = looked(&seeds(&["127.0.0.1:2", "[64:ff9b::7f00:1]:2"])).await;
        let addr = "127.0.0.1:2".parse().unwrap();
        let peer = Peer { addresses: vec![addr], n_ipv4: 1, ..Peer::default() };
        let expected = Look {
            named: vec![addr],
            peers: vec![peer, other("[64:ff9b::7f00:1]:2")],
            only_literal: true,
            ..Look::default()
        };
        assert_eq!(look, expected);
        let (look, early) = looked(&seeds(&["[::1]:2", "[::1]:3"])).await;
        let peers = vec![other("[::1]:2"), other("[::1]:3")];
        let expected = Look { peers, only_literal: true, ..Look::default() };
        assert_eq!((look, early), (expected, vec![]));
    }

    #[tokio::test]
    async fn peers_that_cannot_be_dialled_stand_beside_this_node() {
        let is_own = |name: &str| name == "a.kv.";
        let says = move |name: &str, kind: RecordType| match kind {
            RecordType::SRV => srv(&[("a.kv.", 1), ("b.kv.", 2), ("c.kv.", 0), ("d.kv.", 4)]),
            _ if is_own(name) => at(kind, &["127.0.0.1"]),
            _ if name == "b.kv." => at(kind, &["::1"]),
            _ => no_name(),
        };
        let mut config = config(server(says).await, &[]);
        config.bound = "0.0.0.0:1".parse().ok();
        let (look, _) = looked(&config).await;
        assert!(look.names_me && look.named.is_empty() && look.failed.is_empty(), "{look:?}");
        let whys: Vec<_> = look.peers.iter().filter_map(|peer| peer.unreachable.clone()).collect();
        let expected = [
            "b.kv.:2 is [::1]:2, of a family that --bind has not",
            "c.kv.:0: its record has port 0",
            "d.kv.:4: no such name",
        ];
        assert_eq!((look.peers.len(), &whys[..]), (4, &expected.map(str::to_owned)[..]));
    }

    #[test]
    fn one_look_tells_what_it_has_got_in_time() {
        let config = |dns: &str| Config {
            srv: "_gossip._tcp.kv.internal".parse().ok(),
            seeds: vec!["127.0.0.1:2".parse().expect("a seed")],
            dns: dns.parse().ok(),
            ..Config::default()
        };
        // Nobody answers there, neither with words nor with an error.
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let silent = silent.local_addr().expect("its address").to_string();
        let told = look_once(config(&silent), Duration::from_millis(200)).expect("a runtime");
        assert_eq!(told, ["127.0.0.1:2".parse().unwrap()]);
    }

    #[test]
    fn our_own_address_is_never_offered_and_the_rest_is_bounded() {
        let own: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let config = Config { own: Some(own), ..Config::default() };
        let found: BTreeSet<SocketAddr> =
            (1..=400).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let chosen = choose(&config, found, &mut Rng::from_seed(1));
        assert_eq!(chosen.len(), LOOK_ADDRESSES_MAX);
        assert!(!chosen.contains(&own));
    }
}
