//! A Service as the destination: the pods behind it, and the port that each has for one of its ports.
//!
//! Policies are judged after the translation, on the pod's address and the target port (SEMANTICS 11): of a Service itself there is nothing
//! to judge.

use std::net::IpAddr;

use serde_json::Value;
use signalbox_policy::{Cluster, Family, PodRef, Protocol};

use super::ends::{named_port, object, pod_labels, protocol, suffix};
use crate::error::Error;
use crate::input::Input;

/// A Service's port, and where it leads.
#[derive(Clone, Debug)]
pub(super) struct Behind {
    pub id: PodRef,
    pub protocol: Protocol,
    /// The Service's own.
    pub port: u16,
    /// Never empty.
    pub backends: Vec<Backend>,
    /// Of the Service's addresses; empty where none is known.
    pub families: Vec<Family>,
}

/// A pod, and its port.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub pod: PodRef,
    pub port: u16,
}

/// The Service that is meant by `NAMESPACE/service/NAME` or `NAMESPACE/svc/NAME`.
pub(super) fn named(text: &str) -> Option<PodRef> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [namespace, "service" | "services" | "svc", name] if !namespace.is_empty() && !name.is_empty() => {
            Some(PodRef { namespace: (*namespace).to_owned(), name: (*name).to_owned() })
        }
        _ => None,
    }
}

/// The Service that has an address of the cluster's own range. `port` is what is asked for there, as people write it.
///
/// # Errors
/// Where a Service has it as an address for others at that port: what becomes of it depends on who translates. At other ports the
/// address is whoever's it is, as no Service's.
pub(super) fn at(address: IpAddr, port: &str, input: &Input) -> Result<Option<PodRef>, Error> {
    let is_it = |text: &str| text.parse() == Ok(address);
    let asked = Asked::read(port)?;
    for service in services(input) {
        let Some(id) = id(service) else { continue };
        if cluster_addresses(service).any(is_it) {
            return Ok(Some(id));
        }
        let external = texts(service.pointer("/spec/externalIPs"));
        let balancers = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
        let balanced = balancers.into_iter().flatten().filter_map(|one| one.get("ip")?.as_str());
        if external.chain(balanced).any(is_it)
            && let Some((number, protocol, _)) = ports(service).find(|port| asked.is(port))
        {
            return Err(refused(
                &id,
                format!(
                    "has {address} as an address for others at port {number}/{protocol}, and policies are judged behind it, not on that address"
                ),
                format!("ask about {id_as_end}, or about one of its pods", id_as_end = end(&id)),
            ));
        }
    }
    Ok(None)
}

/// How to ask about a Service.
pub(super) fn end(id: &PodRef) -> String {
    format!("{}/service/{}", id.namespace, id.name)
}

impl Behind {
    /// The pods behind a Service's port: `port` is its number, its number and protocol, or its name; `None` stands for the only one.
    pub(super) fn find(
        id: PodRef,
        port: Option<&str>,
        input: &Input,
        cluster: &Cluster,
        notes: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let Some(service) = object(input, &["Service"], &id) else { return Err(missing(&id, input)) };
        let text = |path: &str| service.pointer(path).and_then(Value::as_str);
        if text("/spec/type") == Some("ExternalName") {
            let name = text("/spec/externalName").unwrap_or("nothing");
            return Err(refused(
                &id,
                format!("is an ExternalName: it stands for the name {name} in DNS, and translates nothing"),
                "ask about the address that the name has, or about outside/NAME where an ExternalHost has it"
                    .to_owned(),
            ));
        }
        let chosen = choose(&id, service, port);
        let selected = Selected::of(service, &id, input, cluster);
        if cluster_addresses(service).any(|address| address == "None") {
            let example = selected.ready.first().map_or("NAMESPACE/POD".to_owned(), ToString::to_string);
            // It needs no ports, and those that it has lead nowhere.
            let dialled = match (chosen, port) {
                (Ok((protocol, number, _)), _) => format!("{number}{}", suffix(protocol)),
                (Err(Error::Service { .. }), port) => port.unwrap_or("PORT").to_owned(),
                (Err(error), _) => return Err(error),
            };
            return Err(refused(
                &id,
                "is headless: its name leads to its pods' own addresses, and no port is translated".to_owned(),
                format!("ask about one of its pods at the port that is dialled, as in {example}:{dialled}"),
            ));
        }
        let (protocol, number, entry) = chosen?;
        if !selects(service) {
            return Err(refused(
                &id,
                "has no selector: its backends are what somebody writes into EndpointSlices, which are not read here"
                    .to_owned(),
                format!(
                    "look with `kubectl get endpointslices -n {} -l kubernetes.io/service-name={}`, and ask about those addresses at their ports",
                    id.namespace, id.name
                ),
            ));
        }
        if selected.ready.is_empty() {
            return Err(refused(&id, selected.nobody(), selected.remedy()));
        }
        if !selected.others.is_empty() {
            notes.push(format!("not ready, so that Service {id} does not lead there: {}", list(&selected.others)));
        }
        if text("/spec/internalTrafficPolicy") == Some("Local") {
            notes.push(format!("Service {id} has internalTrafficPolicy Local: of these pods it leads to those on the client's own node only"));
        }
        let target = |pod: &PodRef| target_port(entry, protocol, number, pod, input);
        let (with, without): (Vec<_>, Vec<_>) = selected.ready.iter().partition(|pod| target(pod).is_some());
        let name = entry.get("targetPort").and_then(Value::as_str).unwrap_or_default();
        if with.is_empty() {
            return Err(refused(
                &id,
                format!(
                    "leads from port {number}/{protocol} to the port called {name:?}, which none of its pods declares: {}",
                    list(&without)
                ),
                format!("give a container's port the name {name:?}, or the Service a targetPort that there is"),
            ));
        }
        if !without.is_empty() {
            notes.push(format!(
                "without a port called {name:?}, so that Service {id} does not lead there: {}",
                list(&without)
            ));
        }
        let backends =
            with.into_iter().filter_map(|pod| Some(Backend { pod: pod.clone(), port: target(pod)? })).collect();
        let mut families: Vec<Family> =
            cluster_addresses(service).filter_map(|address| address.parse().ok()).map(Family::of).collect();
        families.sort_unstable();
        families.dedup();
        Ok(Self { id, protocol, port: number, backends, families })
    }
}

