// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The tables that user space writes.

use crate::{Address, version};

/// In [`AddressValue`]: this version knows no such address.
pub const NO_IDENTITY: u32 = u32::MAX;
/// In [`PolicyKey`]: whatever the identity.
const ANY_IDENTITY: u32 = u32::MAX;
/// No decision: larger than the index of any.
pub const NO_DECISION: u32 = u32::MAX;

/// Value of the maps `POLICY` and `RANGES`: what becomes of what the key matches. Of all that match the smallest counts.
///
/// The index of the decision within its side of the group, ascending in the order in which rules are asked, in the upper
/// 31 bits, so that the order of the words is that of the decisions; 1 in the lowest bit where it denies. An index stands for
/// one decision, so the lowest bit never settles the order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Judgement {
    word: u32,
}

impl Judgement {
    /// Nothing matches: larger than any.
    pub const NONE: Self = Self { word: u32::MAX };

    /// A decision by its index, below 2^31 - 1.
    pub const fn new(decision: u32, denies: bool) -> Self {
        Self { word: decision << 1 | denies as u32 }
    }

    /// Whether anything matches.
    #[inline(always)]
    pub const fn is_some(self) -> bool {
        self.word != u32::MAX
    }

    /// Whether it denies.
    #[inline(always)]
    pub const fn denies(self) -> bool {
        self.word & 1 != 0
    }

    /// The decision's index, or [`NO_DECISION`].
    #[inline(always)]
    pub const fn decision(self) -> u32 {
        if self.is_some() { self.word >> 1 } else { NO_DECISION }
    }

    /// The earlier of both.
    #[inline(always)]
    pub const fn or_earlier(self, other: Self) -> Self {
        if other.word < self.word { other } else { self }
    }
}

/// Which side of a connection is judged.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Into the pod.
    Ingress = 1,
    /// Out of the pod.
    Egress = 2,
}

/// Value of the map `ADDRESSES`, keyed by [`Address`]: who it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressValue {
    identities: [u32; 2],
    interfaces: [u32; 2],
}

impl AddressValue {
    /// Both versions: identity, and the interface of the local pod that has the address, or 0.
    pub const fn new(versions: [(u32, u32); 2]) -> Self {
        Self { identities: [versions[0].0, versions[1].0], interfaces: [versions[0].1, versions[1].1] }
    }

    /// Its identity in a generation, or [`NO_IDENTITY`].
    #[inline(always)]
    pub const fn identity(&self, generation: u32) -> u32 {
        if version(generation) == 0 { self.identities[0] } else { self.identities[1] }
    }

    /// The interface of the local pod that has the address in a generation, or 0.
    #[inline(always)]
    pub const fn interface(&self, generation: u32) -> u32 {
        if version(generation) == 0 { self.interfaces[0] } else { self.interfaces[1] }
    }
}

/// Key of the LPM map `BLOCKS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    prefix_length: u32,
    address: Address,
}

impl BlockKey {
    /// A block: the length counts from the first of the 128 bits.
    #[inline(always)]
    pub const fn new(prefix_length: u32, address: Address) -> Self {
        Self { prefix_length, address }
    }

    /// Its length, from the first of the 128 bits, and its address.
    pub const fn parts(&self) -> (u32, Address) {
        (self.prefix_length, self.address)
    }

    /// Its length, of 128 bits.
    pub const fn prefix_length(&self) -> u32 {
        self.prefix_length
    }

    /// Its first address.
    pub const fn address(&self) -> Address {
        self.address
    }
}

/// Value of the map `BLOCKS`: the identity of addresses whose longest prefix this is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockValue {
    identities: [u32; 2],
}

impl BlockValue {
    /// Both versions.
    pub const fn new(identities: [u32; 2]) -> Self {
        Self { identities }
    }

    /// The identity in a generation.
    #[inline(always)]
    pub const fn identity(&self, generation: u32) -> u32 {
        if version(generation) == 0 { self.identities[0] } else { self.identities[1] }
    }
}

