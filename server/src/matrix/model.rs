//! Rows, columns and cells, made from the cluster's objects. [`column`]: what is connected to.

mod column;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use signalbox_api::cell::{CellKey, SpecFact};
use signalbox_api::state::{Endpoint, EndpointKind, NamespaceInfo, PolicyInfo};

use super::parse::{self, Backend, Outside, Pod, RUN_LABEL, Run, Service};
use super::spec::{Audit, End, Judge, Way};
use crate::cluster::objects::{Kind, Object, Objects};
use crate::config::{ServiceHost, Vantages};
use column::{Column, outside_columns, pod_columns, service_columns};

/// Namespaces that are named of those that are left out.
const NAMED: usize = 6;
/// Where DNS servers listen.
const DNS: u16 = 53;

/// What the model needs to be told besides the objects.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespaces whose pods and Services are left out.
    pub skip_namespaces: Vec<String>,
    /// As [`crate::Config::run`] has it.
    pub run: Option<String>,
    /// The domain that Services are resolved under.
    pub cluster_domain: String,
    /// Whether policies in audit decide nothing.
    pub audit: Audit,
    /// Which pods probes start from.
    pub vantages: Vantages,
    /// How pods call Services.
    pub service_host: ServiceHost,
    /// Up to how many cells there are rows for pods without a probe, too.
    pub max_cells: usize,
}

/// The picture without the facts that probes bring.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// All namespaces.
    pub namespaces: Vec<NamespaceInfo>,
    /// Rows and columns.
    pub endpoints: Vec<Endpoint>,
    /// All policies.
    pub policies: Vec<PolicyInfo>,
    /// Rows, by endpoint id.
    pub vantages: BTreeMap<String, Vantage>,
    /// What stands behind each cell.
    pub targets: BTreeMap<CellKey, Target>,
    /// Names that each pod resolves on its own.
    pub dns_names: Vec<String>,
    /// The newest `resourceVersion` of any policy.
    pub policies_version: u64,
    /// Nothing is to be waited for before the first round: every Service that selects pods has a ready one, and every pod
    /// runs; where few pods carry the probe, those that do run.
    pub complete: bool,
    /// No pod carries the probe: a round without cells is all that there can be.
    pub nothing_to_try: bool,
    /// What the picture leaves out, in words.
    pub left_out: Vec<String>,
    /// Pods that an enforcer has to take in charge, counted by node: those with an address of their own.
    pub enforceable: BTreeMap<String, u32>,
    /// The node of each pod whose connections an enforcer can judge, by endpoint id.
    pub nodes: BTreeMap<String, String>,
    /// The cluster's nodes.
    pub node_names: BTreeSet<String>,
}

/// Where probes start.
#[derive(Clone, Debug, PartialEq)]
pub struct Vantage {
    /// How to reach it.
    pub place: Place,
    /// Changes when whatever ran there is gone.
    pub instance: String,
    /// Whether something can be run there.
    pub run: Run,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Where an agent is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a container of a pod.
    Pod {
        /// `metadata.namespace`.
        namespace: String,
        /// `metadata.name`.
        name: String,
        /// The container.
        container: Option<String>,
    },
    /// On a host outside the cluster.
    Outside {
        /// `metadata.name`.
        name: String,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod { namespace, name, .. } => write!(f, "{namespace}/{name}"),
            Self::Outside { name } => write!(f, "outside/{name}"),
        }
    }
}

/// What stands behind a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// A name or an address: what the probe connects to. Names end with a dot, so that no search domain is tried first.
    pub host: String,
    /// The port that it connects to: the cell's own, or the node port behind which outside hosts find it.
    pub port: u16,
    /// Where its packets may go after translation.
    pub destinations: Vec<SocketAddr>,
    /// The pods, as endpoint ids, that have to listen, with the port.
    pub listeners: Vec<(String, u16)>,
    /// A Service with nobody behind it.
    pub deserted: bool,
    /// Whoever listens there answers every datagram, as the probe does: silence means that something dropped it.
    pub answers: bool,
    /// What the policies say.
    pub spec: SpecFact,
}

