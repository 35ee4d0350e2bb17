//! A second evaluator of Calico's policies, written from the comments of its API and sharing nothing with the engine. It
//! judges descriptions, which `law` prints as manifests.

use std::collections::BTreeMap;

pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub enum Sel {
    All,
    Eq(String, String),
    Ne(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    Contains(String, String),
    Starts(String, String),
    Ends(String, String),
    Not(Box<Sel>),
    And(Box<Sel>, Box<Sel>),
    Or(Box<Sel>, Box<Sel>),
}

#[derive(Clone, Debug)]
pub enum NsSel {
    Global,
    Of(Sel),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Global,
    Namespaced,
    Kubernetes,
}

#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    pub account: String,
    pub address: [u8; 4],
    /// Name, protocol, number.
    pub ports: Vec<(String, String, u16)>,
}

#[derive(Clone, Debug, Default)]
pub struct Entity {
    pub selector: Option<Sel>,
    pub not_selector: Option<Sel>,
    pub namespaces: Option<NsSel>,
    pub accounts: Vec<String>,
    pub nets: Vec<([u8; 4], u32)>,
    pub not_nets: Vec<([u8; 4], u32)>,
}

#[derive(Clone, Debug)]
pub enum Port {
    Range(u16, u16),
    Named(String),
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub action: &'static str,
    pub protocol: Option<&'static str>,
    pub not_protocol: Option<&'static str>,
    pub remote: Entity,
    pub ports: Vec<Port>,
    pub not_ports: Vec<(u16, u16)>,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub kind: Kind,
    /// Empty for a global one.
    pub namespace: String,
    pub name: String,
    pub order: Option<i32>,
    pub selector: Option<Sel>,
    pub namespaces: Option<Sel>,
    pub types: Vec<&'static str>,
    pub ingress: Vec<Rule>,
    pub egress: Vec<Rule>,
}

/// A NetworkSet, or a GlobalNetworkSet where it has no namespace.
#[derive(Clone, Debug)]
pub struct Set {
    pub namespace: Option<String>,
    pub labels: Labels,
    pub nets: Vec<([u8; 4], u32)>,
}

#[derive(Clone, Debug)]
pub struct World {
    pub namespaces: Vec<(String, Labels)>,
    pub pods: Vec<Pod>,
    pub policies: Vec<Policy>,
    pub sets: Vec<Set>,
}

/// One end of a connection.
#[derive(Clone, Copy)]
pub enum End<'w> {
    Pod(&'w Pod),
    Outside([u8; 4]),
}

impl Sel {
    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Sel::All => true,
            Sel::Eq(key, value) => labels.get(key) == Some(value),
            // "not equal; also matches if label is not present"
            Sel::Ne(key, value) => labels.get(key) != Some(value),
            Sel::In(key, values) => labels.get(key).is_some_and(|it| values.contains(it)),
            Sel::NotIn(key, values) => !labels.get(key).is_some_and(|it| values.contains(it)),
            Sel::Has(key) => labels.contains_key(key),
            Sel::Contains(key, part) => labels.get(key).is_some_and(|it| it.contains(part.as_str())),
            Sel::Starts(key, part) => labels.get(key).is_some_and(|it| it.starts_with(part.as_str())),
            Sel::Ends(key, part) => labels.get(key).is_some_and(|it| it.ends_with(part.as_str())),
            Sel::Not(inner) => !inner.matches(labels),
            Sel::And(a, b) => a.matches(labels) && b.matches(labels),
            Sel::Or(a, b) => a.matches(labels) || b.matches(labels),
        }
    }
}

/// How Calico's versions write the names by which policies of one order are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Since 3.31: name, namespace, kind.
    Parts,
    /// Before: the namespace, if there is one, then the tier with the name, and `knp.` before that for a NetworkPolicy.
    Whole,
}

