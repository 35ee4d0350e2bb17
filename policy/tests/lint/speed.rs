//! How long lint takes: the goal is one second for 1,000 policies and 10,000 pods. Without optimisation the figures mean
//! nothing, so that fewer objects are looked at there and no time is asked for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signalbox_policy::Cluster;
use signalbox_policy::lint::{Finding, RuleId, lint};

const IS_OPTIMISED: bool = !cfg!(debug_assertions);
const GOAL: Duration = Duration::from_secs(1);

/// How many things there are.
struct Size {
    namespaces: usize,
    pods: usize,
    policies: usize,
    applications: usize,
}

fn size(pods: usize, policies: usize) -> Size {
    let shrink = if IS_OPTIMISED { 1 } else { 20 };
    Size { namespaces: 100, pods: pods / shrink, policies: policies / shrink, applications: 25 }
}

fn pods(size: &Size) -> Vec<Value> {
    let mut objects: Vec<Value> = (0..size.namespaces)
        .map(|at| {
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": format!("ns{at}"), "labels": {"team": format!("team{}", at % 10)}}})
        })
        .collect();
    objects.extend((0..size.pods).map(|at| {
        let app = at / size.namespaces % size.applications;
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": format!("ns{}", at % size.namespaces), "name": format!("pod{at}"),
                "labels": {"app": format!("app{app}"), "pod-template-hash": format!("{:x}", app * 7919)}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8000 + app}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": format!("10.{}.{}.{}", at >> 16, at >> 8 & 255, at & 255)}]},
        })
    }));
    objects.extend((0..size.namespaces * 3).map(|at| {
        let app = at % size.applications;
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": format!("ns{}", at % size.namespaces), "name": format!("svc{at}")},
            "spec": {"clusterIP": format!("10.96.{}.{}", at >> 8, at & 255), "selector": {"app": format!("app{app}")},
                "ports": [{"port": 80, "targetPort": 8000 + app}]},
        })
    }));
    objects
}

/// Each with two rules of each direction; one in ten is wrong in some way.
fn policies(size: &Size) -> impl Iterator<Item = Value> + '_ {
    (0..size.policies).map(|at| {
        let app = |by: usize| format!("app{}", (at / size.namespaces + by) % size.applications);
        let wrong = if at % 10 == 0 { "x" } else { "" };
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": format!("ns{}", at % size.namespaces), "name": format!("np{at}")},
            "spec": {
                "podSelector": {"matchLabels": {"app": app(0)}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {"from": [{"podSelector": {"matchLabels": {"app": app(1) + wrong}}}], "ports": [{"port": "http"}]},
                    {"from": [{"namespaceSelector": {"matchLabels": {"team": format!("team{}", at % 10)}}},
                        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.96.0.0/16"]}}], "ports": [{"port": 8000, "endPort": 8100}]},
                ],
                "egress": [
                    {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": app(2)}}}], "ports": [{"port": 80}]},
                    {"to": [{"namespaceSelector": {}}], "ports": [{"port": 53, "protocol": "UDP"}]},
                ],
            },
        })
    })
}

/// For how long this thread has been on a core: other work on the machine does not count. Linux only: Documentation/
/// scheduler/sched-stats.rst.
fn on_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

fn timed(name: &str, objects: &[Value]) -> Vec<Finding> {
    let cluster = Cluster::from_objects(objects);
    let (start, cpu) = (Instant::now(), on_cpu());
    let findings = lint(objects, &cluster);
    let (passed, took) = (start.elapsed(), cpu.zip(on_cpu()).map(|(before, now)| now - before));
    eprintln!(
        "lint of {name}: {} objects, {} findings, {took:?} on a core, {passed:?} passed",
        objects.len(),
        findings.len()
    );
    let took = took.unwrap_or(passed);
    assert!(!IS_OPTIMISED || took < GOAL, "{name} took {took:?}");
    findings
}

#[test]
fn a_large_cluster_takes_less_than_a_second() {
    let size = size(10_000, 1_000);
    let mut objects = pods(&size);
    objects.extend(policies(&size));
    let findings = timed("1,000 policies and 10,000 pods", &objects);
    assert!(findings.iter().all(|it| it.rule != RuleId::LimitReached), "nothing is left out at this size");
}

/// Where nothing is like anything: each pod has a label of its own.
#[test]
fn pods_that_are_all_different_take_less_than_a_second() {
    let size = size(10_000, 1_000);
    let mut objects = pods(&size);
    for (at, object) in objects.iter_mut().enumerate().filter(|(_, it)| it["kind"] == "Pod") {
        object["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = format!("pod-{at}").into();
    }
    objects.extend(policies(&size));
    timed("10,000 pods of 10,000 kinds", &objects);
}

/// All policies in one namespace, for all of its pods: everything may shadow everything.
#[test]
fn policies_of_one_namespace_take_less_than_a_second_and_say_what_they_left_out() {
    let size = Size { namespaces: 1, ..size(10_000, 1_000) };
    let mut objects = pods(&size);
    for (at, mut policy) in policies(&size).enumerate() {
        policy["spec"]["podSelector"] = json!({});
        policy["spec"]["ingress"][0]["ports"] = json!([{"port": 1 + at}]);
        objects.push(policy);
    }
    timed("1,000 policies for all pods of one namespace", &objects);
}

/// Beyond the bounds lint says what it did not compare, and ends.
#[test]
fn what_is_left_out_is_counted() {
    if !IS_OPTIMISED {
        eprintln!("SKIPPED: 6,000 rules that may all shadow each other are compared in release only");
        return;
    }
    let rule = |port: usize| json!({"ports": [{"port": port}]});
    let objects: Vec<Value> = (0..60)
        .map(|at| {
            let rules: Vec<Value> = (0..100).map(|number| rule(1 + at * 100 + number)).collect();
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"namespace": "x", "name": format!("np{at}")}, "spec": {"podSelector": {}, "ingress": rules}})
        })
        .collect();
    let findings = timed("6,000 rules for the same pods", &objects);
    let limit = findings.iter().find(|it| it.rule == RuleId::LimitReached).expect("there is a bound");
    assert!(limit.message.starts_with("SB201 shadowed-rule has not looked at "), "{limit}");
}
