//! NetworkPolicy objects.

use serde_json::Value;

use crate::names::PolicyRef;
use crate::parse::node::{Node, Problems, shortened};
use crate::parse::problem::{Problem, Reason};
use crate::parse::{block, object, port, selector};
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy::{BrokenPolicy, Policy, Rank, Rule};
use crate::selector::Selector;

/// What became of a policy.
pub(crate) enum ParsedPolicy {
    /// Understood; of kinds other than NetworkPolicy perhaps with single rules that are not.
    Sound(Policy, Vec<Problem>),
    /// Not so, and why. What it could do is as wide as what was not understood allows.
    Broken(BrokenPolicy, Vec<Problem>),
    /// Does nothing to any pod.
    WithoutEffect(PolicyRef),
}

/// Reads a `networking.k8s.io/v1` NetworkPolicy, as strictly as the API validates it.
pub(crate) fn policy(value: &Value) -> ParsedPolicy {
    let mut problems = Problems::new(object::title(value, "NetworkPolicy", true), "networking.k8s.io/v1");
    let root = Node::root(value);
    let namespace = object::namespace(&root, &mut problems);
    let name = object::name(&root, &mut problems);
    object::check_name(&root, name.as_deref(), &mut problems);
    let empty = Value::Object(serde_json::Map::new());
    let spec = root.field("spec").unwrap_or(Node::root(&empty));
    // An unknown field may be a misspelt one of the two that say what is selected and isolated.
    let fields_known = spec.check_fields(&["podSelector", "policyTypes", "ingress", "egress"], &mut problems).is_some();
    let pods = match spec.field("podSelector") {
        Some(node) => selector::selector(&node, &mut problems),
        None => Some(Selector::default()),
    };
    let own = namespace.as_deref().unwrap_or_default();
    let ingress = rules(&spec, "ingress", "from", own, &mut problems);
    let egress = rules(&spec, "egress", "to", own, &mut problems);
    let has_egress = egress.as_ref().is_none_or(|rules| !rules.is_empty());
    let types = policy_types(&spec, has_egress, &mut problems);

    if problems.is_empty()
        && let (Some(namespace), Some(name), Some(selector), Some(ingress), Some(egress), Some(types)) =
            (&namespace, &name, &pods, ingress, egress, types)
    {
        let id = PolicyRef { kind: "NetworkPolicy", namespace: Some(namespace.clone()), name: name.clone() };
        let subject = PodSet { namespaces: Namespaces::Own(namespace.clone()), pods: selector.clone() };
        let (ingress, egress) = (types.0.then_some(ingress), types.1.then_some(egress));
        return ParsedPolicy::Sound(Policy { id, rank: Rank::NETWORK_POLICY, subject, ingress, egress }, Vec::new());
    }
    let problems = problems.into_list();
    let (ingress, egress) = types.filter(|_| fields_known).unwrap_or((true, true));
    let broken = BrokenPolicy {
        id: PolicyRef {
            kind: "NetworkPolicy",
            namespace: namespace.clone(),
            name: name.unwrap_or_else(|| "(without a name)".to_owned()),
        },
        subject: PodSet { namespaces: own_or_any(namespace), pods: pods.filter(|_| fields_known).unwrap_or_default() },
        ingress,
        egress,
        overrides: false,
        unknowns: problems.iter().map(Problem::to_string).collect(),
    };
    ParsedPolicy::Broken(broken, problems)
}

/// A policy of another kind or version: it may do anything to any pod.
pub(crate) fn other_policy(value: &Value, kind: &'static str) -> ParsedPolicy {
    let text = |field: &str| value.pointer(field).and_then(Value::as_str);
    let namespace = text("/metadata/namespace").map(str::to_owned);
    let version = text("/apiVersion").unwrap_or("(without apiVersion)");
    let problem = Problem {
        object: object::title(value, kind, namespace.is_some()),
        path: "apiVersion".to_owned(),
        reason: Reason::Kind { found: format!("{} {kind}", shortened(version)) },
        index: None,
    };
    let broken = BrokenPolicy {
        id: PolicyRef {
            kind,
            namespace: namespace.clone(),
            name: text("/metadata/name").unwrap_or("(without a name)").to_owned(),
        },
        subject: PodSet { namespaces: own_or_any(namespace), pods: Selector::default() },
        ingress: true,
        egress: true,
        overrides: true,
        unknowns: vec![problem.to_string()],
    };
    ParsedPolicy::Broken(broken, vec![problem])
}

