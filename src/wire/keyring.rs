//! Gossip keys: which encrypts, which decrypt, and the encrypted blob.
//!
//! ```text
//! version u8 | nonce[12] | ciphertext | tag[16]        AES-GCM, key of 16, 24 or 32 bytes
//! ```
//!
//! Version 1 is the ciphertext of the plaintext as it is; version 0 pads it to blocks of 16 first
//! (PKCS#7). We send 1 and take both. The version byte is not authenticated; the label is, and on
//! streams the frame header too.
//!
//! An empty keyring means plaintext. The first key encrypts, every key is tried to decrypt. Keys
//! are never shown: `Debug` and errors know a key by its fingerprint only.

use crate::limits::KEYS_MAX;
use aes_gcm::aes::cipher::{Block, BlockCipherEncrypt};
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use aes_gcm::{AeadInOut, AesGcm, KeyInit, aead::consts::U12};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::sync::Arc;

/// Bytes of a nonce; a fresh one from the operating system for every seal.
pub const NONCE_LEN: usize = 12;
/// Bytes an encrypted blob is longer than its plaintext (version 1).
pub const OVERHEAD: usize = 1 + NONCE_LEN + TAG_LEN;
const TAG_LEN: usize = 16;
const BLOCK_LEN: usize = 16;
/// Encrypted to identify a key. Its last four bytes, read as GCM's block counter, are past any
/// message that fits memory, so it never meets a block of key stream.
const FINGERPRINT_BLOCK: [u8; BLOCK_LEN] = *b"gossipykv key id";

/// Why a blob could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptError {
    /// Shorter than the shortest blob of its version.
    #[error("encrypted message of {len} bytes is shorter than {min}")]
    TooShort {
        /// Its length.
        len: usize,
        /// The shortest possible.
        min: usize,
    },
    /// A version other than 0 and 1.
    #[error("unknown encryption version {0}")]
    UnknownVersion(u8),
    /// No installed key opens it under this label.
    #[error("no installed key decrypts the message")]
    NoKeyFits,
    /// Authentic, but its version 0 padding is not PKCS#7.
    #[error("padding is broken")]
    BrokenPadding,
}

/// Why a key or a change of the keyring was refused. The keyring is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Not base64.
    #[error("line {line}: not a base64 key")]
    NotBase64 {
        /// Counted from 1.
        line: usize,
    },
    /// Not an AES key.
    #[error("line {line}: key of {len} bytes; 16, 24 or 32 are possible")]
    KeyLen {
        /// Counted from 1.
        line: usize,
        /// Bytes found.
        len: usize,
    },
    /// A key list without a key, which would silently mean plaintext.
    #[error("no key found; expected base64 keys of 16, 24 or 32 bytes, one a line")]
    NoKeys,
    /// More keys than [`KEYS_MAX`].
    #[error("more than {KEYS_MAX} keys")]
    TooManyKeys,
    /// The key is not in the ring.
    #[error("key {0} is not installed")]
    NotInstalled(String),
    /// The primary key cannot be removed.
    #[error("key {0} is the primary key; use another one first")]
    IsPrimary(String),
}

/// One AES key of 16, 24 or 32 bytes.
#[derive(Clone)]
pub struct Key(Arc<KeyInner>);

struct KeyInner {
    secret: Vec<u8>,
    cipher: Cipher,
    fingerprint: String,
}

enum Cipher {
    Aes128(AesGcm<Aes128, U12>),
    Aes192(AesGcm<Aes192, U12>),
    Aes256(AesGcm<Aes256, U12>),
}

/// Runs `$body` with `$cipher` bound to whichever AES-GCM the key is for.
macro_rules! with_cipher {
    ($key:expr, $cipher:ident => $body:expr) => {
        match &$key.0.cipher {
            Cipher::Aes128($cipher) => $body,
            Cipher::Aes192($cipher) => $body,
            Cipher::Aes256($cipher) => $body,
        }
    };
}

