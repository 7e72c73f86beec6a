//! The members of our kind, as replication sees them: where they are and what they hold.
//!
//! A peer is one run of one process, named by its origin; a restarted member is another peer.

use crate::kv::{Dot, OriginId};
use crate::limits::ORIGINS_MAX;
use crate::mutation::mutated;
use crate::node::formats::Formats;
use crate::node::io::ConnId;
use crate::node::links::Links;
use crate::node::replication::facts::folds::{FoldedHash, FoldedOrigin};
use crate::node::replication::facts::known::{Claims, Known};
use crate::node::replication::facts::paths::Paths;
use crate::node::replication::facts::rtt::RoundTrip;
use crate::node::replication::facts::shared_folds::{FoldedThere, FoldedTold};
use crate::node::replication::facts::stage::Stage;
use crate::node::replication::message::Heads;
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::message::NodeName;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// What membership says of a member of our kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its run.
    pub origin: OriginId,
    /// Its name.
    pub name: NodeName,
    /// Where it gossips.
    pub addr: SocketAddr,
    /// Alive or suspect, as opposed to dead.
    pub reachable: bool,
    /// The formats it speaks.
    pub formats: Formats,
    /// Whether it knows keys that expire.
    pub ttl: bool,
    /// Whether its digests name the run that they are for.
    pub names: bool,
    /// Its probes are answered over TCP alone.
    pub udp_blocked: bool,
}

/// Most peers that get every write straight from its writer; with more, writes spread as rumors.
pub(in crate::node) const DIRECT_PEERS_MAX: usize = 9;
/// First wait for an acknowledgement, before a round trip has been measured.
pub(in crate::node) const RTO_MIN: Duration = Duration::from_millis(12);
/// Longest wait between two retransmissions.
pub(in crate::node) const RTO_MAX: Duration = Duration::from_secs(1);
/// How long what went over a link is left to it, without a word about it.
const LINK_PATIENCE: Duration = Duration::from_secs(2);
/// How long a link with bytes under way may stand still before its peer is told to ask others.
const STUCK: Duration = Duration::from_millis(200);
/// How far ahead of what its clock can show a digest of a peer may be, in milliseconds: machines
/// are suspended, and clocks go at slightly different rates.
const CLOCK_AHEAD_MS: u64 = 60_000;
/// The format that first tells a node's stage.
const STAGE_FORMAT: u8 = 3;
/// Retransmissions without an answer after which a peer gets only a beacon now and then.
const STALLED_TRIES: u32 = 9;

/// A write whose round trip is being timed.
#[derive(Debug, Clone, Copy)]
struct Timed {
    seq: u64,
    since: Instant,
    /// It has gone out more than once.
    again: bool,
}

/// Our writes that a link carries: they arrive as long as it stands, so sending them again over it
/// would only be in their way.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::node) struct ByLink {
    conn: Option<ConnId>,
    at: Instant,
    /// The last numbers in a row that went this way, whatever their size.
    row: (u64, u64),
    /// The highest number that did.
    pub(in crate::node) through: u64,
}

impl ByLink {
    /// Our writes from `first` to `last` have been handed to `conn`.
    fn sent(&mut self, now: Instant, conn: Option<ConnId>, first: u64, last: u64) {
        let follows = self.conn == conn && first <= self.row.1 + 1 && self.row.0 <= first;
        self.row = if follows { (self.row.0, self.row.1.max(last)) } else { (first, last) };
        (self.conn, self.at, self.through) = (conn, now, self.through.max(last));
    }

    /// Whether the link is the one that carries a record settling these numbers, which `is_large`
    /// for a datagram or not.
    pub(in crate::node) fn carries(
        &self,
        now: Instant,
        link: Option<ConnId>,
        seqs: &[u64],
        is_large: bool,
    ) -> bool {
        let (first, last) = (seqs.first().copied(), seqs.last().copied());
        let in_row = first >= Some(self.row.0) && last <= Some(self.row.1);
        link.is_some()
            && link == self.conn
            && now.since(self.at) < LINK_PATIENCE
            && (in_row || is_large && last <= Some(self.through))
    }
}

