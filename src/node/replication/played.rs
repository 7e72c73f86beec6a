//! What a version would bring whose format is one ahead: played by the feature `next-format`, to
//! see that nodes can be rolled to such a version and back.
//!
//! It brings a field that must not reach who does not read format 4, and a kind that may: whoever
//! speaks format 3 passes it over.

use super::context::Context;
use super::message::{KvMessage, Played};
use crate::kv::OriginId;
use crate::node::formats::Formats;

impl Context<'_> {
    fn is_ahead(&self) -> bool {
        self.config.formats.last >= Formats::SPOKEN.last
    }

    /// What the added fields say.
    pub(super) fn played_field(&self) -> Option<u64> {
        self.is_ahead().then_some(4)
    }

    /// Tells a peer that the next version is played.
    pub(super) fn play(&mut self, to: OriginId) {
        if self.is_ahead() {
            let format = self.config.formats.last;
            self.send(to, &KvMessage::Played(Played { from: self.me.0, format }));
        }
    }
}
