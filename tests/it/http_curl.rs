//! The API as a person uses it: with curl.

use super::http_rig::{Rig, config, tokens};
use std::io::Write as _;

#[test]
fn the_readme_works_as_printed() {
    let rig = Rig::new();
    assert_eq!(rig.curl(&["-X", "PUT"], "/kv/foo/bar"), r#"{"foo":"bar"}"#);
    assert_eq!(rig.curl(&[], "/kv/foo"), r#"{"foo":"bar"}"#);
    assert_eq!(rig.curl(&["-X", "DELETE"], "/kv/foo"), "");
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(rig.curl(&status, "/kv/foo"), "404");
    assert_eq!(rig.curl(&status, "/health"), "200");
    assert!(rig.curl(&["--head"], "/kv/foo").starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(
        rig.curl(&["-X", "OPTIONS", "-i"], "/kv/foo")
            .contains("\r\nAllow: GET, HEAD, PUT, DELETE, OPTIONS\r\n")
    );
    assert!(rig.curl(&["--http1.0"], "/version").contains("buildhash"));
    let list = ["-G", "--data-urlencode", "prefix=a b/", "-d", "limit=1"];
    rig.curl(&["-X", "PUT"], "/kv/a%20b%2Fc/1");
    assert!(rig.curl(&list, "/kv/").contains(r#""key":"a b/c","value":"1""#));
}

#[test]
fn files_go_up_and_come_down() {
    let rig = Rig::new();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..900_000_u32).flat_map(|n| n.to_le_bytes()).take(1 << 20).collect();
    file.write_all(&bytes).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let path = path.as_str();
    let back = tempfile::NamedTempFile::new().unwrap();
    let back_path = back.path().to_str().unwrap();
    let ways: [&[&str]; 4] = [
        &["-T", path, "-H", "Content-Type: image/jpeg"],
        // curl waits for 100 Continue here, for a second if none comes.
        &[
            "-T",
            path,
            "-H",
            "Content-Type: image/jpeg",
            "-H",
            "Expect: 100-continue",
            "--expect100-timeout",
            "10",
        ],
        &["-T", path, "-H", "Content-Type: image/jpeg", "-H", "Transfer-Encoding: chunked"],
        &["-X", "PUT", "--data-binary", &format!("@{path}"), "-H", "Content-Type: image/jpeg"],
    ];
    for (n, way) in ways.into_iter().enumerate() {
        let target = format!("/kv/photo{n}");
        assert!(rig.curl(way, &target).contains("\"size\":1048576"));
        let shown = rig.curl(&["-o", back_path, "-w", "%{content_type}"], &format!("{target}?raw"));
        assert_eq!(shown, "image/jpeg");
        assert!(std::fs::read(back_path).unwrap() == bytes);
    }
    // Too large: told, whatever curl has sent by then.
    file.write_all(b"x").unwrap();
    let answer = rig.curl(&["-T", path, "-w", " %{http_code}"], "/kv/photo");
    assert!(answer.contains("1048576 bytes") && answer.ends_with(" 413"), "{answer}");
    let chunked = ["-T", path, "-H", "Transfer-Encoding: chunked", "-w", " %{http_code}"];
    let answer = rig.curl(&chunked, "/kv/photo");
    assert!(answer.ends_with(" 413"), "{answer}");
}

#[test]
fn one_connection_serves_many_requests() {
    let rig = Rig::new();
    let url = format!("http://{}/kv/k[1-50]", rig.addr);
    let shown = rig.curl(
        &["-X", "PUT", "-d", "v", "-o", "/dev/null", "-w", "%{num_connects}", &url],
        "/health",
    );
    assert_eq!(shown.matches('1').count(), 1, "{shown}");
    assert_eq!(rig.metric("http_requests_total{route=\"/kv/{key}\",status=\"2xx\"}"), 50.0);
}

#[test]
fn the_token_is_a_bearer_token() {
    let mut config = config();
    config.tokens = Some(tokens("s3cret"));
    let rig = Rig::with(config);
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(rig.curl(&status, "/kv/a"), "401");
    assert_eq!(rig.curl(&status, "/health"), "200");
    assert_eq!(rig.curl(&["--oauth2-bearer", "s3cret", "-X", "PUT"], "/kv/a/b"), r#"{"a":"b"}"#);
}
