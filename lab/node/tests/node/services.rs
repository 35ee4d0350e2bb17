//! Services and DNS.

use serde_json::json;
use signalbox_lab_node::testing::{dns, proxy, start_host, start_pod, tell};
use signalbox_lab_streaming::runtime::{ExitStatus, Target};

use super::support::{connects, eventually, exec, pod};
use super::{Run, config};

pub fn run(run: &mut Run) {
    run.test("Services and DNS", services);
}

async fn services() {
    let node = signalbox_lab_node::create(config()).await.expect("a node");
    let web = start_pod(&node, "test", "web", &["TCP/9000"]).await.expect("a pod");
    let db = start_pod(&node, "test", "dbsvc", &["TCP/9000", "UDP/9001"]).await.expect("a pod");
    let coredns = start_pod(&node, "kube-system", "coredns", &[]).await.expect("a pod");
    let at = |text: &str| text.parse().expect("an address");
    let users = start_host(&node, "users", at("198.51.100.100"), &[]).await.expect("a host");
    let internet = start_host(&node, "internet", at("203.0.113.10"), &["TCP/80"]).await.expect("a host");
    eventually("they listen", || web.listens_on(9000) && db.listens_on(9000) && internet.listens_on(80)).await;
    let _serving = dns(&node, &coredns).await.expect("a resolver");

    let service = |namespace: &str, name: &str, ip: &str, ports: serde_json::Value, balancer: Option<&str>| {
        let kind = if balancer.is_some() { "LoadBalancer" } else { "ClusterIP" };
        let ingress: Vec<_> = balancer.iter().map(|ip| json!({"ip": ip})).collect();
        json!({"metadata": {"name": name, "namespace": namespace},
               "spec": {"type": kind, "clusterIP": ip, "clusterIPs": [ip], "ports": ports},
               "status": {"loadBalancer": {"ingress": ingress}}})
    };
    let slice = |namespace: &str, name: &str, ports: serde_json::Value, addresses: &[String]| {
        let endpoints: Vec<_> =
            addresses.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
        json!({"metadata": {"name": format!("{name}-1"), "namespace": namespace,
                            "labels": {"kubernetes.io/service-name": name}},
               "addressType": "IPv4", "ports": ports, "endpoints": endpoints})
    };
    let dns_ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"},
                           {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]);
    let both = json!([{"name": "tcp", "port": 80, "protocol": "TCP", "nodePort": 30080},
                      {"name": "udp", "port": 81, "protocol": "UDP", "nodePort": 30081}]);
    let targets = json!([{"name": "tcp", "port": 9000, "protocol": "TCP"},
                         {"name": "udp", "port": 9001, "protocol": "UDP"}]);
    tell(
        &node,
        json!([
            service("kube-system", "kube-dns", "10.96.0.10", dns_ports.clone(), None),
            service("test", "dbsvc", "10.96.0.20", both, Some("198.51.100.200")),
            service("test", "web", "10.96.0.21", json!([{"port": 9000}]), None),
            service("test", "empty", "10.96.0.22", json!([{"port": 80}, {"port": 81, "protocol": "UDP"}]), None),
        ]),
        json!([
            slice("kube-system", "kube-dns", dns_ports, &[coredns.address().to_string()]),
            slice("test", "dbsvc", targets, &[db.address().to_string()]),
            slice("test", "web", json!([{"port": 9000, "protocol": "TCP"}]), &[web.address().to_string()]),
        ]),
        json!({"internet": {"addresses": ["203.0.113.10"], "names": ["www.example.com"]}}),
    );
    let proxying = tokio::spawn(proxy(node.clone()));
    let announced = || {
        let output = std::process::Command::new("nsenter")
            .args([format!("--net={}", node.netns().display()).as_str(), "ip", "addr", "show", "company"])
            .output()
            .expect("nsenter and ip");
        String::from_utf8_lossy(&output.stdout).contains("198.51.100.200/32")
    };
    eventually("the load balancer's address is announced", announced).await;

    let outside = |name: &str| Target::External(name.to_owned());
    let web_address = web.address().to_string();
    let cases = [
        (pod("web"), "10.96.0.20:80", true, web_address.as_str()),
        (pod("web"), "dbsvc:80", true, "dbsvc"),
        (pod("web"), "dbsvc.test:80", true, "dbsvc"),
        (pod("web"), "dbsvc.test.svc.cluster.local:80", true, "dbsvc"),
        (pod("web"), "www.example.com:80", true, web_address.as_str()),
        // To itself by its own Service: the node stands in as the source.
        (pod("web"), "10.96.0.21:9000", true, "198.51.100.10"),
        (pod("web"), "198.51.100.200:80", true, web_address.as_str()),
        (pod("web"), "198.51.100.10:30080", true, web_address.as_str()),
        (outside("users"), "10.96.0.20:80", true, "198.51.100.100"),
        (outside("users"), "198.51.100.200:80", true, "198.51.100.100"),
        (outside("users"), "198.51.100.10:30080", true, "198.51.100.100"),
        (outside("internet"), "203.0.113.1:30080", true, "203.0.113.10"),
        (pod("web"), "10.96.0.22:80", false, "refused"),
    ];
    for (from, to, opens, text) in cases {
        let (open, output) = connects(&node, from.clone(), to).await;
        assert_eq!(open, opens, "{from:?} -> {to}: {output}");
        assert!(output.contains(text), "{from:?} -> {to}: {text}: {output}");
    }
    let udp = [
        (pod("web"), "10.96.0.20:81"),
        (outside("users"), "10.96.0.20:81"),
        (outside("users"), "198.51.100.200:81"),
        (outside("users"), "198.51.100.10:30081"),
        (outside("internet"), "203.0.113.1:30081"),
    ];
    for (from, to) in udp {
        let command = ["signalbox-probe", "connect", to, "--udp", "--timeout", "1s"];
        let (exit, output) = exec(&node, from.clone(), &command).await;
        assert_eq!(exit, ExitStatus::Code(0), "{from:?} -> {to} by UDP: {output}");
        assert!(output.contains("dbsvc answered"), "{from:?} -> {to} by UDP: {output}");
    }
    for (name, found) in [("dbsvc", true), ("nobody", false), ("www.example.com", true), ("example.org", false)] {
        let (exit, output) = exec(&node, pod("web"), &["signalbox-probe", "resolve", name]).await;
        assert_eq!(exit == ExitStatus::Code(0), found, "{name}: {output}");
        // At the end of the search list stands the name itself: that it does not exist is an answer, not a failure.
        assert!(found || output.contains("NXDOMAIN"), "{name}: {output}");
    }
    let (exit, output) = exec(&node, pod("web"), &["nslookup", "dbsvc.test.svc.cluster.local"]).await;
    assert!(exit == ExitStatus::Code(0) && output.contains("10.96.0.20"), "{output}");

    tell(&node, json!([]), json!([]), json!({}));
    eventually("the address is withdrawn", || !announced()).await;
    proxying.abort();
    drop(users);
    node.remove_everything().await;
}
