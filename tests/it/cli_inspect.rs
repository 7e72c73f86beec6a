//! `inspect` on the golden captures, with their keys and labels.

use crate::program::{Ended, run, run_fed, run_with};
use crate::vectors::{Vector, of_kind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gossipykv::kv::{HlcTime, OriginId, Record, Stamp};
use gossipykv::node::replication::message::{Ack, KeyRequest, KvMessage, Push};
use gossipykv::wire::type_byte;
use serde_json::{Value, json};

fn flags(vector: Vector) -> Vec<String> {
    let mut flags = Vec::new();
    let key = vector.param_bytes("key");
    if !key.is_empty() {
        flags.push(format!("--key={}", STANDARD.encode(key)));
    }
    if !vector.param("label").is_empty() {
        flags.push(format!("--label={}", vector.param("label")));
    }
    flags
}

fn inspect(kind: &str, vector: Vector) -> Ended {
    let flags = flags(vector);
    let args = ["inspect", kind].into_iter().chain(flags.iter().map(String::as_str));
    run(&args.chain([vector.text("hex")]).collect::<Vec<_>>())
}

fn objects(ended: &Ended) -> Vec<Value> {
    ended.text().lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

fn types(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["type"].as_str().unwrap_or("error")).collect()
}

#[test]
fn packets() {
    let mut layers = std::collections::BTreeSet::new();
    for vector in of_kind("packet") {
        let ended = inspect("packet", vector);
        let objects = objects(&ended);
        let truncated = vector.id() == "packet/compound-truncated";
        assert_eq!(ended.code, Some(i32::from(truncated)), "{}: {ended:?}", vector.id());
        assert_eq!(ended.err, "", "{}", vector.id());
        assert_eq!(objects.iter().any(|o| o.get("error").is_some()), truncated, "{}", vector.id());
        assert!(!objects.is_empty(), "{}", vector.id());
        if let Some(messages) = vector.decoded()["messages"].as_array() {
            let tail = &objects[objects.len() - messages.len()..];
            for (object, message) in tail.iter().zip(messages) {
                for (name, value) in message["fields"].as_object().into_iter().flatten() {
                    assert_eq!(object[name], *value, "{}: {name}", vector.id());
                }
            }
        }
        layers.extend(types(&objects).iter().map(|layer| layer.to_string()));
    }
    for layer in ["hasLabel", "encrypt", "hasCrc", "compound", "compress", "ping", "alive"] {
        assert!(layers.contains(layer), "no capture has {layer}: {layers:?}");
    }
}

#[test]
fn streams() {
    for vector in of_kind("stream") {
        let ended = inspect("stream", vector);
        assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}: {ended:?}", vector.id());
        let objects = objects(&ended);
        let decoded = vector.decoded();
        let last = objects.last().expect("a line");
        for name in ["UserMsgLen", "user_state"] {
            if let Some(value) = decoded.get(name) {
                assert_eq!(last[name], *value, "{}", vector.id());
            }
        }
    }
}

#[test]
fn many_captures_one_a_line() {
    let is_plain =
        |vector: &Vector| flags(*vector).is_empty() && vector.id() != "packet/compound-truncated";
    let plain: Vec<Vector> = of_kind("packet").into_iter().filter(is_plain).take(3).collect();
    let each: Vec<String> = plain.iter().map(|v| inspect("packet", *v).text().to_owned()).collect();
    let separator = |n: u8| format!("{{\"number\":{n},\"type\":\"capture\"}}\n");
    let each = [&*each[0], &separator(2), &each[1], &separator(3), &each[2]].concat();
    let lines: String = plain.iter().map(|v| format!("{}\n\n", v.text("hex"))).collect();
    for args in [&["inspect", "packet"][..], &["inspect", "packet", "-"]] {
        assert_eq!(run_fed(args, lines.as_bytes()).success(), each);
        assert_eq!(run_fed(args, lines.trim_end().as_bytes()).success(), each);
    }
    let spaced = plain[0].bytes().iter().map(|b| format!("{b:02X}:")).collect::<String>();
    let spaced = run_fed(&["inspect", "packet"], spaced.as_bytes());
    assert_eq!(spaced.success(), inspect("packet", plain[0]).text());
    assert_eq!(run_fed(&["inspect", "packet"], b"").success(), "");
}

