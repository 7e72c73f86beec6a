//! Who may import whom, and what the core rooms never name.

use super::expect_none;
use super::source::{File, has_word, rust};
use std::collections::BTreeSet;

/// Each room of `src/` and what it may import, itself aside. A path allows all that is below it.
/// `limits`, `time` and `rng` are plain numbers and stand below everything; so does `mutation`.
const MAY_IMPORT: [(&str, &[&str]); 16] = [
    ("limits", &[]),
    ("time", &[]),
    ("rng", &[]),
    ("mutation", &[]),
    ("source", &[]),
    ("wire", &["limits", "mutation"]),
    ("kv", &["limits", "time", "mutation"]),
    ("swim", &["limits", "time", "rng", "mutation", "wire::message", "wire::packet"]),
    ("node", &["limits", "time", "rng", "mutation", "wire", "kv", "swim"]),
    ("sim", &["limits", "time", "rng", "wire", "kv", "swim", "node"]),
    ("discovery", &["limits", "time", "rng"]),
    ("runtime", &["limits", "time", "rng", "source", "wire", "kv", "swim", "node", "discovery"]),
    // Of the node only what it can be asked: never the machine.
    ("http", &["limits", "time", "source", "kv", "node::command", "wire::keyring"]),
    (
        "cli",
        &[
            "limits",
            "time",
            "rng",
            "mutation",
            "discovery",
            "http",
            "kv",
            "node",
            "runtime",
            "sim",
            "swim::config",
            "wire",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Rooms that are pure: what they need comes in as an argument.
const CORE: [&str; 5] = ["wire", "swim", "kv", "node", "sim"];

/// Words that would bring the outside in. `std::net` addresses are values and fine.
const IMPURE: [&str; 24] = [
    "tokio",
    "socket2",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "ToSocketAddrs",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "thread_local",
    "SystemTime",
    "std::time::Instant",
    "getrandom",
    "RandomState",
    "rand::rng",
    "from_os_rng",
    "tracing",
    "print",
    "println",
    "eprint",
    "eprintln",
    "stdin",
    "stdout",
];

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut problems = Vec::new();
    for file in rust("src/") {
        let room = room(file);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
            problems.push(format!("{}: room {room} is not in the table", file.path));
            continue;
        };
        for path in imports(file) {
            let itself = path.split("::").next() == Some(room);
            if !itself && !allowed.iter().any(|allowed| is_below(&path, allowed)) {
                problems.push(format!("{}: {room} imports {path}", file.path));
            }
        }
    }
    expect_none("A room imports only what the table in tests/it/tidy/rooms.rs says.", problems);
}

#[test]
fn no_path_leaves_its_room_by_super() {
    let mut problems = Vec::new();
    for file in rust("src/") {
        let inner = file.path.trim_start_matches("src/").trim_end_matches(".rs");
        let depth = inner.trim_end_matches("/mod").split('/').count();
        let escape = "super::".repeat(depth);
        for (number, line) in file.code() {
            if line.contains(&escape) {
                problems.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    expect_none("Another room is named from the top: crate::room.", problems);
}

#[test]
fn core_rooms_name_nothing_impure() {
    let mut problems = Vec::new();
    for file in rust("src/").filter(|file| CORE.contains(&room(file))) {
        for (number, line) in file.code() {
            for word in IMPURE.iter().filter(|word| has_word(&line, word)) {
                problems.push(format!("{}:{number}: {word}", file.path));
            }
        }
    }
    expect_none(
        "No socket, thread, clock, environment, log call or entropy in the core.",
        problems,
    );
}

/// The only file that names the HTTP library: what the library costs stays in its folder.
const NAMES_TINY_HTTP: &str = "src/http/lanes/worker.rs";

#[test]
fn one_file_names_tiny_http() {
    let mut problems = Vec::new();
    for file in rust("src/").filter(|file| file.path != NAMES_TINY_HTTP) {
        for (number, line) in file.code() {
            if line.contains("tiny_http::") {
                problems.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    expect_none("tiny_http is named in src/http/lanes/worker.rs alone.", problems);
}

/// The room a file of `src/` belongs to.
fn room(file: &File) -> &str {
    let path = file.path.trim_start_matches("src/");
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Every path after `crate::` (or our own name, as the program says), groups written out.
fn imports(file: &File) -> BTreeSet<String> {
    let lines: Vec<_> = file.code().into_iter().map(|(_, line)| line).collect();
    let code: String = lines.join(" ");
    let mut paths = BTreeSet::new();
    for start in ["crate::", "gossipykv::"] {
        for (at, _) in code.match_indices(start) {
            expand("", &code[at + start.len()..], &mut paths);
        }
    }
    paths
}

/// Adds the paths at the front of `rest`, each below `prefix`; returns what comes after them.
pub fn expand<'a>(prefix: &str, rest: &'a str, paths: &mut BTreeSet<String>) -> &'a str {
    let rest = rest.trim_start();
    if let Some(mut group) = rest.strip_prefix('{') {
        loop {
            group = expand(prefix, group, paths).trim_start();
            match group.strip_prefix(',') {
                Some(next) => group = next,
                None => return group.strip_prefix('}').unwrap_or_default(),
            }
        }
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    match after.strip_prefix("::") {
        Some(below) if below.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '{') => {
            expand(&path, below, paths)
        }
        _ => {
            if !name.is_empty() {
                paths.insert(path);
            }
            after
        }
    }
}

fn is_below(path: &str, allowed: &str) -> bool {
    path.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn groups_of_imports_are_written_out() {
    let text = "use crate::{kv, node::{command::Command, io}, time::Now,};\n\
                fn f() { crate::limits::KEY_LEN_MAX + crate::rng(1) }\n";
    let file = File { path: "src/a.rs".to_owned(), text: text.to_owned() };
    let paths = imports(&file).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(paths, "kv limits::KEY_LEN_MAX node::command::Command node::io rng time::Now");
    assert!(is_below("node::io", "node") && !is_below("nodes", "node"));
}