/// Makes the picture.
pub fn build(objects: &Objects, options: &Options) -> Model {
    let values = |kind| objects.of(kind).map(|object: &Object| &object.value);
    let judged = Kind::ALL.into_iter().filter(|kind| kind.is_judged());
    let judge = Judge::new(judged.flat_map(values), objects.unseen(), options.audit);
    let runs = runs(objects);
    let shown = |object: &&Object| {
        let namespace = &object.key.namespace;
        !options.skip_namespaces.contains(namespace) && runs.get(namespace.as_str()).copied() == options.run.as_deref()
    };
    let pods: Vec<Pod> = objects.of(Kind::Pod).filter(shown).filter_map(parse::pod).collect();
    let services: Vec<Service> = objects.of(Kind::Service).filter(shown).filter_map(parse::service).collect();
    let backends: Vec<Backend> = objects.of(Kind::EndpointSlice).filter(shown).flat_map(parse::backends).collect();
    let hosts = objects.of(Kind::ExternalHost).filter(|_| options.run.is_none());
    let outside: Vec<Outside> = hosts.map(parse::outside).collect();
    // Every node answers for every node port (kube-proxy's `nodePortAddresses` aside), so the first one will do.
    let node = objects.of(Kind::Node).find_map(parse::node_address);

    let mut model = Model {
        namespaces: objects.of(Kind::Namespace).map(namespace_info).collect(),
        policies: objects.of(Kind::NetworkPolicy).map(|object| policy_info(object, &judge)).collect(),
        policies_version: objects.of(Kind::NetworkPolicy).map(|object| object.version).max().unwrap_or(0),
        ..Model::default()
    };
    for pod in objects.of(Kind::Pod) {
        if let Some(node) = parse::enforceable_on(pod) {
            if shown(&pod) {
                model.nodes.insert(pod_id(&pod.key.namespace, &pod.key.name), node.clone());
            }
            *model.enforceable.entry(node).or_default() += 1;
        }
    }
    model.node_names = objects.of(Kind::Node).map(|node| node.key.name.clone()).collect();
    for pod in &pods {
        let id = pod_id(&pod.namespace, &pod.name);
        let vantage = is_vantage(pod, options);
        model.endpoints.push(Endpoint { vantage, ..pod_endpoint(pod) });
        if !vantage {
            continue;
        }
        let place =
            Place::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), container: pod.container.clone() };
        model.vantages.insert(
            id,
            Vantage { place, instance: pod.instance.clone(), run: pod.run.clone(), addresses: pod.addresses.clone() },
        );
    }
    let behind = Behind::of(&backends);
    for service in &services {
        model.endpoints.push(service_endpoint(service, behind.service(service)));
    }
    for host in &outside {
        model.endpoints.push(outside_endpoint(host));
        if host.spec.vantage {
            let vantage = Vantage {
                place: Place::Outside { name: host.name.clone() },
                instance: String::new(),
                run: Run::Running,
                addresses: host.spec.addresses.clone(),
            };
            model.vantages.insert(outside_id(&host.name), vantage);
        }
    }
    let service_name =
        |service: &Service| format!("{}.{}.svc.{}", service.name, service.namespace, options.cluster_domain);
    if options.run.is_none() {
        model.dns_names.extend(services.first().map(service_name));
    }
    model.dns_names.extend(outside.iter().filter_map(|host| host.spec.names.first().cloned()));
    let served = |service: &Service| !service.selects || behind.service(service).iter().any(|backend| backend.ready);
    model.complete = match options.vantages {
        Vantages::All => services.iter().all(served) && pods.iter().all(|pod| pod.ready && pod.run == Run::Running),
        Vantages::Labelled => model.vantages.values().all(|vantage| vantage.run == Run::Running),
    };
    model.nothing_to_try = options.vantages == Vantages::Labelled && model.vantages.is_empty();

    let mut columns: Vec<Column> = Vec::new();
    columns.extend(pods.iter().flat_map(pod_columns));
    let host = |service: &Service| match (options.service_host, service.cluster_addresses.first()) {
        (ServiceHost::Address, Some(address)) => address.to_string(),
        (ServiceHost::Name, _) | (ServiceHost::Address, None) => absolute(&service_name(service)),
    };
    columns.extend(
        services.iter().flat_map(|service| service_columns(service, &host(service), node, behind.service(service))),
    );
    columns.extend(outside.iter().flat_map(outside_columns));
    let mut sources: Vec<(String, End)> =
        model.vantages.iter().map(|(id, vantage)| (id.clone(), vantage.source())).collect();
    let others = pods.iter().filter(|pod| !is_vantage(pod, options) && !pod.addresses.is_empty());
    let others: Vec<(String, End)> =
        others.map(|pod| (pod_id(&pod.namespace, &pod.name), pod_source(&pod.namespace, &pod.name, pod))).collect();
    model.left_out.extend(bound(&mut sources, others, &mut columns, &model.vantages, options.max_cells));
    if options.run.is_none() {
        model.left_out.extend(without_runs(&runs));
    }
    let speaks = |column: &Column| {
        let is_vantage = |end: &End| {
            end.pod.as_ref().is_some_and(|(namespace, name)| model.vantages.contains_key(&pod_id(namespace, name)))
        };
        // The probe asks a DNS server what it answers to.
        options.vantages == Vantages::All || column.port.port == DNS || column.ends.iter().all(is_vantage)
    };
    let mut targets = BTreeMap::new();
    for column in &columns {
        let answers = speaks(column);
        for (from, source) in &sources {
            if let Some((key, target)) = cell(from, source, column, &judge) {
                targets.insert(key, Target { answers, ..target });
            }
        }
    }
    model.targets = targets;
    model
}

