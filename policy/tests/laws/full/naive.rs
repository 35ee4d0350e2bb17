//! A third evaluator, written from the texts of the APIs and sharing nothing with the engine: it walks the raw objects for each
//! question, with no thought for speed. It is long because it may share nothing.

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

    /// Those that are known.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Address(address) => vec![*address],
            Self::Pod(pod) => {
                let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
                ips.map(|ip| ip["ip"].as_str().unwrap().parse().unwrap()).collect()
            }
        }
    }
}

/// Whether something holds, as far as it can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tri {
    Yes,
    No,
    Maybe,
}

impl Tri {
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, Self::No) => Self::No,
            (_, _) => Self::Maybe,
        }
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
        }
    }

    fn and(self, other: Self) -> Self {
        self.not().or(other.not()).not()
    }

    fn any(items: impl Iterator<Item = Self>) -> Self {
        items.fold(Self::No, Self::or)
    }
}

impl From<bool> for Tri {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// An address, or its family, or nothing that is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Known(IpAddr),
    /// Of IPv4, or of IPv6.
    Family(bool),
    Unknown,
}

impl At {
    fn is_v4(self) -> Option<bool> {
        match self {
            Self::Known(address) => Some(address.is_ipv4()),
            Self::Family(is_v4) => Some(is_v4),
            Self::Unknown => None,
        }
    }

    fn is_in(self, cidr: &str) -> Tri {
        let is_of = |is_v4: bool| cidr.contains('.') == is_v4;
        match self {
            Self::Known(address) => in_cidr(cidr, address).into(),
            Self::Family(is_v4) if !is_of(is_v4) => Tri::No,
            Self::Family(_) if cidr.ends_with("/0") => Tri::Yes,
            Self::Family(_) => Tri::Maybe,
            Self::Unknown => panic!("asked by each family"),
        }
    }
}

/// Who a rule is held against.
#[derive(Clone, Copy)]
struct Other<'a> {
    end: &'a End<'a>,
    address: At,
}

/// The addresses of a connection: of the destination's first family that the source has as well. An end without one has what
/// the other end has. `None`: they have no family in common.
pub fn addresses(from: &End<'_>, to: &End<'_>) -> Option<(At, At)> {
    match (from.addresses().as_slice(), to.addresses().as_slice()) {
        // All clusters here have nodes with both families.
        ([], []) => Some((At::Unknown, At::Unknown)),
        ([], [to, ..]) => Some((At::Family(to.is_ipv4()), At::Known(*to))),
        ([from, ..], []) => Some((At::Known(*from), At::Family(from.is_ipv4()))),
        (sources, destinations) => destinations.iter().find_map(|to| {
            let from = sources.iter().find(|it| it.is_ipv4() == to.is_ipv4())?;
            Some((At::Known(*from), At::Known(*to)))
        }),
    }
}

/// What may become of a connection on one side, or in one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fate {
    allow: bool,
    deny: bool,
    /// It goes on to the next tier.
    pass: bool,
    /// A rule that passes matches perhaps. What then becomes of it is left open, even if that comes to the same.
    perhaps_passed: bool,
}

impl Fate {
    fn add(&mut self, action: &str) {
        match action {
            "Allow" | "Accept" => self.allow = true,
            "Deny" => self.deny = true,
            "Pass" => self.pass = true,
            other => panic!("{other}"),
        }
    }

    fn union(&mut self, other: Self) {
        self.allow |= other.allow;
        self.deny |= other.deny;
        self.pass |= other.pass;
        self.perhaps_passed |= other.perhaps_passed;
    }

    /// Where it passes, what follows has its say.
    fn then(self, next: impl FnOnce() -> Self) -> Self {
        if !self.pass {
            return self;
        }
        let mut fate = Self { pass: false, ..self };
        fate.union(next());
        fate
    }
}

/// All orders of some things.
fn orders<T: Clone>(things: &[T]) -> Vec<Vec<T>> {
    if things.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for first in 0..things.len() {
        let mut rest = things.to_vec();
        let first = rest.remove(first);
        all.extend(orders(&rest).into_iter().map(|rest| std::iter::once(first.clone()).chain(rest).collect()));
    }
    all
}

