//! The client commands against a server that gives fixed answers: what is asked, what is printed.

use crate::program::{Ended, Request, Server, answer, command, run, run_fed, run_with};
use std::io::{BufRead as _, BufReader, Write as _};

/// Runs a command against one fixed answer.
fn against(args: &[&str], status: u16, body: &[u8]) -> (Ended, Request) {
    let server = Server::start(vec![answer(status, body)]);
    let url = server.url();
    let ended = run(&[args, &["--server", &url]].concat());
    (ended, server.asked().remove(0))
}

#[test]
fn get_prints_the_bytes_as_they_are() {
    let value: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let (ended, asked) = against(&["kv", "get", "a/b c\u{e9}"], 200, &value);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    assert!(ended.out == value, "not the bytes");
    assert_eq!(asked.line, "GET /kv?key=a%2Fb%20c%C3%A9&raw");
    assert_eq!(asked.header("authorization"), None);
}

#[test]
fn a_missing_key_is_one_line_and_exit_code_3() {
    let (ended, _) = against(&["kv", "get", "a\nb"], 404, b"{\"error\":\"no such key: a\"}");
    assert_eq!(ended.error(3), "no such key: \"a\\nb\"");
}

#[test]
fn a_404_of_another_server_is_no_missing_key() {
    for (body, expected) in [
        (&b"<h1>Not Found</h1>"[..], "404 Not Found: not a GossipyKV answer"),
        (b"", "404 Not Found: not a GossipyKV answer"),
    ] {
        let (ended, _) = against(&["kv", "get", "k"], 404, body);
        assert!(ended.error(1).contains(expected), "{ended:?}");
        let (ended, _) = against(&["kv", "list"], 404, body);
        assert!(ended.error(1).contains(expected), "{ended:?}");
    }
    // Of ours, below a wrong path.
    let body = b"{\"error\":\"no such route: /a/kv/k; GET / lists them\"}";
    let (ended, _) = against(&["kv", "get", "k"], 404, body);
    assert!(ended.error(4).contains("no such route: /a/kv/k"), "{ended:?}");
}

#[test]
fn get_as_json_has_type_and_version() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\netag: W/\"1-2\"\r\nconnection: close\r\n";
    let check = |kept: &str, value: &[u8], expected: &str| {
        let answer = [head.as_bytes(), kept.as_bytes(), b"\r\n", value].concat();
        let server = Server::start(vec![answer]);
        let ended = run(&["kv", "get", "k", "--json", "--server", &server.url()]);
        assert_eq!(ended.success(), format!("{expected}\n"));
        assert_eq!(server.asked()[0].line, "GET /kv/k?raw");
    };
    let typed = r#"{"key":"k","type":"text/a","value":"ab","version":"1-2"}"#;
    check("content-type: text/a\r\n", b"ab", typed);
    let bytes = r#"{"base64":"//4=","key":"k","version":"1-2"}"#;
    check("content-type: application/octet-stream\r\n", b"\xff\xfe", bytes);
}

#[test]
fn what_a_write_may_ask_for_is_sent() {
    let body = b"{\"key\":\"k\",\"size\":1,\"version\":\"1-2\"}";
    let put = |flags: &[&str]| against(&[&["kv", "put", "k", "v"], flags].concat(), 200, body);
    let (ended, asked) = put(&["--w", "majority", "--w-timeout=1m", "--type", "a/b", "--json"]);
    assert_eq!(ended.success().trim_end(), std::str::from_utf8(body).expect("text"));
    assert_eq!(asked.line, "PUT /kv/k?w=majority&timeout=60000ms");
    assert_eq!(asked.header("content-type"), Some("a/b"));
    let (_, asked) = put(&["--if-match", "1-1"]);
    assert_eq!(asked.header("if-match"), Some("\"1-1\""));
    let (_, asked) = put(&["--if-absent"]);
    assert_eq!(asked.header("if-none-match"), Some("*"));
    let (_, asked) = against(&["kv", "delete", "k", "--if-match=1-1", "--w=2"], 200, b"");
    assert_eq!((&*asked.line, asked.header("if-match")), ("DELETE /kv/k?w=2", Some("\"1-1\"")));
    let unmet = b"{\"error\":\"the key is absent on this node\"}";
    let (ended, _) = against(&["kv", "put", "k", "v", "--if-match=1-1"], 412, unmet);
    assert!(ended.error(4).ends_with("412 Precondition Failed: the key is absent on this node"));
    let short = b"{\"error\":\"the write stands\"}";
    let (ended, _) = against(&["kv", "put", "k", "v", "--w=3"], 504, short);
    assert!(ended.error(1).ends_with("504 Gateway Timeout: the write stands"), "{ended:?}");
}

