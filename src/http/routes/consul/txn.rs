//! `/v1/txn`: several operations in one step on this node, or none.
//!
//! ```text
//! body --> operations --> steps, each with a condition --> Store::batch --> results, or the error
//!              `-- get-tree, delete-tree: a step for each key that is there
//! ```
//!
//! The engine looks at all keys before it writes any. Where an operation asks about a key that
//! another one before it writes, what comes of it is known without asking. A key is written once.

use super::answers;
use super::asked::NO_SESSIONS;
use super::concern::Wait;
use super::index;
use super::kv::{is_at, is_gone_or_at, refused};
use super::txn_body::{self, Sent};
use crate::http::failure::Failure;
use crate::http::json::{json_text, json_text_len};
use crate::http::response::{Response, number};
use crate::http::routes::context::{Api, Call, Outcome};
use crate::kv::{Act, BatchError, Done, Op, Record, WriteError};
use crate::limits::{CONSUL_TREE_MAX, HTTP_LIST_LEN_MAX};
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of what the answer says of a step, at most, beside its key and its value.
const TOLD_LEN_MAX: usize = 160;

/// What a key must be for the transaction to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Any,
    There,
    Absent,
    /// Of this index, absent for 0.
    At(u64),
    /// There, and of this index.
    ThereAt(u64),
    /// Of this index, or absent.
    GoneOrAt(u64),
}

impl Condition {
    fn holds(self, current: Option<&Record>) -> bool {
        let is_absent = current.is_none_or(Record::is_tombstone);
        match self {
            Condition::Any => true,
            Condition::There => !is_absent,
            Condition::Absent => is_absent,
            Condition::At(index) => is_at(index, current),
            Condition::ThereAt(index) => !is_absent && is_at(index, current),
            Condition::GoneOrAt(index) => is_gone_or_at(index, current),
        }
    }
}

/// What the answer has of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    /// The entry without its value.
    Entry,
    /// With its value; absent, it is left out.
    Value,
    /// The same; absent, it is an entry of index 0.
    ValueOrEmpty,
}

/// One step of the engine.
#[derive(Debug)]
struct Step<'s> {
    /// The place of its operation.
    of: usize,
    key: String,
    /// What is written: a value with its flags, or a tombstone.
    write: Option<Option<&'s Sent>>,
    content_type: Option<String>,
    condition: Condition,
    shown: Shown,
    /// What is shown is what this step has written.
    by: Option<usize>,
}

/// The operation that is in the way, and why.
type InTheWay = (usize, String);

/// What the engine is to do.
struct Plan<'s> {
    steps: Vec<Step<'s>>,
    /// Bytes of the values that are read, and some more.
    read_len: usize,
}

type Planned<'s> = Result<Plan<'s>, InTheWay>;

/// Does all of a transaction, or nothing.
pub(in crate::http::routes) fn answer(api: &Api, mut call: Call<'_>) -> Result<Outcome, Failure> {
    super::asked::Query::of(call.query)?;
    let sent = txn_body::read(call.request.body)?;
    check(&sent, api.shared.config.value_len_max)?;
    if sent.iter().any(|sent| !["set", "delete"].contains(&&*sent.verb)) {
        api.check_complete()?;
    }
    if !call.request.may_take_time {
        return Ok(call.again());
    }
    let Plan { steps, read_len } = match plan(api, call.now, &sent)? {
        Ok(plan) => plan,
        Err(in_the_way) => return Ok(conflict(api, call, &in_the_way)),
    };
    let is_write = steps.iter().any(|step| step.write.is_some());
    if is_write {
        let told_len = |step: &Step<'_>| json_text_len(&step.key) + TOLD_LEN_MAX;
        api.reserve(&mut call, read_len / 3 * 4 + steps.iter().map(told_len).sum::<usize>())?;
    }
    let wait = if is_write { Some(Wait::begin(api)?) } else { None };
    let writing = is_write.then(|| api.shared.shutdown.begin_write()).transpose()?;
    let ops: Vec<_> = steps.iter().map(Step::op).collect();
    let done = api.store().batch(call.now, &ops);
    drop(ops);
    drop(writing);
    let done = match done {
        Ok(done) => done,
        Err(BatchError::Op(n, WriteError::Unmet)) => {
            let in_the_way = unmet(api, call.now, &sent, &steps[n]);
            return Ok(conflict(api, call, &in_the_way));
        }
        Err(BatchError::Twice(n)) => return Err(twice(&steps[n].key)),
        Err(BatchError::Op(_, error)) => return Err(refused(api, error)),
    };
    if is_write {
        api.shared.bridge.written();
    }
    write(call.body, &steps, &done);
    if let Some(wait) = wait {
        let dot = |done: &Done| match done {
            Done::Written(written) => Some(written.dot),
            Done::Found(_) => None,
        };
        // Who holds the last of our writes holds those before.
        let last = done.iter().filter_map(dot).max_by_key(|dot| dot.seq);
        let body = std::mem::take(call.body);
        return Ok(wait.answer(api, call, last, &body));
    }
    let response = Response::new(call.out, call.now.wall, 200, call.body.len()).json();
    let response = response.header("X-Consul-KnownLeader", "true");
    let response = response.header("X-Consul-LastContact", "0");
    answers::policy(api, response).end(call.request.form(), call.body);
    Ok(Outcome::Answered(200))
}

