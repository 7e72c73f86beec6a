//! What is `pub` in a private module is used outside the folder that hides the module.
//!
//! Else the word promises too much: a reader looks for callers far away, and the compiler does not
//! tell when the last one is gone. Functions and constants only: how visible a type must be follows
//! from the signatures that name it, and the compiler checks that.

use super::expect_none;
use super::source::{File, rust};
use std::collections::BTreeSet;

#[test]
fn pub_items_of_private_modules_are_used_outside() {
    let files: Vec<_> = rust("").collect();
    expect_none("A pub item of a private module is used outside: else it is pub(super).", {
        unused_outside(&files)
    });
}

/// The `pub` functions and constants of private modules that nothing outside their folder names.
fn unused_outside(files: &[&File]) -> Vec<String> {
    let mut problems = Vec::new();
    let words: Vec<_> = files.iter().map(|file| (&file.path, words(file))).collect();
    let is_room = |file: &&&File| file.path.starts_with("src/") && file.path.ends_with("/mod.rs");
    for room in files.iter().filter(is_room) {
        let folder = room.path.trim_end_matches("mod.rs");
        let is_named = |name: &str| {
            words.iter().any(|(path, words)| !path.starts_with(folder) && words.contains(name))
        };
        let private = private_modules(room);
        for file in files.iter().filter(|file| file.path.starts_with(folder)) {
            let module = file.path[folder.len()..].split(['/', '.']).next().unwrap_or_default();
            if !private.contains(module) || module == "tests" {
                continue;
            }
            for (number, line) in file.code() {
                if let Some(name) = pub_item(&line).filter(|name| !is_named(name)) {
                    problems.push(format!("{}:{number}: {name}", file.path));
                }
            }
        }
    }
    problems
}

/// The modules that a `mod.rs` declares for itself alone.
fn private_modules(room: &File) -> BTreeSet<String> {
    let lines = room.code();
    let declared =
        lines.iter().filter_map(|(_, line)| line.strip_prefix("mod ")?.strip_suffix(';'));
    declared.map(str::to_owned).collect()
}

/// The name of the function or constant that a line makes public without a limit. A constant inside
/// something stands in a list of its kind, which is public as a whole.
fn pub_item(line: &str) -> Option<&str> {
    let mut words = line.trim_start().strip_prefix("pub ")?.split_whitespace().peekable();
    words.next_if_eq(&"async");
    let kind = words.next()?;
    let is_fn = kind == "fn" || kind == "const" && words.next_if_eq(&"fn").is_some();
    let is_item = is_fn || ["const", "static"].contains(&kind) && line.starts_with("pub");
    let name = words.next().filter(|_| is_item)?;
    name.split(|c: char| !is_part_of_word(c)).next()
}

/// Every word of a file's code; of tests every word.
fn words(file: &File) -> BTreeSet<String> {
    let lines: Vec<String> = match file.path.starts_with("src/") {
        true => file.code().into_iter().map(|(_, line)| line).collect(),
        false => file.lines().map(|(_, line)| line.to_owned()).collect(),
    };
    let words = lines.iter().flat_map(|line| line.split(|c: char| !is_part_of_word(c)));
    words.map(str::to_owned).collect()
}

fn is_part_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[test]
fn an_item_that_is_used_in_its_own_room_alone_is_found() {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let files = [
        file("src/kv/mod.rs", "mod list;\npub mod open;\npub use list::asked;\n"),
        file(
            "src/kv/list.rs",
            "pub fn asked() {}\npub(super) fn near() {}\npub const fn far() {}\n",
        ),
        file("src/kv/open.rs", "pub fn open() { super::list::near(); super::list::far() }\n"),
        file("src/kv/tests.rs", "pub fn helper() {}\n"),
        file("src/cli/mod.rs", "fn run() { kv::asked() }\n// far\n"),
    ];
    let found = unused_outside(&files.iter().collect::<Vec<_>>());
    assert_eq!(found, ["src/kv/list.rs:3: far"]);
}
