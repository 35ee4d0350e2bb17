//! The server that `signalbox install` has put into the cluster, asked over its Service as users ask it: by TLS, and with a token.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signalbox_api::cell::{Agreement, Cell};
use signalbox_api::state::Snapshot;
use tempfile::NamedTempFile;

use super::{Cluster, NODES};
use crate::lab::binary;
use crate::lesson::Step;
use crate::shell::{self, Answer, Ran};

const NAMESPACE: &str = "signalbox-system";
/// What its certificate is for.
const NAME: &str = "signalbox.signalbox-system.svc";
/// Longer than a round of probes and the pause before it.
const WITHIN: Duration = Duration::from_secs(40);

/// The server, and whom to trust for it.
pub struct Dashboard<'a> {
    cluster: &'a Cluster,
    address: String,
    authority: NamedTempFile,
}

/// A ServiceAccount that stands for a user.
pub struct User {
    /// What it shows.
    pub token: String,
    kubeconfig: NamedTempFile,
}

/// A host outside that has joined. Dropped, it leaves.
pub struct Joined {
    process: Child,
    _token: NamedTempFile,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _already = self.process.kill();
        let _gone = self.process.wait();
    }
}

impl<'a> Dashboard<'a> {
    /// Waits for it.
    pub fn find(cluster: &'a Cluster) -> Result<Self> {
        cluster.rolled_out(NAMESPACE, "deployment/signalbox-server")?;
        let address =
            cluster.kubectl(&["-n", NAMESPACE, "get", "service", "signalbox", "-o", "jsonpath={.spec.clusterIP}"])?;
        let path = "jsonpath={.data.ca\\.crt}";
        let certificates = cluster.kubectl(&["-n", NAMESPACE, "get", "configmap", "signalbox-ca", "-o", path])?;
        let mut authority = NamedTempFile::new()?;
        authority.write_all(certificates.as_bytes())?;
        Ok(Self { cluster, address, authority })
    }

    /// A new ServiceAccount with a ClusterRole: everywhere, or in one namespace.
    pub fn user(&self, name: &str, role: &str, namespace: Option<&str>) -> Result<User> {
        let whom = format!("--serviceaccount=default:{name}");
        let role = format!("--clusterrole={role}");
        self.cluster.kubectl(&["-n", "default", "create", "serviceaccount", name])?;
        match namespace {
            Some(namespace) => self.cluster.kubectl(&["-n", namespace, "create", "rolebinding", name, &role, &whom])?,
            None => self.cluster.kubectl(&["create", "clusterrolebinding", name, &role, &whom])?,
        };
        let mut token = String::new();
        self.cluster.wait(WITHIN, "a ServiceAccount's token", || {
            let path = "jsonpath={.secrets[0].name}";
            let secret = self.cluster.kubectl(&["-n", "default", "get", "serviceaccount", name, "-o", path])?;
            if secret.is_empty() {
                return Ok(Err("it has no secret".to_owned()));
            }
            let data =
                self.cluster.kubectl(&["-n", "default", "get", "secret", &secret, "-o", "jsonpath={.data.token}"])?;
            token = String::from_utf8(STANDARD.decode(data)?)?;
            Ok(Ok(()))
        })?;
        let mut kubeconfig = NamedTempFile::new()?;
        kubeconfig.write_all(&std::fs::read(self.cluster.kubeconfig())?)?;
        let credentials = format!("--token={token}");
        for words in [&["set-credentials", "user", &credentials][..], &["set-context", "--current", "--user=user"]] {
            let path = kubeconfig.path();
            shell::run(Command::new("kubectl").arg("config").arg("--kubeconfig").arg(path).args(words), None)?.ok()?;
        }
        Ok(User { token, kubeconfig })
    }

