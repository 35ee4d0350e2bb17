//! ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2 and v1beta1), and its ancestors AdminNetworkPolicy and
//! BaselineAdminNetworkPolicy (v1alpha1).
//!
//! Source: kubernetes-sigs/network-policy-api, `apis/v1alpha2/clusternetworkpolicy_types.go` (v1beta1 differs in asking for
//! CIDRs in canonical form only) and `apis/v1alpha1/{adminnetworkpolicy,baselineadminnetworkpolicy,shared}_types.go`. These
//! ask implementations to "fail closed" on a peer that they do not know. Here such a rule is in doubt: what reaches it is
//! neither allowed nor denied.

use serde_json::Value;

use crate::names::{Direction, PolicyRef, Protocol};
use crate::parse::node::{Node, Problems, shortened};
use crate::parse::policy::{ParsedPolicy, all};
use crate::parse::problem::{Problem, Reason};
use crate::parse::{block, object, port, selector};
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy::{Action, BrokenPolicy, Order, Policy, Rank, Rule, Tier};
use crate::port::{PortRange, PortRule, Ports, is_port_name};
use crate::selector::Selector;

/// How long the name of a rule may be.
const MAX_RULE_NAME: usize = 100;

/// How many CIDRs one peer may name, in all versions.
const MAX_NETWORKS: usize = 25;

pub(crate) fn cluster_network_policy(value: &Value) -> ParsedPolicy {
    read(value, Dialect::Cluster)
}

pub(crate) fn admin_network_policy(value: &Value) -> ParsedPolicy {
    read(value, Dialect::Admin)
}

pub(crate) fn baseline_admin_network_policy(value: &Value) -> ParsedPolicy {
    read(value, Dialect::Baseline)
}

/// What the three kinds differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Cluster,
    Admin,
    Baseline,
}

impl Dialect {
    fn kind(self) -> &'static str {
        match self {
            Self::Cluster => "ClusterNetworkPolicy",
            Self::Admin => "AdminNetworkPolicy",
            Self::Baseline => "BaselineAdminNetworkPolicy",
        }
    }

    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Cluster => &["tier", "priority", "subject", "ingress", "egress"],
            Self::Admin => &["priority", "subject", "ingress", "egress"],
            Self::Baseline => &["subject", "ingress", "egress"],
        }
    }

    /// How many rules a direction, and how many peers and ports a rule may have.
    fn max_items(self) -> usize {
        match self {
            Self::Cluster => 25,
            Self::Admin | Self::Baseline => 100,
        }
    }

    /// The field that holds a rule's ports.
    fn ports_field(self) -> &'static str {
        match self {
            Self::Cluster => "protocols",
            Self::Admin | Self::Baseline => "ports",
        }
    }

    fn peer_fields(self, direction: Direction) -> (&'static [&'static str], &'static str) {
        match (direction, self) {
            (Direction::Ingress, _) => (&["namespaces", "pods"], "namespaces, pods"),
            (Direction::Egress, Self::Cluster | Self::Admin) => (
                &["namespaces", "pods", "nodes", "networks", "domainNames"],
                "namespaces, pods, nodes, networks, domainNames",
            ),
            (Direction::Egress, Self::Baseline) => {
                (&["namespaces", "pods", "nodes", "networks"], "namespaces, pods, nodes, networks")
            }
        }
    }

    fn actions(self) -> &'static str {
        match self {
            Self::Cluster => "Accept, Deny, Pass",
            Self::Admin => "Allow, Deny, Pass",
            Self::Baseline => "Allow, Deny",
        }
    }

    fn action(self, word: &str) -> Option<Action> {
        match (self, word) {
            (Self::Cluster, "Accept") | (Self::Admin | Self::Baseline, "Allow") => Some(Action::Allow),
            (_, "Deny") => Some(Action::Deny),
            (Self::Cluster | Self::Admin, "Pass") => Some(Action::Pass),
            (_, _) => None,
        }
    }
}

