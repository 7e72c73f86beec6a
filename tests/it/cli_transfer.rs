//! All keys at once: export, import, delete by prefix, list with sizes.

use crate::agents::{Node, until};
use crate::program::{Ended, Server, answer, command, run, run_fed};
use serde_json::Value;
use std::fmt::Write as _;
use std::process::Stdio;

/// Keys and values that something on the way could mistake.
fn odd_entries() -> Vec<(String, Vec<u8>)> {
    let keys = [
        ".",
        "..",
        "a/b",
        "a//b",
        "a%2Fb",
        "?x=1&key=y",
        "#",
        " ",
        "+",
        "\u{e9}",
        "\u{1F30D}",
        "-x",
    ];
    let mut entries: Vec<(String, Vec<u8>)> =
        keys.iter().map(|key| ((*key).to_owned(), (0..=255).collect())).collect();
    entries.extend((1..128_u8).map(|byte| (format!("byte {}", char::from(byte)), vec![byte])));
    entries.push(("empty".to_owned(), Vec::new()));
    entries.push(("large".to_owned(), (0..=255).cycle().take(1 << 20).collect()));
    entries
}

fn fill(node: &Node) -> String {
    let mut lines = String::new();
    for (key, value) in odd_entries() {
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &value);
        let mut line = serde_json::json!({ "key": key, "base64": base64 });
        if key.starts_with('a') {
            line["type"] = "text/x; a=\"b\"".into();
        }
        writeln!(lines, "{line}").expect("a string has room");
    }
    let ended = run_fed(&["kv", "import", "--server", &node.url()], lines.as_bytes());
    told(&ended, &format!("imported {n} lines: {n} written, 0 kept", n = odd_entries().len()));
    lines
}

#[track_caller]
fn told(ended: &Ended, expected: &str) {
    assert_eq!((ended.code, ended.text()), (Some(0), ""), "{ended:?}");
    assert!(ended.err.starts_with(expected) && ended.err.lines().count() == 1, "{ended:?}");
}

/// What is exported, without the versions, in the order of keys.
fn exported(node: &Node) -> Vec<Value> {
    let ended = node.run(&["kv", "export"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = ended.text().lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines
        .map(|mut line| {
            assert!(line["version"].as_str().is_some_and(|version| version.len() == 33), "{line}");
            line["version"] = Value::Null;
            line
        })
        .collect()
}

#[test]
fn what_is_exported_is_imported_elsewhere_byte_for_byte() {
    let [from, to] = [Node::start("from", &[], &[]), Node::start("to", &[], &[])];
    fill(&from);
    let copy = from.run(&["kv", "export"]);
    assert_eq!(copy.err.lines().count(), 1, "{}", copy.err);
    let ended = run_fed(&["kv", "import", "-", "--server", &to.url()], &copy.out);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(exported(&from), exported(&to));
    assert_eq!(exported(&to).len(), odd_entries().len());
    for (key, value) in odd_entries() {
        let got = run(&["kv", "get", "--server", &to.url(), "--", &key]);
        assert!(got.code == Some(0) && got.out == value, "{key:?}: {:?}", got.err);
    }
    // What `kv list --json` prints is read as well.
    let listed = from.run(&["kv", "list", "--json"]);
    let ended = run_fed(&["kv", "import", "--overwrite", "--server", &to.url()], &listed.out);
    let n = odd_entries().len();
    told(&ended, &format!("imported {n} lines: {n} written, 0 kept as they were, 0 refused; "));
    assert_eq!(exported(&from), exported(&to));
}

#[test]
fn an_import_overwrites_only_what_it_is_told_to() {
    let node = Node::start("n", &[], &[]);
    assert_eq!(node.run(&["kv", "put", "a", "newer"]).code, Some(0));
    let copy = b"{\"key\":\"a\",\"value\":\"older\"}\n{\"key\":\"b\",\"value\":\"2\"}\n";
    let import = |flags: &[&str]| {
        run_fed(&[&["kv", "import", "--server", &node.url()], flags].concat(), copy)
    };
    told(&import(&[]), "imported 2 lines: 1 written, 1 kept as they were, 0 refused; ");
    told(
        &import(&["--if-absent"]),
        "imported 2 lines: 0 written, 2 kept as they were, 0 refused; ",
    );
    assert_eq!(node.run(&["kv", "get", "a"]).text(), "newer");
    told(&import(&["--skip=1"]), "imported 1 lines: 0 written, 1 kept as they were, 0 refused; ");
    told(
        &import(&["--overwrite"]),
        "imported 2 lines: 2 written, 0 kept as they were, 0 refused; ",
    );
    assert_eq!(node.run(&["kv", "get", "a"]).text(), "older");
    let ended = import(&["--overwrite", "--json"]);
    let summary: Value = serde_json::from_str(ended.success()).expect("JSON");
    assert_eq!((&summary["lines"], &summary["written"]), (&2.into(), &2.into()));
}

#[test]
fn of_the_lines_of_one_key_the_last_one_wins_or_the_first() {
    let node = Node::start("n", &[], &[]);
    let copy: String =
        (0..3000).map(|n| format!("{{\"key\":\"k{}\",\"value\":\"{n:04}\"}}\n", n % 300)).collect();
    for (flags, expected) in [(&["--overwrite"][..], 2700..3000), (&[], 0..300)] {
        node.run(&["kv", "delete", "--prefix=k", "--yes"]);
        let url = node.url();
        let args = [&["kv", "import", "--server", &url], flags].concat();
        let ended = run_fed(&args, copy.as_bytes());
        told(&ended, "imported 3000 lines: ");
        let list = node.run(&["kv", "list", "--json"]);
        let value = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            line["value"].as_str().expect("text").parse::<usize>().expect("a number")
        };
        let mut values: Vec<usize> = list.text().lines().map(value).collect();
        values.sort_unstable();
        assert!(values.into_iter().eq(expected.clone()), "{flags:?}: not {expected:?}");
    }
}

#[test]
fn a_line_that_is_tried_again_comes_before_later_ones_of_its_key() {
    let closing = |status| answer(status, b"");
    let server = Server::start([503, 200, 200].map(closing).to_vec());
    let copy = b"{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"a\",\"value\":\"2\"}\n";
    let args = ["kv", "import", "--overwrite", "--server", &server.url()];
    told(&run_fed(&args, copy), "imported 2 lines: 2 written");
    let bodies: Vec<Vec<u8>> = server.asked().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [b"1", b"1", b"2"]);
}

