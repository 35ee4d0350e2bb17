//! The two ends of a connection, as people write them.

use std::net::IpAddr;

use serde_json::Value;
use signalbox_policy::{Cluster, Family, Party, PodRef, Protocol};

use super::node;
use super::service::{self, Behind, Selected};
use crate::error::Error;
use crate::input::Input;
use crate::source::Origin;

const HOW_TO_NAME: &str = "write NAMESPACE/POD, NAMESPACE/WORKLOAD, NAMESPACE/service/NAME as a destination, an address, outside/HOST, or `node`";
const HOW_TO_PORT: &str = "write a port behind the name, as in shop/db:5432, shop/dns:53/UDP or [2001:db8::1]:443";

/// Kinds that have a template for pods.
const WORKLOADS: [&str; 7] =
    ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"];

/// One end.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub party: Party,
    /// How to call it.
    pub name: String,
}

/// Both, and the port.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub from: End,
    pub to: Target,
    pub protocol: Protocol,
    /// As it was asked for: a Service's own.
    pub port: u16,
    pub notes: Vec<String>,
}

/// What is connected to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    End(End),
    Service(Behind),
}

impl Ends {
    pub(super) fn find(from: &str, to: &str, input: &Input, cluster: &Cluster) -> Result<Self, Error> {
        let mut notes = Vec::new();
        if let Some(id) = service::named(from) {
            let why = "starts no connection".to_owned();
            let remedy = "name the pod or the workload that does".to_owned();
            return Err(Error::Service { service: id.to_string(), why, remedy });
        }
        let from = end(from, input, cluster, &mut notes)?;
        // A Service may be asked about without a port, where it has one only.
        let (name, port) = split_port(to).map_or((to, None), |(name, port)| (name, Some(port)));
        if let Some(id) = service::named(name) {
            let behind = Behind::find(id, port, input, cluster, &mut notes)?;
            return Self::behind(from, behind, input, notes);
        }
        let (to_text, port) = split_port(to)?;
        if let Ok(address) = without_brackets(to_text).parse::<IpAddr>()
            && let Some(id) = service::at(address, port, input)?
        {
            notes.push(format!("{address} is the address of Service {id}: policies are judged on the pods behind it"));
            let mut behind = Behind::find(id, Some(port), input, cluster, &mut notes)?;
            behind.families = vec![Family::of(address)];
            return Self::behind(from, behind, input, notes);
        }
        let to = end(to_text, input, cluster, &mut notes)?;
        let (protocol, port) = self::port(port, &to, input)?;
        if let Party::Pod(pod) = &to.party {
            notes.extend(service_note(to_text, protocol, port, pod, input, cluster));
        }
        Ok(Self { from, to: Target::End(to), protocol, port, notes })
    }

    fn behind(from: End, behind: Behind, input: &Input, mut notes: Vec<String>) -> Result<Self, Error> {
        if from.party == Party::LocalNode {
            notes.extend(node::is_one(&behind, input)?);
        }
        Ok(Self { from, protocol: behind.protocol, port: behind.port, to: Target::Service(behind), notes })
    }

    /// How to call what is connected to.
    pub(super) fn to_name(&self) -> String {
        match &self.to {
            Target::End(end) => end.name.clone(),
            Target::Service(behind) => service::end(&behind.id),
        }
    }
}

/// What stands before the port, and what behind. An IPv6 address stands in brackets.
fn split_port(text: &str) -> Result<(&str, &str), Error> {
    let wrong = || Error::Usage(format!("{text:?} names no port; {HOW_TO_PORT}"));
    let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_bare_v6 = text.parse::<IpAddr>().is_ok();
    if is_bare_v6 || name.is_empty() || port.is_empty() || port.contains(']') {
        return Err(wrong());
    }
    Ok((name, port))
}

fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

