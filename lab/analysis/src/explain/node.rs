//! Which node `node` is, where a Service is the destination: the pods behind it may be on several, and a node is exempt to its own
//! pods only (SEMANTICS 13).

use std::collections::BTreeMap;

use serde_json::Value;
use signalbox_policy::PodRef;

use super::ends::{object, suffix};
use super::service::Behind;
use crate::error::Error;
use crate::input::Input;

/// Makes sure that there is one node that is meant, and tells which.
///
/// # Errors
/// Where the pods behind the Service run on several nodes, or it is not known whether they do.
pub(super) fn is_one(behind: &Behind, input: &Input) -> Result<Option<String>, Error> {
    // Of one pod it is the pod's own, known or not, as where the pod itself is asked about.
    let [first, _, ..] = behind.backends.as_slice() else { return Ok(None) };
    let refused = |why: String, remedy: String| Error::Service { service: behind.id.to_string(), why, remedy };
    let mut nodes: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    let mut nowhere: Vec<&PodRef> = Vec::new();
    for backend in &behind.backends {
        let pod = object(input, &["Pod"], &backend.pod);
        match pod.and_then(|pod| pod.pointer("/spec/nodeName")?.as_str()).filter(|name| !name.is_empty()) {
            Some(name) => {
                let known = nodes.entry(name).or_default();
                *known = known.or_else(|| address(name, pod, input));
            }
            None => nowhere.push(&backend.pod),
        }
    }
    if let [pod, ..] = nowhere.as_slice() {
        return Err(refused(
            format!(
                "has several pods behind it, and \"node\" is the one that a pod runs on, which is not known of {pod}"
            ),
            format!(
                "ask about one of the pods, as in `signalbox explain node {}:{}{}`, or name the node by its address",
                first.pod,
                first.port,
                suffix(behind.protocol)
            ),
        ));
    }
    match nodes.keys().collect::<Vec<_>>().as_slice() {
        [name] => Ok(Some(format!("\"node\" is {name}, on which all of the pods behind Service {} run", behind.id))),
        _ => {
            let named = nodes.iter().map(|(name, address)| match address {
                Some(address) => format!("{name} ({address})"),
                None => (*name).to_owned(),
            });
            Err(refused(
                format!(
                    "has pods on several nodes, {}, each of which always reaches its own pods only",
                    named.collect::<Vec<_>>().join(", ")
                ),
                "in place of \"node\" name the node by its address, or ask about one of the pods".to_owned(),
            ))
        }
    }
}

/// A node's first address, from itself, or from a pod that it runs.
fn address<'i>(node: &str, pod: Option<&'i Value>, input: &'i Input) -> Option<&'i str> {
    let text = |value: &'i Value, path: &str| value.pointer(path).and_then(Value::as_str);
    let is_it =
        |object: &&'i Value| text(object, "/kind") == Some("Node") && text(object, "/metadata/name") == Some(node);
    let own = input.objects.iter().rev().find(is_it).and_then(|node| node.pointer("/status/addresses")?.as_array());
    let internal = own.into_iter().flatten().find(|one| text(one, "/type") == Some("InternalIP"));
    internal.and_then(|one| text(one, "/address")).or_else(|| text(pod?, "/status/hostIP"))
}
