//! Replication links: frames both ways.

use super::puppet::{LIMITS, PATIENCE, Setup, Shell, with_stats};
use crate::limits::STREAM_OUTBOX_MAX;
use crate::node::io::{ConnId, Input, Output};
use crate::runtime::tcp::Limits;
use crate::wire::keyring::{Key, Keyring};
use crate::wire::packet::Security;
use crate::wire::stream::Frame;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::time::Duration;

const CONN: ConnId = ConnId(2);

fn kv(len: usize, fill: u8) -> Frame {
    Frame::Kv(vec![fill; len].into())
}

fn dial(shell: &Shell, peer: SocketAddr, frame: Frame) -> Output {
    Output::Dial { conn: CONN, peer, frame, deadline: shell.after(PATIENCE), link: true }
}

fn expect_frame(shell: &Shell) -> (ConnId, Frame) {
    shell.expect("frame", |input| match input {
        Input::Frame { conn, frame, .. } => Some((conn, frame)),
        _ => None,
    })
}

/// Waits until this many payload bytes have been written.
fn expect_sent(shell: &Shell, mut len_left: usize) {
    while len_left > 0 {
        len_left -= shell.expect("sent", |input| match input {
            Input::Sent { len, .. } => Some(len),
            _ => None,
        });
    }
}

/// Two shells with a link that has carried one frame; its number at the accepting end.
fn linked(setup: impl Fn() -> Setup) -> (Shell, Shell, ConnId) {
    let (a, b) = (setup().start(), setup().start());
    a.say([dial(&a, b.addr, kv(1, 0))]);
    let (conn, frame) = expect_frame(&b);
    assert_eq!((conn.0 % 2, frame), (1, kv(1, 0)));
    expect_sent(&a, 1);
    (a, b, conn)
}

#[test]
fn frames_of_every_size_arrive_in_order_both_ways() {
    let key = Key::from_bytes(&[1; 16]).expect("an AES key");
    let keyring = Keyring::new([key]).expect("one key");
    for security in [Security::default(), Security { keyring, ..Security::default() }] {
        let (a, b, conn) = linked(|| Setup { security: security.clone(), ..Setup::default() });
        let lens = [0, 1, 100, 70_000, 3, 5 << 20, 2, 200_000, 9];
        let all = || lens.iter().enumerate().map(|(n, len)| kv(*len, n as u8));
        a.say(all().map(|frame| Output::Send { conn: CONN, frame }));
        b.say(all().map(|frame| Output::Send { conn, frame }));
        for (shell, number) in [(&a, CONN), (&b, conn)] {
            for expected in all() {
                let (conn, frame) = expect_frame(shell);
                assert!(conn == number && frame == expected, "{number:?}");
            }
        }
        // Sent may have been passed over while waiting for frames; a last one is not.
        a.say([Output::Send { conn: CONN, frame: kv(77, 0) }]);
        expect_frame(&b);
        a.expect("sent", |input| matches!(input, Input::Sent { len: 77, .. }).then_some(()));
        a.say([Output::Close { conn: CONN }]);
        assert_eq!((a.expect_closed(CONN), b.expect_closed(conn)), (None, None));
    }
}

#[test]
fn what_was_handed_over_before_a_close_arrives() {
    let (a, b, conn) = linked(Setup::default);
    let n = STREAM_OUTBOX_MAX / 2;
    a.say((0..n).map(|_| Output::Send { conn: CONN, frame: kv(4096, 1) }));
    // The other end sends, too: unread input must not take back what we have sent.
    b.say((0..n).map(|_| Output::Send { conn, frame: kv(4096, 2) }));
    a.say([Output::Close { conn: CONN }, Output::Send { conn: CONN, frame: kv(1, 3) }]);
    for _ in 0..n {
        assert!(expect_frame(&b).1 == kv(4096, 1));
    }
    assert_eq!(b.expect_closed(conn), None);
    assert_eq!(a.expect_closed(CONN), None);
}

#[test]
fn an_engine_that_falls_behind_slows_the_link_and_loses_nothing() {
    // 40 MB in all: far more than sockets and queues hold.
    const N: usize = 2000;
    const WINDOW: usize = 64;
    let (let_go, held) = channel::<()>();
    let react = Box::new(move |input: &Input| {
        if matches!(input, Input::Frame { frame: Frame::Kv(payload), .. } if payload.len() > 1) {
            // Held up until the test lets go of its end.
            let _ = held.recv();
        }
        Vec::new()
    });
    let (a, b) = (Shell::start(), Setup { react, ..Setup::default() }.start());
    a.say([dial(&a, b.addr, kv(1, 0))]);
    expect_sent(&a, 1);
    let send = |n: usize| Output::Send { conn: CONN, frame: kv(20_000, n as u8) };
    a.say((0..WINDOW).map(send));
    let (mut said, mut sent) = (WINDOW, 0);
    let mut let_go = Some(let_go);
    while sent < N {
        match a.next_within(Duration::from_millis(300)) {
            Some(Input::Sent { .. }) => {
                sent += 1;
                if said < N {
                    a.say([send(said)]);
                    said += 1;
                }
            }
            Some(_) => {}
            None => drop(let_go.take().expect("it stops once: while the other end is held up")),
        }
    }
    assert!(let_go.is_none(), "the link went on although nobody took its frames");
    assert!(expect_frame(&b).1 == kv(1, 0));
    for n in 0..N {
        assert!(expect_frame(&b).1 == kv(20_000, n as u8), "{n}");
    }
}

#[test]
fn an_idle_link_is_closed_without_an_error() {
    let limits = Limits { idle: Duration::from_millis(100), ..LIMITS };
    let (a, b, conn) = linked(|| Setup { limits, ..Setup::default() });
    assert_eq!((a.expect_closed(CONN), b.expect_closed(conn)), (None, None));
}

#[test]
fn a_link_whose_peer_takes_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let limits = Limits { stall: Duration::from_millis(200), ..LIMITS };
    let react = with_stats(|_| Vec::new());
    let shell = Setup { limits, react, ..Setup::default() }.start();
    shell.say([dial(&shell, listener.local_addr().unwrap(), kv(1, 0))]);
    let (_stream, _) = listener.accept().expect("a dial");
    shell.say((0..3).map(|_| Output::Send { conn: CONN, frame: kv(16 << 20, 0) }));
    let error = shell.expect_closed(CONN).expect("an error");
    // Whichever notices first, the system or we.
    assert!(error.contains("stuck") || error.contains("timed out"), "{error}");
}

#[test]
fn a_queue_that_overflows_ends_its_link() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let shell = Setup { react: with_stats(|_| Vec::new()), ..Setup::default() }.start();
    shell.say([dial(&shell, listener.local_addr().unwrap(), kv(1, 0))]);
    let (stream, _) = listener.accept().expect("a dial");
    expect_sent(&shell, 1);
    // Nobody reads: what fills the sockets first leaves the rest to the queue.
    shell.say(
        (0..STREAM_OUTBOX_MAX + 20).map(|_| Output::Send { conn: CONN, frame: kv(1 << 20, 0) }),
    );
    shell.until("a frame is dropped", || shell.counter("stream_frames_dropped_total") >= 1.0);
    drop(stream);
    let error = shell.expect_closed(CONN).expect("an error");
    assert!(error.contains("more frames were handed over"), "{error}");
}
