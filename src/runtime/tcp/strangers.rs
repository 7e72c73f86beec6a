//! Places for inbound connections that are no links, or not yet: who keeps one when all are taken.
//!
//! A connection waits until its first frame is whole; from then on it is served and keeps its
//! place. When there is no room, a newcomer takes the place of one that waits: the one that has
//! been silent longest, else the one that has waited longest. So connections that bring nothing,
//! however many and from wherever, keep nobody out. Connections of addresses that this node has
//! talked to, as members' are, give way to those of others only when they are silent for long.

use crate::limits::{STREAM_SOURCES_KNOWN_MAX, STREAMS_WAITING_PER_SOURCE_MAX};
use crate::source::Source;
use crate::time::Instant;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long a connection has before it goes ahead of others: silent, or beyond the share of its
/// source. What an honest one sends comes right behind it, and waits for the engine at most.
const QUIET: Duration = Duration::from_millis(250);

/// All places of a node.
#[derive(Debug)]
pub(super) struct Strangers {
    table: Mutex<Table>,
    /// How many there are.
    max: usize,
    /// How many of them one source may have that waits.
    share: usize,
}

#[derive(Debug, Default)]
struct Table {
    /// In the order in which they came.
    seats: BTreeMap<u64, Seat>,
    next: u64,
    known: Known,
}

#[derive(Debug)]
struct Seat {
    source: Source,
    came: Instant,
    state: State,
    displaced: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Has sent nothing.
    Silent,
    /// Has sent a part of its first frame.
    Unfinished,
    /// Its first frame is here.
    Served,
}

/// Addresses that this node has talked to; of too many the first are forgotten.
#[derive(Debug, Default)]
struct Known {
    sources: BTreeSet<Source>,
    order: VecDeque<Source>,
}

impl Known {
    fn insert(&mut self, source: Source) {
        if !self.sources.insert(source) {
            return;
        }
        self.order.push_back(source);
        if self.order.len() > STREAM_SOURCES_KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.sources.remove(&oldest);
        }
    }
}

/// The place of one connection, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    strangers: Arc<Strangers>,
    number: u64,
    displaced: Arc<Notify>,
}

impl Strangers {
    /// So many places.
    pub fn new(max: usize) -> Strangers {
        let share = STREAMS_WAITING_PER_SOURCE_MAX.min(max.div_ceil(2));
        Strangers { table: Mutex::default(), max, share }
    }

    /// A place for a connection from `ip`, and whether another one had to make room for it. `None`
    /// when nobody may be sent away for it.
    pub fn admit(self: &Arc<Strangers>, ip: IpAddr, now: Instant) -> Option<(Place, bool)> {
        let mut table = self.table.lock();
        let source = Source::of(ip);
        let of_source = |seat: &Seat| seat.source == source;
        let is_at_share =
            table.seats.values().filter(|seat| seat.waits() && of_source(seat)).count()
                >= self.share;
        // Many requests of one source at once are no abuse: they wait for their turn here.
        let had_time = |seat: &Seat| of_source(seat) && seat.had_time(now);
        let beyond_share = is_at_share.then(|| table.first_to_go(now, had_time)).flatten();
        let victim = if beyond_share.is_some() {
            beyond_share
        } else if table.seats.len() >= self.max {
            let is_known = table.known.sources.contains(&source);
            let strange = |seat: &Seat| !table.known.sources.contains(&seat.source);
            let go = table.first_to_go(now, strange);
            Some(go.or_else(|| table.first_to_go(now, |seat| is_known || seat.is_quiet(now)))?)
        } else {
            None
        };
        if let Some(seat) = victim.and_then(|victim| table.seats.remove(&victim)) {
            seat.displaced.notify_one();
        }
        let number = table.next;
        table.next += 1;
        let displaced = Arc::new(Notify::new());
        let seat = Seat { source, came: now, state: State::Silent, displaced: displaced.clone() };
        table.seats.insert(number, seat);
        Some((Place { strangers: self.clone(), number, displaced }, victim.is_some()))
    }

    /// This node has talked to `ip`: a frame has come from there, or a dial was taken.
    pub fn know(&self, ip: IpAddr) {
        self.table.lock().known.insert(Source::of(ip));
    }
}

impl Seat {
    fn waits(&self) -> bool {
        self.state != State::Served
    }

    fn had_time(&self, now: Instant) -> bool {
        now.since(self.came) >= QUIET
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.state == State::Silent && self.had_time(now)
    }
}

impl Table {
    /// Which of those that wait and that `may` go makes room first.
    fn first_to_go(&self, now: Instant, may: impl Fn(&Seat) -> bool) -> Option<u64> {
        let waiting = || self.seats.iter().filter(|(_, seat)| seat.waits() && may(seat));
        let quiet = waiting().find(|(_, seat)| seat.is_quiet(now));
        quiet.or_else(|| waiting().next()).map(|(number, _)| *number)
    }
}

impl Place {
    /// Waits until the place has been given to another connection.
    pub async fn lost(&self) {
        self.displaced.notified().await;
    }

