use signalbox_policy::lint::RuleId::{DuplicatePolicy, Overruled, RedundantItem, ShadowedRule, UnreachableRule};

use crate::cases::{Case, calico, cluster_policy, found, silent};
use crate::common::policy;

const NP: &str = "NetworkPolicy x/np";

pub fn cases() -> Vec<Case> {
    let spec = |spec: &str| policy("x/np", spec);
    let narrow = "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 80}]}]}";
    let with = |other: &str| policy("x/np", narrow) + &policy("x/wide", other);
    let accept = "ingress: [{action: Accept, from: [{namespaces: {}}]}]";
    let deny = "ingress: [{action: Deny, from: [{namespaces: {}}]}]";
    let mut cases = vec![
        found(
            ShadowedRule,
            with("{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"),
            NP,
            "spec.ingress[0]",
            "spec.ingress[0] of NetworkPolicy x/wide already allows all that this rule matches",
        ),
        found(
            ShadowedRule,
            spec(
                "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 90}]}, {ports: [{port: 85}, {port: 81, endPort: 82}]}]}",
            ),
            NP,
            "spec.ingress[1]",
            "spec.ingress[0] of the same policy",
        ),
        found(
            ShadowedRule,
            spec(
                "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16}}]}, {from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.2.0.0/16]}}]}]}",
            ),
            NP,
            "spec.ingress[0]",
            "spec.ingress[1] of the same policy",
        ),
        // The ports of two rules together do not count: each of them is narrower.
        silent(ShadowedRule, with("{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 81}]}]}")),
        // Of another protocol, another namespace, another direction, other pods.
        silent(ShadowedRule, with("{podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}")),
        // The one that would hold it is never reached itself, and what comes before it contradicts. Found by the law.
        silent(
            ShadowedRule,
            cluster_policy(
                "first",
                "Admin",
                1,
                "ingress: [{action: Accept, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}]",
            ) + &cluster_policy("second", "Admin", 1, deny),
        ),
        // It keeps the connections from the denial behind it, which would contradict the other policy of the same priority.
        silent(
            ShadowedRule,
            cluster_policy("first", "Admin", 1, accept)
                + &cluster_policy(
                    "second",
                    "Admin",
                    1,
                    "ingress: [{action: Accept, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}]",
                ),
        ),
        silent(ShadowedRule, policy("x/np", narrow) + &policy("y/wide", "{podSelector: {}, ingress: [{}]}")),
        silent(ShadowedRule, with("{podSelector: {}, policyTypes: [Egress], egress: [{}]}")),
        silent(ShadowedRule, with("{podSelector: {matchLabels: {app: api}}, ingress: [{}]}")),
        // The exception is what the other rule lets in.
        silent(
            ShadowedRule,
            spec(
                "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.2.0.0/16}}]}, {from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.2.0.0/16]}}]}]}",
            ),
        ),
        found(
            ShadowedRule,
            cluster_policy("first", "Admin", 1, deny) + &cluster_policy("second", "Admin", 2, deny),
            "ClusterNetworkPolicy second",
            "spec.ingress[0]",
            "spec.ingress[0] of ClusterNetworkPolicy first already denies",
        ),
        found(
            UnreachableRule,
            cluster_policy("first", "Admin", 1, deny) + &cluster_policy("second", "Admin", 2, accept),
            "ClusterNetworkPolicy second",
            "spec.ingress[0]",
            "spec.ingress[0] of ClusterNetworkPolicy first comes first and denies all that this rule allows",
        ),
        // Which of the two comes first is open: SB206 says so.
        silent(
            UnreachableRule,
            cluster_policy("first", "Admin", 1, deny) + &cluster_policy("second", "Admin", 1, accept),
        ),
        silent(
            Overruled,
            cluster_policy("guard", "Admin", 1, deny)
                + &cluster_policy("pass", "Admin", 1, "ingress: [{action: Pass, from: [{namespaces: {}}]}]")
                + &policy("x/np", narrow),
        ),
        found(
            UnreachableRule,
            calico("first", 10, "types: [Ingress], ingress: [{action: Deny}]") + &policy("x/np", narrow),
            NP,
            "spec.ingress[0]",
            "GlobalNetworkPolicy first comes first and denies",
        ),
        found(
            UnreachableRule,
            calico("first", 10, "types: [Ingress], ingress: [{action: Deny}, {action: Allow, protocol: TCP}]"),
            "GlobalNetworkPolicy first",
            "spec.ingress[1]",
            "of the same policy",
        ),
        silent(
            UnreachableRule,
            cluster_policy(
                "first",
                "Admin",
                1,
                "ingress: [{action: Deny, from: [{namespaces: {matchLabels: {a: b}}}]}]",
            ) + &cluster_policy("second", "Admin", 2, accept),
        ),
        silent(
            UnreachableRule,
            calico("first", 2000, "types: [Ingress], ingress: [{action: Deny}]") + &policy("x/np", narrow),
        ),
        found(
            Overruled,
            cluster_policy("guard", "Admin", 1, deny) + &policy("x/np", narrow),
            NP,
            "spec.ingress[0]",
            "spec.ingress[0] of ClusterNetworkPolicy guard denies all that this rule allows",
        ),
        silent(
            Overruled,
            cluster_policy("guard", "Admin", 2, deny)
                + &cluster_policy("pass", "Admin", 1, "ingress: [{action: Pass, from: [{namespaces: {}}]}]")
                + &policy("x/np", narrow),
        ),
        // Calico's first rule passes to the Baseline tier what its second one denies. Found by the law.
        silent(
            Overruled,
            calico("first", 10, "types: [Ingress], ingress: [{action: Pass}, {action: Deny}]")
                + &cluster_policy("base", "Baseline", 1, accept),
        ),
        silent(Overruled, cluster_policy("guard", "Baseline", 1, deny) + &policy("x/np", narrow)),
        silent(
            Overruled,
            cluster_policy(
                "guard",
                "Admin",
                1,
                "ingress: [{action: Deny, from: [{namespaces: {matchLabels: {a: b}}}]}]",
            ) + &policy("x/np", narrow),
        ),
        // It was not understood, and may let pass what comes after it.
        silent(
            Overruled,
            cluster_policy("odd", "Admin", 0, "ingress: [{action: Passs, from: [{namespaces: {}}]}]")
                + &cluster_policy("guard", "Admin", 1, deny)
                + &policy("x/np", narrow),
        ),
    ];
    cases.extend([
        found(
            DuplicatePolicy,
            policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 1}, {port: 2}]}]}")
                + &policy("x/other", "{podSelector: {}, ingress: [{ports: [{port: 2, protocol: TCP}, {port: 1}]}]}"),
            "NetworkPolicy x/other",
            "spec.podSelector",
            "NetworkPolicy x/np selects the same pods and has the same rules",
        ),
        // One defect, one finding.
        silent(
            ShadowedRule,
            policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 1}]}]}")
                + &policy("x/other", "{podSelector: {}, ingress: [{ports: [{port: 1}]}]}"),
        ),
        // Another namespace needs its own copy; another direction is another thing.
        silent(DuplicatePolicy, policy("x/np", "{podSelector: {}}") + &policy("y/np", "{podSelector: {}}")),
        silent(
            DuplicatePolicy,
            policy("x/np", "{podSelector: {}}")
                + &policy("x/other", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
        ),
        found(
            RedundantItem,
            spec("{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}, {podSelector: {}}]}]}"),
            NP,
            "spec.ingress[0].from[0]",
            "pods with app=web of x is already in item 1 of the list: all pods of x",
        ),
        found(
            RedundantItem,
            spec("{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 90}, {port: 85}]}]}"),
            NP,
            "spec.ingress[0].ports[1]",
            "TCP 85 is already in item 0",
        ),
        silent(
            RedundantItem,
            spec("{podSelector: {}, ingress: [{ports: [{port: 85, protocol: UDP}, {port: 80, endPort: 90}]}]}"),
        ),
        silent(
            RedundantItem,
            spec(
                "{podSelector: {}, ingress: [{from: [{podSelector: {}}, {namespaceSelector: {matchLabels: {a: b}}}]}]}",
            ),
        ),
    ]);
    cases
}
