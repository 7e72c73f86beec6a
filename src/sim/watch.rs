//! Clients that watch keys, at one node after the other.
//!
//! ```text
//! away --> a poll: page after page at one node ----------------.
//!   ^  '-> a stream: what it lacks, then what changes ---------|--> the node ends, leaves, or
//!   '----- with the token of the last sync, or of page one <---'    is incomplete; enough is heard
//! ```
//!
//! They are told by the same [`Reader`] and [`Store::tell`] that the HTTP front is told by, a part
//! at a time, while the cluster goes on. Each keeps what it was told, as docs/watch.md asks: an
//! event whose version is not later is dropped, and all is forgotten at a reset and before it
//! begins without a token. `check::watched` judges what they have in the end.
//!
//! They draw from a generator of their own and tell the nodes nothing, so that a run with them is
//! the same in all else.

use super::check::Violation;
use super::check::watched::{self, Excuses};
use super::cluster::Cluster;
use super::history::{History, show};
use super::options::{Fault, Options};
use super::run::{Run, Step};
use crate::kv::{
    Asked, Begun, Coverage, OriginId, Reader, Record, Seen, Stamp, Store, Target, Token,
};
use crate::limits::STORE_SHARDS;
use crate::limits::TOKEN_ORIGINS_MAX;
use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Watching clients of a run.
const N_CLIENTS: usize = 3;
/// Longest time between two looks of these clients.
const PAUSE: Duration = Duration::from_millis(400);
/// What may be watched by prefix: everything, what clients write, what expires, what is stored.
const PREFIXES: [&str; 5] = ["", "key-", "key-1", "ttl-", "stored-"];
/// Keys that may be watched alone.
const KEYS: [&str; 3] = ["key-0", "key-1", "ttl-1"];
/// Steps after which a client that has nothing more to hear still does.
const STEPS_MAX: usize = 4 * STORE_SHARDS + 1_000;

/// All clients that watch, and what was seen of them.
#[derive(Debug)]
pub(super) struct Watchers {
    rng: Rng,
    clients: Vec<Client>,
    /// Whether a delete may be forgotten before an older write of the key has ended.
    is_forgetful: bool,
    /// Halves of the cluster may be apart for longer than deletes are remembered.
    forget_apart: bool,
    complaint: Option<String>,
    /// Events told.
    pub(super) n_told: u64,
    /// Times at which a client went on from a token.
    pub(super) n_resumed: u64,
    /// Times at which one had to begin anew.
    pub(super) n_reset: u64,
}

/// A client that watches.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) target: Target,
    /// The latest that it was told of each key.
    pub(super) model: BTreeMap<Vec<u8>, Record>,
    /// What its token says.
    pub(super) token: Option<Seen>,
    /// Whether its tokens are as short as may be, as after years: what is over is one number.
    has_short_tokens: bool,
    at: At,
}

#[derive(Debug)]
enum At {
    Away,
    Poll(Poll),
    Stream(Box<Stream>),
}

/// Pages of one answer after the other.
#[derive(Debug)]
struct Poll {
    origin: OriginId,
    /// What the node held some time before the next page is read.
    coverage: Arc<Coverage>,
    after: Option<Vec<u8>>,
    /// The token of the first page.
    token: Option<Seen>,
    /// What the pages so far told: it counts once the last one is read.
    told: Vec<Record>,
    limit: usize,
}

/// A stream, and what its bell has noted.
#[derive(Debug)]
struct Stream {
    origin: OriginId,
    reader: Reader,
    keys: BTreeSet<Box<[u8]>>,
    is_overrun: bool,
    coverage: Option<Arc<Coverage>>,
    catching_up: CatchingUp,
    /// The latest that this stream has told of each key.
    told: BTreeMap<Vec<u8>, (Stamp, bool)>,
}

#[derive(Debug)]
enum CatchingUp {
    /// What the node holds is to be asked for.
    Due,
    /// It was asked some time ago.
    Asked(Arc<Coverage>),
    /// Part after part is told.
    Telling,
    Over,
}

/// A node that serves watches.
struct Server<'c> {
    cluster: &'c Cluster,
    index: usize,
    store: &'c Store,
}

