//! A third evaluator, written from the texts of the APIs and sharing nothing with the engine: it walks the raw objects for each
//! question, with no thought for speed.

use std::net::IpAddr;

use serde_json::Value;

use super::calico::Expression;

/// One question between two pods, or a pod and an address.
pub struct Question<'a> {
    pub objects: &'a [Value],
    pub from: &'a End<'a>,
    pub to: &'a End<'a>,
    pub protocol: &'static str,
    pub port: u16,
}

/// A pod or an address.
pub enum End<'a> {
    Pod(&'a Value),
    Address(IpAddr),
}

impl<'a> End<'a> {
    /// The pod, if it has a network of its own: one that policies can select.
    fn pod(&self) -> Option<&'a Value> {
        match self {
            Self::Pod(pod) if pod["spec"]["hostNetwork"] != true => Some(pod),
            Self::Pod(_) | Self::Address(_) => None,
        }
    }

    fn host(&self) -> Option<&'a Value> {
        match self {
            Self::Pod(pod) if pod["spec"]["hostNetwork"] == true => Some(pod),
            Self::Pod(_) | Self::Address(_) => None,
        }
    }

    pub fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Address(address) => vec![*address],
            Self::Pod(pod) => {
                let ips = pod["status"]["podIPs"].as_array().unwrap().iter();
                ips.map(|ip| ip["ip"].as_str().unwrap().parse().unwrap()).collect()
            }
        }
    }
}

/// Who a rule is held against.
struct Other<'a> {
    end: &'a End<'a>,
    address: IpAddr,
}

/// The addresses of a connection: of the destination's first family that the source has as well. `None`: there is none.
pub fn addresses(from: &End<'_>, to: &End<'_>) -> Option<(IpAddr, IpAddr)> {
    let sources = from.addresses();
    to.addresses().into_iter().find_map(|to| Some((*sources.iter().find(|it| it.is_ipv4() == to.is_ipv4())?, to)))
}