#[test]
fn what_cannot_be_decoded_is_told_and_the_rest_goes_on() {
    let good = of_kind("message")[0].text("hex");
    let input = format!("{good}\nxyz\n{good}0\n\u{e9}\n{good}\n");
    let ended = run_fed(&["inspect", "packet"], input.as_bytes());
    let objects = objects(&ended);
    let kinds = types(&objects);
    assert!(kinds[0] != "error" && kinds.len() == 9, "{objects:?}");
    let expected = ["capture", "error", "capture", "error", "capture", "error", "capture"];
    assert_eq!(kinds[1..8], expected, "{objects:?}");
    assert!(kinds[8] != "error", "{objects:?}");
    assert_eq!((ended.code, &*ended.err), (Some(1), ""));
    assert_eq!(objects[2]["error"], "not hex: 'x' at column 1");
    assert_eq!(run(&["inspect", "packet", "xyz"]).code, Some(1));
    assert_eq!(run(&["inspect", "stream", ""]).code, Some(1));
}

#[test]
fn an_encrypted_capture_wants_its_key() {
    let encrypted = |vector: &Vector| !vector.param("key").is_empty();
    let vector = of_kind("packet").into_iter().find(encrypted).expect("an encrypted capture");
    let label = format!("--label={}", vector.param("label"));
    let without = run(&["inspect", "packet", &label, vector.text("hex")]);
    assert_eq!(without.code, Some(1));
    assert!(without.text().contains("an encrypted datagram needs its key"), "{without:?}");
    let other = format!("--key={}", STANDARD.encode([7; 32]));
    let right = flags(vector).remove(0);
    let both = run(&["inspect", "packet", &label, &other, &right, vector.text("hex")]);
    assert_eq!((both.code, &*both.err), (Some(0), ""), "{both:?}");
    assert!(both.text().contains("\"type\":\"encrypt\""));
}

/// A write of the key `a/b` as one of our datagrams.
fn push() -> Vec<u8> {
    let origin = OriginId(0xfe);
    let stamp = Stamp { time: HlcTime(0x01a2_287b_8c28_0000), origin };
    let records = vec![
        Record::new(stamp, 7, b"a/b", Some((b"value", Some("text/x")))),
        Record::new(stamp, 8, b"gone", None),
    ];
    let head = Push { of: 0xfe, settles: vec![(7, 8)], from: 0xfe, urgent: true };
    [&[8][..], &KvMessage::Push(head, records).encode()].concat()
}

#[test]
fn our_own_messages_are_told_with_the_keys_they_write() {
    let hex: String = push().iter().map(|byte| format!("{byte:02x}")).collect();
    let objects = objects(&run(&["inspect", "packet", &hex]));
    assert_eq!(types(&objects), ["user", "kv.push"], "{objects:?}");
    let version = "01a2287b8c280000-00000000000000fe";
    assert_eq!(
        objects[1]["records"][0],
        json!({
            "key": "a/b", "value": "value", "version": version, "seq": 7, "content_type": "text/x",
        })
    );
    assert_eq!(
        objects[1]["records"][1],
        json!({
            "key": "gone", "deleted": true, "version": version, "seq": 8,
        })
    );
    assert_eq!(
        (&objects[1]["of"], &objects[1]["settles"][0][1]),
        (&"00000000000000fe".into(), &8.into())
    );
}

#[test]
fn a_gossip_key_in_a_message_is_shown_by_its_fingerprint() {
    let request = KeyRequest { id: 1, action: 1, key: vec![7; 32].into() };
    let payload = KvMessage::KeyRequest(request).encode();
    let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let stream = [&[type_byte::KV][..], &len, &payload].concat();
    let hex: String = stream.iter().map(|byte| format!("{byte:02x}")).collect();
    let told = objects(&run(&["inspect", "stream", &hex]));
    assert_eq!(types(&told), ["kv", "kv.keyRequest"], "{told:?}");
    let ring = gossipykv::wire::keyring::Keyring::parse(&STANDARD.encode([7; 32])).expect("a key");
    assert_eq!(told[1]["key"], ring.keys()[0].fingerprint());
    assert_eq!(told[1]["action"], "install");
}

#[test]
fn addresses_stand_beside_their_bytes() {
    let vector = of_kind("packet").into_iter().find(|vector| {
        let told = inspect("packet", *vector);
        told.text().contains("\"type\":\"alive\"")
    });
    let told = objects(&inspect("packet", vector.expect("a capture of an alive")));
    let alive = told.iter().find(|object| object["type"] == "alive").expect("it");
    let address: std::net::SocketAddr =
        alive["Address"].as_str().expect("an address").parse().expect("one");
    assert_eq!(alive["Port"], address.port());
}

