//! What a client that wants to hear of changes asked for, on its way from the routes to the gate.

use super::event::Style;
use super::hub::Watch;
use super::roster::MembersWatch;
use crate::http::request::Poll;
use crate::kv::Token;
use std::fmt;
use std::time::Duration;

/// A stream of events. The watch has begun before anything was read.
pub(in crate::http) struct StreamWish {
    pub(in crate::http) watch: Watch,
    /// What the client has seen; `None` when it wants everything first.
    pub(in crate::http) since: Option<Token>,
    /// Why a client that came with a token has to begin anew.
    pub(in crate::http) reset: Option<&'static str>,
    pub(in crate::http) style: Style,
    /// Whether values are left out.
    pub(in crate::http) only_keys: bool,
}

/// A request that is asked once more whenever something has changed, and when its time is up. The
/// gate holds its watch all the while: what changes between two askings rings it.
pub(in crate::http) struct PollWish {
    pub(in crate::http) watch: PollWatch,
    /// How long it waits in all.
    pub(in crate::http) wait: Duration,
    /// How it is asked next.
    pub(in crate::http) first: Poll,
    /// When it is asked again at the latest, where it waits for what rings no watch.
    pub(in crate::http) every: Duration,
    /// How long it waits as long as it is not known what it waits for.
    pub(in crate::http) hold: Option<Duration>,
}

/// What rings a request that waits.
pub(in crate::http) enum PollWatch {
    /// Keys that change.
    Keys(Watch),
    /// Members that change.
    Members(MembersWatch),
}

impl PollWatch {
    /// Whatever has changed so far is known.
    pub(in crate::http) fn take(&mut self) {
        match self {
            PollWatch::Keys(watch) => drop(watch.take()),
            PollWatch::Members(watch) => watch.take(),
        }
    }

    /// Returns when something has changed since. Can be dropped and called again.
    pub(in crate::http) async fn news(&mut self) {
        match self {
            PollWatch::Keys(watch) => loop {
                watch.rung().await;
                let told = watch.take();
                if told.is_overrun || !told.keys.is_empty() {
                    return;
                }
            },
            PollWatch::Members(watch) => watch.rung().await,
        }
    }
}

impl fmt::Debug for PollWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PollWatch::Keys(watch) => f.debug_tuple("Keys").field(watch.target()).finish(),
            PollWatch::Members(_) => f.write_str("Members"),
        }
    }
}

impl fmt::Debug for StreamWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWish").field("target", self.watch.target()).finish_non_exhaustive()
    }
}

impl fmt::Debug for PollWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollWish").field("watch", &self.watch).finish_non_exhaustive()
    }
}
