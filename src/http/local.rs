//! How a command on the node's own host shows that it may change the gossip keys.
//!
//! ```text
//! node:     abstract Unix socket "gossipykv 127.0.0.1:8080"  <-- connect --  command
//!           who is it? its user is ours, or root             -- secret -->
//!           port 8080                   <-- Authorization: Bearer secret --
//! ```
//!
//! That a request comes over loopback shows nothing: a proxy on this host passes on what comes from
//! anywhere. The kernel tells who is at the other end of a Unix socket, and no proxy is there. The
//! socket only gives a secret of this run away. So whoever has taken its name first learns no key:
//! his secret is worth nothing at the port.
//!
//! An abstract name belongs to the network namespace and needs no file: a read-only root will do,
//! nothing stays behind when the node is killed, and a command run in the node's container finds
//! it. Systems other than Linux have none: there the keys want a token.

use super::token::Token;
use std::io;
use std::net::SocketAddr;

#[cfg(not(target_os = "linux"))]
use elsewhere::said_at;
#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{Listener, serve};
#[cfg(target_os = "linux")]
use linux::said_at;
#[cfg(target_os = "linux")]
pub(super) use linux::{Listener, serve};

/// Bytes of a secret as text.
const SECRET_LEN: usize = 64;

/// Asks the node that serves at one of these addresses, if it is on this host, for the secret of
/// its local clients. `None` when no such node is to be found. Takes two seconds at most for each
/// address.
///
/// # Errors
/// The node's own words when it gives its secret to other users only.
pub fn ask(addresses: &[SocketAddr]) -> Result<Option<String>, String> {
    for &addr in addresses {
        let Some(said) = said_at(addr) else { continue };
        let is_secret = said.len() == SECRET_LEN && said.bytes().all(|b| b.is_ascii_hexdigit());
        return if is_secret { Ok(Some(said)) } else { Err(said) };
    }
    Ok(None)
}

/// A fresh secret.
///
/// # Errors
/// Those of the operating system, when it gives no random bytes.
#[expect(clippy::disallowed_methods, reason = "a secret of the front is no business of the node")]
fn secret() -> io::Result<String> {
    let mut random = [0; SECRET_LEN / 2];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Begins to listen for commands on the host of a node that serves at `addr`. Returns what tells
/// them the secret, and the secret.
///
/// # Errors
/// The name is taken, or the system has no such sockets, or no random bytes.
pub(super) fn listen(addr: SocketAddr) -> io::Result<(Listener, Token)> {
    let secret = secret()?;
    let token = Token::new(&secret).map_err(io::Error::other)?;
    Ok((Listener::bind(addr, secret)?, token))
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::convert::Infallible;
    use std::io;
    use std::net::SocketAddr;

    /// There is none.
    pub(in crate::http) struct Listener(Infallible);

    impl Listener {
        pub(super) fn bind(_addr: SocketAddr, _secret: String) -> io::Result<Listener> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    pub(in crate::http) async fn serve(listener: Listener) {
        match listener.0 {}
    }

    pub(super) fn said_at(_addr: SocketAddr) -> Option<String> {
        None
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::process::geteuid;
    use std::io::{self, Read as _};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net as unix;
    use std::time::Duration;
    use tokio::net::{UnixListener, UnixStream};

    /// How long a node may take to tell, for a command that has connected.
    const TELL_LIMIT: Duration = Duration::from_secs(2);
    /// Most bytes of what a node tells.
    const TOLD_LEN_MAX: u64 = 512;
    /// After an accept that failed for want of something, the wait before the next.
    const PAUSE: Duration = Duration::from_millis(50);
    /// The user that stands for all those that a user namespace does not have.
    pub(super) const NOBODY: u32 = 65_534;

    fn name(addr: SocketAddr) -> String {
        format!("gossipykv {addr}")
    }

    /// The node's end.
    pub(in crate::http) struct Listener {
        socket: unix::UnixListener,
        secret: String,
    }

    impl Listener {
        pub(super) fn bind(addr: SocketAddr, secret: String) -> io::Result<Listener> {
            let name = unix::SocketAddr::from_abstract_name(name(addr))?;
            let socket = unix::UnixListener::bind_addr(&name)?;
            socket.set_nonblocking(true)?;
            Ok(Listener { socket, secret })
        }
    }

    /// Tells whoever comes and may know; never ends. One after the other, and none is waited for:
    /// what is told always fits the socket.
    pub(in crate::http) async fn serve(listener: Listener) {
        let Listener { socket, secret } = listener;
        let Ok(socket) = UnixListener::from_std(socket) else { return };
        let own = geteuid().as_raw();
        loop {
            match socket.accept().await {
                Ok((stream, _)) => tell(&stream, own, &secret).await,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn tell(stream: &UnixStream, own: u32, secret: &str) {
        let Ok(peer) = stream.peer_cred() else { return };
        let refusal = format!(
            "the node runs as user {own} and tells its secret to that user and to root only, not \
             to user {}",
            peer.uid()
        );
        let told = if may(peer.uid(), own) { secret } else { &refusal };
        // A fresh socket is writable; a client that has gone needs nothing.
        if stream.writable().await.is_ok() {
            let _ = stream.try_write(told.as_bytes());
        }
    }

    /// Whether a user may do what the node's own user may.
    pub(super) fn may(peer: u32, own: u32) -> bool {
        peer == 0 || (peer == own && (own != NOBODY || has_everyone()))
    }

    /// Whether every user has a number of its own here, so that [`NOBODY`] is one user. In a user
    /// namespace it stands for all strangers.
    pub(super) fn has_everyone() -> bool {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_whitespace().eq(["0", "0", "4294967295"])
    }

    /// What the node on this host says that serves at `addr`, if there is one.
    pub(super) fn said_at(addr: SocketAddr) -> Option<String> {
        if !is_own(addr.ip()) {
            return None;
        }
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = [addr.ip(), any[0], any[1]].map(|ip| SocketAddr::new(ip, addr.port()));
        addresses.into_iter().find_map(|addr| said_by(addr).ok())
    }

    fn said_by(addr: SocketAddr) -> io::Result<String> {
        let path = format!("\0{}", name(addr));
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        // Where a stranger lets its queue run full this fails at once.
        socket.set_nonblocking(true)?;
        socket.connect(&socket2::SockAddr::unix(path)?)?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(TELL_LIMIT))?;
        let mut said = String::new();
        unix::UnixStream::from(socket).take(TOLD_LEN_MAX).read_to_string(&mut said)?;
        if said.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(said) }
    }

    /// Whether an address is this host's own. Nothing is sent to find it out.
    pub(super) fn is_own(ip: IpAddr) -> bool {
        if ip.to_canonical().is_loopback() || ip.is_unspecified() {
            return true;
        }
        let any: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // The way to oneself begins where it ends.
        let from = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect((ip, 9))?;
            socket.local_addr()
        });
        from.is_ok_and(|from| from.ip() == ip)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn only_the_same_user_and_root_may() {
        use super::linux::{NOBODY, has_everyone, may};
        assert!(may(0, 1000) && may(1000, 1000) && may(0, NOBODY));
        assert!(!may(1001, 1000) && !may(NOBODY, 1000) && !may(1000, 0));
        assert_eq!(may(NOBODY, NOBODY), has_everyone());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_on_this_host_is_known_without_sending() {
        use super::linux::is_own;
        for own in ["127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1", "0.0.0.0"] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        for other in ["192.0.2.1", "2001:db8::1"] {
            assert!(!is_own(other.parse().unwrap()), "{other}");
        }
    }
}
