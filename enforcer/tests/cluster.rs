//! The whole enforcer against an API server: the smallest one that can list and watch, on loopback.

mod support;

use std::time::Duration;

use serde_json::json;
use signalbox_api::flow::Decision;
use signalbox_enforcer::Config;
use support::{
    Echo, Lab, NODE, OUTSIDE, POD_A, POD_B, Space, can_run,
    faults::api::{Api, Process, pod},
    policy,
    told::until,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_reach_the_kernel_and_leave_it() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b, &lab.outside, &lab.node].map(|space: &Space| Echo::new(space, 9000));
    let processes = [&lab.a, &lab.b].map(Process::new);
    let (api, client) = Api::start().await;
    for name in ["one", "two"] {
        api.put("namespaces", json!({"metadata": {"name": name, "resourceVersion": "1"}}));
    }
    api.put("pods", pod("one", "a", POD_A));
    api.put("pods", pod("two", "b", POD_B));
    let config = Config {
        node: "n".to_owned(),
        netns: Some(lab.node.path()),
        uplinks: vec!["up0".to_owned()],
        ..Config::default()
    };
    let shutdown = CancellationToken::new();
    let enforcer =
        signalbox_enforcer::start(config, client, shutdown.clone()).await.unwrap_or_else(|e| panic!("{e:#?}"));
    let status = until(&enforcer, "both pods are found", |status| status.enforcing && status.pods == 2).await;
    assert_eq!(status.problems, [] as [String; 0]);
    assert!(lab.a.reaches(POD_B, 9000) && lab.a.reaches(NODE, 9000) && lab.outside.reaches(POD_A, 9000));

    let mut events = enforcer.events();
    let mut took = Vec::new();
    for round in 0..25 {
        let version = 100 + 2 * round;
        let what = if round == 0 { "ADDED" } else { "MODIFIED" };
        let rules = if round % 2 == 0 { json!({}) } else { json!({"ingress": [{}]}) };
        api.tell("networkpolicies", what, policy("two/p", &["Ingress"], rules), version);
        let status = until(&enforcer, "the policy is in force", |status| status.policies_version == version).await;
        assert!(status.enforcing, "{status:#?}");
        took.push(status.last_apply_us);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    took.sort_unstable();
    println!("policy to kernel: median {} us, worst {} us", took[took.len() / 2], took[took.len() - 1]);

    assert!(!lab.a.reaches(POD_B, 9000));
    let denied = timeout(Duration::from_secs(2), async {
        loop {
            let event = events.recv().await.expect("the enforcer lives");
            if event.decision == Decision::Denied {
                return event;
            }
        }
    });
    let event = denied.await.expect("an event");
    assert_eq!(event.isolated_by[0].to_string(), "two/p");
    let counts = enforcer.counts().await.expect("counts");
    assert!(counts.iter().any(|count| count.source == "one/a" && count.destination == "two/b" && count.denied > 0));

    api.tell("networkpolicies", "DELETED", policy("two/p", &["Ingress"], json!({})), 200);
    until(&enforcer, "the deletion is in force", |status| status.policies_version == 200).await;
    assert!(lab.a.reaches(POD_B, 9000));

    // An address of the node that a Service has is translated, and judged behind the translation only.
    let shut = policy("one/shut", &["Egress"], json!({"egress": [{"ports": [{"port": 9000}]}]}));
    api.tell("networkpolicies", "ADDED", shut, 201);
    until(&enforcer, "the policy is in force", |status| status.policies_version == 201).await;
    assert!(lab.a.reaches(NODE, 9000) && lab.a.reaches(OUTSIDE, 9000));

    api.tell("networkpolicies", "ADDED", policy("two/p", &["Ingress"], json!({})), 202);
    until(&enforcer, "the policy is in force", |status| status.policies_version == 202).await;
    api.tell("pods", "DELETED", pod("one", "a", POD_A), 203);
    until(&enforcer, "the pod is gone", |status| status.pods == 1).await;
    assert!(!lab.outside.reaches(POD_B, 9000));

    shutdown.cancel();
    timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
    assert!(lab.outside.reaches(POD_B, 9000), "nothing is left behind");
    drop(processes);
}

