//! Inside a room imports run one way, between its files and between its folders.
//!
//! A circle of files can only be understood as one file. Where two files need each other, what both
//! use is a third: ground that knows neither, below a roof that knows both.

use super::expect_none;
use super::rooms::expand;
use super::source::{File, rust};
use std::collections::{BTreeMap, BTreeSet};

/// The rooms without a circle.
const WITHOUT_CIRCLES: [&str; 2] = ["http", "node/replication"];

/// The folders with the mechanisms of replication: none imports another. What one leaves to another
/// it returns, and `machine` sees to it.
const MECHANISMS_IN: [&str; 3] = ["forget", "repair", "spread"];

/// What stands beside the mechanisms and is none: tools without a state, which they share.
const TOOLS: [&str; 3] = ["backlog", "leaves", "marks"];

/// For each name those that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn imports_inside_a_room_run_one_way() {
    let mut problems = Vec::new();
    for room in WITHOUT_CIRCLES {
        // Tests of a folder know each other, and all of it.
        let is_test = |file: &&File| file.path.contains("/tests/");
        let files: Vec<_> = rust(&format!("src/{room}/")).filter(|file| !is_test(file)).collect();
        assert!(!files.is_empty(), "{room} is a room of several files");
        let imports = imports_within(&files);
        problems.extend(circles(&imports));
        for folder in folders(imports.keys()) {
            problems.extend(circles(&between_children(&folder, &imports)));
        }
    }
    expect_none("Inside a room no files and no folders import one another in a circle.", problems);
}

#[test]
fn no_mechanism_of_replication_imports_another() {
    let is_test = |file: &&File| file.path.contains("/tests/");
    let files: Vec<_> = rust("src/node/replication/").filter(|file| !is_test(file)).collect();
    for tool in TOOLS {
        let is_there = |file: &&File| file.path.ends_with(&format!("/{tool}.rs"));
        assert!(files.iter().any(is_there), "{tool} is a file");
    }
    let problems = between_mechanisms(&files);
    expect_none("A mechanism of replication returns what another one has to do.", problems);
}

/// Every import of a mechanism by another, or by one of their tools.
fn between_mechanisms(files: &[&File]) -> Vec<String> {
    let is_beside = |module: &str| {
        let mut parts = module.rsplit("::").skip(1);
        parts.next().is_some_and(|folder| MECHANISMS_IN.contains(&folder))
    };
    let is_tool = |module: &str| TOOLS.iter().any(|tool| module.ends_with(&format!("::{tool}")));
    let mut problems = Vec::new();
    for (importer, imported) in imports_within(files).iter().filter(|(name, _)| is_beside(name)) {
        let mechanisms = imported.iter().filter(|module| is_beside(module) && !is_tool(module));
        problems.extend(mechanisms.map(|module| format!("{importer} imports {module}")));
    }
    problems
}

#[test]
fn a_mechanism_that_calls_another_is_found() {
    let file = |path: &str, text: &str| {
        let path = format!("src/node/replication/{path}");
        File { path, text: text.to_owned() }
    };
    let check = |gaps: &str, marks: &str| {
        let files = [
            file("machine.rs", "use super::repair::{gaps::Gaps, pull::Pulls};"),
            file("facts/peers.rs", ""),
            file("repair/gaps.rs", gaps),
            file("repair/pull.rs", "use super::marks;"),
            file("repair/marks.rs", marks),
            file("forget/sweep.rs", ""),
        ];
        between_mechanisms(&files.iter().collect::<Vec<_>>())
    };
    let of = "node::replication::";
    let ours = "use crate::node::replication::facts::peers::Peers;\nuse super::marks;";
    assert_eq!(check(ours, "use super::super::facts::peers::Peers;"), [""; 0]);
    let found = check("fn f() { super::pull::ask() }", "use super::super::forget::sweep::Sweep;");
    assert_eq!(
        found,
        [
            format!("{of}repair::gaps imports {of}repair::pull"),
            format!("{of}repair::marks imports {of}forget::sweep"),
        ]
    );
}

/// The module that a file of `src/` is, as `http::gate::head`.
fn module(file: &File) -> String {
    let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
    path.trim_end_matches("/mod").replace('/', "::")
}

/// For each module of these files the others that its code names.
fn imports_within(files: &[&File]) -> Imports {
    let modules: BTreeSet<String> = files.iter().map(|file| module(file)).collect();
    let mut imports = Imports::new();
    for file in files {
        let importer = module(file);
        let named = paths(file, &importer, &modules);
        let imported = named.iter().filter_map(|path| {
            prefixes(path).find(|prefix| modules.contains(*prefix)).map(str::to_owned)
        });
        let imported = imported.filter(|imported| *imported != importer).collect();
        imports.insert(importer, imported);
    }
    imports
}

