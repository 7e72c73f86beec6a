//! The real program, run to its end, with nothing of the environment of the tests; and a server
//! that answers what it is told to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// How one run ended.
pub struct Ended {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

/// The program under test: the one built with the tests, or another that `GOSSIPYKV_PROGRAM` names.
#[expect(clippy::disallowed_methods, reason = "how to test is said in the environment")]
fn program() -> String {
    let other = std::env::var("GOSSIPYKV_PROGRAM");
    other.unwrap_or_else(|_| env!("CARGO_BIN_EXE_gossipykv").to_owned())
}

/// The program with arguments, not started yet.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args).env_clear().env("COLUMNS", "100");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with arguments.
pub fn run(args: &[&str]) -> Ended {
    finish(command(args).spawn().expect("the program starts"), b"")
}

/// Runs it with arguments and variables.
pub fn run_with(args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let child = command(args).envs(variables.iter().copied()).spawn();
    finish(child.expect("the program starts"), b"")
}

/// Runs it with arguments and something to read.
pub fn run_fed(args: &[&str], input: &[u8]) -> Ended {
    let child = command(args).stdin(Stdio::piped()).spawn();
    finish(child.expect("the program starts"), input)
}

fn finish(mut child: Child, input: &[u8]) -> Ended {
    std::thread::scope(|scope| {
        let stdin = child.stdin.take();
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                // The program may end without reading all of it.
                let _ = stdin.write_all(input);
            }
        });
        let output = child.wait_with_output().expect("the program ends");
        let err = String::from_utf8(output.stderr).expect("standard error is text");
        Ended { code: output.status.code(), out: output.stdout, err }
    })
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (code, out, err) = (self.code, String::from_utf8_lossy(&self.out), &self.err);
        write!(f, "exit code {code:?}\n--- output\n{out}\n--- errors\n{err}")
    }
}

impl Ended {
    /// Standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("standard output is text")
    }

    /// The one line of standard error of a run that failed with `code` and printed nothing.
    #[track_caller]
    pub fn error(&self, code: i32) -> &str {
        assert_eq!((self.code, self.text()), (Some(code), ""), "{self:?}");
        self.complaint()
    }

    /// The one line of standard error.
    #[track_caller]
    pub fn complaint(&self) -> &str {
        let line = self.err.strip_suffix('\n').expect("a whole line");
        assert!(!line.contains('\n'), "more than a line: {line}");
        line.strip_prefix("error: ").expect("a complaint")
    }

    /// Standard output of a run that succeeded without a word on standard error.
    #[track_caller]
    pub fn success(&self) -> &str {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{self:?}");
        self.text()
    }
}

/// One request as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Method and target, without the protocol.
    pub line: String,
    /// Header lines in lower case, without their order.
    pub headers: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header; names in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A server that gives fixed answers, one a connection, and then tells what it was asked.
pub struct Server {
    addr: SocketAddr,
    thread: JoinHandle<Vec<Request>>,
}

/// An answer with a status line's number, without other headers than the length.
pub fn answer(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

impl Server {
    /// Listens on loopback.
    pub fn start(answers: Vec<Vec<u8>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        #[expect(clippy::disallowed_methods, reason = "joined by `asked`")]
        let thread = std::thread::spawn(move || {
            answers.iter().map(|answer| serve(&listener, answer)).collect()
        });
        Server { addr, thread }
    }

    /// Its URL, as a flag takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it was asked, when every answer has been given.
    pub fn asked(self) -> Vec<Request> {
        self.thread.join().expect("the server gave its answers")
    }
}

fn serve(listener: &TcpListener, answer: &[u8]) -> Request {
    let (stream, _) = listener.accept().expect("a client");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let request = read_request(&stream);
    // A client may have seen enough before the end of an answer.
    let _ = (&stream).write_all(answer);
    request
}

fn read_request(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a request head");
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0).replace(" HTTP/1.1", "");
    let lower = |line: &String| {
        let (name, value) = line.split_once(':').expect("a header");
        format!("{}: {}", name.to_ascii_lowercase(), value.trim())
    };
    let headers = lines.iter().map(lower).collect();
    let mut request = Request { line, headers, body: Vec::new() };
    let len = request.header("content-length").map_or(0, |len| len.parse().expect("a length"));
    request.body.resize(len, 0);
    reader.read_exact(&mut request.body).expect("a body");
    request
}
