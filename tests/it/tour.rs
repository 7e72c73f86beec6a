//! A newcomer's tour: the blocks of commands in README and runbook, run as they stand.
//!
//! What is changed is only where things are: addresses of examples become addresses of this host,
//! secrets become ours, a bucket a folder. Clouds, builds and other programs are played by
//! functions of the shell; what `gossipykv` and `curl` do is done by them.

use crate::agents::Node;
use crate::program::command;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::Command;

/// How the shell plays what is not there. `PIDS` are ended with it.
const PRELUDE: &str = r#"
set -euo pipefail
PIDS=()
trap 'for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || :; done; wait' EXIT
gossipykv() {
    case "$1 $*" in
    agent*) "$PROGRAM" "$@" --log-level error & PIDS+=($!); ready "$@" ;;
    dev*)
        "$PROGRAM" "$@" >dev.out &
        PIDS+=($!)
        until grep -q Ctrl-C dev.out; do sleep 0.05; done
        ;;
    *--watch*) timeout 1 "$PROGRAM" "$@" || [ $? = 124 ] ;;
    *) "$PROGRAM" "$@" ;;
    esac
}
ready() {
    local http
    while [ "$1" != --http ]; do shift; done
    http=$2
    for _ in $(seq 200); do
        "$PROGRAM" health --ready --server "$http" 2>/dev/null && return
        sleep 0.05
    done
    echo "$http is never ready"
    return 1
}
cargo() { if [ "$1" = run ]; then shift 3; gossipykv "$@"; fi; }
aws() {
    case "$*" in
    *get-secret-value*) cat secret ;;
    *put-secret-value*) printf %s "${@: -1}" >secret ;;
    *) echo "aws $*?"; return 1 ;;
    esac
}
expect() {
    local out
    for _ in $(seq 200); do
        out=$(eval "$2")
        [ "$out" = "$1" ] && return
        sleep 0.05
    done
    echo "$2 says: $out"
    echo "the text says: $1"
    return 1
}
"#;

/// The commands of each block of a document, with the output that is shown behind them.
fn blocks(text: &str) -> Vec<Vec<(String, String)>> {
    let fenced = text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let commands = |block: &str| {
        let mut commands: Vec<(String, String)> = Vec::new();
        for line in block.lines() {
            match (line.strip_prefix("$ "), line.strip_prefix("> "), commands.last_mut()) {
                (Some(command), _, _) => commands.push((command.to_owned(), String::new())),
                (_, Some(more), Some((command, _))) => {
                    command.push('\n');
                    command.push_str(more);
                }
                (_, _, Some((_, shown))) => {
                    shown.push_str(line);
                    shown.push('\n');
                }
                _ => panic!("{line:?} belongs to no command"),
            }
        }
        commands
    };
    fenced.map(commands).collect()
}

/// Runs the blocks of a document that call us, with words replaced; how many commands that were.
fn run(document: &str, replaced: &[(&str, &str)], before: &str) -> usize {
    let mut script = format!("{PRELUDE}\n{before}\n");
    let mut n_commands = 0;
    for block in blocks(document) {
        let is_ours = |(command, _): &(String, String)| {
            ["gossipykv ", "curl ", "cargo run "].iter().any(|word| command.contains(word))
        };
        if !block.iter().any(is_ours) {
            continue;
        }
        for (command, shown) in block {
            if ["make ", "serf ", "gh "].iter().any(|other| command.starts_with(other)) {
                continue;
            }
            n_commands += 1;
            let (mut command, shown) = (command, shown.trim_end().to_owned());
            for (from, to) in replaced {
                command = command.replace(from, to);
            }
            if shown.is_empty() {
                writeln!(script, "{command}").expect("a string has room");
            } else {
                let quoted = command.replace('\'', "'\\''");
                writeln!(script, "expect '{shown}' '{quoted}'").expect("a string has room");
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("script"), &script).expect("room");
    let program = command(&[]).get_program().to_owned();
    let path = std::path::absolute(program).expect("a path");
    let ended = Command::new("bash")
        .args(["-x", "script"])
        .current_dir(folder.path())
        .env("PROGRAM", path)
        .output()
        .expect("bash is installed");
    let told = [&*ended.stdout, &ended.stderr].concat();
    assert!(ended.status.success(), "{}\n{script}", String::from_utf8_lossy(&told));
    n_commands
}

fn document(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).expect("a document of ours")
}

/// The first of some ports in a row that nobody listens on now.
fn free_ports() -> u16 {
    let base = 22_000 + u16::try_from(std::process::id() % 500).unwrap_or(0) * 20;
    let is_free = |first: &u16| {
        (*first..first + 8).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    (base..60_000).step_by(8).find(is_free).expect("free ports")
}

#[test]
fn what_the_readme_shows_works() {
    let first = free_ports();
    let dev = format!("-- dev --http-port {first} --gossip-port {}", first + 4);
    let [port, third] = [first, first + 2].map(|port| format!("localhost:{port}"));
    let net = format!("127.9.{}.", std::process::id() % 250 + 1);
    let replaced = [
        ("-- dev", &*dev),
        ("localhost:8080", &*port),
        ("localhost:8082", &*third),
        ("10.0.0.", &*net),
        ("s3://bucket/kv", "backups"),
    ];
    // The commands without a server speak to the first of the agents above them.
    let before = format!("mkdir backups; export GOSSIPYKV_SERVER=http://{net}1:8080");
    let n_commands = run(&document("README.md"), &replaced, &before);
    assert!(n_commands >= 14, "{n_commands}");
}

#[test]
fn what_the_runbook_shows_works() {
    let key = STANDARD.encode([7; 32]);
    let variables = [("GOSSIPYKV_ENCRYPT_KEYS", &*key), ("GOSSIPYKV_HTTP_TOKEN", "s3cret")];
    let seed = Node::start("a", &[], &variables);
    seed.await_ready();
    let join = ["--join", &*seed.gossip.to_string()];
    let other = Node::start("b", &join, &variables);
    other.await_ready();
    let url = seed.url();
    let replaced = [
        ("https://api.example", &*url),
        ("http://10.0.0.5:8080", &*url),
        ("https://kv.example", &*url),
        ("GOSSIPYKV_HTTP_TOKEN=...", "GOSSIPYKV_HTTP_TOKEN=s3cret"),
        ("s3://BUCKET/gossipykv/", "backups"),
    ];
    let before = format!(
        "printf %s '{key}' >secret; mkdir backups
         export GOSSIPYKV_SERVER={url} GOSSIPYKV_HTTP_TOKEN=s3cret
         gossipykv kv put restored yes; gossipykv backup backups
         export -n GOSSIPYKV_SERVER GOSSIPYKV_HTTP_TOKEN"
    );
    let n_commands = run(&document("docs/runbook.md"), &replaced, &before);
    assert!(n_commands >= 14, "{n_commands}");
}
