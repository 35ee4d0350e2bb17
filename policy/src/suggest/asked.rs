//! What must work, pod by pod: the ends that were named become pods and blocks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::{Need, Options, Spread, SuggestError, Who};
use crate::analyze::AddressRange;
use crate::choice;
use crate::label::Labels;
use crate::model::{Model, PodIndex};
use crate::names::{Direction, Family};
use crate::pod::Pod;
use crate::reach;
use crate::traffic::Traffic;

/// What must work, by pods and blocks of addresses. A pod's connections to itself are left out: no policy forbids them.
#[derive(Default)]
pub(super) struct Asked {
    /// From the first to the second.
    pub pods: BTreeMap<(PodIndex, PodIndex), ByFamily>,
    /// Into a pod, or out of it.
    pub nets: BTreeMap<(PodIndex, Direction), BTreeMap<IpNet, Traffic>>,
}

/// What one pod needs of another by each family that both have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ByFamily {
    /// What must work by IPv4 and by IPv6; of a family that they do not have in common, what is asked of the other.
    of: [Traffic; 2],
}

impl ByFamily {
    /// What must work by a family. `None`: the addresses are not known, and nothing depends on the family.
    pub(super) fn of(&self, family: Option<Family>) -> &Traffic {
        &self.of[family.unwrap_or(Family::V4) as usize]
    }

    /// What labels can say, as it is the same for all families.
    pub(super) fn common(&self) -> Traffic {
        self.of[0].intersection(&self.of[1])
    }

    /// What only addresses can say.
    pub(super) fn only(&self, family: Family) -> Traffic {
        self.of(Some(family)).difference(&self.common())
    }

    fn add(&mut self, family: Option<Family>, traffic: &Traffic) {
        for one in [Family::V4, Family::V6].into_iter().filter(|one| family.is_none_or(|family| family == *one)) {
            let sum = &mut self.of[one as usize];
            *sum = sum.union(traffic);
        }
    }

    /// The same without what no connection can be: of a family that the pods do not have in common, nothing may be asked by
    /// its name.
    fn settled(mut self, model: &Model, from: &Pod, to: &Pod) -> Result<Self, SuggestError> {
        if self.of[0] == self.of[1] {
            return Ok(self);
        }
        let families = reach::common_families(model, &from.addresses, &to.addresses);
        for family in [Family::V4, Family::V6] {
            if families.contains(&Some(family)) {
                continue;
            }
            let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
            if families == [None] || !self.only(family).is_empty() {
                // The pod that lacks such addresses: one of the two does.
                let lacks = |pod: &&Pod| !pod.addresses.iter().any(|address| Family::of(*address) == family);
                let pod = [from, to].into_iter().find(lacks).unwrap_or(to);
                return Err(SuggestError::NoFamily { pod: pod.id.clone(), family });
            }
            self.of[family as usize] = self.of(Some(other)).clone();
        }
        Ok(self)
    }
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
            let of = |who| spots(model, who, need.family, &alike);
            let (from, to) = (of(&need.from)?, of(&need.to)?);
            let is_pod = |spots: &[Spot]| spots.iter().any(|spot| matches!(spot, Spot::Pod(_)));
            if !is_pod(&from) && !is_pod(&to) {
                // No policy bears on a pod in the network of its node: that it works goes without saying.
                if [&need.from, &need.to].into_iter().any(|who| !matches!(who, Who::Range(_))) {
                    continue;
                }
                return Err(SuggestError::Outside { from: title(&need.from), to: title(&need.to) });
            }
            for from in &from {
                for to in &to {
                    asked.add(from, to, need);
                }
            }
        }
        for ((from, to), traffic) in &mut asked.pods {
            *traffic = std::mem::take(traffic).settled(model, model.pod(*from), model.pod(*to))?;
        }
        Ok(asked)
    }

    fn add(&mut self, from: &Spot, to: &Spot, need: &Need) {
        if need.traffic.is_empty() {
            return;
        }
        let (pod, direction, net) = match (from, to) {
            (Spot::Pod(from), Spot::Pod(to)) if from == to => return,
            (Spot::Pod(from), Spot::Pod(to)) => {
                self.pods.entry((*from, *to)).or_default().add(need.family, &need.traffic);
                return;
            }
            (Spot::Pod(pod), Spot::Net(net)) => (pod, Direction::Egress, net),
            (Spot::Net(net), Spot::Pod(pod)) => (pod, Direction::Ingress, net),
            (Spot::Net(_), Spot::Net(_)) => return,
        };
        let sum = self.nets.entry((*pod, direction)).or_default().entry(*net).or_default();
        *sum = sum.union(&need.traffic);
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

/// What pods have in common that are alike.
pub(super) fn class(pod: &Pod) -> (&str, Labels) {
    (&pod.id.namespace, choice::lasting(&pod.labels))
}

/// The pods and blocks that someone stands for, as far as they have to do with a family.
fn spots(
    model: &Model,
    who: &Who,
    family: Option<Family>,
    alike: &BTreeMap<(&str, Labels), Vec<PodIndex>>,
) -> Result<Vec<Spot>, SuggestError> {
    if let (Who::Range(range), Some(family)) = (who, family)
        && Family::of(range.first()) != family
    {
        return Err(SuggestError::OtherFamily { range: *range, family });
    }
    let found: Vec<PodIndex> = match who {
        Who::Pod(id) => vec![model.find(id).ok_or_else(|| SuggestError::NoPod(id.clone()))?],
        Who::Workload { namespace, name } => {
            let pods = model.pod_indices().filter(|index| is_of(model.pod(*index), namespace, name));
            pods.collect()
        }
        Who::Range(range) => match model.by_address.get(&range.first()) {
            Some(index) if range.first() == range.last() => vec![index],
            Some(_) | None => return Ok(nets(*range).into_iter().map(Spot::Net).collect()),
        },
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
            let fits = |address: &&IpAddr| family.is_none_or(|family| Family::of(**address) == family);
            let fitting: Vec<IpAddr> = pod.addresses.iter().filter(fits).copied().collect();
            if let (true, Some(family)) = (fitting.is_empty(), family) {
                return Err(SuggestError::NoFamily { pod: pod.id.clone(), family });
            }
            spots.extend(fitting.into_iter().map(|address| Spot::Net(IpNet::from(address))));
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
