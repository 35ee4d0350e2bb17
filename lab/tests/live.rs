//! `signalbox analyze`, `explain`, `diff` and `lint` with `--kubeconfig`, as a user runs them: the built binary against the lab's real
//! API, and against one that refuses.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

#[path = "live/refusing.rs"]
mod refusing;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use futures::future::BoxFuture;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use refusing::Refusing;
use serde_json::{Value, json};
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output as Logs, PodRuntime, RuntimeError, Target,
};
use tokio_util::sync::{CancellationToken, DropGuard};

struct NoPods;

impl PodRuntime for NoPods {
    fn exec(&self, target: Target, _: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }

    fn logs(&self, target: Target, _: LogRequest) -> BoxFuture<'_, Result<Logs, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }
}

/// The lab's API with two pods, a Service, and a policy that shuts one of them.
struct Cluster {
    folder: tempfile::TempDir,
    address: std::net::SocketAddr,
    _shutdown: DropGuard,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let config = signalbox_lab_apiserver::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            state_dir: folder.path().join("api"),
            fresh: true,
        };
        let api = signalbox_lab_apiserver::start(config, Arc::new(NoPods), shutdown.clone()).await.unwrap();
        std::fs::write(folder.path().join("kubeconfig"), api.kubeconfig(None)).unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&api.kubeconfig(None)).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let create = async |group: &str, kind: &str, object: Value| {
            let resource = kube::api::ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            let api: Api<DynamicObject> = match &object.metadata.namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            api.create(&PostParams::default(), &object).await.unwrap();
            api
        };
        create("", "Namespace", json!({"metadata": {"name": "shop"}})).await;
        for (name, address) in [("web", "10.0.0.1"), ("db", "10.0.0.2")] {
            let ports = json!([{"containerPort": 5432}]);
            let pod = json!({"metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "i", "ports": ports}]}});
            let pods = create("", "Pod", pod).await;
            let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
            pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
        let ingress = json!([{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}]);
        let policy = json!({"metadata": {"namespace": "shop", "name": "db"},
            "spec": {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": ingress}});
        create("networking.k8s.io", "NetworkPolicy", policy).await;
        Self { folder, address: api.local_addr(), _shutdown: shutdown.drop_guard() }
    }

    fn kubeconfig(&self) -> String {
        self.folder.path().join("kubeconfig").display().to_string()
    }

    /// The kubeconfig with something changed.
    fn kubeconfig_with(&self, name: &str, change: impl FnOnce(String) -> String) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("kubeconfig")).unwrap();
        self.write(name, &change(text))
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

/// What a command left behind.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the built binary, which must not take the environment's proxies for the way to a cluster.
async fn signalbox(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    for variable in ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(variable);
    }
    let output: Output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The four commands, with what each needs besides the cluster.
fn commands<'a>(kubeconfig: &'a str, edit: &'a str) -> [Vec<&'a str>; 4] {
    [
        vec!["analyze", "--kubeconfig", kubeconfig],
        vec!["explain", "shop/web", "shop/db:5432", "--kubeconfig", kubeconfig],
        vec!["diff", "--kubeconfig", kubeconfig, "--apply", edit],
        vec!["lint", "--kubeconfig", kubeconfig],
    ]
}

const OPEN_ALL: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{}]}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_cluster_is_analysed_explained_compared_and_reviewed() {
    let cluster = Cluster::start().await;
    let (kubeconfig, edit) = (cluster.kubeconfig(), cluster.write("edit.yaml", OPEN_ALL));
    let outcome = signalbox(&["analyze", "--kubeconfig", &kubeconfig, "-o", "json", "--loopback", "omit"]).await;
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    let value: Value = serde_json::from_str(&outcome.out).unwrap();
    let expected = json!({"src": "shop/web", "dst": "shop/db", "ports": {"TCP": [[5432, 5432]]}});
    assert_eq!(value["connections"].as_array().unwrap().iter().find(|it| it["dst"] == "shop/db"), Some(&expected));
    assert_eq!(value["unknown"], json!([]));

    let outcome = signalbox(&["explain", "shop/web", "shop/db:80", "--kubeconfig", &kubeconfig]).await;
    assert_eq!(outcome.code, Some(1), "denied: {outcome:#?}");
    assert!(outcome.out.contains("NetworkPolicy shop/db"), "{}", outcome.out);
    assert_eq!(signalbox(&["explain", "shop/web", "shop/db:5432", "--kubeconfig", &kubeconfig]).await.code, Some(0));

    let args = ["diff", "--kubeconfig", &kubeconfig, "--apply", &edit, "--fail-on", "opened", "-o", "csv"];
    let outcome = signalbox(&args).await;
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    assert!(outcome.out.contains("opens,shop/web,shop/db,,shut,open,TCP,1,5431"), "{}", outcome.out);

    // web is isolated by nothing: lint says so of the cluster's own objects.
    let outcome = signalbox(&["lint", "--kubeconfig", &kubeconfig, "-o", "json"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    serde_json::from_str::<Value>(&outcome.out).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_cannot_be_read_is_an_error_with_a_remedy() {
    let cluster = Cluster::start().await;
    let edit = cluster.write("edit.yaml", OPEN_ALL);
    let server = format!("https://{}/", cluster.address);
    // Nobody listens where nobody is bound any more.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = cluster.kubeconfig_with("away", |text| text.replace(&cluster.address.to_string(), &nobody.to_string()));
    let token = |text: String| {
        let (before, after) = text.split_once("token: ").unwrap();
        let (_, after) = after.split_once('\n').unwrap();
        format!("{before}token: nobody\n{after}")
    };
    let wrong_token = cluster.kubeconfig_with("token", token);
    let other = Cluster::start().await;
    let stranger = other
        .kubeconfig_with("stranger", |text| text.replace(&other.address.to_string(), &cluster.address.to_string()));
    let refusing = Refusing::start("pods").await;
    let refused = cluster.write("refused", &refusing.kubeconfig());
    let broken = cluster.write("broken", "kind: Config\nclusters: 7\n");
    let cases: [(&str, &[String]); 6] = [
        (
            &away,
            &[
                format!(
                    "cannot list the kinds of v1: the cluster at https://{nobody}/ cannot be reached (Connection refused"
                ),
                "check that its API server runs, and that the address in the kubeconfig is right".into(),
            ],
        ),
        (
            &wrong_token,
            &[
                format!(
                    "cannot list the kinds of v1: the cluster at {server} does not accept the credentials of the kubeconfig"
                ),
                "log in again, or correct the user there".into(),
            ],
        ),
        (
            &stranger,
            &[
                format!(
                    "cannot list the kinds of v1 of the cluster at {server}: the cluster's API does not prove to be"
                ),
                "its certificate is not signed by an authority that the kubeconfig names".into(),
                "correct certificate-authority-data".into(),
            ],
        ),
        (
            &refused,
            &[
                "cannot list pods: the user of the kubeconfig may not (".into(),
                "pods is forbidden: User \"nobody\" cannot list resource \"pods\"".into(),
                "give it a role with the verb list on pods in all namespaces".into(),
            ],
        ),
        (&broken, &[format!("cannot use the kubeconfig {broken}: "), "check the path".into()]),
        ("/nowhere/kubeconfig", &["cannot use the kubeconfig /nowhere/kubeconfig: ".into(), "check the path".into()]),
    ];
    for (kubeconfig, expected) in cases {
        for arguments in commands(kubeconfig, &edit) {
            let outcome = signalbox(&arguments).await;
            assert_eq!(outcome.code, Some(2), "{arguments:?}: {outcome:#?}");
            assert_eq!(outcome.out, "", "nothing is said of a cluster that was not read: {arguments:?}");
            assert!(!outcome.err.contains("Status {"), "for people: {}", outcome.err);
            for part in expected {
                assert!(outcome.err.contains(part), "{arguments:?}: {part:?} is not in {}", outcome.err);
            }
        }
    }
    let outcome = signalbox(&["lint", "--kubeconfig", &cluster.kubeconfig(), "--context", "elsewhere"]).await;
    assert_eq!(outcome.code, Some(2), "{outcome:#?}");
    assert!(outcome.err.contains("elsewhere") && outcome.err.contains("--context"), "{}", outcome.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_of_all_kinds_are_read_and_those_that_may_not_be_are_an_error() {
    let refusing = Refusing::start("globalnetworksets").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, refusing.kubeconfig()).unwrap();
    let kubeconfig = path.display().to_string();
    let outcome = signalbox(&["analyze", "--kubeconfig", &kubeconfig]).await;
    assert_eq!(outcome.code, Some(2), "{outcome:#?}");
    let expected = "cannot list globalnetworksets.crd.projectcalico.org: the user of the kubeconfig may not (";
    assert!(outcome.err.contains(expected), "{}", outcome.err);
    refusing.allow_all();
    let outcome = signalbox(&["analyze", "--kubeconfig", &kubeconfig, "-o", "json", "--loopback", "omit"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let value: Value = serde_json::from_str(&outcome.out).unwrap();
    // The set's address is in no pod's way; the ClusterNetworkPolicy of the newer version shuts b, Calico's policy opens a's 80.
    let open: Vec<String> = value["connections"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(open, [r#"{"dst":"x/a","ports":{"TCP":[[80,80]]},"src":"x/b"}"#], "{value:#}");
}
