//! Datagrams: layers on, layers off.
//!
//! ```text
//! [f4 len label] [version nonce (ciphertext of the rest) tag] [0c crc32] [09 compress] compound
//!  with a label   with keys, unless verify_outgoing is off      if the     if enabled   or one
//!                                                                receiver  and smaller  message
//!                                                                checks it
//! compound:  07 | n u8 | n x len u16 | part 1 | ... | part n
//! ```
//!
//! Inside the outer layers compound and compression may nest; how deep, and to how many messages
//! and bytes a datagram may expand, is bounded in [`crate::limits`]. One bad part does not take
//! its neighbours with it.

use super::codec::type_byte;
use super::error::DecodeError;
use super::keyring::{CryptError, Keyring, NONCE_LEN, OVERHEAD};
use super::message::Message;
use super::{label, lzw};
use crate::limits::{
    COMPOUND_PARTS_MAX, DATAGRAM_LEN_MAX, PACKET_COMPRESSED_MAX, PACKET_DEPTH_MAX,
    PACKET_INFLATED_LEN_MAX, PACKET_MESSAGES_MAX,
};
use crate::mutation::mutated;
use bytes::Bytes;

/// Bytes a compound spends on each part besides the part itself.
pub const PART_OVERHEAD: usize = 2;
const COMPOUND_HEADER_LEN: usize = 2;
const CRC_HEADER_LEN: usize = 5;

/// How traffic is protected; the same for datagrams and streams.
#[derive(Debug, Clone)]
pub struct Security {
    /// The cluster's label, empty for none, at most 255 bytes.
    pub label: Bytes,
    /// Other labels taken as ours while a cluster changes from one to the other; empty for none.
    pub accepted_labels: Vec<Bytes>,
    /// Empty for plaintext.
    pub keyring: Keyring,
    /// Whether plaintext is refused although we have keys.
    pub verify_incoming: bool,
    /// Whether we encrypt although we have keys. Both are off while a cluster moves to encryption.
    pub verify_outgoing: bool,
    /// Whether we compress; compressed input is always taken.
    pub compress: bool,
}

impl Default for Security {
    fn default() -> Security {
        Security {
            label: Bytes::new(),
            accepted_labels: Vec::new(),
            keyring: Keyring::default(),
            verify_incoming: true,
            verify_outgoing: true,
            compress: true,
        }
    }
}

impl Security {
    /// Whether traffic with this label is ours.
    #[must_use]
    pub fn takes(&self, label: &[u8]) -> bool {
        self.label == label || self.accepted_labels.iter().any(|accepted| accepted == label)
    }

    /// The same under another label: for answers to whoever dialled with it.
    #[must_use]
    pub fn under(&self, label: &Bytes) -> Security {
        Security { label: label.clone(), ..self.clone() }
    }

    /// Whether what we send is encrypted.
    #[must_use]
    pub fn encrypts(&self) -> bool {
        !self.keyring.is_empty() && self.verify_outgoing
    }

    /// Whether plaintext is refused.
    #[must_use]
    pub fn requires_encryption(&self) -> bool {
        !self.keyring.is_empty() && self.verify_incoming
    }
}

/// Why a whole datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Nothing in it.
    #[error("empty datagram")]
    Empty,
    /// A label header that ends too early or is empty.
    #[error("broken label header")]
    BrokenLabel,
    /// Another cluster's label, or one where there should be none, or none where there should be.
    #[error("label of another cluster")]
    LabelMismatch,
    /// It could not be decrypted.
    #[error(transparent)]
    Decrypt(#[from] CryptError),
    /// The bytes are not those the checksum was made for.
    #[error("checksum 0x{found:08x} where the header says 0x{expected:08x}")]
    Checksum {
        /// As the header says.
        expected: u32,
        /// As computed.
        found: u32,
    },
}

/// What a datagram held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Its messages in order.
    pub messages: Vec<Message>,
    /// Parts that were dropped while the others proceeded.
    pub dropped: Vec<DecodeError>,
}

