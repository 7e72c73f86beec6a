//! How one end of a stream tells the other that they do not belong together, and how it is heard.
//!
//! ```text
//!   dialler's first frame    the acceptor answers               the dialler takes it for
//!   another label, or none   0d err, in clear                   Label
//!   another key              0d err, under the acceptor's key   Key: it cannot be read, or says so
//!   in clear, wants a key    0d err, under the acceptor's key   Key: it is encrypted
//!   encrypted, has no key    0d err, in clear                   Key: it is not encrypted
//!   (memberlist, a label)    nothing, and closes                Silence
//! ```
//!
//! The answer to another label is in clear, since what an encrypted frame authenticates includes
//! the label. It says that there is another label here, and not which.

use super::{Frame, StreamError, encode_reply};
use crate::wire::keyring::{CryptError, Keyring, NONCE_LEN};
use crate::wire::packet::Security;
use bytes::Bytes;

/// Why the other end of a connection that we dialled wants nothing to do with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// Its gossip key is another one, or only one of us has one.
    Key,
    /// Its label is another one, or only one of us has one.
    Label,
    /// It accepted, and closed without a byte: how memberlist treats another label.
    Silence,
}

impl Mismatch {
    /// What an error frame says. Its text may be ours or Go's; a stranger's text can at most make
    /// us report the wrong one of the two.
    #[must_use]
    pub fn told(text: &str) -> Option<Mismatch> {
        let text = text.to_ascii_lowercase();
        if text.contains("label") {
            Some(Mismatch::Label)
        } else if text.contains("crypt") {
            Some(Mismatch::Key)
        } else {
            None
        }
    }
}

impl StreamError {
    /// What it says about the other end when it was the answer to a frame of ours.
    #[must_use]
    pub fn mismatch(&self) -> Option<Mismatch> {
        match self {
            StreamError::NotEncrypted
            | StreamError::NoKeys
            | StreamError::Decrypt(CryptError::NoKeyFits) => Some(Mismatch::Key),
            StreamError::LabelMismatch => Some(Mismatch::Label),
            _ => None,
        }
    }
}

/// The error frame an acceptor answers `error` with before it closes, or `None` when it closes
/// silently.
#[must_use]
pub fn encode_refusal(
    security: &Security,
    error: &StreamError,
    nonce: [u8; NONCE_LEN],
) -> Option<Bytes> {
    let frame = Frame::Error(error.reply()?);
    if !matches!(error, StreamError::LabelMismatch) {
        return Some(encode_reply(security, &frame, nonce));
    }
    let clear = Security { keyring: Keyring::default(), compress: false, ..security.clone() };
    Some(encode_reply(&clear, &frame, nonce))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::keyring::Key;
    use crate::wire::message::Ping;
    use crate::wire::stream::{FrameReader, Role, encode_request};

    fn security(label: &str, key: Option<u8>) -> Security {
        let keyring = key.map(|byte| {
            let key = Key::from_bytes(&[byte; 16]).expect("an AES key");
            Keyring::new([key]).expect("one key")
        });
        Security {
            label: Bytes::copy_from_slice(label.as_bytes()),
            keyring: keyring.unwrap_or_default(),
            ..Security::default()
        }
    }

    /// What the dialler hears of an acceptor that cannot read its first frame.
    fn heard(dialler: &Security, acceptor: &Security) -> Option<Mismatch> {
        let mut reader = FrameReader::new(Role::Acceptor);
        reader.extend(&encode_request(dialler, &Frame::Ping(Ping::default()), [1; NONCE_LEN]));
        let error = reader.next(acceptor).expect_err("they do not belong together");
        let answer = encode_refusal(acceptor, &error, [2; NONCE_LEN]).expect("an answer");
        let mut reader = FrameReader::new(Role::Dialer);
        reader.extend(&answer);
        match reader.next(dialler) {
            Ok(Some(Frame::Error(text))) => Mismatch::told(&text),
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.mismatch(),
        }
    }

    #[test]
    fn every_pair_that_does_not_belong_together_says_why() {
        let [plain, one, two] = [None, Some(1), Some(2)];
        for compress in [false, true] {
            for (dialler, acceptor, expected) in [
                (("", plain), ("", one), Mismatch::Key),
                (("", one), ("", plain), Mismatch::Key),
                (("", one), ("", two), Mismatch::Key),
                (("a", one), ("a", two), Mismatch::Key),
                (("a", plain), ("a", two), Mismatch::Key),
                (("", plain), ("a", plain), Mismatch::Label),
                (("a", plain), ("", plain), Mismatch::Label),
                (("a", plain), ("b", plain), Mismatch::Label),
                (("a", one), ("b", one), Mismatch::Label),
                (("a", one), ("", one), Mismatch::Label),
                (("", one), ("b", one), Mismatch::Label),
                (("a", one), ("b", plain), Mismatch::Label),
                (("a", plain), ("b", one), Mismatch::Label),
            ] {
                let of = |(label, key)| Security { compress, ..security(label, key) };
                let told = heard(&of(dialler), &of(acceptor));
                assert_eq!(told, Some(expected), "{dialler:?} at {acceptor:?}, {compress}");
            }
        }
    }

    #[test]
    fn whoever_dials_under_an_accepted_label_is_answered_under_it() {
        for key in [None, Some(1)] {
            for (own, accepted) in [("new", "old"), ("new", ""), ("", "new")] {
                let accepted_labels = vec![Bytes::copy_from_slice(accepted.as_bytes())];
                let acceptor = Security { accepted_labels, ..security(own, key) };
                for dialled in [own, accepted] {
                    let dialler = security(dialled, key);
                    let ping = Frame::Ping(Ping::default());
                    let mut reader = FrameReader::new(Role::Acceptor);
                    reader.extend(&encode_request(&dialler, &ping, [1; NONCE_LEN]));
                    assert_eq!(reader.next(&acceptor), Ok(Some(ping)), "{dialled:?} at {own:?}");
                    let label = reader.dialled_under().expect("it has come");
                    let ack = Frame::Ack(crate::wire::message::Ack::default());
                    let answer = encode_reply(&acceptor.under(label), &ack, [2; NONCE_LEN]);
                    let mut reader = FrameReader::new(Role::Dialer);
                    reader.extend(&answer);
                    assert_eq!(reader.next(&dialler), Ok(Some(ack)), "{dialled:?} at {own:?}");
                }
                let told = heard(&security("third", key), &acceptor);
                assert_eq!(told, Some(Mismatch::Label));
            }
        }
    }

    #[test]
    fn the_words_of_go_are_understood() {
        for (text, expected) in [
            ("Remote state is encrypted and encryption is not configured", Some(Mismatch::Key)),
            ("encryption is configured but remote state is not encrypted", Some(Mismatch::Key)),
            ("No installed keys could decrypt the message", Some(Mismatch::Key)),
            ("Node states are too large", None),
        ] {
            assert_eq!(Mismatch::told(text), expected, "{text}");
        }
    }
}
