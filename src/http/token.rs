//! Who may ask: the bearer token, and which clients count as local.

use crate::limits::HTTP_TOKEN_LEN_MAX;
use std::hint::black_box;
use std::net::IpAddr;

/// The secret every request but `/health` and `/live` must carry.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<[u8]>);

/// A text that can be no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing but white space.
    #[error("the token is empty")]
    Empty,
    /// More than [`HTTP_TOKEN_LEN_MAX`].
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

    /// Whether an `Authorization` header carries this token. The time it takes tells the token's
    /// length at most.
    #[must_use]
    pub fn admits(&self, authorization: &[u8]) -> bool {
        let Some((scheme, given)) = authorization.split_at_checked(7) else { return false };
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return false;
        }
        let given = given.trim_ascii();
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

/// Whether a path is answered without the token: probes carry none.
#[must_use]
pub fn is_open(path: &str) -> bool {
    matches!(path, "/health" | "/live")
}

/// Whether an address is this host's own.
#[must_use]
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether a `Host` names this host by address or as `localhost`. A page of a name that its owner
/// points at 127.0.0.1 (DNS rebinding) does not.
#[must_use]
pub fn is_local_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
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

    #[test]
    fn local_is_an_address_or_localhost() {
        for good in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7"] {
            assert!(is_local_host(good), "{good}");
        }
        for bad in ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert!(!is_local_host(bad), "{bad}");
        }
        assert!(is_loopback("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!is_loopback("10.0.0.7".parse().unwrap()));
    }
}
