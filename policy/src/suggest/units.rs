//! Who needs what, pod by pod, and which pods are alike in that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::{Need, Options, Spread, SuggestError, Who};
use crate::analyze::AddressRange;
use crate::choice::{self, Worth};
use crate::label::Labels;
use crate::model::{Model, PodIndex};
use crate::names::Direction;
use crate::pod::Pod;
use crate::traffic::Traffic;

/// What must work, by pods and blocks of addresses. A pod's connections to itself are left out: no policy forbids them.
#[derive(Default)]
pub(super) struct Asked {
    /// From the first to the second.
    pub pods: BTreeMap<(PodIndex, PodIndex), Traffic>,
    /// Into a pod, or out of it.
    pub nets: BTreeMap<(PodIndex, Direction), BTreeMap<IpNet, Traffic>>,
}

/// Someone whom a rule may speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peers {
    /// The pods of a unit, by its index.
    Unit(usize),
    /// Addresses.
    Net(IpNet),
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

enum Spot {
    Pod(PodIndex),
    Net(IpNet),
}

impl Asked {
    pub(super) fn new(model: &Model, needs: &[Need], options: &Options) -> Result<Self, SuggestError> {
        let mut asked = Self::default();
        let alike = replicas(model, options.spread);
        for need in needs {
            let (from, to) = (spots(model, &need.from, &alike)?, spots(model, &need.to, &alike)?);
            let is_pod = |spots: &[Spot]| spots.iter().any(|spot| matches!(spot, Spot::Pod(_)));
            if !is_pod(&from) && !is_pod(&to) {
                return Err(SuggestError::Outside { from: title(&need.from), to: title(&need.to) });
            }
            for from in &from {
                for to in &to {
                    asked.add(from, to, &need.traffic);
                }
            }
        }
        Ok(asked)
    }

    fn add(&mut self, from: &Spot, to: &Spot, traffic: &Traffic) {
        if traffic.is_empty() {
            return;
        }
        let entry = match (from, to) {
            (Spot::Pod(from), Spot::Pod(to)) if from == to => return,
            (Spot::Pod(from), Spot::Pod(to)) => self.pods.entry((*from, *to)).or_default(),
            (Spot::Pod(pod), Spot::Net(net)) => {
                self.nets.entry((*pod, Direction::Egress)).or_default().entry(*net).or_default()
            }
            (Spot::Net(net), Spot::Pod(pod)) => {
                self.nets.entry((*pod, Direction::Ingress)).or_default().entry(*net).or_default()
            }
            (Spot::Net(_), Spot::Net(_)) => return,
        };
        *entry = entry.union(traffic);
    }

    /// What a pod needs of an address that is no pod's.
    pub(super) fn of_address(&self, pod: PodIndex, direction: Direction, address: IpAddr) -> Traffic {
        let all = self.nets.get(&(pod, direction)).into_iter().flatten();
        let fitting = all.filter(|(net, _)| net.contains(&address));
        fitting.fold(Traffic::default(), |sum, (_, traffic)| sum.union(traffic))
    }
}

/// Which pods share their namespace and lasting labels, where needs spread.
fn replicas(model: &Model, spread: Spread) -> BTreeMap<(&str, Labels), Vec<PodIndex>> {
    let mut alike: BTreeMap<(&str, Labels), Vec<PodIndex>> = BTreeMap::new();
    match spread {
        Spread::Exactly => {}
        Spread::Replicas => {
            for index in model.pod_indices().filter(|index| !model.pod(*index).is_host_network) {
                alike.entry(class(model.pod(index))).or_default().push(index);
            }
        }
    }
    alike
}

fn class(pod: &Pod) -> (&str, Labels) {
    (&pod.id.namespace, choice::lasting(&pod.labels))
}

