//! memberlist's exchanges between two shells: one frame, at most one answer.

use super::puppet::{LIMITS, PATIENCE, Setup, Shell, brief, with_stats};
use crate::limits::STREAMS_OUTBOUND_MAX;
use crate::node::io::{ConnId, Input, Output};
use crate::wire::message::{Ack, Ping, PushNodeState, PushPull};
use crate::wire::packet::Security;
use crate::wire::stream::{Frame, FrameReader, Role};
use bytes::Bytes;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

const CONN: ConnId = ConnId(2);

fn ping() -> Frame {
    Frame::Ping(Ping { seq_no: 7, ..Ping::default() })
}

fn ack() -> Frame {
    Frame::Ack(Ack { seq_no: 7, ..Ack::default() })
}

fn dial(shell: &Shell, peer: SocketAddr, frame: Frame, wait: Duration) -> Output {
    Output::Dial { conn: CONN, peer, frame, deadline: shell.after(wait), link: false }
}

/// Answers each frame with `answer`, then closes.
fn answering(answer: Frame) -> Setup {
    let react = Box::new(move |input: &Input| match input {
        Input::Frame { conn, .. } => {
            vec![Output::Send { conn: *conn, frame: answer.clone() }, Output::Close { conn: *conn }]
        }
        _ => Vec::new(),
    });
    Setup { react, ..Setup::default() }
}

/// What the dialling shell is told of the exchange, in order.
fn check_exchange(request: Frame, answer: Frame) {
    let (a, b) = (Shell::start(), answering(answer.clone()).start());
    a.say([dial(&a, b.addr, request.clone(), PATIENCE)]);
    let (conn, frame) = b.expect("request", |input| match input {
        Input::Frame { conn, frame, from } => {
            assert_eq!(from.ip(), a.addr.ip());
            Some((conn, frame))
        }
        _ => None,
    });
    assert_eq!((conn.0 % 2, frame), (1, request));
    b.expect("sent", |input| matches!(input, Input::Sent { len: 0, .. }).then_some(()));
    assert_eq!(b.expect_closed(conn), None);

    let mut told = Vec::new();
    a.expect("end", |input| {
        if !matches!(input, Input::Timeout) {
            told.push(input);
        }
        matches!(told.last(), Some(Input::Closed { .. })).then_some(())
    });
    match &told[..] {
        [
            Input::Sent { conn: CONN, len: 0 },
            Input::Frame { conn: CONN, from, frame },
            Input::Closed { conn: CONN, error: None },
        ] => assert_eq!((*from, frame), (b.addr, &answer)),
        told => panic!("{:?}", told.iter().map(brief).collect::<Vec<_>>()),
    }
}

#[test]
fn a_ping_is_answered() {
    check_exchange(ping(), ack());
}

#[test]
fn a_big_push_pull_is_answered() {
    let state = PushNodeState { meta: Some(vec![3; 500].into()), ..PushNodeState::default() };
    let push_pull = Frame::PushPull(PushPull {
        nodes: vec![state; 4000],
        user_state: Bytes::from(vec![9; 1 << 20]),
        ..PushPull::default()
    });
    check_exchange(push_pull.clone(), push_pull);
}

#[test]
fn a_user_message_has_no_answer() {
    let react = Box::new(|input: &Input| match input {
        Input::Frame { conn, .. } => vec![Output::Close { conn: *conn }],
        _ => Vec::new(),
    });
    let (a, b) = (Shell::start(), Setup { react, ..Setup::default() }.start());
    let message = Frame::User(Bytes::from(vec![1; 3 << 20]));
    a.say([dial(&a, b.addr, message.clone(), PATIENCE)]);
    assert_eq!(a.expect_closed(CONN), None);
    let frame = b.expect("message", |input| match input {
        Input::Frame { frame, .. } => Some(frame),
        _ => None,
    });
    assert!(frame == message);
}

