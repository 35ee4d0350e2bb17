use signalbox_policy::lint::RuleId::{
    AndOr, Contradiction, EmptySelectorName, HostNetwork, LabelTypo, NamespaceLabel, NamespaceMissing, NotIsolated,
    PeerMatchesNothing, SelectsNothing,
};

use crate::cases::{Case, found, info, silent};
use crate::common::{namespace, pod, policy};

/// `x/web`, `x/api`, `y/db`.
fn world() -> String {
    namespace("x", "tier=front")
        + &namespace("y", "tier=back")
        + &pod("x/web", "app=web", "10.0.0.1", "")
        + &pod("x/api", "app=api", "10.0.0.2", "")
        + &pod("y/db", "app=database", "10.0.0.3", "")
}

fn host(name: &str, labels: &str) -> String {
    pod(name, labels, "192.0.2.1", "").replace("\"containers\"", "\"hostNetwork\":true,\"containers\"")
}

/// A policy with one peer in an ingress rule.
fn from(peer: &str) -> String {
    world() + &policy("x/np", &format!("{{podSelector: {{}}, ingress: [{{from: [{peer}]}}]}}"))
}

fn selects(selector: &str) -> String {
    world() + &policy("x/np", &format!("{{podSelector: {selector}}}"))
}

const NP: &str = "NetworkPolicy x/np";
const PEER: &str = "spec.ingress[0].from[0]";

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        found(
            SelectsNothing,
            selects("{matchLabels: {role: cache}}"),
            NP,
            "spec.podSelector",
            "looks for pods with role=cache of x, and of 2 pods there none is one: it does nothing",
        ),
        found(
            SelectsNothing,
            selects("{matchLabels: {app: database}}"),
            NP,
            "spec.podSelector",
            "y/db has these labels: put the policy into that namespace",
        ),
        info(
            SelectsNothing,
            world() + &namespace("z", "") + &policy("z/np", "{podSelector: {matchLabels: {app: web}}}"),
            "NetworkPolicy z/np",
            "spec.podSelector",
            "there are no pods at all",
        ),
        silent(SelectsNothing, selects("{matchLabels: {app: web}}")),
        // No pods are given, so that nothing can be said of them.
        silent(SelectsNothing, namespace("x", "") + &policy("x/np", "{podSelector: {matchLabels: {app: web}}}")),
        // All pods to come.
        silent(SelectsNothing, world() + &namespace("z", "") + &policy("z/np", "{podSelector: {}}")),
        // A pod whose labels cannot be read may be the one.
        silent(
            SelectsNothing,
            selects("{matchLabels: {role: cache}}")
                + "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd, labels: {role: 1}}\n",
        ),
        found(
            PeerMatchesNothing,
            from("{podSelector: {matchLabels: {role: cache}}}"),
            NP,
            "spec.ingress[0].from[0].podSelector",
            "of 2 pods there none is one: this peer opens nothing",
        ),
        found(
            PeerMatchesNothing,
            from("{podSelector: {matchLabels: {app: database}}}"),
            NP,
            "spec.ingress[0].from[0].podSelector",
            "y/db has these labels: add a namespaceSelector",
        ),
        found(
            PeerMatchesNothing,
            from("{namespaceSelector: {matchLabels: {team: red}}}"),
            NP,
            "spec.ingress[0].from[0].namespaceSelector",
            "no namespace is one",
        ),
        silent(
            PeerMatchesNothing,
            from("{namespaceSelector: {matchLabels: {tier: back}}, podSelector: {matchLabels: {app: database}}}"),
        ),
        // Every cluster has it, although no object says so.
        silent(
            PeerMatchesNothing,
            from("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}"),
        ),
        // No Namespace objects are given: their labels are not known.
        silent(
            PeerMatchesNothing,
            pod("x/web", "app=web", "", "")
                + &policy(
                    "x/np",
                    "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}]}]}",
                ),
        ),
        found(
            LabelTypo,
            selects("{matchLabels: {app: wbe}}"),
            NP,
            "spec.podSelector.matchLabels.app",
            "web is spelt almost alike: as it stands, it matches nobody",
        ),
        found(
            LabelTypo,
            selects("{matchLabels: {APP: web}}"),
            NP,
            "spec.podSelector.matchLabels.APP",
            "write app instead of APP",
        ),
        found(
            LabelTypo,
            from("{namespaceSelector: {matchExpressions: [{key: tire, operator: Exists}]}}"),
            NP,
            "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0]",
            "write tier instead of tire",
        ),
        found(
            LabelTypo,
            from(
                "{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [databsae]}]}}",
            ),
            NP,
            "spec.ingress[0].from[0].podSelector.matchExpressions[0]",
            "it excludes nobody",
        ),
        silent(LabelTypo, selects("{matchLabels: {app: worker}}")),
        // The word is right elsewhere: what is wrong is the namespace.
        silent(LabelTypo, selects("{matchLabels: {app: wbe}}") + &pod("y/wbe", "app=wbe", "", "")),
        found(
            SelectsNothing,
            selects("{matchLabels: {app: wbe}}") + &pod("y/wbe", "app=wbe", "", ""),
            NP,
            "spec.podSelector",
            "y/wbe has these labels",
        ),
        // Names in a row.
        silent(
            LabelTypo,
            pod("x/db1", "app=db-1", "", "") + &policy("x/np", "{podSelector: {matchLabels: {app: db-2}}}"),
        ),
        silent(LabelTypo, from("{namespaceSelector: {}, podSelector: {matchLabels: {app: database}}}")),
        found(
            AndOr,
            from("{namespaceSelector: {matchLabels: {tier: back}}, podSelector: {matchLabels: {app: api}}}"),
            NP,
            PEER,
            "as two items they would match x/api, and y/db",
        ),
        found(
            AndOr,
            from("{namespaceSelector: {matchLabels: {tier: back}}}, {podSelector: {matchLabels: {app: database}}}"),
            NP,
            "spec.ingress[0].from[1]",
            "take the dash before podSelector away to join it with item 0",
        ),
        silent(
            AndOr,
            from("{namespaceSelector: {matchLabels: {tier: back}}, podSelector: {matchLabels: {app: database}}}"),
        ),
        silent(
            AndOr,
            from("{namespaceSelector: {matchLabels: {tier: back}}}, {podSelector: {matchLabels: {app: api}}}"),
        ),
        found(
            NamespaceMissing,
            world() + &policy("prod/np", "{podSelector: {}}"),
            "NetworkPolicy prod/np",
            "metadata.namespace",
            "there is no namespace prod",
        ),
        silent(NamespaceMissing, selects("{}")),
        silent(NamespaceMissing, policy("prod/np", "{podSelector: {}}")),
        silent(NamespaceMissing, world() + &policy("default/np", "{podSelector: {}}")),
        found(
            HostNetwork,
            world() + &host("x/agent", "app=agent") + &policy("x/np", "{podSelector: {matchLabels: {app: agent}}}"),
            NP,
            "spec.podSelector",
            "all that have the labels are in the network of their node: x/agent",
        ),
        info(
            HostNetwork,
            world() + &host("x/web-host", "app=web") + &policy("x/np", "{podSelector: {matchLabels: {app: web}}}"),
            NP,
            "spec.podSelector",
            "has the labels of x/web-host, in the network of the node",
        ),
        silent(HostNetwork, world() + &host("x/agent", "app=agent") + &policy("x/np", "{podSelector: {}}")),
        silent(
            HostNetwork,
            world()
                + &pod("x/agent", "app=agent", "", "")
                + &policy("x/np", "{podSelector: {matchLabels: {app: agent}}}"),
        ),
        found(
            NamespaceLabel,
            from("{namespaceSelector: {matchLabels: {name: y}}}"),
            NP,
            "spec.ingress[0].from[0].namespaceSelector.matchLabels.name",
            "write kubernetes.io/metadata.name: y",
        ),
        silent(NamespaceLabel, from("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}")),
        // Another namespace has such a label.
        found(
            NamespaceLabel,
            namespace("shop", "name=shop") + &from("{namespaceSelector: {matchLabels: {name: y}}}"),
            NP,
            "spec.ingress[0].from[0].namespaceSelector.matchLabels.name",
            "namespace y has no label name=y",
        ),
        silent(NamespaceLabel, namespace("y", "name=y") + &from("{namespaceSelector: {matchLabels: {name: z}}}")),
        found(
            EmptySelectorName,
            world() + &policy("x/web-policy", "{podSelector: {}}"),
            "NetworkPolicy x/web-policy",
            "spec.podSelector",
            "the name speaks of web, and the empty podSelector selects all 2 pods of the namespace, x/api among them",
        ),
        silent(EmptySelectorName, world() + &policy("x/web-policy", "{podSelector: {matchLabels: {app: web}}}")),
        silent(EmptySelectorName, world() + &policy("x/allow-from-web", "{podSelector: {}}")),
        silent(
            EmptySelectorName,
            world()
                + &policy(
                    "x/allow-web",
                    "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}",
                ),
        ),
        silent(EmptySelectorName, world() + &policy("x/zero-trust", "{podSelector: {}}")),
        found(
            NotIsolated,
            selects("{matchLabels: {app: web}}"),
            "Namespace x",
            "",
            "policies isolate 1 pod for ingress and leave out x/api",
        ),
        found(
            NotIsolated,
            world() + &policy("x/np", "{podSelector: {matchLabels: {app: api}}, policyTypes: [Egress]}"),
            "Namespace x",
            "",
            "for egress and leave out x/web: they may go anywhere",
        ),
        silent(NotIsolated, selects("{}")),
        silent(
            NotIsolated,
            selects("{matchLabels: {app: web}}") + &policy("x/rest", "{podSelector: {matchLabels: {app: api}}}"),
        ),
    ];
    cases.extend([
        found(
            Contradiction,
            policy(
                "x/np",
                "{podSelector: {matchLabels: {app: web}, matchExpressions: [{key: app, operator: NotIn, values: [web]}]}}",
            ),
            NP,
            "spec.podSelector",
            "app=web and app!=web never hold together",
        ),
        found(
            Contradiction,
            from("{podSelector: {matchExpressions: [{key: app, operator: Exists}, {key: app, operator: DoesNotExist}]}}"),
            NP,
            "spec.ingress[0].from[0].podSelector",
            "this peer opens nothing",
        ),
        silent(
            Contradiction,
            policy(
                "x/np",
                "{podSelector: {matchLabels: {app: web}, matchExpressions: [{key: app, operator: NotIn, values: [api]}]}}",
            ),
        ),
    ]);
    cases
}
