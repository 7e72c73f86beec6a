//! HTTP over real sockets, before a real store and a node that replies what it is told to.

use gossipykv::http::{Config, Server, TokenList, Tokens, Version, start};
use gossipykv::kv::{Coverage, Ended, OriginId, Seen, Store, StoreConfig};
use gossipykv::node::command::{Bell, Bridge, Busy, Command, Health, MemberStatus, MemberView};
use gossipykv::node::command::{NotReady, Reply, ReplyTo, Sample};
use gossipykv::time::{Instant, Now, WallMillis};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Longer than anything a test waits for takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

type OnCommand = Box<dyn FnMut(Command, ReplyTo) -> Result<(), Busy> + Send>;

/// The node's end of the bridge.
pub struct TestBridge {
    began: std::time::Instant,
    store: Store,
    pub n_written: AtomicU64,
    pub health: Mutex<Health>,
    pub is_live: AtomicBool,
    pub on_command: Mutex<OnCommand>,
    /// Deletes that it says to have forgotten.
    pub forgotten: Mutex<BTreeMap<OriginId, u64>>,
    /// What it says to hold of other runs.
    pub of_others: Mutex<BTreeMap<OriginId, u64>>,
    /// Runs that it says to be over.
    pub ended: Mutex<Arc<Ended>>,
    /// Who does not know keys that expire.
    pub lacks_ttl: Mutex<Option<Arc<str>>>,
    /// Rung when it tells other members.
    pub members_bell: Mutex<Option<Bell>>,
    /// Held by a turn of the engine: it sweeps and says what it holds one after the other.
    pub turn: Mutex<()>,
}

impl TestBridge {
    /// A store of at most `store_len_max` bytes, and a node that replies to `Members` and `Stats`.
    #[expect(clippy::disallowed_methods, reason = "the clock of a test")]
    pub fn new(store_len_max: u64) -> TestBridge {
        TestBridge {
            began: std::time::Instant::now(),
            store: Store::new(StoreConfig { origin: OriginId(7), store_len_max }),
            n_written: AtomicU64::new(0),
            health: Mutex::new(Health::Ok),
            is_live: AtomicBool::new(true),
            on_command: Mutex::new(Box::new(plain_node)),
            forgotten: Mutex::default(),
            of_others: Mutex::default(),
            ended: Mutex::default(),
            lacks_ttl: Mutex::default(),
            members_bell: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    /// Replies to commands from now on.
    pub fn replies(
        &self,
        on_command: impl FnMut(Command, ReplyTo) -> Result<(), Busy> + Send + 'static,
    ) {
        *self.on_command.lock().unwrap() = Box::new(on_command);
    }
}

fn plain_node(command: Command, reply_to: ReplyTo) -> Result<(), Busy> {
    reply_to(match command {
        Command::Members => Reply::Members(vec![
            member("one", "127.0.0.1:7947", MemberStatus::Alive, true),
            member("two \"2\"", "[::1]:7947", MemberStatus::Suspect, false),
        ]),
        Command::Stats => Reply::Stats(vec![Sample {
            name: "members",
            help: "Members known.",
            labels: vec![("state", "alive".into())],
            value: 2.0,
        }]),
        _ => Reply::Done,
    });
    Ok(())
}

pub fn member(name: &str, address: &str, state: MemberStatus, me: bool) -> MemberView {
    let address = address.parse().unwrap();
    MemberView {
        name: name.into(),
        address,
        state,
        incarnation: 3,
        kv: me,
        formats: me.then(|| "2-3".into()),
        me,
        udp_blocked: !me,
        tcp_blocked: false,
    }
}

impl Bridge for TestBridge {
    #[expect(clippy::disallowed_methods, reason = "the clock of a test")]
    fn now(&self) -> Now {
        let nanos = u64::try_from(self.began.elapsed().as_nanos()).unwrap();
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let wall = WallMillis(u64::try_from(wall.as_millis()).unwrap());
        Now { instant: Instant(nanos), wall }
    }
    fn store(&self) -> &Store {
        &self.store
    }
    fn written(&self) {
        self.n_written.fetch_add(1, Ordering::Relaxed);
    }
    fn send(&self, command: Command, reply_to: ReplyTo) -> Result<(), Busy> {
        if command == Command::Coverage {
            let _turn = self.turn.lock().unwrap();
            let ended = Arc::clone(&self.ended.lock().unwrap());
            let last = self.store.last_seq();
            let mut seen = Seen::of_ended(Arc::clone(&ended));
            seen.add(self.store.origin(), last);
            self.of_others.lock().unwrap().iter().for_each(|(run, last)| seen.add(*run, *last));
            seen.set_expired_through(self.store.swept());
            let forgotten = self.forgotten.lock().unwrap().clone();
            let removed_total = self.store.removed_total();
            let is_exact = true;
            let coverage =
                Coverage { seen, forgotten, ended, removed_total, is_exact, ..Coverage::default() };
            reply_to(Reply::Coverage(coverage));
            return Ok(());
        }
        (self.on_command.lock().unwrap())(command, reply_to)
    }
    fn health(&self) -> Health {
        if self.live() { *self.health.lock().unwrap() } else { Health::Stalled }
    }
    fn is_complete(&self) -> bool {
        *self.health.lock().unwrap() != Health::Starting
    }
    fn not_ready(&self) -> Option<NotReady> {
        match self.health() {
            Health::Ok => None,
            Health::Starting => Some(NotReady::Copying),
            Health::Leaving => Some(NotReady::Leaving),
            Health::Stalled => Some(NotReady::Stalled),
        }
    }
    fn why(&self) -> Option<Arc<str>> {
        let why = if self.live() { "it is a \"test\"" } else { "it does not turn" };
        self.not_ready().map(|_| why.into())
    }
    fn lacks_ttl(&self) -> Option<Arc<str>> {
        self.lacks_ttl.lock().unwrap().clone()
    }
    fn live(&self) -> bool {
        self.is_live.load(Ordering::Relaxed)
    }
    fn on_members_changed(&self, bell: Bell) {
        *self.members_bell.lock().unwrap() = Some(bell);
    }
}

/// The tokens of a file with this text.
pub fn tokens(text: &str) -> Arc<Tokens> {
    Tokens::new(TokenList::parse(text).expect("tokens"))
}

/// HTTP, up.
pub struct Rig {
    pub server: Server,
    pub bridge: Arc<TestBridge>,
    pub addr: SocketAddr,
}

/// A configuration on a free port.
pub fn config() -> Config {
    let version = Version { version: "1.2.3", hash: "abc123", date: "2025-01-01" };
    Config::new("127.0.0.1:0".parse().unwrap(), version)
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(config())
    }

    pub fn with(config: Config) -> Rig {
        Rig::over(config, TestBridge::new(0))
    }

    pub fn over(config: Config, bridge: TestBridge) -> Rig {
        let bridge = Arc::new(bridge);
        let server = start(config, Arc::clone(&bridge) as Arc<dyn Bridge>).expect("starts");
        let addr = server.local_addr();
        Rig { server, bridge, addr }
    }

    /// A connection.
    pub fn client(&self) -> Client {
        Client::to(self.addr)
    }

    /// A connection from another address of loopback.
    pub fn client_from(&self, source: &str) -> Client {
        Client::from(source, self.addr)
    }

    /// One request without a body on a connection of its own.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str) -> Answer {
        self.client().ask(method, target, "", b"")
    }

