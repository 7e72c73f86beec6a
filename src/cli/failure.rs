//! How a command fails: its lines on standard error and its exit code.

use super::{interrupt, logging};
use crate::runtime::signal;
use std::process::ExitCode;

/// Exit code of a failure at work.
const FAILED: u8 = 1;
/// Exit code of wrong arguments or a wrong configuration.
const USAGE: u8 = 2;
/// Exit code of a client that asked for a key which is not there.
const MISSING: u8 = 3;
/// Exit code of a client whose request the server answered and did not do.
const REFUSED: u8 = 4;
/// Exit code of a client that got no whole answer.
const UNREACHABLE: u8 = 5;

/// Why a command did not do what it was asked to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Wrong arguments or configuration: one line each, which names the flag.
    Usage(Vec<String>),
    /// Something went wrong: one line.
    Failed(String),
    /// A key that is not there: one line.
    Missing(String),
    /// A server answered and did not do what it was asked to: one line.
    Refused(String),
    /// A server gave no whole answer: one line.
    Unreachable(String),
    /// Something went wrong, and the output says what.
    Told,
    /// A signal asked for an end at once.
    Signal(&'static str),
    /// A signal ended it in good order, and everything about that has been said.
    Interrupted(&'static str),
}

impl Failure {
    /// One thing wrong with the arguments.
    pub(super) fn usage(problem: impl Into<String>) -> Failure {
        Failure::Usage(vec![problem.into()])
    }

    /// Something that went wrong at work.
    pub(super) fn failed(problem: impl Into<String>) -> Failure {
        Failure::Failed(problem.into())
    }

    /// The same, for a command whose exit code is 1 whatever went wrong at work.
    pub(super) fn into_failed(self) -> Failure {
        match self {
            Failure::Missing(line) | Failure::Refused(line) | Failure::Unreachable(line) => {
                Failure::Failed(line)
            }
            other => other,
        }
    }

    /// The same in one line, to be part of another.
    pub(super) fn line(&self) -> String {
        match self {
            Failure::Usage(lines) => lines.join("; "),
            Failure::Missing(line)
            | Failure::Failed(line)
            | Failure::Refused(line)
            | Failure::Unreachable(line) => line.clone(),
            Failure::Told | Failure::Signal(_) | Failure::Interrupted(_) => {
                "it was ended".to_owned()
            }
        }
    }

    /// Says it, and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        let (lines, code) = match self {
            Failure::Usage(lines) => (lines, USAGE),
            Failure::Failed(line) => (vec![line], FAILED),
            Failure::Missing(line) => (vec![line], MISSING),
            Failure::Refused(line) => (vec![line], REFUSED),
            Failure::Unreachable(line) => (vec![line], UNREACHABLE),
            Failure::Told => (Vec::new(), FAILED),
            Failure::Interrupted(name) => {
                logging::flush();
                interrupt::die_of(name);
                (Vec::new(), signal_code(name))
            }
            Failure::Signal(name) => {
                (vec![format!("ended at once by a second {name}")], signal_code(name))
            }
        };
        for line in lines {
            complain(&line);
        }
        ExitCode::from(code)
    }
}

/// The exit code that shells give to a program that a signal ended.
fn signal_code(name: &str) -> u8 {
    128 + u8::try_from(signal::number(name).as_raw()).unwrap_or(0)
}

/// Writes one line to standard error. There is nobody to tell when that fails.
pub(super) fn complain(line: &str) {
    logging::say(&format!("error: {}", one_line(line)));
}

/// The text with its control characters escaped, whoever wrote it: no line break, no escape code.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_stays_one_line_and_moves_no_cursor() {
        assert_eq!(one_line("a\nb\x1b[2J \u{e9}\u{9b}"), "a\\nb\\u{1b}[2J \u{e9}\\u{9b}");
    }
}
