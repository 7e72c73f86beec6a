//! Help: complete and with an example on every level, and the version.

use crate::program::{run, run_with};

/// Every command by its words, groups included.
fn levels(command: &clap::Command, path: &[String]) -> Vec<(Vec<String>, clap::Command)> {
    let mut found = vec![(path.to_vec(), command.clone())];
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path = [path, &[sub.get_name().to_owned()]].concat();
        found.extend(levels(sub, &path));
    }
    found
}

#[test]
fn every_level_explains_itself_with_an_example() {
    let levels = levels(&gossipykv::cli::command(), &[]);
    let words: Vec<String> = levels.iter().map(|(path, _)| path.join(" ")).collect();
    for expected in [
        "",
        "agent",
        "dev",
        "kv",
        "kv get",
        "kv put",
        "kv delete",
        "kv list",
        "kv export",
        "kv import",
        "status",
        "bench",
        "members",
        "members forget",
        "health",
        "keygen",
        "keys",
        "keys list",
        "keys install",
        "keys use",
        "keys remove",
        "inspect",
        "inspect packet",
        "inspect stream",
        "sim",
        "version",
        "man",
        "completions",
    ] {
        assert!(words.iter().any(|words| words == expected), "no command {expected:?}");
    }
    for (path, command) in levels {
        let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = run(&args).success().to_owned();
        assert!(help.contains("Example") && help.contains("gossipykv"), "{path:?}:\n{help}");
        assert!(help.contains("Usage:"), "{path:?}");
        for line in help.lines() {
            assert!(line.chars().count() <= 100 && line == line.trim_end(), "{path:?}: {line:?}");
        }
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{path:?}: {} is not explained", arg.get_id());
            if let Some(long) = arg.get_long() {
                assert!(help.contains(&format!("--{long}")), "{path:?}: --{long}");
            }
        }
        for sub in command.get_subcommands() {
            assert!(help.contains(sub.get_name()), "{path:?}: {}", sub.get_name());
        }
    }
}

#[test]
fn help_shows_variables_but_not_what_they_hold() {
    let help = run_with(&["kv", "--help"], &[("GOSSIPYKV_SERVER", "http://mine:1")]);
    let help = help.success();
    assert!(help.contains("[env: GOSSIPYKV_SERVER]"), "{help}");
    assert!(!help.contains("mine"), "{help}");
}

#[test]
fn the_version_has_a_commit_and_a_date() {
    let version = run(&["version"]).success().to_owned();
    let start = concat!("gossipykv ", env!("CARGO_PKG_VERSION"), " (commit ");
    let rest = version.strip_prefix(start).and_then(|rest| rest.strip_suffix(")\n"));
    let (commit, date) = rest.and_then(|rest| rest.split_once(", ")).expect("commit and date");
    assert!(!commit.is_empty() && !commit.contains(' '), "{version}");
    assert!(date == "unknown" || (date.len() == 20 && date.ends_with('Z')), "{version}");
    assert_eq!(run(&["--version"]).success(), version);
    assert_eq!(run(&["-V"]).success(), version);
}

#[test]
fn a_fresh_key_is_32_bytes_of_base64_and_never_the_same() {
    let [a, b] = [(); 2].map(|()| run(&["keygen"]).success().to_owned());
    assert_ne!(a, b);
    let ring = gossipykv::wire::keyring::Keyring::parse(&a).expect("a key");
    assert_eq!((ring.keys().len(), a.len()), (1, 45));
}

#[test]
fn shells_and_man_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).success().to_owned();
        for word in ["members", "export", "overwrite", "encrypt-keys-file"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man1");
    assert_eq!(run(&["man", &pages.display().to_string()]).success(), "");
    for (path, command) in levels(&gossipykv::cli::command(), &[]) {
        let name = [&["gossipykv".to_owned()][..], &path].concat().join("-");
        let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).expect(&name);
        for flag in command.get_arguments().filter_map(|arg| arg.get_long()) {
            assert!(page.contains(&flag.replace('-', "\\-")), "{name} does not tell --{flag}");
        }
    }
    let nowhere = run(&["man", "/proc/nowhere"]);
    assert!(nowhere.error(1).starts_with("/proc/nowhere: "), "{nowhere:?}");
}