/// Calico's kinds come to a cluster that had none, while the enforcer runs: with them their policies are in force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calicos_policies_are_watched_as_soon_as_the_api_serves_them() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b, &lab.outside].map(|space: &Space| Echo::new(space, 9000));
    let processes = [&lab.a, &lab.b].map(Process::new);
    let (api, client) = Api::start().await;
    for name in ["one", "two"] {
        api.put("namespaces", json!({"metadata": {"name": name, "resourceVersion": "1"}}));
    }
    api.put("pods", pod("one", "a", POD_A));
    api.put("pods", pod("two", "b", POD_B));
    let shutdown = CancellationToken::new();
    let enforcer = signalbox_enforcer::start(support::config(&lab), client, shutdown.clone())
        .await
        .unwrap_or_else(|error| panic!("{error:#?}"));
    let status = until(&enforcer, "both pods are found", |status| status.enforcing && status.pods == 2).await;
    assert_eq!(status.problems, [] as [String; 0], "what is not served is no problem");
    assert!(lab.a.reaches(POD_B, 9000));
    let generation = status.generation;
    let global = json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "shut", "resourceVersion": "5"},
        "spec": {
            "order": 10, "namespaceSelector": "kubernetes.io/metadata.name == 'two'", "types": ["Ingress"],
            "ingress": [{"action": "Allow", "source": {"selector": "kind == 'office'"}}, {"action": "Deny"}],
        },
    });
    let office = json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "GlobalNetworkSet",
        "metadata": {"name": "office", "labels": {"kind": "office"}, "resourceVersion": "6"},
        "spec": {"nets": [format!("{OUTSIDE}/32")]},
    });
    api.put("globalnetworkpolicies", global.clone());
    api.put("globalnetworksets", office);
    let resource = |plural: &str, kind: &str| json!({"name": plural, "singularName": "", "namespaced": false, "kind": kind, "verbs": ["list", "watch"]});
    let resources = json!([
        resource("globalnetworkpolicies", "GlobalNetworkPolicy"),
        resource("globalnetworksets", "GlobalNetworkSet"),
    ]);
    api.serve("crd.projectcalico.org/v1", resources);
    let mut status = enforcer.status();
    let came = status.wait_for(|status| status.generation > generation);
    timeout(Duration::from_secs(30), came).await.expect("they are found within half a minute").expect("it lives");
    // The set and the policy are two watches.
    for _ in 0..100 {
        if lab.outside.reaches(POD_B, 9000) && !lab.a.reaches(POD_B, 9000) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!lab.a.reaches(POD_B, 9000), "the policy denies");
    assert!(lab.outside.reaches(POD_B, 9000), "and allows a set");
    assert!(lab.b.reaches(POD_A, 9000) && lab.node.reaches(POD_B, 9000));
    assert_eq!(enforcer.status().borrow().problems, [] as [String; 0]);
    let generation = enforcer.status().borrow().generation;
    api.tell("globalnetworkpolicies", "DELETED", global, 7);
    until(&enforcer, "the deletion is in force", |status| status.generation > generation).await;
    assert!(lab.a.reaches(POD_B, 9000));
    shutdown.cancel();
    timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
    drop(processes);
}

