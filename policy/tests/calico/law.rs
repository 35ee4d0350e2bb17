//! Random clusters with Calico's policies and NetworkPolicies: the engine says what the second evaluator says.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use signalbox_policy::{Cluster, Connection, Family, Party, PodRef, Protocol, Route};

use crate::naive::{End, Entity, Kind, Labels, NsSel, Pod, Policy, Port, Rule, Sel, Set, World};

const OUTSIDE: [[u8; 4]; 2] = [[192, 0, 2, 1], [10, 0, 9, 9]];
const PORTS: [u16; 4] = [53, 80, 85, 8080];

fn text(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(values).prop_map(str::to_owned)
}

fn key() -> impl Strategy<Value = String> {
    text(&["app", "tier", "gone", "projectcalico.org/namespace", "projectcalico.org/serviceaccount"])
}

fn value() -> impl Strategy<Value = String> {
    text(&["web", "db", "webapp", "", "x", "y", "batch"])
}

fn selector() -> impl Strategy<Value = Sel> {
    let leaf = prop_oneof![
        Just(Sel::All),
        (key(), value()).prop_map(|(key, value)| Sel::Eq(key, value)),
        (key(), value()).prop_map(|(key, value)| Sel::Ne(key, value)),
        (key(), vec(value(), 0..3)).prop_map(|(key, values)| Sel::In(key, values)),
        (key(), vec(value(), 0..3)).prop_map(|(key, values)| Sel::NotIn(key, values)),
        key().prop_map(Sel::Has),
        (key(), value()).prop_map(|(key, value)| Sel::Contains(key, value)),
        (key(), value()).prop_map(|(key, value)| Sel::Starts(key, value)),
        (key(), value()).prop_map(|(key, value)| Sel::Ends(key, value)),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|it| Sel::Not(Box::new(it))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Sel::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Sel::Or(Box::new(a), Box::new(b))),
        ]
    })
}

fn of_namespaces() -> impl Strategy<Value = Sel> {
    prop_oneof![
        Just(Sel::All),
        text(&["x", "y"]).prop_map(|value| Sel::Eq("team".to_owned(), value)),
        text(&["x", "y"]).prop_map(|value| Sel::Ne("projectcalico.org/name".to_owned(), value)),
        Just(Sel::Has("team".to_owned())),
    ]
}

fn net() -> impl Strategy<Value = ([u8; 4], u32)> {
    select(&[([10, 0, 0, 0], 8), ([10, 0, 1, 0], 24), ([10, 0, 0, 1], 32), ([192, 0, 2, 0], 24), ([0, 0, 0, 0], 0)][..])
}

