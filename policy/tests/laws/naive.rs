//! A second evaluator, written from the API's text and sharing nothing with the engine: it walks the raw objects, pair by
//! pair, with no thought for speed.

use std::net::IpAddr;

use serde_json::{Map, Value};
use signalbox_policy::{Connection, Family, Party, PodRef, Protocol, Route};

/// `(egress, ingress)`: whether each side allows, absent where there is no pod to ask. `None`: there is no such
/// connection, since an end has ended or has no address of the family.
pub fn judge(objects: &[Value], connection: &Connection<'_>) -> Option<(Option<bool>, Option<bool>)> {
    let from = find(objects, connection.from)?;
    let to = find(objects, connection.to)?;
    let family = connection.family?;
    let (from_ip, to_ip) = (ip_of(&from, family)?, ip_of(&to, family)?);
    let ask = Ask { objects, protocol: word(connection.protocol), port: connection.port, target: to.pod() };
    let is_self = connection.from == connection.to && connection.route == Route::Direct;
    let egress = from.pod().map(|pod| is_self || ask.side(pod, "egress", "to", to.pod(), to_ip));
    let ingress = to.pod().map(|pod| {
        let from_own_node = match &from {
            End::Host(host) => host["spec"]["nodeName"] == pod["spec"]["nodeName"],
            End::Pod(_) | End::Address(_) => false,
        };
        is_self || from_own_node || ask.side(pod, "ingress", "from", from.pod(), from_ip)
    });
    Some((egress, ingress))
}

enum End<'a> {
    Pod(&'a Value),
    Host(&'a Value),
    Address(IpAddr),
}

impl<'a> End<'a> {
    fn pod(&self) -> Option<&'a Value> {
        match self {
            End::Pod(pod) => Some(pod),
            End::Host(_) | End::Address(_) => None,
        }
    }
}

fn find<'a>(objects: &'a [Value], party: &Party) -> Option<End<'a>> {
    match party {
        Party::Address(address) => Some(End::Address(*address)),
        Party::LocalNode => None,
        Party::Pod(PodRef { namespace, name }) => {
            let pod = objects.iter().find(|it| {
                it["kind"] == "Pod" && it["metadata"]["namespace"] == **namespace && it["metadata"]["name"] == **name
            })?;
            let ended = pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed";
            if ended {
                return None;
            }
            Some(if pod["spec"]["hostNetwork"] == true { End::Host(pod) } else { End::Pod(pod) })
        }
    }
}

fn ip_of(end: &End<'_>, family: Family) -> Option<IpAddr> {
    let list: Vec<IpAddr> = match end {
        End::Address(address) => vec![*address],
        End::Pod(pod) | End::Host(pod) => {
            pod["status"]["podIPs"].as_array()?.iter().map(|it| it["ip"].as_str().unwrap().parse().unwrap()).collect()
        }
    };
    list.into_iter().find(|address| address.is_ipv4() == (family == Family::V4))
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

struct Ask<'a> {
    objects: &'a [Value],
    protocol: &'static str,
    port: u16,
    target: Option<&'a Value>,
}