#[test]
fn put_sends_the_value_and_prints_the_version() {
    let body = b"{\"key\":\"k\",\"size\":5,\"version\":\"01-02\"}";
    let (ended, asked) = against(&["kv", "put", "k", "-5"], 200, body);
    assert_eq!(ended.success(), "01-02\n");
    assert_eq!((&*asked.line, &*asked.body), ("PUT /kv/k", &b"-5"[..]));
    assert_eq!(asked.header("content-type"), None);

    let args = ["kv", "put", "k", "{}", "--content-type", "application/json"];
    let (ended, asked) = against(&args, 200, body);
    assert_eq!(ended.success(), "01-02\n");
    assert_eq!(asked.header("content-type"), Some("application/json"));

    let (_, asked) = against(&["kv", "put", "k", ""], 200, body);
    assert_eq!((asked.header("content-length"), asked.body.len()), (Some("0"), 0));
}

#[test]
fn put_reads_standard_input() {
    let value: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    for args in [&["kv", "put", "k", "-"][..], &["kv", "put", "k"]] {
        let server = Server::start(vec![answer(200, b"{\"version\":\"1-1\"}")]);
        let ended = run_fed(&[args, &["--server", &server.url()]].concat(), &value);
        assert_eq!(ended.success(), "1-1\n");
        assert!(server.asked()[0].body == value, "not the bytes");
    }
    let server = "--server=http://127.0.0.1:1";
    let ended = run_fed(&["kv", "put", "k", "-", server], &vec![0; (16 << 20) + 1]);
    assert_eq!(ended.error(1), "standard input: a value has at most 16777216 bytes");
}

#[test]
fn delete_says_nothing() {
    let (ended, asked) = against(&["kv", "delete", ".."], 200, b"");
    assert_eq!(ended.success(), "");
    assert_eq!(asked.line, "DELETE /kv?key=%2E%2E");
}

#[test]
fn list_follows_the_pages() {
    let pages = [
        &b"{\"items\":[{\"key\":\"a/1\"},{\"key\":\"a/2\"}],\"next\":\"a/2\"}"[..],
        b"{\"items\":[{\"key\":\"a/3\"}],\"next\":null}",
    ];
    let server = Server::start(pages.map(|page| answer(200, page)).to_vec());
    let ended = run(&["kv", "list", "a/", "--server", &server.url()]);
    assert_eq!(ended.success(), "a/1\na/2\na/3\n");
    let lines: Vec<String> = server.asked().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["GET /kv/?prefix=a%2F&keys", "GET /kv/?prefix=a%2F&after=a%2F2&keys"]);
}

#[test]
fn list_as_json_prints_one_item_a_line() {
    let page =
        b"{\"items\":[{\"key\":\"a\\nb\",\"value\":\"1\",\"version\":\"1-1\"}],\"next\":null}";
    let (ended, asked) = against(&["kv", "list", "--json"], 200, page);
    assert_eq!(ended.success(), "{\"key\":\"a\\nb\",\"value\":\"1\",\"version\":\"1-1\"}\n");
    assert_eq!(asked.line, "GET /kv/?prefix=");
}