#[test]
fn what_is_wrong_in_an_import_is_told_with_its_line() {
    let node = Node::start("n", &["--max-value-bytes=10"], &[]);
    let import = |copy: &str| run_fed(&["kv", "import", "--server", &node.url()], copy.as_bytes());
    let good = |key: &str| format!("{{\"key\":\"{key}\",\"value\":\"1\"}}\n");
    // One that the node refuses does not stop the others.
    let large = "{\"key\":\"x\",\"value\":\"more than ten bytes\"}\n";
    let ended = import(&[&good("a"), large, &good("b")].concat());
    let lines: Vec<&str> = ended.err.lines().collect();
    assert_eq!((ended.code, lines.len()), (Some(4), 3), "{ended:?}");
    assert!(lines[0].starts_with("line 2: ") && lines[0].contains("413"), "{ended:?}");
    assert!(lines[1].starts_with("imported 3 lines: 2 written, 0 kept as they were, 1 refused"));
    assert!(lines[2].ends_with("1 lines were refused"), "{ended:?}");
    // A line that is none stops it, and says where to go on.
    let ended = import(&[&good("c"), "{}\n", &good("d")].concat());
    let lines: Vec<&str> = ended.err.lines().collect();
    assert_eq!((ended.code, lines.len()), (Some(1), 3), "{ended:?}");
    assert_eq!(lines[1], "stopped; go on with --skip 1");
    assert!(lines[2].starts_with("error: line 2: no line of an export: "), "{ended:?}");
    assert_eq!(node.run(&["kv", "list"]).success(), "a\nb\nc\n");
}

#[test]
fn a_full_store_or_nobody_there_ends_an_import() {
    let node = Node::start("n", &["--max-store-bytes=2000"], &[]);
    let copy: String =
        (0..1000).map(|n| format!("{{\"key\":\"k{n}\",\"value\":\"{n:0100}\"}}\n")).collect();
    let ended = run_fed(&["kv", "import", "--server", &node.url()], copy.as_bytes());
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.err.contains("507 Insufficient Storage"), "{ended:?}");
    let args = ["kv", "import", "--timeout=300ms", "--server=http://127.0.0.1:1"];
    let ended = run_fed(&args, copy.as_bytes());
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.err.contains("Connection refused"), "{ended:?}");
    assert!(ended.err.contains("stopped; go on with --skip 0\n"), "{ended:?}");
}

