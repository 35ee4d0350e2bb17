//! Calico's GlobalNetworkPolicy and NetworkPolicy (projectcalico.org/v3; crd.projectcalico.org/v1 is the same as stored).
//!
//! Source: projectcalico/calico, `api/pkg/apis/projectcalico/v3/{policy_common,globalnetworkpolicy,networkpolicy}.go` for the
//! fields, `libcalico-go/lib/validator/v3/validator.go` for what is refused, and
//! `libcalico-go/lib/backend/syncersv1/updateprocessors/{rules,selectors}.go` for what selectors mean together.
//!
//! What cannot be said exactly leaves a rule in doubt, or the policy broken.
//!
//! Calico has a tier `kube-admin` of order 1,000 for ClusterNetworkPolicies, then `default` with order 1,000,000 and default
//! action Deny, then `kube-baseline` with order 10,000,000; the outer two pass on what they do not match, and a policy of
//! Calico's may stand in them, too (the validation rules of its `Tier`; `priority` is its `order`). Behind the last tier
//! comes the profile of the pod's namespace, which allows. Tiers of one's own may stand anywhere: they are not judged.

use std::cmp::Ordering;

use serde_json::Value;

use crate::names::{Direction, PolicyRef};
use crate::parse::node::{Node, Problems, shortened};
use crate::parse::object;
use crate::parse::policy::{ParsedPolicy, own_or_any};
use crate::parse::problem::{Problem, Reason};
use crate::peer::{Namespaces, PodSet};
use crate::policy::{BrokenPolicy, Order, Policy, Rank, Rule, Tier};
use crate::selector::{Expression, Selector};
use rule::Rules;
use selector::Selected;
pub(crate) use sets::{Sets, set_name};

mod port;
mod remote;
mod rule;
mod selector;
mod sets;

/// The kind of Calico's cluster-wide policies.
pub(crate) const GLOBAL: &str = "GlobalNetworkPolicy";
/// The kind of its policies in a namespace: with its group, since Kubernetes has one of the same name.
pub(crate) const NAMESPACED: &str = "NetworkPolicy.projectcalico.org";

/// The labels of a pod's namespace and of its service account, as Calico gives them to the pod.
const INHERITED: [&str; 2] = ["pcns.", "pcsa."];

/// Whether this is one of Calico's kinds.
pub(crate) fn is_calico(kind: &str) -> bool {
    kind == GLOBAL || kind == NAMESPACED
}

/// Which of two policies of one order in one of Calico's tiers is asked first: by name, then by namespace, then by kind.
/// Source: `PolKVLess` in Calico's `felix/calc/policy_sorter.go`, which joins the three with slashes. Before 3.31 names
/// held tier and namespace, and sorted otherwise; who needs a certain order gives different ones.
pub(crate) fn tie(a: &PolicyRef, b: &PolicyRef) -> Ordering {
    fn key(id: &PolicyRef) -> impl Iterator<Item = u8> {
        let kind = match id.kind {
            NAMESPACED => "NetworkPolicy",
            "NetworkPolicy" => "KubernetesNetworkPolicy",
            "ClusterNetworkPolicy" => "KubernetesClusterNetworkPolicy",
            other => other,
        };
        let namespace = id.namespace.as_deref().unwrap_or_default();
        [&id.name, "/", namespace, "/", kind].into_iter().flat_map(str::bytes)
    }
    key(a).cmp(key(b))
}

pub(crate) fn global_network_policy(value: &Value, sets: &Sets) -> ParsedPolicy {
    read(value, GLOBAL, sets)
}

pub(crate) fn network_policy(value: &Value, sets: &Sets) -> ParsedPolicy {
    read(value, NAMESPACED, sets)
}