/// One of them.
#[derive(Debug)]
pub(in crate::node) struct Peer {
    pub(in crate::node) info: PeerInfo,
    /// The formats that it and this node speak.
    pub(in crate::node) common: Formats,
    /// What it said to hold.
    pub(in crate::node) heads: BTreeMap<OriginId, u64>,
    /// Our writes it holds without a gap.
    pub(in crate::node) acked: u64,
    /// Our writes sent to it at least once.
    pub(in crate::node) sent: u64,
    /// What went to it over its link last.
    pub(in crate::node) by_link: ByLink,
    /// After this number our writes are still to follow on the link, whose window was full.
    pub(in crate::node) backlog: Option<u64>,
    /// Which ways to it work.
    pub(in crate::node) paths: Paths,
    /// Our link to it.
    pub(in crate::node) link: Option<ConnId>,
    /// When to send again what it has not acknowledged.
    pub(in crate::node) resend_at: Option<Instant>,
    pub(in crate::node) tries: u32,
    timed: Option<Timed>,
    round_trip: RoundTrip,
    /// Digests in a row that agree on all writes and differ in the hash.
    pub(in crate::node) diverged: u32,
    /// When it was last told what is folded here.
    pub(in crate::node) folded_told: Option<FoldedTold>,
    /// The hash of what it has folded itself, as it told last.
    pub(in crate::node) folded_hash: Option<u64>,
    /// Whether it takes a part of our list, and reads tokens with sums: its digests say what its
    /// own folded origins cover.
    pub(in crate::node) takes_parts: bool,
    /// What of ours it has folded, when it takes a part, and enough is known.
    pub(in crate::node) folded_there: Option<FoldedThere>,
    /// The hash of our folded origins when it last said to hold all of them.
    pub(in crate::node) folded_held: Option<u64>,
    /// How many folds of ours there had been then: it holds all of these, whatever is folded later,
    /// and be it dead by then.
    pub(in crate::node) folds_held: u64,
    /// What the origins that it has folded add up to, by the list that it told last.
    pub(in crate::node) folded_listed: FoldedHash,
    /// When on its clock it told so last, in milliseconds: what it told earlier is not news.
    pub(in crate::node) told_as_of: u64,
    /// What its clock and ours were, in milliseconds, when it first told so: both go on alike.
    clocks: Option<(u64, u64)>,
    /// How far it has come, as it told last.
    pub(in crate::node) stage: Option<Stage>,
    /// Bytes of records that it may hold, when it is ready and has a limit.
    pub(in crate::node) limit: Option<u64>,
    /// Whether it was new when this node knew it already.
    pub(in crate::node) came_new: bool,
    /// When it was last asked to name this run.
    pub(in crate::node) asked_to_meet: Option<Instant>,
    /// When it was last asked for a digest because none of it had been heard.
    pub(in crate::node) greeted: Option<Instant>,
    /// When a whole digest of it was last heard.
    pub(in crate::node) told_at: Option<Instant>,
    /// The number of its floor, when it knows of floors.
    pub(in crate::node) floor: Option<u64>,
    /// Whether it was ready when first met, with writes that this founder lacked.
    pub(in crate::node) is_foreign: bool,
}

impl Peer {
    fn new(info: PeerInfo, common: Formats) -> Peer {
        let mut paths = Paths::default();
        paths.probed(info.udp_blocked);
        Peer {
            info,
            common,
            heads: BTreeMap::new(),
            acked: 0,
            sent: 0,
            by_link: ByLink::default(),
            backlog: None,
            paths,
            link: None,
            resend_at: None,
            tries: 0,
            timed: None,
            round_trip: RoundTrip::default(),
            diverged: 0,
            folded_told: None,
            folded_hash: None,
            takes_parts: false,
            folded_there: None,
            folded_held: None,
            folds_held: 0,
            folded_listed: FoldedHash::default(),
            told_as_of: 0,
            clocks: None,
            stage: None,
            limit: None,
            came_new: false,
            asked_to_meet: None,
            greeted: None,
            told_at: None,
            floor: None,
            is_foreign: false,
        }
    }

    /// How far it has come, when that is known. Who speaks only a format without stages counts as
    /// ready when it has said to hold anything: all that a build from before stages can tell.
    pub(in crate::node) fn stage(&self) -> Option<Stage> {
        if self.stage.is_none() && self.told_at.is_some() && self.common.last < STAGE_FORMAT {
            return Some(if self.heads.is_empty() { Stage::New } else { Stage::Copied });
        }
        self.stage
    }

    /// Whether it never names a run: a build of before, and anyone in the first format.
    pub(in crate::node) fn names_nobody(&self) -> bool {
        !self.info.names || !self.common.know_whom()
    }

    /// Whether it is ready, and means to stay.
    pub(in crate::node) fn is_ready(&self) -> bool {
        self.stage().is_some_and(Stage::is_ready)
    }

