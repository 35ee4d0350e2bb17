// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The tables that user space writes.

use crate::{Address, version};

/// In [`AddressValue`]: this version knows no such address.
pub const NO_IDENTITY: u32 = u32::MAX;
/// In [`PolicyKey`]: whatever the identity.
const ANY_IDENTITY: u32 = u32::MAX;
/// No rule: larger than every index of a rule.
pub const NO_RULE: u32 = u32::MAX;

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

/// What the kernel knows of a local pod in one generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    flags: u32,
    group: u32,
    identity: u32,
    reserved: u32,
    v4: Address,
    v6: Address,
}

impl PodState {
    /// This version knows the pod.
    pub const PRESENT: u32 = 1;
    /// A policy isolates it for connections into it.
    pub const INGRESS_ISOLATED: u32 = 1 << 1;
    /// A policy isolates it for connections out of it.
    pub const EGRESS_ISOLATED: u32 = 1 << 2;
    /// Some rule for ingress names a range of ports.
    pub const INGRESS_RANGES: u32 = 1 << 3;
    /// Some rule for egress names a range of ports.
    pub const EGRESS_RANGES: u32 = 1 << 4;
    /// Its policies did not fit into the maps: where it is isolated, everything is denied.
    pub const UNFIT: u32 = 1 << 5;

    /// A known pod.
    pub const fn new(flags: u32, group: u32, identity: u32, v4: Address, v6: Address) -> Self {
        Self { flags: flags | Self::PRESENT, group, identity, reserved: 0, v4, v6 }
    }

    /// A version that does not know the pod.
    pub const ABSENT: Self =
        Self { flags: 0, group: 0, identity: 0, reserved: 0, v4: Address::UNSPECIFIED, v6: Address::UNSPECIFIED };

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

    /// What it is as a peer.
    #[inline(always)]
    pub const fn identity(&self) -> u32 {
        self.identity
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

/// Key of the map `POLICY`. Its value is the index of the rule within the group: the smallest of all that match decides.
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
}

/// Key of the LPM map `RANGES`: as [`PolicyKey`], with a block of ports as the last bits.
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
}
