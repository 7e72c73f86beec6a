//! The page for a person, in a browser: at two nodes of three, one of them behind a path prefix.

use crate::harness::{Agent, AgentOptions, CLIENTS, Range, Trio, eventually, needs, scratch};
use crate::scripts;
use std::time::Duration;

const READY_MAX: Duration = Duration::from_secs(30);

#[test]
fn a_person_works_with_the_page() {
    needs!(Browser);
    let mut trio = Trio::start(&["--max-store-bytes=268435456", "--max-value-bytes=8388608"]);
    let pid = trio.agents[2].process_mut().pid().to_string();
    let nodes: Vec<String> = trio.agents.iter().map(|agent| agent.http().to_string()).collect();
    let pictures = scratch().join("pictures");
    let axe = format!("{CLIENTS}/npm-page/node_modules/axe-core/axe.min.js");
    let mut arguments = vec![pictures.to_str().expect("a path of text"), &axe];
    arguments.extend(nodes.iter().map(String::as_str));
    arguments.push(&pid);
    let said =
        scripts::script(&format!("{CLIENTS}/browser/bin/python"), "page/page.py", &arguments);
    assert!(said.starts_with("checked: "), "{said}");
    // How it went, with the output of the tests.
    eprintln!("{said}");
}

#[test]
fn a_person_is_asked_for_the_token_and_told_why_a_node_is_not_ready() {
    needs!(Browser);
    const TOKEN: &str = "s3cret-token-of-the-page";
    let range = Range::claim();
    let file = scratch().join(format!("page-token-{}", range.ip(1)));
    std::fs::write(&file, TOKEN).expect("cargo's directory is writable");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).expect("it is ours");
    let flags = vec!["--http-token-file".to_owned(), file.display().to_string()];
    let guarded = Agent::start(&range, 1, AgentOptions { flags, ..AgentOptions::default() });
    // Whom it is to join never answers.
    let seeds = vec![range.gossip(9)];
    let starting = Agent::start(&range, 2, AgentOptions { seeds, ..AgentOptions::default() });
    eventually("it is ready", READY_MAX, || guarded.is_ready());
    let [guarded, starting] = [guarded.http(), starting.http()].map(|http| http.to_string());
    let arguments = [guarded.as_str(), TOKEN, &starting];
    let python = format!("{CLIENTS}/browser/bin/python");
    assert_eq!(scripts::script(&python, "page/shut.py", &arguments).trim(), "checked");
}
