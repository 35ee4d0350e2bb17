//! Suggestions: what comes out reads well and allows exactly what was asked for.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod common;
#[path = "laws/generate.rs"]
#[allow(dead_code, reason = "the laws use all of it")]
mod generate;

use std::net::IpAddr;

use common::{namespace, pod, policy, sound};
use generate::{Description, EXTERNAL, description};
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use signalbox_policy::analyze::AddressRange;
use signalbox_policy::suggest::{Dns, Need, Options, Scope, Spread, SuggestError, Suggestion, Who};
use signalbox_policy::traffic::{PortSet, Traffic};
use signalbox_policy::{Cluster, Connection, Family, Party, PodRef, Protocol, Route, parse_documents};

/// `ns/pod`, `ns/workload*`, or a CIDR.
fn who(text: &str) -> Who {
    if let Ok(net) = text.parse::<IpNet>() {
        return Who::Range(AddressRange::new(net.network(), net.broadcast()).unwrap());
    }
    let (namespace, name) = text.split_once('/').unwrap();
    match name.strip_suffix('*') {
        Some(name) => Who::Workload { namespace: namespace.to_owned(), name: name.to_owned() },
        None => Who::Pod(PodRef { namespace: namespace.to_owned(), name: name.to_owned() }),
    }
}

/// `web -> db: TCP 80,443`.
fn need(text: &str) -> Need {
    let (ends, at) = text.split_once(": ").unwrap();
    let (from, to) = ends.split_once(" -> ").unwrap();
    let (protocol, numbers) = at.split_once(' ').unwrap();
    let (protocol, _) = common::port(&format!("{protocol} 1"));
    let numbers: PortSet = numbers.split(',').map(|it| it.parse().unwrap()).map(|it: u16| (it, it)).collect();
    Need { from: who(from), to: who(to), traffic: Traffic::of(protocol, numbers), family: None }
}

fn suggest(text: &str, needs: &[&str], options: &Options) -> Result<Suggestion, SuggestError> {
    let needs: Vec<Need> = needs.iter().map(|text| need(text)).collect();
    sound(text).suggest(&needs, options)
}

fn lesson() -> String {
    namespace("frontend", "tier=front")
        + &namespace("backend", "tier=back")
        + &pod("frontend/web", "run=web", "10.244.0.2", "")
        + &pod("backend/dbsvc", "run=dbsvc", "10.244.0.3", "")
        + &pod("backend/extsvc", "run=extsvc", "10.244.0.4", "")
}

#[test]
fn lesson_one_comes_out_as_a_person_wrote_it() {
    let needs = [
        "198.51.100.0/24 -> frontend/web: TCP 9000",
        "frontend/web -> backend/dbsvc: TCP 9000",
        "frontend/web -> backend/extsvc: TCP 9000",
        "backend/dbsvc -> 198.51.100.0/24: TCP 3306",
        "backend/extsvc -> 0.0.0.0/0: TCP 80,443",
    ];
    let options = Options { dns: Dns::Allow, ..Options::default() };
    let suggestion = suggest(&lesson(), &needs, &options).expect("it can be said");
    assert_eq!(suggestion.caveats, &[] as &[String]);
    let expected = "\
# Whatever no other policy allows: nothing into backend, and nothing out but DNS.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: default-deny
  namespace: backend
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  egress:
    - ports:
        - {port: 53, protocol: TCP}
        - {port: 53, protocol: UDP}
---
# dbsvc takes TCP 9000 from web.
# dbsvc may use TCP 3306 to 198.51.100.0/24.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: dbsvc-allow-from-web-to-198-51-100-0-24
  namespace: backend
spec:
  podSelector:
    matchLabels: {run: dbsvc}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - namespaceSelector:
            matchLabels: {kubernetes.io/metadata.name: frontend}
          podSelector:
            matchLabels: {run: web}
      ports:
        - {port: 9000, protocol: TCP}
  egress:
    - to:
        - ipBlock: {cidr: 198.51.100.0/24}
      ports:
        - {port: 3306, protocol: TCP}
---
# extsvc takes TCP 9000 from web.
# extsvc may use TCP 80,443 to anywhere.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: extsvc-allow-from-web-to-anywhere
  namespace: backend
spec:
  podSelector:
    matchLabels: {run: extsvc}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - namespaceSelector:
            matchLabels: {kubernetes.io/metadata.name: frontend}
          podSelector:
            matchLabels: {run: web}
      ports:
        - {port: 9000, protocol: TCP}
  egress:
    - to:
        - ipBlock: {cidr: 0.0.0.0/0}
      ports:
        - {port: 80, protocol: TCP}
        - {port: 443, protocol: TCP}
---
# Whatever no other policy allows: nothing into frontend, and nothing out but DNS.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: default-deny
  namespace: frontend
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  egress:
    - ports:
        - {port: 53, protocol: TCP}
        - {port: 53, protocol: UDP}
---
# web takes TCP 9000 from 198.51.100.0/24.
# web may use TCP 9000 to backend.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web-allow-from-198-51-100-0-24-to-backend
  namespace: frontend
spec:
  podSelector:
    matchLabels: {run: web}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - ipBlock: {cidr: 198.51.100.0/24}
      ports:
        - {port: 9000, protocol: TCP}
  egress:
    - to:
        - namespaceSelector:
            matchLabels: {kubernetes.io/metadata.name: backend}
      ports:
        - {port: 9000, protocol: TCP}
";
    assert_eq!(suggestion.yaml(), expected);
    let after = sound(&(lesson() + "---\n" + &suggestion.yaml()));
    let cases = [
        ("198.51.100.100", "frontend/web", "TCP 9000", true),
        ("198.51.100.100", "backend/dbsvc", "TCP 9000", false),
        ("frontend/web", "backend/dbsvc", "TCP 9000", true),
        ("frontend/web", "198.51.100.20", "TCP 3306", false),
        ("backend/dbsvc", "198.51.100.20", "TCP 3306", true),
        ("backend/extsvc", "203.0.113.10", "TCP 443", true),
        ("backend/extsvc", "backend/dbsvc", "TCP 443", false),
        ("backend/dbsvc", "203.0.113.53", "UDP 53", true),
    ];
    common::check(&after, &cases);
}

