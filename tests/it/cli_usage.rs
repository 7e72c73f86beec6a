//! Wrong usage: one line that names the flag and what was wrong, exit code 2.

use crate::program::{run, run_fed, run_with};

#[track_caller]
fn check(args: &[&str], expected: &str) {
    let ended = run(args);
    let line = ended.error(2);
    assert!(line.contains(expected), "{args:?}: {line}");
}

#[test]
fn commands() {
    check(&[], "requires a subcommand");
    check(&["kv"], "'gossipykv kv' requires a subcommand");
    check(&["keys"], "[subcommands: list, install, use, remove");
    check(&["inspect"], "[subcommands: packet, stream");
    check(&["serve"], "unrecognized subcommand 'serve'");
    check(&["kv", "gett", "a"], "tip: a similar subcommand exists: 'get'");
}

#[test]
fn arguments() {
    check(&["kv", "get"], "not provided: <KEY>");
    check(&["kv", "get", "a", "b"], "unexpected argument 'b'");
    check(&["kv", "get", "a", "--sever", "x"], "tip: a similar argument exists: '--server'");
    check(&["kv", "get", ""], "KEY: 1 to 512 bytes are possible, not 0");
    check(&["kv", "get", &"k".repeat(513)], "KEY: 1 to 512 bytes are possible, not 513");
    check(&["kv", "put", "a", "-x"], "unexpected argument '-x'");
    check(&["version", "now"], "unexpected argument 'now'");
    check(&["keygen", "--bits", "7"], "unexpected argument '--bits'");
}

#[test]
fn values_of_flags() {
    for wrong in ["", "https://", "https://a:x", "http://a:x", "ftp://a", "http://"] {
        let server = format!("--server={wrong}");
        check(&["members", &server], "'--server <URL>'");
        check(&["health", &server], "'--server <URL>'");
        check(&["kv", &server, "list"], "'--server <URL>'");
        check(&["keys", "list", &server], "'--server <URL>'");
    }
    check(&["members", "--server"], "a value is required for '--server <URL>'");
    check(&["members", "--timeout", "5"], "'--timeout <DURATION>': \"5\" is no duration");
    check(&["health", "--timeout=0s"], "'--timeout <DURATION>': \"0s\" is not between");
    check(&["members", "--token-file=/none"], "--token-file: \"/none\": No such file");
}

#[test]
fn values_of_variables() {
    let server = [("GOSSIPYKV_SERVER", "ftp://a")];
    let ended = run_with(&["members"], &server);
    assert!(ended.error(2).contains("'--server <URL>'"), "{ended:?}");
    let token = [("GOSSIPYKV_HTTP_TOKEN", "two words")];
    let ended = run_with(&["members"], &token);
    assert!(ended.error(2).starts_with("GOSSIPYKV_HTTP_TOKEN: the token may hold"), "{ended:?}");
    assert!(!ended.err.contains("two words"), "{ended:?}");
    let token = [("GOSSIPYKV_HTTP_TOKEN_FILE", "/none")];
    let ended = run_with(&["members"], &token);
    assert!(ended.error(2).starts_with("--token-file: \"/none\""), "{ended:?}");
}

#[test]
fn a_wrong_key_is_refused_without_being_shown_or_sent() {
    let ended = run(&["keys", "install", "c2VjcmV0", "--server=http://127.0.0.1:1"]);
    assert_eq!(ended.error(2), "KEY: not base64 of 16, 24 or 32 bytes");
    let ended = run_fed(&["keys", "use", "-", "--server=http://127.0.0.1:1"], b"c2VjcmV0\n");
    assert_eq!(ended.error(2), "KEY: not base64 of 16, 24 or 32 bytes");
    let ended = run(&["inspect", "packet", "--key=c2VjcmV0", "00"]);
    assert_eq!(ended.error(2), "--key, number 1: not base64 of 16, 24 or 32 bytes");
    let ended = run(&["inspect", "packet", "--key", "x", "--key", "y", "00"]);
    assert_eq!((ended.code, ended.err.lines().count()), (Some(2), 2), "{ended:?}");
}

#[test]
fn arguments_that_are_not_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let mut command = crate::program::command(&["kv", "get"]);
    let output = command.arg(OsStr::from_bytes(b"\xff")).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stderr, b"error: KEY: not UTF-8\n");
}
