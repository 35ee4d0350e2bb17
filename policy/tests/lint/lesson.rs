//! Lesson one after its last step: nothing is wrong, and what is said is true.

use std::path::Path;

use serde_json::Value;
use signalbox_policy::lint::{Finding, Severity, lint};
use signalbox_policy::{Cluster, parse_documents};

fn read(folder: &str, files: &[&str]) -> Vec<Value> {
    let read = |file: &&str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../assets/{folder}/{file}.yaml"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        parse_documents(&text, file).into_iter().map(Result::unwrap).collect::<Vec<Value>>()
    };
    files.iter().flat_map(read).collect()
}

fn findings(steps: usize) -> Vec<Finding> {
    let mut objects = read("lab", &["0-namespaces", "1-dns", "2-outside"]);
    let steps = &["0-cluster", "1-zero-trust", "2-web", "3-dbsvc", "4-extsvc"][..=steps];
    objects.extend(read("lessons/one", steps));
    lint(&objects, &Cluster::from_objects(&objects))
}

#[test]
fn the_lesson_is_sound_after_its_last_step() {
    let short: Vec<String> =
        findings(4).iter().map(|it| format!("{} {} {} {}", it.severity, it.rule.id(), it.object, it.path)).collect();
    // True of them: the lesson opens DNS over UDP only.
    assert_eq!(
        short,
        [
            "info SB602 NetworkPolicy backend/zero-trust spec.egress[0].ports",
            "info SB602 NetworkPolicy frontend/zero-trust spec.egress[0].ports",
        ]
    );
}

#[test]
fn the_lesson_begins_without_findings() {
    assert_eq!(findings(0), []);
}

/// What the lesson makes visible after its second step: egress of web is open, and ingress of the back-ends still shut.
#[test]
fn after_step_two_egress_lacks_its_ingress() {
    let findings = findings(2);
    let found: Vec<&Finding> = findings.iter().filter(|it| it.severity == Severity::Warning).collect();
    let [one] = found[..] else { panic!("{found:#?}") };
    assert_eq!(
        (one.rule.id(), one.object.as_str(), one.path.as_str()),
        ("SB701", "NetworkPolicy frontend/web", "spec.egress[0]")
    );
    assert!(one.message.contains("frontend/web may go out to backend/dbsvc"), "{}", one.message);
}
