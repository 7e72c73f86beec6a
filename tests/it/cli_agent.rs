//! `agent` as a process: configuration, signals, exit codes, and the client commands against it.

use crate::agents::{Node, Running, pause, until};
use crate::program::{Ended, Server, answer, command, run, run_fed, run_with};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Signal, getuid};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

/// A user that owns nothing.
const OTHER_USER: u32 = 65_531;

/// What a process may take to end besides what it waits for, on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

#[track_caller]
fn problems(ended: &Ended, expected: &[&str]) {
    assert_eq!((ended.code, ended.text()), (Some(2), ""), "{ended:?}");
    let lines: Vec<&str> = ended.err.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        let line = line.strip_prefix("error: ").expect("a complaint");
        assert!(line.starts_with(expected), "{line:?} does not begin with {expected:?}");
    }
}

#[test]
fn all_problems_are_told_at_once_with_where_they_come_from() {
    let flags = ["agent", "--bind=here", "--join=a:0", "--tombstone-grace=1"];
    let variables = [
        ("GOSSIPYKV_BIND", "overruled"),
        ("GOSSIPYKV_HTTP", "there"),
        ("GOSSIPYKV_JOIN", "ok,b c,[::1"),
        ("SERVICE_DISCOVERY_HOST", "10.0.0.1"),
        ("GOSSIPYKV_ENCRYPT_KEYS", "c2VjcmV0"),
        ("GOSSIPYKV_GOSSIP_VERIFY_INCOMING", "no"),
        ("GOSSIPYKV_HTTP_TOKEN", "se cret"),
        ("LOG_LEVEL", "loud"),
        ("GOSSIPYKV_LABEL", ""),
    ];
    let ended = run_with(&flags, &variables);
    problems(
        &ended,
        &[
            "--bind: \"here\" is not ADDR:PORT",
            "--http (from GOSSIPYKV_HTTP): \"there\" is not ADDR:PORT",
            "--join: \"a:0\": the port is not a number from 1 to 65535",
            "--discover-srv (from SERVICE_DISCOVERY_HOST): \"10.0.0.1\": not a DNS name",
            "--encrypt-keys-file (from GOSSIPYKV_ENCRYPT_KEYS): line 1: key of 6 bytes",
            "--gossip-verify-incoming (from GOSSIPYKV_GOSSIP_VERIFY_INCOMING): \"no\" is neither",
            "--http-token-file (from GOSSIPYKV_HTTP_TOKEN): the token may hold",
            "--tombstone-grace: \"1\" is no duration",
            "--log-level (from LOG_LEVEL): \"loud\" is none of",
        ],
    );
    assert!(!ended.err.contains("c2VjcmV0") && !ended.err.contains("se cret"), "{ended:?}");
    let ended = run_with(&["agent"], &[("GOSSIPYKV_JOIN", "ok,b c,[::1")]);
    problems(&ended, &["--join (from GOSSIPYKV_JOIN): \"b c\": the host is neither"]);
    assert!(ended.err.contains("; \"[::1\": an IPv6 address"), "{ended:?}");
}

#[test]
fn usage_errors_name_the_flag() {
    for (args, expected) in [
        (&["agent", "--nam=x"][..], "unexpected argument '--nam' found; tip: a similar argument"),
        (&["agent", "--name"], "a value is required for '--name <NAME>'"),
        (
            &["agent", "--name=a", "--name=b"],
            "the argument '--name <NAME>' cannot be used multiple",
        ),
        (&["agent", "now"], "unexpected argument 'now'"),
        (&["dev", "--nodes", "0"], "--nodes: \"0\" is not a number from 1 to 64"),
        (&["dev", "--http-port", "7948"], "--http-port: its 3 ports from 7948 on meet"),
    ] {
        let ended = run(args);
        assert!(ended.error(2).starts_with(expected), "{args:?}: {ended:?}");
    }
}

