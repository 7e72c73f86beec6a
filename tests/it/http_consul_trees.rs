//! Transactions of Consul's API that name all keys under a prefix.

use super::http_consul::{is, put, txn};
use super::http_rig::Rig;
use gossipykv::node::command::Bridge as _;
use serde_json::json;

#[test]
fn a_transaction_reads_and_deletes_trees() {
    let rig = Rig::new();
    for key in ["t/a", "t/b", "u"] {
        put(&rig, &format!("/v1/kv/{key}"), b"v");
    }
    let answer =
        txn(&rig, &json!([{"Verb": "get-tree", "Key": "t/"}, {"Verb": "get", "Key": "u"}]));
    assert_eq!(is(answer, 200).json()["Results"].as_array().map(Vec::len), Some(3));
    let answer = txn(&rig, &json!([{"Verb": "delete-tree", "Key": "t/"}]));
    assert_eq!(is(answer, 200).json(), json!({"Results": [], "Errors": null}));
    assert_eq!(is(rig.ask("GET", "/v1/kv/?keys"), 200).json(), json!(["u"]));
    let now = rig.bridge.now();
    for n in 0..4_100 {
        rig.bridge.store().put(now, format!("t/{n}").as_bytes(), b"", None).expect("room");
    }
    is(txn(&rig, &json!([{"Verb": "delete-tree", "Key": "t/"}])), 413);
}

#[test]
fn trees_of_a_transaction_have_what_it_wrote_before() {
    // What came of it depended on whether the keys had been there.
    let rig = Rig::new();
    let set = |key: &str| json!({"Verb": "set", "Key": key, "Value": "dg=="});
    let tree = |verb: &str| json!({"Verb": verb, "Key": "t/"});
    for _ in 0..2 {
        let answer = is(txn(&rig, &json!([set("t/a"), tree("get-tree")])), 200).json();
        assert_eq!(answer["Results"][1]["KV"]["Key"], "t/a");
        assert_eq!(answer["Results"][1]["KV"]["Value"], "dg==");
    }
    put(&rig, "/v1/kv/t/old", b"v");
    // A folder is replaced, whatever it had.
    let replace = json!([tree("delete-tree"), set("t/a"), tree("get-tree")]);
    for _ in 0..2 {
        let answer = is(txn(&rig, &replace), 200).json();
        assert_eq!(answer["Results"].as_array().map(Vec::len), Some(2), "{answer}");
        assert_eq!(is(rig.ask("GET", "/v1/kv/?keys"), 200).json(), json!(["t/a"]));
    }
    for key in ["t/a", "t/new"] {
        is(txn(&rig, &json!([set(key), tree("delete-tree")])), 400);
        is(txn(&rig, &json!([tree("delete-tree"), tree("delete-tree")])), 200);
    }
    assert_eq!(is(rig.ask("GET", "/v1/kv/?keys"), 200).json(), json!([]));
}
