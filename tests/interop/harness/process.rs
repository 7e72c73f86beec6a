//! A child process whose lines are kept, and which never outlives its test.

use super::clock::now;
use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process, setpriority_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines shown of each child when its test fails.
const TAIL_LINES: usize = 60;
/// What Serf says about every question it is asked.
const NOISE: &str = "agent.ipc: Accepted client";

/// A running program. Killed and reaped on drop; its last lines are shown when the test fails.
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Lines {
    all: Mutex<Vec<(Instant, String)>>,
    more: Condvar,
}

impl Process {
    /// A command whose process dies even when this one is killed, where the system can do that;
    /// inside a network namespace when one is named.
    pub fn command(program: &str, namespace: Option<&str>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(namespace) = namespace {
            command.args(["ip", "netns", "exec", namespace]);
        }
        command.arg(program);
        Process::without_our_variables(&mut command);
        command
    }

    /// Takes away what tells these tests how to test: the program refuses variables that it does
    /// not know.
    pub fn without_our_variables(command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"GOSSIPYKV_") {
                command.env_remove(name);
            }
        }
    }

    /// Starts it; `name` is for messages.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn spawn(name: &str, mut command: Command) -> Process {
        raise_priority();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let lines = Arc::new(Lines::default());
        let readers = [
            read_lines(child.stdout.take().expect("piped"), &lines),
            read_lines(child.stderr.take().expect("piped"), &lines),
        ];
        let stdin = child.stdin.take();
        Process { name: name.to_owned(), child, stdin, lines, readers: readers.into() }
    }

    /// Writes a line to its standard input.
    ///
    /// # Panics
    /// When it has ended.
    pub fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        let sent = stdin.write_all(format!("{line}\n").as_bytes());
        sent.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Its number in the system.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// How many lines it has written so far, on both outputs.
    pub fn n_lines(&self) -> usize {
        self.lines.all.lock().len()
    }

    /// The lines from the `from`th on.
    pub fn lines(&self, from: usize) -> Vec<String> {
        self.lines.all.lock()[from..].iter().map(|(_, line)| line.clone()).collect()
    }

    /// Waits for a line from the `from`th on of which `find` makes something; returns that, when
    /// the line came, and the number of the line after it.
    ///
    /// # Panics
    /// After `within`.
    #[track_caller]
    pub fn find_line<T>(
        &self,
        what: &str,
        from: usize,
        within: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> (T, Instant, usize) {
        let deadline = now() + within;
        let mut next = from;
        let mut lines = self.lines.all.lock();
        loop {
            while next < lines.len() {
                let (at, line) = &lines[next];
                next += 1;
                if let Some(found) = find(line) {
                    return (found, *at, next);
                }
            }
            if self.lines.more.wait_until(&mut lines, deadline).timed_out() {
                drop(lines);
                panic!("{}: not within {within:?}: {what}", self.name);
            }
        }
    }

    /// How it ended, when it has.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child")
    }

    /// Waits for it to end.
    ///
    /// # Panics
    /// After `within`.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let (child, name) = (&mut self.child, &self.name);
        super::clock::eventually(&format!("{name} ends"), within, || {
            child.try_wait().expect("our child").ok_or("it still runs")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let status = self.child.wait();
        self.stdin = None;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            let lines = self.lines.all.lock();
            eprintln!("--- {} ({status:?}), {} lines, the last:", self.name, lines.len());
            for (_, line) in lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)) {
                eprintln!("    {line}");
            }
        }
    }
}

/// Puts this thread, and what it starts from here on, before the machine's other work, where that
/// is permitted: a program that gets no time to answer is judged as a dead one.
fn raise_priority() {
    const PRIORITY: i32 = -10;
    let _ = setpriority_process(None, PRIORITY);
}

fn read_lines(from: impl Read + Send + 'static, to: &Arc<Lines>) -> JoinHandle<()> {
    let to = Arc::clone(to);
    let read = move || {
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        while from.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if !line.contains(NOISE) {
                to.all.lock().push((now(), line));
                to.more.notify_all();
            }
        }
    };
    std::thread::Builder::new().name("lines".to_owned()).spawn(read).expect("a thread")
}