fn read(value: &Value, dialect: Dialect) -> ParsedPolicy {
    let kind = dialect.kind();
    let api = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let mut problems = Problems::new(object::title(value, kind, false), api);
    let root = Node::root(value);
    let name = object::name(&root, &mut problems);
    let is_name = object::check_name(&root, name.as_deref(), &mut problems);
    let name_holds = dialect != Dialect::Baseline || name.as_deref().is_none_or(|name| name == "default");
    if !name_holds {
        let found = shortened(name.as_deref().unwrap_or_default());
        problems.add_at(&root, "metadata.name", Reason::Singleton { found });
    }
    let id = PolicyRef { kind, namespace: None, name: name.clone().unwrap_or_else(|| "(without a name)".to_owned()) };
    let Some(spec) = root.field("spec") else {
        problems.add_at(&root, "spec", Reason::Missing);
        return broken(id, PodSet::all(), [true, true], problems);
    };
    // An unknown field may be a misspelt one, or one of a later version that changes what all others mean.
    let known = spec.check_fields(dialect.fields(), &mut problems);
    let rank = rank(&spec, dialect, &mut problems);
    let subject = subject(&spec, dialect, &mut problems);
    let reader = Reader { dialect, is_canonical: api.ends_with("/v1beta1") };
    let ingress = reader.rules(&spec, Direction::Ingress, &mut problems);
    let egress = reader.rules(&spec, Direction::Egress, &mut problems);

    if let (true, Some(_), Some(()), Some(()), Some(rank), Some(subject), Some(ingress), Some(egress)) =
        (name_holds, &name, is_name, known, rank, &subject, &ingress, &egress)
    {
        // Without a rule it does not speak of a direction.
        let [ingress, egress] = [ingress, egress].map(|rules| (!rules.is_empty()).then(|| rules.clone()));
        return ParsedPolicy::Sound(
            Policy { id, rank, subject: subject.clone(), ingress, egress },
            problems.into_list(),
        );
    }
    let whom = subject.filter(|_| known.is_some()).unwrap_or_else(PodSet::all);
    let speaks = |rules: Option<Vec<Rule>>| known.is_none() || rules.is_none_or(|rules| !rules.is_empty());
    broken(id, whom, [speaks(ingress), speaks(egress)], problems)
}

fn broken(id: PolicyRef, subject: PodSet, [ingress, egress]: [bool; 2], problems: Problems) -> ParsedPolicy {
    let problems = problems.into_list();
    let unknowns = problems.iter().map(Problem::to_string).collect();
    ParsedPolicy::Broken(BrokenPolicy { id, subject, ingress, egress, overrides: true, unknowns }, problems)
}

fn rank(spec: &Node<'_>, dialect: Dialect, problems: &mut Problems) -> Option<Rank> {
    let tier = match dialect {
        Dialect::Cluster => tier(spec, problems),
        Dialect::Admin => Some(Tier::Admin),
        Dialect::Baseline => Some(Tier::Baseline),
    };
    let order = match dialect {
        Dialect::Cluster | Dialect::Admin => {
            let priority = required(spec, "priority", problems);
            priority.and_then(|field| field.whole_number(0, 1000, problems)).and_then(|number| {
                let number = i32::try_from(number).expect("it was bounded");
                Order::new(f64::from(number))
            })
        }
        // There is only one.
        Dialect::Baseline => Order::new(0.0),
    };
    Some(Rank { tier: tier?, order: order? })
}

fn tier(spec: &Node<'_>, problems: &mut Problems) -> Option<Tier> {
    let field = required(spec, "tier", problems)?;
    match field.string(problems)? {
        "Admin" => Some(Tier::Admin),
        "Baseline" => Some(Tier::Baseline),
        other => {
            problems.add(&field, Reason::Word { allowed: "Admin, Baseline", found: shortened(other) });
            None
        }
    }
}

