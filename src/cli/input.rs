//! Standard input, and what a person is told who does not know that we wait for it.

use super::logging;
use std::io::{self, IsTerminal as _};

/// Says on a terminal what is read from it, and how to end it; to a pipe nothing.
pub(super) fn say_that_we_wait(what: &str) {
    if io::stdin().is_terminal() {
        logging::say(&format!(
            "reading {what} from this terminal; a line of its own with Ctrl-D ends it"
        ));
    }
}
