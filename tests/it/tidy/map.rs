//! The code map of ARCHITECTURE.md names every file, and what the guides name exists.

use super::expect_none;
use super::source::{File, file, files, has_word, rust};

/// What somebody reads who wants to change the code.
const GUIDES: [&str; 2] = ["ARCHITECTURE.md", "CONTRIBUTING.md"];

#[test]
fn the_code_map_names_every_file() {
    let map = lines(code_map());
    let mut problems = Vec::new();
    let is_test = |path: &str| path.contains("/tests/") || path.ends_with("/tests.rs");
    for file in rust("src/").filter(|file| !is_test(&file.path)) {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or_default();
        let mut of_folder = map.iter().filter(|line| line.folder == folder).peekable();
        // A folder's line stands for its mod.rs.
        let is_there = match name.trim_end_matches(".rs") {
            "mod" => of_folder.peek().is_some(),
            name => of_folder.any(|line| has_word(line.text, name)),
        };
        if !is_there {
            problems.push(file.path.clone());
        }
    }
    expect_none("The code map of ARCHITECTURE.md names every file, in its folder.", problems);
}

#[test]
fn every_path_in_a_guide_exists() {
    let all: Vec<&str> = files().map(|file| &*file.path).collect();
    let problems = GUIDES.into_iter().flat_map(|guide| lost_paths(file(guide), &all)).collect();
    expect_none("A guide names files and folders that are there.", problems);
}

/// The paths between backticks that lead to nothing: from the top, from `src/`, or from the folder
/// of the path before on the same line.
fn lost_paths(guide: &File, all: &[&str]) -> Vec<String> {
    let is_path = |word: &&str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let is_file =
            [".rs", ".md", ".toml", ".json", ".txt"].iter().any(|end| word.ends_with(end));
        word.chars().all(is_plain)
            && !word.starts_with(['/', '.'])
            && (is_file || word.contains('/'))
    };
    let is_there = |path: &str| {
        let folder = format!("{}/", path.trim_end_matches('/'));
        all.iter().any(|file| *file == path || file.starts_with(&folder))
    };
    let mut problems = Vec::new();
    for (number, line) in guide.lines() {
        let mut folder = String::new();
        for path in line.split('`').skip(1).step_by(2).filter(is_path) {
            let places = ["", "src/", &folder].map(|place| format!("{place}{path}"));
            match places.into_iter().find(|path| is_there(path)) {
                None => problems.push(format!("{}:{number}: {path}", guide.path)),
                Some(path) => {
                    let end = path.trim_end_matches('/').rfind('/').map_or(0, |at| at + 1);
                    folder = path[..end].to_owned();
                }
            }
        }
    }
    problems
}

#[test]
fn a_path_that_leads_nowhere_is_found() {
    let text =
        "`kv/hlc.rs`, `head.rs`; `tests/it` `swim/`\n`head.rs` or `kv/lost.rs`, GET `/kv/a`\n";
    let guide = File { path: "GUIDE.md".to_owned(), text: text.to_owned() };
    let all = ["src/kv/hlc.rs", "src/kv/head.rs", "src/swim/mod.rs", "tests/it/main.rs"];
    assert_eq!(lost_paths(&guide, &all), ["GUIDE.md:2: head.rs", "GUIDE.md:2: kv/lost.rs"]);
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
