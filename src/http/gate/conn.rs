//! One client connection: a request, its answer, the next request.
//!
//! ```text
//!         .--------------------------- keep-alive ------------------------------.
//!         v                                                                     |
//!  new 10 s, idle 75 s -----> head 10 s --> body 60 s --> lane --> answer written'
//!    |                         |             |                       |
//!    `-- close                 `-- refusal: answer, close, drain ----'-- too slow: close
//! ```
//!
//! The gate hands on no byte of the next request before it has the answer to this one. What a
//! client sends ahead stays in the connection's buffer, and once that is full, in its socket.

use super::ask::Asked;
use super::chunked::{Chunks, body_too_long};
use super::client::{Conn, Stop};
use super::deadline::Pace;
use super::forward::Opened;
use super::head::{Framing, Head, Scan};
use super::refusal::Refusal;
use super::send::{Outgoing, Sending};
use super::socket::Socket;
use super::{stream, trust};
use crate::http::config::Timing;
use crate::http::lanes::COPIED_BODY_LEN_MAX;
use crate::http::manner::{Manner, Next};
use crate::http::memory::Held;
use crate::http::request::Form;
use crate::http::shared::Shared;
use crate::limits::HTTP_TLS_HELD_LEN;
use bytes::{Buf as _, BufMut as _, BytesMut};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::futures::Notified;

/// Room made for reading a head, in bytes. Most heads fit.
const READ_LEN: usize = 2 << 10;
/// Room made for reading a body, in bytes, before as much again as has come.
const BODY_READ_LEN: usize = 64 << 10;
/// Bytes of buffers kept between requests.
const KEPT_LEN_MAX: usize = 8 << 10;
/// How long a client may go on sending after its last answer until we close for good, and how long
/// it may send nothing. Closing at once would reset the connection, and the answer could be lost
/// with it.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_QUIET: Duration = Duration::from_secs(2);
/// How long one connection too many has for its request.
const TURNED_AWAY: Duration = Duration::from_secs(2);
/// How a client that speaks TLS begins: a handshake, of a version whose first byte is 3.
const TLS_BEGIN: &[u8] = b"\x16\x03";
/// Room made for reading what nobody wants, in bytes.
const LINGER_READ_LEN: usize = 16 << 10;

/// Why a connection ends.
enum End {
    /// The client has gone, or has to.
    Gone,
    /// It is told why, in the manner of the request at hand, then has to go.
    Refused(Refusal, Manner),
}

impl End {
    /// What ends the connection in the middle of a request that wants this manner of answer.
    fn during(stop: Stop, manner: Manner) -> End {
        match stop {
            Stop::Gone => End::Gone,
            Stop::Refused(refusal) => End::Refused(refusal, manner),
        }
    }
}

