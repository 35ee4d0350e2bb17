//! Simplified policies mean the same, here and in any other cluster, and are smaller.

mod common;
#[path = "laws/generate.rs"]
#[allow(dead_code, reason = "the laws use all of it")]
mod generate;

use std::collections::BTreeSet;

use common::{namespace, objects, pod, policy, sound};
use generate::{Description, EXTERNAL, description};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use signalbox_policy::simplify::{Options, Rewrite, Simplified};
use signalbox_policy::traffic::Traffic;
use signalbox_policy::{Cluster, Family, Party, Route, manifest, parse_documents};

fn pods() -> String {
    namespace("x", "")
        + &namespace("y", "")
        + &pod("x/a", "app=a", "10.0.0.1", "http=TCP 80")
        + &pod("x/b", "app=b", "10.0.0.2", "")
}

fn simplified(specs: &[(&str, &str)], options: &Options) -> (Vec<Value>, Simplified) {
    let text = pods() + &specs.iter().map(|(name, spec)| policy(&format!("x/{name}"), spec)).collect::<String>();
    (objects(&text), sound(&text).simplify(options).expect("it means the same"))
}

/// The specs of policies before, and those after; `-`: gone.
#[test]
fn each_rewrite_leaves_less_to_read() {
    type Specs = &'static [(&'static str, &'static str)];
    let cases: [(Rewrite, Specs, Specs); 13] = [
        (
            Rewrite::Selector,
            &[(
                "a",
                "{podSelector: {matchLabels: {app: a}, matchExpressions: [{key: app, operator: Exists}, {key: app, operator: NotIn, values: [b]}]}}",
            )],
            &[("a", "{podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress]}")],
        ),
        (
            Rewrite::Peers,
            &[(
                "a",
                "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}, {namespaceSelector: {}}]}]}",
            )],
            &[("a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}}]}]}")],
        ),
        (
            Rewrite::Peers,
            &[(
                "a",
                "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}, {podSelector: {matchLabels: {app: b}}}]}]}",
            )],
            &[(
                "a",
                "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [a, b]}]}}]}]}",
            )],
        ),
        (
            Rewrite::Blocks,
            &[(
                "a",
                "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/25}}, {ipBlock: {cidr: 192.0.2.128/25}}]}]}",
            )],
            &[("a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}")],
        ),
        (
            Rewrite::Ports,
            &[(
                "a",
                "{podSelector: {}, ingress: [{ports: [{port: 80}, {port: 81}, {port: 82, endPort: 90}, {port: http}, {port: 53, protocol: UDP}, {protocol: UDP}]}]}",
            )],
            &[(
                "a",
                "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 80, endPort: 90}, {port: http}, {protocol: UDP}]}]}",
            )],
        ),
        (
            Rewrite::Shadowed,
            &[(
                "a",
                "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}, {from: [{podSelector: {}}], ports: [{port: 80}]}]}",
            )],
            &[("a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}")],
        ),
        (
            Rewrite::Shadowed,
            &[
                ("a", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"),
                (
                    "b",
                    "{podSelector: {matchLabels: {app: a}}, egress: [{}], ingress: [{from: [{podSelector: {matchLabels: {app: b}}}, {ipBlock: {cidr: 192.0.2.0/24}}]}]}",
                ),
            ],
            &[
                ("a", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}"),
                (
                    "b",
                    "{podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress, Egress], egress: [{}], ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}",
                ),
            ],
        ),
        (
            Rewrite::Rules,
            &[(
                "a",
                "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}, {from: [{podSelector: {}}], ports: [{port: 443}]}]}",
            )],
            &[(
                "a",
                "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}], ports: [{port: 80}, {port: 443}]}]}",
            )],
        ),
        (
            Rewrite::Rules,
            &[(
                "a",
                "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}, {from: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 80}]}]}",
            )],
            &[(
                "a",
                "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 80}]}]}",
            )],
        ),
        (
            Rewrite::Policies,
            &[
                ("a", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
                ("b", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]}"),
            ],
            &[
                (
                    "a",
                    "{podSelector: {}, policyTypes: [Ingress, Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]}",
                ),
                ("b", "-"),
            ],
        ),
        (
            Rewrite::Idle,
            &[("a", "{podSelector: {}}"), ("b", "{podSelector: {matchLabels: {app: a}}}")],
            &[("a", "{podSelector: {}, policyTypes: [Ingress]}"), ("b", "-")],
        ),
        (Rewrite::SelectsNothing, &[("a", "{podSelector: {matchLabels: {app: c}}, ingress: [{}]}")], &[("a", "-")]),
        (
            Rewrite::MatchesNothing,
            &[("a", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: c}}}]}]}")],
            &[("a", "{podSelector: {}, policyTypes: [Ingress]}")],
        ),
    ];
    for (rewrite, before, expected) in cases {
        let (_, untouched) = simplified(before, &Options::default());
        assert_eq!(untouched.steps.is_empty(), Rewrite::SPECIFIC.contains(&rewrite), "{rewrite:?}: {untouched:#?}");
        let specific: BTreeSet<Rewrite> = Rewrite::SPECIFIC.into_iter().filter(|it| *it == rewrite).collect();
        let (all, found) = simplified(before, &Options { specific });
        assert!(found.steps.iter().any(|step| step.rewrite == rewrite), "{rewrite:?}: {found:#?}");
        let after = Cluster::from_objects(&applied(&all, &found));
        let expected: String = expected
            .iter()
            .filter(|(_, spec)| *spec != "-")
            .map(|(name, spec)| policy(&format!("x/{name}"), spec))
            .collect();
        let expected = Cluster::from_objects(&objects(&expected));
        let texts = |cluster: &Cluster| cluster.policies().filter_map(manifest::yaml).collect::<String>();
        assert_eq!(texts(&after), texts(&expected), "{rewrite:?}");
    }
}

