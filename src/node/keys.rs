//! The gossip keyring, changed on every member of our kind without a restart.
//!
//! ```text
//! install, list:   done here, then     --KeyRequest--> each peer
//!                                      <--KeyReply---  answered when all have, or at the limit
//! use, remove:     each peer is asked which keys it has; if one says what is against it, or
//!                  nothing, it is refused. Then each is told, and last it is done here
//! ```
//!
//! Keys travel over links encrypted with the present one; without encryption nothing is installed.
//! A rotation is install, use, remove: at each step every member can read every other. So nobody
//! uses a key that some member lacks, and none is removed that some member uses; who cannot be
//! reached is named. A link encrypts when it sends: who told the others of a key that it uses
//! itself already would tell nothing to one that lacks it.
//!
//! While a node has others use or remove a key, it refuses to be asked for such a change: of two
//! that begin at once, one goes on at most.
//!
//! A dead member is given up in the same way: all are told its name in the place of a key. One of a
//! version that cannot do that refuses it, as no key of AES or an unknown action.

use super::Node;
use super::command::{KeyCommand, Reply};
use super::io::{ConnId, Ticket};
use super::replication::answer;
use super::replication::message::{KeyReply, KeyRequest, KvMessage};
use crate::kv::OriginId;
use crate::limits::KEY_CHANGES_MAX;
use crate::swim::ForgetError;
use crate::time::{Instant, Now};
use crate::wire::keyring::{Key, Keyring};
use crate::wire::message::NodeName;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long members have to answer, each time that they are asked.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// Why two changes do not go on at once.
const UNDER_WAY: &str = "another change of the keys is under way; try again";
/// Most objections that an answer names.
const OBJECTIONS_MAX: usize = 8;

const LIST: u8 = 0;
const INSTALL: u8 = 1;
const USE: u8 = 2;
const REMOVE: u8 = 3;
const FORGET: u8 = 4;

/// Per member, its name and the fingerprints it holds, or why it refused.
type Results = Vec<(String, Result<Vec<String>, String>)>;

/// How far a change has come.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The members are asked which keys they have.
    Asking,
    /// They are told; here it is done when all have done it.
    Telling,
    /// They are told, and here it is done.
    Done,
}

struct Change {
    ticket: Ticket,
    action: u8,
    /// The key, or what else the action is about.
    key: Vec<u8>,
    step: Step,
    /// Those that were asked, and are silent yet.
    waiting: BTreeMap<OriginId, String>,
    /// What the others have said.
    results: Results,
    /// What it came to here.
    own: Result<Vec<String>, String>,
    /// Whom the members' keys were asked of.
    asked: BTreeSet<OriginId>,
    deadline: Instant,
}

impl std::fmt::Debug for Change {
    /// Key bytes never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Change");
        shown.field("action", &self.action).field("step", &self.step);
        shown.field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Change {
    /// Whether it may shut a member out.
    fn is_grave(&self) -> bool {
        matches!(self.action, USE | REMOVE)
    }

    fn fingerprint(&self) -> String {
        Key::from_bytes(&self.key).map_or_else(String::new, |key| key.fingerprint().to_owned())
    }

    /// What those that were asked have against it.
    fn objections(&self) -> Vec<String> {
        let mark = self.fingerprint();
        let mut objections = Vec::new();
        for (name, result) in &self.results {
            match result {
                Ok(keys) if self.action == USE && !keys.contains(&mark) => {
                    objections.push(format!("{name} does not hold it"));
                }
                Ok(keys) if self.action == REMOVE && keys.first() == Some(&mark) => {
                    objections.push(format!("{name} encrypts with it"));
                }
                Ok(_) => {}
                Err(why) => objections.push(format!("{name}: {why}")),
            }
        }
        let silent = self.waiting.values();
        objections.extend(silent.map(|name| format!("{name} has not said which keys it holds")));
        objections
    }

    /// That it is refused, by whom, and what to do.
    fn refusal(&self, mut objections: Vec<String>) -> String {
        let more = objections.len().saturating_sub(OBJECTIONS_MAX);
        objections.truncate(OBJECTIONS_MAX);
        if more > 0 {
            objections.push(format!("and {more} more"));
        }
        let (done, remedy) = match self.action {
            USE => ("used", "install it on every member first"),
            _ => ("removed", "have every member use another one first"),
        };
        format!(
            "key {} cannot be {done} now, nothing has been changed: {}; {remedy}",
            self.fingerprint(),
            objections.join(", ")
        )
    }
}

/// Changes under way.
#[derive(Debug, Default)]
pub(super) struct KeyChanges {
    changes: BTreeMap<u64, Change>,
    next_id: u64,
}

impl KeyChanges {
    pub(super) fn deadline(&self) -> Instant {
        self.changes.values().map(|change| change.deadline).min().unwrap_or(Instant::NEVER)
    }

