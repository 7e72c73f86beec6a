//! What flags and variables make, and which are refused.

use super::*;
use crate::cli::front::TOKEN_VARIABLE;
use crate::cli::reader::variable_of;
use crate::http::{Token, TokenList};
use crate::limits::VALUE_LEN_DEFAULT_MAX;
use std::io::Write as _;

/// What flags and variables make.
pub(in crate::cli) fn check(
    flags: &[&str],
    variables: &[(&str, &str)],
) -> Result<AgentConfig, Vec<String>> {
    // Nothing of the environment the tests run in.
    let command = AgentFlags::augment_args(clap::Command::new("agent"))
        .mut_args(|arg| arg.env(None::<&'static str>));
    let args = std::iter::once("agent").chain(flags.iter().copied());
    let matches = command.try_get_matches_from(args).expect("known flags with values");
    let flags = <AgentFlags as clap::FromArgMatches>::from_arg_matches(&matches);
    let variable = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| OsString::from(value))
    };
    flags.expect("they match").check(&matches, variable)
}

/// The configuration of good flags.
pub(in crate::cli) fn config(flags: &[&str]) -> AgentConfig {
    check(flags, &[]).expect("a good configuration")
}

fn problems(flags: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    check(flags, variables).expect_err("a bad configuration")
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("room for it");
    file
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = config(&[]);
    assert_eq!(config.bind, "0.0.0.0:7947".parse().unwrap());
    assert_eq!(config.http, "127.0.0.1:8080".parse().unwrap());
    assert_eq!((config.name, config.advertise, config.dns), (None, None, None));
    assert_eq!((config.seeds, config.srv, config.profile), (vec![], None, Profile::Lan));
    assert_eq!((&*config.label, config.front.tokens), ("", None));
    assert!(!config.front.keys_on_loopback && config.front.hosts.is_empty());
    assert!(config.front.cors_origins.is_empty());
    assert_eq!((config.front.idle.as_secs(), config.front.connections_max), (75, 4_096));
    assert!(config.keyring.is_empty() && config.verify_incoming && config.verify_outgoing);
    assert_eq!((config.value_len_max, config.store_len_max), (VALUE_LEN_DEFAULT_MAX, None));
    assert_eq!((config.bootstrap, config.serves_while_starting), (false, false));
    assert_eq!([config.tombstone_grace, config.leave_timeout].map(|t| t.as_secs()), [86_400, 5]);
    assert_eq!(config.log, LogConfig { level: LevelFilter::INFO, format: None });
}

#[test]
fn every_problem_is_named_at_once() {
    let flags = [
        "--name=",
        "--bind=nowhere",
        "--advertise=0.0.0.0",
        "--http=8080",
        "--join=a:0,b",
        "--join=c d",
        "--discover-srv=10.0.0.1",
        "--dns=dns",
        "--profile=mars",
        "--encrypt-keys-file=",
        "--gossip-verify-incoming=maybe",
        "--gossip-verify-outgoing=",
        "--http-token-file=/nonexistent",
        "--keys-on-loopback=perhaps",
        "--http-host=http://a",
        "--cors-origin=*",
        "--http-connections-max=65537",
        "--http-idle-timeout=75",
        "--max-value-bytes=0",
        "--max-store-bytes=-1",
        "--bootstrap=perhaps",
        "--serve-while-starting=",
        "--tombstone-grace=1",
        "--leave-timeout=2h",
        "--log-level=loud",
        "--log-format=xml",
        "--status-interval=1ms",
    ];
    let problems = problems(&flags, &[]);
    let named = problems.iter().map(|line| line.split(':').next().unwrap_or_default());
    let wrong = flags.iter().map(|flag| flag.split('=').next().unwrap_or_default());
    assert_eq!(named.collect::<Vec<_>>(), wrong.collect::<Vec<_>>(), "{problems:#?}");
}

