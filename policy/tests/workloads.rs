//! Workloads stand for their pods where none is at hand.

mod common;

use common::{ask, check, cluster, pod, policy, sound};
use signalbox_policy::{Cluster, PolicyRef, Problem};

/// A workload whose template has the labels and the rest of a pod's spec. `{kind}` of `{version}`.
fn workload(version: &str, kind: &str, name: &str, labels: &str, rest: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("a workload is written namespace/name");
    let template = format!("{{metadata: {{labels: {{{labels}}}}}, spec: {{containers: [{{name: c}}]{rest}}}}}");
    let spec = match kind {
        "CronJob" => format!("{{jobTemplate: {{spec: {{template: {template}}}}}}}"),
        "Job" => format!("{{template: {template}}}"),
        "ReplicationController" => format!("{{selector: {{{labels}}}, template: {template}}}"),
        _ => format!("{{selector: {{matchLabels: {{{labels}}}}}, template: {template}}}"),
    };
    format!(
        "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n"
    )
}

fn deployment(name: &str, labels: &str, rest: &str) -> String {
    workload("apps/v1", "Deployment", name, labels, rest)
}

/// The same with an owner.
fn owned_by(text: &str, kind: &str, name: &str) -> String {
    text.replacen(
        "metadata: {",
        &format!("metadata: {{ownerReferences: [{{kind: {kind}, name: {name}, controller: true}}], "),
        1,
    )
}

/// A pod that belongs to something.
fn pod_of(name: &str, labels: &str, kind: &str, owner: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("a pod is written namespace/name");
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: {name}, labels: {{{labels}}}, ownerReferences: [{{kind: {kind}, name: {owner}}}]}}\nspec: {{containers: [{{name: c}}]}}\n"
    )
}

/// The pods of namespace `x`.
fn pods(cluster_text: &str) -> Vec<String> {
    let cluster = sound(&(cluster_text.to_owned() + &policy("x/all", "{podSelector: {}}")));
    names(&cluster)
}

fn names(cluster: &Cluster) -> Vec<String> {
    cluster.selected_by(&PolicyRef::network_policy("x", "all")).into_iter().map(|pod| pod.name).collect()
}

