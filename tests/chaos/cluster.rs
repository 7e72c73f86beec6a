//! Five seats on six hosts, and what can be done to the processes in them.

use crate::clients::{Clients, HTTP, Http, Run, keys};
use crate::harness::{
    Agent, AgentOptions, Need, Net, Node, State, Weather, available, eventually, in_namespace,
    libfaketime, scratch,
};
use crate::judge::Held;
use crate::plan::{Cuts, N_SEATS, Network};
use crate::watchers::Watchers;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const N_HOSTS: u8 = 6;
const GOSSIP_PORT: u16 = 7947;
const READY_MAX: Duration = Duration::from_secs(20);
/// As the contract has it: the default `--leave-timeout` and 2 s.
const LEAVE_MAX: Duration = Duration::from_secs(7);
/// Logs of runs that are over, kept for the case that something is found.
const LOGS_MAX: usize = 40;

/// A place in the cluster.
struct Seat {
    host: usize,
    name: String,
    run: Run,
    agent: Option<Agent>,
}

/// The cluster.
pub struct Cluster {
    pub clients: Clients,
    pub watchers: Watchers,
    net: Net,
    hosts: Vec<(String, Ipv4Addr)>,
    seats: Vec<Seat>,
    n_runs: Run,
    /// The library that sets clocks, where there is one.
    clock: Option<PathBuf>,
    logs: Vec<(String, Vec<String>)>,
    seed: u64,
}

impl Cluster {
    /// Starts five processes that know all six hosts, and their clients.
    pub fn start(seed: u64, pace: Duration) -> Cluster {
        let mut net = Net::create();
        let hosts: Vec<_> = (1..=N_HOSTS).map(|host| net.add_host(host)).collect();
        let namespaces: Vec<_> = hosts.iter().map(|(namespace, _)| namespace.clone()).collect();
        let clients = Clients::start(&namespaces, seed, pace);
        let watchers = Watchers::start(&namespaces, seed);
        let clock = available(&[Need::Faketime]).then(libfaketime).flatten();
        (0..hosts.len()).for_each(|host| net.remove_too(&clock_file(host)));
        let (seats, logs) = (Vec::new(), Vec::new());
        let mut cluster =
            Cluster { clients, watchers, net, hosts, seats, n_runs: 0, clock, logs, seed };
        for at in 0..N_SEATS {
            let name = format!("seat{at}");
            cluster.seats.push(Seat { host: at, name, run: 0, agent: None });
            cluster.begin(at);
        }
        if !cluster.obeys_clock(0) {
            println!("the program is linked statically, so its clock cannot be set");
            cluster.clock = None;
        }
        cluster
    }

    /// Whether the clocks of its processes can be set.
    pub fn has_clocks(&self) -> bool {
        self.clock.is_some()
    }