/// A path and what it lies in, the longest first.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once("::").map(|(prefix, _)| prefix))
}

/// Every path in a file's code that leads to a module of ours, from the top.
fn paths(file: &File, importer: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let lines: Vec<_> = file.code().into_iter().map(|(_, line)| line).collect();
    let code = lines.join(" ");
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("::") {
        let before = &code[..at];
        let begin = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let first = &before[begin..];
        // The scope of a visibility is no import.
        let is_first = !before[..begin].ends_with("::") && !before[..begin].ends_with("pub(in ");
        let is_child = || modules.contains(&format!("{importer}::{first}"));
        if is_first && (["crate", "super", "self"].contains(&first) || is_child()) {
            expand("", &code[begin..], &mut named);
        }
    }
    named.iter().map(|path| from_top(importer, path)).collect()
}

/// A path as its importer writes it, from the top.
fn from_top(importer: &str, path: &str) -> String {
    let mut place: Vec<&str> = importer.split("::").collect();
    for part in path.split("::") {
        match part {
            "crate" => place.clear(),
            "super" => drop(place.pop()),
            "self" => {}
            name => place.push(name),
        }
    }
    place.join("::")
}

/// Every folder with modules in it, the room itself first.
fn folders<'m>(modules: impl Iterator<Item = &'m String>) -> BTreeSet<String> {
    modules.filter_map(|module| module.rsplit_once("::")).map(|(folder, _)| folder.into()).collect()
}

/// The imports between what lies directly in a folder, each with all that is below it.
fn between_children(folder: &str, imports: &Imports) -> Imports {
    let child = |module: &str| {
        let rest = module.strip_prefix(folder)?.strip_prefix("::")?;
        Some(format!("{folder}::{}", rest.split("::").next()?))
    };
    let mut between = Imports::new();
    for (importer, imported) in imports {
        let Some(importer) = child(importer) else { continue };
        let imported = imported.iter().filter_map(|imported| child(imported));
        let imported = imported.filter(|imported| *imported != importer).collect::<Vec<_>>();
        between.entry(importer).or_default().extend(imported);
    }
    between
}

/// What lies on a circle or between two, each with what it imports there; empty without one.
fn circles(imports: &Imports) -> Vec<String> {
    let mut left = imports.clone();
    loop {
        let imported: BTreeSet<String> = left.values().flatten().cloned().collect();
        let before = left.len();
        left.retain(|name, imports| !imports.is_empty() && imported.contains(name));
        let names: BTreeSet<String> = left.keys().cloned().collect();
        left.values_mut().for_each(|imports| imports.retain(|name| names.contains(name)));
        if left.len() == before {
            let line = |(name, imports): (&String, &BTreeSet<String>)| {
                let imports = imports.iter().map(String::as_str).collect::<Vec<_>>();
                format!("{name} imports {}", imports.join(", "))
            };
            return left.iter().map(line).collect();
        }
    }
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let check = |texts: [&str; 4], expected: &[&str]| {
        let paths = ["src/h/mod.rs", "src/h/a.rs", "src/h/d/mod.rs", "src/h/d/b.rs"];
        let files: Vec<_> =
            paths.into_iter().zip(texts).map(|(path, text)| file(path, text)).collect();
        let imports = imports_within(&files.iter().collect::<Vec<_>>());
        assert_eq!(circles(&imports), expected, "{texts:?}");
        imports
    };
    // A declaration is no import, and neither is a path in a comment or a test.
    let imports = check(
        ["mod a;\nmod d;\npub use a::A;", "use super::d::B;", "mod b;", "// use super::super::a;"],
        &[],
    );
    assert_eq!(imports["h"], BTreeSet::from(["h::a".to_owned()]));
    check(["", "use crate::h::d::{b::B, C};", "", "fn f() { crate::h::a::g() }"], {
        &["h::a imports h::d::b", "h::d::b imports h::a"]
    });
    check(["pub use a::A;", "use super::A;", "", ""], &["h imports h::a", "h::a imports h"]);
    check(["", "", "use self::b::B;", "use super::C;"], {
        &["h::d imports h::d::b", "h::d::b imports h::d"]
    });
    // Two files of a folder may import what lies beside it, and be imported from there, in no
    // circle of files; the folder as a whole is in one.
    let imports = check(["", "use super::d::b::B;", "use super::a::A;", ""], &[]);
    assert_eq!(
        circles(&between_children("h", &imports)),
        ["h::a imports h::d", "h::d imports h::a",]
    );
}
