//! What selectors select: points 1, 4, 5 and 25.

use crate::common::{ask, check, namespace, pod, policy, sound};
use crate::{common_pod, two_pods};
use signalbox_policy::PolicyRef;

#[test]
fn semantics_01_not_in_matches_absent_key() {
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [back]}]}}]}]}";
    let text = pod("x/web", "", "10.0.0.1", "")
        + &pod("y/none", "", "10.0.0.2", "")
        + &pod("y/front", "tier=front", "10.0.0.3", "")
        + &pod("y/back", "tier=back", "10.0.0.4", "");
    let cluster = sound(&(text + &policy("x/np", spec)));
    check(
        &cluster,
        &[
            ("y/none", "x/web", "TCP 80", true),
            ("y/front", "x/web", "TCP 80", true),
            ("y/back", "x/web", "TCP 80", false),
        ],
    );
}

#[test]
fn semantics_01_does_not_exist_matches_absent_key() {
    let spec = "{podSelector: {matchExpressions: [{key: open, operator: DoesNotExist}]}}";
    let text = pod("x/shut", "", "10.0.0.1", "") + &pod("x/open", "open=", "10.0.0.2", "");
    let cluster = sound(&(text + &policy("x/np", spec)));
    check(&cluster, &[("x/open", "x/shut", "TCP 80", false), ("x/shut", "x/open", "TCP 80", true)]);
}

#[test]
fn semantics_01_empty_value_is_not_an_absent_key() {
    let spec =
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {mark: ''}}}]}]}";
    let text = pod("x/web", "", "10.0.0.1", "")
        + &pod("y/empty", "mark=", "10.0.0.2", "")
        + &pod("y/absent", "", "10.0.0.3", "")
        + &pod("y/other", "mark=1", "10.0.0.4", "");
    let cluster = sound(&(text + &policy("x/np", spec)));
    check(
        &cluster,
        &[
            ("y/empty", "x/web", "TCP 80", true),
            ("y/absent", "x/web", "TCP 80", false),
            ("y/other", "x/web", "TCP 80", false),
        ],
    );
}

#[test]
fn semantics_04_peers_are_in_the_own_namespace_unless_they_say_otherwise() {
    let text = namespace("x", "team=x")
        + &namespace("y", "team=y")
        + &pod("x/web", "", "10.0.0.1", "")
        + &pod("x/a", "app=a", "10.0.0.2", "")
        + &pod("x/b", "app=b", "10.0.0.3", "")
        + &pod("y/a", "app=a", "10.0.0.4", "")
        + &pod("y/b", "app=b", "10.0.0.5", "");
    let peers = [
        ("[{podSelector: {matchLabels: {app: a}}}]", [true, false, false, false]),
        ("[{podSelector: {}}]", [true, true, false, false]),
        ("[{namespaceSelector: {}}]", [true, true, true, true]),
        ("[{namespaceSelector: {matchLabels: {team: y}}}]", [false, false, true, true]),
        // In one item: both must hold. In two items: either.
        (
            "[{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {app: a}}}]",
            [false, false, true, false],
        ),
        (
            "[{namespaceSelector: {matchLabels: {team: y}}}, {podSelector: {matchLabels: {app: a}}}]",
            [true, false, true, true],
        ),
    ];
    for (from, expected) in peers {
        let spec = format!("{{podSelector: {{}}, ingress: [{{from: {from}}}]}}");
        let cluster = sound(&(text.clone() + &policy("x/np", &spec)));
        let open =
            ["x/a", "x/b", "y/a", "y/b"].map(|pod| ask(&cluster, pod, "x/web", "TCP 80").allowed() == Some(true));
        assert_eq!(open, expected, "{from}");
    }
}

#[test]
fn semantics_05_every_namespace_carries_its_name() {
    let spec =
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}]}]}";
    let pods = pod("x/web", "", "10.0.0.1", "") + &pod("y/a", "", "10.0.0.2", "") + &pod("z/a", "", "10.0.0.3", "");
    // With namespaces that lack the label, with one that claims another's name, and without namespaces.
    let claiming = namespace("x", "") + &namespace("y", "") + &namespace("z", "kubernetes.io/metadata.name=y");
    for namespaces in [namespace("x", "") + &namespace("y", "a=b") + &namespace("z", ""), claiming, String::new()] {
        let cluster = sound(&(namespaces + &pods + &policy("x/np", spec)));
        check(&cluster, &[("y/a", "x/web", "TCP 80", true), ("z/a", "x/web", "TCP 80", false)]);
    }
}

#[test]
fn semantics_25_an_empty_pod_selector_selects_the_own_namespace_and_only_that() {
    for spec in ["{podSelector: {}}", "{}", "{podSelector: {matchLabels: {}, matchExpressions: []}}"] {
        let cluster = two_pods(&[policy("x/np", spec)]);
        check(&cluster, &[("y/api", "x/web", "TCP 80", false), ("x/web", "y/api", "TCP 80", true)]);
        assert_eq!(cluster.selected_by(&PolicyRef::network_policy("x", "np")), [common_pod("x", "web")]);
        assert_eq!(cluster.selected_by(&PolicyRef::network_policy("y", "np")), []);
    }
}
