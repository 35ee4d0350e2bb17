// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Pods that are not known yet: their interface is there, their policies are not. In strict mode they are shut.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use signalbox_enforcer_common::{CONTROL_MODE, MODE_STRICT, policy::PodState};

use crate::maps::{CONTROL, FOREIGN, PODS, UNJUDGED};

/// Whether a pod that is not known yet is shut.
#[inline(always)]
pub fn is_shut() -> bool {
    match CONTROL.get_ptr(CONTROL_MODE) {
        // SAFETY: pointers into an array map stay valid while the program runs; user space writes whole words.
        Some(mode) => unsafe { mode.read_volatile() == MODE_STRICT },
        None => false,
    }
}

/// Whether nothing is known of an interface of the node.
#[inline(always)]
pub fn is_unknown(generation: u32, interface: u32) -> bool {
    // SAFETY: user space replaces whole values, and the word is read at once.
    let is_pod = match unsafe { PODS.get(&interface) } {
        Some(value) => value.state(generation).has(PodState::PRESENT),
        None => false,
    };
    !is_pod && !is_foreign(interface)
}

/// Whether an interface of the node is known to be no pod's.
#[inline(always)]
pub fn is_foreign(interface: u32) -> bool {
    FOREIGN.get_ptr(&interface).is_some()
}

/// What became of a packet of a pod that is not known yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Let pass.
    Passed,
    /// Dropped.
    Dropped,
}

/// Counts it, where user space asked for that.
#[inline(always)]
pub fn note(interface: u32, fate: Fate) {
    let Some(counts) = UNJUDGED.get_ptr_mut(&interface) else {
        return;
    };
    // SAFETY: the entry's memory stays mapped while the program runs, its words are aligned, and the addition is atomic.
    unsafe {
        let word = match fate {
            Fate::Passed => &raw mut (*counts).passed,
            Fate::Dropped => &raw mut (*counts).dropped,
        };
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, 1);
    }
}
