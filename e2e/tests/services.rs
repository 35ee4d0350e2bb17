//! Services from where the users are: node ports and UDP, judged on what the packets are after translation.

use anyhow::{Result, ensure};
use signalbox_api::cell::{Agreement, Cell, Evidence, Outcome};
use signalbox_api::flow::{Decision, Direction, Protocol};
use signalbox_e2e::cells::{outcome, until};
use signalbox_e2e::lab::Lab;
use signalbox_e2e::processes;

const USERS: &str = "outside:users";
const USERS_ADDRESS: &str = "198.51.100.100";
const NODE: &str = "service:ports/node";
const CLUSTER: &str = "service:ports/cluster";

/// What the users' cells must show: Service, protocol, open or not.
type Expected = [(&'static str, Protocol, bool); 3];

const ALL: Expected = [(NODE, Protocol::Tcp, true), (NODE, Protocol::Udp, true), (CLUSTER, Protocol::Udp, true)];
const NOTHING: Expected = [(NODE, Protocol::Tcp, false), (NODE, Protocol::Udp, false), (CLUSTER, Protocol::Udp, false)];
const TCP: Expected = [(NODE, Protocol::Tcp, true), (NODE, Protocol::Udp, false), (CLUSTER, Protocol::Udp, false)];
const UDP: Expected = [(NODE, Protocol::Tcp, false), (NODE, Protocol::Udp, true), (CLUSTER, Protocol::Udp, true)];

/// An ingress policy for the server: from the company network, on one port.
fn allow(protocol: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: server, namespace: ports}}\n\
         spec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{{ipBlock: {{cidr: 198.51.100.0/24}}}}], \
         ports: [{{port: {port}, protocol: {protocol}}}]}}]}}\n"
    )
}

#[test]
fn users_reach_node_ports_and_udp_services_as_policies_allow_after_translation() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &["--interval", "1s"])?;
    lab.apply("node-port.yaml")?;
    lab.kubectl(&["-n", "ports", "wait", "--for=condition=Ready", "pod/server", "--timeout=20s"])?;
    facts(&lab, &ALL)?;
    by_hand(&lab, &ALL)?;

    let shut = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: server, namespace: ports}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";
    let cases = [
        (shut.to_owned(), &NOTHING),
        // The pod's port is what counts; the Service's and the node's are gone by then.
        (allow("TCP", 30080), &NOTHING),
        (allow("TCP", 80), &NOTHING),
        (allow("TCP", 9000), &TCP),
        (allow("UDP", 81), &NOTHING),
        (allow("UDP", 9001), &UDP),
    ];
    for (policy, expected) in &cases {
        lab.apply_text(policy)?;
        facts(&lab, expected)?;
        by_hand(&lab, expected)?;
    }
    lab.kubectl(&["-n", "ports", "delete", "networkpolicy", "server"])?;
    facts(&lab, &ALL)
}

/// The page's three facts.
fn facts(lab: &Lab, expected: &Expected) -> Result<()> {
    for (to, protocol, open) in expected {
        let as_expected = |cell: &Cell| {
            if cell.key.protocol != *protocol {
                return true;
            }
            let Some((probe, kernel)) = cell.probe.as_ref().zip(cell.kernel.as_ref()) else { return false };
            let spec = cell.spec.as_ref().and_then(|spec| spec.decision);
            let agree = cell.agreement == Agreement::Agree;
            if *open {
                let seen = probe.seen_source.is_some_and(|source| source.to_string() == USERS_ADDRESS);
                let allowed = kernel.decision == Decision::Allowed && spec == Some(Decision::Allowed);
                agree && outcome(cell) == Some(Outcome::Open) && allowed && seen
            } else {
                let denied = kernel.decision == Decision::Denied && spec == Some(Decision::Denied);
                let known = probe.evidence == Evidence::KernelEvent && kernel.direction == Some(Direction::Ingress);
                agree && outcome(cell) == Some(Outcome::Dropped) && denied && known
            }
        };
        let word = if *open { "open" } else { "dropped" };
        let cells = until(lab, USERS, to, &format!("{word} by {protocol}"), as_expected)?;
        ensure!(cells.iter().any(|cell| cell.key.protocol == *protocol), "no cell for {protocol} to {to}");
    }
    Ok(())
}

/// The same by one connection each to the node's own address, so that nobody has to believe how the server's probe goes.
fn by_hand(lab: &Lab, expected: &Expected) -> Result<()> {
    let users = processes::server("users")?;
    let tcp = processes::connect_from(users, &["198.51.100.10:30080", "--timeout", "1s"])?;
    let udp = processes::connect_from(users, &["198.51.100.10:30081", "--udp", "--timeout", "1s"])?;
    let address = lab.kubectl(&["-n", "ports", "get", "service", "cluster", "-o", "jsonpath={.spec.clusterIP}"])?;
    let cluster = processes::connect_from(users, &[&format!("{address}:81"), "--udp", "--timeout", "1s"])?;
    for (ran, (to, protocol, open)) in [tcp, udp, cluster].iter().zip(expected) {
        ensure!((ran.status == Some(0)) == *open, "{protocol} to {to}, by hand: {ran:?}");
        let answered = ran.stdout.contains("server answered") && ran.stdout.contains(USERS_ADDRESS);
        ensure!(answered == *open, "{protocol} to {to}, by hand: {ran:?}");
    }
    Ok(())
}