    /// A host outside that probes start from: `signalbox join` in the users' network, until it is dropped.
    pub fn join(&self) -> Result<Joined> {
        let name = "outside";
        self.cluster.kubectl(&["-n", "default", "create", "serviceaccount", name])?;
        let rule = json!({"apiGroups": ["signalbox.dev"], "resources": ["externalhosts/exec"], "verbs": ["create"]});
        let (kind, metadata) = ("ClusterRole", json!({"name": name}));
        let group = "rbac.authorization.k8s.io/v1";
        let role = json!({"apiVersion": group, "kind": kind, "metadata": metadata, "rules": [rule]});
        self.cluster.apply(&role.to_string())?;
        let whom = "--serviceaccount=default:outside";
        self.cluster.kubectl(&["create", "clusterrolebinding", name, "--clusterrole=outside", whom])?;
        let path = "/api/v1/namespaces/default/serviceaccounts/outside/token";
        let wish =
            r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":["signalbox"]}}"#;
        let answer = self.cluster.kubectl_raw(&["create", "--raw", path, "-f", "-"], Some(wish))?.ok()?;
        let answer: Value = serde_json::from_str(&answer)?;
        let mut token = NamedTempFile::new()?;
        token.write_all(answer["status"]["token"].as_str().context("no token")?.as_bytes())?;
        // No node port leads to the streams: the users' network has a way to the pod itself.
        let ours = "app.kubernetes.io/component=server";
        let path = "jsonpath={.items[0].status.podIP}";
        let address = self.cluster.kubectl(&["-n", NAMESPACE, "get", "pods", "-l", ours, "-o", path])?;
        let mut join = self.cluster.command("users", binary()?);
        join.args(["join", "--name=users", "--server-name", NAME, "--server"]).arg(format!("https://{address}:9443"));
        join.arg("--token-file").arg(token.path()).arg("--ca").arg(self.authority.path());
        Ok(Joined { process: join.stdin(Stdio::null()).spawn()?, _token: token })
    }

    /// A request from the first node. `head` is for `curl`.
    pub fn ask(&self, path: &str, head: &[&str]) -> Result<Answer> {
        self.ask_from(NODES[0], path, head)
    }

