//! Files that tcpdump and Wireshark write: each datagram, or each side of each connection.

use super::capture::{Carried, Layer, Link, unwrap};
use crate::cli::failure::Failure;
use crate::limits::STREAM_TOTAL_LEN_MAX;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::net::SocketAddr;
use std::time::Duration;

/// What the first bytes of a pcapng file are.
const NG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Most bytes kept of one side of a connection.
const SIDE_LEN_MAX: usize = STREAM_TOTAL_LEN_MAX;
/// Most sides that are put together at once; those that come later are left out.
const SIDES_MAX: usize = 4096;

/// Bytes out of a file, and where they were seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// Since the Unix epoch.
    pub(super) at: Duration,
    pub(super) bytes: Vec<u8>,
}

/// Gives each datagram of a port to `take`, in the order of the file; port 0 for all.
///
/// # Errors
/// What is wrong with the file, or what `take` fails with.
pub(super) fn packets<E: From<Failure>>(
    path: &OsString,
    port: u16,
    mut take: impl FnMut(Seen) -> Result<(), E>,
) -> Result<(), E> {
    frames(path, |at, link, frame| match unwrap(link, frame) {
        Some(Carried { from, to, layer: Layer::Udp, payload }) if is_of(port, from, to) => {
            take(Seen { from, to, at, bytes: payload.to_vec() })
        }
        _ => Ok(()),
    })
}

fn is_of(port: u16, from: SocketAddr, to: SocketAddr) -> bool {
    port == 0 || from.port() == port || to.port() == port
}

/// One side of a connection, put together again.
struct Side {
    seen: Seen,
    /// Number of its first byte.
    first: u32,
    /// What came before what is missing, by its place.
    ahead: BTreeMap<u32, Vec<u8>>,
}

impl Side {
    /// Takes a segment; what has come before counts once.
    fn take(&mut self, seq: u32, payload: &[u8]) {
        let place = seq.wrapping_sub(self.first);
        if place as usize > SIDE_LEN_MAX || self.ahead.len() > SIDES_MAX {
            return;
        }
        let known = self.ahead.entry(place).or_default();
        if known.len() < payload.len() {
            *known = payload.to_vec();
        }
        while let Some((place, payload)) = self.ahead.pop_first() {
            let len = self.seen.bytes.len();
            if place as usize > len || len > SIDE_LEN_MAX {
                self.ahead.insert(place, payload);
                return;
            }
            self.seen.bytes.extend(payload.iter().skip(len - place as usize));
        }
    }
}

/// Gives each side of each connection of a port that said something, in the order of their
/// beginnings; port 0 for all.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn streams(path: &OsString, port: u16) -> Result<Vec<Seen>, Failure> {
    let (mut sides, mut open) = (Vec::<Side>::new(), BTreeMap::new());
    frames::<Failure>(path, |at, link, frame| {
        let Some(Carried { from, to, layer: Layer::Tcp { seq, begins }, payload }) =
            unwrap(link, frame)
        else {
            return Ok(());
        };
        if !is_of(port, from, to) {
            return Ok(());
        }
        let known = open.get(&(from, to)).copied().filter(|_| !begins);
        let index = match known {
            Some(index) => index,
            None if (payload.is_empty() && !begins) || sides.len() >= SIDES_MAX => return Ok(()),
            None => {
                let seen = Seen { from, to, at, bytes: Vec::new() };
                sides.push(Side { seen, first: seq, ahead: BTreeMap::new() });
                open.insert((from, to), sides.len() - 1);
                sides.len() - 1
            }
        };
        let side: &mut Side = &mut sides[index];
        if !payload.is_empty() {
            side.take(seq, payload);
        }
        Ok(())
    })?;
    let seen = sides.into_iter().map(|side| side.seen);
    Ok(seen.filter(|seen| !seen.bytes.is_empty()).collect())
}

/// Gives each frame of a file, of either kind, with its time and the kind of its link.
fn frames<E: From<Failure>>(
    path: &OsString,
    mut take: impl FnMut(Duration, Link, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |why: String| E::from(Failure::failed(format!("{}: {why}", path.display())));
    let unknown =
        |number: u32| failed(format!("frames of the link type {number} are not known here"));
    let mut file = BufReader::new(File::open(path).map_err(|error| failed(error.to_string()))?);
    let mut magic = Vec::new();
    file.by_ref()
        .take(NG_MAGIC.len() as u64)
        .read_to_end(&mut magic)
        .map_err(|error| failed(error.to_string()))?;
    let is_ng = magic == NG_MAGIC;
    let whole = Cursor::new(magic).chain(file);
    let wrong = |error: pcap_file::PcapError| failed(format!("no pcap file: {error}"));
    if !is_ng {
        let mut reader = PcapReader::new(whole).map_err(wrong)?;
        let number = u32::from(reader.header().datalink);
        let link = Link::of(number).ok_or_else(|| unknown(number))?;
        while let Some(packet) = reader.next_packet() {
            let packet = packet.map_err(wrong)?;
            take(packet.timestamp, link, &packet.data)?;
        }
        return Ok(());
    }
    let mut reader = PcapNgReader::new(whole).map_err(wrong)?;
    let mut links = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.map_err(wrong)? {
            Block::SectionHeader(_) => links.clear(),
            Block::InterfaceDescription(interface) => links.push(u32::from(interface.linktype)),
            Block::EnhancedPacket(packet) => {
                let number = links.get(packet.interface_id as usize).copied().unwrap_or(u32::MAX);
                let link = Link::of(number).ok_or_else(|| unknown(number))?;
                take(packet.timestamp, link, &packet.data)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_put_together_whatever_the_order() {
        let addr = "10.0.0.1:1".parse().expect("an address");
        let seen = Seen { from: addr, to: addr, at: Duration::ZERO, bytes: Vec::new() };
        let mut side = Side { seen, first: u32::MAX - 1, ahead: BTreeMap::new() };
        side.take(2, b"efg");
        side.take(u32::MAX - 1, b"ab");
        side.take(u32::MAX - 1, b"abc");
        assert_eq!(side.seen.bytes, b"abc");
        side.take(1, b"de");
        assert_eq!(side.seen.bytes, b"abcdefg");
    }
}
