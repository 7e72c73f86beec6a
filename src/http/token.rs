//! The bearer token, with which a client shows that it may ask.

use crate::limits::HTTP_TOKEN_LEN_MAX;
use std::hint::black_box;
use xxhash_rust::xxh3::xxh3_64;

/// A secret that a request carries.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<[u8]>);

/// A text that can be no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text is nothing but white space.
    #[error("the token is empty")]
    Empty,
    /// The text is longer than [`HTTP_TOKEN_LEN_MAX`] bytes.
    #[error("the token is longer than {HTTP_TOKEN_LEN_MAX} bytes")]
    Len,
    /// A byte that no HTTP header carries unchanged.
    #[error("the token may hold visible ASCII characters only, on one line")]
    Char,
}

impl Token {
    /// The token in a file's text; white space around it is left out.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn new(text: &str) -> Result<Token, TokenError> {
        let token = text.trim().as_bytes();
        if token.is_empty() {
            Err(TokenError::Empty)
        } else if token.len() > HTTP_TOKEN_LEN_MAX {
            Err(TokenError::Len)
        } else if !token.iter().all(u8::is_ascii_graphic) {
            Err(TokenError::Char)
        } else {
            Ok(Token(token.into()))
        }
    }

    /// Eight hex digits that tell two tokens apart, for a log. Of a token that nobody can guess
    /// they say nothing else.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:08x}", xxh3_64(&self.0) >> 32)
    }

    /// The token as a client sends it.
    pub(super) fn as_str(&self) -> &str {
        // It is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether an `Authorization` header carries this token. The time it takes tells the token's
    /// length at most.
    pub(super) fn admits(&self, authorization: &[u8]) -> bool {
        let Some((scheme, given)) = authorization.split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && self.is(given.trim_ascii())
    }

    /// Whether this is the token, in the same time.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        if given.len() != self.0.len() {
            return false;
        }
        let mut differing = 0;
        for (a, b) in given.iter().zip(&self.0) {
            differing = black_box(differing | (a ^ b));
        }
        differing == 0
    }
}

impl std::fmt::Debug for Token {
    /// The token never reaches a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_of_visible_ascii() {
        assert_eq!(Token::new(" s3cret\n"), Ok(Token(Box::from(*b"s3cret"))));
        assert_eq!(Token::new(" \n"), Err(TokenError::Empty));
        assert_eq!(Token::new("two lines\nhere"), Err(TokenError::Char));
        assert_eq!(Token::new(&"x".repeat(HTTP_TOKEN_LEN_MAX + 1)), Err(TokenError::Len));
    }

    #[test]
    fn only_the_very_token_admits() {
        let token = Token::new("s3cret").unwrap();
        for good in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "] {
            assert!(token.admits(good.as_bytes()), "{good}");
        }
        let bad =
            ["", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret1", "Basic s3cret"];
        for bad in bad {
            assert!(!token.admits(bad.as_bytes()), "{bad}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
