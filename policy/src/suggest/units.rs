//! Who needs what, pod by pod, and which pods are alike in that.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::SuggestError;
use super::asked::{Asked, class};
use crate::choice::Worth;
use crate::label::Labels;
use crate::model::{Model, PodIndex};
use crate::names::{Direction, Family};
use crate::traffic::Traffic;

/// Someone whom a rule may speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peers {
    /// The pods of a unit, by its index.
    Unit(usize),
    /// Addresses that are no pod's.
    Net(IpNet),
    /// The addresses of one family that a pod has, where labels would let the other family in as well.
    Addresses(PodIndex, Family),
}

/// What pods of a unit need of others, in one direction.
pub(super) type Demand = BTreeMap<Peers, Traffic>;

/// Pods that labels tell apart from all others, and that need the same.
pub(super) struct Units {
    /// The pods of each; all pods are in one, apart from those in the network of their node.
    pub units: Vec<Vec<PodIndex>>,
    /// What each needs: ingress and egress.
    pub demands: Vec<[Demand; 2]>,
}

/// What pods need of single pods and of blocks.
type Profile = [Demand; 2];

impl Units {
    /// By namespace and lasting labels, and only where needs differ by all labels.
    pub(super) fn new(model: &Model, asked: &Asked) -> Result<Self, SuggestError> {
        let mut classes: BTreeMap<(&str, Labels), Vec<PodIndex>> = BTreeMap::new();
        for index in model.pod_indices().filter(|index| !model.pod(*index).is_host_network) {
            classes.entry(class(model.pod(index))).or_default().push(index);
        }
        let mut units: Vec<Vec<PodIndex>> = classes.into_values().collect();
        loop {
            let (demands, conflicts) = demands(model, asked, &units);
            if conflicts.is_empty() {
                return Ok(Self { units, demands });
            }
            let mut next = Vec::new();
            for (at, unit) in units.into_iter().enumerate() {
                let Some(conflict) = conflicts.get(&at) else {
                    next.push(unit);
                    continue;
                };
                let mut parts: BTreeMap<Labels, Vec<PodIndex>> = BTreeMap::new();
                for index in unit {
                    let labels = model.pod(index).labels.iter().filter(|(key, _)| Worth::of(key) < Worth::Never);
                    let labels = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
                    parts.entry(labels).or_default().push(index);
                }
                if parts.len() == 1 {
                    let id = |index: PodIndex| model.pod(index).id.clone();
                    let (one, other) = (id(conflict.one), id(conflict.other));
                    return Err(SuggestError::Alike { one, other, what: conflict.what.clone() });
                }
                next.extend(parts.into_values());
            }
            units = next;
        }
    }
}

/// Two pods of one unit that are treated in different ways.
struct Conflict {
    one: PodIndex,
    other: PodIndex,
    what: String,
}

fn demands(model: &Model, asked: &Asked, units: &[Vec<PodIndex>]) -> (Vec<Profile>, BTreeMap<usize, Conflict>) {
    let of: BTreeMap<PodIndex, usize> =
        units.iter().enumerate().flat_map(|(at, unit)| unit.iter().map(move |index| (*index, at))).collect();
    // Of each pod, by direction and unit: which of its pods, and what.
    let mut by_unit: BTreeMap<(PodIndex, usize, usize), BTreeMap<PodIndex, Traffic>> = BTreeMap::new();
    let mut profiles: BTreeMap<PodIndex, Profile> = BTreeMap::new();
    for ((from, to), traffic) in &asked.pods {
        for (own, direction, other) in [(to, Direction::Ingress, from), (from, Direction::Egress, to)] {
            let common = traffic.common();
            if !common.is_empty() {
                by_unit.entry((*own, direction as usize, of[other])).or_default().insert(*other, common);
            }
            for family in [Family::V4, Family::V6] {
                let only = traffic.only(family);
                if !only.is_empty() {
                    let demand = &mut profiles.entry(*own).or_default()[direction as usize];
                    demand.insert(Peers::Addresses(*other, family), only);
                }
            }
        }
    }
    let mut conflicts: BTreeMap<usize, Conflict> = BTreeMap::new();
    for ((pod, direction, unit), found) in by_unit {
        let Some((one, traffic)) = found.first_key_value() else { continue };
        let differs = |index: &&PodIndex| **index != pod && found.get(*index) != Some(traffic);
        if let Some(other) = units[unit].iter().find(differs) {
            let what = said(model, direction, pod, traffic);
            conflicts.entry(unit).or_insert(Conflict { one: *one, other: *other, what });
        }
        profiles.entry(pod).or_default()[direction].insert(Peers::Unit(unit), traffic.clone());
    }
    for ((pod, direction), nets) in &asked.nets {
        let nets = nets.iter().map(|(net, traffic)| (Peers::Net(*net), traffic.clone()));
        profiles.entry(*pod).or_default()[*direction as usize].extend(nets);
    }
    if !conflicts.is_empty() {
        return (Vec::new(), conflicts);
    }
    let empty = Profile::default();
    let profile = |index: &PodIndex| profiles.get(index).unwrap_or(&empty);
    for (at, unit) in units.iter().enumerate() {
        let Some(first) = unit.first() else { continue };
        if let Some(other) = unit.iter().find(|index| profile(index) != profile(first)) {
            let what = difference(model, units, profile(first), profile(other));
            conflicts.insert(at, Conflict { one: *first, other: *other, what });
        }
    }
    let demands = units.iter().map(|unit| unit.first().map(profile).cloned().unwrap_or_default());
    (demands.collect(), conflicts)
}

fn said(model: &Model, direction: usize, pod: PodIndex, traffic: &Traffic) -> String {
    let id = &model.pod(pod).id;
    // Seen from the other end.
    if direction == Direction::Ingress as usize { format!("{traffic} to {id}") } else { format!("{traffic} from {id}") }
}

/// The first thing that only one of two pods needs.
fn difference(model: &Model, units: &[Vec<PodIndex>], one: &Profile, other: &Profile) -> String {
    for (direction, word) in [(Direction::Egress, "to"), (Direction::Ingress, "from")] {
        let (one, other) = (&one[direction as usize], &other[direction as usize]);
        let keys: BTreeSet<&Peers> = one.keys().chain(other.keys()).collect();
        let Some(key) = keys.into_iter().find(|key| one.get(key) != other.get(key)) else { continue };
        let whom = match key {
            Peers::Net(net) => net.to_string(),
            Peers::Addresses(pod, family) => format!("{} by {family}", model.pod(*pod).id),
            Peers::Unit(at) => units[*at].first().map(|index| model.pod(*index).id.to_string()).unwrap_or_default(),
        };
        let traffic = one.get(key).or(other.get(key)).map(ToString::to_string).unwrap_or_default();
        return format!("{traffic} {word} {whom}");
    }
    String::new()
}