fn entity() -> impl Strategy<Value = Entity> {
    let namespaces = prop_oneof![4 => of_namespaces().prop_map(NsSel::Of), 1 => Just(NsSel::Global)];
    let accounts = subsequence(vec!["default".to_owned(), "batch".to_owned()], 0..=1);
    let parts =
        (of(selector()), of(selector()), of(namespaces), accounts, vec(net(), 0..2), vec(net(), 0..2), any::<u8>());
    parts.prop_map(|(selector, not_selector, namespaces, accounts, nets, not_nets, keep)| {
        // Most rules say little.
        let keeps = |bit: u8| keep & (1 << bit) != 0;
        Entity {
            selector: selector.filter(|_| keeps(0)),
            not_selector: not_selector.filter(|_| keeps(1) && keeps(6)),
            namespaces: namespaces.filter(|_| keeps(2)),
            accounts: if keeps(3) && keeps(7) { accounts } else { Vec::new() },
            nets: if keeps(4) { nets } else { Vec::new() },
            not_nets: if keeps(5) { not_nets } else { Vec::new() },
        }
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let protocol = || of(select(&["TCP", "UDP", "SCTP", "ICMP"][..]));
    let port = prop_oneof![
        select(&[(80, 80), (53, 53), (80, 90), (1, 65535), (8000, 9000)][..])
            .prop_map(|(first, last)| Port::Range(first, last)),
        text(&["http", "dns"]).prop_map(Port::Named),
    ];
    let not_port = select(&[(80, 80), (1, 79), (8080, 65535)][..]);
    let action = select(&["Allow", "Allow", "Deny", "Deny", "Pass", "Log"][..]);
    (action, protocol(), protocol(), entity(), vec(port, 0..3), vec(not_port, 0..2)).prop_map(
        |(action, protocol, not_protocol, remote, mut ports, mut not_ports)| {
            // What Calico refuses, and what the engine leaves in doubt.
            match protocol {
                Some("ICMP") => (ports, not_ports) = (Vec::new(), Vec::new()),
                None => {
                    ports.retain(|port| matches!(port, Port::Named(_)));
                    not_ports.clear();
                }
                Some(_) => {}
            }
            if !not_ports.is_empty() {
                ports.retain(|port| matches!(port, Port::Range(..)));
            }
            Rule { action, protocol, not_protocol, remote, ports, not_ports }
        },
    )
}

fn policy(index: usize) -> impl Strategy<Value = Policy> {
    let kind = select(&[Kind::Global, Kind::Global, Kind::Namespaced, Kind::Kubernetes][..]);
    let types = subsequence(vec!["Ingress", "Egress"], 0..=2);
    let order = of(select(&[-1, 10, 1000, 1000, 2000][..]));
    let head = (kind, text(&["x", "y"]), text(&["a", "m", "z"]), order, of(selector()), of(of_namespaces()));
    (head, types, vec(rule(), 0..4), vec(rule(), 0..3)).prop_map(
        move |((kind, namespace, name, order, selector, namespaces), types, ingress, egress)| {
            let name = format!("{name}{index}");
            let mut policy = Policy { kind, namespace, name, order, selector, namespaces, types, ingress, egress };
            match kind {
                Kind::Global => policy.namespace = String::new(),
                Kind::Namespaced => policy.namespaces = None,
                Kind::Kubernetes => {
                    policy.order = Some(1000);
                    policy.namespaces = None;
                    // What both can say: labels that are there, and nothing else.
                    policy.selector =
                        policy.selector.filter(|selector| matches!(selector, Sel::Eq(key, _) if !key.contains('/')));
                    for rule in policy.ingress.iter_mut().chain(&mut policy.egress) {
                        rule.action = "Allow";
                        rule.protocol = Some(rule.protocol.filter(|it| *it != "ICMP").unwrap_or("TCP"));
                        rule.not_protocol = None;
                        rule.not_ports.clear();
                        rule.remote = Entity { nets: rule.remote.nets.clone(), ..Entity::default() };
                    }
                }
            }
            for rule in policy.ingress.iter_mut().chain(&mut policy.egress) {
                let remote = &mut rule.remote;
                let is_alone = remote.selector.is_none() && remote.namespaces.is_none() && remote.accounts.is_empty();
                // The engine leaves this one in doubt.
                if kind == Kind::Global && is_alone {
                    remote.not_selector = None;
                }
            }
            policy
        },
    )
}

fn pod(index: u8) -> impl Strategy<Value = Pod> {
    let labels = (of(text(&["web", "db", "webapp"])), of(text(&["x", ""])));
    let ports =
        subsequence(vec![("http", "TCP", 80), ("http", "TCP", 8080), ("dns", "UDP", 53), ("dns", "TCP", 53)], 0..=3);
    (text(&["x", "y"]), labels, text(&["default", "batch"]), ports).prop_map(
        move |(namespace, (app, tier), account, ports)| {
            let label = |key: &str, value: Option<String>| value.map(|value| (key.to_owned(), value));
            let labels: Labels = label("app", app).into_iter().chain(label("tier", tier)).collect();
            let ports =
                ports.into_iter().map(|(name, protocol, number)| (name.to_owned(), protocol.to_owned(), number));
            Pod {
                namespace,
                name: format!("p{index}"),
                labels,
                account,
                address: [10, 0, index % 2, index],
                ports: ports.collect(),
            }
        },
    )
}

fn set() -> impl Strategy<Value = Set> {
    let labels = (of(text(&["web", "db"])), of(text(&["x", ""])));
    (of(text(&["x", "y"])), labels, vec(net(), 0..3)).prop_map(|(namespace, (app, tier), nets)| {
        let label = |key: &str, value: Option<String>| value.map(|value| (key.to_owned(), value));
        let labels: Labels = label("app", app).into_iter().chain(label("tier", tier)).collect();
        Set { namespace, labels, nets }
    })
}

fn world() -> impl Strategy<Value = World> {
    let pods = (pod(1), pod(2), pod(3), pod(4)).prop_map(|(a, b, c, d)| vec![a, b, c, d]);
    let policies = (of(policy(1)), of(policy(2)), of(policy(3)), of(policy(4)), policy(5));
    (pods, policies, vec(set(), 0..3)).prop_map(|(pods, (a, b, c, d, e), sets)| {
        let labels = |team: &str| Labels::from([("team".to_owned(), team.to_owned())]);
        let namespaces = vec![("x".to_owned(), labels("x")), ("y".to_owned(), labels("y"))];
        let policies = [a, b, c, d, Some(e)].into_iter().flatten().collect();
        without_doubts(World { namespaces, pods, policies, sets })
    })
}

/// Without what the engine leaves in doubt: whether a NetworkSet's namespace is selected, and a notSelector beside networks.
fn without_doubts(mut world: World) -> World {
    let has_namespaced = world.sets.iter().any(|set| set.namespace.is_some());
    let before = world.clone();
    for policy in &mut world.policies {
        let own = policy.clone();
        for rule in policy.ingress.iter_mut().chain(&mut policy.egress) {
            let remote = &mut rule.remote;
            if has_namespaced
                && matches!(remote.namespaces, Some(NsSel::Of(ref selector)) if !matches!(selector, Sel::All))
            {
                remote.namespaces = Some(NsSel::Of(Sel::All));
            }
            if before.selected_sets(&own, remote).any(|set| !set.nets.is_empty()) {
                remote.not_selector = None;
            }
        }
    }
    world
}

/// As a manifest has it, with blanks where Calico takes them.
fn printed(selector: &Sel) -> String {
    let list = |values: &[String]| values.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(", ");
    match selector {
        Sel::All => "all()".to_owned(),
        Sel::Eq(key, value) => format!("{key} == '{value}'"),
        Sel::Ne(key, value) => format!("{key}!=\"{value}\""),
        Sel::In(key, values) => format!("{key} in {{{}}}", list(values)),
        Sel::NotIn(key, values) => format!("{key} not  in {{ {} }}", list(values)),
        Sel::Has(key) => format!("has({key})"),
        Sel::Contains(key, part) => format!("{key} contains '{part}'"),
        Sel::Starts(key, part) => format!("{key} starts with '{part}'"),
        Sel::Ends(key, part) => format!("{key} ends with '{part}'"),
        Sel::Not(inner) => format!("!({})", printed(inner)),
        Sel::And(a, b) => format!("({}) && ({})", printed(a), printed(b)),
        // Without parentheses on the right: && binds stronger.
        Sel::Or(a, b) => match **b {
            Sel::And(..) => format!("({})||{}", printed(a), printed(b)),
            _ => format!("({}) || ({})", printed(a), printed(b)),
        },
    }
}

fn net_text((net, length): &([u8; 4], u32)) -> String {
    format!("{}/{length}", std::net::Ipv4Addr::from(*net))
}

fn remote_value(entity: &Entity) -> Value {
    let mut value = json!({});
    let mut set = |field: &str, it: Value| value[field] = it;
    if let Some(selector) = &entity.selector {
        set("selector", printed(selector).into());
    }
    if let Some(selector) = &entity.not_selector {
        set("notSelector", printed(selector).into());
    }
    match &entity.namespaces {
        Some(NsSel::Global) => set("namespaceSelector", "global()".into()),
        Some(NsSel::Of(selector)) => set("namespaceSelector", printed(selector).into()),
        None => {}
    }
    if !entity.accounts.is_empty() {
        set("serviceAccounts", json!({"names": entity.accounts}));
    }
    set("nets", entity.nets.iter().map(net_text).collect());
    set("notNets", entity.not_nets.iter().map(net_text).collect());
    value
}

fn rule_value(rule: &Rule, direction: &str) -> Value {
    let (remote, mut destination) = match direction {
        "Ingress" => (Some(("source", remote_value(&rule.remote))), json!({})),
        _ => (None, remote_value(&rule.remote)),
    };
    let range = |first: u16, last: u16| match first == last {
        true => json!(first),
        false => json!(format!("{first}:{last}")),
    };
    let port = |port: &Port| match port {
        Port::Range(first, last) => range(*first, *last),
        Port::Named(name) => json!(name),
    };
    destination["ports"] = rule.ports.iter().map(port).collect();
    destination["notPorts"] = rule.not_ports.iter().map(|(first, last)| range(*first, *last)).collect();
    let mut value = json!({"action": rule.action, "protocol": rule.protocol, "notProtocol": rule.not_protocol, "destination": destination});
    if let Some((field, remote)) = remote {
        value[field] = remote;
    }
    value
}

fn kubernetes_value(policy: &Policy) -> Value {
    let rule = |rule: &Rule, peers: &str| {
        let port = |port: &Port| match port {
            Port::Range(first, last) => json!({"protocol": rule.protocol, "port": first, "endPort": last}),
            Port::Named(name) => json!({"protocol": rule.protocol, "port": name}),
        };
        let mut ports: Vec<Value> = rule.ports.iter().map(port).collect();
        if ports.is_empty() {
            ports.push(json!({"protocol": rule.protocol}));
        }
        let nets: Vec<Value> = rule.remote.nets.iter().map(|net| json!({"ipBlock": {"cidr": net_text(net)}})).collect();
        json!({peers: nets, "ports": ports})
    };
    let pod_selector = match &policy.selector {
        Some(Sel::Eq(key, value)) => json!({"matchLabels": {key.clone(): value}}),
        _ => json!({}),
    };
    let (ingress, egress): (Vec<Value>, Vec<Value>) = (
        policy.ingress.iter().map(|it| rule(it, "from")).collect(),
        policy.egress.iter().map(|it| rule(it, "to")).collect(),
    );
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": policy.namespace, "name": policy.name},
        "spec": {"podSelector": pod_selector, "policyTypes": policy.types, "ingress": ingress, "egress": egress},
    })
}