impl World {
    /// Whether one side lets a connection pass: that of `own`, whose other end is `other`, to the port of `target`. `None`: some
    /// versions of Calico do and some do not.
    pub fn side(
        &self,
        own: &Pod,
        direction: &str,
        other: End<'_>,
        protocol: &str,
        port: u16,
        target: End<'_>,
    ) -> Option<bool> {
        let of = |naming| self.side_with(naming, own, direction, other, (protocol, port), target);
        let (parts, whole) = (of(Naming::Parts), of(Naming::Whole));
        (parts == whole).then_some(parts)
    }

    fn side_with(
        &self,
        naming: Naming,
        own: &Pod,
        direction: &str,
        other: End<'_>,
        (protocol, port): (&str, u16),
        target: End<'_>,
    ) -> bool {
        let mut governing: Vec<&Policy> =
            self.policies.iter().filter(|policy| self.selects(policy, own) && policy.speaks_of(direction)).collect();
        if governing.is_empty() {
            return true;
        }
        governing.sort_by(|a, b| {
            let order = |policy: &Policy| policy.order.map_or(f64::INFINITY, f64::from);
            let whole = |policy: &Policy| {
                let namespace =
                    if policy.namespace.is_empty() { String::new() } else { format!("{}/", policy.namespace) };
                let prefix = if policy.kind == Kind::Kubernetes { "knp.default." } else { "default." };
                format!("{namespace}{prefix}{}", policy.name)
            };
            let parts = |policy: &Policy| {
                let kind = match policy.kind {
                    Kind::Global => "GlobalNetworkPolicy",
                    Kind::Namespaced => "NetworkPolicy",
                    Kind::Kubernetes => "KubernetesNetworkPolicy",
                };
                format!("{}/{}/{kind}", policy.name, policy.namespace)
            };
            let key = |policy: &Policy| match naming {
                Naming::Parts => parts(policy),
                Naming::Whole => whole(policy),
            };
            order(a).partial_cmp(&order(b)).expect("no order is NaN").then_with(|| key(a).cmp(&key(b)))
        });
        for policy in governing {
            let rules = if direction == "Ingress" { &policy.ingress } else { &policy.egress };
            for rule in rules {
                if !self.rule(policy, rule, other, protocol, port, target) {
                    continue;
                }
                match rule.action {
                    "Log" => {}
                    // After the last tier the namespace's profile allows.
                    "Allow" | "Pass" => return true,
                    _ => return false,
                }
            }
        }
        false
    }

    fn labels_of(&self, pod: &Pod) -> Labels {
        let mut labels = pod.labels.clone();
        labels.insert("projectcalico.org/namespace".to_owned(), pod.namespace.clone());
        labels.insert("projectcalico.org/orchestrator".to_owned(), "k8s".to_owned());
        labels.insert("projectcalico.org/serviceaccount".to_owned(), pod.account.clone());
        labels
    }

    fn labels_of_namespace(&self, name: &str) -> Labels {
        let mut labels = self.namespaces.iter().find(|it| it.0 == name).expect("it is there").1.clone();
        labels.insert("projectcalico.org/name".to_owned(), name.to_owned());
        labels
    }

    fn selects(&self, policy: &Policy, pod: &Pod) -> bool {
        let here = policy.kind == Kind::Global || policy.namespace == pod.namespace;
        let namespace = self.labels_of_namespace(&pod.namespace);
        here && policy.selector.as_ref().is_none_or(|it| it.matches(&self.labels_of(pod)))
            && policy.namespaces.as_ref().is_none_or(|it| it.matches(&namespace))
    }

    fn rule(&self, policy: &Policy, rule: &Rule, other: End<'_>, protocol: &str, port: u16, target: End<'_>) -> bool {
        if rule.protocol.is_some_and(|it| it != protocol) || rule.not_protocol == Some(protocol) {
            return false;
        }
        let is_named = |name: &str| match target {
            End::Pod(pod) => pod.ports.contains(&(name.to_owned(), protocol.to_owned(), port)),
            End::Outside(_) => false,
        };
        let is_in = |it: &Port| match it {
            Port::Range(first, last) => (*first..=*last).contains(&port),
            Port::Named(name) => is_named(name),
        };
        if !rule.ports.is_empty() && !rule.ports.iter().any(is_in) {
            return false;
        }
        if rule.not_ports.iter().any(|(first, last)| (*first..=*last).contains(&port)) {
            return false;
        }
        self.entity(policy, &rule.remote, other)
    }

