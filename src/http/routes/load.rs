//! `POST /kv/` as NDJSON: many writes in one request, one to a line.
//!
//! ```text
//! {"put":"k","value":"v","type":"text/plain","ttl":"30s"}
//! {"delete":"k2"}
//! ```
//!
//! A line is an operation of a [batch](super::batch), without conditions. All lines are read before
//! anything is written: where one is wrong, nothing is. Then they are written in their order, each
//! by a write of its own, a slice at a time: no lock is held from one line to the next, and the
//! engine sends what a slice has written while the next one is. The lines are read anew as they are
//! written, so that a load costs a slice beside its body.

use super::batch::{Asked, Asks};
use super::concern;
use super::context::{Api, Call, Outcome};
use super::precondition::Precondition;
use super::query;
use crate::http::failure::{Failure, error_body};
use crate::http::json::json_text;
use crate::http::pending::Waiter;
use crate::http::response::{Response, number, version_field};
use crate::kv::{WriteError, Written};
use crate::limits::{LOAD_ERRORS_MAX, LOAD_LINES_MAX, LOAD_SLICE};
use std::time::Duration;

/// How long one request may go on writing, on a machine that has no time: nobody holds a worker for
/// ever.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Most characters of what is said of a line: it may repeat what stands there.
const WHY_CHARS_MAX: usize = 300;

