//! Plans, carried out on maps in memory.

use proptest::prelude::*;
use signalbox_policy::{
    PolicyRef,
    tables::{Group, GroupId, GroupSide, Identity, LocalPod, Rest},
};

use super::*;

/// The maps as the kernel would hold them, written by plans.
#[derive(Default)]
struct Kernel {
    generation: u32,
    addresses: HashMap<Address, AddressValue>,
    blocks: HashMap<BlockKey, BlockValue>,
    pods: HashMap<u32, PodValue>,
    groups: HashSet<u32>,
}

impl Kernel {
    fn write(&mut self, writes: &Writes) {
        self.addresses.extend(writes.addresses.iter().copied());
        self.blocks.extend(writes.blocks.iter().copied());
        self.pods.extend(writes.pods.iter().copied());
        self.addresses.retain(|key, _| !writes.gone_addresses.contains(key));
        self.blocks.retain(|key, _| !writes.gone_blocks.contains(key));
        self.pods.retain(|key, _| !writes.gone_pods.contains(key));
        self.groups.retain(|group| writes.gone_groups.iter().all(|(gone, _)| gone != group));
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
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn group(isolating: u8) -> Group {
    let policy = PolicyRef { kind: "NetworkPolicy", namespace: Some("n".to_owned()), name: isolating.to_string() };
    let side = GroupSide { isolated_by: vec![policy], rest: Rest::Shut, ..GroupSide::default() };
    Group { ingress: side, egress: GroupSide::default() }
}

fn pod_ref(name: u8) -> PodRef {
    PodRef { namespace: "n".to_owned(), name: name.to_string() }
}

/// Addresses, blocks (by prefix length) and pods (with the policy that isolates them), each with an identity.
fn tables(addresses: &[(u8, u32)], blocks: &[(u8, u32)], pods: &[(u8, u8)]) -> Tables {
    let block = |&(length, identity): &(u8, u32)| {
        let net = ipnet::IpNet::new(address(0), length).expect("at most 32").trunc();
        (net, Identity(identity))
    };
    Tables {
        addresses: addresses.iter().map(|&(last, identity)| (address(last), Identity(identity))).collect(),
        blocks: blocks.iter().map(block).collect(),
        groups: pods.iter().map(|&(_, policy)| group(policy)).collect(),
        pods: (0_u32..)
            .zip(pods)
            .map(|(at, &(name, _))| LocalPod {
                pod: pod_ref(name),
                addresses: vec![address(200 + name)],
                group: GroupId(at),
                identities: vec![Identity(900 + u32::from(name))],
            })
            .collect(),
        rules: Vec::new(),
    }
}

#[test]
fn a_change_costs_what_it_changes() {
    let interfaces: HashMap<PodRef, u32> = (0..9).map(|name| (pod_ref(name), 100 + u32::from(name))).collect();
    let mut planner = Planner::default();
    let addresses: Vec<(u8, u32)> = (0..100).map(|last| (last, 5)).collect();
    let first = planner.plan(&tables(&addresses, &[(24, 7)], &[(1, 1), (2, 1), (3, 2)]), &interfaces);
    assert_eq!((first.generation, first.groups.len()), (1, 2), "equal groups share their entries");
    planner.done(&first);
    let same = planner.plan(&tables(&addresses, &[(24, 7)], &[(3, 2), (1, 1), (2, 1)]), &interfaces);
    assert!(same.is_empty(), "the order does not matter: {same:?}");
    let other = planner.plan(&tables(&addresses, &[(24, 7)], &[(1, 1), (2, 1), (3, 3)]), &interfaces);
    assert_eq!(other.groups.len(), 1);
    assert_eq!((other.before.pods.len(), other.before.addresses.len(), other.before.blocks.len()), (1, 0, 0));
    assert_eq!(other.after.gone_groups.len(), 1);
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
    let wanted = tables(&[], &[], &[(1, 1)]);
    let mut plan = planner.plan(&wanted, &interfaces);
    let number = plan.groups[0].0;
    plan.mark_unfit(number);
    let state = plan.before.pods[0].1;
    assert!(state.state(plan.generation).has(PodState::UNFIT));
    assert!(state.state(plan.generation).has(PodState::INGRESS_SHUT));
    assert_eq!(plan.unfit_interfaces().collect::<Vec<_>>(), [101]);
    planner.done(&plan);
    let again = planner.plan(&wanted, &interfaces);
    assert_eq!(again.groups.len(), 1);
    assert!(!again.before.pods[0].1.state(again.generation).has(PodState::UNFIT));
}

#[test]
fn what_did_not_fit_is_tried_again() {
    let mut planner = Planner::default();
    let wanted = tables(&[(1, 5), (2, 6)], &[(24, 7)], &[]);
    let mut plan = planner.plan(&wanted, &HashMap::new());
    let (address, block) = (plan.before.addresses[1].0, plan.before.blocks[0].0);
    plan.mark_missing(&Missing { addresses: vec![address], blocks: vec![block], pods: Vec::new() });
    assert_eq!((plan.after.addresses.len(), plan.after.blocks.len()), (1, 0));
    planner.done(&plan);
    let again = planner.plan(&wanted, &HashMap::new());
    assert_eq!(again.before.addresses.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [address]);
    assert_eq!(again.before.blocks.iter().map(|(block, _)| *block).collect::<Vec<_>>(), [block]);
}

type Change = (Vec<(u8, u32)>, Vec<(u8, u32)>, Vec<(u8, u8)>);

fn change() -> impl Strategy<Value = Change> {
    let addresses = prop::collection::btree_map(0_u8..6, 2_u32..6, 0..5);
    let blocks = prop::collection::btree_map(20_u8..=32, 2_u32..6, 0..5);
    let pods = prop::collection::btree_map(0_u8..4, 0_u8..3, 0..4);
    (addresses, blocks, pods).prop_map(|(addresses, blocks, pods)| {
        (addresses.into_iter().collect(), blocks.into_iter().collect(), pods.into_iter().collect())
    })
}

proptest! {
    /// Law: before the flip every lookup answers as in the old state, after it as in the new one, and in the end the
    /// maps hold what a cold start would have written.
    #[test]
    fn no_lookup_meets_a_mixture(changes in prop::collection::vec(change(), 1..8)) {
        let interfaces: HashMap<PodRef, u32> = (0..4).map(|name| (pod_ref(name), 100 + u32::from(name))).collect();
        let (mut planner, mut kernel) = (Planner::default(), Kernel::default());
        let asked: Vec<Address> =
            (0..8).chain(200..204).map(|last| Address::from(address(last))).collect();
        let answers = |kernel: &Kernel, generation: u32| {
            let identities: Vec<u32> = asked.iter().map(|address| kernel.identity(generation, *address)).collect();
            let pods: Vec<Option<PodState>> = (100..104).map(|at| kernel.pod(generation, at)).collect();
            (identities, pods)
        };
        for (addresses, blocks, pods) in changes {
            let wanted = tables(&addresses, &blocks, &pods);
            let plan = planner.plan(&wanted, &interfaces);
            let old = answers(&kernel, kernel.generation);
            kernel.groups.extend(plan.groups.iter().map(|(group, _)| *group));
            kernel.write(&plan.before);
            if kernel.generation != 0 {
                prop_assert_eq!(&answers(&kernel, kernel.generation), &old, "before the flip");
            }
            kernel.generation = plan.generation;
            planner.done(&plan);
            let new = answers(&kernel, kernel.generation);
            for state in new.1.iter().flatten() {
                prop_assert!(kernel.groups.contains(&state.group()), "a pod's group is there before the pod");
            }
            kernel.write(&plan.after);
            prop_assert_eq!(&answers(&kernel, kernel.generation), &new, "after it was cleared away");
            for state in new.1.iter().flatten() {
                prop_assert!(kernel.groups.contains(&state.group()));
            }

            let (mut cold_planner, mut cold) = (Planner::default(), Kernel::default());
            let cold_plan = cold_planner.plan(&wanted, &interfaces);
            cold.write(&cold_plan.before);
            cold.write(&cold_plan.after);
            prop_assert_eq!(&answers(&cold, cold_plan.generation).0, &new.0, "as after a cold start");
            prop_assert_eq!(&cold.addresses, &kernel.addresses);
            prop_assert_eq!(&cold.blocks, &kernel.blocks);
            prop_assert_eq!(cold.pods.len(), kernel.pods.len());
        }
    }
}