/// Some pods `namespace/name labels`, what is needed, and the rules that come out, `policy: comment`.
#[test]
fn groups_are_told_by_what_they_share() {
    type Pods = &'static [(&'static str, &'static str)];
    let cases: [(&str, Pods, &[&str], &[&str]); 6] = [
        (
            "a workload is one peer",
            &[
                ("x/web-7d4-aaaaa", "app=web,pod-template-hash=7d4"),
                ("x/web-7d4-bbbbb", "app=web,pod-template-hash=7d4"),
                ("x/db", "app=db"),
            ],
            &["x/web* -> x/db: TCP 5432"],
            &["db-allow-from-web: db takes TCP 5432 from web.", "web-allow-to-db: web may use TCP 5432 to db."],
        ),
        (
            "a label that just these share",
            &[("x/a", "app=a,tier=back"), ("x/b", "app=b,tier=back"), ("x/c", "app=c,tier=front"), ("x/d", "app=d")],
            &["x/c -> x/a: TCP 80", "x/c -> x/b: TCP 80"],
            &["c-allow-to-back: c may use TCP 80 to back.", "back-allow-from-c: back takes TCP 80 from c."],
        ),
        (
            "a whole namespace",
            &[("x/a", "app=a"), ("x/b", "app=b"), ("y/c", "app=c"), ("z/d", "app=d")],
            &["x/a -> y/c: TCP 80", "x/b -> y/c: TCP 80"],
            &["x-allow-to-c: x may use TCP 80 to c.", "c-allow-from-x: c takes TCP 80 from x."],
        ),
        (
            "everybody",
            &[("x/a", "app=a"), ("x/b", "app=b"), ("y/c-0", "app=c"), ("y/c-1", "app=c")],
            &["x/a -> y/c*: TCP 80", "x/b -> y/c*: TCP 80", "y/c* -> y/c*: TCP 80"],
            &[
                "x-allow-to-c: x may use TCP 80 to c.",
                "c-allow-from-all-to-c: c takes TCP 80 from all.\nc may use TCP 80 to c.",
            ],
        ),
        (
            "a label that others have, too, is not enough",
            &[("x/a", "app=a,tier=back"), ("x/b", "app=b,tier=back"), ("x/c", "app=c,tier=back"), ("y/d", "app=d")],
            &["y/d -> x/a: TCP 80", "y/d -> x/b: TCP 80"],
            &[
                "a-allow-from-d: a takes TCP 80 from d.",
                "b-allow-from-d: b takes TCP 80 from d.",
                "d-allow-to-a-and-b: d may use TCP 80 to a and b.",
            ],
        ),
        (
            "one replica, by the label that is its own",
            &[
                ("x/db-0", "app=db,statefulset.kubernetes.io/pod-name=db-0"),
                ("x/db-1", "app=db,statefulset.kubernetes.io/pod-name=db-1"),
                ("x/web", "app=web"),
            ],
            &["x/web -> x/db-0: TCP 5432"],
            &["db-allow-from-web: db takes TCP 5432 from web.", "web-allow-to-db: web may use TCP 5432 to db."],
        ),
    ];
    for (why, pods, needs, expected) in cases {
        let namespaces: std::collections::BTreeSet<&str> =
            pods.iter().map(|(name, _)| name.split_once('/').unwrap().0).collect();
        let mut text: String = namespaces.into_iter().map(|name| namespace(name, "")).collect();
        for (index, (name, labels)) in pods.iter().enumerate() {
            text += &pod(name, labels, &format!("10.0.0.{}", index + 1), "");
        }
        let suggestion = suggest(&text, needs, &Options::default()).expect(why);
        let own = suggestion.policies.iter().filter(|it| it.object.name != "default-deny");
        let found: Vec<String> = own.map(|it| format!("{}: {}", it.object.name, it.comment)).collect();
        assert_eq!(found, expected, "{why}\n{}", suggestion.yaml());
    }
}

