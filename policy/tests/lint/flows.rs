use signalbox_policy::lint::RuleId::{EgressWithoutIngress, IngressWithoutEgress};

use crate::cases::{Case, found, info, silent};
use crate::common::{namespace, pod, policy};

fn world() -> String {
    namespace("x", "tier=front")
        + &namespace("y", "tier=back")
        + &pod("x/web", "app=web", "10.0.0.1", "")
        + &pod("y/db", "app=db", "10.0.0.2", "")
        + &pod("y/api", "app=api", "10.0.0.3", "")
}

fn egress(ports: &str) -> String {
    policy(
        "x/web",
        &format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{namespaceSelector: {{matchLabels: {{tier: back}}}}}}], ports: [{ports}]}}]}}"
        ),
    )
}

fn shut(name: &str, app: &str) -> String {
    policy(name, &format!("{{podSelector: {{matchLabels: {{app: {app}}}}}, ingress: []}}"))
}

const FROM_FRONT: &str = "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: {tier: front}}}], ports: [{port: 80}]}]}";

pub fn cases() -> Vec<Case> {
    vec![
        found(
            EgressWithoutIngress,
            world() + &egress("") + &shut("y/db", "db") + &shut("y/api", "api"),
            "NetworkPolicy x/web",
            "spec.egress[0]",
            "x/web may go out to y/api, and NetworkPolicy y/api lets nothing of it in there: both sides must allow; so it is with all 2 pairs",
        ),
        info(
            EgressWithoutIngress,
            world() + &egress("") + &shut("y/db", "db"),
            "NetworkPolicy x/web",
            "spec.egress[0]",
            "so it is with 1 of 2 pairs of pods",
        ),
        // The ports of the two sides have nothing in common.
        info(
            EgressWithoutIngress,
            world() + &egress("{port: 81}") + &policy("y/db", FROM_FRONT),
            "NetworkPolicy x/web",
            "spec.egress[0]",
            "x/web may go out to y/db, and NetworkPolicy y/db lets nothing of it in there",
        ),
        silent(EgressWithoutIngress, world() + &egress("{port: 80}") + &policy("y/db", FROM_FRONT)),
        silent(EgressWithoutIngress, world() + &egress("")),
        silent(
            EgressWithoutIngress,
            world()
                + &egress("")
                + &policy("y/db", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/30}}]}]}"),
        ),
        // A policy that was not understood may let it in.
        silent(
            EgressWithoutIngress,
            world()
                + &egress("")
                + &shut("y/db", "db")
                + &shut("y/api", "api")
                + &policy("y/odd", "{podSelector: {}, ingres: []}"),
        ),
        silent(EgressWithoutIngress, egress("") + &shut("y/db", "db")),
        found(
            IngressWithoutEgress,
            world() + &policy("y/db", FROM_FRONT) + &policy("x/shut", "{podSelector: {}, policyTypes: [Egress]}"),
            "NetworkPolicy y/db",
            "spec.ingress[0]",
            "y/db lets in x/web, and NetworkPolicy x/shut lets nothing of it out there: both sides must allow",
        ),
        silent(IngressWithoutEgress, world() + &policy("y/db", FROM_FRONT) + &egress("{port: 80}")),
        silent(IngressWithoutEgress, world() + &policy("y/db", FROM_FRONT)),
        silent(
            IngressWithoutEgress,
            world()
                + &policy("y/db", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}")
                + &policy("x/shut", "{podSelector: {}, policyTypes: [Egress]}"),
        ),
    ]
}
