//! What goes to a client, as fast as it takes it.
//!
//! ```text
//! short:  one write, mostly
//! long:   turn: make a piece, write what the socket takes  --> wait for the client --> turn ...
//! ```
//!
//! Those that read long answers take turns, and between two turns everything else that is ready
//! goes first. So a hundred of them delay a short answer no longer than one does.

use super::context::Gate;
use super::deadline::{Deadline, Pace};
use super::socket::Socket;
use crate::http::counters::Reason;
use crate::http::long::{LongAnswer, MADE_LEN_MAX, Pieces};
use crate::http::memory::{Held, Pin, Spent};
use crate::limits::HTTP_TLS_HELD_LEN;
use crate::source::Source;
use std::io;

/// Most bytes of one turn.
const TURN_LEN_MAX: usize = 128 << 10;

/// An answer, and what is counted while it goes out.
pub(super) enum Outgoing {
    /// All of it is there.
    Whole { bytes: Vec<u8>, _held: Held },
    /// Its body is made on the way.
    Long(Box<Long>),
}

/// A long answer to a client of one source.
pub(super) struct Long {
    answer: LongAnswer,
    _pins: Vec<Pin>,
    /// Room for a piece.
    _room: Held,
}

impl Outgoing {
    /// A long answer to a client of this source.
    ///
    /// # Errors
    /// [`Spent`], when the source may not have so much, or nobody may.
    pub(super) fn long(
        gate: &Gate,
        source: Source,
        mut answer: LongAnswer,
    ) -> Result<Outgoing, Spent> {
        let budget = &gate.shared.budget;
        answer.held.belong_to(source)?;
        let records = answer.body.iter().filter_map(|part| part.record());
        let pins = records.map(|record| Pin::new(budget, source, record));
        let pins = pins.collect::<Result<Vec<Pin>, Spent>>()?;
        let mut room = Held::of(budget, source);
        if answer.body.iter().any(|part| part.is_made()) {
            room.grow_to(MADE_LEN_MAX)?;
        }
        Ok(Outgoing::Long(Box::new(Long { answer, _pins: pins, _room: room })))
    }

    /// The buffer that begins with the head.
    pub(super) fn head_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Outgoing::Whole { bytes, .. } => bytes,
            Outgoing::Long(long) => &mut long.answer.head,
        }
    }

    /// Ends it; a buffer that may be used again comes back.
    pub(super) fn end(self) -> Vec<u8> {
        match self {
            Outgoing::Whole { bytes, .. } => bytes,
            Outgoing::Long(long) => long.answer.head,
        }
    }
}

/// The way to one client.
pub(super) struct Sending<'c> {
    gate: &'c Gate,
    stream: &'c mut Socket,
    deadline: &'c mut Deadline,
    source: Source,
    /// Since the client was waited for.
    pace: Option<Pace>,
    /// What TLS holds meanwhile.
    tls: Option<Held>,
}

impl<'c> Sending<'c> {
    pub(super) fn new(
        gate: &'c Gate,
        stream: &'c mut Socket,
        deadline: &'c mut Deadline,
        source: Source,
    ) -> Sending<'c> {
        Sending { gate, stream, deadline, source, pace: None, tls: None }
    }

    /// Sends an answer; returns when it is out.
    ///
    /// # Errors
    /// The client has gone, or takes it too slowly.
    pub(super) async fn answer(&mut self, outgoing: &Outgoing) -> io::Result<()> {
        match outgoing {
            Outgoing::Whole { bytes, .. } => self.bytes(bytes).await,
            Outgoing::Long(long) => self.long(&long.answer).await,
        }
    }

    async fn long(&mut self, answer: &LongAnswer) -> io::Result<()> {
        self.bytes(&answer.head).await?;
        let (mut pieces, mut buffer) = (Pieces::default(), Vec::new());
        while let Some(piece) = pieces.next(&answer.body, &mut buffer) {
            for part in piece.chunks(TURN_LEN_MAX) {
                let gate = self.gate;
                // It is never closed.
                let turn = gate.turns.acquire().await;
                let n = self.try_bytes(part)?;
                // Whatever is ready goes first, before the next has its turn.
                tokio::task::yield_now().await;
                drop(turn);
                self.bytes(&part[n..]).await?;
            }
        }
        Ok(())
    }

    /// Sends bytes; returns when they are out.
    ///
    /// # Errors
    /// The client has gone, or takes them too slowly.
    pub(super) async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = &bytes[self.try_bytes(bytes)?..];
        while !rest.is_empty() || self.stream.is_behind() {
            self.count_tls()?;
            tokio::select! {
                writable = self.stream.writable() => writable?,
                () = self.deadline.expired() => {
                    // The middle of an answer is no place for another one.
                    self.gate.shared.counters.refused(Reason::Slow);
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            rest = &rest[self.try_bytes(rest)?..];
        }
        Ok(())
    }

    /// Counts what TLS holds while the client is waited for.
    fn count_tls(&mut self) -> io::Result<()> {
        if self.tls.is_some() || self.stream.is_plain() {
            return Ok(());
        }
        let mut held = Held::of(&self.gate.shared.budget, self.source);
        if held.count_to(HTTP_TLS_HELD_LEN).is_err() {
            // The middle of an answer is no place for another one.
            self.gate.shared.counters.refused(Reason::Memory);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.tls = Some(held);
        Ok(())
    }

    /// Sends what the socket takes now, or TLS ahead of it.
    fn try_bytes(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.stream.try_write(bytes)?;
        if n < bytes.len() || self.stream.is_behind() || self.pace.is_some() {
            let shared = &self.gate.shared;
            let (now, timing) = (shared.bridge.now().instant, &shared.config.timing);
            let pace = self
                .pace
                .get_or_insert_with(|| Pace::new(now, timing.reader, timing.reader_rate_min));
            pace.moved(now, n);
            self.deadline.set(now, pace.until().since(now));
        }
        Ok(n)
    }
}