fn subject(spec: &Node<'_>, dialect: Dialect, problems: &mut Problems) -> Option<PodSet> {
    let field = required(spec, "subject", problems)?;
    field.check_fields(&["namespaces", "pods"], problems)?;
    match field.present(&["namespaces", "pods"])[..] {
        [("namespaces", namespaces)] => all_of(&namespaces, problems),
        [(_, pods)] => namespaced_pods(&pods, dialect, problems),
        ref several => {
            problems.add(&field, Reason::OneOf { fields: "namespaces, pods", found: several.len() });
            None
        }
    }
}

/// All pods of the namespaces that a selector selects.
fn all_of(namespaces: &Node<'_>, problems: &mut Problems) -> Option<PodSet> {
    let namespaces = selector::selector(namespaces, problems)?;
    Some(PodSet { namespaces: Namespaces::Selected(namespaces), pods: Selector::default() })
}

/// `NamespacedPod`: both selectors, of which v1alpha1 asks both to be there.
fn namespaced_pods(node: &Node<'_>, dialect: Dialect, problems: &mut Problems) -> Option<PodSet> {
    let known = node.check_fields(&["namespaceSelector", "podSelector"], problems);
    let namespaces = match (node.field("namespaceSelector"), dialect) {
        (Some(field), _) => selector::selector(&field, problems),
        (None, Dialect::Cluster) => Some(Selector::default()),
        (None, Dialect::Admin | Dialect::Baseline) => {
            problems.add_at(node, "namespaceSelector", Reason::Missing);
            None
        }
    };
    let pods = required(node, "podSelector", problems).and_then(|field| selector::selector(&field, problems));
    known?;
    Some(PodSet { namespaces: Namespaces::Selected(namespaces?), pods: pods? })
}

/// Reads rules. Each is read for itself: one in doubt leaves the others as they are.
struct Reader {
    dialect: Dialect,
    /// Whether a CIDR with host bits set is refused.
    is_canonical: bool,
}

impl Reader {
    /// `None`: not even how many rules there are.
    fn rules(&self, spec: &Node<'_>, direction: Direction, problems: &mut Problems) -> Option<Vec<Rule>> {
        let Some(field) = spec.field(name_of(direction)) else { return Some(Vec::new()) };
        let rules: Vec<Rule> = field.items(problems)?.map(|item| self.rule(&item, direction, problems)).collect();
        let max = self.dialect.max_items();
        if rules.len() > max {
            problems.add(&field, Reason::TooMany { max });
            return None;
        }
        Some(rules)
    }

    fn rule(&self, node: &Node<'_>, direction: Direction, problems: &mut Problems) -> Rule {
        let before = problems.len();
        let peers_field = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let ports_field = self.dialect.ports_field();
        if node.object(problems).is_none() {
            return Rule {
                action: Action::Deny,
                peers: Vec::new(),
                ports: Vec::new(),
                doubt: problems.since(before),
                may_include_others: false,
            };
        }
        // Unknown fields are reported there, and so are in doubt.
        node.check_fields(&["name", "action", peers_field, ports_field], problems);
        if let Some(field) = node.field("name")
            && field.string(problems).is_some_and(|name| name.chars().count() > MAX_RULE_NAME)
        {
            problems.add(&field, Reason::TooLong { max: MAX_RULE_NAME });
        }
        let action = self.action(node, problems);
        let peers = self.peers(node, peers_field, direction, problems);
        let ports = self.ports(node, ports_field, problems);
        if direction == Direction::Egress {
            self.check_named_ports(node, ports_field, problems);
        }
        // Names of domains are all that was not understood: whatever they stand for, the rule does no more than accept. The
        // APIs have them in such rules only.
        let may_include_others = action == Some(Action::Allow) && problems.are_all_of_domains(before);
        // What could not be read is as wide as it may be.
        let is_whole = may_include_others || peers.as_ref().is_some_and(|peers| !peers.contains(&Peer::nobody()));
        let peers = peers.filter(|_| is_whole);
        Rule {
            action: action.unwrap_or(Action::Deny),
            peers: peers.unwrap_or_default(),
            ports: ports.unwrap_or_default(),
            doubt: problems.since(before),
            may_include_others,
        }
    }

