//! The engine's picture of a workspace: who there is, and what each may reach at each, now and in the baseline.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::Value;
use signalbox_policy::alike::Outside;
use signalbox_policy::analyze::AddressRange;
use signalbox_policy::reach::Reach;
use signalbox_policy::{Cluster, Family, Party, PodRef, Protocol, Route};

use super::workspace::{Item, Workspace};

/// One end of connections.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// `pod:frontend/web`, or `out:198.51.100.0`: by its first address.
    pub id: String,
    /// As the engine knows it. Addresses outside have one that speaks for all.
    pub party: Party,
    /// Namespace, or `outside`.
    pub place: String,
    /// Name without namespace, or the addresses in short.
    pub name: String,
    /// All of its addresses, where it is outside.
    pub addresses: String,
    /// Whether it is in the baseline, too. What is outside always is.
    pub is_in_base: bool,
}

/// What one end may reach at another, family by family; without a family where all say the same. Empty: they have no family
/// in common.
pub type Reaches = Vec<(Option<Family>, Reach)>;

/// What there is to say of one pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// As it is now.
    pub now: Reaches,
    /// As it was; absent where nothing is compared, or an end was not there.
    pub before: Option<Reaches>,
    /// A pod and itself.
    pub is_self: bool,
}

/// The picture.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// The cluster as it is now.
    pub now: Cluster,
    /// As it was; absent where it is the same.
    pub base: Option<Cluster>,
    /// Pods first, by name, then what is outside.
    pub ends: Vec<End>,
    /// How many of them are pods.
    pub pods: usize,
    /// Ends by kind: no policy tells those of one kind apart, now or in the baseline.
    pub kinds: Vec<Vec<usize>>,
    /// Pods that are in the baseline only.
    pub gone: Vec<String>,
    base_items: Vec<Item>,
    by_id: HashMap<String, usize>,
    ports: HashMap<String, Vec<(Protocol, u16)>>,
}

impl Scene {
    /// Reads a workspace. What is known of the baseline is taken from the scene before, if it is of the same.
    pub fn build(workspace: &Workspace, before: Option<&Self>) -> Self {
        let now = Cluster::from_objects(workspace.items.iter().map(|item| &*item.object));
        let is_compared = workspace.is_changed() && !workspace.base.is_empty();
        let known = before.filter(|before| before.base.is_some() && before.base_items == workspace.base);
        let base = is_compared.then(|| match known {
            Some(known) => known.base.clone().unwrap_or_default(),
            None => Cluster::from_objects(workspace.base.iter().map(|item| &*item.object)),
        });
        let mut ends: Vec<End> = Vec::new();
        let mut kinds: Vec<Vec<usize>> = Vec::new();
        let mut gone = Vec::new();
        let base_kinds: Option<HashMap<&PodRef, usize>> =
            base.as_ref().map(|base| base.pods().zip(base.kinds()).collect());
        let mut numbers: HashMap<(usize, Option<usize>), usize> = HashMap::new();
        for (pod, kind) in now.pods().zip(now.kinds()) {
            let base_kind = base_kinds.as_ref().and_then(|kinds| kinds.get(pod).copied());
            let next = numbers.len();
            let number = *numbers.entry((kind, base_kind)).or_insert(next);
            if number == kinds.len() {
                kinds.push(Vec::new());
            }
            kinds[number].push(ends.len());
            ends.push(End {
                id: format!("pod:{pod}"),
                party: Party::Pod(pod.clone()),
                place: pod.namespace.clone(),
                name: pod.name.clone(),
                addresses: String::new(),
                is_in_base: base_kinds.is_none() || base_kind.is_some(),
            });
        }
        let pods = ends.len();
        if let Some(base) = &base {
            let there: HashMap<&PodRef, ()> = now.pods().map(|pod| (pod, ())).collect();
            gone.extend(base.pods().filter(|pod| !there.contains_key(pod)).map(ToString::to_string));
        }
        let outside = now.outside(base.as_ref());
        let families = outside.iter().map(|it| Family::of(it.sample)).collect::<Vec<_>>();
        for (outside, family) in outside.iter().zip(&families) {
            let is_only = families.iter().filter(|it| *it == family).count() == 1;
            kinds.push(vec![ends.len()]);
            ends.push(end_outside(outside, *family, is_only));
        }
        let by_id = ends.iter().enumerate().map(|(at, end)| (end.id.clone(), at)).collect();
        let ports = workspace.items.iter().filter_map(declared_ports).collect();
        let base_items = if base.is_some() { workspace.base.clone() } else { Vec::new() };
        Self { now, base, ends, pods, kinds, gone, base_items, by_id, ports }
    }

    /// An end by its id.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// What there is to say of a pair.
    pub fn cell(&self, from: usize, to: usize) -> Cell {
        let (a, b) = (&self.ends[from], &self.ends[to]);
        let ask = |cluster: &Cluster| cluster.reach_by_family(&a.party, &b.party, Route::Direct);
        let before = self.base.as_ref().filter(|_| a.is_in_base && b.is_in_base).map(ask);
        Cell { now: ask(&self.now), before, is_self: from == to }
    }