    /// Whether it serves first copies.
    pub(in crate::node) fn has_copies(&self) -> bool {
        self.stage().is_some_and(Stage::has_copies)
    }

    /// Whether it is about to end.
    pub(in crate::node) fn is_leaving(&self) -> bool {
        matches!(self.stage, Some(Stage::Leaving | Stage::Ending))
    }

    /// Whether it has said within `time` that it is new.
    pub(in crate::node) fn is_new_within(&self, now: Instant, time: Duration) -> bool {
        let lately = self.told_at.is_some_and(|at| now.since(at) <= time);
        self.stage() == Some(Stage::New) && lately
    }

    /// Whether it holds data and has said that it is not ready.
    pub(in crate::node) fn is_hidden(&self) -> bool {
        self.stage == Some(Stage::Hidden)
    }

    /// Not answering: it gets no first transmissions, so that it costs nothing.
    pub(in crate::node) fn is_stalled(&self) -> bool {
        self.tries >= STALLED_TRIES
    }

    /// How long it may take to answer at its first try.
    pub(in crate::node) fn answer_wait(&self) -> Duration {
        let far = |rtt| RTO_MIN.max(rtt * 5 / 4 + RTO_MIN / 3);
        self.round_trip.estimate().map_or(RTO_MIN, far).min(RTO_MAX)
    }

    /// How long to wait for an acknowledgement now.
    pub(in crate::node) fn rto(&self) -> Duration {
        // The sample holds the receiver's delay; grows by half with each try, so that heavy loss
        // of small datagrams is beaten in tens of milliseconds.
        let grown = (0..self.tries.min(16)).fold(self.answer_wait(), |rto, _| rto * 3 / 2);
        grown.min(RTO_MAX)
    }

    /// Our writes from `first` to `last` have gone out over its link.
    pub(in crate::node) fn sent_by_link(&mut self, now: Instant, first: u64, last: u64) {
        self.by_link.sent(now, self.link, first, last);
    }

    /// Whether its link has bytes under way and has not moved for a while.
    pub(in crate::node) fn is_stuck(&self, links: &Links, now: Instant) -> bool {
        self.link.is_some_and(|conn| {
            links.in_flight_len(conn) > 0 && now.since(links.moved_at(conn)) >= STUCK
        })
    }

    /// What it has not acknowledged goes out again: whose acknowledgement comes is not known.
    pub(in crate::node) fn sent_again(&mut self) {
        if let Some(timed) = &mut self.timed {
            timed.again = true;
        }
    }

    /// Our writes up to `seq` have gone out to it.
    pub(in crate::node) fn sent_through(&mut self, now: Instant, seq: u64) {
        if seq <= self.sent {
            return;
        }
        self.sent = seq;
        if self.timed.is_none() {
            self.timed = Some(Timed { seq, since: now, again: false });
        }
        if self.resend_at.is_none() && self.acked < seq {
            self.resend_at = Some(now + self.rto());
        }
    }

    /// It holds our writes up to `through`. True when that is news.
    pub(in crate::node) fn acknowledge(&mut self, now: Instant, through: u64) -> bool {
        if through <= self.acked {
            return false;
        }
        if let Some(timed) = self.timed.take_if(|timed| through >= timed.seq) {
            let sample = now.since(timed.since);
            if timed.again {
                self.round_trip.took_at_most(sample);
            } else {
                self.round_trip.took(sample);
            }
        }
        self.acked = through;
        self.sent = self.sent.max(through);
        self.tries = 0;
        self.resend_at = (self.acked < self.sent).then(|| now + self.rto());
        true
    }

    /// Anything at all came from it. One that was silent for long may have been cut off: what it
    /// lacks goes out at once, and not only when a further wait is over.
    pub(in crate::node) fn heard(&mut self, now: Instant) {
        if self.is_stalled() {
            self.tries = 0;
            self.resend_at = (self.acked < self.sent).then_some(now);
        }
    }

    /// Takes over what it says to hold, of as many origins as a node remembers itself.
    pub(in crate::node) fn holds(&mut self, heads: &Heads) {
        // A beacon of one that has written nothing tells of number 0.
        for (origin, through) in heads.iter().filter(|(_, through)| *through > 0) {
            let origin = OriginId(*origin);
            if self.heads.len() > ORIGINS_MAX && !self.heads.contains_key(&origin) {
                continue;
            }
            let known = self.heads.entry(origin).or_default();
            *known = (*through).max(*known);
        }
    }

