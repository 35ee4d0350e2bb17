//! The server that `signalbox install` has put into the cluster, asked over its Service as users ask it: by TLS, and with a token.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
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

    /// A request from a node. `head` is for `curl`.
    pub fn ask(&self, path: &str, head: &[&str]) -> Result<Answer> {
        let mut curl = self.cluster.command("node1", "curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"]);
        curl.arg("--cacert").arg(self.authority.path());
        curl.arg("--connect-to").arg(format!("{NAME}:443:{}:443", self.address));
        let printed = shell::run(curl.args(head).arg(format!("https://{NAME}{path}")), None)?.ok()?;
        let (body, status) = printed.rsplit_once('\n').context("curl printed no status")?;
        Ok(Answer { status: status.parse()?, body: body.to_owned() })
    }

    /// The picture that a user gets.
    pub fn state(&self, user: &User) -> Result<Snapshot> {
        let bearer = format!("Authorization: Bearer {}", user.token);
        let answer = self.ask("/api/v1/state", &["--header", &bearer])?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// `signalbox …` as that user, from the machine of the control plane.
    pub fn command(&self, user: &User, arguments: &[&str]) -> Result<Ran> {
        let mut command: Command = self.cluster.command("control", binary()?);
        shell::run(command.args(arguments).arg("--kubeconfig").arg(user.kubeconfig.path()), None)
    }

    /// Waits until policies, probes and kernels of both nodes say the same of all that the lesson's pods can try.
    pub fn agrees(&self, user: &User, step: &Step) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        self.cluster.wait(WITHIN, &format!("step {}: policies, probes and kernels agree", step.number), || {
            let state = self.state(user)?;
            let silent: Vec<_> = NODES.iter().filter(|node| !reports(&state, node)).collect();
            if !silent.is_empty() {
                return Ok(Err(format!("nothing is heard of {silent:?}: {:#?}", state.enforcers)));
            }
            let vantage = |id: &str| state.endpoints.iter().any(|one| one.id == id && one.vantage);
            cells = state.cells.iter().filter(|cell| vantage(&cell.key.from)).cloned().collect();
            let wrong: Vec<_> = cells.iter().filter(|cell| !is_settled(cell)).collect();
            let said =
                || format!("{} of {} cells: {:#?}", wrong.len(), cells.len(), wrong.iter().take(3).collect::<Vec<_>>());
            Ok(if wrong.is_empty() && !cells.is_empty() { Ok(()) } else { Err(said()) })
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

fn is_settled(cell: &Cell) -> bool {
    let decided = cell.spec.as_ref().and_then(|spec| spec.decision);
    let kernel = cell.kernel.as_ref().map(|kernel| kernel.decision);
    // A Service's own address is translated before the kernel judges: what it decided stands in its pods' cells.
    let judged = kernel == decided || cell.key.to.starts_with("service:") || cell.key.to.starts_with("outside:");
    cell.agreement == Agreement::Agree && judged
}

/// The `live` part of what `signalbox why -o json` printed.
pub fn live(ran: &Ran) -> Result<Value> {
    let mut printed: Value = serde_json::from_str(&ran.stdout).with_context(|| format!("{ran:#?}"))?;
    Ok(printed["live"].take())
}
