//! One spelling for each term, in code, comments, tests and documents.
//!
//! A reader who looks for a term finds every place with one search.

use super::expect_none;
use super::source::{File, files};

/// Terms, each with the spellings that it must not have. The wrong ones are in two halves, or this
/// file would break its own rule. A wrong spelling also counts inside a longer word, and in
/// capitals.
const TERMS: [(&str, &[(&str, &str)]); 11] = [
    ("rumor", &[("rum", "our")]),
    ("push-pull", &[("push/", "pull"), ("push ", "pull")]),
    ("acknowledgement", &[("acknowledg", "ment")]),
    ("neighbour", &[("neigh", "bor")]),
    ("catalog", &[("catalo", "gue")]),
    ("judgement", &[("judg", "ment")]),
    ("dialled", &[("dia", "led")]),
    ("under way", &[("under", "way")]),
    ("backoff", &[("back-", "off")]),
    ("timeout", &[("time-", "out")]),
    ("metadata", &[("meta-", "data")]),
];

#[test]
fn a_term_has_one_spelling() {
    let problems = files().filter(|file| file.path != "Cargo.lock").flat_map(misspelt).collect();
    expect_none("A term has one spelling: see TERMS in tests/it/tidy/words.rs.", problems);
}

/// Where a file spells a term in another way, and how it is spelt.
fn misspelt(file: &File) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in file.lines() {
        let line = line.to_lowercase();
        for (term, wrong) in TERMS {
            for word in wrong.iter().map(|(front, back)| format!("{front}{back}")) {
                if line.contains(&word) {
                    problems.push(format!("{}:{number}: {word}, here spelt {term}", file.path));
                }
            }
        }
    }
    problems
}

#[test]
fn another_spelling_is_found_in_any_file_with_its_line() {
    let (front, back) = TERMS[0].1[0];
    let text = format!("Rumors\n/// Two Mis{front}{back}s.\n");
    let file = File { path: "src/swim/gossip.rs".to_owned(), text };
    assert_eq!(misspelt(&file), [format!("src/swim/gossip.rs:2: {front}{back}, here spelt rumor")]);
}