    /// Whether this node has others use or remove a key.
    fn is_grave(&self) -> bool {
        self.changes.values().any(Change::is_grave)
    }
}

impl Node {
    /// Applies a change here and tells the others.
    pub(super) fn change_keys(&mut self, now: Now, ticket: Ticket, command: KeyCommand) {
        let (action, key) = match command {
            KeyCommand::List => (LIST, Vec::new()),
            KeyCommand::Install(key) => (INSTALL, key),
            KeyCommand::Use(key) => (USE, key),
            KeyCommand::Remove(key) => (REMOVE, key),
        };
        if self.keys.changes.len() >= KEY_CHANGES_MAX {
            self.answer(ticket, Reply::Refused("too many key changes are under way".into()));
            return;
        }
        if action != LIST && self.security.keyring.is_empty() {
            let why = "gossip is not encrypted: start every member with a key first";
            self.answer(ticket, Reply::Refused(why.into()));
            return;
        }
        if action != LIST && Key::from_bytes(&key).is_none() {
            let why = format!("key of {} bytes; 16, 24 or 32 are possible", key.len());
            self.answer(ticket, Reply::Refused(why));
            return;
        }
        let is_grave = matches!(action, USE | REMOVE);
        if is_grave && self.keys.is_grave() {
            self.answer(ticket, Reply::Refused(UNDER_WAY.into()));
            return;
        }
        let change = self.new_change(now, ticket, action, key);
        if !is_grave {
            self.tell_all(now, change);
        } else if let Some(objection) = self.own_objection(&change) {
            let why = change.refusal(vec![objection]);
            self.answer(change.ticket, Reply::Refused(why));
        } else {
            let mark = change.fingerprint();
            self.ask_others(now, change, LIST, mark.as_bytes());
        }
        self.keys_moved(now);
    }

    /// Has every member forget one that is dead.
    pub(super) fn forget_member(&mut self, now: Now, ticket: Ticket, name: &str) {
        if self.keys.changes.len() >= KEY_CHANGES_MAX {
            self.answer(ticket, Reply::Refused("too many changes are under way".into()));
            return;
        }
        if let Err(why) = self.swim.forget(now.instant, &name.into()) {
            self.answer(ticket, Reply::Refused(format!("{name:?}: {why}")));
            return;
        }
        let change = self.new_change(now, ticket, FORGET, name.as_bytes().to_vec());
        self.tell_all(now, change);
        self.keys_moved(now);
    }

    fn new_change(&self, now: Now, ticket: Ticket, action: u8, key: Vec<u8>) -> Change {
        Change {
            ticket,
            action,
            key,
            step: Step::Asking,
            waiting: BTreeMap::new(),
            results: Results::new(),
            own: Ok(Vec::new()),
            asked: BTreeSet::new(),
            deadline: now.instant + ANSWER_LIMIT,
        }
    }

    /// What this node itself has against a change.
    fn own_objection(&self, change: &Change) -> Option<String> {
        let key = Key::from_bytes(&change.key)?;
        let keys = self.security.keyring.keys();
        match change.action {
            USE if !keys.contains(&key) => Some("it is not installed here".into()),
            REMOVE if keys.first() == Some(&key) => Some("it is in use here".into()),
            _ => None,
        }
    }

