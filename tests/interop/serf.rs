//! A Serf agent with its default settings in our cluster: it sees us, and its own life goes on.

use crate::control::KEYS;
use crate::harness::{
    ANSWERING, Agent, AgentOptions, JOIN_MAX, Node, Range, Serf, State, await_all, eventually,
    hold, hold_calm, lan, long, needs, now, tells_of_tcp_only,
};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const EVENT_MAX: Duration = Duration::from_secs(2);
const SPREAD_MAX: Duration = Duration::from_secs(3);

struct Cluster {
    _range: Range,
    rust: Vec<Agent>,
    serf: Vec<Serf>,
    joined: Instant,
}

impl Cluster {
    /// Two of each; Serf joins through ours, and ours through each other.
    fn start() -> Cluster {
        let range = Range::claim();
        let handler = ["-event-handler", ANSWERING];
        let seeds = vec![range.gossip(1)];
        let options = AgentOptions { seeds, ..AgentOptions::default() };
        let rust: Vec<_> = [1, 2].map(|host| Agent::start(&range, host, options.clone())).into();
        let mut serf: Vec<_> = [21, 22].map(|host| Serf::start(&range, host, &handler)).into();
        let through = serf[0].gossip();
        serf[1].join(&[through]);
        serf[0].join(&[rust[0].gossip()]);
        let cluster = Cluster { _range: range, rust, serf, joined: now() };
        await_all(&cluster.nodes(), JOIN_MAX);
        cluster
    }

    /// Only ours: they tell of every accusation, their own, those of Serf, and those of them,
    /// which they refute. Serf does not, and asking it takes a program each time.
    #[track_caller]
    fn hold_calm(&self, during: Duration) {
        let ours: Vec<_> = self.rust.iter().map(|agent| agent as &dyn Node).collect();
        hold_calm(&ours, self.nodes().len(), during);
        await_all(&self.nodes(), JOIN_MAX);
    }

    fn nodes(&self) -> Vec<&dyn Node> {
        let rust = self.rust.iter().map(|agent| agent as &dyn Node);
        rust.chain(self.serf.iter().map(|serf| serf as &dyn Node)).collect()
    }

    /// Both Serf agents answer a query of the first, and an event of the first reaches the second.
    #[track_caller]
    fn assert_serf_works(&self, round: &str) {
        // Serf sends events and queries four times and counts on those who hear them to pass them
        // on, which we are not among: of three others one is now and then missed.
        let answered = (0..5).any(|_| {
            let answer = self.serf[0].run(&["query", "which"]).expect("a query");
            answer.matches("answered").count() == 2
        });
        assert!(answered, "no query of s21 was answered by both");
        let is_event = |line: &String| line.contains("user-event: hello");
        let from = self.serf[1].process().n_lines();
        let heard = (0..5).any(|n| {
            let event = format!("{round}-{n}");
            self.serf[0].run(&["event", "-coalesce=false", "hello", &event]).expect("an event");
            let sent = now();
            while sent.elapsed() < EVENT_MAX {
                if self.serf[1].process().lines(from).iter().any(is_event) {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            false
        });
        assert!(heard, "no event of s21 reached s22");
    }

    /// Nobody complains, and datagrams were mostly answered by datagrams: each node probes once a
    /// second, of three in turn two are of the other kind, and a busy machine is late now and then.
    #[track_caller]
    fn assert_content(&self) {
        for serf in &self.serf {
            assert_eq!(serf.complaints(), Vec::<String>::new(), "{}", serf.name());
            let seconds = self.joined.elapsed().as_secs() as usize;
            let lines = serf.process().lines(0);
            let n = lines.iter().filter(|line| tells_of_tcp_only(line)).count();
            assert!(n * 2 < seconds, "{}: {n} times TCP only in {seconds} s", serf.name());
        }
        for agent in &self.rust {
            let count = |name| agent.metric(name).expect("a counter");
            let (n, probes) = (count("probe_acks_stream_total"), count("probes_total"));
            assert!(n * 2.0 < probes, "{}: {n} of {probes} over TCP only", agent.name());
            assert_eq!(agent.complaints(), Vec::<String>::new(), "{}", agent.name());
        }
    }
}

#[test]
fn serf_lists_us_and_keeps_working() {
    needs!(Serf);
    let cluster = Cluster::start();
    cluster.assert_serf_works("first");
    cluster.rust[0].put("kept", "by-us");
    eventually("replication", SPREAD_MAX, || cluster.rust[1].has("kept", Some("by-us")));
    // With the long run Serf's own push-pulls (every 30 s) meet us too.
    let quiet = Duration::from_secs(if long() { 70 } else { 6 });
    cluster.hold_calm(quiet);
    cluster.assert_serf_works("second");
    cluster.assert_content();
}

#[test]
fn serf_survives_our_death_and_return() {
    needs!(Serf);
    let mut cluster = Cluster::start();
    cluster.rust[1].process().signal(Signal::KILL);
    for serf in &cluster.serf {
        let within = lan::dead_within(4);
        eventually("failed", within, || serf.holds("r2", State::Dead));
    }
    cluster.assert_serf_works("without r2");
    let agent = cluster.rust.pop().expect("two").restart();
    cluster.rust.push(agent);
    await_all(&cluster.nodes(), JOIN_MAX);
    cluster.assert_serf_works("with r2 again");

    // Serf's own leave reaches us as one.
    cluster.serf[1].leave();
    for agent in &cluster.rust {
        eventually("s22 has left", JOIN_MAX, || agent.holds("s22", State::Left));
    }
}

#[test]
fn a_serf_cluster_can_be_joined_by_us() {
    needs!(Serf);
    let range = Range::claim();
    let serf = Serf::start(&range, 21, &[]);
    let options = AgentOptions { seeds: vec![serf.gossip()], ..AgentOptions::default() };
    let agent = Agent::start(&range, 1, options);
    await_all(&[&serf, &agent], JOIN_MAX);
    assert_eq!(serf.complaints(), Vec::<String>::new());
}

#[test]
fn an_encrypted_serf_cluster_takes_us_with_its_key_only() {
    needs!(Serf);
    let range = Range::claim();
    let key = KEYS[2];
    let serf = Serf::start(&range, 21, &["-encrypt", key]);
    let seeds = vec![serf.gossip()];
    let keys = vec![key.to_owned()];
    let insider = AgentOptions { keys, seeds: seeds.clone(), ..AgentOptions::default() };
    let insider = Agent::start(&range, 1, insider);
    await_all(&[&serf, &insider], JOIN_MAX);
    let outsider = Agent::start(&range, 2, AgentOptions { seeds, ..AgentOptions::default() });
    hold("the outsider stays alone", SPREAD_MAX, || {
        let (inside, outside) = (serf.table()?.len(), outsider.table()?.len());
        if (inside, outside) == (2, 1) { Ok(()) } else { Err(format!("{inside} and {outside}")) }
    });
}
