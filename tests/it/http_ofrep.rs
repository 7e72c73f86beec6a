//! Flags, as SDKs of OpenFeature ask for them.

use super::http_rig::{Answer, Rig, TestBridge, config, tokens};
use gossipykv::http::Config;
use gossipykv::node::command::Health;
use serde_json::{Value, json};

const FLAGS: &str = "/ofrep/v1/evaluate/flags";

fn evaluate(rig: &Rig, target: &str, headers: &str) -> Answer {
    let context = br#"{"context":{"targetingKey":"somebody","age":7}}"#;
    rig.send("POST", &format!("{FLAGS}{target}"), headers, context)
}

/// The body of a refusal.
#[track_caller]
fn is(answer: Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    answer.json()
}

#[test]
fn a_flag_is_evaluated() {
    let rig = Rig::new();
    rig.send("PUT", "/kv/flags%2Fnew-ui", "", b"true").is(200);
    let theme = br#"{"variants":{"a":"red","b":"blue"},"defaultVariant":"b"}"#;
    rig.send("PUT", "/kv/flags%2Ftheme", "", theme).is(200);
    let flag = evaluate(&rig, "/new-ui", "").is(200).json();
    assert_eq!(
        flag,
        json!({ "key": "new-ui", "value": true, "variant": "static", "reason": "STATIC" })
    );
    rig.send("PUT", "/kv?key=flags/a/b", "", b"7").is(200);
    assert_eq!(evaluate(&rig, "/a/b", "").is(200).json()["value"], 7);
    assert_eq!(evaluate(&rig, "/a%2Fb", "").is(200).json()["key"], "a/b");
    rig.ask("DELETE", "/kv?key=flags/a/b").is(200);
    let off = br#"{"variants":{"on":true},"defaultVariant":"on","state":"DISABLED"}"#;
    rig.send("PUT", "/kv/flags%2Foff", "", off).is(200);
    let off = evaluate(&rig, "/off", "");
    assert_eq!((off.status, &off.json()["errorCode"]), (404, &json!("FLAG_NOT_FOUND")));
    let theme = evaluate(&rig, "/theme", "").is(200).json();
    assert_eq!((&theme["value"], &theme["variant"]), (&json!("blue"), &json!("b")));
    let none = evaluate(&rig, "/none", "");
    assert_eq!((none.status, &none.json()["errorCode"]), (404, &json!("FLAG_NOT_FOUND")));
    let bad = rig.send("POST", &format!("{FLAGS}/new-ui"), "", b"{");
    assert_eq!((bad.status, &bad.json()["errorCode"]), (400, &json!("PARSE_ERROR")));
    let all = evaluate(&rig, "", "").is(200);
    assert_eq!(all.json()["flags"], json!([flag, theme]));
    let tag = format!("If-None-Match: {}\r\n", all.header("ETag").expect("a tag"));
    assert_eq!(evaluate(&rig, "", &tag).status, 304);
    rig.ask("DELETE", "/kv/flags%2Ftheme").is(200);
    assert_eq!(evaluate(&rig, "", &tag).is(200).json()["flags"], json!([flag]));
    rig.ask("GET", FLAGS).is(405);
}

#[test]
fn what_is_wrong_is_told_as_sdks_read_it() {
    let rig = Rig::new();
    rig.send("PUT", "/kv/flags%2Fon", "", b"true").is(200);
    for (target, body) in [("/on", "[]"), ("", "[]"), ("/on", "null"), ("", " null"), ("", "7")] {
        let told = is(rig.send("POST", &format!("{FLAGS}{target}"), "", body.as_bytes()), 400);
        assert_eq!(told["errorCode"], "PARSE_ERROR", "{target} {body}");
        let details = told["errorDetails"].as_str().expect("a text");
        assert!(details.contains("a JSON object") && !details.contains("struct"), "{details}");
    }
    rig.send("POST", FLAGS, "", b" {\"context\":null} ").is(200);
    for (target, headers) in
        [("", "If-None-Match: x\r\n"), ("?x=1", ""), ("/on?x=1", ""), ("/%FF", ""), ("/%", "")]
    {
        let told = is(evaluate(&rig, target, headers), 400);
        assert_eq!(told["errorCode"], "GENERAL", "{target}");
        let details = told["errorDetails"].as_str().expect("a text");
        assert!(!details.is_empty() && !details.contains("there are: "), "{details}");
    }
    is(evaluate(&rig, &format!("/{}", "k".repeat(513)), ""), 414);
    // null is no value of any type that an SDK asks for.
    rig.send("PUT", "/kv/flags%2Fnull", "", b"null").is(200);
    let theme = br#"{"variants":{"a":null},"defaultVariant":"a"}"#;
    rig.send("PUT", "/kv/flags%2Fvariant", "", theme).is(200);
    for key in ["null", "variant"] {
        let told = is(evaluate(&rig, &format!("/{key}"), ""), 400);
        assert_eq!((&told["errorCode"], &told["key"]), (&json!("PARSE_ERROR"), &json!(key)));
        assert!(told["value"].is_null() && told.get("value").is_none());
    }
    let all = evaluate(&rig, "", "").is(200).json();
    assert_eq!(all["flags"][0]["errorCode"], "PARSE_ERROR");
    assert_eq!(all["flags"][1]["value"], true);
}

#[test]
fn a_token_that_may_read_may_ask() {
    let rig = Rig::with(Config { tokens: Some(tokens("read r rrr\nwrite w www\n")), ..config() });
    evaluate(&rig, "", "").is(401);
    evaluate(&rig, "", "Authorization: Bearer rrr\r\n").is(200);
}

#[test]
fn a_node_that_is_not_ready_says_so_as_sdks_read_it() {
    let bridge = TestBridge::new(0);
    *bridge.health.lock().unwrap() = Health::Starting;
    let rig = Rig::over(config(), bridge);
    for target in ["", "/on"] {
        let answer = evaluate(&rig, target, "");
        assert_eq!(answer.header("Retry-After"), Some("1"), "{target}");
        let told = is(answer, 503);
        assert_eq!(told["errorCode"], "GENERAL", "{target}");
        let details = told["errorDetails"].as_str().expect("a text");
        assert!(details.contains("not ready"), "{details}");
    }
}
