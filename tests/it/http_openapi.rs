//! The OpenAPI document says what the routes do, and all of it.

use super::http_rig::Rig;
use serde_json::Value;
use std::collections::BTreeSet;

fn document(rig: &Rig) -> Value {
    let answer = rig.ask("GET", "/openapi.json").is(200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    answer.json()
}

/// A target of a documented path, and the path itself.
fn paths(document: &Value) -> Vec<(String, &String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let target = |path: &String| match path.as_str() {
        "/kv" => "/kv?key=k".to_owned(),
        "/v1/status/{part}" => "/v1/status/leader".to_owned(),
        "/v1/agent/{part}" => "/v1/agent/self".to_owned(),
        "/v1/catalog/{part}" => "/v1/catalog/nodes".to_owned(),
        "/v1/catalog/{kind}/{name}" => "/v1/catalog/service/web".to_owned(),
        "/v1/health/{kind}/{name}" => "/v1/health/state/any".to_owned(),
        path => path.replace("{key}", "k").replace("{value}", "v"),
    };
    paths.iter().map(|(path, item)| (target(path), path, item)).collect()
}

/// What a reference stands for.
fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    let found = document.pointer(reference.trim_start_matches('#'));
    found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

/// The query parameters of an operation.
fn parameters(document: &Value, item: &Value, method: &str) -> BTreeSet<String> {
    let lists = [&item["parameters"], &item[method]["parameters"]];
    let all = lists.into_iter().filter_map(Value::as_array).flatten();
    let all = all.map(|parameter| resolve(document, parameter));
    let in_query = all.filter(|parameter| parameter["in"] == "query");
    in_query.map(|parameter| parameter["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn the_document_has_every_route_with_every_method() {
    let rig = Rig::new();
    let document = document(&rig);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (target, path, item) in paths(&document) {
        let item = item.as_object().expect("an item");
        let documented = item.keys().filter(|key| *key != "parameters");
        let documented: BTreeSet<String> = documented.map(|key| key.to_uppercase()).collect();
        let answer = rig.ask("OPTIONS", &target).is(204);
        let allowed = answer.header("Allow").expect("a list").split(", ");
        let allowed: BTreeSet<String> =
            allowed.filter(|method| *method != "OPTIONS").map(str::to_owned).collect();
        assert_eq!(documented, allowed, "{path}");
    }
    // The routes that are counted are the ones there are.
    let metrics = rig.ask("GET", "/metrics").is(200).text();
    let counted = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("gossipykv_http_requests_total{route=\"")?;
        rest.split('"').next()
    });
    let counted: BTreeSet<&str> = counted.filter(|route| *route != "other").collect();
    let all = paths(&document);
    let documented = all.iter().map(|(_, path, _)| path.as_str()).filter(|path| *path != "/kv");
    assert_eq!(documented.collect::<BTreeSet<&str>>(), counted);
}

#[test]
fn the_document_has_every_parameter_and_no_other() {
    let rig = Rig::new();
    let document = document(&rig);
    // Consul's API passes over what it does not know.
    let strict = |target: &str| target.starts_with("/kv");
    for (target, path, item) in paths(&document).into_iter().filter(|(t, ..)| strict(t)) {
        for method in ["get", "put", "delete", "post"] {
            if item.get(method).is_none() {
                continue;
            }
            let separator = if target.contains('?') { '&' } else { '?' };
            let wrong = format!("{target}{separator}no-such=1");
            let answer = rig.send(&method.to_uppercase(), &wrong, "", b"").is(400).json();
            let text = answer["error"].as_str().expect("a text");
            let (_, known) = text.split_once("there are: ").expect("a list of all");
            let mut known: BTreeSet<String> = known.split(", ").map(str::to_owned).collect();
            if path == "/kv" {
                known.insert("key".into());
            }
            assert_eq!(parameters(&document, item, method), known, "{method} {path}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document(&Rig::new());
    let (mut open, mut used) = (vec![&document], BTreeSet::new());
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    resolve(&document, value);
                    used.insert(reference.to_owned());
                }
                open.extend(fields.values());
            }
            Value::Array(values) => open.extend(values),
            _ => {}
        }
    }
    for kind in ["headers", "parameters", "responses", "schemas"] {
        for name in document["components"][kind].as_object().expect("components").keys() {
            assert!(used.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name}");
        }
    }
}
