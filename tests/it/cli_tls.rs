//! The agent and the commands through TLS: real processes, files that are exchanged, and what is
//! told when something is not as it should be.

use crate::agents::{Node, Running, until};
use crate::certificates::{Ca, Crowd, Signed, flags, self_signed_until};
use crate::program::{Ended, run, run_with};
use gossipykv::runtime::clock::Clock;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

fn start(ca: &Ca, signed: &Signed, more: &[&str]) -> Node {
    let flags = flags(ca, signed);
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Node::start("n", &flags, &[])
}

fn url(addr: SocketAddr) -> String {
    format!("https://localhost:{}", addr.port())
}

/// Runs a command against a node, with a CA to trust.
fn ask(node: &Node, ca: &Ca, args: &[&str]) -> Ended {
    run(&[args, &["--server", &url(node.http), "--ca-file", &ca.own_file()]].concat())
}

#[test]
fn commands_speak_https() {
    let ca = Ca::new();
    let node = start(&ca, &ca.sign(&["localhost"]), &[]);
    ask(&node, &ca, &["health"]).success();
    until("it is ready", || {
        (ask(&node, &ca, &["health", "--ready"]).code == Some(0)).then_some(())
    });
    ask(&node, &ca, &["kv", "put", "a", "one"]).success();
    assert_eq!(ask(&node, &ca, &["kv", "get", "a"]).success(), "one");
    ask(&node, &ca, &["members"]).success();
    assert!(ask(&node, &ca, &["status"]).success().contains("ready"));
    assert_eq!(ask(&node, &ca, &["kv", "get", "none"]).code, Some(3));
    // Without a token: the node's own host is enough.
    assert_eq!(ask(&node, &ca, &["keys", "list"]).code, Some(0));
    // By the variable, too.
    let variables = [("GOSSIPYKV_CA_FILE", &*ca.own_file()), ("GOSSIPYKV_SERVER", &url(node.http))];
    assert_eq!(run_with(&["kv", "get", "a"], &variables).success(), "one");
    // Many requests on connections of their own, both ways.
    let lines: String = (0..2_000)
        .map(|n| format!("{{\"key\":\"many/{n:04}\",\"value\":\"{}\"}}\n", "v".repeat(n % 300)))
        .collect();
    let file = ca.file("lines", &lines);
    let imported = ask(&node, &ca, &["kv", "import", &file]);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let exported = ask(&node, &ca, &["kv", "export", "many/"]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    assert_eq!(exported.text().lines().count(), 2_000);
    // A watch sees what comes.
    let args = ["watch", "seen/", "--server", &url(node.http), "--ca-file", &ca.own_file()];
    let watching = Running::start(&args, &[]);
    until("it watches", || {
        ask(&node, &ca, &["kv", "put", "seen/a", "x"]).success();
        watching.out().contains("put\tseen/a\tx").then_some(())
    });
}

#[test]
fn certificates_that_will_not_do_are_told_in_a_line() {
    let ca = Ca::new();
    let good = ca.sign(&["localhost", "kv.example"]);
    let node = start(&ca, &good, &[]);
    let (port, ca_file) = (node.http.port(), ca.own_file());
    let by_address = format!("https://127.0.0.1:{port}");
    let get = |server: &str, ca_file: &str| {
        run(&["kv", "get", "a", "--server", server, "--ca-file", ca_file])
    };
    let named = get(&by_address, &ca_file);
    let expected =
        format!("{by_address}: the certificate is for localhost, kv.example, not for 127.0.0.1");
    assert_eq!(named.error(5), expected);
    let other = Ca::new();
    let unknown = get(&url(node.http), &other.own_file());
    assert!(unknown.error(5).contains("signed by no CA that is trusted; give --ca-file"));
    // One that is a CA itself, and none of those that are trusted.
    let own = start(&ca, &self_signed_until(4000), &[]);
    let own = get(&url(own.http), &other.own_file());
    let expected = "signed by no CA that is trusted; give that certificate as --ca-file";
    assert!(own.error(5).ends_with(expected), "{own:?}");
    // The same of many requests at once, at once.
    let lines = ca.file("lines", "{\"key\":\"a\",\"value\":\"b\"}\n");
    let import = ["kv", "import", &lines, "--server", &by_address, "--ca-file", &ca_file];
    let import = run(&import);
    assert_eq!(import.code, Some(5), "{import:?}");
    assert!(import.err.contains("not for 127.0.0.1"), "{import:?}");
    // The other protocol, both ways.
    let plain = run(&["kv", "get", "a", "--server", &format!("http://localhost:{port}")]);
    assert!(plain.error(4).contains("this port speaks HTTPS: use https://"), "{plain:?}");
    let node = Node::start("p", &[], &[]);
    let secure = get(&url(node.http), &ca_file);
    assert!(secure.error(5).contains("it does not speak TLS; is it http://?"), "{secure:?}");
    // Files that are not what they should be; and no CA at all, as in an image from scratch.
    for (flag, path, said) in [
        ("--ca-file", "/nonexistent", "--ca-file: \"/nonexistent\": No such file"),
        ("--ca-file", &lines, "no certificate in PEM"),
        ("--client-cert", &ca_file, "--client-cert: give --client-key, too"),
        ("--client-key", &ca_file, "--client-key: give --client-cert, too"),
    ] {
        let ended = run(&["kv", "get", "a", "--server", "https://localhost:1", flag, path]);
        assert!(ended.error(2).contains(said), "{ended:?}");
    }
    let none = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nonexistent")];
    let none = run_with(&["kv", "get", "a", "--server", "https://localhost:1"], &none);
    assert!(none.error(2).contains("no store of CA certificates"), "{none:?}");
}

#[test]
fn an_expired_certificate_is_told_on_both_sides() {
    let ca = Ca::new();
    let mut node = start(&ca, &ca.sign_until(&["localhost"], 2021), &[]);
    node.process.logged("the HTTP certificate has expired: clients refuse it");
    let got = ask(&node, &ca, &["kv", "get", "a"]);
    assert!(
        got.error(5).contains("the certificate has expired, at 2021-01-01T00:00:00Z"),
        "{got:?}"
    );
    // That is no reason to end the node: who only asks whether it lives does not look.
    let health = ["health", "--server", &format!("https://127.0.0.1:{}", node.http.port())];
    run(&health).success();
    assert_eq!(run(&[&health[..], &["--ca-file", &ca.own_file()]].concat()).code, Some(1));
}

#[test]
fn commands_in_the_environment_of_an_agent_know_its_certificate() {
    let ca = Ca::new();
    let signed = ca.sign(&["kv.example"]);
    let node = start(&ca, &signed, &[]);
    let (listen, cert) = (node.http.to_string(), ca.path("cert.pem").display().to_string());
    let variables = [("GOSSIPYKV_HTTP", &*listen), ("GOSSIPYKV_HTTP_TLS_CERT", &*cert)];
    run_with(&["health"], &variables).success();
    run_with(&["kv", "put", "a", "one"], &variables).success();
    assert_eq!(run_with(&["kv", "get", "a"], &variables).success(), "one");
    // Another's will not do, by whatever CA; a token would be told to it.
    let other = ca.file("other.pem", &ca.sign(&["kv.example"]).chain);
    let variables = [("GOSSIPYKV_HTTP", &*listen), ("GOSSIPYKV_HTTP_TLS_CERT", &*other)];
    assert_eq!(run_with(&["kv", "get", "a"], &variables).code, Some(5));
    run_with(&["health"], &variables).success();
}

#[test]
fn a_certificate_that_is_its_own_ca_may_be_given_as_such() {
    let ca = Ca::new();
    for (year, code, said) in [(4000, 0, ""), (2021, 5, "the certificate has expired")] {
        let signed = self_signed_until(year);
        let node = start(&ca, &signed, &[]);
        let file = ca.file("self.pem", &signed.chain);
        let put =
            |server: &str| run(&["kv", "put", "a", "one", "--server", server, "--ca-file", &file]);
        let ended = put(&url(node.http));
        assert!(ended.code == Some(code) && ended.err.contains(said), "{ended:?}");
        let named = put(&format!("https://127.0.0.1:{}", node.http.port()));
        assert!(named.error(5).contains("is for localhost, not for 127.0.0.1"), "{named:?}");
    }
}

#[test]
fn certificates_of_clients() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let client_ca = clients.own_file();
    let node = start(&ca, &ca.sign(&["localhost"]), &["--http-tls-client-ca", &client_ca]);
    ask(&node, &ca, &["health"]).success();
    let got = ask(&node, &ca, &["kv", "get", "a"]);
    assert!(got.error(4).contains("403 Forbidden: this server wants a client's certificate"));
    // The secret of this host says more than a certificate.
    assert_eq!(ask(&node, &ca, &["keys", "list"]).code, Some(0));
    let shown = |signed: &Signed, args: &[&str]| {
        let (cert, key) =
            (ca.file("client.pem", &signed.chain), ca.file("client.key", &signed.key));
        ask(&node, &ca, &[args, &["--client-cert", &cert, "--client-key", &key]].concat())
    };
    let good = clients.sign(&["a client"]);
    shown(&good, &["kv", "put", "a", "one"]).success();
    assert_eq!(shown(&good, &["kv", "get", "a"]).success(), "one");
    let file = ca.file("lines", "{\"key\":\"b\",\"value\":\"b\"}\n");
    assert_eq!(shown(&good, &["kv", "import", &file]).code, Some(0));
    for args in [&["kv", "get", "a"][..], &["kv", "import", &file]] {
        let refused = shown(&ca.sign(&["a client"]), args);
        assert_eq!(refused.code, Some(4), "{refused:?}");
        assert!(refused.err.contains("it does not take our certificate"), "{refused:?}");
    }
}

