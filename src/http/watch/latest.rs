//! What the node has told last of something, asked for once however many want to know.

use crate::node::command::{Bridge, Command, Reply};
use crate::time::Instant;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the node may take to tell.
const TELL_LIMIT: Duration = Duration::from_secs(2);

/// The latest that was told, and when it was asked for.
pub(super) struct Latest<T> {
    bridge: Arc<dyn Bridge>,
    told: Mutex<Option<(Instant, Arc<T>)>>,
    /// Held while the node is asked, so that many who want to know ask once.
    asking: tokio::sync::Mutex<()>,
}

impl<T> Latest<T> {
    pub(super) fn new(bridge: Arc<dyn Bridge>) -> Latest<T> {
        Latest { bridge, told: Mutex::new(None), asking: tokio::sync::Mutex::new(()) }
    }

    /// What was told last, at any time.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.told.lock().as_ref().map(|(_, told)| Arc::clone(told))
    }

    /// The same, if it was asked for at most `age` ago.
    pub(super) fn within(&self, age: Duration) -> Option<Arc<T>> {
        let (at, told) = self.told.lock().clone()?;
        (self.bridge.now().instant.since(at) <= age).then_some(told)
    }

    /// Asks the node, unless somebody does so after this call; `None` when it does not tell.
    /// `read` makes of the answer what is kept.
    pub(super) async fn ask(
        &self,
        command: Command,
        read: impl FnOnce(Reply) -> Option<T>,
    ) -> Option<Arc<T>> {
        let wanted_at = self.bridge.now().instant;
        let _asking = self.asking.lock().await;
        if let Some((at, told)) = self.told.lock().clone()
            && at >= wanted_at
        {
            return Some(told);
        }
        let at = self.bridge.now().instant;
        let (answer_to, answer) = oneshot::channel();
        let reply_to = Box::new(move |reply| {
            // Whoever asked may have gone.
            let _ = answer_to.send(reply);
        });
        self.bridge.send(command, reply_to).ok()?;
        let reply = tokio::time::timeout(TELL_LIMIT, answer).await.ok()?.ok()?;
        let told = Arc::new(read(reply)?);
        *self.told.lock() = Some((at, Arc::clone(&told)));
        Some(told)
    }
}
