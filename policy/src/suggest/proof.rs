//! Holds a draft against what was asked for, pair by pair, and mends the one thing that labels cannot: blocks hold the
//! addresses of pods as well, which are then left out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::asked::Asked;
use super::compose::Draft;
use super::{Options, SuggestError, with_policies};
use crate::analyze;
use crate::block::{IpBlock, is_inside};
use crate::cluster::{Party, Route};
use crate::model::{Model, PodIndex};
use crate::names::{Direction, Family};
use crate::peer::{Match, Peer};
use crate::pod::Pod;
use crate::reach::{self, Reach};
use crate::traffic::Traffic;

/// What could not be proved, where addresses are not known.
pub(super) fn prove(
    model: &Model,
    asked: &Asked,
    options: &Options,
    draft: &mut Draft,
) -> Result<Vec<String>, SuggestError> {
    let mut caveats = BTreeSet::new();
    // Leaving out addresses opens nothing, so that it ends: each round leaves out more.
    loop {
        let after = with_policies(model, options, draft.policies.iter().map(|(policy, _)| policy.clone()));
        caveats.clear();
        let extra = {
            let mut proof = Proof { after: &after, asked, options, draft, extra: Vec::new(), caveats: &mut caveats };
            proof.pods()?;
            proof.outside()?;
            proof.extra
        };
        let Some(first) = extra.first() else {
            return Ok(caveats.into_iter().collect());
        };
        // One change may serve several.
        if extra.iter().filter(|extra| leave_out(&after, draft, extra)).count() == 0 {
            let (from, to) = (after.pod(first.from).id.to_string(), after.pod(first.to).id.to_string());
            return Err(SuggestError::Overruled { from, to, does: "allow", traffic: first.traffic.to_string() });
        }
    }
}

/// Something that is open and was not asked for.
struct Extra {
    from: PodIndex,
    to: PodIndex,
    family: Option<Family>,
    traffic: Traffic,
}

struct Proof<'a> {
    after: &'a Model,
    asked: &'a Asked,
    options: &'a Options,
    draft: &'a Draft,
    extra: Vec<Extra>,
    caveats: &'a mut BTreeSet<String>,
}

