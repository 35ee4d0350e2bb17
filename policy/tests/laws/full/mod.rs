//! Laws on clusters with every feature: matrix, reach, verdict and an evaluator written from the APIs' texts agree; and what
//! is changed step by step equals what is read anew. `SIGNALBOX_LAW_CLUSTERS` sets how many clusters are tried.

mod calico;
mod generate;
mod naive;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use generate::{Kinds, PORTS};
use naive::{End, Question};
use random::Random;
use serde_json::{Value, json};
use signalbox_policy::analyze::{External, Link, Loopback, Options, Place};
use signalbox_policy::matrix::Counts;
use signalbox_policy::{Cell, Cluster, Connection, Family, Matrix, ObjectRef, Party, PodRef, Protocol, Route};

/// What the cells are about: five of the fifteen pairs of protocol and port, others each time.
fn questions(random: &mut Random) -> Vec<(Protocol, u16)> {
    let mut all: Vec<(Protocol, u16)> =
        Protocol::ALL.into_iter().flat_map(|protocol| PORTS.map(|port| (protocol, port))).collect();
    (0..5).map(|_| all.remove(random.below(all.len()))).collect()
}

fn clusters(default: u64) -> u64 {
    std::env::var("SIGNALBOX_LAW_CLUSTERS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Law: on 20,000 clusters the four ways to judge agree on every pair of pods.
#[test]
fn matrix_reach_verdict_and_the_naive_evaluator_agree() {
    for seed in 0..clusters(20_000) {
        let mut random = Random::new(seed);
        let objects = generate::cluster(&mut random, if seed % 4 == 0 { Kinds::NetworkPolicy } else { Kinds::All });
        let ports = questions(&mut random);
        let cluster = Cluster::from_objects(&objects);
        let is_of_domains = |text: &String| text.contains("domainNames: depends on what the names resolve to");
        assert!(cluster.unknowns().iter().all(is_of_domains), "seed {seed}: {:?}", cluster.unknowns());
        all_agree(seed, &objects, &cluster, &ports);
    }
}

/// Law: a change gives the cluster, the matrix and the tables that reading all objects again gives.
#[test]
fn a_change_equals_reading_everything_again() {
    for seed in 0..clusters(20_000) / 10 {
        let mut random = Random::new(seed ^ 0xC4A6E);
        let mut objects: BTreeMap<ObjectRef, Value> = BTreeMap::new();
        for object in generate::cluster(&mut random, Kinds::All) {
            objects.insert(ObjectRef::of(&object).unwrap(), object);
        }
        let ports = questions(&mut random);
        let mut cluster = Cluster::from_objects(objects.values());
        let mut matrix = cluster.matrix(&ports);
        for step in 0..6 {
            let changes = random.list(1, 2, |random| change(random, &objects));
            let (mut changed, mut removed) = (Vec::new(), Vec::new());
            for (id, object) in changes {
                match &object {
                    Some(object) => {
                        objects.insert(id.clone(), object.clone());
                    }
                    None => drop(objects.remove(&id)),
                }
                // Of one object the last word counts.
                changed.retain(|other: &Value| ObjectRef::of(other).as_ref() != Some(&id));
                match object {
                    Some(object) => changed.push(object),
                    None => removed.push(id),
                }
            }
            cluster = cluster.with_change(&changed, &removed);
            matrix = matrix.after(&cluster);
            same(
                &format!("seed {seed}, step {step}: {}, without {removed:?}", shown(&changed)),
                &objects,
                &cluster,
                &matrix,
                &ports,
            );
        }
    }
}

/// Law: all connections of a cluster are what one question after another gives, understood or not.
#[test]
fn analyze_is_reach_of_each_pair() {
    for seed in 0..clusters(20_000) / 10 {
        let mut random = Random::new(seed ^ 0xA11);
        let mut objects = generate::cluster(&mut random, Kinds::All);
        objects.extend(random.list(0, 2, |random| broken(random, 7)));
        let cluster = Cluster::from_objects(&objects);
        let loopback = random.pick(&[Loopback::Omit, Loopback::Allow, Loopback::Policy]);
        let links = cluster.analyze(Options { loopback, external: External::Ranges });
        let mut expected = Vec::new();
        for from in places(&links, &cluster) {
            for to in places(&links, &cluster) {
                expected.extend(links_between(&cluster, &objects, &from, &to, loopback));
            }
        }
        let what = format!("seed {seed}\n{}", shown(&objects));
        let only_in = |a: &[Link], b: &[Link]| a.iter().filter(|it| !b.contains(it)).cloned().collect::<Vec<_>>();
        let (more, fewer) = (only_in(&links, &expected), only_in(&expected, &links));
        assert_eq!(links.len(), expected.len(), "too many: {more:?}, missing: {fewer:?}: {what}");
        for (found, wanted) in links.iter().zip(&expected) {
            assert_eq!(found, wanted, "{what}");
        }
    }
}

/// All pods, and the ranges of addresses that links name.
fn places(links: &[Link], cluster: &Cluster) -> Vec<Place> {
    let ranges = links.iter().flat_map(|link| [&link.from, &link.to]).filter(|place| matches!(place, Place::Range(_)));
    let all: BTreeSet<Place> = cluster.pods().cloned().map(Place::Pod).chain(ranges.cloned()).collect();
    all.into_iter().collect()
}

fn links_between(cluster: &Cluster, objects: &[Value], from: &Place, to: &Place, loopback: Loopback) -> Vec<Link> {
    let families_of = |place: &Place| -> BTreeSet<Family> {
        match place {
            Place::Range(range) => BTreeSet::from([Family::of(range.first())]),
            Place::Pod(pod) => {
                let object = objects.iter().rev().find(|it| it["kind"] == "Pod" && pod_ref(it) == *pod);
                let ips = object.and_then(|object| object["status"]["podIPs"].as_array());
                let ips = ips.into_iter().flatten().map(|ip| ip["ip"].as_str().unwrap().parse().unwrap());
                ips.map(Family::of).collect()
            }
        }
    };
    let party = |place: &Place| match place {
        Place::Pod(pod) => Party::Pod(pod.clone()),
        Place::Range(range) => Party::Address(free_address(objects, range.first(), range.last())),
    };
    let route = match loopback {
        _ if matches!((from, to), (Place::Range(_), Place::Range(_))) => return Vec::new(),
        Loopback::Omit if from == to => return Vec::new(),
        Loopback::Policy if matches!((from, to), (Place::Pod(_), Place::Pod(_))) => Route::Service,
        Loopback::Omit | Loopback::Allow | Loopback::Policy => Route::Direct,
    };
    let (ours, theirs) = (families_of(from), families_of(to));
    let mut families: Vec<Option<Family>> = ours.intersection(&theirs).copied().map(Some).collect();
    // Who has no known address has the other one's families; if neither has any, these are all that there are, since the nodes
    // of these clusters have both.
    if ours.is_empty() && theirs.is_empty() {
        families = vec![Some(Family::V4), Some(Family::V6)];
    } else if ours.is_empty() || theirs.is_empty() {
        families = ours.union(&theirs).copied().map(Some).collect();
    }
    let found: Vec<_> =
        families.iter().map(|family| (*family, cluster.reach(&party(from), &party(to), route, *family))).collect();
    let is_same = found.windows(2).all(|pair| pair[0].1 == pair[1].1);
    let kept = if is_same { 1 } else { found.len() };
    found
        .into_iter()
        .take(kept)
        .filter(|(_, reach)| !reach.open.is_empty() || !reach.unknown.is_empty())
        .map(|(family, reach)| Link { from: from.clone(), to: to.clone(), family: family.filter(|_| !is_same), reach })
        .collect()
}

/// The first address of a range that no pod and no node has, or its first one.
fn free_address(objects: &[Value], first: IpAddr, last: IpAddr) -> IpAddr {
    let text = objects.iter().map(ToString::to_string).collect::<String>();
    let candidates = (0_u8..20).map(|more| match first {
        IpAddr::V4(first) => IpAddr::from(Ipv4Addr::from(u32::from(first).saturating_add(more.into()))),
        IpAddr::V6(first) => IpAddr::from(Ipv6Addr::from(u128::from(first).saturating_add(more.into()))),
    });
    let mut free = candidates.filter(|it| *it <= last && !text.contains(&format!("\"{it}\"")));
    free.next().unwrap_or(first)
}

/// One object that comes, changes or goes.
fn change(random: &mut Random, objects: &BTreeMap<ObjectRef, Value>) -> (ObjectRef, Option<Value>) {
    let number = random.below(7);
    let object = match random.below(12) {
        0..=3 => generate::pod(random, number),
        4..=7 => generate::policy(random, number, Kinds::All),
        8 => {
            let name = random.pick(&generate::NAMESPACES);
            generate::namespace(random, name)
        }
        9 => generate::node(random, "n2", 1),
        10 => broken(random, number),
        _ => {
            let ids: Vec<&ObjectRef> = objects.keys().collect();
            return (random.pick(&ids).clone(), None);
        }
    };
    (ObjectRef::of(&object).unwrap(), Some(object))
}

/// Something that is not understood, or that stands for others.
fn broken(random: &mut Random, number: usize) -> Value {
    let namespace = random.pick(&generate::NAMESPACES);
    match random.below(5) {
        4 => {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": format!("p{number}")}})
        }
        0 => json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": namespace, "name": format!("np{number}")},
            "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]}}),
        1 => json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": format!("p{number}"), "labels": {"a": 1}},
            "status": {"podIPs": [{"ip": format!("10.0.0.{}", number + 1)}]}}),
        2 => json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": "w"},
            "spec": {"selector": {"matchLabels": {"a": "1"}}, "template": {"metadata": {"labels": {"a": "1"}},
                "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 80}]}]}}}}),
        _ => json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkSet",
            "metadata": {"namespace": namespace, "name": "set", "labels": {"a": "1"}}, "spec": {"nets": ["192.0.2.0/24"]}}),
    }
}

