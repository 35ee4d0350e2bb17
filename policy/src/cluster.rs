//! The parsed cluster, and the questions it answers.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::alike::{self, Outside};
use crate::analyze::{self, Link, Links, Options};
use crate::compile;
use crate::diff::{Differences, Pods};
use crate::identity::IdentityAllocator;
use crate::judge;
use crate::lint::{self, Finding};
use crate::model::Model;
use crate::names::{Family, ObjectRef, PodRef, PolicyRef, Protocol};
use crate::parse::problem::Problem;
use crate::patch::{self, Remedy};
use crate::peer::Namespaces;
use crate::pod::Pod;
use crate::policy::Policy;
use crate::reach::{self, Reach};
use crate::simplify::{self, Simplified, SimplifyError};
use crate::suggest::{self, Need, SuggestError, Suggestion};
use crate::summary;
use crate::tables::Tables;
use crate::verdict::Verdict;

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// A pod of the cluster.
    Pod(PodRef),
    /// Anything else, by its address. The address of a pod stands for the pod, that of a node for the node.
    Address(IpAddr),
    /// The node that the other end, a pod, runs on.
    LocalNode,
}

/// How a connection reaches its destination. It matters to a pod that calls itself only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Route {
    /// By the destination's own address. No policy can keep a pod from itself.
    #[default]
    Direct,
    /// By a Service's address. A pod that reaches itself that way is subject to policy.
    Service,
}

/// All that a connection is to a policy.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Who opens it.
    pub from: &'a Party,
    /// To whom, after a Service's translation.
    pub to: &'a Party,
    /// The transport.
    pub protocol: Protocol,
    /// The destination port, after a Service's translation.
    pub port: u16,
    /// How the destination is reached.
    pub route: Route,
    /// Between which addresses, for ends that have several. `None`: the first family of the destination that the source
    /// has, too; where one end has no known address the first of the other one.
    pub family: Option<Family>,
}

/// Namespaces, pods and policies, parsed once. Immutable: a change makes a new one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    model: Arc<Model>,
}

