use signalbox_policy::lint::RuleId::{
    NamedPortDiffers, NamedPortMissing, PortNotDeclared, SctpOnly, ServicePort, WrongProtocol,
};

use crate::cases::{Case, cluster_policy, found, service, silent};
use crate::common::{namespace, pod, policy};

const NP: &str = "NetworkPolicy x/np";
const PORT: &str = "spec.ingress[0].ports[0].port";

fn world() -> String {
    namespace("x", "")
        + &pod("x/web", "app=web", "10.0.0.1", "http=TCP 8080,quic=UDP 8443")
        + &pod("x/web-2", "app=web", "10.0.0.2", "http=TCP 8080,quic=UDP 8443")
        + &pod("x/api", "app=api", "10.0.0.3", "http=TCP 9090")
        + &pod("x/old", "app=old", "10.0.0.4", "")
}

/// Ingress of the pods of an application on some ports.
fn ingress(app: &str, ports: &str) -> String {
    world()
        + &policy("x/np", &format!("{{podSelector: {{matchLabels: {{app: {app}}}}}, ingress: [{{ports: [{ports}]}}]}}"))
}

/// Egress to a peer on some ports.
fn egress(peer: &str, ports: &str) -> String {
    let spec = format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peer}], ports: [{ports}]}}]}}");
    world() + &policy("x/np", &spec)
}

const TO_API: &str = "{podSelector: {matchLabels: {app: api}}}";

const CNP_FROM_ALL_ON_9000: &str = "from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 9000}}}]";

pub fn cases() -> Vec<Case> {
    vec![
        found(
            PortNotDeclared,
            ingress("web", "{port: 9000}"),
            NP,
            PORT,
            "no container of the pods that the policy selects declares TCP 9000; they declare TCP 8080 and UDP 8443",
        ),
        found(
            PortNotDeclared,
            egress(TO_API, "{port: 8000, endPort: 8100}"),
            NP,
            "spec.egress[0].ports[0].port",
            "no container of the pods that the rule names declares TCP 8000-8100",
        ),
        found(
            PortNotDeclared,
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {namespace: x, name: web}\nspec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}}\n".to_owned()
                + &policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"),
            NP,
            PORT,
            "they declare TCP 8080",
        ),
        silent(PortNotDeclared, ingress("web", "{port: 8080}")),
        found(
            PortNotDeclared,
            pod("x/web", "app=web", "", "http=TCP 8080")
                + &cluster_policy("cnp", "Admin", 1, &format!("ingress: [{{action: Accept, {CNP_FROM_ALL_ON_9000}}}]")),
            "ClusterNetworkPolicy cnp",
            "spec.ingress[0].protocols[0]",
            "declares TCP 9000",
        ),
        // What is to stay shut need not be there.
        silent(
            PortNotDeclared,
            pod("x/web", "app=web", "", "http=TCP 8080")
                + &cluster_policy("cnp", "Admin", 1, &format!("ingress: [{{action: Deny, {CNP_FROM_ALL_ON_9000}}}]")),
        ),
        silent(PortNotDeclared, ingress("web", "{port: 8000, endPort: 8100}")),
        // A port need not be declared to be open.
        silent(PortNotDeclared, ingress("old", "{port: 9000}")),
        silent(PortNotDeclared, egress(&format!("{TO_API}, {{ipBlock: {{cidr: 192.0.2.0/24}}}}"), "{port: 9000}")),
        silent(PortNotDeclared, policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 9000}]}]}")),
        found(
            ServicePort,
            ingress("web", "{port: 80}") + &service("x/web", "app=web", "10.96.0.9", "TCP 80 8080"),
            NP,
            PORT,
            "TCP 80 is the port of Service x/web, and its pods listen on 8080",
        ),
        found(
            ServicePort,
            egress(TO_API, "{port: 443}") + &service("x/api", "app=api", "10.96.0.9", "TCP 443 http"),
            NP,
            "spec.egress[0].ports[0].port",
            "write the pods' own port: 9090",
        ),
        // Without a declared port the Service is what is known.
        found(
            ServicePort,
            ingress("old", "{port: 443}") + &service("x/old", "app=old", "10.96.0.9", "TCP 443 6443"),
            NP,
            PORT,
            "its pods listen on 6443",
        ),
        silent(ServicePort, ingress("web", "{port: 8080}") + &service("x/web", "app=web", "10.96.0.9", "TCP 80 8080")),
        silent(ServicePort, ingress("old", "{port: 443}") + &service("x/old", "app=old", "10.96.0.9", "TCP 443 443")),
        silent(ServicePort, ingress("old", "{port: 443}") + &service("x/web", "app=web", "10.96.0.9", "TCP 443 6443")),
        silent(ServicePort, ingress("old", "{port: 443}")),
        found(
            NamedPortMissing,
            ingress("web", "{port: metrics}"),
            NP,
            PORT,
            "none of the pods that the policy selects has a port named metrics",
        ),
        silent(NamedPortMissing, ingress("web", "{port: http}")),
        found(
            NamedPortDiffers,
            egress("{podSelector: {}}", "{port: http}"),
            NP,
            "spec.egress[0].ports[0].port",
            "nothing on x/old",
        ),
        found(
            NamedPortDiffers,
            egress("{podSelector: {matchExpressions: [{key: app, operator: In, values: [web, api]}]}}", "{port: http}"),
            NP,
            "spec.egress[0].ports[0].port",
            "it is 8080 on x/web and 9090 on x/api",
        ),
        silent(NamedPortDiffers, ingress("web", "{port: http}")),
        // For all pods: for those that have the port.
        silent(NamedPortDiffers, egress("{podSelector: {}}", "{port: quic, protocol: UDP}")),
        found(
            NamedPortDiffers,
            egress("{podSelector: {matchExpressions: [{key: app, operator: Exists}]}}", "{port: quic, protocol: UDP}"),
            NP,
            "spec.egress[0].ports[0].port",
            "it is 8443 on x/web and nothing on x/api and 1 more",
        ),
        found(
            WrongProtocol,
            ingress("web", "{port: 8443}"),
            NP,
            PORT,
            "have 8443 in UDP, not in TCP: a port without a protocol is a TCP port",
        ),
        found(WrongProtocol, ingress("web", "{port: quic}"), NP, PORT, "write protocol: UDP"),
        silent(WrongProtocol, ingress("web", "{port: 8443, protocol: UDP}, {port: quic, protocol: UDP}")),
        found(
            SctpOnly,
            policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 3868, protocol: SCTP}]}]}"),
            NP,
            "spec.ingress",
            "TCP and UDP are shut along with it",
        ),
        silent(SctpOnly, policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 3868, protocol: SCTP}, {port: 80}]}]}")),
        silent(
            SctpOnly,
            policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 3868, protocol: SCTP}]}]}")
                + &policy("x/web", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"),
        ),
        silent(SctpOnly, policy("x/np", "{podSelector: {}, ingress: []}")),
    ]
}