/// The pods that a Service's selector selects.
#[derive(Debug, Default)]
pub(super) struct Selected {
    pub ready: Vec<PodRef>,
    /// Those that are not ready, are ending, or have ended.
    pub others: Vec<PodRef>,
}

impl Selected {
    pub(super) fn of(service: &Value, id: &PodRef, input: &Input, cluster: &Cluster) -> Self {
        let mut selected = Self::default();
        let selector = service.pointer("/spec/selector").and_then(Value::as_object);
        let Some(selector) = selector.filter(|selector| !selector.is_empty()) else { return selected };
        let unready_too = service.pointer("/spec/publishNotReadyAddresses").and_then(Value::as_bool) == Some(true);
        for pod in cluster.pods().filter(|pod| pod.namespace == id.namespace) {
            let labels = pod_labels(pod, input);
            if selector.iter().any(|(key, value)| labels.and_then(|labels| labels.get(key)) != Some(value)) {
                continue;
            }
            match readiness(object(input, &["Pod"], pod)) {
                Readiness::Ready => selected.ready.push(pod.clone()),
                Readiness::NotYet if unready_too => selected.ready.push(pod.clone()),
                Readiness::NotYet | Readiness::Ended => selected.others.push(pod.clone()),
            }
        }
        selected
    }

    /// What is so of a Service that has none.
    pub(super) fn nobody(&self) -> String {
        match self.others.as_slice() {
            [] => "selects no ready pod: no pod has the labels of its selector".to_owned(),
            others => format!(
                "selects no ready pod: {} {} not ready",
                list(others),
                if others.len() == 1 { "is" } else { "are" }
            ),
        }
    }

    fn remedy(&self) -> String {
        match self.others.first() {
            None => "compare its selector with the labels of the pods that it is meant for".to_owned(),
            Some(pod) => format!(
                "see why with `kubectl describe pod -n {} {}`; the pod itself can be asked about at its own port",
                pod.namespace, pod.name
            ),
        }
    }
}

/// Whether a Service leads to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    NotYet,
    Ended,
}

/// A manifest has no status, and a workload stands for pods to come: these are taken to become ready.
fn readiness(pod: Option<&Value>) -> Readiness {
    let Some(pod) = pod else { return Readiness::Ready };
    let phase = pod.pointer("/status/phase").and_then(Value::as_str);
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Readiness::Ended;
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null()) {
        return Readiness::NotYet;
    }
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|one| one["type"] == "Ready");
    match (ready, phase) {
        (Some(condition), _) if condition["status"] == "True" => Readiness::Ready,
        (Some(_), _) | (None, Some("Pending" | "Unknown")) => Readiness::NotYet,
        (None, _) => Readiness::Ready,
    }
}

/// The port of a pod to which a Service's port leads; `None` where it has a name that the pod lacks.
pub(super) fn target_port(entry: &Value, protocol: Protocol, port: u16, pod: &PodRef, input: &Input) -> Option<u16> {
    match entry.get("targetPort") {
        None | Some(Value::Null) => Some(port),
        Some(Value::String(name)) => named_port(name, Some(protocol), pod, input).map(|(_, number)| number),
        // The API server writes what was left out as it takes it: as the Service's own.
        Some(number) if number.as_u64() == Some(0) => Some(port),
        Some(number) => number.as_u64().and_then(|number| number.try_into().ok()),
    }
}

