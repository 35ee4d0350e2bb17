//! Answers that need all that the loop knows. [`trace`]: what is so of one connection.

mod trace;

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;
use signalbox_api::node::{Condition, PodRow};
use signalbox_policy::PodRef;

use super::Core;
use crate::{
    conditions::{News, Noted},
    store::{Kind, key},
};
pub use trace::{End, NoAnswer, TraceQuestion, sentence};

/// How many pods a condition names.
const PODS_NAMED: usize = 5;

/// Where a pod of this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its addresses, never none.
    pub addresses: Vec<IpAddr>,
    /// Its interface in the node's namespace.
    pub interface: u32,
    /// The number of its namespace; `None`: its place is inherited from a process before.
    pub inode: Option<u64>,
    /// Tells it from another pod of the same name.
    pub uid: String,
}

/// Why there is no entering a pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWayIn {
    /// The first lists are not complete.
    #[error("the enforcer of this node does not know the cluster yet; try again in a moment")]
    NotReady,
    /// There is no such pod here.
    #[error("there is no pod {pod} on the node {node}, as far as its enforcer knows")]
    NotHere {
        /// `namespace/name`.
        pod: String,
        /// The node.
        node: String,
    },
    /// It has the node's namespace.
    #[error(
        "{0} has hostNetwork: its network is the node's, which policies of pods do not judge, and no probe is started there"
    )]
    HostNetwork(String),
    /// Nothing has its address.
    #[error("no network namespace with the address of {0} is found on the node: is it running?")]
    NotFound(String),
}

impl Core {
    /// The node's pods.
    pub fn pod_rows(&self) -> Vec<PodRow> {
        let bound = self.datapath.bound();
        let mut rows: Vec<PodRow> = self
            .tables
            .pods
            .iter()
            .map(|pod| PodRow { pod: pod.pod.to_string(), interface: bound.get(&pod.pod).copied(), gate: None })
            .collect();
        rows.sort_by(|a, b| (a.interface.is_none(), &a.pod).cmp(&(b.interface.is_none(), &b.pod)));
        rows
    }

    /// Policies that are in audit: `Kind namespace/name`.
    pub fn policies_in_audit(&self) -> Vec<String> {
        self.store.audited().map(|(_, policy)| policy_name(policy)).collect()
    }

    /// The interface of a pod of this node; `None`: not of this node, or not found.
    pub fn interface_of(&self, pod: &PodRef) -> Option<u32> {
        self.datapath.bound().get(pod).copied()
    }

    /// Where a pod of this node is, as the cluster and the node's interfaces say. Only pods whose traffic is judged are anywhere.
    ///
    /// # Errors
    ///
    /// Where it is not of this node, has the node's network, or is not found.
    pub fn whereabouts(&self, pod: &PodRef) -> Result<Whereabouts, NoWayIn> {
        if !self.store.is_ready() {
            return Err(NoWayIn::NotReady);
        }
        let name = pod.to_string();
        let not_here = || NoWayIn::NotHere { pod: name.clone(), node: self.node.clone() };
        let object = self.store.of_kind(Kind::Pod).find(|object| key(object) == name).ok_or_else(not_here)?;
        if object["spec"]["nodeName"] != self.node.as_str() {
            return Err(not_here());
        }
        if object["spec"]["hostNetwork"] == Value::Bool(true) {
            return Err(NoWayIn::HostNetwork(name));
        }
        let addresses = self.addresses_of(pod);
        let Some(interface) = self.interface_of(pod).filter(|_| !addresses.is_empty()) else {
            return Err(NoWayIn::NotFound(name));
        };
        let inode = self.pods.get(pod).map(|(_, found)| found.inode).filter(|inode| *inode != super::HEIR);
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        Ok(Whereabouts { addresses, interface, inode, uid })
    }

    /// Policies that are not enforced as they are written.
    pub fn conditions(&self) -> Vec<Condition> {
        let not_understood = self.unknowns.iter().map(|problem| Condition {
            object: problem.object.clone(),
            path: problem.path.clone(),
            reason: "NotUnderstood".to_owned(),
            message: format!(
                "{problem}: what it may allow is not allowed, and what it may deny is denied (docs/adr/0006)"
            ),
        });
        let mut pods: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (pod, policies) in self.datapath.unfit() {
            for policy in policies {
                pods.entry(policy.to_string()).or_default().push(pod.to_string());
            }
        }
        let unfit = pods.into_iter().map(|(object, mut pods)| {
            pods.sort();
            let count = pods.len();
            pods.truncate(PODS_NAMED);
            let more = if count > pods.len() { format!(" and {} more", count - pods.len()) } else { String::new() };
            Condition {
                object,
                path: String::new(),
                reason: "MapFull".to_owned(),
                message: format!(
                    "it does not fit into the kernel's tables, so that {}{more} deny all that their policies judge: raise the limit --policies",
                    pods.join(", ")
                ),
            }
        });
        not_understood.chain(unfit).collect()
    }

    /// Tells of conditions on policies, where they have changed.
    pub(super) fn note(&self) {
        let conditions = self.conditions();
        if conditions.is_empty() && self.noted.borrow().noted.is_empty() {
            return;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut news = News::default();
        for object in self.store.objects() {
            if !object["kind"].as_str().is_some_and(|kind| kind.ends_with("NetworkPolicy")) {
                continue;
            }
            news.present.extend(text(&object["metadata"]["uid"]));
            let name = policy_name(object);
            let reference = || ObjectReference {
                api_version: text(&object["apiVersion"]),
                kind: text(&object["kind"]),
                name: text(&object["metadata"]["name"]),
                namespace: text(&object["metadata"]["namespace"]),
                uid: text(&object["metadata"]["uid"]),
                ..ObjectReference::default()
            };
            let about = conditions.iter().filter(|condition| condition.object == name);
            news.noted.extend(about.map(|condition| Noted { object: reference(), condition: condition.clone() }));
        }
        self.noted.send_if_modified(|known| {
            let changed = known.noted != news.noted;
            *known = news;
            changed
        });
    }

    fn addresses_of(&self, pod: &PodRef) -> Vec<IpAddr> {
        let wanted = pod.to_string();
        let Some(object) = self.store.of_kind(Kind::Pod).find(|object| key(object) == wanted) else {
            return Vec::new();
        };
        if object["spec"]["hostNetwork"] == Value::Bool(true) {
            return Vec::new();
        }
        let status = &object["status"];
        let listed = status["podIPs"].as_array().into_iter().flatten().map(|entry| &entry["ip"]);
        let mut addresses: Vec<IpAddr> = Vec::new();
        for text in std::iter::once(&status["podIP"]).chain(listed) {
            let address = text.as_str().and_then(|text| text.parse().ok());
            addresses.extend(address.filter(|address| !addresses.contains(address)));
        }
        addresses
    }
}

/// Kind and name, as the engine's problems name objects.
fn policy_name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    format!("{kind} {}", key(object).trim_start_matches('/'))
}
