use signalbox_policy::lint::RuleId::{DnsForgotten, DnsShut, DnsTcp, ServicePort};

use crate::cases::{Case, cluster_policy, found, info, silent};
use crate::common::{namespace, pod, policy};

const NP: &str = "NetworkPolicy x/np";

fn world_on(port: u16) -> String {
    namespace("x", "")
        + &namespace("kube-system", "")
        + &pod("x/web", "app=web", "10.0.0.1", "")
        + &pod("kube-system/coredns", "k8s-app=kube-dns", "10.0.0.2", "")
        + &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: kube-system, name: kube-dns}}\n\
             spec: {{clusterIP: 10.96.0.10, selector: {{k8s-app: kube-dns}}, ports: [{{name: dns, protocol: UDP, port: 53, targetPort: {port}}}, {{name: dns-tcp, port: 53, targetPort: {port}}}]}}\n"
        )
}

fn egress(rules: &str) -> String {
    policy("x/np", &format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{rules}]}}"))
}

const API: &str = "{to: [{podSelector: {}}], ports: [{port: 8080}]}";
const UDP: &str = "{ports: [{port: 53, protocol: UDP}]}";
const BOTH: &str = "{ports: [{port: 53, protocol: UDP}, {port: 53}]}";
const TO_DNS: &str = "{to: [{namespaceSelector: {}, podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{port: 53, protocol: UDP}, {port: 53}]}";

pub fn cases() -> Vec<Case> {
    let world = || world_on(53);
    vec![
        found(
            DnsForgotten,
            world() + &egress(API),
            NP,
            "spec.egress",
            "x/web may go somewhere but not to DNS: no rule allows UDP 53",
        ),
        found(
            DnsForgotten,
            world() + &egress("{to: [{podSelector: {}}], ports: [{port: 53, protocol: UDP}]}"),
            NP,
            "spec.egress",
            "not to DNS",
        ),
        // Policies alone, and no DNS server is known.
        found(DnsForgotten, egress(API), NP, "spec.egress", "all pods of x may go somewhere but not to DNS"),
        found(
            DnsForgotten,
            pod("x/web", "app=web", "", "") + &egress(API),
            NP,
            "spec.egress",
            "x/web may go somewhere",
        ),
        // Who goes to fixed addresses only may do without names.
        info(
            DnsForgotten,
            world() + &egress("{to: [{ipBlock: {cidr: 192.0.2.0/24}}]}"),
            NP,
            "spec.egress",
            "not to DNS",
        ),
        silent(DnsForgotten, world() + &egress(&format!("{API}, {TO_DNS}"))),
        silent(DnsForgotten, world() + &egress(&format!("{API}, {UDP}"))),
        silent(DnsForgotten, world() + &egress("")),
        silent(
            DnsForgotten,
            world()
                + &egress(API)
                + &policy("x/dns", &format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{BOTH}]}}")),
        ),
        silent(
            DnsForgotten,
            egress(API) + &policy("x/dns", &format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{BOTH}]}}")),
        ),
        // NodeLocal DNSCache.
        silent(
            DnsForgotten,
            world()
                + &egress(&format!(
                    "{API}, {{to: [{{ipBlock: {{cidr: 169.254.20.10/32}}}}], ports: [{{port: 53, protocol: UDP}}]}}"
                )),
        ),
        found(
            DnsTcp,
            world() + &egress(&format!("{API}, {UDP}")),
            NP,
            "spec.egress[1].ports",
            "add {port: 53, protocol: TCP}",
        ),
        found(DnsTcp, egress(UDP), NP, "spec.egress[0].ports", "fails in all pods of x"),
        silent(DnsTcp, world() + &egress(BOTH)),
        silent(DnsTcp, egress(BOTH)),
        silent(DnsTcp, world() + &egress(TO_DNS)),
        found(
            ServicePort,
            world_on(5353) + &egress(&format!("{API}, {BOTH}")),
            NP,
            "spec.egress[1].ports",
            "port 53 is that of Service kube-system/kube-dns, and the DNS pods listen on 5353",
        ),
        found(
            ServicePort,
            world_on(5353) + &egress(&TO_DNS.replace(", {port: 53}", ", {port: 5353}")),
            NP,
            "spec.egress[0].ports[0].port",
            "UDP 53 is the port of Service kube-system/kube-dns",
        ),
        silent(ServicePort, world() + &egress(TO_DNS)),
        found(
            DnsShut,
            world()
                + &egress(BOTH)
                + &policy("kube-system/shut", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"),
            "NetworkPolicy kube-system/shut",
            "spec.ingress",
            "does not let in x/web, which may go to DNS by their own policies",
        ),
        found(
            DnsShut,
            world()
                + &egress(BOTH)
                + &cluster_policy(
                    "guard",
                    "Admin",
                    1,
                    "egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{udp: {destinationPort: {number: 53}}}]}]",
                ),
            "ClusterNetworkPolicy guard",
            "spec.egress[0]",
            "this rule keeps x/web from DNS",
        ),
        silent(
            DnsShut,
            world()
                + &egress(BOTH)
                + &policy("kube-system/open", "{podSelector: {}, ingress: [{ports: [{port: 53, protocol: UDP}]}]}"),
        ),
        silent(DnsShut, world() + &egress(BOTH)),
    ]
}
