//! The secret that proves to a worker that a request comes from the gate.
//!
//! ```text
//! GET /0123456789abcdef0123456789abcdeft/kv/a HTTP/1.1
//!      `------------ secret -----------'|`-- the client's target
//!                                       `-- how far the client is trusted
//! ```

use crate::http::request::Trust;

/// What every target of the gate begins with: `/`, 32 hex digits, then how far the client is
/// trusted. Clients cannot send it: the gate puts it before whatever they send.
#[derive(Clone)]
pub(in crate::http) struct Secret(String);

/// The answer to a [`Secret::proof`].
pub(super) const PROOF_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

const PROOF: char = '!';
const ANYBODY: char = '-';
const LOCAL: char = 'l';
const TOKEN: char = 't';

/// What the gate asks of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked<'t> {
    /// Whether the worker is alive.
    Proof,
    /// The answer to a client's request for a target.
    Request(Trust, &'t str),
}

impl Secret {
    /// A fresh secret.
    ///
    /// # Errors
    /// Those of the operating system, when it gives no random bytes.
    #[expect(clippy::disallowed_methods, reason = "the line to the workers wants a secret")]
    pub(super) fn random() -> std::io::Result<Secret> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        Ok(Secret::new(random))
    }

    pub(super) fn new(random: [u8; 16]) -> Secret {
        Secret(format!("/{:032x}", u128::from_ne_bytes(random)))
    }

    /// Appends what goes before the target of a client's request.
    pub(in crate::http) fn prefix(&self, trust: Trust, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
        let mark = match trust {
            // A stranger's request never comes so far.
            Trust::Stranger | Trust::Anybody => ANYBODY,
            Trust::Local => LOCAL,
            Trust::Token => TOKEN,
        };
        out.push(mark as u8);
    }

    /// A whole request that only asks whether the lane is alive.
    pub(super) fn proof(&self) -> Vec<u8> {
        format!("GET {}{PROOF} HTTP/1.1\r\n\r\n", self.0).into_bytes()
    }

    /// Takes the prefix off; `None` from anybody but the gate.
    pub(super) fn open<'t>(&self, target: &'t str) -> Option<Asked<'t>> {
        let mut rest = target.strip_prefix(self.0.as_str())?.chars();
        let trust = match rest.next()? {
            PROOF => return Some(Asked::Proof),
            LOCAL => Trust::Local,
            TOKEN => Trust::Token,
            _ => Trust::Anybody,
        };
        Some(Asked::Request(trust, rest.as_str()))
    }
}

impl std::fmt::Debug for Secret {
    /// The secret never reaches a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}
