//! What the policies say, where they are of kinds that are no part of Kubernetes: watched where the API serves them, and doubted
//! where it does not let the server see them.

#[path = "tiers/api.rs"]
mod api;

use std::time::Duration;

use api::Api;
use serde_json::{Value, json};
use signalbox_api::flow::Decision;
use signalbox_api::state::Snapshot;
use signalbox_server::{Config, Server, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

const TOKEN: &str = "0123456789abcdef";
const PODS: &str = "api/v1/pods";
const CLUSTER_POLICIES: &str = "apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";
const CALICO_POLICIES: &str = "apis/crd.projectcalico.org/v1/globalnetworkpolicies";

struct Bench {
    server: Server,
    _shutdown: DropGuard,
}

impl Bench {
    async fn start(client: kube::Client) -> Self {
        let shutdown = CancellationToken::new();
        let config = Config { listen: ([127, 0, 0, 1], 0).into(), token: TOKEN.to_owned(), ..Config::default() };
        let server = start(config, client, None, shutdown.clone()).await.expect("the server");
        Self { server, _shutdown: shutdown.drop_guard() }
    }

    async fn snapshot(&self) -> Snapshot {
        let address = self.server.local_addr();
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET /api/v1/state HTTP/1.0\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the request is taken");
        let mut text = String::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut text)).await;
        read.expect("an answer within 20 s").expect("text");
        let (_, body) = text.split_once("\r\n\r\n").expect("an answer");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Waits until the policies say this of one pod to the other, and gives the picture.
    async fn until(&self, from: &str, to: &str, wanted: Option<Decision>, because: &str) -> Snapshot {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
        loop {
            let snapshot = self.snapshot().await;
            let cell = snapshot.cells.iter().find(|cell| cell.key.from == from && cell.key.to == to);
            let spec = cell.and_then(|cell| cell.spec.as_ref());
            if spec.is_some_and(|spec| spec.decision == wanted && spec.summary.contains(because)) {
                return snapshot;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{from} to {to} is not {wanted:?} because of {because:?}, but {spec:#?}; {:#?}",
                snapshot.problems
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn pod(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"namespace": "x", "name": name, "labels": {"app": name}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

async fn cluster() -> (Api, kube::Client) {
    let (api, client) = Api::start().await;
    // As Kubernetes before 1.21 has it.
    api.serve("discovery.k8s.io/v1beta1", "endpointslices", "EndpointSlice");
    api.put("api/v1/namespaces", json!({"metadata": {"name": "x"}}));
    api.put(PODS, pod("a", "10.0.0.1"));
    api.put(PODS, pod("b", "10.0.0.2"));
    (api, client)
}

const A: &str = "pod:x/a";
const B: &str = "pod:x/b";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_of_all_kinds_count_where_the_api_serves_them() {
    let (api, client) = cluster().await;
    api.serve("policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies", "ClusterNetworkPolicy");
    let admin = json!({"metadata": {"name": "shut"}, "spec": {"tier": "Admin", "priority": 1,
        "subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "b"}}}},
        "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]}});
    api.put(CLUSTER_POLICIES, admin);
    let bench = Bench::start(client).await;
    let snapshot = bench.until(A, B, Some(Decision::Denied), "ingress is shut by shut ingress[0].from[0]").await;
    assert_eq!(snapshot.problems, [] as [String; 0], "kinds that are not served are no problem");
    bench.until(B, A, Some(Decision::Allowed), "no policy isolates").await;
    // The API learns Calico's kinds while the server runs.
    let calico = json!({"metadata": {"name": "default.shut-a"},
        "spec": {"selector": "app == 'a'", "types": ["Ingress"], "ingress": [
            {"action": "Deny", "source": {"selector": "role == 'partner'"}}, {"action": "Allow"}]}});
    let set =
        json!({"metadata": {"name": "partners", "labels": {"role": "partner"}}, "spec": {"nets": ["10.0.0.2/32"]}});
    api.put("apis/crd.projectcalico.org/v1/globalnetworksets", set);
    api.put(CALICO_POLICIES, calico);
    api.serve("crd.projectcalico.org/v1", "globalnetworkpolicies", "GlobalNetworkPolicy");
    api.serve("crd.projectcalico.org/v1", "globalnetworksets", "GlobalNetworkSet");
    bench.until(B, A, Some(Decision::Denied), "ingress is shut by shut-a ingress[0]").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_the_server_may_not_see_leave_nothing_certain() {
    let (api, client) = cluster().await;
    api.serve("policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies", "ClusterNetworkPolicy");
    api.refuse(CLUSTER_POLICIES, true);
    let bench = Bench::start(client).await;
    let because = "cannot watch clusternetworkpolicies.policy.networking.k8s.io: clusternetworkpolicies is forbidden";
    let snapshot = bench.until(A, B, None, because).await;
    let problem = snapshot.problems.iter().find(|problem| problem.starts_with(because));
    let problem = problem.unwrap_or_else(|| panic!("{:#?}", snapshot.problems));
    assert!(problem.contains("what the policies say is incomplete without them"), "{problem}");
    assert!(problem.contains("give the server the verbs list and watch on clusternetworkpolicies"), "{problem}");
    // The right is granted.
    api.refuse(CLUSTER_POLICIES, false);
    let snapshot = bench.until(A, B, Some(Decision::Allowed), "no policy isolates").await;
    assert_eq!(snapshot.problems, [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_of_an_older_kubernetes_lead_to_the_pods_behind_a_service() {
    let (api, client) = cluster().await;
    api.put(
        "api/v1/services",
        json!({"metadata": {"namespace": "x", "name": "b"},
            "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "b"}, "ports": [{"port": 80, "name": "http"}]}}),
    );
    api.put(
        "apis/discovery.k8s.io/v1beta1/endpointslices",
        json!({"metadata": {"namespace": "x", "name": "b-1", "labels": {"kubernetes.io/service-name": "b"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.2"], "topology": {"kubernetes.io/hostname": "n"}, "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "namespace": "x", "name": "b"}}]}),
    );
    let bench = Bench::start(client).await;
    let snapshot = bench.until(A, "service:x/b", Some(Decision::Allowed), "no policy isolates").await;
    let service = snapshot.endpoints.iter().find(|endpoint| endpoint.id == "service:x/b").expect("the Service");
    assert_eq!(service.backends, [B]);
}
