//! The only spawner of threads: each has a name, an owner, and a last word.
//!
//! A thread or task that dies tells its [`Fault`]; whoever waits for [`Fault::told`] then ends the
//! process with that message. Nothing dies alone and leaves half a node behind.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::watch;

/// Where a dying thread or task leaves its last word. The first word counts.
#[derive(Debug, Clone)]
pub struct Fault(Arc<watch::Sender<Option<String>>>);

impl Default for Fault {
    fn default() -> Fault {
        Fault(Arc::new(watch::Sender::new(None)))
    }
}

impl Fault {
    /// Says what has died, and why.
    pub fn tell(&self, word: String) {
        self.0.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert(word);
            first
        });
    }

    /// Waits, on any executor, for the first word; for ever when all is well.
    pub fn told(&self) -> impl Future<Output = String> + Send + 'static + use<> {
        let mut word = self.0.subscribe();
        // Holding the sender too keeps a wait from ending because everybody else has gone.
        let this = self.clone();
        async move {
            loop {
                if let Some(word) = &*word.borrow_and_update() {
                    return word.clone();
                }
                if word.changed().await.is_err() {
                    unreachable!("{this:?} holds the sender");
                }
            }
        }
    }
}

/// Held by a task: tells the fault when the task panics, which tokio would keep to itself.
#[derive(Debug)]
pub struct Lifeline {
    what: &'static str,
    fault: Fault,
}

impl Lifeline {
    /// For a task known as `what`.
    #[must_use]
    pub fn new(what: &'static str, fault: &Fault) -> Lifeline {
        Lifeline { what, fault: fault.clone() }
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fault.tell(format!("{} panicked", self.what));
        }
    }
}

/// Runs `body` on a thread called `name` (at most 15 bytes are shown by the system). A panic, and
/// an error that `body` returns, are told to `fault`.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    name: &'static str,
    fault: &Fault,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (fault, span) = (fault.clone(), tracing::Span::current());
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Where several nodes share a process, its lines are marked as those of whoever began it.
        let _marked = span.entered();
        // What the body owned is gone with it; only the word is left.
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => fault.tell(format!("thread {name}: {why}")),
            Err(panic) => fault.tell(format!("thread {name} panicked: {}", message(&*panic))),
        }
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_word(body: impl FnOnce() -> Result<(), String> + Send + 'static) -> Option<String> {
        let fault = Fault::default();
        let told = fault.told();
        spawn("test", &fault, body).expect("a thread").join().expect("panics are caught");
        let word = fault.0.borrow().clone();
        if let Some(word) = &word {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            assert_eq!(&runtime.block_on(told), word);
        }
        word
    }

    #[test]
    fn a_thread_that_dies_leaves_a_word() {
        assert_eq!(last_word(|| Ok(())), None);
        assert_eq!(last_word(|| Err("no luck".into())), Some("thread test: no luck".into()));
        let panicked = last_word(|| panic!("at {}", 7));
        assert_eq!(panicked, Some("thread test panicked: at 7".into()));
    }

    #[test]
    fn a_task_that_panics_leaves_a_word_and_the_first_word_counts() {
        let fault = Fault::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let lifeline = Lifeline::new("task", &fault);
        let told = runtime.block_on(async {
            let task = tokio::spawn(async move {
                let _lifeline = lifeline;
                panic!("on purpose");
            });
            assert!(task.await.is_err());
            fault.tell("too late".into());
            fault.told().await
        });
        assert_eq!(told, "task panicked");
        drop(Lifeline::new("nobody", &fault));
    }
}
