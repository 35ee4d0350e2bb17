//! Which node a token is bound to: one node's enforcer must not be able to report for another's.
//!
//! A token that the kubelet makes for a pod is bound to that pod. From Kubernetes 1.29 on it names the node as well; before, the pod
//! is looked up. A token that is bound to no pod says nothing of a node, and speaks for none.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::token::Caller;
use crate::kube_error::sentence;

const NODE: &str = "authentication.kubernetes.io/node-name";
const POD: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Why a token speaks for no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoNode {
    /// It is bound to nothing.
    #[error("the token is bound to no pod, so it speaks for no node: enforcers use a projected token of their pod")]
    Unbound,
    /// Its pod is gone, or another one of that name, or on no node.
    #[error("the pod {0} that the token is bound to is gone, or on no node")]
    PodGone(String),
    /// The pod cannot be looked up.
    #[error("the pod that the token is bound to cannot be looked up: {0}")]
    Unavailable(String),
}

/// The node that somebody's token is bound to.
///
/// # Errors
/// Where it is bound to none, or that cannot be told.
pub async fn node(client: &kube::Client, caller: &Caller) -> Result<String, NoNode> {
    let claim = |name: &str| caller.extra.get(name).and_then(|values| values.first()).filter(|value| !value.is_empty());
    if let Some(node) = claim(NODE) {
        return Ok(node.clone());
    }
    let pod = claim(POD).ok_or(NoNode::Unbound)?;
    let namespace = namespace(&caller.user).ok_or(NoNode::Unbound)?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let found = pods.get_opt(pod).await.map_err(|error| NoNode::Unavailable(sentence(&error)))?;
    let gone = || NoNode::PodGone(format!("{namespace}/{pod}"));
    let found = found.ok_or_else(gone)?;
    if claim(POD_UID).is_none_or(|uid| found.metadata.uid.as_ref() != Some(uid)) {
        return Err(gone());
    }
    found.spec.and_then(|spec| spec.node_name).filter(|node| !node.is_empty()).ok_or_else(gone)
}

/// Whether two tokens are the same one's, and bound to the same. Each token has a number of its own besides.
pub fn is_same(one: &Caller, other: &Caller) -> bool {
    one.user == other.user
        && one.uid == other.uid
        && [NODE, POD, POD_UID].iter().all(|claim| one.extra.get(*claim) == other.extra.get(*claim))
}

/// The namespace of a ServiceAccount.
fn namespace(user: &str) -> Option<&str> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':').map(|(namespace, _)| namespace)
}