impl Key {
    /// A key from its bytes, or `None` unless there are 16, 24 or 32.
    #[must_use]
    pub fn from_bytes(secret: &[u8]) -> Option<Key> {
        let (cipher, id) = match secret.len() {
            16 => (
                Cipher::Aes128(AesGcm::new_from_slice(secret).ok()?),
                fingerprint::<Aes128>(secret)?,
            ),
            24 => (
                Cipher::Aes192(AesGcm::new_from_slice(secret).ok()?),
                fingerprint::<Aes192>(secret)?,
            ),
            32 => (
                Cipher::Aes256(AesGcm::new_from_slice(secret).ok()?),
                fingerprint::<Aes256>(secret)?,
            ),
            _ => return None,
        };
        let secret = secret.to_vec();
        Some(Key(Arc::new(KeyInner { secret, cipher, fingerprint: id })))
    }

    /// A key from base64, as `keygen` prints it and key files hold it.
    ///
    /// # Errors
    /// [`KeyringError::NotBase64`] or [`KeyringError::KeyLen`], on line 1.
    pub fn from_base64(text: &str) -> Result<Key, KeyringError> {
        Key::from_base64_line(text, 1)
    }

    fn from_base64_line(text: &str, line: usize) -> Result<Key, KeyringError> {
        let secret = STANDARD.decode(text.trim()).map_err(|_| KeyringError::NotBase64 { line })?;
        Key::from_bytes(&secret).ok_or(KeyringError::KeyLen { line, len: secret.len() })
    }

    /// What people see of a key: eight hex digits that follow from it and do not reveal it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    fn encrypt(&self, nonce: [u8; NONCE_LEN], aad: &[u8], buffer: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = with_cipher!(self, cipher => {
            cipher.encrypt_inout_detached(&nonce.into(), aad, buffer.into())
        });
        tag.expect("a frame is far below AES-GCM's limit of 64 GiB").into()
    }

    /// Leaves `buffer` as it was unless the tag is right.
    fn decrypt(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
        tag: [u8; TAG_LEN],
    ) -> bool {
        with_cipher!(self, cipher => {
            cipher.decrypt_inout_detached(&nonce.into(), aad, buffer.into(), &tag.into()).is_ok()
        })
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.0.secret == other.0.secret
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.fingerprint)
    }
}

/// The keys of a cluster, primary first. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// A ring of these keys, the first one primary. Repeated keys count once.
    ///
    /// # Errors
    /// [`KeyringError::TooManyKeys`].
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Keyring, KeyringError> {
        let mut ring = Keyring::default();
        for key in keys {
            ring.install(key)?;
        }
        Ok(ring)
    }

    /// Reads a key file: base64 keys, one a line or separated by commas, the first one primary.
    /// Blank lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// What is wrong, with the number of the line, never with its text.
    pub fn parse(text: &str) -> Result<Keyring, KeyringError> {
        let mut ring = Keyring::default();
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with('#') {
                continue;
            }
            for word in line.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                ring.install(Key::from_base64_line(word, index + 1)?)?;
            }
        }
        if ring.is_empty() { Err(KeyringError::NoKeys) } else { Ok(ring) }
    }

    /// Adds a key that decrypts; it encrypts only when it is the first. False when it was there.
    ///
    /// # Errors
    /// [`KeyringError::TooManyKeys`].
    pub fn install(&mut self, key: Key) -> Result<bool, KeyringError> {
        if self.keys.contains(&key) {
            return Ok(false);
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyringError::TooManyKeys);
        }
        self.keys.push(key);
        Ok(true)
    }

    /// Makes an installed key primary.
    ///
    /// # Errors
    /// [`KeyringError::NotInstalled`].
    pub fn use_key(&mut self, key: &Key) -> Result<(), KeyringError> {
        let at = self
            .keys
            .iter()
            .position(|installed| installed == key)
            .ok_or_else(|| KeyringError::NotInstalled(key.fingerprint().to_owned()))?;
        self.keys[..=at].rotate_right(1);
        Ok(())
    }

    /// Removes a key. False when it was not there, so that a rotation can be repeated.
    ///
    /// # Errors
    /// [`KeyringError::IsPrimary`].
    pub fn remove(&mut self, key: &Key) -> Result<bool, KeyringError> {
        match self.keys.iter().position(|installed| installed == key) {
            None => Ok(false),
            Some(0) => Err(KeyringError::IsPrimary(key.fingerprint().to_owned())),
            Some(at) => {
                self.keys.remove(at);
                Ok(true)
            }
        }
    }

    /// True when gossip is plaintext.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, primary first.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key that encrypts.
    #[must_use]
    pub fn primary(&self) -> Option<&Key> {
        self.keys.first()
    }

    /// Appends the blob of `plain` under the primary key (version 1) to `out`; an empty ring
    /// appends `plain` itself. `nonce` must never repeat under one key.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        let Some(key) = self.primary() else {
            out.extend_from_slice(plain);
            return;
        };
        out.reserve(plain.len() + OVERHEAD);
        out.push(1);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let tag = key.encrypt(nonce, aad, &mut out[start..]);
        out.extend_from_slice(&tag);
    }

    /// The plaintext of `blob`, and the key that opened it.
    ///
    /// # Errors
    /// See [`CryptError`].
    pub fn open(&self, aad: &[u8], blob: &[u8]) -> Result<(Vec<u8>, &Key), CryptError> {
        let version = *blob.first().ok_or(CryptError::TooShort { len: 0, min: OVERHEAD })?;
        let min = match version {
            0 => OVERHEAD + BLOCK_LEN,
            1 => OVERHEAD,
            other => return Err(CryptError::UnknownVersion(other)),
        };
        let too_short = CryptError::TooShort { len: blob.len(), min };
        let (nonce, rest) = blob[1..].split_first_chunk::<NONCE_LEN>().ok_or(too_short)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(too_short)?;
        if blob.len() < min {
            return Err(too_short);
        }
        let mut plain = ciphertext.to_vec();
        let key = self
            .keys
            .iter()
            .find(|key| key.decrypt(*nonce, aad, &mut plain, *tag))
            .ok_or(CryptError::NoKeyFits)?;
        if version == 0 {
            unpad(&mut plain)?;
        }
        Ok((plain, key))
    }
}