/// A Service with the node's own address is judged behind its translation; all else at that address is the node's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_at_the_nodes_address_opens_no_other_port_of_it() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    lab.proxy();
    let _servers = [&lab.a, &lab.b, &lab.node].map(|space: &Space| Echo::new(space, 9000));
    let processes = [&lab.a, &lab.b].map(Process::new);
    let (api, client) = Api::start().await;
    for name in ["one", "two"] {
        api.put("namespaces", json!({"metadata": {"name": name, "resourceVersion": "1"}}));
    }
    api.put("pods", pod("one", "a", POD_A));
    api.put("pods", pod("two", "b", POD_B));
    let ports = json!([{"port": 80, "targetPort": 9000}]);
    let service = json!({"metadata": {"namespace": "two", "name": "s", "resourceVersion": "2"}, "spec": {"clusterIP": "10.96.0.1", "externalIPs": [NODE], "ports": ports}});
    api.put("services", service);
    let egress = json!({"egress": [{"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "two"}}}], "ports": [{"port": 9000}]}]});
    let mut shut = policy("one/shut", &["Egress"], egress);
    shut["metadata"]["resourceVersion"] = "3".into();
    api.put("networkpolicies", shut);
    let shutdown = CancellationToken::new();
    let enforcer = signalbox_enforcer::start(support::config(&lab), client, shutdown.clone())
        .await
        .unwrap_or_else(|error| panic!("{error:#?}"));
    until(&enforcer, "both pods are found", |status| status.enforcing && status.pods == 2).await;
    // The Services' list may be the last.
    for _ in 0..60 {
        if lab.a.reaches(NODE, 80) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(lab.a.reaches(NODE, 80), "it is b's port 9000");
    assert!(!lab.a.reaches(NODE, 9000), "and this is the node's");
    shutdown.cancel();
    timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
    drop(processes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_of_all_tiers_are_watched_where_the_api_serves_them() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b].map(|space: &Space| Echo::new(space, 9000));
    let processes = [&lab.a, &lab.b].map(Process::new);
    let resources = json!([
        {"name": "clusternetworkpolicies", "singularName": "", "namespaced": false, "kind": "ClusterNetworkPolicy", "verbs": ["list", "watch"]},
        {"name": "clusternetworkpolicies/status", "singularName": "", "namespaced": false, "kind": "ClusterNetworkPolicy", "verbs": ["get"]},
    ]);
    let (api, client) = Api::serving([("policy.networking.k8s.io/v1alpha2".to_owned(), resources)].into()).await;
    for name in ["one", "two"] {
        api.put("namespaces", json!({"metadata": {"name": name, "resourceVersion": "1"}}));
    }
    api.put("pods", pod("one", "a", POD_A));
    api.put("pods", pod("two", "b", POD_B));
    api.put("nodes", json!({"metadata": {"name": "n", "labels": {"role": "worker"}, "resourceVersion": "1"}, "status": {"addresses": [{"type": "InternalIP", "address": NODE}]}}));
    let denial = |name: &str| {
        json!({
            "metadata": {"name": name, "resourceVersion": "1"},
            "spec": {
                "tier": "Admin", "priority": 1, "subject": {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "two"}}},
                "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
            },
        })
    };
    // It is there when the enforcer starts: the first tables must have it.
    api.put("clusternetworkpolicies", denial("first"));
    let config = Config {
        node: "n".to_owned(),
        netns: Some(lab.node.path()),
        uplinks: vec!["up0".to_owned()],
        ..Config::default()
    };
    let shutdown = CancellationToken::new();
    let enforcer =
        signalbox_enforcer::start(config, client, shutdown.clone()).await.unwrap_or_else(|e| panic!("{e:#?}"));
    let status = until(&enforcer, "both pods are found", |status| status.enforcing && status.pods == 2).await;
    assert_eq!(status.problems, [] as [String; 0], "kinds that are not served are no problem");
    let mut events = enforcer.events();
    assert!(!lab.a.reaches(POD_B, 9000));
    let event = timeout(Duration::from_secs(2), events.recv()).await.expect("an event").expect("the enforcer lives");
    assert_eq!(event.rule.expect("a rule denies").to_string(), "first ingress[0].from[0]");
    let generation = enforcer.status().borrow().generation;
    let mut object = denial("first");
    object["apiVersion"] = json!("policy.networking.k8s.io/v1alpha2");
    object["kind"] = json!("ClusterNetworkPolicy");
    api.tell("clusternetworkpolicies", "DELETED", object.clone(), 5);
    until(&enforcer, "the deletion is in force", |status| status.generation > generation).await;
    assert!(lab.a.reaches(POD_B, 9000));
    let generation = enforcer.status().borrow().generation;
    api.tell("clusternetworkpolicies", "ADDED", object, 6);
    until(&enforcer, "the policy is in force", |status| status.generation > generation).await;
    assert!(!lab.a.reaches(POD_B, 9000));
    shutdown.cancel();
    timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
    drop(processes);
}