    /// One request with headers (each ends with a line break) and a body.
    #[track_caller]
    pub fn send(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        self.client().ask(method, target, headers, body)
    }

    /// What `/metrics` says of one sample.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.ask("GET", "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("gossipykv_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Runs curl, and returns what it printed.
    #[track_caller]
    pub fn curl(&self, args: &[&str], target: &str) -> String {
        let url = format!("http://{}{target}", self.addr);
        let output = std::process::Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(args)
            .arg(url)
            .output()
            .expect("curl is installed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "curl {args:?} {target}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// One connection, spoken to byte by byte.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    pub fn to(addr: SocketAddr) -> Client {
        Client::over(TcpStream::connect(addr).expect("connects"))
    }

    /// A connection from another address of loopback.
    pub fn from(source: &str, addr: SocketAddr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let source: SocketAddr = format!("{source}:0").parse().expect("an address");
        socket.bind(&source.into()).expect("all of 127.0.0.0/8 is ours");
        socket.connect(&addr.into()).expect("connects");
        Client::over(socket.into())
    }

    pub fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { reader: BufReader::new(stream) }
    }

    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream().write_all(bytes.as_ref()).expect("sends");
    }

    /// Sends bytes that the other end may not want any more.
    pub fn raw_if_wanted(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream().write_all(bytes.as_ref());
    }

    /// Ends sending.
    pub fn end(&self) {
        let _ = self.stream().shutdown(Shutdown::Write);
    }

    /// Sends a request. A body, or a method that has one, gets its length.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) {
        let length = if body.is_empty() && !matches!(method, "PUT" | "POST") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n");
        self.raw([head.as_bytes(), body].concat());
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        self.request(method, target, headers, body);
        if method == "HEAD" { self.head() } else { self.answer() }
    }

    /// Reads an answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let len = answer.header("Content-Length").map_or(0, |len| len.parse().unwrap());
        if answer.status != 304 {
            answer.body.resize(len, 0);
            self.reader.read_exact(&mut answer.body).expect("the whole body");
        }
        answer
    }

    /// Reads an answer's head, after which there is no body.
    #[track_caller]
    pub fn head(&mut self) -> Answer {
        let status_line = self.line();
        let status = status_line.split(' ').nth(1).and_then(|text| text.parse().ok());
        assert!(status_line.starts_with("HTTP/1.1 "), "{status_line:?}");
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").expect("a header");
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Answer { status: status.expect("a status"), headers, body: Vec::new() }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        let Some(text) = line.strip_suffix("\r\n") else { panic!("no whole line: {line:?}") };
        text.to_owned()
    }

    /// Reads as many bytes as there is room for.
    #[track_caller]
    pub fn read_exact(&mut self, bytes: &mut [u8]) {
        self.reader.read_exact(bytes).expect("so many bytes");
    }

    /// Reads the next chunk of a chunked body; `None` for its end.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let len = usize::from_str_radix(&self.line(), 16).expect("the length of a chunk");
        let mut chunk = vec![0; len];
        self.reader.read_exact(&mut chunk).expect("the whole chunk");
        assert_eq!(self.line(), "");
        (len > 0).then_some(chunk)
    }

    /// Reads whatever comes until the end.
    pub fn read_all(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = self.reader.read_to_end(&mut rest);
        rest
    }

    /// Whether the other end has closed, with nothing more to read. Waits for it.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => {
                assert_eq!(String::from_utf8_lossy(&rest), "");
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(_) => false,
        }
    }
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        let found = self.headers.iter().find(|(found, _)| *found == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Checks the status, and that an error says something.
    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if status >= 400 && !self.body.is_empty() {
            assert!(self.json()["error"].as_str().is_some_and(|text| !text.is_empty()));
            assert_eq!(self.header("Content-Type"), Some("application/json"));
        }
        self
    }

    /// The version in the `ETag`.
    #[track_caller]
    pub fn version(&self) -> String {
        let etag = self.header("ETag").expect("an ETag");
        etag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).expect("quoted").to_owned()
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never: {what}");
}