    fn action(&self, node: &Node<'_>, problems: &mut Problems) -> Option<Action> {
        let field = required(node, "action", problems)?;
        let word = field.string(problems)?;
        let action = self.dialect.action(word);
        if action.is_none() {
            problems.add(&field, Reason::Word { allowed: self.dialect.actions(), found: shortened(word) });
        }
        action
    }

    fn peers(
        &self,
        node: &Node<'_>,
        name: &'static str,
        direction: Direction,
        problems: &mut Problems,
    ) -> Option<Vec<Peer>> {
        let field = required(node, name, problems)?;
        let peers = field.items(problems).and_then(|items| all(items, |item| self.peer(&item, direction, problems)));
        bounded(&field, peers, self.dialect.max_items(), problems)
    }

    fn peer(&self, node: &Node<'_>, direction: Direction, problems: &mut Problems) -> Option<Peer> {
        let (fields, list) = self.dialect.peer_fields(direction);
        node.check_fields(fields, problems)?;
        match node.present(fields)[..] {
            [("namespaces", field)] => all_of(&field, problems).map(Peer::Pods),
            [("pods", field)] => namespaced_pods(&field, self.dialect, problems).map(Peer::Pods),
            [("nodes", field)] => selector::selector(&field, problems).map(Peer::Nodes),
            [("networks", field)] => {
                let nets = field.items(problems).and_then(|items| all(items, |item| self.network(&item, problems)));
                let nets = bounded(&field, nets, MAX_NETWORKS, problems)?;
                Some(Peer::Block(crate::block::IpBlock::of(nets, [])))
            }
            [(_, field)] => {
                problems.add(&field, Reason::DomainNames);
                // In its place, so that the other peers of the rule keep theirs.
                Some(Peer::nobody())
            }
            ref several => {
                problems.add(node, Reason::OneOf { fields: list, found: several.len() });
                None
            }
        }
    }

    fn network(&self, node: &Node<'_>, problems: &mut Problems) -> Option<ipnet::IpNet> {
        let net = block::net(node, problems)?;
        if self.is_canonical && !block::is_canonical(node) {
            let (found, canonical) = (node.string(problems).map(shortened)?, net.to_string());
            problems.add(node, Reason::HostBits { found, canonical });
            return None;
        }
        Some(net)
    }

    fn ports(&self, node: &Node<'_>, name: &'static str, problems: &mut Problems) -> Option<Vec<PortRule>> {
        let Some(field) = node.field(name) else { return Some(Vec::new()) };
        let ports = field.items(problems).and_then(|items| {
            all(items, |item| match self.dialect {
                Dialect::Cluster => protocol(&item, problems),
                Dialect::Admin | Dialect::Baseline => port_of_v1alpha1(&item, problems),
            })
        });
        bounded(&field, ports, self.dialect.max_items(), problems)
    }

    /// The API refuses a port's name beside peers that are no pods: "there are no namedPorts for networks/nodes".
    fn check_named_ports(&self, node: &Node<'_>, name: &'static str, problems: &mut Problems) {
        let of_no_pod = |peer: Node<'_>| !peer.present(&["networks", "nodes", "domainNames"]).is_empty();
        let items = |name| node.field(name).and_then(|field| field.value().as_array());
        let peers = items("to").into_iter().flatten();
        if !peers.map(Node::root).any(of_no_pod) {
            return;
        }
        let Some(field) = node.field(name) else { return };
        let Some(ports) = field.value().as_array() else { return };
        for index in 0..ports.len() {
            let Some(item) = field.item(index) else { continue };
            if let [(_, named), ..] = item.present(&["destinationNamedPort", "namedPort"])[..] {
                problems.add(&named, Reason::NamedPortOfNoPod { peers: "nodes, networks or domainNames" });
            }
        }
    }
}