#[test]
fn each_kind_stands_for_a_pod_under_its_own_name() {
    for (version, kind) in [
        ("apps/v1", "Deployment"),
        ("apps/v1beta2", "Deployment"),
        ("extensions/v1beta1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "ReplicaSet"),
        ("v1", "ReplicationController"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
        ("batch/v1beta1", "CronJob"),
    ] {
        let rest = ", serviceAccountName: sa, initContainers: [{name: s, restartPolicy: Always, ports: [{name: http, containerPort: 8080}]}]";
        let text = workload(version, kind, "x/web", "app: web", rest) + &pod("x/other", "app=other", "10.0.0.2", "");
        let spec = "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: other}}}], ports: [{port: http}]}]}";
        let cluster = sound(&(text + &policy("x/np", spec)));
        check(
            &cluster,
            &[
                ("x/other", "x/web", "TCP 8080", true),
                ("x/other", "x/web", "TCP 80", false),
                ("192.0.2.1", "x/web", "TCP 8080", false),
                ("x/web", "x/other", "TCP 80", true),
            ],
        );
    }
}

#[test]
fn a_jobs_pods_carry_its_name() {
    let spec = "{podSelector: {matchLabels: {batch.kubernetes.io/job-name: once}}}";
    let text = workload("batch/v1", "Job", "x/once", "app: a", "") + &policy("x/np", spec);
    check(&sound(&text), &[("192.0.2.1", "x/once", "TCP 80", false)]);
}

#[test]
fn workloads_in_the_network_of_their_node_are_node_traffic() {
    let text = workload("apps/v1", "DaemonSet", "x/agent", "app: agent", ", hostNetwork: true")
        + &policy("x/np", "{podSelector: {}}");
    let cluster = sound(&text);
    assert_eq!(ask(&cluster, "192.0.2.1", "x/agent", "TCP 80").ingress, None);
}

#[test]
fn a_workload_with_pods_needs_no_stand_in() {
    let web = deployment("x/web", "app: web", "");
    let set = workload("apps/v1", "ReplicaSet", "x/web-5d4f", "app: web", "");
    let cron = workload("batch/v1", "CronJob", "x/tick", "app: tick", "");
    let job = workload("batch/v1", "Job", "x/tick-123", "app: tick", "");
    for (text, expected) in [
        (web.clone(), vec!["web"]),
        // By the selector.
        (web.clone() + &pod("x/web-1", "app=web", "10.0.0.1", ""), vec!["web-1"]),
        (web.clone() + &pod("y/web-1", "app=web", "10.0.0.1", ""), vec!["web"]),
        (web.clone() + &pod("x/web-1", "app=other", "10.0.0.1", ""), vec!["web", "web-1"]),
        // By the owner, whatever the labels are by now.
        (web.clone() + &pod_of("x/p", "a: b", "ReplicaSet", "web-5d4f"), vec!["p"]),
        (web.clone() + &pod_of("x/p", "a: b", "ReplicaSet", "website-5d4f"), vec!["p", "web"]),
        (web.clone() + &pod_of("x/p", "a: b", "StatefulSet", "web"), vec!["p", "web"]),
        (web.clone() + &pod_of("y/p", "a: b", "ReplicaSet", "web-5d4f"), vec!["web"]),
        // A Deployment speaks for its ReplicaSets, if it is there.
        (web.clone() + &owned_by(&set, "Deployment", "web"), vec!["web"]),
        (owned_by(&set, "Deployment", "web"), vec!["web-5d4f"]),
        (set.clone(), vec!["web-5d4f"]),
        (owned_by(&set, "Deployment", "web") + &pod_of("x/p", "a: b", "ReplicaSet", "web-5d4f"), vec!["p"]),
        (
            // A ReplicaSet of any name, whose owner says whose its pods are.
            deployment("x/front", "app: front", "")
                + &owned_by(&set, "Deployment", "front")
                + &pod_of("x/p", "a: b", "ReplicaSet", "web-5d4f"),
            vec!["p"],
        ),
        // A CronJob speaks for its Jobs.
        (cron.clone(), vec!["tick"]),
        (cron.clone() + &owned_by(&job, "CronJob", "tick"), vec!["tick"]),
        (cron.clone() + &owned_by(&job, "CronJob", "tick") + &pod_of("x/p", "", "Job", "tick-123"), vec!["p"]),
        (cron.clone() + &pod_of("x/p", "", "Job", "tick-123"), vec!["p"]),
        (job.clone() + &pod_of("x/p", "", "Job", "tick-123"), vec!["p"]),
        // An empty selector says nothing.
        (
            workload("apps/v1", "StatefulSet", "x/db", "", "") + &pod("x/other", "app=other", "10.0.0.1", ""),
            vec!["db", "other"],
        ),
    ] {
        assert_eq!(pods(&text), expected, "{text}");
    }
}

#[test]
fn pods_that_have_ended_are_pods_all_the_same() {
    let ended = "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: once-1, ownerReferences: [{kind: Job, name: once}]}\nstatus: {phase: Succeeded}\n";
    let text = workload("batch/v1", "Job", "x/once", "app: a", "") + ended;
    assert_eq!(pods(&text), [] as [&str; 0]);
}

#[test]
fn workloads_of_one_name_are_told_apart_in_any_order() {
    let all = [
        deployment("x/web", "app: a", ""),
        workload("apps/v1", "StatefulSet", "x/web", "app: b", ""),
        pod("x/web", "app=c", "10.0.0.1", ""),
        pod("x/web-deployment", "app=d", "10.0.0.2", ""),
    ];
    let mut orders = [all.concat(), all.iter().rev().cloned().collect::<String>()].map(|text| pods(&text));
    let expected = ["web", "web-deployment", "web-deployment-2", "web-statefulset"];
    for order in &mut orders {
        assert_eq!(order.as_slice(), expected);
    }
    // The same kind and name twice: the later one is the newer.
    let twice = deployment("x/web", "app: old", "") + &deployment("x/web", "app: new", "");
    let spec = "{podSelector: {matchLabels: {app: new}}}";
    check(&sound(&(twice + &policy("x/np", spec))), &[("192.0.2.1", "x/web", "TCP 80", false)]);
}

#[test]
fn malformed_workloads_say_so_and_are_not_lost() {
    for (text, expected) in [
        (
            "kind: Deployment\nmetadata: {namespace: x, name: web}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}}}",
            "spec.selector: does not select the labels of spec.template, so that the API refuses it; make them agree",
        ),
        ("kind: Deployment\nmetadata: {namespace: x, name: web}\nspec: {}", "spec.template: is required; add it"),
        ("kind: Deployment\nmetadata: {namespace: x, name: web}", "spec.template: is required; add it"),
        (
            "kind: Deployment\nmetadata: {namespace: x, name: web}\nspec: {template: {metadata: {labels: {a: 1}}}}",
            "spec.template.metadata.labels.a: must be a string (put it in quotes), not the number 1",
        ),
        (
            "kind: Deployment\nmetadata: {namespace: x, name: web}\nspec: {template: {spec: {hostNetwork: 'yes'}}}",
            "spec.template.spec.hostNetwork: must be true or false, not the string \"yes\"",
        ),
        (
            "kind: Deployment\nmetadata: {namespace: x, name: web}\nspec: {selector: {app: web}, template: {}}",
            "spec.selector.app: is no field of apps/v1; check its spelling and its indentation",
        ),
    ] {
        let cluster = cluster(&format!("apiVersion: apps/v1\n{text}\n{}", policy("x/all", "{podSelector: {}}")));
        let problems: Vec<String> = cluster.problems().iter().map(Problem::to_string).collect();
        assert_eq!(problems, [format!("Deployment x/web: {expected}")]);
        assert_eq!(names(&cluster), ["web"]);
        assert_eq!(ask(&cluster, "192.0.2.1", "x/web", "TCP 80").unknown, problems);
    }
}

#[test]
fn a_pod_that_lacks_a_label_of_the_template_is_somebody_elses() {
    let web = deployment("x/web", "app: web, tier: front", "")
        .replace("{matchLabels: {app: web, tier: front}}", "{matchLabels: {app: web}}");
    assert_eq!(pods(&(web.clone() + &pod("x/debug", "app=web", "10.0.0.9", ""))), ["debug", "web"]);
    assert_eq!(pods(&(web + &pod("x/web-1", "app=web,tier=front,pod-template-hash=a", "10.0.0.9", ""))), ["web-1"]);
}
