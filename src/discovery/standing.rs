//! The loop that never gives up: look, offer, wait.

use super::backoff::Pace;
use super::dns::{Dns, DnsError};
use super::{ADDRESSES_MAX, Config, srv};
use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use tokio::task::JoinSet;

/// Looks at everything `config` names, for ever, and passes what each source gives to `offer`;
/// members already alive are for the node to skip. `alone` sets the pace. Ends only when there is
/// nowhere to look. Failures are logged when they begin and when they end, not at every look.
pub async fn run(
    config: Config,
    offer: impl Fn(Vec<SocketAddr>) + Send,
    alone: impl Fn() -> bool + Send,
    mut rng: Rng,
) {
    let mut pace = Pace::default();
    let mut log = ChangeLog::default();
    while !config.is_empty() {
        let mut sources = questions(&config, &mut log);
        while let Some(answer) = sources.join_next().await {
            // A task of ours neither panics nor is cancelled while its set lives.
            let Ok((source, result)) = answer else { continue };
            log.note(source, result.as_ref().map(BTreeSet::len).map_err(Clone::clone));
            let addresses = choose(&config, result.unwrap_or_default(), &mut rng);
            if !addresses.is_empty() {
                offer(addresses);
            }
        }
        tokio::time::sleep(pace.pause(alone(), &mut rng)).await;
    }
}

/// What a source is called, and what it says.
type Answer = (String, Result<BTreeSet<SocketAddr>, DnsError>);

/// Asks every source at once; a slow one delays no other.
fn questions(config: &Config, log: &mut ChangeLog) -> JoinSet<Answer> {
    let mut questions = JoinSet::new();
    let literal: BTreeSet<SocketAddr> =
        config.seeds.iter().filter_map(super::Seed::literal).collect();
    if !literal.is_empty() {
        questions.spawn(async move { ("the addresses given".to_owned(), Ok(literal)) });
    }
    let dns = match Dns::new(config.dns) {
        Ok(dns) => dns,
        Err(error) => {
            log.note("the DNS configuration".to_owned(), Err(error));
            return questions;
        }
    };
    for seed in &config.seeds {
        if seed.literal().is_none() {
            let (seed, dns) = (seed.clone(), dns.clone());
            questions.spawn(async move {
                let found = seed.resolve(&dns).await.map(BTreeSet::from_iter);
                (seed.to_string(), found)
            });
        }
    }
    if let Some(name) = config.srv.clone() {
        questions.spawn(async move {
            let found = srv::look(&dns, &name).await;
            (format!("SRV {name}"), found)
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
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// Logs what a source says when it differs from what it said before.
#[derive(Debug, Default)]
struct ChangeLog {
    last: BTreeMap<String, Result<usize, DnsError>>,
}

impl ChangeLog {
    fn note(&mut self, source: String, outcome: Result<usize, DnsError>) {
        if self.last.get(&source) == Some(&outcome) {
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
    use super::*;

    #[test]
    fn our_own_address_is_never_offered_and_the_rest_is_bounded() {
        let own: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let config = Config { own: Some(own), ..Config::default() };
        let found: BTreeSet<SocketAddr> =
            (1..=400).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let chosen = choose(&config, found, &mut Rng::from_seed(1));
        assert_eq!(chosen.len(), ADDRESSES_MAX);
        assert!(!chosen.contains(&own));
    }
}
