//! Accepts clients, each with a task of its own, up to a bound.
//!
//! An accept that fails is counted and tried again: it must not end the service. A client beyond
//! the bound gets a refusal, as long as few enough others are being refused at the same time, or
//! its own source has some of them; but a probe is answered, since whoever probes ends the process
//! when it is not.

use super::client::Conn;
use super::context::{Gate, Open};
use crate::http::counters::Reason;
use crate::source::Source;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// After an accept that failed for want of something, the wait before the next.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts clients until draining begins, then those that were waiting.
pub(in crate::http) async fn accept(gate: Arc<Gate>, listener: TcpListener) {
    let shutdown = &gate.shared.shutdown;
    let mut drain = pin!(shutdown.draining());
    drain.as_mut().enable();
    while !shutdown.is_draining() {
        let accepted = tokio::select! {
            biased;
            () = drain.as_mut() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&gate, stream, peer.ip()),
            Err(error) => {
                gate.shared.counters.accept_failed();
                // A client that has vanished is no reason to wait.
                if error.kind() != ErrorKind::ConnectionAborted {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    // The runtime may not have heard yet of those that wait in the kernel: it is asked itself.
    if let Ok(listener) = listener.into_std() {
        admit_waiting(&gate, &listener);
    }
}

/// Admits whoever waits in the kernel's queue, until it is empty.
fn admit_waiting(gate: &Arc<Gate>, listener: &std::net::TcpListener) {
    loop {
        let accepted = listener.accept().and_then(|(stream, peer)| {
            stream.set_nonblocking(true)?;
            Ok((TcpStream::from_std(stream)?, peer))
        });
        match accepted {
            Ok((stream, peer)) => admit(gate, stream, peer.ip()),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                ) => {}
            Err(_) => return,
        }
    }
}

fn admit(gate: &Arc<Gate>, stream: TcpStream, peer: IpAddr) {
    let Some(open) = Open::one_of(gate, Source::of(peer)) else {
        turn_away(gate, stream, peer);
        return;
    };
    // Answers leave as they are written; a socket that cannot do so serves all the same.
    let _ = stream.set_nodelay(true);
    let conn = Conn::new(Arc::clone(gate), stream, peer);
    tokio::spawn(async move {
        conn.run().await;
        drop(open);
    });
}

/// Answers a client that is one too many, if it is a probe, and tells it else; unless even those
/// that are told are too many.
fn turn_away(gate: &Arc<Gate>, stream: TcpStream, peer: IpAddr) {
    let Some(heard) = gate.crowd.hear(Source::of(peer)) else {
        gate.shared.counters.refused(Reason::Connections);
        return;
    };
    let conn = Conn::new(Arc::clone(gate), stream, peer);
    let gate = Arc::clone(gate);
    tokio::spawn(async move {
        tokio::select! {
            () = conn.turn_away() => {}
            () = heard.displaced() => gate.shared.counters.refused(Reason::Connections),
        }
        drop(heard);
    });
}
