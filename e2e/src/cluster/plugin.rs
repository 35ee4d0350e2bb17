//! Somebody else's enforcer: nftables on each node, kept up by a loop that asks the API, as a network plugin with gaps would do it. Of all
//! policies it knows one kind: no ingress at all, for all pods of a namespace. It shares nothing with Signalbox.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use super::{Cluster, NODES};
use crate::shell;

/// Between two looks at the API.
const PAUSE: Duration = Duration::from_millis(100);

/// On which nodes it works.
#[derive(Debug)]
pub struct Works(Mutex<Vec<&'static str>>);

impl Works {
    /// From now on on these alone.
    pub fn only_on(&self, nodes: &[&'static str]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = nodes.to_vec();
    }

    fn on(&self, node: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&node)
    }
}

/// Sets it when it goes, by whatever way.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has it work, on both nodes to begin with, while something is done. The rules that stand then stay.
pub fn during<T>(cluster: &Cluster, work: impl FnOnce(&Works) -> Result<T>) -> Result<T> {
    let works = Works(Mutex::new(NODES.to_vec()));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let plugin = scope.spawn(|| enforce(cluster, &works, &ended));
        let done = {
            let _end = SetAtEnd(&ended);
            work(&works)
        };
        let enforced = plugin.join().map_err(|_| anyhow!("the plugin panicked"))?;
        // What it could not do explains what was not seen.
        enforced.context("the plugin").and(done)
    })
}

fn enforce(cluster: &Cluster, works: &Works, ended: &AtomicBool) -> Result<()> {
    let mut known = NODES.map(|_| None);
    while !ended.load(Ordering::Relaxed) {
        let rules = rules(&isolated(cluster)?);
        for (node, known) in NODES.into_iter().zip(&mut known) {
            let wanted = if works.on(node) { rules.as_str() } else { "" };
            if known.as_deref() != Some(wanted) {
                // One transaction.
                let table = format!("add table ip plugin\ndelete table ip plugin\ntable ip plugin {{ {wanted} }}\n");
                shell::run(cluster.command(node, "nft").args(["-f", "-"]), Some(&table))?.ok().context(table)?;
                *known = Some(wanted.to_owned());
            }
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Addresses of the pods that nobody may reach.
fn isolated(cluster: &Cluster) -> Result<Vec<String>> {
    let list = |kind: &str| -> Result<Vec<Value>> {
        let printed = cluster.kubectl(&["get", kind, "--all-namespaces", "-o", "json"])?;
        let mut list: Value = serde_json::from_str(&printed)?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    };
    let policies = list("networkpolicies")?;
    let is_shut = |namespace: &Value| {
        policies.iter().any(|policy| {
            let spec = &policy["spec"];
            let is_empty = |field: &str| match &spec[field] {
                Value::Object(fields) => fields.is_empty(),
                Value::Array(items) => items.is_empty(),
                _ => true,
            };
            let types = spec["policyTypes"].as_array();
            policy["metadata"]["namespace"] == *namespace
                && types.is_some_and(|types| types.contains(&Value::from("Ingress")))
                && is_empty("podSelector")
                && is_empty("ingress")
        })
    };
    let pods = list("pods")?;
    let shut = pods.iter().filter(|pod| is_shut(&pod["metadata"]["namespace"]));
    Ok(shut.filter_map(|pod| Some(pod.pointer("/status/podIP")?.as_str()?.to_owned())).collect())
}

/// A pod reaches itself, also by its Service, and its node reaches it: that is not forwarded.
fn rules(isolated: &[String]) -> String {
    let drop = |pod: &String| format!("ip daddr {pod} ip saddr != {pod} ct state new drop; ");
    let drops: String = isolated.iter().map(drop).collect();
    format!("chain forward {{ type filter hook forward priority 0; policy accept; {drops}}}")
}