    /// The first byte has come.
    pub(super) fn spoke(&self) {
        self.set(State::Unfinished);
    }

    /// The first frame has come, from `ip`.
    pub fn served(&self, ip: IpAddr) {
        self.set(State::Served);
        self.strangers.know(ip);
    }

    fn set(&self, state: State) {
        if let Some(seat) = self.strangers.table.lock().seats.get_mut(&self.number) {
            seat.state = state;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.table.lock().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STREAMS_INBOUND_MAX;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    /// One place for each of these addresses, in order.
    fn full(strangers: &Arc<Strangers>, from: impl Fn(usize) -> IpAddr) -> Vec<Place> {
        (0..STREAMS_INBOUND_MAX).map(|n| strangers.admit(from(n), at(0)).expect("room").0).collect()
    }

    fn is_in(place: &Place) -> bool {
        place.strangers.table.lock().seats.contains_key(&place.number)
    }

    #[test]
    fn the_oldest_silent_one_goes_first_and_then_the_oldest_that_waits() {
        let strangers = Arc::new(Strangers::new(STREAMS_INBOUND_MAX));
        let places = full(&strangers, |n| ip(n as u8));
        places[0].served(ip(0));
        places[1].spoke();
        let (newcomer, displaced) = strangers.admit(ip(200), at(1_000)).expect("a place");
        assert!(displaced && !is_in(&places[2]) && is_in(&places[1]));
        places[3..].iter().for_each(Place::spoke);
        let (_another, _) = strangers.admit(ip(201), at(1_001)).expect("a place");
        assert!(!is_in(&places[1]) && is_in(&newcomer), "a new one has had no time to speak");
        assert!(is_in(&places[0]), "who is served stays");
    }

    #[test]
    fn who_is_served_gives_way_to_nobody() {
        let strangers = Arc::new(Strangers::new(STREAMS_INBOUND_MAX));
        let mut places = full(&strangers, |n| ip(n as u8));
        places.iter().for_each(|place| place.served(ip(0)));
        assert!(strangers.admit(ip(200), at(1_000)).is_none());
        places.pop();
        assert!(strangers.admit(ip(200), at(1_000)).is_some_and(|(_, displaced)| !displaced));
    }

    #[test]
    fn one_source_has_a_share_of_the_waiting_places() {
        let strangers = Arc::new(Strangers::new(STREAMS_INBOUND_MAX));
        let mut places = Vec::new();
        for n in 0..2 * STREAMS_WAITING_PER_SOURCE_MAX {
            let came = at(n as u64 * 1_000);
            let (place, displaced) = strangers.admit(ip(1), came).expect("a place");
            assert_eq!(displaced, n >= STREAMS_WAITING_PER_SOURCE_MAX);
            place.spoke();
            places.push(place);
        }
        let held = places.iter().filter(|place| is_in(place)).count();
        assert_eq!(held, STREAMS_WAITING_PER_SOURCE_MAX);
        // At once they are as many as there is room for.
        drop(places);
        let places = full(&strangers, |_| ip(1));
        assert!(places.iter().all(is_in));
        // A network of IPv6 is one source, a mapped address is the one it stands for.
        let of = |text: &str| Source::of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), Source::of(ip(1)));
    }

    #[test]
    fn known_addresses_give_way_last() {
        let strangers = Arc::new(Strangers::new(STREAMS_INBOUND_MAX));
        let member = ip(1);
        strangers.know(member);
        let places = full(&strangers, |n| if n < 10 { member } else { ip(n as u8) });
        let mut newcomers = Vec::new();
        for n in 0..STREAMS_INBOUND_MAX {
            let source = ip(130 + (n % 100) as u8);
            newcomers.push(strangers.admit(source, at(1_000)).expect("a place"));
        }
        assert!(places[..10].iter().all(is_in) && !places[10..].iter().any(is_in));
        places[..10].iter().for_each(Place::spoke);
        // Even if only known ones are left, a known one gets in, and a stranger does not.
        drop(newcomers);
        let _rest: Vec<_> = (10..STREAMS_INBOUND_MAX)
            .map(|n| {
                strangers.know(ip(n as u8));
                strangers.admit(ip(n as u8), at(2_000)).expect("a place")
            })
            .collect();
        assert!(strangers.admit(ip(250), at(2_001)).is_none());
        assert!(strangers.admit(member, at(2_001)).is_some_and(|(_, displaced)| displaced));
        assert!(strangers.admit(ip(250), at(3_000)).is_some(), "they had time to speak");
    }

    #[test]
    fn known_addresses_are_bounded() {
        let mut known = Known::default();
        for n in 0..=STREAM_SOURCES_KNOWN_MAX as u32 {
            known.insert(Source::of(IpAddr::from(n.to_be_bytes())));
        }
        assert_eq!(known.sources.len(), STREAM_SOURCES_KNOWN_MAX);
        assert!(!known.sources.contains(&Source::of(IpAddr::from([0; 4]))));
    }
}
