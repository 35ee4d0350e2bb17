//! Cases for [`super::decide`].

use super::*;
use serde_json::{Value, json};

fn service(spec: Value) -> Service {
    let mut value = json!({
        "metadata": {"name": "s", "namespace": "n", "uid": "s-uid", "labels": {"team": "a"}},
        "spec": {"selector": {"run": "web"}, "clusterIP": "10.96.0.20", "ports": [{"port": 80, "targetPort": "http"}]},
    });
    value["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

/// A pod with `http` on `port`; `extra` is merged into it.
fn pod(name: &str, ip: &str, port: u16, extra: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"run": "web"}},
        "spec": {"nodeName": "lab", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]},
    });
    json_patch_merge(&mut value, &extra);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn json_patch_merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                json_patch_merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

/// Each slice as `family ports address(conditions)…`, where the conditions are r, s and t.
fn shape(slices: &[EndpointSlice]) -> Vec<String> {
    slices
        .iter()
        .map(|slice| {
            let ports: Vec<_> = slice.ports.iter().flatten().map(|port| port.port.unwrap().to_string()).collect();
            let endpoints: Vec<_> = slice
                .endpoints
                .iter()
                .map(|endpoint| {
                    let conditions = endpoint.conditions.as_ref().unwrap();
                    let letter = |holds: Option<bool>, letter| if holds == Some(true) { letter } else { "-" };
                    format!(
                        "{}({}{}{})",
                        endpoint.addresses.join(","),
                        letter(conditions.ready, "r"),
                        letter(conditions.serving, "s"),
                        letter(conditions.terminating, "t")
                    )
                })
                .collect();
            format!("{} [{}] {}", slice.address_type, ports.join(","), endpoints.join(" ")).trim_end().to_owned()
        })
        .collect()
}

