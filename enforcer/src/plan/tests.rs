//! Plans, carried out on maps in memory.

use proptest::prelude::*;
use signalbox_enforcer_common::policy::{Judgement, Side};
use signalbox_policy::{
    Direction, PolicyRef, RuleRef,
    tables::{Decision, DecisionId, Entry, Group, GroupId, GroupSide, Identity, LocalPod, Rest, RuleId},
};

use super::*;

/// The maps as the kernel would hold them, written by plans.
#[derive(Default)]
struct Kernel {
    generation: u32,
    addresses: HashMap<Address, AddressValue>,
    blocks: HashMap<BlockKey, BlockValue>,
    pods: HashMap<u32, PodValue>,
    policy: HashMap<PolicyKey, Judgement>,
}

impl Kernel {
    fn write(&mut self, writes: &Writes) {
        self.addresses.extend(writes.addresses.iter().copied());
        self.blocks.extend(writes.blocks.iter().copied());
        self.pods.extend(writes.pods.iter().copied());
        self.addresses.retain(|key, _| !writes.gone_addresses.contains(key));
        self.blocks.retain(|key, _| !writes.gone_blocks.contains(key));
        self.pods.retain(|key, _| !writes.gone_pods.contains(key));
        self.policy.retain(|key, _| !writes.gone_policy.contains(key));
    }

    fn write_groups(&mut self, plan: &Plan) {
        self.policy.extend(plan.groups.policy.iter().copied());
    }

    /// As the kernel programs look an address up.
    fn identity(&self, generation: u32, address: Address) -> u32 {
        if let Some(value) = self.addresses.get(&address)
            && value.identity(generation) != NO_IDENTITY
        {
            return value.identity(generation);
        }
        let block =
            (0..=128).rev().find_map(|length| self.blocks.get(&BlockKey::new(length, masked(&address, length))));
        block.map_or(WORLD, |value| value.identity(generation))
    }

    fn pod(&self, generation: u32, interface: u32) -> Option<PodState> {
        let state = self.pods.get(&interface)?.state(generation);
        state.has(PodState::PRESENT).then_some(*state)
    }

    /// What a pod's policies say of an identity that asks to come in; `None`: no entry says anything.
    fn judgement(&self, pod: &PodState, identity: u32) -> Option<bool> {
        let found = self.policy.get(&PolicyKey::new(pod.group(), Side::Ingress, Some(identity), None, None))?;
        Some(!found.denies())
    }

