//! Ways to open one side that NetworkPolicies have shut.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::block::IpBlock;
use crate::choice::{self, Worth};
use crate::cluster::Connection;
use crate::judge::{self, End};
use crate::label::{Labels, NAMESPACE_NAME};
use crate::manifest;
use crate::model::{Model, PodIndex};
use crate::names::{Direction, Family, PolicyRef};
use crate::peer::{Counterpart, Match, Namespaces, Peer, PodSet};
use crate::pod::Pod;
use crate::policy::{Policy, Rank, Rule};
use crate::port::{PortRange, PortRule, Ports};
use crate::selector::Selector;

/// How many existing rules are tried, at most.
const RULES: usize = 12;

/// How many existing policies are tried, at most.
const POLICIES: usize = 6;

/// One way.
pub(super) struct Candidate {
    pub edit: Edit,
    /// What it changes, in one sentence.
    pub summary: String,
    /// How many lines it adds.
    pub lines: usize,
}

/// One change to the policies.
pub(super) enum Edit {
    /// One more policy, with one rule.
    Create(Arc<Policy>),
    /// One more rule in a policy, at this index.
    Insert { policy: PolicyRef, direction: Direction, at: usize, rule: Rule },
    /// One more peer or port in a rule.
    Extend { policy: PolicyRef, direction: Direction, at: usize, peer: Option<Peer>, port: Option<PortRule> },
}

/// One side of a connection that is shut.
pub(super) struct Question<'a> {
    pub model: &'a Model,
    pub direction: Direction,
    pub subject: PodIndex,
    pub other: &'a End<'a>,
    /// The other end's address on this connection.
    pub address: Option<IpAddr>,
    pub family: Option<Family>,
    /// The destination.
    pub to: &'a End<'a>,
    pub connection: &'a Connection<'a>,
}

impl Edit {
    /// The policy that it makes or changes.
    pub(super) fn object(&self) -> &PolicyRef {
        match self {
            Self::Create(policy) => &policy.id,
            Self::Insert { policy, .. } | Self::Extend { policy, .. } => policy,
        }
    }

    pub(super) fn apply(&self, policies: &mut Vec<Arc<Policy>>) {
        match self {
            Self::Create(policy) => policies.push(policy.clone()),
            Self::Insert { policy, direction, at, rule } => {
                if let Some(rules) = rules_of(policies, policy, *direction) {
                    rules.insert((*at).min(rules.len()), rule.clone());
                }
            }
            Self::Extend { policy, direction, at, peer, port } => {
                let rules = rules_of(policies, policy, *direction);
                if let Some(rule) = rules.and_then(|rules| rules.get_mut(*at)) {
                    rule.peers.extend(peer.clone());
                    rule.ports.extend(port.clone());
                }
            }
        }
    }

    /// Once it is applied: whom its policy selects, and what is new of the rule that is new or wider.
    pub(super) fn touched<'p>(&self, policies: &'p [Arc<Policy>]) -> Option<(Direction, &'p PodSet, Rule)> {
        let policy = policies.iter().find(|it| it.id == *self.object())?;
        let (direction, at) = match self {
            Self::Create(new) => (if new.ingress.is_some() { Direction::Ingress } else { Direction::Egress }, 0),
            Self::Insert { direction, at, .. } | Self::Extend { direction, at, .. } => (*direction, *at),
        };
        let mut rule = policy.rules(direction)?.get(at)?.clone();
        if let Self::Extend { peer, port, .. } = self {
            rule.peers = peer.clone().map_or(rule.peers, |peer| vec![peer]);
            rule.ports = port.clone().map_or(rule.ports, |port| vec![port]);
        }
        Some((direction, &policy.subject, rule))
    }
}

fn rules_of<'p>(policies: &'p mut [Arc<Policy>], id: &PolicyRef, direction: Direction) -> Option<&'p mut Vec<Rule>> {
    let policy = Arc::make_mut(policies.iter_mut().find(|it| it.id == *id)?);
    match direction {
        Direction::Ingress => policy.ingress.as_mut(),
        Direction::Egress => policy.egress.as_mut(),
    }
}