/// Which kinds of entries a side of a group has: no other is looked up. Eight bits of [`PodState`]'s flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shapes {
    bits: u8,
}

impl Shapes {
    /// None: nothing to look up.
    pub const NONE: Self = Self { bits: 0 };
    /// Entries of `POLICY` for an identity, whatever protocol and port.
    pub const IDENTITY: Self = Self { bits: 1 };
    /// Entries that match everything.
    pub const ALL: Self = Self { bits: 1 << 1 };
    /// For an identity and a protocol.
    pub const IDENTITY_PROTOCOL: Self = Self { bits: 1 << 2 };
    /// For a protocol.
    pub const PROTOCOL: Self = Self { bits: 1 << 3 };
    /// For an identity and a port.
    pub const IDENTITY_PORT: Self = Self { bits: 1 << 4 };
    /// For a port.
    pub const PORT: Self = Self { bits: 1 << 5 };
    /// Entries of `RANGES` for an identity.
    pub const IDENTITY_RANGE: Self = Self { bits: 1 << 6 };
    /// Entries of `RANGES` for whatever identity.
    pub const RANGE: Self = Self { bits: 1 << 7 };

    /// That of an entry of `POLICY`; `None` stands for any, and a port has a protocol.
    pub const fn of_entry(identity: Option<u32>, protocol: Option<u8>, port: Option<u16>) -> Self {
        match (identity, protocol, port) {
            (Some(_), None, _) => Self::IDENTITY,
            (None, None, _) => Self::ALL,
            (Some(_), Some(_), None) => Self::IDENTITY_PROTOCOL,
            (None, Some(_), None) => Self::PROTOCOL,
            (Some(_), Some(_), Some(_)) => Self::IDENTITY_PORT,
            (None, Some(_), Some(_)) => Self::PORT,
        }
    }

    /// That of an entry of `RANGES`.
    pub const fn of_range(identity: Option<u32>) -> Self {
        match identity {
            Some(_) => Self::IDENTITY_RANGE,
            None => Self::RANGE,
        }
    }

    /// Those of both.
    pub const fn and(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits }
    }

    /// Whether there are entries of a shape.
    #[inline(always)]
    pub const fn has(self, shape: Self) -> bool {
        self.bits & shape.bits != 0
    }
}

/// What the kernel knows of a local pod in one generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    flags: u32,
    group: u32,
    identity_v4: u32,
    identity_v6: u32,
    v4: Address,
    v6: Address,
}

impl PodState {
    /// This version knows the pod.
    pub const PRESENT: u32 = 1;
    /// Connections into it that no entry matches are denied: a policy isolates it, or was not understood. With
    /// [`PodState::INGRESS_JUDGED`].
    pub const INGRESS_SHUT: u32 = 1 << 1;
    /// The same for connections out of it.
    pub const EGRESS_SHUT: u32 = 1 << 2;
    /// Its policies did not fit into the maps: where it is judged, everything is denied.
    pub const UNFIT: u32 = 1 << 5;
    /// Some policy has a word on connections into it.
    pub const INGRESS_JUDGED: u32 = 1 << 6;
    /// Some policy has a word on connections out of it.
    pub const EGRESS_JUDGED: u32 = 1 << 7;
    /// Policies in audit select it: what they would deny is in the map `AUDITS`.
    pub const AUDITED: u32 = 1 << 24;
    /// Where the [`Shapes`] of ingress begin.
    const INGRESS_SHAPES: u32 = 8;
    /// Where those of egress do.
    const EGRESS_SHAPES: u32 = 16;

    /// A known pod: its flags, its group, and its address and identity of each family. Without an address the identity
    /// does not matter.
    pub const fn new(flags: u32, group: u32, v4: (Address, u32), v6: (Address, u32)) -> Self {
        Self { flags: flags | Self::PRESENT, group, identity_v4: v4.1, identity_v6: v6.1, v4: v4.0, v6: v6.0 }
    }

    /// A version that does not know the pod.
    pub const ABSENT: Self =
        Self { flags: 0, group: 0, identity_v4: 0, identity_v6: 0, v4: Address::UNSPECIFIED, v6: Address::UNSPECIFIED };

