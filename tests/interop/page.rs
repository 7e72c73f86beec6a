//! The page for a person, in a browser: at two nodes of three, one of them behind a path prefix.

use crate::harness::{CLIENTS, Trio, needs, scratch};
use crate::scripts;

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
