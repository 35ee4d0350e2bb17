//! Whom policies and their peers select. A rule stands beside the next, so it is as long as there are rules of this kind.

use std::collections::{BTreeMap, HashSet};

use fixedbitset::FixedBitSet;

use crate::label::Labels;
use crate::names::Direction;
use crate::namespace::Namespace;
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy::{Action, Policy};
use crate::selector::{Selector, Test};

use super::context::{Budget, Context, RuleAt, count};
use super::path::{self, NAMESPACE_SELECTOR, POD_SELECTOR};
use super::spelling::{self, Known, Part, PodLabels};
use super::{Finding, RuleId, Severity, inclusion};

/// How many labels are held against misspelt ones.
const SPELLINGS: usize = 4_000_000;

/// Namespaces that every cluster has, so that no object needs to say so.
const EVERYWHERE: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Labels that are an application's name.
const APPLICATION: [&str; 6] =
    ["app", "app.kubernetes.io/name", "app.kubernetes.io/instance", "k8s-app", "run", "component"];

pub(super) fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let mut selection = Selection {
        context,
        namespace_labels: Known::of(
            context.model.namespaces.values().filter(|it| context.classes.is_known(it)).map(|it| &it.labels),
        ),
        node_labels: Known::of(context.model.hosts.values().filter_map(|host| host.labels.as_ref())),
        budget: Budget::new(SPELLINGS),
        findings,
    };
    for policy in &context.model.policies {
        selection.policy(policy);
    }
    for direction in Direction::ALL {
        for at in context.rules(direction) {
            for (index, peer) in at.rule.peers.iter().enumerate() {
                selection.peer(at, index, peer);
            }
        }
        not_isolated(context, direction, selection.findings);
    }
}

struct Selection<'c, 'a, 'f> {
    context: &'c Context<'a>,
    namespace_labels: Known<'a>,
    node_labels: Known<'a>,
    budget: Budget,
    findings: &'f mut Vec<Finding>,
}

/// A set of pods in a manifest: where its selectors stand, and how to speak of it.
struct Named<'p> {
    policy: &'p Policy,
    set: &'p PodSet,
    /// The path of its pod selector.
    pods: String,
    /// The path of its namespace selector.
    namespaces: String,
    /// `the policy`, `the peer`.
    word: &'static str,
    /// What it means if it is empty.
    consequence: &'static str,
    empty: RuleId,
}