/// Removes PKCS#7 padding: 1 to 16 bytes, each of them the number of them.
fn unpad(plain: &mut Vec<u8>) -> Result<(), CryptError> {
    let pad = plain.last().copied().ok_or(CryptError::BrokenPadding)?;
    let keep = plain.len().checked_sub(usize::from(pad)).ok_or(CryptError::BrokenPadding)?;
    let well_formed = (1..=BLOCK_LEN).contains(&usize::from(pad))
        && plain.len().is_multiple_of(BLOCK_LEN)
        && plain[keep..].iter().all(|byte| *byte == pad);
    if !well_formed {
        return Err(CryptError::BrokenPadding);
    }
    plain.truncate(keep);
    Ok(())
}

fn fingerprint<C: BlockCipherEncrypt + KeyInit>(secret: &[u8]) -> Option<String> {
    let mut block = Block::<C>::try_from(&FINGERPRINT_BLOCK[..]).ok()?;
    C::new_from_slice(secret).ok()?.encrypt_block(&mut block);
    Some(block[..4].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; NONCE_LEN] = [3; NONCE_LEN];

    fn key(byte: u8, len: usize) -> Key {
        Key::from_bytes(&vec![byte; len]).expect("an AES key")
    }

    fn base64(byte: u8, len: usize) -> String {
        STANDARD.encode(vec![byte; len])
    }

    #[test]
    fn only_aes_key_lengths() {
        for len in 0..64 {
            assert_eq!(Key::from_bytes(&vec![0; len]).is_some(), [16, 24, 32].contains(&len));
        }
    }

    #[test]
    fn files() {
        let (a, b) = (base64(1, 16), base64(2, 32));
        let both = Keyring::new([key(1, 16), key(2, 32)]);
        for text in [
            format!("{a}\n{b}\n"),
            format!("# comment\r\n\r\n  {a}  \r\n{b}"),
            format!("{a},{b}"),
            format!("{a}, {b},\n{a}\n"),
        ] {
            assert_eq!(Keyring::parse(&text), both, "{text}");
        }
        for (text, expected) in [
            (String::new(), KeyringError::NoKeys),
            ("# only\n\n".to_owned(), KeyringError::NoKeys),
            (format!("{a}\n\nnot base64!\n"), KeyringError::NotBase64 { line: 3 }),
            (format!("{a}\n{}", base64(1, 15)), KeyringError::KeyLen { line: 2, len: 15 }),
            (
                (0..=KEYS_MAX).map(|n| base64(n as u8, 16) + "\n").collect(),
                KeyringError::TooManyKeys,
            ),
        ] {
            let error = Keyring::parse(&text).expect_err("not a keyring");
            assert_eq!(error, expected);
            assert!(!error.to_string().contains(&a), "an error shows no key");
        }
    }

    #[test]
    fn rotation() {
        let [a, b, c] = [key(1, 16), key(2, 24), key(3, 32)];
        let mut ring = Keyring::new([a.clone()]).expect("one key");
        assert_eq!(ring.install(b.clone()), Ok(true));
        assert_eq!(ring.install(b.clone()), Ok(false));
        assert_eq!(ring.install(c.clone()), Ok(true));
        assert_eq!(ring.keys(), [a.clone(), b.clone(), c.clone()]);
        assert_eq!(ring.use_key(&c), Ok(()));
        assert_eq!(ring.keys(), [c.clone(), a.clone(), b.clone()]);
        assert_eq!(ring.remove(&c), Err(KeyringError::IsPrimary(c.fingerprint().to_owned())));
        assert_eq!(ring.remove(&a), Ok(true));
        assert_eq!(ring.remove(&a), Ok(false));
        assert_eq!(ring.use_key(&a), Err(KeyringError::NotInstalled(a.fingerprint().to_owned())));
        assert_eq!(ring.keys(), [c, b]);
    }

    #[test]
    fn any_installed_key_opens() {
        let old = Keyring::new([key(1, 16)]).expect("one key");
        let new = Keyring::new([key(2, 32), key(1, 16)]).expect("two keys");
        let mut blob = Vec::new();
        old.seal(NONCE, b"label", b"plain", &mut blob);
        let (plain, opened_by) = new.open(b"label", &blob).expect("the old key is installed");
        assert_eq!((&plain[..], opened_by), (&b"plain"[..], &key(1, 16)));
        assert_eq!(new.open(b"other", &blob), Err(CryptError::NoKeyFits));
        assert_eq!(Keyring::default().open(b"label", &blob), Err(CryptError::NoKeyFits));
    }

    #[test]
    fn short_blobs_are_refused_not_read() {
        let ring = Keyring::new([key(1, 16)]).expect("one key");
        for version in 0..=3 {
            for len in 0..OVERHEAD + BLOCK_LEN {
                let mut blob = vec![9; len];
                blob.splice(..usize::from(len > 0), std::iter::repeat_n(version, len.min(1)));
                assert!(ring.open(b"", &blob).is_err());
            }
        }
    }

    /// Encrypts under version 0 with the padding as given.
    fn version_0(padded: &[u8]) -> Vec<u8> {
        let mut buffer = padded.to_vec();
        let tag = key(1, 16).encrypt(NONCE, b"", &mut buffer);
        [&[0][..], &NONCE, &buffer, &tag].concat()
    }

    #[test]
    fn version_0_padding() {
        let ring = Keyring::new([key(1, 16)]).expect("one key");
        let check = |padded: &[u8], expected: Result<&[u8], CryptError>| {
            let opened = ring.open(b"", &version_0(padded)).map(|(plain, _)| plain);
            assert_eq!(opened.as_deref(), expected.as_ref().copied(), "{padded:02x?}");
        };
        check(&[16; 16], Ok(b""));
        check(&[&[b'x'; 15][..], &[1]].concat(), Ok(&[b'x'; 15]));
        check(&[&[b'x'; 16][..], &[16; 16]].concat(), Ok(&[b'x'; 16]));
        // The byte that says how much to cut, out of range or not repeated.
        check(&[0; 16], Err(CryptError::BrokenPadding));
        check(&[17; 16], Err(CryptError::BrokenPadding));
        check(&[255; 16], Err(CryptError::BrokenPadding));
        check(&[&[b'x'; 15][..], &[2]].concat(), Err(CryptError::BrokenPadding));
    }

    #[test]
    fn keys_are_never_shown() {
        let ring = Keyring::new([key(0xab, 16)]).expect("one key");
        let shown = format!("{ring:?}");
        assert!(shown.contains(ring.keys()[0].fingerprint()));
        assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
        assert_ne!(key(1, 16).fingerprint(), key(1, 32).fingerprint());
    }
}
