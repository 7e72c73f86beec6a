//! The life of one connection, accepted or dialled, from its first byte to its last.

use super::Context;
use super::incoming::{Arrival, End, Incoming};
use super::line::Line;
use super::link;
use super::strangers::Place;
use crate::limits::STREAM_OUTBOX_MAX;
use crate::node::io::ConnId;
use crate::runtime::mailbox::Report;
use crate::time::Instant;
use crate::wire::stream::{Frame, Mismatch, Role, StreamError};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::error::Elapsed;
use tokio::time::timeout_at;

/// What the engine asks for.
#[derive(Debug)]
pub(super) struct Dial {
    pub conn: ConnId,
    pub peer: SocketAddr,
    pub frame: Frame,
    pub deadline: Instant,
    pub link: bool,
    pub outbox: mpsc::Receiver<Frame>,
}

/// Serves a connection somebody else opened.
pub(super) async fn accepted(line: Line, place: Place) {
    let _lifeline = line.context.lifeline();
    let context = line.context.clone();
    let counters = &context.reporter.shared.counters;
    let mut incoming = Incoming::new(&line, Role::Acceptor);
    let first = tokio::select! {
        first = first_frame(&line, &place, &mut incoming) => first,
        () = place.lost() => {
            tracing::debug!(peer = %line.peer, "a gossip connection made room for another one");
            return;
        }
    };
    match first {
        Ok(Ok(first)) if matches!(first.frame, Frame::Kv(_)) => {
            let Ok(_permit) = context.links.clone().try_acquire_owned() else {
                counters.streams_refused.fetch_add(1, Relaxed);
                return;
            };
            drop(place);
            let mut outbox = introduce(&line, first).await;
            let error = link::run(&line, &mut incoming, &mut outbox).await;
            finish(line, error).await;
        }
        Ok(Ok(first)) => {
            let mut outbox = introduce(&line, first).await;
            let until = context.timer_in(context.limits.exchange);
            let error = match timeout_at(until, link::send(&line, &mut outbox)).await {
                Ok(outcome) => outcome.err().map(|error| error.to_string()),
                Err(_) => Some(too_slow(&context)),
            };
            finish(line, error).await;
        }
        Ok(Err(End::Refused(error))) => refuse(line, error).await,
        Ok(Err(end)) => {
            if !matches!(end, End::Eof) {
                counters.stream_errors.fetch_add(1, Relaxed);
            }
            tracing::debug!(peer = %line.peer, %end, "a gossip connection brought no frame");
        }
        Err(_) => {
            too_slow(&context);
            tracing::debug!(peer = %line.peer, "a gossip connection brought no frame in time");
        }
    }
}

/// The first frame of an accepted connection, or why there is none in time.
async fn first_frame(
    line: &Line,
    place: &Place,
    incoming: &mut Incoming<'_>,
) -> Result<Result<Arrival, End>, Elapsed> {
    let context = &line.context;
    let until = context.timer_in(context.limits.exchange);
    let speaks = timeout_at(context.timer_in(context.limits.first_byte), line.speaks()).await?;
    if let Err(error) = speaks {
        return Ok(Err(End::Broken(error)));
    }
    place.spoke();
    let first = timeout_at(until, incoming.next()).await?;
    if first.is_ok() {
        place.served(line.peer.ip());
    }
    Ok(first)
}

/// Makes an accepted connection known to the engine, with its first frame.
async fn introduce(line: &Line, first: Arrival) -> mpsc::Receiver<Frame> {
    let (to_outbox, outbox) = mpsc::channel(STREAM_OUTBOX_MAX);
    let reporter = &line.context.reporter;
    reporter.tell(Report::Opened { conn: line.conn, outbox: to_outbox }).await;
    reporter.tell(first.report(line.conn, line.peer)).await;
    outbox
}

/// Tells the engine that the connection is over and lets the other end see an orderly end.
async fn finish(line: Line, error: Option<String>) {
    let orderly = error.is_none();
    line.context.reporter.tell(Report::Closed { conn: line.conn, error }).await;
    if orderly {
        line.close().await;
    }
}