impl Selection<'_, '_, '_> {
    fn policy(&mut self, policy: &Policy) {
        self.namespace_missing(policy);
        let path = path::subject(policy).to_owned();
        let named = Named {
            policy,
            set: &policy.subject,
            pods: path.clone(),
            namespaces: path,
            word: "the policy",
            consequence: "it does nothing",
            empty: RuleId::SelectsNothing,
        };
        self.pods(&named);
        self.named_after_one(policy);
    }

    fn peer(&mut self, at: RuleAt<'_>, index: usize, peer: &Peer) {
        let path = at.peer_path(Some(index));
        match peer {
            Peer::Pods(set) | Peer::PodsIn(set, _) => {
                let has_fields = at.policy.id.kind == "NetworkPolicy";
                let field = |name: &str| if has_fields { format!("{path}.{name}") } else { path.clone() };
                let named = Named {
                    policy: at.policy,
                    set,
                    pods: field(POD_SELECTOR),
                    namespaces: field(NAMESPACE_SELECTOR),
                    word: "the peer",
                    consequence: match at.rule.action {
                        Action::Allow => "this peer opens nothing",
                        Action::Deny => "this peer shuts nothing",
                        Action::Pass => "this peer passes nothing",
                    },
                    empty: RuleId::PeerMatchesNothing,
                };
                if at.policy.id.kind == "NetworkPolicy" && self.belongs_elsewhere(at, index, set) {
                    return;
                }
                self.pods(&named);
            }
            Peer::Nodes(selector) => {
                let all = self.context.model.hosts.values();
                let is_there = all.filter_map(|host| host.labels.as_ref()).any(|labels| selector.matches(labels));
                if !self.node_labels.is_empty() && !is_there {
                    self.findings.push(Finding::new(
                        RuleId::PeerMatchesNothing,
                        &at.policy.id,
                        path,
                        format!("no node has {selector}, so that this peer matches nothing"),
                        "use labels that nodes have".to_owned(),
                    ));
                }
            }
            Peer::Block(_) => {}
        }
    }

    /// Says what is wrong with a set, the most telling thing only.
    fn pods(&mut self, named: &Named<'_>) {
        let mut is_sound = !self.contradiction(named, &named.set.pods, &named.pods);
        if let Namespaces::Selected(selector) = &named.set.namespaces {
            is_sound &= !self.contradiction(named, selector, &named.namespaces);
            is_sound &= !self.namespaces(named, selector);
        }
        let context = self.context;
        if !is_sound || !context.has_pods() {
            return;
        }
        let scope = match &named.set.namespaces {
            Namespaces::Own(name) => context.classes.in_namespace(name),
            Namespaces::Selected(selector) => context.classes.in_namespaces(selector).as_ref().clone(),
        };
        let chosen = context.classes.select(named.set);
        if self.misspelt(named, &scope) {
            return;
        }
        let labelled = context.classes.labelled(named.set);
        if chosen.is_clear() {
            self.empty(named, &scope, &labelled);
        } else if !named.set.pods.is_empty() && labelled.count_ones(..) > chosen.count_ones(..) {
            let mut hosts = labelled;
            hosts.difference_with(&chosen);
            self.findings.push(
                Finding::new(
                    RuleId::HostNetwork,
                    &named.policy.id,
                    &named.pods,
                    format!(
                        "{} has the labels of {}, in the network of the node: such pods are node traffic and in no set",
                        named.word,
                        context.classes.names(&hosts)
                    ),
                    "name the nodes' addresses with an ipBlock where it matters, or run the pod without hostNetwork"
                        .to_owned(),
                )
                .with(Severity::Info),
            );
        }
    }

    fn empty(&mut self, named: &Named<'_>, scope: &FixedBitSet, labelled: &FixedBitSet) {
        let classes = &self.context.classes;
        let Named { policy, set, word, consequence, .. } = named;
        if !labelled.is_clear() {
            self.findings.push(Finding::new(
                RuleId::HostNetwork,
                &policy.id,
                &named.pods,
                format!(
                    "all that have the labels are in the network of their node: {}. No policy selects such pods, and \
                     {consequence}",
                    classes.names(labelled)
                ),
                "name the nodes' addresses with an ipBlock where it matters, or run the pods without hostNetwork"
                    .to_owned(),
            ));
            return;
        }
        // An empty selector is for all pods to come, of which there are none as yet.
        if set.pods.is_empty() && matches!(set.namespaces, Namespaces::Own(_)) {
            return;
        }
        let whole = PodSet { namespaces: Namespaces::Selected(Selector::default()), pods: set.pods.clone() };
        let elsewhere = classes.select(&whole);
        let wanders = matches!(set.namespaces, Namespaces::Own(_)) && !elsewhere.is_clear();
        // Of a namespace that every cluster has, and that is not among the objects, nothing is known.
        if scope.is_clear()
            && let Namespaces::Selected(selector) = &set.namespaces
            && EVERYWHERE.iter().any(|name| self.is_unseen(name, selector))
        {
            return;
        }
        let remedy = match (wanders, named.empty) {
            (true, RuleId::PeerMatchesNothing) => format!(
                "{} has these labels: add a namespaceSelector, since a podSelector alone stays in the policy's namespace",
                classes.names(&elsewhere)
            ),
            (true, _) => format!("{} has these labels: put the policy into that namespace", classes.names(&elsewhere)),
            (false, _) => "use labels that pods there have, or delete it".to_owned(),
        };
        let finding = if scope.is_clear() {
            let message =
                format!("{word} looks for {set}, where there are no pods at all: as things are, {consequence}");
            Finding::new(named.empty, &policy.id, &named.pods, message, remedy).with(Severity::Info)
        } else {
            let number = count(classes.pods(scope), "pod");
            let message = format!("{word} looks for {set}, and of {number} there none is one: {consequence}");
            Finding::new(named.empty, &policy.id, &named.pods, message, remedy)
        };
        self.findings.push(finding);
    }

    /// Whether the namespace selector is at fault: it selects none.
    fn namespaces(&mut self, named: &Named<'_>, selector: &Selector) -> bool {
        if self.namespace_labels.is_empty() || selector.is_empty() {
            return false;
        }
        let found = spelling::typo(selector, &self.namespace_labels, &mut self.budget);
        if let Some(found) = self.slip(found) {
            let path = path::requirement(self.context.manifest(named.policy), &named.namespaces, &found.key);
            self.findings.push(found.finding(named, path, "namespace"));
            return true;
        }
        if self.context.classes.namespaces(selector).next().is_some()
            || EVERYWHERE.iter().any(|name| self.is_unseen(name, selector))
        {
            return false;
        }
        let Named { policy, word, consequence, .. } = named;
        for requirement in selector.requirements() {
            let Test::In(values) = &requirement.test else { continue };
            let is_name = |value: &&String| {
                let namespace = self.context.model.namespaces.get(value.as_str());
                namespace.is_some_and(|it| it.labels.get(&requirement.key) != Some(value))
            };
            if let Some(name) = values.iter().find(is_name) {
                self.findings.push(Finding::new(
                    RuleId::NamespaceLabel,
                    &policy.id,
                    path::requirement(self.context.manifest(policy), &named.namespaces, &requirement.key),
                    format!(
                        "namespace {name} has no label {}={name}: what says its name is the label \
                         kubernetes.io/metadata.name alone, and {consequence}",
                        requirement.key
                    ),
                    format!("write kubernetes.io/metadata.name: {name}"),
                ));
                return true;
            }
        }
        self.findings.push(Finding::new(
            named.empty,
            &policy.id,
            &named.namespaces,
            format!("{word} looks for namespaces with {selector}, and no namespace is one: {consequence}"),
            "label the namespace, or use a label that it has, such as kubernetes.io/metadata.name".to_owned(),
        ));
        true
    }

    /// Whether the selector selects a namespace by its name that is not among the objects.
    fn is_unseen(&self, name: &str, selector: &Selector) -> bool {
        !self.context.raw.namespaces.contains(name)
            && selector.matches(&Namespace::new(name.to_owned(), Labels::new()).labels)
    }

    /// Whether a label of the pod selector is misspelt.
    fn misspelt(&mut self, named: &Named<'_>, scope: &FixedBitSet) -> bool {
        let classes = &self.context.classes;
        let labels = PodLabels { classes, scope };
        let found = spelling::typo(&named.set.pods, &labels, &mut self.budget);
        let Some(found) = self.slip(found) else { return false };
        let path = path::requirement(self.context.manifest(named.policy), &named.pods, &found.key);
        self.findings.push(found.finding(named, path, "pod"));
        true
    }

    /// Notes that the budget was spent, if so.
    fn slip(&self, found: Result<Option<spelling::Typo<'_>>, spelling::Spent>) -> Option<Slip> {
        match found {
            Ok(found) => found.map(Slip::of),
            Err(spelling::Spent) => {
                self.context.leave_out(RuleId::LabelTypo);
                None
            }
        }
    }

    /// Whether the selector asks for what no labels can meet.
    fn contradiction(&mut self, named: &Named<'_>, selector: &Selector, path: &str) -> bool {
        let Some((a, b)) = inclusion::contradiction(selector) else { return false };
        self.findings.push(Finding::new(
            RuleId::Contradiction,
            &named.policy.id,
            path,
            format!("{a} and {b} never hold together, since all parts of a selector must: {}", named.consequence),
            "drop one of the two; for either of several values use operator In with a list".to_owned(),
        ));
        true
    }

    fn namespace_missing(&mut self, policy: &Policy) {
        let Some(namespace) = &policy.id.namespace else { return };
        let is_there = self.context.raw.namespaces.contains(namespace.as_str())
            || self.context.model.namespaces.contains_key(namespace)
            || EVERYWHERE.contains(&namespace.as_str());
        if self.context.raw.namespaces.is_empty() || is_there {
            return;
        }
        self.findings.push(Finding::new(
            RuleId::NamespaceMissing,
            &policy.id,
            "metadata.namespace",
            format!("there is no namespace {namespace}: the API refuses the policy until there is"),
            "create the namespace first, or correct the name".to_owned(),
        ));
    }

    /// A policy named after one application that selects them all.
    fn named_after_one(&mut self, policy: &Policy) {
        let Namespaces::Own(namespace) = &policy.subject.namespaces else { return };
        if !policy.subject.pods.is_empty() || policy.id.kind != "NetworkPolicy" {
            return;
        }
        let classes = &self.context.classes;
        let scope = classes.select(&policy.subject);
        let tokens: Vec<&str> = policy.id.name.split(['-', '.']).collect();
        // `allow-from-web` speaks of its peer.
        let is_about_peer = tokens.iter().any(|token| ["from", "to", "all", "any", "default", "zero"].contains(token));
        if is_about_peer || peers_name(policy, &tokens) {
            return;
        }
        let spans = (0..tokens.len()).flat_map(|from| (from + 1..=tokens.len()).map(move |to| (from, to)));
        let words: HashSet<String> = spans.map(|(from, to)| tokens[from..to].join("-")).collect();
        for key in APPLICATION {
            let mut found: Vec<&str> = words
                .iter()
                .map(String::as_str)
                .filter(|word| *word != namespace && classes.has_value(key, word, &scope))
                .collect();
            found.sort_unstable_by_key(|word| (std::cmp::Reverse(word.len()), *word));
            let Some(word) = found.first() else { continue };
            let mut others = scope.as_ref().clone();
            others.difference_with(&classes.with_value(key, word));
            if others.is_clear() {
                return;
            }
            self.findings.push(Finding::new(
                RuleId::EmptySelectorName,
                &policy.id,
                path::subject(policy),
                format!(
                    "the name speaks of {word}, and the empty podSelector selects all {} of the namespace, {} among them",
                    count(classes.pods(&scope), "pod"),
                    classes.names(&others)
                ),
                format!("write podSelector: {{matchLabels: {{{key}: {word}}}}} if only {word} was meant"),
            ));
            return;
        }
    }

    /// Whether this peer finds nobody, and would if it were joined with another item, or taken apart.
    fn belongs_elsewhere(&mut self, at: RuleAt<'_>, index: usize, set: &PodSet) -> bool {
        let classes = &self.context.classes;
        if !self.context.has_pods() || set.pods.is_empty() || !classes.labelled(set).is_clear() {
            return false;
        }
        let Some(own) = &at.policy.id.namespace else { return false };
        let path = at.peer_path(Some(index));
        match &set.namespaces {
            Namespaces::Selected(selector) => {
                let here = PodSet { namespaces: Namespaces::Own(own.clone()), pods: set.pods.clone() };
                let (there, here) = (classes.in_namespaces(selector), classes.select(&here));
                if selector.is_empty() || there.is_clear() || here.is_clear() {
                    return false;
                }
                self.findings.push(Finding::new(
                    RuleId::AndOr,
                    &at.policy.id,
                    path,
                    format!(
                        "both selectors stand in one item, so that both must match, and no pod of namespaces with {selector} \
                         has {}; as two items they would match {}, and {}",
                        set.pods,
                        classes.names(&here),
                        classes.names(&there)
                    ),
                    "put a dash before podSelector to make it an item of its own, or correct the labels".to_owned(),
                ));
                true
            }
            Namespaces::Own(_) => {
                let other = at.rule.peers.iter().enumerate().find_map(|(other, peer)| {
                    let Some(PodSet { namespaces: Namespaces::Selected(selector), pods }) = peer.pods() else {
                        return None;
                    };
                    let joined = PodSet { namespaces: Namespaces::Selected(selector.clone()), pods: set.pods.clone() };
                    let joined = classes.select(&joined);
                    (pods.is_empty() && !joined.is_clear()).then_some((other, joined))
                });
                let Some((other, joined)) = other else { return false };
                self.findings.push(Finding::new(
                    RuleId::AndOr,
                    &at.policy.id,
                    path,
                    format!(
                        "the item stands by itself and means pods with {} of {own}, of which there are none; the \
                         namespaceSelector of item {other} opens all pods there, not only {}",
                        set.pods,
                        classes.names(&joined)
                    ),
                    format!("take the dash before podSelector away to join it with item {other}"),
                ));
                true
            }
        }
    }
}

