//! No document has a sentence of more than 40 words.
//!
//! A list of exceptions in one sentence has to be decoded. As sentences of their own, or as items
//! of a list, they can be read.

use super::expect_none;
use super::source::{File, files};

/// Words of the longest sentence.
const WORDS_MAX: usize = 40;

/// What ends with a full stop and no sentence.
const ABBREVIATIONS: [&str; 2] = ["e.g.", "i.e."];

#[test]
fn no_sentence_is_longer_than_forty_words() {
    let documents = files().filter(|file| file.has_end(&["md"]));
    let problems = documents.flat_map(too_long).collect();
    expect_none(
        "A sentence of a document has at most 40 words, a code span counts as one.",
        problems,
    );
}

/// The sentences of a document that are too long, each with the line on which its paragraph begins.
fn too_long(document: &File) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, text) in paragraphs(document) {
        let mut sentence = Vec::new();
        let text = without_code(&text);
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.next() {
            if word.contains(char::is_alphanumeric) {
                sentence.push(word);
            }
            if ends_sentence(word) || words.peek().is_none() {
                if sentence.len() > WORDS_MAX {
                    let begin = sentence[..6].join(" ");
                    let what = format!("{} words: {begin} ...", sentence.len());
                    problems.push(format!("{}:{number}: {what}", document.path));
                }
                sentence.clear();
            }
        }
    }
    problems
}

/// What is read as one piece: paragraphs, items of lists and cells of tables, each with the line on
/// which it begins. Headings and blocks of code are none.
fn paragraphs(document: &File) -> Vec<(usize, String)> {
    let mut paragraphs: Vec<(usize, String)> = Vec::new();
    let (mut is_code, mut is_open) = (false, false);
    for (number, line) in document.lines() {
        let text = line.trim();
        if text.starts_with("```") {
            is_code = !is_code;
        }
        let item = item(text);
        let is_indented_code = !is_open && item.is_none() && line.starts_with("    ");
        let is_nothing = is_code || text.is_empty() || text.starts_with("```");
        if is_nothing || text.starts_with('#') || is_indented_code {
            is_open = false;
        } else if text.starts_with('|') {
            paragraphs.extend(text.split('|').map(|cell| (number, cell.to_owned())));
            is_open = false;
        } else if let (true, None, Some((_, open))) = (is_open, item, paragraphs.last_mut()) {
            open.push(' ');
            open.push_str(text);
        } else {
            paragraphs.push((number, item.unwrap_or(text).to_owned()));
            is_open = true;
        }
    }
    paragraphs
}

/// The text of a list's item behind its mark.
fn item(text: &str) -> Option<&str> {
    let behind_number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered =
        if behind_number.len() < text.len() { behind_number.strip_prefix(". ") } else { None };
    text.strip_prefix("- ").or_else(|| text.strip_prefix("* ")).or(numbered)
}

/// A text in which each piece of code between backticks is one word.
fn without_code(text: &str) -> String {
    let pieces = text.split('`').enumerate();
    pieces.map(|(at, piece)| if at % 2 == 0 { piece } else { "code" }).collect()
}

/// Whether a sentence is over behind this word.
fn ends_sentence(word: &str) -> bool {
    let bare = word.trim_end_matches([')', '"', '\'', '*', '_', ']']);
    bare.ends_with(['.', '!', '?']) && !ABBREVIATIONS.contains(&bare)
}

#[test]
fn a_long_sentence_is_found_wherever_it_stands() {
    let check =
        |text: &str| too_long(&File { path: "docs/x.md".to_owned(), text: text.to_owned() });
    let words = |n: usize| vec!["word"; n].join(" ");
    let (short, long) = (words(40), words(41));
    let expected = |line: usize| {
        vec![format!("docs/x.md:{line}: 41 words: word word word word word word ...")]
    };
    assert_eq!(check(&long), expected(1));
    assert_eq!(
        check(&format!("# x\n\n{short}.\n{}\n{}. {short}\n", words(30), words(11))),
        expected(3)
    );
    assert_eq!(check(&format!("- one\n- {long}\n")), expected(2));
    assert_eq!(check(&format!("1. one\n   {}\n2. {long}\n", words(30))), expected(3));
    assert_eq!(check(&format!("| a | {long} |\n")), expected(1));
    // What is not read as one sentence.
    assert_eq!(check(&format!("{short}. (\"{short}!\") **{short}.** {short}\n")), [""; 0]);
    assert_eq!(check(&format!("- {short}\n- {short}\n\n{short}\n\n{short}\n")), [""; 0]);
    assert_eq!(
        check(&format!("{short}\n\n    {long}\n\n```text\n{long}\n```\n## {long}\n")),
        [""; 0]
    );
    assert_eq!(check(&format!("{} `{long}`\n", words(39))), [""; 0]);
    assert_eq!(check(&format!("{} = - {}\n", words(20), words(20))), [""; 0]);
}
