//! Writes a stream of events, for as long as its client reads.
//!
//! ```text
//! head --> [reset] --> catch up: a snapshot, or what the client lacks --> sync
//!                        ^                                                 |
//!                        | overrun, or a key gone without a delete         v
//!                        '------- rung: the keys that changed ----------> sync --> rung ...
//!          bye, when the node leaves or is no longer complete
//! ```
//!
//! Every `sync` carries a token for all that has been written before it, and for nothing else. What
//! the node held was asked for before the store was read, so the token may say less than has been
//! written, never more.

use super::ask::Streaming;
use super::client::{Conn, Stop};
use super::trust;
use crate::http::memory::Held;
use crate::http::watch::bell::Told;
use crate::http::watch::token;
use crate::kv::{Begun, Coverage, Reader, Record, Store};
use crate::time::Now;
use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of events that are written with one call, unless one alone has more.
const PART_LEN: usize = 32 << 10;
/// Records that are read from the store at a time.
const PART_ITEMS: usize = 256;
/// How soon a browser calls again when a stream has ended, and how much later at most, so that not
/// all call at once.
const RETRY_MILLIS: (u64, u64) = (1_000, 2_000);

/// Serves a stream to its end.
///
/// # Errors
/// That the client has gone, or has to.
pub(super) async fn serve(conn: &mut Conn, mut streaming: Streaming) -> Result<(), Stop> {
    let gate = Arc::clone(&conn.gate);
    let held = Held::of(&gate.shared.budget, conn.source);
    let writer = Writer { conn, out: Vec::new(), held, is_chunked: !streaming.is_http_1_0 };
    let since = streaming.wish.since.take();
    let reader = Reader::new(streaming.wish.watch.target().clone(), since);
    let mut stream = Stream { writer, reader, streaming };
    stream.begin().await?;
    match stream.run().await {
        Ok(reason) => {
            let style = stream.streaming.wish.style;
            style.bye(&mut stream.writer.out, reason);
            stream.writer.end().await
        }
        Err(stop) => Err(stop),
    }
}

struct Stream<'c> {
    writer: Writer<'c>,
    streaming: Streaming,
    /// The client, as far as the store knows it.
    reader: Reader,
}

/// Why a stream ends, for its client.
type Bye = &'static str;

const LEAVING: Bye = "this node is leaving: go on at another one";
const INCOMPLETE: Bye = "this node is not ready: go on at another one";
const REVOKED: Bye = "the token of this stream is in use no more";
const SILENT: Bye = "this node is too busy to say what it holds: go on at another one";