impl Server<'_> {
    fn of(cluster: &Cluster, index: usize) -> Option<Server<'_>> {
        let host = &cluster.hosts[index];
        let store = host.store.as_deref().filter(|_| host.node().is_some_and(|n| n.is_complete()));
        Some(Server { cluster, index, store: store? })
    }

    /// The one whose process this is, if it still serves.
    fn named(cluster: &Cluster, origin: OriginId) -> Option<Server<'_>> {
        let mut servers = Server::all(cluster);
        servers.retain(|server| server.store.origin() == origin);
        servers.pop()
    }

    fn all(cluster: &Cluster) -> Vec<Server<'_>> {
        let answering = cluster.answering().into_iter();
        answering.filter_map(|index| Server::of(cluster, index)).collect()
    }

    fn coverage(&self) -> Arc<Coverage> {
        let node = self.cluster.hosts[self.index].node();
        Arc::new(node.map(|node| node.replication().coverage()).unwrap_or_default())
    }
}

impl Watchers {
    /// Clients that have heard of nothing yet.
    pub(super) fn new(options: &Options) -> Watchers {
        let mut rng = Rng::from_seed(options.rng_seed ^ 0x7761_7463_6865_7273);
        let client = |_| Client {
            target: target(&mut rng),
            model: BTreeMap::new(),
            token: None,
            has_short_tokens: false,
            at: At::Away,
        };
        let mut clients: Vec<Client> = (0..N_CLIENTS).map(client).collect();
        clients.iter_mut().step_by(2).for_each(|client| client.has_short_tokens = true);
        Watchers {
            rng,
            clients,
            is_forgetful: !options.outlasting,
            forget_apart: !options.outlasting && options.has(Fault::Halves),
            complaint: None,
            n_told: 0,
            n_resumed: 0,
            n_reset: 0,
        }
    }

    /// Whether all that was told is right so far.
    ///
    /// # Errors
    /// What is not.
    pub(super) fn check(&self) -> Result<(), Violation> {
        match &self.complaint {
            Some(what) => Err(Violation::new("watch-order", what.clone())),
            None => Ok(()),
        }
    }

    /// Whether all clients have what the nodes hold, which no longer changes: those on a stream
    /// first as they are, then all after they have gone on at another node.
    ///
    /// # Errors
    /// What one has instead.
    pub(super) fn finally(
        &mut self,
        cluster: &Cluster,
        history: &History,
    ) -> Result<(), Violation> {
        let excuses = Excuses {
            is_forgetful: self.is_forgetful,
            outlived: self.forget_apart.then_some(history),
        };
        self.ring(cluster);
        for number in 0..self.clients.len() {
            let is_streaming = matches!(self.clients[number].at, At::Stream(_));
            if is_streaming && let Some(server) = self.settle(cluster, number)? {
                watched::check(cluster, server, &self.clients[number], false, excuses)?;
            }
            self.leave(number);
            if let Some(server) = self.settle(cluster, number)? {
                watched::check(cluster, server, &self.clients[number], true, excuses)?;
            }
        }
        self.check()
    }

    /// Has a client go on until there is nothing more to hear; at which host.
    fn settle(&mut self, cluster: &Cluster, number: usize) -> Result<Option<usize>, Violation> {
        let mut server = None;
        for _ in 0..STEPS_MAX {
            let origin = match &self.clients[number].at {
                At::Away if server.is_some() => return Ok(server),
                At::Away => None,
                At::Poll(poll) => Some(poll.origin),
                At::Stream(stream) if stream.is_idle() => {
                    return Ok(Server::named(cluster, stream.origin).map(|server| server.index));
                }
                At::Stream(stream) => Some(stream.origin),
            };
            let serving = origin.and_then(|origin| Server::named(cluster, origin));
            server = serving.map(|server| server.index);
            if Server::all(cluster).is_empty() {
                return Ok(None);
            }
            self.step(cluster, number);
        }
        let what = format!("a client hears without end of {:?}", self.clients[number].target);
        Err(Violation::new("watch", what))
    }