#[test]
fn endpoints_follow_pods() {
    let ready = || pod("a", "10.244.0.2", 8080, json!({}));
    let unready = || pod("a", "10.244.0.2", 8080, json!({"status": {"conditions": []}}));
    let ending = || pod("a", "10.244.0.2", 8080, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    // What, the Service, the pods, the slices.
    type Case = (&'static str, Value, Vec<Arc<Pod>>, &'static [&'static str]);
    let cases: Vec<Case> = vec![
        ("a ready pod", json!({}), vec![ready()], &["IPv4 [8080] 10.244.0.2(rs-)"]),
        ("not ready", json!({}), vec![unready()], &["IPv4 [8080] 10.244.0.2(---)"]),
        ("terminating, still serving", json!({}), vec![ending()], &["IPv4 [8080] 10.244.0.2(-st)"]),
        (
            "unready ones published",
            json!({"publishNotReadyAddresses": true}),
            vec![unready()],
            &["IPv4 [8080] 10.244.0.2(r--)"],
        ),
        (
            "finished",
            json!({}),
            vec![pod("a", "10.244.0.2", 8080, json!({"status": {"phase": "Failed"}}))],
            &["IPv4 []"],
        ),
        (
            "without an address",
            json!({}),
            vec![pod("a", "", 8080, json!({"status": {"podIPs": [], "podIP": null}}))],
            &["IPv4 []"],
        ),
        (
            "other labels",
            json!({}),
            vec![pod("a", "10.244.0.2", 8080, json!({"metadata": {"labels": {"run": "db"}}}))],
            &["IPv4 []"],
        ),
        (
            "one name, two numbers",
            json!({}),
            vec![ready(), pod("b", "10.244.0.3", 9090, json!({}))],
            &["IPv4 [8080] 10.244.0.2(rs-)", "IPv4 [9090] 10.244.0.3(rs-)"],
        ),
        (
            "a name that one pod lacks",
            json!({"ports": [{"port": 80, "targetPort": "admin"}]}),
            vec![ready()],
            &["IPv4 [] 10.244.0.2(rs-)"],
        ),
        (
            "a name of another protocol",
            json!({"ports": [{"port": 80, "targetPort": "http", "protocol": "UDP"}]}),
            vec![ready()],
            &["IPv4 [] 10.244.0.2(rs-)"],
        ),
        (
            "a number",
            json!({"ports": [{"port": 80, "targetPort": 7000}]}),
            vec![ready()],
            &["IPv4 [7000] 10.244.0.2(rs-)"],
        ),
        ("no target port", json!({"ports": [{"port": 80}]}), vec![ready()], &["IPv4 [80] 10.244.0.2(rs-)"]),
        (
            "the host's network",
            json!({}),
            vec![pod("a", "198.51.100.10", 8080, json!({"spec": {"hostNetwork": true}}))],
            &["IPv4 [8080] 198.51.100.10(rs-)"],
        ),
        (
            "two families",
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            vec![pod(
                "a",
                "10.244.0.2",
                8080,
                json!({"status": {"podIPs": [{"ip": "10.244.0.2"}, {"ip": "fd00::2"}]}}),
            )],
            &["IPv4 [8080] 10.244.0.2(rs-)", "IPv6 [8080] fd00::2(rs-)"],
        ),
        ("no selector", json!({"selector": null}), vec![ready()], &[]),
        ("an alias", json!({"type": "ExternalName", "externalName": "example.com"}), vec![ready()], &[]),
    ];
    for (name, spec, pods, expected) in cases {
        assert_eq!(shape(&wanted(&service(spec), &pods)), *expected, "{name}");
    }
}

#[test]
fn a_settled_service_is_left_alone() {
    let service = service(json!({}));
    let pods = [pod("a", "10.244.0.2", 8080, json!({}))];
    let held: Vec<_> = wanted(&service, &pods).into_iter().map(Arc::new).collect();
    assert_eq!(decide(&service, &pods, &held), []);
}

#[test]
fn changes_are_made_in_place_and_leftovers_go() {
    let service = service(json!({}));
    let before = [pod("a", "10.244.0.2", 8080, json!({})), pod("b", "10.244.0.3", 9090, json!({}))];
    let held: Vec<_> = wanted(&service, &before).into_iter().map(Arc::new).collect();
    let after = [pod("a", "10.244.0.4", 8080, json!({}))];
    let commands: Vec<_> = decide(&service, &after, &held).iter().map(ToString::to_string).collect();
    let (of_a, of_b) = (held[0].name_any(), held[1].name_any());
    assert_eq!(commands, [format!("replace n/{of_a}"), format!("delete n/{of_b}")]);
}

#[test]
fn slices_of_others_are_not_touched() {
    let service = service(json!({"selector": null}));
    let mut theirs = EndpointSlice::default();
    theirs.metadata.name = Some("by-hand".into());
    theirs.metadata.labels = Some([(SERVICE_NAME.to_owned(), "s".to_owned())].into());
    assert_eq!(decide(&service, &[], &[Arc::new(theirs)]), []);
}

#[test]
fn a_thousand_endpoints_fill_a_slice() {
    let pods: Vec<_> =
        (0..1001).map(|n| pod(&format!("p{n}"), &format!("10.244.{}.{}", n / 250, n % 250), 80, json!({}))).collect();
    let slices = wanted(&service(json!({})), &pods);
    assert_eq!(slices.iter().map(|slice| slice.endpoints.len()).collect::<Vec<_>>(), [1000, 1]);
    assert_ne!(slices[0].name_any(), slices[1].name_any());
}

#[test]
fn slices_carry_the_labels_that_proxies_look_for() {
    let slice = wanted(&service(json!({"clusterIP": "None"})), &[]).remove(0);
    let labels: Vec<_> = slice.labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        labels,
        [
            "endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io",
            "kubernetes.io/service-name=s",
            "service.kubernetes.io/headless=",
            "team=a",
        ]
    );
}