#[test]
fn a_server_that_turns_in_circles_is_left() {
    let page = answer(200, b"{\"items\":[],\"next\":\"a\"}");
    let server = Server::start(vec![page.clone(), page]);
    let ended = run(&["kv", "list", "--server", &server.url()]);
    assert!(ended.error(1).ends_with("the answer is no page of keys in order"), "{ended:?}");
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let items: Vec<String> = (0..50_000).map(|n| format!("{{\"key\":\"{n:0100}\"}}")).collect();
    let page = format!("{{\"items\":[{}],\"next\":null}}", items.join(","));
    let server = Server::start(vec![answer(200, page.as_bytes())]);
    let mut child = command(&["kv", "list", "--server", &server.url()]).spawn().expect("a start");
    let mut line = String::new();
    BufReader::with_capacity(64, child.stdout.take().expect("its output"))
        .read_line(&mut line)
        .expect("a line");
    let output = child.wait_with_output().expect("an end");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
    assert_eq!(server.asked().len(), 1);
}

const MEMBERS: &[u8] = b"{\"members\":[\
    {\"name\":\"n0\",\"address\":\"127.0.0.1:7947\",\"state\":\"alive\",\"incarnation\":7,\
    \"kv\":true},\
    {\"name\":\"n\\u001b[2J\",\"address\":\"[::1]:7947\",\"state\":\"left\",\"incarnation\":1,\
    \"kv\":false}]}";

