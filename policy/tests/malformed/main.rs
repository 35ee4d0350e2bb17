//! What is not understood: each kind names object, field and reason, bears on the pods it could bear on, and fails closed
//! in the tables.

#[path = "../common/mod.rs"]
mod common;
mod table;

use common::{ask, cluster, namespace, pod, policy};
use signalbox_policy::evaluate::{Endpoint, Outcome};
use signalbox_policy::{Cluster, Problem, Protocol, Side, parse_documents};

/// `x/web`, `x/other` and `y/api`, all on `n1`.
fn pods() -> String {
    pod("x/web", "app=web", "10.0.0.1", "")
        + &pod("x/other", "app=other", "10.0.0.2", "")
        + &pod("y/api", "", "10.0.0.3", "")
}

/// All that is said of a text: `file: document 2: …`, for objects and for what is none.
fn said(text: &str, file: &str) -> (Cluster, Vec<String>) {
    let (mut objects, mut documents, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for result in parse_documents(text, file) {
        match result {
            // Each document of these tests holds one object.
            Ok(object) => {
                objects.push(object);
                documents.push(documents.len() + said.len() + 1);
            }
            Err(error) => said.push(error.to_string()),
        }
    }
    let cluster = Cluster::from_objects(&objects);
    for problem in cluster.problems() {
        let index = problem.index.expect("these are problems of one object each");
        said.push(format!("{file}: document {}: {problem}", documents[index]));
    }
    (cluster, said)
}

#[test]
fn each_malformed_document_names_file_document_object_field_and_remedy_and_hides_no_other() {
    let good = pod("x/web", "app=web", "10.0.0.1", "");
    let last = pod("y/last", "", "10.0.0.9", "") + &policy("y/np", "{podSelector: {}}");
    let kinds: std::collections::BTreeSet<&str> = table::CASES.iter().map(|(document, _)| *document).collect();
    assert!(kinds.len() == table::CASES.len() && kinds.len() >= 40, "{} kinds", kinds.len());
    for (document, expected) in table::CASES {
        let (cluster, said) = said(&format!("{good}---\n{document}\n{last}"), "manifests.yaml");
        assert_eq!(said, [format!("manifests.yaml: document 2{expected}")], "{document}");
        // The others are there: the pod of the first document is open or in doubt, that of the third is shut by the fourth.
        assert_ne!(ask(&cluster, "192.0.2.1", "x/web", "TCP 80").allowed(), Some(false), "{document}");
        let last = ask(&cluster, "192.0.2.1", "y/last", "TCP 80");
        assert!(matches!(last.ingress, Some(Side::Denied { .. } | Side::DeniedBy(_))), "{document}: {last:?}");
    }
}

#[test]
fn malformed_policies_name_the_field_and_the_reason() {
    let cases = [
        ("[]", "spec: must be an object, not a list"),
        ("{podSelector: web}", "spec.podSelector: must be an object, not the string \"web\""),
        ("{podSelectr: {}}", "spec.podSelectr: is no field"),
        ("{podSelector: {matchLabel: {a: b}}}", "spec.podSelector.matchLabel: is no field"),
        ("{podSelector: {matchLabels: [a]}}", "spec.podSelector.matchLabels: must be an object, not a list"),
        (
            "{podSelector: {matchLabels: {a: 1}}}",
            "spec.podSelector.matchLabels.a: must be a string (put it in quotes), not the number 1",
        ),
        (
            "{podSelector: {matchLabels: {a: true}}}",
            "spec.podSelector.matchLabels.a: must be a string (put it in quotes), not true",
        ),
        ("{podSelector: {matchLabels: {a: null}}}", "spec.podSelector.matchLabels.a: must be a string, not null"),
        ("{podSelector: {matchLabels: {'a b': c}}}", "spec.podSelector.matchLabels[a b]: \"a b\" is no label key"),
        ("{podSelector: {matchLabels: {a: 'b c'}}}", "spec.podSelector.matchLabels.a: \"b c\" is no label value"),
        ("{podSelector: {matchExpressions: {}}}", "spec.podSelector.matchExpressions: must be a list, not an object"),
        (
            "{podSelector: {matchExpressions: [{operator: Exists}]}}",
            "spec.podSelector.matchExpressions[0].key: is required",
        ),
        ("{podSelector: {matchExpressions: [{key: a}]}}", "spec.podSelector.matchExpressions[0].operator: is required"),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}",
            "spec.podSelector.matchExpressions[0].operator: must be one of In, NotIn, Exists, DoesNotExist, not \"in\"",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
            "spec.podSelector.matchExpressions[0].values: must not be empty with operator In",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: NotIn, values: []}]}}",
            "spec.podSelector.matchExpressions[0].values: must not be empty with operator NotIn",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
            "spec.podSelector.matchExpressions[0].values: must be empty with operator Exists",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: DoesNotExist, values: [b]}]}}",
            "spec.podSelector.matchExpressions[0].values: must be empty with operator DoesNotExist",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: In, values: [1]}]}}",
            "spec.podSelector.matchExpressions[0].values[0]: must be a string",
        ),
        ("{policyTypes: Ingress}", "spec.policyTypes: must be a list"),
        ("{policyTypes: [ingress]}", "spec.policyTypes[0]: must be one of Ingress, Egress, not \"ingress\""),
        ("{policyTypes: [Ingress, Egress, Ingress]}", "spec.policyTypes: has more than 2 items"),
        ("{ingress: {}}", "spec.ingress: must be a list, not an object"),
        ("{ingress: [null]}", "spec.ingress[0]: must be an object, not null"),
        ("{ingress: [{to: []}]}", "spec.ingress[0].to: is no field"),
        ("{egress: [{from: []}]}", "spec.egress[0].from: is no field"),
        ("{ingress: [{from: {}}]}", "spec.ingress[0].from: must be a list"),
        (
            "{ingress: [{from: [{}]}]}",
            "spec.ingress[0].from[0]: needs a podSelector, a namespaceSelector or an ipBlock",
        ),
        ("{ingress: [{from: [{ipBlock: {}}]}]}", "spec.ingress[0].from[0].ipBlock.cidr: is required"),
        (
            "{ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.1}}]}]}",
            "spec.ingress[0].from[1].ipBlock.cidr: \"10.0.0.1\" is no CIDR",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/33\" is no CIDR",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"::ffff:10.0.0.0/104\" is an IPv4 block written as IPv6",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]}",
            "spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/8 must lie inside 10.0.0.0/8",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}",
            "spec.ingress[0].from[0].ipBlock.except[0]: 10.0.0.0/8 must lie inside 10.0.0.0/8 and be smaller",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/8']}}]}]}",
            "spec.ingress[0].from[0].ipBlock.except[0]: fd00::/8 must lie inside 10.0.0.0/8",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
            "spec.ingress[0].from[0]: ipBlock stands alone",
        ),
        ("{ingress: [{from: [{podselector: {}}]}]}", "spec.ingress[0].from[0].podselector: is no field"),
        ("{ingress: [{ports: [{port: 0}]}]}", "spec.ingress[0].ports[0].port: must be between 1 and 65535, not 0"),
        (
            "{ingress: [{ports: [{port: 65536}]}]}",
            "spec.ingress[0].ports[0].port: must be between 1 and 65535, not 65536",
        ),
        ("{ingress: [{ports: [{port: -1}]}]}", "spec.ingress[0].ports[0].port: must be between 1 and 65535, not -1"),
        (
            "{ingress: [{ports: [{port: 8.5}]}]}",
            "spec.ingress[0].ports[0].port: must be a whole number, without a decimal point, not the number 8.5",
        ),
        ("{ingress: [{ports: [{port: '80'}]}]}", "spec.ingress[0].ports[0].port: \"80\" is no port name"),
        ("{ingress: [{ports: [{port: HTTP}]}]}", "spec.ingress[0].ports[0].port: \"HTTP\" is no port name"),
        (
            "{ingress: [{ports: [{port: [80]}]}]}",
            "spec.ingress[0].ports[0].port: must be a port number or the name of a port",
        ),
        ("{ingress: [{ports: [80]}]}", "spec.ingress[0].ports[0]: must be an object, not the number 80"),
        (
            "{ingress: [{ports: [{protocol: tcp}]}]}",
            "spec.ingress[0].ports[0].protocol: must be one of TCP, UDP, SCTP, not \"tcp\"",
        ),
        (
            "{ingress: [{ports: [{protocol: ICMP}]}]}",
            "spec.ingress[0].ports[0].protocol: must be one of TCP, UDP, SCTP, not \"ICMP\"",
        ),
        ("{ingress: [{ports: [{port: 80, endport: 90}]}]}", "spec.ingress[0].ports[0].endport: is no field"),
        (
            "{ingress: [{ports: [{port: 90, endPort: 80}]}]}",
            "spec.ingress[0].ports[0].endPort: 80 is smaller than port 90",
        ),
        (
            "{ingress: [{ports: [{port: 90, endPort: '95'}]}]}",
            "spec.ingress[0].ports[0].endPort: must be a whole number",
        ),
    ];
    for (spec, expected) in cases {
        let cluster = cluster(&(pods() + &policy("x/np", spec)));
        let expected = format!("NetworkPolicy x/np: {expected}");
        assert_eq!(cluster.unknowns().len(), 1, "{spec}: {:?}", cluster.unknowns());
        assert!(cluster.unknowns()[0].starts_with(&expected), "{spec}: {:?}", cluster.unknowns());
        assert_eq!(cluster.problems().iter().map(Problem::to_string).collect::<Vec<_>>(), cluster.unknowns());
        let verdict = ask(&cluster, "y/api", "x/web", "TCP 80");
        // A misspelt list of types may leave ingress alone, yet nobody can tell: it is never read as "allow".
        if verdict.allowed().is_some() {
            assert!(spec.starts_with("{egress"), "{spec}: {verdict:?}");
        } else {
            assert_eq!(verdict.unknown, cluster.unknowns(), "{spec}");
        }
        // Other namespaces are not concerned.
        assert_eq!(ask(&cluster, "192.0.2.1", "y/api", "TCP 80").allowed(), Some(true), "{spec}");
    }
}