#[test]
fn what_cannot_be_said_is_an_error() {
    let alike = namespace("x", "")
        + &pod("x/a", "app=a", "10.0.0.1", "")
        + &pod("x/b", "app=a", "10.0.0.2", "")
        + &pod("x/c", "app=c", "10.0.0.3", "");
    let said = |text: &str, needs: &[&str]| suggest(text, needs, &Options::default()).unwrap_err().to_string();
    assert_eq!(
        said(&alike, &["x/a -> x/c: TCP 80"]),
        "Pods x/a and x/b have the same labels, and only one of them needs TCP 80 to x/c; give one of them a label of its own, or ask for both"
    );
    assert_eq!(
        said(&alike, &["x/d -> x/c: TCP 80"]),
        "Pod x/d: is not among the objects; name one that is, or its workload"
    );
    assert_eq!(
        said(&alike, &["10.1.0.0/16 -> 10.2.0.0/16: TCP 80"]),
        "from 10.1.0.0-10.1.255.255 to 10.2.0.0-10.2.255.255: no end is a pod that a policy can select; leave it out"
    );
    // Each of them needs as much as the other, and not the same.
    let pairs = alike.clone() + &pod("x/d", "app=c", "10.0.0.4", "");
    assert_eq!(
        said(&pairs, &["x/a -> x/c: TCP 80", "x/b -> x/d: TCP 80"]),
        "Pods x/a and x/b have the same labels, and only one of them needs TCP 80 to x/c; give one of them a label of its own, or ask for both"
    );
    let spread = Options { spread: Spread::Replicas, ..Options::default() };
    let found = suggest(&alike, &["x/a -> x/c: TCP 80"], &spread).expect("both may");
    let after = sound(&(alike + "---\n" + &found.yaml()));
    common::check(&after, &[("x/b", "x/c", "TCP 80", true), ("x/c", "x/b", "TCP 80", false)]);
}

#[test]
fn scope_leaves_other_namespaces_alone() {
    let text = lesson() + &policy("backend/old", "{podSelector: {}}") + &policy("frontend/old", "{podSelector: {}}");
    let scope = Scope::Namespaces(["backend".to_owned()].into());
    let options = Options { scope, ..Options::default() };
    let suggestion = suggest(&text, &["frontend/web -> backend/dbsvc: TCP 9000"], &options).expect("it can be said");
    assert!(suggestion.policies.iter().all(|it| it.object.namespace.as_deref() == Some("backend")));
    let names: Vec<String> = suggestion.deletes.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["NetworkPolicy backend/old"]);
}

#[test]
fn policies_of_other_tiers_stay() {
    let deny = "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: cnp}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 9000}}}]}]}\n";
    let text = lesson() + deny;
    let error = suggest(&text, &["frontend/web -> backend/dbsvc: TCP 80,9000"], &Options::default()).unwrap_err();
    let expected =
        "from frontend/web to backend/dbsvc: policies that stay shut TCP 9000; change those, or leave it out";
    assert_eq!(error.to_string(), expected);
    assert!(suggest(&text, &["frontend/web -> backend/dbsvc: TCP 80"], &Options::default()).is_ok());
}

#[test]
fn pods_in_the_network_of_their_node_are_its_address() {
    let host = r#"---
{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "backend", "name": "agent"},
 "spec": {"hostNetwork": true, "nodeName": "n2"}, "status": {"podIPs": [{"ip": "172.16.0.2"}]}}