#[test]
fn files_are_read_again_when_they_change_and_bad_ones_are_not() {
    let ca = Ca::new();
    let mut node = start(&ca, &ca.sign(&["localhost"]), &[]);
    let mut kept = ca.client(node.http, None);
    let metric = |name: &str| {
        let text = ca.client(node.http, None).ask("GET", "/metrics", b"").body;
        let text = String::from_utf8(text).expect("text");
        let begin = format!("gossipykv_http_tls_certificate_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&*begin)).map(str::to_owned);
        value.expect("the metric")
    };
    let expires = |year: u64| {
        until("it is in use", || {
            // January 1st of 4001 and of 4002.
            let wanted = 64_060_588_800 + (year - 4000) * 31_536_000 + 86_400;
            (metric("expires_timestamp_seconds") == wanted.to_string()).then_some(())
        })
    };
    // The key comes after the certificate: what lies between is not worth a word.
    let next = ca.sign_until(&["localhost"], 4001);
    ca.file("cert.pem", &next.chain);
    ca.file("key.pem", &next.key);
    expires(4001);
    node.process.logged("the HTTP certificate is read anew");
    assert_eq!(kept.ask("GET", "/live", b"").status, 200);
    // Bad ones, one after the other; each is told once, and the old one serves.
    let complaints =
        |node: &Node| node.process.log().matches("the HTTP certificate stays as it was").count();
    let bad = [
        ("cert.pem", "nothing".to_owned()),
        ("cert.pem", ca.sign(&["localhost"]).chain),
        ("cert.pem", ca.sign_until(&["localhost"], 2021).chain),
    ];
    for (n, (name, text)) in bad.into_iter().enumerate() {
        ca.file(name, &text);
        until("it says so", || (complaints(&node) == n + 1).then_some(()));
        assert_eq!((metric("stale"), kept.ask("GET", "/live", b"").status), ("1".to_owned(), 200));
    }
    std::fs::remove_file(ca.path("key.pem")).expect("it is there");
    until("it says so", || (complaints(&node) == 4).then_some(()));
    // An expired pair, as a whole.
    let old = ca.sign_until(&["localhost"], 2021);
    ca.file("cert.pem", &old.chain);
    ca.file("key.pem", &old.key);
    until("it says so", || node.process.log().contains("it has expired, at 2021").then_some(()));
    // SIGHUP has them read at once.
    let last = ca.sign_until(&["localhost"], 4002);
    ca.file("cert.pem", &last.chain);
    ca.file("key.pem", &last.key);
    node.process.signal(Signal::HUP);
    expires(4002);
    assert_eq!(metric("stale"), "0");
    assert_eq!(kept.ask("GET", "/live", b"").status, 200);
    assert!(!node.process.log().contains("PRIVATE"));
}

#[test]
fn files_that_are_replaced_under_load_cost_no_request() {
    let ca = Ca::new();
    let first = ca.sign(&["localhost"]);
    let mut node = start(&ca, &first, &[]);
    let addr = node.http;
    // What is served to who comes new, as it stands in the file.
    let served = |wanted: &Signed| {
        let wanted = CertificateDer::from_pem_slice(wanted.chain.as_bytes()).expect("one");
        let mut client = ca.client(addr, None);
        client.conn().peer_certificates().expect("a chain").first() == Some(&wanted)
    };
    let (told, refused) =
        ("the HTTP certificate is read anew", "the HTTP certificate stays as it was");
    Crowd::during(&ca, addr, |crowd| {
        // In place, without a moment at which the file is whole before it is read.
        let in_place = |name: &str, text: &str| {
            let (half, rest) = text.split_at(text.len() / 2);
            let mut file = File::create(ca.path(name)).expect("there");
            file.write_all(half.as_bytes()).expect("room");
            crowd.asks_on();
            file.write_all(rest.as_bytes()).expect("room");
        };
        let mut last = first;
        for round in 0..4 {
            let next = ca.sign(&["localhost"]);
            let files = [("cert.pem", &next.chain), ("key.pem", &next.key)];
            // The key first, which is another's then; some of them written over.
            let order = if round % 2 == 0 { files } else { [files[1], files[0]] };
            for (name, text) in order {
                if round < 2 {
                    ca.file(name, text);
                } else {
                    in_place(name, text);
                }
            }
            until("it is served", || served(&next).then_some(()));
            crowd.asks_on();
            // A pair that stays broken.
            let n_refused = node.process.log().matches(refused).count();
            let broken =
                if round % 2 == 0 { ca.sign(&["localhost"]).chain } else { "none".to_owned() };
            ca.file("cert.pem", &broken);
            let n_refused_now = || node.process.log().matches(refused).count();
            until("it is refused", || (n_refused_now() > n_refused).then_some(()));
            crowd.asks_on();
            assert!(served(&next), "the one before it serves on");
            last = next;
        }
        ca.file("cert.pem", &last.chain);
    });
    // The first may have come before the files were looked at for the first time.
    assert!(node.process.log().matches(told).count() >= 3);
    let why = node.process.logged(refused);
    assert!(why["error"].as_str().is_some_and(|why| why.contains("the key is not")), "{why}");
}

#[test]
fn a_file_that_would_block_is_refused_and_stops_neither_signals_nor_the_next_one() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let client_ca = ca.file("clients.pem", &clients.pem);
    let signed = ca.sign(&["localhost"]);
    let mut node = start(&ca, &signed, &["--http-tls-client-ca", &client_ca]);
    let blocks = |name: &str| {
        mkfifoat(CWD, ca.path("next"), Mode::RUSR | Mode::WUSR).expect("a pipe");
        std::fs::rename(ca.path("next"), ca.path(name)).expect("the same folder");
    };
    let files =
        [("cert.pem", &signed.chain), ("key.pem", &signed.key), ("clients.pem", &clients.pem)];
    for (name, text) in files {
        blocks(name);
        until("it says so", || {
            let log = node.process.log();
            let is_told = |line: &str| line.contains(name) && line.contains("not a regular file");
            log.lines().any(is_told).then_some(())
        });
        ca.file(name, text);
    }
    let next = ca.sign(&["localhost"]);
    ca.file("cert.pem", &next.chain);
    ca.file("key.pem", &next.key);
    node.process.logged("the HTTP certificate is read anew");
    blocks("key.pem");
    let complaints = |node: &Node| node.process.log().matches("not a regular file").count();
    until("it says so", || (complaints(&node) == 4).then_some(()));
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.end().0.code, Some(0));
}

