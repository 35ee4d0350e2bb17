//! Somebody else's enforcer: nftables on each node, kept up by a loop that asks the API, as a network plugin with gaps would do it. Of all
//! policies it knows one kind: no ingress at all, for all pods of a namespace, as long as no other policy is there that allows any. It shares nothing with Signalbox.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use super::{Cluster, NODES};
use crate::shell;

/// Between two looks at the API.
const PAUSE: Duration = Duration::from_millis(100);
/// How often in a row it may fail at what it does.
const PATIENCE: u32 = 20;

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
    let mut failed = 0;
    while !ended.load(Ordering::Relaxed) {
        match bring_up_to_date(cluster, works, &mut known) {
            Ok(()) => failed = 0,
            Err(error) if failed == PATIENCE => return Err(error),
            Err(_) => failed += 1,
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// `known`: the rules of each node, as far as they are known.
fn bring_up_to_date(cluster: &Cluster, works: &Works, known: &mut [Option<String>; NODES.len()]) -> Result<()> {
    let isolated = isolated(cluster)?;
    for (node, known) in NODES.into_iter().zip(known) {
        let wanted = if works.on(node) { rules(isolated.iter().filter(|pod| pod.node == node)) } else { String::new() };
        if known.as_ref() != Some(&wanted) {
            // One transaction.
            let table = format!("add table ip plugin\ndelete table ip plugin\ntable ip plugin {{\n{wanted}}}\n");
            shell::run(cluster.command(node, "nft").args(["-f", "-"]), Some(&table))?.ok().context(table)?;
            *known = Some(wanted);
        }
    }
    Ok(())
}

/// A pod that nobody may reach.
struct Isolated {
    node: String,
    address: String,
}

fn isolated(cluster: &Cluster) -> Result<Vec<Isolated>> {
    let list = |kind: &str| -> Result<Vec<Value>> {
        let printed = cluster.kubectl(&["get", kind, "--all-namespaces", "-o", "json"])?;
        let mut list: Value = serde_json::from_str(&printed)?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    };
    let policies = list("networkpolicies")?;
    let is_shut = |namespace: &Value| {
        let mut here = policies.iter().filter(|policy| policy["metadata"]["namespace"] == *namespace);
        let all = here.clone().any(|policy| {
            let spec = &policy["spec"];
            let types = spec["policyTypes"].as_array();
            spec["podSelector"] == json!({}) && types.is_some_and(|types| types.contains(&json!("Ingress")))
        });
        all && here.all(|policy| policy["spec"]["ingress"].as_array().is_none_or(Vec::is_empty))
    };
    let pods = list("pods")?;
    let shut = pods.iter().filter(|pod| is_shut(&pod["metadata"]["namespace"]));
    let of = |pod: &Value| {
        let text = |path: &str| pod.pointer(path)?.as_str().map(str::to_owned);
        Some(Isolated { node: text("/spec/nodeName")?, address: text("/status/podIP")? })
    };
    Ok(shut.filter_map(of).collect())
}

/// For the pods' own node. A pod that calls its own address, and a node that calls its pods: that is not forwarded.
fn rules<'a>(isolated: impl Iterator<Item = &'a Isolated>) -> String {
    let drops: String = isolated.map(|pod| format!("ip daddr {} ct state new drop\n", pod.address)).collect();
    format!("chain forward {{\ntype filter hook forward priority 0; policy accept;\n{drops}}}\n")
}