#[test]
fn all_that_an_import_wrote_before_it_ended_is_counted() {
    let node = Node::start("n", &["--max-store-bytes=60000"], &[]);
    let line = |n: usize| {
        // Behind one that finds no room there are others that do.
        let len = if n.is_multiple_of(2) { 5_000 } else { 1 };
        format!("{{\"key\":\"k{n}\",\"value\":\"{}\"}}\n", "v".repeat(len))
    };
    let copy: String = (0..100).map(line).collect();
    let ended = run_fed(&["kv", "import", "--server", &node.url()], copy.as_bytes());
    assert!(ended.code == Some(4) && ended.err.contains("507 Insufficient"), "{ended:?}");
    let told = format!(" lines: {} written, 0 kept", node.metric("keys"));
    assert!(ended.err.contains(&told), "not {told}: {ended:?}");
}

#[test]
fn an_import_waits_for_a_node_that_is_not_ready_yet() {
    let other = Node::start("other", &[], &[]);
    let copy = b"{\"key\":\"a\",\"value\":\"1\"}\n";
    // It cannot judge a condition before it has copied the store.
    let seed = other.gossip.to_string();
    let node = Node::start("node", &["--join", &seed], &[]);
    let ended = run_fed(&["kv", "import", "--server", &node.url()], copy);
    told(&ended, "imported 1 lines: 1 written, ");
}

#[test]
fn an_export_goes_on_where_it_stopped() {
    let node = Node::start("n", &[], &[]);
    let copy: String =
        (0..2500).map(|n| format!("{{\"key\":\"k{n:04}\",\"value\":\"{n}\"}}\n")).collect();
    let ended = run_fed(&["kv", "import", "--server", &node.url()], copy.as_bytes());
    told(&ended, "imported 2500 lines: 2500 written");
    let whole = node.run(&["kv", "export"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("copy");
    // Stopped in the middle of a line.
    std::fs::write(&path, &whole.out[..whole.out.len() / 2]).expect("room");
    let path_text = path.display().to_string();
    let ended = node.run(&["kv", "export", "--output", &path_text, "--resume"]);
    assert_eq!((ended.code, ended.text()), (Some(0), ""), "{ended:?}");
    assert!(std::fs::read(&path).expect("the file") == whole.out, "not the same");
    let ended = node.run(&["kv", "export", "k24", "--output", &path_text]);
    assert!(ended.err.starts_with("exported 100 keys; "), "{ended:?}");
}

#[test]
fn an_export_is_not_gone_on_with_where_nothing_of_it_is_there() {
    let node = Node::start("n", &[], &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let part = folder.path().join(".copy.part");
    let lines = "{\"key\":\"k1\",\"value\":\"1\"}\n{\"key\":\"k2\",\"value\":\"2\"}\n";
    std::fs::write(&part, lines).expect("room");
    let path_text = folder.path().join("copy").display().to_string();
    let resume =
        |prefix: &str| node.run(&["kv", "export", prefix, "--resume", "--output", &path_text]);
    let refused = |prefix: &str, why: &str| {
        let ended = resume(prefix);
        assert!(ended.code == Some(1) && ended.err.contains(why), "{ended:?}");
        assert!(ended.err.contains("stopped; nothing was written\n"), "{ended:?}");
        assert_eq!(std::fs::read_to_string(&part).expect("the part"), lines);
    };
    refused("", "holds none of the keys that are in it, up to \"k2\": it was emptied");
    assert_eq!(node.run(&["kv", "put", "k3", "3"]).code, Some(0));
    refused("", "holds none of the keys");
    refused("j", "it ends with \"k2\", which is no \"j\"");
    // Of keys that come and go some are there.
    assert_eq!(node.run(&["kv", "put", "k0", "0"]).code, Some(0));
    let ended = resume("k");
    assert!(ended.code == Some(0) && ended.err.starts_with("exported 1 keys; "), "{ended:?}");
}

#[test]
fn an_export_that_fails_leaves_the_one_before_it_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("copy");
    std::fs::write(&path, "older\n").expect("room");
    let path_text = path.display().to_string();
    let export = |server: &str| run(&["kv", "export", "--output", &path_text, "--server", server]);
    let ended = export("http://127.0.0.1:1");
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.err.contains("stopped; nothing was written\n"), "{ended:?}");
    // In the middle, too.
    let page = br#"{"items":[{"key":"a","value":"1","version":"v"}],"next":"a","more":true}"#;
    let server = Server::start(vec![answer(200, page), answer(500, b"")]);
    let ended = export(&server.url());
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.err.contains("stopped; go on with --resume\n"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("text"), "older\n");
    let rest = br#"{"items":[{"key":"b","value":"2","version":"v"}],"next":null}"#;
    let server = Server::start(vec![answer(200, page), answer(200, rest)]);
    let args = ["kv", "export", "--resume", "--output", &path_text, "--server", &server.url()];
    assert_eq!(run(&args).code, Some(0));
    assert!(server.asked()[1].line.contains("after=a"));
    assert_eq!(std::fs::read_to_string(&path).expect("text").lines().count(), 2);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let page = br#"{"items":[{"key":"a","value":"1","version":"v"}],"next":null}"#;
    let export = |flags: &[&str], to: Stdio| {
        let server = Server::start(vec![answer(200, page)]);
        let url = server.url();
        let mut export = command(&[&["kv", "export", "--server", &url], flags].concat());
        let ended = export.stdout(to).output().expect("the program ends");
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        String::from_utf8(ended.stderr).expect("text")
    };
    let err = export(&["--output", "/dev/full"], Stdio::piped());
    assert!(err.contains("\nstopped; the last line may not be whole\n"), "{err}");
    assert!(err.ends_with("\nerror: /dev/full: No space left on device (os error 28)\n"), "{err}");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let err = export(&[], full.into());
    assert!(err.contains("\nerror: standard output: No space left on device"), "{err}");
}

#[test]
fn what_an_export_left_that_stopped_is_written_anew_and_that_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let [path, part] = ["copy", ".copy.part"].map(|name| folder.path().join(name));
    let path_text = path.display().to_string();
    let export =
        |server: &Server| run(&["kv", "export", "--output", &path_text, "--server", &server.url()]);
    // Cut off after a page that is longer than all that comes later.
    let long = "v".repeat(10_000);
    let page = format!(
        "{{\"items\":[{{\"key\":\"a\",\"value\":\"{long}\",\"version\":\"v\"}}],\"next\":\"a\"}}"
    );
    let cut = export(&Server::start(vec![answer(200, page.as_bytes()), answer(500, b"")]));
    assert!(cut.err.contains("stopped; go on with --resume\n"), "{cut:?}");
    assert!(!path.exists() && part.metadata().expect("there").len() > 10_000);
    // One that cannot begin leaves it, to be gone on with.
    let unmade = export(&Server::start(vec![answer(500, b"")]));
    assert!(unmade.code == Some(4) && part.exists(), "{unmade:?}");
    let rest = br#"{"items":[{"key":"b","value":"2","version":"v"}],"next":null}"#;
    let anew = export(&Server::start(vec![answer(200, rest)]));
    assert_eq!(anew.code, Some(0), "{anew:?}");
    let told = "copy.part: an export that stopped left it; it is written anew\n";
    assert!(anew.err.contains(told), "{anew:?}");
    let lines = std::fs::read_to_string(&path).expect("text");
    assert!(lines.lines().count() == 1 && lines.contains("\"b\""), "{lines}");
    assert!(!part.exists());
    // Without one there is nothing to tell.
    let again = export(&Server::start(vec![answer(200, rest)]));
    assert!(again.code == Some(0) && !again.err.contains("written anew"), "{again:?}");
}

