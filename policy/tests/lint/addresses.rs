use signalbox_policy::lint::RuleId::{
    BlockHoldsNodes, BlockHoldsPods, CidrNotCanonical, EmptyBlock, InternetOpensPods, MetadataService, ServiceAddress,
    SourceMasked, WrongFamily,
};

use crate::cases::{Case, cluster_policy, found, info, service, silent, warning};
use crate::common::{namespace, pod, policy};

const NP: &str = "NetworkPolicy x/np";
const TO: &str = "spec.egress[0].to[0].ipBlock";
const TO_CIDR: &str = "spec.egress[0].to[0].ipBlock.cidr";
const FROM_CIDR: &str = "spec.ingress[0].from[0].ipBlock.cidr";

fn world() -> String {
    namespace("x", "")
        + &pod("x/web", "app=web", "10.244.0.5", "http=TCP 8080")
        + &pod("x/api", "app=api", "10.244.1.7", "")
        + "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {providerID: aws:///z/i-1}\nstatus: {addresses: [{type: InternalIP, address: 192.168.7.1}]}\n"
}

fn egress(block: &str) -> String {
    policy("x/np", &format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {block}}}]}}]}}"))
}

fn ingress(block: &str) -> String {
    policy("x/np", &format!("{{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {block}}}]}}]}}"))
}