    /// Takes it that the peer holds all origins that are folded here now, if its heads say so of
    /// those of which that is not known yet, or `listed`, which it has folded itself.
    pub(in crate::node) fn prove_folds(&mut self, known: &Known, listed: &Claims) {
        let holds = |(origin, folded): (OriginId, &FoldedOrigin)| {
            listed.covers(Dot { origin, seq: folded.last }) || self.head(origin) >= folded.last
        };
        if known.folded_since(self.folds_held).all(holds) {
            self.holds_folded(known);
        }
    }

    /// It says to hold all origins that are folded here now.
    pub(in crate::node) fn holds_folded(&mut self, known: &Known) {
        self.folded_held = Some(known.folded_hash());
        self.folds_held = known.n_folds();
    }

    /// The number up to which it holds the writes of `origin`, folded or not.
    pub(in crate::node) fn holds_through(&self, known: &Known, origin: OriginId) -> u64 {
        let folds_held = if mutated!(FoldForAll) { u64::MAX } else { self.folds_held };
        self.head(origin).max(known.held_by_folds(origin, folds_held))
    }

    /// Lets go of what it has said of origins that are folded here, as far as it is known to hold
    /// all of them. What one that is dead has said of others is all that will ever be known.
    pub(in crate::node) fn drop_folded_heads(&mut self, known: &Known) {
        let folds_held = self.folds_held;
        self.heads.retain(|origin, _| {
            !known.is_folded(*origin) || known.held_by_folds(*origin, folds_held) == 0
        });
    }

    /// Forgets what it has said of a run that has gone below the floor.
    pub(in crate::node) fn lets_go(&mut self, origin: OriginId) {
        self.heads.remove(&origin);
    }

    /// It has told what it holds at this time of its clock. One that is far ahead of what its clock
    /// can show counts as no more than that, or nothing that it tells would be news any more.
    pub(in crate::node) fn tells_as_of(&mut self, now: Instant, at: u64) {
        let (theirs, ours) = *self.clocks.get_or_insert((at, now.as_millis()));
        let elapsed = now.as_millis().saturating_sub(ours);
        let latest = theirs.saturating_add(elapsed).saturating_add(CLOCK_AHEAD_MS);
        self.told_as_of = self.told_as_of.max(at.min(latest));
    }

    /// It has the same floor as this node and has told all its heads. What it has said before of
    /// runs of which neither knows any more has gone below the floor there.
    pub(in crate::node) fn names_no_others(&mut self, known: &Known, heads: &Heads) {
        let is_unknown = |of: OriginId| known.highest(of) == 0 && !known.is_folded(of);
        if self.heads.keys().any(|of| is_unknown(*of) && !known.is_me(*of)) {
            let named: BTreeSet<u64> = heads.iter().map(|(of, _)| *of).collect();
            self.heads
                .retain(|of, _| known.is_me(*of) || !is_unknown(*of) || named.contains(&of.0));
        }
    }

    #[cfg(test)]
    pub(in crate::node) fn n_heads(&self) -> usize {
        self.heads.len()
    }

    /// The number up to which it holds every write of `origin`.
    pub(in crate::node) fn head(&self, origin: OriginId) -> u64 {
        self.heads.get(&origin).copied().unwrap_or(0)
    }
}

/// All of them.
#[derive(Debug)]
pub(in crate::node) struct Peers {
    /// What this node speaks.
    formats: Formats,
    by_origin: BTreeMap<OriginId, Peer>,
    /// Members of our kind that are no peers, as they share no format with this node, or cannot
    /// read what it holds.
    incompatible: BTreeMap<OriginId, PeerInfo>,
    /// Whether there is one of them of whom nobody has been told.
    pub(in crate::node) is_incompatible_news: bool,
    /// Whether something is held that expires: who does not know that is no peer.
    needs_ttl: bool,
    /// Those that are reachable, in order: drawing from many must not visit each.
    reachable: Vec<OriginId>,
    arrivals_total: u64,
}

impl Peers {
    pub(in crate::node) fn new(formats: Formats) -> Peers {
        Peers {
            formats,
            by_origin: BTreeMap::new(),
            incompatible: BTreeMap::new(),
            is_incompatible_news: false,
            needs_ttl: false,
            reachable: Vec::new(),
            arrivals_total: 0,
        }
    }