"#;
    let text = lesson() + host;
    let needs = ["backend/agent -> frontend/web: TCP 9000", "backend/dbsvc -> backend/agent: TCP 9100"];
    let suggestion = suggest(&text, &needs, &Options::default()).expect("it can be said");
    assert!(suggestion.yaml().contains("- ipBlock: {cidr: 172.16.0.2/32}"), "{}", suggestion.yaml());
    let after = sound(&(text + "---\n" + &suggestion.yaml()));
    let cases = [
        ("backend/agent", "frontend/web", "TCP 9000", true),
        ("backend/agent", "backend/dbsvc", "TCP 9000", false),
        ("backend/dbsvc", "172.16.0.2", "TCP 9100", true),
        ("frontend/web", "172.16.0.2", "TCP 9100", false),
    ];
    common::check(&after, &cases);
}

#[test]
fn dns_is_allowed_where_it_listens() {
    let text = lesson()
        + &namespace("kube-system", "")
        + &pod("kube-system/coredns", "k8s-app=kube-dns", "10.244.0.9", "dns=UDP 5353,dns-tcp=TCP 5353")
        + &pod("kube-system/other", "app=other", "10.244.0.10", "");
    let options = Options { dns: Dns::Allow, ..Options::default() };
    let suggestion = suggest(&text, &["frontend/web -> backend/dbsvc: TCP 9000"], &options).expect("it can be said");
    let after = sound(&(text + "---\n" + &suggestion.yaml()));
    let cases = [
        ("frontend/web", "kube-system/coredns", "UDP 5353", true),
        ("kube-system/other", "kube-system/coredns", "TCP 5353", true),
        ("frontend/web", "kube-system/coredns", "UDP 53", true),
        ("frontend/web", "kube-system/coredns", "TCP 80", false),
        ("frontend/web", "kube-system/other", "UDP 53", false),
        ("203.0.113.1", "kube-system/coredns", "UDP 53", false),
    ];
    common::check(&after, &cases);
}

#[test]
fn pods_without_addresses_leave_a_caveat() {
    let text = namespace("x", "") + &pod("x/a", "app=a", "", "") + &pod("x/b", "app=b", "", "");
    let needs = ["x/a -> 10.0.0.0/8: TCP 80", "10.0.0.0/8 -> x/b: TCP 80"];
    let suggestion = suggest(&text, &needs, &Options::default()).expect("as far as it can be said");
    let why = "an address that a block may hold is not known";
    assert_eq!(suggestion.caveats, [format!("x/a to x/b: TCP 80 may be open: {why}")]);
}

const NETS: [&str; 6] =
    ["0.0.0.0/0", "10.0.0.0/29", "192.0.2.0/24", "192.0.2.128/25", "203.0.113.9/32", "2001:db8::/32"];

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(128);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let ports = prop_oneof![
        4 => select(vec![53_u16, 80, 81, 443]).prop_map(|port| PortSet::range(port, port)),
        1 => Just(PortSet::range(8000, 8999)),
        1 => Just(PortSet::all()),
    ];
    prop_oneof![
        9 => (select(Protocol::ALL.to_vec()), ports).prop_map(|(protocol, ports)| Traffic::of(protocol, ports)),
        1 => Just(Traffic::all()),
    ]
}

