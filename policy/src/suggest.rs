//! The smallest set of readable policies that allows exactly what must work.
//!
//! Pods that share labels and needs make a unit; each unit gets one policy, which allows both ways what it needs and
//! nothing else, on top of one policy for each namespace that shuts everything. What comes out is judged by the engine,
//! pair by pair, before it is handed out: a suggestion is proved or not made.

mod asked;
mod compose;
mod peers;
mod proof;
mod units;

pub(crate) use asked::nets;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::analyze::AddressRange;
use crate::manifest;
use crate::model::Model;
use crate::names::{Family, PodRef, PolicyRef};
use crate::policy::Policy;
use crate::traffic::Traffic;

/// Connections that must work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Who connects.
    pub from: Who,
    /// To whom, after a Service's translation.
    pub to: Who,
    /// By which ports.
    pub traffic: Traffic,
    /// By which family, where it must be one only. Labels know no families: such a connection is allowed by the addresses that
    /// the pods have now.
    pub family: Option<Family>,
}

/// One end of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// One pod. One in the network of its node stands for the node's addresses.
    Pod(PodRef),
    /// All pods of a workload, as far as their names and labels tell whose they are.
    Workload {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Addresses that are no pod's. A single one that is a pod's stands for the pod.
    Range(AddressRange),
}

/// What else is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether names can be resolved.
    pub dns: Dns,
    /// Whether what a pod needs is allowed for those like it.
    pub spread: Spread,
    /// Which namespaces are shut otherwise.
    pub scope: Scope,
}

/// The exception for DNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dns {
    /// None.
    #[default]
    Omit,
    /// All pods in scope may go to port 53 by UDP and TCP, wherever that is; pods labelled `k8s-app: kube-dns` take it from
    /// all pods, by the numbers of their ports `dns` and `dns-tcp` as well.
    Allow,
}

/// Whether needs spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// Each pod gets what it needs itself.
    #[default]
    Exactly,
    /// What one pod needs, all pods of its namespace need that have the same labels, apart from those of single pods and
    /// revisions. For lists of what was seen: they seldom have all replicas in them.
    Replicas,
}

/// The namespaces that get policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All that have pods.
    #[default]
    All,
    /// These. Pods of others take part as peers, and their policies stay as they are.
    Namespaces(BTreeSet<String>),
}

/// What to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// By namespace, the one that shuts everything first.
    pub policies: Vec<Suggested>,
    /// NetworkPolicies of the namespaces in scope that are there and must go.
    pub deletes: Vec<PolicyRef>,
    /// What could not be proved, since addresses of pods are not known. Empty: it allows exactly what was asked for.
    pub caveats: Vec<String>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggested {
    /// Its name.
    pub object: PolicyRef,
    /// What it is for: some lines for people.
    pub comment: String,
    /// The policy as `kubectl apply` takes it.
    pub yaml: String,
}

/// Why there is no suggestion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuggestError {
    /// No such pod.
    #[error("Pod {0}: is not among the objects; name one that is, or its workload")]
    NoPod(PodRef),
    /// No pod of the workload.
    #[error("{namespace}/{name}: no pod is known to be of this workload; name its pods")]
    NoWorkload {
        /// The namespace given.
        namespace: String,
        /// The name given.
        name: String,
    },
    /// It has no address that a policy could name.
    #[error("Pod {0}: is in the network of its node and has no known address; give the node's address as a range")]
    NoAddress(PodRef),
    /// One family is asked for, and a pod has no address of it.
    #[error(
        "Pod {pod}: has no known address of {family}, so that nothing can be allowed by that family alone; leave the family out"
    )]
    NoFamily {
        /// The pod.
        pod: PodRef,
        /// The family asked for.
        family: Family,
    },
    /// One family is asked for, and addresses of the other are named.
    #[error("{range}: is not of {family}, by which it must be reached; correct one of the two")]
    OtherFamily {
        /// The addresses.
        range: AddressRange,
        /// The family asked for.
        family: Family,
    },
    /// Neither end is a pod that a policy can select.
    #[error("from {from} to {to}: no end is a pod that a policy can select; leave it out")]
    Outside {
        /// The source.
        from: String,
        /// The destination.
        to: String,
    },
    /// Some labels and other needs.
    #[error(
        "Pods {one} and {other} have the same labels, and only one of them needs {what}; give one of them a label of its own, or ask for both"
    )]
    Alike {
        /// A pod that needs it.
        one: PodRef,
        /// One that does not, or needs something else.
        other: PodRef,
        /// What is needed.
        what: String,
    },
    /// Policies of other tiers, or of namespaces out of scope, have another say.
    #[error("from {from} to {to}: policies that stay {does} {traffic}; change those, or leave it out")]
    Overruled {
        /// The source.
        from: String,
        /// The destination.
        to: String,
        /// What they do.
        does: &'static str,
        /// To which ports.
        traffic: String,
    },
    /// Something bears on it that was not understood.
    #[error("from {from} to {to}: {reason}; mend that first")]
    Unknown {
        /// The source.
        from: String,
        /// The destination.
        to: String,
        /// What was not understood.
        reason: String,
    },
}

impl Suggestion {
    /// All policies as one text, with comments.
    pub fn yaml(&self) -> String {
        manifest::documents(self.policies.iter().map(|it| (it.comment.as_str(), it.yaml.as_str())))
    }
}

pub(crate) fn suggest(model: &Model, needs: &[Need], options: &Options) -> Result<Suggestion, SuggestError> {
    let asked = asked::Asked::new(model, needs, options)?;
    let units = units::Units::new(model, &asked)?;
    let mut draft = compose::Draft::new(model, &units, options);
    let caveats = proof::prove(model, &asked, options, &mut draft)?;
    draft.tidy();
    let policies = draft.policies.iter().filter_map(|(policy, comment)| {
        let yaml = manifest::yaml(policy)?;
        Some(Suggested { object: policy.id.clone(), comment: comment.clone(), yaml })
    });
    let policies: Vec<Suggested> = policies.collect();
    let old = model.policies.iter().filter(|policy| is_replaced(policy, options)).map(|policy| policy.id.clone());
    let deletes = old.filter(|id| policies.iter().all(|policy| policy.object != *id)).collect();
    Ok(Suggestion { policies, deletes, caveats })
}

impl Options {
    /// Whether pods of a namespace get policies.
    fn covers(&self, namespace: &str) -> bool {
        match &self.scope {
            Scope::All => true,
            Scope::Namespaces(names) => names.contains(namespace),
        }
    }
}

/// The NetworkPolicies that a suggestion takes the place of.
fn is_replaced(policy: &Policy, options: &Options) -> bool {
    policy.id.kind == "NetworkPolicy" && policy.id.namespace.as_ref().is_some_and(|name| options.covers(name))
}

/// The cluster with a suggestion in place.
fn with_policies(model: &Model, options: &Options, policies: impl IntoIterator<Item = Policy>) -> Model {
    let kept = model.policies.iter().filter(|policy| !is_replaced(policy, options)).cloned();
    model.with_policies(kept.chain(policies.into_iter().map(Arc::new)))
}
