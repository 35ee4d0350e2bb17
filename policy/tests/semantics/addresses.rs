//! Addresses, blocks and families: points 9, 10, 12 and 21.

use crate::common::{check, party, pod, policy, sound};
use crate::two_pods;
use signalbox_policy::tables::Identity;
use signalbox_policy::{Connection, Family, Protocol, Route};

#[test]
fn semantics_09_except_subtracts_within_its_own_block_only() {
    let spec = "{podSelector: {}, ingress: [
        {from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 80}]},
        {from: [{ipBlock: {cidr: 10.1.2.0/24}}]}]}";
    let cluster = two_pods(&[policy("x/np", spec)]);
    check(
        &cluster,
        &[
            ("10.2.0.1", "x/web", "TCP 80", true),
            ("10.1.0.1", "x/web", "TCP 80", false),
            ("10.1.2.1", "x/web", "TCP 80", true),
            ("10.1.2.1", "x/web", "TCP 81", true),
            ("10.2.0.1", "x/web", "TCP 81", false),
        ],
    );
}

#[test]
fn semantics_09_blocks_are_read_in_canonical_form() {
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.5/24, except: [192.0.2.129/25]}}]}]}";
    let cluster = two_pods(&[policy("x/np", spec)]);
    check(&cluster, &[("192.0.2.1", "x/web", "TCP 80", true), ("192.0.2.128", "x/web", "TCP 80", false)]);
}

#[test]
fn semantics_10_blocks_match_pods_too() {
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.1.0/24}}]}]}";
    let cluster = two_pods(&[policy("x/np", spec)]);
    check(&cluster, &[("y/api", "x/web", "TCP 80", true), ("10.0.1.1", "x/web", "TCP 80", true)]);
}

#[test]
fn semantics_21_every_address_of_a_pod_and_no_block_across_families() {
    let text = pod("x/web", "", "10.0.0.1,fd00::1", "") + &pod("y/api", "", "10.0.0.2,fd00::2", "");
    let by_v4 = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}";
    let cluster = sound(&(text + &policy("x/np", by_v4)));
    let (from, to) = (party("y/api"), party("x/web"));
    for (family, open) in [(Family::V4, true), (Family::V6, false)] {
        let connection = Connection {
            from: &from,
            to: &to,
            protocol: Protocol::Tcp,
            port: 80,
            route: Route::Direct,
            family: Some(family),
        };
        assert_eq!(cluster.judge(&connection).allowed(), Some(open), "{family:?}");
    }
    check(
        &cluster,
        &[
            ("192.0.2.1", "x/web", "TCP 80", true),
            ("2001:db8::1", "x/web", "TCP 80", false),
            ("fd00::2", "x/web", "TCP 80", false),
        ],
    );
    let tables = cluster.compile("n1");
    assert_eq!(tables.addresses.len(), 4, "both addresses of both pods");
    assert_eq!(tables.identity_of("2001:db8::1".parse().unwrap()), Identity::WORLD);
    assert_ne!(tables.identity_of("192.0.2.1".parse().unwrap()), Identity::WORLD);
}

#[test]
fn semantics_21_without_a_family_the_first_common_one_counts() {
    let text = pod("x/web", "", "fd00::1,10.0.0.1", "") + &pod("y/api", "", "10.0.0.2", "");
    let by_v4 = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.2/32}}]}]}";
    check(&sound(&(text + &policy("x/np", by_v4))), &[("y/api", "x/web", "TCP 80", true)]);
}

#[test]
fn semantics_12_a_client_behind_a_node_port_may_have_the_nodes_address() {
    let node = "
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {addresses: [{type: InternalIP, address: 172.16.0.2}]}
";
    // Whom the policy lets in is told by the address that arrives, be it the client's or the node's.
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}";
    let cluster = two_pods(&[node.to_owned(), policy("x/np", spec)]);
    check(&cluster, &[("192.0.2.1", "x/web", "TCP 8080", true), ("172.16.0.2", "x/web", "TCP 8080", false)]);
}