/// Takes the layers off a datagram.
///
/// # Errors
/// See [`PacketError`]; nothing of the datagram is used then. A failure inside a part ends up in
/// [`Opened::dropped`] instead.
pub fn open(security: &Security, mut datagram: Bytes) -> Result<Opened, PacketError> {
    if datagram.is_empty() {
        return Err(PacketError::Empty);
    }
    let label = match label::read(&datagram) {
        label::Header::Absent => Bytes::new(),
        label::Header::Label { label, end } => datagram.slice(end - label.len()..end),
        label::Header::Malformed | label::Header::Incomplete => {
            return Err(PacketError::BrokenLabel);
        }
    };
    if !security.takes(&label) && !mutated!(AnyLabel) {
        return Err(PacketError::LabelMismatch);
    }
    datagram = datagram.slice(label::header_len(&label)..);
    if !security.keyring.is_empty() {
        match security.keyring.open(&label, &datagram) {
            Ok((plain, _)) => datagram = plain.into(),
            Err(error) if security.verify_incoming => return Err(error.into()),
            Err(_) => {}
        }
    }
    check_crc(&mut datagram)?;
    let mut unpacker = Unpacker {
        opened: Opened::default(),
        inflatable_len: PACKET_INFLATED_LEN_MAX,
        n_compressed: 0,
        n_parts: 0,
    };
    unpacker.message(datagram, 0);
    Ok(unpacker.opened)
}

/// Verifies and removes the checksum, if there is one.
pub(super) fn check_crc(datagram: &mut Bytes) -> Result<Option<u32>, PacketError> {
    let Some(&[type_byte::HAS_CRC, a, b, c, d]) = datagram.first_chunk::<CRC_HEADER_LEN>() else {
        return Ok(None);
    };
    let body = datagram.slice(CRC_HEADER_LEN..);
    let (expected, found) = (u32::from_be_bytes([a, b, c, d]), crc32fast::hash(&body));
    if expected != found {
        return Err(PacketError::Checksum { expected, found });
    }
    *datagram = body;
    Ok(Some(found))
}

/// Expands nested layers within the budget of one datagram.
#[derive(Debug)]
struct Unpacker {
    opened: Opened,
    inflatable_len: usize,
    n_compressed: usize,
    /// Parts of compounds met, those too that hold no message.
    n_parts: usize,
}

impl Unpacker {
    fn message(&mut self, bytes: Bytes, depth: usize) {
        let outcome = match bytes.first() {
            Some(&(type_byte::COMPOUND | type_byte::COMPRESS)) if depth >= PACKET_DEPTH_MAX => {
                Err(DecodeError::TooDeep(PACKET_DEPTH_MAX))
            }
            Some(&type_byte::COMPOUND) => self.compound(&bytes, depth),
            Some(&type_byte::COMPRESS) => self.compressed(&bytes, depth),
            _ => Message::decode(&bytes).map(|message| self.opened.messages.push(message)),
        };
        if let Err(error) = outcome {
            self.opened.dropped.push(error);
        }
    }

    fn compound(&mut self, bytes: &Bytes, depth: usize) -> Result<(), DecodeError> {
        let (parts, outcome) = split_compound(bytes)?;
        for part in parts {
            if self.n_parts == PACKET_MESSAGES_MAX {
                return Err(DecodeError::TooManyMessages(PACKET_MESSAGES_MAX));
            }
            self.n_parts += 1;
            self.message(part, depth + 1);
        }
        outcome
    }

    fn compressed(&mut self, bytes: &Bytes, depth: usize) -> Result<(), DecodeError> {
        if self.n_compressed == PACKET_COMPRESSED_MAX {
            return Err(DecodeError::TooManyCompressed(PACKET_COMPRESSED_MAX));
        }
        self.n_compressed += 1;
        let plain = lzw::decompress_within(&bytes[1..], &mut self.inflatable_len)?;
        self.message(plain.into(), depth + 1);
        Ok(())
    }
}