fn end(text: &str, input: &Input, cluster: &Cluster, notes: &mut Vec<String>) -> Result<End, Error> {
    if text == "node" {
        return Ok(End { party: Party::LocalNode, name: "its node".to_owned() });
    }
    if let Ok(address) = without_brackets(text).parse::<IpAddr>() {
        return Ok(End { party: Party::Address(address), name: address.to_string() });
    }
    let Some((namespace, name)) = text.split_once('/') else {
        return Err(Error::Usage(format!("{text:?} is no end of a connection; {HOW_TO_NAME}")));
    };
    // A namespace may be called `service`: `service/pod/web` is a pod of it.
    let name = name.strip_prefix("pod/").unwrap_or(name);
    let wanted = PodRef { namespace: namespace.to_owned(), name: name.to_owned() };
    // A pod that has ended is one all the same: the engine says so.
    let is_pod = cluster.pods().any(|pod| *pod == wanted) || object(input, &["Pod"], &wanted).is_some();
    if is_pod {
        return Ok(pod(wanted));
    }
    let pods: Vec<&PodRef> = cluster.pods().filter(|pod| belongs(input, pod, &wanted)).collect();
    if let Some(first) = pods.first() {
        if pods.len() > 1 {
            notes.push(format!("{first} stands for {wanted}, which has {} pods", pods.len()));
        }
        return Ok(pod((*first).clone()));
    }
    if namespace == OUTSIDE
        && let Some(address) = host(name, input)?
    {
        notes.push(format!("{wanted} is {address}"));
        return Ok(End { party: Party::Address(address), name: address.to_string() });
    }
    Err(not_found(&wanted, input, cluster))
}

/// Before the name of a host outside, as the server calls them.
const OUTSIDE: &str = "outside";

/// The first address of an ExternalHost; `None` where there is none of that name.
fn host(name: &str, input: &Input) -> Result<Option<IpAddr>, Error> {
    let is_it = |object: &&Value| {
        let text = |field: &str| object.pointer(field).and_then(Value::as_str);
        text("/kind") == Some("ExternalHost") && text("/metadata/name") == Some(name)
    };
    let Some(host) = input.objects.iter().rev().find(is_it) else { return Ok(None) };
    let address = host.pointer("/spec/addresses/0").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let none = || Error::Usage(format!("ExternalHost {name} has no address that can be read; name the address"));
    address.map(Some).ok_or_else(none)
}

/// A pod's labels, or those that a workload gives its pods.
pub(super) fn pod_labels<'i>(pod: &PodRef, input: &'i Input) -> Option<&'i Value> {
    if let Some(pod) = object(input, &["Pod"], pod) {
        return pod.pointer("/metadata/labels");
    }
    let workload = object(input, &WORKLOADS, pod)?;
    let templates = ["/spec/template", "/spec/jobTemplate/spec/template"];
    templates.iter().find_map(|template| workload.pointer(template)?.pointer("/metadata/labels"))
}

/// Where a Service of the destination's name has that port, too, and leads elsewhere: what was asked is not about it.
fn service_note(
    text: &str,
    protocol: Protocol,
    port: u16,
    pod: &PodRef,
    input: &Input,
    cluster: &Cluster,
) -> Option<String> {
    let (namespace, name) = text.split_once('/')?;
    let id = PodRef { namespace: namespace.to_owned(), name: name.to_owned() };
    let service = object(input, &["Service"], &id)?;
    // Without an address of its own it translates nothing.
    if service.pointer("/spec/clusterIP").and_then(Value::as_str) == Some("None") {
        return None;
    }
    let (_, _, entry) = service::ports(service).find(|(number, own, _)| (*number, *own) == (port, protocol))?;
    let about = format!("Service {id} has port {port}/{protocol}, too, and");
    if !service::selects(service) {
        return Some(format!("{about} no selector, so that where it leads is not known: this answer is not about it"));
    }
    let selected = Selected::of(service, &id, input, cluster);
    if selected.ready.is_empty() {
        return Some(format!("{about} {}: this answer is not about it", selected.nobody()));
    }
    if !selected.ready.contains(pod) {
        return Some(format!(
            "{about} leads to others than {pod}: this answer is not about it; ask about {}:{port}{}",
            service::end(&id),
            suffix(protocol)
        ));
    }
    match service::target_port(entry, protocol, port, pod, input) {
        Some(target) if target == port => None,
        Some(target) => Some(format!(
            "{about} leads to its pods' port {target}: this answer is not about it; ask about {text}:{target}{}",
            suffix(protocol)
        )),
        None => Some(format!(
            "{about} leads to a port that {pod} does not declare: this answer is not about it; ask about the port that its pods listen on"
        )),
    }
}

/// A protocol behind a port, where it has to be named.
pub(super) fn suffix(protocol: Protocol) -> String {
    if protocol == Protocol::Tcp { String::new() } else { format!("/{protocol}") }
}

fn pod(id: PodRef) -> End {
    End { name: id.to_string(), party: Party::Pod(id) }
}

