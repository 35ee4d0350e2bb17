//! Ports and protocols: points 6, 7, 8 and 11.

use crate::common::{ask, check, cluster, party, pod, policy, sound};
use crate::two_pods;
use signalbox_policy::Protocol;

#[test]
fn semantics_06_protocol_defaults_to_tcp_and_no_port_means_all_of_it() {
    for (ports, tcp80, udp80, tcp9) in [
        ("[{port: 80}]", true, false, false),
        ("[{}]", true, false, true),
        ("[{protocol: UDP}]", false, true, false),
        ("[{protocol: UDP, port: 80}]", false, true, false),
        ("[{protocol: UDP}, {port: 9}]", false, true, true),
    ] {
        let cluster = two_pods(&[policy("x/np", &format!("{{podSelector: {{}}, ingress: [{{ports: {ports}}}]}}"))]);
        check(
            &cluster,
            &[
                ("y/api", "x/web", "TCP 80", tcp80),
                ("y/api", "x/web", "UDP 80", udp80),
                ("y/api", "x/web", "TCP 9", tcp9),
                ("y/api", "x/web", "SCTP 80", false),
            ],
        );
    }
}

#[test]
fn semantics_07_named_ports_are_resolved_per_destination_and_protocol() {
    let text = pod("x/web", "", "10.0.0.1", "")
        + &pod("x/a", "", "10.0.0.2", "http=TCP 8080,dns=UDP 53,dns=TCP 5353")
        + &pod("x/b", "", "10.0.0.3", "http=TCP 9090")
        + &pod("x/c", "", "10.0.0.4", "http=UDP 8080");
    let to = ["", "to: [{podSelector: {}}], ", "to: [{ipBlock: {cidr: 10.0.0.0/24}}], "];
    for to in to {
        let spec = format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{{to}ports: [{{port: http}}, {{port: dns, protocol: UDP}}]}}]}}"
        );
        let cluster = sound(&(text.clone() + &policy("x/np", &spec)));
        check(
            &cluster,
            &[
                ("x/web", "x/a", "TCP 8080", true),
                ("x/web", "x/a", "TCP 9090", false),
                ("x/web", "x/b", "TCP 9090", true),
                ("x/web", "x/b", "TCP 8080", false),
                // This pod has the name for another protocol only.
                ("x/web", "x/c", "TCP 8080", false),
                ("x/web", "x/c", "UDP 8080", false),
                ("x/web", "x/a", "UDP 53", true),
                ("x/web", "x/a", "TCP 5353", false),
                // This pod lacks the name.
                ("x/a", "x/web", "TCP 8080", false),
                // What is no pod has no names, also inside a block.
                ("x/web", "10.0.0.200", "TCP 8080", false),
            ],
        );
    }
}

#[test]
fn semantics_07_named_ports_of_ingress_are_the_selected_pods_own() {
    let text = pod("x/web", "", "10.0.0.1", "http=TCP 1")
        + &pod("x/a", "", "10.0.0.2", "http=TCP 8080")
        + &pod("x/b", "", "10.0.0.3", "http=TCP 9090");
    let cluster = sound(&(text + &policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: http}]}]}")));
    check(
        &cluster,
        &[
            ("x/web", "x/a", "TCP 8080", true),
            ("x/web", "x/b", "TCP 9090", true),
            ("x/web", "x/b", "TCP 8080", false),
            ("x/web", "x/a", "TCP 1", false),
        ],
    );
    let tables = cluster.compile("n1");
    assert_eq!(tables.groups.len(), 3, "pods with other numbers behind a name cannot share a group");
}

#[test]
fn semantics_07_ports_of_sidecars_count_and_those_of_other_init_containers_do_not() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: web}
spec:
  containers: [{name: main, ports: [{name: main, containerPort: 1}]}]
  initContainers:
    - {name: proxy, restartPolicy: Always, ports: [{name: proxy, containerPort: 2}]}
    - {name: setup, ports: [{name: setup, containerPort: 3}]}
status: {podIP: 10.0.0.1}
";
    let spec = "{podSelector: {}, ingress: [{ports: [{port: main}, {port: proxy}, {port: setup}]}]}";
    let cluster = sound(&(text.to_owned() + &policy("x/np", spec)));
    check(
        &cluster,
        &[
            ("192.0.2.1", "x/web", "TCP 1", true),
            ("192.0.2.1", "x/web", "TCP 2", true),
            ("192.0.2.1", "x/web", "TCP 3", false),
        ],
    );
}

#[test]
fn semantics_08_end_port_is_inclusive() {
    let cluster = two_pods(&[policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 90}]}]}")]);
    check(
        &cluster,
        &[
            ("y/api", "x/web", "TCP 79", false),
            ("y/api", "x/web", "TCP 80", true),
            ("y/api", "x/web", "TCP 90", true),
            ("y/api", "x/web", "TCP 91", false),
            ("y/api", "x/web", "UDP 85", false),
        ],
    );
}

#[test]
fn semantics_08_end_port_is_refused_where_the_api_refuses_it() {
    for (port, path) in [
        ("{port: 90, endPort: 80}", "endPort: 80 is smaller than port 90"),
        ("{port: http, endPort: 80}", "endPort: needs a numeric port"),
        ("{endPort: 80}", "endPort: needs a numeric port"),
        ("{port: 80, endPort: 65536}", "endPort: must be between 1 and 65535"),
    ] {
        let spec = format!("{{podSelector: {{}}, ingress: [{{ports: [{port}]}}]}}");
        let cluster = cluster(&(pod("x/web", "", "10.0.0.1", "") + &policy("x/np", &spec)));
        let expected = format!("NetworkPolicy x/np: spec.ingress[0].ports[0].{path}");
        assert!(cluster.unknowns()[0].starts_with(&expected), "{:?}", cluster.unknowns());
        assert_eq!(ask(&cluster, "192.0.2.1", "x/web", "TCP 85").allowed(), None);
    }
}

#[test]
fn semantics_11_a_service_is_judged_by_its_pods_port() {
    // The Service has 443, its pods listen on 6443: the port that the policy must name is the pods'.
    let spec = "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 443}]}]}";
    let cluster = two_pods(&[policy("x/np", spec)]);
    let (from, to) = (party("x/web"), party("y/api"));
    let verdict = cluster.verdict_through_service(&from, &to, Protocol::Tcp, 6443);
    assert_eq!(verdict.allowed(), Some(false), "{verdict:?}");
}
