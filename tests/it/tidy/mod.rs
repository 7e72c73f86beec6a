//! The rules of the house that no compiler knows.
//!
//! - [`prose`]: that no sentence of a document is too long.
//! - [`rooms`]: which room may import which, and that the core names nothing impure.
//! - [`circles`]: that imports inside a room run one way, between mechanisms none.
//! - [`map`]: that the code map names every file, and the guides nothing else.
//! - [`text`]: how a file looks, and words that do not belong into one.
//! - [`visible`]: that what is `pub` in a private module is used outside.
//! - [`whole`]: that what is written is also reached: modules, tests, limits, documents.
//! - [`words`]: that a term has one spelling.
//! - [`source`]: the files looked at, and a view of Rust code without comments and tests.

mod circles;
mod map;
mod prose;
mod rooms;
mod source;
mod text;
mod visible;
mod whole;
mod words;

/// Fails with every problem found, one a line.
fn expect_none(rule: &str, problems: Vec<String>) {
    assert!(problems.is_empty(), "{rule}\n  {}\n", problems.join("\n  "));
}
