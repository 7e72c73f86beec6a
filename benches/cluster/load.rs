//! Many connections at once, each with one request on its way.

use super::client::{parse, request};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A request: method, path and body.
pub type Request = (&'static str, String, Vec<u8>);

/// Sends the requests `0..n` over so many connections; returns how long it took.
pub fn all(
    addr: SocketAddr,
    connections: usize,
    n: usize,
    make: impl Fn(usize) -> Request + 'static,
) -> Duration {
    let next = Cell::new(0);
    let began = Instant::now();
    run(addr, connections, move || {
        Some(next.replace(next.get() + 1)).filter(|i| *i < n).map(&make)
    });
    began.elapsed()
}

/// Sends requests until told to stop; returns how long each took.
pub fn until(
    addr: SocketAddr,
    connections: usize,
    stop: Arc<AtomicBool>,
    make: impl Fn(usize) -> Request + 'static,
) -> Vec<Duration> {
    let next = Cell::new(0);
    run(addr, connections, move || {
        let i = next.replace(next.get() + 1);
        (!stop.load(Ordering::Relaxed)).then(|| make(i))
    })
}

/// Sends what `take` gives, until it gives nothing; returns how long each took.
fn run(
    addr: SocketAddr,
    connections: usize,
    take: impl Fn() -> Option<Request> + 'static,
) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let take = Rc::new(take);
    let set = tokio::task::LocalSet::new();
    let tasks: Vec<_> =
        (0..connections).map(|_| set.spawn_local(connection(addr, Rc::clone(&take)))).collect();
    runtime.expect("a runtime").block_on(set.run_until(async move {
        let mut taken = Vec::new();
        for task in tasks {
            taken.append(&mut task.await.expect("every request is answered"));
        }
        taken
    }))
}

async fn connection(addr: SocketAddr, take: Rc<impl Fn() -> Option<Request>>) -> Vec<Duration> {
    let mut stream = tokio::net::TcpStream::connect(addr).await.expect("the agent listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let (mut taken, mut held) = (Vec::new(), Vec::with_capacity(4 << 10));
    while let Some((method, path, body)) = take() {
        let request = request(method, &path, &body);
        let began = Instant::now();
        stream.write_all(&request).await.expect("the agent reads");
        let status = answer(&mut stream, &mut held).await;
        assert_eq!(status, 200, "{method} {path}");
        taken.push(began.elapsed());
    }
    taken
}

async fn answer(stream: &mut tokio::net::TcpStream, held: &mut Vec<u8>) -> u16 {
    loop {
        if let Some((status, head_len, body_len)) = parse(held) {
            held.drain(..head_len + body_len);
            return status;
        }
        let n = stream.read_buf(held).await.expect("the agent answers");
        assert!(n > 0, "the agent closed the connection");
    }
}
