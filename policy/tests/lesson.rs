//! Lesson one, step by step, as the engine sees it: the same manifests that the lab applies.

mod common;

use std::path::Path;

use serde_json::Value;
use signalbox_policy::{Cluster, parse_documents};

const DATABASE: &str = "198.51.100.20";
const INTERNET: &str = "203.0.113.10";
const USERS: &str = "198.51.100.100";
/// From, to, port.
type Check = (&'static str, &'static str, u16);

const PODS: [&str; 3] = ["frontend/web", "backend/dbsvc", "backend/extsvc"];

#[test]
fn each_step_opens_what_the_lesson_says_and_nothing_else() {
    let everything: Vec<Check> = checks();
    let mut open: Vec<Check> = Vec::new();
    let steps: [(&str, &[Check]); 4] = [
        ("1-zero-trust", &[]),
        ("2-web", &[(USERS, "frontend/web", 9000)]),
        ("3-dbsvc", &[("frontend/web", "backend/dbsvc", 9000), ("backend/dbsvc", DATABASE, 3306)]),
        ("4-extsvc", &[("frontend/web", "backend/extsvc", 9000), ("backend/extsvc", INTERNET, 443)]),
    ];
    let mut objects = read("0-cluster");
    objects.extend(pods());
    assert_eq!(allowed(&objects), everything, "step 0: everything");
    for (file, opened) in steps {
        objects.extend(read(file));
        open.extend(opened);
        let expected: Vec<_> = everything.iter().copied().filter(|check| open.contains(check)).collect();
        assert_eq!(allowed(&objects), expected, "{file}");
        assert_eq!(udp53(&objects), [true; 3], "DNS works after {file}");
    }
}

/// The 18 checks of the demo script.
fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for from in PODS {
        checks.extend(PODS.map(|to| (from, to, 9000)));
        checks.extend([(from, DATABASE, 3306), (from, INTERNET, 443)]);
    }
    checks.extend(PODS.map(|to| (USERS, to, 9000)));
    assert_eq!(checks.len(), 18);
    checks
}

/// Which of them are open. Pods are reached through their Services.
fn allowed(objects: &[Value]) -> Vec<Check> {
    let cluster = Cluster::from_objects(objects);
    assert_eq!(cluster.unknowns(), &[] as &[String]);
    let verdict = |(from, to, port): &(&str, &str, u16)| {
        let protocol = signalbox_policy::Protocol::Tcp;
        cluster.verdict_through_service(&common::party(from), &common::party(to), protocol, *port).allowed()
    };
    checks().into_iter().filter(|check| verdict(check).expect("all is understood")).collect()
}

/// Whether each pod reaches a DNS pod in another namespace.
fn udp53(objects: &[Value]) -> [bool; 3] {
    let mut objects = objects.to_vec();
    objects.extend(common::objects(&common::pod("kube-system/coredns", "k8s-app=kube-dns", "10.244.0.9", "")));
    let cluster = Cluster::from_objects(&objects);
    PODS.map(|pod| common::ask(&cluster, pod, "kube-system/coredns", "UDP 53").allowed() == Some(true))
}

fn pods() -> Vec<Value> {
    let text: String = PODS
        .iter()
        .enumerate()
        .map(|(index, pod)| {
            let run = pod.rsplit('/').next().expect("a pod has a name");
            common::pod(pod, &format!("run={run}"), &format!("10.244.0.{}", index + 2), "")
        })
        .collect();
    common::objects(&text)
}

fn read(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../assets/lessons/one/{name}.yaml"));
    let text = std::fs::read_to_string(&path).expect("the lesson's manifests are part of the repository");
    parse_documents(&text, name).into_iter().map(|result| result.expect("the lesson's manifests are sound")).collect()
}