/// That a changed cluster and its matrix are what reading gives.
fn same(
    what: &str,
    objects: &BTreeMap<ObjectRef, Value>,
    cluster: &Cluster,
    matrix: &Matrix,
    ports: &[(Protocol, u16)],
) {
    let anew = Cluster::from_objects(objects.values());
    let sorted = |cluster: &Cluster| {
        let mut unknowns = cluster.unknowns().to_vec();
        unknowns.sort();
        unknowns
    };
    assert_eq!(sorted(cluster), sorted(&anew), "{what}");
    let pods: Vec<PodRef> = anew.pods().cloned().collect();
    assert_eq!(cluster.pods().cloned().collect::<Vec<_>>(), pods, "{what}");
    assert_eq!(matrix.pods().cloned().collect::<Vec<_>>(), pods, "{what}");
    let expected = anew.matrix(ports);
    for (port, (protocol, number)) in ports.iter().copied().enumerate() {
        for from in 0..pods.len() {
            for to in 0..pods.len() {
                let (found, wanted) = (matrix.cell(from, to, port), expected.cell(from, to, port));
                assert_eq!(
                    found,
                    wanted,
                    "{} -> {} at {:?}: {what}\n{}",
                    pods[from],
                    pods[to],
                    ports[port],
                    shown(objects.values())
                );
                let (source, destination) = (Party::Pod(pods[from].clone()), Party::Pod(pods[to].clone()));
                let verdict = cluster.verdict(&source, &destination, protocol, number);
                assert_eq!(cell(verdict.allowed()), wanted, "{} -> {}: {what}: {verdict:?}", pods[from], pods[to]);
            }
        }
        assert_eq!(matrix.counts(port), expected.counts(port), "{what}");
    }
    assert_eq!(cluster.compile("n1"), anew.compile("n1"), "{what}");
}