/// Whether a peer asks for a label whose value is in the name, too.
fn peers_name(policy: &Policy, tokens: &[&str]) -> bool {
    let sets = policy.all_rules().flat_map(|rule| &rule.peers).filter_map(Peer::pods);
    let selectors = sets.flat_map(|set| {
        let namespaces = match &set.namespaces {
            Namespaces::Selected(selector) => Some(selector),
            Namespaces::Own(_) => None,
        };
        namespaces.into_iter().chain([&set.pods])
    });
    selectors.flat_map(Selector::requirements).any(|requirement| match &requirement.test {
        Test::In(values) => values.iter().any(|value| value.split('-').any(|part| tokens.contains(&part))),
        _ => false,
    })
}

/// A misspelt word, free of where it was found.
struct Slip {
    key: String,
    requirement: String,
    found: String,
    near: String,
    part: Part,
    /// The selector excludes by it, so that it excludes nothing.
    excludes: bool,
}

impl Slip {
    fn of(typo: spelling::Typo<'_>) -> Self {
        Self {
            key: typo.requirement.key.clone(),
            requirement: typo.requirement.to_string(),
            found: typo.found.to_owned(),
            near: typo.near,
            part: typo.part,
            excludes: matches!(typo.requirement.test, Test::NotIn(_) | Test::DoesNotExist),
        }
    }

