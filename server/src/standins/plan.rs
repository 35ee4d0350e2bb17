//! What a stand-in is like, decided on the objects that the server knows. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use signalbox_api::flow::Protocol;
use signalbox_api::state::EndpointPort;
use signalbox_policy::{Cluster, Party, PodRef};

use super::labels::{Choice, Labels, ServiceLabels, choose};
use crate::cluster::objects::{Kind, Object, Objects};
use crate::matrix::parse::{self, PROBE_LABEL, STAND_IN_LABEL};

/// Pods that model and stand-in are compared on, at most.
const MOST_PEERS: usize = 500;
/// Differences that are told, at most.
const MOST_DIFFERENCES: usize = 8;
/// The pod in the engine's copy of the cluster.
const NAME: &str = "signalbox-stand-in";
/// And the one that it is compared with, which has the model's labels.
const MODEL: &str = "signalbox-model";

/// What is stood in for.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `deployment`, `statefulset`, ...; or `labels` where somebody chose a set of labels.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// The labels of its pods.
    pub labels: Labels,
    /// Their service account, by which some policies select.
    pub service_account: String,
    /// What its containers say that they listen on.
    pub ports: Vec<EndpointPort>,
}

/// One stand-in to be deployed, or several of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it stands in for.
    pub template: Template,
    /// Its labels.
    pub choice: Choice,
    /// The cluster's nodes that pods can be on.
    pub nodes: Vec<String>,
}

/// Plans a stand-in.
pub fn plan(objects: &Objects, template: Template, service_labels: ServiceLabels) -> Plan {
    let of_namespace = |object: &&Object| object.key.namespace == template.namespace;
    let selector = |object: &Object| -> Option<Labels> {
        serde_json::from_value(object.value.pointer("/spec/selector")?.clone()).ok()
    };
    let selectors: Vec<Labels> = objects.of(Kind::Service).filter(of_namespace).filter_map(selector).collect();
    let judged = Kind::ALL.into_iter().filter(|kind| kind.is_judged());
    let values = judged.flat_map(|kind| objects.of(kind)).map(|object| &object.value);
    let unseen = objects.unseen();
    let cluster = Cluster::from_objects(values);
    let cluster = if unseen.is_empty() { cluster } else { cluster.with_unread(unseen) };
    let peers: Vec<(PodRef, Vec<EndpointPort>)> = objects
        .of(Kind::Pod)
        .filter_map(parse::pod)
        .filter(|pod| !pod.addresses.is_empty())
        .take(MOST_PEERS)
        .map(|pod| (PodRef { namespace: pod.namespace, name: pod.name }, pod.ports))
        .collect();
    let choice =
        choose(&template.labels, &selectors, service_labels, |labels| differences(&cluster, &template, labels, &peers));
    let nodes = objects.of(Kind::Node).map(|object| object.key.name.clone()).collect();
    Plan { template, choice, nodes }
}

/// The labels that every stand-in has besides its model's.
pub fn own_labels(template: &Template) -> Labels {
    let stands_in_for = label_value(&format!("{}.{}", template.kind, template.name));
    BTreeMap::from([(PROBE_LABEL.to_owned(), String::new()), (STAND_IN_LABEL.to_owned(), stands_in_for)])
}

/// What can be a label's value: at most 63 characters of a few kinds.
fn label_value(text: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let text: String = text.chars().map(fits).take(63).collect();
    text.trim_matches(['-', '_', '.']).to_owned()
}

/// How the policies treat a pod with these labels otherwise than its model, in words.
fn differences(
    cluster: &Cluster,
    template: &Template,
    labels: &Labels,
    peers: &[(PodRef, Vec<EndpointPort>)],
) -> Vec<String> {
    let mut own = labels.clone();
    own.extend(own_labels(template));
    // The Job controller's.
    for key in ["job-name", "controller-uid", "batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid"] {
        own.insert(key.to_owned(), NAME.to_owned());
    }
    let pods = [pod(MODEL, template, &template.labels, "192.0.2.1"), pod(NAME, template, &own, "192.0.2.2")];
    let cluster = cluster.with_change(&pods, []);
    let pod = |name: &str| PodRef { namespace: template.namespace.clone(), name: name.to_owned() };
    let (model, stand_in) = (pod(MODEL), pod(NAME));
    let mut found = Vec::new();
    for policy in cluster.policies() {
        let selected = cluster.selected_by(&policy.id);
        let name = match &policy.id.namespace {
            Some(namespace) => format!("{} {namespace}/{}", policy.id.kind, policy.id.name),
            None => format!("{} {}", policy.id.kind, policy.id.name),
        };
        match (selected.contains(&model), selected.contains(&stand_in)) {
            (true, false) => found.push(format!("{name} selects {} and not its stand-in", template.name)),
            (false, true) => found.push(format!("{name} selects the stand-in and not {}", template.name)),
            (true, true) | (false, false) => {}
        }
    }
    let (model, stand_in) = (Party::Pod(model), Party::Pod(stand_in));
    for (peer, ports) in peers {
        let party = Party::Pod(peer.clone());
        let name = format!("{}/{}", peer.namespace, peer.name);
        for port in ports {
            let verdict = |from: &Party| cluster.verdict(from, &party, engine(port.protocol), port.port).allowed();
            if verdict(&model) != verdict(&stand_in) {
                found.push(format!(
                    "the policies judge the stand-in's way to {name}:{} otherwise than {}'s",
                    port.port, template.name
                ));
            }
        }
        for port in &template.ports {
            let verdict = |to: &Party| cluster.verdict(&party, to, engine(port.protocol), port.port).allowed();
            if verdict(&model) != verdict(&stand_in) {
                found.push(format!(
                    "the policies judge {name}'s way to port {} of the stand-in otherwise than to {}'s",
                    port.port, template.name
                ));
            }
        }
        if found.len() > MOST_DIFFERENCES {
            break;
        }
    }
    let more = found.len().saturating_sub(MOST_DIFFERENCES);
    found.truncate(MOST_DIFFERENCES);
    if more > 0 {
        found.push("and more".to_owned());
    }
    found
}

/// A pod that is there for the engine only.
fn pod(name: &str, template: &Template, labels: &Labels, address: &str) -> Value {
    let ports: Vec<Value> = template.ports.iter().map(port).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": template.namespace, "labels": labels},
        "spec": {"serviceAccountName": template.service_account, "containers": [{"name": "c", "ports": ports}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

/// A container's port.
pub fn port(port: &EndpointPort) -> Value {
    let mut value = json!({"containerPort": port.port, "protocol": port.protocol.as_str()});
    if let Some(name) = &port.name {
        value["name"] = name.clone().into();
    }
    value
}

const fn engine(protocol: Protocol) -> signalbox_policy::Protocol {
    match protocol {
        Protocol::Tcp => signalbox_policy::Protocol::Tcp,
        Protocol::Udp => signalbox_policy::Protocol::Udp,
        Protocol::Sctp => signalbox_policy::Protocol::Sctp,
    }
}