#[test]
fn an_end_that_is_near_is_warned_of() {
    let ca = Ca::new();
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let now = Duration::from_millis(Clock::start().now().wall.0);
    params.not_after = (UNIX_EPOCH + now + Duration::from_secs(10 * 86_400)).into();
    let chain = params.self_signed(&key).expect("signed").pem();
    let mut node = start(&ca, &Signed { chain, key: key.serialize_pem() }, &[]);
    node.process.logged("the HTTP certificate expires soon");
}

#[test]
fn what_is_wrong_with_the_flags_is_told_together() {
    let ca = Ca::new();
    let (one, two) = (ca.sign(&["a"]), ca.sign(&["b"]));
    let (cert, key) = (ca.file("a.pem", &one.chain), ca.file("b.key", &two.key));
    let lines = |flags: &[&str]| {
        let ended = run(&[&["agent"], flags].concat());
        assert_eq!(ended.code, Some(2), "{ended:?}");
        ended.err
    };
    let said = lines(&["--http-tls-cert", &cert, "--profile", "mars"]);
    assert!(said.contains("--http-tls-cert: there is no key: give --http-tls-key"), "{said}");
    assert!(said.contains("--profile: "), "{said}");
    let said = lines(&["--http-tls-key", &key]);
    assert!(said.contains("--http-tls-key: there is no certificate"), "{said}");
    let said = lines(&["--http-tls-client-ca", &cert]);
    assert!(said.contains("--http-tls-client-ca: there is no certificate"), "{said}");
    let said = lines(&["--http-tls-cert", &cert, "--http-tls-key", &key]);
    assert!(said.contains("--http-tls-key: ") && said.contains("the key is not that of"), "{said}");
    let said = lines(&["--http-tls-cert", "/nonexistent", "--http-tls-key", &key]);
    assert!(said.contains("--http-tls-cert: \"/nonexistent\": No such file"), "{said}");
}

#[test]
fn a_key_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let ca = Ca::new();
    let flags = flags(&ca, &ca.sign(&["localhost"]));
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(ca.path("key.pem"), readable).expect("ours");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let node = Node::start("n", &flags, &[]);
    let log = node.process.log();
    assert!(log.contains("(--http-tls-key, mode 0644)") && log.contains("[expires 4000-"), "{log}");
}