    /// Tells streams which keys have changed, as the hub of each node does.
    fn ring(&mut self, cluster: &Cluster) {
        for server in Server::all(cluster) {
            let origin = server.store.origin();
            let mut streams: Vec<&mut Stream> = Vec::new();
            for client in &mut self.clients {
                if let At::Stream(stream) = &mut client.at
                    && stream.origin == origin
                {
                    streams.push(stream);
                }
            }
            if streams.is_empty() {
                server.store.switch_feed(false);
                continue;
            }
            let changes = server.store.take_changes();
            let is_idle = self.rng.chance(0.05);
            let coverage = server.coverage();
            for stream in streams {
                let target = stream.reader.target().clone();
                let n_before = stream.keys.len();
                stream.keys.extend(changes.keys.iter().filter(|key| target.has(key)).cloned());
                stream.is_overrun |= changes.is_overrun || self.rng.chance(0.01);
                if is_idle || stream.is_overrun || stream.keys.len() > n_before {
                    stream.coverage = Some(Arc::clone(&coverage));
                }
            }
        }
    }

    /// A client goes away from where it is.
    fn leave(&mut self, number: usize) {
        self.clients[number].at = At::Away;
    }

    /// A client does something.
    fn step(&mut self, cluster: &Cluster, number: usize) {
        match std::mem::replace(&mut self.clients[number].at, At::Away) {
            At::Away => self.call(cluster, number),
            At::Poll(poll) => self.page(cluster, number, poll),
            At::Stream(stream) => self.stream(cluster, number, stream),
        }
    }

    /// A client calls any node that serves.
    fn call(&mut self, cluster: &Cluster, number: usize) {
        let servers = Server::all(cluster);
        if servers.is_empty() {
            return;
        }
        let server = &servers[self.rng.below(servers.len())];
        let origin = server.store.origin();
        let client = &mut self.clients[number];
        if client.token.is_none() {
            client.model.clear();
        } else {
            self.n_resumed += 1;
        }
        if matches!(client.target, Target::Prefix(_)) && self.rng.chance(0.5) {
            let limit = 1 + self.rng.below(20);
            let coverage = server.coverage();
            let (after, token, told) = (None, None, Vec::new());
            client.at = At::Poll(Poll { origin, coverage, after, token, told, limit });
            return;
        }
        server.store.switch_feed(true);
        client.at = At::Stream(Box::new(Stream {
            origin,
            reader: Reader::new(client.target.clone(), client.brings()),
            keys: BTreeSet::new(),
            is_overrun: false,
            coverage: None,
            catching_up: CatchingUp::Due,
            told: BTreeMap::new(),
        }));
    }

    /// The next page of an answer.
    fn page(&mut self, cluster: &Cluster, number: usize, mut poll: Poll) {
        let client = &mut self.clients[number];
        let Target::Prefix(prefix) = client.target.clone() else { return };
        let Some(server) = Server::named(cluster, poll.origin) else { return };
        let asked = Asked { prefix: &prefix, after: poll.after.as_deref(), limit: poll.limit };
        let now = cluster.now_at(server.index);
        let is_first = poll.after.is_none();
        let had_token = client.token.is_some();
        let told = server.store.tell(now, asked, client.brings().as_ref(), &poll.coverage);
        if told.is_reset && had_token {
            self.n_reset += 1;
            client.token = None;
            client.model.clear();
            if !is_first {
                // What the first pages told is gone as well.
                return;
            }
        }
        self.n_told += told.page.items.len() as u64;
        poll.told.extend(told.page.items);
        let token = poll.token.take().unwrap_or(told.seen);
        match told.page.next {
            Some(next) => {
                let coverage = server.coverage();
                let (after, token) = (Some(next), Some(token));
                client.at = At::Poll(Poll { coverage, after, token, ..poll });
            }
            None => {
                poll.told.into_iter().for_each(|record| client.take(record));
                client.token = Some(token);
            }
        }
    }

