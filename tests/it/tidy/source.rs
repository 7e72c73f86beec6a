//! The files that git has or would take, and Rust code without its comments and tests.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// A text file of the repository.
pub struct File {
    /// Its path from the top, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(read);

/// Every file that is tracked or would be with the next `git add`, but for what is not text.
pub fn files() -> impl Iterator<Item = &'static File> {
    FILES.iter()
}

/// The Rust files under a folder, `src/` for example.
pub fn rust(under: &str) -> impl Iterator<Item = &'static File> {
    files().filter(move |file| file.path.starts_with(under) && file.has_end(&["rs"]))
}

/// The one file at this path.
pub fn file(path: &str) -> &'static File {
    files().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}"))
}

fn read() -> Vec<File> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(top)
        .output()
        .expect("git runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let paths = listed.split_terminator('\0');
    let files: Vec<_> = paths
        // A file that was just removed is listed until the next commit.
        .filter_map(|path| Some((path, std::fs::read(top.join(path)).ok()?)))
        .filter_map(|(path, bytes)| {
            Some(File { path: path.to_owned(), text: String::from_utf8(bytes).ok()? })
        })
        .collect();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "git lists the sources");
    files
}

impl File {
    /// Whether the name ends in one of these, or is one of them when it has no extension.
    pub fn has_end(&self, ends: &[&str]) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let end = name.rsplit('.').next().unwrap_or_default();
        ends.contains(&end)
    }

    /// The lines with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// What the program consists of: no comment, no test. Lines keep their numbers.
    pub fn code(&self) -> Vec<(usize, String)> {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return Vec::new();
        }
        let mut code = Vec::new();
        let mut lines = self.lines().peekable();
        while let Some((number, line)) = lines.next() {
            if line.trim() == "#[cfg(test)]" {
                // Tests come last in a file, or are a file of their own.
                match lines.peek() {
                    Some((_, next)) if next.starts_with("mod ") && next.ends_with('{') => break,
                    _ => drop(lines.next()),
                }
            } else {
                code.push((number, without_comment(line).to_owned()));
            }
        }
        code
    }
}

/// A line up to its comment. A `//` inside a string counts as one when a space goes before it.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.find(" //").map_or(line, |at| &line[..at])
}

/// Whether a word stands in a line by itself, not as part of a longer name.
pub fn has_word(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(part_of_name) && !line[at + word.len()..].starts_with(part_of_name)
    })
}

/// Code ends where tests begin, and comments are none.
#[test]
fn code_is_neither_comment_nor_test() {
    let text = "//! Doc.\nuse a; // why\n#[cfg(test)]\nmod tests;\nlet b = \"x://y\";\n\
                #[cfg(test)]\nmod tests {\n    use c;\n}\n";
    let file = File { path: "src/a.rs".to_owned(), text: text.to_owned() };
    let expected = [(1, ""), (2, "use a;"), (5, "let b = \"x://y\";")];
    let code = file.code();
    assert_eq!(code.iter().map(|(at, line)| (*at, line.as_str())).collect::<Vec<_>>(), expected);
    assert!(has_word("a KEY_LEN_MAX;", "KEY_LEN_MAX") && !has_word("XKEY_LEN_MAX", "KEY_LEN_MAX"));
}