#[test]
fn keys_are_deleted_by_prefix_after_a_yes() {
    let [a, b] = Node::cluster::<2>(&[], &[]);
    let copy: String =
        (0..2100).map(|n| format!("{{\"key\":\"user/{n:04}\",\"value\":\"{n}\"}}\n")).collect();
    let ended = run_fed(&["kv", "import", "--server", &a.url()], copy.as_bytes());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(a.run(&["kv", "put", "uses", "1"]).code, Some(0));
    let refused = a.run(&["kv", "delete", "--prefix", "user/"]);
    let expected = "--prefix: 2100 keys begin with \"user/\"; --yes deletes them";
    assert_eq!(refused.error(2), expected);
    let ended = a.run(&["kv", "delete", "--prefix", "user/", "--yes"]);
    told(&ended, "deleted 2100 keys; ");
    assert_eq!(a.run(&["kv", "list"]).success(), "uses\n");
    until("it is replicated", || (b.run(&["kv", "list"]).text() == "uses\n").then_some(()));
    let ended = a.run(&["kv", "delete", "--prefix", "use", "--yes", "--json"]);
    assert_eq!(ended.success(), "{\"deleted\":1}\n");
    assert!(run(&["kv", "delete", "k", "--prefix=k"]).error(2).contains("cannot be used with"));
}