impl Cluster {
    /// Reads Kubernetes objects: namespaces, nodes, pods and workloads, and policies of all kinds. Kinds that have no
    /// bearing on policies are passed over. Never fails: what it cannot understand is in [`Cluster::unknowns`], and whatever that bears on is judged
    /// unknown.
    pub fn from_objects<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        Self { model: Arc::new(Model::read(objects)) }
    }

    /// After a change: with some objects that are new or changed, and without some others. Equal to reading all objects again,
    /// and quicker, since all that the change does not touch is shared with this one.
    pub fn with_change<'a>(
        &self,
        changed: impl IntoIterator<Item = &'a Value>,
        removed: impl IntoIterator<Item = &'a ObjectRef>,
    ) -> Self {
        Self { model: Arc::new(self.model.with_change(changed, removed)) }
    }

    /// The same where there may be more policies, which nobody could read: each sentence says which, and why. Whatever they
    /// might bear on is unknown.
    #[must_use]
    pub fn with_unread(&self, sentences: impl IntoIterator<Item = String>) -> Self {
        Self { model: Arc::new(self.model.with_unread(sentences)) }
    }

    /// The same, with all forgotten that was worked out from what was read. It is for measurements.
    #[doc(hidden)]
    pub fn unclassified(&self) -> Self {
        Self { model: Arc::new(self.model.unclassified()) }
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What could not be understood: the object's name, the field's path, the reason.
    pub fn unknowns(&self) -> &[String] {
        &self.model.unknowns
    }

    /// The same as [`Cluster::unknowns`], field by field.
    pub fn problems(&self) -> &[Problem] {
        &self.model.problems
    }

    /// What the policies say of a connection to `port` (the pod's own, after any Service's translation), reached by the
    /// destination's own address.
    pub fn verdict(&self, from: &Party, to: &Party, protocol: Protocol, port: u16) -> Verdict {
        self.judge(&Connection { from, to, protocol, port, route: Route::Direct, family: None })
    }

    /// The same for a connection that went through a Service. It differs for a pod that calls itself: that is subject to
    /// policy then.
    pub fn verdict_through_service(&self, from: &Party, to: &Party, protocol: Protocol, port: u16) -> Verdict {
        self.judge(&Connection { from, to, protocol, port, route: Route::Service, family: None })
    }

    /// What the policies say of a connection.
    pub fn judge(&self, connection: &Connection<'_>) -> Verdict {
        judge::judge(&self.model, connection)
    }

    /// What a reviewer would say of the policies. Give the objects that the cluster was read from: Services, declared ports
    /// and fields as they were written are to be seen in them only.
    pub fn lint<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Vec<Finding> {
        lint::lint(objects, self)
    }

    /// The pods that have a network, workloads that stand for theirs included, in order of their names.
    pub fn pods(&self) -> impl Iterator<Item = &PodRef> {
        self.model.pods.iter().map(|pod| &pod.id)
    }

    /// The policies that were understood, in the order in which they are asked.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = &Policy> {
        self.model.policies.iter().map(AsRef::as_ref)
    }

    /// What one party may reach at another: all ports of all protocols. By `family`, or if that is `None` as
    /// [`Cluster::judge`] chooses it.
    pub fn reach(&self, from: &Party, to: &Party, route: Route, family: Option<Family>) -> Reach {
        reach::reach(&self.model, from, to, route, family)
    }

    /// The smallest patch that would open a connection, and what it opens besides. `None`: it is not shut for certain.
    pub fn remedy(&self, connection: &Connection<'_>) -> Option<Remedy> {
        patch::remedy(&self.model, connection)
    }

    /// Policies that allow exactly what is needed, in place of all NetworkPolicies there are.
    ///
    /// # Errors
    /// Where no NetworkPolicies can do that: labels cannot tell pods apart, policies of other tiers have another say, or
    /// something was not understood.
    pub fn suggest(&self, needs: &[Need], options: &suggest::Options) -> Result<Suggestion, SuggestError> {
        suggest::suggest(&self.model, needs, options)
    }

    /// The same meaning with fewer and smaller NetworkPolicies.
    ///
    /// # Errors
    /// Never, unless there is a fault in it: the result is held against the policies there are.
    pub fn simplify(&self, options: &simplify::Options) -> Result<Simplified, SimplifyError> {
        simplify::simplify(&self.model, options)
    }

    /// All connections between pods, and if asked for with the outside: sorted, without those that are shut for certain.
    pub fn analyze(&self, options: Options) -> Vec<Link> {
        analyze::analyze(&self.model, options)
    }

    /// The same for each family that both ends have, one after the other; one without a family where all families say the
    /// same. An end without a known address has the families of the other one; where neither has any, these are all that the
    /// cluster may have. None at all: the ends have no family in common.
    pub fn reach_by_family(&self, from: &Party, to: &Party, route: Route) -> Vec<(Option<Family>, Reach)> {
        let families = reach::families(&self.model, from, to);
        let reach = |family: Option<Family>| (family, self.reach(from, to, route, family));
        let mut found: Vec<_> = families.into_iter().map(reach).collect();
        if found.windows(2).all(|pair| pair[0].1 == pair[1].1) {
            found.truncate(1);
            for (family, _) in &mut found {
                *family = None;
            }
        }
        found
    }

    /// The families by which two ends can connect, as far as that is known: an end without a known address has those of the
    /// other one. None at all: they have none in common, or an end is not there.
    pub fn families_between(&self, from: &Party, to: &Party) -> Vec<Family> {
        reach::families(&self.model, from, to).into_iter().flatten().collect()
    }

    /// The kind of each pod, by number from 0, in the order of [`Cluster::pods`]. Pods of one kind are told apart by no
    /// policy: see [`alike`].
    pub fn kinds(&self) -> Vec<usize> {
        alike::pods(&self.model)
    }

    /// All other addresses of the families in use, cut where policies cut them and put together where none tells them
    /// apart; with the policies of another state of the cluster, too, if there is one to compare with.
    pub fn outside(&self, other: Option<&Self>) -> Vec<Outside> {
        let models: Vec<&Model> = std::iter::once(self).chain(other).map(|cluster| &*cluster.model).collect();
        alike::outside(&models)
    }

    /// The same, one source after another, for clusters with more connections than fit into memory.
    pub fn links(&self, options: Options) -> Links<'_> {
        Links::new(&self.model, options)
    }

    /// What differs in another state of this cluster, one source after another.
    pub fn differences<'c>(&'c self, after: &'c Self, options: Options) -> Differences<'c> {
        Differences::new(self, after, options)
    }

    /// All pods with the families of their addresses.
    pub fn families(&self) -> Pods {
        let families = |pod: &Pod| pod.addresses.iter().copied().map(Family::of).collect();
        self.model.pods.iter().map(|pod| (pod.id.clone(), families(pod))).collect()
    }

    /// The pods that a policy selects, in order of their names; empty where there is no such policy.
    pub fn selected_by(&self, policy: &PolicyRef) -> Vec<PodRef> {
        let sound = self.model.policies.iter().find(|it| it.id == *policy).map(|it| &it.subject);
        let broken = || self.model.broken.iter().find(|it| it.id == *policy).map(|it| &it.subject);
        let Some(subject) = sound.or_else(broken) else {
            return Vec::new();
        };
        // A thousand policies that each look at all pods of ten thousand take seconds.
        let pods = match &subject.namespaces {
            Namespaces::Own(name) => self.model.pods_of(name),
            Namespaces::Selected(_) => &self.model.pods,
        };
        let selected = pods.iter().filter(|pod| subject.selects(pod, self.model.namespace_of(pod)).is_certain());
        selected.map(|pod| pod.id.clone()).collect()
    }

    /// One line for people: whom the policy selects and what it allows. For a policy that was not understood: why.
    pub fn summary(&self, policy: &PolicyRef) -> Option<String> {
        if let Some(sound) = self.model.policies.iter().find(|it| it.id == *policy) {
            return Some(summary::summary(sound, self.selected_by(policy).len()));
        }
        let broken = self.model.broken.iter().find(|it| it.id == *policy);
        broken.map(|it| format!("not understood: {}", it.unknowns.join("; ")))
    }

    /// Compiles the tables for one node, numbering identities afresh.
    pub fn compile(&self, node: &str) -> Tables {
        self.compile_with(node, &mut IdentityAllocator::default())
    }

    /// Compiles the tables for one node. Peers keep the identities they had in the tables that this allocator numbered
    /// before, as far as they are still told apart in the same way. Use one allocator per node.
    pub fn compile_with(&self, node: &str, identities: &mut IdentityAllocator) -> Tables {
        compile::compile(&self.model, node, identities)
    }

    /// Compiles two sets of tables whose identities mean the same: those of `without`, and those of this cluster. `without` is this
    /// cluster without some of its policies, and with the same pods, namespaces and nodes.
    pub fn compile_beside(&self, without: &Self, node: &str, identities: &mut IdentityAllocator) -> (Tables, Tables) {
        let [all, fewer] = compile::compile_all([&self.model, &without.model], node, identities);
        (fewer, all)
    }
}
