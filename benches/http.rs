//! Question: what does the gate cost, and does it keep its promises to many clients?
//!
//! Requests a second and the 99th percentile of their latency, over loopback, on this machine, with
//! the load generator (`wrk -t1`, which must be installed) on the same cores: for the gate over a
//! real store, and for tiny_http facing its clients alone with as little to do as possible. Then
//! how many of 512 connections opened at once are answered within five seconds.
//!
//! `cargo bench --bench http`; `-- --test` only tries each once.

use gossipykv::http::{Config, Version, start};
use gossipykv::kv::{OriginId, Store, StoreConfig};
use gossipykv::node::command::{Bridge, Busy, Command, Health, NotReady, ReplyTo};
use gossipykv::time::{Instant, Now, WallMillis};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

struct BenchBridge {
    began: std::time::Instant,
    store: Store,
}

impl BenchBridge {
    #[expect(clippy::disallowed_methods, reason = "the clock of a benchmark")]
    fn new() -> BenchBridge {
        let store = Store::new(StoreConfig { origin: OriginId(1), store_len_max: 0 });
        BenchBridge { began: std::time::Instant::now(), store }
    }
}

impl Bridge for BenchBridge {
    #[expect(clippy::disallowed_methods, reason = "the clock of a benchmark")]
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            instant: Instant(self.began.elapsed().as_nanos() as u64),
            wall: WallMillis(wall.as_millis() as u64),
        }
    }
    fn store(&self) -> &Store {
        &self.store
    }
    fn written(&self) {}
    fn send(&self, _: Command, _: ReplyTo) -> Result<(), Busy> {
        Err(Busy)
    }
    fn health(&self) -> Health {
        Health::Ok
    }
    fn is_complete(&self) -> bool {
        true
    }
    fn not_ready(&self) -> Option<NotReady> {
        None
    }
    fn why(&self) -> Option<Arc<str>> {
        None
    }
    fn on_members_changed(&self, _: gossipykv::node::command::Bell) {}
    fn live(&self) -> bool {
        true
    }
}

/// What wrk puts: a 32-byte value under one of 100,000 keys.
const PUT_SCRIPT: &str = r#"
local n = 0
function request()
  n = (n * 7919 + 1) % 100000
  return wrk.format("PUT", "/kv/key-" .. n, nil, "0123456789abcdef0123456789abcdef")
end
"#;

struct Bench {
    seconds: u32,
    script: tempfile::NamedTempFile,
}

impl Bench {
    /// One row of the table.
    fn row(&self, name: &str, addr: SocketAddr, is_ours: bool) {
        let get = |connections| self.wrk(addr, "/kv/small", connections, false);
        let mut cells = vec![get(1), get(32), get(128)];
        if is_ours {
            cells.push(self.wrk(addr, "/", 32, true));
            cells.push(self.wrk(addr, "/kv/large?raw", 32, false));
        } else {
            cells.extend(["-".to_owned(), "-".to_owned()]);
        }
        cells.push(burst(addr).to_string());
        println!("| {name} | {} |", cells.join(" | "));
    }

    fn wrk(&self, addr: SocketAddr, path: &str, connections: u32, is_put: bool) -> String {
        let mut wrk = std::process::Command::new("wrk");
        wrk.args([
            "-t1",
            "--latency",
            &format!("-c{connections}"),
            &format!("-d{}s", self.seconds),
        ]);
        if is_put {
            wrk.arg("-s").arg(self.script.path());
        }
        let Ok(output) = wrk.arg(format!("http://{addr}{path}")).output() else {
            return "no wrk".to_owned();
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let find = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap_or("?").trim().to_owned()
        };
        let bad =
            if text.contains("Non-2xx") || text.contains("Socket errors") { " BAD" } else { "" };
        format!("{} ({}){bad}", find("Requests/sec:"), find("99%"))
    }
}

/// How many of 512 connections opened at once are answered within five seconds.
fn burst(addr: SocketAddr) -> usize {
    #[expect(clippy::disallowed_methods, reason = "the clock of a benchmark")]
    let began = std::time::Instant::now();
    let limit = Duration::from_secs(5);
    let mut streams: Vec<TcpStream> =
        (0..512).filter_map(|_| TcpStream::connect_timeout(&addr, limit).ok()).collect();
    streams.retain_mut(|stream| {
        stream.write_all(b"GET /kv/small HTTP/1.1\r\nHost: localhost\r\n\r\n").is_ok()
    });
    let answered = |stream: &mut TcpStream| {
        let left = limit.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).is_ok()
            && stream.read(&mut [0; 512]).is_ok_and(|n| n > 0)
    };
    streams.iter_mut().filter_map(|stream| answered(stream).then_some(())).count()
}

fn main() {
    let is_smoke = std::env::args().any(|arg| arg == "--test");
    let script = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(script.path(), PUT_SCRIPT).expect("a temporary file");
    let bench = Bench { seconds: if is_smoke { 1 } else { 5 }, script };
    println!(
        "| front | GET, 1 client | 32 | 128 | PUT 32 B, 32 | GET 64 KiB, 32 | of 512 at once |"
    );
    println!("|---|---|---|---|---|---|---|");

    let bridge = Arc::new(BenchBridge::new());
    let now = bridge.now();
    bridge.store.put(now, b"small", b"0123456789abcdef", None).expect("room");
    bridge.store.put(now, b"large", &[b'v'; 64 << 10], None).expect("room");
    let version = Version { version: "bench", hash: "-", date: "-" };
    let config = Config::new(([127, 0, 0, 1], 0).into(), version);
    let server = start(config, bridge).expect("starts");
    bench.row("gate", server.local_addr(), true);
    server.drain(Duration::from_secs(1));

    for n_workers in [2, 8] {
        let tiny = Arc::new(tiny_http::Server::http("127.0.0.1:0").expect("binds"));
        for _ in 0..n_workers {
            let tiny = Arc::clone(&tiny);
            let worker = move || {
                while let Ok(request) = tiny.recv() {
                    let answer =
                        tiny_http::Response::from_string("{\"small\":\"0123456789abcdef\"}");
                    // A client that has gone needs no answer.
                    let _ = request.respond(answer);
                }
            };
            std::thread::Builder::new().spawn(worker).expect("a thread");
        }
        let addr = tiny.server_addr().to_ip().expect("an IP address");
        bench.row(&format!("tiny_http alone, {n_workers} workers"), addr, false);
        (0..n_workers).for_each(|_| tiny.unblock());
    }
}
