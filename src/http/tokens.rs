//! The tokens that a server knows: what each may do, and what it is called.
//!
//! ```text
//! # a line each: role, name, token; or one token alone, which may everything
//! admin  ops      8fPRc5MyOAYVYrlhX6aFRzWMmKxIhzDKqBSfbYEE7ZI
//! write  backend  k3s0m3th1ng
//! read   grafana  a9n0th3r
//! ```
//!
//! They can be exchanged while the server runs. As long as the old and the new token both stand in
//! the file, no client is refused.

use super::token::{Token, TokenError};
use crate::limits::HTTP_TOKENS_MAX;
use parking_lot::RwLock;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Longest name of a token, in bytes.
const NAME_LEN_MAX: usize = 64;
/// What a token that stands alone is called.
const ALONE: &str = "token";

/// What a token permits. Each permits what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To read everything but the gossip keys' fingerprints.
    Read,
    /// To write and delete keys, too.
    Write,
    /// Everything: the gossip keys, and what else changes the node.
    Admin,
}

impl Role {
    const ALL: [(Role, &'static str); 3] =
        [(Role::Read, "read"), (Role::Write, "write"), (Role::Admin, "admin")];

    fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|(_, text)| *text == name).map(|(role, _)| role)
    }

    /// Its name in a file.
    #[must_use]
    pub fn name(self) -> &'static str {
        Role::ALL.into_iter().find(|(role, _)| *role == self).map_or("", |(_, text)| text)
    }
}

/// A token with its name and its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    name: Arc<str>,
    role: Role,
    token: Arc<Token>,
}

/// Why a text makes no list of tokens. Nothing of it shows what stands in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TokensError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: TokensProblem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokensProblem {
    /// Two words, or more than three.
    #[error("neither the token alone nor ROLE NAME TOKEN")]
    Words,
    /// A token that stands alone, and is what begins a line of a role: the rest may be missing.
    #[error("a word that is the name of a role is no token: anybody would guess it")]
    Guessed,
    /// The first of three words.
    #[error("the role is none of read, write, admin")]
    Role,
    /// The second of three words.
    #[error("the name has 1 to {NAME_LEN_MAX} letters, digits, dots, dashes and underscores")]
    Name,
    /// The token itself.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// A name that another line has.
    #[error("it has the name of line {0}")]
    NameTwice(usize),
    /// A token that another line has.
    #[error("it has the token of line {0}")]
    TokenTwice(usize),
    /// More tokens than can be compared with.
    #[error("more than {HTTP_TOKENS_MAX} tokens")]
    Many,
}

/// Tokens in the order of their file; at least one, with different names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenList(Vec<Named>);

impl TokenList {
    /// A token alone, which may everything.
    #[must_use]
    pub fn alone(token: Token) -> TokenList {
        TokenList(vec![Named { name: ALONE.into(), role: Role::Admin, token: Arc::new(token) }])
    }

    /// The tokens of a file's text. Empty lines and those that begin with `#` count for nothing.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<TokenList, TokensError> {
        if text.split_whitespace().count() == 1 && !text.trim_start().starts_with('#') {
            let wrong = |problem| TokensError { line: 1, problem };
            let token = Token::new(text).map_err(|error| wrong(error.into()))?;
            // A file that was cut short in its first line would be this.
            if Role::from_name(token.as_str()).is_some() {
                return Err(wrong(TokensProblem::Guessed));
            }
            return Ok(TokenList::alone(token));
        }
        let mut found: Vec<(usize, Named)> = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let words: Vec<&str> = text.split_whitespace().collect();
            if words.first().is_none_or(|word| word.starts_with('#')) {
                continue;
            }
            let error = |problem| TokensError { line, problem };
            let named = Named::parse(line, &words).map_err(error)?;
            if let Some((other, _)) = found.iter().find(|(_, other)| other.name == named.name) {
                return Err(error(TokensProblem::NameTwice(*other)));
            }
            if let Some((other, _)) = found.iter().find(|(_, other)| other.token == named.token) {
                return Err(error(TokensProblem::TokenTwice(*other)));
            }
            if found.len() == HTTP_TOKENS_MAX {
                return Err(error(TokensProblem::Many));
            }
            found.push((line, named));
        }
        if found.is_empty() {
            return Err(TokensError { line: 1, problem: TokenError::Empty.into() });
        }
        Ok(TokenList(found.into_iter().map(|(_, named)| named).collect()))
    }

    /// The first of those that may most, as a client sends it.
    #[must_use]
    pub fn strongest(&self) -> &str {
        let best = self.0.iter().rev().max_by_key(|named| named.role);
        best.map_or("", |named| named.token.as_str())
    }

    /// Each as `role:name:fingerprint`, for a log; one that stands alone by its fingerprint.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        let shown = |named: &Named| match &*named.name {
            ALONE => named.token.fingerprint(),
            name => format!("{}:{name}:{}", named.role.name(), named.token.fingerprint()),
        };
        self.0.iter().map(shown).collect()
    }
}