    /// How many pods, addresses, blocks and entries it holds.
    fn len(&self) -> [usize; 4] {
        [self.pods.len(), self.addresses.len(), self.blocks.len(), self.policy.len()]
    }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn policy(name: u8) -> PolicyRef {
    PolicyRef { kind: "NetworkPolicy", namespace: Some("n".to_owned()), name: name.to_string() }
}

/// Isolated by a policy, and open for some identities by its only rule.
fn group(isolating: u8, peers: &[u32]) -> Group {
    let entry =
        |peer: &u32| Entry { peer: Some(Identity(*peer)), protocol: None, ports: None, decision: DecisionId(0) };
    let side = GroupSide {
        isolated_by: vec![policy(isolating)],
        decisions: vec![Decision::Allow(RuleId(u32::from(isolating)))],
        entries: peers.iter().map(entry).collect(),
        rest: Rest::Shut,
    };
    Group { ingress: side, egress: GroupSide::default() }
}

fn pod_ref(name: u8) -> PodRef {
    PodRef { namespace: "n".to_owned(), name: name.to_string() }
}

/// Addresses, blocks (by prefix length) and pods (with the policy that isolates them), each with an identity.
fn tables(addresses: &[(u8, u32)], blocks: &[(u8, u32)], pods: &[(u8, u8)]) -> Tables {
    tables_with(addresses, blocks, pods, &[])
}

/// The same; each policy lets some identities in.
fn tables_with(addresses: &[(u8, u32)], blocks: &[(u8, u32)], pods: &[(u8, u8)], peers: &[Vec<u32>]) -> Tables {
    let block = |&(length, identity): &(u8, u32)| {
        let net = ipnet::IpNet::new(address(0), length).expect("at most 32").trunc();
        (net, Identity(identity))
    };
    Tables {
        addresses: addresses.iter().map(|&(last, identity)| (address(last), Identity(identity))).collect(),
        blocks: blocks.iter().map(block).collect(),
        groups: pods
            .iter()
            .map(|&(_, policy)| group(policy, peers.get(usize::from(policy)).map_or(&[], Vec::as_slice)))
            .collect(),
        pods: (0_u32..)
            .zip(pods)
            .map(|(at, &(name, _))| LocalPod {
                pod: pod_ref(name),
                addresses: vec![address(200 + name)],
                group: GroupId(at),
                identities: vec![Identity(900 + u32::from(name))],
            })
            .collect(),
        rules: (0..10)
            .map(|name| RuleRef {
                policy: policy(name),
                direction: Direction::Ingress,
                rule: 0,
                peer: None,
                port: None,
            })
            .collect(),
    }
}

#[test]
fn a_change_costs_what_it_changes() {
    let interfaces: HashMap<PodRef, u32> = (0..9).map(|name| (pod_ref(name), 100 + u32::from(name))).collect();
    let mut planner = Planner::default();
    let addresses: Vec<(u8, u32)> = (0..100).map(|last| (last, 5)).collect();
    let first = planner.plan(&tables(&addresses, &[(24, 7)], &[(1, 1), (2, 1), (3, 2)]), &interfaces);
    assert_eq!((first.generation, first.names.len()), (1, 2), "equal groups share their entries");
    planner.done(&first);
    let same = planner.plan(&tables(&addresses, &[(24, 7)], &[(3, 2), (1, 1), (2, 1)]), &interfaces);
    assert!(same.is_empty(), "the order does not matter: {same:?}");
    let other = planner.plan(&tables(&addresses, &[(24, 7)], &[(1, 1), (2, 1), (3, 3)]), &interfaces);
    assert_eq!((other.before.pods.len(), other.before.addresses.len(), other.before.blocks.len()), (1, 0, 0));
}

/// Fifty policies of which each speaks of the same hundred peers: one more rule tells one of them apart from the others, and
/// takes one entry in each group, not a hundred.
#[test]
fn who_is_told_apart_by_one_rule_costs_one_entry_in_each_group() {
    let interfaces: HashMap<PodRef, u32> = (0..50).map(|name| (pod_ref(name), 100 + u32::from(name))).collect();
    let mut planner = Planner::default();
    let pods: Vec<(u8, u8)> = (0..50).map(|name| (name, name % 10)).collect();
    let addresses: Vec<(u8, u32)> = (0..100).map(|last| (last, 5 + u32::from(last))).collect();
    let everyone: Vec<u32> = (5..105).collect();
    let before = planner.plan(&tables_with(&addresses, &[], &pods, &vec![everyone.clone(); 10]), &interfaces);
    assert_eq!(before.groups.policy.len(), 10 * 100);
    planner.done(&before);

    let mut told_apart = addresses.clone();
    told_apart[7].1 = 500;
    let peers: Vec<u32> = everyone.iter().copied().chain([500]).filter(|peer| *peer != 12).collect();
    let plan = planner.plan(&tables_with(&told_apart, &[], &pods, &vec![peers; 10]), &interfaces);
    let come: Vec<usize> = plan.groups.by_group().values().map(|entries| entries.policy.len()).collect();
    assert_eq!(come, [1; 10]);
    assert_eq!(plan.after.gone_policy.len(), 10);
    assert_eq!((plan.before.pods.len(), plan.before.addresses.len()), (0, 1), "no pod has another group");
    planner.done(&plan);

    // The same identity may not come into a group while packets ask with it: that is another group.
    let plan = planner.plan(&tables_with(&told_apart, &[], &pods, &vec![everyone[..9].to_vec(); 10]), &interfaces);
    assert_eq!(plan.before.pods.len(), 50);
}

#[test]
fn a_block_of_one_family_holds_nothing_of_the_other() {
    let mut wanted = tables(&[], &[(24, 7)], &[]);
    wanted.blocks.push(("::/0".parse().expect("a block"), Identity(8)));
    let (mut planner, mut kernel) = (Planner::default(), Kernel::default());
    let plan = planner.plan(&wanted, &HashMap::new());
    kernel.write(&plan.before);
    let identity =
        |text: &str| kernel.identity(plan.generation, Address::from(text.parse::<IpAddr>().expect("an address")));
    assert_eq!(["10.0.0.9", "10.0.1.9", "fd00::1"].map(identity), [7, WORLD, 8]);
}

#[test]
fn a_group_that_does_not_fit_denies_and_is_tried_again() {
    let interfaces: HashMap<PodRef, u32> = [(pod_ref(1), 101)].into();
    let mut planner = Planner::default();
    let wanted = tables_with(&[], &[], &[(1, 1)], &[vec![], vec![7]]);
    let mut plan = planner.plan(&wanted, &interfaces);
    let number = plan.groups.policy[0].0.group();
    plan.mark_unfit([number]);
    assert_eq!(plan.after.gone_policy.len(), 1, "whatever was written of it goes");
    let state = plan.before.pods[0].1;
    assert!(state.state(plan.generation).has(PodState::UNFIT));
    assert!(state.state(plan.generation).has(PodState::INGRESS_SHUT));
    assert_eq!(plan.unfit_interfaces().collect::<Vec<_>>(), [101]);
    planner.done(&plan);
    let again = planner.plan(&wanted, &interfaces);
    assert_eq!(again.groups.policy.len(), 1);
    assert!(!again.before.pods[0].1.state(again.generation).has(PodState::UNFIT));
}

#[test]
fn a_group_in_force_that_cannot_be_trusted_any_more_denies_from_the_flip_on() {
    let interfaces: HashMap<PodRef, u32> = [(pod_ref(1), 101)].into();
    let mut planner = Planner::default();
    let wanted = |addresses: &[(u8, u32)]| tables_with(addresses, &[], &[(1, 1)], &[vec![], vec![7]]);
    let plan = planner.plan(&wanted(&[]), &interfaces);
    planner.done(&plan);
    let mut plan = planner.plan(&wanted(&[(1, 5)]), &interfaces);
    assert!(plan.before.pods.is_empty());
    // The address has found no room.
    let number = *plan.names.keys().next().expect("a group");
    plan.mark_unfit([number]);
    let state = plan.before.pods[0].1;
    assert!(state.state(plan.generation).has(PodState::UNFIT));
    assert!(!state.state(plan.generation + 1).has(PodState::UNFIT), "the old generation is as it was");
    assert!(plan.after.pods[0].1.state(plan.generation + 1).has(PodState::UNFIT));
}

#[test]
fn what_did_not_fit_is_tried_again() {
    let mut planner = Planner::default();
    let wanted = tables(&[(1, 5), (2, 6)], &[(24, 7)], &[]);
    let mut plan = planner.plan(&wanted, &HashMap::new());
    let (address, block) = (plan.before.addresses[1].0, plan.before.blocks[0].0);
    plan.mark_missing(&Missing { addresses: vec![address], blocks: vec![block], ..Missing::default() });
    assert_eq!((plan.after.addresses.len(), plan.after.blocks.len()), (1, 0));
    planner.done(&plan);
    let again = planner.plan(&wanted, &HashMap::new());
    assert_eq!(again.before.addresses.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [address]);
    assert_eq!(again.before.blocks.iter().map(|(block, _)| *block).collect::<Vec<_>>(), [block]);
}

#[derive(Clone, Debug)]
struct Change {
    addresses: Vec<(u8, u32)>,
    blocks: Vec<(u8, u32)>,
    pods: Vec<(u8, u8)>,
    /// Whom each of three policies lets in.
    peers: Vec<Vec<u32>>,
    /// The kernel refuses once so many writes are done.
    refused_after: Option<usize>,
    /// The kernel has no room to make versions equal.
    is_tight: bool,
}

impl Change {
    fn tables(&self) -> Tables {
        tables_with(&self.addresses, &self.blocks, &self.pods, &self.peers)
    }
}

fn change() -> impl Strategy<Value = Change> {
    let addresses = prop::collection::btree_map(0_u8..6, 2_u32..8, 0..5);
    let blocks = prop::collection::btree_map(20_u8..=32, 2_u32..8, 0..3);
    let pods = prop::collection::btree_map(0_u8..4, 0_u8..3, 0..4);
    let peers = prop::collection::vec(prop::collection::btree_set(0_u32..8, 0..4), 3);
    let refused_after = prop::option::weighted(0.3, 0_usize..12);
    let all = (addresses, blocks, pods, peers, refused_after, prop::bool::weighted(0.2));
    all.prop_map(|(addresses, blocks, pods, peers, refused_after, is_tight)| Change {
        is_tight,
        addresses: addresses.into_iter().collect(),
        blocks: blocks.into_iter().collect(),
        pods: pods.into_iter().collect(),
        peers: peers.into_iter().map(|peers| peers.into_iter().collect()).collect(),
        refused_after,
    })
}

/// The first so many writes.
fn first(writes: &Writes, mut left: usize) -> Writes {
    let mut some = Writes::default();
    let mut take = |length: usize| {
        let taken = length.min(left);
        left -= taken;
        taken
    };
    some.addresses = writes.addresses[..take(writes.addresses.len())].to_vec();
    some.blocks = writes.blocks[..take(writes.blocks.len())].to_vec();
    some.pods = writes.pods[..take(writes.pods.len())].to_vec();
    some
}

proptest! {
    /// Law: before the flip every lookup answers as in the old state, after it as in the new one, and in the end the
    /// maps hold what a cold start would have written. A change that the kernel refuses half way leaves nothing behind.
    #[test]
    fn no_lookup_meets_a_mixture(changes in prop::collection::vec(change(), 1..8)) {
        let interfaces: HashMap<PodRef, u32> = (0..4).map(|name| (pod_ref(name), 100 + u32::from(name))).collect();
        let (mut planner, mut kernel) = (Planner::default(), Kernel::default());
        let asked: Vec<Address> =
            (0..8).chain(200..204).map(|last| Address::from(address(last))).collect();
        let answers = |kernel: &Kernel, generation: u32| {
            let identities: Vec<u32> = asked.iter().map(|address| kernel.identity(generation, *address)).collect();
            let pods: Vec<Option<PodState>> = (100..104).map(|at| kernel.pod(generation, at)).collect();
            let present = pods.iter().flatten();
            let judged: Vec<Option<bool>> =
                present.flat_map(|pod| identities.iter().map(|identity| kernel.judgement(pod, *identity))).collect();
            (identities, pods, judged)
        };
        for change in changes {
            let wanted = change.tables();
            let plan = planner.plan(&wanted, &interfaces);
            let old = answers(&kernel, kernel.generation);
            let is_old = |kernel: &Kernel| kernel.generation == 0 || answers(kernel, kernel.generation) == old;
            kernel.write_groups(&plan);
            prop_assert!(is_old(&kernel), "the groups are written");
            if let Some(count) = change.refused_after {
                kernel.write(&first(&plan.before, count));
                prop_assert!(is_old(&kernel), "before it is undone");
                kernel.write(&plan.undo());
                prop_assert!(is_old(&kernel), "after it was undone");
                continue;
            }
            kernel.write(&plan.before);
            prop_assert!(is_old(&kernel), "before the flip");
            kernel.generation = plan.generation;
            planner.done(&plan);
            let new = answers(&kernel, kernel.generation);

            let (mut cold_planner, mut cold) = (Planner::default(), Kernel::default());
            let cold_plan = cold_planner.plan(&wanted, &interfaces);
            cold.write_groups(&cold_plan);
            cold.write(&cold_plan.before);
            cold.write(&cold_plan.after);
            let afresh = answers(&cold, cold_plan.generation);
            prop_assert_eq!((&afresh.0, &afresh.2), (&new.0, &new.2), "as after a cold start");

            if change.is_tight {
                let (mut after, mut uneven) = (plan.after.clone(), Missing::default());
                uneven.addresses = std::mem::take(&mut after.addresses).into_iter().map(|(key, _)| key).collect();
                uneven.blocks = std::mem::take(&mut after.blocks).into_iter().map(|(key, _)| key).collect();
                uneven.pods = std::mem::take(&mut after.pods).into_iter().map(|(key, _)| key).collect();
                kernel.write(&after);
                planner.distrust(uneven);
                prop_assert_eq!(&answers(&kernel, kernel.generation), &new, "after there was no room");
                continue;
            }
            kernel.write(&plan.after);
            prop_assert_eq!(&answers(&kernel, kernel.generation), &new, "after it was cleared away");
            prop_assert_eq!(&cold.addresses, &kernel.addresses);
            prop_assert_eq!(&cold.blocks, &kernel.blocks);
            prop_assert_eq!(cold.len(), kernel.len());
        }
    }
}