    fn entity(&self, policy: &Policy, entity: &Entity, other: End<'_>) -> bool {
        let address = match other {
            End::Pod(pod) => pod.address,
            End::Outside(address) => address,
        };
        let is_in = |(net, length): &([u8; 4], u32)| {
            let bits = u32::from_be_bytes(*net) ^ u32::from_be_bytes(address);
            *length == 0 || bits >> (32 - length) == 0
        };
        if !entity.nets.is_empty() && !entity.nets.iter().any(is_in) || entity.not_nets.iter().any(is_in) {
            return false;
        }
        if let Some(without) = &entity.not_selector {
            let by_pod = match other {
                End::Pod(pod) => without.matches(&self.labels_of(pod)),
                End::Outside(_) => false,
            };
            let mut sets = self.sets.iter().filter(|set| without.matches(&Self::labels_of_set(set)));
            if by_pod || sets.any(|set| set.nets.iter().any(is_in)) {
                return false;
            }
        }
        let selects = entity.selector.is_some() || !entity.accounts.is_empty() || entity.not_selector.is_some();
        if !selects && entity.namespaces.is_none() {
            return true;
        }
        let by_pod = match other {
            End::Pod(pod) => self.selected(policy, entity, Some(&pod.namespace), &self.labels_of(pod)),
            End::Outside(_) => false,
        };
        let mut sets = self.selected_sets(policy, entity);
        by_pod || sets.any(|set| set.nets.iter().any(is_in))
    }

    /// The sets that the positive selectors of an entity select.
    pub fn selected_sets<'w>(&'w self, policy: &'w Policy, entity: &'w Entity) -> impl Iterator<Item = &'w Set> {
        let selected = |set: &&Set| self.selected(policy, entity, set.namespace.as_deref(), &Self::labels_of_set(set));
        self.sets.iter().filter(selected)
    }

    fn labels_of_set(set: &Set) -> Labels {
        let mut labels = set.labels.clone();
        if let Some(namespace) = &set.namespace {
            labels.insert("projectcalico.org/namespace".to_owned(), namespace.clone());
        }
        labels
    }

    /// Whether the positive selectors select something of these labels, which may be in no namespace.
    fn selected(&self, policy: &Policy, entity: &Entity, namespace: Option<&str>, labels: &Labels) -> bool {
        let in_namespace = match (&entity.namespaces, namespace) {
            (Some(NsSel::Global), namespace) => namespace.is_none(),
            (Some(NsSel::Of(_)), None) => false,
            (Some(NsSel::Of(selector)), Some(namespace)) => selector.matches(&self.labels_of_namespace(namespace)),
            (None, namespace) => policy.kind == Kind::Global || namespace == Some(&policy.namespace),
        };
        let account = labels.get("projectcalico.org/serviceaccount");
        in_namespace
            && entity.selector.as_ref().is_none_or(|it| it.matches(labels))
            && (entity.accounts.is_empty() || account.is_some_and(|it| entity.accounts.contains(it)))
    }
}

impl Policy {
    fn speaks_of(&self, direction: &str) -> bool {
        match (&self.types[..], self.kind) {
            ([], Kind::Kubernetes) => direction == "Ingress" || !self.egress.is_empty(),
            // "Egress, if there are Egress rules but no Ingress rules", both if there are both, else Ingress.
            ([], Kind::Global | Kind::Namespaced) => match direction {
                "Ingress" => !self.ingress.is_empty() || self.egress.is_empty(),
                _ => !self.egress.is_empty(),
            },
            (types, _) => types.contains(&direction),
        }
    }
}
