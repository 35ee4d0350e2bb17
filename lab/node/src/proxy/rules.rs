//! From Services and EndpointSlices to the text that nft reads. Nothing from an object reaches the text but addresses
//! and numbers that were parsed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use crate::directory::Known;
use crate::network::{NODE_COMPANY, NODE_INTERNET, PODS};

/// What rules can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn parse(word: Option<&str>) -> Option<Self> {
        match word {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServicePort {
    protocol: Protocol,
    /// Where it is reached: cluster, external and load balancer's addresses with the port, the node's with the node port.
    fronts: Vec<(Ipv4Addr, u16)>,
    /// `sessionAffinity: ClientIP`.
    sticky: bool,
    backends: Vec<(Ipv4Addr, u16)>,
}

fn addresses(words: Option<&Vec<String>>) -> impl Iterator<Item = Ipv4Addr> + '_ {
    // `None` is what a headless Service has for an address.
    words.into_iter().flatten().filter_map(|word| word.parse().ok())
}

/// The addresses that a Service's load balancer has been given.
fn ingress(service: &Service) -> impl Iterator<Item = Ipv4Addr> + '_ {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let balanced = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
    status
        .into_iter()
        .filter(move |_| balanced)
        .flat_map(|status| status.ingress.iter().flatten())
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
}

/// Every load balancer's address: the node answers for those of the company network.
pub(super) fn load_balancers(known: &Known) -> BTreeSet<Ipv4Addr> {
    known
        .services
        .values()
        .flat_map(ingress)
        .filter(|address| NODE_COMPANY.contains(address) && *address != NODE_COMPANY.addr())
        .collect()
}

/// Every port of every Service that has an address.
pub(super) fn ports(known: &Known) -> Vec<ServicePort> {
    let mut found = Vec::new();
    for (key, service) in &known.services {
        let Some(spec) = &service.spec else { continue };
        let cluster = match &spec.cluster_ips {
            Some(all) if !all.is_empty() => addresses(Some(all)).collect::<Vec<_>>(),
            _ => spec.cluster_ip.iter().filter_map(|word| word.parse().ok()).collect(),
        };
        if cluster.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
            continue;
        }
        let fronts: BTreeSet<Ipv4Addr> =
            cluster.into_iter().chain(addresses(spec.external_ips.as_ref())).chain(ingress(service)).collect();
        for port in spec.ports.iter().flatten() {
            let (Some(protocol), Ok(number)) = (Protocol::parse(port.protocol.as_deref()), u16::try_from(port.port))
            else {
                continue;
            };
            let mut fronts: Vec<_> = fronts.iter().map(|&address| (address, number)).collect();
            if let Some(node_port) = node_port(spec, port.node_port) {
                fronts.extend([NODE_COMPANY, NODE_INTERNET].map(|node| (node.addr(), node_port)));
            }
            let backends = known
                .backends(key, port.name.as_deref())
                .into_iter()
                .filter_map(|backend| Some((backend.address, backend.port?)))
                .collect();
            let sticky = spec.session_affinity.as_deref() == Some("ClientIP");
            found.push(ServicePort { protocol, fronts, sticky, backends });
        }
    }
    found
}

