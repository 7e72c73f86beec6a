//! What the front of the house holds of the node.

use super::mailbox::Post;
use super::process;
use crate::kv::Store;
use crate::node::command::{Bell, Bridge, Busy, Command, Health, NotReady, Reply, ReplyTo};
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
        let is_about_all = command == Command::Stats;
        let reply_to = if is_about_all { with_process(reply_to) } else { reply_to };
        self.post.send(command, reply_to)
    }

    fn health(&self) -> Health {
        if self.live() { self.post.shared.health() } else { Health::Stalled }
    }

    fn is_complete(&self) -> bool {
        self.post.shared.is_complete()
    }

    fn not_ready(&self) -> Option<NotReady> {
        if self.live() { self.post.shared.not_ready() } else { Some(NotReady::Stalled) }
    }

    fn why(&self) -> Option<Arc<str>> {
        if self.live() {
            return self.post.shared.why();
        }
        let seconds = self.post.shared.silence().as_secs();
        Some(
            format!(
                "the gossip loop has not taken a turn for {seconds} s: look at the load of this \
                 machine; unless it goes on the process ends by itself"
            )
            .into(),
        )
    }

    fn lacks_ttl(&self) -> Option<Arc<str>> {
        self.post.shared.lacks_ttl()
    }

    fn live(&self) -> bool {
        self.post.shared.is_live()
    }

    fn on_members_changed(&self, bell: Bell) {
        self.post.shared.on_members_changed(bell);
    }
}

/// Adds what the system says of the process to the numbers of the node. It is asked here, by
/// whoever wants to know: to count ten thousand files takes longer than a turn of the engine may.
fn with_process(reply_to: ReplyTo) -> ReplyTo {
    let samples = process::samples();
    Box::new(move |mut reply| {
        if let Reply::Stats(all) = &mut reply {
            all.extend(samples);
        }
        reply_to(reply);
    })
}