fn policy_value(policy: &Policy) -> Value {
    let kind = match policy.kind {
        Kind::Kubernetes => return kubernetes_value(policy),
        Kind::Global => "GlobalNetworkPolicy",
        Kind::Namespaced => "NetworkPolicy",
    };
    let rules = |rules: &[Rule], direction| rules.iter().map(|rule| rule_value(rule, direction)).collect::<Vec<_>>();
    let mut value = json!({
        "apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": policy.name},
        "spec": {
            "order": policy.order, "selector": policy.selector.as_ref().map(printed), "types": policy.types,
            "ingress": rules(&policy.ingress, "Ingress"), "egress": rules(&policy.egress, "Egress"),
        },
    });
    if policy.kind == Kind::Global {
        value["spec"]["namespaceSelector"] = policy.namespaces.as_ref().map(printed).into();
    } else {
        value["metadata"]["namespace"] = policy.namespace.clone().into();
    }
    value
}

fn objects(world: &World) -> Vec<Value> {
    let namespaces = world.namespaces.iter().map(
        |(name, labels)| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
    );
    let pods = world.pods.iter().map(|pod| {
        let port = |(name, protocol, number): &(String, String, u16)| {
            json!({"name": name, "protocol": protocol, "containerPort": number})
        };
        let ports: Vec<Value> = pod.ports.iter().map(port).collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": pod.namespace, "name": pod.name, "labels": pod.labels},
            "spec": {"serviceAccountName": pod.account, "containers": [{"name": "c", "ports": ports}]},
            "status": {"podIP": std::net::Ipv4Addr::from(pod.address).to_string()},
        })
    });
    let sets = world.sets.iter().enumerate().map(|(index, set)| {
        let kind = if set.namespace.is_some() { "NetworkSet" } else { "GlobalNetworkSet" };
        let nets: Vec<String> = set.nets.iter().map(net_text).collect();
        json!({
            "apiVersion": "projectcalico.org/v3", "kind": kind,
            "metadata": {"namespace": set.namespace, "name": format!("s{index}"), "labels": set.labels},
            "spec": {"nets": nets},
        })
    });
    // Sets behind the policies that select them: the order of objects must not matter.
    namespaces.chain(pods).chain(world.policies.iter().map(policy_value)).chain(sets).collect()
}

