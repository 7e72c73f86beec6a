//! Judges what clients have seen and what the processes hold, with the simulator's reference.
//!
//! Real processes can't be looked into at the moment one of them is killed, so the killed one is
//! stopped first and its survivors are asked: what none of them holds and only it had written is
//! lost with it. From outside that is the same as a kill at the moment of the stop.

use crate::clients::{Event, Outcome, Run, Seen};
use gossipykv::kv::{OriginId, Record, Stamp, Store, StoreConfig};
use gossipykv::sim::check;
use gossipykv::sim::history::{History, Required, Write};
use gossipykv::time::{Instant, Now, WallMillis};
use std::collections::{BTreeMap, BTreeSet};

/// What a process holds: deletes that it remembers, too.
pub type Held = BTreeMap<String, Seen>;

/// Two acknowledged writes after one another with clocks so far apart: a clock was set.
const SKEW_MS: u64 = 10_000;

/// What all clients have done and seen.
#[derive(Default)]
pub struct Judge {
    history: History,
    /// By key: values of writes that nobody has answered, `None` for a delete.
    unanswered: BTreeMap<String, BTreeSet<Option<Vec<u8>>>>,
    /// Which run has which origin, as its first write shows.
    runs: BTreeMap<OriginId, Run>,
    ended: BTreeSet<Run>,
    /// The last version that a run has shown of a key, by reads and by its own writes.
    shown: BTreeMap<(Run, String), Stamp>,
    /// Of acknowledged writes, on how many processes' living they may still count.
    holders: BTreeMap<(String, Stamp), u32>,
    last: Option<Stamp>,
    /// What clients saw and did, to be judged when nobody waits for an answer.
    heard: Vec<Event>,
    pub n_held_by_two: u64,
    pub n_unanswered: u64,
    pub n_skewed: u64,
}

