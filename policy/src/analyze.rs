//! All connections of a cluster with exact port ranges, and the outside as ranges of addresses that the policies cut.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use ipnet::IpNet;

use crate::cluster::{Party, Route};
use crate::model::Model;
use crate::names::{Direction, Family, PodRef};
use crate::peer::Peer;
use crate::pod::Pod;
use crate::reach::Reach;
use pairs::Pairs;

mod pairs;

/// What to analyse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How a pod to itself counts.
    pub loopback: Loopback,
    /// Whether the outside is looked at, too.
    pub external: External,
}

/// How a pod's connections to itself count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loopback {
    /// They are left out.
    Omit,
    /// By its own address, as no policy can forbid it.
    #[default]
    Allow,
    /// As policies have it, which is what happens through a Service.
    Policy,
}

/// Whether the outside is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum External {
    /// Pods only.
    #[default]
    Omit,
    /// All other addresses, as ranges.
    Ranges,
}

/// One end of an analysed connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A pod.
    Pod(PodRef),
    /// Addresses that no policy tells apart, pods and nodes aside.
    Range(AddressRange),
}

/// Addresses of one family, first and last inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// What one place may reach at another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who connects.
    pub from: Place,
    /// To whom.
    pub to: Place,
    /// Set where the families differ; else what is here goes for all families that both have.
    pub family: Option<Family>,
    /// What is open, what cannot be told, and why.
    pub reach: Reach,
}

/// All links of which something is open or unknown, sorted by source, destination and family.
pub(crate) fn analyze(model: &Arc<Model>, options: Options) -> Vec<Link> {
    Links::new(model, options).flat_map(|(_, links)| links).collect()
}

/// The links of one source after another, in order; each with those of which something is open or unknown. A cluster has
/// too many for all of them to be kept at once.
pub struct Links<'m> {
    model: &'m Model,
    loopback: Loopback,
    pairs: Pairs<'m>,
    /// With an address of each that stands for all.
    ranges: Vec<(AddressRange, Party)>,
    next: usize,
}

impl<'m> Links<'m> {
    pub(crate) fn new(model: &'m Arc<Model>, options: Options) -> Self {
        let ranges = match options.external {
            External::Omit => Vec::new(),
            External::Ranges => {
                // A range that has nothing but pods and nodes in it is no outside.
                let with_sample =
                    |range: AddressRange| Some((range, Party::Address(range.free_address(&[model.as_ref()])?)));
                ranges(&[model.as_ref()]).into_iter().filter_map(with_sample).collect()
            }
        };
        Self { model, loopback: options.loopback, pairs: Pairs::new(model), ranges, next: 0 }
    }

    fn of_pod(&self, index: usize) -> Vec<Link> {
        let from = &self.model.pods[index];
        let place = || Place::Pod(from.id.clone());
        let mut links = Vec::new();
        for (other, to) in self.model.pods.iter().enumerate() {
            let route = match self.loopback {
                Loopback::Omit if other == index => continue,
                Loopback::Policy => Route::Service,
                Loopback::Omit | Loopback::Allow => Route::Direct,
            };
            let families = self.pairs.families(index, other);
            let reach = |family| self.pairs.reach(index, other, route, family);
            add(&mut links, || (place(), Place::Pod(to.id.clone())), families, reach);
        }
        for (number, (range, outside)) in self.ranges.iter().enumerate().filter(|(_, (range, _))| range.is_for(from)) {
            let reach = |_| self.pairs.outside(Direction::Egress, index, (number, outside));
            add(&mut links, || (place(), Place::Range(*range)), &[range.family()], reach);
        }
        links
    }

    fn of_range(&self, number: usize) -> Option<Vec<Link>> {
        let (range, outside) = self.ranges.get(number)?;
        let mut links = Vec::new();
        for (index, to) in self.model.pods.iter().enumerate().filter(|(_, pod)| range.is_for(pod)) {
            let reach = |_| self.pairs.outside(Direction::Ingress, index, (number, outside));
            add(&mut links, || (Place::Range(*range), Place::Pod(to.id.clone())), &[range.family()], reach);
        }
        Some(links)
    }
}

