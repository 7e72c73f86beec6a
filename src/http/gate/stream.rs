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
use crate::http::memory::Held;
use crate::http::watch::bell::Told;
use crate::http::watch::event::Style;
use crate::http::watch::target::Target;
use crate::http::watch::token;
use crate::kv::{Coverage, Record, Seen, Store};
use crate::limits::STORE_SHARDS;
use crate::time::Now;
use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of events that are written with one call, unless one alone has more.
const PART_LEN: usize = 32 << 10;
/// Records of a snapshot that are read from the store at a time.
const PAGE_ITEMS: usize = 256;
/// Records looked at, at most, before others get their turn.
const STEPS_MAX: usize = 4_096;
/// How soon a browser calls again when a stream has ended, and how much later at most, so that not
/// all call at once.
const RETRY_MILLIS: (u64, u64) = (1_000, 2_000);

/// Serves a stream to its end.
///
/// # Errors
/// That the client has gone, or has to.
pub(super) async fn serve(conn: &mut Conn, streaming: Streaming) -> Result<(), Stop> {
    let gate = Arc::clone(&conn.gate);
    let held = Held::of(&gate.shared.budget, conn.source);
    let writer = Writer { conn, out: Vec::new(), held, is_chunked: !streaming.is_http_1_0 };
    let mut stream = Stream { writer, seen: None, streaming };
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
    /// What the client has seen; `None` before its first `sync`.
    seen: Option<Seen>,
}

/// Why a stream ends, for its client.
type Bye = &'static str;

const LEAVING: Bye = "this node is leaving: go on at another one";
const INCOMPLETE: Bye = "this node is not ready: go on at another one";
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
        self.seen = self.streaming.wish.since.take();
        if let Some(reason) = self.streaming.wish.reset {
            self.reset(reason);
        }
        Ok(())
    }

    fn reset(&mut self, reason: &str) {
        self.streaming.wish.style.reset(&mut self.writer.out, reason);
        self.seen = None;
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
                let Some(coverage) = shared.hub.coverage(Duration::ZERO).await else {
                    return Ok(SILENT);
                };
                let before = self.seen.clone();
                self.catch_up(&coverage).await?;
                if let Some(seen) = before.filter(|seen| coverage.reaches(seen)) {
                    // What was forgotten while it read is told by nothing that was written.
                    let Some(now) = shared.hub.coverage(Duration::ZERO).await else {
                        return Ok(SILENT);
                    };
                    if !now.reaches(&seen) {
                        self.reset(token::OLD);
                        continue;
                    }
                }
                self.sync(&coverage).await?;
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
        let is_complete = shared.config.serves_while_starting || shared.bridge.is_complete();
        (!is_complete).then_some(INCOMPLETE)
    }

    /// Writes what has changed; true when that cannot be told, and all has to be looked through.
    async fn follow(&mut self, told: Told) -> Result<bool, Stop> {
        if told.is_overrun {
            return Ok(true);
        }
        for key in &told.keys {
            let Some(record) = self.store().entry(key) else {
                self.reset("a key is gone without a delete that could be told");
                return Ok(true);
            };
            self.write(&record).await?;
        }
        if let Some(coverage) = told.coverage {
            self.sync(&coverage).await?;
        } else {
            self.writer.flush().await?;
        }
        Ok(false)
    }

    /// Writes everything that the client lacks; a `sync` follows.
    async fn catch_up(&mut self, coverage: &Coverage) -> Result<(), Stop> {
        if let Some(seen) = &self.seen
            && !coverage.reaches(seen)
        {
            self.reset(token::OLD);
        }
        match (self.seen.clone(), self.streaming.wish.watch.target().clone()) {
            (None, target) => self.snapshot(&target).await,
            (Some(_), Target::Key(key)) => match self.store().entry(&key) {
                Some(record) => self.write(&record).await,
                None => Ok(()),
            },
            (Some(seen), Target::Prefix(prefix)) => {
                match self.store().keys_unseen(&seen, coverage) {
                    Some(keys) => self.write_keys(keys.iter(), &prefix).await,
                    None => self.look_through(&prefix, &seen).await,
                }
            }
        }
    }

    /// Everything there is now, in key order.
    async fn snapshot(&mut self, target: &Target) -> Result<(), Stop> {
        let prefix = match target {
            Target::Key(key) => {
                if let Some(record) = self.store().get(self.now(), key) {
                    self.write(&record).await?;
                }
                return Ok(());
            }
            Target::Prefix(prefix) => prefix,
        };
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store().list(self.now(), prefix, after.as_deref(), PAGE_ITEMS);
            for record in &page.items {
                self.write(record).await?;
            }
            tokio::task::yield_now().await;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn write_keys(
        &mut self,
        keys: impl Iterator<Item = &Box<[u8]>>,
        prefix: &[u8],
    ) -> Result<(), Stop> {
        for key in keys.filter(|key| key.starts_with(prefix)) {
            if let Some(record) = self.store().entry(key) {
                self.write(&record).await?;
            }
        }
        Ok(())
    }

    /// All that the client has not seen, in no order, a part at a time.
    async fn look_through(&mut self, prefix: &[u8], seen: &Seen) -> Result<(), Stop> {
        for shard in 0..STORE_SHARDS {
            let mut after: Option<Box<[u8]>> = None;
            loop {
                let from = (prefix, after.as_deref());
                let is_wanted = |record: &Record| !seen.covers(record);
                let (part, next) = self.store().scan_part(shard, from, STEPS_MAX, is_wanted);
                for record in &part {
                    self.write(record).await?;
                }
                tokio::task::yield_now().await;
                let Some(next) = next else { break };
                after = Some(next);
            }
        }
        Ok(())
    }

    /// Writes one entry, unless the client has seen it.
    async fn write(&mut self, record: &Record) -> Result<(), Stop> {
        let record = &self.store().as_of(self.now(), record.clone());
        let is_seen = self.seen.as_ref().is_some_and(|seen| seen.covers(record));
        if is_seen {
            return Ok(());
        }
        let wish = &self.streaming.wish;
        self.writer.make_room(record).await?;
        wish.style.record(&mut self.writer.out, record, wish.only_keys);
        if self.writer.out.len() >= PART_LEN {
            self.writer.flush().await?;
        }
        Ok(())
    }

    /// All that `coverage` says is written: the client may go on from here.
    async fn sync(&mut self, coverage: &Coverage) -> Result<(), Stop> {
        let mut seen = self.seen.take().unwrap_or_default();
        seen.merge(&coverage.seen);
        let style: Style = self.streaming.wish.style;
        style.sync(&mut self.writer.out, &token::text(&seen));
        self.seen = Some(seen);
        self.writer.flush().await
    }

    fn now(&self) -> Now {
        self.writer.conn.shared().bridge.now()
    }

    fn store(&self) -> &Store {
        self.writer.conn.shared().bridge.store()
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