    fn ask_from(&self, node: &str, path: &str, head: &[&str]) -> Result<Answer> {
        let mut curl = self.cluster.command(node, "curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"]);
        curl.arg("--cacert").arg(self.authority.path());
        curl.arg("--connect-to").arg(format!("{NAME}:443:{}:443", self.address));
        let printed = shell::run(curl.args(head).arg(format!("https://{NAME}{path}")), None)?.ok()?;
        let (body, status) = printed.rsplit_once('\n').context("curl printed no status")?;
        Ok(Answer { status: status.parse()?, body: body.to_owned() })
    }

    /// The picture that a user gets.
    pub fn state(&self, user: &User) -> Result<Snapshot> {
        self.state_from(NODES[0], user)
    }

    /// The same, asked for from another node.
    pub fn state_from(&self, node: &str, user: &User) -> Result<Snapshot> {
        let bearer = format!("Authorization: Bearer {}", user.token);
        let answer = self.ask_from(node, "/api/v1/state", &["--header", &bearer])?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// `signalbox …` as that user, from the machine of the control plane.
    pub fn command(&self, user: &User, arguments: &[&str]) -> Result<Ran> {
        let mut command: Command = self.cluster.command("control", binary()?);
        shell::run(command.args(arguments).arg("--kubeconfig").arg(user.kubeconfig.path()), None)
    }

    /// `kubectl signalbox …` as that user: the plugin as `signalbox plugin install` puts it into a folder of `$PATH`.
    pub fn plugin(&self, user: &User, arguments: &[&str]) -> Result<Ran> {
        let folder = tempfile::tempdir()?;
        shell::run(Command::new(binary()?).args(["plugin", "install"]).arg(folder.path()), None)?.ok()?;
        let path = format!("PATH={}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
        let mut command = self.cluster.command("control", "env");
        command.args([path.as_str(), "kubectl", "signalbox"]).args(arguments);
        shell::run(command.arg("--kubeconfig").arg(user.kubeconfig.path()), None)
    }

    /// What `signalbox watch` prints of a namespace in a while, line by line.
    pub fn watch(&self, user: &User, namespace: &str, lasting: Duration) -> Result<Vec<Value>> {
        let mut command = self.cluster.command("control", "timeout");
        command.arg("--signal=INT").arg(lasting.as_secs().to_string()).arg(binary()?);
        command.args(["watch", "--output=json", "--namespace", namespace]);
        let ran = shell::run(command.arg("--kubeconfig").arg(user.kubeconfig.path()), None)?;
        // As `timeout` says that it came to that.
        ensure!(ran.status == Some(124), "`watch` ended by itself: {ran:#?}");
        ran.stdout.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// Waits until policies, probes and kernels of both nodes say the same of all that the lesson's pods can try.
    pub fn agrees(&self, user: &User, step: &Step) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        let settled =
            self.cluster.wait(WITHIN, &format!("step {}: policies, probes and kernels agree", step.number), || {
                let state = self.state(user)?;
                let silent: Vec<_> = NODES.iter().filter(|node| !reports(&state, node)).collect();
                if !silent.is_empty() {
                    return Ok(Err(format!("nothing is heard of {silent:?}: {:#?}", state.enforcers)));
                }
                let vantage = |id: &str| state.endpoints.iter().any(|one| one.id == id && one.vantage);
                let tried = state.cells.iter().filter(|cell| vantage(&cell.key.from) && has_a_way(cell));
                cells = tried.cloned().collect();
                let wrong: Vec<_> = cells.iter().filter(|cell| !is_settled(cell)).collect();
                if wrong.is_empty() && !cells.is_empty() {
                    return Ok(Ok(()));
                }
                let some: Vec<_> = wrong.iter().take(5).map(|cell| words(cell)).collect();
                let (count, all) = (wrong.len(), cells.len());
                Ok(Err(format!("{count} of {all} cells in round {:?}: {some:#?}\n{:#?}", state.round, state.problems)))
            });
        settled.with_context(|| {
            let words = ["-n", NAMESPACE, "logs", "deployment/signalbox-server", "--tail=60"];
            self.cluster.kubectl(&words).unwrap_or_else(|error| error.to_string())
        })?;
        Ok(cells)
    }
}

fn reports(state: &Snapshot, node: &str) -> bool {
    let known = state.enforcers.iter().find(|enforcer| enforcer.node == node);
    known.is_some_and(|it| {
        it.enforcing && it.problems.is_empty() && it.link.as_ref().is_some_and(|link| link.lost.is_none())
    })
}

/// The users' network has no way to the addresses of Services: only the lesson's have node ports.
fn has_a_way(cell: &Cell) -> bool {
    let (from, to) = (cell.key.from.as_str(), cell.key.to.as_str());
    let of_the_lesson = ["service:frontend/", "service:backend/", "pod:"].iter().any(|prefix| to.starts_with(prefix));
    !from.starts_with("outside:") || of_the_lesson
}

fn is_settled(cell: &Cell) -> bool {
    let decided = cell.spec.as_ref().and_then(|spec| spec.decision);
    let kernel = cell.kernel.as_ref().map(|kernel| kernel.decision);
    // What a pod sends to itself no hook sees, and what goes to a Service is judged behind the translation, as its pod's.
    let is_judged =
        cell.key.from.starts_with("pod:") && cell.key.to.starts_with("pod:") && cell.key.from != cell.key.to;
    cell.agreement == Agreement::Agree && (kernel == decided || !is_judged)
}

fn words(cell: &Cell) -> String {
    let key = &cell.key;
    let spec = cell.spec.as_ref().and_then(|spec| spec.decision);
    let probe = cell.probe.as_ref().map(|probe| (probe.outcome, probe.backend.clone(), probe.detail.clone()));
    let kernel = cell.kernel.as_ref().map(|kernel| kernel.decision);
    let agreement = cell.agreement;
    format!(
        "{} to {} {}: policies {spec:?}, probe {probe:?}, kernel {kernel:?}: {agreement:?}",
        key.from, key.to, key.port
    )
}

/// The `live` part of what `signalbox why -o json` printed.
pub fn live(ran: &Ran) -> Result<Value> {
    let mut printed: Value = serde_json::from_str(&ran.stdout).with_context(|| format!("{ran:#?}"))?;
    Ok(printed["live"].take())
}
