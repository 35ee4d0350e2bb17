//! The policies that are tried, by the points of what NetworkPolicy means that probes can show. Pure.
//!
//! Nine pods: a, b and c in each of the namespaces x, y and z, with the labels `pod` and `ns`. They listen on 80 and 81, by TCP and UDP,
//! and call these ports `serve-80-tcp` and so on.

use serde_json::{Value, json};

/// What a case is told about the pods.
pub(super) struct Ground<'a> {
    /// The real name of the namespace x.
    pub x: &'a str,
    /// Of y.
    pub y: &'a str,
    /// The address of the pod y/a.
    pub y_a: &'a str,
}

/// One set of policies.
pub(super) struct Case {
    /// The point's number.
    pub point: u8,
    pub title: &'static str,
    /// Namespace (x, y or z) and `spec`.
    pub policies: Vec<(&'static str, Value)>,
}

/// What each point says, in a few words.
pub(super) const POINTS: &[(u8, &str)] = &[
    (1, "selectors by expressions, and by empty values"),
    (2, "policyTypes where they are not given"),
    (3, "nothing, everything, and empty lists"),
    (4, "peers: own namespace, all, AND, OR"),
    (5, "namespaces by kubernetes.io/metadata.name"),
    (6, "a port's protocol, and entries without a port"),
    (7, "named ports"),
    (9, "except subtracts in its own ipBlock only"),
    (10, "ipBlock matches addresses of pods"),
    (11, "Services: judged behind the translation"),
    (15, "a pod reaches itself"),
    (20, "a rule for SCTP isolates for TCP and UDP"),
    (24, "policies add up"),
    (25, "an empty podSelector is the whole namespace"),
];

/// All cases.
pub(super) fn all(ground: &Ground<'_>) -> Vec<Case> {
    let Ground { x, y, y_a } = *ground;
    let pod = |name: &str| json!({"matchLabels": {"pod": name}});
    let ns = |name: &str| json!({"matchLabels": {"ns": name}});
    let by = |key: &str, operator: &str, values: &[&str]| match values {
        [] => json!({"matchExpressions": [{"key": key, "operator": operator}]}),
        values => json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}),
    };
    let everyone = || json!({});
    let ingress =
        |subject: Value, rules: Value| json!({"podSelector": subject, "policyTypes": ["Ingress"], "ingress": rules});
    let egress =
        |subject: Value, rules: Value| json!({"podSelector": subject, "policyTypes": ["Egress"], "egress": rules});
    let from = |peers: Value| json!([{"from": peers}]);
    let to = |peers: Value| json!([{"to": peers}]);
    let ports = |ports: Value| json!([{"ports": ports}]);
    let one = |point: u8, title: &'static str, spec: Value| Case { point, title, policies: vec![("x", spec)] };
    let host = format!("{y_a}/32");
    // The family's whole range: an except has to lie in it.
    let world = if y_a.contains(':') { "::/0" } else { "0.0.0.0/0" };
    let host = if y_a.contains(':') { format!("{y_a}/128") } else { host };
    vec![
        one(1, "NotIn selects pods without the key", ingress(by("absent", "NotIn", &["q"]), json!([]))),
        one(1, "DoesNotExist selects pods without the key", ingress(by("absent", "DoesNotExist", &[]), json!([]))),
        one(1, "DoesNotExist of a key that is there selects none", ingress(by("pod", "DoesNotExist", &[]), json!([]))),
        one(1, "an empty value is no absent key", ingress(json!({"matchLabels": {"absent": ""}}), json!([]))),
        one(1, "In selects by several values", ingress(by("pod", "In", &["a", "b"]), json!([]))),
        one(1, "NotIn in a peer", ingress(everyone(), from(json!([{"podSelector": by("pod", "NotIn", &["a"])}])))),
        one(
            1,
            "Exists in a peer's namespace",
            ingress(everyone(), from(json!([{"namespaceSelector": by("ns", "Exists", &[])}]))),
        ),
        one(
            1,
            "NotIn in a peer's namespace",
            ingress(everyone(), from(json!([{"namespaceSelector": by("ns", "NotIn", &["y"])}]))),
        ),
        one(2, "unset: ingress is isolated, egress is not", json!({"podSelector": pod("a")})),
        one(
            2,
            "unset with an egress rule: both are",
            json!({"podSelector": pod("a"), "egress": to(json!([{"podSelector": pod("b")}]))}),
        ),
        one(
            2,
            "unset with empty egress: egress is not",
            json!({"podSelector": pod("a"), "egress": [], "ingress": [{}]}),
        ),
        one(
            2,
            "Egress alone ignores ingress rules",
            json!({"podSelector": pod("a"), "policyTypes": ["Egress"], "ingress": [], "egress": [{}]}),
        ),
        one(2, "both, and nothing allowed", json!({"podSelector": pod("a"), "policyTypes": ["Ingress", "Egress"]})),
        one(3, "no ingress rule allows nothing", ingress(everyone(), json!([]))),
        one(3, "an empty ingress rule allows everything", ingress(everyone(), json!([{}]))),
        one(3, "an empty from is anybody", ingress(everyone(), json!([{"from": [], "ports": [{"port": 80}]}]))),
        one(3, "no egress rule allows nothing", egress(everyone(), json!([]))),
        one(3, "an empty egress rule allows everything", egress(everyone(), json!([{}]))),
        one(3, "an empty to is anybody", egress(everyone(), json!([{"to": [], "ports": [{"port": 81}]}]))),
        one(
            4,
            "pods without namespaces: the policy's own",
            ingress(pod("a"), from(json!([{"podSelector": pod("b")}]))),
        ),
        one(4, "all namespaces", ingress(pod("a"), from(json!([{"namespaceSelector": {}}])))),
        one(4, "one namespace", ingress(pod("a"), from(json!([{"namespaceSelector": ns("y")}])))),
        one(
            4,
            "both in one item: AND",
            ingress(pod("a"), from(json!([{"namespaceSelector": ns("y"), "podSelector": pod("b")}]))),
        ),
        one(
            4,
            "two items: OR",
            ingress(pod("a"), from(json!([{"namespaceSelector": ns("y")}, {"podSelector": pod("b")}]))),
        ),
        one(
            4,
            "two rules: OR",
            ingress(
                pod("a"),
                json!([{"from": [{"namespaceSelector": ns("y")}]}, {"from": [{"namespaceSelector": ns("z"), "podSelector": pod("c")}]}]),
            ),
        ),
        one(4, "egress to pods of the own namespace", egress(pod("a"), to(json!([{"podSelector": pod("b")}])))),
        one(4, "egress: AND", egress(pod("a"), to(json!([{"namespaceSelector": ns("y"), "podSelector": pod("b")}])))),
        one(4, "egress: OR", egress(pod("a"), to(json!([{"namespaceSelector": ns("y")}, {"podSelector": pod("b")}])))),
        one(
            5,
            "ingress from a namespace by its name",
            ingress(
                pod("a"),
                from(json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": y}}}])),
            ),
        ),
        one(
            5,
            "egress to one's own namespace by its name",
            egress(pod("a"), to(json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": x}}}]))),
        ),
        one(6, "a port is TCP where it does not say", ingress(everyone(), ports(json!([{"port": 80}])))),
        one(6, "UDP", ingress(everyone(), ports(json!([{"port": 81, "protocol": "UDP"}])))),
        one(6, "all ports of one protocol", ingress(everyone(), ports(json!([{"protocol": "UDP"}])))),
        one(6, "egress to a port", egress(everyone(), ports(json!([{"port": 81, "protocol": "TCP"}])))),
        one(
            6,
            "a port and a peer",
            ingress(
                pod("a"),
                json!([{"from": [{"namespaceSelector": ns("y")}], "ports": [{"port": 80}, {"port": 81, "protocol": "UDP"}]}]),
            ),
        ),
        one(7, "ingress to a named port", ingress(everyone(), ports(json!([{"port": "serve-80-tcp"}])))),
        one(
            7,
            "egress to a named port, by each destination",
            egress(pod("a"), ports(json!([{"port": "serve-81-udp", "protocol": "UDP"}]))),
        ),
        one(
            7,
            "a name of another protocol matches nothing",
            ingress(pod("a"), ports(json!([{"port": "serve-80-tcp", "protocol": "UDP"}]))),
        ),
        one(
            9,
            "an except is left out",
            ingress(everyone(), from(json!([{"ipBlock": {"cidr": world, "except": [host]}}]))),
        ),
        one(
            9,
            "another rule allows what an except leaves out",
            ingress(
                everyone(),
                json!([{"from": [{"ipBlock": {"cidr": world, "except": [host]}}]}, {"from": [{"ipBlock": {"cidr": host}}]}]),
            ),
        ),
        one(10, "ingress from one pod's address", ingress(everyone(), from(json!([{"ipBlock": {"cidr": host}}])))),
        one(10, "egress to one pod's address", egress(everyone(), to(json!([{"ipBlock": {"cidr": host}}])))),
        one(11, "the pod's port is allowed", egress(pod("b"), ports(json!([{"port": 80}])))),
        one(11, "the Service's port is allowed", egress(pod("b"), ports(json!([{"port": 180}])))),
        one(
            15,
            "isolated both ways, and alone with itself",
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        ),
        one(20, "SCTP alone", ingress(pod("a"), ports(json!([{"port": 80, "protocol": "SCTP"}])))),
        Case {
            point: 24,
            title: "nothing, and one exception",
            policies: vec![
                ("x", ingress(everyone(), json!([]))),
                ("x", ingress(pod("a"), from(json!([{"namespaceSelector": ns("y"), "podSelector": pod("a")}])))),
            ],
        },
        Case {
            point: 24,
            title: "egress of one side and ingress of the other",
            policies: vec![
                ("x", egress(pod("a"), to(json!([{"namespaceSelector": ns("y")}])))),
                ("y", ingress(pod("b"), from(json!([{"namespaceSelector": ns("x"), "podSelector": pod("a")}])))),
            ],
        },
        Case {
            point: 25,
            title: "each namespace for itself",
            policies: vec![
                ("x", ingress(everyone(), from(json!([{"podSelector": {}}])))),
                ("z", egress(everyone(), to(json!([{"podSelector": {}}])))),
            ],
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_a_case_and_every_case_a_point() {
        let all = all(&Ground { x: "x", y: "y", y_a: "10.0.0.1" });
        assert!(all.len() >= 40, "{}", all.len());
        let points: std::collections::BTreeSet<u8> = all.iter().map(|case| case.point).collect();
        assert_eq!(points.into_iter().collect::<Vec<_>>(), POINTS.iter().map(|(point, _)| *point).collect::<Vec<_>>());
    }
}