/// The parts of a compound message (type byte included) that are there whole; with them, whether
/// those are all. The length table comes first, so a missing byte costs the last parts only.
pub(super) fn split_compound(
    bytes: &Bytes,
) -> Result<(Vec<Bytes>, Result<(), DecodeError>), DecodeError> {
    let &count = bytes.get(1).ok_or(DecodeError::Truncated { missing: 1 })?;
    let count = usize::from(count);
    let table_end = COMPOUND_HEADER_LEN + PART_OVERHEAD * count;
    let table = bytes
        .get(COMPOUND_HEADER_LEN..table_end)
        .ok_or_else(|| DecodeError::Truncated { missing: (table_end - bytes.len()) as u64 })?;
    let mut parts = Vec::with_capacity(count);
    let mut start = table_end;
    for entry in table.chunks_exact(PART_OVERHEAD) {
        let end = start + usize::from(u16::from_be_bytes([entry[0], entry[1]]));
        if end > bytes.len() {
            let missing = count - parts.len();
            return Ok((parts, Err(DecodeError::CompoundTruncated { missing, count })));
        }
        parts.push(bytes.slice(start..end));
        start = end;
    }
    Ok((parts, Ok(())))
}

/// One datagram of these encoded messages: the single one as it is, several as a compound (more
/// than 255 as a compound of compounds). `nonce` comes from the operating system and is used only
/// when we encrypt.
///
/// Its length is at most the parts with [`PART_OVERHEAD`] each and [`overhead`]; compression only
/// ever shortens it. The caller keeps that within [`DATAGRAM_LEN_MAX`] by way of [`budget`].
///
/// # Panics
/// When a part of several is longer than 65,535 bytes, which no budget allows.
#[must_use]
pub fn seal(security: &Security, parts: &[Bytes], crc: bool, nonce: [u8; NONCE_LEN]) -> Bytes {
    let mut body = match parts {
        [single] => single.to_vec(),
        _ => compound(parts),
    };
    if security.compress {
        let compressed = lzw::compress(&body);
        if compressed.len() < body.len() {
            body = compressed;
        }
    }
    if crc {
        let mut header = [type_byte::HAS_CRC; CRC_HEADER_LEN];
        header[1..].copy_from_slice(&crc32fast::hash(&body).to_be_bytes());
        body.splice(..0, header);
    }
    if security.label.is_empty() && !security.encrypts() {
        return body.into();
    }
    let mut datagram =
        Vec::with_capacity(label::header_len(&security.label) + OVERHEAD + body.len());
    label::write(&security.label, &mut datagram);
    if security.encrypts() {
        security.keyring.seal(nonce, &security.label, &body, &mut datagram);
    } else {
        datagram.extend_from_slice(&body);
    }
    datagram.into()
}

/// Bytes a datagram spends besides its parts and their [`PART_OVERHEAD`].
#[must_use]
pub fn overhead(security: &Security, crc: bool) -> usize {
    label::header_len(&security.label)
        + if security.encrypts() { OVERHEAD } else { 0 }
        + if crc { CRC_HEADER_LEN } else { 0 }
        + COMPOUND_HEADER_LEN
}

/// Bytes left for parts and their [`PART_OVERHEAD`] in a datagram of [`DATAGRAM_LEN_MAX`].
#[must_use]
pub fn budget(security: &Security, crc: bool) -> usize {
    DATAGRAM_LEN_MAX - overhead(security, crc)
}

