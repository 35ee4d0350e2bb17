//! What `signalbox install` prints: every object that Signalbox has in a cluster. Pure: options in, objects out.
//!
//! - [`names`]: what everything is called, and the labels that all of it has.
//! - [`rights`]: ServiceAccounts, and what they may do.
//! - [`server`], [`enforcer`]: the two workloads.
//! - [`network`]: the policies that Signalbox has for itself.
//! - [`hosts`]: the custom resource for hosts outside.

mod enforcer;
mod hosts;
pub mod names;
mod network;
mod rights;
mod server;

use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use enforcer::cleaning_pod;

/// Whether and how policies are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Enforcement {
    /// New pods are open until their policies are in
    Standard,
    /// New pods are shut until their policies are in
    Strict,
    /// Nothing is shut; what would be is told
    Audit,
    /// No enforcer: another one is there, or none is wanted
    None,
}

/// What the objects depend on.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of everything that lies in one.
    pub namespace: String,
    /// Before `server:VERSION`, `enforcer:VERSION` and `probe:VERSION`; ends with a slash, unless empty.
    pub image_prefix: String,
    /// The images' tag.
    pub version: String,
    /// Whether and how policies are enforced.
    pub enforcement: Enforcement,
    /// The server may apply and delete NetworkPolicies, in the name of users who may.
    pub allow_apply: bool,
    /// Probes may start from inside of real pods' network namespaces, too.
    pub allow_real_pods: bool,
    /// Namespaces in which the server may steer probes and start stand-ins; all of them where none is named.
    pub probe_namespaces: Vec<String>,
}

impl Options {
    fn image(&self, component: &str) -> String {
        format!("{}{component}:{}", self.image_prefix, self.version)
    }

    fn has_enforcer(&self) -> bool {
        self.enforcement != Enforcement::None
    }
}

/// All objects, in the order in which they can be created.
#[must_use]
pub fn objects(options: &Options) -> Vec<Value> {
    let mut objects = vec![namespace(options), hosts::definition()];
    objects.extend(rights::objects(options));
    objects.extend(network::objects(options));
    objects.extend(server::objects(options));
    if options.has_enforcer() {
        objects.push(enforcer::daemon_set(options));
    }
    objects
}

/// Pod Security: the enforcer is privileged, the rest of us is as restricted as it gets.
fn namespace(options: &Options) -> Value {
    let level = if options.has_enforcer() { "privileged" } else { "restricted" };
    let mut labels = names::labels(None);
    for mode in ["enforce", "audit", "warn"] {
        labels.insert(format!("pod-security.kubernetes.io/{mode}"), level.into());
    }
    // Kubernetes sets it itself from 1.22 on; our own policies select by it.
    labels.insert("kubernetes.io/metadata.name".to_owned(), options.namespace.clone().into());
    let mut namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": options.namespace, "labels": labels},
    });
    if options.has_enforcer() {
        // Programs outlive the DaemonSet: this is what `uninstall` knows by that nodes have to be cleaned, and with what.
        namespace["metadata"]["annotations"] = json!({names::ENFORCER_IMAGE: options.image("enforcer")});
    }
    namespace
}

/// An object of Kubernetes' own types as JSON.
fn value(object: impl Serialize) -> Value {
    serde_json::to_value(object).expect("Kubernetes' types are JSON")
}
