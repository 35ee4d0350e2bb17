//! What the engine's tests share: short manifests, and short questions.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::IpAddr;

use serde_json::Value;
use signalbox_policy::{Cluster, Party, PodRef, Protocol, Verdict, parse_documents};

/// Reads manifests that must be sound as YAML.
pub fn objects(yaml: &str) -> Vec<Value> {
    parse_documents(yaml, "test").into_iter().map(|result| result.expect("the test's YAML is sound")).collect()
}

/// A cluster from manifests.
pub fn cluster(yaml: &str) -> Cluster {
    Cluster::from_objects(&objects(yaml))
}

/// A cluster in which everything must be understood.
pub fn sound(yaml: &str) -> Cluster {
    let cluster = cluster(yaml);
    assert_eq!(cluster.unknowns(), &[] as &[String]);
    cluster
}

/// `ns/name` is a pod, `node` the local node, anything else an address.
pub fn party(text: &str) -> Party {
    if text == "node" {
        return Party::LocalNode;
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Party::Address(address),
        Err(_) => {
            let (namespace, name) = text.split_once('/').expect("a pod is written namespace/name");
            Party::Pod(PodRef { namespace: namespace.to_owned(), name: name.to_owned() })
        }
    }
}

/// `TCP 80`.
pub fn port(text: &str) -> (Protocol, u16) {
    let (protocol, port) = text.split_once(' ').expect("a port is written with its protocol");
    let protocol = match protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        other => panic!("{other} is no protocol"),
    };
    (protocol, port.parse().expect("a port is a number"))
}

/// The verdict on `from -> to` at `TCP 80`.
pub fn ask(cluster: &Cluster, from: &str, to: &str, at: &str) -> Verdict {
    let (protocol, number) = port(at);
    cluster.verdict(&party(from), &party(to), protocol, number)
}

/// Checks cases of `(from, to, port, allowed)`, and that nothing is unknown.
pub fn check(cluster: &Cluster, cases: &[(&str, &str, &str, bool)]) {
    for (from, to, at, allowed) in cases {
        let verdict = ask(cluster, from, to, at);
        assert_eq!(verdict.allowed(), Some(*allowed), "{from} -> {to} {at}: {verdict:#?}");
    }
}

/// One pod in short: `pod("x/a", "app=a,tier=", "10.0.0.1", "http=TCP 80")`, on node `n1`.
pub fn pod(name: &str, labels: &str, addresses: &str, ports: &str) -> String {
    pod_on("n1", name, labels, addresses, ports)
}

/// The same on a given node.
pub fn pod_on(node: &str, name: &str, labels: &str, addresses: &str, ports: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("a pod is written namespace/name");
    let labels: serde_json::Map<String, Value> =
        pairs(labels).map(|(key, value)| (key.to_owned(), value.into())).collect();
    let ports: Vec<Value> = pairs(ports)
        .map(|(name, at)| {
            let (protocol, number) = at.split_once(' ').expect("a port is written with its protocol");
            let number: u16 = number.parse().expect("a port is a number");
            serde_json::json!({"name": name, "protocol": protocol, "containerPort": number})
        })
        .collect();
    let ips: Vec<Value> =
        addresses.split(',').filter(|ip| !ip.is_empty()).map(|ip| serde_json::json!({"ip": ip})).collect();
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "probe", "ports": ports}]},
        "status": {"phase": "Running", "podIPs": ips},
    });
    format!("---\n{object}\n")
}

/// A namespace with labels.
pub fn namespace(name: &str, labels: &str) -> String {
    let labels: serde_json::Map<String, Value> =
        pairs(labels).map(|(key, value)| (key.to_owned(), value.into())).collect();
    let object =
        serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    format!("---\n{object}\n")
}

/// A policy whose spec is YAML in flow style.
pub fn policy(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("a policy is written namespace/name");
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n"
    )
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').expect("a pair has a ="))
}

/// Unpacks one of the public suites. `None`: the user has accepted that it is not at hand, by `SIGNALBOX_SUITES=absent`.
///
/// # Panics
/// Where it is neither in the folder that `SIGNALBOX_SUITES` names, or without that in `../shared/suites` beside the
/// workspace, nor accepted to be absent: a test that is skipped in silence is a defect.
pub fn suite(name: &str) -> Option<tempfile::TempDir> {
    let variable = std::env::var_os("SIGNALBOX_SUITES");
    if variable.as_deref() == Some(std::ffi::OsStr::new("absent")) {
        eprintln!("SKIPPED: SIGNALBOX_SUITES=absent, nothing of the suite {name} was checked");
        return None;
    }
    let beside = || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/suites");
    let file = variable.map_or_else(beside, std::path::PathBuf::from).join(format!("{name}.tar.xz"));
    assert!(
        file.is_file(),
        "{} is not there: lay the suites there, name their folder in SIGNALBOX_SUITES, or accept with SIGNALBOX_SUITES=absent that nothing of them is checked",
        file.display()
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let status = std::process::Command::new("tar").arg("-xJf").arg(&file).arg("-C").arg(folder.path()).status();
    let status = status.expect("tar runs");
    assert!(status.success(), "tar -xJf {}: {status}", file.display());
    Some(folder)
}