#[test]
fn all_problems_of_a_policy_are_reported_at_once() {
    let spec = "{podSelector: {a: b}, policyTypes: [In], ingress: [{from: [{}, {ipBlock: {cidr: x, except: [y]}}], ports: [{port: 0}]}]}";
    let cluster = cluster(&policy("x/np", spec));
    let paths: Vec<&str> = cluster.problems().iter().map(|problem| problem.path.as_str()).collect();
    let expected = [
        "spec.podSelector.a",
        "spec.ingress[0].from[0]",
        "spec.ingress[0].from[1].ipBlock.cidr",
        "spec.ingress[0].from[1].ipBlock.except[0]",
        "spec.ingress[0].ports[0].port",
        "spec.policyTypes[0]",
    ];
    assert_eq!(paths, expected);
}

/// What the tables of `n1` say of a connection.
fn judged(cluster: &Cluster, from: &str, to: &str) -> (Option<Outcome>, Option<Outcome>) {
    let end = |text: &str| Endpoint::Address(text.parse().expect("an address"));
    let judgement = cluster.compile("n1").judge(end(from), end(to), Protocol::Tcp, 80);
    (judgement.egress, judgement.ingress)
}

#[test]
fn broken_policies_bear_on_what_they_could_select_and_isolate() {
    let bad = "ingress: [{from: [{ipBlock: {cidr: x}}]}]";
    // (spec, x/web: ingress, egress; x/other: ingress, egress) - whether it fails closed there.
    let cases = [
        (format!("{{podSelector: {{matchLabels: {{app: web}}}}, {bad}}}"), [true, false, false, false]),
        (format!("{{podSelector: {{matchLabels: {{app: web}}}}, egress: [{{}}], {bad}}}"), [true, true, false, false]),
        (format!("{{podSelector: {{}}, policyTypes: [Egress], {bad}}}"), [false, true, false, true]),
        ("{podSelector: {matchLabels: {app: 1}}}".to_owned(), [true, false, true, false]),
        ("{podSelector: {matchLabels: {app: web}}, policyTypes: [x]}".to_owned(), [true, true, false, false]),
        ("{podSelector: {matchLabels: {app: web}}, egress: x}".to_owned(), [true, true, false, false]),
        // The unknown field may be what selects, or the types.
        ("{podSelectr: {matchLabels: {app: web}}}".to_owned(), [true, true, true, true]),
    ];
    for (spec, expected) in cases {
        let cluster = cluster(&(pods() + &policy("x/np", &spec)));
        let denied = Some(Outcome::Denied);
        let (web, other, api) = ("10.0.0.1", "10.0.0.2", "10.0.0.3");
        let found = [
            judged(&cluster, api, web).1 == denied,
            judged(&cluster, web, api).0 == denied,
            judged(&cluster, api, other).1 == denied,
            judged(&cluster, other, api).0 == denied,
        ];
        assert_eq!(found, expected, "{spec}");
        let unknown = [("y/api", "x/web"), ("x/web", "y/api"), ("y/api", "x/other"), ("x/other", "y/api")]
            .map(|(from, to)| ask(&cluster, from, to, "TCP 80").allowed().is_none());
        assert_eq!(unknown, expected, "{spec}");
        let tables = cluster.compile("n1");
        for group in &tables.groups {
            for side in [&group.ingress, &group.egress] {
                assert_eq!(side.entries, [], "{spec}");
                assert!(side.isolated_by.iter().all(|it| it.name == "np"), "{spec}");
            }
        }
    }
}

