//! Cases for [`super::decide`].

use super::*;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T00:01:00Z";

fn set(replicas: i32, extra: Value) -> ReplicaSet {
    let mut value = json!({
        "metadata": {"name": "web-1", "namespace": "n", "uid": "rs", "generation": 3},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"run": "web"}},
            "template": {"metadata": {"labels": {"run": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    });
    value["spec"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

/// A pod from words: its name, then any of `orphan foreign relabelled pending unready failed ending unassigned new`.
fn pod(words: &str) -> Arc<Pod> {
    let mut words = words.split(' ');
    let name = words.next().unwrap();
    let mut value = json!({
        "metadata": {
            "name": name, "namespace": "n", "uid": name, "labels": {"run": "web"}, "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "rs", "controller": true}],
        },
        "spec": {"nodeName": "lab", "containers": [{"name": "c"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:50Z"}],
        },
    });
    for word in words {
        match word {
            "orphan" => value["metadata"]["ownerReferences"] = json!([]),
            "foreign" => value["metadata"]["ownerReferences"][0]["uid"] = json!("other"),
            "relabelled" => value["metadata"]["labels"] = json!({"run": "aside"}),
            "pending" => value["status"] = json!({"phase": "Pending"}),
            "unready" => value["status"]["conditions"] = json!([]),
            "failed" => value["status"]["phase"] = json!("Failed"),
            "ending" => value["metadata"]["deletionTimestamp"] = json!(NOW),
            "unassigned" => value["spec"]["nodeName"] = Value::Null,
            "new" => value["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:30Z"),
            other => panic!("{other}"),
        }
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

#[test]
fn pods_are_made_and_unmade() {
    let cases: &[(&str, i32, &[&str], &[&str])] = &[
        ("none yet", 2, &[], &["create n/", "create n/"]),
        ("enough", 1, &["a"], &[]),
        ("a failed one does not count", 1, &["a failed"], &["create n/"]),
        ("one that ends does not count", 1, &["a ending"], &["create n/"]),
        ("another set's do not count", 1, &["a foreign"], &["create n/"]),
        ("an orphan is adopted", 1, &["a orphan"], &["patch n/a"]),
        ("one that was relabelled is released and replaced", 1, &["a relabelled"], &["patch n/a", "create n/"]),
        ("of two the unassigned goes", 1, &["a unassigned", "b"], &["delete n/a"]),
        ("of two the pending goes", 1, &["a pending", "b"], &["delete n/a"]),
        ("of two the unready goes", 1, &["a unready", "b"], &["delete n/a"]),
        ("of two the younger goes", 1, &["a new", "b"], &["delete n/a"]),
        ("down to nothing", 0, &["a", "b new"], &["delete n/b", "delete n/a"]),
        ("a big jump comes in bites", 1000, &[], &["create n/"; BITE]),
    ];
    for (name, replicas, pods, expected) in cases {
        let pods: Vec<_> = pods.iter().map(|words| pod(words)).collect();
        let decision = decide(&set(*replicas, json!({})), &pods, NOW.parse().unwrap());
        let commands: Vec<_> = decision.pods.iter().map(ToString::to_string).collect();
        assert_eq!(commands, *expected, "{name}");
    }
}

#[test]
fn a_new_pod_belongs_to_its_set() {
    let decision = decide(&set(1, json!({})), &[], NOW.parse().unwrap());
    let Command::Create(pod) = &decision.pods[0] else { panic!("{}", decision.pods[0]) };
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-1-"));
    assert_eq!(pod.labels()["run"], "web");
    let owner = &pod.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("ReplicaSet", "rs", Some(true)));
}

#[test]
fn the_status_counts() {
    // replicas, ready, available, and seconds until it changes by itself.
    type Case = (&'static str, Value, &'static [&'static str], [i32; 3], Option<u64>);
    let cases: &[Case] = &[
        ("all well", json!({}), &["a", "b"], [2, 2, 2], None),
        ("one unready", json!({}), &["a", "b unready"], [2, 1, 1], None),
        ("ready too short", json!({"minReadySeconds": 15}), &["a", "b"], [2, 2, 0], Some(5)),
        ("ready long enough", json!({"minReadySeconds": 10}), &["a", "b"], [2, 2, 2], None),
        ("none", json!({}), &[], [0, 0, 0], None),
    ];
    for (name, extra, pods, [replicas, ready, available], wake) in cases {
        let pods: Vec<_> = pods.iter().map(|words| pod(words)).collect();
        let decision = decide(&set(2, extra.clone()), &pods, NOW.parse().unwrap());
        let Some(Command::ReplaceStatus(written)) = decision.status else { panic!("{name}: no status") };
        let status = written.status.clone().unwrap();
        let counts = [status.replicas, status.ready_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0)];
        assert_eq!(counts, [*replicas, *ready, *available], "{name}");
        assert_eq!(status.observed_generation, Some(3), "{name}");
        assert_eq!(decision.wake_in, wake.map(Duration::from_secs), "{name}");
        // Written once, it is not written again.
        assert_eq!(decide(&written, &pods, NOW.parse().unwrap()).status, None, "{name}");
    }
}
