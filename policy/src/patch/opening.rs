//! What edits of policies open: the pairs that they can touch, before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::candidate::Edit;
use crate::analyze::{self, Place};
use crate::cluster::{Party, Route};
use crate::model::Model;
use crate::names::{Direction, Family, Protocol};
use crate::peer::{Match, Peer, PodSet};
use crate::pod::Pod;
use crate::policy::{Policy, Rule};
use crate::port::{PortRule, Ports};
use crate::reach;
use crate::traffic::Traffic;

/// All that is certainly open after the edits and was not before, by pair. An edit adds one rule or widens one, so that it
/// can only touch pairs of a pod that its policy selects and someone who is among that rule's peers.
pub(super) fn openings(
    before: &Model,
    after: &Model,
    edits: &[&Edit],
    cut_at: [Option<IpAddr>; 2],
) -> BTreeMap<(Place, Place), Traffic> {
    let mut comparison = Comparison { before, after, seen: BTreeSet::new(), found: BTreeMap::new() };
    let outside = outside(after, cut_at);
    for edit in edits {
        let Some((direction, subject, rule)) = edit.touched(&after.policies) else { continue };
        for pod in after.pods.iter().filter(|pod| is_possible(subject, pod, after)) {
            for other in after.pods.iter().filter(|other| may_concern(&rule, other, after)) {
                let families = reach::common_families(after, &pod.addresses, &other.addresses);
                let place = (Place::Pod(other.id.clone()), Party::Pod(other.id.clone()));
                comparison.compare(direction, pod, place, &families);
            }
            for (range, sample) in &outside {
                let family = Family::of(*sample);
                if pod.addresses.is_empty() || pod.addresses.iter().any(|it| Family::of(*it) == family) {
                    comparison.compare(direction, pod, (range.clone(), Party::Address(*sample)), &[Some(family)]);
                }
            }
        }
    }
    comparison.found
}

/// Two states of a cluster, pair by pair.
struct Comparison<'m> {
    before: &'m Model,
    after: &'m Model,
    seen: BTreeSet<(Place, Place)>,
    found: BTreeMap<(Place, Place), Traffic>,
}

impl Comparison<'_> {
    fn compare(&mut self, direction: Direction, pod: &Pod, other: (Place, Party), families: &[Option<Family>]) {
        let own = (Place::Pod(pod.id.clone()), Party::Pod(pod.id.clone()));
        let ((from_place, from), (to_place, to)) = match direction {
            Direction::Ingress => (other, own),
            Direction::Egress => (own, other),
        };
        let places = (from_place, to_place);
        if !self.seen.insert(places.clone()) {
            return;
        }
        let mut opened = Traffic::default();
        for family in families {
            // By a Service's address: it differs for a pod that reaches itself, which is open anyway by its own.
            let open = |model: &Model| reach::reach(model, &from, &to, Route::Service, *family).open;
            opened = opened.union(&open(self.after).difference(&open(self.before)));
        }
        if !opened.is_empty() {
            self.found.insert(places, opened);
        }
    }
}

fn is_possible(subject: &PodSet, pod: &Pod, model: &Model) -> bool {
    subject.selects(pod, model.namespace_of(pod)) != Match::No
}

/// Whether the other pod may be among the rule's peers.
fn may_concern(rule: &Rule, other: &Pod, model: &Model) -> bool {
    let is_in = |peer: &Peer| match peer {
        Peer::Pods(set) | Peer::PodsIn(set, _) => is_possible(set, other, model),
        Peer::Block(block) => other.addresses.is_empty() || other.addresses.iter().any(|it| block.contains(*it)),
        Peer::Nodes(_) => other.is_host_network,
    };
    rule.peers.is_empty() || rule.peers.iter().any(is_in)
}

/// The outside, in ranges that neither policies nor these addresses cut any further, each with an address of it.
fn outside(model: &Model, cut_at: [Option<IpAddr>; 2]) -> Vec<(Place, IpAddr)> {
    let rules = model.policies.iter().flat_map(|policy| policy.all_rules());
    let mut prefixes: BTreeSet<IpNet> =
        rules.flat_map(|rule| &rule.peers).filter_map(Peer::block).flat_map(|block| block.prefixes()).collect();
    prefixes.extend(cut_at.into_iter().flatten().map(IpNet::from));
    let families = model.family.map_or(vec![Family::V4, Family::V6], |family| vec![family]);
    let ranges = families.into_iter().flat_map(|family| analyze::cut(family, &prefixes));
    let sampled = ranges.map(|range| (Place::Range(range), range.sample(model)));
    // A range that only pods are in is no outside: the pods are looked at one by one.
    sampled.filter(|(_, sample)| !model.by_address.has(sample)).collect()
}

/// How much an edit lets one side pass, whether or not the other side lets it pass, too: whom the policy selects, times
/// whom its rule is about, times the ports.
pub(super) fn breadth(model: &Model, edited: &[Arc<Policy>], edit: &Edit) -> u128 {
    let Some((_, subject, rule)) = edit.touched(edited) else { return 0 };
    let selected = model.pods.iter().filter(|pod| is_possible(subject, pod, model)).count() as u128;
    let pods = model.pods.iter().filter(|pod| may_concern(&rule, pod, model)).count() as u128;
    let addresses = |net: &IpNet| {
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        1_u128.checked_shl(bits).unwrap_or(u128::MAX)
    };
    let blocks = rule.peers.iter().filter_map(Peer::block).flat_map(|block| block.cidrs()).map(addresses);
    let outside =
        if rule.peers.is_empty() { u128::MAX } else { blocks.fold(0, |sum: u128, it| sum.saturating_add(it)) };
    let number = |port: &PortRule| match &port.ports {
        Ports::All => u128::from(u16::MAX),
        Ports::Range(range) => u128::from(range.bounds().1 - range.bounds().0) + 1,
        Ports::Named(_) => 1,
    };
    let ports = if rule.ports.is_empty() {
        u128::from(u16::MAX) * Protocol::ALL.len() as u128
    } else {
        rule.ports.iter().map(number).sum()
    };
    selected.saturating_mul(pods.saturating_add(outside)).saturating_mul(ports)
}
