//! `gossipykv watch`, against fixed streams and against real nodes.

use crate::agents::Node;
use crate::program::{Server, answer, command, run};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdout};

/// A watch that runs.
struct Watching {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Watching {
    fn start(args: &[&str], url: &str) -> Watching {
        let args = [&["watch", "--server", url], args].concat();
        let mut child = command(&args).spawn().expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("standard output"));
        Watching { child, out }
    }

    /// The next line that it prints.
    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        line.strip_suffix('\n').expect("a whole line").to_owned()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const V1: &str = "0000000000000001-0000000000000001";
const V2: &str = "0000000000000002-0000000000000001";

fn event(name: &str, key: &str, value: &str, version: &str) -> String {
    let event = json!({ "event": name, "key": key, "value": value, "version": version });
    format!("{event}\n")
}

fn sync(token: &str) -> String {
    format!("{{\"event\":\"sync\",\"token\":\"{token}\"}}\n")
}

#[test]
fn it_goes_on_where_it_was_and_prints_nothing_twice() {
    let first = event("put", "a", "1\n2", V1) + &sync("t1.one") + &event("put", "b", "cut", V1);
    let second = event("put", "a", "1\n2", V1)
        + &event("put", "b", "whole", V2)
        + &sync("t1.two")
        + "{\"event\":\"bye\",\"reason\":\"leaving\"}\n";
    let third = format!(
        "{{\"event\":\"reset\",\"reason\":\"too old\"}}\n{}{}",
        event("put", "a", "1", V1),
        sync("t1.three")
    );
    let bodies = [first, second, third].map(|body| answer(200, body.as_bytes()));
    let server = Server::start(bodies.to_vec());
    let mut watching = Watching::start(&["flags/"], &server.url());
    let expected = ["put\ta\t1\\n2", "put\tb\tcut", "put\tb\twhole", "reset\ttoo old", "put\ta\t1"];
    for line in expected {
        assert_eq!(watching.line(), line);
    }
    let asked: Vec<String> = server.asked().into_iter().map(|request| request.line).collect();
    let since = |token: &str| format!("GET /kv/?prefix=flags%2F&watch{token}");
    assert_eq!(asked, [since(""), since("&since=t1.one"), since("&since=t1.two")]);
}

#[test]
fn what_came_before_a_first_sync_does_not_count() {
    let first = event("put", "gone", "1", V1) + &event("put", "a", "1", V1);
    let second = event("put", "a", "1", V1) + &sync("t1.one");
    let bodies = [first, second].map(|body| answer(200, body.as_bytes()));
    let server = Server::start(bodies.to_vec());
    let mut watching = Watching::start(&["flags/"], &server.url());
    let reset = "reset\tthe stream ended before its first sync";
    for line in ["put\tgone\t1", "put\ta\t1", reset, "put\ta\t1", "delete\tgone"] {
        assert_eq!(watching.line(), line);
    }
}

#[test]
fn a_key_that_is_gone_after_a_reset_is_told_as_deleted_to_commands_too() {
    let first = event("put", "gone", "1", V1) + &event("put", "a", "1", V1) + &sync("t1.one");
    let second = format!(
        "{{\"event\":\"reset\",\"reason\":\"old\"}}\n{}{}",
        event("put", "a", "1", V1),
        sync("t1.two")
    );
    let bodies = [first, second].map(|body| answer(200, body.as_bytes()));
    let server = Server::start(bodies.to_vec());
    let mut watching = Watching::start(&["--exec", "cat"], &server.url());
    let lines: Vec<String> = (0..9).map(|_| watching.line()).collect();
    let count = |line: &str| lines.iter().filter(|found| *found == line).count();
    assert_eq!(count("reset\told"), 1, "{lines:?}");
    assert_eq!(count("delete\tgone"), 1, "{lines:?}");
    assert_eq!(count("{\"event\":\"delete\",\"key\":\"gone\"}"), 1, "{lines:?}");
}

#[test]
fn a_connection_that_has_lasted_as_long_as_it_may_is_no_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let mut watching = Watching::start(&["--timeout", "500ms"], &url);
    // Each stays open, so that nothing but the limit ends it.
    let open = [0; 3].map(|_| {
        let (mut stream, _) = listener.accept().expect("a watch");
        let lines = BufReader::new(&stream).lines().map(|line| line.expect("a head"));
        assert!(lines.take_while(|line| !line.is_empty()).count() > 0);
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
        stream.write_all((head.to_owned() + &sync("t1.one")).as_bytes()).expect("room");
        stream
    });
    watching.child.kill().expect("it runs");
    let mut err = String::new();
    let told = watching.child.stderr.take().expect("standard error").read_to_string(&mut err);
    told.expect("text");
    assert_eq!(err, "");
    drop(open);
}

#[test]
fn what_cannot_begin_is_an_error() {
    let refused = Server::start(vec![answer(400, b"{\"error\":\"since: no token\"}")]);
    let ended = run(&["watch", "--since", "x", "--server", &refused.url()]);
    assert!(ended.error(4).contains("since: no token"));
    let ended = run(&["watch", "--server", "http://127.0.0.1:1"]);
    assert_eq!(ended.code, Some(5));
    let html = Server::start(vec![answer(200, b"<h1>hello</h1>\n")]);
    let ended = run(&["watch", "--server", &html.url()]);
    assert!(ended.error(1).contains("no stream of events"));
    assert_eq!(run(&["watch", "p", "--key", "k"]).code, Some(2));
    assert_eq!(run(&["watch", "--key", ""]).code, Some(2));
}

#[test]
fn a_real_node_tells_what_changes() {
    let node = Node::start("n", &["--profile", "local"], &[]);
    node.await_ready();
    node.run(&["kv", "put", "flags/a", "on"]).success();
    let mut watching = Watching::start(&["flags/"], &node.url());
    assert_eq!(watching.line(), "put\tflags/a\ton");
    node.run(&["kv", "put", "other", "x"]).success();
    node.run(&["kv", "put", "flags/b", "off"]).success();
    assert_eq!(watching.line(), "put\tflags/b\toff");
    node.run(&["kv", "delete", "flags/a"]).success();
    assert_eq!(watching.line(), "delete\tflags/a");
    let mut json = Watching::start(&["--key", "flags/b", "--json", "--keys-only"], &node.url());
    let event: serde_json::Value = serde_json::from_str(&json.line()).expect("JSON");
    assert_eq!((&event["key"], event.get("value")), (&"flags/b".into(), None));
    let exec = ["--key", "flags/b", "--exec", "cat"];
    let mut running = Watching::start(&exec, &node.url());
    let lines = [running.line(), running.line()].concat();
    assert!(lines.contains("\"event\":\"put\"") && lines.contains("put\tflags/b\toff"), "{lines}");
}
