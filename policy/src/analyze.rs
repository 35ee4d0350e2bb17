//! All connections of a cluster with exact port ranges, and the outside as ranges of addresses that the policies cut.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::cluster::{Party, Route};
use crate::model::Model;
use crate::names::{Family, PodRef};
use crate::peer::Peer;
use crate::policy::Policy;
use crate::reach::{self, Reach};

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
pub(crate) fn analyze(model: &Model, options: Options) -> Vec<Link> {
    let mut links = Vec::new();
    let pods: Vec<&crate::pod::Pod> = model.pods.iter().collect();
    for from in &pods {
        for to in &pods {
            let route = match options.loopback {
                Loopback::Omit if from.id == to.id => continue,
                Loopback::Policy => Route::Service,
                Loopback::Omit | Loopback::Allow => Route::Direct,
            };
            let families = reach::common_families(&from.addresses, &to.addresses);
            let (source, destination) = (Party::Pod(from.id.clone()), Party::Pod(to.id.clone()));
            let places = (Place::Pod(from.id.clone()), Place::Pod(to.id.clone()));
            add(&mut links, places, &families, |family| reach::reach(model, &source, &destination, route, family));
        }
    }
    if options.external == External::Ranges {
        for range in ranges(&[model]) {
            let outside = Party::Address(range.sample(model));
            let family = Some(Family::of(range.first));
            for pod in &pods {
                let families: Vec<_> = pod.addresses.iter().copied().map(Family::of).map(Some).collect();
                if !families.is_empty() && !families.contains(&family) {
                    continue;
                }
                let (party, place) = (Party::Pod(pod.id.clone()), Place::Pod(pod.id.clone()));
                let inwards = (Place::Range(range), place.clone());
                add(&mut links, inwards, &[family], |at| reach::reach(model, &outside, &party, Route::Direct, at));
                let outwards = (place, Place::Range(range));
                add(&mut links, outwards, &[family], |at| reach::reach(model, &party, &outside, Route::Direct, at));
            }
        }
    }
    links.sort_by(|a, b| (&a.from, &a.to, a.family).cmp(&(&b.from, &b.to, b.family)));
    links
}

fn add(
    links: &mut Vec<Link>,
    (from, to): (Place, Place),
    families: &[Option<Family>],
    reach: impl Fn(Option<Family>) -> Reach,
) {
    let found: Vec<(Option<Family>, Reach)> = families.iter().map(|family| (*family, reach(*family))).collect();
    let is_same = found.windows(2).all(|pair| pair[0].1 == pair[1].1);
    for (index, (family, reach)) in found.into_iter().enumerate() {
        if (is_same && index > 0) || (reach.open.is_empty() && reach.unknown.is_empty()) {
            continue;
        }
        links.push(Link { from: from.clone(), to: to.clone(), family: family.filter(|_| !is_same), reach });
    }
}

/// All addresses of the families in use, cut at the borders of every prefix that a policy names.
pub(crate) fn ranges(models: &[&Model]) -> Vec<AddressRange> {
    let rules = models.iter().flat_map(|model| &model.policies).flat_map(Policy::all_rules);
    let prefixes: BTreeSet<IpNet> =
        rules.flat_map(|rule| &rule.peers).filter_map(Peer::block).flat_map(|block| block.prefixes()).collect();
    let of = |model: &&Model| model.family.map_or(vec![Family::V4, Family::V6], |family| vec![family]);
    let families: BTreeSet<Family> = models.iter().flat_map(of).collect();
    families.into_iter().flat_map(|family| cut(family, &prefixes)).collect()
}

fn cut(family: Family, prefixes: &BTreeSet<IpNet>) -> Vec<AddressRange> {
    let end = match family {
        Family::V4 => u32::MAX.into(),
        Family::V6 => u128::MAX,
    };
    let mut starts = BTreeSet::from([0_u128]);
    for net in prefixes.iter().filter(|net| Family::of(net.addr()) == family) {
        starts.insert(to_number(net.network()));
        starts.extend(to_number(net.broadcast()).checked_add(1).filter(|start| *start <= end));
    }
    let starts: Vec<u128> = starts.into_iter().collect();
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
    /// The first address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(self) -> IpAddr {
        self.last
    }

    /// An address of it that is no pod's and no node's; its first one where all are.
    fn sample(self, model: &Model) -> IpAddr {
        self.free_address(&[model]).unwrap_or(self.first)
    }

    /// An address of it that is no pod's and no node's in any of the models.
    pub(crate) fn free_address(self, models: &[&Model]) -> Option<IpAddr> {
        const TRIES: u128 = 1 << 20;
        let family = Family::of(self.first);
        let (first, last) = (to_number(self.first), to_number(self.last));
        let is_taken = |address: &IpAddr| {
            models.iter().any(|model| {
                model.by_address.contains_key(address)
                    || model.shared_addresses.contains_key(address)
                    || model.hosts.values().any(|host| host.addresses.contains(address))
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
