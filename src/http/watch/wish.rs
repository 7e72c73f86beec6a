//! What a client that wants to hear of changes asked for, on its way from the routes to the gate.

use super::event::Style;
use super::hub::Watch;
use crate::http::request::Poll;
use crate::kv::Seen;
use std::fmt;
use std::time::Duration;

/// A stream of events. The watch has begun before anything was read.
pub(in crate::http) struct StreamWish {
    pub(in crate::http) watch: Watch,
    /// What the client has seen; `None` when it wants everything first.
    pub(in crate::http) since: Option<Seen>,
    /// Why a client that came with a token has to begin anew.
    pub(in crate::http) reset: Option<&'static str>,
    pub(in crate::http) style: Style,
    /// Whether values are left out.
    pub(in crate::http) only_keys: bool,
}

/// A request that is asked once more whenever something has changed, and when its time is up. The
/// gate holds its watch all the while: what changes between two askings rings it.
pub(in crate::http) struct PollWish {
    pub(in crate::http) watch: Watch,
    /// How long it waits in all.
    pub(in crate::http) wait: Duration,
    /// How it is asked next.
    pub(in crate::http) first: Poll,
    /// When it is asked again at the latest, where it waits for what rings no watch.
    pub(in crate::http) every: Duration,
    /// How long it waits as long as it is not known what it waits for.
    pub(in crate::http) hold: Option<Duration>,
}

impl fmt::Debug for StreamWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWish").field("target", self.watch.target()).finish_non_exhaustive()
    }
}

impl fmt::Debug for PollWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollWish").field("target", self.watch.target()).finish_non_exhaustive()
    }
}