#[test]
fn a_dial_that_reaches_nobody_is_told_at_once() {
    let (shell, gone) = (Shell::start(), Shell::start());
    let nobody = gone.addr;
    gone.agent.shutdown();
    shell.say([dial(&shell, nobody, ping(), PATIENCE)]);
    let error = shell.expect_closed(CONN).expect("an error");
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn a_dial_without_an_answer_ends_by_its_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let shell = Setup { react: with_stats(|_| Vec::new()), ..Setup::default() }.start();
    let wait = Duration::from_millis(100);
    let deadline = shell.after(wait);
    shell.say([dial(&shell, silent.local_addr().unwrap(), ping(), wait)]);
    assert_eq!(shell.expect_closed(CONN).as_deref(), Some("not done in time"));
    assert!(shell.clock.instant() >= deadline);
    assert_eq!(shell.counter("stream_timeouts_total"), 1.0);
    assert_eq!(shell.counter("streams"), 0.0);
}

/// Accepts one connection and answers it with these bytes, then closes.
fn check_answer(answer: &[u8], expected: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let shell = Shell::start();
    shell.say([dial(&shell, listener.local_addr().unwrap(), ping(), PATIENCE)]);
    let (mut stream, _) = listener.accept().expect("a dial");
    let mut reader = FrameReader::new(Role::Acceptor);
    let mut buffer = [0; 1000];
    loop {
        let len = stream.read(&mut buffer).expect("a request");
        reader.extend(&buffer[..len]);
        if let Some(frame) = reader.next(&Security::default()).expect("our own frame") {
            assert_eq!(frame, ping());
            break;
        }
    }
    stream.write_all(answer).expect("an answer");
    drop(stream);
    let error = shell.expect_closed(CONN).expect("an error");
    assert!(error.contains(expected), "{error}");
}

#[test]
fn answers_that_are_none() {
    check_answer(b"", "closed by the other end");
    check_answer(b"\x02\x81", "inside a frame");
    check_answer(b"\x00", "message type 0 is not expected");
    check_answer(b"\x0a\xff\xff\xff\xff", "encryption is not configured");
}

#[test]
fn a_request_the_node_never_answers_is_ended_for_it() {
    let limits = crate::runtime::tcp::Limits { exchange: Duration::from_millis(200), ..LIMITS };
    let (a, b) = (Shell::start(), Setup { limits, ..Setup::default() }.start());
    a.say([dial(&a, b.addr, ping(), PATIENCE)]);
    let conn = b.expect("request", |input| match input {
        Input::Frame { conn, .. } => Some(conn),
        _ => None,
    });
    assert_eq!(b.expect_closed(conn).as_deref(), Some("not done in time"));
    assert_eq!(a.expect_closed(CONN).as_deref(), Some("closed by the other end"));
}

#[test]
fn closing_before_the_answer_ends_an_exchange() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let shell = Shell::start();
    shell.say([dial(&shell, silent.local_addr().unwrap(), ping(), PATIENCE)]);
    shell.expect("sent", |input| matches!(input, Input::Sent { .. }).then_some(()));
    shell.say([Output::Close { conn: CONN }]);
    assert_eq!(shell.expect_closed(CONN), None);
    // For connections that are no more, nothing happens.
    shell.say([Output::Send { conn: CONN, frame: ack() }, Output::Close { conn: CONN }]);
    shell.set_deadline(shell.clock.instant());
    shell.expect("timeout", |input| matches!(input, Input::Timeout).then_some(()));
}

#[test]
fn dials_are_bounded() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = silent.local_addr().unwrap();
    let shell = Setup { react: with_stats(|_| Vec::new()), ..Setup::default() }.start();
    let numbered = |n: usize| ConnId(2 * n as u64);
    shell.say((0..=STREAMS_OUTBOUND_MAX).map(|n| Output::Dial {
        conn: numbered(n),
        peer,
        frame: ping(),
        deadline: shell.after(PATIENCE),
        link: false,
    }));
    let last = numbered(STREAMS_OUTBOUND_MAX);
    assert_eq!(shell.expect_closed(last).as_deref(), Some("too many connections"));
    assert_eq!(shell.counter("dials_refused_total"), 1.0);
    assert_eq!(shell.counter("streams"), STREAMS_OUTBOUND_MAX as f64);
    shell.say([Output::Close { conn: numbered(0) }]);
    assert_eq!(shell.expect_closed(numbered(0)), None);
    shell.say([dial(&shell, peer, ping(), Duration::from_millis(1))]);
    assert_ne!(shell.expect_closed(CONN).as_deref(), Some("too many connections"));
}