/// Namespaces that a command has made for one of its runs, and which.
fn runs(objects: &Objects) -> BTreeMap<&str, &str> {
    objects
        .of(Kind::Namespace)
        .filter_map(|namespace| {
            let run = namespace.value["metadata"]["labels"][RUN_LABEL].as_str()?;
            Some((namespace.key.name.as_str(), run))
        })
        .collect()
}

/// Says which namespaces are left out for their run, where there are any.
fn without_runs(runs: &BTreeMap<&str, &str>) -> Option<String> {
    let named: Vec<&str> = runs.keys().copied().take(NAMED).collect();
    let more = match runs.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| {
        format!(
            "not in the matrix, since a command has made them for one of its runs (label {RUN_LABEL}): namespaces {}{more}",
            named.join(", ")
        )
    })
}

/// Whether probes start from a pod.
fn is_vantage(pod: &Pod, options: &Options) -> bool {
    match options.vantages {
        Vantages::All => true,
        Vantages::Labelled => pod.is_labelled,
    }
}

fn pod_source(namespace: &str, name: &str, pod: &Pod) -> End {
    End { pod: Some((namespace.to_owned(), name.to_owned())), address: pod.addresses.first().copied(), port: 0 }
}

/// Adds the rows of pods without a probe as long as there are no more than `most` cells then; where the others alone are
/// more, the columns of pods without a probe go, too. Gives back what was left out, in words.
fn bound(
    sources: &mut Vec<(String, End)>,
    others: Vec<(String, End)>,
    columns: &mut Vec<Column>,
    vantages: &BTreeMap<String, Vantage>,
    most: usize,
) -> Option<String> {
    if (sources.len() + others.len()) * columns.len() <= most {
        sources.extend(others);
        return None;
    }
    let pods = others.len();
    if pods == 0 {
        return None;
    }
    if sources.len() * columns.len() <= most {
        return Some(format!(
            "{pods} pods without a probe are no rows of the matrix, which would have more than {most} cells; \
             `signalbox why` answers for each of them"
        ));
    }
    columns.retain(|column| !column.id.starts_with("pod:") || vantages.contains_key(&column.id));
    Some(format!(
        "{pods} pods without a probe are neither rows nor columns of the matrix, which would have more than {most} cells; \
         Services are; `signalbox why` answers for each of the pods"
    ))
}

impl Vantage {
    fn source(&self) -> End {
        let pod = match &self.place {
            Place::Pod { namespace, name, .. } => Some((namespace.clone(), name.clone())),
            Place::Outside { .. } => None,
        };
        End { pod, address: self.addresses.first().copied(), port: 0 }
    }
}

fn cell(from: &str, source: &End, column: &Column, judge: &Judge) -> Option<(CellKey, Target)> {
    let is_pod = source.pod.is_some();
    let (host, port) = if is_pod { column.from_pods.clone() } else { column.from_outside.clone() }?;
    let spec = judge.judge(source, &column.ends, column.port.protocol, column.way);
    let listeners = column.ends.iter().filter_map(|end| {
        let (namespace, name) = end.pod.as_ref()?;
        Some((pod_id(namespace, name), end.port))
    });
    let target = Target {
        host,
        port,
        destinations: column.destinations.clone(),
        listeners: listeners.collect(),
        deserted: column.way == Way::ThroughService && column.ends.is_empty(),
        answers: true,
        spec,
    };
    let key = CellKey {
        from: from.to_owned(),
        to: column.id.clone(),
        port: column.port.port,
        protocol: column.port.protocol,
    };
    Some((key, target))
}

/// A name that no search domain is appended to.
pub fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

/// The backends of each Service, by its namespace and name.
struct Behind<'a>(BTreeMap<(&'a str, &'a str), Vec<&'a Backend>>);