impl Question<'_> {
    /// Whether both sides let it pass, between these addresses. `None`: it cannot be known.
    pub fn is_open(&self, from: At, to: At) -> Option<bool> {
        if (from, to) == (At::Unknown, At::Unknown) {
            // It may be by either family: known is what both come to.
            let of = |is_v4| self.is_open(At::Family(is_v4), At::Family(is_v4));
            return of(true).filter(|is_open| of(false) == Some(*is_open));
        }
        let same = |a: &Value, b: &Value| {
            a["metadata"]["name"] == b["metadata"]["name"] && a["metadata"]["namespace"] == b["metadata"]["namespace"]
        };
        // "A pod cannot block access to itself."
        if let (End::Pod(a), End::Pod(b)) = (self.from, self.to)
            && same(a, b)
        {
            return Some(true);
        }
        let known = |fate: Fate| match (fate.allow, fate.deny) {
            (true, false) if !fate.perhaps_passed => Some(true),
            (false, true) if !fate.perhaps_passed => Some(false),
            (_, _) => None,
        };
        let egress = self.from.pod().map(|pod| known(self.side(pod, "egress", Other { end: self.to, address: to })));
        let ingress = self.to.pod().map(|pod| {
            let fate = known(self.side(pod, "ingress", Other { end: self.from, address: from }));
            // "Traffic to and from the node where a Pod is running is always allowed."
            match self.from.host().map_or(Tri::No, |host| self.on_one_node(host, pod)) {
                Tri::Yes => Some(true),
                Tri::No => fate,
                Tri::Maybe => fate.filter(|is_open| *is_open),
            }
        });
        let sides: Vec<Option<bool>> = [egress, ingress].into_iter().flatten().collect();
        // One side that is certainly shut is enough.
        if sides.contains(&Some(false)) {
            return Some(false);
        }
        if sides.contains(&None) { None } else { Some(true) }
    }

    /// Whether two pods run on one node: by its name, or by an address of it.
    fn on_one_node(&self, a: &Value, b: &Value) -> Tri {
        match (self.node_of(a), self.node_of(b)) {
            (Some(a), Some(b)) => (a == b).into(),
            (None, None) if own_node_addresses(a).iter().any(|it| own_node_addresses(b).contains(it)) => Tri::Yes,
            (_, _) => Tri::Maybe,
        }
    }

    /// The name of a pod's node: its own word, or that of the only node that has its node's address.
    fn node_of(&self, pod: &Value) -> Option<String> {
        if let Some(name) = pod["spec"]["nodeName"].as_str() {
            return Some(name.to_owned());
        }
        let addresses = own_node_addresses(pod);
        let mut names: Vec<String> = Vec::new();
        for object in self.objects {
            let (name, known) = match object["kind"].as_str() {
                Some("Node") => {
                    let list = object["status"]["addresses"].as_array().into_iter().flatten();
                    let list = list.map(|item| item["address"].as_str().unwrap().to_owned()).collect();
                    (object["metadata"]["name"].as_str(), list)
                }
                Some("Pod") => (object["spec"]["nodeName"].as_str(), own_node_addresses(object)),
                _ => continue,
            };
            if let Some(name) = name.filter(|_| known.iter().any(|address| addresses.contains(address))) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        names.dedup();
        if names.len() == 1 { names.pop() } else { None }
    }

    fn side(&self, pod: &Value, direction: &str, other: Other<'_>) -> Fate {
        let behind = || self.tiered("Baseline", pod, direction, other).then(|| Fate { allow: true, ..Fate::default() });
        let middle = || self.middle(pod, direction, other).then(behind);
        self.tiered("Admin", pod, direction, other).then(middle)
    }

    /// What the first rule of the first policy of a tier says, by priority; of equal priorities in every order.
    fn tiered(&self, tier: &str, pod: &Value, direction: &str, other: Other<'_>) -> Fate {
        let tier_of = |policy: &Value| match policy["kind"].as_str() {
            Some("ClusterNetworkPolicy") => policy["spec"]["tier"].as_str().map(str::to_owned),
            Some("AdminNetworkPolicy") => Some("Admin".to_owned()),
            Some("BaselineAdminNetworkPolicy") => Some("Baseline".to_owned()),
            _ => None,
        };
        let mut policies: Vec<&Value> = self.objects.iter().filter(|it| tier_of(it).as_deref() == Some(tier)).collect();
        policies.retain(|policy| self.in_subject(&policy["spec"]["subject"], pod));
        let priority = |policy: &Value| policy["spec"]["priority"].as_i64().unwrap_or(0);
        policies.sort_by_key(|policy| priority(policy));
        let mut fate = Fate::default();
        let groups: Vec<&[&Value]> = policies.chunk_by(|a, b| priority(a) == priority(b)).collect();
        let mut lists: Vec<Vec<&Value>> = vec![Vec::new()];
        for group in groups {
            let mut longer: Vec<Vec<&Value>> = Vec::new();
            for order in orders(group) {
                longer.extend(lists.iter().map(|list| list.iter().chain(&order).copied().collect()));
            }
            lists = longer;
        }
        for policies in lists {
            fate.union(self.in_order(&policies, direction, other));
        }
        fate
    }

    fn in_order(&self, policies: &[&Value], direction: &str, other: Other<'_>) -> Fate {
        let mut fate = Fate::default();
        let peers = if direction == "ingress" { "from" } else { "to" };
        for policy in policies {
            for rule in policy["spec"][direction].as_array().into_iter().flatten() {
                let is_peer =
                    Tri::any(rule[peers].as_array().unwrap().iter().map(|peer| self.tiered_peer(peer, other)));
                let (old, new) = (rule["ports"].as_array(), rule["protocols"].as_array());
                let is_port = match (old, new) {
                    (Some(ports), _) => ports.iter().any(|port| self.admin_port(port)),
                    (_, Some(protocols)) => protocols.iter().any(|protocol| self.cluster_port(protocol)),
                    (None, None) => true,
                };
                let action = rule["action"].as_str().unwrap();
                match is_peer.and(is_port.into()) {
                    Tri::Yes => {
                        fate.add(action);
                        return fate;
                    }
                    Tri::Maybe if action == "Pass" => fate.perhaps_passed = true,
                    Tri::Maybe => fate.add(action),
                    Tri::No => {}
                }
            }
        }
        fate.pass = true;
        fate
    }

    fn tiered_peer(&self, peer: &Value, other: Other<'_>) -> Tri {
        if peer["domainNames"].is_array() {
            // They may stand for any address.
            return Tri::Maybe;
        }
        if let Some(networks) = peer["networks"].as_array() {
            return Tri::any(networks.iter().map(|net| other.address.is_in(net.as_str().unwrap())));
        }
        if peer["nodes"].is_object() {
            let Some(host) = other.end.host() else { return Tri::No };
            let asks_nothing = peer["nodes"].as_object().unwrap().values().all(|part| {
                part.as_object().is_none_or(serde_json::Map::is_empty) && part.as_array().is_none_or(Vec::is_empty)
            });
            let node = self.node_of(host).and_then(|name| self.named("Node", &Value::from(name)));
            return match node {
                _ if asks_nothing => Tri::Yes,
                Some(node) => selects(&peer["nodes"], &labels_of(node)).into(),
                None => Tri::Maybe,
            };
        }
        other.end.pod().is_some_and(|pod| self.in_subject(peer, pod)).into()
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

    /// NetworkPolicies and Calico's policies, which share a tier. No two of different kinds have one order here.
    fn middle(&self, pod: &Value, direction: &str, other: Other<'_>) -> Fate {
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
        let mut fate = Fate::default();
        for (_, policy) in policies {
            if is_calico(policy) {
                if !self.calico_selects(policy, pod) || !calico_has(policy, direction) {
                    continue;
                }
                is_isolated = true;
                for rule in policy["spec"][direction].as_array().into_iter().flatten() {
                    if rule["action"] == "Log" {
                        continue;
                    }
                    let action = rule["action"].as_str().unwrap();
                    match self.calico_rule(policy, rule, direction, other) {
                        Tri::Yes => {
                            fate.add(action);
                            return fate;
                        }
                        Tri::Maybe if action == "Pass" => fate.perhaps_passed = true,
                        Tri::Maybe => fate.add(action),
                        Tri::No => {}
                    }
                }
            } else {
                match self.network_policy(policy, pod, direction, other, &mut is_isolated) {
                    Tri::Yes => {
                        fate.allow = true;
                        return fate;
                    }
                    Tri::Maybe => fate.allow = true,
                    Tri::No => {}
                }
            }
        }
        if is_isolated {
            fate.deny = true;
        } else {
            fate.pass = true;
        }
        fate
    }

    fn network_policy(
        &self,
        policy: &Value,
        pod: &Value,
        direction: &str,
        other: Other<'_>,
        is_isolated: &mut bool,
    ) -> Tri {
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
            return Tri::No;
        }
        *is_isolated = true;
        let peers = if direction == "ingress" { "from" } else { "to" };
        Tri::any(spec[direction].as_array().into_iter().flatten().map(|rule| {
            let of = |field: &str| rule[field].as_array().filter(|list| !list.is_empty());
            let is_peer =
                |list: &Vec<Value>| Tri::any(list.iter().map(|peer| self.network_policy_peer(policy, peer, other)));
            let is_port = of("ports").is_none_or(|list| list.iter().any(|port| self.network_policy_port(port)));
            of(peers).map_or(Tri::Yes, is_peer).and(is_port.into())
        }))
    }

    fn network_policy_peer(&self, policy: &Value, peer: &Value, other: Other<'_>) -> Tri {
        if peer["ipBlock"].is_object() {
            let inside = |net: &Value| other.address.is_in(net.as_str().unwrap());
            let excepted = Tri::any(peer["ipBlock"]["except"].as_array().into_iter().flatten().map(inside));
            return inside(&peer["ipBlock"]["cidr"]).and(excepted.not());
        }
        let Some(pod) = other.end.pod() else { return Tri::No };
        let is_there = if peer["namespaceSelector"].is_object() {
            selects(&peer["namespaceSelector"], &self.namespace_labels(pod))
        } else {
            pod["metadata"]["namespace"] == policy["metadata"]["namespace"]
        };
        (is_there && selects(&peer["podSelector"], &labels_of(pod))).into()
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

    fn calico_rule(&self, policy: &Value, rule: &Value, direction: &str, other: Other<'_>) -> Tri {
        let protocol_holds = rule["protocol"].as_str().is_none_or(|own| own == self.protocol)
            && rule["notProtocol"].as_str().is_none_or(|own| own != self.protocol);
        let version_holds =
            rule["ipVersion"].as_u64().is_none_or(|version| Some(version == 4) == other.address.is_v4());
        if !protocol_holds || !version_holds {
            return Tri::No;
        }
        let ports =
            |field: &str| rule["destination"][field].as_array().map(|list| list.iter().any(|it| self.calico_port(it)));
        if ports("ports") == Some(false) || ports("notPorts") == Some(true) {
            return Tri::No;
        }
        let entity = &rule[if direction == "ingress" { "source" } else { "destination" }];
        let asks_labels =
            ["selector", "namespaceSelector", "serviceAccounts"].iter().any(|field| !entity[*field].is_null());
        if asks_labels {
            let Some(pod) = other.end.pod() else { return Tri::No };
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
                return Tri::No;
            }
        }
        let inside = |net: &Value| other.address.is_in(net.as_str().unwrap());
        let within = entity["nets"].as_array().map_or(Tri::Yes, |nets| Tri::any(nets.iter().map(inside)));
        within.and(Tri::any(entity["notNets"].as_array().into_iter().flatten().map(inside)).not())
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

/// The addresses of its node that a pod tells; in the network of its node its own ones are among them.
fn own_node_addresses(pod: &Value) -> Vec<String> {
    let list = |field: &str| pod["status"][field].as_array().into_iter().flatten().collect::<Vec<_>>();
    let mut addresses: Vec<&Value> = list("hostIPs");
    if pod["spec"]["hostNetwork"] == true {
        addresses.extend(list("podIPs"));
    }
    addresses.into_iter().map(|item| item["ip"].as_str().unwrap().to_owned()).collect()
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