pub fn cases() -> Vec<Case> {
    let load_balancer = |local: &str| {
        service("x/web", "app=web", "10.96.0.9", "TCP 80 8080")
            .replace("spec: {", &format!("spec: {{type: LoadBalancer, {local}"))
    };
    let dual = pod("x/web", "app=web", "10.244.0.5,fd00::5", "");
    let mut cases = vec![
        found(CidrNotCanonical, ingress("{cidr: 10.0.0.5/24}"), NP, FROM_CIDR, "write 10.0.0.0/24"),
        found(
            CidrNotCanonical,
            ingress("{cidr: 10.0.0.0/8, except: [10.1.0.1/16]}"),
            NP,
            "spec.ingress[0].from[0].ipBlock.except[0]",
            "is read as 10.1.0.0/16: every address in that, not 10.1.0.1 alone",
        ),
        info(CidrNotCanonical, ingress("{cidr: '2001:DB8::/32'}"), NP, FROM_CIDR, "write 2001:db8::/32"),
        found(
            CidrNotCanonical,
            cluster_policy(
                "cnp",
                "Admin",
                1,
                "egress: [{action: Accept, to: [{networks: [10.0.0.0/8, 10.0.0.5/24]}]}]",
            ),
            "ClusterNetworkPolicy cnp",
            "spec.egress[0].to[0].networks[1]",
            "10.0.0.0/24",
        ),
        silent(CidrNotCanonical, ingress("{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}")),
        found(
            BlockHoldsPods,
            world() + &ingress("{cidr: 10.0.0.0/8}"),
            NP,
            FROM_CIDR,
            "2 pod addresses, 10.244.0.5 among them, lie in 10.0.0.0/8: this rule allows them whatever their labels",
        ),
        found(BlockHoldsPods, world() + &egress("{cidr: 10.0.0.0/8}"), NP, TO_CIDR, "add except: [10.244.0.0/16]"),
        warning(
            BlockHoldsPods,
            world()
                + &policy(
                    "x/np",
                    "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 10.244.1.7/32}}]}]}",
                ),
            NP,
            FROM_CIDR,
            "is the address of x/api (10.244.1.7), which changes whenever the pod is made anew",
        ),
        found(
            BlockHoldsPods,
            world() + &ingress("{cidr: 10.244.0.0/16}"),
            NP,
            FROM_CIDR,
            "select the pods by their labels if they are meant",
        ),
        silent(BlockHoldsPods, world() + &ingress("{cidr: 10.0.0.0/8, except: [10.244.0.0/16]}")),
        silent(BlockHoldsPods, ingress("{cidr: 10.0.0.0/8}")),
        found(
            InternetOpensPods,
            world() + &egress("{cidr: 0.0.0.0/0}"),
            NP,
            TO,
            "add except: [10.244.0.0/16] if only the outside was meant",
        ),
        found(
            InternetOpensPods,
            world().replace("spec: {providerID", "spec: {podCIDRs: [10.244.0.0/24, 10.244.1.0/24], providerID")
                + &egress("{cidr: 0.0.0.0/0}"),
            NP,
            TO,
            "add except: [10.244.0.0/24, 10.244.1.0/24]",
        ),
        silent(InternetOpensPods, world() + &egress("{cidr: 0.0.0.0/0, except: [10.244.0.0/16]}")),
        silent(InternetOpensPods, world() + &ingress("{cidr: 0.0.0.0/0}")),
        silent(InternetOpensPods, namespace("x", "") + &egress("{cidr: 0.0.0.0/0}")),
        found(
            BlockHoldsNodes,
            world() + &egress("{cidr: 192.168.0.0/16}"),
            NP,
            TO_CIDR,
            "holds addresses of 1 node, n1 among them",
        ),
        silent(BlockHoldsNodes, world() + &egress("{cidr: 192.168.0.0/16, except: [192.168.7.0/24]}")),
        silent(BlockHoldsNodes, world() + &ingress("{cidr: 192.168.0.0/16}")),
        found(
            ServiceAddress,
            world() + &service("x/web", "app=web", "10.96.0.9", "TCP 80 8080") + &egress("{cidr: 10.96.0.0/16}"),
            NP,
            TO_CIDR,
            "10.96.0.9 is the address of Service x/web; policies are judged behind its translation",
        ),
        silent(
            ServiceAddress,
            world() + &service("x/web", "app=web", "10.96.0.9", "TCP 80 8080") + &egress("{cidr: 10.97.0.0/16}"),
        ),
        // Wider than any range of Services: other things are meant.
        silent(ServiceAddress, service("x/web", "app=web", "10.96.0.9", "TCP 80 8080") + &egress("{cidr: 10.0.0.0/8}")),
    ];
    cases.extend([
        found(
            SourceMasked,
            world() + &load_balancer("") + &ingress("{cidr: 198.51.100.0/24}"),
            NP,
            FROM_CIDR,
            "comes through Service x/web may arrive with a node's address",
        ),
        silent(
            SourceMasked,
            world() + &load_balancer("externalTrafficPolicy: Local, ") + &ingress("{cidr: 198.51.100.0/24}"),
        ),
        silent(
            SourceMasked,
            world() + &service("x/web", "app=web", "10.96.0.9", "TCP 80 8080") + &ingress("{cidr: 198.51.100.0/24}"),
        ),
        // The nodes are let in, too.
        silent(SourceMasked, world() + &load_balancer("") + &ingress("{cidr: 192.168.0.0/16}")),
        found(
            WrongFamily,
            pod("x/web", "app=web", "10.244.0.5", "") + &egress("{cidr: 'fd00::/8'}"),
            NP,
            "spec.egress[0].to[0]",
            "fd00::/8 is IPv6, and none of x/web has an address of that family",
        ),
        info(
            WrongFamily,
            dual.clone() + &egress("{cidr: 0.0.0.0/0}"),
            NP,
            "spec.egress[0].to[0]",
            "add an item with ipBlock: {cidr: \"::/0\"}",
        ),
        silent(WrongFamily, dual + &egress("{cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}")),
        silent(WrongFamily, pod("x/web", "app=web", "10.244.0.5", "") + &egress("{cidr: 0.0.0.0/0}")),
        // Pods that have no address as yet.
        silent(WrongFamily, pod("x/web", "app=web", "", "") + &egress("{cidr: 'fd00::/8'}")),
        found(
            EmptyBlock,
            egress("{cidr: 10.0.0.0/8, except: [10.0.0.0/9, 10.128.0.0/9]}"),
            NP,
            TO,
            "leave no address, so that it matches nothing",
        ),
        silent(EmptyBlock, egress("{cidr: 10.0.0.0/8, except: [10.0.0.0/9, 10.128.0.0/10]}")),
        found(
            MetadataService,
            world() + &egress("{cidr: 0.0.0.0/0}"),
            NP,
            TO_CIDR,
            "aws (node n1) hands out the node's credentials",
        ),
        silent(MetadataService, world() + &egress("{cidr: 0.0.0.0/0, except: [169.254.169.254/32]}")),
        silent(MetadataService, egress("{cidr: 0.0.0.0/0}")),
    ]);
    cases
}
