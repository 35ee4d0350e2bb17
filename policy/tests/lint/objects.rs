use signalbox_policy::lint::RuleId::{DefinedTwice, NewerField, NotUnderstood, SupersededApi};

use crate::cases::{Case, found, info, silent, warning};
use crate::common::{namespace, pod, policy};

fn node(version: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n1}}\nstatus: {{nodeInfo: {{kubeletVersion: {version}}}}}\n"
    )
}

pub fn cases() -> Vec<Case> {
    let range = policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 90}]}]}");
    let by_name = policy(
        "x/np",
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}]}]}",
    );
    let admin = "---\napiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: anp}\n\
         spec: {priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}\n";
    vec![
        found(
            NotUnderstood,
            policy(
                "x/np",
                "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.0.2.0/24]}}]}]}",
            ),
            "NetworkPolicy x/np",
            "spec.ingress[0].from[0].ipBlock.except[0]",
            "192.0.2.0/24 must lie inside 10.0.0.0/8",
        ),
        found(
            NotUnderstood,
            policy("x/np", "{podSelector: {}, ingres: []}"),
            "NetworkPolicy x/np",
            "spec.ingres",
            "no field",
        ),
        silent(
            NotUnderstood,
            policy(
                "x/np",
                "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.2.0.0/24]}}]}]}",
            ),
        ),
        found(
            DefinedTwice,
            policy("x/np", "{podSelector: {}}") + &policy("x/np", "{podSelector: {}, ingress: [{}]}"),
            "NetworkPolicy x/np",
            "metadata.name",
            "the last one replaces the others",
        ),
        found(
            DefinedTwice,
            pod("x/a", "", "", "") + &pod("x/a", "app=b", "", ""),
            "Pod x/a",
            "metadata.name",
            "the last one",
        ),
        silent(DefinedTwice, policy("x/np", "{podSelector: {}}") + &policy("y/np", "{podSelector: {}}")),
        info(
            NewerField,
            range.clone(),
            "NetworkPolicy x/np",
            "spec.ingress[0].ports[0].endPort",
            "older than Kubernetes 1.25",
        ),
        warning(
            NewerField,
            range.clone() + &node("v1.24.17+k3s1"),
            "NetworkPolicy x/np",
            "spec.ingress[0].ports[0].endPort",
            "node n1 is of version 1.24: the range becomes its first port alone",
        ),
        silent(NewerField, range + &node("v1.25.0")),
        silent(NewerField, policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 80}]}]}")),
        warning(
            NewerField,
            by_name.clone() + &namespace("y", "") + &node("v1.20.1"),
            "NetworkPolicy x/np",
            "spec.ingress[0].from[0].namespaceSelector",
            "since Kubernetes 1.21",
        ),
        silent(NewerField, by_name + &namespace("y", "")),
        warning(
            NewerField,
            policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 80, protocol: SCTP}]}]}") + &node("v1.19.0"),
            "NetworkPolicy x/np",
            "spec.ingress[0].ports[0].protocol",
            "feature gate",
        ),
        found(
            SupersededApi,
            admin,
            "AdminNetworkPolicy anp",
            "apiVersion",
            "write a ClusterNetworkPolicy with tier: Admin",
        ),
        silent(
            SupersededApi,
            crate::cases::cluster_policy("cnp", "Admin", 1, "ingress: [{action: Deny, from: [{namespaces: {}}]}]"),
        ),
    ]
}