impl<'a> Question<'a> {
    /// The most precise one first. An error says why there is none.
    pub(super) fn candidates(&self) -> Result<Vec<Candidate>, String> {
        let pod = self.pod();
        let standing = self.model.standing(self.subject, self.direction);
        let isolating: Vec<&Policy> = standing
            .policies
            .iter()
            .map(|index| self.model.policies[*index].as_ref())
            .filter(|policy| policy.id.kind == "NetworkPolicy" && policy.only_allows())
            .collect();
        let peer = self.peer(Some(&pod.id.namespace))?;
        let mut candidates: Vec<Candidate> =
            self.own_selector().and_then(|pods| self.create(pods, peer.clone())).into_iter().collect();
        for policy in isolating.iter().take(POLICIES) {
            let at = policy.rules(self.direction).unwrap_or_default().len();
            let rule = Rule::allow(vec![peer.clone()], vec![self.port()]);
            let edit = Edit::Insert { policy: policy.id.clone(), direction: self.direction, at, rule };
            let what = format!("gets a rule that allows {} {}", self.preposition(), self.described(&peer));
            candidates.extend(self.change(policy, edit, &what));
        }
        let rules = isolating.iter().flat_map(|policy| {
            let rules = policy.rules(self.direction).unwrap_or_default();
            rules.iter().enumerate().map(move |(at, rule)| (*policy, at, rule))
        });
        let wider = rules.filter_map(|(policy, at, rule)| self.extend(policy, at, rule, &peer));
        candidates.extend(wider.take(RULES));
        if candidates.is_empty() {
            Err(format!("Pod {}: no policy can be written for it", pod.id))
        } else {
            Ok(candidates)
        }
    }

