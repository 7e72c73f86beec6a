//! One TCP connection: bytes out, bytes in, and when either last moved.

use super::Context;
use crate::limits::STREAM_TOTAL_LEN_MAX;
use crate::node::io::ConnId;
use crate::runtime::entropy;
use crate::time::Instant;
use crate::wire::packet::Security;
use crate::wire::stream::{
    Frame, FrameReader, StreamError, encode_refusal, encode_reply_pieces, encode_request,
};
use bytes::{Buf as _, BufMut, Bytes};
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio::time::timeout_at;

/// Bytes read at once.
pub(super) const READ_LEN: usize = 128 << 10;
/// Most pieces written at once.
const SLICES_MAX: usize = 64;

/// How long nothing may come before the other end's system is asked, and between two questions.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// A connection and what it is called.
#[derive(Debug)]
pub(super) struct Line {
    pub context: Arc<Context>,
    pub conn: ConnId,
    pub peer: SocketAddr,
    pub pulse: Pulse,
    stream: TcpStream,
    /// The label under which the other end has dialled, as far as it is another than ours.
    label: OnceLock<Bytes>,
}

/// When bytes last moved, and whether they should be moving. Reader, writer and their watch are
/// parts of one task, so nothing here is contended.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    received: AtomicU64,
    sent: AtomicU64,
    /// The rest of a frame is awaited.
    receiving: AtomicBool,
    /// Bytes wait for room in the socket.
    sending: AtomicBool,
}

impl Pulse {
    /// How long both directions have been silent, and how long a frame has been stuck in either.
    pub fn silence(&self, now: Instant) -> (Duration, Duration) {
        let at = |moment: &AtomicU64| now.since(Instant(moment.load(Relaxed)));
        let (received, sent) = (at(&self.received), at(&self.sent));
        let stuck =
            |busy: &AtomicBool, since| if busy.load(Relaxed) { since } else { Duration::ZERO };
        let stuck = stuck(&self.receiving, received).max(stuck(&self.sending, sent));
        (received.min(sent), stuck)
    }
}

impl Line {
    pub fn new(context: Arc<Context>, stream: TcpStream, conn: ConnId, peer: SocketAddr) -> Line {
        // A frame is written whole: waiting for more to fill a segment only delays it.
        let _ = stream.set_nodelay(true);
        // Data that is never acknowledged ends the connection, however little it is. Who has none
        // on its way asks the other end's system now and then whether there still is one: who waits
        // for an answer must not be the last to hear that nobody will give it.
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_user_timeout(Some(context.limits.unacked));
        let asked = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        let _ = socket.set_tcp_keepalive(&asked);
        let label = OnceLock::new();
        let line = Line { context, conn, peer, pulse: Pulse::default(), stream, label };
        let now = line.context.clock.instant().0;
        line.pulse.received.store(now, Relaxed);
        line.pulse.sent.store(now, Relaxed);
        line
    }