/// What is wrong whatever the store has.
fn check(sent: &[Sent], len_max: usize) -> Result<(), Failure> {
    for Sent { verb, key, value, .. } in sent {
        if ["lock", "unlock", "check-session"].contains(&&**verb) {
            return Err(Failure::new(501, format_args!("{verb}: {NO_SESSIONS}")));
        }
        if value.len() > len_max {
            let len = value.len();
            let message =
                format_args!("Value for key {key:?} is too large ({len} > {len_max} bytes)");
            return Err(Failure::new(413, message));
        }
    }
    Ok(())
}

fn twice(key: &str) -> Failure {
    let message = format_args!("the transaction writes key {key:?} twice; it may once");
    Failure::new(400, message)
}

/// The steps of all operations; or which is in the way, whatever the store has.
fn plan<'s>(api: &Api, now: Now, all: &'s [Sent]) -> Result<Planned<'s>, Failure> {
    let mut steps: Vec<Step<'s>> = Vec::new();
    // Where a key is written.
    let mut written: BTreeMap<String, usize> = BTreeMap::new();
    let mut read_len = 0;
    for (of, sent) in all.iter().enumerate() {
        let (condition, shown) = match &*sent.verb {
            "set" => (Condition::Any, Shown::Entry),
            "cas" => (Condition::At(sent.index), Shown::Entry),
            "delete" | "delete-tree" => (Condition::Any, Shown::Nothing),
            "delete-cas" => (Condition::GoneOrAt(sent.index), Shown::Nothing),
            "get" => (Condition::There, Shown::Value),
            "get-or-empty" => (Condition::Any, Shown::ValueOrEmpty),
            "get-tree" => (Condition::Any, Shown::Value),
            "check-index" => (Condition::ThereAt(sent.index), Shown::Entry),
            "check-not-exists" => (Condition::Absent, Shown::Nothing),
            verb => return Ok(Err((of, format!("unknown KV operation: {verb}")))),
        };
        let keys = if sent.verb.ends_with("-tree") {
            under(api, now, &sent.key, &written)
        } else if sent.key.is_empty() {
            return Err(Failure::new(400, "Missing key name"));
        } else {
            vec![sent.key.clone()]
        };
        let is_read = matches!(shown, Shown::Value | Shown::ValueOrEmpty);
        for key in keys {
            let mut step = sent.step(of, key, condition, shown);
            let mut at = written.get(&step.key).copied();
            if let Some(before) = at.filter(|at| step.replaces(*at, &steps, all)) {
                steps[before].write = None;
                at = None;
            }
            if let Some(at) = at {
                if let Err(why) = step.follow(at, &steps[at], sent) {
                    return why.map(Err);
                }
            } else if step.write.is_some() {
                written.insert(step.key.clone(), steps.len());
            }
            if is_read {
                read_len += step.read_len(api, now, &steps);
            }
            steps.push(step);
        }
        if steps.len() > CONSUL_TREE_MAX || read_len > HTTP_LIST_LEN_MAX {
            let message = format_args!(
                "Transaction is too large: trees of at most {CONSUL_TREE_MAX} keys, and values \
                 of at most {HTTP_LIST_LEN_MAX} bytes"
            );
            return Err(Failure::new(413, message));
        }
    }
    Ok(Ok(Plan { steps, read_len }))
}

