//! Works that take long, ended by a signal: what they say, what they leave, and how to go on.

use crate::agents::{Node, until};
use crate::program::{answer, command, run_fed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A command at work, with a standard input that stays open.
struct Work {
    child: Child,
    stdin: ChildStdin,
}

/// How it ended.
#[derive(Debug)]
struct Ended {
    /// The signal that it died of.
    signal: Option<i32>,
    out: String,
    err: String,
}

impl Work {
    fn start(command: &mut Command) -> Work {
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
        let stdin = child.stdin.take().expect("piped");
        Work { child, stdin }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn end(self, signal: Signal) -> Ended {
        self.signal(signal);
        let Work { child, stdin } = self;
        let ended = child.wait_with_output().expect("an end");
        drop(stdin);
        let [out, err] = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap());
        Ended { signal: ended.status.signal(), out, err }
    }
}

impl Ended {
    /// The lines of standard error of one that died of SIGINT, the last without what it always is.
    #[track_caller]
    fn interrupted(&self) -> Vec<&str> {
        let Ended { signal, out, err } = self;
        assert_eq!(*signal, Some(Signal::INT.as_raw()), "{out}\n{err}");
        let mut lines: Vec<&str> = err.lines().collect();
        let last = lines.pop().and_then(|last| last.strip_prefix("stopped by SIGINT; "));
        lines.push(last.unwrap_or_else(|| panic!("{err}")));
        lines
    }
}

/// A server that answers the requests of one connection after the other with these bodies, and
/// those behind the last one never.
struct Stuck {
    listener: TcpListener,
    bodies: Vec<&'static str>,
}

impl Stuck {
    fn new(bodies: &[&'static str]) -> Stuck {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Stuck { listener, bodies: bodies.to_vec() }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("an address"))
    }

    /// Answers; returns with the connection that gets none.
    fn serve(&self) -> TcpStream {
        let mut bodies = self.bodies.iter();
        loop {
            let (mut stream, _) = self.listener.accept().expect("a client");
            let lines = BufReader::new(&stream).lines().map(|line| line.expect("a head"));
            let head = lines.take_while(|line| !line.is_empty()).count();
            assert!(head > 0);
            let Some(body) = bodies.next() else { return stream };
            stream.write_all(&answer(200, body.as_bytes())).expect("room");
        }
    }
}

const PAGE: &str = r#"{"items":[{"key":"a","value":"1","version":"v"}],"next":"a","more":true}"#;

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

fn copy_of(n_lines: usize, key: &str) -> String {
    let mut copy = String::new();
    for n in 0..n_lines {
        writeln!(copy, "{{\"key\":\"{key}{n:05}\",\"value\":\"{n}\"}}").expect("room");
    }
    copy
}

#[test]
fn an_import_that_is_interrupted_says_where_to_go_on() {
    let node = Node::start("n", &[], &[]);
    let server = node.url();
    let import = ["kv", "import", "--server", &server];
    let copy = copy_of(2_000, "k");
    // It waits for more lines, and would wait for ever.
    let mut work = Work::start(&mut command(&import));
    work.stdin.write_all(copy.as_bytes()).expect("room");
    until("most are written", || (node.metric("keys") > 1_500.0).then_some(()));
    let ended = work.end(Signal::INT);
    let lines = ended.interrupted();
    let done = lines[1].strip_prefix("go on with --skip ").expect("where to go on");
    let n: usize = done.parse().expect("a number");
    // What was begun was ended, and counted; some of it may be behind the place to go on at.
    let written = node.metric("keys") as usize;
    let told =
        format!("imported {written} lines: {written} written, 0 kept as they were, 0 refused; ");
    assert!(lines.len() == 2 && lines[0].starts_with(&told), "{}", ended.err);
    assert!(n > 0 && n <= written && written > 1_500, "{}", ended.err);
    let ended = run_fed(&[&import[..], &["--skip", done]].concat(), copy.as_bytes());
    let (left, new, kept) = (2_000 - n, 2_000 - written, written - n);
    let told = format!("imported {left} lines: {new} written, {kept} kept as they were, 0 refused");
    assert!(ended.code == Some(0) && ended.err.starts_with(&told), "{ended:?}");
    assert_eq!(node.metric("keys"), 2_000.0);
    // A program is told in JSON.
    let mut work = Work::start(&mut command(&[&import[..], &["--json"]].concat()));
    work.stdin.write_all(copy_of(200, "j").as_bytes()).expect("room");
    until("some are written", || (node.metric("keys") == 2_128.0).then_some(()));
    let ended = work.end(Signal::INT);
    assert_eq!(ended.interrupted(), ["go on with --skip 128"]);
    let told: Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!((&told["lines"], &told["written"]), (&128.into(), &128.into()));
}

#[test]
fn an_export_that_is_interrupted_goes_on_with_resume() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("copy");
    let stuck = Stuck::new(&[PAGE]);
    let args = ["kv", "export", "--output", text(&file), "--server", &stuck.url()];
    let work = Work::start(&mut command(&args));
    let _open = stuck.serve();
    let ended = work.end(Signal::INT);
    let lines = ended.interrupted();
    assert!(lines[0].starts_with("exported 1 keys; ") && lines.len() == 2, "{}", ended.err);
    assert_eq!(lines[1], "go on with --resume");
    assert!(!file.exists(), "it is not whole");
    let kept = std::fs::read_to_string(folder.path().join(".copy.part")).expect("the part");
    assert_eq!(kept, "{\"key\":\"a\",\"value\":\"1\",\"version\":\"v\"}\n");
}

#[test]
fn an_export_ends_though_its_reader_stands() {
    let node = Node::start("n", &[], &[]);
    let line = format!("{{\"key\":\"k\",\"value\":\"{}\"}}\n", "v".repeat(1_000_000));
    let server = node.url();
    assert_eq!(run_fed(&["kv", "import", "--server", &server], line.as_bytes()).code, Some(0));
    let mut work = Work::start(&mut command(&["kv", "export", "--server", &server]));
    let mut out = work.child.stdout.take().expect("piped");
    // More than a pipe holds is on its way then.
    out.read_exact(&mut [0; 10]).expect("a beginning");
    let ended = work.end(Signal::TERM);
    assert_eq!(ended.signal, Some(Signal::TERM.as_raw()), "{}", ended.err);
    assert!(ended.err.starts_with("exported 0 keys; "), "{}", ended.err);
    assert!(
        ended.err.ends_with("stopped by SIGTERM; the last line may not be whole\n"),
        "{ended:?}"
    );
}

#[test]
fn deletes_that_are_interrupted_say_how_many_there_were() {
    let stuck = Stuck::new(&[PAGE]);
    let args = ["kv", "delete", "--prefix", "a", "--yes", "--server", &stuck.url()];
    let work = Work::start(&mut command(&args));
    let _open = stuck.serve();
    let ended = work.end(Signal::INT);
    let lines = ended.interrupted();
    assert!(lines[0].starts_with("deleted 0 keys; "), "{}", ended.err);
    assert_eq!(lines[1..], ["the others are still there"]);
}

#[test]
fn nothing_is_left_of_a_backup_that_is_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    let stuck = Stuck::new(&["ok", "gossipykv_gaps_open 0\n", PAGE]);
    let url = stuck.url();
    let args = ["backup", text(folder.path()), "--timeout", "1s", "--server", &url];
    let work = Work::start(&mut command(&args));
    let _open = stuck.serve();
    let ended = work.end(Signal::INT);
    assert_eq!(ended.interrupted(), ["no backup was made"]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

#[test]
fn a_signal_that_is_ignored_stays_so() {
    // As in a script's background, whose foreground is interrupted.
    let node = Node::start("n", &[], &[]);
    let import = command(&["kv", "import", "--server", &node.url()]);
    let mut shell = Command::new("/bin/sh");
    shell.env_clear().args(["-c", "trap '' INT; exec \"$0\" \"$@\""]).arg(import.get_program());
    shell.args(import.get_args()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut work = Work::start(&mut shell);
    work.stdin.write_all(copy_of(200, "k").as_bytes()).expect("room");
    until("some are written", || (node.metric("keys") > 100.0).then_some(()));
    work.signal(Signal::INT);
    work.stdin.write_all(copy_of(200, "l").as_bytes()).expect("room");
    let Work { child, stdin } = work;
    drop(stdin);
    let ended = child.wait_with_output().expect("an end");
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && err.starts_with("imported 400 lines: 400 written"), "{err}");
}
