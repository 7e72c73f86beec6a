//! What the README shows, typed with curl.

use crate::harness::{BINARY, Process, eventually, free_ports, needs};
use rustix::process::Signal;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

const START_MAX: Duration = Duration::from_secs(10);
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const AT_ONCE: Duration = Duration::from_secs(1);

/// Runs curl; returns its status code and the body.
fn curl(arguments: &[&str]) -> (String, String) {
    let format = ["-s", "-S", "--max-time", "5", "-w", "\n%{http_code}"];
    let output = Command::new("curl").args(format).args(arguments).output().expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("the status on a line of its own");
    (status.to_owned(), body.to_owned())
}

#[track_caller]
fn check(arguments: &[&str], status: &str, body: &str) {
    assert_eq!(curl(arguments), (status.to_owned(), body.to_owned()), "curl {arguments:?}");
}

#[test]
fn dev_answers_as_the_readme_says() {
    needs!(Curl);
    let (http, gossip) = (free_ports(LOCALHOST, 18_000), free_ports(LOCALHOST, 23_000));
    let mut command = Process::command(&BINARY, None);
    command.args(["dev", "--http-port", &http.to_string(), "--gossip-port", &gossip.to_string()]);
    let mut dev = Process::spawn("dev", command);
    let url = |node: u16, path: &str| format!("localhost:{}{path}", http + node);
    eventually("the cluster is up", START_MAX, || {
        let up = (0..3).all(|node| curl(&[&url(node, "/health")]).0 == "200");
        if up { Ok(()) } else { Err("not all are ready") }
    });

    check(&["-X", "PUT", &url(0, "/kv/foo/bar")], "200", r#"{"foo":"bar"}"#);
    eventually("the third node has it at once", AT_ONCE, || match curl(&[&url(2, "/kv/foo")]) {
        (status, body) if status == "200" && body == r#"{"foo":"bar"}"# => Ok(()),
        other => Err(format!("{other:?}")),
    });
    check(&["-X", "DELETE", &url(1, "/kv/foo")], "200", "");
    for node in 0..3 {
        eventually("it is gone", AT_ONCE, || match curl(&[&url(node, "/kv/foo")]).0.as_str() {
            "404" => Ok(()),
            other => Err(other.to_owned()),
        });
    }

    check(&[&url(0, "/health")], "200", r#"{"status":"ok"}"#);
    let (status, body) = curl(&[&url(0, "/version")]);
    assert_eq!(status, "200");
    let version: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    for field in ["version", "buildhash", "builddate"] {
        assert!(version[field].is_string(), "{body}");
    }

    dev.signal(Signal::INT);
    let (status, _) = dev.wait_exit(START_MAX);
    assert_eq!(status.code(), Some(0), "Ctrl-C leaves cleanly");
}

#[test]
fn odd_keys_and_values_survive_the_shell() {
    needs!(Curl);
    use crate::harness::Trio;
    let trio = Trio::start(&[]);
    let at = |node: usize, path: &str| format!("http://{}{path}", trio.agents[node].http());
    let key = "/kv/a%2Fb%20c%C3%A9";
    check(&["-X", "PUT", &at(0, &format!("{key}/x%2Fy"))], "200", "{\"a/b c\u{e9}\":\"x/y\"}");
    eventually("on the second", AT_ONCE, || match curl(&[&at(1, key)]) {
        (status, body) if status == "200" && body == "{\"a/b c\u{e9}\":\"x/y\"}" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    check(
        &["--data-binary", "a=1&b=2", "-X", "PUT", "-o", "/dev/null", &at(0, "/kv/form")],
        "200",
        "",
    );
    check(&[&at(0, "/kv/form?raw")], "200", "a=1&b=2");
    let (status, _) = curl(&["-I", &at(0, "/kv/form")]);
    assert_eq!(status, "200");
    let (status, body) = curl(&["-X", "POST", &at(0, "/kv/form")]);
    assert_eq!(status, "405", "{body}");
    let (status, body) = curl(&[&at(0, "/nothing-here")]);
    assert_eq!(status, "404", "{body}");
}
