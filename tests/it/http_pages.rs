//! Web pages that reach a node through a browser: those that may, and those that may not.

use super::http_rig::{Answer, Client, Rig, config, tokens};
use gossipykv::http::{Config, HostName, Origin, Reason};

fn guarded() -> Config {
    Config { tokens: Some(tokens("s3cret")), ..config() }
}

/// One request by this name of the server.
#[track_caller]
fn by(rig: &Rig, method: &str, target: &str, host: &str) -> Answer {
    let mut client = rig.client();
    let length = if method == "PUT" { "Content-Length: 0\r\n" } else { "" };
    client.raw(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n"));
    client.answer()
}

#[test]
fn a_name_that_nobody_has_named_is_refused() {
    // A page of evil.example, whose name leads to this node by now, read and wrote.
    let rig = Rig::new();
    for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.x"] {
        for (method, target) in [("PUT", "/kv/a"), ("GET", "/kv/"), ("GET", "/"), ("GET", "/none")]
        {
            let answer = by(&rig, method, target, host).is(421);
            assert!(answer.text().contains("--http-host") && answer.text().contains(host));
        }
        // Health checks by whatever name tell nothing of the store.
        by(&rig, "GET", "/health", host).is(200);
        by(&rig, "GET", "/live", host).is(200);
        by(&rig, "OPTIONS", "/kv/a", host).is(204);
    }
    assert_eq!(rig.server.n_refused(Reason::Host), 16);
    rig.ask("GET", "/kv/a").is(404);
    for host in ["127.0.0.1", "10.0.0.7:8080", "[::1]:8080", "LocalHost:1", ""] {
        by(&rig, "GET", "/kv/", host).is(200);
    }
    let mut client = rig.client();
    client.raw("GET /kv/ HTTP/1.0\r\n\r\n");
    client.answer().is(200);
}

#[test]
fn names_may_be_named_and_a_token_needs_none() {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let hosts: Vec<HostName> = names(&["kv.example", "node1"]);
    let rig = Rig::with(Config { hosts, ..config() });
    for host in ["kv.example", "KV.example:8080", "node1:8080", "node1."] {
        by(&rig, "PUT", "/kv/a", host).is(200);
        // A name is no address: it makes nobody local.
        by(&rig, "GET", "/keys", host).is(403);
    }
    by(&rig, "GET", "/kv/a", "node2").is(421);
    let rig = Rig::with(Config { hosts: names(&["*"]), ..config() });
    by(&rig, "PUT", "/kv/a", "any.example").is(200);
    let rig = Rig::with(guarded());
    by(&rig, "GET", "/kv/a", "any.example").is(401);
    rig.send("GET", "/kv/a", "Authorization: Bearer s3cret\r\n", b"").is(404);
}

#[test]
fn what_may_be_asked_of_a_route_is_told_to_everybody() {
    // It was 405, which haproxy takes for a node that is down.
    for rig in [Rig::new(), Rig::with(guarded())] {
        for (target, allow) in [
            ("/", "GET, HEAD, OPTIONS"),
            ("*", "GET, HEAD, OPTIONS"),
            ("/kv/a", "GET, HEAD, PUT, DELETE, OPTIONS"),
            ("/kv?key=a", "GET, HEAD, PUT, DELETE, OPTIONS"),
            ("/kv/a/b", "PUT, OPTIONS"),
            ("/kv/", "GET, HEAD, POST, DELETE, OPTIONS"),
            ("/keys/use", "POST, OPTIONS"),
        ] {
            let mut client = rig.client();
            let answer = client.ask("OPTIONS", target, "", b"").is(204);
            assert_eq!(answer.header("Allow"), Some(allow), "{target}");
            assert_eq!(answer.header("Content-Length"), None);
            assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
            // The connection is in step.
            client.ask("GET", "/health", "", b"").is(200);
        }
        rig.ask("OPTIONS", "/none").is(404);
        // As haproxy asks.
        let mut client = rig.client();
        client.raw("OPTIONS / HTTP/1.0\r\n\r\n");
        assert_eq!(client.answer().is(204).header("Connection"), Some("close"));
    }
}

const ALLOWED: &str = "https://app.example";

fn with_origins(config: Config) -> Rig {
    let origins = ["http://other.example:3000", ALLOWED];
    let cors_origins: Vec<Origin> = origins.iter().map(|text| text.parse().unwrap()).collect();
    Rig::with(Config { cors_origins, ..config })
}

