//! Reads flags one after the other and remembers everything that is wrong with them.

use clap::ArgMatches;
use clap::parser::ValueSource;
use std::env;
use std::ffi::{OsStr, OsString};

/// A variable of the environment that is set to something.
pub(super) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The environment variable of a flag of `agent`.
pub(super) fn variable_of(id: &str) -> String {
    format!("GOSSIPYKV_{}", id.to_ascii_uppercase())
}

/// The complaints so far. `matches` tells which values came from the environment.
pub(super) struct Reader<'a> {
    matches: &'a ArgMatches,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// Nothing is wrong yet.
    pub(super) fn new(matches: &ArgMatches) -> Reader<'_> {
        Reader { matches, problems: Vec::new() }
    }

    /// What has been made of the flags, if nothing is wrong with any of them.
    ///
    /// # Errors
    /// Every problem, one line each.
    pub(super) fn end<T>(self, made: Option<T>) -> Result<T, Vec<String>> {
        match made {
            Some(made) if self.problems.is_empty() => Ok(made),
            _ => Err(self.problems),
        }
    }

    /// Remembers a problem.
    pub(super) fn problem(&mut self, source: &str, problem: &str) {
        self.problems.push(format!("{source}: {problem}"));
    }

    /// The value of a flag, or `None` and a problem.
    pub(super) fn value<T>(
        &mut self,
        id: &str,
        given: &OsStr,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let source = self.source(id);
        self.parsed(&source, given, parse)
    }

    /// The value of a flag that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        id: &str,
        given: Option<&OsStr>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.value(id, given?, parse)
    }

    /// A value of another source than a flag.
    pub(super) fn parsed<T>(
        &mut self,
        source: &str,
        given: &OsStr,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = given.to_str().ok_or_else(|| "not UTF-8".to_owned());
        match text.and_then(parse) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problem(source, &problem);
                None
            }
        }
    }

    /// What to call a flag in a complaint: the variable too when it came from there.
    pub(super) fn source(&self, id: &str) -> String {
        let flag = format!("--{}", id.replace('_', "-"));
        match self.matches.value_source(id) {
            Some(ValueSource::EnvVariable) => format!("{flag} (from {})", variable_of(id)),
            _ => flag,
        }
    }

    /// Whether a flag is given as an argument.
    pub(super) fn is_on_command_line(&self, id: &str) -> bool {
        self.matches.value_source(id) == Some(ValueSource::CommandLine)
    }
}
