//! kubectl: what people type.

use std::time::Duration;

use crate::support::{Lab, kubectl_is_there};

const MANIFEST: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: backend, labels: {tier: back}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: dbsvc, namespace: backend}
spec:
  selector: {matchLabels: {run: dbsvc}}
  template:
    metadata: {labels: {run: dbsvc}}
    spec: {containers: [{name: probe, image: signalbox/probe, ports: [{containerPort: 9000}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: dbsvc, namespace: backend}
spec: {selector: {run: dbsvc}, ports: [{port: 9000}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: zero, namespace: backend}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  egress: [{ports: [{port: 53, protocol: UDP}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: backend, labels: {a: b}}
spec: {containers: [{name: c, image: x}]}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_comes_changes_and_goes() {
    if !kubectl_is_there() {
        return;
    }
    let lab = Lab::start().await;
    let apply = ["apply", "-f", "-"];
    assert_eq!(lab.ok(&apply, MANIFEST).await.matches(" created").count(), 5);
    assert_eq!(lab.ok(&apply, MANIFEST).await.matches(" unchanged").count(), 5);
    let changed = lab.ok(&apply, &MANIFEST.replace("port: 53", "port: 54")).await;
    assert!(changed.contains("zero configured"), "{changed}");

    let wide = lab.ok(&["get", "pods", "-A", "-o", "wide"], "").await;
    assert!(wide.lines().next().unwrap().contains("NOMINATED NODE"), "{wide}");
    let row = lab.ok(&["get", "svc", "-n", "backend", "--no-headers"], "").await;
    assert!(row.contains("ClusterIP") && row.contains("9000/TCP"), "{row}");
    let yaml = lab.ok(&["get", "netpol", "zero", "-n", "backend", "-o", "yaml"], "").await;
    assert!(yaml.contains("port: 54"), "{yaml}");
    for (selector, found) in [("a=b", true), ("a!=b", false), ("a in (b,c)", true), ("!a", false)] {
        let names = lab.ok(&["get", "pods", "-n", "backend", "-l", selector, "-o", "name"], "").await;
        assert_eq!(names.contains("pod/one"), found, "{selector}");
    }
    let pending = lab.ok(&["get", "pods", "-A", "--field-selector", "status.phase=Pending", "-o", "name"], "").await;
    assert!(pending.contains("pod/one"), "{pending}");

    for (object, expected) in [
        ("pod/one", "Containers:"),
        ("svc/dbsvc", "TargetPort:"),
        ("deploy/dbsvc", "StrategyType:"),
        ("netpol/zero", "To Port: 54/UDP"),
    ] {
        let text = lab.ok(&["describe", object, "-n", "backend"], "").await;
        assert!(text.contains(expected), "{object}: {text}");
    }
    assert!(lab.ok(&["describe", "ns", "backend"], "").await.contains("Active"));

    for arguments in [
        &["label", "pod", "one", "x=y"][..],
        &["annotate", "pod", "one", "x=y"],
        &["scale", "deployment", "dbsvc", "--replicas=3"],
        &["patch", "deployment", "dbsvc", "-p", r#"{"spec":{"replicas":2}}"#],
        &["patch", "deployment", "dbsvc", "--type=merge", "-p", r#"{"spec":{"replicas":3}}"#],
        &[
            "patch",
            "deployment",
            "dbsvc",
            "--type=json",
            "-p",
            r#"[{"op":"replace","path":"/spec/replicas","value":4}]"#,
        ],
        &["exec", "one", "--", "true"],
        &["logs", "one"],
    ] {
        let namespaced = [&["-n", "backend"], arguments].concat();
        lab.ok(&namespaced, "").await;
    }
    let replicas = lab.ok(&["get", "deploy", "dbsvc", "-n", "backend", "-o", "jsonpath={.spec.replicas}"], "").await;
    assert_eq!(replicas, "4");
    let replace = lab.ok(&["get", "pod", "one", "-n", "backend", "-o", "yaml"], "").await;
    lab.ok(&["replace", "-f", "-"], &replace).await;
    let server_side = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    assert_eq!(lab.ok(&server_side, MANIFEST).await.matches("serverside-applied").count(), 5);
    lab.ok(&["delete", "--wait", "--timeout=20s", "-f", "-"], MANIFEST).await;
    assert!(!lab.ok(&["get", "ns", "-o", "name"], "").await.contains("backend"));
}

/// These commands send protobuf with newer kubectls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_made_on_the_command_line() {
    if !kubectl_is_there() {
        return;
    }
    let lab = Lab::start().await;
    for arguments in [
        &["create", "namespace", "n"][..],
        &["create", "deployment", "d", "--image=x:1", "--replicas=2", "--port=80", "-n", "n"],
        &["create", "service", "nodeport", "s", "--tcp=80:http", "-n", "n"],
        &["create", "configmap", "m", "--from-literal=a=b", "-n", "n"],
        &["create", "secret", "generic", "s", "--from-literal=a=b", "-n", "n"],
        &["create", "serviceaccount", "a", "-n", "n"],
        &["run", "p", "--image=x:1", "-n", "n"],
        &["expose", "deployment", "d", "--port=80", "-n", "n"],
        &["set", "image", "deployment/d", "x=x:2", "-n", "n"],
    ] {
        lab.ok(arguments, "").await;
    }
    for (object, path, expected) in [
        ("deployment/d", "{.spec.replicas} {.spec.template.spec.containers[0].ports[0].containerPort}", "2 80"),
        ("deployment/d", "{.spec.template.spec.containers[0].image}", "x:2"),
        ("service/s", "{.spec.type} {.spec.ports[0].targetPort}", "NodePort http"),
        ("configmap/m", "{.data.a}", "b"),
        ("secret/s", "{.data.a}", "Yg=="),
    ] {
        let found = lab.ok(&["get", object, "-n", "n", "-o", &format!("jsonpath={path}")], "").await;
        assert_eq!(found, expected, "{object}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_name_the_field() {
    if !kubectl_is_there() {
        return;
    }
    let lab = Lab::start().await;
    // Not a flow mapping at the top: Debian's kubectl takes a text that begins with a brace for JSON.
    let policy = |spec: &str| {
        format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec: {{{spec}}}\n")
    };
    for (spec, expected) in [
        ("egress: [{ports: [{port: 99999}]}]", "spec.egress[0].ports[0].port: Invalid value: 99999"),
        ("ingress: [{ports: [{port: 1, protocol: XDP}]}]", "supported values: \"SCTP\", \"TCP\", \"UDP\""),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]", "ipBlock.except[0]"),
        ("ingress: [{from: [{}]}]", "spec.ingress[0].from[0]: Required value: must specify a peer"),
        // Older clients find it themselves, by the schema that they are served, and name it without its path.
        ("podSelektor: {}", "podSelektor\""),
    ] {
        let complaint = lab.fails(&["create", "-f", "-"], &policy(spec)).await;
        assert!(complaint.contains(expected), "{spec}: {complaint}");
    }
    let elsewhere = policy("podSelector: {}");
    let complaint = lab.fails(&["create", "-n", "nowhere", "-f", "-"], &elsewhere).await;
    assert!(complaint.contains("namespaces \"nowhere\" not found"), "{complaint}");
    lab.ok(&["run", "p", "--image=x:1"], "").await;
    for (arguments, expected) in [
        (
            &["patch", "pod", "p", "--type=json", "-p", r#"[{"op":"test","path":"/kind","value":"No"}]"#][..],
            "value did not match",
        ),
        (&["patch", "pod", "p", "--type=json", "-p", r#"[{"op":"remove","path":"/spec/no"}]"#], "'/spec/no'"),
        (&["exec", "p", "-c", "no", "--", "true"], "container no is not valid for pod p"),
    ] {
        let complaint = lab.fails(arguments, "").await;
        assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_prints_rows_as_they_change() {
    if !kubectl_is_there() {
        return;
    }
    let lab = Lab::start().await;
    let map = |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{{value}}}\n");
    lab.ok(&["create", "-f", "-"], &map("a: b")).await;
    let watch = lab.kubectl(&["get", "configmaps", "-w", "--request-timeout=4s"], "");
    let change = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        lab.ok(&["apply", "-f", "-"], &map("a: b, c: d")).await;
        lab.ok(&["delete", "configmap", "m"], "").await;
    };
    let (watch, ()) = tokio::join!(watch, change);
    let text = String::from_utf8_lossy(&watch.stdout).into_owned();
    assert_eq!(text.matches("NAME").count(), 1, "{text}");
    let rows: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(rows, ["1", "2", "2"], "{text}");
}
