//! The files in `observability/`: what `promtool` says of the rules, and that every panel explains itself.

#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

// Of this only how to find and run programs.
#[allow(dead_code)]
#[path = "support/real.rs"]
mod real;

const PATIENCE: Duration = Duration::from_secs(60);

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("observability")
        .join(name)
}

#[test]
fn promtool_checks_and_tests_the_rules() {
    let Some([promtool]) = real::programs(
        "promtool_checks_and_tests_the_rules",
        [("promtool", "prometheus")],
    ) else {
        return;
    };
    let mut check = Command::new(&promtool);
    let said = real::run(
        check
            .args(["check", "rules"])
            .arg(file("offheap.rules.yml")),
        PATIENCE,
    );
    assert!(
        said.contains("SUCCESS") && !said.contains("FAILED"),
        "{said}"
    );
    let mut test = Command::new(&promtool);
    let said = real::run(
        test.args(["test", "rules"])
            .arg(file("offheap.rules.test.yml")),
        PATIENCE,
    );
    assert!(
        said.contains("SUCCESS") && !said.contains("FAILED"),
        "{said}"
    );
}

#[test]
fn every_alert_is_tested_and_explained() {
    let read = |path: PathBuf| {
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    };
    let rules = read(file("offheap.rules.yml"));
    let tests = read(file("offheap.rules.test.yml"));
    let manual = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md"));
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() >= 5, "{alerts:?}");
    for alert in alerts {
        assert!(
            tests.contains(&format!("alertname: {alert}\n")),
            "{alert} has no test"
        );
        assert!(
            manual.contains(&format!("### {alert}\n")),
            "{alert} is not in the manual"
        );
    }
    let recorded = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "));
    for name in recorded {
        assert!(
            tests.contains(&format!("expr: {name}\n")),
            "{name} has no test"
        );
    }
}

#[test]
fn every_panel_has_a_unit_and_says_what_it_shows() {
    let text = fs::read_to_string(file("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let manual = fs::read_to_string(manual).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (rows, panels): (Vec<_>, Vec<_>) = panels.iter().partition(|panel| panel["type"] == "row");
    assert!(rows.len() >= 3 && panels.len() >= 15);
    let mut places = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let text = |value: &Value| value.as_str().map_or(0, str::len);
        assert!(text(&panel["description"]) > 20, "{title} says nothing");
        assert!(
            text(&panel["fieldConfig"]["defaults"]["unit"]) > 0,
            "{title} has no unit"
        );
        assert!(
            manual.contains(&format!("| {title} |")),
            "{title} is not in the manual"
        );
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            assert!(
                target["expr"].as_str().unwrap().contains("offheap_"),
                "{title}"
            );
        }
        // Panels that overlap are moved about by Grafana.
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        places.push((title, place("x"), place("y"), place("w"), place("h")));
    }
    for (index, (title, x, y, w, h)) in places.iter().enumerate() {
        assert!(x + w <= 24, "{title} is too wide");
        for (other, x2, y2, w2, h2) in &places[..index] {
            let apart = x + w <= *x2 || x2 + w2 <= *x || y + h <= *y2 || y2 + h2 <= *y;
            assert!(apart, "{title} lies on {other}");
        }
    }
}