#[test]
fn a_policy_without_a_readable_namespace_bears_on_all() {
    let text = pods()
        + "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: 7, name: np}\nspec: {}\n";
    let cluster = cluster(&text);
    assert_eq!(ask(&cluster, "192.0.2.1", "y/api", "TCP 80").allowed(), None);
    assert_eq!(ask(&cluster, "192.0.2.1", "x/web", "TCP 80").allowed(), None);
}

#[test]
fn policies_of_other_kinds_are_not_passed_over() {
    for (version, kind, namespaced) in [
        ("policy.networking.k8s.io/v1alpha9", "ClusterNetworkPolicy", false),
        ("policy.networking.k8s.io/v9", "AdminNetworkPolicy", false),
        ("crd.projectcalico.org/v9", "GlobalNetworkPolicy", false),
        ("crd.antrea.io/v1beta1", "ClusterNetworkPolicy", false),
        ("crd.antrea.io/v1beta1", "NetworkPolicy", true),
        ("extensions/v1beta1", "NetworkPolicy", true),
        ("cilium.io/v2", "CiliumNetworkPolicy", true),
        ("cilium.io/v2", "CiliumClusterwideNetworkPolicy", false),
    ] {
        let namespace = if namespaced { "namespace: x, " } else { "" };
        let other =
            format!("---\napiVersion: {version}\nkind: {kind}\nmetadata: {{{namespace}name: np}}\nspec: {{}}\n");
        // Even what a NetworkPolicy allows: these can take it away.
        let cluster = cluster(&(pods() + &other + &policy("x/open", "{podSelector: {}, ingress: [{}]}")));
        let verdict = ask(&cluster, "192.0.2.1", "x/web", "TCP 80");
        assert_eq!(verdict.allowed(), None, "{version} {kind}");
        assert!(verdict.unknown[0].contains(&format!("{version} {kind} cannot be judged")), "{verdict:?}");
        assert_eq!(ask(&cluster, "192.0.2.1", "y/api", "TCP 80").allowed().is_none(), !namespaced);
    }
}

