//! How a run begins, and how its processes start.

use super::check::{Clocks, Deleted, Forgetting, Incarnations, Kept, Ready};
use super::cluster::Cluster;
use super::dns::Dns;
use super::faults::Faults;
use super::foreign::Foreign;
use super::history::History;
use super::host::{EPOCH_MS, Guise, Host, Process};
use super::options::{Fault, Options};
use super::run::{LOOK, Run, Step};
use super::ttl::Ttls;
use super::watch::Watchers;
use super::workload;
use crate::kv::{OriginId, Store, StoreConfig};
use crate::limits::EXPIRED_GRACE;
use crate::node::formats::Formats;
use crate::node::{self, Node};
use crate::rng::Rng;
use crate::swim;
use crate::time::WallMillis;
use crate::wire::keyring::{Key, Keyring};
use crate::wire::message::NodeName;
use crate::wire::packet::Security;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Time between two tries to fill the cluster.
const FILL_RETRY: Duration = Duration::from_millis(200);
/// When the others start at the latest, ready first node or not.
const ALONE_MAX: Duration = Duration::from_secs(20);
/// When the stranger comes: its refusals are evidence against founding a first cluster.
const STRANGER_AFTER: Duration = Duration::from_secs(12);
/// Faults that may lead to clusters founded apart.
const APART: [Fault; 3] = [Fault::Halves, Fault::Seedless, Fault::Restart];
/// How slow the line of every third host is, beside the others.
const SLOWER_LINE: u64 = 3;

impl Run {
    /// A run at its very beginning.
    pub(super) fn new(options: Options) -> Run {
        let founded_apart = APART.iter().any(|fault| options.has(*fault));
        let mut run = Run {
            cluster: Cluster::new(&options),
            history: History::new(!options.outlasting),
            rng: Rng::from_seed(options.rng_seed),
            faults: Faults::default(),
            dns: Dns::default(),
            roll: None,
            agenda: BTreeMap::new(),
            next_step: 0,
            next_origin: 0,
            next_name: 0,
            incarnations: Incarnations::default(),
            clocks: Clocks::default(),
            // Where clocks jump, a grace may be over by one that nobody has looked at.
            kept: Kept::new(if options.has(Fault::Clock) {
                Duration::ZERO
            } else {
                options.tombstone_grace
            }),
            deleted: Deleted::new(founded_apart),
            forgetting: Forgetting::new(options.tombstone_grace),
            ttls: Ttls::new(&options),
            watchers: Watchers::new(&options),
            ready: Ready::default(),
            is_calm: false,
            is_silent: false,
            options,
        };
        run.cluster.is_judged = true;
        for index in 0..run.options.n_nodes {
            run.add_place(Guise::Ours);
            if index == 0 || !run.options.load.first_alone {
                run.start_node(index);
            }
        }
        run.arrange();
        run.after(Duration::from_secs(1), Step::Operate);
        run.after(Duration::from_secs(4), Step::Break);
        run.after(LOOK, Step::Look);
        run.after(LOOK, Step::Watch);
        run
    }

    /// Those faults that are there from the start, and what is stored.
    fn arrange(&mut self) {
        if self.options.load.n_stored > 0 || self.options.load.first_alone {
            self.after(FILL_RETRY, Step::Fill);
        }
        if self.options.has(Fault::Halves) {
            let apart = Duration::from_secs(8) + self.rng.duration_below(Duration::from_secs(20));
            self.dns.halves_until = self.cluster.now + apart;
            self.faults.count(Fault::Halves);
        }
        if self.options.has(Fault::Foreign) {
            let index = self.add_place(Guise::Ours);
            self.start_foreign(index);
            self.faults.count(Fault::Foreign);
        }
        if self.options.has(Fault::Formats) {
            let index = self.add_place(Guise::Ours);
            let pause = Duration::from_secs(6) + self.rng.duration_below(Duration::from_secs(10));
            self.after(pause, Step::Start(index));
        }
        if self.options.has(Fault::Stranger) {
            let index = self.add_place(Guise::OtherLabel);
            self.after(STRANGER_AFTER, Step::Start(index));
            self.faults.count(Fault::Stranger);
        }
    }

    /// Stores what the run is to begin with, at the first node that is ready, and lets those come
    /// that waited for it.
    pub(super) fn fill(&mut self) {
        let ready = |host: &Host| !host.is_stranger && host.standing.ok_since.is_some();
        let Some(index) = self.cluster.hosts.iter().position(ready) else {
            if self.options.load.first_alone && self.cluster.now.0 > ALONE_MAX.as_nanos() as u64 {
                return self.let_others_come();
            }
            if !self.is_calm {
                self.after(FILL_RETRY, Step::Fill);
            }
            return;
        };
        for number in 0..self.options.load.n_stored {
            let len = self.rng.below(self.options.load.value_len_max + 1);
            let key = format!("stored-{number}").into_bytes();
            workload::store(self, index, &key, len);
        }
        self.let_others_come();
    }

    /// Everybody starts for the first time, at moments of their own; often several at once.
    fn let_others_come(&mut self) {
        let within = Duration::from_secs(if self.rng.chance(0.5) { 1 } else { 10 });
        for index in 0..self.options.n_nodes {
            let is_new = self.cluster.hosts[index].ended_at.is_none();
            if is_new && !self.cluster.hosts[index].is_up() {
                let pause = self.rng.duration_below(within);
                self.after(pause, Step::Start(index));
            }
        }
    }

