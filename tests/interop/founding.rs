//! Clusters by a record that appears late: one cluster comes of it, and all of it is ready at once.
//!
//! ```text
//! 0 s    n agents start; the name does not exist
//! 8 s    each founds: two looks have named nobody. The first holds a key
//! 10 s   the record names all
//!        a look, up to 2 s later: they meet; those without data copy; all are ready
//! ```
//!
//! `GOSSIPYKV_FOUNDING_ROUNDS` repeats each size, some rounds side by side. Counted is from the
//! moment when the server begins anew with the record, and from the one when all see all.

use crate::harness::{Agent, AgentOptions, Dns, Node as _, Range, State, needs, now, seconds};
use crate::rounds::side_by_side;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How long the record is missing (the issue's).
const LATE: Duration = Duration::from_secs(10);
/// A node alone looks every two seconds at least, for the first minute.
const LOOK: Duration = Duration::from_secs(2);
const READY_MAX: Duration = Duration::from_secs(3);
/// For a machine that runs other tests beside these.
const BUSY: Duration = Duration::from_secs(3);
/// How long one may be ready without the data of somebody whom it has met: it hears of it by the
/// first digest, one of which comes a second.
const BESIDE_MAX: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 8;

/// What one round took.
#[derive(Debug, Clone, Copy)]
struct Took {
    /// From the record to all seeing all, and from there until all are ready with the data.
    seen: Duration,
    ready: Duration,
    /// The longest that one was ready without the data beside the one that had it.
    beside: Duration,
}

/// What is known of one agent.
#[derive(Default)]
struct Watched {
    /// Since when it has been ready without the data although it sees the one that holds it.
    beside: Option<Instant>,
    longest: Duration,
    sees_all: bool,
    is_whole: bool,
}

impl Watched {
    fn look(&mut self, agent: &Agent, n: usize) -> Result<(), String> {
        let table = agent.table()?;
        let alive = |name: &str| table.get(name).is_some_and(|row| row.state == State::Alive);
        self.sees_all = (1..=n).all(|host| alive(&format!("r{host}")));
        let has = agent.has("early", Some("bird")).is_ok();
        let is_ready = agent.is_ready().is_ok();
        self.is_whole = self.sees_all && has && is_ready;
        // The key may have come between the two questions.
        if has || !is_ready || !alive("r1") || agent.has("early", Some("bird")).is_ok() {
            self.beside = None;
        } else {
            let since = *self.beside.get_or_insert_with(now);
            self.longest = self.longest.max(since.elapsed());
        }
        Ok(())
    }
}

/// Starts all at once and gives them to `with`. A process dies with the thread that has started it,
/// so these threads stay until that is over.
fn at_once<T>(
    hosts: &[u8],
    start: impl Fn(u8) -> Agent + Sync,
    with: impl FnOnce(Vec<Agent>) -> T,
) -> T {
    let start = &start;
    std::thread::scope(|scope| {
        let starting = hosts.iter().map(|&host| {
            let ((tell, told), (hold, held)) = (channel(), channel::<()>());
            scope.spawn(move || {
                tell.send(start(host)).expect("somebody waits for it");
                // An error once nobody holds it any more.
                let _ = held.recv();
            });
            (told, hold)
        });
        let (told, hold): (Vec<_>, Vec<_>) = starting.unzip();
        let result = with(told.iter().map(|told| told.recv().expect("it starts")).collect());
        drop(hold);
        result
    })
}

fn round(n: usize) -> Took {
    let range = Range::claim();
    let mut dns = Dns::start(&range, &[]);
    let flags = ["--discover-srv", Dns::SERVICE, "--dns", &dns.address().to_string()];
    let options =
        AgentOptions { flags: flags.map(str::to_owned).into(), ..AgentOptions::default() };
    let hosts: Vec<u8> = (1..=u8::try_from(n).expect("few")).collect();
    let start = |host| Agent::start(&range, host, options.clone());
    let begun = now();
    at_once(&hosts, start, |agents| {
        agents[0].put("early", "bird");
        std::thread::sleep(LATE.saturating_sub(begun.elapsed()));
        let told = now();
        dns.serve(&hosts.iter().map(|&host| range.gossip(host)).collect::<Vec<_>>());
        watch(&agents, told)
    })
}

/// Asks all of them until they are one cluster that is ready, since the record was told.
fn watch(agents: &[Agent], told: Instant) -> Took {
    let n = agents.len();
    let mut watched: Vec<Watched> = agents.iter().map(|_| Watched::default()).collect();
    let mut seen = None;
    while !watched.iter().all(|watched| watched.is_whole) {
        for (watched, agent) in watched.iter_mut().zip(agents) {
            watched.look(agent, n).expect("an answer");
        }
        if watched.iter().all(|watched| watched.sees_all) {
            seen.get_or_insert_with(now);
        }
        assert!(told.elapsed() < PATIENCE, "{n} agents are no cluster that is ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    let seen = seen.expect("the last of it").duration_since(told);
    let beside = watched.iter().map(|watched| watched.longest).max().unwrap_or_default();
    Took { seen, ready: told.elapsed().saturating_sub(seen), beside }
}

fn sorted(took: &[Took], what: impl Fn(&Took) -> Duration) -> (Duration, Duration) {
    let mut all: Vec<Duration> = took.iter().map(what).collect();
    all.sort();
    (all[all.len() / 2], all[all.len() - 1])
}

fn found_by_a_late_record(n: usize) {
    let rounds = seconds("GOSSIPYKV_FOUNDING_ROUNDS").unwrap_or(1);
    let rounds = usize::try_from(rounds).expect("few");
    let took = side_by_side(rounds, AT_ONCE, |_| round(n));
    let seen = sorted(&took, |took| took.seen);
    let all = sorted(&took, |took| took.seen + took.ready);
    let ready = sorted(&took, |took| took.ready);
    let beside = sorted(&took, |took| took.beside);
    println!("{n} agents, {rounds} rounds, at the median and at most:");
    println!("  record to all see all {seen:.2?}, from there to all ready {ready:.2?}");
    println!("  record to all ready {all:.2?}; ready without the data beside it {beside:.2?}");
    assert!(ready.0 <= READY_MAX && ready.1 <= READY_MAX + BUSY, "{took:?}");
    assert!(all.0 <= LOOK + READY_MAX && all.1 <= LOOK + READY_MAX + BUSY, "{took:?}");
    assert!(beside.1 <= BESIDE_MAX + BUSY, "{took:?}");
}

#[test]
fn three_agents_by_a_late_record_are_one_cluster() {
    needs!(Dnsmasq);
    found_by_a_late_record(3);
}

#[test]
fn five_agents_by_a_late_record_are_one_cluster() {
    needs!(Dnsmasq);
    found_by_a_late_record(5);
}

#[test]
fn nine_agents_by_a_late_record_are_one_cluster() {
    needs!(Dnsmasq);
    found_by_a_late_record(9);
}
