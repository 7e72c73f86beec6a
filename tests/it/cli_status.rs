//! The line of the log that says how a node stands, and what others make of its fields.

use crate::agents::{Node, Running, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What every line has beside what every line of the log has.
const FIELDS: [&str; 16] = [
    "clock_ahead",
    "clock_ahead_ms",
    "damaged",
    "gaps",
    "keys",
    "lag_writes",
    "members_alive",
    "members_dead",
    "members_suspect",
    "node",
    "ready",
    "resident_bytes",
    "store_bytes",
    "store_limit_bytes",
    "tombstones",
    "message",
];

fn lines(log: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines.filter(|line: &Value| line["message"] == "status").collect()
}

/// A line for which that holds.
#[track_caller]
fn line(process: &Running, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(what, || lines(&process.log()).into_iter().find(&holds))
}

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(path).expect("a file of ours")
}

#[test]
fn a_node_tells_how_it_stands_at_every_interval() {
    let flags = ["--status-interval=1s", "--max-store-bytes=1000000"];
    let [one, two] = Node::cluster::<2>(&flags, &[]);
    assert_eq!(one.run(&["kv", "put", "key", "value"]).code, Some(0));
    for (node, name) in [(&one, "n0"), (&two, "n1")] {
        let line = line(&node.process, "a line with the key", |line| {
            line["keys"] == 1 && line["lag_writes"] == 0 && line["members_alive"] == 2
        });
        assert_eq!((&line["ready"], &line["node"]), (&1.into(), &name.into()), "{line}");
        assert_eq!(line["store_limit_bytes"], 1_000_000);
        let number = |field: &str| line[field].as_u64().expect(field);
        assert!((1..200).contains(&number("store_bytes")), "{line}");
        assert!((1 << 20..1 << 30).contains(&number("resident_bytes")), "{line}");
        for field in ["members_dead", "members_suspect", "gaps", "damaged", "clock_ahead"] {
            assert_eq!(number(field), 0, "{field}");
        }
        assert!(number("clock_ahead_ms") < 1000);
    }
    // A line each second, and the counts of what has come since the line before stay that.
    let told = until("three lines", || Some(lines(&one.process.log())).filter(|l| l.len() > 2));
    let known: BTreeSet<&str> = FIELDS.into();
    for line in told {
        let fields: BTreeSet<&str> =
            line.as_object().expect("fields").keys().map(|k| &**k).collect();
        assert!(line["ready"] == 0 || known.is_subset(&fields), "{line}");
        let rest: BTreeSet<&str> = ["timestamp", "level", "target", "not_ready"].into();
        assert!(fields.iter().all(|f| known.contains(f) || rest.contains(f)), "{line}");
    }
}

#[test]
fn alarms_are_not_blind_where_little_is_logged_and_nothing_is_logged_where_that_is_said() {
    let start = |level| {
        let level = format!("--log-level={level}");
        let args = ["agent", "--bind=127.0.0.1:0", "--http=127.0.0.1:0", &level];
        Running::start(&[&args[..], &["--name=x", "--status-interval=1s"]].concat(), &[])
    };
    let (quiet, silent) = (start("error"), start("off"));
    line(&quiet, "a second line", |_| lines(&quiet.log()).len() > 1);
    assert_eq!(silent.log(), "");
}

#[test]
fn what_others_make_of_the_fields_is_there() {
    let (template, book) = (text("cloudformation/service.yaml"), text("docs/runbook.md"));
    let taken: BTreeSet<&str> = template
        .split("$.")
        .skip(1)
        .map(|rest| rest.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).next())
        .map(Option::unwrap_or_default)
        .collect();
    assert!(taken.len() > 9, "{taken:?}");
    for field in taken {
        // Of any line: its level.
        assert!(FIELDS.contains(&field) || field == "level", "no line of the log has {field}");
    }
    for field in FIELDS {
        assert!(book.contains(&format!("`{field}`")), "the runbook does not tell of {field}");
    }
}
