//! Pods behind a bridge, and the service proxy's rules in front of them.

use signalbox_enforcer::datapath::NodeAddresses;

use super::{Lab, NODE, NODE_V6, OUTSIDE, POD_A, POD_B, Space};

/// The bridge's own addresses, which are the pods' gateways.
pub const BRIDGE: &str = "10.244.0.1";
/// See [`BRIDGE`].
pub const BRIDGE6: &str = "fd00:244::1";
/// An address that a load balancer gave to a Service; no interface has it.
pub const EXTERNAL: &str = "10.96.7.7";
/// The node port of pod b's port 9000.
pub const NODE_PORT: u16 = 30_080;

/// Whether bridged packets go through netfilter as well (`br_netfilter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netfilter {
    /// Those that are routed only.
    Routed,
    /// All.
    Bridged,
}

impl Lab {
    /// With both pods behind a bridge that has their gateway's address, as the CNI `bridge` has it.
    pub fn bridged(netfilter: Netfilter) -> Self {
        let lab = Self::bare(vec![NODE, NODE_V6, BRIDGE, BRIDGE6]);
        let node = &lab.node;
        node.run("ip link add cni0 type bridge");
        node.run(&format!("ip addr add {BRIDGE}/24 dev cni0"));
        node.run(&format!("ip -6 addr add {BRIDGE6}/64 dev cni0 nodad"));
        node.run("ip link set cni0 up");
        let called = if netfilter == Netfilter::Bridged { "1" } else { "0" };
        for family in ["iptables", "ip6tables"] {
            node.set(&format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), called);
        }
        lab.bridged_pod(&lab.a, "va", POD_A, "fd00:244::2");
        lab.bridged_pod(&lab.b, "vb", POD_B, "fd00:244::3");
        lab
    }

    fn bridged_pod(&self, pod: &Space, veth: &str, v4: &str, v6: &str) {
        let node = &self.node;
        node.run(&format!("ip link add {veth} type veth peer name eth0 netns {}", pod.path().display()));
        node.run(&format!("ip link set {veth} master cni0 up"));
        // `hairpinMode`: a packet may go out where it came in.
        node.run(&format!("ip link set {veth} type bridge_slave hairpin on"));
        pod.run("ip link set eth0 up");
        pod.run(&format!("ip addr add {v4}/24 dev eth0"));
        pod.run(&format!("ip -6 addr add {v6}/64 dev eth0 nodad"));
        pod.run(&format!("ip route add default via {BRIDGE}"));
        pod.run(&format!("ip -6 route add default via {BRIDGE6}"));
    }

    /// As kube-proxy does, and a CNI that masquerades what leaves the pods' block. Port 80 of [`super::SERVICE`], of [`EXTERNAL`] and
    /// of the node's own address, and [`NODE_PORT`], are pod b's port 9000, and port 81 is pod a's. Whoever comes by a node port,
    /// or from where it goes to, gets the node's address.
    pub fn proxy(&self) {
        let translate = |to: &str| {
            let ends = [("80", POD_B), ("81", POD_A)];
            ends.map(|(port, pod)| format!("ip daddr {to} tcp dport {port} dnat to {pod}:9000")).to_vec()
        };
        let mut rules = Vec::new();
        for to in [super::SERVICE, EXTERNAL, NODE] {
            rules.extend(translate(to));
        }
        // So that the node's own connections to a Service have a route before they are translated.
        self.node.run("ip route add 10.96.0.0/16 dev up0");
        self.node.run("nft add table ip nat");
        for hook in ["prerouting", "output"] {
            self.node.run(&format!("nft add chain ip nat {hook} {{ type nat hook {hook} priority -100 ; }}"));
            // As `KUBE-MARK-MASQ` does.
            self.node.run(&format!("nft add rule ip nat {hook} fib daddr type local tcp dport {NODE_PORT} meta mark set meta mark or 0x4000 dnat to {POD_B}:9000"));
            for rule in &rules {
                self.node.run(&format!("nft add rule ip nat {hook} {rule}"));
            }
        }
        self.node.run("nft add chain ip nat postrouting { type nat hook postrouting priority 100 ; }");
        self.node.run("nft add rule ip nat postrouting meta mark and 0x4000 == 0x4000 masquerade");
        for pod in [POD_A, POD_B] {
            self.node.run(&format!("nft add rule ip nat postrouting ip saddr {pod} ip daddr {pod} masquerade"));
        }
        self.node.run(&format!("nft add rule ip nat postrouting ip saddr 10.244.0.0/24 ip daddr {OUTSIDE} masquerade"));
    }

    /// What the enforcer should know of the node.
    pub fn proxied(&self) -> NodeAddresses {
        let address = |text: &str| text.parse().expect("an address");
        NodeAddresses {
            addresses: self.local.iter().map(|text| address(text)).collect(),
            translated_ports: [(6, NODE_PORT)].into(),
            translated: [80, 81].map(|port| (address(NODE), 6, port)).into(),
        }
    }
}