    /// Takes over the table of members; the peers that are gone. `needs_ttl` is that something is
    /// held that expires.
    pub(in crate::node) fn update(&mut self, infos: Vec<PeerInfo>, needs_ttl: bool) -> Vec<Peer> {
        self.needs_ttl = needs_ttl;
        let mut old = std::mem::take(&mut self.by_origin);
        let incompatible = std::mem::take(&mut self.incompatible);
        for info in infos {
            let counted = mutated!(CountIncompatible).then_some(self.formats);
            let common = self.formats.common(info.formats).filter(|_| info.ttl || !needs_ttl);
            let Some(common) = common.or(counted) else {
                self.is_incompatible_news |= !incompatible.contains_key(&info.origin);
                self.incompatible.insert(info.origin, info);
                continue;
            };
            let before = old.remove(&info.origin);
            let was_reachable = before.as_ref().is_some_and(|peer| peer.info.reachable);
            self.arrivals_total += u64::from(info.reachable && !was_reachable);
            let peer = match before {
                Some(peer) => {
                    // Back from the dead, it pulls.
                    let backlog = peer.backlog.filter(|_| info.reachable);
                    let has_changed = peer.info.udp_blocked != info.udp_blocked;
                    let mut peer = Peer { info, common, backlog, ..peer };
                    if has_changed {
                        peer.paths.probed(peer.info.udp_blocked);
                    }
                    peer
                }
                None => Peer::new(info, common),
            };
            self.by_origin.insert(peer.info.origin, peer);
        }
        self.reachable = self.reachable().map(|peer| peer.info.origin).collect();
        old.into_values().collect()
    }

    pub(in crate::node) fn get(&self, origin: OriginId) -> Option<&Peer> {
        self.by_origin.get(&origin)
    }

    pub(in crate::node) fn get_mut(&mut self, origin: OriginId) -> Option<&mut Peer> {
        self.by_origin.get_mut(&origin)
    }

    pub(in crate::node) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.by_origin.values()
    }

    pub(in crate::node) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.by_origin.values_mut()
    }

    /// Notes whether something is held that expires. True when a member that does not know such
    /// keys counts as a peer and should not any more, or the other way round.
    pub(in crate::node) fn is_changed_by_ttl(&mut self, needs_ttl: bool) -> bool {
        if needs_ttl == self.needs_ttl {
            return false;
        }
        let peers = self.by_origin.values().map(|peer| &peer.info);
        let is_changed = peers.chain(self.incompatible.values()).any(|info| !info.ttl);
        self.needs_ttl = needs_ttl;
        is_changed
    }

    /// What membership said last of members of our kind.
    pub(in crate::node) fn infos(&self) -> Vec<PeerInfo> {
        let peers = self.by_origin.values().map(|peer| peer.info.clone());
        peers.chain(self.incompatible.values().cloned()).collect()
    }

    /// Those of our kind with whom this node shares no format, or who cannot read what it holds.
    pub(in crate::node) fn incompatible(&self) -> impl Iterator<Item = &PeerInfo> {
        self.incompatible.values()
    }

    /// Whether the run `origin` is that of one of them.
    pub(in crate::node) fn is_incompatible(&self, origin: OriginId) -> bool {
        self.incompatible.contains_key(&origin)
    }

    /// Whether the run `origin` is a member's, peer or not.
    pub(in crate::node) fn is_member(&self, origin: OriginId) -> bool {
        self.by_origin.contains_key(&origin) || self.incompatible.contains_key(&origin)
    }

    /// Whether they are so few that writes go straight to each of them.
    pub(in crate::node) fn are_few(&self) -> bool {
        self.n_reachable() <= DIRECT_PEERS_MAX
    }

    pub(in crate::node) fn is_reachable(&self, origin: OriginId) -> bool {
        self.get(origin).is_some_and(|peer| peer.info.reachable)
    }

    pub(in crate::node) fn n_reachable(&self) -> usize {
        self.reachable.len()
    }

    /// How often a peer has become reachable.
    pub(in crate::node) fn arrivals_total(&self) -> u64 {
        self.arrivals_total
    }

    /// The reachable ones.
    pub(in crate::node) fn reachable(&self) -> impl Iterator<Item = &Peer> {
        self.by_origin.values().filter(|peer| peer.info.reachable)
    }

    /// Up to `n` different reachable peers, drawn evenly.
    pub(in crate::node) fn draw(&self, n: usize, rng: &mut Rng) -> Vec<OriginId> {
        let mut origins = self.reachable.clone();
        let n = n.min(origins.len());
        for at in 0..n {
            let other = at + rng.below(origins.len() - at);
            origins.swap(at, other);
        }
        origins.truncate(n);
        origins
    }
}