fn spots(model: &Model, who: &Who, alike: &BTreeMap<(&str, Labels), Vec<PodIndex>>) -> Result<Vec<Spot>, SuggestError> {
    let found: Vec<PodIndex> = match who {
        Who::Pod(id) => vec![model.find(id).ok_or_else(|| SuggestError::NoPod(id.clone()))?],
        Who::Workload { namespace, name } => {
            let pods = model.pod_indices().filter(|index| is_of(model.pod(*index), namespace, name));
            pods.collect()
        }
        Who::Range(range) if range.first() == range.last() && model.by_address.contains_key(&range.first()) => {
            vec![model.by_address[&range.first()]]
        }
        Who::Range(range) => return Ok(nets(*range).into_iter().map(Spot::Net).collect()),
    };
    if let (Who::Workload { namespace, name }, true) = (who, found.is_empty()) {
        return Err(SuggestError::NoWorkload { namespace: namespace.clone(), name: name.clone() });
    }
    let mut spots = Vec::new();
    for index in found {
        let pod = model.pod(index);
        if pod.is_host_network {
            if pod.addresses.is_empty() {
                return Err(SuggestError::NoAddress(pod.id.clone()));
            }
            spots.extend(pod.addresses.iter().map(|address| Spot::Net(IpNet::from(*address))));
        } else {
            let all = alike.get(&class(pod)).cloned().unwrap_or_else(|| vec![index]);
            spots.extend(all.into_iter().map(Spot::Pod));
        }
    }
    Ok(spots)
}

/// Whether the pod is of a workload: it stands for it, or its name is the workload's with what its controller adds.
fn is_of(pod: &Pod, namespace: &str, name: &str) -> bool {
    if pod.id.namespace != namespace {
        return false;
    }
    let Some(rest) = pod.id.name.strip_prefix(name) else { return false };
    if rest.is_empty() {
        return true;
    }
    let Some(rest) = rest.strip_prefix('-') else { return false };
    let is_random = |text: &str| text.len() == 5 && text.chars().all(|c| c.is_ascii_alphanumeric());
    let hash = pod.labels.get("pod-template-hash");
    let of_deployment = hash.and_then(|hash| rest.strip_prefix(hash.as_str())).and_then(|rest| rest.strip_prefix('-'));
    of_deployment.is_some_and(is_random) || is_random(rest) || rest.chars().all(|c| c.is_ascii_digit())
}

pub(crate) fn nets(range: AddressRange) -> Vec<IpNet> {
    match (range.first(), range.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
        // A range is of one family.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    }
}

fn title(who: &Who) -> String {
    match who {
        Who::Pod(id) => id.to_string(),
        Who::Workload { namespace, name } => format!("{namespace}/{name}"),
        Who::Range(range) => range.to_string(),
    }
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
    let mut by_unit: BTreeMap<(PodIndex, usize, usize), BTreeMap<PodIndex, &Traffic>> = BTreeMap::new();
    for ((from, to), traffic) in &asked.pods {
        by_unit.entry((*to, Direction::Ingress as usize, of[from])).or_default().insert(*from, traffic);
        by_unit.entry((*from, Direction::Egress as usize, of[to])).or_default().insert(*to, traffic);
    }
    let mut conflicts: BTreeMap<usize, Conflict> = BTreeMap::new();
    let mut profiles: BTreeMap<PodIndex, Profile> = BTreeMap::new();
    for ((pod, direction, unit), found) in by_unit {
        let Some((one, traffic)) = found.first_key_value() else { continue };
        let differs = |index: &&PodIndex| **index != pod && found.get(*index) != Some(traffic);
        if let Some(other) = units[unit].iter().find(differs) {
            let what = said(model, direction, pod, traffic);
            conflicts.entry(unit).or_insert(Conflict { one: *one, other: *other, what });
        }
        profiles.entry(pod).or_default()[direction].insert(Peers::Unit(unit), (*traffic).clone());
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
            Peers::Unit(at) => units[*at].first().map(|index| model.pod(*index).id.to_string()).unwrap_or_default(),
        };
        let traffic = one.get(key).or(other.get(key)).map(ToString::to_string).unwrap_or_default();
        return format!("{traffic} {word} {whom}");
    }
    String::new()
}