    pub(super) fn pod(&self) -> &'a Pod {
        self.model.pod(self.subject)
    }

    /// The port asked for.
    pub(super) fn port(&self) -> PortRule {
        let port = self.connection.port;
        let ports = PortRange::new(port, port).map_or(Ports::All, Ports::Range);
        PortRule { protocol: Some(self.connection.protocol), ports }
    }

    /// The other end, as a policy says it that stands in the namespace `own`.
    pub(super) fn peer(&self, own: Option<&str>) -> Result<Peer, String> {
        let End::Pod(_, other) = self.other else {
            let address = self.address.ok_or_else(|| format!("{}: has no known address", self.other.title()))?;
            let block = IpBlock::of([IpNet::from(address)], []);
            return Ok(Peer::Block(block));
        };
        let namespace = self.model.namespace_of(other);
        if !other.is_understood || !namespace.is_understood {
            return Err(format!("Pod {}: its labels are not known, or those of its namespace", other.id));
        }
        let pods = telling(self.model, other, &[]);
        if own == Some(namespace.name.as_str()) {
            return Ok(Peer::Pods(PodSet { namespaces: Namespaces::Own(namespace.name.clone()), pods }));
        }
        let name = namespace.labels.get(NAMESPACE_NAME).map_or(namespace.name.as_str(), String::as_str);
        Ok(Peer::Pods(PodSet { namespaces: Namespaces::Selected(choice::namespace(name)), pods }))
    }

    /// "from pods with run=web of namespace … on TCP 80".
    pub(super) fn described(&self, peer: &Peer) -> String {
        format!("{peer} on {}", self.port())
    }

    pub(super) fn preposition(&self) -> &'static str {
        match self.direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        }
    }

    /// Of the pod's own policy. A policy isolates whom it selects, so that it must select nobody who is not isolated yet.
    /// `None` where labels cannot tell: Calico's policies isolate by service accounts, too.
    fn own_selector(&self) -> Option<Selector> {
        let pod = self.pod();
        let in_namespace =
            || self.model.pod_indices().filter(|index| self.model.pod(*index).id.namespace == pod.id.namespace);
        let is_isolated = |index: PodIndex| self.model.standing(index, self.direction).isolates(&self.model.policies);
        let free: Vec<&Labels> = in_namespace()
            .filter(|index| !is_isolated(*index) && !self.model.pod(*index).is_host_network)
            .map(|index| self.model.pod(index).labels.as_ref())
            .collect();
        let own = telling(self.model, pod, &free);
        free.iter().all(|labels| !own.matches(labels)).then_some(own)
    }

    fn create(&self, pods: Selector, peer: Peer) -> Option<Candidate> {
        let pod = self.pod();
        let whom = match self.other {
            End::Pod(_, other) => choice::called(other).to_owned(),
            End::Host { .. } | End::Address(_) => self.address.map(|it| it.to_string()).unwrap_or_default(),
        };
        let (own, preposition) = (choice::called(pod), self.preposition());
        let name = choice::object_name(&format!("{own}-allow-{preposition}-{whom}"));
        let is_taken = |name: &str| {
            let id = PolicyRef::network_policy(&pod.id.namespace, name);
            self.model.policies.iter().any(|it| it.id == id) || self.model.broken.iter().any(|it| it.id == id)
        };
        let id = PolicyRef::network_policy(&pod.id.namespace, &choice::free_name(&name, is_taken));
        let subject = PodSet { namespaces: Namespaces::Own(pod.id.namespace.clone()), pods };
        let summary = format!("new {id}: allows {subject} {preposition} {}", self.described(&peer));
        let rules = Some(vec![Rule::allow(vec![peer], vec![self.port()])]);
        let (ingress, egress) = match self.direction {
            Direction::Ingress => (rules, None),
            Direction::Egress => (None, rules),
        };
        let policy = Policy { id, rank: Rank::NETWORK_POLICY, subject, ingress, egress };
        let lines = manifest::yaml(&policy)?.lines().count();
        Some(Candidate { edit: Edit::Create(Arc::new(policy)), summary, lines })
    }

    /// One more peer where the port fits, one more port where the peer does.
    fn extend(&self, policy: &Policy, at: usize, rule: &Rule, peer: &Peer) -> Option<Candidate> {
        let names = self.to.pod().map(|pod| &pod.ports);
        let (protocol, port) = (self.connection.protocol, self.connection.port);
        let fits = rule.ports.is_empty() || rule.ports.iter().any(|it| it.matches(protocol, port, names));
        let concerns = judge::whom(rule, &self.counterpart()) == Match::Yes;
        let (peer, port, what) = match (fits, concerns) {
            (true, false) => (Some(peer.clone()), None, format!("{} {peer}, too", self.preposition())),
            (false, true) => (None, Some(self.port()), format!("{}, too", self.port())),
            (true, true) | (false, false) => return None,
        };
        let edit = Edit::Extend { policy: policy.id.clone(), direction: self.direction, at, peer, port };
        self.change(policy, edit, &format!("spec.{}[{at}] allows {what}", self.direction))
    }

    fn counterpart(&self) -> Counterpart<'a> {
        self.other.counterpart(self.model, self.address, self.family)
    }

    /// A change to a policy that is there.
    pub(super) fn change(&self, policy: &Policy, edit: Edit, what: &str) -> Option<Candidate> {
        let mut changed = vec![Arc::new(policy.clone())];
        edit.apply(&mut changed);
        let lines = |policy: &Policy| Some(manifest::yaml(policy)?.lines().count());
        let lines = lines(&changed[0])?.saturating_sub(lines(policy)?);
        Some(Candidate { edit, summary: format!("{}: {what}", policy.id), lines })
    }
}

/// Selects a pod and those that share its lasting labels, and nobody else of its namespace; nor any of `others`.
pub(super) fn telling(model: &Model, pod: &Pod, others: &[&Labels]) -> Selector {
    let own = choice::lasting(&pod.labels);
    let neighbours = model.pods.iter().filter(|it| it.id.namespace == pod.id.namespace && it.id != pod.id);
    let mut different: Vec<&Labels> = neighbours
        .filter(|it| !it.is_host_network && choice::lasting(&it.labels) != own)
        .map(|it| it.labels.as_ref())
        .collect();
    different.extend(others);
    let is_enough = |selector: &Selector| different.iter().all(|labels| !selector.matches(labels));
    let lasting = choice::selector(&[pod.labels.as_ref()], different.iter().copied(), Worth::Edition);
    if is_enough(&lasting) {
        return lasting;
    }
    choice::selector(&[pod.labels.as_ref()], different.iter().copied(), Worth::Volatile)
}