#[test]
fn what_differs_for_other_pods_stays() {
    let cases: [&[(&str, &str)]; 7] = [
        // Nothing says that these two select the same.
        &[("a", "{podSelector: {matchLabels: {app: a}}}"), ("b", "{podSelector: {matchLabels: {app: b}}}")],
        // No ports is more than all ports of the three protocols.
        &[(
            "a",
            "{podSelector: {}, ingress: [{ports: [{protocol: TCP}, {protocol: UDP}, {protocol: SCTP}]}, {from: [{podSelector: {}}]}]}",
        )],
        // A name may stand for any number.
        &[("a", "{podSelector: {}, ingress: [{ports: [{port: http}, {port: 80}]}]}")],
        // Pods may have addresses that no label tells.
        &[("a", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {podSelector: {}}]}]}")],
        // A block leaves out what another rule of it does not.
        &[(
            "a",
            "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {ipBlock: {cidr: 192.0.2.0/24}}]}]}",
        )],
        // The one isolates ingress, the other egress.
        &[
            ("a", "{podSelector: {}, policyTypes: [Ingress]}"),
            ("b", "{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress]}"),
        ],
        // What allows more selects fewer pods.
        &[
            ("a", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"),
            ("b", "{podSelector: {matchLabels: {app: a}}, ingress: [{}]}"),
        ],
    ];
    for specs in cases {
        let (_, found) = simplified(specs, &Options::default());
        assert_eq!((found.steps, found.kept.len()), (Vec::new(), specs.len()));
    }
}

#[test]
fn the_text_says_what_was_done() {
    let specs = [
        ("base", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
        ("dns", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]}"),
    ];
    let (_, found) = simplified(&specs, &Options::default());
    let expected = "\
# kubectl delete networkpolicy --namespace x dns  # merged into NetworkPolicy x/base
# takes in NetworkPolicy x/dns, which selects all pods of x, too
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: base
  namespace: x
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  egress:
    - ports:
        - {port: 53, protocol: UDP}
";
    assert_eq!(found.yaml(), expected);
}

/// Before, each family has a reason of its own for what cannot be told; after, both have the same.
#[test]
fn of_a_pod_without_an_address_as_little_is_known_as_before() {
    let both = r#"{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.2/32]}},
        {ipBlock: {cidr: "::/0", except: ["fd00::2/128"]}}]}]}"#;
    let one = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [192.0.2.0/24]}}]}]}";
    let text = [
        namespace("x", ""),
        pod("x/a", "", "", ""),
        pod("x/b", "", "", ""),
        policy("x/both", both),
        policy("x/one", one),
    ];
    let cluster = common::cluster(&text.concat());
    let simplified = cluster.simplify(&Options::default()).expect("they mean the same");
    assert_eq!(simplified.deleted.len(), 1, "{simplified:#?}");
}