/// Ends a connection whose first frame could not be read, with an answer where one is due.
async fn refuse(line: Line, error: StreamError) {
    let context = line.context.clone();
    context.reporter.shared.counters.stream_errors.fetch_add(1, Relaxed);
    if context.refusals.allows(context.clock.instant()) {
        tracing::warn!(peer = %line.peer, %error, "a gossip connection was refused");
    }
    let until = context.timer_in(context.limits.exchange);
    if let Ok(Ok(true)) = timeout_at(until, line.send_refusal(&error)).await {
        line.close().await;
    }
}

/// Opens a connection and runs it to its end, which is always told.
pub(super) async fn dialled(context: Arc<Context>, dial: Dial) {
    let _lifeline = context.lifeline();
    let (conn, link) = (dial.conn, dial.link);
    match connect(&context, &dial).await {
        Ok(line) if link => {
            context.strangers.know(line.peer.ip());
            let mut outbox = dial.outbox;
            let error =
                link::run(&line, &mut Incoming::new(&line, Role::Dialer), &mut outbox).await;
            finish(line, error).await;
        }
        Ok(line) => {
            let error = converse(&line, dial).await;
            context.reporter.tell(Report::Closed { conn, error }).await;
        }
        Err(why) => context.reporter.tell(Report::Closed { conn, error: Some(why) }).await,
    }
}

/// Connects and sends the first frame, by the deadline.
async fn connect(context: &Arc<Context>, dial: &Dial) -> Result<Line, String> {
    let connecting = async {
        let stream = TcpStream::connect(dial.peer).await.map_err(|error| (error, false))?;
        if let (Frame::PushPull(_), Ok(local)) = (&dial.frame, stream.local_addr()) {
            context.detour.note(dial.peer, local);
        }
        let line = Line::new(context.clone(), stream, dial.conn, dial.peer);
        line.send_request(&dial.frame).await.map_err(|error| (error, true))?;
        Ok::<_, (io::Error, bool)>(line)
    };
    let line = match timeout_at(context.clock.timer(dial.deadline), connecting).await {
        Ok(Ok(line)) => line,
        Ok(Err((error, accepted))) => {
            if accepted {
                let refused = Report::Refused { conn: dial.conn, mismatch: Mismatch::Silence };
                context.reporter.tell(refused).await;
            }
            return Err(error.to_string());
        }
        Err(_) => return Err(too_slow(context)),
    };
    let len = link::payload_len(&dial.frame);
    context.reporter.tell(Report::Sent { conn: dial.conn, len }).await;
    Ok(line)
}

/// Waits for the answer to the first frame, where one is due, by the deadline.
async fn converse(line: &Line, mut dial: Dial) -> Option<String> {
    if !matches!(dial.frame, Frame::Ping(_) | Frame::PushPull(_)) {
        return None;
    }
    let mut incoming = Incoming::new(line, Role::Dialer);
    let answered = async {
        tokio::select! {
            answer = incoming.next() => Some(answer),
            _ = link::send(line, &mut dial.outbox) => None,
        }
    };
    match timeout_at(line.context.clock.timer(dial.deadline), answered).await {
        Ok(Some(Ok(arrival))) => {
            line.context.strangers.know(line.peer.ip());
            line.context.reporter.tell(arrival.report(line.conn, line.peer)).await;
            None
        }
        Ok(Some(Err(end))) => {
            line.context.reporter.shared.counters.stream_errors.fetch_add(1, Relaxed);
            if let Some(mismatch) = end.mismatch() {
                let refused = Report::Refused { conn: line.conn, mismatch };
                line.context.reporter.tell(refused).await;
            }
            Some(end.to_string())
        }
        Ok(None) => None,
        Err(_) => Some(too_slow(&line.context)),
    }
}

fn too_slow(context: &Context) -> String {
    context.reporter.shared.counters.stream_timeouts.fetch_add(1, Relaxed);
    "not done in time".to_owned()
}