    /// Starts the process of a seat; its client begins to ask it.
    pub fn begin(&mut self, seat: usize) {
        let Seat { host, name, .. } = &self.seats[seat];
        let (host, (namespace, ip)) = (*host, &self.hosts[*host]);
        let seeds = self.hosts.iter().map(|(_, ip)| SocketAddr::from((*ip, GOSSIP_PORT)));
        let mut options = AgentOptions {
            namespace: Some(namespace.clone()),
            seeds: seeds.collect(),
            ..AgentOptions::default()
        };
        if let Some(library) = &self.clock {
            std::fs::write(clock_file(host), "+0").expect("cargo's directory is writable");
            let set = |name: &str, value: &Path| (name.to_owned(), value.to_owned().into());
            options.env = vec![
                set("LD_PRELOAD", library),
                set("FAKETIME_TIMESTAMP_FILE", &clock_file(host)),
                set("FAKETIME_CACHE_DURATION", Path::new("1")),
                set("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
            ];
        }
        let gossip = SocketAddr::from((*ip, GOSSIP_PORT));
        let agent = Agent::start_at(name, gossip, SocketAddr::from(HTTP), options);
        // What the library leaves behind where a process is killed.
        for kind in ["faketime_shm", "sem.faketime_sem"] {
            let file = format!("/dev/shm/{kind}_{}", agent.process().pid());
            self.net.remove_too(Path::new(&file));
        }
        self.n_runs += 1;
        self.seats[seat].agent = Some(agent);
        self.seats[seat].run = self.n_runs;
        self.clients.ask(host, self.n_runs);
    }

    /// Sends a signal to the process of a seat.
    pub fn signal(&self, seat: usize, signal: Signal) {
        self.agent(seat).process().signal(signal);
    }

    /// Ends the process of a seat with kill -9; returns its run, of which no answer comes later.
    pub fn kill(&mut self, seat: usize) -> Run {
        let agent = self.seats[seat].agent.take().expect("somebody sits there");
        let log = agent.process().lines(0);
        drop(agent);
        self.end(seat, log)
    }

    /// Tells the process of a seat to stop and waits until it has.
    pub fn leave(&mut self, seat: usize) -> Run {
        let mut agent = self.seats[seat].agent.take().expect("somebody sits there");
        agent.leave();
        let (status, _) = agent.process_mut().wait_exit(LEAVE_MAX);
        assert!(status.success(), "{} left with {status}", agent.name());
        let log = agent.process().lines(0);
        drop(agent);
        self.end(seat, log)
    }

    fn end(&mut self, seat: usize, log: Vec<String>) -> Run {
        let Seat { host, name, run, .. } = &self.seats[seat];
        self.clients.ask(*host, 0);
        if self.logs.len() == LOGS_MAX {
            self.logs.remove(0);
        }
        self.logs.push((format!("{name}-run{run}"), log));
        *run
    }

    /// Gives a seat to a process of another name on the host that is free. Returns the run of the
    /// one before, and what the others held when it had gone.
    pub fn replace(&mut self, seat: usize, new_first: bool) -> (Run, Vec<Held>) {
        let taken: Vec<_> = self.seats.iter().map(|seat| seat.host).collect();
        let host = (0..usize::from(N_HOSTS)).find(|host| !taken.contains(host));
        let host = host.expect("there is one host more than seats");
        let name = format!("seat{seat}-{}", self.n_runs + 1);
        let fresh = Seat { host, name, run: 0, agent: None };
        if new_first {
            self.seats.push(fresh);
            self.begin(N_SEATS);
            self.await_ready(N_SEATS);
            let run = self.leave(seat);
            self.seats.swap_remove(seat);
            return (run, self.holdings_but(seat));
        }
        let run = self.leave(seat);
        let others = self.holdings_but(seat);
        self.seats[seat] = fresh;
        self.begin(seat);
        self.await_ready(seat);
        (run, others)
    }

    /// Waits until the process of a seat says that it is ready.
    pub fn await_ready(&self, seat: usize) {
        eventually("it is ready", READY_MAX, || self.agent(seat).is_ready());
    }

    /// Makes the network so.
    pub fn set_network(&self, network: &Network) -> &'static str {
        let host = |seat: usize| u8::try_from(self.seats[seat].host + 1).expect("few hosts");
        let cuts: Cuts = network.cuts();
        let mut weather = Weather {
            cut: cuts.iter().map(|(from, to)| (host(*from), host(*to))).collect(),
            ..Weather::default()
        };
        if let Network::Rough { loss, late, twice } = *network {
            (weather.loss_percent, weather.late_percent, weather.twice_percent) =
                (loss, late, twice);
        }
        self.net.set(&weather)
    }

    /// Packets lost and cut off since the network was last set.
    pub fn n_lost_packets(&self) -> u64 {
        self.net.n_lost()
    }

    /// Sets the wall clock of a seat's process that many seconds off; it takes a second.
    pub fn set_clock(&self, seat: usize, offset_s: i32) {
        let file = clock_file(self.seats[seat].host);
        std::fs::write(file, format!("{offset_s:+}s")).expect("cargo's directory is writable");
    }

    /// Everything that the process of each seat holds.
    pub fn holdings(&self) -> Result<BTreeMap<String, Held>, String> {
        self.seats.iter().map(|seat| Ok((seat.name.clone(), self.holding(seat)?))).collect()
    }