fn applied(objects: &[Value], simplified: &Simplified) -> Vec<Value> {
    let is_gone = |object: &Value| {
        object["kind"] == "NetworkPolicy"
            && simplified.deleted.iter().any(|(id, _)| {
                object["metadata"]["name"] == *id.name
                    && object["metadata"]["namespace"].as_str() == id.namespace.as_deref()
            })
    };
    let mut after: Vec<Value> = objects.iter().filter(|object| !is_gone(object)).cloned().collect();
    after.extend(parse_documents(&simplified.yaml(), "simplified").into_iter().map(|it| it.expect("it is YAML")));
    after
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(256);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// Law: simplified policies mean the same on the pods at hand and on any others, and there is less of them.
    #[test]
    fn the_meaning_stays(
        description in description(false),
        more in prop::collection::vec(generate::policy(false), 0..6),
        others in description_of_pods(),
        specific in select(vec![Vec::new(), Rewrite::SPECIFIC.to_vec()]),
        has_all_addresses in any::<bool>(),
    ) {
        let (mut description, mut others) = (description, others);
        if !has_all_addresses {
            without_some_addresses(&mut description);
            without_some_addresses(&mut others);
        }
        let more = more.into_iter().enumerate().map(|(at, it)| generate::renamed(it, &format!("more{at}")));
        description.policies.extend(more);
        // Policies with the same selectors, so that there is something to do.
        let selector = description.policies.first().map(|it| it["spec"]["podSelector"].clone());
        for policy in description.policies.iter_mut().step_by(2) {
            if let Some(selector) = selector.as_ref().filter(|it| it.is_object()) {
                policy["spec"]["podSelector"] = selector.clone();
                policy["metadata"]["namespace"] = "x".into();
            }
        }
        let is_specific = !specific.is_empty();
        let before = Cluster::from_objects(&description.objects());
        let simplified = before.simplify(&Options { specific: specific.into_iter().collect() });
        prop_assert!(simplified.is_ok(), "{:?}", simplified);
        let Ok(simplified) = simplified else { return Ok(()) };
        let policies = applied(&description.policies, &simplified);
        let after = Description { policies, ..description.clone() };
        same(&description, &after, &simplified)?;
        let size = |description: &Description| {
            let cluster = Cluster::from_objects(&description.policies);
            let lines: usize = cluster.policies().filter_map(manifest::yaml).map(|it| it.lines().count()).sum();
            (cluster.policies().count(), lines)
        };
        let (old, new) = (size(&description), size(&after));
        prop_assert!(new.0 <= old.0 && new.1 <= old.1, "{:?} became {:?}: {:#?}", old, new, simplified);
        prop_assert!(simplified.steps.is_empty() == (simplified.changed.is_empty() && simplified.deleted.is_empty()));
        if !is_specific {
            let elsewhere = |policies: &Description| Description { policies: policies.policies.clone(), ..others.clone() };
            same(&elsewhere(&description), &elsewhere(&after), &simplified)?;
        }
        let again = Cluster::from_objects(&after.objects()).simplify(&Options::default());
        prop_assert_eq!(again.map(|it| it.steps), Ok(Vec::new()), "once is enough: {:#?}", simplified);
    }
}

/// Every other pod has none yet, as those that stand for workloads.
fn without_some_addresses(description: &mut Description) {
    for pod in description.pods.iter_mut().skip(1).step_by(2) {
        pod["status"]["podIPs"] = Value::Array(Vec::new());
    }
}

/// Namespaces and pods, and no policies.
fn description_of_pods() -> impl Strategy<Value = Description> {
    description(false).prop_map(|description| Description { policies: Vec::new(), ..description })
}

fn same(before: &Description, after: &Description, simplified: &Simplified) -> Result<(), TestCaseError> {
    let (one, other) = (Cluster::from_objects(&before.objects()), Cluster::from_objects(&after.objects()));
    prop_assert_eq!(other.unknowns(), one.unknowns());
    let mut parties: Vec<Party> = one.pods().cloned().map(Party::Pod).collect();
    parties.extend(EXTERNAL.iter().map(|it| Party::Address(it.parse().expect("the test's addresses are sound"))));
    for from in &parties {
        for to in &parties {
            for family in [Family::V4, Family::V6] {
                let reach = |cluster: &Cluster| -> (Traffic, Traffic) {
                    let reach = cluster.reach(from, to, Route::Service, Some(family));
                    (reach.open, reach.unknown)
                };
                prop_assert_eq!(reach(&one), reach(&other), "{:?} -> {:?}: {:#?}", from, to, simplified);
            }
        }
    }
    Ok(())
}
