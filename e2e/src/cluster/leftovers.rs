//! What is left of Signalbox in a cluster and on its nodes, and how it is taken away.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::Cluster;
use crate::lab::binary;
use crate::shell;

/// `signalbox uninstall`.
pub fn uninstall(cluster: &Cluster) -> Result<shell::Ran> {
    let mut command = cluster.command("control", binary()?);
    shell::run(command.arg("uninstall").arg("--kubeconfig").arg(cluster.kubeconfig()), None)
}

/// Names below the node's bpf file system.
pub fn pins(cluster: &Cluster, node: &str) -> Result<Vec<String>> {
    let listed = shell::run(cluster.command(node, "ls").arg("/sys/fs/bpf"), None)?.ok()?;
    // Every bpf file system has these two: the kernel's own iterators over maps and programs.
    Ok(listed.lines().filter(|name| !name.ends_with(".debug")).map(str::to_owned).collect())
}

/// Neither pins nor qdiscs.
pub fn nothing_left_on(cluster: &Cluster, node: &str) -> Result<()> {
    let left = pins(cluster, node)?;
    ensure!(left.is_empty(), "{node} has pins: {left:?}");
    let qdiscs = shell::run(cluster.command(node, "tc").args(["qdisc", "show"]), None)?.ok()?;
    ensure!(!qdiscs.contains("clsact"), "{node} has qdiscs:\n{qdiscs}");
    Ok(())
}

/// All objects of the cluster but those that come and go by themselves.
pub fn objects(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let kinds = "namespaces,serviceaccounts,secrets,configmaps,services,deployments,daemonsets,jobs,pods,networkpolicies,roles,\
                 rolebindings,clusterroles,clusterrolebindings,customresourcedefinitions";
    let columns = "custom-columns=K:.kind,N:.metadata.namespace,M:.metadata.name";
    let listed = cluster.kubectl(&["get", kinds, "--all-namespaces", "--no-headers", "-o", columns])?;
    Ok(listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}
