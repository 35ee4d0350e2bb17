//! What a name means: pure, from what is known of the cluster.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;

use crate::directory::{Backend, Key, Known};
use crate::network::PODS;

/// Data of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    A(Ipv4Addr),
    /// Port and target, without a dot at its end.
    Srv(u16, String),
    /// The same.
    Ptr(String),
    /// The same.
    Cname(String),
}

/// A record: whose, and what.
pub(crate) type Record = (String, Data);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A,
    Srv,
    Ptr,
    Cname,
    Any,
    /// A type that no name here has.
    Other,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Records; none where the name exists and has nothing of that type.
    Found { answers: Vec<Record>, additional: Vec<Record> },
    /// There is no such name.
    NoName,
}

impl Answer {
    fn nothing() -> Self {
        Self::Found { answers: Vec::new(), additional: Vec::new() }
    }
}

/// Answers for a name in lower case, without a dot at its end.
pub(crate) fn answer(known: &Known, domain: &str, name: &str, kind: Kind) -> Answer {
    if let Some(below) = strip(name, domain) {
        return cluster(known, domain, name, below, kind);
    }
    if let Some(reverse) = strip(name, "in-addr.arpa") {
        return pointer(known, domain, name, reverse, kind);
    }
    outside(known, name, kind)
}

/// The part of `name` before `.suffix`; empty where they are equal.
fn strip<'n>(name: &'n str, suffix: &str) -> Option<&'n str> {
    let rest = name.strip_suffix(suffix)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

fn records(name: &str, kind: Kind, addresses: impl IntoIterator<Item = Ipv4Addr>) -> Answer {
    let answers = match kind {
        Kind::A | Kind::Any => addresses.into_iter().map(|address| (name.to_owned(), Data::A(address))).collect(),
        _ => Vec::new(),
    };
    Answer::Found { answers, additional: Vec::new() }
}

fn cluster(known: &Known, domain: &str, name: &str, below: &str, kind: Kind) -> Answer {
    let labels: Vec<&str> = if below.is_empty() { Vec::new() } else { below.split('.').collect() };
    let key = |service: &str, namespace: &str| (namespace.to_owned(), service.to_owned());
    let populated = |namespace: &str| known.services.keys().any(|(known, _)| known == namespace);
    match labels.as_slice() {
        [] | ["svc" | "pod"] => Answer::nothing(),
        [namespace, "svc"] if populated(namespace) => Answer::nothing(),
        [service, namespace, "svc"] => match known.services.get(&key(service, namespace)) {
            Some(object) => by_service(known, domain, name, &key(service, namespace), object, kind),
            None => Answer::NoName,
        },
        [port, protocol, service, namespace, "svc"] if port.starts_with('_') && protocol.starts_with('_') => {
            match known.services.get(&key(service, namespace)) {
                Some(object) => by_port(known, domain, name, &key(service, namespace), object, (port, protocol), kind),
                None => Answer::NoName,
            }
        }
        [protocol, service, namespace, "svc"] if matches!(*protocol, "_tcp" | "_udp" | "_sctp") => {
            if known.services.contains_key(&key(service, namespace)) { Answer::nothing() } else { Answer::NoName }
        }
        [host, service, namespace, "svc"] => {
            let key = key(service, namespace);
            let Some(object) = known.services.get(&key).filter(|object| is_headless(object)) else {
                return Answer::NoName;
            };
            let here: Vec<Ipv4Addr> = all_backends(known, &key, object)
                .into_iter()
                .filter(|backend| label(backend) == *host)
                .map(|backend| backend.address)
                .collect();
            if here.is_empty() { Answer::NoName } else { records(name, kind, here) }
        }
        [address, _, "pod"] => match address.replace('-', ".").parse::<Ipv4Addr>() {
            Ok(address) if PODS.contains(&address) => records(name, kind, [address]),
            _ => Answer::NoName,
        },
        _ => Answer::NoName,
    }
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// A Service's endpoints whatever the port, each address once.
fn all_backends(known: &Known, key: &Key, service: &Service) -> Vec<Backend> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut all: Vec<Backend> = if ports.is_empty() {
        known.backends(key, None)
    } else {
        ports.iter().flat_map(|port| known.backends(key, port.name.as_deref())).collect()
    };
    all.sort_by_key(|backend| backend.address);
    all.dedup_by_key(|backend| backend.address);
    all
}

