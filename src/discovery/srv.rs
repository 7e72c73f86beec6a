//! Peers listed by a DNS SRV record.
//!
//! Cloud Map answers with at most eight records, a random choice of more, and sends no address
//! records along. So an answer that looks full is asked for again until nothing new comes, and
//! every target is resolved by itself, A and AAAA.

use super::dns::{Dns, DnsError, Target};
use super::peers::{Answer, Named};
use super::seeds::is_dns_name;
use crate::rng::Rng;
use hickory_resolver::proto::rr::Name;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use tokio::task::JoinSet;

/// An answer with this many records may be a choice of more.
const FULL_ANSWER: usize = 8;
/// Most questions of one look.
const QUESTIONS_MAX: usize = 5;
/// Most targets resolved at one look; of more a random choice, another at every look.
const TARGETS_MAX: usize = 128;

/// A name that can carry an SRV record. Always absolute: the search list is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvName(Name);

/// Text that is no DNS name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a DNS name")]
pub struct SrvNameError;

impl FromStr for SrvName {
    type Err = SrvNameError;

    fn from_str(text: &str) -> Result<SrvName, SrvNameError> {
        if !is_dns_name(text) {
            return Err(SrvNameError);
        }
        let mut name = Name::from_ascii(text).map_err(|_| SrvNameError)?;
        name.set_fqdn(true);
        Ok(SrvName(name))
    }
}

impl fmt::Display for SrvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One look at the record: everybody whom it names, and the addresses of at most `TARGETS_MAX`, a
/// random choice of more. A target that DNS does not know, or one without a port, is named all the
/// same: it may be a node that cannot be reached. One that could not be resolved makes the answer
/// one that is not whole.
pub async fn look(dns: &Dns, name: &SrvName, rng: &mut Rng) -> Answer {
    let targets = match targets(dns, name).await {
        Ok(targets) => targets,
        Err(error) => return error.into(),
    };
    let mut targets = Vec::from_iter(targets);
    rng.shuffle(&mut targets);
    let n_untried = targets.len().saturating_sub(TARGETS_MAX);
    targets.truncate(TARGETS_MAX);
    let mut resolving = JoinSet::new();
    for target in targets {
        let dns = dns.clone();
        resolving.spawn(async move { one(&dns, target).await });
    }
    let mut answer = Answer { n_untried, ..Answer::default() };
    while let Some(resolved) = resolving.join_next().await {
        // A task of ours neither panics nor is cancelled while its set lives.
        let target = resolved.unwrap_or_else(|error| DnsError::Failed(error.to_string()).into());
        answer.named.extend(target.named);
        answer.failure = answer.failure.or(target.failure);
        answer.doubt = answer.doubt.or(target.doubt);
    }
    // They come as they are resolved.
    answer.named.sort_by(|a, b| a.name.cmp(&b.name));
    answer
}

/// What one target came to.
async fn one(dns: &Dns, target: Target) -> Answer {
    let (called, port) = (target.to_string(), target.port);
    let nowhere = |why: &DnsError| {
        let named = vec![Named::nowhere(called.clone(), why)];
        Answer { named, ..Answer::default() }
    };
    if port == 0 {
        return nowhere(&DnsError::NoPort);
    }
    match dns.resolve(target.name).await {
        Err(error) if error.is_answer() => nowhere(&error),
        found => Answer::at(called, port, found),
    }
}

/// The targets of as many answers as it takes. A later question that fails ends the look with
/// what there is.
async fn targets(dns: &Dns, name: &SrvName) -> Result<BTreeSet<Target>, DnsError> {
    let mut targets = BTreeSet::new();
    for question in 0..QUESTIONS_MAX {
        let answer = match dns.targets(name.0.clone()).await {
            Ok(answer) => answer,
            Err(error) if question == 0 => return Err(error),
            Err(_) => break,
        };
        let full = answer.len() >= FULL_ANSWER;
        let before = targets.len();
        targets.extend(answer);
        if !full || targets.len() == before || targets.len() >= TARGETS_MAX {
            break;
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::super::Families;
    use super::super::fake::{at, dns, no_name, server, srv};
    use super::*;
    use hickory_resolver::proto::rr::RecordType;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn check(text: &str, expected: Result<&str, SrvNameError>) {
        let shown = text.parse::<SrvName>().map(|name| name.to_string());
        assert_eq!(shown.as_deref().map_err(Clone::clone), expected, "{text:?}");
    }

    #[test]
    fn names_become_absolute() {
        check("_gossip._tcp.kv.internal", Ok("_gossip._tcp.kv.internal."));
        check("kv.internal.", Ok("kv.internal."));
        check("", Err(SrvNameError));
        check("kv internal", Err(SrvNameError));
        check("10.0.0.1", Err(SrvNameError));
    }

    #[tokio::test]
    async fn of_very_many_targets_each_look_tries_others() {
        // Five answers have them all.
        let names: Vec<String> = (0..155).map(|n| format!("n{n}.kv.")).collect();
        let n_asked = AtomicUsize::new(0);
        let says = move |_: &str, kind: RecordType| match kind {
            RecordType::SRV => {
                let from = n_asked.fetch_add(1, Ordering::Relaxed) % 5 * 31;
                let some = names[from..from + 31].iter();
                srv(&Vec::from_iter(some.map(|name| (name.as_str(), 7947))))
            }
            _ => at(kind, &["10.0.0.1"]),
        };
        let (dns, mut rng) = (dns(&[server(says).await], "", Families::BOTH), Rng::from_seed(1));
        let name: SrvName = "_gossip._tcp.kv".parse().unwrap();
        let mut tried = BTreeSet::new();
        for _ in 0..8 {
            let answer = look(&dns, &name, &mut rng).await;
            assert_eq!((answer.named.len(), answer.n_untried), (TARGETS_MAX, 27));
            tried.extend(answer.named.into_iter().map(|named| named.name));
        }
        assert_eq!(tried.len(), 155);
    }

    #[tokio::test]
    async fn a_target_without_an_address_is_named() {
        let says = |name: &str, kind: RecordType| match name {
            "_gossip._tcp.kv." => srv(&[("a.kv.", 1), ("b.kv.", 2), ("c.kv.", 0), (".", 4)]),
            "a.kv." => at(kind, &["10.0.0.1"]),
            _ => no_name(),
        };
        let dns = dns(&[server(says).await], "", Families::BOTH);
        let name: SrvName = "_gossip._tcp.kv".parse().unwrap();
        let Answer { named, failure, nothing, .. } =
            look(&dns, &name, &mut Rng::from_seed(1)).await;
        let whys: Vec<Option<&str>> = named.iter().map(|named| named.why.as_deref()).collect();
        let expected =
            [None, Some("b.kv.:2: no such name"), Some("c.kv.:0: its record has port 0")];
        assert_eq!((&whys[..], failure, nothing), (&expected[..], None, None));
    }
}