/// The namespace that a policy can select in; all, if it does not say which.
pub(crate) fn own_or_any(namespace: Option<String>) -> Namespaces {
    namespace.map_or_else(|| Namespaces::Selected(Selector::default()), Namespaces::Own)
}

/// Whether ingress and egress are isolated. Unset: ingress always, egress where there is a rule for it.
fn policy_types(spec: &Node<'_>, has_egress: bool, problems: &mut Problems) -> Option<(bool, bool)> {
    let unset = Some((true, has_egress));
    let Some(field) = spec.field("policyTypes") else { return unset };
    let (mut ingress, mut egress, mut count) = (false, false, 0_usize);
    let mut sound = true;
    for item in field.items(problems)? {
        count += 1;
        match item.string(problems) {
            Some("Ingress") => ingress = true,
            Some("Egress") => egress = true,
            Some(other) => {
                problems.add(&item, Reason::Word { allowed: "Ingress, Egress", found: shortened(other) });
                sound = false;
            }
            None => sound = false,
        }
    }
    if count > 2 {
        problems.add(&field, Reason::TooMany { max: 2 });
        sound = false;
    }
    if !sound {
        return None;
    }
    if count == 0 { unset } else { Some((ingress, egress)) }
}

fn rules(spec: &Node<'_>, field: &str, peers: &str, own: &str, problems: &mut Problems) -> Option<Vec<Rule>> {
    let Some(field) = spec.field(field) else { return Some(Vec::new()) };
    all(field.items(problems)?, |item| rule(&item, peers, own, problems))
}

fn rule(node: &Node<'_>, peers_field: &str, own: &str, problems: &mut Problems) -> Option<Rule> {
    let known = node.check_fields(&[peers_field, "ports"], problems);
    let mut list = Some(Vec::new());
    if let Some(field) = node.field(peers_field) {
        list = field.items(problems).and_then(|items| all(items, |item| peer(&item, own, problems)));
    }
    let mut ports = Some(Vec::new());
    if let Some(field) = node.field("ports") {
        ports = field.items(problems).and_then(|items| all(items, |item| port::port_rule(&item, problems)));
    }
    known?;
    Some(Rule::allow(list?, ports?))
}

fn peer(node: &Node<'_>, own: &str, problems: &mut Problems) -> Option<Peer> {
    node.check_fields(&["podSelector", "namespaceSelector", "ipBlock"], problems)?;
    let (pods, namespaces) = (node.field("podSelector"), node.field("namespaceSelector"));
    if let Some(field) = node.field("ipBlock") {
        let block = block::block(&field, problems);
        if pods.is_some() || namespaces.is_some() {
            problems.add(node, Reason::MixedPeer);
            return None;
        }
        return block.map(Peer::Block);
    }
    if pods.is_none() && namespaces.is_none() {
        problems.add(node, Reason::EmptyPeer);
        return None;
    }
    let pods = match pods {
        Some(field) => selector::selector(&field, problems),
        None => Some(Selector::default()),
    };
    let namespaces = match namespaces {
        Some(field) => selector::selector(&field, problems).map(Namespaces::Selected),
        None => Some(Namespaces::Own(own.to_owned())),
    };
    Some(Peer::Pods(PodSet { namespaces: namespaces?, pods: pods? }))
}

/// Reads all items, so that each reports its problems, and gives them only if all are sound.
pub(crate) fn all<'a, T>(
    items: impl Iterator<Item = Node<'a>>,
    mut read: impl FnMut(Node<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut list = Some(Vec::new());
    for item in items {
        match (read(item), &mut list) {
            (Some(item), Some(list)) => list.push(item),
            (_, list) => *list = None,
        }
    }
    list
}