/// An endpoint's own name below a headless Service's.
fn label(backend: &Backend) -> String {
    match &backend.hostname {
        Some(hostname) => hostname.to_lowercase(),
        None => backend.address.to_string().replace('.', "-"),
    }
}

fn cluster_address(service: &Service) -> Option<Ipv4Addr> {
    service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()
}

fn by_service(known: &Known, domain: &str, name: &str, key: &Key, service: &Service, kind: Kind) -> Answer {
    let external = service
        .spec
        .as_ref()
        .and_then(|spec| spec.external_name.as_deref().filter(|_| spec.type_.as_deref() == Some("ExternalName")));
    if let Some(target) = external {
        let target = target.trim_end_matches('.').to_lowercase();
        let mut answers = vec![(name.to_owned(), Data::Cname(target.clone()))];
        // One step is enough: a chain of such Services is what the asker follows.
        if kind == Kind::A
            && strip(&target, domain).is_none()
            && let Answer::Found { answers: more, .. } = outside(known, &target, kind)
        {
            answers.extend(more);
        }
        return Answer::Found { answers, additional: Vec::new() };
    }
    match cluster_address(service) {
        Some(address) => records(name, kind, [address]),
        None => records(name, kind, all_backends(known, key, service).into_iter().map(|backend| backend.address)),
    }
}

fn by_port(
    known: &Known,
    domain: &str,
    name: &str,
    key: &Key,
    service: &Service,
    (port, protocol): (&str, &str),
    kind: Kind,
) -> Answer {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let Some(found) = ports.iter().find(|candidate| {
        candidate.name.as_deref() == port.strip_prefix('_')
            && candidate.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(&protocol[1..])
    }) else {
        return Answer::NoName;
    };
    if !matches!(kind, Kind::Srv | Kind::Any) {
        return Answer::nothing();
    }
    let base = format!("{}.{}.svc.{domain}", key.1, key.0);
    let targets: Vec<(String, Ipv4Addr, Option<u16>)> = match cluster_address(service) {
        Some(address) => vec![(base, address, u16::try_from(found.port).ok())],
        None => known
            .backends(key, found.name.as_deref())
            .iter()
            .map(|backend| (format!("{}.{base}", label(backend)), backend.address, backend.port))
            .collect(),
    };
    let answers = targets
        .iter()
        .filter_map(|(target, _, port)| Some((name.to_owned(), Data::Srv((*port)?, target.clone()))))
        .collect();
    let additional = targets.into_iter().map(|(target, address, _)| (target, Data::A(address))).collect();
    Answer::Found { answers, additional }
}

fn pointer(known: &Known, domain: &str, name: &str, reverse: &str, kind: Kind) -> Answer {
    let octets: Vec<&str> = reverse.rsplit('.').collect();
    let Ok(address) = octets.join(".").parse::<Ipv4Addr>() else { return Answer::NoName };
    let service = known.services.iter().find(|(_, service)| cluster_address(service) == Some(address));
    let target = match service {
        Some(((namespace, service), _)) => Some(format!("{service}.{namespace}.svc.{domain}")),
        None => known.services.iter().filter(|(_, service)| is_headless(service)).find_map(|(key, service)| {
            let backend = all_backends(known, key, service).into_iter().find(|b| b.address == address)?;
            Some(format!("{}.{}.{}.svc.{domain}", label(&backend), key.1, key.0))
        }),
    };
    let target = target
        .or_else(|| known.hosts.values().find(|host| host.addresses.contains(&address.into()))?.names.first().cloned());
    match target {
        Some(target) => {
            let asked = matches!(kind, Kind::Ptr | Kind::Any);
            let answers = asked.then(|| (name.to_owned(), Data::Ptr(target))).into_iter().collect();
            Answer::Found { answers, additional: Vec::new() }
        }
        None => Answer::NoName,
    }
}

