//! The gossip keyring, changed on every member of our kind without a restart.
//!
//! ```text
//! keys install|use|remove|list:   applied here, then   --KeyRequest--> each peer
//!                                                      <--KeyReply---  answered when all have,
//!                                                                      or at the limit
//! ```
//!
//! Keys travel over links encrypted with the present one; without encryption nothing is installed.
//! A rotation is install, use, remove: at each step every member can read every other.
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
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long members have to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

const LIST: u8 = 0;
const INSTALL: u8 = 1;
const USE: u8 = 2;
const REMOVE: u8 = 3;
const FORGET: u8 = 4;

/// Per member, its name and the fingerprints it holds, or why it refused.
type Results = Vec<(String, Result<Vec<String>, String>)>;

#[derive(Debug)]
struct Change {
    ticket: Ticket,
    waiting: BTreeMap<OriginId, String>,
    results: Results,
    deadline: Instant,
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
        self.tell_all(now, ticket, action, &key);
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
        self.tell_all(now, ticket, FORGET, name.as_bytes());
    }

    /// Asks every member for a change and makes it here; they are answered for together.
    fn tell_all(&mut self, now: Now, ticket: Ticket, action: u8, key: &[u8]) {
        // The others hear of it under the key that they all have: before `use`, that is the old.
        let id = self.keys.next_id;
        self.keys.next_id += 1;
        let request = KeyRequest { id, action, key: Bytes::copy_from_slice(key) };
        let payload = KvMessage::KeyRequest(request).encode();
        let mut waiting = BTreeMap::new();
        let mut results = Results::new();
        for (origin, name) in self.replication().reachable_names() {
            if self.replication.link_send(&mut self.links.lend(now), origin, payload.clone()) {
                waiting.insert(origin, name);
            } else {
                results.push((name, Err("its link takes nothing now".into())));
            }
        }
        for (name, formats) in self.incompatible() {
            let why = match self.config.formats.common(formats) {
                Some(_) => "not told: it does not know keys that expire, and some are held".into(),
                None => format!("not told: it speaks replication formats {formats} only"),
            };
            results.push((name.to_string(), Err(why)));
        }
        for (name, since) in self.unreached(now.instant) {
            let why = format!(
                "not told: it has not answered for {}; unless it is gone for good, go on when it \
                 is back, or it stays shut out",
                shown(since)
            );
            results.push((name, Err(why)));
        }
        let own = self.apply(now.instant, action, key);
        results.insert(0, (self.config.name.to_string(), own));
        let deadline = now.instant + ANSWER_LIMIT;
        self.keys.changes.insert(id, Change { ticket, waiting, results, deadline });
        self.answer_key_changes(now);
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
                let result = self.apply(now.instant, request.action, &request.key);
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
        self.answer_key_changes(now);
    }

    fn answer_key_changes(&mut self, now: Now) {
        let over: Vec<u64> = self
            .keys
            .changes
            .iter()
            .filter(|(_, change)| change.waiting.is_empty() || change.deadline <= now.instant)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            let Some(change) = self.keys.changes.remove(&id) else { continue };
            let mut results = change.results;
            for name in change.waiting.into_values() {
                results.push((name, Err("no answer in time".into())));
            }
            self.answer(change.ticket, Reply::Keys(results));
        }
    }

    pub(super) fn keys_due(&mut self, now: Now) {
        if self.keys.deadline() <= now.instant {
            self.answer_key_changes(now);
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