    fn finding(self, named: &Named<'_>, path: String, kind: &str) -> Finding {
        let Self { requirement, found, near, part, .. } = &self;
        let what = match part {
            Part::Key => format!("no {kind} there has a label {found}"),
            Part::Value => format!("no {kind} there has the label {}={found}", self.key),
        };
        let then = if self.excludes { "it excludes nobody" } else { "it matches nobody" };
        Finding::new(
            RuleId::LabelTypo,
            &named.policy.id,
            path,
            format!(
                "{} asks for {requirement}, but {what}, and {near} is spelt almost alike: as it stands, {then}",
                named.word
            ),
            format!("write {near} instead of {found}"),
        )
    }
}

/// Namespaces of which some pods are isolated and others are not.
fn not_isolated(context: &Context<'_>, direction: Direction, findings: &mut Vec<Finding>) {
    let (mut open, mut shut) = (context.classes.none(), context.classes.none());
    for group in context.groups(direction) {
        match (group.is_isolated, group.is_uncertain) {
            (true, _) => shut.union_with(&group.classes),
            (false, false) => open.union_with(&group.classes),
            (false, true) => {}
        }
    }
    open.difference_with(&context.classes.host_network);
    let mut by_namespace: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for (set, at) in [(&open, 0), (&shut, 1)] {
        for class in context.classes.of(set) {
            by_namespace.entry(&class.pod.id.namespace).or_default()[at] += class.members;
        }
    }
    for (namespace, [_, isolated]) in by_namespace.into_iter().filter(|(_, [open, shut])| *open > 0 && *shut > 0) {
        let mut here = context.classes.in_namespace(namespace);
        here.intersect_with(&open);
        let (way, doing) = match direction {
            Direction::Ingress => ("Ingress", "whoever can route to them may reach them"),
            Direction::Egress => ("Egress", "they may go anywhere"),
        };
        findings.push(Finding::new(
            RuleId::NotIsolated,
            format!("Namespace {namespace}"),
            "",
            format!(
                "policies isolate {} for {direction} and leave out {}: {doing}",
                count(isolated, "pod"),
                context.classes.names(&here)
            ),
            format!(
                "add a policy with podSelector: {{}} and policyTypes: [{way}] to the namespace, so that only what is allowed is open"
            ),
        ));
    }
}
