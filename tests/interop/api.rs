//! The API as its own description has it: requests made of it, and clients made of it; and what
//! answers are like to requests that nobody would make.

use crate::harness::{
    Agent, AgentOptions, CLIENTS, Range, eventually, long, needs, scratch, setting,
};
use crate::scripts;
use std::time::Duration;

const READY_MAX: Duration = Duration::from_secs(30);

/// An agent alone, which is ready.
fn alone(range: &Range, flags: &[&str]) -> Agent {
    let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    let agent = Agent::start(range, 1, AgentOptions { flags, ..AgentOptions::default() });
    eventually("it is ready", READY_MAX, || agent.is_ready());
    agent
}

fn python() -> String {
    format!("{CLIENTS}/api/bin/python")
}

#[test]
fn every_answer_is_documented() {
    needs!(ApiClients);
    let range = Range::claim();
    let agent = alone(&range, &[]);
    let examples = if long() { "20000" } else { "400" };
    let said =
        scripts::script(&python(), "api/documented.py", &[&agent.http().to_string(), examples]);
    assert!(said.contains("checked"), "{said}");
    eprintln!("{said}");
}

#[test]
fn clients_made_of_the_description_work() {
    needs!(ApiClients);
    let range = Range::claim();
    let agent = alone(&range, &[]);
    let folder = scratch().join(format!("clients-{}", std::process::id()));
    let folder = folder.to_str().expect("a path of text");
    let npm = format!("{CLIENTS}/npm-page");
    let at = agent.http().to_string();
    let said = scripts::script(&python(), "api/clients.py", &[&at, folder, &npm]);
    assert_eq!(said.trim(), "checked: python, typescript");
}

#[test]
fn no_request_gets_an_answer_that_is_none() {
    needs!(ApiClients);
    let range = Range::claim();
    let mut agent = alone(&range, &["--max-value-bytes=65536", "--max-store-bytes=33554432"]);
    let requests = setting("GOSSIPYKV_HTTP_REQUESTS").unwrap_or_else(|| "20000".to_owned());
    let pid = agent.process_mut().pid().to_string();
    let at = agent.http().to_string();
    let said = scripts::script(&python(), "api/mutate.py", &[&at, &pid, &requests]);
    assert!(said.contains("checked"), "{said}");
    eprintln!("{said}");
}