fn read(value: &Value, kind: &'static str, sets: &Sets) -> ParsedPolicy {
    let is_global = kind == GLOBAL;
    let api = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let mut problems = Problems::new(object::title(value, kind, !is_global), api);
    let root = Node::root(value);
    let name = object::name(&root, &mut problems);
    let is_name = object::check_name(&root, name.as_deref(), &mut problems);
    let empty = Value::Object(serde_json::Map::new());
    let spec = root.field("spec").unwrap_or(Node::root(&empty));
    let tier = tier(&spec, &mut problems);
    // Names may carry that of their tier, and do so as stored.
    let prefix = tier.map_or("default", |(name, _)| name);
    let name = name.map(|name| {
        let short = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
        short.map_or_else(|| name.clone(), str::to_owned)
    });
    let namespace = if is_global { Some(None) } else { object::namespace(&root, &mut problems).map(Some) };
    let id = PolicyRef {
        kind,
        namespace: namespace.clone().flatten(),
        name: name.clone().unwrap_or_else(|| "(without a name)".to_owned()),
    };
    if is_global && bears_on_hosts_only(&spec, &mut problems) {
        return ParsedPolicy::WithoutEffect(id);
    }
    let known = check_spec(&spec, is_global, &mut problems);
    let order = order(&spec, &mut problems);
    let subject = match &namespace {
        Some(namespace) => subject(&spec, namespace.as_deref(), &mut problems),
        None => None,
    };
    let rules = Rules { own: namespace.as_ref().and_then(Option::as_deref), sets };
    let ingress = rules.read(&spec, Direction::Ingress, &mut problems);
    let egress = rules.read(&spec, Direction::Egress, &mut problems);
    let types = types(&spec, ingress.as_deref(), egress.as_deref(), &mut problems);

    if let (
        Some(_),
        Some(()),
        Some(()),
        Some((_, tier)),
        Some(order),
        Some(subject),
        Some(ingress),
        Some(egress),
        Some(types),
    ) = (&name, is_name, known, tier, order, &subject, &ingress, &egress, types)
    {
        let rank = Rank { tier, order };
        let (ingress, egress) = (types.0.then(|| ingress.clone()), types.1.then(|| egress.clone()));
        return ParsedPolicy::Sound(
            Policy { id, rank, subject: subject.clone(), ingress, egress },
            problems.into_list(),
        );
    }
    let anywhere = PodSet { namespaces: own_or_any(namespace.flatten()), pods: Selector::default() };
    let (ingress, egress) = types.filter(|_| known.is_some()).unwrap_or((true, true));
    let problems = problems.into_list();
    let broken = BrokenPolicy {
        id,
        subject: subject.filter(|_| known.is_some()).unwrap_or(anywhere),
        ingress,
        egress,
        overrides: true,
        unknowns: problems.iter().map(Problem::to_string).collect(),
    };
    ParsedPolicy::Broken(broken, problems)
}

/// `doNotTrack` and `preDNAT` policies are asked at host endpoints only, before pods' policies.
fn bears_on_hosts_only(spec: &Node<'_>, problems: &mut Problems) -> bool {
    spec.value().is_object()
        && ["doNotTrack", "preDNAT"]
            .iter()
            .any(|name| spec.field(name).and_then(|field| field.boolean(problems)).unwrap_or(false))
}

/// An unknown field may be one of a later version that changes what all others mean.
fn check_spec(spec: &Node<'_>, is_global: bool, problems: &mut Problems) -> Option<()> {
    // `performanceHints` never change what is allowed, and `applyOnForward` speaks of host endpoints.
    let mut fields =
        vec!["tier", "order", "selector", "serviceAccountSelector", "types", "ingress", "egress", "performanceHints"];
    if is_global {
        fields.extend(["namespaceSelector", "applyOnForward", "doNotTrack", "preDNAT"]);
    }
    spec.check_fields(&fields, problems)
}

/// Its name, and which of ours it is. Before Calico 3.31 two had other names.
fn tier(spec: &Node<'_>, problems: &mut Problems) -> Option<(&'static str, Tier)> {
    let Some(field) = spec.field("tier") else { return Some(("default", Tier::NetworkPolicy)) };
    match field.string(problems)? {
        "" | "default" => Some(("default", Tier::NetworkPolicy)),
        "kube-admin" => Some(("kube-admin", Tier::Admin)),
        "adminnetworkpolicy" => Some(("adminnetworkpolicy", Tier::Admin)),
        "kube-baseline" => Some(("kube-baseline", Tier::Baseline)),
        "baselineadminnetworkpolicy" => Some(("baselineadminnetworkpolicy", Tier::Baseline)),
        other => {
            problems.add(&field, Reason::Tier { found: shortened(other) });
            None
        }
    }
}