    /// Everything that the processes of these seats hold, as far as they answer.
    pub fn holdings_of(&self, seats: &[usize]) -> Vec<Held> {
        seats.iter().filter_map(|seat| self.holding(&self.seats[*seat]).ok()).collect()
    }

    fn holdings_but(&self, seat: usize) -> Vec<Held> {
        let others: Vec<_> = (0..N_SEATS).filter(|other| *other != seat).collect();
        self.holdings_of(&others)
    }

    fn holding(&self, seat: &Seat) -> Result<Held, String> {
        if seat.agent.is_none() {
            return Err(format!("nobody sits in {}", seat.name));
        }
        let (namespace, _) = &self.hosts[seat.host];
        in_namespace(Some(namespace), holding).map_err(|error| format!("{}: {error}", seat.name))
    }

    /// The hosts on which there is a process.
    pub fn taken(&self) -> Vec<usize> {
        self.seats.iter().map(|seat| seat.host).collect()
    }

    /// Whether all processes hold exactly each other for alive.
    pub fn is_whole(&self) -> Result<(), String> {
        for seat in &self.seats {
            let table = self.agent_of(seat).table()?;
            let alive = table.iter().filter(|(_, row)| row.state == State::Alive);
            let mut alive: Vec<_> = alive.map(|(name, _)| name).collect();
            let mut all: Vec<_> = self.seats.iter().map(|seat| &seat.name).collect();
            alive.sort();
            all.sort();
            if alive != all {
                return Err(format!("{} holds {alive:?} for alive", seat.name));
            }
        }
        Ok(())
    }

    fn agent(&self, seat: usize) -> &Agent {
        self.agent_of(&self.seats[seat])
    }

    fn agent_of<'a>(&self, seat: &'a Seat) -> &'a Agent {
        seat.agent.as_ref().unwrap_or_else(|| panic!("nobody sits in {}", seat.name))
    }

    fn obeys_clock(&self, seat: usize) -> bool {
        let maps = format!("/proc/{}/maps", self.agent(seat).process().pid());
        self.clock.is_none()
            || std::fs::read_to_string(maps).is_ok_and(|maps| maps.contains("libfaketime"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for seat in std::mem::take(&mut self.seats) {
            if let Some(agent) = seat.agent {
                // A process that was stopped would keep its client waiting.
                agent.process().signal(Signal::CONT);
                self.logs
                    .push((format!("{}-run{}", seat.name, seat.run), agent.process().lines(0)));
            }
        }
        if std::thread::panicking() {
            let folder = scratch().join(format!("chaos-{}", self.seed));
            let _ = std::fs::create_dir_all(&folder);
            for (name, lines) in &self.logs {
                let _ = std::fs::write(folder.join(format!("{name}.log")), lines.join("\n"));
            }
            eprintln!("all logs are in {}", folder.display());
        }
    }
}

/// All pages of a process's list, and of the other keys what it says of each.
fn holding() -> Result<Held, String> {
    let (http, mut held, mut after) = (Http::new(), Held::new(), String::new());
    loop {
        let answer = http.send("GET", &format!("/kv/?limit=1000{after}"), b"")?;
        let page: serde_json::Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        for item in page["items"].as_array().ok_or_else(|| format!("{answer:?}"))? {
            let text = |name: &str| item[name].as_str().ok_or_else(|| format!("{item}"));
            let version = text("version")?.parse().map_err(|error| format!("{error}: {item}"))?;
            let value = text("value")?.as_bytes().to_vec();
            held.insert(text("key")?.to_owned(), (version, Some(value)));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    for key in keys().filter(|key| !held.contains_key(key)).collect::<Vec<_>>() {
        if let Some(seen) = http.read(&key)?? {
            held.insert(key, seen);
        }
    }
    Ok(held)
}

fn clock_file(host: usize) -> PathBuf {
    scratch().join(format!("chaos-clock-{}-{host}", std::process::id()))
}
