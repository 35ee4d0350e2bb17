//! `signalbox suggest` and `signalbox simplify`.

use serde_json::{Value, json};

use crate::analyze::{DB, PODS};
use crate::run::{Folder, Outcome, signalbox, signalbox_with};
use crate::schema;

/// Connections between different pods after these policies alone are applied.
fn connections(pods: &str, policies: &str) -> Value {
    let folder = Folder::new(&[("pods.yaml", pods), ("policies.yaml", policies)]);
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json", "--loopback", "omit"]);
    assert_eq!(outcome.json()["unknown"], json!([]), "{policies}");
    outcome.json()["connections"].clone()
}

fn suggest(needs: &str, more: &[&str]) -> Outcome {
    let folder = Folder::new(&[("pods.yaml", PODS)]);
    let path = folder.text();
    let args: Vec<&str> = ["suggest", "-", path.as_str()].iter().chain(more).copied().collect();
    signalbox_with(&args, needs)
}

#[test]
fn exactly_what_must_work_is_allowed_in_whatever_form_it_is_asked_for() {
    let wanted = json!([{"src": "shop/web", "dst": "shop/db", "ports": {"TCP": [[5432, 5432]], "UDP": [[53, 54]]}}]);
    for needs in [
        "# what the shop needs\nshop/web -> shop/db:5432   # its database\nshop/web shop/db:53-54/udp\n",
        "src,dst,protocol,port\nshop/web,shop/db,TCP,5432\nshop/web,shop/db,UDP,53\nshop/web,shop/db,UDP,54\n",
        "src,dst,family,protocol,first_port,last_port,verdict\nshop/web,shop/db,,TCP,5432,5432,open\nshop/web,shop/db,,UDP,53,54,open\nshop/db,shop/web,,TCP,1,9,unknown\n",
        &json!({"connections": wanted, "unknown": []}).to_string(),
        &wanted.to_string(),
    ] {
        let outcome = suggest(needs, &[]);
        assert_eq!(outcome.code, 0, "{needs}: {outcome:#?}");
        assert_eq!(connections(PODS, &outcome.out), wanted, "{needs}:\n{}", outcome.out);
        let value = suggest(needs, &["-o", "json"]).json();
        schema::check("suggest", &value);
    }
}

#[test]
fn what_analyze_prints_is_what_suggest_reads() {
    let before = Folder::new(&[("pods.yaml", PODS), ("db.yaml", DB)]);
    let analysed = signalbox(&["analyze", &before.text(), "-o", "json"]).out;
    let folder = Folder::new(&[("pods.yaml", PODS), ("db.yaml", DB)]);
    let outcome = signalbox_with(&["suggest", "-", &folder.text()], &analysed);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert_eq!(connections(PODS, &outcome.out), connections(PODS, DB), "{}", outcome.out);
}

/// Pods with addresses of both families, and policies that treat the families differently.
const DUAL: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec: {containers: [], nodeName: m}
status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
spec: {containers: [], nodeName: m}
status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: x}
spec: {containers: [], hostNetwork: true, nodeName: n}
status: {podIPs: [{ip: 172.16.0.1}, {ip: 'fc00::1'}]}
";

#[test]
fn what_differs_by_family_makes_the_round_trip_too() {
    let policies = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec:
  podSelector: {matchLabels: {app: b}}
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/24}}]
    ports: [{port: 80}]
  - from: [{ipBlock: {cidr: 'fd00::/64'}}]
    ports: [{port: 80}, {port: 443}]
  - from: [{ipBlock: {cidr: 'fc00::/64'}}]
    ports: [{port: 9100}]