    /// Makes a change here that harms nobody, and asks every member for it.
    fn tell_all(&mut self, now: Now, mut change: Change) {
        change.own = self.apply(now.instant, change.action, &change.key);
        change.step = Step::Done;
        let (action, key) = (change.action, change.key.clone());
        self.ask_others(now, change, action, &key);
    }

    /// Asks every member that is not dead; the answers are awaited.
    fn ask_others(&mut self, now: Now, mut change: Change, action: u8, key: &[u8]) {
        let id = self.keys.next_id;
        self.keys.next_id += 1;
        let request = KeyRequest { id, action, key: Bytes::copy_from_slice(key) };
        let payload = KvMessage::KeyRequest(request).encode();
        (change.waiting, change.results) = (BTreeMap::new(), Results::new());
        for (origin, name) in self.replication().reachable_names() {
            if change.action == USE && self.refuses(origin) {
                continue;
            }
            if self.replication.link_send(&mut self.links.lend(now), origin, payload.clone()) {
                change.waiting.insert(origin, name);
                change.asked.insert(origin);
            } else {
                change.results.push((name, Err("its link takes nothing now".into())));
            }
        }
        for (name, formats) in self.incompatible() {
            let why = match self.config.formats.common(formats) {
                Some(_) => "not told: it does not know keys that expire, and some are held".into(),
                None => format!("not told: it speaks replication formats {formats} only"),
            };
            change.results.push((name.to_string(), Err(why)));
        }
        change.deadline = now.instant + ANSWER_LIMIT;
        self.keys.changes.insert(id, change);
    }

    /// Whether a member has said that it lacks the key that this node uses. It cannot be asked, and
    /// to use another one can only help.
    fn refuses(&self, origin: OriginId) -> bool {
        self.replication().addr(origin).is_some_and(|addr| self.shut_out.refuses_key(addr))
    }

    /// All that were asked which keys they have are silent no more, or too long.
    fn keys_asked(&mut self, now: Now, mut change: Change) {
        let mut objections = change.objections();
        objections.extend(self.own_objection(&change));
        let there = self.replication().reachable_names();
        let is_asked = |origin| change.asked.contains(&origin) || self.refuses(origin);
        let came = there.into_iter().filter(|(origin, _)| !is_asked(*origin));
        objections.extend(came.map(|(_, name)| format!("{name} has just joined")));
        if !objections.is_empty() {
            let why = change.refusal(objections);
            self.answer(change.ticket, Reply::Refused(why));
            return;
        }
        change.step = Step::Telling;
        let (action, key) = (change.action, change.key.clone());
        self.ask_others(now, change, action, &key);
    }

    /// All that were told have answered, or are silent for too long.
    fn keys_told(&mut self, now: Now, mut change: Change) {
        for name in std::mem::take(&mut change.waiting).into_values() {
            change.results.push((name, Err("no answer in time; repeat it".into())));
        }
        if change.step == Step::Telling {
            change.own = match change.results.iter().all(|(_, result)| result.is_ok()) {
                true => self.apply(now.instant, change.action, &change.key),
                false => Err("not done here, as others have not done it; repeat it".into()),
            };
        }
        let mut results = change.results;
        if change.action == USE {
            let there = self.replication().reachable_names().into_iter();
            let why = "not told: it lacks the key that this node used, or has just joined";
            let refusing = there.filter(|(origin, _)| !change.asked.contains(origin));
            results.extend(refusing.map(|(_, name)| (name, Err(why.into()))));
        }
        for (name, since) in self.unreached(now.instant) {
            let why = format!(
                "not told: it has not answered for {}; unless it is gone for good, go on when it \
                 is back, or it stays shut out",
                shown(since)
            );
            results.push((name, Err(why)));
        }
        results.insert(0, (self.config.name.to_string(), change.own));
        self.answer(change.ticket, Reply::Keys(results));
    }

