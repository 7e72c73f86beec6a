//! How a file looks, and words that do not belong into one.

use super::expect_none;
use super::source::{File, file, files};

/// Files that people write as programs. Templates and vectors may be longer.
const PROGRAM: [&str; 7] = ["rs", "go", "py", "sh", "run", "guard", "Makefile"];
/// Files that must be plain ASCII: programs and what configures them.
const SOURCE: [&str; 12] = [
    "rs",
    "go",
    "py",
    "sh",
    "run",
    "guard",
    "Makefile",
    "Dockerfile",
    "toml",
    "yaml",
    "yml",
    "service",
];
const FILE_LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;

#[test]
fn files_stay_short() {
    let long = |file: &&File| file.text.lines().count() > FILE_LINES_MAX;
    let problems = files().filter(|file| file.has_end(&PROGRAM)).filter(long);
    let problems = problems.map(|file| file.path.clone()).collect();
    expect_none("A file has one subject and at most 600 lines.", problems);
}

#[test]
fn source_is_plain_text() {
    let mut problems = Vec::new();
    for file in files().filter(|file| file.has_end(&SOURCE)) {
        for (number, line) in file.lines() {
            let mut wrong = |what: &str| problems.push(format!("{}:{number}: {what}", file.path));
            if !line.is_ascii() {
                wrong("not ASCII");
            }
            if line.ends_with([' ', '\t']) {
                wrong("space at the end of the line");
            }
            if file.has_end(&["rs"]) && line.contains('\t') {
                wrong("tab");
            }
            if file.has_end(&["rs"]) && line.len() > COLUMNS_MAX {
                wrong("more than 100 columns");
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            problems.push(format!("{}: no newline at the end", file.path));
        }
    }
    expect_none("Source is ASCII in lines of at most 100 columns.", problems);
}

/// Assembled here, or this file would break its own rules.
fn words(halves: &[(&str, &str)]) -> Vec<String> {
    halves.iter().map(|(front, back)| format!("{front}{back}")).collect()
}

fn lines_with(words: &[String], files: impl Iterator<Item = &'static File>) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files {
        for (number, line) in file.lines() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                problems.push(format!("{}:{number}: {word}", file.path));
            }
        }
    }
    problems
}

#[test]
fn nothing_is_left_undone() {
    let words = words(&[
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X "),
        ("todo", "!("),
        ("unimp", "lemented!("),
    ]);
    let texts = files().filter(|file| file.has_end(&SOURCE) || file.has_end(&["md"]));
    expect_none("What is missing is an issue, not a note in the code.", lines_with(&words, texts));
}

#[test]
fn exceptions_say_why() {
    let words = words(&[("#[ign", "ore]"), ("#[all", "ow("), ("#![all", "ow(")]);
    let mut problems = lines_with(&words, files().filter(|file| file.has_end(&["rs"])));
    let expect = format!("[{}(", "expect");
    for file in files().filter(|file| file.has_end(&["rs"])) {
        for (at, _) in file.text.match_indices(&expect) {
            let end = file.text[at..].find(")]").map_or(file.text.len(), |end| at + end);
            if !file.text[at..end].contains("reason = ") {
                problems.push(format!("{}: {}", file.path, &file.text[at..end]));
            }
        }
    }
    expect_none("Ignored tests and switched-off lints give a reason, with expect.", problems);
}

#[test]
fn no_file_names_a_registry_or_this_machine() {
    let words = words(&[
        ("crates.", "io/"),
        ("pypi.", "org"),
        ("pythonhosted.", "org"),
        ("proxy.golang.", "org"),
        ("registry.npmjs.", "org"),
        ("index-", "url"),
        ("find-", "links"),
        ("GOPR", "OXY"),
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("/opt/", "wheels"),
    ]);
    let mut problems = lines_with(&words, files());
    let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    for (number, line) in file("Cargo.lock").lines() {
        if line.starts_with("source") && line != registry {
            problems.push(format!("Cargo.lock:{number}: {line}"));
        }
    }
    expect_none("The sources build wherever they are, from the registries people have.", problems);
}