impl Judge {
    /// Writes acknowledged, reads, and writes that ended with all who held them.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.history.n_writes, self.history.n_reads, self.history.n_lost_with_holders)
    }

    /// Takes in what clients were told: what was written, at once.
    pub fn hear(&mut self, events: Vec<Event>) {
        for event in &events {
            self.note_write(event);
        }
        self.heard.extend(events);
    }

    /// Judges everything heard. Now that no request is under way, every write that anybody can
    /// have seen has been heard of; before, one process may show what the client of another still
    /// waits for.
    pub fn settle(&mut self) -> Result<(), String> {
        for Event { run, key, outcome } in std::mem::take(&mut self.heard) {
            match outcome {
                Outcome::Wrote { write: (stamp, value), .. } => {
                    let before = self.shown.get(&(run, key.clone()));
                    if before.is_some_and(|before| *before >= stamp) {
                        self.history.complain(format!("{key}: {stamp} is below what was shown"));
                    }
                    self.show(run, key, Some((stamp, value)));
                    // A read that nobody made, so that the next one must not go back behind it.
                    self.history.n_reads -= 1;
                }
                Outcome::Saw(seen) => self.show(run, key, seen),
                Outcome::Odd(what) => self.history.complain(what),
                Outcome::Unanswered(_) => {}
            }
        }
        self.history.complaints.first().map_or(Ok(()), |what| Err(what.clone()))
    }

    fn note_write(&mut self, event: &Event) {
        let key = &event.key;
        match &event.outcome {
            Outcome::Wrote { write: (stamp, value), holders } => {
                self.runs.insert(stamp.origin, event.run);
                self.holders.insert((key.clone(), *stamp), *holders);
                self.n_held_by_two += u64::from(*holders > 1);
                let apart =
                    self.last.map_or(0, |last| last.time.millis().abs_diff(stamp.time.millis()));
                self.n_skewed += u64::from(apart > SKEW_MS);
                self.last = Some(*stamp);
                // Its number is told to nobody, and asked for only where deletes are forgotten.
                let write = Write { stamp: *stamp, seq: 0, value: value.clone() };
                // Nothing is forgotten within a run, so what counts is held.
                let held = self.history.keys.get(key.as_bytes()).and_then(|known| known.required);
                self.history.wrote(key.as_bytes(), None, write, || held);
            }
            Outcome::Unanswered(value) => {
                self.n_unanswered += 1;
                self.unanswered.entry(key.clone()).or_default().insert(value.clone());
            }
            Outcome::Saw(_) | Outcome::Odd(_) => {}
        }
    }

    fn show(&mut self, run: Run, key: String, seen: Option<Seen>) {
        // The history knows processes by origin; those of the runs' numbers are never drawn.
        let origin = OriginId(u64::from(run));
        match seen {
            Some((stamp, value)) => {
                self.admit(&key, stamp, value.as_deref());
                self.history.read(origin, key.as_bytes(), Some((stamp, value.as_deref())));
                self.shown.insert((run, key), stamp);
            }
            None => {
                self.history.n_reads += 1;
                // Deletes are remembered for a day, which no run lasts.
                if let Some(shown) = self.shown.get(&(run, key.clone())) {
                    self.history.complain(format!("{key}: {shown} vanished from run {run}"));
                }
            }
        }
    }

    /// A write without an answer shows that it happened, and then it has a version.
    fn admit(&mut self, key: &str, stamp: Stamp, value: Option<&[u8]>) {
        let known = self.history.keys.entry(key.as_bytes().to_vec()).or_default();
        let unanswered = self.unanswered.get(key);
        let value = value.map(<[u8]>::to_vec);
        if !known.writes.contains_key(&stamp) && unanswered.is_some_and(|all| all.contains(&value))
        {
            known.writes.insert(stamp, value);
        }
    }

    /// These runs are over; `survivors` say what they hold. Where a run has left in good order,
    /// nothing may be missing; else a write may, if it counts as held only by processes that are
    /// gone.
    pub fn ended(&mut self, runs: &[Run], survivors: &[Held], in_good_order: bool) {
        self.ended.extend(runs);
        let n_ended = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        let required = |history: &History| -> BTreeMap<Vec<u8>, Stamp> {
            let keys = history.keys.iter();
            keys.filter_map(|(key, known)| Some((key.clone(), known.required?))).collect()
        };
        let before = required(&self.history);
        let (runs, ended) = (&self.runs, &self.ended);
        let held_elsewhere = |key: &[u8], required: Required| {
            let key = String::from_utf8_lossy(key);
            // Who wrote it holds it. The survivors may have been asked before that.
            let writer = runs.get(&required.stamp.origin);
            if writer.is_some_and(|writer| !ended.contains(writer)) {
                return Some(required.stamp);
            }
            survivors.iter().filter_map(|held| held.get(&*key)).map(|(stamp, _)| *stamp).max()
        };
        self.history.ended(held_elsewhere, |_| true);
        let after = required(&self.history);
        for (key, stamp) in before {
            if after.get(&key) == Some(&stamp) {
                continue;
            }
            let key = String::from_utf8_lossy(&key).into_owned();
            let holders = self.holders.get(&(key.clone(), stamp)).copied().unwrap_or(1);
            if in_good_order {
                let what = format!("{key}: {stamp} was lost by a process that left in good order");
                self.history.complain(what);
            } else if holders > n_ended {
                let what = format!("{key}: {stamp} had {holders} holders, {n_ended} ended");
                self.history.complain(what);
            }
        }
        for holders in self.holders.values_mut() {
            *holders = holders.saturating_sub(n_ended);
        }
        self.holders.retain(|_, holders| *holders > 0);
    }

    /// The first promise that a process breaks by what it holds, now that all hold the same.
    pub fn kept(&mut self, name: &str, held: &Held) -> Result<(), String> {
        let store = Store::new(StoreConfig { origin: OriginId(1), store_len_max: 0 });
        // No version is ahead of this clock.
        let now = Now { instant: Instant::ZERO, wall: WallMillis(u64::MAX >> 16) };
        for (key, (stamp, value)) in held {
            self.admit(key, *stamp, value.as_deref());
            let content = value.as_deref().map(|value| (value, None));
            store.merge(&Record::new(*stamp, 1, key.as_bytes(), content), now);
        }
        check::kept(name, &store, &self.history)
            .map_err(|violation| format!("{}: {}", violation.invariant, violation.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(text: &str) -> Stamp {
        text.parse().expect("a version")
    }

    fn wrote(run: Run, version: &str, value: Option<&str>, holders: u32) -> Event {
        let write = (stamp(version), value.map(|value| value.as_bytes().to_vec()));
        Event { run, key: "k".to_owned(), outcome: Outcome::Wrote { write, holders } }
    }

    fn saw(run: Run, version: &str, value: Option<&str>) -> Event {
        let seen = Some((stamp(version), value.map(|value| value.as_bytes().to_vec())));
        Event { run, key: "k".to_owned(), outcome: Outcome::Saw(seen) }
    }

    fn held(version: &str, value: Option<&str>) -> Held {
        let seen = (stamp(version), value.map(|value| value.as_bytes().to_vec()));
        [("k".to_owned(), seen)].into()
    }

    const FIRST: &str = "0000000000010000-00000000000000aa";
    const SECOND: &str = "0000000000020000-00000000000000bb";

    #[test]
    fn a_lost_write_and_a_resurrection_are_seen() {
        let mut judge = Judge::default();
        judge.hear(vec![wrote(1, FIRST, Some("old"), 1), wrote(2, SECOND, Some("new"), 1)]);
        let lost = judge.kept("n", &held(FIRST, Some("old"))).expect_err("lost");
        assert!(lost.starts_with("durability"), "{lost}");
        judge.kept("n", &held(SECOND, Some("new"))).expect("all is well");
        judge.kept("n", &held(SECOND, Some("other"))).expect_err("nobody wrote that");

        let mut judge = Judge::default();
        judge.hear(vec![wrote(1, FIRST, Some("old"), 1), wrote(2, SECOND, None, 1)]);
        judge.kept("n", &held(FIRST, Some("old"))).expect_err("back from the dead");
        judge.kept("n", &held(SECOND, None)).expect("deleted");
    }

    #[test]
    fn what_only_the_dead_held_may_be_lost_and_no_more() {
        for (holders, by_survivor, in_good_order, is_fine) in [
            (1, false, false, true),
            (1, true, false, true),
            (2, false, false, false),
            (2, true, false, true),
            (1, false, true, false),
        ] {
            let mut judge = Judge::default();
            judge.hear(vec![wrote(1, FIRST, Some("v"), holders)]);
            let survivor = if by_survivor { held(FIRST, Some("v")) } else { Held::new() };
            judge.ended(&[1], &[survivor], in_good_order);
            assert_eq!(judge.settle().is_ok(), is_fine, "{holders} {by_survivor}");
            let kept = judge.kept("n", &Held::new());
            assert_eq!(kept.is_ok(), !by_survivor, "what a survivor holds must stay: {kept:?}");
        }
        // The survivors' answers are older than this write of one of them.
        let mut judge = Judge::default();
        judge.hear(vec![wrote(1, FIRST, Some("v"), 1), wrote(2, SECOND, Some("w"), 1)]);
        judge.ended(&[1], &[Held::new()], false);
        judge.kept("n", &Held::new()).expect_err("run 2 lives and holds it");
    }

    #[test]
    fn a_run_never_goes_back() {
        let both = || vec![wrote(1, FIRST, Some("a"), 1), wrote(2, SECOND, Some("b"), 1)];
        let fine = [saw(1, SECOND, Some("b")), saw(1, SECOND, Some("b")), saw(3, FIRST, Some("a"))];
        let gone = Event { run: 1, key: "k".to_owned(), outcome: Outcome::Saw(None) };
        for (events, is_fine) in [
            (fine.to_vec(), true),
            (vec![saw(1, SECOND, Some("b")), saw(1, FIRST, Some("a"))], false),
            (vec![saw(2, FIRST, Some("a"))], false),
            (vec![gone], false),
            (vec![saw(1, SECOND, Some("nobody's"))], false),
            (vec![saw(1, "0000000000030000-00000000000000bb", Some("b"))], false),
        ] {
            let mut judge = Judge::default();
            judge.hear([both(), events.clone()].concat());
            assert_eq!(judge.settle().is_ok(), is_fine, "{events:?}");
        }
    }

    #[test]
    fn a_write_without_an_answer_may_have_happened() {
        let value = Some(b"v".to_vec());
        let outcome = Outcome::Unanswered(value.clone());
        let unanswered = Event { run: 1, key: "k".to_owned(), outcome };
        let mut judge = Judge::default();
        judge.hear(vec![saw(2, FIRST, Some("v")), unanswered]);
        judge.settle().expect("that was it");
        judge.kept("n", &held(FIRST, Some("v"))).expect("it may be there");
        judge.kept("n", &Held::new()).expect("and it may not");
    }
}
