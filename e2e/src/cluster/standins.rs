//! Stand-ins: the probes that are deployed for one run.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Cluster, VERSION};
use crate::lab::binary;

/// Those of a namespace, Jobs and their pods.
pub fn all(cluster: &Cluster, namespace: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (kind, selector) in [("jobs", "app.kubernetes.io/component=probe"), ("pods", "signalbox.dev/stands-in-for")] {
        let printed = cluster.kubectl(&["-n", namespace, "get", kind, "-l", selector, "-o", "name"])?;
        found.extend(printed.lines().map(str::to_owned));
    }
    Ok(found)
}

/// Has one deployed in `default`, and kills the server that did it, which removes nothing any more.
pub fn abandon_one(cluster: &Cluster) -> Result<()> {
    let labels = json!({"app": "plain"});
    let container = json!({
        "name": "it", "image": format!("signalbox/probe:{VERSION}"), "imagePullPolicy": "IfNotPresent",
        "args": ["serve", "--name", "plain", "--port", "TCP/9000"], "ports": [{"containerPort": 9000}],
    });
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"selector": {"matchLabels": labels}, "template": template});
    let metadata = json!({"namespace": "default", "name": "plain"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
    cluster.apply(&deployment.to_string())?;
    cluster.rolled_out("default", "deployment/plain")?;
    // Without a shell in between, so that it is the program itself that is killed.
    let mut server = Command::new("nsenter");
    server.arg("--net=/run/netns/sbx-control").arg(binary()?).args(["test", "--no-server", "--like=deployment/plain"]);
    let mut server = server.arg("--kubeconfig").arg(cluster.kubeconfig()).stdout(Stdio::null()).spawn()?;
    let deployed = cluster.wait(Duration::from_secs(30), "a stand-in is there", || {
        let is_there = !all(cluster, "default")?.is_empty();
        Ok(if is_there { Ok(()) } else { Err("neither Job nor pod".to_owned()) })
    });
    let (_gone, ended) = (server.kill(), server.wait()?);
    deployed?;
    ensure!(ended.code().is_none(), "it ended by itself before it was killed: {ended}");
    Ok(())
}
