//! A writer of log lines that keeps nobody waiting.
//!
//! ```text
//!   any thread -- a line; full: dropped and counted --> queue --> one thread --> standard error
//! ```
//!
//! Whoever reads standard error may stop for a while: a shipper that hangs, a terminal with Ctrl-S.
//! A write to it then blocks, and had the gossip loop written by itself, so it would stand, with it
//! the cluster's trust in this node. The oldest lines are kept, since they tell how it began.

use crate::limits::LOG_WAITING_LEN_MAX;
use parking_lot::{Condvar, Mutex};
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Between two tries where standard error takes nothing and does not block.
const AGAIN: Duration = Duration::from_millis(10);

/// The queue of lines. `&LogWriter` takes one whole line a write, and never fails.
#[derive(Debug, Default)]
pub(super) struct LogWriter {
    queue: Mutex<Queue>,
    filled: Condvar,
    written: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whole lines, at most [`LOG_WAITING_LEN_MAX`] bytes.
    waiting: Vec<u8>,
    /// Whether some that waited are being written.
    is_writing: bool,
}

impl LogWriter {
    /// Lines dropped so far.
    pub(super) fn dropped(&self) -> &Arc<AtomicU64> {
        &self.dropped
    }

    /// Takes a line, its line break included, or drops and counts it.
    pub(super) fn push(&self, line: &[u8]) {
        let mut queue = self.queue.lock();
        if queue.waiting.len() + line.len() > LOG_WAITING_LEN_MAX {
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        queue.waiting.extend_from_slice(line);
        self.filled.notify_one();
    }

    /// Waits until all lines are written, or for as long as `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let mut queue = self.queue.lock();
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.waiting.is_empty();
        // Whether or not it is in time, the process ends.
        self.written.wait_while_for(&mut queue, is_busy, limit);
    }

    /// Writes what comes, for ever. When standard error takes lines again after some have been
    /// dropped, `tell` is called with their number.
    pub(super) fn run(&self, mut out: impl Write, tell: impl Fn(u64)) {
        let mut told = 0;
        loop {
            self.turn(&mut out, &tell, &mut told);
        }
    }

    /// Waits for lines and writes them.
    fn turn(&self, out: &mut impl Write, tell: &impl Fn(u64), told: &mut u64) {
        let lines = {
            let mut queue = self.queue.lock();
            self.filled.wait_while(&mut queue, |queue| queue.waiting.is_empty());
            queue.is_writing = true;
            std::mem::take(&mut queue.waiting)
        };
        let left = write(out, &lines);
        if !left.is_empty() {
            let n = left.split_inclusive(|byte| *byte == b'\n').count();
            self.dropped.fetch_add(n as u64, Relaxed);
        }
        // Not before there is room for the word itself.
        let is_through = left.is_empty() && self.queue.lock().waiting.is_empty();
        let dropped = self.dropped.load(Relaxed);
        if is_through && dropped != *told {
            tell(dropped - *told);
            *told = dropped;
        }
        self.queue.lock().is_writing = false;
        self.written.notify_all();
    }
}

/// Writes all of it, however long that takes; what is left of it when that fails.
fn write<'l>(out: &mut impl Write, mut lines: &'l [u8]) -> &'l [u8] {
    while !lines.is_empty() {
        match out.write(lines) {
            Ok(0) => break,
            Ok(n) => lines = &lines[n.min(lines.len())..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever shares the pipe may have made it so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
            Err(_) => break,
        }
    }
    lines
}

impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Takes a write only when the test says so, and then passes it on.
    struct Stuck {
        let_go: Receiver<io::Result<()>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.let_go.recv().expect("the test goes on")?;
            self.written.send(bytes.to_vec()).expect("the test listens");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_reader_that_stands_costs_nobody_a_wait_and_is_told_how_much_it_missed() {
        let writer = Arc::new(LogWriter::default());
        let ((go, let_go), (written, lines)) = (channel(), channel());
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        std::thread::scope(|threads| {
            let (thread, out) = (Arc::clone(&writer), Stuck { let_go, written });
            threads.spawn(move || {
                let (mut out, mut told) = (out, 0);
                let tell = |n: u64| thread.push(format!("dropped {n}\n").as_bytes());
                for _ in 0..4 {
                    thread.turn(&mut out, &tell, &mut told);
                }
            });
            writer.push(b"first\n");
            while !writer.queue.lock().is_writing {
                std::thread::yield_now();
            }
            let n = LOG_WAITING_LEN_MAX / line.len();
            for _ in 0..n + 7 {
                writer.push(&line);
            }
            assert_eq!(writer.dropped().load(Relaxed), 7);
            writer.flush(Duration::from_millis(1));
            assert!(writer.queue.lock().is_writing, "it gave up waiting");
            go.send(Ok(())).expect("it writes");
            assert_eq!(lines.recv_timeout(LONG).expect("a line"), b"first\n");
            // What was dropped meanwhile is told behind what waited.
            go.send(Err(ErrorKind::WouldBlock.into())).expect("it writes");
            go.send(Ok(())).expect("it writes");
            let rest = lines.recv_timeout(LONG).expect("lines");
            assert_eq!(rest.len(), n * line.len());
            go.send(Ok(())).expect("it writes");
            assert_eq!(lines.recv_timeout(LONG).expect("a line"), b"dropped 7\n");
            // Nobody reads any more: lines are lost, and counted, and that is all.
            writer.flush(LONG);
            writer.push(b"a\nb\n");
            go.send(Err(ErrorKind::BrokenPipe.into())).expect("it writes");
            writer.flush(LONG);
            assert_eq!(writer.dropped().load(Relaxed), 9);
        });
    }
}
