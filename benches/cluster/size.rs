//! Large values, many large values, and what a key costs in memory.

use super::agent::{Agent, all_hold, cluster};
use super::client::Client;
use super::figures::{Figures, Scale};
use super::load;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const SINK: &str = "--sink";
const KEEPER: &str = "--keeper";
const MIB: usize = 1 << 20;
const BULK_VALUE: usize = 64 << 10;

/// One value of 1 MiB: the first, over a link that is still to be dialled, and later ones.
pub fn large(_: &Scale, figures: &mut Figures) {
    let agents = cluster(3);
    let mut writer = agents[0].client();
    let mut readers: Vec<Client> = agents[1..].iter().map(Agent::client).collect();
    let mut one = |i: usize| {
        let (path, value) = (format!("/kv/large-{i}"), vec![b'a' + i as u8; MIB]);
        let began = Instant::now();
        writer.put(&path, &value);
        for reader in &mut readers {
            // Asks for the head until it is there: reading a megabyte is not what is measured.
            let there = format!("/kv/?keys&prefix=large-{i}&limit=1");
            let is_there = |body: &[u8]| body.windows(7).any(|window| window == b"\"large-");
            while !is_there(&reader.get(&there).1) {}
        }
        began.elapsed()
    };
    figures.note_millis("the first, from the PUT's first byte, ms", one(0));
    let mut later: Vec<Duration> = (1..10).map(&mut one).collect();
    later.sort_unstable();
    figures.note_millis("later ones, median, ms", later[4]);
}

/// Values of 64 KiB until all hold all, beside plain TCP copies of the same bytes to two processes:
/// copies that are kept as values, as nodes keep them, and bytes read and thrown away.
pub fn bulk(scale: &Scale, figures: &mut Figures) {
    let bytes = (scale.n_bulk * BULK_VALUE) as f64;
    let thrown = plain_copy(scale.n_bulk, SINK);
    let kept = plain_copy(scale.n_bulk, KEEPER);
    let agents = cluster(3);
    let began = Instant::now();
    load::all(agents[0].http(), 4, scale.n_bulk, |i| {
        ("PUT", format!("/kv/bulk-{i}"), vec![b'v'; BULK_VALUE])
    });
    let answered = began.elapsed();
    all_hold(&agents, scale.n_bulk);
    let on_all = began.elapsed();
    let rate = |taken: Duration| bytes / MIB as f64 / taken.as_secs_f64();
    figures.note("plain TCP to two processes, kept, MiB/s", rate(kept));
    figures.note("plain TCP to two processes, thrown away, MiB/s", rate(thrown));
    figures.note("PUTs answered, MiB/s", rate(answered));
    figures.note("on all three, MiB/s", rate(on_all));
    figures.note("ratio to plain TCP, kept", rate(on_all) / rate(kept));
    figures.note("ratio to plain TCP, thrown away", rate(on_all) / rate(thrown));
}

/// Sends the values as they are to two processes, which do nothing but read them.
fn plain_copy(n: usize, kind: &str) -> Duration {
    let own = std::env::current_exe().expect("this program has a path");
    let sinks: Vec<_> = (0..2)
        .map(|_| {
            let mut sink =
                Command::new(&own).arg(kind).stdout(Stdio::piped()).spawn().expect("starts");
            let mut stdout = std::io::BufReader::new(sink.stdout.take().expect("piped"));
            let mut line = String::new();
            std::io::BufRead::read_line(&mut stdout, &mut line).expect("a port");
            let addr: SocketAddr = line.trim().parse().expect("an address");
            (sink, TcpStream::connect(addr).expect("the sink listens"))
        })
        .collect();
    let value = vec![b'v'; BULK_VALUE];
    let began = Instant::now();
    let (mut processes, mut streams): (Vec<_>, Vec<_>) = sinks.into_iter().unzip();
    for _ in 0..n {
        for stream in &mut streams {
            stream.write_all(&value).expect("the sink reads");
        }
    }
    for stream in &mut streams {
        stream.shutdown(std::net::Shutdown::Write).expect("connected");
        // The sink answers once it has everything.
        assert_eq!(stream.read(&mut [0]).expect("connected"), 1);
    }
    let taken = began.elapsed();
    for process in &mut processes {
        process.wait().expect("the sink ends");
    }
    taken
}

/// Whether this process is the other end of a plain copy.
pub fn is_sink(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|argument| argument == SINK || argument == KEEPER)
}

/// Reads one connection to its end, and keeps what came if it is asked to.
pub fn sink(arguments: &[String]) -> ExitCode {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    println!("{}", listener.local_addr().expect("bound"));
    let (mut stream, _) = listener.accept().expect("somebody dials");
    let mut kept = Vec::new();
    if arguments.first().is_some_and(|argument| argument == KEEPER) {
        let mut value = vec![0; BULK_VALUE];
        while stream.read_exact(&mut value).is_ok() {
            kept.push(std::mem::replace(&mut value, vec![0; BULK_VALUE]));
        }
    } else {
        let mut buffer = vec![0; 256 << 10];
        while stream.read(&mut buffer).expect("connected") > 0 {}
    }
    stream.write_all(b".").expect("connected");
    ExitCode::SUCCESS
}

/// Bytes of resident memory a key, of 16-byte keys with 32-byte values, above the empty process.
pub fn memory(scale: &Scale, figures: &mut Figures) {
    let agents = cluster(1);
    let empty = agents[0].resident();
    fill(&agents[0], scale.n_keys);
    let full = agents[0].resident();
    figures.note("empty, MiB", empty / MIB as f64);
    figures.note("bytes a key", (full - empty) / scale.n_keys as f64);
}

/// A cluster of so many members that all hold so many keys.
pub fn full(n: u8, n_keys: usize) -> Vec<Agent> {
    let agents = cluster(n);
    fill(&agents[0], n_keys);
    all_hold(&agents, n_keys);
    agents
}

/// Writes so many keys of 16 bytes with values of 32.
pub fn fill(agent: &Agent, n: usize) {
    load::all(agent.http(), 32, n, |i| {
        ("PUT", format!("/kv/key-{i:012}/0123456789abcdef0123456789abcdef"), Vec::new())
    });
}
