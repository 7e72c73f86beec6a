//! `inspect` on the golden captures, with their keys and labels.

use crate::program::{Ended, run, run_fed};
use crate::vectors::{Vector, of_kind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

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
    let each: String = plain.iter().map(|v| inspect("packet", *v).text().to_owned()).collect();
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
    assert_eq!(kinds[1..4], ["error"; 3], "{objects:?}");
    assert!(kinds[0] != "error" && kinds[4] != "error" && kinds.len() == 5, "{objects:?}");
    assert_eq!((ended.code, &*ended.err), (Some(1), ""));
    assert_eq!(objects[1]["error"], "not hex: 'x' at column 1");
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