    /// A new place with an address and a name of its own.
    pub(super) fn add_place(&mut self, guise: Guise) -> usize {
        let index = self.cluster.hosts.len();
        let addr = SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8 + 1], 7947));
        let mut host = Host::empty(self.fresh_name(), addr);
        host.is_stranger = guise != Guise::Ours;
        host.guise = guise;
        host.is_seedless = index == 0 && self.options.has(Fault::Seedless);
        if let Some(rate) = self.options.load.line_rate {
            let rate = if index % 3 == 2 { rate / SLOWER_LINE } else { rate };
            self.cluster.network.pace(addr.ip(), rate);
        }
        self.cluster.add_host(host)
    }

    pub(super) fn fresh_name(&mut self) -> String {
        self.next_name += 1;
        format!("n{}", self.next_name)
    }

    /// What a node speaks: where one with another format is to come, all others speak one alone.
    fn formats(&mut self, index: usize) -> Formats {
        let Formats { first, last } = Formats::SPOKEN;
        if self.cluster.hosts[index].guise == Guise::OtherFormat {
            Formats::only(first)
        } else if self.options.has(Fault::OtherFormat) {
            Formats::only(last)
        } else if self.options.has(Fault::Formats)
            && !self.cluster.hosts[index].is_seedless
            && !self.is_calm
            && self.is_settled()
            && self.rng.chance(0.5)
        {
            self.faults.count(Fault::Formats);
            Formats::only(first)
        } else {
            Formats::SPOKEN
        }
    }

    /// Whether several nodes are ready that tell so. Others cannot know it of one that speaks the
    /// format before, so such a node comes only where it need not found a cluster.
    fn is_settled(&self) -> bool {
        let tells = |host: &&Host| {
            let ready = !host.is_stranger && host.standing.ok_since.is_some();
            ready && host.standing.formats == Formats::SPOKEN
        };
        let is_split = self.options.has(Fault::Restart) || self.options.has(Fault::Halves);
        !is_split && self.cluster.hosts.iter().filter(tells).count() > 1
    }

    fn security(&self, index: usize) -> Security {
        let guise = self.cluster.hosts[index].guise;
        let other = guise == Guise::OtherKey;
        let encrypt = self.options.has(Fault::Encrypt) || other;
        let key = encrypt.then(|| Key::from_bytes(&[if other { 8 } else { 7 }; 32])).flatten();
        let label: &'static [u8] = if guise == Guise::OtherLabel { b"theirs" } else { b"ours" };
        Security {
            label: Bytes::from_static(label),
            keyring: Keyring::new(key).unwrap_or_default(),
            compress: self.options.rng_seed.is_multiple_of(2),
            ..Security::default()
        }
    }

    /// Seconds since 2026, by the host's own clock.
    fn incarnation(&self, index: usize) -> u32 {
        const START_OF_2026_MS: u64 = 1_767_225_600_000;
        let WallMillis(wall) = self.cluster.now_at(index).wall;
        u32::try_from(wall.saturating_sub(START_OF_2026_MS) / 1000).unwrap_or(1).max(1)
    }

    /// Starts an empty node of ours on a host, under the host's name, unless something runs there.
    pub(super) fn start_node(&mut self, index: usize) {
        if self.cluster.hosts[index].is_up() {
            return;
        }
        self.next_origin += 1;
        // Spread as random origins are, and never 0.
        let origin = OriginId(self.next_origin.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let store = Arc::new(Store::new(StoreConfig { origin, store_len_max: 0 }));
        let security = self.security(index);
        let formats = self.formats(index);
        let host = &self.cluster.hosts[index];
        let mut timing = swim::Config::lan();
        timing.dead_memory = self.options.dead_memory;
        let config = node::Config {
            name: NodeName::from(host.name.as_str()),
            advertise: host.addr,
            incarnation: self.incarnation(index),
            swim: timing,
            security: security.clone(),
            tombstone_grace: self.options.tombstone_grace,
            expired_grace: EXPIRED_GRACE,
            folded: self.options.folded,
            expects_peers: !host.is_seedless,
            bootstrap: false,
            formats,
            rng_seed: self.rng.next_u64(),
        };
        let node = Node::new(config, Arc::clone(&store), self.cluster.now_at(index));
        if host.is_seedless {
            self.faults.count(Fault::Seedless);
        }
        self.cluster.hosts[index].store = Some(store);
        self.cluster.start(index, Process::Ours(Box::new(node)), Arc::new(security));
        self.cluster.hosts[index].standing.formats = formats;
        self.look_for_peers(index);
    }

    fn start_foreign(&mut self, index: usize) {
        let security = self.security(index);
        let (name, addr) = (self.cluster.hosts[index].name.clone(), self.cluster.hosts[index].addr);
        let foreign = Foreign::new(
            &name,
            addr,
            self.incarnation(index),
            security.clone(),
            self.rng.next_u64(),
            self.cluster.now_at(index),
        );
        self.cluster.start(index, Process::Foreign(Box::new(foreign)), Arc::new(security));
        self.look_for_peers(index);
    }
}

const _: () = assert!(EPOCH_MS > 1_767_225_600_000);