/// UDP from port 7947 of 10.0.0.1 over Ethernet, or a segment of TCP with this number.
fn frame(payload: &[u8], seq: Option<u32>) -> Vec<u8> {
    let transport = match seq {
        None => {
            let len = u16::try_from(8 + payload.len()).expect("short").to_be_bytes();
            [&[0x1f, 0x0b, 0x1f, 0x0b][..], &len, &[0; 2], payload].concat()
        }
        Some(seq) => {
            let head = [&[0x1f, 0x0b, 0x1f, 0x0b][..], &seq.to_be_bytes(), &[0; 4]].concat();
            [&head[..], &[0x50, 0x18, 0, 0, 0, 0, 0, 0], payload].concat()
        }
    };
    let len = u16::try_from(20 + transport.len()).expect("short").to_be_bytes();
    let protocol = if seq.is_some() { 6 } else { 17 };
    let ip = [&[0x45, 0][..], &len, &[0, 0, 0x40, 0, 64, protocol, 0, 0]].concat();
    [&[0; 12][..], &[8, 0], &ip, &[10, 0, 0, 1, 10, 0, 0, 2], &transport].concat()
}

fn pcap(frames: &[Vec<u8>]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let mut writer = pcap_file::pcap::PcapWriter::new(file.as_file_mut()).expect("room");
    for (n, frame) in (0..).zip(frames) {
        let at = std::time::Duration::from_secs(1_700_000_000 + n);
        let len = u32::try_from(frame.len()).expect("short");
        let packet = pcap_file::pcap::PcapPacket::new(at, len, frame);
        writer.write_packet(&packet).expect("room");
    }
    file
}

#[test]
fn files_of_tcpdump_are_read_with_keys_of_a_file() {
    let encrypted = |vector: &Vector| !vector.param("key").is_empty();
    let vector = of_kind("packet").into_iter().find(encrypted).expect("an encrypted capture");
    let captured = pcap(&[frame(&push(), None), frame(&vector.bytes(), None), frame(b"", Some(1))]);
    let captured = captured.path().display().to_string();
    let mut keys = tempfile::NamedTempFile::new().expect("a file");
    use std::io::Write as _;
    writeln!(keys, "{}", STANDARD.encode(vector.param_bytes("key"))).expect("room");
    let keys_path = keys.path().display().to_string();
    let label = format!("--label={}", vector.param("label"));
    let args = ["inspect", "packet", "--pcap", &captured, &label];
    let ended = run(&[&args[..], &["--encrypt-keys-file", &keys_path]].concat());
    let told = objects(&ended);
    let captures: Vec<&Value> = told.iter().filter(|o| o["type"] == "capture").collect();
    assert_eq!(captures.len(), 2, "{told:?}");
    assert_eq!(
        (&captures[1]["from"], &captures[1]["number"]),
        (&"10.0.0.1:7947".into(), &2.into())
    );
    assert_eq!(captures[1]["time"], "2023-11-14T22:13:21.000000Z");
    assert!(types(&told).contains(&"kv.push") && types(&told).contains(&"encrypt"), "{told:?}");
    // The variable of the agent does as well.
    let key = STANDARD.encode(vector.param_bytes("key"));
    let by_variable = run_with(&args, &[("GOSSIPYKV_ENCRYPT_KEYS", &key)]);
    assert_eq!(by_variable.text(), ended.text());
    let none = objects(&run(&[&args[..], &["--port=1"]].concat()));
    assert!(none.is_empty(), "{none:?}");
    let wrong = run(&["inspect", "packet", "--pcap", &keys_path]);
    assert!(wrong.error(1).contains(": no pcap file: "), "{wrong:?}");
}

#[test]
fn the_sides_of_connections_are_put_together() {
    let payload = KvMessage::Ack(Ack { from: 1, of: 2, through: 3 }).encode();
    let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let stream = [&[type_byte::KV][..], &len, &payload].concat();
    let (a, b) = stream.split_at(6);
    let late = 100 + u32::try_from(a.len()).expect("short");
    let captured = pcap(&[frame(a, Some(100)), frame(a, Some(100)), frame(b, Some(late))]);
    let captured = captured.path().display().to_string();
    let told = objects(&run(&["inspect", "stream", "--pcap", &captured]));
    assert_eq!(types(&told), ["capture", "kv", "kv.ack"], "{told:?}");
    assert_eq!(told[2]["through"], 3);
}
