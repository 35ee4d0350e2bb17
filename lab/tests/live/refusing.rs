//! The smallest API that lists policies of all kinds, and refuses one of them.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Runs until the test ends.
pub struct Refusing {
    address: std::net::SocketAddr,
    refused: Arc<Mutex<Option<&'static str>>>,
}

impl Refusing {
    /// Lists what it has, but for one resource.
    pub async fn start(plural: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refused = Arc::new(Mutex::new(Some(plural)));
        let shared = refused.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let refused = *shared.lock().unwrap();
                tokio::spawn(answer(stream, refused));
            }
        });
        Self { address, refused }
    }

    /// From now on it refuses nothing.
    pub fn allow_all(&self) {
        *self.refused.lock().unwrap() = None;
    }

    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        })
        .to_string()
    }
}

/// Kinds by group and version; of ClusterNetworkPolicy two versions, as a cluster between two releases serves them.
fn kinds(group_version: &str) -> Option<Vec<(&'static str, &'static str)>> {
    Some(match group_version {
        "v1" => vec![("pods", "Pod"), ("pods/status", "Pod"), ("namespaces", "Namespace"), ("secrets", "Secret")],
        "networking.k8s.io/v1" => vec![("networkpolicies", "NetworkPolicy")],
        "policy.networking.k8s.io/v1beta1" | "policy.networking.k8s.io/v1alpha2" => {
            vec![("clusternetworkpolicies", "ClusterNetworkPolicy")]
        }
        "crd.projectcalico.org/v1" => {
            vec![("globalnetworkpolicies", "GlobalNetworkPolicy"), ("globalnetworksets", "GlobalNetworkSet")]
        }
        _ => return None,
    })
}

fn items(group_version: &str, plural: &str) -> Vec<Value> {
    let pod = |name: &str, address: &str| {
        json!({"metadata": {"namespace": "x", "name": name, "labels": {"app": name}},
            "spec": {"containers": []}, "status": {"phase": "Running", "podIPs": [{"ip": address}]}})
    };
    match (group_version, plural) {
        ("v1", "pods") => vec![pod("a", "10.0.0.1"), pod("b", "10.0.0.2")],
        ("v1", "namespaces") => vec![json!({"metadata": {"name": "x"}})],
        ("policy.networking.k8s.io/v1beta1", "clusternetworkpolicies") => vec![json!({
            "metadata": {"name": "shut"},
            "spec": {"tier": "Admin", "priority": 1,
                "subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "b"}}}},
                "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]},
        })],
        ("crd.projectcalico.org/v1", "globalnetworkpolicies") => vec![json!({
            "metadata": {"name": "default.partners"},
            "spec": {"selector": "app == 'a'", "types": ["Ingress"], "ingress": [
                {"action": "Allow", "protocol": "TCP", "source": {"selector": "role == 'partner'"}, "destination": {"ports": [80]}},
            ]},
        })],
        // The set's labels make its addresses part of what the policy's selector selects: here, that of pod b.
        ("crd.projectcalico.org/v1", "globalnetworksets") => {
            vec![
                json!({"metadata": {"name": "partners", "labels": {"role": "partner"}}, "spec": {"nets": ["10.0.0.2/32"]}}),
            ]
        }
        _ => Vec::new(),
    }
}

async fn answer(stream: TcpStream, refused: Option<&str>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let target = first.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (group_version, plural) = match parts[..] {
        ["api", version] => (version.to_owned(), None),
        ["api", version, plural] => (version.to_owned(), Some(plural)),
        ["apis", group, version] => (format!("{group}/{version}"), None),
        ["apis", group, version, plural] => (format!("{group}/{version}"), Some(plural)),
        _ => (String::new(), None),
    };
    let failure = |code: u16, reason: &str, message: String| {
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code});
        (code, body)
    };
    let (code, body) = match (kinds(&group_version), plural) {
        (None, _) => failure(404, "NotFound", "the server could not find the requested resource".to_owned()),
        (Some(kinds), None) => {
            let resources: Vec<Value> = kinds
                .into_iter()
                .map(|(name, kind)| json!({"name": name, "singularName": "", "namespaced": false, "kind": kind, "verbs": ["list"]}))
                .collect();
            (200, json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}))
        }
        (Some(_), Some(plural)) if refused == Some(plural) => failure(
            403,
            "Forbidden",
            format!("{plural} is forbidden: User \"nobody\" cannot list resource \"{plural}\" at the cluster scope"),
        ),
        (Some(_), Some(plural)) => {
            (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items(&group_version, plural)}))
        }
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}
