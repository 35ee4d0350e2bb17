// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Who is at the ends of a conversation.

use aya_ebpf::maps::lpm_trie::Key;
use signalbox_enforcer_common::{
    Address,
    policy::{NO_IDENTITY, PodState},
};

use crate::maps::{ADDRESSES, BLOCKS, PODS};

/// An address in no table.
const WORLD: u32 = 0;
/// The node that the judged pod runs on.
const LOCAL_NODE: u32 = 1;

/// One end.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Endpoint {
    /// What it is as a peer.
    pub identity: u32,
    /// For a local pod: the set of policies that select it.
    pub group: u32,
    /// For a local pod: [`PodState`]'s flags; else 0, or [`Endpoint::NODE`].
    pub flags: u32,
    /// For a local pod: its host interface; else 0.
    pub interface: u32,
    /// For a local pod: its address of the connection's family, or [`Address::UNSPECIFIED`]. Else it means nothing.
    pub own: Address,
}

impl Endpoint {
    /// The local node itself.
    pub const NODE: u32 = 1 << 31;

    /// The node itself.
    pub const LOCAL_NODE: Self =
        Self { identity: LOCAL_NODE, group: 0, flags: Self::NODE, interface: 0, own: Address::UNSPECIFIED };

    /// Nobody that is known. Field by field: as one value it would become a loop over its bytes.
    #[inline(always)]
    pub fn forget(&mut self) {
        self.identity = WORLD;
        self.group = 0;
        self.flags = 0;
        self.interface = 0;
    }

    /// Whether a flag is set.
    #[inline(always)]
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The local pod behind an interface, on a connection of the family of `address`; false where there is none.
    #[inline(always)]
    pub fn of_interface(&mut self, generation: u32, interface: u32, address: &Address) -> bool {
        // SAFETY: user space replaces whole values, and the fields are read at once.
        let Some(value) = (unsafe { PODS.get(&interface) }) else {
            return false;
        };
        let state = value.state(generation);
        if !state.has(PodState::PRESENT) {
            return false;
        }
        *self = Self {
            identity: state.identity(address),
            group: state.group(),
            flags: state.flags(),
            interface,
            own: state.own_address(address),
        };
        true
    }

    /// Whoever has the address: a local pod, another pod, an address in a block, or the world.
    #[inline(always)]
    pub fn of_address(&mut self, generation: u32, address: &Address) {
        self.forget();
        // SAFETY: user space replaces whole values, and the fields are read at once.
        if let Some(value) = unsafe { ADDRESSES.get(address) } {
            let interface = value.interface(generation);
            if interface != 0 && self.of_interface(generation, interface, address) {
                return;
            }
            let identity = value.identity(generation);
            if identity != NO_IDENTITY {
                self.identity = identity;
                return;
            }
        }
        if let Some(value) = BLOCKS.get(Key::new(128, *address)) {
            self.identity = value.identity(generation);
        }
    }
}

/// Whether a pod of this node has the address: the interface, or 0.
#[inline(always)]
pub fn local_interface(generation: u32, address: &Address) -> u32 {
    // SAFETY: user space replaces whole values, and the field is read at once.
    match unsafe { ADDRESSES.get(address) } {
        Some(value) => value.interface(generation),
        None => 0,
    }
}