    /// Waits until there is a first byte to read, or the end.
    pub async fn speaks(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Reads what there is into `reader`, waiting for a first byte; 0 bytes at the end.
    pub async fn fill(&self, reader: &mut FrameReader) -> io::Result<usize> {
        self.pulse.received.store(self.context.clock.instant().0, Relaxed);
        self.pulse.receiving.store(!reader.is_between_frames(), Relaxed);
        let outcome = match reader.room() {
            Some(room) => self.read_into(room).await,
            None => self.read(|bytes| reader.extend(bytes)).await,
        };
        self.pulse.receiving.store(false, Relaxed);
        outcome
    }

    async fn read(&self, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        thread_local! {
            /// One buffer for all connections of the thread: nothing is kept in it.
            static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; READ_LEN]);
        }
        self.received(|| {
            BUFFER.with_borrow_mut(|buffer| {
                let len = self.stream.try_read(buffer)?;
                take(&buffer[..len]);
                Ok(len)
            })
        })
        .await
    }

    async fn read_into(&self, mut room: impl BufMut) -> io::Result<usize> {
        self.received(|| self.stream.try_read_buf(&mut room)).await
    }

    /// Waits until one of these reads has bytes, or the end.
    async fn received(&self, mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        consume_budget().await;
        loop {
            self.stream.readable().await?;
            match read() {
                Err(error) if is_transient(&error) => {}
                Ok(len) => {
                    self.pulse.received.store(self.context.clock.instant().0, Relaxed);
                    let counters = &self.context.reporter.shared.counters;
                    counters.stream_bytes_received.fetch_add(len as u64, Relaxed);
                    return Ok(len);
                }
                failed => return failed,
            }
        }
    }

    /// The other end has dialled under this label, and understands answers under it alone.
    pub fn dialled_under(&self, label: &Bytes) {
        if self.label.get().is_none() && *label != self.context.security().label {
            // Nobody else can have set it: reader and writer are parts of one task.
            let _ = self.label.set(label.clone());
        }
    }

    /// The keys and switches of now, and the label of this connection.
    fn security(&self) -> Arc<Security> {
        let security = self.context.security();
        match self.label.get() {
            Some(label) => Arc::new(security.under(label)),
            None => security,
        }
    }

    /// Writes a first frame as the dialling side.
    pub(super) async fn send_request(&self, frame: &Frame) -> io::Result<()> {
        let security = self.context.security();
        self.count_seals(&security, 1);
        let request = encode_request(&security, frame, entropy::nonce());
        self.write(vec![request]).await
    }

    /// Writes the answer to a first frame that could not be read, when one is due.
    pub(super) async fn send_refusal(&self, error: &StreamError) -> io::Result<bool> {
        match encode_refusal(&self.security(), error, entropy::nonce()) {
            Some(answer) => self.write(vec![answer]).await.map(|()| true),
            None => Ok(false),
        }
    }

    fn count_seals(&self, security: &Security, n: usize) {
        if security.encrypts() {
            self.context.reporter.shared.seals.count(n as u64);
        }
    }

    /// Writes any other frames.
    pub async fn send(&self, frames: &[Frame]) -> io::Result<()> {
        let security = self.security();
        self.count_seals(&security, frames.len());
        let mut pieces = Vec::with_capacity(frames.len());
        for frame in frames {
            encode_reply_pieces(&security, frame, entropy::nonce(), &mut pieces);
        }
        self.write(pieces).await
    }

    async fn write(&self, pieces: Vec<Bytes>) -> io::Result<()> {
        self.pulse.sent.store(self.context.clock.instant().0, Relaxed);
        self.pulse.sending.store(true, Relaxed);
        let outcome = self.write_all(pieces).await;
        self.pulse.sending.store(false, Relaxed);
        outcome
    }

    async fn write_all(&self, mut pieces: Vec<Bytes>) -> io::Result<()> {
        let mut first = 0;
        consume_budget().await;
        while first < pieces.len() {
            let unsent = &mut pieces[first..];
            let slices: Vec<IoSlice<'_>> =
                unsent.iter().take(SLICES_MAX).map(|piece| IoSlice::new(piece)).collect();
            match self.stream.try_write_vectored(&slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => {
                    self.pulse.sent.store(self.context.clock.instant().0, Relaxed);
                    let counters = &self.context.reporter.shared.counters;
                    counters.stream_bytes_sent.fetch_add(len as u64, Relaxed);
                    first += advance(unsent, len);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Closes so that what was sent arrives: a socket closed with unread input would take back
    /// even what the other end has not read yet. So we say that we are done and wait, within
    /// bounds, until the other end is, too.
    pub async fn close(self) {
        if SockRef::from(&self.stream).shutdown(Shutdown::Write).is_err() {
            return;
        }
        let drain = async {
            let mut drained_len = 0;
            while drained_len < STREAM_TOTAL_LEN_MAX {
                match self.read(|_| {}).await {
                    Ok(0) | Err(_) => break,
                    Ok(len) => drained_len += len,
                }
            }
        };
        let _ = timeout_at(self.context.timer_in(self.context.limits.linger), drain).await;
    }
}

/// Takes `len` bytes off the front of `pieces`; how many of them are gone whole.
fn advance(pieces: &mut [Bytes], mut len: usize) -> usize {
    let mut gone = 0;
    for piece in pieces {
        if len < piece.len() {
            piece.advance(len);
            break;
        }
        len -= piece.len();
        gone += 1;
    }
    gone
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_over_pieces() {
        let pieces = || [&b"ab"[..], b"", b"cde"].map(Bytes::from_static);
        for (len, gone, left) in
            [(0, 0, "ab--cde"), (1, 0, "b--cde"), (2, 2, "cde"), (4, 2, "e"), (5, 3, "")]
        {
            let mut pieces = pieces();
            assert_eq!(advance(&mut pieces, len), gone, "{len}");
            let texts: Vec<_> =
                pieces[gone..].iter().map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            assert_eq!(texts.join("-"), left, "{len}");
        }
    }
}
