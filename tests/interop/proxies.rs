//! Proxies in front of an agent, with the settings that docs/proxies.md gives for them.

use crate::harness::{Agent, AgentOptions, Process, Range, eventually, needs, scratch};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const START_MAX: Duration = Duration::from_secs(10);
const DOCUMENT: &str = include_str!("../../docs/proxies.md");
/// Where the document has the nodes.
const NODES: [&str; 2] = ["10.0.0.5:8080", "10.0.0.6:8080"];

/// The settings that the document gives in this language, for an agent at this address.
fn settings(language: &str, agent: SocketAddr) -> String {
    let fence = format!("```{language}\n");
    let settings = DOCUMENT.split(&fence).nth(1).and_then(|rest| rest.split("```").next());
    let mut settings = settings.expect("the document has it").to_owned();
    for node in NODES {
        assert!(settings.contains(node), "{language}");
        settings = settings.replace(node, &agent.to_string());
    }
    settings
}

/// A proxy that runs, its agent, and where to ask.
struct Proxied {
    agent: Agent,
    url: String,
    _proxy: Process,
    _range: Range,
}

/// Starts `make`'s command once its file is written: it gets the settings for the agent, the
/// address to serve, and a folder of its own.
fn start(
    name: &str,
    language: &str,
    make: impl FnOnce(&str, SocketAddr, &Path) -> (String, Command),
) -> Proxied {
    let range = Range::claim();
    let agent = Agent::start(&range, 1, AgentOptions::default());
    let at = range.http(20);
    let folder = scratch().join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("cargo's directory is writable");
    let (text, command) = make(&settings(language, range.http(1)), at, &folder);
    std::fs::write(folder.join("settings"), text).expect("cargo's directory is writable");
    let proxy = Process::spawn(name, command);
    let url = format!("http://{at}/store");
    eventually("it passes requests on", START_MAX, || match curl(&[&format!("{url}/health")]) {
        answer if answer.starts_with("HTTP/1.1 200") => Ok(()),
        answer => Err(answer),
    });
    Proxied { agent, url, _proxy: proxy, _range: range }
}