    /// What another member asks for.
    fn key_requested(&mut self, now: Now, request: &KeyRequest) -> Result<Vec<String>, String> {
        // It asks before it has all use or remove a key.
        let prepares = request.action == LIST && !request.key.is_empty();
        if (prepares || matches!(request.action, USE | REMOVE)) && self.keys.is_grave() {
            return Err(UNDER_WAY.into());
        }
        self.apply(now.instant, request.action, &request.key)
    }

    /// Makes a change here.
    fn apply(&mut self, now: Instant, action: u8, key: &[u8]) -> Result<Vec<String>, String> {
        if action != FORGET {
            return self.apply_key(now, action, key);
        }
        match self.swim.forget(now, &NodeName::from(key)) {
            Ok(()) | Err(ForgetError::Unknown) => Ok(Vec::new()),
            Err(why) => Err(why.to_string()),
        }
    }

    /// The fingerprints held afterwards, or why it was refused; then nothing has changed.
    fn apply_key(&mut self, now: Instant, action: u8, key: &[u8]) -> Result<Vec<String>, String> {
        let mut security = (*self.security).clone();
        if action != LIST {
            let key = Key::from_bytes(key).ok_or("not an AES key")?;
            if security.keyring.is_empty() {
                return Err("gossip is not encrypted here".into());
            }
            let changed = match action {
                INSTALL => security.keyring.install(key).map(|_| ()),
                USE => security.keyring.use_key(&key),
                REMOVE => security.keyring.remove(&key).map(|_| ()),
                _ => return Err("unknown action".into()),
            };
            changed.map_err(|error| error.to_string())?;
            let primary = |keyring: &Keyring| keyring.keys().first().cloned();
            if primary(&security.keyring) != primary(&self.security.keyring) {
                self.shut_out.rekeyed(now);
            }
            self.security = Arc::new(security);
            self.security_changed();
        }
        let keys = self.security.keyring.keys();
        Ok(keys.iter().map(|key| key.fingerprint().to_owned()).collect())
    }

    /// A message about keys came over a link.
    pub(super) fn key_message(&mut self, now: Now, conn: ConnId, message: KvMessage) {
        match message {
            KvMessage::KeyRequest(request) => {
                let result = self.key_requested(now, &request);
                let (fingerprints, error) = match result {
                    Ok(fingerprints) => (fingerprints, String::new()),
                    Err(error) => (Vec::new(), error),
                };
                let from = self.store.origin().0;
                let reply = KeyReply { id: request.id, from, fingerprints, error };
                answer(&mut self.links, conn, KvMessage::KeyReply(reply).encode());
            }
            KvMessage::KeyReply(reply) => self.key_replied(now, reply),
            _ => {}
        }
    }

    fn key_replied(&mut self, now: Now, reply: KeyReply) {
        let Some(change) = self.keys.changes.get_mut(&reply.id) else { return };
        let Some(name) = change.waiting.remove(&OriginId(reply.from)) else { return };
        let result = if reply.error.is_empty() { Ok(reply.fingerprints) } else { Err(reply.error) };
        change.results.push((name, result));
        self.keys_moved(now);
    }

    /// Moves on every change for which all have answered, or had their time.
    fn keys_moved(&mut self, now: Now) {
        let is_over = |change: &Change| change.waiting.is_empty() || change.deadline <= now.instant;
        // A change is asked for and told, so this ends.
        while let Some(id) = self.keys.changes.iter().find(|(_, c)| is_over(c)).map(|(id, _)| *id) {
            let Some(change) = self.keys.changes.remove(&id) else { return };
            match change.step {
                Step::Asking => self.keys_asked(now, change),
                Step::Telling | Step::Done => self.keys_told(now, change),
            }
        }
    }

    pub(super) fn keys_due(&mut self, now: Now) {
        if self.keys.deadline() <= now.instant {
            self.keys_moved(now);
        }
    }
}

/// A time as a person says it.
fn shown(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests;