fn order(spec: &Node<'_>, problems: &mut Problems) -> Option<Order> {
    let Some(field) = spec.field("order") else { return Some(Order::LAST) };
    Order::new(field.number(problems)?)
}

fn subject(spec: &Node<'_>, own: Option<&str>, problems: &mut Problems) -> Option<PodSet> {
    if let Some(field) = spec.field("serviceAccountSelector").filter(|field| !field.is_text("")) {
        let remedy = "select pods by their own labels, or by projectcalico.org/serviceaccount";
        problems.add(&field, Reason::Unsupported { what: "a selector of service accounts", remedy });
        return None;
    }
    let pods = labels(spec, "selector", problems);
    let namespaces = match own {
        Some(own) => Some(Namespaces::Own(own.to_owned())),
        None => labels(spec, "namespaceSelector", problems).map(Namespaces::Selected),
    };
    Some(PodSet { namespaces: namespaces?, pods: pods? })
}

/// An expression that selects by labels. Absent: everything.
fn labels(node: &Node<'_>, name: &'static str, problems: &mut Problems) -> Option<Selector> {
    match expression(node, name, problems)? {
        None => Some(Selector::default()),
        Some(Selected::Labels(selector)) => Some(selector),
        Some(Selected::Global) => {
            let remedy = "it belongs into the namespaceSelector of a rule's source or destination";
            problems.add_at(node, name, Reason::Unsupported { what: "global() here", remedy });
            None
        }
    }
}

/// A field that holds an expression, if it is there and holds one. `None`: it cannot be read.
fn expression(node: &Node<'_>, name: &'static str, problems: &mut Problems) -> Option<Option<Selected>> {
    let Some(field) = node.field(name) else { return Some(None) };
    let text = field.string(problems)?;
    if text.is_empty() {
        return Some(None);
    }
    match selector::parse(text) {
        Ok(Selected::Labels(selector)) if asks_for_inherited(&selector) => {
            let remedy = "use namespaceSelector, or projectcalico.org/serviceaccount";
            problems.add(&field, Reason::Unsupported { what: "a key that starts with pcns. or pcsa.", remedy });
            None
        }
        Ok(selected) => Some(Some(selected)),
        Err(wrong) => {
            problems.add(&field, Reason::Expression { message: wrong.message, position: wrong.position });
            None
        }
    }
}

fn asks_for_inherited(selector: &Selector) -> bool {
    let expressed = selector.expression().map(Expression::requirements).unwrap_or_default();
    let mut all = selector.requirements().iter().chain(expressed);
    all.any(|requirement| INHERITED.iter().any(|prefix| requirement.key.starts_with(prefix)))
}

/// Whether ingress and egress are governed. Unset: egress alone if there are rules for it and none for ingress, both if
/// there are rules for both, else ingress. Source: the comment on `Types`.
fn types(
    spec: &Node<'_>,
    ingress: Option<&[Rule]>,
    egress: Option<&[Rule]>,
    problems: &mut Problems,
) -> Option<(bool, bool)> {
    let unset = || {
        let (ingress, egress) = (!ingress?.is_empty(), !egress?.is_empty());
        Some((ingress || !egress, egress))
    };
    let Some(field) = spec.field("types") else { return unset() };
    let (mut found, mut sound) = ([false, false], true);
    for item in field.items(problems)? {
        let which = match item.string(problems) {
            Some("Ingress") => 0,
            Some("Egress") => 1,
            Some(other) => {
                problems.add(&item, Reason::Word { allowed: "Ingress, Egress", found: shortened(other) });
                sound = false;
                continue;
            }
            None => {
                sound = false;
                continue;
            }
        };
        if found[which] {
            problems.add(&field, Reason::TooMany { max: 2 });
            sound = false;
        }
        found[which] = true;
    }
    match found {
        _ if !sound => None,
        [false, false] => unset(),
        [ingress, egress] => Some((ingress, egress)),
    }
}
