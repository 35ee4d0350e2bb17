//! The engine against the tables of the Cyclonus project: see `common::suite` for where they are. Cyclonus is known to err on
//! `NotIn` with an absent key and on `matchLabels` with an empty value; none of its tables depends on either.

mod common;

use std::path::{Path, PathBuf};

use serde_json::Value;
use signalbox_policy::{Cluster, Side, parse_documents};

#[test]
fn engine_agrees_with_cyclonus() {
    let Some(folder) = common::suite("cyclonus") else { return };
    let mut states: Vec<PathBuf> = std::fs::read_dir(folder.path().join("cyclonus/cases"))
        .expect("the suite has cases")
        .map(|entry| entry.expect("a folder can be listed").path())
        .collect();
    states.sort();
    let (mut points, mut loopback, mut wrong) = (0_usize, 0_usize, Vec::new());
    let mut cases = std::collections::BTreeSet::new();
    let (mut clusters, mut unjudged) = (Parsed::new(), 0_usize);
    for state in &states {
        let outcome = check_state(state, &mut clusters);
        unjudged += outcome.unjudged;
        cases.insert(outcome.case);
        points += outcome.points;
        loopback += outcome.loopback;
        wrong.extend(outcome.wrong);
    }
    assert!(wrong.is_empty(), "{} of {points} points differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases.len() >= 230, "the suite has 230 cases, {} were found", cases.len());
    eprintln!(
        "cyclonus: {} cases in {} states, {points} points agree on both sides, {loopback} of them of pods to themselves, judged as through a Service; {unjudged} not judged, since two pods of that state share an address",
        cases.len(),
        states.len(),
    );
}

/// The states share few clusters: each text is parsed once.
type Parsed = std::collections::HashMap<String, Vec<Value>>;

struct Outcome {
    case: u64,
    points: usize,
    unjudged: usize,
    loopback: usize,
    wrong: Vec<String>,
}

fn check_state(folder: &Path, parsed: &mut Parsed) -> Outcome {
    let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("each state has its three files");
    let mut objects = Vec::new();
    for file in ["cluster.yaml", "policies.yaml"] {
        let documents = parsed.entry(read(file)).or_insert_with_key(|text| {
            parse_documents(text, file).into_iter().map(|result| result.expect("the suite is sound")).collect()
        });
        objects.extend(documents.iter().cloned());
    }
    let expected: Value = serde_json::from_str(&read("expected.json")).expect("the suite is sound");
    let cluster = Cluster::from_objects(&objects);
    let mut outcome = Outcome {
        case: expected["index"].as_u64().expect("a case has a number"),
        points: 0,
        unjudged: 0,
        loopback: 0,
        wrong: Vec::new(),
    };
    let is_shared = |unknown: &String| unknown.contains("is also the address of");
    assert!(cluster.unknowns().iter().all(is_shared), "{name}: {:?}", cluster.unknowns());
    for point in expected["expected"].as_array().expect("a table") {
        let text = |field: &str| point[field].as_str().expect("a text");
        let (from, to) = (common::party(text("src")), common::party(text("dst")));
        let at = format!("{} {}", text("protocol"), point["port"]);
        let (protocol, port) = common::port(&at);
        // Cyclonus applies policy to a pod's traffic to itself: so it is here, through a Service.
        outcome.loopback += usize::from(from == to);
        let verdict = cluster.verdict_through_service(&from, &to, protocol, port);
        let Some(open) = verdict.allowed() else {
            assert!(verdict.unknown.iter().all(is_shared), "{name}: {:?}", verdict.unknown);
            outcome.unjudged += 1;
            continue;
        };
        let word = |open: bool| if open { "allowed" } else { "blocked" };
        let side = |side: &Option<Side>| word(side.as_ref().expect("both ends are pods").is_allowed());
        let found = (side(&verdict.egress), side(&verdict.ingress), word(open));
        let wanted = (text("egress"), text("ingress"), text("combined"));
        outcome.points += 1;
        if found != wanted {
            outcome.wrong.push(format!(
                "{name}: {} -> {} {at}: engine {found:?}, table {wanted:?}",
                text("src"),
                text("dst")
            ));
        }
    }
    outcome
}