impl Named {
    fn parse(line: usize, words: &[&str]) -> Result<Named, TokensProblem> {
        match *words {
            [token] if Role::from_name(token).is_some() => Err(TokensProblem::Guessed),
            [token] => {
                let name = format!("line{line}").into();
                Ok(Named { name, role: Role::Admin, token: Arc::new(Token::new(token)?) })
            }
            [role, name, token] => {
                let role = Role::from_name(role).ok_or(TokensProblem::Role)?;
                let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
                if name.len() > NAME_LEN_MAX || !name.bytes().all(is_plain) {
                    return Err(TokensProblem::Name);
                }
                Ok(Named { name: name.into(), role, token: Arc::new(Token::new(token)?) })
            }
            _ => Err(TokensProblem::Words),
        }
    }
}

/// A token in use.
struct Entry {
    named: Named,
    /// Requests that showed it; the same of every token that has had this name.
    n_shown: Arc<AtomicU64>,
}

/// What a token shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) role: Role,
    /// Shared, so that it outlives an exchange.
    pub(super) name: Arc<str>,
    token: Arc<Token>,
}

impl Shown {
    /// What a request that waits is asked for again.
    pub(super) fn pass(self) -> Pass {
        Pass(self.token)
    }
}

/// A token that was shown by a request that may wait for long. It may be exchanged meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Pass(Arc<Token>);

/// The tokens in use.
pub struct Tokens {
    entries: RwLock<Vec<Entry>>,
    is_stale: AtomicBool,
}

impl Tokens {
    /// Tokens to begin with.
    #[must_use]
    pub fn new(list: TokenList) -> Arc<Tokens> {
        let tokens = Tokens { entries: RwLock::default(), is_stale: AtomicBool::new(false) };
        tokens.exchange(list);
        Arc::new(tokens)
    }

    /// Uses these from now on. What has been counted by name goes on.
    pub fn exchange(&self, list: TokenList) {
        let mut entries = self.entries.write();
        let known = |name: &str| entries.iter().find(|entry| *entry.named.name == *name);
        let make = |named: Named| {
            let n_shown = known(&named.name).map(|entry| Arc::clone(&entry.n_shown));
            Entry { named, n_shown: n_shown.unwrap_or_default() }
        };
        let made = list.0.into_iter().map(make).collect();
        *entries = made;
        drop(entries);
        self.is_stale.store(false, Ordering::Relaxed);
    }

    /// The source of these cannot be read any more, so that they may be old.
    pub fn set_stale(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    /// Whether the source of these cannot be read any more.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    /// Their names, in the order of their file.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<String> {
        self.entries.read().iter().map(|entry| entry.named.name.to_string()).collect()
    }

    /// Which token an `Authorization` header carries.
    pub(super) fn shown_by(&self, authorization: &[u8]) -> Option<Shown> {
        self.shown(|token| token.admits(authorization))
    }

    /// Which token this is.
    pub(super) fn shown_as(&self, given: &[u8]) -> Option<Shown> {
        self.shown(|token| token.is(given))
    }

    /// Which token was given. It is compared with all of them; the time that it takes tells their
    /// lengths at most.
    fn shown(&self, is_given: impl Fn(&Token) -> bool) -> Option<Shown> {
        let entries = self.entries.read();
        let mut found = None;
        for entry in &*entries {
            if is_given(&entry.named.token) {
                found = Some(entry);
            }
        }
        let entry = found?;
        entry.n_shown.fetch_add(1, Ordering::Relaxed);
        let Named { role, name, token } = &entry.named;
        Some(Shown { role: *role, name: Arc::clone(name), token: Arc::clone(token) })
    }

