// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Pods behind a bridge: what is routed comes by the bridge, and with a masquerade not even the address tells who sent it. So the
//! hook at the pod's own interface writes the pod's number into `skb->tc_index`, which no part of the kernel's way through bridge,
//! routing and netfilter touches. docs/adr/0001.

use aya_ebpf::programs::TcContext;
use signalbox_enforcer_common::{CONTROL_BRIDGED, policy::LANE_OF_BRIDGE};

use crate::maps::{BRIDGED, CONTROL, SENDERS};

/// Whether any pod of this node is behind a bridge.
#[inline(always)]
fn is_used() -> bool {
    match CONTROL.get_ptr(CONTROL_BRIDGED) {
        // SAFETY: a pointer into an array map stays valid while the program runs; user space writes whole words.
        Some(cell) => unsafe { cell.read_volatile() != 0 },
        None => false,
    }
}

/// A packet comes by an interface: whatever number it has is not ours, and may be a pod's forgery.
#[inline(always)]
pub fn number(context: &TcContext, interface: u32) {
    if !is_used() {
        return;
    }
    // SAFETY: user space writes whole words.
    let lane = unsafe { BRIDGED.get(&interface) }.copied().unwrap_or_default();
    // SAFETY: the kernel hands a valid context to the program, and lets it write this field.
    unsafe { (*context.skb.skb).tc_index = lane & !LANE_OF_BRIDGE };
}

/// The interface of the pod that sent a packet which came by `came_by`, where that is a bridge of pods; else 0.
#[inline(always)]
pub fn sender(context: &TcContext, came_by: u32) -> u32 {
    if !is_used() {
        return 0;
    }
    // SAFETY: user space writes whole words.
    if unsafe { BRIDGED.get(&came_by) }.copied() != Some(LANE_OF_BRIDGE) {
        return 0;
    }
    // SAFETY: the kernel hands a valid context to the program.
    let lane = unsafe { (*context.skb.skb).tc_index };
    // SAFETY: user space writes whole words.
    unsafe { SENDERS.get(&lane) }.copied().unwrap_or_default()
}