impl Question<'_> {
    /// Whether both sides let it pass, between these addresses.
    pub fn is_open(&self, from: IpAddr, to: IpAddr) -> bool {
        let same = |a: &Value, b: &Value| {
            a["metadata"]["name"] == b["metadata"]["name"] && a["metadata"]["namespace"] == b["metadata"]["namespace"]
        };
        // "A pod cannot block access to itself."
        if let (End::Pod(a), End::Pod(b)) = (self.from, self.to)
            && same(a, b)
        {
            return true;
        }
        let egress = self.from.pod().is_none_or(|pod| self.side(pod, "egress", &Other { end: self.to, address: to }));
        let ingress = self.to.pod().is_none_or(|pod| {
            // "Traffic to and from the node where a Pod is running is always allowed."
            let from_own_node =
                self.from.host().is_some_and(|host| host["spec"]["nodeName"] == pod["spec"]["nodeName"]);
            from_own_node || self.side(pod, "ingress", &Other { end: self.from, address: from })
        });
        egress && ingress
    }

    fn side(&self, pod: &Value, direction: &str, other: &Other<'_>) -> bool {
        match self.tiered("Admin", pod, direction, other) {
            Some("Allow" | "Accept") => return true,
            Some("Deny") => return false,
            _ => {}
        }
        if let Some(decided) = self.middle(pod, direction, other) {
            return decided;
        }
        self.tiered("Baseline", pod, direction, other) != Some("Deny")
    }

    /// What the first rule of the first policy of a tier says, by priority.
    fn tiered(&self, tier: &str, pod: &Value, direction: &str, other: &Other<'_>) -> Option<&str> {
        let tier_of = |policy: &Value| match policy["kind"].as_str() {
            Some("ClusterNetworkPolicy") => policy["spec"]["tier"].as_str().map(str::to_owned),
            Some("AdminNetworkPolicy") => Some("Admin".to_owned()),
            Some("BaselineAdminNetworkPolicy") => Some("Baseline".to_owned()),
            _ => None,
        };
        let mut policies: Vec<&Value> = self.objects.iter().filter(|it| tier_of(it).as_deref() == Some(tier)).collect();
        policies.sort_by_key(|policy| policy["spec"]["priority"].as_i64().unwrap_or(0));
        for policy in policies {
            if !self.in_subject(&policy["spec"]["subject"], pod) {
                continue;
            }
            let peers = if direction == "ingress" { "from" } else { "to" };
            for rule in policy["spec"][direction].as_array().into_iter().flatten() {
                let is_peer = rule[peers].as_array().unwrap().iter().any(|peer| self.tiered_peer(peer, other));
                let (old, new) = (rule["ports"].as_array(), rule["protocols"].as_array());
                let is_port = match (old, new) {
                    (Some(ports), _) => ports.iter().any(|port| self.admin_port(port)),
                    (_, Some(protocols)) => protocols.iter().any(|protocol| self.cluster_port(protocol)),
                    (None, None) => true,
                };
                if is_peer && is_port {
                    return rule["action"].as_str();
                }
            }
        }
        None
    }

    fn tiered_peer(&self, peer: &Value, other: &Other<'_>) -> bool {
        if let Some(networks) = peer["networks"].as_array() {
            return networks.iter().any(|net| in_cidr(net.as_str().unwrap(), other.address));
        }
        if peer["nodes"].is_object() {
            return other.end.host().is_some_and(|host| {
                let node = self.named("Node", &host["spec"]["nodeName"]);
                node.is_some_and(|node| selects(&peer["nodes"], &labels_of(node)))
            });
        }
        other.end.pod().is_some_and(|pod| self.in_subject(peer, pod))
    }

    /// `{namespaces: …}` or `{pods: {namespaceSelector: …, podSelector: …}}`.
    fn in_subject(&self, subject: &Value, pod: &Value) -> bool {
        let namespace = self.namespace_labels(pod);
        if subject["namespaces"].is_object() {
            return selects(&subject["namespaces"], &namespace);
        }
        let pods = &subject["pods"];
        selects(&pods["namespaceSelector"], &namespace) && selects(&pods["podSelector"], &labels_of(pod))
    }

    fn admin_port(&self, port: &Value) -> bool {
        let is = |node: &Value| node["protocol"].as_str().unwrap_or("TCP") == self.protocol;
        if let Some(name) = port["namedPort"].as_str() {
            return self.called(name);
        }
        if port["portNumber"].is_object() {
            return is(&port["portNumber"]) && port["portNumber"]["port"] == self.port;
        }
        let (range, own) = (&port["portRange"], u64::from(self.port));
        is(range) && range["start"].as_u64().unwrap() <= own && own <= range["end"].as_u64().unwrap()
    }

    fn cluster_port(&self, protocol: &Value) -> bool {
        if let Some(name) = protocol["destinationNamedPort"].as_str() {
            return self.called(name);
        }
        let own = &protocol[self.protocol.to_lowercase()];
        if !own.is_object() {
            return false;
        }
        let port = &own["destinationPort"];
        let number = u64::from(self.port);
        match (port["number"].as_u64(), port["range"].as_object()) {
            (Some(one), _) => one == number,
            (None, Some(range)) => {
                range["start"].as_u64().unwrap() <= number && number <= range["end"].as_u64().unwrap()
            }
            (None, None) => true,
        }
    }

    /// NetworkPolicies and Calico's policies, which share a tier. `None`: none of them has a word on it.
    fn middle(&self, pod: &Value, direction: &str, other: &Other<'_>) -> Option<bool> {
        let mut policies: Vec<(f64, &Value)> = self
            .objects
            .iter()
            .filter(|it| it["kind"] == "NetworkPolicy" || it["kind"] == "GlobalNetworkPolicy")
            .map(|policy| {
                let order =
                    if is_calico(policy) { policy["spec"]["order"].as_f64().unwrap_or(f64::MAX) } else { 1000.0 };
                (order, policy)
            })
            .collect();
        policies.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut is_isolated = false;
        for (_, policy) in policies {
            if is_calico(policy) {
                if !self.calico_selects(policy, pod) || !calico_has(policy, direction) {
                    continue;
                }
                is_isolated = true;
                for rule in policy["spec"][direction].as_array().into_iter().flatten() {
                    if rule["action"] != "Log" && self.calico_rule(policy, rule, direction, other) {
                        match rule["action"].as_str() {
                            Some("Allow") => return Some(true),
                            Some("Deny") => return Some(false),
                            _ => return None,
                        }
                    }
                }
            } else if self.network_policy(policy, pod, direction, other, &mut is_isolated) {
                return Some(true);
            }
        }
        is_isolated.then_some(false)
    }

    fn network_policy(
        &self,
        policy: &Value,
        pod: &Value,
        direction: &str,
        other: &Other<'_>,
        is_isolated: &mut bool,
    ) -> bool {
        let spec = &policy["spec"];
        let types = spec["policyTypes"].as_array().filter(|types| !types.is_empty());
        let speaks = match types {
            Some(types) => types.iter().any(|it| it.as_str().unwrap().to_lowercase() == direction),
            None => direction == "ingress" || spec["egress"].as_array().is_some_and(|rules| !rules.is_empty()),
        };
        if policy["metadata"]["namespace"] != pod["metadata"]["namespace"]
            || !selects(&spec["podSelector"], &labels_of(pod))
            || !speaks
        {
            return false;
        }
        *is_isolated = true;
        let peers = if direction == "ingress" { "from" } else { "to" };
        spec[direction].as_array().into_iter().flatten().any(|rule| {
            let of = |field: &str| rule[field].as_array().filter(|list| !list.is_empty());
            of(peers).is_none_or(|list| list.iter().any(|peer| self.network_policy_peer(policy, peer, other)))
                && of("ports").is_none_or(|list| list.iter().any(|port| self.network_policy_port(port)))
        })
    }

    fn network_policy_peer(&self, policy: &Value, peer: &Value, other: &Other<'_>) -> bool {
        if peer["ipBlock"].is_object() {
            let inside = |net: &Value| in_cidr(net.as_str().unwrap(), other.address);
            return inside(&peer["ipBlock"]["cidr"])
                && !peer["ipBlock"]["except"].as_array().into_iter().flatten().any(inside);
        }
        let Some(pod) = other.end.pod() else { return false };
        let is_there = if peer["namespaceSelector"].is_object() {
            selects(&peer["namespaceSelector"], &self.namespace_labels(pod))
        } else {
            pod["metadata"]["namespace"] == policy["metadata"]["namespace"]
        };
        is_there && selects(&peer["podSelector"], &labels_of(pod))
    }

    fn network_policy_port(&self, port: &Value) -> bool {
        if port["protocol"].as_str().unwrap_or("TCP") != self.protocol {
            return false;
        }
        if let Some(name) = port["port"].as_str() {
            return self.called(name);
        }
        let Some(first) = port["port"].as_u64() else { return true };
        let last = port["endPort"].as_u64().unwrap_or(first);
        first <= u64::from(self.port) && u64::from(self.port) <= last
    }

    fn calico_selects(&self, policy: &Value, pod: &Value) -> bool {
        let spec = &policy["spec"];
        let is_there = match policy["metadata"]["namespace"].as_str() {
            Some(own) => pod["metadata"]["namespace"] == own,
            None => expression(&spec["namespaceSelector"], &self.namespace_labels(pod)),
        };
        is_there && expression(&spec["selector"], &calico_labels(pod))
    }

    fn calico_rule(&self, policy: &Value, rule: &Value, direction: &str, other: &Other<'_>) -> bool {
        let protocol_holds = rule["protocol"].as_str().is_none_or(|own| own == self.protocol)
            && rule["notProtocol"].as_str().is_none_or(|own| own != self.protocol);
        let version_holds = rule["ipVersion"].as_u64().is_none_or(|version| (version == 4) == other.address.is_ipv4());
        if !protocol_holds || !version_holds {
            return false;
        }
        let ports =
            |field: &str| rule["destination"][field].as_array().map(|list| list.iter().any(|it| self.calico_port(it)));
        if ports("ports") == Some(false) || ports("notPorts") == Some(true) {
            return false;
        }
        let entity = &rule[if direction == "ingress" { "source" } else { "destination" }];
        let asks_labels =
            ["selector", "namespaceSelector", "serviceAccounts"].iter().any(|field| !entity[*field].is_null());
        if asks_labels {
            let Some(pod) = other.end.pod() else { return false };
            let is_there = match (policy["metadata"]["namespace"].as_str(), entity["namespaceSelector"].is_string()) {
                (_, true) => expression(&entity["namespaceSelector"], &self.namespace_labels(pod)),
                (Some(own), false) => pod["metadata"]["namespace"] == own,
                (None, false) => true,
            };
            let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
            let accounts = entity["serviceAccounts"]["names"].as_array();
            if !is_there
                || !expression(&entity["selector"], &calico_labels(pod))
                || (entity["notSelector"].is_string() && expression(&entity["notSelector"], &calico_labels(pod)))
                || accounts.is_some_and(|names| !names.iter().any(|name| name == account))
            {
                return false;
            }
        }
        let inside = |net: &Value| in_cidr(net.as_str().unwrap(), other.address);
        entity["nets"].as_array().is_none_or(|nets| nets.iter().any(inside))
            && !entity["notNets"].as_array().into_iter().flatten().any(inside)
    }

    fn calico_port(&self, port: &Value) -> bool {
        if let Some(number) = port.as_u64() {
            return number == u64::from(self.port);
        }
        let text = port.as_str().unwrap();
        match text.split_once(':') {
            Some((first, last)) => (first.parse::<u16>().unwrap()..=last.parse::<u16>().unwrap()).contains(&self.port),
            None => self.called(text),
        }
    }

    /// Whether the destination calls this port so, in this protocol.
    fn called(&self, name: &str) -> bool {
        let Some(pod) = self.to.pod() else { return false };
        pod["spec"]["containers"].as_array().unwrap().iter().any(|container| {
            container["ports"].as_array().into_iter().flatten().any(|port| {
                port["name"] == name
                    && port["containerPort"] == self.port
                    && port["protocol"].as_str().unwrap_or("TCP") == self.protocol
            })
        })
    }

    fn named(&self, kind: &str, name: &Value) -> Option<&Value> {
        self.objects.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == *name)
    }

    /// "The label kubernetes.io/metadata.name is set on all namespaces." Calico adds its own.
    fn namespace_labels(&self, pod: &Value) -> Vec<(String, String)> {
        let name = &pod["metadata"]["namespace"];
        let mut labels = self.named("Namespace", name).map(labels_of).unwrap_or_default();
        let name = name.as_str().unwrap().to_owned();
        labels.push(("kubernetes.io/metadata.name".to_owned(), name.clone()));
        labels.push(("projectcalico.org/name".to_owned(), name));
        labels
    }
}

