//! The variables of the environment that look like ours: one that nobody reads is an error.
//!
//! A misspelt `GOSSIPYKV_ENCRYPT_KEY_FILE` would start a node in plaintext without a word. What
//! others put there on their own is none of ours: the links that Kubernetes and Docker make for a
//! service called `gossipykv` (`GOSSIPYKV_SERVICE_HOST`, `GOSSIPYKV_PORT=tcp://..`), and what tells
//! a build its commit.

use super::config::KEYS_VARIABLE;
use super::front::TOKEN_VARIABLE;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

const PREFIX: &str = "GOSSIPYKV_";
/// Read by `build.rs`, and often still there when what was built is run.
const OF_BUILDS: [&str; 2] = ["GOSSIPYKV_BUILD_HASH", "GOSSIPYKV_BUILD_DATE"];
/// Read by the program of the feature `next-format`.
#[cfg(feature = "next-format")]
const OF_TESTS: [&str; 1] = ["GOSSIPYKV_PLAYED_FORMATS"];
#[cfg(not(feature = "next-format"))]
const OF_TESTS: [&str; 0] = [];
/// Most edits between a slip and what was meant.
const SLIP_MAX: usize = 8;

/// Every variable of the environment that a command of ours reads.
pub(super) fn known(command: &clap::Command) -> BTreeSet<String> {
    let mut known: BTreeSet<String> = [KEYS_VARIABLE, TOKEN_VARIABLE].map(str::to_owned).into();
    collect(command, &mut known);
    known
}

fn collect(command: &clap::Command, known: &mut BTreeSet<String>) {
    let read = command.get_arguments().filter_map(clap::Arg::get_env).filter_map(OsStr::to_str);
    known.extend(read.map(str::to_owned));
    for command in command.get_subcommands() {
        collect(command, known);
    }
}

/// A line for each variable that looks like ours and is none, in order. What is set to nothing
/// counts as not set.
pub(super) fn unknown(
    known: &BTreeSet<String>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<String> {
    let ours = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let ours = ours.filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty());
    let strange = ours.filter(|(name, value)| {
        let elsewhere = OF_BUILDS.contains(&&**name) || OF_TESTS.contains(&&**name);
        !known.contains(name) && !elsewhere && !is_link(&name[PREFIX.len()..], value)
    });
    let names: BTreeSet<String> = strange.map(|(name, _)| name).collect();
    names.iter().map(|name| complaint(name, known)).collect()
}

fn complaint(name: &str, known: &BTreeSet<String>) -> String {
    let name = super::failure::one_line(name);
    match nearest(&name, known) {
        Some(nearest) => format!("{name}: no such variable; the nearest is {nearest}"),
        None => format!("{name}: no such variable; see gossipykv agent --help"),
    }
}

/// The known name that was most likely meant.
fn nearest<'k>(name: &str, known: &'k BTreeSet<String>) -> Option<&'k str> {
    let ranked = known.iter().map(|known| (distance(name, known), &**known));
    ranked.filter(|(distance, _)| *distance <= SLIP_MAX).min().map(|(_, known)| known)
}

/// How far two names are apart: one whose words are all in the other by the words that it lacks,
/// any other by its letters.
fn distance(name: &str, known: &str) -> usize {
    let words = |text: &str| -> BTreeSet<String> {
        let text = text.strip_prefix(PREFIX).unwrap_or(text);
        text.split('_').map(str::to_ascii_uppercase).collect()
    };
    let (given, wanted) = (words(name), words(known));
    if given.is_subset(&wanted) || wanted.is_subset(&given) {
        return given.symmetric_difference(&wanted).count();
    }
    strsim::damerau_levenshtein(&name.to_ascii_uppercase(), known)
}