";
    let before = Folder::new(&[("pods.yaml", DUAL), ("p.yaml", policies)]);
    for (format, more) in [("json", &[][..]), ("csv", &[]), ("json", &["--external"])] {
        let path = before.text();
        let args = [&["analyze", &path, "-o", format][..], more].concat();
        let analysed = signalbox(&args).out;
        assert!(analysed.contains("IPv6"), "{analysed}");
        let outcome = signalbox_with(&["suggest", "-", &before.text()], &analysed);
        assert_eq!(outcome.code, 0, "{format}: {outcome:#?}");
        assert_eq!(connections(DUAL, &outcome.out), connections(DUAL, policies), "{format}:\n{}", outcome.out);
    }
    // By hand, and what cannot be.
    let folder = Folder::new(&[("pods.yaml", DUAL)]);
    let outcome = signalbox_with(&["suggest", "-", &folder.text()], "x/a -> x/b:80/UDP ipv6\n");
    assert_eq!(
        connections(DUAL, &outcome.out)[0],
        json!({"src": "x/a", "dst": "x/b", "family": "IPv6", "ports": {"UDP": [[80, 80]]}}),
        "{}",
        outcome.out
    );
    let outcome = signalbox_with(&["suggest", "-", &folder.text()], "198.51.100.1 -> x/b:80 IPv6\n");
    assert_eq!(outcome.code, 1, "{outcome:#?}");
    assert!(outcome.err.contains("198.51.100.1-198.51.100.1: is not of IPv6"), "{}", outcome.err);
}

#[test]
fn needs_that_cannot_be_read_say_where() {
    for (needs, expected) in [
        ("shop/web -> shop/db", "line 1: \"shop/db\" names no port"),
        ("\nshop/web shop/db 80", "line 2: write one connection"),
        ("shop/web -> shop/db:80/ICMP", "write TCP, UDP or SCTP"),
        ("shop/web -> shop/db:90-80", "is no port or range"),
        ("web -> shop/db:80", "\"web\" is no end of a connection"),
        ("src,dst\na/b,c/d\n", "needs the columns"),
        ("{\"connections\": 1}", "must be a list"),
        ("[{\"src\": \"shop/web\", \"dst\": \"shop/db\"}]", "connections[0].ports"),
        (
            "[{\"src\": \"shop/web\", \"dst\": \"shop/db\", \"family\": \"IPv5\", \"ports\": {}}]",
            "connections[0].family: \"IPv5\" is no family; write IPv4 or IPv6",
        ),
        ("[1, ", "line 1, column"),
    ] {
        let outcome = suggest(needs, &[]);
        assert_eq!(outcome.code, 2, "{needs}: {outcome:#?}");
        assert!(outcome.err.contains(expected), "{needs}: {}", outcome.err);
    }
    let outcome = suggest("shop/gone -> shop/db:80", &[]);
    assert_eq!(outcome.code, 1, "{outcome:#?}");
    assert!(outcome.err.contains("shop/gone"), "{}", outcome.err);
}

#[test]
fn simpler_policies_mean_the_same() {
    let wordy = "\
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: one, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}, {port: 81}, {port: 80, endPort: 90}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: two, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 85}]}
";
    let folder = Folder::new(&[("pods.yaml", PODS), ("wordy.yaml", wordy)]);
    let outcome = signalbox(&["simplify", &folder.text(), "-o", "json"]);
    let value = outcome.json();
    schema::check("simplify", &value);
    assert!(!value["steps"].as_array().unwrap().is_empty(), "{value:#}");
    let yaml = signalbox(&["simplify", &folder.text()]).out;
    assert_eq!(connections(PODS, &yaml), connections(PODS, wordy), "{yaml}");
    assert!(yaml.contains("# kubectl delete networkpolicy --namespace shop"), "{yaml}");
    assert!(signalbox(&["simplify", &folder.text(), "-o", "table"]).out.contains("NetworkPolicy shop/"));
    assert_eq!(signalbox(&["simplify", &folder.text(), "--check"]).code, 1);
    let simple = Folder::new(&[("pods.yaml", PODS), ("simple.yaml", &yaml)]);
    let outcome = signalbox(&["simplify", &simple.text(), "--check"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (0, ""), "{outcome:#?}");
}