/// Whether a body of this type is one of lines.
pub(super) fn is_load(content_type: Option<&str>) -> bool {
    let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

/// Writes all lines of a body, or none of them if one is wrong.
pub(super) fn answer(api: &Api, call: Call<'_>) -> Result<Outcome, Failure> {
    let [w, timeout] = query::parameters(call.query, ["w", "timeout"])?;
    let wait = concern::wait(w, timeout)?;
    if !Precondition::of(call.request)?.is_empty() {
        return Err(Failure::new(400, "If-Match and If-None-Match are for one key"));
    }
    let body = call.request.body;
    let n_lines = lines(body).take(LOAD_LINES_MAX + 1).count();
    if n_lines > LOAD_LINES_MAX {
        let message = format_args!(
            "there are more than {LOAD_LINES_MAX} lines; send them in several requests; nothing is \
             written"
        );
        return Err(Failure::new(413, message));
    }
    let len_max = api.shared.config.value_len_max;
    let checked = Checked::of(body, len_max);
    if let Some(status) = checked.status {
        return Ok(wrong(call, &checked, status));
    }
    // A node that copies does not know yet how much it is to hold, and has enough to do.
    api.check_complete()?;
    if checked.lasts {
        api.check_ttl()?;
    }
    let slot = wait.map(|wait| Ok((api.slot(Waiter::Write)?, wait))).transpose()?;
    let (applied, last) = match write(api, body, len_max) {
        Ok(done) => done,
        Err(stopped) => return Ok(stopped.answer(call)),
    };
    call.body.extend_from_slice(b"{\"applied\":");
    number(call.body, applied);
    if let Some(last) = last {
        version_field(call.body, last.stamp);
    }
    call.body.push(b'}');
    let (Some((slot, wait)), Some(last)) = (slot, last) else {
        return Ok(call.json(200, None));
    };
    // Who holds the last of our writes holds those before.
    let body = call.body.clone();
    Ok(wait.await_holders(api, slot, call, last.dot, move |reply, response| {
        match wait.held(reply, last.stamp) {
            Ok(()) => response.plain_json(200, &body),
            Err(short) => response.plain_json(504, &short),
        }
    }))
}

/// The lines that say something, with their numbers from 1.
fn lines(body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
    lines.filter(|(_, line)| !line.is_empty()).map(|(n, line)| (n + 1, line))
}

/// What a line asks for, and what it is about.
///
/// # Errors
/// The status and the text to refuse it with.
fn read(line: &[u8], value_len_max: usize) -> Result<Asked, (u16, String)> {
    if !line.starts_with(b"{") {
        // Fields in their order are an operation, too, to whom reads it.
        return Err((400, "a line is one JSON object".to_owned()));
    }
    let asked = Asked::of_line(line, value_len_max)?;
    if !asked.is_plain_write() {
        let why = "a load has put and delete, without if_version: the rest is for {\"ops\":[..]}";
        return Err((400, why.to_owned()));
    }
    asked.check().map_err(|error| (400, error.to_string()))?;
    Ok(asked)
}

/// What reading all lines has come to.
#[derive(Default)]
struct Checked {
    n_lines: usize,
    n_wrong: usize,
    /// The first of those that are wrong, by number.
    wrong: Vec<(usize, String)>,
    /// What the first of them is refused with.
    status: Option<u16>,
    /// Whether any expires.
    lasts: bool,
}

impl Checked {
    fn of(body: &[u8], value_len_max: usize) -> Checked {
        let mut checked = Checked::default();
        for (number, line) in lines(body) {
            checked.n_lines += 1;
            match read(line, value_len_max) {
                Ok(asked) => checked.lasts |= asked.lasts(),
                Err((status, why)) => {
                    checked.n_wrong += 1;
                    checked.status.get_or_insert(status);
                    if checked.wrong.len() < LOAD_ERRORS_MAX {
                        checked.wrong.push((number, shortened(why)));
                    }
                }
            }
        }
        checked
    }
}

fn shortened(why: String) -> String {
    match why.char_indices().nth(WHY_CHARS_MAX) {
        Some((end, _)) => format!("{}..", &why[..end]),
        None => why,
    }
}

/// Why a load ended before its last line.
struct Stopped {
    failure: Failure,
    applied: usize,
    line: usize,
}

/// Writes line after line; returns how many, and the last write.
fn write(
    api: &Api,
    body: &[u8],
    value_len_max: usize,
) -> Result<(usize, Option<Written>), Stopped> {
    let (mut applied, mut last) = (0, None);
    let until = api.shared.bridge.now().instant + TIME_MAX;
    let mut lines = lines(body).peekable();
    while let Some(&(line, _)) = lines.peek() {
        let stop = |failure, applied, line| Err(Stopped { failure, applied, line });
        if applied > 0 && api.shared.bridge.now().instant >= until {
            let failure = Failure::busy("it takes too long; go on with this line");
            return stop(failure, applied, line);
        }
        let writing = match api.shared.shutdown.begin_write() {
            Ok(writing) => writing,
            Err(failure) => return stop(failure, applied, line),
        };
        let mut refused = None;
        for (line, text) in lines.by_ref().take(LOAD_SLICE) {
            let written = read(text, value_len_max)
                .map_err(|(status, why)| Failure::new(status, why))
                .and_then(|asked| write_one(api, &asked));
            match written {
                Ok(written) => (applied, last) = (applied + 1, Some(written)),
                Err(failure) => {
                    refused = Some((line, failure));
                    break;
                }
            }
        }
        drop(writing);
        api.shared.bridge.written();
        if let Some((line, failure)) = refused {
            return stop(failure, applied, line);
        }
    }
    Ok((applied, last))
}

fn write_one(api: &Api, asked: &Asked) -> Result<Written, Failure> {
    if asked.lasts() {
        // Such a member may have come meanwhile.
        api.check_ttl()?;
    }
    let (store, now, key) = (api.store(), api.shared.bridge.now(), asked.key.as_bytes());
    let written = match &asked.act {
        Asks::Put(value, content_type, ttl) => {
            store.put_lasting_if(now, key, (value, content_type.as_deref()), *ttl, |_| true)
        }
        _ => store.delete(now, key),
    };
    written.map_err(|error| {
        let status = match error {
            WriteError::StoreFull { .. } => 507,
            WriteError::StampExhausted => 409,
            _ => 400,
        };
        Failure::new(status, format_args!("key {}: {}", asked.key, api.write_error(error)))
    })
}

/// Names the lines that are wrong.
fn wrong(call: Call<'_>, checked: &Checked, status: u16) -> Outcome {
    let Checked { n_wrong, n_lines, .. } = checked;
    let (line, why) = checked.wrong.first().map_or((0, ""), |(line, why)| (*line, why));
    let message =
        format!("{n_wrong} of {n_lines} lines wrong, nothing is written; line {line}: {why}");
    told(call, status, None, &message, 0, &checked.wrong)
}

impl Stopped {
    /// Says what of the load has taken effect.
    fn answer(self, call: Call<'_>) -> Outcome {
        let Stopped { failure, applied, line } = self;
        let why = shortened(failure.message);
        let message = format!(
            "line {line}: {why}; the {applied} operations before it are written, and no others"
        );
        told(call, failure.status, failure.header, &message, applied, &[(line, why)])
    }
}

fn told(
    call: Call<'_>,
    status: u16,
    header: Option<(&'static str, &'static str)>,
    message: &str,
    applied: usize,
    errors: &[(usize, String)],
) -> Outcome {
    let mut body = error_body(message);
    body.pop();
    body.extend_from_slice(b",\"applied\":");
    number(&mut body, applied);
    body.extend_from_slice(b",\"errors\":[");
    for (n, (line, why)) in errors.iter().enumerate() {
        body.extend_from_slice(if n > 0 { b",{\"line\":" } else { b"{\"line\":" });
        number(&mut body, *line);
        body.extend_from_slice(b",\"error\":");
        json_text(&mut body, why);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    let response = Response::new(call.out, call.now.wall, status, body.len()).json();
    let response = match header {
        Some((name, value)) => response.header(name, value),
        None => response,
    };
    response.end(call.request.form(), &body);
    Outcome::Answered(status)
}