#[test]
fn flags_win_over_variables_and_those_over_defaults() {
    let variables = [
        ("GOSSIPYKV_NAME", "overruled"),
        ("GOSSIPYKV_ADVERTISE", "127.0.0.9"),
        ("GOSSIPYKV_MAX_VALUE_BYTES", "3"),
        ("GOSSIPYKV_MAX_STORE_BYTES", ""),
        ("LOG_LEVEL", "error"),
        ("GOSSIPYKV_LOG_LEVEL", "info"),
    ];
    let mut node = Node::start("given", &[], &variables);
    let began = node.process.logged("gossip begins");
    assert_eq!(began["name"], "given");
    assert_eq!(began["advertise"], format!("127.0.0.9:{}", node.gossip.port()));
    assert_eq!(node.run(&["kv", "put", "k", "abc"]).code, Some(0));
    let refused = node.run(&["kv", "put", "k", "abcd"]);
    assert!(refused.error(4).contains("413 Payload Too Large: "), "{refused:?}");
}

#[test]
fn a_port_that_is_taken_is_one_line_that_names_the_flag() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listener.local_addr().expect("an address").to_string();
    for (flags, expected) in [
        (["--bind", &*taken, "--http", "127.0.0.1:0"], "--bind: "),
        (["--bind", "127.0.0.1:0", "--http", &taken], "--http: "),
    ] {
        let ended = run(&[&["agent", "--log-level", "off"], &flags[..]].concat());
        let line = ended.error(1);
        assert!(line.starts_with(expected) && line.contains(&taken), "{line}");
        assert!(line.contains("in use"), "{line}");
    }
}

#[test]
fn it_serves_before_it_finds_anybody_and_logs_to_standard_error_only() {
    let flags = ["--join", "127.0.0.1:1", "--discover-srv=none.invalid", "--leave-timeout=500ms"];
    let node = Node::start("lonely", &flags, &[]);
    assert_eq!(node.run(&["health"]).success(), "live\n");
    let version = node.run(&["kv", "put", "k", "v"]);
    assert!(version.success().trim_end().parse::<gossipykv::kv::Stamp>().is_ok());
    let refused = node.run(&["kv", "get", "k"]);
    assert!(refused.error(4).contains("503 Service Unavailable: this node is not ready"));
    let (status, health) = node.get("/health").expect("an answer");
    assert_eq!((status, health.contains("starting")), (503, true), "{health}");
    let health: serde_json::Value = serde_json::from_str(&health).expect("JSON");
    let why = health["why"].as_str().expect("a reason");
    assert!(node.run(&["health", "--ready"]).error(1).ends_with(why), "{why}");
    assert!(node.process.log().contains("this node is not ready"), "{}", node.process.log());
    let built = node.get("/version").expect("an answer").1;
    let line = run(&["version"]);
    let built: serde_json::Value = serde_json::from_str(&built).expect("JSON");
    for field in ["version", "buildhash", "builddate"] {
        let text = built[field].as_str().expect("text");
        assert!(line.success().contains(text), "{text} is not in {line:?}");
    }
    node.process.signal(Signal::TERM);
    let (ended, took) = node.process.end();
    // What it took ends with it, though others may be somewhere.
    assert_eq!((ended.code, ended.text()), (Some(1), ""), "{ended:?}");
    assert!(took < SLACK, "{took:?}");
    let is_log = |line: &&str| line.starts_with('{');
    let told: Vec<&str> = ended.err.lines().filter(|line| !is_log(line)).collect();
    assert!(matches!(told[..], [line] if line.contains("1 writes could not be")), "{told:?}");
}