#[test]
fn flags_of_the_command_line_say_what_they_say() {
    let config = config(&[
        "--join=10.0.0.1,node:9",
        "--join=[::1]",
        "--discover-srv=_kv._tcp.example",
        "--gossip-verify-incoming=false",
        "--max-store-bytes=10",
        "--profile=WAN",
        "--bootstrap",
        "--accept-label=a,b",
        "--accept-label=",
        "--serve-while-starting=1",
        "--keys-on-loopback",
        "--http-host=a.example,b",
        "--http-host=*",
        "--cors-origin=https://a.example",
        "--http-connections-max=20000",
        "--http-idle-timeout=2m",
    ]);
    let seeds = config.seeds.iter().map(Seed::to_string).collect::<Vec<_>>();
    assert_eq!(seeds, ["10.0.0.1:7947", "node:9", "[::1]:7947"]);
    assert_eq!(config.srv.map(|name| name.to_string()).as_deref(), Some("_kv._tcp.example."));
    assert_eq!((config.verify_incoming, config.verify_outgoing), (false, true));
    assert_eq!(config.accepted_labels, ["a", "b", ""]);
    assert_eq!((config.store_len_max, config.profile), (Some(10), Profile::Wan));
    assert_eq!((config.bootstrap, config.serves_while_starting), (true, true));
    assert!(config.front.keys_on_loopback);
    assert_eq!(config.front.hosts, ["a.example", "b", "*"].map(|name| name.parse().unwrap()));
    assert_eq!(config.front.cors_origins, ["https://a.example".parse().unwrap()]);
    assert_eq!((config.front.idle.as_secs(), config.front.connections_max), (120, 20_000));
}

#[test]
fn variables_that_are_no_flags() {
    let variables = [(SRV_VARIABLE, "old.example"), (LOG_LEVEL_VARIABLE, "DEBUG")];
    let config = check(&[], &variables).expect("good variables");
    assert_eq!(config.srv, "old.example".parse().ok());
    assert_eq!(config.log.level, LevelFilter::DEBUG);
    let flags = ["--discover-srv=new.example", "--log-level=off"];
    let config = check(&flags, &variables).expect("flags win");
    assert_eq!(config.srv, "new.example".parse().ok());
    assert_eq!(config.log.level, LevelFilter::OFF);
    let variables = [(SRV_VARIABLE, "not a name"), (LOG_LEVEL_VARIABLE, "loud")];
    let problems = problems(&[], &variables);
    assert!(problems[0].starts_with("--discover-srv (from SERVICE_DISCOVERY_HOST):"));
    assert!(problems[1].starts_with("--log-level (from LOG_LEVEL):"), "{problems:?}");
}

#[test]
fn keys_come_from_a_file_or_from_a_variable() {
    const A: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
    const B: &str = "AQEBAQEBAQEBAQEBAQEBAQ==";
    let file = file(&format!("# two\n{A}\n{B}\n"));
    let path = format!("--encrypt-keys-file={}", file.path().display());
    let expected = Keyring::parse(&format!("{A},{B}")).expect("two keys");
    assert_eq!(config(&[&path]).keyring, expected);
    let both = check(&[&path], &[(KEYS_VARIABLE, B)]).expect("the flag wins");
    assert_eq!(both.keyring, expected);
    let variable = check(&[], &[(KEYS_VARIABLE, &format!("{A},{B}"))]).expect("two keys");
    assert_eq!(variable.keyring, expected);
    let problems = problems(&[], &[(KEYS_VARIABLE, "c2VjcmV0")]);
    let expected = "--encrypt-keys-file (from GOSSIPYKV_ENCRYPT_KEYS): line 1: key of 6 \
                    bytes; 16, 24 or 32 are possible";
    assert_eq!(problems, [expected]);
}

#[test]
fn a_token_comes_from_a_file_or_from_a_variable_and_is_never_shown() {
    let good = file("secret\n");
    let path = format!("--http-token-file={}", good.path().display());
    let token = Token::new("secret").map(TokenList::alone).ok();
    let config = check(&[&path], &[(TOKEN_VARIABLE, "other")]).expect("the flag wins");
    assert_eq!(config.front.tokens, token);
    assert!(!format!("{config:?}").contains("secret"));
    assert_eq!(check(&[], &[(TOKEN_VARIABLE, "secret")]).map(|c| c.front.tokens), Ok(token));
    let many = file("read r one\nwrite w two\n");
    let path = format!("--http-token-file={}", many.path().display());
    let tokens = check(&[&path], &[]).expect("two tokens").front.tokens.expect("tokens");
    assert_eq!((tokens.shown().len(), tokens.strongest()), (2, "two"));
    let bad = file("two secrets\n");
    let path = format!("--http-token-file={}", bad.path().display());
    let problems = problems(&[&path], &[]);
    assert!(problems[0].contains("line 1: neither the token") && !problems[0].contains("secrets"));
}

#[test]
fn every_flag_has_the_variable_of_its_name() {
    let command = AgentFlags::augment_args(clap::Command::new("agent"));
    for arg in command.get_arguments() {
        let variable = arg.get_env().and_then(OsStr::to_str);
        assert_eq!(variable, Some(&*variable_of(arg.get_id().as_str())));
        assert_eq!(arg.get_long(), Some(&*arg.get_id().as_str().replace('_', "-")));
        assert!(arg.is_hide_env_values_set(), "{variable:?} would be shown by --help");
    }
}
