//! A deleted key does not come back: what is live is later than every delete that counts.

use super::Violation;
use crate::kv::Store;
use crate::sim::history::{History, show};

pub(super) fn check(name: &str, store: &Store, history: &History) -> Result<(), Violation> {
    for (key, known) in &history.keys {
        let Some(required) = known.required else { continue };
        let delete = known.writes.range(..=required).rev().find(|(_, value)| value.is_none());
        let (Some((delete, _)), Some(record)) = (delete, store.entry(key)) else { continue };
        if record.is_tombstone() {
            continue;
        }
        if record.stamp() < *delete && !history.excuses(known, *delete, record.stamp()) {
            let (key, live) = (show(key), record.stamp());
            let what = format!("{name}: {key} is live as {live}, deleted as {delete}");
            return Err(Violation::new("resurrection", what));
        }
    }
    Ok(())
}
