//! Who reaches whom, and that there is no way out.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use signalbox_lab_node::Node;
use signalbox_lab_node::testing::{Started, proxy, start_host, start_pod, tell};
use signalbox_lab_streaming::runtime::Target;

use super::support::{connects, eventually, pod, shell};
use super::{Run, config};

pub fn run(run: &mut Run) {
    run.test("pods and hosts outside reach each other by their addresses", reach);
    run.test("no namespace has a route out", no_way_out);
    run.test("what is unreachable or refused says so each time, not once a second", every_refusal_is_told);
}

async fn lab() -> (Arc<Node>, [Started; 5]) {
    let node = signalbox_lab_node::create(config()).await.expect("a node");
    let at = |text: &str| text.parse::<Ipv4Addr>().expect("an address");
    let all = [
        start_pod(&node, "test", "web", &["TCP/9000"]).await.expect("a pod"),
        start_pod(&node, "test", "dbsvc", &["TCP/9000"]).await.expect("a pod"),
        start_host(&node, "database", at("198.51.100.20"), &["TCP/3306"]).await.expect("a host"),
        start_host(&node, "users", at("198.51.100.100"), &[]).await.expect("a host"),
        start_host(&node, "internet", at("192.0.2.7"), &["TCP/80", "TCP/443"]).await.expect("a host"),
    ];
    for (started, port) in all.iter().zip([9000, 9000, 3306, 0, 443]) {
        if port != 0 {
            eventually("it listens", || started.listens_on(port)).await;
        }
    }
    (node, all)
}

async fn reach() {
    let (node, [web, dbsvc, ..]) = lab().await;
    let outside = |name: &str| Target::External(name.to_owned());
    let web_port = format!("{}:9000", web.address());
    let cases = [
        (pod("web"), format!("{}:9000", dbsvc.address()), Some(web.address())),
        (pod("web"), web_port.clone(), None),
        (pod("dbsvc"), web_port.clone(), Some(dbsvc.address())),
        (pod("web"), "198.51.100.20:3306".to_owned(), Some(web.address())),
        (pod("web"), "192.0.2.7:443".to_owned(), Some(web.address())),
        (outside("users"), web_port.clone(), Some(Ipv4Addr::new(198, 51, 100, 100))),
        (outside("internet"), web_port.clone(), Some(Ipv4Addr::new(192, 0, 2, 7))),
        (outside("users"), "198.51.100.20:3306".to_owned(), None),
    ];
    for (from, to, source) in cases {
        let (open, text) = connects(&node, from.clone(), &to).await;
        assert!(open, "{from:?} -> {to}: {text}");
        if let Some(source) = source {
            assert!(text.contains(&source.to_string()), "{to} sees {source}: {text}");
        }
    }
    let (_, output) = shell(&node, pod("web"), "ip -6 addr").await;
    assert!(!output.contains("inet6"), "{output}");
    node.remove_everything().await;
}

/// The kernel's limit of ICMP errors would turn a good half of these into time-outs, which read as drops.
async fn every_refusal_is_told() {
    let (node, [web, ..]) = lab().await;
    tell(&node, json!([]), json!([]), json!({"internet": {"addresses": ["192.0.2.7"]}}));
    let proxying = tokio::spawn(proxy(node.clone()));
    let ruled = || {
        let netns = format!("--net={}", node.netns().display());
        let chain = ["nft", "list", "chain", "ip", "signalbox-services", "nowhere"];
        let listed = Command::new("nsenter").arg(netns).args(chain).output().expect("nsenter and nft");
        listed.status.success()
    };
    eventually("the proxy's rules stand", ruled).await;
    let tries = "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20";
    let cases = [
        ("connect 10.96.200.$n:80".to_owned(), "unreachable"),
        ("connect 192.0.2.$n:81".to_owned(), "unreachable"),
        (format!("connect --udp {}:4711", web.address()), "refused"),
    ];
    for (attempt, expected) in cases {
        let script = format!("{tries}; do signalbox-probe {attempt} --timeout 300ms; done");
        let (_, output) = shell(&node, pod("dbsvc"), &script).await;
        let told = output.lines().filter(|line| line.contains(expected)).count();
        // One of the addresses is a host of this lab, which refuses.
        assert!(told >= 19, "{told} of 20 attempts at {attempt} were {expected}:\n{output}");
    }
    proxying.abort();
    node.remove_everything().await;
}

/// What the kernel would do with a packet from this namespace. Nothing is sent.
fn route(netns: &str, to: &str) -> String {
    let output = Command::new("nsenter")
        .args([format!("--net={netns}").as_str(), "ip", "route", "get", to])
        .output()
        .expect("nsenter and ip");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
}

/// A pod's default route ends at the node, so it is the node that must know no way on. The other namespaces must
/// have none themselves.
async fn no_way_out() {
    let (node, all) = lab().await;
    let real = ["8.8.8.8", "1.1.1.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.169.254"];
    let node_netns = node.netns().display().to_string();
    let mut namespaces: Vec<String> = all[2..].iter().map(|host| format!("/proc/{}/ns/net", host.init())).collect();
    namespaces.push(node_netns.clone());
    for pid in holders() {
        namespaces.push(format!("/proc/{pid}/ns/net"));
    }
    for netns in &namespaces {
        for address in real {
            let found = route(netns, address);
            assert!(found.contains("unreachable"), "{netns}: {address}: {found}");
        }
    }
    // Every link of every namespace leads into another of them: one that is a veth, a bridge of ours or a loopback.
    for netns in namespaces.iter().cloned().chain(all.iter().map(|one| format!("/proc/{}/ns/net", one.init()))) {
        let output = Command::new("nsenter")
            .args([format!("--net={netns}").as_str(), "ip", "-d", "-o", "link"])
            .output()
            .expect("nsenter and ip");
        let links = String::from_utf8_lossy(&output.stdout).into_owned();
        for link in links.lines() {
            let ours = link.contains("link/loopback ") || link.contains(" veth ") || link.contains(" bridge ");
            assert!(ours, "{netns}: {link}");
        }
        let mine = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        assert_ne!(std::fs::read_link(PathBuf::from(&netns)).expect("a namespace"), mine);
    }
    for one in &all[..2] {
        let found = route(&format!("/proc/{}/ns/net", one.init()), "8.8.8.8");
        assert!(found.contains("via 169.254.1.1 dev eth0"), "{found}");
    }
    node.remove_everything().await;
}

/// The processes that hold the node's namespace and the two outside.
fn holders() -> Vec<u32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").expect("tasks").flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()) {
            let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if arguments.contains("holder") {
                found.push(pid);
            }
        }
    }
    assert_eq!(found.len(), 3, "the node, the company, the internet");
    found
}
