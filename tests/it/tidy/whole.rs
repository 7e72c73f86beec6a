//! What is written is also reached: modules are declared, tests run, limits bound something,
//! metrics are counted, documents are linked, and what the simulator has is on its page.

use super::expect_none;
use super::source::{File, file, files, has_word, rust};
use std::path::{Component, Path, PathBuf};

#[test]
fn every_module_is_declared() {
    let mut problems = Vec::new();
    for file in rust("") {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let stem = name.trim_end_matches(".rs");
        let (folder, module) = match stem {
            "lib" | "main" | "build" => continue,
            "mod" => folder.rsplit_once('/').unwrap_or(("", folder)),
            _ => (folder, stem),
        };
        let parents: Vec<_> = ["/lib.rs", "/main.rs", "/mod.rs", ".rs"]
            .iter()
            .filter_map(|end| files().find(|file| file.path == format!("{folder}{end}")))
            .collect();
        let declared = |parent: &&File| has_word(&parent.text, &format!("mod {module};"));
        if !parents.is_empty() && !parents.iter().any(declared) {
            problems.push(file.path.clone());
        }
    }
    expect_none("A file that no module declares is never compiled.", problems);
}

#[test]
fn every_test_and_bench_is_run() {
    let run = &file("tests/run").text;
    let mut problems = Vec::new();
    for file in rust("tests/") {
        let target = match file.path.split('/').collect::<Vec<_>>()[1..] {
            [name] => name.trim_end_matches(".rs"),
            [folder, "main.rs"] => folder,
            _ => continue,
        };
        if !run.contains(&format!("--test {target}")) {
            problems.push(format!("tests/run does not run --test {target}"));
        }
    }
    for bench in rust("benches/") {
        let name = bench.path.trim_start_matches("benches/").trim_end_matches(".rs");
        let name = name.trim_end_matches("/main");
        let is_target = file("Cargo.toml").text.contains(&format!("[[bench]]\nname = \"{name}\""));
        if !name.contains('/') && !is_target {
            problems.push(format!("Cargo.toml has no [[bench]] {name}"));
        }
    }
    expect_none("A test that the gate does not run proves nothing.", problems);
}

#[test]
fn every_limit_bounds_something() {
    let code: Vec<_> =
        rust("src/").filter(|file| file.path != "src/limits.rs").flat_map(File::code).collect();
    let names = file("src/limits.rs").text.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("pub const ")?.split_once(':')?;
        Some(name)
    });
    let unused = names.filter(|name| !code.iter().any(|(_, line)| has_word(line, name)));
    expect_none(
        "A limit nobody checks is a promise nobody keeps.",
        unused.map(str::to_owned).collect(),
    );
}

#[test]
fn every_metric_shown_is_counted() {
    let code: Vec<_> = rust("src/").flat_map(File::code).collect();
    let mut problems = Vec::new();
    for page in files().filter(|file| file.has_end(&["md", "json", "yaml", "yml"])) {
        for (number, line) in page.lines() {
            for rest in line.split("gossipykv_").skip(1) {
                let part_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
                let name = &rest[..rest.find(|c| !part_of_name(c)).unwrap_or(rest.len())];
                // The shell's counters get their ending from the macro that declares them.
                let stem = name.strip_suffix("_total").unwrap_or(name);
                let is_named = |line: &str| has_word(line, name) || has_word(line, stem);
                if !code.iter().any(|(_, line)| is_named(line)) {
                    problems.push(format!("{}:{number}: {name}", page.path));
                }
            }
        }
    }
    expect_none("A dashboard, an alarm or a page names metrics that exist.", problems);
}

#[test]
fn the_page_of_the_simulator_has_every_fault_promise_and_bug() {
    let names_in = |path: &str, front: &str| named(&file(path).text, front, "\", ");
    let mut promises = Vec::new();
    for file in rust("src/sim/") {
        let lines: Vec<String> = file.code().into_iter().map(|(_, line)| line).collect();
        promises.extend(named(&lines.join(" "), "Violation::new(\"", "\", "));
    }
    let mut lost = Vec::new();
    for (section, names) in [
        ("A run", names_in("src/sim/options.rs", "    (\"")),
        ("The promises", promises),
        ("Do the checks find anything?", names_in("src/mutation.rs", "        (\"")),
    ] {
        assert!(names.len() > 25, "{section}: what it tells of is found by how it is written");
        let mut page = file("docs/simulator.md").text.split("\n## ");
        let section = page.find(|text| text.starts_with(section)).expect("a section");
        let is_told = |name: &str| {
            let cells =
                section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
            let rare = format!("`{name}` needs ");
            cells.flat_map(|cell| cell.split(", ")).any(|told| told == name)
                || section.contains(&rare)
        };
        lost.extend(names.into_iter().filter(|name| !is_told(name)));
    }
    expect_none("docs/simulator.md has a row for each fault, promise and deliberate bug.", lost);
}

/// What stands between `front` and `back`, with no other quote between them.
fn named(text: &str, front: &str, back: &str) -> Vec<String> {
    let behind = text.split(front).skip(1);
    let named = behind.filter_map(|rest| rest.split_once(back)).map(|(name, _)| name);
    named.filter(|name| !name.contains('"')).map(str::to_owned).collect()
}

#[test]
fn every_document_is_linked() {
    let maps: Vec<_> = ["README.md", "ARCHITECTURE.md"].into_iter().map(file).collect();
    let linked: Vec<_> = maps.iter().flat_map(|map| links(map)).collect();
    let documents = files().filter(|file| file.path.starts_with("docs/") && file.has_end(&["md"]));
    let lost = documents.filter(|document| !linked.contains(&document.path));
    let lost = lost.map(|document| document.path.clone()).collect();
    expect_none("Every document is linked from README.md or ARCHITECTURE.md.", lost);
}

#[test]
fn every_link_leads_somewhere() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut problems = Vec::new();
    for document in files().filter(|file| file.has_end(&["md"])) {
        for link in links(document).into_iter().filter(|link| !top.join(link).exists()) {
            problems.push(format!("{}: {link}", document.path));
        }
    }
    expect_none("A link leads to a file that is there.", problems);
}

/// The files that a document links to, as paths from the top.
fn links(document: &File) -> Vec<String> {
    let folder = Path::new(&document.path).parent().unwrap_or(Path::new(""));
    let targets = document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    files.map(|target| from_top(&folder.join(target.split('#').next().unwrap_or("")))).collect()
}

/// A path without `.` and `..`.
fn from_top(path: &Path) -> String {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean.to_string_lossy().into_owned()
}

#[test]
fn links_are_read_from_where_they_stand() {
    let text = "[a](../README.md) [b](wire.md#layers) [c](https://example.org/x.md) [d](#here)";
    let document = File { path: "docs/kv.md".to_owned(), text: text.to_owned() };
    assert_eq!(links(&document), ["README.md", "docs/wire.md"]);
}
