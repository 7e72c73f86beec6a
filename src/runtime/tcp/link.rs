//! A replication link: frames both ways, at the same time, until one end closes or it falls idle.

use super::incoming::{End, Incoming};
use super::line::Line;
use crate::runtime::mailbox::Report;
use crate::wire::stream::Frame;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;

/// Bytes of queued frames that are written together.
const BATCH_LEN: usize = 64 << 10;
/// Looks at the pulse in the shortest time it is judged by.
const LOOKS: u32 = 4;

/// Runs the link to its end; what was wrong, when something was.
pub(super) async fn run(
    line: &Line,
    incoming: &mut Incoming<'_>,
    outbox: &mut mpsc::Receiver<Frame>,
) -> Option<String> {
    tokio::select! {
        end = receive(line, incoming) => match end {
            End::Eof => None,
            end => {
                line.context.reporter.shared.counters.stream_errors.fetch_add(1, Relaxed);
                Some(end.to_string())
            }
        },
        outcome = send(line, outbox) => outcome.err().map(|error| error.to_string()),
        why = watch(line) => why.map(str::to_owned),
    }
}

async fn receive(line: &Line, incoming: &mut Incoming<'_>) -> End {
    loop {
        match incoming.next().await {
            Ok(arrival) => {
                line.context.reporter.tell(arrival.report(line.conn, line.peer)).await;
            }
            Err(end) => return end,
        }
    }
}

/// Writes what the node hands over, and returns when it lets go of the outbox.
pub(super) async fn send(line: &Line, outbox: &mut mpsc::Receiver<Frame>) -> io::Result<()> {
    while let Some(frame) = outbox.recv().await {
        let mut batch_len = payload_len(&frame);
        let mut batch = vec![frame];
        while batch_len < BATCH_LEN
            && let Ok(frame) = outbox.try_recv()
        {
            batch_len += payload_len(&frame);
            batch.push(frame);
        }
        line.send(&batch).await?;
        for frame in &batch {
            let sent = Report::Sent { conn: line.conn, len: payload_len(frame) };
            line.context.reporter.tell(sent).await;
        }
    }
    Ok(())
}

/// As [`Report::Sent`] counts it.
pub(super) fn payload_len(frame: &Frame) -> usize {
    match frame {
        Frame::Kv(payload) => payload.len(),
        _ => 0,
    }
}

/// Returns when the link is idle (which is no error) or stuck.
async fn watch(line: &Line) -> Option<&'static str> {
    let limits = &line.context.limits;
    let pause = limits.idle.min(limits.stall) / LOOKS;
    loop {
        tokio::time::sleep(pause).await;
        let (silent, stuck) = line.pulse.silence(line.context.clock.instant());
        if stuck >= limits.stall {
            line.context.reporter.shared.counters.stream_timeouts.fetch_add(1, Relaxed);
            return Some("stuck inside a frame for too long");
        }
        if silent >= limits.idle {
            return None;
        }
    }
}
