//! Data from runs that nobody lives as: kept by somebody without the key, and sent again after all
//! nodes were restarted; or made up.

use crate::agents::{Node, until};
use gossipykv::node::replication::message::{KvMessage, Push};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::thread::Scope;
use std::time::Duration;

const SETTINGS: [(&str, &str); 2] =
    [("GOSSIPYKV_ENCRYPT_KEYS", "MDEyMzQ1Njc4OWFiY2RlZg=="), ("GOSSIPYKV_PROFILE", "local")];
/// How long a thread of the recorder waits before it looks whether it should end.
const LOOK: Duration = Duration::from_millis(20);
/// Longer than any datagram.
const BUFFER_LEN: usize = 65_536;

/// What is kept: datagrams, and of each connection what its dialler sent.
#[derive(Default)]
struct Kept {
    datagrams: Vec<Vec<u8>>,
    streams: Vec<Vec<u8>>,
    target: Option<SocketAddr>,
    ends: bool,
}

/// A way to a node that keeps what it passes on.
struct Recorder<'a> {
    addr: SocketAddr,
    kept: &'a Mutex<Kept>,
}

impl Recorder<'_> {
    fn leads_to(&self, node: &Node) {
        self.kept.lock().expect("no panic").target = Some(node.gossip);
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        self.kept.lock().expect("no panic").ends = true;
    }
}

/// What a way has kept at the end of a life that uses it.
fn kept_of(life: impl FnOnce(&Recorder<'_>)) -> Kept {
    let (udp, tcp) = (0..100)
        .find_map(|_| {
            let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
            Some((UdpSocket::bind(tcp.local_addr().ok()?).ok()?, tcp))
        })
        .expect("a port free for both");
    let addr = tcp.local_addr().expect("an address");
    udp.set_read_timeout(Some(LOOK)).expect("a timeout");
    tcp.set_nonblocking(true).expect("a listener that does not wait");
    let kept = Mutex::new(Kept::default());
    std::thread::scope(|threads| {
        let recorder = Recorder { addr, kept: &kept };
        threads.spawn(|| pass_datagrams(&udp, &kept));
        threads.spawn(|| pass_streams(&tcp, &kept, threads));
        life(&recorder);
    });
    kept.into_inner().expect("no panic")
}

/// Where to, or nothing when it is over.
fn target(kept: &Mutex<Kept>) -> Option<Option<SocketAddr>> {
    let kept = kept.lock().expect("no panic");
    (!kept.ends).then_some(kept.target)
}

fn pass_datagrams(socket: &UdpSocket, kept: &Mutex<Kept>) {
    let mut buffer = vec![0; BUFFER_LEN];
    while let Some(to) = target(kept) {
        let Ok((len, _)) = socket.recv_from(&mut buffer) else { continue };
        kept.lock().expect("no panic").datagrams.push(buffer[..len].to_vec());
        if let Some(to) = to {
            // Who is gone gets none.
            let _ = socket.send_to(&buffer[..len], to);
        }
    }
}

fn pass_streams<'scope>(
    listener: &TcpListener,
    kept: &'scope Mutex<Kept>,
    threads: &'scope Scope<'scope, '_>,
) {
    while let Some(to) = target(kept) {
        let Ok((dialler, _)) = listener.accept() else {
            std::thread::park_timeout(LOOK);
            continue;
        };
        let Some(node) = to.and_then(|to| TcpStream::connect(to).ok()) else { continue };
        dialler.set_nonblocking(false).expect("a stream that waits");
        let pairs = [
            (dialler.try_clone().expect("a stream"), node.try_clone().expect("a stream"), true),
            (node, dialler, false),
        ];
        for (from, to, is_kept) in pairs {
            threads.spawn(move || pass_bytes(from, to, kept, is_kept));
        }
    }
}