/// Runs curl; returns head and body.
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-isS", "--max-time", "5"]).args(arguments).output();
    let output = output.expect("curl runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

impl Proxied {
    /// Asks through the proxy; the answer's head and body.
    #[track_caller]
    fn ask(&self, arguments: &[&str], target: &str, status: u16) -> String {
        let url = format!("{}{target}", self.url);
        let answer = curl(&[arguments, &["--path-as-is", &url]].concat());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
        answer
    }

    /// Everything that the document promises.
    fn check(&self) {
        self.check_keys();
        self.check_conditions();
        let page = self.ask(&[], "/", 200);
        assert!(page.contains("href=\"members\""), "{page}");
        self.ask(&[], "/members", 200);
        // What comes through a proxy is not local, though it comes over loopback.
        self.ask(&[], "/keys", 403);
    }

    fn check_keys(&self) {
        for (spelt, key) in [
            ("locks%2Fjob1", "locks/job1"),
            ("locks/job2", "locks/job2"),
            ("..", ".."),
            (".", "."),
            ("a//b", "a//b"),
            ("%2e%2e%2Fa", "../a"),
            ("a+b%2B%25", "a b+%"),
            ("%C3%BC", "\u{fc}"),
        ] {
            let target = format!("/kv?key={spelt}");
            for body in ["", "v"] {
                let put = self.ask(&["-X", "PUT", "-d", body], &target, 200);
                let named = format!("{{\"key\":\"{key}\",");
                assert!(put.contains(&named), "{spelt}: {put}");
            }
            let json = format!("{{\"{key}\":\"v\"}}");
            assert!(self.ask(&[], &target, 200).ends_with(&json), "{spelt}");
            let direct = self.agent.request("GET", &format!("/kv?key={spelt}"));
            assert_eq!(direct.expect("it serves").body, json.as_bytes(), "{spelt}");
            self.ask(&["-I"], &target, 200);
            self.ask(&["-X", "DELETE"], &target, 200);
            self.ask(&[], &target, 404);
        }
        let list = self.agent.json("/kv/").expect("it serves");
        assert_eq!(list["items"], serde_json::json!([]), "no other key was written");
    }

    /// A tag counts as it comes back from a proxy that has compressed the answer.
    fn check_conditions(&self) {
        let target = "/kv?key=long";
        self.ask(&["-X", "PUT", "-d", &"v".repeat(4_000)], target, 200);
        let answer =
            self.ask(&["-H", "Accept-Encoding: gzip", "-o", "/dev/null", "-D", "-"], target, 200);
        let lower = answer.to_ascii_lowercase();
        assert!(lower.contains("content-encoding: gzip"), "{answer}");
        assert!(lower.contains("cache-control: no-cache"), "{answer}");
        let tag = lower.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
        let unless = format!("If-None-Match: {}", tag.replace("w/", "W/"));
        self.ask(&["-H", "Accept-Encoding: gzip", "-H", &unless], target, 304);
        let only = format!("If-Match: {}", tag.replace("w/", "W/"));
        self.ask(&["-X", "PUT", "-H", &only, "-d", "w"], target, 200);
        self.ask(&["-X", "PUT", "-H", &only, "-d", "x"], target, 412);
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Process::command(program, None);
    command.args(arguments);
    command
}

fn path(folder: &Path) -> (String, PathBuf) {
    (folder.display().to_string(), folder.join("settings"))
}

#[test]
fn nginx_passes_on_what_it_gets() {
    needs!(Curl, Nginx);
    let proxied = start("nginx", "nginx", |settings, at, folder| {
        let (folder, file) = path(folder);
        let mut text = format!(
            "master_process off;\ndaemon off;\npid {folder}/pid;\nerror_log stderr;\n\
             events {{}}\nhttp {{\naccess_log off;\n"
        );
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(text, "{kind}_temp_path {folder}/{kind};").expect("a string has room");
        }
        text += &settings.replace("listen 80;", &format!("listen {at};"));
        let file = file.display().to_string();
        (text + "}\n", command("nginx", &["-p", &folder, "-e", "stderr", "-c", &file]))
    });
    proxied.check();
}

#[test]
fn haproxy_passes_on_what_it_gets() {
    needs!(Curl, Haproxy);
    let proxied = start("haproxy", "haproxy", |settings, at, folder| {
        let file = path(folder).1.display().to_string();
        let text = settings.replace("bind :80", &format!("bind {at}"));
        (text, command("haproxy", &["-db", "-f", &file]))
    });
    proxied.check();
}

#[test]
fn caddy_passes_on_what_it_gets() {
    needs!(Curl, Caddy);
    let proxied = start("caddy", "caddy", |settings, at, folder| {
        let (folder, file) = path(folder);
        let site = format!("http://{at} {{\nbind {}\n", at.ip());
        let text = "{\nadmin off\n}\n".to_owned() + &settings.replace(":80 {\n", &site);
        let file = file.display().to_string();
        let mut command = command("caddy", &["run", "--adapter", "caddyfile", "--config", &file]);
        command.envs([("HOME", &folder), ("XDG_DATA_HOME", &folder), ("XDG_CONFIG_HOME", &folder)]);
        (text, command)
    });
    proxied.check();
}

#[test]
fn apache_passes_on_what_it_gets() {
    const MODULES: [&str; 9] = [
        "mpm_event",
        "authz_core",
        "filter",
        "deflate",
        "slotmem_shm",
        "proxy",
        "proxy_http",
        "proxy_balancer",
        "lbmethod_byrequests",
    ];
    needs!(Curl, Apache);
    let proxied = start("apache", "apache", |settings, at, folder| {
        let (folder, file) = path(folder);
        let mut text = format!(
            "ServerRoot {folder}\nServerName localhost\nListen {at}\nPidFile {folder}/pid\n\
             ErrorLog /dev/stderr\nUser nobody\nGroup nogroup\nDefaultRuntimeDir {folder}\n"
        );
        for module in MODULES {
            let library = format!("/usr/lib/apache2/modules/mod_{module}.so");
            writeln!(text, "LoadModule {module}_module {library}").expect("a string has room");
        }
        text += &settings.replace("*:80", &at.to_string());
        let file = file.display().to_string();
        (text, command("apache2", &["-X", "-d", &folder, "-f", &file]))
    });
    proxied.check();
}
