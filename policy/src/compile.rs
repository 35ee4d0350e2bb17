//! Compiles the model into the tables of one node.
//!
//! 1. The node's pods, and with them the rules that can ever be asked.
//! 2. Classes ([`peers`]): all addresses, of pods, nodes and named blocks, by the peers they are in and the numbers behind
//!    the names of ports. Each class gets an identity.
//! 3. Groups ([`groups`]): the policies that bear on a pod, with its own named ports put in. Pods that agree share one.
//! 4. Each side of a group is a list ([`list`]) of which the first entry that matches decides: tiers one behind the
//!    other, and what a rule passes on in that rule's place.
//!
//! What the engine cannot tell is denied here: docs/adr/0006.

mod groups;
mod list;
mod peers;

use std::collections::BTreeSet;

use crate::identity::IdentityAllocator;
use crate::model::{Model, PodIndex};
use crate::names::Direction;
use crate::policy::Rule;
use crate::tables::{LocalPod, Tables};
use groups::Groups;
use peers::Peers;

pub(crate) fn compile(model: &Model, node: &str, identities: &mut IdentityAllocator) -> Tables {
    let [tables] = compile_all([model], node, identities);
    tables
}

/// Tables that share addresses, blocks and identities, for models that differ in policies only. The first has all of them.
pub(crate) fn compile_all<const N: usize>(
    models: [&Model; N],
    node: &str,
    identities: &mut IdentityAllocator,
) -> [Tables; N] {
    let model = models[0];
    let local = model.pods.on_node(node);
    let scope = Scope::of(model, local);
    let peers = Peers::classify(model, &scope, identities);
    models.map(|model| {
        let mut groups = Groups::new(model, &peers);
        let pods = local
            .iter()
            .map(|index| {
                let pod = model.pod(*index);
                LocalPod {
                    pod: pod.id.clone(),
                    addresses: pod.addresses.clone(),
                    group: groups.of(*index),
                    identities: pod.addresses.iter().map(|address| peers.identity_of(*address)).collect(),
                }
            })
            .collect();
        let (groups, rules) = groups.finish();
        Tables { addresses: peers.addresses.clone(), blocks: peers.blocks.clone(), groups, pods, rules }
    })
}

/// The policies that can be asked on this node, by direction: indices into the model's policies.
struct Scope {
    policies: [BTreeSet<usize>; 2],
}

impl Scope {
    fn of(model: &Model, local: &[PodIndex]) -> Self {
        let policies = Direction::ALL.map(|direction| {
            local.iter().flat_map(|index| model.standing(*index, direction).policies.iter().copied()).collect()
        });
        Self { policies }
    }

    fn rules<'m>(&self, model: &'m Model, direction: Direction) -> impl Iterator<Item = &'m Rule> {
        let policies = &self.policies[usize::from(direction == Direction::Egress)];
        policies.iter().flat_map(move |index| model.policies[*index].rules(direction).unwrap_or_default())
    }
}