fn all_agree(seed: u64, objects: &[Value], cluster: &Cluster, ports: &[(Protocol, u16)]) {
    let is_running = |pod: &&Value| {
        pod["kind"] == "Pod" && pod["status"]["phase"] != "Succeeded" && pod["status"]["phase"] != "Failed"
    };
    let pods: Vec<&Value> = objects.iter().filter(is_running).collect();
    let matrix = cluster.matrix(ports);
    assert_eq!(matrix.pods().len(), pods.len());
    let mut counts = vec![Counts::default(); ports.len()];
    let mut ends: Vec<(Party, End<'_>)> = pods.iter().map(|pod| (Party::Pod(pod_ref(pod)), End::Pod(pod))).collect();
    for address in ["192.0.2.1", "2001:db8::1"] {
        let address = address.parse().unwrap();
        ends.push((Party::Address(address), End::Address(address)));
    }
    for (from, source) in &ends {
        for (to, destination) in &ends {
            let (Party::Pod(a), Party::Pod(b)) = (from, to) else {
                from_outside(seed, objects, cluster, ports, (from, source), (to, destination));
                continue;
            };
            let reach = cluster.reach(from, to, Route::Direct, None);
            for (index, (protocol, port)) in ports.iter().copied().enumerate() {
                let what = || format!("seed {seed}: {a} -> {b} at {protocol} {port}\n{}", shown(objects));
                let found = matrix.get(a, b, protocol, port).unwrap();
                let verdict = cluster.verdict(from, to, protocol, port);
                assert_eq!(found, cell(verdict.allowed()), "matrix and verdict: {}\n{verdict:#?}", what());
                let reached = match (reach.open.contains(protocol, port), reach.unknown.contains(protocol, port)) {
                    (true, _) => Cell::Open,
                    (false, true) => Cell::Unknown,
                    (false, false) => Cell::Shut,
                };
                assert_eq!(found, reached, "matrix and reach: {}", what());
                if let Some((from_ip, to_ip)) = naive::addresses(source, destination) {
                    let question = Question { objects, from: source, to: destination, protocol: word(protocol), port };
                    assert_eq!(
                        found,
                        cell(question.is_open(from_ip, to_ip)),
                        "matrix and naive: {}\n{verdict:#?}",
                        what()
                    );
                }
                match found {
                    Cell::Open => counts[index].open += 1,
                    Cell::Shut => counts[index].shut += 1,
                    Cell::Unknown => counts[index].unknown += 1,
                }
            }
        }
    }
    for (index, expected) in counts.iter().enumerate() {
        assert_eq!(matrix.counts(index), *expected, "seed {seed}");
    }
}

/// Verdict, reach and the naive evaluator where an end is no pod.
fn from_outside(
    seed: u64,
    objects: &[Value],
    cluster: &Cluster,
    ports: &[(Protocol, u16)],
    (from, source): (&Party, &End<'_>),
    (to, destination): (&Party, &End<'_>),
) {
    let Some((from_ip, to_ip)) = naive::addresses(source, destination) else { return };
    let address = [from, to].into_iter().find_map(|party| match party {
        Party::Address(address) => Some(*address),
        Party::Pod(_) | Party::LocalNode => None,
    });
    let family = address.map(Family::of);
    let reach = cluster.reach(from, to, Route::Direct, family);
    for (protocol, port) in ports.iter().copied() {
        let connection = Connection { from, to, protocol, port, route: Route::Direct, family };
        let question = Question { objects, from: source, to: destination, protocol: word(protocol), port };
        let expected = question.is_open(from_ip, to_ip);
        let what = || format!("seed {seed}: {connection:?}\n{}", shown(objects));
        assert_eq!(cluster.judge(&connection).allowed(), expected, "verdict and naive: {}", what());
        let reached = match (reach.open.contains(protocol, port), reach.unknown.contains(protocol, port)) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        };
        assert_eq!(reached, expected, "reach and naive: {}", what());
    }
}

/// One line for each.
fn shown<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    objects.into_iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn cell(allowed: Option<bool>) -> Cell {
    match allowed {
        Some(true) => Cell::Open,
        Some(false) => Cell::Shut,
        None => Cell::Unknown,
    }
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

fn pod_ref(pod: &Value) -> PodRef {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap().to_owned();
    PodRef { namespace: text("namespace"), name: text("name") }
}