#[test]
fn kinds_without_bearing_are_passed_over_and_nameless_ones_are_not() {
    let service =
        "---\napiVersion: v1\nkind: Service\nmetadata: {namespace: x, name: web}\nspec: {ports: [{port: 1}]}\n";
    let with_service = cluster(&(pods() + service));
    assert_eq!(with_service.unknowns(), &[] as &[String]);
    let nameless = cluster(&(pods() + "---\nmetadata: {name: what}\nspec: {}\n"));
    assert_eq!(nameless.unknowns(), ["Object 4: kind: is required; add it"]);
    assert_eq!(ask(&nameless, "192.0.2.1", "x/web", "TCP 80").allowed(), None);
}

#[test]
fn a_pod_whose_labels_cannot_be_read_is_in_no_peer_and_may_be_selected() {
    let strange = "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd, labels: {app: 5}}\nspec: {nodeName: n1}\nstatus: {podIP: 10.0.0.9}\n";
    let selecting = policy("x/np", "{podSelector: {matchLabels: {app: db}}, ingress: [{}]}");
    let not_web = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}}]}]}";
    let cluster = cluster(&(pods() + strange + &selecting + &policy("y/np", not_web)));
    assert_eq!(
        cluster.unknowns(),
        ["Pod x/odd: metadata.labels.app: must be a string (put it in quotes), not the number 5"]
    );
    assert_eq!(ask(&cluster, "192.0.2.1", "x/odd", "TCP 80").allowed(), None);
    assert_eq!(ask(&cluster, "x/odd", "y/api", "TCP 80").allowed(), None);
    assert_eq!(ask(&cluster, "x/other", "y/api", "TCP 80").allowed(), Some(true));
    assert_eq!(
        judged(&cluster, "192.0.2.1", "10.0.0.9").1,
        Some(Outcome::Denied),
        "isolated, since it may be selected"
    );
    assert_eq!(judged(&cluster, "10.0.0.9", "10.0.0.3").1, Some(Outcome::Denied), "NotIn does not count for it");
}

