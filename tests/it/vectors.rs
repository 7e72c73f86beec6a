//! Golden bytes captured from hashicorp/memberlist's Go code; `meta` in the file says how.

use bytes::Bytes;
use gossipykv::wire::keyring::{Key, Keyring};
use gossipykv::wire::packet::Security;
use serde_json::Value;
use std::sync::LazyLock;

/// The nonce Go's random source was replaced by.
pub const NONCE: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

static FILE: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../vectors/memberlist.json")).expect("vectors are JSON")
});

/// One vector.
#[derive(Clone, Copy)]
pub struct Vector(&'static Value);

/// The vectors of one kind, at least one.
pub fn of_kind(kind: &str) -> Vec<Vector> {
    let of_kind: Vec<_> = list("vectors").filter(|vector| vector.text("kind") == kind).collect();
    assert!(!of_kind.is_empty(), "no vector of kind {kind}");
    of_kind
}

/// A list of the file by name.
pub fn list(name: &str) -> impl Iterator<Item = Vector> + use<> {
    FILE[name].as_array().expect("a list").iter().map(Vector)
}

impl Vector {
    /// Its name, for messages.
    pub fn id(self) -> &'static str {
        self.text("id")
    }

    /// A field that holds text.
    pub fn text(self, field: &str) -> &'static str {
        self.0[field].as_str().unwrap_or_else(|| panic!("no {field} in {}", self.0["id"]))
    }

    /// Any field.
    pub fn field(self, field: &str) -> &'static Value {
        &self.0[field]
    }

    /// The captured bytes.
    pub fn bytes(self) -> Bytes {
        unhex(self.text("hex"))
    }

    /// What Go decodes them to.
    pub fn decoded(self) -> &'static Value {
        self.field("decoded")
    }

    /// A parameter that holds text, empty when absent.
    pub fn param(self, name: &str) -> &'static str {
        self.0["params"][name].as_str().unwrap_or_default()
    }

    /// A parameter that holds bytes.
    pub fn param_bytes(self, name: &str) -> Bytes {
        unhex(self.param(name))
    }

    /// Label, key and compression as the sender had them configured.
    pub fn security(self) -> Security {
        let key = self.param_bytes("key");
        let keys = (!key.is_empty()).then(|| Key::from_bytes(&key).expect("an AES key"));
        Security {
            label: Bytes::from_static(self.param("label").as_bytes()),
            keyring: Keyring::new(keys).expect("at most one key"),
            compress: self.0["params"]["compress"] == true,
            ..Security::default()
        }
    }

    /// True for encryption version 0, which we read and never write.
    pub fn is_encrypted_v0(self) -> bool {
        self.0["params"]["sender_protocol_version"] == 1 || self.0["params"]["version"] == 0
    }

    /// True where the older codec's unsigned lengths differ from the signed ones we write.
    pub fn has_unsigned_lengths(self) -> bool {
        self.id().ends_with("@v0.2.2")
            && (self.id().contains("header")
                || self.id().contains("user-msg")
                || self.id().contains("plain-user-300"))
    }
}

/// Bytes from hex digits.
pub fn unhex(hex: &str) -> Bytes {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
        .collect()
}