impl Iterator for Links<'_> {
    type Item = (Place, Vec<Link>);

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next;
        let item = match self.model.pods.get(index) {
            Some(pod) => (Place::Pod(pod.id.clone()), self.of_pod(index)),
            None => {
                let number = index - self.model.pods.len();
                let (range, _) = self.ranges.get(number)?;
                (Place::Range(*range), self.of_range(number)?)
            }
        };
        self.next += 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.model.pods.len() + self.ranges.len()).saturating_sub(self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Links<'_> {}

fn add(
    links: &mut Vec<Link>,
    places: impl Fn() -> (Place, Place),
    families: &[Option<Family>],
    reach: impl Fn(Option<Family>) -> Rc<Reach>,
) {
    let mut push = |family, reach: &Reach| {
        if !reach.open.is_empty() || !reach.unknown.is_empty() {
            let (from, to) = places();
            links.push(Link { from, to, family, reach: reach.clone() });
        }
    };
    match families {
        [] => {}
        [only] => push(None, &reach(*only)),
        several => {
            let found: Vec<(Option<Family>, Rc<Reach>)> =
                several.iter().map(|family| (*family, reach(*family))).collect();
            if found.windows(2).all(|pair| pair[0].1 == pair[1].1) {
                push(None, &found[0].1);
            } else {
                found.iter().for_each(|(family, reach)| push(*family, reach));
            }
        }
    }
}

/// All addresses of the families in use, cut at the borders of every prefix that a policy names.
pub(crate) fn ranges(models: &[&Model]) -> Vec<AddressRange> {
    let rules = models.iter().flat_map(|model| &model.policies).flat_map(|policy| policy.all_rules());
    let prefixes: BTreeSet<IpNet> =
        rules.flat_map(|rule| &rule.peers).filter_map(Peer::block).flat_map(|block| block.prefixes()).collect();
    let families: BTreeSet<Family> = models.iter().flat_map(|model| model.families()).copied().collect();
    families.into_iter().flat_map(|family| cut(family, &prefixes)).collect()
}

/// All addresses of a family, cut at the borders of these prefixes.
pub(crate) fn cut(family: Family, prefixes: &BTreeSet<IpNet>) -> Vec<AddressRange> {
    let end = match family {
        Family::V4 => u32::MAX.into(),
        Family::V6 => u128::MAX,
    };
    let mut starts = BTreeSet::from([0_u128]);
    for net in prefixes.iter().filter(|net| Family::of(net.addr()) == family) {
        starts.insert(to_number(net.network()));
        starts.extend(to_number(net.broadcast()).checked_add(1).filter(|start| *start <= end));
    }
    pieces(family, &starts, end)
}

/// From each start to just before the next one, the last one to the end.
fn pieces(family: Family, starts: &BTreeSet<u128>, end: u128) -> Vec<AddressRange> {
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([end]);
    let address = |number| to_address(family, number);
    starts.iter().zip(ends).map(|(first, last)| AddressRange { first: address(*first), last: address(last) }).collect()
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn to_address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(number).expect("an IPv4 address has 32 bits")).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    }
}

impl AddressRange {
    /// `None` where the ends are of different families, or in the wrong order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (Family::of(first) == Family::of(last) && first <= last).then_some(Self { first, last })
    }

    /// The first address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(self) -> IpAddr {
        self.last
    }

    /// Both in one, where `next` begins behind the end of this one.
    pub(crate) fn joined(self, next: Self) -> Option<Self> {
        let follows = Family::of(self.first) == Family::of(next.first)
            && to_number(self.last).checked_add(1) == Some(to_number(next.first));
        follows.then_some(Self { first: self.first, last: next.last })
    }

    /// The same addresses in pieces, so that each of the others holds a piece whole or not at all.
    pub(crate) fn cut_at(self, others: &BTreeSet<Self>) -> Vec<Self> {
        let family = Family::of(self.first);
        let (first, last) = (to_number(self.first), to_number(self.last));
        let mut starts = BTreeSet::from([first]);
        for other in others.iter().filter(|other| Family::of(other.first) == family) {
            let after = to_number(other.last).checked_add(1);
            starts.extend(
                [Some(to_number(other.first)), after].into_iter().flatten().filter(|at| (first..=last).contains(at)),
            );
        }
        pieces(family, &starts, last)
    }

    fn family(self) -> Option<Family> {
        Some(Family::of(self.first))
    }

    /// Whether the pod may have connections with it: it has an address of that family, or none that is known.
    fn is_for(&self, pod: &Pod) -> bool {
        pod.addresses.is_empty() || pod.addresses.iter().any(|address| Some(Family::of(*address)) == self.family())
    }

    /// An address of it that is no pod's and no node's; its first one where all are.
    pub(crate) fn sample(self, model: &Model) -> IpAddr {
        self.free_address(&[model]).unwrap_or(self.first)
    }

    /// An address of it that is no pod's and no node's in any of the models.
    pub(crate) fn free_address(self, models: &[&Model]) -> Option<IpAddr> {
        const TRIES: u128 = 1 << 20;
        let family = Family::of(self.first);
        let (first, last) = (to_number(self.first), to_number(self.last));
        let is_taken = |address: &IpAddr| {
            models.iter().any(|model| {
                model.by_address.has(address)
                    || model.shared_addresses.contains_key(address)
                    || model.node_at(*address).is_some()
            })
        };
        let last = last.min(first.saturating_add(TRIES));
        (first..=last).map(|number| to_address(family, number)).find(|address| !is_taken(address))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => write!(f, "{pod}"),
            Self::Range(range) => write!(f, "{range}"),
        }
    }
}