impl<'a> Behind<'a> {
    fn of(backends: &'a [Backend]) -> Self {
        let mut behind: BTreeMap<_, Vec<&Backend>> = BTreeMap::new();
        for backend in backends {
            behind.entry((backend.service.0.as_str(), backend.service.1.as_str())).or_default().push(backend);
        }
        Self(behind)
    }

    fn service<'s>(&'s self, service: &'s Service) -> &'s [&'a Backend] {
        self.0.get(&(service.namespace.as_str(), service.name.as_str())).map_or(&[], Vec::as_slice)
    }
}

fn pod_id(namespace: &str, name: &str) -> String {
    format!("pod:{namespace}/{name}")
}

fn service_id(namespace: &str, name: &str) -> String {
    format!("service:{namespace}/{name}")
}

fn outside_id(name: &str) -> String {
    format!("outside:{name}")
}

fn pod_endpoint(pod: &Pod) -> Endpoint {
    Endpoint {
        id: pod_id(&pod.namespace, &pod.name),
        kind: EndpointKind::Pod,
        namespace: Some(pod.namespace.clone()),
        name: pod.name.clone(),
        workload: format!("{}/{}", pod.namespace, pod.workload),
        addresses: pod.addresses.clone(),
        ports: pod.ports.clone(),
        labels: pod.labels.clone(),
        ready: pod.ready,
        vantage: true,
        backends: Vec::new(),
        problem: match &pod.run {
            Run::Starting => Some("starting".to_owned()),
            Run::Running => None,
            Run::Stopped(why) => Some(why.clone()),
        },
    }
}

fn service_endpoint(service: &Service, behind: &[&Backend]) -> Endpoint {
    let pods: BTreeSet<String> =
        behind.iter().filter_map(|backend| backend.pod.as_ref()).map(|(ns, name)| pod_id(ns, name)).collect();
    let ready = behind.iter().any(|backend| backend.ready);
    Endpoint {
        id: service_id(&service.namespace, &service.name),
        kind: EndpointKind::Service,
        namespace: Some(service.namespace.clone()),
        name: service.name.clone(),
        workload: format!("{}/{}", service.namespace, service.name),
        addresses: service.cluster_addresses.clone(),
        ports: service.ports.clone(),
        labels: service.labels.clone(),
        ready,
        vantage: false,
        backends: pods.into_iter().collect(),
        problem: (!ready).then(|| "no ready pod is behind it".to_owned()),
    }
}

fn outside_endpoint(host: &Outside) -> Endpoint {
    Endpoint {
        id: outside_id(&host.name),
        kind: EndpointKind::Outside,
        namespace: None,
        name: host.name.clone(),
        workload: format!("outside/{}", host.name),
        addresses: host.spec.addresses.clone(),
        ports: host.spec.ports.clone(),
        labels: host.labels.clone(),
        ready: true,
        vantage: host.spec.vantage,
        backends: Vec::new(),
        problem: host.problem.clone(),
    }
}

fn namespace_info(object: &Object) -> NamespaceInfo {
    let labels = object.value.pointer("/metadata/labels").cloned().unwrap_or_default();
    NamespaceInfo { name: object.key.name.clone(), labels: serde_json::from_value(labels).unwrap_or_default() }
}

fn policy_info(object: &Object, judge: &Judge) -> PolicyInfo {
    let (namespace, name) = (&object.key.namespace, &object.key.name);
    let selects = judge.cluster().selected_by(&signalbox_policy::PolicyRef::network_policy(namespace, name));
    let own = format!("NetworkPolicy {namespace}/{name}");
    PolicyInfo {
        kind: "NetworkPolicy".to_owned(),
        namespace: namespace.clone(),
        name: name.clone(),
        resource_version: object.version.to_string(),
        yaml: yaml(&object.value),
        summary: judge
            .cluster()
            .summary(&signalbox_policy::PolicyRef::network_policy(namespace, name))
            .unwrap_or_default(),
        selects: selects.iter().map(|pod| pod_id(&pod.namespace, &pod.name)).collect(),
        unknown: judge
            .cluster()
            .problems()
            .iter()
            .filter(|problem| problem.object == own)
            .map(ToString::to_string)
            .collect(),
    }
}

/// The manifest as someone would have written it.
fn yaml(value: &Value) -> String {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink"] {
            metadata.remove(field);
        }
        let bare = metadata.get_mut("annotations").and_then(Value::as_object_mut).is_some_and(|annotations| {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            annotations.is_empty()
        });
        if bare {
            metadata.remove("annotations");
        }
    }
    match serde_saphyr::to_string(&value) {
        Ok(text) => text,
        // JSON is YAML, too.
        Err(_unprintable) => value.to_string(),
    }
}
