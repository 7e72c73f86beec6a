//! Our own end of the wire, without a node behind it: asks for states, and says what no honest
//! member would.

use super::clock::now;
use super::table::{Row, State, Table};
use bytes::Bytes;
use gossipykv::wire::keyring::{Key, Keyring, NONCE_LEN};
use gossipykv::wire::message::{Message, PushPull};
use gossipykv::wire::packet::{self, Security};
use gossipykv::wire::stream::{Frame, FrameReader, Role, encode_request};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const STREAM_TIMEOUT: Duration = Duration::from_secs(3);

/// The protection of a cluster with these keys.
pub fn security(keys: &[String]) -> Security {
    let keys = keys.iter().map(|key| Key::from_base64(key).expect("a base64 key"));
    Security { keyring: Keyring::new(keys).expect("a few keys"), ..Security::default() }
}

/// memberlist's two switches for moving a live cluster to encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verify {
    pub incoming: bool,
    pub outgoing: bool,
}

impl Default for Verify {
    fn default() -> Verify {
        Verify { incoming: true, outgoing: true }
    }
}

impl Verify {
    /// How to ask a node with these switches and keys: encrypted, which it always understands, and
    /// content with plaintext only where that is what it sends.
    pub fn of_questions(self, keys: &[String]) -> Security {
        Security { verify_incoming: self.outgoing, ..security(keys) }
    }
}

/// Nonces must differ, not be secret.
fn nonce() -> [u8; NONCE_LEN] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut nonce = [0; NONCE_LEN];
    nonce[..4].copy_from_slice(&std::process::id().to_be_bytes());
    nonce[4..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    nonce
}

/// Sends one stream message and reads the frame that answers it; `None` when the other side
/// closes without one.
pub fn open_stream(
    to: SocketAddr,
    security: &Security,
    frame: &Frame,
) -> Result<Option<Frame>, String> {
    let text = |error: std::io::Error| format!("{to}: {error}");
    let mut stream = TcpStream::connect_timeout(&to, STREAM_TIMEOUT).map_err(text)?;
    stream.set_read_timeout(Some(STREAM_TIMEOUT)).map_err(text)?;
    stream.write_all(&encode_request(security, frame, nonce())).map_err(text)?;
    let mut reader = FrameReader::new(Role::Dialer);
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(frame) = reader.next(security).map_err(|error| format!("{to}: {error}"))? {
            return Ok(Some(frame));
        }
        match stream.read(&mut buffer).map_err(text)? {
            0 => return Ok(None),
            n => reader.extend(&buffer[..n]),
        }
    }
}

/// The whole table of a node of any kind, suspect, dead and left members included, by a push-pull
/// that tells it nothing.
pub fn push_pull(to: SocketAddr, security: &Security) -> Result<(Table, Bytes), String> {
    let request = Frame::PushPull(PushPull::default());
    let Some(Frame::PushPull(reply)) = open_stream(to, security, &request)? else {
        return Err(format!("{to} did not answer a push-pull"));
    };
    let row = |node: gossipykv::wire::message::PushNodeState| {
        let state = match node.state {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Dead,
            3 => State::Left,
            other => panic!("{to} sent state {other}"),
        };
        let meta = node.meta.map(|meta| meta.to_vec()).unwrap_or_default();
        (node.name.to_string(), Row { state, incarnation: node.incarnation, meta })
    };
    Ok((reply.nodes.into_iter().map(row).collect(), reply.user_state))
}

/// A socket that speaks the protocol.
pub struct Fake {
    socket: UdpSocket,
    security: Security,
}

impl Fake {
    /// Binds it.
    pub fn bind(at: SocketAddr, security: Security) -> Fake {
        Fake { socket: UdpSocket::bind(at).expect("a free address"), security }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// Receives nothing for so long.
    ///
    /// # Panics
    /// When something comes.
    #[track_caller]
    pub fn assert_silence(&self, during: Duration) {
        self.socket.set_read_timeout(Some(during)).expect("a timeout above zero");
        let heard = self.socket.recv_from(&mut [0; 1500]);
        assert!(heard.is_err(), "{heard:?}");
    }

    /// Sends these messages in one datagram.
    pub fn send(&self, to: SocketAddr, messages: &[Message]) {
        let parts: Vec<Bytes> = messages.iter().map(Message::encode).collect();
        let datagram = packet::seal(&self.security, &parts, false, nonce());
        self.socket.send_to(&datagram, to).expect("loopback takes it");
    }

    /// Waits for a message of which `find` makes something.
    ///
    /// # Panics
    /// After `within`.
    #[track_caller]
    pub fn receive<T>(
        &self,
        what: &str,
        within: Duration,
        mut find: impl FnMut(SocketAddr, &Message) -> Option<T>,
    ) -> T {
        let deadline = now() + within;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(now());
            assert!(!left.is_zero(), "not received within {within:?}: {what}");
            self.socket.set_read_timeout(Some(left)).expect("a timeout above zero");
            let Ok((len, from)) = self.socket.recv_from(&mut buffer) else { continue };
            let datagram = Bytes::copy_from_slice(&buffer[..len]);
            let opened = packet::open(&self.security, datagram).expect("a sound datagram");
            assert_eq!(opened.dropped, [], "from {from}");
            if let Some(found) = opened.messages.iter().find_map(|message| find(from, message)) {
                return found;
            }
        }
    }
}