impl Proof<'_> {
    /// Pods with pods, those in the network of their node left to [`Self::outside`].
    fn pods(&mut self) -> Result<(), SuggestError> {
        let after = self.after;
        let pods: Vec<(PodIndex, Party)> = after
            .pod_indices()
            .filter(|index| !after.pod(*index).is_host_network)
            .map(|index| (index, Party::Pod(after.pod(index).id.clone())))
            .collect();
        for (from, source) in &pods {
            for (to, destination) in &pods {
                if from == to || !(self.is_covered(*from) || self.is_covered(*to)) {
                    continue;
                }
                let asked = self.asked.pods.get(&(*from, *to)).cloned().unwrap_or_default();
                let takes_dns = !self.is_covered(*to) || self.draft.dns_pods.contains(to);
                let (one, other) = (after.pod(*from), after.pod(*to));
                let is_known = !one.addresses.is_empty() && !other.addresses.is_empty();
                for family in reach::common_families(after, &one.addresses, &other.addresses) {
                    let found = reach::reach(after, source, destination, Route::Direct, family);
                    let titles = (&one.id.to_string(), &other.id.to_string());
                    let must = asked.of(family);
                    let may = if takes_dns { must.union(&self.draft.dns) } else { must.clone() };
                    let extra = self.compare(&found, [must, &may], titles, is_known)?;
                    if !extra.is_empty() {
                        self.extra.push(Extra { from: *from, to: *to, family, traffic: extra });
                    }
                }
            }
        }
        Ok(())
    }

    /// Pods with everything else, by ranges that neither policies nor what was asked for cut any further.
    fn outside(&mut self) -> Result<(), SuggestError> {
        let after = self.after;
        let blocks = after.policies.iter().flat_map(|policy| policy.all_rules()).flat_map(|rule| &rule.peers);
        let mut prefixes: BTreeSet<IpNet> = blocks.filter_map(Peer::block).flat_map(|it| it.prefixes()).collect();
        prefixes.extend(self.asked.nets.values().flat_map(BTreeMap::keys));
        let nodes = after.hosts.values().flat_map(|host| &host.addresses);
        prefixes.extend(nodes.map(|address| IpNet::from(*address)));
        for family in [Family::V4, Family::V6] {
            for range in analyze::cut(family, &prefixes) {
                let sample = range.sample(after);
                if after.by_address.has(&sample) {
                    continue;
                }
                for index in after.pod_indices() {
                    let pod = after.pod(index);
                    if !self.is_covered(index)
                        || pod.is_host_network
                        || !pod.addresses.iter().any(|it| Family::of(*it) == family)
                    {
                        continue;
                    }
                    for direction in Direction::ALL {
                        self.at_range(index, pod, direction, sample, &range.to_string())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn at_range(
        &mut self,
        index: PodIndex,
        pod: &Pod,
        direction: Direction,
        sample: IpAddr,
        range: &str,
    ) -> Result<(), SuggestError> {
        let (own, outside) = (Party::Pod(pod.id.clone()), Party::Address(sample));
        let must = self.asked.of_address(index, direction, sample);
        let mut may = must.clone();
        let (title, pod_title) = (range.to_owned(), pod.id.to_string());
        let (from, to, titles) = match direction {
            Direction::Ingress => (&outside, &own, (&title, &pod_title)),
            Direction::Egress => {
                may = may.union(&self.draft.dns);
                (&own, &outside, (&pod_title, &title))
            }
        };
        // No policy keeps a pod's own node from it.
        let host = pod.node.as_ref().and_then(|node| self.after.hosts.get(node));
        if direction == Direction::Ingress && host.is_some_and(|host| host.addresses.contains(&sample)) {
            return Ok(());
        }
        let found = reach::reach(self.after, from, to, Route::Direct, Some(Family::of(sample)));
        let extra = self.compare(&found, [&must, &may], titles, true)?;
        if extra.is_empty() {
            return Ok(());
        }
        let (from, to) = (titles.0.clone(), titles.1.clone());
        Err(SuggestError::Overruled { from, to, does: "allow", traffic: extra.to_string() })
    }

    fn is_covered(&self, index: PodIndex) -> bool {
        self.options.covers(&self.after.pod(index).id.namespace)
    }

    /// What is open and may not be; an error where something is shut that must be open, or not known.
    fn compare(
        &mut self,
        found: &Reach,
        [must, may]: [&Traffic; 2],
        (from, to): (&String, &String),
        is_known: bool,
    ) -> Result<Traffic, SuggestError> {
        let (from, to) = (from.clone(), to.clone());
        let extra = found.open.difference(may);
        if !is_known {
            let extra = extra.union(&found.unknown.difference(may));
            if !extra.is_empty() {
                let why = "an address that a block may hold is not known";
                self.caveats.insert(format!("{from} to {to}: {extra} may be open: {why}"));
            }
            return Ok(Traffic::default());
        }
        if let Some(reason) = found.reasons.first().filter(|_| !found.unknown.is_empty()) {
            return Err(SuggestError::Unknown { from, to, reason: reason.clone() });
        }
        let missing = must.difference(&found.open);
        if !missing.is_empty() {
            return Err(SuggestError::Overruled { from, to, does: "shut", traffic: missing.to_string() });
        }
        Ok(extra)
    }
}

/// Leaves a pod's address out of the blocks that let it in, on the one side or else on the other.
fn leave_out(after: &Model, draft: &mut Draft, extra: &Extra) -> bool {
    let (from, to) = (after.pod(extra.from), after.pod(extra.to));
    [(Direction::Egress, from, to), (Direction::Ingress, to, from)].into_iter().any(|(direction, subject, other)| {
        let addresses = other.addresses.iter().copied();
        let addresses: Vec<IpAddr> =
            addresses.filter(|it| extra.family.is_none_or(|family| Family::of(*it) == family)).collect();
        let mut is_changed = false;
        for (policy, _) in &mut draft.policies {
            if policy.selects(subject, after.namespace_of(subject)) != Match::Yes {
                continue;
            }
            let rules = match direction {
                Direction::Ingress => &mut policy.ingress,
                Direction::Egress => &mut policy.egress,
            };
            for peer in rules.iter_mut().flatten().flat_map(|rule| &mut rule.peers) {
                let Peer::Block(block) = peer else { continue };
                for address in addresses.iter().filter(|address| block.contains(**address)).copied().collect::<Vec<_>>()
                {
                    if let Some(less) = without(block, IpNet::from(address)) {
                        *block = less;
                        is_changed = true;
                    }
                }
            }
        }
        is_changed
    })
}

fn without(block: &IpBlock, address: IpNet) -> Option<IpBlock> {
    let [cidr] = block.cidrs() else { return None };
    let mut except: Vec<IpNet> = block.except().to_vec();
    except.push(address);
    let except = IpNet::aggregate(&except);
    except.iter().all(|net| is_inside(*cidr, *net)).then(|| IpBlock::of([*cidr], except))
}