#[test]
fn a_condition_is_not_judged_by_a_node_that_has_not_got_the_store() {
    let [a, b] = Node::cluster::<2>(&[], &[]);
    assert_eq!(a.run(&["kv", "put", "lock", "held-by-a"]).code, Some(0));
    let put = |node: &Node| {
        let client = gossipykv::discovery::fetch::client(vec![node.http], crate::agents::PATIENCE);
        let put = client.put(format!("{}/kv/lock/mine", node.url())).header("If-None-Match", "*");
        put.send_empty().expect("an answer").status().as_u16()
    };
    // It looks for the others at an address where they are only later.
    let [stranger, guest] = ["--serve-while-starting=false", "--serve-while-starting"]
        .map(|flag| Node::start("c", &["--join", "127.0.0.1:1", flag], &[]));
    assert_eq!((put(&stranger), put(&guest)), (503, 200));
    assert_eq!(guest.run(&["kv", "get", "lock"]).success(), "mine");
    let joined = Node::start("d", &["--join", &a.gossip.to_string()], &[]);
    let judged = until("it has got the store", || Some(put(&joined)).filter(|&put| put != 503));
    assert_eq!(judged, 412);
    for node in [&a, &b, &joined] {
        assert_eq!(node.run(&["kv", "get", "lock"]).success(), "held-by-a");
        assert_eq!(node.run(&["health", "--ready"]).success(), "ready\n");
    }
}

#[test]
fn it_may_open_as_many_files_as_the_system_permits() {
    let node = Node::start("n", &[], &[]);
    let pid = node.process.pid().as_raw_nonzero();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let columns: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(columns[3], columns[4], "{files}");
}

#[test]
fn log_formats_and_levels() {
    let ends = |flags: &[&str], message: &str| {
        let fixed = ["agent", "--bind=127.0.0.1:0", "--http=127.0.0.1:0"];
        let process = Running::start(&[&fixed, flags].concat(), &[]);
        until(message, || process.log().contains(message).then_some(()));
        process.signal(Signal::INT);
        process.end().0
    };
    let text = ends(&["--log-format=text"], " INFO serving ");
    assert_eq!(text.code, Some(0));
    assert!(!text.err.contains('\u{1b}') && !text.err.contains('{'), "{text:?}");
    let json = ends(&["--log-format=json", "--log-level=debug"], "\"message\":\"serving\"");
    assert!(json.err.lines().all(|line| line.starts_with('{')), "{json:?}");
}

#[test]
fn a_write_just_before_the_end_is_on_the_others_and_they_know_that_it_left() {
    let [a, b, c] = Node::cluster::<3>(&[], &[]);
    let mut moment = 0;
    for (leaving, signal) in [(a, Signal::TERM), (b, Signal::INT)] {
        moment += 1;
        let key = format!("k{moment}");
        let value = "v".repeat(4000);
        assert_eq!(leaving.run(&["kv", "put", &key, &value]).code, Some(0));
        leaving.process.signal(signal);
        let (ended, took) = leaving.process.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(took < Duration::from_secs(7), "{took:?}");
        assert_eq!(c.run(&["kv", "get", &key]).success(), value);
        until("it left", || c.sees(&format!("n{}", moment - 1), "left").then_some(()));
    }
}

/// Two nodes, the second of which is stopped, so that the first has to wait for it to leave.
fn with_a_stopped_peer(flags: &[&str]) -> (Node, Node) {
    let [node, peer] = Node::cluster::<2>(flags, &[]);
    peer.process.signal(Signal::STOP);
    (node, peer)
}

#[test]
fn readiness_turns_while_it_leaves() {
    let (mut node, _peer) = with_a_stopped_peer(&[]);
    until("ready", || (node.get("/health")?.0 == 200).then_some(()));
    assert_eq!(node.run(&["kv", "put", "k", "v"]).code, Some(0));
    node.process.signal(Signal::TERM);
    let leaving = until("an answer while it leaves", || {
        node.get("/health").filter(|(status, _)| *status == 503)
    });
    assert!(leaving.1.contains("leaving"), "{leaving:?}");
    node.process.logged("leaving the cluster");
    // The stopped peer has not taken the write, and says nothing.
    let ended = node.process.end().0;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("1 writes could not be handed over"), "{ended:?}");
}