fn node_port(spec: &ServiceSpec, port: Option<i32>) -> Option<u16> {
    let exposed = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    port.filter(|_| exposed).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// The addresses of hosts outside that lie in none of the ranges that the node has a route for.
pub(super) fn far_hosts(known: &Known) -> BTreeSet<Ipv4Addr> {
    let far = |address: &IpAddr| match address {
        IpAddr::V4(v4) if !near().iter().any(|range| range.contains(v4)) => Some(*v4),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    known.hosts.values().flat_map(|host| &host.addresses).filter_map(far).collect()
}

fn near() -> [Ipv4Net; 3] {
    [PODS, NODE_COMPANY.trunc(), NODE_INTERNET.trunc()]
}

/// The whole table, as one transaction that replaces what was there.
///
/// Where a pod's packet has nowhere to go, it is refused here. The kernel would say so, too, but of many packets only of one a second
/// (`ip_error` in its route.c), and a probe would take the others for dropped.
pub(super) fn text(ports: &[ServicePort], far_hosts: &BTreeSet<Ipv4Addr>) -> String {
    let mut served: BTreeMap<(Ipv4Addr, Protocol, u16), usize> = BTreeMap::new();
    let mut refused: BTreeSet<(Ipv4Addr, Protocol, u16)> = BTreeSet::new();
    let mut pods: BTreeSet<Ipv4Addr> = BTreeSet::new();
    let mut chains = String::new();
    for (index, port) in ports.iter().enumerate() {
        for &(address, number) in &port.fronts {
            let front = (address, port.protocol, number);
            // Two Services with one external address and port: the first by name has it.
            if served.contains_key(&front) || refused.contains(&front) {
                continue;
            }
            if port.backends.is_empty() {
                refused.insert(front);
            } else {
                served.insert(front, index);
            }
        }
        service_chains(&mut chains, index, port);
        pods.extend(port.backends.iter().map(|(address, _)| *address));
    }

    let key =
        |(address, protocol, port): &(Ipv4Addr, Protocol, u16)| format!("{address} . {} . {port}", protocol.word());
    let served: Vec<String> = served.iter().map(|(front, index)| format!("{} : goto s{index}", key(front))).collect();
    let refused: Vec<String> = refused.iter().map(|front| format!("{} : goto refuse", key(front))).collect();
    let pods: Vec<String> = pods.iter().map(|pod| format!("{pod} . {pod}")).collect();
    let lookup = |elements: &[String]| match elements {
        [] => String::new(),
        elements => format!("    ip daddr . meta l4proto . th dport vmap {{ {} }}\n", elements.join(", ")),
    };
    let hairpin = match pods.as_slice() {
        [] => String::new(),
        pods => format!(
            "    ct status dnat ip saddr . ip daddr {{ {} }} snat to {}\n",
            pods.join(", "),
            NODE_COMPANY.addr()
        ),
    };
    let reached: Vec<String> =
        near().iter().map(ToString::to_string).chain(far_hosts.iter().map(ToString::to_string)).collect();
    format!(
        "add table ip signalbox-services\n\
         delete table ip signalbox-services\n\
         table ip signalbox-services {{\n\
         {chains}\
         \x20 chain services {{\n{served}  }}\n\
         \x20 chain refuse {{\n\
         \x20   meta l4proto tcp reject with tcp reset\n\
         \x20   reject with icmp port-unreachable\n\
         \x20 }}\n\
         \x20 chain without-endpoints {{\n\
         \x20   type filter hook prerouting priority -110; policy accept;\n{refused}  }}\n\
         \x20 chain without-endpoints-here {{\n\
         \x20   type filter hook output priority -110; policy accept;\n{refused}  }}\n\
         \x20 chain prerouting {{\n\
         \x20   type nat hook prerouting priority -100; policy accept;\n\
         \x20   jump services\n\
         \x20 }}\n\
         \x20 chain output {{\n\
         \x20   type nat hook output priority -100; policy accept;\n\
         \x20   jump services\n\
         \x20 }}\n\
         \x20 chain nowhere {{\n\
         \x20   type filter hook prerouting priority -90; policy accept;\n\
         \x20   ip saddr {inside} ip daddr != {{ {reached} }} reject with icmp net-unreachable\n\
         \x20 }}\n\
         \x20 chain postrouting {{\n\
         \x20   type nat hook postrouting priority 100; policy accept;\n{hairpin}  }}\n\
         }}\n",
        inside = PODS,
        reached = reached.join(", "),
        served = lookup(&served),
        refused = lookup(&refused),
    )
}

fn service_chains(text: &mut String, index: usize, port: &ServicePort) {
    let count = port.backends.len();
    if count == 0 {
        return;
    }
    let mut choices = Vec::new();
    for (number, (address, target)) in port.backends.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "  chain s{index}b{number} {{\n    meta l4proto {} dnat to {address}:{target}\n  }}\n",
            port.protocol.word()
        );
        choices.push(format!("{number} : goto s{index}b{number}"));
    }
    // The same client to the same endpoint, as long as the endpoints stay: without memory that a change could lose.
    let choose = if port.sticky {
        format!("jhash ip saddr mod {count} seed 0x5167")
    } else {
        format!("numgen random mod {count}")
    };
    let _ = write!(text, "  chain s{index} {{\n    {choose} vmap {{ {} }}\n  }}\n", choices.join(", "));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::directory::tests::{known, slice};

    fn service(spec: Value, status: Value) -> Value {
        json!({"metadata": {"name": "dbsvc", "namespace": "backend"}, "spec": spec, "status": status})
    }

    fn rules(services: Value, slices: Value) -> String {
        text(&ports(&known(services, slices, json!({}))), &BTreeSet::new())
    }

    #[test]
    fn cluster_node_and_load_balancer_addresses() {
        let spec = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
            "externalIPs": ["198.51.100.77"],
            "ports": [{"name": "http", "port": 80, "targetPort": 9000, "nodePort": 30080, "protocol": "TCP"}]});
        let status = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.200"}]}});
        let port = json!({"name": "http", "port": 9000, "protocol": "TCP"});
        let endpoints = [("10.244.0.10", true, false), ("10.244.0.11", true, false)];
        let services = json!([service(spec, status)]);
        let text = rules(services.clone(), json!([slice("dbsvc", port, &endpoints)]));
        for front in [
            "10.96.0.7 . tcp . 80 : goto s0",
            "198.51.100.77 . tcp . 80 : goto s0",
            "198.51.100.200 . tcp . 80 : goto s0",
            "198.51.100.10 . tcp . 30080 : goto s0",
            "203.0.113.1 . tcp . 30080 : goto s0",
            "numgen random mod 2 vmap { 0 : goto s0b0, 1 : goto s0b1 }",
            "meta l4proto tcp dnat to 10.244.0.11:9000",
            "{ 10.244.0.10 . 10.244.0.10, 10.244.0.11 . 10.244.0.11 } snat to 198.51.100.10",
        ] {
            assert!(text.contains(front), "{front} in\n{text}");
        }
        let known = known(services, json!([]), json!({}));
        assert_eq!(load_balancers(&known), BTreeSet::from([Ipv4Addr::new(198, 51, 100, 200)]));
    }

    #[test]
    fn what_lies_nowhere_is_refused() {
        let hosts = json!({"internet": {"addresses": ["203.0.113.10", "192.0.2.7", "2001:db8::1"]}});
        let known = known(json!([]), json!([]), hosts);
        let text = text(&ports(&known), &far_hosts(&known));
        let rule =
            "ip saddr 10.244.0.0/16 ip daddr != { 10.244.0.0/16, 198.51.100.0/24, 203.0.113.0/24, 192.0.2.7 } reject";
        assert!(text.contains(rule), "{text}");
    }

    #[test]
    fn without_endpoints_it_is_refused() {
        let spec = json!({"clusterIP": "10.96.0.7", "ports": [{"port": 53, "protocol": "UDP"}]});
        let text = rules(json!([service(spec, json!({}))]), json!([]));
        assert_eq!(text.matches("10.96.0.7 . udp . 53 : goto refuse").count(), 2, "{text}");
        assert!(!text.contains("snat"), "{text}");
    }

    #[test]
    fn headless_and_external_names_have_no_rules() {
        for spec in [
            json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "externalName": "www.example.com"}),
        ] {
            let text = rules(json!([service(spec, json!({}))]), json!([]));
            assert!(!text.contains("vmap"), "{text}");
        }
    }

    #[test]
    fn affinity_hashes_the_client() {
        let spec = json!({"clusterIP": "10.96.0.7", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]});
        let port = json!({"name": "", "port": 9000, "protocol": "TCP"});
        let text =
            rules(json!([service(spec, json!({}))]), json!([slice("dbsvc", port, &[("10.244.0.10", true, false)])]));
        assert!(text.contains("jhash ip saddr mod 1"), "{text}");
    }
}