impl Conn {
    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        match self.serve().await {
            Ok(()) => linger(&mut self.stream, b"").await,
            Err(End::Gone) => {}
            Err(End::Refused(refusal, manner)) => {
                self.shared().counters.refused(refusal.reason);
                let bytes = told(self.shared(), &refusal, manner);
                linger(&mut self.stream, &bytes).await;
            }
        }
    }

    /// Serves one that is too many: a probe is answered, and everybody else is told.
    pub(super) async fn turn_away(mut self) {
        let gate = Arc::clone(&self.gate);
        let opened = {
            let drain = pin!(gate.shared.shutdown.draining());
            tokio::time::timeout(TURNED_AWAY, self.first(drain)).await
        };
        let is_met = gate.shared.config.tls.is_none() || self.stream.is_met();
        let manner = match opened {
            Ok(Ok(Opened { mut job, is_answered: true, .. })) => {
                gate.shared
                    .lines
                    .insert(Manner { next: Next::Close, ..job.manner }, &mut job.bytes);
                return linger(&mut self.stream, &job.bytes).await;
            }
            Ok(Ok(opened)) => Some(opened.job.manner),
            Ok(Err(End::Refused(_, manner))) => Some(manner),
            Ok(Err(End::Gone)) => None,
            Err(_) if is_met => Some(self.manner_so_far()),
            Err(_) => None,
        };
        let refusal = Refusal::connections(gate.connections_max);
        gate.shared.counters.refused(refusal.reason);
        if let Some(manner) = manner {
            linger(&mut self.stream, &told(&gate.shared, &refusal, manner)).await;
        }
    }

    async fn serve(&mut self) -> Result<(), End> {
        let gate = Arc::clone(&self.gate);
        let mut drain = pin!(gate.shared.shutdown.draining());
        drain.as_mut().enable();
        let mut opened = self.first(drain.as_mut()).await?;
        loop {
            let manner = opened.job.manner;
            let is_kept = self.exchange(opened).await.map_err(|stop| End::during(stop, manner))?;
            if !is_kept {
                return Ok(());
            }
            opened = self.open(drain.as_mut()).await?;
        }
    }

    /// Makes it a TLS connection, where the server speaks that, and opens its first request.
    async fn first(&mut self, drain: Pin<&mut Notified<'_>>) -> Result<Opened, End> {
        if let Err(stop) = self.secure().await {
            return Err(End::during(stop, self.manner_so_far()));
        }
        self.open(drain).await
    }

    /// Waits for a whole head, reads it, and admits its client.
    async fn open(&mut self, drain: Pin<&mut Notified<'_>>) -> Result<Opened, End> {
        let head_len = match self.head(drain).await {
            Ok(len) => len,
            Err(stop) => return Err(End::during(stop, self.manner_so_far())),
        };
        let head = Head::read(&self.input[..head_len])
            .map_err(|refusal| End::Refused(refusal, self.manner_so_far()))?;
        let manner = self.gate.manner(&head);
        if !self.stream.is_certified() {
            trust::without_certificate(self.shared(), &head)
                .map_err(|refusal| End::Refused(refusal, manner))?;
        }
        let spare = std::mem::take(&mut self.spare);
        let opened = Opened::admit(&self.gate, self.peer, &head, manner, spare)
            .map_err(|refusal| End::Refused(refusal, manner))?;
        self.input.advance(head_len);
        Ok(opened)
    }

    /// The manner of an answer to the request that has begun to come: it is at the front of the
    /// input until its head is read.
    fn manner_so_far(&self) -> Manner {
        let target = self.input.splitn(3, |&b| b == b' ').nth(1).unwrap_or_default();
        let is_plain = target.starts_with(b"/v1/");
        Manner { form: Form::of_bytes(&self.input), is_plain, ..Manner::default() }
    }

    /// Waits for a whole head; returns its length.
    async fn head(&mut self, mut drain: Pin<&mut Notified<'_>>) -> Result<usize, Stop> {
        let mut scan = Scan::default();
        let (mut is_timed, mut is_last, mut is_told) = (false, false, false);
        // Some clients end a body with a line break that is not part of it.
        let mut may_skip = true;
        loop {
            if may_skip && self.input.starts_with(b"\r\n") {
                self.input.advance(2);
                may_skip = false;
            }
            if self.stream.is_plain() && self.input.starts_with(TLS_BEGIN) {
                return Err(self.tls_begun().into());
            }
            let is_half_skip = may_skip && self.input[..] == *b"\r";
            if !is_half_skip && let Some(len) = scan.end(&self.input)? {
                return Ok(len);
            }
            let is_idle = self.input.is_empty();
            if is_idle && !is_last && self.shared().shutdown.is_draining() {
                // A request may be on its way; it is still answered.
                is_last = true;
                self.deadline
                    .set(self.shared().bridge.now().instant, self.shared().config.timing.drain);
            }
            if !is_idle && !is_timed {
                is_timed = true;
                self.deadline
                    .set(self.shared().bridge.now().instant, self.shared().config.timing.head);
            }
            self.input.reserve(READ_LEN);
            tokio::select! {
                biased;
                n = self.stream.read_buf(&mut self.input) => if n? == 0 {
                    self.stream.part();
                    return Err(Stop::Gone);
                },
                // Told once, it would be ready for ever.
                () = drain.as_mut(), if !is_told => is_told = true,
                () = self.deadline.expired() => {
                    if is_idle {
                        self.stream.part();
                        return Err(Stop::Gone);
                    }
                    let limit = self.shared().config.timing.head.as_secs_f64();
                    let message = format_args!("the request head did not arrive within {limit} s");
                    return Err(Refusal::slow(message).into());
                }
            }
        }
    }

    /// What is wrong with a client that begins TLS here.
    fn tls_begun(&self) -> Refusal {
        if let Some(n_others) = self.gate.tls_begun_told.ask(self.shared().bridge.now().instant) {
            let peer = self.peer;
            tracing::info!(%peer, n_others, "a client speaks TLS to this plain port");
        }
        Refusal::malformed("this port speaks plain HTTP, not TLS: use http://")
    }

    /// Reads the body, has the request answered, sends the answer. True when another may follow.
    async fn exchange(&mut self, mut opened: Opened) -> Result<bool, Stop> {
        let mut held = Held::of(&self.shared().budget, self.source);
        if opened.framing == Framing::None {
            opened.end_without_body();
        } else {
            self.body(&mut opened, &mut held).await?;
        }
        let began = self.shared().bridge.now().instant;
        let manner = opened.job.manner;
        opened.is_bulk |= !opened.job.body.is_empty();
        let _wait = match opened.waiter {
            Some(waiter) => Some(self.gate.wait(waiter, self.source).ok_or_else(Refusal::waiting)?),
            None => None,
        };
        let mut outgoing = if opened.is_answered {
            self.shared().lines.insert(manner, &mut opened.job.bytes);
            Outgoing::Whole { bytes: opened.job.bytes, _held: held }
        } else {
            let asked = self.ask(opened).await?;
            drop(held);
            match asked {
                Asked::Answer(outgoing) => outgoing,
                Asked::Stream(streaming) => {
                    stream::serve(self, *streaming).await?;
                    return Ok(false);
                }
            }
        };
        let is_kept = manner.next != Next::Close && !self.shared().shutdown.is_draining();
        if !is_kept && manner.next != Next::Close {
            self.shared().lines.close(manner, outgoing.head_mut());
        }
        self.sending().answer(&outgoing).await?;
        let ended = self.shared().bridge.now().instant;
        self.shared().counters.sent(ended.since(began));
        self.deadline.set(ended, self.shared().config.timing.idle);
        let mut bytes = outgoing.end();
        bytes.clear();
        bytes.shrink_to(KEPT_LEN_MAX);
        self.spare = bytes;
        if self.input.is_empty() && self.input.capacity() > KEPT_LEN_MAX {
            self.input = BytesMut::new();
        }
        Ok(is_kept)
    }

    /// The way to the client.
    pub(super) fn sending(&mut self) -> Sending<'_> {
        Sending::new(&self.gate, &mut self.stream, &mut self.deadline, self.source)
    }

    /// Reads the body and completes the job with it.
    async fn body(&mut self, opened: &mut Opened, held: &mut Held) -> Result<(), Stop> {
        let len_max = self.shared().config.value_len_max;
        if let Framing::Length(len) = opened.framing
            && len > len_max
        {
            return Err(body_too_long(Some(len), len_max).into());
        }
        if let Framing::Length(len) = opened.framing
            && len <= self.input.len().min(COPIED_BODY_LEN_MAX)
        {
            // It came with the head, as most do.
            opened.end_with_copy(&self.input[..len]);
            self.input.advance(len);
            return Ok(());
        }
        if opened.expects_continue && self.input.is_empty() {
            self.sending().bytes(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let Timing { body, writer_rate_min, .. } = self.shared().config.timing;
        let mut pace = Pace::new(self.shared().bridge.now().instant, body, writer_rate_min);
        let pace = &mut pace;
        let body = match (opened.framing, opened.takes_body) {
            (Framing::Length(len), true) => self.sized_body(len, pace, held).await?,
            (Framing::Length(len), false) => {
                self.skip_sized(len, pace).await?;
                Vec::new()
            }
            (_, is_wanted) => self.chunked_body(len_max, pace, held, is_wanted).await?,
        };
        opened.end_with(body);
        Ok(())
    }

    /// Takes in a body that nobody wants, and holds none of it.
    async fn skip_sized(&mut self, len: usize, pace: &mut Pace) -> Result<(), Stop> {
        let mut n_taken = 0;
        loop {
            let here = self.input.len().min(len - n_taken);
            self.input.advance(here);
            n_taken += here;
            if n_taken == len {
                return Ok(());
            }
            self.more(pace).await?;
        }
    }

    /// Reads what comes of a body into the input.
    async fn more(&mut self, pace: &mut Pace) -> Result<(), Stop> {
        self.input.reserve(READ_LEN);
        self.keep(pace);
        let n = tokio::select! {
            biased;
            n = self.stream.read_buf(&mut self.input) => n?,
            () = self.deadline.expired() => return Err(self.slow_body().into()),
        };
        self.moved(pace, n)
    }

    /// Sets the deadline of a client that sends at this pace.
    fn keep(&mut self, pace: &Pace) {
        let now = self.shared().bridge.now().instant;
        self.deadline.set(now, pace.until().since(now));
    }

    /// So many bytes of a body have come; none when the client has gone.
    fn moved(&self, pace: &mut Pace, n: usize) -> Result<(), Stop> {
        pace.moved(self.shared().bridge.now().instant, n);
        if n == 0 { Err(Stop::Gone) } else { Ok(()) }
    }

    async fn sized_body(
        &mut self,
        len: usize,
        pace: &mut Pace,
        held: &mut Held,
    ) -> Result<Vec<u8>, Stop> {
        let here = len.min(self.input.len());
        let mut body = self.input[..here].to_vec();
        self.input.advance(here);
        let beside = self.tls_len();
        while body.len() < len {
            let rest = len - body.len();
            self.keep(pace);
            // Room follows what has come, not what was announced.
            body.reserve(rest.min(BODY_READ_LEN.max(body.len())));
            held.grow_to(body.capacity() + beside).map_err(|_| Refusal::memory())?;
            let mut into = (&mut body).limit(rest);
            let n = tokio::select! {
                biased;
                n = self.stream.read_buf(&mut into) => n?,
                () = self.deadline.expired() => return Err(self.slow_body().into()),
            };
            self.moved(pace, n)?;
        }
        Ok(body)
    }

    async fn chunked_body(
        &mut self,
        len_max: usize,
        pace: &mut Pace,
        held: &mut Held,
        is_wanted: bool,
    ) -> Result<Vec<u8>, Stop> {
        let mut chunks = Chunks::new(len_max);
        let mut body = Vec::new();
        while !chunks.take(&mut self.input, &mut body)? {
            if !is_wanted {
                body.clear();
            }
            held.grow_to(body.capacity() + self.tls_len()).map_err(|_| Refusal::memory())?;
            self.input.reserve(READ_LEN.max(body.len().min(BODY_READ_LEN)));
            self.more(pace).await?;
        }
        Ok(body)
    }

    /// What TLS holds beside a body that comes in.
    fn tls_len(&self) -> usize {
        if self.stream.is_plain() { 0 } else { HTTP_TLS_HELD_LEN }
    }

    fn slow_body(&self) -> Refusal {
        let Timing { body, writer_rate_min, .. } = self.shared().config.timing;
        Refusal::slow(format_args!(
            "the request body did not arrive within {} s and its length at {writer_rate_min} bytes \
             a second",
            body.as_secs_f64()
        ))
    }
}

/// A refusal as it goes to the client. The connection is closed after it, whatever the manner.
pub(super) fn told(shared: &Shared, refusal: &Refusal, manner: Manner) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (failure, now) = (&refusal.failure, shared.bridge.now().wall);
    if manner.is_plain {
        failure.write_plain(&mut bytes, now, manner.form);
    } else {
        failure.write(&mut bytes, now, manner.form);
    }
    shared.lines.insert(Manner { next: Next::Close, ..manner }, &mut bytes);
    bytes
}

/// Sends the rest of a connection's last answer, and gives the client time to read it. One that is
/// still sending looks for an answer only at the end: what it sends is taken and thrown away.
pub(super) async fn linger(stream: &mut Socket, bytes: &[u8]) {
    let rest = async {
        stream.end_with(bytes).await?;
        let mut sink = vec![0; LINGER_READ_LEN];
        loop {
            match tokio::time::timeout(LINGER_QUIET, stream.discard(&mut sink)).await {
                Ok(Ok(0)) | Err(_) => return std::io::Result::Ok(()),
                Ok(n) => n?,
            };
        }
    };
    // Whoever does not read in time has seen enough.
    let _ = tokio::time::timeout(LINGER, rest).await;
}