#[test]
fn all_keys_are_deleted_only_when_that_is_said() {
    let node = Node::start("n", &[], &[]);
    for key in ["a", "b"] {
        assert_eq!(node.run(&["kv", "put", key, "1"]).code, Some(0));
    }
    // A variable of a script that is not set.
    let refused = node.run(&["kv", "delete", "--prefix", "", "--yes"]);
    let expected = "--prefix: it is empty, and every key begins so; --all deletes them all";
    assert_eq!(refused.error(2), expected);
    assert_eq!(node.run(&["kv", "list"]).success(), "a\nb\n");
    let refused = node.run(&["kv", "delete", "--all"]);
    assert_eq!(refused.error(2), "--all: there are 2 keys; --yes deletes them");
    for wrong in [&["k", "--all"][..], &["--prefix=k", "--all"], &["--all", "--w=all"], &["--yes"]]
    {
        assert_eq!(run(&[&["kv", "delete"], wrong].concat()).code, Some(2), "{wrong:?}");
    }
    told(&node.run(&["kv", "delete", "--all", "--yes"]), "deleted 2 keys; ");
    assert_eq!(node.run(&["kv", "list"]).success(), "");
}

#[test]
fn blank_lines_and_a_byte_order_mark_are_no_lines_of_an_import() {
    let node = Node::start("n", &[], &[]);
    let url = node.url();
    let import = |copy: &str, flags: &[&str]| {
        run_fed(&[&["kv", "import", "--server", &url], flags].concat(), copy.as_bytes())
    };
    let copy =
        "\u{feff}{\"key\":\"a\",\"value\":\"1\"}\r\n\r\n  \n{\"key\":\"b\",\"value\":\"2\"}\n\n";
    told(&import(copy, &[]), "imported 2 lines: 2 written");
    // They count where lines are numbered.
    let ended = import(&format!("{copy}{{}}\n"), &["--skip=1"]);
    assert!(ended.err.contains("error: line 6: ") && ended.err.contains("--skip 5"), "{ended:?}");
    told(&import(copy, &["--skip=5"]), "imported 0 lines: ");
    let ended = import(copy, &["--skip=6"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.ends_with("error: --skip: there are only 5 lines\n"), "{ended:?}");
    assert_eq!(import("\u{feff}", &[]).code, Some(0));
}

#[test]
fn a_long_list_has_sizes_times_and_types() {
    let node = Node::start("n", &[], &[]);
    assert_eq!(node.run(&["kv", "put", "a", "four", "--type=text/x"]).code, Some(0));
    assert_eq!(node.run(&["kv", "put", "b\nc", ""]).code, Some(0));
    let list = node.run(&["kv", "list", "--long"]);
    let rows: Vec<&str> = list.success().lines().collect();
    assert_eq!(rows.len(), 3, "{list:?}");
    assert_eq!(rows[0], "        SIZE  WRITTEN               KEY");
    let words: Vec<&str> = rows[1].split_whitespace().collect();
    assert_eq!((words[0], words[2], words[3]), ("4", "a", "text/x"), "{list:?}");
    assert!(words[1].starts_with("20") && words[1].ends_with('Z') && words[1].len() == 20);
    assert!(rows[2].ends_with("  b\\nc") && rows[2].starts_with("           0  "), "{list:?}");
}

#[test]
fn one_screen_says_how_a_node_stands() {
    let [a, _b] = Node::cluster::<2>(&["--max-store-bytes=1000000"], &[]);
    assert_eq!(a.run(&["kv", "put", "k", "v"]).code, Some(0));
    let screen = until("the peer has it", || {
        let screen = a.run(&["status"]).success().to_owned();
        screen.contains("yes  0\n").then_some(screen)
    });
    for line in [
        "node    http://127.0.0.1:",
        "ready   yes",
        "store   1 keys, 0 deletes",
        "memory  ",
        "clock   no write was stamped",
        "queues  HTTP: ",
        "MEMBER  ADDRESS",
        "n0      127.0.0.1:",
        "n1      127.0.0.1:",
    ] {
        assert!(screen.lines().any(|row| row.starts_with(line)), "no {line:?} in\n{screen}");
    }
    assert!(screen.contains(" of 976.56 KiB, 0 %"), "{screen}");
    let json: Value = serde_json::from_str(a.run(&["status", "--json"]).success()).expect("JSON");
    assert_eq!((&json["status"], &json["why"]), (&"ok".into(), &Value::Null));
    assert_eq!((&json["store"]["keys"], &json["lag_writes"]["n1"]), (&1.into(), &0.into()));
    assert_eq!(json["members"].as_array().map(Vec::len), Some(2));
    let alone = Node::start("alone", &["--join=127.0.0.1:1"], &[]);
    let screen = alone.run(&["status"]);
    assert!(screen.success().contains("\nready   no, starting: "), "{screen:?}");
}
