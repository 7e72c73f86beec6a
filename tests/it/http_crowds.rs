//! Clients that ask for much, and those beside them.

use super::http_rig::{Client, PATIENCE, Rig, config, until};
use gossipykv::http::Reason;
use gossipykv::limits::{HTTP_BULK_DEPTH_MAX, HTTP_BULK_WAITING_MAX, HTTP_CONNECTIONS_MAX};
use gossipykv::node::command::Reply;
use std::sync::mpsc;

const LIST: &str = "GET /kv/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Connections for lists and long bodies.
const N_BULK: usize = 2;

/// Lists answered so far.
fn n_lists(rig: &Rig) -> usize {
    rig.metric("http_requests_total{route=\"/kv/\",status=\"2xx\"}") as usize
}

#[test]
fn what_nobody_waits_for_is_not_begun() {
    // All of it was worked off, and behind it the proof that the worker is alive: after 4,000 lists
    // that nobody waited for, the process took itself for stuck and ended.
    let rig = Rig::new();
    for key in ["/kv/a", "/kv/b"] {
        rig.send("PUT", key, "", &[0; 400 << 10]).is(200);
    }
    let n_clients = 400;
    let clients: Vec<Client> = (0..n_clients).map(|_| rig.client()).collect();
    for mut client in clients {
        client.raw(LIST);
    }
    until("they are forgotten", || rig.metric("http_connections") == 1.0);
    let n_worked_off = n_lists(&rig);
    assert!(n_worked_off < n_clients / 2, "{n_worked_off}");
    // Whoever still waits is answered.
    rig.ask("GET", "/kv/?keys").is(200);
}

#[test]
fn who_has_ended_sending_is_answered_all_the_same() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.raw(LIST);
    client.end();
    client.answer().is(200);
    assert!(client.is_closed());
}

#[test]
fn too_many_lists_are_refused_and_nothing_else() {
    let mut config = config();
    config.connections_max = HTTP_CONNECTIONS_MAX;
    let rig = Rig::with(config);
    for key in ["/kv/a", "/kv/b"] {
        rig.send("PUT", key, "", &[0; 400 << 10]).is(200);
    }
    let n_clients = N_BULK * (HTTP_BULK_DEPTH_MAX + HTTP_BULK_WAITING_MAX) + 400;
    let mut clients: Vec<Client> = (0..n_clients).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.raw(LIST);
    }
    until("some are refused", || rig.server.n_refused(Reason::Busy) > 0);
    rig.send("PUT", "/kv/c", "", b"v").is(200);
    rig.ask("GET", "/kv/c").is(200);
    rig.ask("GET", "/health").is(200);
    let mut told = clients.pop().expect("the last one");
    let answer = told.answer().is(503);
    assert_eq!(answer.header("Retry-After"), Some("1"));
}

#[test]
fn a_probe_waits_for_no_worker() {
    // It waited behind whatever the workers had to do.
    let rig = Rig::new();
    let (begun, is_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    rig.bridge.replies(move |_, reply_to| {
        begun.send(()).unwrap();
        let _ = may_go_on.recv_timeout(PATIENCE);
        reply_to(Reply::Members(Vec::new()));
        Ok(())
    });
    // More of them than there are workers, which all stand.
    let mut clients: Vec<Client> = (0..16).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.request("GET", "/members", "", b"");
    }
    is_begun.recv_timeout(PATIENCE).unwrap();
    let mut probe = rig.client();
    for target in ["/health", "/live"] {
        probe.ask("GET", target, "", b"").is(200);
        probe.ask("HEAD", target, "", b"").is(200);
        probe.ask("POST", target, "", b"body").is(405);
    }
    drop(go_on);
    for client in &mut clients {
        client.answer().is(200);
    }
}

#[test]
fn a_body_that_nobody_wants_is_not_held() {
    // 140 unfinished bodies to /health, without a token, and everybody else got 503.
    let rig = Rig::new();
    let part = "b".repeat(900_000);
    let mut clients = Vec::new();
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        for request in ["POST /health", "GET /kv/a", "PUT /members", "POST /none", "DELETE /kv/a"] {
            let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
            let mut client = rig.client();
            client.raw(head);
            if framing.contains("chunked") {
                client.raw(format!("{:x}\r\n", 1_000_000));
            }
            client.raw(&part);
            clients.push(client);
        }
    }
    assert_eq!(rig.metric("http_held_bytes"), 0.0);
    // The end of it is found all the same.
    for (n, client) in clients.iter_mut().enumerate() {
        client.raw("b".repeat(100_000));
        client.raw(if n < 5 { "" } else { "\r\n0\r\n\r\n" });
        client.raw("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let status = client.answer().status;
        assert!([200, 404, 405].contains(&status), "{status}");
        assert!(client.answer().is(200).text().contains("buildhash"));
    }
    // More than any body may have is refused as before.
    let mut client = rig.client();
    client.raw("GET /kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.raw(format!("{:x}\r\n{part}\r\n{:x}\r\n", part.len(), 200_000));
    client.answer().is(413);
}
