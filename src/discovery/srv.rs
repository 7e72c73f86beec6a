//! Peers listed by a DNS SRV record.
//!
//! Cloud Map answers with at most eight records, a random choice of more, and sends no address
//! records along. So an answer that looks full is asked for again until nothing new comes, and
//! every target is resolved by itself, A and AAAA.

use super::dns::{Answer, Dns, DnsError, Target};
use super::seeds::is_dns_name;
use hickory_resolver::proto::rr::Name;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use tokio::task::JoinSet;

/// An answer with this many records may be a choice of more.
const FULL_ANSWER: usize = 8;
/// Most questions of one look.
const QUESTIONS_MAX: usize = 5;
/// Most targets of one look; more are left to later looks.
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

/// One look at the record: every address of every target. A target that DNS does not know is passed
/// over as long as another has an address; one that could not be resolved makes the answer one that
/// is not whole.
pub async fn look(dns: &Dns, name: &SrvName) -> Answer {
    let targets = match targets(dns, name).await {
        Ok(targets) => targets,
        Err(error) => return error.into(),
    };
    let n_targets = targets.len();
    let mut resolving = JoinSet::new();
    for target in targets {
        let dns = dns.clone();
        resolving.spawn(async move { Answer::at(target.port, dns.resolve(target.name).await) });
    }
    let mut answer = Answer::default();
    while let Some(resolved) = resolving.join_next().await {
        match resolved {
            Ok(target) => {
                answer.addresses.extend(target.addresses);
                answer.failure = target.failure.or(answer.failure);
            }
            // A task of ours neither panics nor is cancelled while its set lives.
            Err(error) => answer.failure = Some(DnsError::Failed(error.to_string())),
        }
    }
    // Targets without an address are nodes that cannot be reached, not nobody.
    if answer.addresses.is_empty() && answer.failure.is_none() {
        answer.failure = Some(DnsError::NoAddress(n_targets));
    }
    answer
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
    Ok(targets.into_iter().take(TARGETS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
