use signalbox_policy::lint::RuleId::{EgressNotIsolated, ImplicitIngressDeny, RulesIgnored, WideOpen};

use crate::cases::{Case, found, silent};
use crate::common::policy;

pub fn cases() -> Vec<Case> {
    let spec = |spec: &str| policy("x/np", spec);
    vec![
        found(
            RulesIgnored,
            spec("{podSelector: {}, policyTypes: [Egress], ingress: [{from: [{podSelector: {}}]}], egress: []}"),
            "NetworkPolicy x/np",
            "spec.ingress",
            "leaves Ingress out, so that what it says there has no effect: 1 ingress rule",
        ),
        found(
            RulesIgnored,
            spec("{podSelector: {}, policyTypes: [Ingress], egress: []}"),
            "NetworkPolicy x/np",
            "spec.egress",
            "the empty egress list shuts nothing",
        ),
        silent(RulesIgnored, spec("{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}")),
        silent(RulesIgnored, spec("{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [], egress: []}")),
        found(
            EgressNotIsolated,
            spec("{podSelector: {}, egress: []}"),
            "NetworkPolicy x/np",
            "spec.egress",
            "write policyTypes: [Ingress, Egress]",
        ),
        silent(EgressNotIsolated, spec("{podSelector: {}, policyTypes: [Egress], egress: []}")),
        silent(EgressNotIsolated, spec("{podSelector: {}, ingress: []}")),
        found(
            ImplicitIngressDeny,
            spec("{podSelector: {}, egress: [{to: [{podSelector: {}}]}]}"),
            "NetworkPolicy x/np",
            "spec.policyTypes",
            "nobody may reach the pods",
        ),
        silent(ImplicitIngressDeny, spec("{podSelector: {}, ingress: [], egress: [{to: [{podSelector: {}}]}]}")),
        silent(
            ImplicitIngressDeny,
            spec("{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}"),
        ),
        found(
            WideOpen,
            spec("{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}, {}]}"),
            "NetworkPolicy x/np",
            "spec.ingress[1]",
            "of pods with app=web of x, anyone, the outside included, may reach them on every port",
        ),
        found(
            WideOpen,
            spec("{podSelector: {}, policyTypes: [Egress], egress: [{to: [], ports: []}]}"),
            "NetworkPolicy x/np",
            "spec.egress[0]",
            "they may go anywhere",
        ),
        silent(WideOpen, spec("{podSelector: {}, ingress: [{ports: [{port: 80}]}, {from: [{podSelector: {}}]}]}")),
        silent(WideOpen, spec("{podSelector: {}, ingress: []}")),
    ]
}
