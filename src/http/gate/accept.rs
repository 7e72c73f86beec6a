//! Accepts clients, each with a task of its own, up to a bound.
//!
//! An accept that fails is counted and tried again: it must not end the service. A client beyond
//! the bound gets a refusal, as long as few enough others are being refused at the same time.

use super::client::Conn;
use super::conn;
use super::context::{Gate, Open};
use super::refusal::Refusal;
use crate::http::manner::Manner;
use crate::http::sources::Source;
use crate::limits::HTTP_REFUSED_CONNECTIONS_MAX;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// After an accept that failed for want of something, the wait before the next.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts clients until draining begins, then those that were waiting.
pub(in crate::http) async fn accept(gate: Arc<Gate>, listener: TcpListener) {
    let shutdown = &gate.shared.shutdown;
    let n_refused = Arc::new(AtomicUsize::new(0));
    let mut drain = pin!(shutdown.draining());
    drain.as_mut().enable();
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = drain.as_mut(), if !shutdown.is_draining() => continue,
            // The queue is empty.
            () = std::future::ready(()), if shutdown.is_draining() => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(&gate, stream, peer.ip(), &n_refused),
            Err(error) => {
                gate.shared.counters.accept_failed();
                // A client that has vanished is no reason to wait.
                if error.kind() != ErrorKind::ConnectionAborted {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn admit(gate: &Arc<Gate>, stream: TcpStream, peer: IpAddr, n_refused: &Arc<AtomicUsize>) {
    let Some(open) = Open::one_of(gate, Source::of(peer)) else {
        refuse_connection(gate, stream, n_refused);
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

/// Tells a client that there are too many, unless even those that are told are too many.
fn refuse_connection(gate: &Gate, stream: TcpStream, n_refused: &Arc<AtomicUsize>) {
    let refusal = Refusal::connections(gate.connections_max);
    gate.shared.counters.refused(refusal.reason);
    if n_refused.fetch_add(1, Ordering::Relaxed) >= HTTP_REFUSED_CONNECTIONS_MAX {
        n_refused.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let bytes = conn::told(&gate.shared, &refusal, Manner::default());
    let n_refused = Arc::clone(n_refused);
    tokio::spawn(async move {
        conn::linger(stream, &bytes).await;
        n_refused.fetch_sub(1, Ordering::Relaxed);
    });
}