    /// Ports that the containers of an end say they listen on.
    pub fn listens_on(&self, end: usize) -> &[(Protocol, u16)] {
        self.ends[end].id.strip_prefix("pod:").and_then(|id| self.ports.get(id)).map_or(&[], Vec::as_slice)
    }

    /// `frontend/web`, or the addresses.
    pub fn title(&self, end: usize) -> String {
        let end = &self.ends[end];
        match end.party {
            Party::Pod(_) => format!("{}/{}", end.place, end.name),
            Party::Address(_) | Party::LocalNode => end.name.clone(),
        }
    }

    /// Whether an end is a pod.
    pub fn is_pod(&self, end: usize) -> bool {
        end < self.pods
    }
}

fn end_outside(outside: &Outside, family: Family, is_only: bool) -> End {
    let names: Vec<String> = outside.ranges.iter().map(|range| range_name(*range)).collect();
    let family_name = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let is_rest = outside.ranges.iter().any(|range| is_zero(range.first()));
    let name = match (names.as_slice(), is_only, is_rest) {
        (_, true, _) => format!("any {family_name}"),
        (_, false, true) => format!("other {family_name}"),
        ([one], false, false) => one.clone(),
        ([one, rest @ ..], false, false) => format!("{one} +{}", rest.len()),
        ([], false, false) => family_name.to_owned(),
    };
    let first = outside.ranges.first().map_or(outside.sample, |range| range.first());
    End {
        id: format!("out:{first}"),
        party: Party::Address(outside.sample),
        place: "outside".to_owned(),
        name,
        addresses: names.join(", "),
        is_in_base: true,
    }
}

fn is_zero(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_unspecified(),
        IpAddr::V6(address) => address.is_unspecified(),
    }
}

/// `198.51.100.0/24` where the range is one block; else its first and last address.
fn range_name(range: AddressRange) -> String {
    let (first, last) = (range.first(), range.last());
    let block = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => prefix(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => prefix(a.into(), b.into(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    };
    match block {
        Some(length) => format!("{first}/{length}"),
        None => format!("{first} – {last}"),
    }
}

fn prefix(first: u128, last: u128, bits: u32) -> Option<u32> {
    let differ = first ^ last;
    let free = u128::BITS - differ.leading_zeros();
    let is_block = free == 0 || (differ.count_ones() == free && first & differ == 0);
    is_block.then(|| bits - free)
}

/// A pod's or workload's name with the ports of its containers.
fn declared_ports(item: &Item) -> Option<(String, Vec<(Protocol, u16)>)> {
    let spec = match item.kind() {
        "Pod" => item.object.get("spec")?,
        "CronJob" => item.object.pointer("/spec/jobTemplate/spec/template/spec")?,
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            item.object.pointer("/spec/template/spec")?
        }
        _ => return None,
    };
    let containers = spec.get("containers").and_then(Value::as_array)?;
    let ports = containers.iter().filter_map(|it| it.get("ports").and_then(Value::as_array)).flatten();
    let ports = ports.filter_map(|port| {
        let protocol = match port.get("protocol").and_then(Value::as_str) {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(_) => return None,
        };
        Some((protocol, u16::try_from(port.get("containerPort")?.as_u64()?).ok()?))
    });
    Some((item.name().to_owned(), ports.collect()))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn ends_are_pods_and_what_policies_tell_apart_outside() {
        let workspace = sample::lesson(4);
        let scene = Scene::build(&workspace, None);
        let titles: Vec<String> = (0..scene.ends.len()).map(|end| scene.title(end)).collect();
        assert_eq!(titles, ["backend/dbsvc", "backend/extsvc", "frontend/web", "other IPv4", "198.51.100.0/24"]);
        assert_eq!(scene.ends[3].addresses, "0.0.0.0 – 198.51.99.255, 198.51.101.0 – 255.255.255.255");
        let web = scene.find("pod:frontend/web").expect("it is there");
        assert_eq!(scene.listens_on(web), [(Protocol::Tcp, 9000)]);
        assert!(scene.is_pod(web) && !scene.is_pod(3));
        assert!(scene.base.is_none(), "nothing differs");
    }

    #[test]
    fn the_baseline_is_read_once_and_compared_with() {
        let mut workspace = sample::lesson(4);
        let id = workspace.named("NetworkPolicy backend/dbsvc").expect("it is there").id;
        workspace.remove(id);
        let scene = Scene::build(&workspace, None);
        let (web, dbsvc) = (scene.find("pod:frontend/web"), scene.find("pod:backend/dbsvc"));
        let cell = scene.cell(web.expect("web"), dbsvc.expect("dbsvc"));
        assert!(cell.now[0].1.open.is_empty());
        assert!(cell.before.expect("it is compared")[0].1.open.contains(Protocol::Tcp, 9000));
        let again = Scene::build(&workspace, Some(&scene));
        assert_eq!(again.cell(2, 0), scene.cell(2, 0));
    }

    #[test]
    fn ranges_are_written_as_blocks_where_they_are_some() {
        for (first, last, length) in
            [(0, u32::MAX, Some(0)), (16, 31, Some(28)), (16, 30, None), (7, 7, Some(32)), (8, 23, None), (0, 5, None)]
        {
            assert_eq!(prefix(first, last.into(), 32), length, "{first}-{last}");
        }
    }
}