#[test]
fn it_serves_on_for_the_drain_delay_and_hands_over_what_it_took() {
    let [node, peer] = Node::cluster::<2>(&["--drain-delay=1s"], &[]);
    node.process.signal(Signal::TERM);
    let turned =
        until("readiness turns", || node.get("/health").filter(|(status, _)| *status == 503));
    assert!(turned.1.contains("leaving"), "{turned:?}");
    let mut written = 0;
    while node.run(&["kv", "put", &format!("late{written}"), "v"]).code == Some(0) {
        written += 1;
    }
    let (ended, took) = node.process.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took < Duration::from_secs(1 + 5) + SLACK, "{took:?}");
    assert!(written > 0, "it took no write after readiness had turned");
    for number in 0..written {
        assert_eq!(peer.run(&["kv", "get", &format!("late{number}")]).success(), "v");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (second, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (mut node, _peer) = with_a_stopped_peer(&["--leave-timeout=60s", "--profile=wan"]);
        assert_eq!(node.run(&["kv", "put", "k", "v"]).code, Some(0));
        node.process.signal(Signal::TERM);
        node.process.logged("leaving the cluster");
        pause(Duration::from_millis(100));
        node.process.signal(second);
        let (ended, took) = node.process.end();
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(took < SLACK, "{took:?}");
        assert!(
            ended.err.lines().last().is_some_and(|line| line.starts_with("error: ended at once"))
        );
    }
}

#[test]
fn two_signals_in_one_breath_are_one() {
    let (node, _peer) = with_a_stopped_peer(&[]);
    assert_eq!(node.run(&["kv", "put", "k", "v"]).code, Some(0));
    node.process.signal(Signal::TERM);
    node.process.signal(Signal::INT);
    let (ended, took) = node.process.end();
    // Ended by signals it would be 130 or 143; the stopped peer has not taken the write.
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(took < Duration::from_secs(7), "{took:?}");
}

#[test]
fn clients_that_stall_do_not_keep_it() {
    let node = Node::start("n", &["--leave-timeout=0s"], &[]);
    let mut idle = TcpStream::connect(node.http).expect("a connection");
    idle.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n").expect("a request");
    let mut stalled = TcpStream::connect(node.http).expect("a connection");
    stalled
        .write_all(b"PUT /kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab")
        .expect("half");
    node.process.signal(Signal::TERM);
    let (ended, took) = node.process.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took < Duration::from_millis(2200), "{took:?}");
}

#[test]
fn ecs_metadata_gives_name_and_address() {
    let body = b"{\"DockerId\":\"0123abcd-42\",\"Networks\":[{\"IPv4Addresses\":[\"127.0.0.7\"]}]}";
    let server = Server::start(vec![answer(200, body)]);
    let flags = ["agent", "--bind=127.0.0.1:0", "--http=127.0.0.1:0"];
    let mut process = Running::start(&flags, &[("ECS_CONTAINER_METADATA_URI_V4", &server.url())]);
    let began = process.logged("gossip begins");
    assert_eq!(began["name"], "0123abcd-42");
    assert!(began["advertise"].as_str().is_some_and(|addr| addr.starts_with("127.0.0.7:")));
    assert_eq!(server.asked()[0].line, "GET /");
}

#[test]
fn a_token_is_wanted_by_everything_but_the_probes() {
    let node = Node::start("n", &[], &[("GOSSIPYKV_HTTP_TOKEN", "s3cret")]);
    assert_eq!(node.run(&["health"]).success(), "live\n");
    let refused = node.run(&["kv", "put", "k", "v"]);
    assert!(refused.error(4).contains("401 Unauthorized: "), "{refused:?}");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"s3cret\n").expect("room");
    let path = file.path().display().to_string();
    assert_eq!(node.run(&["kv", "put", "k", "v", "--token-file", &path]).code, Some(0));
    let variables = [("GOSSIPYKV_SERVER", &*node.url()), ("GOSSIPYKV_HTTP_TOKEN", "s3cret")];
    assert_eq!(run_with(&["kv", "get", "k"], &variables).success(), "v");
    assert!(!node.process.log().contains("s3cret"));
}

