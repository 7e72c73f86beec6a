//! Two agents far from each other: once the first writes are acknowledged, none is sent twice.
//!
//! ```text
//! a at 127.x.y.1, known as 127.x.y.101 <-- each waits half a round trip --> b, 2 and 102
//!
//! from a to 102: taken there, held, sent on to 2 out of 101
//! ```
//!
//! Both sides see each other where they are known, as across any network; nothing is lost and
//! nothing overtaken. Connections are as slow as datagrams, once they are established.

use crate::harness::{Agent, AgentOptions, Range, await_all, await_ready, eventually, now};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const JOIN_MAX: Duration = Duration::from_secs(30);
const SEEN_MAX: Duration = Duration::from_secs(10);
const N_FIRST: usize = 5;
const N_WRITES: usize = 40;
const N_ROUNDS: usize = 5;

#[expect(clippy::disallowed_methods, reason = "they end with their sockets, or with the tests")]
fn spawn(what: impl FnOnce() + Send + 'static) {
    std::thread::spawn(what);
}

/// A queue whose items come out that long after they went in.
fn late<T: Send + 'static>(by: Duration, mut out: impl FnMut(T) + Send + 'static) -> Sender<T> {
    let (sender, receiver): (Sender<(Instant, T)>, Receiver<_>) = channel();
    let (front, taken) = channel::<T>();
    spawn(move || {
        for item in taken {
            let _ = sender.send((now() + by, item));
        }
    });
    spawn(move || {
        for (at, item) in receiver {
            std::thread::sleep(at.saturating_duration_since(now()));
            out(item);
        }
    });
    front
}

/// Datagrams taken at `from` go on to `to`, out of `out_of`.
fn datagrams(taken: &Arc<UdpSocket>, out_of: &Arc<UdpSocket>, to: SocketAddr, by: Duration) {
    let (taken, out_of) = (Arc::clone(taken), Arc::clone(out_of));
    let queue = late(by, move |bytes: Vec<u8>| {
        let _ = out_of.send_to(&bytes, to);
    });
    spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((len, _)) = taken.recv_from(&mut buffer) {
            let _ = queue.send(buffer[..len].to_vec());
        }
    });
}

/// Bytes of one direction of a connection, to its end.
fn bytes(mut from: TcpStream, mut to: TcpStream, by: Duration) {
    let queue = late(by, move |bytes: Vec<u8>| {
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            let _ = to.shutdown(Shutdown::Write);
        }
    });
    spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(len) = from.read(&mut buffer) {
            let _ = queue.send(buffer[..len].to_vec());
            if len == 0 {
                return;
            }
        }
        let _ = queue.send(Vec::new());
    });
}

fn connections(taken: TcpListener, to: SocketAddr, by: Duration) {
    spawn(move || {
        while let Ok((near, _)) = taken.accept() {
            let Ok(far) = TcpStream::connect(to) else { continue };
            let both = [&near, &far].map(|stream| stream.try_clone().expect("a handle more"));
            for stream in [&near, &far] {
                stream.set_nodelay(true).expect("an option");
            }
            let [near_again, far_again] = both;
            bytes(near, far, by);
            bytes(far_again, near_again, by);
        }
    });
}

/// Where a host is known to the other one.
fn known(range: &Range, host: u8) -> SocketAddr {
    range.gossip(host + 100)
}

/// Hosts 1 and 2 of a range, that far apart.
fn apart(range: &Range, round_trip: Duration) {
    let sockets = [1, 2].map(|host| Arc::new(UdpSocket::bind(known(range, host)).expect("free")));
    for (to, host) in [1, 2].into_iter().enumerate() {
        datagrams(&sockets[to], &sockets[1 - to], range.gossip(host), round_trip / 2);
        let listener = TcpListener::bind(known(range, host)).expect("free");
        connections(listener, range.gossip(host), round_trip / 2);
    }
}

fn put(agent: &Agent, key: &str, query: &str) {
    let answer = agent.request_with("PUT", &format!("/kv/{key}{query}"), b"value");
    assert!(answer.as_ref().is_ok_and(|answer| answer.status == 200), "{answer:?}");
}

/// Two agents that far apart, ready.
pub fn pair(range: &Range, round_trip: Duration) -> [Agent; 2] {
    apart(range, round_trip);
    let agents = [1, 2].map(|host| {
        let flags = ["--advertise", &known(range, host).to_string()].map(str::to_owned);
        let seeds = vec![known(range, 3 - host)];
        Agent::start(range, host, AgentOptions { seeds, flags: flags.into(), ..Default::default() })
    });
    await_all(&[&agents[0], &agents[1]], JOIN_MAX);
    await_ready(&agents, JOIN_MAX);
    agents
}

fn nothing_is_sent_twice(round_trip: Duration) {
    let range = Range::claim();
    let agents = pair(&range, round_trip);
    let resends = || agents.each_ref().map(|a| a.metric("replication_resends_total"));
    for n in 0..N_FIRST {
        let begun = now();
        put(&agents[0], &format!("first-{n}"), "?w=all&timeout=10s");
        let took = begun.elapsed();
        assert!(took >= round_trip, "acknowledged over this way after {took:?}");
    }
    // A machine that stands still for longer than the way takes has writes sent again, rightly: one
    // of a few rounds has to pass without. Where far peers got each write twice, all rounds did.
    let mut rounds = Vec::new();
    for round in 0..N_ROUNDS {
        let before = resends();
        for n in 0..N_WRITES {
            put(&agents[0], &format!("k{round}-{n}"), "");
            std::thread::sleep(Duration::from_millis(10));
        }
        let (_, took) = eventually("all are seen", SEEN_MAX, || {
            agents[1].has(&format!("k{round}-{}", N_WRITES - 1), Some("value"))
        });
        put(&agents[0], &format!("last-{round}"), "?w=all&timeout=10s");
        assert_eq!(agents[1].n_keys(), Ok(N_FIRST + (round + 1) * (N_WRITES + 1)));
        let after = resends();
        println!(
            "{round_trip:?}: resends {before:?}, after {N_WRITES} writes {after:?}, {took:.1?}"
        );
        if before == after {
            return;
        }
        rounds.push((before, after));
    }
    panic!("{round_trip:?}: resends before and after each round: {rounds:?}");
}

#[test]
fn no_write_is_sent_twice_however_far_the_other_is() {
    for round_trip_ms in [20, 80, 250] {
        nothing_is_sent_twice(Duration::from_millis(round_trip_ms));
    }
}
