//! What a dashboard, an alert or a page shows is what a running node tells: every metric by its
//! name, with every label that is selected by. (The tidy tests compare with the source alone.)

use crate::agents::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const SHOWN: [&str; 4] = [
    "deploy/compose/grafana/dashboards/gossipykv.json",
    "deploy/compose/prometheus/alerts.yml",
    "docs/runbook.md",
    "docs/http.md",
];

/// The label that tells clusters apart; Prometheus adds it as it scrapes.
const OF_THE_SCRAPE: &str = "cluster";

/// Metrics by name, and the names of their labels.
type Metrics = BTreeMap<String, BTreeSet<String>>;

/// Each `gossipykv_name` of a text with its `{label="value",..}`, whatever stands between.
fn metrics(text: &str) -> Metrics {
    let mut found = Metrics::new();
    for rest in text.split("gossipykv_").skip(1) {
        let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !part_of_name(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let labels = found.entry(name.to_owned()).or_default();
        let selected = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        for part in selected.map_or("", |(selected, _)| selected).split(',') {
            let label = part.split(['=', '!']).next().unwrap_or_default().trim();
            if !label.is_empty() {
                labels.insert(label.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_metric_shown_is_told_by_a_node() {
    let [node, _peer] = Node::cluster::<2>(&[], &[]);
    let (status, page) = node.get("/metrics").expect("an answer");
    assert_eq!(status, 200, "{page}");
    let told = metrics(&page);
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut problems = Vec::new();
    let mut n_shown = 0;
    for path in SHOWN {
        let text = fs::read_to_string(top.join(path)).expect(path);
        for (name, labels) in metrics(&text) {
            n_shown += 1;
            match told.get(&name) {
                None => problems.push(format!("{path}: no metric gossipykv_{name}")),
                Some(known) => problems.extend(
                    labels
                        .difference(known)
                        .filter(|label| *label != OF_THE_SCRAPE)
                        .map(|label| format!("{path}: gossipykv_{name} has no label {label}")),
                ),
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?} in\n{page}");
    assert!(n_shown > 40, "only {n_shown} were found");
}

#[test]
fn names_and_labels_are_found() {
    let text = r#"sum(rate(gossipykv_a_total{x=\"1\", y!~\"2\"}[1m])) and gossipykv_b > 1"#;
    let labels = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let expected = [("a_total".to_owned(), labels(&["x", "y"])), ("b".to_owned(), labels(&[]))];
    assert_eq!(metrics(text), Metrics::from(expected));
}