/// Whether a pod is a workload's: its controller, or that controller's.
fn belongs(input: &Input, pod: &PodRef, workload: &PodRef) -> bool {
    if pod.namespace != workload.namespace {
        return false;
    }
    let Some(object) = object(input, &["Pod"], pod) else { return false };
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let hash = object.pointer("/metadata/labels/pod-template-hash").and_then(Value::as_str);
    owners.into_iter().flatten().any(|owner| {
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        let of_controller = match text("kind") {
            // A Deployment's ReplicaSet is called after it and the template's hash.
            "ReplicaSet" => hash.and_then(|hash| text("name").strip_suffix(hash)?.strip_suffix('-')),
            // A CronJob's Job, after it and the time.
            "Job" => text("name").rsplit_once('-').map(|(name, _)| name),
            _ => None,
        };
        text("name") == workload.name || of_controller == Some(&workload.name)
    })
}

fn not_found(wanted: &PodRef, input: &Input, cluster: &Cluster) -> Error {
    let is_live = input.origins.iter().any(|origin| matches!(origin, Origin::Cluster));
    let remedy = if is_live {
        "check the namespace and the name; what is outside is asked for by its address, or as outside/NAME where an ExternalHost has that name"
    } else {
        "check the namespace and the name, or give more files"
    };
    if object(input, &["Service"], wanted).is_some() {
        let why = "is no pod or workload, and policies are judged on the pods behind it".to_owned();
        let remedy = format!("as a destination write {}", service::end(wanted));
        return Error::Service { service: wanted.to_string(), why, remedy };
    }
    let by_name = cluster.pods().find(|pod| pod.name == wanted.name);
    let near = || cluster.pods().find(|pod| pod.namespace == wanted.namespace && pod.name.starts_with(&wanted.name));
    let hint = by_name.or_else(near).map(ToString::to_string);
    Error::NotFound { what: format!("{wanted}"), hint, remedy }
}

/// The object of one of these kinds with that name; of several the last.
pub(super) fn object<'i>(input: &'i Input, kinds: &[&str], id: &PodRef) -> Option<&'i Value> {
    let text = |object: &'i Value, field: &str| object.pointer(field).and_then(Value::as_str);
    input.objects.iter().rev().find(|object| {
        text(object, "/kind").is_some_and(|kind| kinds.contains(&kind))
            && text(object, "/metadata/name") == Some(&id.name)
            && text(object, "/metadata/namespace").unwrap_or("default") == id.namespace
    })
}

/// `80`, `80/UDP`, or a name that the destination gives one of its ports.
fn port(text: &str, to: &End, input: &Input) -> Result<(Protocol, u16), Error> {
    let (number, protocol) = match text.split_once('/') {
        Some((number, protocol)) => (number, Some(protocol)),
        None => (text, None),
    };
    let protocol = protocol.map(self::protocol).transpose()?;
    if number.chars().all(|c| c.is_ascii_digit()) {
        let port = number.parse::<u16>().ok().filter(|port| *port >= 1);
        let port =
            port.ok_or_else(|| Error::Usage(format!("port {number} is not between 1 and 65535; {HOW_TO_PORT}")))?;
        return Ok((protocol.unwrap_or(Protocol::Tcp), port));
    }
    let Party::Pod(pod) = &to.party else {
        return Err(Error::Usage(format!("{number:?}: only pods give their ports names; write the number")));
    };
    named_port(number, protocol, pod, input).ok_or_else(|| Error::NotFound {
        what: format!("a port {number:?} of {pod}"),
        hint: None,
        remedy: "write the port's number, or the name that a container gives it",
    })
}

/// By its name, in whatever case.
pub(super) fn protocol(text: &str) -> Result<Protocol, Error> {
    match text.to_uppercase().as_str() {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        other => Err(Error::Usage(format!("{other:?} is no protocol; write TCP, UDP or SCTP"))),
    }
}

pub(super) fn named_port(
    name: &str,
    protocol: Option<Protocol>,
    pod: &PodRef,
    input: &Input,
) -> Option<(Protocol, u16)> {
    let kinds: Vec<&str> = std::iter::once("Pod").chain(WORKLOADS).collect();
    let object = object(input, &kinds, pod)?;
    let specs = ["/spec", "/spec/template/spec", "/spec/jobTemplate/spec/template/spec"];
    let lists = specs.iter().flat_map(|spec| ["initContainers", "containers"].map(|list| format!("{spec}/{list}")));
    let containers = lists.filter_map(|path| object.pointer(&path)?.as_array()).flatten();
    let mut ports = containers.filter_map(|container| container.get("ports")?.as_array()).flatten();
    ports.find_map(|port| {
        let own = match port.get("protocol").and_then(Value::as_str) {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(_) => return None,
        };
        let is_it =
            port.get("name").and_then(Value::as_str) == Some(name) && protocol.is_none_or(|wanted| wanted == own);
        let number = port.get("containerPort").and_then(Value::as_u64)?;
        is_it.then_some((own, u16::try_from(number).ok()?))
    })
}
