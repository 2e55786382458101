//! The dashboard and the alerts in `contrib/` ask for what is there.

use std::collections::BTreeSet;
use std::path::Path;

use gantry_testkit::{Endpoint, Fault};
use serde_json::Value;

use super::*;
use crate::harness::{Host, job};

/// A metric in a query, with the labels that the query names for it.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    metric: String,
    labels: Vec<String>,
}

/// Words of PromQL that are no metric.
const WORDS: [&str; 20] = [
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "rate",
    "increase",
    "histogram_quantile",
    "by",
    "without",
    "on",
    "ignoring",
    "and",
    "or",
    "unless",
    "bool",
    "group_left",
    "group_right",
    "label_values",
    "le",
];

/// Metrics of a query with their matchers, and the labels it groups by.
fn read_query(query: &str) -> (Vec<Asked>, BTreeSet<String>) {
    let mut metrics: Vec<Asked> = Vec::new();
    let mut grouped = BTreeSet::new();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = query;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '[' || c == '"') {
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('[') {
            // A range: a time or a variable.
            rest = after.split_once(']').expect("the end of a range").1;
            continue;
        }
        assert!(
            !rest.starts_with('"'),
            "a text outside of matchers: {query}"
        );
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if matches!(name, "by" | "without" | "on" | "ignoring") {
            let inside = rest
                .trim_start()
                .strip_prefix('(')
                .expect("a list of labels");
            let (list, after) = inside.split_once(')').expect("its end");
            grouped.extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if !WORDS.contains(&name) {
            let mut labels = Vec::new();
            if let Some(mut inside) = rest.strip_prefix('{') {
                while !inside.starts_with('}') {
                    inside = inside.trim_start_matches([',', ' ']);
                    let end = inside.find(|c| !word(c)).expect("an operator");
                    labels.push(inside[..end].to_owned());
                    let (_, value) = inside.split_once('"').expect("a value");
                    inside = value.split_once('"').expect("its end").1;
                }
                rest = &inside[1..];
            }
            metrics.push(Asked {
                metric: name.to_owned(),
                labels,
            });
        }
    }
    grouped.remove("");
    (metrics, grouped)
}

#[test]
fn queries_are_taken_apart() {
    let query = r#"60 * sum by (le, runner) (rate(a_total{state!="idle", runner=~"$runner"}[$__rate_interval])) / b > 0.5"#;
    let (metrics, grouped) = read_query(query);
    let asked = |metric: &str, labels: &[&str]| Asked {
        metric: metric.to_owned(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
    };
    assert_eq!(
        metrics,
        [asked("a_total", &["state", "runner"]), asked("b", &[])]
    );
    assert_eq!(
        grouped,
        BTreeSet::from(["le".to_owned(), "runner".to_owned()])
    );
}

fn contrib(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// Queries with the labels that their legend names.
fn dashboard_queries() -> Vec<(String, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(&contrib("grafana/gantry.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let of_panels = targets.flatten().map(|target| {
        let legend = target["legendFormat"].as_str().unwrap();
        let named = legend.split("{{").skip(1);
        let labels = named.map(|text| text.split("}}").next().unwrap().to_owned());
        (
            target["expr"].as_str().unwrap().to_owned(),
            labels.collect(),
        )
    });
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let of_variables = variables
        .iter()
        .filter_map(|variable| variable["query"]["query"].as_str())
        .map(|query| {
            let inside = query.strip_prefix("label_values(").unwrap();
            let (metric, label) = inside.trim_end_matches(')').split_once(", ").unwrap();
            (metric.to_owned(), vec![label.to_owned()])
        });
    of_panels.chain(of_variables).collect()
}

fn alert_queries() -> Vec<(String, Vec<String>)> {
    let rules = contrib("prometheus/gantry.rules.yml");
    let lines = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    lines.map(|query| (query.to_owned(), Vec::new())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_asks_for_metrics_and_labels_that_are_there() {
    let Some(host) = Host::new(&Config::new().global(ANY_PORT)).await else {
        return;
    };
    host.gitlab
        .fault(Fault::on(Endpoint::RequestJob).calls(1..=1).status(500));
    let ids = [
        host.gitlab.enqueue(&job(["true"])),
        host.gitlab.enqueue(&job(["false"])),
    ];
    let runner = host.start();
    let address = metrics_address(&runner).await;
    for id in ids {
        host.end_of(id).await;
    }
    let found = until("both jobs", async || {
        let found = scrape(address).await;
        (found.sum("gitlab_runner_job_duration_seconds_count", &[])? == 2.0).then_some(found)
    })
    .await;
    let queries: Vec<_> = dashboard_queries()
        .into_iter()
        .chain(alert_queries())
        .collect();
    assert!(queries.len() > 50, "{}", queries.len());
    for (query, shown) in &queries {
        let (metrics, grouped) = read_query(query);
        assert!(!metrics.is_empty(), "{query}");
        let mut known = BTreeSet::new();
        for Asked { metric, labels } in &metrics {
            assert!(
                found.sum(metric, &[]).is_some(),
                "no {metric}, which is asked for by {query}"
            );
            let there = found.labels_of(metric);
            for label in labels {
                assert!(
                    there.contains(&label.as_str()),
                    "{metric} has no {label}: {query}"
                );
            }
            known.extend(there);
        }
        for label in grouped.iter().chain(shown) {
            assert!(known.contains(label.as_str()), "no label {label}: {query}");
        }
        // What is summed over can only show what it is grouped by.
        if query.contains("sum") {
            for label in shown {
                assert!(grouped.contains(label), "{label} is summed over: {query}");
            }
        }
    }
    host.finish(runner).await;
}
