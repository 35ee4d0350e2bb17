use signalbox_policy::lint::RuleId::{EqualPriority, NoEffect};

use crate::cases::{Case, calico, cluster_policy, found, silent};
use crate::common::{namespace, pod, policy};

pub fn cases() -> Vec<Case> {
    let rule = |action: &str, namespaces: &str| {
        format!("ingress: [{{action: {action}, from: [{{namespaces: {namespaces}}}]}}]")
    };
    let pods = namespace("x", "team=red") + &pod("x/web", "app=web", "10.0.0.1", "");
    let isolating = policy("x/np", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}");
    vec![
        found(
            EqualPriority,
            cluster_policy("a", "Admin", 5, &rule("Deny", "{}"))
                + &cluster_policy("b", "Admin", 5, &rule("Accept", "{matchLabels: {team: red}}")),
            "ClusterNetworkPolicy b",
            "spec.priority",
            "ClusterNetworkPolicy a has the same priority and contradicts spec.ingress[0]",
        ),
        found(
            EqualPriority,
            calico("a", 5, "types: [Ingress], ingress: [{action: Deny}]")
                + &calico("b", 5, "types: [Ingress], ingress: [{action: Allow, protocol: TCP}]"),
            "GlobalNetworkPolicy b",
            "spec.order",
            "Calico then goes by their names",
        ),
        silent(
            EqualPriority,
            cluster_policy("a", "Admin", 5, &rule("Deny", "{}"))
                + &cluster_policy("b", "Admin", 6, &rule("Accept", "{}")),
        ),
        silent(
            EqualPriority,
            cluster_policy("a", "Admin", 5, &rule("Deny", "{}"))
                + &cluster_policy("b", "Admin", 5, &rule("Deny", "{}")),
        ),
        silent(
            EqualPriority,
            cluster_policy("a", "Admin", 5, &rule("Deny", "{}"))
                + &cluster_policy("b", "Baseline", 5, &rule("Accept", "{}")),
        ),
        silent(
            EqualPriority,
            calico("a", 5, "types: [Ingress], ingress: [{action: Deny, protocol: UDP}]")
                + &calico("b", 5, "types: [Ingress], ingress: [{action: Allow, protocol: TCP}]"),
        ),
        found(
            NoEffect,
            pods.clone() + &isolating + &cluster_policy("base", "Baseline", 1, &rule("Deny", "{}")),
            "ClusterNetworkPolicy base",
            "spec.ingress",
            "NetworkPolicies isolate all pods that it selects for ingress, x/web among them",
        ),
        silent(
            NoEffect,
            pods.clone()
                + &isolating
                + &pod("x2/web", "app=web", "10.0.0.2", "")
                + &cluster_policy("base", "Baseline", 1, &rule("Deny", "{}")),
        ),
        // Calico's Pass leads past the isolation. Found by the law.
        silent(
            NoEffect,
            pods.clone()
                + &cluster_policy("base", "Baseline", 1, &rule("Deny", "{}"))
                + &calico("a", 5, "types: [Ingress], ingress: [{action: Pass}]"),
        ),
        // SEMANTICS 23: of one priority either may come first, so the Pass may be the exception. Found by the law.
        silent(
            NoEffect,
            pods.clone()
                + &cluster_policy("deny", "Admin", 1, &rule("Deny", "{}"))
                + &cluster_policy("pass", "Admin", 1, &rule("Pass", "{}")),
        ),
        // SEMANTICS 23: in the other direction the pod still meets the Baseline tier.
        silent(
            NoEffect,
            pods + &isolating
                + &cluster_policy("base", "Baseline", 1, "egress: [{action: Deny, to: [{namespaces: {}}]}]"),
        ),
        found(
            NoEffect,
            cluster_policy("a", "Admin", 1, &rule("Pass", "{matchLabels: {team: red}}")),
            "ClusterNetworkPolicy a",
            "spec.ingress[0]",
            "it passes to the next tier, where the connection comes anyhow",
        ),
        silent(
            NoEffect,
            cluster_policy("a", "Admin", 1, &rule("Pass", "{matchLabels: {team: red}}"))
                + &cluster_policy("b", "Admin", 2, &rule("Deny", "{}")),
        ),
    ]
}