/// An item of v1alpha2's `protocols`.
fn protocol(node: &Node<'_>, problems: &mut Problems) -> Option<PortRule> {
    const FIELDS: &[&str] = &["tcp", "udp", "sctp", "destinationNamedPort"];
    node.check_fields(FIELDS, problems)?;
    let (protocol, field) = match node.present(FIELDS)[..] {
        [("tcp", field)] => (Protocol::Tcp, field),
        [("udp", field)] => (Protocol::Udp, field),
        [("sctp", field)] => (Protocol::Sctp, field),
        // Whatever its protocol: a port's name stands for a number of one.
        [(_, field)] => return Some(PortRule { protocol: None, ports: named(&field, problems)? }),
        ref several => {
            let fields = "tcp, udp, sctp, destinationNamedPort";
            problems.add(node, Reason::OneOf { fields, found: several.len() });
            return None;
        }
    };
    field.check_fields(&["destinationPort"], problems)?;
    let port = required(&field, "destinationPort", problems)?;
    port.check_fields(&["number", "range"], problems)?;
    let range = match port.present(&["number", "range"])[..] {
        [("number", number)] => {
            let number = number.port_number(problems)?;
            PortRange::new(number, number)
        }
        [(_, range)] => {
            range.check_fields(&["start", "end"], problems)?;
            start_to_end(&range, "number", problems)
        }
        ref several => {
            problems.add(&port, Reason::OneOf { fields: "number, range", found: several.len() });
            None
        }
    };
    Some(PortRule { protocol: Some(protocol), ports: Ports::Range(range?) })
}

/// An item of v1alpha1's `ports`. Its comments have the protocol default to TCP.
fn port_of_v1alpha1(node: &Node<'_>, problems: &mut Problems) -> Option<PortRule> {
    const FIELDS: &[&str] = &["portNumber", "portRange", "namedPort"];
    node.check_fields(FIELDS, problems)?;
    match node.present(FIELDS)[..] {
        [("portNumber", field)] => {
            field.check_fields(&["protocol", "port"], problems)?;
            let protocol = port::protocol(&field, problems);
            let number = required(&field, "port", problems).and_then(|number| number.port_number(problems));
            let range = number.and_then(|number| PortRange::new(number, number));
            Some(PortRule { protocol: Some(protocol?), ports: Ports::Range(range?) })
        }
        [("portRange", field)] => {
            field.check_fields(&["protocol", "start", "end"], problems)?;
            let protocol = port::protocol(&field, problems);
            let range = start_to_end(&field, "portNumber", problems);
            Some(PortRule { protocol: Some(protocol?), ports: Ports::Range(range?) })
        }
        [(_, field)] => Some(PortRule { protocol: None, ports: named(&field, problems)? }),
        ref several => {
            problems.add(node, Reason::OneOf { fields: "portNumber, portRange, namedPort", found: several.len() });
            None
        }
    }
}

/// `start` and `end`: "Start port must be less than End port".
fn start_to_end(node: &Node<'_>, single: &'static str, problems: &mut Problems) -> Option<PortRange> {
    let start = required(node, "start", problems).and_then(|field| field.port_number(problems));
    let end = required(node, "end", problems).and_then(|field| field.port_number(problems));
    let (start, end) = (start?, end?);
    if start >= end {
        problems.add_at(node, "end", Reason::RangeEnd { end, start, single });
        return None;
    }
    PortRange::new(start, end)
}

fn named(field: &Node<'_>, problems: &mut Problems) -> Option<Ports> {
    let name = field.string(problems)?;
    if !is_port_name(name) {
        problems.add(field, Reason::PortName { found: shortened(name) });
        return None;
    }
    Some(Ports::Named(name.to_owned()))
}

fn required<'a>(node: &'a Node<'a>, name: &'a str, problems: &mut Problems) -> Option<Node<'a>> {
    let field = node.field(name);
    if field.is_none() {
        problems.add_at(node, name, Reason::Missing);
    }
    field
}

/// A list with at least one item and at most so many.
fn bounded<T>(field: &Node<'_>, items: Option<Vec<T>>, max: usize, problems: &mut Problems) -> Option<Vec<T>> {
    let items = items?;
    if items.is_empty() {
        problems.add(field, Reason::EmptyList);
        return None;
    }
    if items.len() > max {
        problems.add(field, Reason::TooMany { max });
        return None;
    }
    Some(items)
}

fn name_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}
