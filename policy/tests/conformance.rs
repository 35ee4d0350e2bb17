//! The engine against the conformance tests of network-policy-api: see `common::suite` for where they are.

mod common;

use std::path::{Path, PathBuf};

use serde_json::Value;
use signalbox_policy::{Cluster, parse_documents};

#[test]
fn engine_agrees_with_network_policy_api() {
    let Some(folder) = common::suite("conformance") else { return };
    let tests = folders(&folder.path().join("conformance"));
    let states: Vec<PathBuf> = tests.iter().flat_map(|test| folders(test)).collect();
    let outcomes: Vec<Outcome> = states.iter().map(|state| check_state(state)).collect();
    let points: usize = outcomes.iter().map(|outcome| outcome.points).sum();
    let wrong: Vec<String> = outcomes.into_iter().flat_map(|outcome| outcome.wrong).collect();
    assert!(wrong.is_empty(), "{} of {points} points differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!((tests.len(), states.len(), points), (24, 62, 301), "the suite is complete");
}

struct Outcome {
    points: usize,
    wrong: Vec<String>,
}

fn check_state(folder: &Path) -> Outcome {
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("each state has its three files");
    let mut objects = Vec::new();
    for file in ["cluster.yaml", "policies.yaml"] {
        let documents = parse_documents(&read(file), file);
        objects.extend(documents.into_iter().map(|result| result.expect("the suite is sound")));
    }
    let expected: Value = serde_json::from_str(&read("expected.json")).expect("the suite is sound");
    let cluster = Cluster::from_objects(&objects);
    let state = folder.display();
    let mut outcome = Outcome { points: 0, wrong: Vec::new() };
    if !cluster.unknowns().is_empty() {
        outcome.wrong.push(format!("{state}: not understood: {:?}", cluster.unknowns()));
    }
    for point in expected["points"].as_array().expect("a table") {
        let text = |field: &str| point[field].as_str().expect("a text");
        let at = format!("{} {}", text("protocol"), point["port"]);
        let verdict = common::ask(&cluster, text("src"), text("dst"), &at);
        outcome.points += 1;
        if verdict.allowed() != point["allowed"].as_bool() {
            let (from, to, wanted) = (text("src"), text("dst"), &point["allowed"]);
            outcome.wrong.push(format!("{state}: {from} -> {to} {at}: expected {wanted}, found {verdict:?}"));
        }
    }
    outcome
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder can be listed");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    folders.sort();
    folders
}