    fn stream(&mut self, cluster: &Cluster, number: usize, mut stream: Box<Stream>) {
        let Some(server) = Server::named(cluster, stream.origin) else { return };
        let (store, now) = (server.store, cluster.now_at(server.index));
        match std::mem::replace(&mut stream.catching_up, CatchingUp::Over) {
            CatchingUp::Due => {
                stream.keys.clear();
                stream.is_overrun = false;
                stream.coverage = None;
                stream.catching_up = CatchingUp::Asked(server.coverage());
            }
            CatchingUp::Asked(coverage) => {
                match stream.reader.begin(store, coverage) {
                    Begun::On => {}
                    Begun::Behind => {
                        self.clients[number].token = stream.reader.seen().cloned();
                    }
                    Begun::Anew => self.reset(number, &mut stream),
                }
                stream.catching_up = CatchingUp::Telling;
            }
            CatchingUp::Telling => {
                let n_max = 1 + self.rng.below(20);
                stream.catching_up = CatchingUp::Telling;
                for _ in 0..1 + self.rng.below(STORE_SHARDS) {
                    let Some(part) = stream.reader.part(store, now, n_max) else {
                        let is_told = stream.reader.end(store, &server.coverage());
                        if is_told {
                            self.clients[number].token = stream.reader.seen().cloned();
                        } else {
                            self.reset(number, &mut stream);
                        }
                        stream.catching_up =
                            if is_told { CatchingUp::Over } else { CatchingUp::Due };
                        break;
                    };
                    part.into_iter().for_each(|record| self.event(number, &mut stream, record));
                }
            }
            CatchingUp::Over => self.follow(&server, number, &mut stream),
        }
        self.clients[number].at = At::Stream(stream);
    }

    /// Tells what has changed.
    fn follow(&mut self, server: &Server<'_>, number: usize, stream: &mut Stream) {
        let (store, now) = (server.store, server.cluster.now_at(server.index));
        let (keys, coverage) = (std::mem::take(&mut stream.keys), stream.coverage.take());
        if std::mem::take(&mut stream.is_overrun) {
            stream.catching_up = CatchingUp::Due;
            return;
        }
        for key in keys {
            match store.shown(now, &key) {
                Some(record) => self.event(number, stream, record),
                None => {
                    stream.reader.reset();
                    self.reset(number, stream);
                    stream.catching_up = CatchingUp::Due;
                    return;
                }
            }
        }
        if let Some(coverage) = coverage {
            let seen = stream.reader.sync(store, &coverage).clone();
            self.clients[number].token = Some(seen);
        }
    }

    fn reset(&mut self, number: usize, stream: &mut Stream) {
        self.n_reset += 1;
        stream.told.clear();
        let client = &mut self.clients[number];
        client.token = None;
        client.model.clear();
    }

    fn event(&mut self, number: usize, stream: &mut Stream, record: Record) {
        self.n_told += 1;
        let version = version(&record);
        let before = stream.told.insert(record.key().to_vec(), version);
        if before.is_some_and(|before| before > version) && !self.is_forgetful {
            let what = format!("a stream told an older version: {}", show(record.key()));
            self.complaint.get_or_insert(what);
        }
        self.clients[number].take(record);
    }
}

impl Client {
    /// The token with which it goes on.
    fn brings(&self) -> Option<Token> {
        let seen = self.token.as_ref()?;
        let n_named = seen.named().count() + seen.iter_ahead().count();
        let n_max = if self.has_short_tokens { n_named } else { TOKEN_ORIGINS_MAX };
        seen.token(n_max)
    }

    /// Keeps what it is told, if that is news.
    fn take(&mut self, record: Record) {
        let known = self.model.get(record.key()).map(version);
        if known < Some(version(&record)) {
            self.model.insert(record.key().to_vec(), record);
        }
    }
}

impl Stream {
    /// Whether it has told all that it knows of.
    fn is_idle(&self) -> bool {
        let is_quiet = self.keys.is_empty() && !self.is_overrun;
        is_quiet && matches!(self.catching_up, CatchingUp::Over)
    }
}

fn version(record: &Record) -> (Stamp, bool) {
    (record.stamp(), record.has_expired())
}

fn target(rng: &mut Rng) -> Target {
    if rng.chance(0.2) {
        return Target::Key(KEYS[rng.below(KEYS.len())].as_bytes().into());
    }
    Target::Prefix(PREFIXES[rng.below(PREFIXES.len())].as_bytes().into())
}

/// The clients that watch do something.
pub(super) fn operate(run: &mut Run) {
    let watchers = &mut run.watchers;
    watchers.ring(&run.cluster);
    for number in 0..watchers.clients.len() {
        if watchers.rng.chance(0.03) {
            watchers.leave(number);
        }
        if watchers.rng.chance(0.6) {
            watchers.step(&run.cluster, number);
        }
    }
    let pause = watchers.rng.duration_below(PAUSE);
    run.after(pause, Step::Watch);
}
