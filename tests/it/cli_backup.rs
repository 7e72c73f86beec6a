//! A copy outside the cluster, and back: `backup`, `restore`, `check`. Of S3 here only what needs
//! none; tests/deploy has the rest.

use crate::agents::Node;
use crate::program::{Ended, run, run_fed, run_with};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// The lines of all keys, without their versions.
fn held(node: &Node) -> Vec<Value> {
    let export = node.run(&["kv", "export"]);
    assert_eq!(export.code, Some(0), "{export:?}");
    let lines = export.text().lines().map(serde_json::from_str::<Value>);
    let mut lines: Vec<Value> = lines.map(|line| line.expect("JSON")).collect();
    for line in &mut lines {
        line["version"] = Value::Null;
    }
    lines
}

fn put(node: &Node, args: &[&str]) {
    let ended = node.run(&[&["kv", "put"], args].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[track_caller]
fn done(ended: &Ended, expected: &str) {
    assert!(ended.code == Some(0) && ended.err.contains(expected), "{expected}: {ended:?}");
}

#[track_caller]
fn failed(ended: &Ended, code: i32, expected: &str) {
    assert!(ended.code == Some(code) && ended.err.contains(expected), "{expected}: {ended:?}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> =
        entries.map(|entry| name(entry).into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn what_is_backed_up_is_restored_with_its_types_and_the_moments_of_expiry() {
    let [from, to] = [Node::start("from", &[], &[]), Node::start("to", &[], &[])];
    put(&from, &["plain", "text"]);
    put(&from, &["typed", "{}", "--type", "application/json"]);
    put(&from, &["short", "lived", "--ttl", "1h"]);
    put(&from, &["a/../b", "odd"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("copy");
    done(&from.run(&["backup", text(&file)]), "backed up 4 keys");
    let check = run(&["check", text(&file), "--json"]);
    let told: Value = serde_json::from_str(check.success()).expect("JSON");
    assert_eq!((&told["keys"], &told["server"]), (&4.into(), &from.url().into()));
    // What is there is left alone, unless the backup is to win.
    put(&to, &["plain", "newer"]);
    let ended = to.run(&["restore", text(&file)]);
    done(&ended, "restored 4 lines: 3 written, 1 kept as they were, 0 refused");
    done(&ended, "is whole: 4 keys of ");
    assert_eq!(to.run(&["kv", "get", "plain"]).text(), "newer");
    done(&to.run(&["restore", text(&file), "--overwrite"]), "4 written");
    let moments = |node: &Node| {
        let lines = held(node);
        let moment = |line: &Value| Some(line["expires"].as_str()?.to_owned());
        let moments: Vec<String> = lines.iter().filter_map(moment).collect();
        let [moment] = &moments[..] else { panic!("{moments:?}") };
        humantime::parse_rfc3339(moment).expect("a moment")
    };
    let (before, after) = (moments(&from), moments(&to));
    let apart = before.duration_since(after).or_else(|_| after.duration_since(before));
    assert!(apart.expect("some time").as_secs() < 3, "{before:?} {after:?}");
    let without = |node: &Node| {
        let mut lines = held(node);
        lines.iter_mut().for_each(|line| line["expires"] = Value::Null);
        lines
    };
    assert_eq!(without(&from), without(&to));
}

#[test]
fn nothing_of_a_backup_that_is_not_whole_is_written() {
    let [from, to] = [Node::start("from", &[], &[]), Node::start("to", &[], &[])];
    for n in 0..50 {
        put(&from, &[&format!("k{n:02}"), "value"]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("copy");
    done(&from.run(&["backup", text(&file)]), "backed up 50 keys");
    let whole = fs::read_to_string(&file).expect("text");
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    for (made, why) in [
        (whole[..whole.len() / 2].to_owned(), "ends in the middle"),
        (lines[..51].concat(), "it ends in the middle, after 50 keys"),
        (whole.replacen("value\"", "valuf\"", 1), "line 2: \"k00\" has neither a value"),
        (whole.replacen(":\"value\"", ":\"valuf\"", 1), "its SHA-256 is not"),
        ([&lines[..20], &lines[21..]].concat().concat(), "it holds 49 keys, and its last line"),
        (format!("{whole}{whole}"), "something follows its last line"),
        (lines[1..51].concat(), "no backup of gossipykv"),
    ] {
        fs::write(&file, &made).expect("room");
        failed(&run(&["check", text(&file)]), 1, why);
        failed(&to.run(&["restore", text(&file)]), 1, why);
    }
    assert_eq!(held(&to), Vec::<Value>::new());
}

#[test]
fn a_restore_that_stops_says_what_it_does_when_it_is_run_again() {
    let from = Node::start("from", &[], &[]);
    let lines: String =
        (0..300).map(|n| format!("{{\"key\":\"k{n:03}\",\"value\":\"{n:0100}\"}}\n")).collect();
    let filled = run_fed(&["kv", "import", "--server", &from.url()], lines.as_bytes());
    assert_eq!(filled.code, Some(0), "{filled:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("copy");
    done(&from.run(&["backup", text(&file)]), "backed up 300 keys");
    // One key is there already, and not all the others find room.
    let to = Node::start("to", &["--max-store-bytes=30000"], &[]);
    put(&to, &["k000", "newer"]);
    for (flags, again) in [
        (&[][..], "it leaves the keys that are there"),
        (&["--overwrite"], "it writes all of them anew, over what is there"),
    ] {
        let ended = to.run(&[&["restore", text(&file)], flags].concat());
        failed(&ended, 4, "507 Insufficient Storage");
        failed(&ended, 4, &format!("\nstopped; run it again: {again}\n"));
        let is_left = to.run(&["kv", "get", "k000"]).text() == "newer";
        assert!(is_left || !flags.is_empty(), "{ended:?}");
    }
}

#[test]
fn a_folder_keeps_the_newest_and_none_that_is_empty() {
    let node = Node::start("n", &[], &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let at = text(folder.path());
    failed(&node.run(&["backup", at, "--keep", "1"]), 1, "it holds no key");
    failed(&node.run(&["check", at]), 2, "unexpected argument");
    failed(&run(&["check", at]), 1, "no backup is there");
    assert_eq!(names(folder.path()), Vec::<String>::new(), "nothing is left of it");
    done(&node.run(&["backup", at, "--allow-empty"]), "backed up 0 keys");
    let mut all = names(folder.path());
    for n in 0..3 {
        put(&node, &["k", &n.to_string()]);
        let ended = node.run(&["backup", at, "--keep", "2", "--json"]);
        let told: Value = serde_json::from_str(ended.success()).expect("JSON");
        let removed: Vec<&str> =
            told["removed"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
        let left = names(folder.path());
        all.extend(left.last().cloned());
        assert_eq!(left, all[all.len() - 2..]);
        assert_eq!(removed, if n == 0 { vec![] } else { vec![all[n - 1].as_str()] });
    }
    let newest = run(&["check", at]);
    assert!(newest.success().contains(&all[3]), "{newest:?}");
    failed(&node.run(&["backup", "copy", "--keep", "2"]), 2, "--keep");
    failed(&node.run(&["backup", at, "--keep", "0"]), 2, "--keep");
}

#[test]
fn what_s3_lacks_is_told_before_anybody_is_asked() {
    let place = "s3://a-bucket/p";
    let s3 = |place: &str, variables: &[(&str, &str)]| run_with(&["check", place], variables);
    let region = ("AWS_REGION", "eu-west-1");
    failed(&s3(place, &[]), 2, "AWS_REGION");
    failed(&s3("s3://", &[region]), 2, "no name of a bucket");
    failed(&s3("s3://A_B/p", &[region]), 2, "no name of a bucket");
    let local = [region, ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
    failed(&s3(place, &local), 2, "whose account?");
    let half = [&local[..], &[("AWS_ACCESS_KEY_ID", "k")]].concat();
    failed(&s3(place, &half), 2, "one is there without the other");
    let lender = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/");
    failed(&s3(place, &[&local[..], &[lender]].concat()), 2, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let keys = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "hidden")];
    let ended = s3(place, &[&local[..], &keys].concat());
    failed(&ended, 5, "s3://a-bucket/p/: 127.0.0.1");
    assert!(!ended.err.contains("hidden"), "{ended:?}");
}