/// The keys under a prefix that are there or `written` before, and one more than may be at most.
fn under(api: &Api, now: Now, prefix: &str, written: &BTreeMap<String, usize>) -> Vec<String> {
    let page = api.store().list(now, prefix.as_bytes(), None, CONSUL_TREE_MAX + 1);
    let text = |record: &Record| String::from_utf8_lossy(record.key()).into_owned();
    let mut keys: BTreeSet<String> = page.items.iter().map(text).collect();
    let written = written.range(prefix.to_owned()..).map(|(key, _)| key);
    keys.extend(written.take_while(|key| key.starts_with(prefix)).cloned());
    keys.into_iter().collect()
}

impl Sent {
    fn step(&self, of: usize, key: String, condition: Condition, shown: Shown) -> Step<'_> {
        let write = match &*self.verb {
            "set" | "cas" => Some(Some(self)),
            "delete" | "delete-cas" | "delete-tree" => Some(None),
            _ => None,
        };
        let content_type = answers::content_type(self.flags);
        Step { of, key, write, content_type, condition, shown, by: None }
    }
}

impl<'s> Step<'s> {
    fn op(&self) -> Op<'_, impl Fn(Option<&Record>) -> bool + use<'s>> {
        let condition = self.condition;
        let act = match self.write {
            None => Act::Look,
            Some(None) => Act::Delete,
            Some(Some(sent)) => Act::Put(&sent.value, self.content_type.as_deref()),
        };
        Op {
            key: self.key.as_bytes(),
            act,
            condition: move |current: Option<&Record>| condition.holds(current),
        }
    }