fn agrees(world: &World) -> Result<usize, TestCaseError> {
    let objects = objects(world);
    let cluster = Cluster::from_objects(&objects);
    prop_assert_eq!(cluster.unknowns(), &[] as &[String]);
    let has_calico = world.policies.iter().any(|policy| policy.kind != Kind::Kubernetes);
    let ends: Vec<(End<'_>, Party)> = world
        .pods
        .iter()
        .map(|pod| (End::Pod(pod), Party::Pod(PodRef { namespace: pod.namespace.clone(), name: pod.name.clone() })))
        .chain(OUTSIDE.map(|address| (End::Outside(address), Party::Address(address.into()))))
        .collect();
    let mut asked = 0;
    for (from, from_party) in &ends {
        for (to, to_party) in &ends {
            for (protocol, word) in [(Protocol::Tcp, "TCP"), (Protocol::Udp, "UDP"), (Protocol::Sctp, "SCTP")] {
                for port in PORTS {
                    let (route, family) = (Route::Service, Some(Family::V4));
                    let connection = Connection { from: from_party, to: to_party, protocol, port, route, family };
                    let verdict = cluster.judge(&connection);
                    let side = |end: &End<'_>, direction, other| match end {
                        End::Pod(pod) => Some(world.side(pod, direction, other, word, port, *to)),
                        End::Outside(_) => None,
                    };
                    let expected = [side(from, "Egress", *to), side(to, "Ingress", *from)];
                    let found = [&verdict.egress, &verdict.ingress];
                    for (found, expected) in found.into_iter().zip(expected) {
                        prop_assert_eq!(found.is_some(), expected.is_some());
                        if let (Some(found), Some(Some(expected))) = (found, expected) {
                            let what = (connection, has_calico, &objects);
                            prop_assert_eq!(
                                found.is_allowed(),
                                expected,
                                "(connection, has Calico, objects): {:#?}",
                                what
                            );
                        }
                    }
                    // One side that is shut in all versions is enough.
                    let of_sides = expected.into_iter().flatten();
                    let is_shut = of_sides.clone().any(|side| side == Some(false));
                    let is_known = is_shut || of_sides.clone().all(|side| side.is_some());
                    prop_assert_eq!(
                        verdict.unknown.is_empty(),
                        is_known,
                        "{:?}: {:#?}: {:#?}",
                        connection,
                        verdict,
                        objects
                    );
                    asked += 1;
                }
            }
        }
    }
    Ok(asked)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn engine_says_what_the_second_evaluator_says(world in world()) {
        let asked = agrees(&world)?;
        prop_assert!(asked == 432, "6 ends, 3 protocols, 4 ports: {}", asked);
    }
}
