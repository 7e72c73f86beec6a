//! What clients do: small writes, deletes and reads of few keys, on any node that answers.

use super::check::holders::Wait;
use super::history::Write;
use super::run::Run;
use crate::kv::Written;
use crate::node::command::Concern;
use crate::node::io::Input;
use std::sync::Arc;
use std::time::Duration;

/// One client operation, or none when nobody answers.
pub(super) fn operate(run: &mut Run) {
    let answering = run.cluster.answering();
    if answering.is_empty() {
        return;
    }
    let index = answering[run.rng.below(answering.len())];
    let key = format!("key-{}", run.rng.below(run.options.n_keys)).into_bytes();
    let Some(store) = run.cluster.hosts[index].store.clone() else { return };
    match run.rng.below(10) {
        0..4 => {
            // Mostly small; some need a link.
            let len = if run.rng.chance(0.03) { 3000 } else { run.rng.below(60) };
            self::store(run, index, &key, len);
        }
        4..6 => write(run, index, &store, &key, None),
        _ => {
            let seen = store.entry(&key);
            let seen = seen.as_ref().map(|record| (record.stamp(), record.value()));
            run.history.read(store.origin(), &key, seen);
        }
    }
}

/// Writes a value of `len` bytes and some at one node.
pub(super) fn store(run: &mut Run, index: usize, key: &[u8], len: usize) {
    let Some(store) = run.cluster.hosts[index].store.clone() else { return };
    let mut value = format!("{}-", run.rng.next_u64()).into_bytes();
    value.resize(value.len() + len, b'.');
    write(run, index, &store, key, Some(value));
}

/// Deletes a key at one node.
pub(super) fn delete(run: &mut Run, index: usize, key: &[u8]) {
    if let Some(store) = run.cluster.hosts[index].store.clone() {
        write(run, index, &store, key, None);
    }
}

fn write(
    run: &mut Run,
    index: usize,
    store: &Arc<crate::kv::Store>,
    key: &[u8],
    value: Option<Vec<u8>>,
) {
    let now = run.cluster.now_at(index);
    let before = store.entry(key).map(|record| record.stamp());
    let written = match &value {
        Some(value) => store.put(now, key, value, None),
        None => store.delete(now, key),
    };
    match written {
        Ok(written) => {
            let seq = written.dot.seq;
            let hosts = run.cluster.hosts.iter().filter(|host| !host.is_stranger);
            let held = || hosts.filter_map(|host| host.entry(key)).max();
            run.history.wrote(key, before, Write { stamp: written.stamp, seq, value }, held);
            let held = store.entry(key).map(|record| record.stamp());
            if held != Some(written.stamp) {
                run.history.complain("a write is not visible on its own node".to_owned());
            }
            run.cluster.input(index, Input::Written);
            if run.rng.chance(0.15) {
                await_holders(run, index, key, written);
            }
        }
        Err(error) => run.history.complain(format!("a write was refused: {error}")),
    }
}

/// Some clients want to know how many hold what they wrote.
fn await_holders(run: &mut Run, index: usize, key: &[u8], written: Written) {
    let concern = match run.rng.below(3) {
        0 => Concern::All,
        1 => Concern::Majority,
        _ => Concern::Count(1 + run.rng.below(4) as u32),
    };
    let deadline = run.cluster.now + run.rng.duration_below(Duration::from_secs(2));
    let wait = Wait { key: key.to_vec(), stamp: written.stamp, dot: written.dot };
    run.cluster.await_holders(index, wait, concern, deadline);
}
