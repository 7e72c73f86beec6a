//! Settings that cannot be misread: misspelt variables, the line that tells each, the warnings.

use crate::agents::{Node, Running};
use crate::program::{run, run_with};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn a_variable_that_nobody_reads_is_an_error_that_names_the_nearest() {
    let misspelt = [
        ("GOSSIPYKV_ENCRYPT_KEY_FILE", "/run/key"),
        ("GOSSIPYKV_TOKEN", "s3cret"),
        ("GOSSIPYKV_EMPTY", ""),
    ];
    let expected = "\
error: GOSSIPYKV_ENCRYPT_KEY_FILE: no such variable; the nearest is GOSSIPYKV_ENCRYPT_KEYS_FILE
error: GOSSIPYKV_TOKEN: no such variable; the nearest is GOSSIPYKV_HTTP_TOKEN
";
    for args in [
        &["agent", "--bind=127.0.0.1:0", "--http=127.0.0.1:0"][..],
        &["kv", "get", "k"],
        &["members"],
        &["health"],
        &["dev"],
    ] {
        let ended = run_with(args, &misspelt);
        assert_eq!((ended.code, &*ended.err), (Some(2), expected), "{args:?}");
    }
    // With everything else that is wrong.
    let ended = run_with(&["agent", "--bind=here"], &misspelt);
    assert_eq!((ended.code, ended.err.lines().count()), (Some(2), 3), "{ended:?}");
    assert!(ended.err.starts_with("error: --bind: "), "{ended:?}");
}

#[test]
fn links_of_a_service_called_gossipykv_stop_nothing() {
    let links = [
        ("GOSSIPYKV_SERVICE_HOST", "10.96.0.7"),
        ("GOSSIPYKV_SERVICE_PORT_HTTP", "8080"),
        ("GOSSIPYKV_PORT", "tcp://10.96.0.7:8080"),
        ("GOSSIPYKV_PORT_7946_TCP_ADDR", "10.96.0.7"),
        ("GOSSIPYKV_GOSSIP_PORT_7947_UDP", "udp://10.96.0.8:7947"),
    ];
    let node = Node::start("n", &[], &links);
    let server = [("GOSSIPYKV_SERVER", &*node.url())];
    let ended = run_with(&["health"], &[&links[..], &server].concat());
    assert_eq!(ended.success(), "live\n");
}

/// The lines of the log of a level.
fn lines(process: &Running, level: &str) -> Vec<Value> {
    let lines = process.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["level"] == level).collect()
}

#[test]
fn one_line_tells_every_setting_and_where_it_came_from() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let key = STANDARD.encode([1; 32]);
    writeln!(file, "{key}").expect("room");
    let path = file.path().display().to_string();
    let flags = ["--encrypt-keys-file", &path, "--label=a b"];
    let variables = [
        ("GOSSIPYKV_HTTP_TOKEN", "s3cret"),
        ("GOSSIPYKV_TOMBSTONE_GRACE", "2h"),
        ("LOG_LEVEL", "debug"),
    ];
    let mut node = Node::start("n7", &flags, &variables);
    let line = node.process.logged("settings");
    let prints = gossipykv::wire::keyring::Keyring::parse(&key).expect("a key");
    let print = prints.keys()[0].fingerprint().to_owned();
    let told = |part: &str| line[part].as_str().unwrap_or_default().to_owned();
    let flags = format!(
        "--name=n7 --bind=127.0.0.1:0 --http=127.0.0.1:0 --label=\"a b\" \
         --encrypt-keys-file={path}"
    );
    assert_eq!(told("flags"), flags);
    assert_eq!(told("files"), format!("{path}=[{print}]"));
    assert!(told("found").starts_with("advertise=127.0.0.1:"), "{line}");
    let (token, rest) = told("variables")
        .split_once("] ")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("the token and more");
    assert!(token.starts_with("GOSSIPYKV_HTTP_TOKEN=[") && token.len() == 30, "{token}");
    assert_eq!(rest, "GOSSIPYKV_TOMBSTONE_GRACE=2h LOG_LEVEL=debug");
    for default in ["join=", "profile=lan", "leave-timeout=5s", "discover-srv="] {
        assert!(told("defaults").split(' ').any(|word| word == default), "{default}: {line}");
    }
    let log = node.process.log();
    assert!(!log.contains("s3cret") && !log.contains(&key), "a secret is in the log");
    // Every flag is told once.
    let all = ["flags", "variables", "found", "defaults"].map(told).join(" ");
    let help = run(&["agent", "--help"]).success().to_owned();
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    for flag in flags.filter_map(|line| line.split([' ', '[']).next()) {
        let variable = format!("GOSSIPYKV_{}=", flag.to_ascii_uppercase().replace('-', "_"));
        let told = all.contains(&format!("{flag}=")) || all.contains(&variable);
        let is_help = flag == "help";
        let stands_in = ["http-token-file", "log-level"].contains(&flag);
        assert!(told || stands_in || is_help, "--{flag} is not told: {all}");
    }
}

#[test]
fn what_is_open_to_others_is_warned_of() {
    let warnings = |flags: &[&str]| {
        let mut args = vec!["agent", "--name=n", "--log-format=json", "--advertise=127.0.0.1"];
        args.extend(flags);
        let mut process = Running::start(&args, &[]);
        process.logged("serving");
        let lines = lines(&process, "WARN");
        let message = |line: &Value| line["message"].as_str().unwrap_or_default().to_owned();
        lines.iter().map(message).collect::<Vec<_>>()
    };
    let open = warnings(&["--bind=0.0.0.0:0", "--http=0.0.0.0:0"]);
    assert_eq!(open.len(), 3, "{open:?}");
    assert!(open[0].starts_with("HTTP is open to everybody who reaches 0.0.0.0:0"), "{open:?}");
    assert!(open[1].starts_with("there is neither a gossip key nor a label"), "{open:?}");
    assert!(open[2].starts_with("gossip is not encrypted"), "{open:?}");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "{}", STANDARD.encode([1; 32])).expect("room");
    let path = file.path().display().to_string();
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        file.as_file().set_permissions(permissions).expect("a mode");
    };
    let flags = ["--bind=0.0.0.0:0", "--http=127.0.0.1:0", "--encrypt-keys-file", &path];
    mode(0o644);
    let readable = warnings(&flags);
    let expected = format!(
        "every user of this machine can read {path:?} (--encrypt-keys-file, mode 0644); chmod o-r"
    );
    assert_eq!(readable, [expected]);
    mode(0o640);
    assert_eq!(warnings(&flags), [""; 0]);
    assert_eq!(warnings(&["--bind=127.0.0.1:0", "--http=127.0.0.1:0"]), [""; 0]);
}
