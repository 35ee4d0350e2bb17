// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The tables. User space sets the capacity of most of them when it loads the object.

use aya_ebpf::{
    bindings::{BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf, lpm_trie::Key},
};
use signalbox_enforcer_common::{
    Address, CONTROL_AUDIT, CONTROL_CELLS, CONTROL_CLOCK, CONTROL_GENERATION, STATISTIC_CELLS,
    flow::{CountKey, Counts, Flow, FlowKey, FragmentKey, Limit, LimitKey, VerdictKey},
    policy::{
        AddressValue, AuditValue, BlockValue, Judgement, NodePortKey, PodValue, PolicyKey, TranslatedKey, Unjudged,
    },
};

use crate::{conntrack::Case, packet::Packet, quick::Recent};

/// The generation in force, the coarse clock, and the mode.
#[map]
pub static CONTROL: Array<u32> = Array::with_max_entries(CONTROL_CELLS, 0);

/// Local pods by the index of their host interface.
#[map]
pub static PODS: HashMap<u32, PodValue> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Whole addresses.
#[map]
pub static ADDRESSES: HashMap<Address, AddressValue> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Blocks, for addresses that are not in `ADDRESSES`.
#[map]
pub static BLOCKS: LpmTrie<Address, BlockValue> = LpmTrie::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// What policies decide.
#[map]
pub static POLICY: HashMap<PolicyKey, Judgement> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// What policies decide for ranges of ports: group, identity, protocol and side, port.
#[map]
pub static RANGES: LpmTrie<[u8; 12], Judgement> = LpmTrie::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Addresses at which the node itself listens, and which no Service translates.
#[map]
pub static NODE_ADDRESSES: HashMap<Address, u32> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Ports at the node's addresses that the service proxy translates.
#[map]
pub static NODE_PORTS: HashMap<NodePortKey, u32> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// Addresses of the node at which a Service has a port, and that port: what goes there is translated.
#[map]
pub static TRANSLATED: HashMap<TranslatedKey, u32> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Interfaces that are ports of a bridge, and the number of each, from 1; a bridge of pods itself is `LANE_OF_BRIDGE`.
#[map]
pub static BRIDGED: HashMap<u32, u32> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// The interface that has a number.
#[map]
pub static SENDERS: HashMap<u32, u32> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// Interfaces of the node that are no pod's: in strict mode what comes by another one is a pod that is not known yet.
#[map]
pub static FOREIGN: HashMap<u32, u32> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Interfaces of pods that are not known yet, as far as programs stand there.
#[map]
pub static UNJUDGED: HashMap<u32, Unjudged> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Flows that were judged.
#[map]
pub static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(65_536, BPF_F_NO_COMMON_LRU);

/// Datagrams whose first fragment was let pass, and in which generation.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, u32> = LruHashMap::with_max_entries(1024, 0);

/// When a flow's denial was reported.
#[map]
pub static LIMITS: LruHashMap<LimitKey, Limit> = LruHashMap::with_max_entries(8192, 0);

/// Verdicts counted.
#[map]
pub static COUNTS: LruHashMap<CountKey, Counts> = LruHashMap::with_max_entries(16_384, 0);

/// Local pods that policies in audit select, by the index of their host interface.
#[map]
pub static AUDITS: HashMap<u32, AuditValue> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Verdicts counted by what decided. User space takes away what belongs to groups that are gone.
#[map]
pub static VERDICTS: PerCpuHashMap<VerdictKey, u64> = PerCpuHashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// What the kernel counts of itself.
#[map]
pub static STATISTICS: PerCpuArray<u64> = PerCpuArray::with_max_entries(STATISTIC_CELLS, 0);

/// Verdicts as they fall.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// When the reader of events was woken, in nanoseconds: by a new flow, and by what is urgent. These programs' own, as `SCRATCH`.
#[map]
pub static WOKEN: Array<u64> = Array::with_max_entries(2, 0);

/// Where a packet is taken apart and judged. Not on the stack, which is small, and whose every value the verifier would
/// follow along every way through the program.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Of how many bits the numbers of the entries of [`RECENT`] are.
pub const RECENT_BITS: u32 = 10;

/// Copies of what `FLOWS` says, by a hash of the packet. Like `SCRATCH` they are these programs' own, and pinned nowhere.
#[map]
pub static RECENT: PerCpuArray<Recent> = PerCpuArray::with_max_entries(1 << RECENT_BITS, 0);

/// See [`scratch`].
#[repr(C)]
pub struct Scratch {
    /// The packet.
    pub packet: Packet,
    /// The connection that it belongs to.
    pub case: Case,
}

/// This CPU's scratch memory, holding what the packet before left in it.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the memory is this CPU's own. The hooks run with bottom halves disabled, so that none interrupts another
    // on one CPU. It begins as zeros, which are values of all its fields, and no program takes it twice.
    Some(unsafe { &mut *scratch })
}

/// What every packet asks first.
#[derive(Clone, Copy)]
pub struct Moment {
    /// The generation in force.
    pub generation: u32,
    /// The coarse clock, in seconds.
    pub now: u32,
}

impl Moment {
    /// Reads both cells once, so that one packet meets one generation.
    #[inline(always)]
    pub fn read() -> Option<Self> {
        let generation = CONTROL.get_ptr(CONTROL_GENERATION)?;
        let now = CONTROL.get_ptr(CONTROL_CLOCK)?;
        // SAFETY: pointers into an array map stay valid while the program runs; user space writes whole words.
        unsafe { Some(Self { generation: generation.read_volatile(), now: now.read_volatile() }) }
    }

    /// Both as one word.
    #[inline(always)]
    pub fn word(&self) -> u64 {
        (self.generation as u64) << 32 | self.now as u64
    }
}

/// Whether everything is let pass, and denials are only reported. Asked only where something is to be denied.
#[inline(always)]
pub fn is_audit() -> bool {
    match CONTROL.get_ptr(CONTROL_AUDIT) {
        // SAFETY: a pointer into an array map stays valid while the program runs; user space writes whole words.
        Some(cell) => unsafe { cell.read_volatile() != 0 },
        None => false,
    }
}

/// Counts one of the kernel's own figures.
#[inline(always)]
pub fn count(statistic: u32) {
    if let Some(cell) = STATISTICS.get_ptr_mut(statistic) {
        // SAFETY: the cell is this CPU's own, and programs on one CPU do not interrupt each other.
        unsafe { *cell = (*cell).wrapping_add(1) };
    }
}

/// A key of `RANGES`, whose layout is that of `RangeKey`.
#[inline(always)]
pub fn range_key(group: u32, identity: u32, protocol: u8, side: u8, port: u16) -> Key<[u8; 12]> {
    let group = group.to_ne_bytes();
    let identity = identity.to_ne_bytes();
    let port = port.to_be_bytes();
    Key::new(
        signalbox_enforcer_common::policy::RangeKey::FULL,
        [
            group[0],
            group[1],
            group[2],
            group[3],
            identity[0],
            identity[1],
            identity[2],
            identity[3],
            protocol,
            side,
            port[0],
            port[1],
        ],
    )
}
