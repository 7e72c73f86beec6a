//! Connections no honest peer makes.

use super::puppet::{LIMITS, PATIENCE, Setup, Shell, with_stats};
use crate::limits::STREAMS_INBOUND_MAX;
use crate::node::io::{ConnId, Input, Output};
use crate::runtime::tcp::Limits;
use crate::wire::keyring::{Key, Keyring};
use crate::wire::message::{Ack, Ping};
use crate::wire::packet::Security;
use crate::wire::stream::{Frame, FrameReader, Mismatch, Role, encode_request};
use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A shell that acks every frame.
fn acking(setup: Setup) -> Shell {
    let react = with_stats(|input| match input {
        Input::Frame { conn, .. } => {
            let frame = Frame::Ack(Ack { seq_no: 7, ..Ack::default() });
            vec![Output::Send { conn: *conn, frame }, Output::Close { conn: *conn }]
        }
        _ => Vec::new(),
    });
    Setup { react, ..setup }.start()
}

fn connect(shell: &Shell) -> TcpStream {
    connect_from(shell, 1)
}

/// A connection from 127.0.0.`host`.
fn connect_from(shell: &Shell, host: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).expect("an address of ours");
    socket.connect(&shell.addr.into()).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Everything until the other end closes, however it does.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(len) => all.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("the connection is not closed: {error}"),
        }
    }
}

fn ping() -> Frame {
    Frame::Ping(Ping { seq_no: 7, ..Ping::default() })
}

fn answer(security: &Security, bytes: &[u8]) -> Frame {
    let mut reader = FrameReader::new(Role::Dialer);
    reader.extend(bytes);
    reader.next(security).expect("a frame").expect("all of it")
}

fn keyed() -> Security {
    let key = Key::from_bytes(&[7; 16]).expect("an AES key");
    Security {
        label: Bytes::from_static(b"here"),
        keyring: Keyring::new([key]).expect("one key"),
        ..Security::default()
    }
}

#[test]
fn a_request_byte_by_byte_is_a_request() {
    for security in [Security::default(), keyed()] {
        let shell = acking(Setup { security: security.clone(), ..Setup::default() });
        let mut stream = connect(&shell);
        for byte in encode_request(&security, &ping(), [0; 12]) {
            stream.write_all(&[byte]).expect("taken");
        }
        // Bytes behind the frame are ignored, and do not destroy the answer.
        stream.write_all(&[0xee; 100_000]).expect("taken");
        let Frame::Ack(ack) = answer(&security, &rest(stream)) else { panic!("an ack") };
        assert_eq!(ack.seq_no, 7);
    }
}

/// Sends `bytes` and says what comes back until the other end closes.
fn provoke(shell: &Shell, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(shell);
    // The other end may have closed before it has got everything.
    let _ = stream.write_all(bytes);
    rest(stream)
}

#[test]
fn strangers_are_closed_in_silence() {
    let shell = acking(Setup { security: keyed(), ..Setup::default() });
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 1000], &[0xf4, 0]] {
        assert_eq!(provoke(&shell, bytes), b"", "{bytes:?}");
    }
    assert_eq!(shell.counter("stream_errors_total"), 3.0);
}

#[test]
fn peers_with_another_label_are_told_so_and_not_which() {
    let shell = acking(Setup { security: keyed(), ..Setup::default() });
    let other = Security { label: Bytes::from_static(b"there"), ..keyed() };
    let unlabelled = Security { label: Bytes::new(), ..keyed() };
    for security in [other, unlabelled] {
        let request = encode_request(&security, &ping(), [0; 12]);
        let told = provoke(&shell, &[&request[..], &[0; 1 << 20]].concat());
        let Frame::Error(text) = answer(&security, &told) else { panic!("an error") };
        assert_eq!(text, "label of another cluster");
        assert!(told.len() < 64, "{told:?}");
    }
    assert_eq!(shell.counter("stream_errors_total"), 2.0);
}

