//! Key files, and what is encrypted with keys.

use super::{FIXED, Heap, SECURITIES, choice, within};
use crate::vectors;
use gossipykv::limits::KEYS_MAX;
use gossipykv::wire::keyring::{CryptError, Key, Keyring, KeyringError, OVERHEAD};

/// A key ready for use: its bytes and what its cipher makes of them.
const KEY_LEN: usize = 4 << 10;
const BLOCK_LEN: usize = 16;

/// A file of any text, or a blob of any bytes for a ring of ours, as the first byte says.
pub fn keyring(data: &[u8], heap: &dyn Heap) {
    let (choice, data) = choice(data);
    match choice % 4 {
        0 | 1 => file(&String::from_utf8_lossy(data), heap),
        2 => blob(data, heap),
        _ => plaintext(data),
    }
}

fn file(text: &str, heap: &dyn Heap) {
    let parsed = within(heap, text.len() + KEY_LEN * KEYS_MAX + FIXED, || Keyring::parse(text));
    let ring = match parsed {
        Ok(ring) => ring,
        Err(error) => {
            let shown = error.to_string();
            assert!(matches!(
                error,
                KeyringError::NotBase64 { .. }
                    | KeyringError::KeyLen { .. }
                    | KeyringError::NoKeys
                    | KeyringError::TooManyKeys
            ));
            assert!(shown.len() < 100, "an error shows no text of a key file");
            return;
        }
    };
    assert!((1..=KEYS_MAX).contains(&ring.keys().len()));
    assert_eq!(Keyring::new(ring.keys().iter().cloned()).as_ref(), Ok(&ring), "no key twice");
    let shown = format!("{ring:?}");
    assert!(shown.len() < 40 + 20 * KEYS_MAX, "fingerprints only: {shown}");
    rotated(&ring);
    let mut sealed = Vec::new();
    ring.seal(vectors::NONCE, b"label", text.as_bytes(), &mut sealed);
    let (plain, key) = ring.open(b"label", &sealed).expect("our own blob");
    assert_eq!((&plain[..], Some(key)), (text.as_bytes(), ring.primary()));
    assert_eq!(ring.open(b"lapel", &sealed).err(), Some(CryptError::NoKeyFits));
}

/// A change keeps every other key, and the primary one cannot be removed.
fn rotated(ring: &Keyring) {
    let mut changed = ring.clone();
    let last: &Key = &ring.keys()[ring.keys().len() - 1];
    assert_eq!(changed.use_key(last), Ok(()));
    assert_eq!(changed.primary(), Some(last));
    assert_eq!(changed.keys().len(), ring.keys().len());
    assert!(matches!(changed.remove(last), Err(KeyringError::IsPrimary(_))));
    for key in &ring.keys()[..ring.keys().len() - 1] {
        assert_eq!(changed.remove(key), Ok(true));
    }
    assert_eq!(changed.keys(), std::slice::from_ref(last));
}

fn ours() -> &'static Keyring {
    &SECURITIES[2].keyring
}

fn blob(blob: &[u8], heap: &dyn Heap) {
    // Made before it is counted: the first use expands the keys of all rings.
    let ring = ours();
    let opened = within(heap, blob.len() + FIXED, || ring.open(b"", blob).map(|(plain, _)| plain));
    match opened {
        Ok(plain) => assert!(plain.len() + OVERHEAD <= blob.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// An authentic blob of any plaintext, also where its version, which no tag covers, says that it
/// is padded.
fn plaintext(plain: &[u8]) {
    let mut blob = Vec::new();
    ours().seal(vectors::NONCE, b"", plain, &mut blob);
    assert_eq!(ours().open(b"", &blob).expect("our own blob").0, plain);
    blob[0] = 0;
    match ours().open(b"", &blob) {
        Ok((unpadded, _)) => {
            let (kept, pad) = plain.split_at(unpadded.len());
            assert_eq!(unpadded, kept);
            assert!(pad.len() <= BLOCK_LEN && pad.iter().all(|&b| usize::from(b) == pad.len()));
        }
        Err(CryptError::TooShort { len, min }) => assert!(len < min && plain.len() < BLOCK_LEN),
        Err(error) => assert_eq!(error, CryptError::BrokenPadding),
    }
}

/// Files as people write them, and Go's blobs.
pub fn keyring_seeds() -> Vec<Vec<u8>> {
    let short = "AAECAwQFBgcICQoLDA0ODw==";
    let long = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let middle = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let files = [
        short.to_owned(),
        format!("# first\n{long}\r\n\n  {middle} , {short}\n"),
        format!("{short}\n{short}\nAAECAw==\n"),
    ];
    let mut seeds: Vec<Vec<u8>> =
        files.iter().map(|file| [&[0], file.as_bytes()].concat()).collect();
    for vector in vectors::of_kind("encrypt") {
        seeds.push([&[2], &vector.bytes()[..]].concat());
        seeds.push([&[3], &vector.param_bytes("plaintext")[..]].concat());
    }
    seeds.push([&[3], &[16; 32][..]].concat());
    seeds.push([&[0], format!("# {}\n{long},\n", "x".repeat(500)).repeat(20).as_bytes()].concat());
    seeds.push([&[2], &vec![7; 30_000][..]].concat());
    seeds
}