impl Ask<'_> {
    /// "A pod is isolated if there is any NetworkPolicy that selects it and has the direction among its types. Then only
    /// what one of those allows is allowed."
    fn side(&self, pod: &Value, direction: &str, peers: &str, other: Option<&Value>, other_ip: IpAddr) -> bool {
        let namespace = &pod["metadata"]["namespace"];
        let mut isolated = false;
        for policy in
            self.objects.iter().filter(|it| it["kind"] == "NetworkPolicy" && it["metadata"]["namespace"] == *namespace)
        {
            let spec = &policy["spec"];
            if !selects(&spec["podSelector"], &labels_of(pod)) || !has_type(spec, direction) {
                continue;
            }
            isolated = true;
            for rule in spec[direction].as_array().into_iter().flatten() {
                let empty = |field: &str| rule[field].as_array().is_none_or(Vec::is_empty);
                let peer_ok = empty(peers)
                    || rule[peers].as_array().unwrap().iter().any(|peer| self.peer(peer, namespace, other, other_ip));
                let port_ok = empty("ports") || rule["ports"].as_array().unwrap().iter().any(|port| self.port(port));
                if peer_ok && port_ok {
                    return true;
                }
            }
        }
        !isolated
    }

    fn peer(&self, peer: &Value, own: &Value, other: Option<&Value>, other_ip: IpAddr) -> bool {
        if peer["ipBlock"].is_object() {
            let within = |cidr: &Value| in_cidr(cidr.as_str().unwrap(), other_ip);
            let excepts = peer["ipBlock"]["except"].as_array();
            return within(&peer["ipBlock"]["cidr"]) && !excepts.into_iter().flatten().any(within);
        }
        let Some(other) = other else { return false };
        let namespace = &other["metadata"]["namespace"];
        let namespace_ok = if peer["namespaceSelector"].is_object() {
            selects(&peer["namespaceSelector"], &self.namespace_labels(namespace.as_str().unwrap()))
        } else {
            namespace == own
        };
        namespace_ok && (!peer["podSelector"].is_object() || selects(&peer["podSelector"], &labels_of(other)))
    }

    fn namespace_labels(&self, name: &str) -> Map<String, Value> {
        let namespace = self.objects.iter().find(|it| it["kind"] == "Namespace" && it["metadata"]["name"] == name);
        let mut labels = namespace.map(labels_of).unwrap_or_default();
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
        labels
    }

    fn port(&self, port: &Value) -> bool {
        if port["protocol"].as_str().unwrap_or("TCP") != self.protocol {
            return false;
        }
        match &port["port"] {
            Value::Null => true,
            Value::Number(first) => {
                let first = first.as_u64().unwrap();
                let last = port["endPort"].as_u64().unwrap_or(first);
                (first..=last).contains(&u64::from(self.port))
            }
            name => self.target.is_some_and(|pod| {
                pod["spec"]["containers"][0]["ports"].as_array().into_iter().flatten().any(|it| {
                    it["name"] == *name
                        && it["containerPort"] == self.port
                        && it["protocol"].as_str().unwrap_or("TCP") == self.protocol
                })
            }),
        }
    }
}

fn has_type(spec: &Value, direction: &str) -> bool {
    let types = spec["policyTypes"].as_array();
    match types {
        Some(types) if !types.is_empty() => types.iter().any(|it| it.as_str().unwrap().eq_ignore_ascii_case(direction)),
        _ => direction == "ingress" || spec["egress"].as_array().is_some_and(|rules| !rules.is_empty()),
    }
}

fn labels_of(object: &Value) -> Map<String, Value> {
    object["metadata"]["labels"].as_object().cloned().unwrap_or_default()
}

fn selects(selector: &Value, labels: &Map<String, Value>) -> bool {
    let exact = selector["matchLabels"].as_object();
    if exact.into_iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        return false;
    }
    selector["matchExpressions"].as_array().into_iter().flatten().all(|expression| {
        let found = labels.get(expression["key"].as_str().unwrap());
        let listed =
            found.is_some_and(|value| expression["values"].as_array().is_some_and(|values| values.contains(value)));
        match expression["operator"].as_str().unwrap() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            other => panic!("{other}"),
        }
    })
}

/// By bits, so that not even the arithmetic is shared with the engine.
fn in_cidr(cidr: &str, ip: IpAddr) -> bool {
    let (base, length) = cidr.split_once('/').unwrap();
    let length: u32 = length.parse().unwrap();
    match (base.parse::<IpAddr>().unwrap(), ip) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => {
            let differing = u32::from(base) ^ u32::from(ip);
            length == 0 || differing >> (32 - length) == 0
        }
        (IpAddr::V6(base), IpAddr::V6(ip)) => {
            let differing = u128::from(base) ^ u128::from(ip);
            length == 0 || differing >> (128 - length) == 0
        }
        _ => false,
    }
}