impl Stream<'_> {
    async fn begin(&mut self) -> Result<(), Stop> {
        let Streaming { wish, manner, is_http_1_0, .. } = &self.streaming;
        let shared = self.writer.conn.shared();
        let mut head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nCache-Control: no-store\r\n\
             X-Accel-Buffering: no\r\n",
            wish.style.content_type()
        )
        .into_bytes();
        if !is_http_1_0 {
            head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        head.extend_from_slice(b"\r\n");
        shared.lines.insert(manner.closing(), &mut head);
        self.writer.send(&head).await?;
        let (least, spread) = RETRY_MILLIS;
        wish.style.begin(&mut self.writer.out, least + rand::random_range(0..=spread));
        if let Some(reason) = self.streaming.wish.reset {
            self.reset(reason);
        }
        Ok(())
    }

    fn reset(&mut self, reason: &str) {
        self.streaming.wish.style.reset(&mut self.writer.out, reason);
        self.reader.reset();
    }

    /// Writes until the stream has to end; returns why.
    async fn run(&mut self) -> Result<Bye, Stop> {
        let gate = Arc::clone(&self.writer.conn.gate);
        let (shared, mut drain) = (&gate.shared, pin!(gate.shared.shutdown.draining()));
        drain.as_mut().enable();
        let mut is_behind = true;
        loop {
            if let Some(bye) = self.must_end() {
                return Ok(bye);
            }
            if is_behind {
                // What has changed before this moment is in what is read now.
                self.streaming.wish.watch.take();
                let Some(coverage) = self.coverage().await else { return Ok(SILENT) };
                if !self.catch_up(&coverage).await? {
                    continue;
                }
            }
            tokio::select! {
                () = self.streaming.wish.watch.rung() => {}
                () = drain.as_mut(), if !shared.shutdown.is_draining() => continue,
                () = self.writer.conn.gone() => return Err(Stop::Gone),
            }
            if let Some(bye) = self.must_end() {
                return Ok(bye);
            }
            let told = self.streaming.wish.watch.take();
            is_behind = self.follow(told).await?;
        }
    }

    /// Why the stream may not go on, if so.
    fn must_end(&self) -> Option<Bye> {
        let shared = self.writer.conn.shared();
        if shared.shutdown.is_draining() || shared.shutdown.is_not_ready() {
            return Some(LEAVING);
        }
        if !trust::lasts(shared, self.streaming.pass.as_ref()) {
            return Some(REVOKED);
        }
        let is_complete = shared.config.serves_while_starting || shared.bridge.is_complete();
        (!is_complete).then_some(INCOMPLETE)
    }

    /// Writes what has changed; true when that cannot be told, and all has to be looked through.
    async fn follow(&mut self, told: Told) -> Result<bool, Stop> {
        if told.is_overrun {
            return Ok(true);
        }
        for key in &told.keys {
            match self.store().shown(self.now(), key) {
                Some(record) => self.write(&record).await?,
                None => {
                    self.reset("a key is gone without a delete that could be told");
                    return Ok(true);
                }
            }
        }
        if let Some(coverage) = told.coverage {
            self.reader.sync(self.writer.store(), &coverage);
            self.sync().await?;
        } else {
            self.writer.flush().await?;
        }
        Ok(false)
    }

    /// Writes everything that the client lacks; false when it has to begin anew after all.
    async fn catch_up(&mut self, coverage: &Arc<Coverage>) -> Result<bool, Stop> {
        match self.reader.begin(self.writer.store(), Arc::clone(coverage)) {
            Begun::On => {}
            Begun::Behind => self.sync().await?,
            Begun::Anew => self.streaming.wish.style.reset(&mut self.writer.out, token::OLD),
        }
        while let Some(part) = self.part() {
            // It may take as long as its client likes.
            if self.must_end().is_some() {
                return Ok(false);
            }
            for record in &part {
                self.write(record).await?;
            }
            tokio::task::yield_now().await;
        }
        // What was forgotten while it read is told by nothing that was written.
        let now = match self.reader.is_new() {
            true => Arc::clone(coverage),
            false => match self.coverage().await {
                Some(now) => now,
                None => return Ok(false),
            },
        };
        if self.reader.end(self.writer.store(), &now) {
            self.sync().await?;
            return Ok(true);
        }
        self.streaming.wish.style.reset(&mut self.writer.out, token::OLD);
        Ok(false)
    }

    fn part(&mut self) -> Option<Vec<Record>> {
        let bridge = &self.writer.conn.shared().bridge;
        self.reader.part(bridge.store(), bridge.now(), PART_ITEMS)
    }

    /// What the node holds now; `None` when it does not say.
    async fn coverage(&self) -> Option<Arc<Coverage>> {
        let hub = Arc::clone(&self.writer.conn.shared().hub);
        hub.coverage(Duration::ZERO).await
    }

    /// Writes one entry.
    async fn write(&mut self, record: &Record) -> Result<(), Stop> {
        let wish = &self.streaming.wish;
        self.writer.make_room(record).await?;
        wish.style.record(&mut self.writer.out, record, wish.only_keys);
        if self.writer.out.len() >= PART_LEN {
            self.writer.flush().await?;
        }
        Ok(())
    }

    /// The client may go on from here.
    async fn sync(&mut self) -> Result<(), Stop> {
        if let Some(seen) = self.reader.seen() {
            self.streaming.wish.style.sync(&mut self.writer.out, &token::text(seen));
        }
        self.writer.flush().await
    }

    fn now(&self) -> Now {
        self.writer.conn.shared().bridge.now()
    }

    fn store(&self) -> &Store {
        self.writer.store()
    }
}

/// Events on their way to the client.
struct Writer<'c> {
    conn: &'c mut Conn,
    out: Vec<u8>,
    held: Held,
    is_chunked: bool,
}

impl Writer<'_> {
    fn store(&self) -> &Store {
        self.conn.shared().bridge.store()
    }

    /// Counts what a long value will take before it is written out.
    async fn make_room(&mut self, record: &Record) -> Result<(), Stop> {
        // A byte takes six in JSON at most.
        let len = 6 * record.as_bytes().len();
        if len <= PART_LEN {
            return Ok(());
        }
        self.flush().await?;
        // The middle of a stream is no place for a refusal.
        self.held.grow_to(len).map_err(|_| Stop::Gone)
    }

    /// Sends what is written.
    async fn flush(&mut self) -> Result<(), Stop> {
        if self.out.is_empty() {
            return Ok(());
        }
        if self.is_chunked {
            let mut head = String::new();
            // Writing to a string does not fail.
            let _ = write!(head, "{:x}\r\n", self.out.len());
            self.out.splice(0..0, head.into_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        let out = std::mem::take(&mut self.out);
        self.send(&out).await?;
        self.out = out;
        self.out.clear();
        self.out.shrink_to(PART_LEN);
        self.held = Held::of(&self.conn.gate.shared.budget, self.conn.source);
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        Ok(self.conn.sending().bytes(bytes).await?)
    }

    /// Sends what is written, and the end of the answer.
    async fn end(mut self) -> Result<(), Stop> {
        self.flush().await?;
        if self.is_chunked {
            self.send(b"0\r\n\r\n").await?;
        }
        Ok(())
    }
}
