//! What the front of the house holds of the node.

use super::mailbox::Post;
use crate::kv::Store;
use crate::node::command::{Bridge, Busy, Command, Health, ReplyTo};
use crate::time::Now;
use std::sync::Arc;

/// Reads and writes the store directly, and the engine through its mailbox.
pub(super) struct Front {
    pub post: Post,
    pub store: Arc<Store>,
}

impl Bridge for Front {
    fn now(&self) -> Now {
        self.post.shared.clock.now()
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn written(&self) {
        self.post.shared.set_written();
    }

    fn send(&self, command: Command, reply_to: ReplyTo) -> Result<(), Busy> {
        self.post.send(command, reply_to)
    }

    fn health(&self) -> Health {
        self.post.shared.health()
    }

    fn live(&self) -> bool {
        self.post.shared.is_live()
    }
}