#[test]
fn a_namespace_whose_labels_cannot_be_read_is_in_no_peer() {
    let odd = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: x, labels: {team: [a]}}\n";
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [b]}]}}]}]}";
    let cluster = cluster(&(odd.to_owned() + &namespace("y", "") + &pods() + &policy("y/np", spec)));
    assert_eq!(ask(&cluster, "x/web", "y/api", "TCP 80").allowed(), None);
    assert_eq!(judged(&cluster, "10.0.0.1", "10.0.0.3").1, Some(Outcome::Denied));
}

#[test]
fn malformed_pods_say_so() {
    for (rest, expected) in [
        ("spec: {hostNetwork: 'true'}", "spec.hostNetwork: must be true or false"),
        ("spec: {nodeName: 5}", "spec.nodeName: must be a string"),
        ("spec: {containers: {}}", "spec.containers: must be a list"),
        (
            "spec: {containers: [{ports: [{name: http, containerPort: http}]}]}",
            "spec.containers[0].ports[0].containerPort: must be a whole number",
        ),
        ("spec: {containers: [{ports: [{name: http}]}]}", "spec.containers[0].ports[0].containerPort: is required"),
        (
            "spec: {containers: [{ports: [{name: http, containerPort: 1, protocol: X}]}]}",
            "spec.containers[0].ports[0].protocol: must be one of",
        ),
        ("status: {podIP: 10.0.0}", "status.podIP: \"10.0.0\" is no IP address"),
        ("status: {podIPs: [{ip: 10.0.0.0/8}]}", "status.podIPs[0].ip: \"10.0.0.0/8\" is no IP address"),
        ("status: {phase: 1}", "status.phase: must be a string"),
    ] {
        let text = format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: x, name: odd}}\n{rest}\n");
        let cluster = cluster(&(pods() + &text));
        assert_eq!(cluster.unknowns().len(), 1, "{rest}: {:?}", cluster.unknowns());
        assert!(
            cluster.unknowns()[0].starts_with(&format!("Pod x/odd: {expected}")),
            "{rest}: {:?}",
            cluster.unknowns()
        );
    }
}

#[test]
fn an_address_of_two_pods_is_nobodys() {
    let twin = pod("y/twin", "app=web", "10.0.0.1", "");
    let cluster = cluster(
        &(pods()
            + &twin
            + &policy(
                "y/np",
                "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: x}}}]}]}",
            )),
    );
    assert_eq!(
        cluster.unknowns(),
        ["Pod y/twin: status.podIPs: 10.0.0.1 is also the address of Pod x/web; remove the older of the two"]
    );
    assert_eq!(ask(&cluster, "10.0.0.1", "y/api", "TCP 80").allowed(), None);
    let judged = judged(&cluster, "10.0.0.1", "10.0.0.3").1;
    assert_eq!(judged, Some(Outcome::NotUnderstood(None)), "nothing is opened for that address");
}

#[test]
fn a_pod_without_an_address_is_not_guessed_into_a_block() {
    let pending = pod("x/new", "app=new", "", "");
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 80}]}, {from: [{namespaceSelector: {}}], ports: [{port: 443}]}]}";
    let cluster = cluster(&(pods() + &pending + &policy("y/np", spec)));
    assert_eq!(cluster.unknowns(), &[] as &[String]);
    let verdict = ask(&cluster, "x/new", "y/api", "TCP 80");
    assert_eq!(verdict.unknown, ["Pod x/new: has no known address, and NetworkPolicy y/np names addresses"]);
    assert_eq!(ask(&cluster, "x/new", "y/api", "TCP 443").allowed(), Some(true));
    assert_eq!(ask(&cluster, "x/new", "y/api", "TCP 1").allowed(), Some(false), "no block is named for this port");
}

#[test]
fn unknown_pods_have_no_verdict() {
    let cluster = cluster(&pods());
    let verdict = ask(&cluster, "x/nobody", "y/api", "TCP 80");
    assert_eq!((verdict.allowed(), verdict.unknown), (None, vec!["Pod x/nobody: is not among the objects".to_owned()]));
}

#[test]
fn a_denied_side_names_the_broken_policy() {
    let cluster = cluster(&(pods() + &policy("x/np", "{podSelector: {}, ingress: [null]}")));
    let Some(Side::Denied { isolated_by, nearest, .. }) = ask(&cluster, "y/api", "x/web", "TCP 80").ingress else {
        panic!("it fails closed")
    };
    assert_eq!(isolated_by.len(), 1);
    assert_eq!(nearest, None);
}