    /// Whether the token is still in use, so that whoever has shown it may read on.
    pub(super) fn admit_still(&self, pass: &Pass) -> bool {
        self.entries.read().iter().any(|entry| entry.named.token == pass.0)
    }

    /// For each its name, its role and how often it was shown.
    pub(super) fn counts(&self) -> Vec<(String, Role, u64)> {
        let entries = self.entries.read();
        let count = |entry: &Entry| {
            let n = entry.n_shown.load(Ordering::Relaxed);
            (entry.named.name.to_string(), entry.named.role, n)
        };
        entries.iter().map(count).collect()
    }
}

impl fmt::Debug for Tokens {
    /// A token never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> TokenList {
        TokenList::parse(text).unwrap()
    }

    #[test]
    fn a_file_holds_one_token_or_many_with_roles() {
        assert_eq!(parse(" s3cret\n"), TokenList::alone(Token::new("s3cret").unwrap()));
        let list = parse("# ours\n\nread r aaa\r\n  admin\ta.b_c-1  bbb \nwrite w ccc\nddd\n");
        let roles: Vec<_> = list.0.iter().map(|named| (&*named.name, named.role)).collect();
        let expected = [("r", Role::Read), ("a.b_c-1", Role::Admin), ("w", Role::Write)];
        assert_eq!(roles[..3], expected);
        assert_eq!(roles[3], ("line6", Role::Admin));
        assert_eq!(list.strongest(), "bbb");
        assert!(list.shown()[0].starts_with("read:r:") && !list.shown().concat().contains("aaa"));
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        let long = format!("read {} tok3n", "n".repeat(NAME_LEN_MAX + 1));
        let many = (0..=HTTP_TOKENS_MAX).map(|n| format!("read n{n} tok3n{n}\n"));
        let many: String = many.collect();
        for (text, line, problem) in [
            ("", 1, TokensProblem::Token(TokenError::Empty)),
            ("# nothing\n# here", 1, TokensProblem::Token(TokenError::Empty)),
            ("#tok3n", 1, TokensProblem::Token(TokenError::Empty)),
            ("admin\n", 1, TokensProblem::Guessed),
            ("read a tok3n\nwrite", 2, TokensProblem::Guessed),
            ("two tok3ns", 1, TokensProblem::Words),
            ("read a b\nread a tok3n more", 2, TokensProblem::Words),
            ("read a b\nREAD s3cret tok3n", 2, TokensProblem::Role),
            ("\nread s3cret! tok3n", 2, TokensProblem::Name),
            (&long, 1, TokensProblem::Name),
            ("read a tok3n\u{e9}", 1, TokensProblem::Token(TokenError::Char)),
            ("read a tok3n\n\nwrite a s3cret", 3, TokensProblem::NameTwice(1)),
            ("read a tok3n\nwrite b tok3n", 2, TokensProblem::TokenTwice(1)),
            (&many, HTTP_TOKENS_MAX + 1, TokensProblem::Many),
        ] {
            let error = TokenList::parse(text).unwrap_err();
            assert_eq!(error, TokensError { line, problem }, "{text}");
            let said = error.to_string();
            assert!(!said.contains("tok3n") && !said.contains("s3cret"), "{said}");
        }
    }

    #[test]
    fn an_exchange_keeps_what_was_counted() {
        let tokens = Tokens::new(parse("read a one\nwrite b two"));
        let role = |shown: &str| {
            let shown = tokens.shown_by(format!("Bearer {shown}").as_bytes());
            shown.map(|shown| (shown.role, shown.name.to_string()))
        };
        assert_eq!(role("one"), Some((Role::Read, "a".to_owned())));
        assert_eq!((role("three"), role("")), (None, None));
        tokens.set_stale();
        tokens.exchange(parse("admin a three\nread c four"));
        assert!(!tokens.is_stale());
        assert_eq!((role("one"), role("two")), (None, None));
        assert_eq!(role("three"), Some((Role::Admin, "a".to_owned())));
        let counts = [("a".to_owned(), Role::Admin, 2), ("c".to_owned(), Role::Read, 0)];
        assert_eq!(tokens.counts(), counts);
        assert!(Role::Read < Role::Write && Role::Write < Role::Admin);
    }
}
