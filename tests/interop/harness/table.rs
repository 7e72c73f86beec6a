//! One form for what any program thinks of the members.

use super::clock::{eventually, hold_once_in_three};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A member's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Alive,
    Suspect,
    Dead,
    Left,
}

/// What one program holds about one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub state: State,
    pub incarnation: u32,
    pub meta: Vec<u8>,
}

/// Members by name.
pub type Table = BTreeMap<String, Row>;

/// A member of a cluster, whoever wrote it.
pub trait Node {
    /// Its name.
    fn name(&self) -> &str;
    /// Where it gossips.
    fn gossip(&self) -> SocketAddr;
    /// What it thinks of the others and itself.
    fn table(&self) -> Result<Table, String>;
    /// Its process.
    fn process(&self) -> &super::Process;
    /// Makes it contact these.
    fn join(&mut self, seeds: &[SocketAddr]);
    /// Makes it tell the others that it goes. It may still run.
    fn leave(&mut self);

    /// Whether it holds `name` in `state`, and the row.
    fn holds(&self, name: &str, state: State) -> Result<Row, String> {
        let table = self.table()?;
        match table.get(name) {
            Some(row) if row.state == state => Ok(row.clone()),
            other => Err(format!("{} holds {name} as {other:?}", self.name())),
        }
    }
}

/// Whether a line of a log, memberlist's or ours, tells how probes, this node's or another's, went:
/// an answer that a busy machine made late, and what comes of it.
pub fn is_about_probes(line: &str) -> bool {
    const THEIRS: [&str; 2] = ["Refuting a ", "Failed fallback ping"];
    const OURS: [&str; 2] = ["took this node for dead", "member failed"];
    tells_of_tcp_only(line) || THEIRS.iter().chain(&OURS).any(|text| line.contains(text))
}

/// Whether a line tells that a probe was answered over TCP only.
pub fn tells_of_tcp_only(line: &str) -> bool {
    const TEXTS: [&str; 2] =
        ["probes failed, network may be misconfigured", "member answers over TCP only"];
    TEXTS.iter().any(|text| line.contains(text))
}

/// Waits until every node holds exactly these members, all alive; returns how long it took.
#[track_caller]
pub fn await_all(nodes: &[&dyn Node], within: Duration) -> Duration {
    let names: Vec<&str> = nodes.iter().map(|node| node.name()).collect();
    let (_, took) = eventually("all see all", within, || {
        for node in nodes {
            let table = node.table()?;
            let all_alive = table.values().all(|row| row.state == State::Alive);
            if !all_alive || table.len() != names.len() {
                let states: Vec<_> =
                    table.iter().map(|(name, row)| (name, row.state, row.incarnation)).collect();
                return Err(format!("{} sees {states:?}", node.name()));
            }
            if let Some(missing) = names.iter().find(|name| !table.contains_key(**name)) {
                return Err(format!("{} does not see {missing}", node.name()));
            }
        }
        Ok(())
    });
    took
}

/// Joins every node but the first to the one before it, and waits until all see all.
#[track_caller]
pub fn cluster_of(nodes: &mut [&mut dyn Node], within: Duration) -> Duration {
    for at in 1..nodes.len() {
        let seed = nodes[at - 1].gossip();
        nodes[at].join(&[seed]);
    }
    let nodes: Vec<&dyn Node> = nodes.iter().map(|node| &**node).collect();
    await_all(&nodes, within)
}

/// Watches that these see this many members, all alive, nobody ever accused: an accusation is seen
/// while it stands, and by the incarnation that refuted it.
#[track_caller]
pub fn hold_calm(observers: &[&dyn Node], n_members: usize, during: Duration) {
    let mut incarnations = BTreeMap::new();
    hold_once_in_three("all alive and nobody accused", during, || {
        let calm = observers.iter().try_for_each(|observer| {
            let table = observer.table()?;
            if table.len() != n_members {
                return Err(format!("{} sees {table:?}", observer.name()));
            }
            for (name, row) in table {
                let pair = (observer.name().to_owned(), name);
                let before = *incarnations.entry(pair.clone()).or_insert(row.incarnation);
                if row.state != State::Alive || row.incarnation != before {
                    return Err(format!("{pair:?}: {row:?}, incarnation {before} before"));
                }
            }
            Ok(())
        });
        if calm.is_err() {
            incarnations.clear();
        }
        calm
    });
}