fn is_calico(policy: &Value) -> bool {
    policy["apiVersion"].as_str().unwrap().starts_with("projectcalico.org")
}

/// "If there are only ingress rules, or none: Ingress; only egress rules: Egress; both: both."
fn calico_has(policy: &Value, direction: &str) -> bool {
    let spec = &policy["spec"];
    if let Some(types) = spec["types"].as_array() {
        return types.iter().any(|it| it.as_str().unwrap().to_lowercase() == direction);
    }
    let has = |field: &str| spec[field].as_array().is_some_and(|rules| !rules.is_empty());
    match direction {
        "egress" => has("egress"),
        _ => has("ingress") || !has("egress"),
    }
}

fn labels_of(object: &Value) -> Vec<(String, String)> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn calico_labels(pod: &Value) -> Vec<(String, String)> {
    let mut labels = labels_of(pod);
    let namespace = pod["metadata"]["namespace"].as_str().unwrap();
    labels.push(("projectcalico.org/namespace".to_owned(), namespace.to_owned()));
    labels.push(("projectcalico.org/orchestrator".to_owned(), "k8s".to_owned()));
    labels
}

/// An absent expression selects everything.
fn expression(text: &Value, labels: &[(String, String)]) -> bool {
    text.as_str().is_none_or(|text| Expression::read(text).holds(labels))
}

/// A LabelSelector; an absent one asks nothing.
fn selects(selector: &Value, labels: &[(String, String)]) -> bool {
    let value_of = |key: &str| labels.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
    let exact = selector["matchLabels"].as_object().into_iter().flatten();
    exact.into_iter().all(|(key, value)| value_of(key) == value.as_str())
        && selector["matchExpressions"].as_array().into_iter().flatten().all(|expression| {
            let found = value_of(expression["key"].as_str().unwrap());
            let is_listed = found.is_some_and(|found| {
                expression["values"].as_array().is_some_and(|values| values.iter().any(|value| value == found))
            });
            match expression["operator"].as_str().unwrap() {
                "In" => is_listed,
                "NotIn" => !is_listed,
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
        (IpAddr::V4(base), IpAddr::V4(ip)) => length == 0 || (u32::from(base) ^ u32::from(ip)) >> (32 - length) == 0,
        (IpAddr::V6(base), IpAddr::V6(ip)) => length == 0 || (u128::from(base) ^ u128::from(ip)) >> (128 - length) == 0,
        _ => false,
    }
}