#[track_caller]
fn from(client: &mut Client, method: &str, target: &str, origin: &str, headers: &str) -> Answer {
    client.ask(method, target, &format!("Origin: {origin}\r\n{headers}"), b"")
}

#[test]
fn pages_of_named_origins_may_read_and_write() {
    let rig = with_origins(guarded());
    let mut client = rig.client();
    let wish = "Access-Control-Request-Method: PUT\r\n\
        Access-Control-Request-Headers: authorization,if-match\r\n";
    // A browser asks first, without the token.
    let asked = from(&mut client, "OPTIONS", "/kv/a", ALLOWED, wish).is(204);
    assert_eq!(asked.header("Access-Control-Allow-Origin"), Some(ALLOWED));
    assert!(asked.header("Access-Control-Allow-Methods").unwrap().contains("PUT"));
    for name in ["Authorization", "Content-Type", "If-Match", "If-None-Match", "X-Consul-Token"] {
        assert!(asked.header("Access-Control-Allow-Headers").unwrap().contains(name));
    }
    let token = "Authorization: Bearer s3cret\r\n";
    for (method, target, status) in [
        ("PUT", "/kv/a", 200),
        ("GET", "/kv/a", 200),
        ("HEAD", "/kv/b", 404),
        ("GET", "/members", 200),
    ] {
        let answer = from(&mut client, method, target, ALLOWED, token);
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(ALLOWED));
        assert_eq!(answer.header("Vary"), Some("Origin"));
        for name in ["ETag", "TTL", "Watch-Token", "X-Consul-Index"] {
            assert!(answer.header("Access-Control-Expose-Headers").unwrap().contains(name));
        }
    }
    // A refusal may be read, too.
    let refused = from(&mut client, "GET", "/kv/a", ALLOWED, "").is(401);
    assert_eq!(refused.header("Access-Control-Allow-Origin"), Some(ALLOWED));
    assert_eq!(refused.header("Connection"), Some("close"));
}

#[test]
fn pages_of_other_origins_learn_nothing() {
    let rig = with_origins(config());
    let mut client = rig.client();
    for origin in
        ["https://app.example.evil", "http://app.example", "https://app.example:1", "null"]
    {
        for method in ["OPTIONS", "GET"] {
            let answer = from(&mut client, method, "/kv/", origin, "");
            assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{origin}");
            assert_eq!(answer.header("Vary"), Some("Origin"));
        }
    }
    assert_eq!(client.ask("GET", "/kv/", "", b"").is(200).header("Vary"), Some("Origin"));
    // Being named makes no page local.
    from(&mut client, "GET", "/keys", ALLOWED, "").is(403);
    let rig = Rig::new();
    let answer = from(&mut rig.client(), "GET", "/kv/?count", ALLOWED, "").is(200);
    assert_eq!((answer.header("Vary"), answer.header("Access-Control-Allow-Origin")), (None, None));
}

#[test]
fn a_person_without_the_token_is_asked_for_it() {
    // A browser showed the JSON of the 401.
    let rig = Rig::with(guarded());
    let html = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let mut client = rig.client();
    for _ in 0..2 {
        let page = client.ask("GET", "/", html, b"");
        assert_eq!((page.status, page.header("WWW-Authenticate")), (401, Some("Bearer")));
        assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
        assert!(page.header("Content-Security-Policy").is_some());
        assert!(page.text().contains("id=\"token\"") && !page.text().contains("s3cret"));
        assert_eq!(client.ask("HEAD", "/", html, b"").status, 401);
    }
    assert_eq!(rig.server.n_refused(Reason::Token), 4);
    // Programs, and everything else, get what they got.
    rig.ask("GET", "/").is(401);
    rig.send("GET", "/kv/a", html, b"").is(401);
    rig.send("POST", "/", html, b"").is(401);
    let right = format!("{html}Authorization: Bearer s3cret\r\n");
    assert_eq!(rig.send("GET", "/", &right, b"").status, 200);
}

#[test]
fn the_page_may_run_its_own_script_and_no_other() {
    let page = Rig::new().ask("GET", "/").is(200);
    let policy = page.header("Content-Security-Policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(policy.contains("require-trusted-types-for 'script'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.text().matches("<script").count(), 1);
}
