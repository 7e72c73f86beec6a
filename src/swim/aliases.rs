//! Addresses that are no member's own, and the member that was found behind each.
//!
//! A seed may be the address of a balancer, or one that is translated on the way. Whoever answered
//! there last is remembered for a minute, after which the address is joined again: behind it may be
//! somebody else by then, even another island. Where several take turns behind the address, or the
//! one that answered does not say who it is, the cluster alone is remembered, no member of it.

use crate::limits::ALIASES_MAX;
use crate::time::Instant;
use crate::wire::message::NodeName;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an address is taken to lead where it led.
const MEMORY: Duration = Duration::from_secs(60);

/// At most [`ALIASES_MAX`]; past it the one known for longest is forgotten.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    by_addr: BTreeMap<SocketAddr, (Instant, Option<NodeName>)>,
}

impl Aliases {
    pub(super) fn insert(&mut self, now: Instant, addr: SocketAddr, name: Option<NodeName>) {
        self.by_addr.insert(addr, (now, name));
        if self.by_addr.len() > ALIASES_MAX {
            let oldest = self.by_addr.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(addr, _)| *addr) {
                self.by_addr.remove(&oldest);
            }
        }
    }

    pub(super) fn get(&self, now: Instant, addr: SocketAddr) -> Option<&NodeName> {
        self.fresh(now, addr)?.as_ref()
    }

    /// Whether the address leads to this cluster, and to nobody that is known.
    pub(super) fn is_unnamed(&self, now: Instant, addr: SocketAddr) -> bool {
        self.fresh(now, addr).is_some_and(Option::is_none)
    }

    fn fresh(&self, now: Instant, addr: SocketAddr) -> Option<&Option<NodeName>> {
        let (since, name) = self.by_addr.get(&addr)?;
        (now.since(*since) < MEMORY).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_bounded_and_forgotten() {
        let mut aliases = Aliases::default();
        let addr = |port: usize| SocketAddr::from(([10, 0, 0, 1], port as u16));
        let at = |n: usize| Instant::from_millis(n as u64);
        for n in 0..=ALIASES_MAX {
            aliases.insert(at(n), addr(n), Some("a".into()));
        }
        assert_eq!(aliases.by_addr.len(), ALIASES_MAX);
        assert_eq!(aliases.get(at(300), addr(0)), None);
        assert_eq!(aliases.get(at(300), addr(1)), Some(&"a".into()));
        assert_eq!(aliases.get(at(1) + MEMORY, addr(1)), None);
        assert_eq!(aliases.get(at(1) + MEMORY, addr(2)), Some(&"a".into()));
        assert!(!aliases.is_unnamed(at(300), addr(2)));
        aliases.insert(at(300), addr(2), None);
        assert!(aliases.is_unnamed(at(300), addr(2)) && !aliases.is_unnamed(at(300), addr(0)));
        assert!(!aliases.is_unnamed(at(300) + MEMORY, addr(2)));
    }
}