    /// The same with other flags.
    pub const fn with_flags(&self, flags: u32) -> Self {
        Self { flags, ..*self }
    }

    /// The flags that say which entries the sides of its group have.
    pub const fn shapes_as_flags(ingress: Shapes, egress: Shapes) -> u32 {
        (ingress.bits as u32) << Self::INGRESS_SHAPES | (egress.bits as u32) << Self::EGRESS_SHAPES
    }

    /// Which entries a side of its group has, from its flags.
    #[inline(always)]
    pub const fn shapes(flags: u32, side: Side) -> Shapes {
        let at = match side {
            Side::Ingress => Self::INGRESS_SHAPES,
            Side::Egress => Self::EGRESS_SHAPES,
        };
        Shapes { bits: (flags >> at) as u8 }
    }

    /// Its flags.
    #[inline(always)]
    pub const fn flags(&self) -> u32 {
        self.flags
    }

    /// Whether a flag is set.
    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The set of policies that select it.
    #[inline(always)]
    pub const fn group(&self) -> u32 {
        self.group
    }

    /// What it is as a peer, on a connection of the family that `like` belongs to.
    #[inline(always)]
    pub const fn identity(&self, like: &Address) -> u32 {
        if like.is_v4() { self.identity_v4 } else { self.identity_v6 }
    }

    /// Whether the address is one of its own.
    #[inline(always)]
    pub const fn owns(&self, address: &Address) -> bool {
        if address.is_v4() { self.v4.same(address) } else { self.v6.same(address) }
    }

    /// Its own addresses, IPv4 and IPv6, or [`Address::UNSPECIFIED`].
    pub const fn addresses(&self) -> (Address, Address) {
        (self.v4, self.v6)
    }

    /// Its own address of the same family as another.
    #[inline(always)]
    pub const fn own_address(&self, like: &Address) -> Address {
        if like.is_v4() { self.v4 } else { self.v6 }
    }
}

/// Value of the map `PODS`, keyed by the index of the pod's host interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodValue {
    versions: [PodState; 2],
}

impl PodValue {
    /// Both versions.
    pub const fn new(versions: [PodState; 2]) -> Self {
        Self { versions }
    }

    /// The state in a generation.
    #[inline(always)]
    pub const fn state(&self, generation: u32) -> &PodState {
        if version(generation) == 0 { &self.versions[0] } else { &self.versions[1] }
    }
}

/// Value of the map `UNJUDGED`, keyed by the index of an interface whose pod is not known yet: packets that no policy judged.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unjudged {
    /// Let pass, in standard mode.
    pub passed: u64,
    /// Dropped, in strict mode.
    pub dropped: u64,
}

/// Value of the map `AUDITS`, keyed by the index of the pod's host interface: what the pod would be if the policies in audit were
/// enforced like all others.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditValue {
    groups: [u32; 2],
    flags: [u32; 2],
}

impl AuditValue {
    /// Both versions: group and flags, which are [`PodState`]'s.
    pub const fn new(versions: [(u32, u32); 2]) -> Self {
        Self { groups: [versions[0].0, versions[1].0], flags: [versions[0].1, versions[1].1] }
    }

    /// The group in a generation; 0: none.
    #[inline(always)]
    pub const fn group(&self, generation: u32) -> u32 {
        if version(generation) == 0 { self.groups[0] } else { self.groups[1] }
    }

    /// The flags in a generation.
    #[inline(always)]
    pub const fn flags(&self, generation: u32) -> u32 {
        if version(generation) == 0 { self.flags[0] } else { self.flags[1] }
    }
}

/// Key of the map `POLICY`, whose value is a [`Judgement`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKey {
    group: u32,
    identity: u32,
    port: u16,
    protocol: u8,
    side: u8,
}