/// Whether somebody linked a service: `rest` is the name without our prefix, which itself may have
/// begun the name of the service.
///
/// Kubernetes makes `X_SERVICE_HOST`, `X_SERVICE_PORT`, `X_SERVICE_PORT_name` and, as Docker does,
/// `X_PORT=tcp://..`, `X_PORT_8080_TCP=tcp://..`, `X_PORT_8080_TCP_ADDR` and the like; Docker also
/// repeats the variables of the linked container as `X_ENV_..`.
fn is_link(rest: &str, value: &OsStr) -> bool {
    let parts: Vec<&str> = rest.split('_').collect();
    let of_service = |parts: &[&str]| matches!(parts, ["SERVICE", "HOST" | "PORT", ..]);
    if parts[0] == "ENV" || (0..parts.len()).any(|from| of_service(&parts[from..])) {
        return true;
    }
    let Some(at) = parts.iter().position(|part| *part == "PORT") else { return false };
    let is_protocol = |part: &str| matches!(part, "TCP" | "UDP" | "SCTP");
    match &parts[at + 1..] {
        [] => value.to_str().is_some_and(is_address),
        [port, protocol, rest @ ..] => {
            let is_port = port.parse::<u16>().is_ok() && is_protocol(protocol);
            let is_range = matches!(rest, [] | ["ADDR" | "PORT" | "PROTO"] | ["START" | "END"]);
            is_port && is_range
        }
        _ => false,
    }
}

/// `tcp://10.0.0.1:8080`, as links tell addresses.
fn is_address(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(variables: &[(&str, &str)]) -> Vec<String> {
        let known = known(&crate::cli::command());
        unknown(&known, variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn a_slip_is_told_with_what_was_meant() {
        for (slip, meant) in [
            ("GOSSIPYKV_ENCRYPT_KEY_FILE", "GOSSIPYKV_ENCRYPT_KEYS_FILE"),
            ("GOSSIPYKV_TOKEN", "GOSSIPYKV_HTTP_TOKEN"),
            ("GOSSIPYKV_ENCRYPT_KEY", "GOSSIPYKV_ENCRYPT_KEYS"),
            ("GOSSIPYKV_SEVER", "GOSSIPYKV_SERVER"),
            ("GOSSIPYKV_JOINS", "GOSSIPYKV_JOIN"),
            ("GOSSIPYKV_GOSSIP_BIND", "GOSSIPYKV_BIND"),
            ("GOSSIPYKV_Http", "GOSSIPYKV_HTTP"),
        ] {
            let expected = format!("{slip}: no such variable; the nearest is {meant}");
            assert_eq!(complaints(&[(slip, "x")]), [expected]);
        }
        let far = complaints(&[("GOSSIPYKV_WHATEVER_THAT_MAY_BE", "x")]);
        assert!(far[0].ends_with("see gossipykv agent --help"), "{far:?}");
    }

    #[test]
    fn what_others_put_there_is_none_of_ours() {
        for (name, value) in [
            ("GOSSIPYKV_SERVICE_HOST", "10.96.0.7"),
            ("GOSSIPYKV_SERVICE_PORT", "8080"),
            ("GOSSIPYKV_SERVICE_PORT_HTTP", "8080"),
            ("GOSSIPYKV_PORT", "tcp://10.96.0.7:8080"),
            ("GOSSIPYKV_PORT_7946_TCP", "tcp://10.96.0.7:7946"),
            ("GOSSIPYKV_PORT_7946_TCP_ADDR", "10.96.0.7"),
            ("GOSSIPYKV_PORT_7946_UDP_PROTO", "udp"),
            ("GOSSIPYKV_GOSSIP_SERVICE_PORT_GOSSIP_UDP", "7947"),
            ("GOSSIPYKV_GOSSIP_PORT_7947_UDP_PORT", "7947"),
            ("GOSSIPYKV_GOSSIP_PORT", "udp://10.96.0.7:7947"),
            ("GOSSIPYKV_ENV_GOSSIPYKV_HTTP", "0.0.0.0:8080"),
            ("GOSSIPYKV_BUILD_HASH", "5d2a1f0c"),
            ("GOSSIPYKV_ANYTHING", ""),
            ("GOSSIPYKVX", "y"),
        ] {
            assert_eq!(complaints(&[(name, value)]), [""; 0], "{name}={value}");
        }
        for (name, value) in [
            ("GOSSIPYKV_PORT", "7947"),
            ("GOSSIPYKV_PORT_HTTP", "8080"),
            ("GOSSIPYKV_HTTP_PORT", "8080"),
            ("GOSSIPYKV_PORT_8080_HTTP", "x"),
        ] {
            assert_eq!(complaints(&[(name, value)]).len(), 1, "{name}={value}");
        }
    }

    #[test]
    fn no_variable_of_ours_looks_like_a_link() {
        for name in known(&crate::cli::command()) {
            let rest = name.strip_prefix(PREFIX);
            assert!(rest.is_none_or(|rest| !is_link(rest, "tcp://h:1".as_ref())), "{name}");
        }
    }
}