    /// Bytes of the value that it reads, and some more.
    fn read_len(&self, api: &Api, now: Now, before: &[Step<'_>]) -> usize {
        match self.by.map(|at| before[at].write) {
            None => {
                let record = api.store().get(now, self.key.as_bytes());
                record.map_or(0, |record| record.as_bytes().len())
            }
            Some(written) => written.flatten().map_or(0, |sent| sent.value.len()),
        }
    }

    /// Whether it takes the place of the step at `at`, which deletes the same key as one of a tree
    /// and was asked about by none since: then that one writes nothing.
    fn replaces(&self, at: usize, before: &[Step<'_>], sent: &[Sent]) -> bool {
        let is_of_tree = sent[before[at].of].verb == "delete-tree";
        let is_asked = || before.iter().any(|other| other.by == Some(at));
        self.write.is_some() && self.condition == Condition::Any && is_of_tree && !is_asked()
    }

    /// Makes it one after the step at `at`, which writes the same key.
    fn follow(
        &mut self,
        at: usize,
        before: &Step<'s>,
        sent: &Sent,
    ) -> Result<(), Result<InTheWay, Failure>> {
        if self.write.is_some() {
            // A tree is deleted around what is written.
            return Err(Err(twice(&self.key)));
        }
        let is_there = matches!(before.write, Some(Some(_)));
        let fits = match self.condition {
            Condition::There => is_there,
            Condition::Absent => !is_there,
            // The index that it will have is nobody's yet.
            Condition::At(_) | Condition::ThereAt(_) => false,
            Condition::Any | Condition::GoneOrAt(_) => true,
        };
        if !fits {
            return Err(Ok((self.of, why(sent, None))));
        }
        self.condition = Condition::Any;
        self.by = Some(at);
        Ok(())
    }
}

/// Which operation a condition stopped.
fn unmet(api: &Api, now: Now, sent: &[Sent], step: &Step<'_>) -> InTheWay {
    let current = api.store().get(now, step.key.as_bytes());
    let index = current.map(|record| index::of_time(record.stamp().time));
    (step.of, why(&sent[step.of], index))
}

fn why(sent: &Sent, current: Option<u64>) -> String {
    let key = &sent.key;
    match (&*sent.verb, current) {
        ("cas", _) => format!("failed to set key {key:?}, index is stale"),
        ("delete-cas", _) => format!("failed to delete key {key:?}, index is stale"),
        ("check-not-exists", _) => format!("key {key:?} exists"),
        ("check-index", Some(current)) => {
            let index = sent.index;
            format!("failed index check for key {key:?}, current modify index {current} != {index}")
        }
        _ => format!("key {key:?} doesn't exist"),
    }
}

/// 409: nothing is written.
fn conflict(api: &Api, call: Call<'_>, (of, why): &InTheWay) -> Outcome {
    call.body.extend_from_slice(b"{\"Results\":null,\"Errors\":[{\"OpIndex\":");
    number(call.body, *of);
    call.body.extend_from_slice(b",\"What\":");
    json_text(call.body, why);
    call.body.extend_from_slice(b"}]}");
    let body = std::mem::take(call.body);
    answers::written(api, call, 409, &body)
}

fn write(out: &mut Vec<u8>, steps: &[Step<'_>], done: &[Done]) {
    out.extend_from_slice(b"{\"Results\":[");
    let begin = out.len();
    for (step, own) in steps.iter().zip(done) {
        let (by, done) = match step.by {
            Some(at) => (&steps[at], &done[at]),
            None => (step, own),
        };
        let before = out.len();
        out.extend_from_slice(if before > begin { b",{\"KV\":" } else { b"{\"KV\":" });
        if step.write_entry(out, by, done) {
            out.push(b'}');
        } else {
            out.truncate(before);
        }
    }
    out.extend_from_slice(b"],\"Errors\":null}");
}

impl Step<'_> {
    /// Appends what the answer has of it, of which `by` is the step that was done; false when it
    /// has nothing.
    fn write_entry(&self, out: &mut Vec<u8>, by: &Step<'_>, done: &Done) -> bool {
        let shows_value = matches!(self.shown, Shown::Value | Shown::ValueOrEmpty);
        let (flags, value, index) = match (self.shown, done) {
            (Shown::Nothing, _) => return false,
            (_, Done::Found(Some(record))) => {
                let value = record.value().unwrap_or_default();
                (answers::flags(record), value, index::of_time(record.stamp().time))
            }
            (_, Done::Written(written)) if matches!(by.write, Some(Some(_))) => {
                let Some(Some(sent)) = by.write else { return false };
                (sent.flags, &sent.value[..], index::of_time(written.stamp.time))
            }
            (Shown::ValueOrEmpty, _) => (0, &b""[..], 0),
            _ => return false,
        };
        answers::begin(out, &self.key, flags);
        answers::value(out, if shows_value { value } else { b"" });
        answers::end(out, index);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(verb: &str, index: u64) -> Sent {
        Sent { verb: verb.into(), key: "k".into(), index, ..Sent::default() }
    }

    /// Whether an operation may stand behind one that writes the same key.
    fn follows(first: &str, second: &str, index: u64) -> Option<u16> {
        let (first, second) = (sent(first, 0), sent(second, index));
        let before = first.step(0, "k".into(), Condition::Any, Shown::Entry);
        let condition = match &*second.verb {
            "get" => Condition::There,
            "check-not-exists" => Condition::Absent,
            "check-index" => Condition::ThereAt(index),
            _ => Condition::Any,
        };
        let mut step = second.step(1, "k".into(), condition, Shown::Value);
        match step.follow(0, &before, &second) {
            Ok(()) => None,
            Err(Ok((1, _))) => Some(409),
            Err(Ok(_)) => panic!("another operation is blamed"),
            Err(Err(failure)) => Some(failure.status),
        }
    }

    #[test]
    fn what_stands_behind_a_write_of_its_key_is_judged_by_that() {
        assert_eq!(follows("set", "get", 0), None);
        assert_eq!(follows("delete", "get", 0), Some(409));
        assert_eq!(follows("delete", "get-or-empty", 0), None);
        assert_eq!(follows("set", "check-not-exists", 0), Some(409));
        assert_eq!(follows("delete", "check-not-exists", 0), None);
        assert_eq!(follows("set", "check-index", 7), Some(409));
        assert_eq!(follows("delete", "check-index", 0), Some(409));
        assert_eq!(follows("set", "delete", 0), Some(400));
    }

    #[test]
    fn errors_are_told_as_consul_tells_them() {
        let told = |verb, current| why(&sent(verb, 7), current);
        assert_eq!(told("cas", None), "failed to set key \"k\", index is stale");
        assert_eq!(told("delete-cas", Some(8)), "failed to delete key \"k\", index is stale");
        assert_eq!(told("get", None), "key \"k\" doesn't exist");
        assert_eq!(told("check-not-exists", Some(8)), "key \"k\" exists");
        let expected = "failed index check for key \"k\", current modify index 8 != 7";
        assert_eq!(told("check-index", Some(8)), expected);
        assert_eq!(told("check-index", None), "key \"k\" doesn't exist");
    }
}