/// What a shell is told of a stream that it opens to another one with other security.
#[test]
fn the_dialling_side_hears_why_it_is_not_wanted() {
    let plain = Security::default();
    let unlabelled = Security { label: Bytes::new(), ..keyed() };
    let labelled = Security { label: Bytes::from_static(b"there"), ..Security::default() };
    for (dialler, acceptor, expected) in [
        (&plain, &unlabelled, Mismatch::Key),
        (&unlabelled, &plain, Mismatch::Key),
        (&plain, &labelled, Mismatch::Label),
        (&labelled, &plain, Mismatch::Label),
        (&unlabelled, &keyed(), Mismatch::Label),
        (&keyed(), &labelled, Mismatch::Label),
    ] {
        let accepting = acking(Setup { security: acceptor.clone(), ..Setup::default() });
        let dialling = Setup { security: dialler.clone(), ..Setup::default() }.start();
        dialling.say([Output::Dial {
            conn: ConnId(2),
            peer: accepting.addr,
            frame: ping(),
            deadline: dialling.after(PATIENCE),
            link: false,
        }]);
        let told = dialling.expect("why", |input| match input {
            Input::Refused { conn: ConnId(2), mismatch } => Some(Some(mismatch)),
            // Said under a key that both have, or in clear: the node reads it.
            Input::Frame { frame: Frame::Error(text), .. } => Some(Mismatch::told(&text)),
            _ => None,
        });
        assert_eq!(told, Some(expected), "{dialler:?} at {acceptor:?}");
    }
}

