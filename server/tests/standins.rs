//! What stand-ins are like, decided on objects as the API server sends them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use signalbox_api::flow::Protocol;
use signalbox_api::state::EndpointPort;
use signalbox_server::cluster::objects::{Change, Kind, Object, ObjectKey, Objects};
use signalbox_server::standins::job::{LIFE_S, Style, job};
use signalbox_server::standins::labels::ServiceLabels;
use signalbox_server::standins::plan::{Plan, Template, plan};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn template() -> Template {
    Template {
        namespace: "shop".to_owned(),
        kind: "deployment".to_owned(),
        name: "web".to_owned(),
        labels: labels(&[("run", "web"), ("tier", "front"), ("pod-template-hash", "5c")]),
        service_account: "web".to_owned(),
        ports: vec![
            EndpointPort { port: 9000, protocol: Protocol::Tcp, name: Some("http".to_owned()) },
            EndpointPort { port: 80, protocol: Protocol::Tcp, name: None },
        ],
    }
}

/// A namespace with a Service that selects `run: web`, a pod to talk to, and a policy.
fn objects(policy: Value) -> Objects {
    let mut objects = Objects::default();
    for kind in Kind::ALL {
        objects.apply(Change::All(kind, Vec::new()));
    }
    let mut put = |kind: Kind, name: &str, api_version: &str, title: &str, rest: Value| {
        let mut value =
            json!({"apiVersion": api_version, "kind": title, "metadata": {"name": name, "namespace": "shop"}});
        value.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        let key = ObjectKey { namespace: "shop".to_owned(), name: name.to_owned() };
        objects.apply(Change::Applied(kind, Object { key, version: 1, value }));
    };
    put(Kind::Service, "web", "v1", "Service", json!({"spec": {"selector": {"run": "web"}}}));
    put(
        Kind::Pod,
        "db",
        "v1",
        "Pod",
        json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 5432}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}}),
    );
    put(Kind::NetworkPolicy, "p", "networking.k8s.io/v1", "NetworkPolicy", json!({"spec": policy}));
    objects
}

fn of(policy: Value, service_labels: ServiceLabels) -> Plan {
    plan(&objects(policy), template(), service_labels)
}

#[test]
fn a_stand_in_that_policies_treat_otherwise_is_told_by_the_engine() {
    let selects =
        |label: &str, value: &str| json!({"podSelector": {"matchLabels": {label: value}}, "policyTypes": ["Egress"]});
    let admits = |label: &str, value: &str| {
        json!({"podSelector": {}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {label: value}}}]}]})
    };
    // The policy, and what the answer names where the stand-in would be treated otherwise.
    let cases = [
        (selects("tier", "front"), None),
        (selects("run", "web"), Some("NetworkPolicy shop/p selects web and not its stand-in")),
        (admits("tier", "front"), None),
        (admits("run", "web"), Some("way to shop/db:5432")),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "signalbox.dev/probe", "operator": "Exists"}]}}),
            Some("selects the stand-in and not web"),
        ),
    ];
    for (policy, named) in cases {
        let found = of(policy.clone(), ServiceLabels::Drop).choice;
        assert_eq!(found.dropped, ["run"], "{policy}");
        assert_eq!(found.labels, labels(&[("tier", "front")]), "{policy}");
        let differences = found.differences.join("; ");
        assert_eq!(differences.is_empty(), named.is_none(), "{policy}: {differences}");
        assert!(differences.contains(named.unwrap_or_default()), "{policy}: {differences}");
    }
    let kept = of(selects("run", "web"), ServiceLabels::Keep).choice;
    assert_eq!((kept.differences.len(), kept.hold_back), (0, true));
    assert_eq!(kept.labels, labels(&[("run", "web"), ("tier", "front")]));
}

#[test]
fn the_job_asks_for_nothing_and_ends_by_itself() {
    let style = Style { image: "signalbox/probe:0".to_owned(), program: "/bin/signalbox-probe".to_owned() };
    let policy = json!({"podSelector": {}});
    let plain = job(&of(policy.clone(), ServiceLabels::Drop), &style, "j", "r1", None, 100);
    let spec = &plain["spec"];
    assert_eq!((&spec["activeDeadlineSeconds"], &spec["backoffLimit"]), (&json!(LIFE_S), &json!(0)));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["serviceAccountName"], "web", "some policies select by it");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(
        container["args"],
        json!(["serve", "--name", "$(POD_NAME)", "--port", "TCP/9000"]),
        "80 needs a capability"
    );
    assert_eq!(container["ports"].as_array().map(Vec::len), Some(2), "policies may name either");
    let labels = &spec["template"]["metadata"]["labels"];
    assert_eq!(
        labels,
        &json!({"tier": "front", "signalbox.dev/probe": "", "signalbox.dev/stands-in-for": "deployment.web"})
    );
    assert!(pod.get("readinessGates").is_none());
    assert!(pod.get("affinity").is_none());

    let held = job(&of(policy, ServiceLabels::Keep), &style, "j", "r1", Some("n1"), 100);
    let pod = &held["spec"]["template"]["spec"];
    assert_eq!(pod["readinessGates"][0]["conditionType"], "signalbox.dev/never");
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    assert!(pod["affinity"].to_string().contains("\"n1\""));
}
