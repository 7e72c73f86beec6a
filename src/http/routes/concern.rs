//! `?w=` and `?timeout=`: how many members must hold a write before it is answered.
//!
//! The write itself is done, and goes on replicating whether enough members hold it in time or not.
//! So an answer of 504 gives the version, and how many members hold it. The client may wait again
//! by writing again, or leave the write as it is.

use super::context::{Api, Call, Outcome, PendingResponse};
use super::query::{self, Parameter};
use crate::http::failure::{Failure, error_body};
use crate::http::pending::Slot;
use crate::http::response::{number, version_field};
use crate::kv::{Dot, Stamp};
use crate::limits::{HTTP_WAIT_MAX, MEMBERS_MAX};
use crate::node::command::{Command, Concern, Reply};
use std::time::Duration;

/// When `?timeout=` is not given.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// How much later than asked the node may tell that time is up.
const GRACE: Duration = Duration::from_secs(2);
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The wait that a write asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// How many members must hold the write.
    pub(super) concern: Concern,
    /// How long to wait for them.
    pub(super) timeout: Duration,
}

impl Wait {
    /// Waits in `slot` until enough members hold a write of this node, and those before it, or time
    /// is up; then `render` answers with what the node says.
    pub(super) fn await_holders(
        self,
        api: &Api,
        slot: Slot,
        call: Call<'_>,
        dot: Dot,
        render: impl FnOnce(Option<Reply>, &mut PendingResponse<'_>) -> u16 + Send + 'static,
    ) -> Outcome {
        let Wait { concern, timeout } = self;
        let deadline = api.shared.bridge.now().instant + timeout;
        let command = Command::AwaitHolders { dot, concern, deadline };
        api.ask_node_in(slot, call, command, timeout + GRACE, render)
    }

    /// Whether enough members hold a write, of this version where it is one.
    ///
    /// # Errors
    /// The body of a 504 that says who does.
    pub(super) fn held(
        self,
        reply: Option<Reply>,
        stamp: impl Into<Option<Stamp>>,
    ) -> Result<(), Vec<u8>> {
        let stamp = stamp.into();
        match reply {
            Some(Reply::Holders { held, wanted }) if held >= wanted => Ok(()),
            Some(Reply::Holders { held, wanted }) => {
                // When the run that wrote it is over, nothing is waited for.
                let why = format!("held by {held} of {wanted} members so far");
                Err(short_of(&why, stamp, Some((held, wanted))))
            }
            Some(Reply::Refused(why)) => Err(short_of(&why, stamp, None)),
            _ => Err(short_of("the node is too busy to tell who holds it", stamp, None)),
        }
    }
}

/// What a write that stands, but may not be held by enough, is answered with.
fn short_of(why: &str, stamp: Option<Stamp>, held: Option<(u32, u32)>) -> Vec<u8> {
    let error = format!("the write stands and goes on replicating, but: {why}");
    let mut body = error_body(&error);
    body.pop();
    if let Some(stamp) = stamp {
        version_field(&mut body, stamp);
    }
    if let Some((held, wanted)) = held {
        for (name, n) in [(",\"held\":", held), (",\"wanted\":", wanted)] {
            body.extend_from_slice(name.as_bytes());
            number(&mut body, n as usize);
        }
    }
    body.push(b'}');
    body
}

/// The wait these parameters ask for; `None` when this node alone is enough.
///
/// # Errors
/// 400 with what is allowed.
pub(super) fn wait(
    w: Option<Parameter<'_>>,
    timeout: Option<Parameter<'_>>,
) -> Result<Option<Wait>, Failure> {
    let timeout = match timeout {
        Some(text) => query::time("timeout", text.text(), TIMEOUT_MIN..=HTTP_WAIT_MAX)?,
        None => TIMEOUT_DEFAULT,
    };
    let Some(w) = w else { return Ok(None) };
    let concern = match w.text() {
        "all" => Concern::All,
        "majority" => Concern::Majority,
        "1" => return Ok(None),
        text => Concern::Count(count(text)?),
    };
    Ok(Some(Wait { concern, timeout }))
}

fn count(text: &str) -> Result<u32, Failure> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(n) if is_plain && (1..=MEMBERS_MAX as u32).contains(&n) => Ok(n),
        _ => {
            let message =
                format_args!("w={text}: all, majority, or a number from 1 to {MEMBERS_MAX}");
            Err(Failure::new(400, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(w: Option<&str>, timeout: Option<&str>, expected: Result<Option<Wait>, u16>) {
        let parameter = |text| Some(Parameter(Some(text)));
        let found = wait(w.and_then(parameter), timeout.and_then(parameter));
        assert_eq!(found.map_err(|failure| failure.status), expected, "{w:?} {timeout:?}");
    }

    #[test]
    fn waits_are_bounded_and_spelt_one_way() {
        let two = Duration::from_secs(2);
        let wait = |concern, timeout| Ok(Some(Wait { concern, timeout }));
        check(None, None, Ok(None));
        check(Some("1"), None, Ok(None));
        check(Some("all"), None, wait(Concern::All, two));
        check(Some("majority"), Some("500ms"), wait(Concern::Majority, two / 4));
        check(Some("3"), Some("60s"), wait(Concern::Count(3), HTTP_WAIT_MAX));
        for bad in ["", "0", "00000000001", "01", "-1", "+2", "1.5", "ALL", "65537", "4294967297"] {
            check(Some(bad), None, Err(400));
        }
        for bad in ["", "0s", "61s", "2", "-1s", "1h", "999us", "1s1s1s", "1s 1ms", " 1s", "1 s"] {
            check(Some("all"), Some(bad), Err(400));
        }
        // A bad one is told although it would not be used.
        check(None, Some("soon"), Err(400));
    }
}