#[test]
fn one_who_accepts_and_closes_is_a_refusal_and_one_who_is_not_there_is_none() {
    let dial = |peer: SocketAddr| {
        let shell = Shell::start();
        let conn = ConnId(2);
        let deadline = shell.after(PATIENCE);
        shell.say([Output::Dial { conn, peer, frame: ping(), deadline, link: false }]);
        shell
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = listener.local_addr().expect("its address");
    for unread in [false, true] {
        let shell = dial(peer);
        let (mut stream, _) = listener.accept().expect("a dial");
        stream.read_exact(&mut [0; 1]).expect("a request");
        if !unread {
            stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
            while stream.read(&mut [0; 100]).is_ok_and(|len| len > 0) {}
        }
        drop(stream);
        shell.expect("a refusal", |input| {
            matches!(input, Input::Refused { mismatch: Mismatch::Silence, .. }).then_some(())
        });
    }
    drop(listener);
    let shell = dial(peer);
    shell.expect("the end", |input| match input {
        Input::Refused { .. } => panic!("nobody refuses"),
        Input::Closed { error, .. } => error,
        _ => None,
    });
}

#[test]
fn peers_with_other_keys_are_told_and_the_answer_survives_unread_input() {
    let security = keyed();
    let shell = acking(Setup { security: security.clone(), ..Setup::default() });
    let plain = Security { label: Bytes::from_static(b"here"), ..Security::default() };
    let request = encode_request(&plain, &ping(), [0; 12]);
    let huge = [b"\xf4\x04here\x0a\xff\xff\xff\xff", &[0; 1 << 20][..]].concat();
    for (bytes, expected) in [
        (&[&request[..], &[0; 1 << 20]].concat(), "the stream is not encrypted"),
        (&huge, "is longer than"),
    ] {
        let Frame::Error(text) = answer(&security, &provoke(&shell, bytes)) else {
            panic!("an error")
        };
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn silence_and_half_frames_end_at_the_limit() {
    let limits = Limits { exchange: Duration::from_millis(200), ..LIMITS };
    let shell = acking(Setup { limits, ..Setup::default() });
    let request = encode_request(&Security::default(), &ping(), [0; 12]);
    for bytes in [&b""[..], &request[..request.len() - 1]] {
        let mut stream = connect(&shell);
        stream.write_all(bytes).expect("taken");
        assert_eq!(rest(stream), b"");
    }
    assert_eq!(shell.counter("stream_timeouts_total"), 2.0);
    // Who says nothing at all is given up earlier.
    let limits = Limits { first_byte: Duration::from_millis(100), ..LIMITS };
    let quick = acking(Setup { limits, ..Setup::default() });
    assert_eq!(rest(connect(&quick)), b"");
    assert_eq!(quick.counter("stream_timeouts_total"), 1.0);
    // The end of the stream is told apart: no need to wait for the limit.
    drop(connect(&shell));
    assert_eq!(shell.counter("stream_timeouts_total"), 2.0);
}

#[test]
fn a_link_that_stops_inside_a_frame_is_given_up() {
    let limits = Limits { stall: Duration::from_millis(200), ..LIMITS };
    let shell = Setup { limits, react: with_stats(|_| Vec::new()), ..Setup::default() }.start();
    let mut stream = connect(&shell);
    let frame = Frame::Kv(Bytes::from_static(b"first").into());
    let bytes = encode_request(&Security::default(), &frame, [0; 12]);
    stream.write_all(&[&bytes[..], &bytes[..7]].concat()).expect("taken");
    let conn = shell.expect("frame", |input| match input {
        Input::Frame { conn, frame: Frame::Kv(payload), .. } => {
            assert_eq!(payload.join(), &b"first"[..]);
            Some(conn)
        }
        _ => None,
    });
    let error = shell.expect_closed(conn).expect("an error");
    assert!(error.contains("stuck"), "{error}");
    assert_eq!(rest(stream), b"");
}

#[test]
fn silent_connections_from_anywhere_keep_nobody_out() {
    let shell = acking(Setup::default());
    // Two connections from each address, more than there is room for.
    let idle: Vec<TcpStream> =
        (0..STREAMS_INBOUND_MAX + 20).map(|n| connect_from(&shell, 10 + (n / 2) as u8)).collect();
    shell.until("all are counted", || shell.counter("streams_accepted_total") == idle.len() as f64);
    assert_eq!(shell.counter("streams_displaced_total"), 20.0);
    let request = encode_request(&Security::default(), &ping(), [0; 12]);
    assert!(!provoke(&shell, &request).is_empty(), "a newcomer is served beside them");
    assert_eq!(shell.counter("streams_refused_total"), 0.0);
    // The first ones made room, and the last ones still wait.
    let mut idle = idle.into_iter();
    assert_eq!(rest(idle.next().expect("the first")), b"");
    let mut last = idle.next_back().expect("the last");
    last.write_all(&request).expect("taken");
    assert!(!rest(last).is_empty());
}

#[test]
fn many_requests_at_once_from_one_address_are_all_served() {
    const N: usize = STREAMS_INBOUND_MAX;
    let shell = acking(Setup::default());
    let request = encode_request(&Security::default(), &ping(), [0; 12]);
    let streams: Vec<TcpStream> = (0..N)
        .map(|_| {
            let mut stream = connect(&shell);
            stream.write_all(&request).expect("taken");
            stream
        })
        .collect();
    assert!(streams.into_iter().all(|stream| !rest(stream).is_empty()));
    assert_eq!(shell.counter("streams_displaced_total"), 0.0);
}

#[test]
fn a_link_takes_no_place_from_strangers() {
    let shell = acking(Setup::default());
    let link = Frame::Kv(Bytes::from_static(b"first").into());
    let mut linked = connect(&shell);
    linked.write_all(&encode_request(&Security::default(), &link, [0; 12])).expect("taken");
    shell.expect("frame", |input| matches!(input, Input::Frame { .. }).then_some(()));
    let strangers: Vec<TcpStream> =
        (0..STREAMS_INBOUND_MAX).map(|n| connect_from(&shell, 10 + (n / 2) as u8)).collect();
    let all = (1 + STREAMS_INBOUND_MAX) as f64;
    shell.until("all are accepted", || shell.counter("streams_accepted_total") == all);
    assert_eq!(shell.counter("streams_displaced_total"), 0.0);
    drop(strangers);
}

#[test]
fn half_sent_frames_share_a_budget_and_nobody_waits_for_ever() {
    const FRAME_LEN: u32 = 400 << 10;
    let limits = Limits { stall: Duration::from_millis(200), unfinished_len: 1 << 20, ..LIMITS };
    let security = keyed();
    let shell = acking(Setup { limits, security: security.clone(), ..Setup::default() });
    let head = [b"\xf4\x04here\x0a", &FRAME_LEN.to_be_bytes()[..]].concat();
    let unfinished = [&head[..], &vec![0; FRAME_LEN as usize - 1]].concat();
    let mut streams: Vec<TcpStream> = Vec::new();
    for n in 1..=3 {
        let mut stream = connect(&shell);
        stream.write_all(&unfinished).expect("taken");
        let len = (n * unfinished.len()) as f64;
        shell.until("it is read", || shell.counter("stream_bytes_received_total") == len);
        streams.push(stream);
    }
    // A fourth is too much, and is let go after a while.
    assert_eq!(provoke(&shell, &unfinished), b"");
    assert_eq!(shell.counter("stream_errors_total"), 1.0);
    // Small requests need no budget, and the three go on where they were.
    let ping = encode_request(&security, &ping(), [0; 12]);
    assert!(matches!(answer(&security, &provoke(&shell, &ping)), Frame::Ack(_)));
    for mut stream in streams {
        stream.write_all(&[0]).expect("taken");
        assert!(matches!(answer(&security, &rest(stream)), Frame::Error(_)));
    }
    // All of the budget is back.
    let whole = [&unfinished[..], &[0]].concat();
    assert!(matches!(answer(&security, &provoke(&shell, &whole)), Frame::Error(_)));
}
