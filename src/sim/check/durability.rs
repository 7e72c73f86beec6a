//! An acknowledged write that somebody living held is not lost; nothing appears that nobody wrote.

use super::Violation;
use crate::kv::Store;
use crate::sim::history::{History, show};

pub(super) fn check(name: &str, store: &Store, history: &History) -> Result<(), Violation> {
    for (key, known) in &history.keys {
        let held = store.entry(key);
        let Some(required) = known.required else { continue };
        match &held {
            Some(record) if record.stamp() >= required => {}
            Some(record) if history.excuses(known, required, record.stamp()) => {}
            // A delete may be forgotten, and then its key is as if it had never been.
            None if known.writes.range(required..).any(|(_, value)| value.is_none()) => {}
            held => {
                let held = held.as_ref().map(|record| record.stamp().to_string());
                let key = show(key);
                let what = format!("{name}: {key} is {held:?}, {required} was acknowledged");
                return Err(Violation::new("durability", what));
            }
        }
        if let Some(record) = &held {
            let written = known.writes.get(&record.stamp());
            if written.map(|value| value.as_deref()) != Some(record.value()) {
                let what = format!("{name}: {} is what nobody wrote", show(key));
                return Err(Violation::new("validity", what));
            }
        }
    }
    Ok(())
}