/// The names of hosts outside. The lab's internet is whole: what is not in it does not exist, so that a mistyped name
/// gets the answer that it would get from a real resolver at the end of its search list.
fn outside(known: &Known, name: &str, kind: Kind) -> Answer {
    let mut above = name.is_empty();
    for host in known.hosts.values() {
        for own in &host.names {
            let own = own.trim_end_matches('.').to_lowercase();
            match strip(name, &own) {
                Some("") => {
                    let addresses = host.addresses.iter().filter_map(|address| match address {
                        std::net::IpAddr::V4(v4) => Some(*v4),
                        std::net::IpAddr::V6(_) => None,
                    });
                    return records(name, kind, addresses);
                }
                Some(_) => {}
                None => above |= strip(&own, name).is_some(),
            }
        }
    }
    // RFC 8020: a name with names below it exists, with nothing of its own.
    if above { Answer::nothing() } else { Answer::NoName }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::directory::tests::{known, slice};

    const DOMAIN: &str = "cluster.local";

    fn cluster_of_tests() -> Known {
        let service = |name: &str, spec: serde_json::Value| json!({"metadata": {"name": name, "namespace": "backend"}, "spec": spec});
        let port = json!({"name": "http", "port": 9000, "protocol": "TCP"});
        known(
            json!([
                service("dbsvc", json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]})),
                service("peers", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})),
                service("web", json!({"type": "ExternalName", "externalName": "www.example.com"})),
            ]),
            json!([slice("peers", port, &[("10.244.0.10", true, false), ("10.244.0.11", true, false)])]),
            json!({"internet": {"addresses": ["203.0.113.10"], "names": ["www.example.com"]}}),
        )
    }

    #[test]
    fn names() {
        let known = cluster_of_tests();
        let a = |text: &str| Data::A(text.parse().expect("an address"));
        // Name, type, the answers' data; `Err` for the other outcomes.
        type Case = (&'static str, Kind, Result<Vec<Data>, Answer>);
        let cases: Vec<Case> = vec![
            ("dbsvc.backend.svc.cluster.local", Kind::A, Ok(vec![a("10.96.0.7")])),
            ("dbsvc.backend.svc.cluster.local", Kind::Other, Ok(vec![])),
            ("peers.backend.svc.cluster.local", Kind::A, Ok(vec![a("10.244.0.10"), a("10.244.0.11")])),
            ("10-244-0-11.peers.backend.svc.cluster.local", Kind::A, Ok(vec![a("10.244.0.11")])),
            ("10-244-0-12.peers.backend.svc.cluster.local", Kind::A, Err(Answer::NoName)),
            ("10-244-0-12.backend.pod.cluster.local", Kind::A, Ok(vec![a("10.244.0.12")])),
            (
                "_http._tcp.dbsvc.backend.svc.cluster.local",
                Kind::Srv,
                Ok(vec![Data::Srv(80, "dbsvc.backend.svc.cluster.local".to_owned())]),
            ),
            ("_http._udp.dbsvc.backend.svc.cluster.local", Kind::Srv, Err(Answer::NoName)),
            (
                "web.backend.svc.cluster.local",
                Kind::A,
                Ok(vec![Data::Cname("www.example.com".to_owned()), a("203.0.113.10")]),
            ),
            ("backend.svc.cluster.local", Kind::A, Ok(vec![])),
            ("nobody.svc.cluster.local", Kind::A, Err(Answer::NoName)),
            ("dbsvc.frontend.svc.cluster.local", Kind::A, Err(Answer::NoName)),
            ("www.example.com", Kind::A, Ok(vec![a("203.0.113.10")])),
            ("www.example.com", Kind::Other, Ok(vec![])),
            ("a.www.example.com", Kind::A, Err(Answer::NoName)),
            ("example.com", Kind::A, Ok(vec![])),
            ("", Kind::Other, Ok(vec![])),
            ("example.org", Kind::A, Err(Answer::NoName)),
            ("nobody", Kind::A, Err(Answer::NoName)),
            ("notcluster.local", Kind::A, Err(Answer::NoName)),
            ("7.0.96.10.in-addr.arpa", Kind::Ptr, Ok(vec![Data::Ptr("dbsvc.backend.svc.cluster.local".to_owned())])),
            (
                "10.0.244.10.in-addr.arpa",
                Kind::Ptr,
                Ok(vec![Data::Ptr("10-244-0-10.peers.backend.svc.cluster.local".to_owned())]),
            ),
            ("99.0.244.10.in-addr.arpa", Kind::Ptr, Err(Answer::NoName)),
            ("1.1.1.1.in-addr.arpa", Kind::Ptr, Err(Answer::NoName)),
        ];
        for (name, kind, expected) in cases {
            let found = match answer(&known, DOMAIN, name, kind) {
                Answer::Found { answers, .. } => Ok(answers.into_iter().map(|(_, data)| data).collect()),
                other => Err(other),
            };
            assert_eq!(found, expected, "{name} {kind:?}");
        }
    }
}
