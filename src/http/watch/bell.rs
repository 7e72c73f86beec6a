//! One watch: rung when something under it has changed.

use crate::kv::Coverage;
use crate::limits::{WATCH_DIRTY_LEN_MAX, WATCH_DIRTY_MAX};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::Notify;

/// Keys that changed together. Many watches share one batch.
pub(super) type Batch = BTreeSet<Box<[u8]>>;

/// What has changed under a watch since it was last asked.
#[derive(Debug, Default)]
pub(in crate::http) struct Told {
    /// These keys, if they are known.
    pub(in crate::http) keys: BTreeSet<Box<[u8]>>,
    /// Anything may have changed.
    pub(in crate::http) is_overrun: bool,
    /// What the node held without gaps before the last of these keys were told: whoever has
    /// written out all of them has seen so much.
    pub(in crate::http) coverage: Option<Arc<Coverage>>,
}

/// Where a watch waits.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    rung: Notify,
}

#[derive(Debug, Default)]
struct State {
    batches: Vec<Arc<Batch>>,
    n_keys: usize,
    len: usize,
    is_overrun: bool,
    coverage: Option<Arc<Coverage>>,
}

impl Bell {
    /// These keys have changed, or any; [`ring`](Bell::ring) follows.
    pub(super) fn note(&self, batch: Option<&Arc<Batch>>) {
        let mut state = self.state.lock();
        if state.is_overrun {
            return;
        }
        if let Some(batch) = batch {
            state.n_keys += batch.len();
            state.len += batch.iter().map(|key| key.len()).sum::<usize>();
            if state.n_keys <= WATCH_DIRTY_MAX && state.len <= WATCH_DIRTY_LEN_MAX {
                state.batches.push(Arc::clone(batch));
                return;
            }
        }
        *state = State { is_overrun: true, coverage: state.coverage.take(), ..State::default() };
    }

    /// Wakes the watch; what has been noted so far includes all of `coverage`.
    pub(super) fn ring(&self, coverage: Option<&Arc<Coverage>>) {
        self.state.lock().coverage = coverage.cloned();
        self.rung.notify_one();
    }

    /// Returns when it has been rung since [`take`](Bell::take) was called last. Can be dropped and
    /// called again.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }

    /// What has changed since the last call.
    pub(super) fn take(&self) -> Told {
        let state = std::mem::take(&mut *self.state.lock());
        let keys = state.batches.iter().flat_map(|batch| batch.iter().cloned()).collect();
        Told { keys, is_overrun: state.is_overrun, coverage: state.coverage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(keys: std::ops::Range<usize>) -> Arc<Batch> {
        Arc::new(keys.map(|i| i.to_string().into_bytes().into()).collect())
    }

    #[test]
    fn keys_are_told_once_and_too_many_are_no_keys_at_all() {
        let bell = Bell::default();
        bell.note(Some(&batch(0..5)));
        bell.note(Some(&batch(3..9)));
        assert_eq!(bell.take().keys.len(), 9);
        assert_eq!(bell.take().keys.len(), 0);
        for start in 0..3 {
            bell.note(Some(&batch(start * WATCH_DIRTY_MAX / 2..(start + 1) * WATCH_DIRTY_MAX / 2)));
        }
        let told = bell.take();
        assert!(told.is_overrun && told.keys.is_empty());
        bell.note(None);
        assert!(bell.take().is_overrun);
        assert!(!bell.take().is_overrun);
    }
}
