//! Datagrams between two shells.

use super::puppet::{PATIENCE, Setup, Shell, with_stats};
use crate::node::command::Command;
use crate::node::io::{Input, Output};
use crate::runtime::clock::Clock;
use crate::wire::keyring::{Key, Keyring};
use crate::wire::message::{Message, Nack};
use crate::wire::packet::{Security, open};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

fn nack(seq_no: u32) -> Message {
    Message::Nack(Nack { seq_no })
}

fn datagram(to: &[SocketAddr], parts: Vec<Bytes>, compress: bool) -> Output {
    Output::Datagram { to: to.to_vec(), parts, crc: true, compress }
}

fn expect_datagram(shell: &Shell) -> (SocketAddr, Bytes) {
    shell.expect("datagram", |input| match input {
        Input::Datagram { from, bytes } => Some((from, bytes)),
        _ => None,
    })
}

fn keyed(secret: u8) -> Security {
    let key = Key::from_bytes(&[secret; 32]).expect("an AES key");
    Security {
        label: Bytes::from_static(b"here"),
        keyring: Keyring::new([key]).expect("one key"),
        ..Security::default()
    }
}

#[test]
fn a_datagram_comes_from_where_its_sender_listens() {
    for security in [Security::default(), keyed(1)] {
        let setup = || Setup { security: security.clone(), ..Setup::default() };
        let (a, b, c) = (setup().start(), setup().start(), setup().start());
        a.say([datagram(&[b.addr, c.addr], vec![nack(1).encode(), nack(2).encode()], true)]);
        for other in [&b, &c] {
            let (from, bytes) = expect_datagram(other);
            assert_eq!(from, a.addr);
            let opened = open(&security, bytes).expect("sealed for us");
            assert_eq!((opened.messages, opened.dropped), (vec![nack(1), nack(2)], vec![]));
        }
        b.say([datagram(&[a.addr], vec![nack(3).encode()], false)]);
        assert_eq!(expect_datagram(&a).0, b.addr);
    }
}

#[test]
fn both_families_meet_on_a_dual_stack_socket() {
    if UdpSocket::bind("[::]:0").is_err() {
        return;
    }
    let dual = Setup { bind: "[::]:0", ..Setup::default() }.start();
    let v4 = Shell::start();
    let v6 = Setup { bind: "[::1]:0", ..Setup::default() }.start();
    for other in [&v4, &v6] {
        let dual_addr = SocketAddr::new(other.addr.ip(), dual.addr.port());
        other.say([datagram(&[dual_addr], vec![nack(1).encode()], true)]);
        assert_eq!(expect_datagram(&dual).0, other.addr, "IPv4 is shown as IPv4");
        dual.say([datagram(&[other.addr], vec![nack(2).encode()], true)]);
        assert_eq!(expect_datagram(other).0, dual_addr);
    }
}

#[test]
fn no_nonce_is_used_twice_and_one_seal_serves_all() {
    const ROUNDS: usize = 200;
    let security = keyed(1);
    let shell = Setup { security, ..Setup::default() }.start();
    let [one, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    let to = [one.local_addr().unwrap(), other.local_addr().unwrap()];
    let mut nonces = BTreeSet::new();
    for _ in 0..ROUNDS {
        shell.say([datagram(&to, vec![nack(1).encode()], true)]);
        let (mut first, mut second) = ([0; 200], [0; 200]);
        let (first_len, second_len) =
            (one.recv(&mut first).expect("sent"), other.recv(&mut second).expect("sent"));
        assert_eq!(first[..first_len], second[..second_len]);
        // Label header, version, nonce.
        nonces.insert(first[2 + 4 + 1..][..12].to_vec());
    }
    assert_eq!(nonces.len(), ROUNDS);
}

#[test]
fn compression_is_left_out_where_it_cannot_pay() {
    let shell = Shell::start();
    let other = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let part = Bytes::from([&[8][..], &[b'a'; 1000]].concat());
    let mut lens = [0; 2];
    for (len, compress) in lens.iter_mut().zip([false, true]) {
        shell.say([datagram(&[other.local_addr().unwrap()], vec![part.clone()], compress)]);
        *len = other.recv(&mut [0; 2000]).expect("sent");
    }
    assert_eq!(lens[0], 5 + part.len());
    assert!(lens[1] < 300, "{lens:?}");
}

#[test]
fn new_keys_are_used_from_the_next_datagram_on() {
    let (old, new) = (keyed(1), keyed(2));
    let a = Setup { security: old.clone(), ..Setup::default() }.start();
    let b = Shell::start();
    let part = || vec![nack(1).encode()];
    a.say([
        datagram(&[b.addr], part(), true),
        Output::Security(Arc::new(new.clone())),
        datagram(&[b.addr], part(), true),
        datagram(&[b.addr], part(), false),
    ]);
    for security in [&old, &new, &new] {
        assert!(open(security, expect_datagram(&b).1).is_ok());
    }
}

#[test]
fn a_command_waits_for_a_few_of_many_datagrams() {
    const N: usize = 100;
    const WORK: Duration = Duration::from_millis(1);
    let clock = Clock::start();
    let (begin, begins) = channel::<()>();
    let react = with_stats(move |input| {
        if matches!(input, Input::Datagram { .. }) {
            // The first one waits until all are there, and each of them is work.
            let _ = begins.recv_timeout(PATIENCE);
            let since = clock.instant();
            while clock.instant().since(since) < WORK {
                std::hint::spin_loop();
            }
        }
        Vec::new()
    });
    let shell = Setup { react, ..Setup::default() }.start();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for _ in 0..N {
        socket.send_to(&[1], shell.addr).expect("sent");
    }
    let (answer, answered) = channel();
    let reply_to = Box::new(move |_| answer.send(()).unwrap_or_default());
    shell.agent.bridge().send(Command::Stats, reply_to).expect("room");
    drop(begin);
    let mut n_before = 0;
    shell.expect("the command", |input| match input {
        Input::Datagram { .. } => {
            n_before += 1;
            None
        }
        Input::Command { .. } => Some(()),
        _ => None,
    });
    assert!(n_before < N / 3, "{n_before} datagrams came first");
    answered.recv_timeout(PATIENCE).expect("an answer");
}

#[test]
fn what_is_sealed_is_counted() {
    for (security, expected) in [(Security::default(), 0.0), (keyed(1), 2.0)] {
        let setup = |react| Setup { security: security.clone(), react, ..Setup::default() };
        let a = setup(with_stats(|_| Vec::new())).start();
        let b = setup(Box::new(|_| Vec::new())).start();
        a.say([nack(1), nack(2)].map(|nack| datagram(&[b.addr], vec![nack.encode()], true)));
        expect_datagram(&b);
        expect_datagram(&b);
        assert_eq!(a.counter("gossip_key_messages"), expected);
    }
}