proptest! {
    #![proptest_config(cases())]

    /// Law: what is suggested, read back as text, allows exactly what was asked for; or labels cannot tell two pods apart.
    #[test]
    fn a_suggestion_allows_exactly_what_was_asked(
        description in description(false),
        wanted in prop::collection::vec((any::<Index>(), any::<Index>(), traffic()), 0..12),
        spread in select(vec![Spread::Exactly, Spread::Replicas]),
        dns in select(vec![Dns::Omit, Dns::Allow]),
        is_told_apart in any::<bool>(),
        is_inside in any::<bool>(),
    ) {
        let mut description = description;
        for pod in description.pods.iter_mut().filter(|_| is_told_apart) {
            pod["metadata"]["labels"]["app"] = pod["metadata"]["name"].clone();
        }
        let running = description.running_pods();
        let mut all: Vec<Who> = running.iter().map(|(pod, _)| Who::Pod(pod.clone())).collect();
        let inside = all.len();
        all.extend(NETS.map(who));
        let needs: Vec<Need> = wanted
            .iter()
            .filter(|_| inside > 0)
            .map(|(from, to, traffic)| {
                let count = if is_inside { inside } else { all.len() };
                let (from, to) = (from.index(count), to.index(count));
                // One end at least is a pod.
                let to = if from >= inside { to % inside } else { to };
                // Equal needs, so that peers are put together.
                let same = Traffic::of(Protocol::Tcp, PortSet::range(80, 80));
                let traffic = if is_inside { same } else { traffic.clone() };
                Need { from: all[from].clone(), to: all[to].clone(), traffic, family: None }
            })
            .collect();
        let options = Options { spread, dns, ..Options::default() };
        match Cluster::from_objects(&description.objects()).suggest(&needs, &options) {
            Ok(suggestion) => allows_exactly(&description, &needs, &options, &suggestion)?,
            Err(SuggestError::Alike { one, other, .. }) => {
                prop_assert!(!is_told_apart && one != other && one.namespace == other.namespace && spread == Spread::Exactly);
                prop_assert_eq!(labels(&description, &one), labels(&description, &other));
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

fn labels<'d>(description: &'d Description, pod: &PodRef) -> &'d serde_json::Value {
    let found = description.pods.iter().find(|it| it["metadata"]["name"] == *pod.name);
    &found.unwrap()["metadata"]["labels"]
}

fn allows_exactly(
    description: &Description,
    needs: &[Need],
    options: &Options,
    suggestion: &Suggestion,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(&suggestion.caveats, &Vec::<String>::new());
    let text = suggestion.yaml();
    let mut objects: Vec<serde_json::Value> = description.namespaces.iter().chain(&description.pods).cloned().collect();
    objects.extend(parse_documents(&text, "suggestion").into_iter().map(|it| it.unwrap()));
    let after = Cluster::from_objects(&objects);
    prop_assert_eq!(after.unknowns(), &[] as &[String], "{}", text);
    let running = description.running_pods();
    let is = |who: &Who, party: &Party| match (who, party) {
        (Who::Pod(one), Party::Pod(other)) => {
            let alike = || one.namespace == other.namespace && labels(description, one) == labels(description, other);
            one == other || (options.spread == Spread::Replicas && alike())
        }
        (Who::Range(range), Party::Address(address)) => {
            Family::of(range.first()) == Family::of(*address) && range.first() <= *address && *address <= range.last()
        }
        (_, _) => false,
    };
    let mut parties: Vec<(Party, Vec<IpAddr>)> =
        running.iter().map(|(pod, addresses)| (Party::Pod(pod.clone()), addresses.clone())).collect();
    let inside = parties.len();
    parties.extend(EXTERNAL.iter().map(|text| text.parse().unwrap()).map(|it: IpAddr| (Party::Address(it), vec![it])));
    for (from_at, (from, from_addresses)) in parties.iter().enumerate() {
        for (to_at, (to, to_addresses)) in parties.iter().enumerate() {
            if from == to || (from_at >= inside && to_at >= inside) {
                continue;
            }
            let fitting = needs.iter().filter(|need| is(&need.from, from) && is(&need.to, to));
            let mut expected = fitting.fold(Traffic::default(), |all, need| all.union(&need.traffic));
            if options.dns == Dns::Allow && to_at >= inside {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    expected = expected.union(&Traffic::of(protocol, PortSet::range(53, 53)));
                }
            }
            for family in [Family::V4, Family::V6] {
                let has = |addresses: &[IpAddr]| addresses.iter().any(|it| Family::of(*it) == family);
                if has(from_addresses) && has(to_addresses) {
                    sides_are_exact(&after, (from, to), family, needs, options, &expected)?;
                    let found = after.reach(from, to, Route::Direct, Some(family));
                    prop_assert_eq!(&found.open, &expected, "{:?} -> {:?}\n{:#?}\n{}", from, to, needs, text);
                }
            }
        }
    }
    Ok(())
}

/// Each side by itself allows no more than what was asked for, so that nothing waits for the other side to open. Blocks are
/// another matter: they hold pods' addresses, which are left out on one side only.
fn sides_are_exact(
    after: &Cluster,
    (from, to): (&Party, &Party),
    family: Family,
    needs: &[Need],
    options: &Options,
    expected: &Traffic,
) -> Result<(), TestCaseError> {
    let is_range = |who: &Who| matches!(who, Who::Range(_));
    if options.dns == Dns::Allow || needs.iter().any(|need| is_range(&need.from) || is_range(&need.to)) {
        return Ok(());
    }
    for protocol in Protocol::ALL {
        for port in [53, 80, 81, 443, 8000, 9000] {
            let connection = Connection { from, to, protocol, port, route: Route::Direct, family: Some(family) };
            let verdict = after.judge(&connection);
            for side in [&verdict.egress, &verdict.ingress].into_iter().flatten() {
                prop_assert_eq!(side.is_allowed(), expected.contains(protocol, port), "{:?}: {:#?}", connection, side);
            }
        }
    }
    Ok(())
}
