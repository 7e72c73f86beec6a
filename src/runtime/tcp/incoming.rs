//! Frames out of a connection, within the bounds all connections share.
//!
//! Before bytes are decoded there must be room for the frame they may turn into, because a few
//! kilobytes can expand to many megabytes; and what an unfinished frame holds beyond a little is
//! taken from a common budget. A connection that finds none waits, and gives up after a while, so
//! that many half-sent frames cannot block each other for ever.

use super::UNFINISHED_UNIT_LEN;
use super::line::Line;
use crate::limits::STREAM_UNFINISHED_LEN_FREE;
use crate::node::io::ConnId;
use crate::runtime::mailbox::Report;
use crate::wire::stream::{Frame, FrameReader, Mismatch, Role, StreamError};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

/// Why no further frame comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The other end closed where it may.
    #[error("closed by the other end")]
    Eof,
    /// The other end closed inside a frame.
    #[error("closed by the other end inside a frame")]
    Torn,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// What came is not taken.
    #[error(transparent)]
    Refused(#[from] StreamError),
    /// Other connections hold all the memory there is for unfinished frames.
    #[error("too many unfinished frames on other connections")]
    NoRoom,
}

impl End {
    /// What this end says about the other end when it came instead of the answer to our first
    /// frame: one that reads it and says nothing does not want us.
    pub fn mismatch(&self) -> Option<Mismatch> {
        match self {
            End::Eof => Some(Mismatch::Silence),
            End::Broken(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Some(Mismatch::Silence)
            }
            End::Refused(error) => error.mismatch(),
            End::Torn | End::Broken(_) | End::NoRoom => None,
        }
    }
}

/// A frame, and its place among those the engine has not taken yet.
#[derive(Debug)]
pub(super) struct Arrival {
    pub frame: Frame,
    room: OwnedSemaphorePermit,
}

impl Arrival {
    /// What the engine is told.
    pub fn report(self, conn: ConnId, from: SocketAddr) -> Report {
        Report::Frame { conn, from, frame: self.frame, room: self.room }
    }
}

/// The receiving half of a connection.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    line: &'a Line,
    reader: FrameReader,
    /// Whether there are bytes that have not been looked at.
    fresh: bool,
    /// Bytes received since the last frame.
    unfinished_len: usize,
    hold: Option<OwnedSemaphorePermit>,
}

impl<'a> Incoming<'a> {
    pub fn new(line: &'a Line, role: Role) -> Incoming<'a> {
        let reader = FrameReader::new(role);
        Incoming { line, reader, fresh: false, unfinished_len: 0, hold: None }
    }

    /// The next frame. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Result<Arrival, End> {
        loop {
            if self.fresh {
                let room = acquire(&self.line.context.frames, 1).await;
                let security = self.line.context.security();
                let next = self.reader.next(&security);
                if let Some(label) = self.reader.dialled_under() {
                    self.line.dialled_under(label);
                }
                if let Some(frame) = next? {
                    (self.unfinished_len, self.hold) = (0, None);
                    return Ok(Arrival { frame, room });
                }
                self.fresh = false;
            }
            match self.line.fill(&mut self.reader).await? {
                0 if self.reader.is_between_frames() => return Err(End::Eof),
                0 => return Err(End::Torn),
                len => self.unfinished_len += len,
            }
            self.fresh = true;
            self.reserve().await?;
        }
    }

    /// Makes sure that the unfinished frame is paid for.
    async fn reserve(&mut self) -> Result<(), End> {
        let len = self.unfinished_len.saturating_sub(STREAM_UNFINISHED_LEN_FREE);
        let held = self.hold.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = len.div_ceil(UNFINISHED_UNIT_LEN).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let context = &self.line.context;
        let paid = acquire(&context.unfinished, missing);
        let more = timeout_at(context.timer_in(context.limits.stall), paid).await;
        let more = more.map_err(|_| End::NoRoom)?;
        match &mut self.hold {
            Some(hold) => hold.merge(more),
            None => self.hold = Some(more),
        }
        Ok(())
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, n: usize) -> OwnedSemaphorePermit {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    semaphore.clone().acquire_many_owned(n).await.expect("semaphores of the shell are never closed")
}