fn pass_bytes(mut from: TcpStream, mut to: TcpStream, kept: &Mutex<Kept>, is_kept: bool) {
    from.set_read_timeout(Some(LOOK)).expect("a timeout");
    let (mut buffer, mut all) = (vec![0; BUFFER_LEN], Vec::new());
    while target(kept).is_some() {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                all.extend_from_slice(&buffer[..len]);
                if to.write_all(&buffer[..len]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // The other way may have closed it before.
    let _ = to.shutdown(Shutdown::Write);
    if is_kept {
        kept.lock().expect("no panic").streams.push(all);
    }
}

/// Two nodes, the second of which is reached through `recorder`, if there is one.
fn pair(recorder: Option<&Recorder<'_>>) -> [Node; 2] {
    let a = Node::start("a", &["--bootstrap"], &SETTINGS);
    let join = a.gossip.to_string();
    let advertised = recorder.map(|recorder| recorder.addr.to_string());
    let mut flags = vec!["--join", &join];
    flags.extend(advertised.iter().flat_map(|addr| ["--advertise", addr]));
    let b = Node::start("b", &flags, &SETTINGS);
    if let Some(recorder) = recorder {
        recorder.leads_to(&b);
    }
    for node in [&a, &b] {
        node.await_ready();
        until("they are two", || {
            (node.sees("a", "alive") && node.sees("b", "alive")).then_some(())
        });
    }
    [a, b]
}

#[track_caller]
fn put(node: &Node, key: &str, value: &str) {
    let ended = node.run(&["kv", "put", key, value, "--w", "2"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

fn status(node: &Node, key: &str) -> u16 {
    node.get(&format!("/kv/{key}")).expect("an answer").0
}

#[test]
fn what_was_kept_from_before_all_were_restarted_brings_nothing_back() {
    let kept = kept_of(|recorder| {
        let [a, b] = pair(Some(recorder));
        for round in 0..20 {
            put(&a, &format!("old-{round}"), "small");
        }
        put(&a, "old-large", &"x".repeat(100_000));
        assert_eq!(a.run(&["kv", "delete", "old-7"]).code, Some(0));
        until("it is gone", || (status(&b, "old-7") == 404).then_some(()));
    });
    assert!(kept.datagrams.len() > 20 && !kept.streams.is_empty());

    let [a, b] = pair(None);
    put(&b, "new", "value");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for node in [&a, &b] {
        for datagram in kept.datagrams.iter().chain(kept.datagrams.iter().rev()) {
            socket.send_to(datagram, node.gossip).expect("sent");
        }
        for bytes in &kept.streams {
            let mut stream = TcpStream::connect(node.gossip).expect("a connection");
            // It may be closed before the last byte, and is once it is read to the end.
            let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
            stream.set_read_timeout(Some(LOOK)).expect("a timeout");
            while stream.read(&mut [0; 1024]).is_ok_and(|len| len > 0) {}
        }
    }
    until("it was seen", || {
        [&a, &b].iter().all(|node| node.metric("unmet_total") > 0.0).then_some(())
    });
    // What comes later finds the earlier handled.
    put(&a, "later", "value");
    put(&b, "last", "value");
    for node in [&a, &b] {
        let (_, keys) = node.get("/kv/").expect("an answer");
        assert!(!keys.contains("old-"), "{keys}");
        assert!(["new", "later", "last"].iter().all(|key| status(node, key) == 200));
    }
}

#[test]
fn made_up_runs_leave_nothing_behind() {
    const SENT: u64 = 20_000;
    let [a, b] = Node::cluster::<2>(&[], &[("GOSSIPYKV_PROFILE", "local")]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for run in 1..=SENT {
        let push = Push { of: run, settles: vec![(1, 9)], from: run, urgent: false };
        let message = KvMessage::Push(push, Vec::new()).encode();
        let user_message = [&[8], &message[..]].concat();
        for node in [&a, &b] {
            socket.send_to(&user_message, node.gossip).expect("sent");
        }
    }
    put(&a, "mine", "value");
    put(&b, "its", "value");
    for node in [&a, &b] {
        // What the system has no room for is lost before it is read.
        assert!(node.metric("unmet_total") > 100.0);
        assert!(node.metric("origins") + node.metric("origins_folded") <= 2.0);
    }
}