fn compound(parts: &[Bytes]) -> Vec<u8> {
    if parts.len() > COMPOUND_PARTS_MAX {
        // Each group is one part of an outer compound, which every receiver unpacks likewise.
        let groups: Vec<Bytes> =
            parts.chunks(COMPOUND_PARTS_MAX).map(|group| compound(group).into()).collect();
        return compound(&groups);
    }
    let parts_len: usize = parts.iter().map(|part| PART_OVERHEAD + part.len()).sum();
    let mut out = Vec::with_capacity(COMPOUND_HEADER_LEN + parts_len);
    out.extend_from_slice(&[type_byte::COMPOUND, parts.len() as u8]);
    for part in parts {
        let len = u16::try_from(part.len()).expect("a part fits a datagram");
        out.extend_from_slice(&len.to_be_bytes());
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::keyring::Key;
    use crate::wire::message::{Nack, Ping};

    const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];

    fn security(label: &'static [u8], key: Option<&[u8]>, compress: bool) -> Security {
        let keys = key.map(|key| Key::from_bytes(key).expect("an AES key"));
        Security {
            label: Bytes::from_static(label),
            keyring: Keyring::new(keys).expect("one key"),
            compress,
            ..Security::default()
        }
    }

    fn nacks(n: u32) -> Vec<Message> {
        (0..n).map(|seq_no| Message::Nack(Nack { seq_no })).collect()
    }

    fn encoded(messages: &[Message]) -> Vec<Bytes> {
        messages.iter().map(Message::encode).collect()
    }

    #[test]
    fn accepted_labels_are_taken_beside_the_own_one() {
        for key in [None, Some(&[1; 16][..])] {
            let of = |label, accepted: &[&'static [u8]]| Security {
                accepted_labels: accepted.iter().map(|label| Bytes::from_static(label)).collect(),
                ..security(label, key, true)
            };
            let rolled = of(b"new", &[b"old", b""]);
            for (label, taken) in
                [(&b"new"[..], true), (b"old", true), (b"", true), (b"third", false)]
            {
                let datagram = seal(&of(label, &[]), &encoded(&nacks(1)), true, NONCE);
                let expected = if taken { Ok(nacks(1)) } else { Err(PacketError::LabelMismatch) };
                assert_eq!(open(&rolled, datagram).map(|opened| opened.messages), expected);
            }
            // It speaks under its own.
            let datagram = seal(&rolled, &encoded(&nacks(1)), true, NONCE);
            assert!(open(&of(b"new", &[]), datagram.clone()).is_ok());
            assert_eq!(open(&of(b"old", &[]), datagram), Err(PacketError::LabelMismatch));
        }
    }

    #[test]
    fn every_combination_of_layers_comes_back() {
        for label in [&b""[..], b"here"] {
            for key in [None, Some(&[1; 16][..]), Some(&[1; 24][..]), Some(&[1; 32][..])] {
                for (compress, crc) in [(false, false), (false, true), (true, false), (true, true)]
                {
                    for n in [1, 2, 100, 255, 256, 600] {
                        let security = security(label, key, compress);
                        let messages = nacks(n);
                        let parts = encoded(&messages);
                        let datagram = seal(&security, &parts, crc, NONCE);
                        let parts_len: usize =
                            parts.iter().map(|part| PART_OVERHEAD + part.len()).sum();
                        if n <= 255 {
                            assert!(datagram.len() <= overhead(&security, crc) + parts_len);
                        }
                        let opened = open(&security, datagram).expect("our own datagram");
                        assert_eq!(opened, Opened { messages, dropped: vec![] });
                    }
                }
            }
        }
    }

    #[test]
    fn overhead_is_exact_without_compression() {
        for (label, key, crc) in
            [(&b""[..], None, false), (b"abc", Some(&[1; 16][..]), true), (b"abc", None, true)]
        {
            let security = security(label, key, false);
            let parts = encoded(&nacks(20));
            let parts_len: usize = parts.iter().map(|part| PART_OVERHEAD + part.len()).sum();
            let datagram = seal(&security, &parts, crc, NONCE);
            assert_eq!(datagram.len(), overhead(&security, crc) + parts_len);
        }
    }

    #[test]
    fn labels_must_match() {
        let labels = [&b""[..], b"here", b"there"];
        for ours in labels {
            for theirs in labels {
                for key in [None, Some(&[1; 16][..])] {
                    let datagram =
                        seal(&security(theirs, key, true), &encoded(&nacks(2)), true, NONCE);
                    let opened = open(&security(ours, key, true), datagram);
                    if ours == theirs {
                        assert_eq!(opened.expect("our label").messages.len(), 2);
                    } else {
                        assert_eq!(opened, Err(PacketError::LabelMismatch));
                    }
                }
            }
        }
    }

    #[test]
    fn a_changed_bit_is_noticed() {
        let messages = encoded(&nacks(3));
        for (security, crc) in
            [(security(b"", None, false), true), (security(b"", Some(&[1; 16]), false), false)]
        {
            let datagram = seal(&security, &messages, crc, NONCE);
            for at in usize::from(crc)..datagram.len() {
                let mut broken = datagram.to_vec();
                broken[at] ^= 1;
                assert!(open(&security, broken.into()).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_cluster_moves_to_encryption_in_three_steps() {
        let plain = security(b"", None, false);
        let step = |verify_incoming, verify_outgoing| Security {
            verify_incoming,
            verify_outgoing,
            ..security(b"", Some(&[1; 16]), false)
        };
        let steps = [plain, step(false, false), step(false, true), step(true, true)];
        for (behind, ahead) in steps.iter().zip(&steps[1..]) {
            for (from, to) in [(behind, ahead), (ahead, behind), (ahead, ahead)] {
                let opened = open(to, seal(from, &encoded(&nacks(1)), false, NONCE));
                assert_eq!(opened.expect("neighbouring steps understand").messages, nacks(1));
            }
        }
        let refused = open(&steps[3], seal(&steps[0], &encoded(&nacks(1)), false, NONCE));
        assert!(matches!(refused, Err(PacketError::Decrypt(_))));
    }

    #[test]
    fn one_bad_part_leaves_its_neighbours_alone() {
        let ping = Message::Ping(Ping { seq_no: 1, ..Ping::default() });
        let parts =
            [ping.encode(), Bytes::new(), Bytes::from_static(b"\x63"), nacks(1)[0].encode()];
        let datagram = seal(&security(b"", None, false), &parts, false, NONCE);
        let opened = open(&Security::default(), datagram).expect("the layers are sound");
        assert_eq!(opened.messages, [ping, nacks(1).remove(0)]);
        assert_eq!(opened.dropped, [DecodeError::Empty, DecodeError::UnexpectedType(0x63)]);
    }

    #[test]
    fn nesting_is_bounded() {
        let mut bytes = nacks(1)[0].encode().to_vec();
        for depth in 0..PACKET_DEPTH_MAX + 2 {
            let opened = open(&Security::default(), bytes.clone().into()).expect("no outer layer");
            if depth <= PACKET_DEPTH_MAX {
                assert_eq!(opened.messages, nacks(1), "depth {depth}");
            } else {
                assert_eq!(opened.dropped, [DecodeError::TooDeep(PACKET_DEPTH_MAX)]);
            }
            bytes = lzw::compress(&bytes);
        }
    }

    #[test]
    fn expansion_is_bounded() {
        // 255 compounds of 255 empty parts each.
        let inner = Bytes::from(compound(&vec![Bytes::new(); 255]));
        let bomb = compound(&vec![inner; 100]);
        let opened = open(&Security::default(), bomb.into()).expect("no outer layer");
        assert!(opened.dropped.len() <= PACKET_MESSAGES_MAX + COMPOUND_PARTS_MAX);
        assert!(opened.dropped.contains(&DecodeError::TooManyMessages(PACKET_MESSAGES_MAX)));

        // The same with compounds of no part in the place of empty parts: they count, too.
        let inner = Bytes::from(compound(&vec![Bytes::from(compound(&[])); 255]));
        let bomb = compound(&vec![inner; 60]);
        let opened = open(&Security::default(), bomb.into()).expect("no outer layer");
        assert!(opened.dropped.contains(&DecodeError::TooManyMessages(PACKET_MESSAGES_MAX)));

        // Each part alone is within the bound; together they are not.
        let mut user = vec![0; PACKET_INFLATED_LEN_MAX / 2 - 100];
        user[0] = type_byte::USER;
        let bomb = compound(&vec![Bytes::from(lzw::compress(&user)); 3]);
        let opened = open(&Security::default(), bomb.into()).expect("no outer layer");
        assert_eq!(opened.messages.len(), 2);
        assert!(matches!(opened.dropped[..], [DecodeError::InflatedTooLong(_)]));
    }
}