impl PolicyKey {
    /// `None` stands for any identity, any protocol (those without ports as well), any port.
    #[inline(always)]
    pub const fn new(group: u32, side: Side, identity: Option<u32>, protocol: Option<u8>, port: Option<u16>) -> Self {
        Self {
            group,
            identity: match identity {
                Some(identity) => identity,
                None => ANY_IDENTITY,
            },
            // Neither protocol 0 (IPv6 hop-by-hop options) nor port 0 can be named by a rule.
            port: match port {
                Some(port) => port,
                None => 0,
            },
            protocol: match protocol {
                Some(protocol) => protocol,
                None => 0,
            },
            side: side as u8,
        }
    }

    /// The group.
    pub const fn group(&self) -> u32 {
        self.group
    }

    /// The number of its [`Side`].
    pub const fn side(&self) -> u8 {
        self.side
    }

    /// `None`: any.
    pub const fn identity(&self) -> Option<u32> {
        if self.identity == ANY_IDENTITY { None } else { Some(self.identity) }
    }

    /// `None`: any.
    pub const fn protocol(&self) -> Option<u8> {
        if self.protocol == 0 { None } else { Some(self.protocol) }
    }

    /// `None`: any.
    pub const fn port(&self) -> Option<u16> {
        if self.port == 0 { None } else { Some(self.port) }
    }
}

/// Key of the LPM map `RANGES`: as [`PolicyKey`], with a block of ports as the last bits. The value is a [`Judgement`], too.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RangeKey {
    prefix_length: u32,
    group: u32,
    identity: u32,
    protocol: u8,
    side: u8,
    port: [u8; 2],
}

impl RangeKey {
    /// Bits before the port.
    const FIXED: u32 = 80;
    /// Bits of the key of a single port.
    pub const FULL: u32 = Self::FIXED + 16;

    /// The block of ports that begins at `port` and has `bits` bits in common.
    #[inline(always)]
    pub const fn new(group: u32, side: Side, identity: Option<u32>, protocol: u8, port: u16, bits: u32) -> Self {
        Self {
            prefix_length: Self::FIXED + bits,
            group,
            identity: match identity {
                Some(identity) => identity,
                None => ANY_IDENTITY,
            },
            protocol,
            side: side as u8,
            port: port.to_be_bytes(),
        }
    }

    /// The group.
    pub const fn group(&self) -> u32 {
        self.group
    }

    /// The number of its [`Side`].
    pub const fn side(&self) -> u8 {
        self.side
    }

    /// `None`: any.
    pub const fn identity(&self) -> Option<u32> {
        if self.identity == ANY_IDENTITY { None } else { Some(self.identity) }
    }

    /// The IP protocol.
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The first port of the block and its last.
    pub const fn ports(&self) -> (u16, u16) {
        let first = u16::from_be_bytes(self.port);
        let free = 16 - self.prefix_length.saturating_sub(Self::FIXED);
        (first, first | ((1_u32 << free) - 1) as u16)
    }
}

/// Key of the map `NODE_PORTS`: ports of the node that the service proxy translates.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodePortKey {
    port: u16,
    protocol: u16,
}

impl NodePortKey {
    /// An IP protocol's port.
    #[inline(always)]
    pub const fn new(protocol: u8, port: u16) -> Self {
        Self { port, protocol: protocol as u16 }
    }

    /// The IP protocol and the port.
    pub const fn parts(&self) -> (u8, u16) {
        (self.protocol as u8, self.port)
    }
}

/// In the map `BRIDGED`: the interface is a bridge whose ports are pods'. Numbers of ports are smaller, since `skb->tc_index` that
/// carries them has 16 bits.
pub const LANE_OF_BRIDGE: u32 = 1 << 31;

/// Key of the map `TRANSLATED`: an address of the node at which a Service has a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TranslatedKey {
    address: Address,
    port: u16,
    protocol: u16,
}

impl TranslatedKey {
    /// An IP protocol's port at an address.
    #[inline(always)]
    pub const fn new(address: Address, protocol: u8, port: u16) -> Self {
        Self { address, port, protocol: protocol as u16 }
    }

    /// The address, the IP protocol and the port.
    pub const fn parts(&self) -> (Address, u8, u16) {
        (self.address, self.protocol as u8, self.port)
    }
}
