//! The code map of ARCHITECTURE.md names every file of these rooms.

use super::expect_none;
use super::source::{file, has_word, rust};

/// The rooms whose files the map names.
const MAPPED: [&str; 2] = ["http", "node/replication"];

#[test]
fn the_code_map_names_every_file() {
    let map = lines(code_map());
    let mut problems = Vec::new();
    for room in MAPPED {
        for file in rust(&format!("src/{room}/")).filter(|file| !file.path.contains("/tests/")) {
            let (folder, name) = file.path.rsplit_once('/').unwrap_or_default();
            let mut of_folder = map.iter().filter(|line| line.folder == folder).peekable();
            let name = name.trim_end_matches(".rs");
            // A folder's line stands for its mod.rs.
            let is_there = match name {
                "mod" | "tests" => of_folder.peek().is_some(),
                name => of_folder.any(|line| has_word(line.text, name)),
            };
            if !is_there {
                problems.push(file.path.clone());
            }
        }
    }
    expect_none("The code map of ARCHITECTURE.md names every file, in its folder.", problems);
}

fn code_map() -> &'static str {
    let text = &file("ARCHITECTURE.md").text;
    let map = text.split("\n## Code map\n").nth(1).and_then(|rest| rest.split("```").nth(1));
    map.expect("ARCHITECTURE.md has a code map")
}

/// A line of the map, and the folder it is about.
struct Line<'m> {
    folder: String,
    text: &'m str,
}

/// A word with `/` at the front of a line opens a folder: that line and the ones further to the
/// right are about it.
fn lines(map: &str) -> Vec<Line<'_>> {
    let mut open: Vec<(usize, &str)> = Vec::new();
    let mut lines = Vec::new();
    for text in map.lines().filter(|line| !line.trim().is_empty()) {
        let indent = text.len() - text.trim_start().len();
        open.retain(|(outer, _)| *outer < indent);
        let first = text.split_whitespace().next().unwrap_or_default();
        let rest = match first.strip_suffix('/') {
            Some(folder) => {
                open.push((indent, folder));
                &text[indent + first.len()..]
            }
            None => text,
        };
        let folders: Vec<&str> = open.iter().map(|(_, folder)| *folder).collect();
        lines.push(Line { folder: folders.join("/"), text: rest });
    }
    lines
}

#[test]
fn a_map_is_read_by_its_indents() {
    let map =
        "text\nsrc/\n  a.rs   one\n  b/     two\n       in/   c\n             d\n       e\n  f/\n";
    let lines = lines(map);
    let seen: Vec<_> = lines.iter().map(|line| (&*line.folder, line.text.trim())).collect();
    let expected = [
        ("", "text"),
        ("src", ""),
        ("src", "a.rs   one"),
        ("src/b", "two"),
        ("src/b/in", "c"),
        ("src/b/in", "d"),
        ("src/b", "e"),
        ("src/f", ""),
    ];
    assert_eq!(seen, expected);
}