/// A Service's ports: number, protocol, entry.
pub(super) fn ports(service: &Value) -> impl Iterator<Item = (u16, Protocol, &Value)> {
    let entries = service.pointer("/spec/ports").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(|entry| {
        let number = u16::try_from(entry.get("port")?.as_u64()?).ok()?;
        let protocol = match entry.get("protocol").and_then(Value::as_str) {
            None => Protocol::Tcp,
            Some(text) => protocol(text).ok()?,
        };
        Some((number, protocol, entry))
    })
}

/// Whether a Service says which pods are its own.
pub(super) fn selects(service: &Value) -> bool {
    service.pointer("/spec/selector").and_then(Value::as_object).is_some_and(|selector| !selector.is_empty())
}

fn choose<'s>(id: &PodRef, service: &'s Value, wanted: Option<&str>) -> Result<(Protocol, u16, &'s Value), Error> {
    let all: Vec<_> = ports(service).collect();
    let known = || {
        let names = all.iter().map(|(number, protocol, entry)| match entry.get("name").and_then(Value::as_str) {
            Some(name) => format!("{number}/{protocol} ({name})"),
            None => format!("{number}/{protocol}"),
        });
        match names.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "it has none".to_owned(),
            names => format!("it has {names}: name one of these"),
        }
    };
    let Some(wanted) = wanted else {
        return match all.as_slice() {
            [(number, protocol, entry)] => Ok((*protocol, *number, entry)),
            _ => Err(refused(id, "has not one port, and none is named".to_owned(), known())),
        };
    };
    let asked = Asked::read(wanted)?;
    match all.iter().find(|port| asked.is(port)) {
        Some((number, protocol, entry)) => Ok((*protocol, *number, entry)),
        None => Err(refused(id, format!("has no port {asked}"), known())),
    }
}

/// A port that is asked for: `80`, `80/UDP`, or the name that a Service gives it.
struct Asked<'t> {
    name: &'t str,
    protocol: Option<Protocol>,
}

impl<'t> Asked<'t> {
    fn read(text: &'t str) -> Result<Self, Error> {
        Ok(match text.split_once('/') {
            Some((name, text)) => Self { name, protocol: Some(protocol(text)?) },
            None => Self { name: text, protocol: None },
        })
    }

    /// A number without a protocol is TCP's; a name is whichever has it.
    fn is(&self, (number, protocol, entry): &(u16, Protocol, &Value)) -> bool {
        match self.name.parse::<u16>() {
            Ok(wanted) => *number == wanted && *protocol == self.protocol.unwrap_or(Protocol::Tcp),
            Err(_) => {
                entry.get("name").and_then(Value::as_str) == Some(self.name)
                    && self.protocol.is_none_or(|wanted| wanted == *protocol)
            }
        }
    }
}

impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        let of_number = self.name.parse::<u16>().is_ok().then_some(Protocol::Tcp);
        self.protocol.or(of_number).map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
    }
}

fn missing(id: &PodRef, input: &Input) -> Error {
    let ids = || services(input).filter_map(self::id);
    let near = ids().find(|other| other.name == id.name);
    let here: Vec<String> =
        ids().filter(|other| other.namespace == id.namespace).map(|other| other.name).take(MOST_NAMES).collect();
    let remedy = match (near, here.as_slice()) {
        (Some(near), _) => format!("there is {near}: write {}", end(&near)),
        (None, []) => format!("the namespace {} has no Services: check the namespace", id.namespace),
        (None, names) => format!("the namespace {} has {}", id.namespace, names.join(", ")),
    };
    refused(id, "is not among the objects".to_owned(), remedy)
}

/// More names help nobody.
const MOST_NAMES: usize = 10;

fn list(pods: &[impl std::fmt::Display]) -> String {
    let named = pods.iter().take(MOST_NAMES).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match pods.len().checked_sub(MOST_NAMES) {
        None | Some(0) => named,
        Some(more) => format!("{named} and {more} more"),
    }
}

fn refused(id: &PodRef, why: String, remedy: String) -> Error {
    Error::Service { service: id.to_string(), why, remedy }
}

fn services(input: &Input) -> impl Iterator<Item = &Value> {
    input.objects.iter().rev().filter(|object| object.get("kind").and_then(Value::as_str) == Some("Service"))
}

fn id(service: &Value) -> Option<PodRef> {
    let text = |path: &str| service.pointer(path).and_then(Value::as_str);
    Some(PodRef {
        namespace: text("/metadata/namespace").unwrap_or("default").to_owned(),
        name: text("/metadata/name")?.to_owned(),
    })
}

/// As they stand there; `None` for a headless one.
fn cluster_addresses(service: &Value) -> impl Iterator<Item = &str> {
    let first = service.pointer("/spec/clusterIP").and_then(Value::as_str);
    first.into_iter().chain(texts(service.pointer("/spec/clusterIPs")))
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
