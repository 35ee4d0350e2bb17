//! `analyze -o json` against the tables of public suites, folder by folder as they are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{Outcome, signalbox, suite};

/// Open ports by source, destination and protocol.
struct Table(HashMap<(String, String, String), Vec<(u64, u64)>>);

impl Table {
    fn of(outcome: &Outcome) -> Self {
        let mut table = HashMap::new();
        for connection in outcome.json()["connections"].as_array().expect("a list") {
            let text = |field: &str| connection[field].as_str().expect("a text").to_owned();
            for (protocol, ranges) in connection["ports"].as_object().expect("an object") {
                let ranges = ranges.as_array().expect("a list").iter();
                let ranges =
                    ranges.map(|range| (range[0].as_u64().expect("a port"), range[1].as_u64().expect("a port")));
                table.insert((text("src"), text("dst"), protocol.clone()), ranges.collect());
            }
        }
        Self(table)
    }

    fn is_open(&self, from: &str, to: &str, protocol: &str, port: u64) -> bool {
        let ranges = self.0.get(&(from.to_owned(), to.to_owned(), protocol.to_owned()));
        ranges.is_some_and(|ranges| ranges.iter().any(|(first, last)| (*first..=*last).contains(&port)))
    }
}

fn expected(state: &Path) -> Value {
    let text = std::fs::read_to_string(state.join("expected.json")).expect("each state has its table");
    serde_json::from_str(&text).expect("the suite is sound")
}

/// All folders with a table.
fn states(folder: &Path) -> Vec<PathBuf> {
    let mut states = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        if folder.join("expected.json").is_file() {
            states.push(folder.clone());
        }
        let entries = std::fs::read_dir(&folder).expect("a folder can be listed");
        open.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()));
    }
    states.sort();
    states
}

/// Compares a folder's analysis with `points` of `(from, to, protocol, port, open)`.
fn compare(state: &Path, points: &[(String, String, String, u64, bool)], wrong: &mut Vec<String>) -> Outcome {
    let folder = state.display().to_string();
    let outcome = signalbox(&["analyze", &folder, "-o", "json", "--loopback", "policy"]);
    assert_eq!(outcome.code, 0, "{folder}: {}", outcome.err);
    let table = Table::of(&outcome);
    for (from, to, protocol, port, open) in points {
        if table.is_open(from, to, protocol, *port) != *open {
            wrong.push(format!("{folder}: {from} -> {to} {protocol} {port} should be open: {open}"));
        }
    }
    outcome
}

#[test]
fn cyclonus_is_analysed_as_its_tables_say() {
    let Some((_keep, folder)) = suite("cyclonus") else { return };
    let (mut count, mut wrong) = (0, Vec::new());
    let states = states(&folder);
    for state in &states {
        let expected = expected(state);
        let points = expected["expected"].as_array().expect("a list").iter().map(|point| {
            let text = |field: &str| point[field].as_str().expect("a text").to_owned();
            let open = text("combined") == "allowed";
            (text("src"), text("dst"), text("protocol"), point["port"].as_u64().expect("a port"), open)
        });
        let points: Vec<_> = points.collect();
        count += points.len();
        compare(state, &points, &mut wrong);
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(states.len() >= 256, "{} states", states.len());
    eprintln!("cyclonus: {count} points in {} states as `analyze` prints them", states.len());
}

#[test]
fn conformance_is_analysed_as_its_tables_say() {
    let Some((_keep, folder)) = suite("conformance") else { return };
    let (mut count, mut outside, mut wrong, mut unknown) = (0, 0, Vec::new(), Vec::new());
    let states = states(&folder);
    for state in &states {
        let expected = expected(state);
        let points = expected["points"].as_array().expect("a list").iter().map(|point| {
            let text = |field: &str| point[field].as_str().expect("a text").to_owned();
            let open = point["allowed"].as_bool().expect("yes or no");
            (text("src"), text("dst"), text("protocol"), point["port"].as_u64().expect("a port"), open)
        });
        let points: Vec<_> = points.collect();
        count += points.len();
        let outcome = compare(state, &points, &mut wrong);
        outside += points.iter().filter(|point| !point.1.contains('/')).count();
        unknown.extend(
            outcome.json()["unknown"].as_array().expect("a list").iter().map(|it| format!("{}: {it}", state.display())),
        );
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(unknown.is_empty(), "{unknown:#?}");
    eprintln!("conformance: {count} points in {} states, {outside} of them outside", states.len());
}