#[test]
fn members_as_a_table() {
    let (ended, asked) = against(&["members"], 200, MEMBERS);
    let expected = "\
NAME        ADDRESS         STATE  INCARNATION  KV
n0          127.0.0.1:7947  alive  7            yes
n\\u{1b}[2J  [::1]:7947      left   1            no
";
    assert_eq!(ended.success(), expected);
    assert_eq!(asked.line, "GET /members");
}

#[test]
fn members_as_json() {
    let (ended, _) = against(&["members", "--json"], 200, MEMBERS);
    let printed: serde_json::Value = serde_json::from_str(ended.success()).expect("JSON");
    assert_eq!(printed, serde_json::from_slice::<serde_json::Value>(MEMBERS).expect("JSON"));
    assert_eq!(ended.text().lines().count(), 1);
}

#[test]
fn health_asks_whether_the_node_is_live() {
    let (ended, asked) = against(&["health"], 200, b"{\"status\":\"ok\"}");
    assert_eq!(ended.success(), "live\n");
    assert_eq!(asked.line, "GET /live");
    let (ended, _) = against(&["health"], 503, b"{\"status\":\"stuck\"}");
    assert!(ended.error(1).contains("503 Service Unavailable"), "{ended:?}");
    let (ended, asked) = against(&["health", "--ready"], 200, b"{\"status\":\"ok\"}");
    assert_eq!((ended.success(), &*asked.line), ("ready\n", "GET /health"));
    let (ended, asked) = against(&["health", "--live", "--json"], 200, b"{\"status\":\"ok\"}");
    assert_eq!((ended.success(), &*asked.line), ("{\"status\":\"ok\"}\n", "GET /live"));
    let body = b"{\"status\":\"starting\",\"why\":\"nobody is there\"}";
    let (ended, _) = against(&["health", "--ready"], 503, body);
    assert!(ended.error(1).ends_with("503 Service Unavailable: nobody is there"), "{ended:?}");
}

#[test]
fn every_command_finds_the_agent_of_the_same_environment() {
    for (args, body) in [
        (&["health"][..], &b""[..]),
        (&["kv", "get", "k"], b""),
        (&["kv", "list"], b"{\"items\":[],\"next\":null}"),
        (&["members"], b"{\"members\":[]}"),
        (&["keys", "list"], b"{\"members\":[]}"),
    ] {
        let server = Server::start(vec![answer(200, body)]);
        let port = server.url().rsplit(':').next().map(|port| format!("0.0.0.0:{port}"));
        let ended = run_with(args, &[("GOSSIPYKV_HTTP", &port.expect("a port"))]);
        assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{args:?}: {ended:?}");
        assert_eq!(server.asked().len(), 1);
    }
    let ended = run_with(&["members"], &[("GOSSIPYKV_HTTP", "8080")]);
    assert!(ended.error(2).starts_with("GOSSIPYKV_HTTP: \"8080\" is not ADDR:PORT"), "{ended:?}");
}

#[test]
fn every_command_has_the_same_flags_of_the_connection() {
    let commands = [
        &["kv", "get"][..],
        &["kv", "put"],
        &["kv", "delete"],
        &["kv", "list"],
        &["kv", "export"],
        &["kv", "import"],
        &["members"],
        &["status"],
        &["health"],
        &["keys", "list"],
        &["keys", "install"],
    ];
    for command in commands {
        let help = run(&[command, &["--help"]].concat()).success().to_owned();
        for flag in ["--server <URL>", "--token-file <PATH>", "--timeout <DURATION>", "--json"] {
            assert!(help.contains(flag), "{command:?} has no {flag}");
        }
    }
}

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

#[test]
fn keys_are_listed_by_member_in_order() {
    let body = b"{\"members\":[{\"name\":\"n1\",\"keys\":[\"ccdd\"]},\
                 {\"name\":\"n0\",\"keys\":[\"aabb\",\"ccdd\"]}]}";
    let (ended, asked) = against(&["keys", "list"], 200, body);
    assert_eq!(ended.success(), "MEMBER  KEYS\nn0      aabb ccdd\nn1      ccdd\n");
    assert_eq!(asked.line, "GET /keys");
    let (ended, _) = against(&["keys", "list", "--json"], 200, body);
    let expected =
        r#"{"members":[{"keys":["aabb","ccdd"],"name":"n0"},{"keys":["ccdd"],"name":"n1"}]}"#;
    assert_eq!(ended.success(), format!("{expected}\n"));
}

#[test]
fn keys_are_sent_and_a_member_that_failed_fails_the_command() {
    let body = b"{\"members\":[{\"name\":\"n0\",\"keys\":[\"aabb\"]},\
                 {\"name\":\"n1\",\"error\":\"no answer\"}]}";
    for verb in ["install", "use", "remove"] {
        let (ended, asked) = against(&["keys", verb, KEY], 200, body);
        assert_eq!(ended.code, Some(1));
        assert_eq!(ended.complaint(), "not done on n1; the table says why");
        assert_eq!(ended.text(), "MEMBER  KEYS\nn0      aabb\nn1      failed: no answer\n");
        assert_eq!(asked.line, format!("POST /keys/{verb}"));
        assert_eq!(asked.body, format!("{{\"key\":\"{KEY}\"}}").into_bytes());
        assert_eq!(asked.header("content-type"), Some("application/json"));
    }
}

#[test]
fn a_key_is_read_from_standard_input() {
    let server = Server::start(vec![answer(200, b"{\"members\":[]}")]);
    let args = ["keys", "install", "-", "--server", &server.url()];
    let ended = run_fed(&args, format!(" {KEY}\n").as_bytes());
    assert_eq!(ended.success(), "MEMBER  KEYS\n");
    assert_eq!(server.asked()[0].body, format!("{{\"key\":\"{KEY}\"}}").into_bytes());
}

#[test]
fn errors_are_told_in_the_words_of_the_server() {
    let check = |status: u16, body: &[u8], expected: &str| {
        for args in [&["kv", "put", "k", "v"][..], &["members"], &["keys", "list"]] {
            let (ended, _) = against(args, status, body);
            let line = ended.error(4);
            let (_, said) = line.split_once("http://127.0.0.1:").expect("the server");
            let (_, said) = said.split_once(": ").expect("what it said");
            assert_eq!(said, expected, "{args:?}");
        }
    };
    let words = b"{\"error\":\"a value has at most 1048576 bytes\"}";
    check(413, words, "413 Payload Too Large: a value has at most 1048576 bytes");
    check(401, b"{\"error\":\"token wanted\"}", "401 Unauthorized: token wanted");
    check(502, b"<h1>\r\nBad</h1>\n", "502 Bad Gateway: <h1>\\r\\nBad</h1>");
    check(507, b"", "507 Insufficient Storage");
}

#[test]
fn answers_of_something_else_than_a_node() {
    let (ended, _) = against(&["members"], 200, b"<html>");
    assert!(ended.error(1).contains("the answer is not the table of members"), "{ended:?}");
    let (ended, _) = against(&["kv", "list"], 200, b"[]");
    assert!(ended.error(1).contains("the answer is not a page of keys"), "{ended:?}");
    let server = Server::start(vec![b"SSH-2.0-x\r\n".to_vec()]);
    let ended = run(&["kv", "get", "k", "--server", &server.url()]);
    assert!(ended.error(1).starts_with(&server.url()), "{ended:?}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn an_answer_cut_short_is_a_failure() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec();
    let server = Server::start(vec![cut]);
    let ended = run(&["kv", "get", "k", "--server", &server.url()]);
    assert_eq!((ended.code, ended.text()), (Some(5), "half"));
    assert!(ended.complaint().starts_with(&server.url()), "{ended:?}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn nobody_there() {
    let ended = run(&["health", "--server=http://127.0.0.1:1"]);
    assert_eq!(ended.error(1), "http://127.0.0.1:1: Connection refused (os error 111)");
    let ended = run(&["members", "--server=http://localhost:1"]);
    assert_eq!(ended.error(5), "http://localhost:1: Connection refused (os error 111)");
    let ended = run_with(&["kv", "get", "k"], &[("GOSSIPYKV_HTTP", "0.0.0.0:1")]);
    assert_eq!(ended.error(5), "http://127.0.0.1:1: Connection refused (os error 111)");
    // The port that was tried is told, also where nobody gave one.
    let ended = run(&["keys", "list", "--server=127.0.0.9"]);
    assert_eq!(ended.error(5), "http://127.0.0.9:8080: Connection refused (os error 111)");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let ended = run(&["health", "--timeout=100ms", "--server", &url]);
    assert_eq!(ended.error(1), format!("{url}: no answer within 100ms"));
}

#[test]
fn the_name_localhost_needs_no_resolver() {
    let server = Server::start(vec![answer(200, b"")]);
    let url = server.url().replace("127.0.0.1", "localhost");
    assert_eq!(run(&["health", "--server", &url]).success(), "live\n");
    assert_eq!(server.asked()[0].header("host"), url.strip_prefix("http://"));
}

#[test]
fn the_token_is_sent_and_flags_win_over_variables() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"from-file\n").expect("room");
    let path = file.path().display().to_string();
    let check = |args: &[&str], variables: &[(&str, &str)], expected: &str| {
        let server = Server::start(vec![answer(200, b"{\"members\":[]}")]);
        let url = server.url();
        let wrong = [("GOSSIPYKV_SERVER", "http://127.0.0.1:1")];
        let args = [args, &["--server", &url]].concat();
        let ended = run_with(&args, &[variables, &wrong].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(server.asked()[0].header("authorization"), Some(expected));
    };
    let value = ("GOSSIPYKV_HTTP_TOKEN", "from-variable");
    check(&["members", "--token-file", &path], &[value], "Bearer from-file");
    check(&["members"], &[("GOSSIPYKV_HTTP_TOKEN_FILE", &path)], "Bearer from-file");
    check(&["members"], &[value], "Bearer from-variable");
    check(&["members"], &[value, ("GOSSIPYKV_HTTP_TOKEN_FILE", "")], "Bearer from-variable");
}

#[test]
fn the_server_of_the_environment_is_asked() {
    let server = Server::start(vec![answer(200, b"v")]);
    let ended = run_with(&["kv", "get", "k"], &[("GOSSIPYKV_SERVER", &server.url())]);
    assert_eq!(ended.success(), "v");
    assert_eq!(server.asked().len(), 1);
}