#[test]
fn keys_rotate_while_the_cluster_runs() {
    let [old, new] = [[1; 32], [2; 32]].map(|key: [u8; 32]| STANDARD.encode(key));
    let [a, b] = Node::cluster::<2>(&["--label=secret"], &[("GOSSIPYKV_ENCRYPT_KEYS", &old)]);
    let keys = |node: &Node, args: &[&str]| {
        let table = node.run(&[&["keys"], args].concat()).success().to_owned();
        let lines = table
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>());
        lines.collect::<Vec<_>>()
    };
    let begin = keys(&a, &["list"]);
    assert_eq!((begin.len(), begin[0].len()), (2, 1), "{begin:?}");
    assert_eq!(begin[0], begin[1]);
    let fed = run_fed(&["keys", "install", "-", "--server", &a.url()], new.as_bytes());
    assert_eq!(fed.code, Some(0), "{fed:?}");
    let refused = b.run(&["keys", "remove", &old]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    keys(&b, &["use", &new]);
    let both = keys(&a, &["list"]);
    assert!(both.iter().all(|keys| keys.len() == 2 && keys[1] == begin[0][0]), "{both:?}");
    keys(&a, &["remove", &old]);
    let end = keys(&b, &["list"]);
    assert!(end.iter().all(|keys| *keys == both[0][..1]), "{end:?}");
    // Over loopback alone nobody is believed, and every process of other users is told no secret.
    assert_eq!(a.get("/keys").expect("an answer").0, 403);
    if getuid().is_root() {
        let other = command(&["keys", "list", "--server", &a.url()]).uid(OTHER_USER).output();
        let other = other.expect("the program starts");
        let said = String::from_utf8_lossy(&other.stderr).into_owned();
        assert_eq!(other.status.code(), Some(4), "{said}");
        assert!(said.contains("to that user and to root only, not to user 65531"), "{said}");
    }
    assert_eq!(a.run(&["kv", "put", "after", "it"]).code, Some(0));
    until("it is replicated", || (b.run(&["kv", "get", "after"]).text() == "it").then_some(()));
    let logs = a.process.log() + &b.process.log();
    assert!(!logs.contains(&old) && !logs.contains(&new), "a key is in a log");
}

#[test]
fn the_client_commands_against_a_cluster() {
    let [a, b] = Node::cluster::<2>(&[], &[]);
    let value: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let key = "a/b ?#%\n\u{e9}";
    let put = run_fed(&["kv", "put", key, "-", "--server", &a.url()], &value);
    let version = put.success().to_owned();
    until("it is replicated", || (b.run(&["kv", "get", key]).out == value).then_some(()));
    assert_eq!(b.run(&["kv", "put", "a/c", "-1"]).code, Some(0));
    until("it is replicated", || (a.run(&["kv", "get", "a/c"]).text() == "-1").then_some(()));
    let listed = a.run(&["kv", "list", "a/c"]);
    assert_eq!(listed.success(), "a/c\n");
    let json = b.run(&["kv", "list", "--json"]);
    let first: serde_json::Value =
        serde_json::from_str(json.success().lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["key"], &first["version"]), (&key.into(), &version.trim_end().into()));
    assert_eq!(a.run(&["kv", "delete", key]).success(), "");
    assert_eq!(a.run(&["kv", "delete", key]).success(), "");
    assert_eq!(a.run(&["kv", "get", key]).error(3), format!("no such key: {key:?}"));
    let table = b.run(&["members"]);
    let rows: Vec<&str> = table.success().lines().collect();
    assert_eq!(rows.len(), 3, "{table:?}");
    assert!(rows[1..].iter().all(|row| row.contains("  alive  ") && row.ends_with("  yes")));
}

#[test]
fn list_goes_through_all_pages() {
    let node = Node::start("n", &["--log-level=info"], &[]);
    let client = gossipykv::discovery::fetch::client(vec![node.http], crate::agents::PATIENCE);
    for n in 0..2100 {
        let put = client.put(format!("{}/kv/k{n:04}/v", node.url())).send_empty();
        assert_eq!(put.expect("an answer").status(), 200);
    }
    let expected: String = (0..2100).map(|n| format!("k{n:04}\n")).collect();
    assert_eq!(node.run(&["kv", "list"]).success(), expected);
    assert_eq!(node.run(&["kv", "list", "k20"]).success().lines().count(), 100);
}
